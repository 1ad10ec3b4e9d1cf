"""Areas of a film as closed outlines in its pixels. Knows no model, no report and no file.

Coordinates are those of DICOM's SCOORD items: columns and rows from the upper left corner of the first pixel.
Source: PS3.3, C.18.6.1.1.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""
Point = tuple[int, int]
DOWN, TO_THE_LEFT = (0, 1), (-1, 0)
"""Directions in columns and rows."""


@dataclass(frozen=True)
class Region:
    """An area of one film that a sentence of a report rests on.

    Attributes:
        sentence: the sentence, as the report has it.
        finding: the observation that the area was mapped for; empty where a sentence was mapped.
        view: the film's place in its study, from 0.
        outline: corners in the film's pixels, (column, row); the last is the first again.
        frame: of a film of several, from 1; None of a film of one.
    """

    sentence: str
    finding: str
    view: int
    outline: tuple[Point, ...]
    frame: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, without the frame."""
        outline = [list(corner) for corner in self.outline]
        return {"sentence": self.sentence, "finding": self.finding, "view": self.view, "outline": outline}


def areas(cells: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.bool_]]:
    """The connected areas of a grid, the largest first; cells that touch at a corner alone are not connected.

    Args:
        cells: (rows, columns).

    Returns:
        Each as (rows, columns).
    """
    left, found = cells.copy(), []
    while left.any():
        area = np.zeros_like(left)
        area.flat[int(np.argmax(left))] = True
        while True:
            grown = area.copy()
            grown[1:] |= area[:-1]
            grown[:-1] |= area[1:]
            grown[:, 1:] |= area[:, :-1]
            grown[:, :-1] |= area[:, 1:]
            grown &= left
            if (grown == area).all():
                break
            area = grown
        found.append(area)
        left &= ~area
    return sorted(found, key=lambda area: -int(area.sum()))


def corners(area: npt.NDArray[np.bool_]) -> list[Point]:
    """The corners of a connected area's outer edge in cells, clockwise from its upper left; holes are left out.

    Args:
        area: (rows, columns), one of `areas`.

    Returns:
        (column, row) of each corner, the first again at the end.
    """
    edges: dict[Point, list[Point]] = {}
    filled = np.pad(area, 1)
    for row, column in np.argwhere(area):
        sides = (
            (filled[row, column + 1], (column, row), (column + 1, row)),
            (filled[row + 1, column + 2], (column + 1, row), (column + 1, row + 1)),
            (filled[row + 2, column + 1], (column + 1, row + 1), (column, row + 1)),
            (filled[row + 1, column], (column, row + 1), (column, row)),
        )
        for inner, start, stop in sides:
            if not inner:
                edges.setdefault((int(start[0]), int(start[1])), []).append((int(stop[0]), int(stop[1])))
    row, column = (int(place) for place in np.argwhere(area)[0])
    start, at, heading = (column, row), (column, row), (0, 0)
    outline: list[Point] = []
    while at != start or not outline:
        stops = edges[at]
        # where two cells touch at a corner, a turn to the left stays outside of what the area encloses: from these two
        # directions it goes along the lower cell, whose edge was put last
        stop = stops[-1] if heading in (DOWN, TO_THE_LEFT) else stops[0]
        step = (stop[0] - at[0], stop[1] - at[1])
        if step != heading:
            outline.append(at)
        at, heading = stop, step
    return [*outline, start]


def outline_of(area: npt.NDArray[np.bool_], box: Box) -> tuple[Point, ...]:
    """The outer edge of an area of a grid that lies over a part of a film.

    Args:
        area: (rows, columns), one of `areas`.
        box: that part, in pixels.

    Returns:
        As `Region.outline`.
    """
    left, top, right, bottom = box
    rows, columns = area.shape

    def placed(corner: Point) -> Point:
        across, down = corner[0] * (right - left) / columns, corner[1] * (bottom - top) / rows
        return left + round(across), top + round(down)

    return tuple(placed(corner) for corner in corners(area))
