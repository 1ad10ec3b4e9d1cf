"""What answers to changed films tell of a model: change, agreement with labels, a verdict per finding. Asks nobody.

Every figure compares two answers of one study, and patients are drawn anew for its interval.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np

from r2gengpt.data.study import Study
from r2gengpt.evaluation.audit.plan import ABOUT, AuditPlan, Condition, Question, labels_of, patient_of
from r2gengpt.evaluation.audit.run import Key
from r2gengpt.evaluation.audit.subjects import Answered
from r2gengpt.metrics import detection
from r2gengpt.metrics.detection import Bools, Measure, numbered, resampled
from r2gengpt.metrics.labels.family import LABELER
from r2gengpt.metrics.labels.places import LEFT, RIGHT, located
from r2gengpt.metrics.labels.reading import VERSION, named_in
from r2gengpt.metrics.ngrams import Floats
from r2gengpt.text.observations import ALL_OBSERVATIONS, LIKELY, NOT_ASSESSED, OBSERVATIONS, OF_THE_FILM

RESAMPLES = 1000
FEWEST = 10
"""Patients with a finding, and patients without, that a verdict needs; also texts with a side."""
WORST = 6
"""Failures that are kept."""
AGAINST = (Condition.OTHER_LABELS, Condition.BLANK)
"""What a finding's agreement with labels must be above, before a model reads it from the film."""
OTHER_SIDE: Mapping[str, str] = {LEFT: RIGHT, RIGHT: LEFT}
Json = dict[str, Any]


class Reading(StrEnum):
    """What an audit says of one finding."""

    READS = "reads the film"
    GUESSES = "guesses from context"
    REVERSED = "reads the film the wrong way round"
    NEVER = "never names it"
    NOT_ASSESSED = "not assessed by the head"
    TOO_FEW = "too few films"


@dataclass(frozen=True)
class Heard:
    """An answer as it is compared.

    Attributes:
        text: what was written.
        named: the findings that it asserts or doubts.
        sides: finding and side, of those that it places.
        likely: the findings that the head calls likely.
        probabilities: the head's, of what it tells from chance; empty without a head.
    """

    text: str
    named: frozenset[str]
    sides: frozenset[tuple[str, str]]
    likely: frozenset[str]
    probabilities: Mapping[str, float]

    @classmethod
    def of(cls, answer: Answered) -> "Heard":
        """What an answer says, by the rule labeller."""
        assessed = {name: judged for name, judged in answer.findings.items() if judged[1] != NOT_ASSESSED}
        return cls(
            " ".join(answer.text.split()),
            frozenset(named_in(answer.text)),
            frozenset((name, side) for name, where in located(answer.text).items() for side in where.sides),
            frozenset(name for name, judged in assessed.items() if judged[1] == LIKELY),
            {name: judged[0] for name, judged in assessed.items() if name not in OF_THE_FILM},
        )


Pair = tuple[Study, Heard, Heard]
"""A study, what was said of its own film, and what was said of the changed one."""


