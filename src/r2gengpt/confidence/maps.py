"""Evidence maps of a report as records, JSON, and pictures over films. How they are made stands in `evidence.py`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from r2gengpt.films.regions import Box

NO_EVIDENCE, EVIDENCE = "no evidence", "evidence"


@dataclass(frozen=True)
class SentenceEvidence:
    """One sentence's map and how faithful it is.

    `map` has a value for each image token of the study, row by row of the grid (view after view where fusion is
    concat): nats of the sentence's log-probability. `drop_top` is what masking the tenth of the tokens with the
    largest values costs, `drop_random` the mean of that over random tenths; both in nats. `finding` is the observation
    that was mapped, by the finding head; empty where the sentence itself was.
    """

    text: str
    map: tuple[float, ...]
    drop_top: float
    drop_random: float
    verdict: str
    finding: str = ""


@dataclass(frozen=True)
class Evidence:
    """A report's maps: `grid` is (rows, columns) of one view; `verdict` is "evidence" where a sentence has some."""

    id: str
    method: str
    grid: tuple[int, int]
    sentences: tuple[SentenceEvidence, ...]

    @property
    def verdict(self) -> str:
        """Of the whole report."""
        return EVIDENCE if any(sentence.verdict == EVIDENCE for sentence in self.sentences) else NO_EVIDENCE

    def view_maps(self, sentence: SentenceEvidence) -> list[list[float]]:
        """The sentence's maps: one that is every view's where views were fused, one a view where they were not."""
        size = self.grid[0] * self.grid[1]
        return [list(sentence.map[at : at + size]) for at in range(0, len(sentence.map), size)]

    def to_json(self) -> dict[str, Any]:
        """The record of evidence.jsonl: `map` is the mean of the views' maps, which are in `maps` where they differ."""
        sentences = []
        for sentence in self.sentences:
            maps = self.view_maps(sentence)
            mean = np.mean(maps, axis=0).tolist()
            record = {"text": sentence.text, "map": rounded(mean)}
            if len(maps) > 1:
                record["maps"] = [rounded(values) for values in maps]
            drops = {name: round(getattr(sentence, name), 4) for name in ("drop_top", "drop_random")}
            sentences.append({**record, **drops, "verdict": sentence.verdict})
        whole = {"id": self.id, "method": self.method, "grid": list(self.grid)}
        return {**whole, "sentences": sentences, "verdict": self.verdict}


def tenth(count: int) -> int:
    """How many tokens a tenth is, at least one."""
    return max(1, round(count / 10))


def rounded(values: Sequence[float]) -> list[float]:
    """Four decimals, which is finer than the arithmetic of any model here."""
    return [round(float(value), 4) + 0.0 for value in values]


ANCHORS = ((10, 10, 34), (61, 22, 101), (138, 35, 105), (207, 68, 70), (246, 138, 34), (252, 236, 140))
"""Colours that the map passes through from nothing to its largest value."""
STRONGEST = 0.65
"""How opaque the largest value lies over the film; nothing lies over it where the map is 0 or below."""


def colour_table() -> npt.NDArray[np.uint8]:
    """256 colours through the anchors, (256, 3), whose lightness rises in equal steps.

    So equal steps of the map look equal, in grey print and to colour-blind readers too.
    """
    places = np.linspace(0, len(ANCHORS) - 1, 4096)
    path = np.stack([np.interp(places, range(len(ANCHORS)), channel) for channel in zip(*ANCHORS, strict=True)], axis=1)
    light = lightness(path)
    even = np.interp(np.linspace(light[0], light[-1], 256), light, places)
    return np.stack([np.interp(even, places, channel) for channel in path.T], axis=1).round().astype(np.uint8)


