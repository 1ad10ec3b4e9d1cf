"""A report composed of training sentences: what is likely on the film is told, what is unlikely denied. No model.

No sentence says anything but what its verdict allows. What no sentence says is left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from r2gengpt.generation.retrieval import MOST_SENTENCES, Bools, Floats, SentenceIndex
from r2gengpt.report import Finding, Report, Sentence
from r2gengpt.text.observations import (
    ABNORMAL,
    CHILDREN,
    LIKELY,
    NO_FINDING,
    OBSERVATIONS,
    POSSIBLE,
    SUPPORT_DEVICES,
    UNLIKELY,
)

POSITIVE, UNCERTAIN, NEGATIVE = 1, 2, 3
"""Numbers of `retrieval.CODES`."""
SAYS = {LIKELY: POSITIVE, POSSIBLE: UNCERTAIN, UNLIKELY: NEGATIVE}
"""Verdict → what a sentence may say of the observation, if it says anything."""
Verdicts = Mapping[str, str]


def kinds_first(names: Sequence[str]) -> tuple[str, ...]:
    """Observations in their order, but each after those that are kinds of it.

    >>> kinds_first(("Lung Opacity", "Edema", "Fracture"))
    ('Edema', 'Lung Opacity', 'Fracture')
    """
    found: dict[str, None] = {}
    for name in names:
        found |= dict.fromkeys(kinds_first([child for child in CHILDREN.get(name, ()) if child in names]))
        found[name] = None
    return tuple(found)


ORDER = (*kinds_first(ABNORMAL), SUPPORT_DEVICES)
"""In which a report tells what is on the film."""


def sayable(verdicts: Verdicts) -> dict[str, int]:
    """What sentences may say of each observation; of those that are not in it nothing.

    Beside a kind of it that is likely or possible, an observation is not denied.
    """
    may = {name: SAYS[verdicts[name]] for name in ORDER if verdicts.get(name) in SAYS}
    for name, kinds in CHILDREN.items():
        if may.get(name) == NEGATIVE and any(may.get(kind) in (POSITIVE, UNCERTAIN) for kind in kinds):
            del may[name]
    return may


@dataclass
class Composition:
    """A report that is being composed.

    Args:
        index: the sentences.
        verdicts: of the film.
        distances: (T,), how far the studies are from the film.
    """

    index: SentenceIndex
    verdicts: Verdicts
    distances: Floats

    def __post_init__(self) -> None:
        self.may = sayable(self.verdicts)
        said = np.array([self.may.get(name, 0) for name in OBSERVATIONS])
        codes = self.index.codes
        self.usable: Bools = ((codes == 0) | (codes == said)).all(axis=1)
        self.nearest = self.index.nearest(self.distances)
        self.chosen: list[int] = []

    def tell(self) -> None:
        """A sentence for each observation that is likely, then for each that is possible."""
        for verdict in (LIKELY, POSSIBLE):
            for name in ORDER:
                if self.verdicts.get(name) == verdict and not self._is_told(name):
                    says = self.index.codes[:, OBSERVATIONS.index(name)] == SAYS[verdict]
                    self._choose(np.flatnonzero(self.usable & says))

    def deny(self) -> None:
        """Sentences that only deny, each the one that denies most of what is left."""
        columns = [OBSERVATIONS.index(name) for name in ABNORMAL]
        codes = self.index.codes[:, columns]
        denies = (codes == NEGATIVE) & (self.usable & ~np.isin(codes, (POSITIVE, UNCERTAIN)).any(axis=1))[:, None]
        left = ~(codes[self.chosen] == NEGATIVE).any(axis=0)
        while (counts := (denies & left).sum(axis=1)).any() and len(self.chosen) < MOST_SENTENCES:
            self._choose(np.flatnonzero(counts == counts.max()))
            left &= codes[self.chosen[-1]] != NEGATIVE

    def _is_told(self, name: str) -> bool:
        """Whether a chosen sentence says it, or asserts a kind of it."""
        codes = self.index.codes[self.chosen]
        kinds = [OBSERVATIONS.index(kind) for kind in CHILDREN.get(name, ())]
        return bool((codes[:, OBSERVATIONS.index(name)] != 0).any() or (codes[:, kinds] == POSITIVE).any())

    def _choose(self, sentences: Iterable[int]) -> None:
        """Of sentences that fit, the nearest without a side, or else the nearest; of equal ones the first."""
        found = list(sentences)
        if found and len(self.chosen) < MOST_SENTENCES:
            sided = self.index.sided
            self.chosen.append(int(min(found, key=lambda at: (sided[at], self.nearest[at], at))))


def normal_study(index: SentenceIndex, verdicts: Verdicts, distances: Floats) -> int | None:
    """The nearest study whose whole report fits a normal film; None where the film is not normal, or none fits.

    Such a report may deny what was not assessed, but nothing that is possible.
    """
    if verdicts.get(NO_FINDING) != LIKELY:
        return None
    barred = [verdicts.get(name) == POSSIBLE for name in OBSERVATIONS]
    wrong = ((index.codes == NEGATIVE) & np.array(barred)).any(axis=1)
    if verdicts.get(SUPPORT_DEVICES) != LIKELY:
        wrong |= np.isin(index.codes[:, OBSERVATIONS.index(SUPPORT_DEVICES)], (POSITIVE, UNCERTAIN))
    for study in np.argsort(distances, kind="stable").tolist():
        if index.normal[study] and not wrong[index.report(study)].any():
            return int(study)
    return None


def compose(index: SentenceIndex, verdicts: Verdicts, distances: Floats) -> tuple[Sentence, ...]:
    """The sentences of a film's report, each with the study that it was taken from; none where none fits.

    Args:
        index: of the training reports.
        verdicts: of the film, by observation, which `confidence.findings` keeps from being normal and abnormal at once.
        distances: (T,), how far the training studies are from the film.
    """
    study = normal_study(index, verdicts, distances)
    if study is not None:
        return tuple(taken(index, number, study) for number in index.report(study))
    made = Composition(index, verdicts, distances)
    made.tell()
    made.deny()
    return tuple(taken(index, number, index.source(number, distances)) for number in made.chosen)


def taken(index: SentenceIndex, number: int, study: int) -> Sentence:
    """A sentence of a study as a part of a report: nothing was written, so it has no tokens."""
    return Sentence(index.sentences[number], 0, 0.0, source=index.studies[study])


@dataclass(frozen=True, eq=False)
class Composer:
    """What writes by retrieval.

    Attributes:
        index: of the training reports.
        columns: places of the observations that the head tells from chance: by these, films are compared.
    """

    index: SentenceIndex
    columns: tuple[int, ...]

    @property
    def sources(self) -> str:
        """What its reports are composed of, in words."""
        return f"{len(self.index.sentences)} sentences of {len(self.index.studies)} training studies"

    def report(self, findings: Sequence[Finding], logits: Sequence[float], study: str, reference: str = "") -> Report:
        """The report of a film.

        Args:
            findings: what the head sees on it.
            logits: of the head, one an observation.
            study: id of the study.
            reference: its own report, empty where none is known.
        """
        verdicts = {finding.name: finding.verdict for finding in findings}
        distances = self.index.distances(np.array(logits), self.columns or None)
        sentences = compose(self.index, verdicts, distances)
        text = " ".join(sentence.text for sentence in sentences)
        return Report(study, text, reference, sentences=sentences, findings=tuple(findings))