@dataclass(frozen=True)
class Audit:
    """Questions and answers.

    Attributes:
        plan: what was asked.
        answers: what came back.
        seed: of the resamples.
    """

    plan: AuditPlan
    answers: Mapping[Key, Answered]
    seed: int = 0

    @cached_property
    def heard(self) -> dict[Key, Heard]:
        """Every answer that is a report."""
        return {key: Heard.of(answer) for key, answer in self.answers.items() if not answer.refused}

    @cached_property
    def labels(self) -> dict[str, dict[str, bool]]:
        """What is known of each study."""
        return {study.id: labels_of(study) for study in self.plan.studies}

    def pairs(self, condition: Condition) -> list[Pair]:
        """The studies that were answered both as they are and under a condition."""
        found = ((study, (study.id, condition)) for study in self.plan.studies)
        return [
            (study, self.heard[study.id, Condition.TRUE], self.heard[key]) for study, key in found if key in self.heard
        ]

    def to_json(self) -> Json:
        """What audit.json holds of it."""
        head = any(one.probabilities for one in self.heard.values())
        text = tuple(name for name in OBSERVATIONS)
        seen = tuple(name for name in ALL_OBSERVATIONS if name not in OF_THE_FILM)
        verdicts = {"text": {name: self.verdict(name, _named) for name in text if self.is_known(name)}}
        if head:
            verdicts["head"] = {name: self.verdict(name, _likely) for name in seen if self.is_known(name)}
        return {
            "n": len(self.plan.studies),
            "patients": len(set(map(patient_of, self.plan.studies))),
            "labeler": f"{LABELER}, version {VERSION}",
            "resamples": RESAMPLES,
            "fewest": FEWEST,
            "verdicts": verdicts,
            "sides": self.sides(),
            "claims": self.claims(),
            "boxes": {one.value: self.boxes(one) for one in (Condition.OCCLUDED, Condition.OCCLUDED_ELSEWHERE)},
            "conditions": {one.value: self.condition(one) for one in Condition},
            "failures": self.failures(),
        }

    def is_known(self, name: str) -> bool:
        """Whether any study has a label of a finding."""
        return any(name in labels for labels in self.labels.values())

    def scored(self, measures: Mapping[str, Measure], studies: Sequence[Study]) -> dict[str, Json]:
        """Measures over studies with their intervals, patients drawn together."""
        groups = numbered(map(patient_of, studies))
        return {name: one.to_json() for name, one in resampled(measures, groups, RESAMPLES, self.seed).items()}

    # ── a verdict per finding ────────────────────────────────────────────────────────────────────────────────────────

    def verdict(self, name: str, says: Callable[[Heard], frozenset[str]]) -> Json:
        """Whether a finding is told from the film: balanced accuracy on its own films against that on others.

        Args:
            name: the finding.
            says: which findings an answer has: those of its text, or those of the head.
        """
        own = [pair for pair in self.pairs(Condition.TRUE) if name in self.labels[pair[0].id]]
        sides = {there: {patient_of(study) for study, *_ in own if self.labels[study.id][name] is there}
                 for there in (True, False)}  # fmt: skip
        found: Json = {
            "with": len(sides[True]),
            "without": len(sides[False]),
            "named": sum(name in says(one) for _, one, _ in own),
            "of": len(own),
        }
        if says is _likely and not any(name in one.probabilities for _, one, _ in own):
            return {"verdict": Reading.NOT_ASSESSED.value, **found}
        if min(found["with"], found["without"]) < FEWEST:
            return {"verdict": Reading.TOO_FEW.value, **found}
        if not found["named"]:
            return {"verdict": Reading.NEVER.value, **found}
        found |= self.scored({"agreement": self._balanced(name, own, says, 1)}, [study for study, *_ in own])
        found["above"] = {one.value: gap for one in AGAINST if (gap := self.gap(name, one, says)) is not None}
        return {"verdict": reading_of(found["above"].values()).value, **found}

    def gap(self, name: str, condition: Condition, says: Callable[[Heard], frozenset[str]]) -> Json | None:
        """Balanced accuracy on the own films less that under a condition; None where a kind of study is not there."""
        pairs = [pair for pair in self.pairs(condition) if name in self.labels[pair[0].id]]
        truth = self._truth(name, pairs)
        if not truth.any() or truth.all():
            return None
        own, other = (self._balanced(name, pairs, says, place) for place in (1, 2))
        return self.scored({"gap": lambda times: own(times) - other(times)}, [study for study, *_ in pairs])["gap"]

    def _balanced(
        self, name: str, pairs: Sequence[Pair], says: Callable[[Heard], frozenset[str]], place: int
    ) -> Measure:
        called = np.array([name in says(_heard(pair, place)) for pair in pairs])
        return detection.balanced(called, self._truth(name, pairs))

    def _truth(self, name: str, pairs: Sequence[Pair]) -> Bools:
        return np.array([self.labels[study.id][name] for study, *_ in pairs], dtype=bool)

    # ── what each condition changes ──────────────────────────────────────────────────────────────────────────────────

    def condition(self, condition: Condition) -> Json:
        """How answers under a condition differ from those to the true film, and how they agree with the labels."""
        if condition in self.plan.missing:
            return {"about": ABOUT[condition], "missing": self.plan.missing[condition]}
        pairs = self.pairs(condition)
        asked = [answer for (_, one), answer in self.answers.items() if one == condition]
        found: Json = {"about": ABOUT[condition], "n": len(pairs), "refused": sum(bool(one.refused) for one in asked)}
        if not pairs:
            why = next(one.refused for one in asked if one.refused)
            return {**found, "missing": f"refused: {why}"}
        own, other = (self._f1(pairs, place) for place in (1, 2))
        measures = {"agreement": other}
        if condition != Condition.TRUE:
            measures["agreement_gap"] = lambda times: own(times) - other(times)
            measures["texts_changed"] = detection.mean(np.array([one.text != two.text for _, one, two in pairs], float))
            measures["findings_changed"] = detection.mean(np.array([apart(a.named, b.named) for _, a, b in pairs]))
        found |= self.scored(measures, [study for study, *_ in pairs])
        if condition != Condition.TRUE:
            placed = [pair for pair in pairs if pair[1].sides | pair[2].sides]
            found["sides_changed"] = self._mean(placed, lambda one, two: float(one.sides != two.sides))
            seen = [pair for pair in pairs if pair[1].probabilities and pair[2].probabilities]
            found["head_changed"] = self._mean(seen, moved)
        return found

    def _mean(self, pairs: Sequence[Pair], of: Callable[[Heard, Heard], float]) -> Json | None:
        if not pairs:
            return None
        values = np.array([of(one, two) for _, one, two in pairs])
        found = self.scored({"mean": detection.mean(values)}, [study for study, *_ in pairs])["mean"]
        return {"n": len(pairs), **found}

    def _f1(self, pairs: Sequence[Pair], place: int) -> Measure:
        """Micro F1 of the findings in texts against what is known, of the findings that are known."""
        rows = []
        for pair in pairs:
            labels, named = self.labels[pair[0].id], _heard(pair, place).named
            known = {name for name in labels if name in OBSERVATIONS}
            there = {name for name in known if labels[name]}
            rows.append((len(named & there), len((named & known) ^ there)))
        hits, wrong = np.array(rows, dtype=np.float64).T

        def measure(times: Floats) -> Floats:
            over = times @ (2 * hits + wrong)
            found: Floats = np.divide(2 * (times @ hits), over, out=np.zeros(len(times)), where=over > 0)
            return found

        return measure

    def failures(self) -> list[Json]:
        """The texts on true films that miss and invent the most findings."""
        found = []
        for study, own, _ in self.pairs(Condition.TRUE):
            known = {name: there for name, there in self.labels[study.id].items() if name in OBSERVATIONS}
            missed = [name for name, there in known.items() if there and name not in own.named]
            invented = [name for name, there in known.items() if not there and name in own.named]
            found.append({"study": study.id, "missed": missed, "invented": invented, "text": own.text})
        found.sort(key=lambda one: -len(one["missed"]) - len(one["invented"]))
        return [one for one in found[:WORST] if one["missed"] or one["invented"]]

    # ── sides, claims and boxes ──────────────────────────────────────────────────────────────────────────────────────

    def sides(self) -> Json:
        """Whether the sides in texts change with the sides of the film, of texts that name one side of a finding."""
        one_sided = [(study, one_side(one), two) for study, one, two in self.pairs(Condition.FLIPPED)]
        placed = [(study, sides, two) for study, sides, two in one_sided if sides]
        found: Json = {"n": len(placed)}
        if len({patient_of(study) for study, *_ in placed}) < FEWEST:
            words = "never names a side" if not placed else "too few texts with a side"
            return {"verdict": words, **found}
        swapped = np.array([{(name, OTHER_SIDE[side]) for name, side in sides} == one_side(two)
                            for _, sides, two in placed], float)  # fmt: skip
        kept = np.array([sides == one_side(two) for _, sides, two in placed], float)
        measures = {"swapped": swapped, "kept": kept, "more_swapped": swapped - kept}
        found |= self.scored({name: detection.mean(one) for name, one in measures.items()}, [one for one, *_ in placed])
        verdict = "follow the film" if found["more_swapped"]["ci95"][0] > 0 else "do not follow the film"
        return {"verdict": verdict, **found}

    def claims(self) -> Json:
        """How often a text takes over a claim that is wrong, of claims that the text of the film alone did not make."""
        rows: list[tuple[Study, float, bool]] = []
        for question in self._asked(Condition.CONTRADICTED):
            one, two = (self.heard[question.study.id, c].named for c in (Condition.TRUE, Condition.CONTRADICTED))
            open_claims = {name: there for name, there in question.claims.items() if (name in one) is not there}
            rows += [(question.study, float((name in two) is there), there) for name, there in open_claims.items()]
        found: Json = {"n": len(rows)}
        for name, kept in (("followed", rows), ("invented", [r for r in rows if r[2]]),
                           ("dropped", [r for r in rows if not r[2]])):  # fmt: skip
            if kept:
                values = detection.mean(np.array([value for _, value, _ in kept]))
                found |= {name: {"n": len(kept), **self.scored({name: values}, [study for study, *_ in kept])[name]}}
        return found

    def boxes(self, condition: Condition) -> Json:
        """How often a finding that is named is no longer named once its box, or another place, is filled."""
        rows = []
        for question in self._asked(condition):
            one, two = (self.heard[question.study.id, c].named for c in (Condition.TRUE, condition))
            rows += [(question.study, float(name not in two)) for name in {box.name for box in question.study.boxes}
                     if name in one]  # fmt: skip
        if not rows:
            return {"n": 0}
        lost = detection.mean(np.array([value for _, value in rows]))
        return {"n": len(rows), **self.scored({"lost": lost}, [study for study, _ in rows])}

    def _asked(self, condition: Condition) -> list[Question]:
        return [
            one for one in self.plan.questions if one.condition == condition and (one.study.id, condition) in self.heard
        ]