def lightness(colours: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """CIELAB L*, 0 to 100, of sRGB colours (…, 3) of 0 to 255. Source: IEC 61966-2-1; CIE 15, section 8.2.1."""
    shares = np.asarray(colours, dtype=np.float64) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    light: npt.NDArray[np.float64] = np.where(
        luminance > 216 / 24389, 116 * np.cbrt(luminance) - 16, luminance * 24389 / 27
    )
    return light


def smooth_levels(
    values: Sequence[float], grid: tuple[int, int], size: tuple[int, int], largest: float | None = None
) -> npt.NDArray[np.float32]:
    """The map at the size of a film, from 0 (none, or against) to 1 (the largest value), without steps between cells.

    Args:
        values: row by row.
        grid: rows and columns.
        size: width and height in pixels.
        largest: what is drawn as 1; None: the map's own largest value.

    Returns:
        (height, width).

    Raises:
        ValueError: not as many values as the grid has cells, or one that is not finite.
    """
    cells = np.asarray(values, dtype=np.float64)
    if cells.size != grid[0] * grid[1] or not np.isfinite(cells).all():
        raise ValueError(f"{cells.size} values (all finite: {np.isfinite(cells).all()}) for a grid of {grid}")
    cells = np.maximum(cells.reshape(grid), 0.0)
    top = float(cells.max()) if largest is None else largest
    if top <= 0:
        return np.zeros(size[::-1], dtype=np.float32)
    width, height = size
    levels = _shares(height, grid[0]) @ (cells / top).astype(np.float32) @ _shares(width, grid[1]).T
    bounded: npt.NDArray[np.float32] = np.clip(levels, 0.0, 1.0)
    return bounded


def _shares(pixels: int, cells: int) -> npt.NDArray[np.float32]:
    """What each cell gives to each pixel of a side, (pixels, cells): all at its centre, less to the next centres.

    The shares of a pixel are at least 0 and sum to 1, so nothing is drawn that is above its cells or beside them.
    """
    places = np.clip((np.arange(pixels) + 0.5) / pixels * cells - 0.5, 0, cells - 1)
    lower = np.minimum(places.astype(np.int64), max(cells - 2, 0))
    part = places - lower
    part = part * part * (3 - 2 * part)
    shares = np.zeros((pixels, cells), dtype=np.float32)
    np.add.at(shares, (np.arange(pixels), lower), 1 - part)
    np.add.at(shares, (np.arange(pixels), np.minimum(lower + 1, cells - 1)), part)
    return shares


def draw_heat_map(
    values: Sequence[float],
    grid: tuple[int, int],
    film: Image.Image,
    largest: float | None = None,
    box: tuple[int, int, int, int] | None = None,
) -> Image.Image:
    """The film in grey under its map.

    Args:
        values: row by row.
        grid: rows and columns.
        film: any mode.
        largest: the value that is drawn strongest, to draw several maps on one scale; None: the map's own.
        box: left, top, right, bottom of what the map lies over, in pixels; None: the whole film.

    Returns:
        Mode RGB, of the film's size.

    Raises:
        ValueError: as `smooth_levels`.
    """
    left, top, right, bottom = box or (0, 0, *film.size)
    levels = np.zeros(film.size[::-1], dtype=np.float32)
    levels[top:bottom, left:right] = smooth_levels(values, grid, (right - left, bottom - top), largest)
    grey = np.asarray(film.convert("L").convert("RGB"), dtype=np.float32)
    colours = colour_table()[(levels * 255).round().astype(np.uint8)].astype(np.float32)
    opacity = (STRONGEST * np.sqrt(levels))[:, :, None]
    return Image.fromarray((grey * (1 - opacity) + colours * opacity).round().astype(np.uint8))


KeptBox = Callable[[tuple[int, int]], Box]
"""What of a film of a width and height a model sees."""


def whole_film(size: tuple[int, int]) -> Box:
    """All of it."""
    return 0, 0, *size


def kept_box(image_processor: Any, size: tuple[int, int]) -> Box:
    """The part of a film that the encoder sees: left, top, right, bottom in the film's pixels.

    All of it, but where the image processor crops the centre out of what it has resized. ConvNeXt's, below 384 pixels,
    says so by `crop_pct`: the share of the shorter side that is kept.

    Args:
        image_processor: of the model.
        size: width and height of the film.
    """
    width, height = size
    sides, share = dict(getattr(image_processor, "size", {})), getattr(image_processor, "crop_pct", None)
    edge = sides.get("shortest_edge")
    if getattr(image_processor, "do_center_crop", False):
        crop = dict(image_processor.crop_size)
    elif share and edge and edge < 384:
        edge, crop = int(edge / share), {"height": edge, "width": edge}
    else:
        return 0, 0, width, height
    scales = [edge / min(size)] * 2 if edge else [sides["width"] / width, sides["height"] / height]
    kept = [
        min(whole, round(crop[name] / scale))
        for whole, name, scale in zip(size, ("width", "height"), scales, strict=True)
    ]
    left, top = (width - kept[0]) // 2, (height - kept[1]) // 2
    return left, top, left + kept[0], top + kept[1]
