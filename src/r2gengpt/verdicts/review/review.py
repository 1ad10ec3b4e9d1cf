"""A whole review: what the verdicts of a store say, as one record, its first sentence and its JSON. Changes none."""

import statistics
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from r2gengpt.errors import RunError
from r2gengpt.settings import VerdictsConfig
from r2gengpt.verdicts.address import opened_store, reason_of, shown_address
from r2gengpt.verdicts.record import KeptVerdict
from r2gengpt.verdicts.review.corrections import Correction, corrections, reasons
from r2gengpt.verdicts.review.drafts import GROUPS, JudgedDraft, JudgedDrafts, judged
from r2gengpt.verdicts.review.drift import FEWEST, Alarm, Drift, Drifts, drifts
from r2gengpt.verdicts.review.groups import Grouping, Subgroup, groupings, subgroup
from r2gengpt.verdicts.review.periods import Period, periods
from r2gengpt.verdicts.review.shares import TimeSpan, over_time

KINDS = ("kept", "changed", "added", "removed")


@dataclass(frozen=True)
class Review:
    """What the verdicts of a store say.

    Attributes:
        judged: the drafts.
        whole: what became of all of them.
        patients: how many they are of, as far as films name one.
        seconds: quartiles of the time to a verdict; empty without drafts.
        sentences: kind → sentences of accepted and edited drafts.
        unit: week or month.
        spans: acceptance over time.
        corrections: of findings; empty also where nothing read the texts.
        read: drafts whose draft and final text were read for findings.
        reasons: of edits and rejections, as pages call them, with their counts.
        reference: the drafts that others are compared with.
        recent: those that are compared.
        drifts: each thing that was compared, and what was the same throughout.
        unknown: what no draft of either period has, so that it was not compared.
        groupings: acceptance by subgroup.
    """

    judged: JudgedDrafts
    whole: Subgroup
    patients: int
    seconds: tuple[float, ...]
    sentences: dict[str, int]
    unit: str
    spans: tuple[TimeSpan, ...]
    corrections: tuple[Correction, ...]
    read: int
    reasons: tuple[tuple[str, int], ...]
    reference: Period
    recent: Period
    drifts: Drifts
    unknown: tuple[str, ...]
    groupings: tuple[Grouping, ...]

    @property
    def alarms(self) -> list[Drift]:
        """What has changed much, and not by chance."""
        return self._with(Alarm.ALARM)

    @property
    def compared(self) -> list[Drift]:
        """What there were enough drafts for."""
        return [one for one in self.drifts.compared if one.alarm is not Alarm.TOO_FEW]

    @property
    def headline(self) -> str:
        """The first sentence."""
        share = self.whole.outcomes.accepted
        if not share.of:
            return "No verdict is kept yet."
        low, high = share.ends
        drafts = f"{share.value * 100:.0f} % of {share.of:,} draft{'s' if share.of > 1 else ''} unchanged"
        return f"Readers accepted {drafts} [{low * 100:.0f}, {high * 100:.0f}]; {self._drift_words()}."

    def _with(self, alarm: Alarm) -> list[Drift]:
        return [one for one in self.drifts.compared if one.alarm is alarm]

    def _drift_words(self) -> str:
        if not self.compared:
            return f"drift: too few to tell ({len(self.recent.drafts)} drafts after the reference, {FEWEST} needed)"
        if not self.alarms:
            watched = len(self._with(Alarm.WATCH))
            return f"no drift alarm{f', {watched} to watch' if watched else ''}"
        names = ", ".join(one.name for one in self.alarms[:3])
        more = f" and {len(self.alarms) - 3} more" if len(self.alarms) > 3 else ""
        return f"drift alarm: {names}{more}"

    def to_json(self) -> dict[str, Any]:
        """Every number of the page."""
        return {
            "sentence": self.headline,
            "drafts": len(self.judged.drafts),
            "patients": self.patients,
            "withdrawn": self.judged.withdrawn,
            "verdicts": self.judged.verdicts,
            "labelers": list(self.judged.labelers),
            "all": self.whole.to_json(),
            "seconds_quartiles": [round(value, 3) for value in self.seconds],
            "sentences": self.sentences,
            "unit": self.unit,
            "over_time": [{"first_day": span.first.isoformat(), **span.outcomes.to_json()} for span in self.spans],
            "corrections": {"drafts": self.read, "findings": [one.to_json() for one in self.corrections]},
            "reasons": dict(self.reasons),
            "reference": self.reference.to_json(),
            "recent": self.recent.to_json(),
            "drift": [one.to_json() for one in self.drifts.compared],
            "same_throughout": list(self.drifts.constant),
            "not_known": list(self.unknown),
            "subgroups": [one.to_json() for one in self.groupings],
        }


def review(history: Iterable[KeptVerdict], config: VerdictsConfig) -> Review:
    """The review of all verdicts, in the order in which they were kept.

    Raises:
        InputError: the reference period is none, or empty.
    """
    found = judged(history)
    drafts = found.drafts
    reference, recent = periods(drafts, config)
    unit, spans = over_time(drafts)
    kinds = Counter[str]()
    for draft in drafts:
        kinds.update(draft.edits)
    compared = (*reference.drafts, *recent.drafts)
    return Review(
        judged=found,
        whole=subgroup("all", drafts),
        patients=len({draft.patient for draft in drafts if draft.patient}),
        seconds=_quartiles([draft.seconds for draft in drafts]),
        sentences={kind: kinds[kind] for kind in KINDS},
        unit=unit,
        spans=spans,
        corrections=corrections(drafts),
        read=sum(draft.before is not None and draft.after is not None for draft in drafts),
        reasons=reasons(drafts),
        reference=reference,
        recent=recent,
        drifts=drifts(reference.drafts, recent.drafts),
        unknown=tuple(_unknown(compared)) if compared else (),
        groupings=groupings(drafts),
    )


def _unknown(drafts: tuple[JudgedDraft, ...]) -> list[str]:
    """What none of the drafts has."""
    absent = [name for name in GROUPS if not any(draft.groups[name] for draft in drafts)]
    lacks = {
        "numbers of the films": not any(draft.features for draft in drafts),
        "findings of the drafts": all(draft.before is None for draft in drafts),
        "whether drafts need review": all(draft.needs_review is None for draft in drafts),
    }
    return [*absent, *(name for name, missing in lacks.items() if missing)]


def _quartiles(values: list[float]) -> tuple[float, ...]:
    if len(values) < 2:
        return tuple(values * 3)
    return tuple(statistics.quantiles(values, n=4, method="inclusive"))


def stored_review(config: VerdictsConfig) -> Review:
    """Read all verdicts of the store, and review them.

    Raises:
        InputError: there is no such store, or the reference period is wrong.
        RunError: the database failed meanwhile.
    """
    store = opened_store(config.verdicts, is_read=True)
    from sqlalchemy.exc import SQLAlchemyError

    with closing(store):
        try:
            return review(store.history(), config)
        except SQLAlchemyError as error:
            raise RunError(f"`verdicts` {shown_address(config.verdicts)}: {reason_of(error)}") from None
