"""Which drafts are the reference and which are recent. Compares nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from r2gengpt.errors import InputError
from r2gengpt.settings import VerdictsConfig
from r2gengpt.verdicts.review.drafts import JudgedDraft


@dataclass(frozen=True)
class Period:
    """Some drafts in the order of their verdicts."""

    drafts: tuple[JudgedDraft, ...]

    @property
    def days(self) -> tuple[date, date] | None:
        """The first and the last day of their verdicts, in UTC; None where there are none."""
        days = [draft.decided.date() for draft in self.drafts]
        return (min(days), max(days)) if days else None

    def to_json(self) -> dict[str, Any]:
        """How many drafts, and their days."""
        days = self.days
        return {"drafts": len(self.drafts), "days": None if days is None else [day.isoformat() for day in days]}


def day_of(text: str) -> date:
    """A day as YYYY-MM-DD.

    Raises:
        InputError: it is none.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError("must be a day, as 2026-01-31", field="reference", value=text) from None


def periods(drafts: Sequence[JudgedDraft], config: VerdictsConfig) -> tuple[Period, Period]:
    """The reference, and the latest drafts after it.

    Raises:
        InputError: the reference is not two days in their order, or no verdict lies in it.
    """
    count, latest = config.reference_drafts, config.recent_drafts
    if not config.reference:
        return Period(tuple(drafts[:count])), Period(tuple(drafts[count:][-latest:]))
    shown = " ".join(config.reference)
    if len(config.reference) != 2:
        raise InputError("must be two days, the first and the last", field="reference", value=shown)
    first, last = map(day_of, config.reference)
    if first > last:
        raise InputError("ends before it begins", field="reference", value=shown)
    reference = [draft for draft in drafts if first <= draft.decided.date() <= last]
    if drafts and not reference:
        ends = f"{min(one.decided for one in drafts):%Y-%m-%d} to {max(one.decided for one in drafts):%Y-%m-%d}"
        raise InputError(f"has no verdict: the store has those of {ends}", field="reference", value=shown)
    later = [draft for draft in drafts if draft.decided.date() > last]
    return Period(tuple(reference)), Period(tuple(later[-latest:]))
