"""Drafts with the verdict that counts, as a review needs them. Holds no text, and opens no store."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from r2gengpt.verdicts.edits import sentences_in
from r2gengpt.verdicts.record import ACCEPT, EDIT, REJECT, WITHDRAW, KeptVerdict

NAMED_BY = 8
"""Digits of a hash by which a page tells models apart."""


@dataclass(frozen=True)
class JudgedDraft:
    """A draft and what became of it; texts are told apart by their hashes.

    Attributes:
        verdict: accept, edit or reject.
        reason: one of `record.REASONS`, or empty.
        decided: when.
        seconds: from the draft to the verdict.
        text: SHA-256 of the draft's text, whatever its case and white space.
        words: of the draft.
        sentences: of the draft.
        edits: kind → sentences of that kind, of an accepted or edited draft; empty of a rejected one.
        words_changed: inserted, deleted or replaced; None where it was rejected.
        before: observation → what the draft says of it; None where nothing read it.
        after: the same of the final text.
        model: its name, with the first digits of what tells versions of it apart.
        patient: a keyed hash, or empty.
        groups: what the films tell of whom and what they show (`GROUPS`), empty where unknown.
        features: numbers of the films, and the finding head's probabilities.
        needs_review: whether the program marked the draft; None where that was not kept.
    """

    verdict: str
    reason: str
    decided: datetime
    seconds: float
    text: str
    words: int
    sentences: int
    edits: Mapping[str, int]
    words_changed: int | None
    before: Mapping[str, str] | None
    after: Mapping[str, str] | None
    model: str
    patient: str
    groups: Mapping[str, str]
    features: Mapping[str, float]
    needs_review: bool | None


@dataclass(frozen=True)
class JudgedDrafts:
    """All drafts of a store that have a verdict, in the order in which the verdicts came, and what was left out.

    Attributes:
        drafts: each once, with its newest verdict.
        withdrawn: drafts whose newest verdict takes the others back.
        verdicts: rows of the store.
        labelers: which rules read the texts.
    """

    drafts: tuple[JudgedDraft, ...]
    withdrawn: int
    verdicts: int
    labelers: tuple[str, ...]


GROUPS = ("view", "device", "age", "sex")
"""What films tell of whom and what they show."""


def judged(history: Iterable[KeptVerdict]) -> JudgedDrafts:
    """The newest verdict of each draft, of all verdicts in their order."""
    newest: dict[str, JudgedDraft | None] = {}
    labelers: dict[str, None] = {}
    count = 0
    for kept in history:
        count += 1
        newest.pop(kept.facts.id, None)  # the order is that of the verdicts that count
        newest[kept.facts.id] = None if kept.judgement.verdict == WITHDRAW else judged_draft(kept)
        if kept.labeler:
            labelers[kept.labeler] = None
    drafts = tuple(draft for draft in newest.values() if draft is not None)
    return JudgedDrafts(drafts, len(newest) - len(drafts), count, tuple(labelers))


def judged_draft(kept: KeptVerdict) -> JudgedDraft:
    """One verdict without its texts."""
    facts, text = kept.facts, " ".join(kept.facts.text.lower().split())
    digest = facts.delta_sha256 or facts.model_sha256 or ""
    edits = [edit.kind for edit in kept.edits]
    return JudgedDraft(
        verdict=kept.judgement.verdict,
        reason=kept.judgement.reason,
        decided=kept.decided,
        seconds=kept.seconds,
        text=sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
        words=len(text.split()),
        sentences=len(sentences_in(facts.text)),
        edits={kind: edits.count(kind) for kind in dict.fromkeys(edits)},
        words_changed=None if kept.judgement.verdict == REJECT else kept.words_changed,
        before=kept.before,
        after=kept.after,
        model=" ".join(filter(None, (facts.model, digest[:NAMED_BY]))),
        patient=facts.patient,
        groups={name: getattr(facts, name) for name in GROUPS},
        features=facts.features,
        needs_review=facts.needs_review,
    )


def accepted(draft: JudgedDraft) -> bool:
    """Whether its reader left it as it was."""
    return draft.verdict == ACCEPT


def edited(draft: JudgedDraft) -> bool:
    """Whether its reader changed it."""
    return draft.verdict == EDIT


def rejected(draft: JudgedDraft) -> bool:
    """Whether its reader refused it."""
    return draft.verdict == REJECT
