"""What a sampled report is worth against its study, by the rule labeller. Samples nothing, and loads no PyTorch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from r2gengpt.config import ReinforceConfig
from r2gengpt.data.study import Study
from r2gengpt.metrics.labels.places import located
from r2gengpt.metrics.labels.reading import named_in
from r2gengpt.text.observations import OBSERVATIONS

"""Labels that count as there, as in `clinical_f1`."""
NGRAM = 4
"""Words of what counts as repeated."""


@dataclass(frozen=True)
class Target:
    """What a study's report should say.

    Attributes:
        known: observations of CheXpert's 14 that count; of a reference text all.
        present: those of them that are there.
        sides: observation → left, right or both, where the reference names a side.
        reference: the reference text; empty: there is none.
        patient: whose study it is; empty: unknown.
    """

    known: frozenset[str]
    present: frozenset[str]
    sides: Mapping[str, frozenset[str]] = field(default_factory=dict)
    reference: str = ""
    patient: str = ""


def target_of(study: Study) -> Target:
    """The target of a study: what its reference says, or its labels where it has no reference.

    A label of at least .5 is there. An observation without a label counts on neither side.
    """
    if study.report.strip():
        sides = {name: where.sides for name, where in located(study.report).items() if where.sides}
        return Target(frozenset(OBSERVATIONS), frozenset(named_in(study.report)), sides, study.report, study.patient)
    known = {name: value for name, value in study.labels.items() if name in OBSERVATIONS}
    return Target(
        frozenset(known), frozenset(name for name, value in known.items() if value >= 0.5), patient=study.patient
    )


@dataclass(frozen=True)
class LabelCounts:
    """True positives, false positives and misses."""

    hits: int
    wrong: int
    missed: int

    @property
    def f1(self) -> float:
        """F1; 1 where there was nothing to find and nothing was found.

        >>> LabelCounts(hits=1, wrong=1, missed=0).f1
        0.6666666666666666
        """
        total = 2 * self.hits + self.wrong + self.missed
        return 2 * self.hits / total if total else 1.0


@dataclass(frozen=True)
class Reward:
    """A report's reward in its parts, each from 0 to 1; `total` is their weighted sum."""

    labels: float
    sides: float
    repetition: float
    total: float


def label_counts(text: str, target: Target) -> LabelCounts:
    """How a text's labels agree with the target's. An empty text asserts nothing, though CheXpert calls it normal."""
    found = target.known.intersection(named_in(text)) if text.strip() else frozenset()
    hits = len(found & target.present)
    return LabelCounts(hits, len(found) - hits, len(target.present) - hits)


def side_counts(text: str, target: Target) -> LabelCounts:
    """How a text's sides agree with the reference's, over the observations whose side the reference names."""
    found = located(text)
    wanted = {(name, side) for name, sides in target.sides.items() for side in sides}
    said = {(name, side) for name in target.sides if name in found for side in found[name].sides}
    return LabelCounts(len(said & wanted), len(said - wanted), len(wanted - said))


def repetition(text: str) -> float:
    """The share of a text's 4-grams that stood in it before.

    >>> repetition("no acute disease seen no acute disease seen")
    0.2
    """
    words = text.lower().split()
    grams = [tuple(words[at : at + NGRAM]) for at in range(len(words) - NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def reward_of(text: str, target: Target, weights: ReinforceConfig) -> Reward:
    """The reward of a text: the weighted F1 of labels and of sides, less weighted repetition.

    An empty text has no F1 but 0. Sides count 0 where the reference names none: they then favour no sample.
    """
    labels = label_counts(text, target).f1 if text.strip() else 0.0
    sides = side_counts(text, target).f1 if target.sides else 0.0
    again = repetition(text)
    total = weights.reward_labels * labels + weights.reward_sides * sides - weights.reward_repetition * again
    return Reward(labels, sides, again, total)
