"""A split's studies, texts and scores as one self-contained HTML file. Scores nothing and opens no network.

What is shown is made ready in `scores`, `study` and `plots`; how it stands in HTML is in the templates beside them.
"""

import base64
import functools
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from r2gengpt.evaluation.page import scores as tables
from r2gengpt.evaluation.page.frame import rendered
from r2gengpt.evaluation.page.scores import Json
from r2gengpt.evaluation.page.study import StudyRow, examples, kinds_of_studies, make_card, sort_orders
from r2gengpt.films.containers import DicomChoice
from r2gengpt.films.reader import PLAIN, load_image

PAGE_BYTES = 29_000_000
"""The whole page, whatever the split: thumbnails take what the rest leaves."""
WITHIN_A_RUN = ("best", "last")
"""Directories that every run has."""
LARGEST_SIDE, SMALLEST_SIDE = 512, 64
"""Pixels of a thumbnail's longer side."""
BYTES_A_PIXEL = 0.2
"""A grey chest film as JPEG of quality 80, in base64: measured .09 to .16. Only where to begin: sizes are counted."""


@dataclass(frozen=True)
class Thumbnail:
    """A grey JPEG in base64 and its size in pixels."""

    data: Markup
    width: int
    height: int


def page_title(model: str, annotation: str, split: str) -> str:
    """What was tested on what: the last parts of both paths that tell one model, or one set, from another.

    >>> page_title("save/iu/best", "data/iu_xray/annotation.json", "test")
    'Chest X-ray reports: iu/best on iu_xray, test split'
    """
    run, data = Path(model).absolute(), Path(annotation).absolute()
    title = f"{run.parent.name}/{run.name}" if run.name in WITHIN_A_RUN else run.name
    return (
        f"Chest X-ray reports: {title} on {data.parent.name if data.stem == 'annotation' else data.stem}, {split} split"
    )


def report_page(title: str, studies: Sequence[StudyRow], scores: Json, provenance: Mapping[str, str]) -> str:
    """The page as text.

    Args:
        title: heading of the page.
        studies: in the order of the page.
        scores: the content of scores.json for the same predictions.
        provenance: what the page says of its making: model, data, command, versions.

    Raises:
        InputError: an image can't be read.
    """
    cards = [make_card(study) for study in studies]
    chosen = examples(cards)
    render = functools.partial(
        rendered,
        "page.html",
        title=title,
        script="page.js",
        scores=scores,
        scores_file=base64.b64encode(tables.scores_file(scores).encode()).decode(),
        provenance=provenance,
        cards=cards,
        examples=chosen,
        stale=sum(card.stale for card in cards),
        shown=[sentence for card in cards for sentence in card.sentences],
        words=[_words(studies, side) for side in ("text", "reference")] if studies else [],
        orders=sort_orders(cards),
        kinds=kinds_of_studies(cards),
    )
    paths = [file for card in (*cards, *(example.card for example in chosen)) for file in card.study.image_paths]
    none = dict.fromkeys(paths, Thumbnail(Markup(""), LARGEST_SIDE, LARGEST_SIDE))
    budget = PAGE_BYTES - len(render(films=none).encode())
    dicom = studies[0].dicom if studies else PLAIN  # of one command, and so of all
    return render(films=thumbnails(paths, budget, dicom))


def _words(studies: Sequence[StudyRow], side: str) -> list[int]:
    """How many words each study's text has, on one side: `text` or `reference`."""
    return [len(str(getattr(study.report, side)).split()) for study in studies]


def thumbnails(paths: Sequence[Path], budget: int, dicom: DicomChoice = PLAIN) -> dict[Path, Thumbnail]:
    """A thumbnail of each file, made smaller until those of all paths (repeated ones count again) fit the budget.

    Args:
        paths: image files, in the order in which they are used.
        budget: characters of base64.
        dicom: what is asked of DICOM files.

    Raises:
        InputError: an image can't be read.
    """
    side = thumbnail_side(len(paths), budget)
    while True:
        made = {path: thumbnail(path, side, dicom) for path in dict.fromkeys(paths)}
        total = sum(len(made[path].data) for path in paths)
        if total <= budget or side == SMALLEST_SIDE:
            return made
        side = max(SMALLEST_SIDE, int(side * math.sqrt(budget / total) * 0.95))


def thumbnail_side(images: int, budget: int) -> int:
    """The longest side in pixels at which so many thumbnails should fit: 512 at most, 64 at least."""
    pixels = budget / BYTES_A_PIXEL / max(images, 1)
    return max(SMALLEST_SIDE, min(LARGEST_SIDE, math.isqrt(max(0, int(pixels)))))


def thumbnail(path: Path, side: int, dicom: DicomChoice = PLAIN) -> Thumbnail:
    """A grey JPEG of the file whose longer side is at most `side`; a small film is not enlarged."""
    image = load_image(path, size=side, dicom=dicom).convert("L")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80, optimize=True)
    return Thumbnail(Markup(base64.b64encode(stream.getvalue()).decode("ascii")), image.width, image.height)
