"""Where a finding lies on a frontal film, from the boxes of its source. Reads no text."""

from collections.abc import Mapping
from dataclasses import dataclass

from r2gengpt.data.boxes import DIGITS, Marked, on_film
from r2gengpt.data.labels import observation_named
from r2gengpt.data.prepare.film_table import Box, FilmRow

MIDLINE = 0.06
"""A box whose middle is nearer to the middle of the film than this share of its width tells no side."""
UPPER_ABOVE, LOWER_BELOW = 0.36, 0.58
"""A box's middle, as a share of the film's height from its top: what lies above is upper, below it lower."""
TALL = 0.4
"""A box of more than this share of the film's height lies in no zone."""
ZONES = ("upper", "mid", "lower")


@dataclass(frozen=True)
class Place:
    """Where a finding lies: `side` is the patient's right, left, or both; `zone` upper, mid, lower, or empty."""

    side: str
    zone: str = ""


def places_in(row: FilmRow, box_size: float | None) -> Mapping[str, Place]:
    """Observation → its place, as far as the row's boxes tell one.

    Args:
        row: of a frontal film; a lateral one, or one of unknown view, has no sides.
        box_size: width and height of the films that the boxes are measured on; None: the row's own size.
    """
    size = (box_size, box_size) if box_size is not None else row.size
    if size is None or row.view not in ("PA", "AP"):
        return {}
    by_name: dict[str, list[Box]] = {}
    for box in row.boxes:
        by_name.setdefault(observation_named(box.label, row.where), []).append(box)
    places = {name: _place(boxes, *size) for name, boxes in by_name.items()}
    return {name: place for name, place in places.items() if place is not None}


def marked_in(row: FilmRow, box_size: float | None) -> tuple[Marked, ...]:
    """The row's boxes as shares of the film; those that reach off it are left out, and all where its size is unknown.

    Args:
        row: of any view.
        box_size: as of `places_in`.
    """
    size = (box_size, box_size) if box_size is not None else row.size
    if size is None:
        return ()
    shares = (
        (box.label, box.x / size[0], box.y / size[1], box.width / size[0], box.height / size[1]) for box in row.boxes
    )
    written = ((name, [round(value, DIGITS) for value in box]) for name, *box in shares)
    return tuple(Marked(observation_named(name, row.where), *box) for name, box in written if on_film(*box))


def _place(boxes: list[Box], width: float, height: float) -> Place | None:
    """The place of a finding's boxes; None where one of them lies in the middle or reaches off the film."""
    if any(
        min(box.x, box.y) < 0 or box.x + box.width > width * 1.02 or box.y + box.height > height * 1.02 for box in boxes
    ):
        return None
    offsets = [(box.x + box.width / 2) / width - 0.5 for box in boxes]
    if any(abs(offset) < MIDLINE for offset in offsets):
        return None
    sides = {"right" if offset < 0 else "left" for offset in offsets}  # the patient faces us
    zones = {_zone(box, height) for box in boxes}
    return Place(sides.pop() if len(sides) == 1 else "both", zones.pop() if len(zones) == 1 else "")


def _zone(box: Box, height: float) -> str:
    middle = (box.y + box.height / 2) / height
    if box.height > TALL * height:
        return ""
    return ZONES[(middle >= UPPER_ABOVE) + (middle > LOWER_BELOW)]
