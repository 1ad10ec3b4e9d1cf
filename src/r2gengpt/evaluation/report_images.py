"""Thumbnails of films for the report page, all together under a number of bytes. No HTML."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from r2gengpt.data.containers import DicomChoice
from r2gengpt.data.images import PLAIN, load_image

LARGEST_SIDE = 512
SMALLEST_SIDE = 64
BYTES_A_PIXEL = 0.2
"""A grey chest film as JPEG of quality 80, in base64: measured .09 to .16. Only where to begin: sizes are counted."""


@dataclass(frozen=True)
class Thumbnail:
    """A grey JPEG in base64 and its size in pixels."""

    data: str
    width: int
    height: int


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
    return Thumbnail(base64.b64encode(stream.getvalue()).decode("ascii"), image.width, image.height)
