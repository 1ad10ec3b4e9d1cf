"""Acceptance by sex, age, view, device and model, and whether it differs. Names no patient."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from r2gengpt.verdicts.review import samples
from r2gengpt.verdicts.review.drafts import GROUPS, JudgedDraft, accepted
from r2gengpt.verdicts.review.shares import Outcomes, outcomes

FEWEST = 30
"""Drafts that a subgroup needs to be compared with others."""
UNKNOWN = "not known"
MODEL = "model"


@dataclass(frozen=True)
class Subgroup:
    """Drafts that are alike in one thing.

    Attributes:
        value: what they have of it.
        outcomes: what readers made of them.
        words: of the drafts that were accepted or edited.
        words_changed: in them.
    """

    value: str
    outcomes: Outcomes
    words: int
    words_changed: int

    @property
    def distance(self) -> float | None:
        """Words changed in a hundred; None without words."""
        return 100 * self.words_changed / self.words if self.words else None

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        distance = None if self.distance is None else round(self.distance, 6)
        return {"value": self.value, **self.outcomes.to_json(), "words_changed_per_100": distance}


@dataclass(frozen=True)
class Grouping:
    """All drafts by one thing, and whether acceptance differs by it.

    Attributes:
        name: of the thing.
        groups: its values, the largest group first, those that are not known last.
        p: of a chi-square test by permutation over the groups of `FEWEST` drafts or more; None with fewer than two.
        p_holm: corrected over the groupings.
    """

    name: str
    groups: tuple[Subgroup, ...]
    p: float | None
    p_holm: float | None = None

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {"name": self.name, "p": self.p, "p_holm": self.p_holm, "groups": [one.to_json() for one in self.groups]}


def subgroup(value: str, drafts: Sequence[JudgedDraft]) -> Subgroup:
    """What became of these drafts."""
    left = [draft for draft in drafts if draft.words_changed is not None]
    changed = sum(draft.words_changed or 0 for draft in left)
    return Subgroup(value, outcomes(drafts), sum(draft.words for draft in left), changed)


def groupings(drafts: Sequence[JudgedDraft]) -> tuple[Grouping, ...]:
    """The drafts by each thing that is known of any of them, with Holm's correction over the things."""
    found = [_grouping(name, values) for name, values in _by_thing(drafts) if set(values) - {UNKNOWN}]
    tested = [at for at, one in enumerate(found) if one.p is not None]
    corrected = samples.holm([float(found[at].p or 0.0) for at in tested])
    for at, p in zip(tested, corrected, strict=True):
        found[at] = Grouping(found[at].name, found[at].groups, found[at].p, p)
    return tuple(found)


def _by_thing(drafts: Sequence[JudgedDraft]) -> Iterator[tuple[str, dict[str, list[JudgedDraft]]]]:
    for name in (*GROUPS, MODEL):
        values: dict[str, list[JudgedDraft]] = {}
        for draft in drafts:
            value = draft.model if name == MODEL else draft.groups[name]
            values.setdefault(value or UNKNOWN, []).append(draft)
        yield name, values


def _grouping(name: str, values: dict[str, list[JudgedDraft]]) -> Grouping:
    order = sorted(values, key=lambda value: (value == UNKNOWN, -len(values[value]), value))
    large = [values[value] for value in order if value != UNKNOWN and len(values[value]) >= FEWEST]
    yes = [sum(map(accepted, some)) for some in large]
    no = [len(some) - count for some, count in zip(large, yes, strict=True)]
    p = samples.chi_square_by_draws(yes, no) if len(large) > 1 else None
    return Grouping(name, tuple(subgroup(value, values[value]) for value in order), p)