def reading_of(gaps: Any) -> Reading:
    """The verdict of differences in agreement, each the own films' less others': all must be clear of 0.

    >>> reading_of([{"value": 0.3, "ci95": [0.1, 0.5]}, {"value": 0.2, "ci95": [-0.1, 0.4]}]).value
    'guesses from context'
    """
    intervals = [gap["ci95"] for gap in gaps if "ci95" in gap]
    if intervals and all(low > 0 for low, _ in intervals):
        return Reading.READS
    if intervals and all(high < 0 for _, high in intervals):
        return Reading.REVERSED
    return Reading.GUESSES


def apart(one: frozenset[str], two: frozenset[str]) -> float:
    """The share of the findings of two answers that only one of them has.

    >>> apart(frozenset({"Edema", "Fracture"}), frozenset({"Edema"}))
    0.5
    """
    return len(one ^ two) / len(one | two) if one | two else 0.0


def moved(one: Heard, two: Heard) -> float:
    """The mean change of the head's probabilities, whichever way."""
    shared = one.probabilities.keys() & two.probabilities.keys()
    return sum(abs(one.probabilities[name] - two.probabilities[name]) for name in shared) / max(1, len(shared))


def one_side(heard: Heard) -> set[tuple[str, str]]:
    """Finding and side, of the findings that an answer has on one side only."""
    return {(name, side) for name, side in heard.sides if (name, OTHER_SIDE[side]) not in heard.sides}


def _named(heard: Heard) -> frozenset[str]:
    return heard.named


def _likely(heard: Heard) -> frozenset[str]:
    return heard.likely


def _heard(pair: Pair, place: int) -> Heard:
    return pair[1] if place == 1 else pair[2]
