"""Which studies an audit asks about, under which conditions, and what is shown and told each time. Asks nobody."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from r2gengpt.data.study import Study, known_labels
from r2gengpt.errors import InputError
from r2gengpt.evaluation.audit.films import opposite, overlap
from r2gengpt.metrics.detection import ABSENT, PRESENT
from r2gengpt.report import plain_name
from r2gengpt.text.observations import ABNORMAL, NO_FINDING, OF_THE_FILM


class Condition(StrEnum):
    """What becomes of a study before it is shown."""

    TRUE = "true"
    BLANK = "blank"
    NOISE = "noise"
    SAME_LABELS = "same_labels"
    OTHER_LABELS = "other_labels"
    FLIPPED = "flipped"
    OCCLUDED = "occluded"
    OCCLUDED_ELSEWHERE = "occluded_elsewhere"
    TEXT_ONLY = "text_only"
    CONTRADICTED = "contradicted"


ABOUT: Mapping[Condition, str] = {
    Condition.TRUE: "the study's own film",
    Condition.BLANK: "one grey, the film's mean",
    Condition.NOISE: "the film's own pixels in any order",
    Condition.SAME_LABELS: "another patient's film of the same source with the same labels",
    Condition.OTHER_LABELS: "another patient's film of the same source that shares no finding",
    Condition.FLIPPED: "the film with its sides exchanged",
    Condition.OCCLUDED: "the boxes of its findings filled with the grey around them",
    Condition.OCCLUDED_ELSEWHERE: "the same boxes on the other side of the film filled so",
    Condition.TEXT_ONLY: "the blank film, with the study's indication",
    Condition.CONTRADICTED: "the study's own film, with words that claim the opposite of its labels",
}
NO_BOXES = "no study that was drawn has boxes"
NO_ROOM = "no box of a study that was drawn has room on the other side of the film"
NO_INDICATION = "no study that was drawn has an indication"
NOBODY = "no study that was drawn has such a film in its source"


@dataclass(frozen=True)
class Question:
    """One study as it is shown once.

    Attributes:
        study: which.
        condition: what is done to it.
        shown: whose films are shown.
        context: words beside the films; empty: none.
        claims: what the words claim: finding → whether it is there.
    """

    study: Study
    condition: Condition
    shown: Study
    context: str = ""
    claims: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class AuditPlan:
    """All questions, study by study, and why a condition has none."""

    questions: tuple[Question, ...]
    missing: Mapping[Condition, str]

    @property
    def studies(self) -> tuple[Study, ...]:
        """Those that are asked about."""
        return tuple(one.study for one in self.questions if one.condition == Condition.TRUE)


def labels_of(study: Study) -> dict[str, bool]:
    """What is known of a study's films: finding → whether it is there. How they were taken is left out."""
    known = known_labels(study)
    return {name: value >= PRESENT for name, value in known.items()
            if name not in OF_THE_FILM and (value <= ABSENT or value >= PRESENT)}  # fmt: skip


def present(labels: Mapping[str, bool]) -> frozenset[str]:
    """The findings that are there."""
    return frozenset(name for name, there in labels.items() if there)


def patient_of(study: Study) -> str:
    """Whose study it is; where that is not known, each study has a patient of its own."""
    return f"patient {study.patient}" if study.patient else f"study {study.id}"


def plan_audit(
    studies: Sequence[Study], *, count: int, seed: int, sources: Sequence[str] = (), no_text: str = ""
) -> AuditPlan:
    """Draw studies and settle what is asked about each.

    Args:
        studies: of a split.
        count: how many are drawn, at most.
        seed: of all that is drawn.
        sources: those that count; none: all.
        no_text: why the model takes no words beside films; empty: it takes them.

    Raises:
        InputError: an unknown source, or no labels.
    """
    known = {study.source for study in studies}
    for name in sources:
        if name not in known:
            there = ", ".join(sorted(filter(None, known))) or "none"
            raise InputError(f"the split has no such source; it has {there}", field="sources", value=name)
    labels = {study.id: labels_of(study) for study in studies if not sources or study.source in sources}
    pool = [study for study in studies if present(labels.get(study.id, {}))]
    if len(pool) < 2:
        raise InputError(f"`annotation`: {len(pool)} studies of the split have labels, or reports that tell them")
    drawer = Drawer(tuple(pool), labels, seed, no_text)
    questions = tuple(question for study in drawer.drawn(count) for question in drawer.questions(study))
    asked = {question.condition for question in questions}
    reasons = {
        Condition.OCCLUDED: NO_BOXES,
        Condition.OCCLUDED_ELSEWHERE: NO_ROOM if Condition.OCCLUDED in asked else NO_BOXES,
        Condition.TEXT_ONLY: no_text or NO_INDICATION,
        Condition.CONTRADICTED: no_text or NOBODY,
    }
    return AuditPlan(questions, {one: reasons.get(one, NOBODY) for one in Condition if one not in asked})


