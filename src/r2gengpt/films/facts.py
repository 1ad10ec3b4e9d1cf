"""What a film's picture and header say of it besides what it shows: writing, the patient's age. Reads no character."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from r2gengpt.films.context import age_of
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.films.film import FilmStudy

LARGEST = 1024
"""Pixels of the longer side that is looked at."""
STROKE = 9
"""Pixels: a stroke is narrower than this."""
CONTRAST = 70
"""Grey levels of 255 by which a stroke stands out from what surrounds it; ribs and vessels do not."""
HEIGHTS = 5, 60
"""Pixels that a character is high."""
WIDEST = 1.6
"""Width of a character in its heights."""
FILLED = 0.15
"""The share of its box that a character covers at least."""
GAP = 1.2
"""Distance between two characters of a line in heights, spaces included."""
IN_LINE = 4
"""Characters that make a line: letters that mark a side are fewer."""
MANY = 60_000
"""More runs of pixels than any writing has: a texture, which is not looked at."""
MOST = 4_000
"""Characters that are looked at."""

Grey = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FilmFacts:
    """Of one film.

    Attributes:
        name: what errors call it.
        characters: of writing in its picture, about.
        years: the patient's age by its header; None where there is none.
    """

    name: str
    characters: int
    years: float | None = None


def facts_of(name: str, picture: Image.Image, header: DicomHeader | None) -> FilmFacts:
    """The facts of a film that was read."""
    return FilmFacts(name, written_characters(picture), None if header is None else age_of(header))


def facts_in(study: FilmStudy) -> Sequence[FilmFacts]:
    """The facts of each film of a study."""
    return [facts_of(film.name, film.shown, film.header) for film in study.films]


def written_characters(picture: Image.Image) -> int:
    """How many characters stand in lines of writing on a picture, about; 0 where there is no line.

    A line is four or more upright shapes of equal height, brighter or darker than what is around them, side by side.
    Single letters, as those that mark a side, make no line. Writing below five pixels in 1,024, and writing that
    runs upwards, is not found.

    Args:
        picture: any size, upright.
    """
    grey = picture.convert("L")
    scale = max(grey.size) / LARGEST
    if scale > 1:
        grey = grey.resize(
            (max(1, round(grey.width / scale)), max(1, round(grey.height / scale))), Image.Resampling.BOX
        )
    values: Grey = np.asarray(grey)
    return sum(sum(_lines(_characters(shade))) for shade in (values, 255 - values))


def _characters(values: Grey) -> Boxes:
    """Boxes (left, top, right, bottom) of bright shapes of a character's size and stroke, (n, 4)."""
    strokes = values.astype(np.int16) - _opened(values) > CONTRAST
    boxes, pixels = _shapes(strokes)
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    kept = (height >= HEIGHTS[0]) & (height <= HEIGHTS[1]) & (width <= WIDEST * height)
    kept &= pixels >= FILLED * width * height
    return boxes[kept][:MOST]


def _opened(values: Grey) -> Grey:
    """The picture without bright structures narrower than a stroke: a grey-level opening by a square."""
    for end in (np.minimum, np.maximum):
        for axis in (0, 1):
            values = _slid(values, end, axis)
    return values


def _slid(values: Grey, end: "np.ufunc", axis: int) -> Grey:
    """The least or the greatest of each `STROKE` neighbours along an axis; beyond an edge its own value goes on."""
    half = STROKE // 2
    reach: Grey = np.pad(values, [(half, half) if at == axis else (0, 0) for at in (0, 1)], mode="edge")
    have = 1
    while have < STROKE:  # windows of 1, 2, 4, 8 and 9
        step = min(have, STROKE - have)
        count = reach.shape[axis] - step
        reach = end(reach.take(range(count), axis), reach.take(range(step, step + count), axis))
        have += step
    return reach


def _shapes(mask: npt.NDArray[np.bool_]) -> tuple[Boxes, npt.NDArray[np.int64]]:
    """Boxes (n, 4) and pixels (n,) of shapes that hang together, corners included; none of a texture."""
    edges = np.diff(mask.astype(np.int8), axis=1, prepend=np.int8(0), append=np.int8(0))
    (rows, starts), ends = np.nonzero(edges == 1), np.nonzero(edges == -1)[1]
    if not 0 < len(rows) <= MANY:
        return np.zeros((0, 4), np.int64), np.zeros(0, np.int64)
    roots = np.array(_joined(np.searchsorted(rows, range(len(mask) + 1)).tolist(), starts.tolist(), ends.tolist()))
    _, shape = np.unique(roots, return_inverse=True)
    count = int(shape.max()) + 1
    boxes = np.zeros((count, 4), np.int64)
    boxes[:, :2] = max(mask.shape)
    for column, keep, found in ((0, np.minimum, starts), (1, np.minimum, rows), (2, np.maximum, ends),
                                (3, np.maximum, rows + 1)):  # fmt: skip
        keep.at(boxes[:, column], shape, found)
    return boxes, np.bincount(shape, ends - starts, count).astype(np.int64)


def _joined(first: list[int], starts: list[int], ends: list[int]) -> list[int]:
    """Of each run of pixels, the first run of its shape.

    Args:
        first: of each row, the place of its first run; one more at the end.
        starts: of each run, its first column.
        ends: of each run, the column behind its last.
    """
    parents = list(range(len(starts)))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = parents[parents[run]]
            run = parents[run]
        return run

    for row in range(1, len(first) - 1):
        upper, lower = first[row - 1], first[row]
        while upper < first[row] and lower < first[row + 1]:
            if starts[upper] <= ends[lower] and starts[lower] <= ends[upper]:
                one, other = sorted((root(upper), root(lower)))
                parents[other] = one
            if ends[upper] < ends[lower]:
                upper += 1
            else:
                lower += 1
    return [root(run) for run in range(len(starts))]


def _lines(boxes: Boxes) -> Iterator[int]:
    """Of each line of writing among boxes (n, 4), how many characters it has."""
    boxes = boxes[boxes[:, 0].argsort(kind="stable")]
    left, top, right, bottom = boxes.T
    height, free = bottom - top, np.ones(len(boxes), bool)
    for first in range(len(boxes)):
        line, last = [first], first
        while free[first]:
            tall = height[last]
            near = free & (left > left[last]) & (left <= right[last] + GAP * tall)
            near &= np.abs(height - tall) <= 0.35 * np.maximum(height, tall) + 1
            near &= np.minimum(np.abs(bottom - bottom[last]), np.abs(top - top[last])) <= 0.25 * tall + 1
            following = np.flatnonzero(near)
            if not len(following):
                break
            last = int(following[0])
            line.append(last)
        if len(line) >= IN_LINE:
            free[line] = False
            yield len(line)
