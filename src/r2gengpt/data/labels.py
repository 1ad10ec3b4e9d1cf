"""What is known of a study's film beside its report: labels by observation, age and sex, checked. Reads no report."""

import difflib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeGuard

from r2gengpt.data.strict import plain
from r2gengpt.errors import InputError
from r2gengpt.text.context import MOST_DAYS, MOST_YEARS
from r2gengpt.text.observations import ALL_OBSERVATIONS

NIH_NAMES: Mapping[str, str] = {
    "Effusion": "Pleural Effusion",
    "Infiltration": "Lung Opacity",
    "Mass": "Lung Lesion",
    "Nodule": "Lung Lesion",
    "Pleural_Thickening": "Pleural Other",
}
"""What ChestX-ray14 calls an observation otherwise → ours."""
UNCERTAIN = -1
"""CheXpert's label of a doubt: as unknown as none."""
MAX_AGE = MOST_YEARS
SEXES = ("M", "F")

_BY_PLAIN_NAME = {plain(name): name for name in ALL_OBSERVATIONS}
_BY_PLAIN_NAME |= {plain(name): ours for name, ours in NIH_NAMES.items()}
_BY_PLAIN_NAME["infiltrate"] = "Lung Opacity"  # as NIH's table of boxes has it


class Labels(Mapping[str, float]):
    """Observation → how likely the film shows it, of those that are known; never changes.

    1 is present and 0 absent. What is not in it is unknown, which is not absent. It can be hashed, and sent to another
    process.

    >>> Labels({"Edema": 1, "Cardiomegaly": 0})
    Labels({'Cardiomegaly': 0.0, 'Edema': 1.0})
    """

    def __init__(self, values: Mapping[str, float] | None = None) -> None:
        named = values or {}
        self._values = {name: float(named[name]) for name in ALL_OBSERVATIONS if name in named}
        if strange := named.keys() - self._values.keys():
            raise ValueError(f"no observation: {', '.join(sorted(strange))}")

    def __getitem__(self, name: str) -> float:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __repr__(self) -> str:
        return f"Labels({self._values})"


NO_LABELS = Labels()


def observation_named(name: str, where: str, others: Iterable[str] = ()) -> str:
    """The observation of a name in any case, ours or NIH's.

    >>> observation_named("pleural_thickening", "a.json")
    'Pleural Other'

    Args:
        name: what a file calls it.
        where: begins the error.
        others: words that could have been meant as well.

    Raises:
        InputError: it is none; names the nearest.
    """
    found = _BY_PLAIN_NAME.get(plain(name))
    if found is None:
        known = {plain(word): word for word in (*others, *ALL_OBSERVATIONS, *NIH_NAMES)}
        close = difflib.get_close_matches(plain(name), list(known), n=1)
        guess = f" (did you mean {known[close[0]]}?)" if close else f": {', '.join(known.values())}"
        raise InputError(f"{where}: label {name.strip()[:60]!r} is no observation{guess}")
    return found


def joined(pairs: Iterable[tuple[str, float | None]]) -> Labels:
    """Labels from observations and values, None unknown; an observation may come several times (NIH's Mass and Nodule).

    The likeliest wins. An unknown one beside others leaves the observation unknown unless another is present.

    >>> joined([("Lung Lesion", 1), ("Lung Lesion", 0), ("Edema", None)])
    Labels({'Lung Lesion': 1.0})
    """
    together: dict[str, list[float | None]] = {}
    for name, value in pairs:
        together.setdefault(name, []).append(value)
    found = {}
    for name, values in together.items():
        top = max((value for value in values if value is not None), default=None)
        if top is not None and (top == 1 or None not in values):
            found[name] = top
    return Labels(found)


def read_labels(value: object, where: str) -> Labels:
    """The labels of an annotation's record: `{"Effusion": 1, "Edema": 0, "Pneumonia": .9, "Fracture": null}`.

    Raises:
        InputError: no object, an unknown name, or a value that is none of null, -1 (uncertain) and 0 to 1.
    """
    if value is None:
        return NO_LABELS
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: labels is {json.dumps(value)[:60]}, must be an object")
    return joined((observation_named(str(name), where), _likelihood(item, name, where)) for name, item in value.items())


def _likelihood(value: Any, name: str, where: str) -> float | None:
    """A label's value; None: unknown."""
    if value is None or (is_number(value) and value == UNCERTAIN):
        return None
    if not is_number(value) or not 0 <= value <= 1:
        raise InputError(
            f"{where}: label {name} is {json.dumps(value)[:60]}, must be from 0 (absent) to 1 (present), "
            f"{UNCERTAIN} (uncertain) or null"
        )
    return float(value)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value of JSON is a number, and one that a float can hold; True is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def read_age(value: Any, where: str) -> float | None:
    """An age in years; None where the record has none.

    Raises:
        InputError: no number from 0 to `MAX_AGE`.
    """
    if value is None:
        return None
    if not is_number(value) or not 0 <= value <= MAX_AGE:
        raise InputError(f"{where}: age is {json.dumps(value)[:60]}, must be a number of years from 0 to {MAX_AGE}")
    return float(value)


def read_days(value: Any, where: str) -> float | None:
    """Days since the study before; None where the record has none.

    Raises:
        InputError: no number from 0 to `MOST_DAYS`.
    """
    if value is None:
        return None
    if not is_number(value) or not 0 <= value <= MOST_DAYS:
        raise InputError(f"{where}: prior_days is {json.dumps(value)[:60]}, must be a number from 0 to {MOST_DAYS}")
    return float(value)


def read_sex(value: Any, where: str) -> str:
    """M or F, in either case; empty where the record has none.

    Raises:
        InputError: something else.
    """
    sex = "" if value is None else value.strip().upper() if isinstance(value, str) else None
    if sex not in ("", *SEXES):
        raise InputError(f"{where}: sex is {json.dumps(value)[:60]}, must be M, F or empty")
    return str(sex)
