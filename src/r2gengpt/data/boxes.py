"""Where a study's first film shows an observation, as its annotation marks it. Reads no film."""

import json
from dataclasses import dataclass
from typing import Any

from r2gengpt.data.labels import is_number, observation_named
from r2gengpt.errors import InputError

SLACK = 1e-3
"""By how much of the film's side a box may reach over its edge: numbers in files are rounded."""

DIGITS = 5
"""Decimals of a share in an annotation."""


@dataclass(frozen=True)
class Marked:
    """An observation's place: left, top, width and height as shares of the film, from 0 to 1."""

    name: str
    left: float
    top: float
    width: float
    height: float

    def to_json(self) -> list[Any]:
        """As an annotation has it."""
        return [self.name, *(round(value, DIGITS) for value in (self.left, self.top, self.width, self.height))]


def read_boxes(value: Any, where: str) -> tuple[Marked, ...]:
    """The boxes of an annotation's record: `[["Edema", left, top, width, height], ..]`, shares of the first film.

    Raises:
        InputError: no such list, an unknown observation, or a box that is not on the film.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InputError(f"{where}: boxes is {json.dumps(value)[:60]}, must be a list")
    return tuple(_marked(item, where) for item in value)


def _marked(item: Any, where: str) -> Marked:
    form = isinstance(item, list) and len(item) == 5 and isinstance(item[0], str) and all(map(is_number, item[1:]))
    if not form or not on_film(*item[1:]):
        raise InputError(
            f"{where}: box {json.dumps(item)[:60]} must be [observation, left, top, width, height], shares of the "
            "film from 0 to 1"
        )
    return Marked(observation_named(item[0], where), *map(float, item[1:]))


def on_film(left: float, top: float, width: float, height: float) -> bool:
    """Whether a box, in shares of the film, has an area and lies on it."""
    return min(left, top) >= -SLACK and min(width, height) > 0 and max(left + width, top + height) <= 1 + SLACK