@dataclass(frozen=True)
class Drawer:
    """What is drawn from a pool of studies with labels, by a seed.

    What one study gets does not depend on which others are drawn: more studies repeat the questions of fewer.
    """

    pool: tuple[Study, ...]
    labels: Mapping[str, Mapping[str, bool]]
    seed: int
    no_text: str = ""

    def chance(self, *words: str) -> random.Random:
        """A generator of its own for each use."""
        return random.Random(" ".join((str(self.seed), *words)))

    def drawn(self, count: int) -> list[Study]:
        """Studies in the order in which they are taken: from each source and rarest finding, or box, in turn."""
        often: dict[tuple[str, str], int] = {}
        for study in self.pool:
            for name in present(self.labels[study.id]):
                often[study.source, name] = often.get((study.source, name), 0) + 1
        strata: dict[tuple[str, str], list[Study]] = {}
        shuffled = sorted(self.pool, key=lambda study: study.id)
        self.chance("studies").shuffle(shuffled)
        for study in shuffled:
            names = sorted(present(self.labels[study.id]))
            rarest = "a box" if study.boxes else min(names, key=lambda name: often[study.source, name])
            strata.setdefault((study.source, rarest), []).append(study)
        turns = [strata[key] for key in sorted(strata)]
        self.chance("turns").shuffle(turns)
        longest = max(map(len, turns))
        return [turn[place] for place in range(longest) for turn in turns if place < len(turn)][:count]

    def questions(self, study: Study) -> Iterator[Question]:
        """What is asked about a study, its own film first."""
        for condition in (Condition.TRUE, Condition.BLANK, Condition.NOISE, Condition.FLIPPED):
            yield Question(study, condition, study)
        for condition in (Condition.SAME_LABELS, Condition.OTHER_LABELS):
            if (lent := self.lender(study, condition)) is not None:
                yield Question(study, condition, lent)
        if study.boxes:
            yield Question(study, Condition.OCCLUDED, study)
            if not any(overlap(opposite(one), other) for one in study.boxes for other in study.boxes):
                yield Question(study, Condition.OCCLUDED_ELSEWHERE, study)
        if self.no_text:
            return
        if study.indication.strip():
            yield Question(study, Condition.TEXT_ONLY, study, study.indication.strip())
        if claims := self.claims(study):
            yield Question(study, Condition.CONTRADICTED, study, claim_words(claims), claims)

    def lender(self, study: Study, condition: Condition) -> Study | None:
        """A study of another patient within the source whose films are shown in place of its own; None: there is none.

        Films with the same labels have all of them; films with other labels share none that is present.
        """
        ours = self.labels[study.id]
        others = [one for one in self.pool if one.source == study.source and patient_of(one) != patient_of(study)]
        if condition == Condition.SAME_LABELS:
            fitting = [one for one in others if self.labels[one.id] == ours]
        else:
            fitting = [one for one in others if not present(self.labels[one.id]) & present(ours)]
        fitting.sort(key=lambda one: one.id)
        return self.chance(condition, study.id).choice(fitting) if fitting else None

    def claims(self, study: Study) -> dict[str, bool]:
        """The opposite of a study's labels: its findings denied, or of a normal film one finding that others have."""
        ours = self.labels[study.id]
        if there := [name for name in ABNORMAL if ours.get(name)]:
            return dict.fromkeys(there, False)
        seen = {name for one in self.pool if one.source == study.source for name in present(self.labels[one.id])}
        absent = [name for name in ABNORMAL if name in seen and ours.get(name) is False]
        return {self.chance("claim", study.id).choice(absent): True} if ours.get(NO_FINDING) and absent else {}


def claim_words(claims: Mapping[str, bool]) -> str:
    """Claims as words beside a film.

    >>> claim_words({"Edema": True}), claim_words({"Edema": False, "Pleural Effusion": False})
    ('Known edema, unchanged.', 'Known normal chest. No edema. No pleural effusion.')
    """
    said = [f"Known {plain_name(name)}, unchanged." for name, there in claims.items() if there]
    denied = [f"No {plain_name(name)}." for name, there in claims.items() if not there]
    return " ".join([*said, *(["Known normal chest."] if denied else []), *denied])
