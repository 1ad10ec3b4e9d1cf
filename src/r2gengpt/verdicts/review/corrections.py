"""Findings that readers corrected, and why they edited or rejected. Reads no text: labels are kept."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from r2gengpt.text.observations import NO_FINDING, OBSERVATIONS
from r2gengpt.verdicts.findings import added, present, removed
from r2gengpt.verdicts.record import REASONS
from r2gengpt.verdicts.review.drafts import JudgedDraft
from r2gengpt.verdicts.review.shares import Proportion


@dataclass(frozen=True)
class Correction:
    """What readers did to one finding.

    Attributes:
        name: of the finding.
        added: drafts whose reader put it in.
        removed: drafts whose reader took it out.
        certainty: drafts in which it became certain, or uncertain.
        share: drafts with any of the three, of those whose draft or final text has it.
    """

    name: str
    added: int
    removed: int
    certainty: int
    share: Proportion

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        counts = {"added": self.added, "removed": self.removed, "certainty": self.certainty}
        return {"name": self.name, **counts, "corrected": self.share.to_json()}


def corrections(drafts: Sequence[JudgedDraft]) -> tuple[Correction, ...]:
    """Of each finding that a draft or a final text has, the most often corrected first."""
    put, taken, doubted, there = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for draft in drafts:
        if draft.before is None or draft.after is None:
            continue
        before, after = draft.before, draft.after
        both = present(before) & present(after)
        there.update(present(before) | present(after))
        put.update(added(before, after))
        taken.update(removed(before, after))
        doubted.update(name for name in both if before[name] != after[name])
    found = []
    for name in OBSERVATIONS:
        if name != NO_FINDING and there[name]:
            count = put[name] + taken[name] + doubted[name]
            found.append(Correction(name, put[name], taken[name], doubted[name], Proportion(count, there[name])))
    return tuple(sorted(found, key=lambda one: -one.share.count))


def reasons(drafts: Sequence[JudgedDraft]) -> tuple[tuple[str, int], ...]:
    """Why drafts were edited or rejected, as pages call it, and how often; those without a reason last."""
    counts = Counter(draft.reason for draft in drafts if draft.verdict != "accept")
    return tuple((words, counts[name]) for name, words in (*REASONS.items(), ("", "no reason given")) if counts[name])
