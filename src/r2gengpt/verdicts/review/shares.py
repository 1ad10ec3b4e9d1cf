"""Shares of drafts with their intervals, over time too. Knows no drift."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from r2gengpt.verdicts.review.drafts import JudgedDraft, accepted, edited, rejected

Z = 1.959963984540054
"""The normal distribution's 97.5 % point."""
MOST_WEEKS = 53
"""Weeks beyond which time is counted in months."""


@dataclass(frozen=True)
class Proportion:
    """So many of so many."""

    count: int
    of: int

    @property
    def value(self) -> float:
        """The share, 0 of nothing."""
        return self.count / self.of if self.of else 0.0

    @property
    def ends(self) -> tuple[float, float]:
        """Wilson's 95 % interval, without continuity correction; all is possible of nothing.

        Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22.

        >>> low, high = Proportion(62, 100).ends
        >>> round(low, 3), round(high, 3)
        (0.522, 0.709)
        """
        if not self.of:
            return 0.0, 1.0
        square = Z * Z / self.of
        middle = (self.value + square / 2) / (1 + square)
        half = Z / (1 + square) * math.sqrt(self.value * (1 - self.value) / self.of + square / (4 * self.of))
        return max(0.0, middle - half), min(1.0, middle + half)

    def to_json(self) -> dict[str, Any]:
        """Count, base, share and interval; both null of nothing."""
        known = bool(self.of)
        ends = [round(end, 6) for end in self.ends] if known else None
        return {"count": self.count, "of": self.of, "share": round(self.value, 6) if known else None, "ci95": ends}

    def __str__(self) -> str:
        if not self.of:
            return "none"
        low, high = self.ends
        return f"{self.value * 100:.0f} % [{low * 100:.0f}, {high * 100:.0f}]"


def share(drafts: Sequence[JudgedDraft], of: Callable[[JudgedDraft], bool]) -> Proportion:
    """The share of drafts that something is true of."""
    return Proportion(sum(map(of, drafts)), len(drafts))


@dataclass(frozen=True)
class Outcomes:
    """What readers made of some drafts."""

    accepted: Proportion
    edited: Proportion
    rejected: Proportion

    @property
    def drafts(self) -> int:
        """How many they are."""
        return self.accepted.of

    def to_json(self) -> dict[str, Any]:
        """Each share."""
        shares = {"accepted": self.accepted, "edited": self.edited, "rejected": self.rejected}
        return {"drafts": self.drafts, **{name: one.to_json() for name, one in shares.items()}}


def outcomes(drafts: Iterable[JudgedDraft]) -> Outcomes:
    """What readers made of these drafts."""
    chosen = tuple(drafts)
    return Outcomes(*(share(chosen, of) for of in (accepted, edited, rejected)))


@dataclass(frozen=True)
class TimeSpan:
    """A week or a month, by its first day in UTC, and what became of its drafts."""

    first: date
    outcomes: Outcomes


def over_time(drafts: Sequence[JudgedDraft]) -> tuple[str, tuple[TimeSpan, ...]]:
    """`week` or `month`, and each one from the first verdict to the last, also those without a verdict.

    Weeks begin on Monday. They are months where there are more than `MOST_WEEKS`.
    """
    days = [draft.decided.date() for draft in drafts]
    if not days:
        return "week", ()
    unit, begin = "week", monday
    if (monday(max(days)) - monday(min(days))).days // 7 >= MOST_WEEKS:
        unit, begin = "month", first_of_month
    found: dict[date, list[JudgedDraft]] = {}
    day, last = begin(min(days)), begin(max(days))
    while day <= last:
        found[day] = []
        day = begin(day + timedelta(days=7 if unit == "week" else 31))
    for draft, when in zip(drafts, days, strict=True):
        found[begin(when)].append(draft)
    return unit, tuple(TimeSpan(first, outcomes(some)) for first, some in found.items())


def monday(day: date) -> date:
    """The first day of a day's week."""
    return day - timedelta(days=day.weekday())


def first_of_month(day: date) -> date:
    """The first day of a day's month."""
    return day.replace(day=1)
