"""A draft that a verdict can be given on, the verdict, and both as they are kept. Opens no database, reads no text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

ACCEPT, EDIT, REJECT, WITHDRAW = "accept", "edit", "reject", "withdraw"
VERDICTS = (ACCEPT, EDIT, REJECT, WITHDRAW)
REASONS: Mapping[str, str] = {
    "missed": "a finding is missed",
    "invented": "a finding is not there",
    "place": "side or place is wrong",
    "wording": "the wording",
    "film": "the film is not fit to report",
    "other": "another reason",
}
"""Why a draft was edited or rejected → what pages call it."""
LONGEST_TEXT, LONGEST_NOTE, MOST_SENTENCES = 20_000, 1000, 300
AGES = ((18, "under 18"), (40, "18 to 39"), (65, "40 to 64"), (200, "65 and over"))
"""Years below which a patient belongs to a band, which is all that is kept of an age."""
UNKNOWN = ""
HEAD = "head: "
"""What names of the finding head's probabilities begin with, among a draft's features."""


@dataclass(frozen=True)
class DraftFacts:
    """What is kept of a draft beside its reader's verdict: what it was made with and from. Names no patient.

    Attributes:
        id: of the answer that held it.
        created: seconds since 1970, by the clock of the server that wrote it.
        text: as the model wrote it.
        model: its name.
        model_sha256: of its weights; None where some lie on disk.
        delta_sha256: of its trained tensors' file; None where there is none.
        version: of the program.
        films: SHA-256 of each film's file.
        patient: a keyed hash of whose films they are; empty where no film names a patient.
        age: the band of the patient's age, as the next three empty where unknown.
        sex: F, M or O.
        view: of the first film.
        device: manufacturer and model of what took it.
        features: numbers of the film, and the finding head's probabilities.
        needs_review: whether the program marked the draft, or a sentence of it; None where that is not known.
    """

    id: str
    created: int
    text: str
    model: str
    model_sha256: str | None
    delta_sha256: str | None
    version: str
    films: tuple[str, ...]
    patient: str = UNKNOWN
    age: str = UNKNOWN
    sex: str = UNKNOWN
    view: str = UNKNOWN
    device: str = UNKNOWN
    features: Mapping[str, float] = field(default_factory=dict)
    needs_review: bool | None = None


@dataclass(frozen=True)
class ReaderVerdict:
    """What a reader says of a draft.

    Attributes:
        verdict: one of `VERDICTS`; withdrawn, the ones before it no longer count.
        text: as the reader leaves it; the draft's own where it is accepted, empty where it is rejected or withdrawn.
        reason: one of `REASONS`, or empty.
        note: the reader's own words, or empty.
        key: the client's name for this saying; sent twice under one, it is kept once.
    """

    verdict: str
    key: str
    text: str = ""
    reason: str = ""
    note: str = ""


@dataclass(frozen=True)
class SentenceEdit:
    """What became of one sentence.

    Attributes:
        kind: kept, changed, added or removed.
        draft: its number in the draft, None where it was added.
        final: its number in the final text, None where it was removed.
        words: inserted, deleted or replaced.
    """

    kind: str
    draft: int | None
    final: int | None
    words: int


@dataclass(frozen=True)
class KeptVerdict:
    """A verdict as it is kept.

    Attributes:
        number: rises with each one that is kept.
        facts: of the draft.
        judgement: what the reader said.
        decided: when it came in.
        seconds: from the draft to it.
        edits: of an accepted or edited draft, by sentence.
        before: observation → what the draft says of it, by the rule labeller; None where it was not read.
        after: the same of the final text; None also where there is none.
        labeler: which rules read them, empty where none did.
    """

    number: int
    facts: DraftFacts
    judgement: ReaderVerdict
    decided: datetime
    seconds: float
    edits: tuple[SentenceEdit, ...]
    before: Mapping[str, str] | None
    after: Mapping[str, str] | None
    labeler: str

    @property
    def sentences_changed(self) -> int:
        """Sentences that are not as they were written."""
        return sum(edit.kind != "kept" for edit in self.edits)

    @property
    def words_changed(self) -> int:
        """Words inserted, deleted or replaced."""
        return sum(edit.words for edit in self.edits)


def age_band(born: str, on: str) -> str:
    """The band of an age, from a date of birth and a date of the film as DICOM writes them; empty where unknown.

    >>> age_band("19800229", "20200228"), age_band("19800229", "20200301"), age_band("", "20200301")
    ('18 to 39', '40 to 64', '')
    """
    try:
        first, then = (date(int(text[:4]), int(text[4:6]), int(text[6:8])) for text in (born, on))
    except ValueError:
        return UNKNOWN
    return band_of(then.year - first.year - ((then.month, then.day) < (first.month, first.day)))


def band_of(years: float) -> str:
    """The band of an age in years; empty of none that a patient has."""
    return next((band for limit, band in AGES if 0 <= years < limit), UNKNOWN)
