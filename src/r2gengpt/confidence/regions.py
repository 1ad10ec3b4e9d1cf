"""The areas of films that a report's sentences rest on, as outlines. Makes no map, and judges none.

An area says what a sentence depends on. It does not say that the finding is there.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from r2gengpt.confidence.maps import EVIDENCE, Evidence, SentenceEvidence, tenth
from r2gengpt.films.regions import Box, Region, areas, outline_of

SPECK = 1 / 10
"""Share of the marked cells below which an area is left out."""


def regions_of(
    evidence: Evidence, boxes: Sequence[Box], frames: Sequence[int | None] | None = None
) -> tuple[Region, ...]:
    """The areas of each sentence that has evidence: the tenth of the cells that its verdict was measured on.

    A map that is of several films at once has no area, as it says of none of them where it lies.

    Args:
        evidence: maps of a study.
        boxes: of each film, what its map lies over, in pixels.
        frames: of each film, the frame that was read, from 1; None: all are films of one frame.

    Returns:
        Sentence after sentence, film after film, the largest area first.
    """
    size = evidence.grid[0] * evidence.grid[1]
    frames = [None] * len(boxes) if frames is None else frames
    return tuple(
        Region(one.text, one.finding, view, outline_of(area, box), frame)
        for one in evidence.sentences
        if one.verdict == EVIDENCE and len(one.map) == size * len(boxes)
        for view, (cells, box, frame) in enumerate(zip(_marked(one, evidence.grid), boxes, frames, strict=True))
        for area in areas(cells)
        if area.sum() >= SPECK * tenth(len(one.map))
    )


def _marked(one: SentenceEvidence, grid: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The tenth of all cells with the largest values, as far as these are above 0: (views, rows, columns)."""
    values = np.asarray(one.map)
    chosen = np.zeros(values.shape, dtype=bool)
    chosen[np.argsort(-values, kind="stable")[: tenth(values.size)]] = True
    marked: npt.NDArray[np.bool_] = (chosen & (values > 0)).reshape(-1, *grid)
    return marked
