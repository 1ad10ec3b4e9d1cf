"""Whether a model beats what stands beside it: one verdict of paired differences. Reads no text, measures nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from r2gengpt.metrics.measure import METRIC_WORDS
from r2gengpt.metrics.paired import Difference

CEILINGS = ("oracle_hint",)
"""Rows that know the answer: no model has to be above them."""
TEXT_ONLY = "text_only"
"""The row of what a model writes without films."""
CHANCE = 0.05
CONSTANT, NEAREST_LABELS = "constant", "nearest_labels"
IN_WORDS: Mapping[str, str] = {
    CONSTANT: "the constant report",
    "most_frequent": "the most frequent training report",
    "random_train": "random training reports",
    "nearest_image": "the report of the nearest training image",
    NEAREST_LABELS: "the report of the training study with the nearest labels",
    "texts_shuffled": "its own texts moved between studies",
    "images_shuffled": "itself with images moved between studies",
    TEXT_ONLY: "itself without films, from the context alone",
}
"""Baseline → what it is after "better than"."""


class Outcome(StrEnum):
    """How a model stands to a baseline; level: chance explains the difference; unknown: nothing was resampled."""

    WORSE = "worse"
    LEVEL = "level"
    BETTER = "better"
    UNKNOWN = "unknown"


_THAN = {Outcome.WORSE: "Worse than", Outcome.LEVEL: "Level with"}
_ORDER = tuple(Outcome)


def outcome(difference: Difference) -> Outcome:
    """What a difference, model minus baseline, tells: its interval leaves out 0 and its p is below .05, or level."""
    if difference.ci95 is None or difference.p_randomisation is None:
        return Outcome.UNKNOWN
    low, high = difference.ci95
    if difference.p_randomisation >= CHANCE or low <= 0 <= high:
        return Outcome.LEVEL
    return Outcome.BETTER if low > 0 else Outcome.WORSE


@dataclass(frozen=True)
class Verdict:
    """How a model stands to its baselines by one metric.

    Attributes:
        outcome: better than every baseline, or level with, or worse than, the one that is named.
        metric: which score tells it.
        baseline: the one that the model does worst against.
        score: the model's.
        rival: the baseline's.
        difference: the model's minus the baseline's.
        against: baseline → the same of each.
        studies: how many were scored.
        patients: how many were resampled; None: studies were.
        distinct: how many outputs differ.
        collapsed: whether they are too few.
    """

    outcome: Outcome
    metric: str
    baseline: str
    score: float
    rival: float
    difference: Difference
    against: Mapping[str, Difference]
    studies: int
    patients: int | None
    distinct: int
    collapsed: bool

    @property
    def sentence(self) -> str:
        """The verdict in one sentence: outcome, baseline, metric, both scores, difference, interval, p, studies."""
        return f"{self._head()}: {self._scores()}, on {self._studies()}."

    @property
    def why(self) -> str:
        """Why the model is not better than all baselines, in one sentence; "" where it is, or nothing was resampled."""
        if self.outcome not in _THAN:
            return ""
        above = sum(outcome(difference) is Outcome.BETTER for difference in self.against.values())
        which = ", which reads films by the model's own finding head" if self.baseline == NEAREST_LABELS else ""
        if self.outcome is Outcome.LEVEL:
            reason = f"on {self._studies()} it cannot be told from this one{which}"
        else:
            reason = f"this one{which}, is above it" if which else "this one is above it"
        head = f"Better than {above} of {len(self.against)} baselines" if above else "Better than no baseline"
        return f"{head}; {reason}."

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must not miss: a collapsed model, and one that is not above one report for all."""
        found = []
        if self.collapsed:
            outputs = "output" if self.distinct == 1 else "outputs"
            found.append(f"collapsed: {self.distinct} distinct {outputs} for {self._studies()}")
        if (known := self.against.get(CONSTANT)) is not None and outcome(known) in _THAN:
            found.append(f"{_THAN[outcome(known)].lower()} {IN_WORDS[CONSTANT]}")
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """What scores.json holds of it."""
        return {
            "sentence": self.sentence,
            "why": self.why,
            "outcome": self.outcome.value,
            "metric": self.metric,
            "baseline": self.baseline,
            "difference": self.difference.to_json(),
            "warnings": list(self.warnings),
            "against": {
                name: {"outcome": outcome(difference).value, **difference.to_json()}
                for name, difference in self.against.items()
            },
        }

    def _head(self) -> str:
        rival = baseline_in_words(self.baseline)
        if self.outcome is Outcome.BETTER:
            others = len(self.against)
            return f"Better than {rival}" if others == 1 else f"Better than all {others} baselines, the nearest {rival}"
        if self.outcome is Outcome.UNKNOWN:
            return f"No verdict, nothing was resampled; beside {rival}"
        return f"{_THAN[self.outcome]} {rival}"

    def _scores(self) -> str:
        title = METRIC_WORDS.get(self.metric, self.metric)
        words = f"{title} {self.score:.3f} against {self.rival:.3f}, difference {self.difference.value:+.3f}"
        if self.difference.ci95 is None or self.difference.p_randomisation is None:
            return words
        low, high = self.difference.ci95
        return f"{words} (95 % interval {low:+.3f} to {high:+.3f}, {p_in_words(self.difference.p_randomisation)})"

    def _studies(self) -> str:
        counted = "1 study" if self.studies == 1 else f"{self.studies} studies"
        return counted if self.patients is None else f"{counted} of {self.patients} patients"


def baseline_in_words(name: str) -> str:
    """What a row is called after "better than"."""
    return IN_WORDS.get(name, f"the row {name}")


def p_in_words(p: float) -> str:
    """A p with three decimals, or that it is smaller."""
    return "p < 0.001" if p < 0.0005 else f"p {p:.3f}"


def judge(
    metric: str,
    score: float,
    rivals: Mapping[str, float],
    against: Mapping[str, Difference],
    *,
    studies: int,
    patients: int | None,
    distinct: int,
    collapsed: bool,
) -> Verdict:
    """The verdict: better only where the model is better than every baseline, else by the one it does worst against.

    Args:
        metric: which score tells it.
        score: the model's.
        rivals: baseline → its score.
        against: baseline → the model's score minus its, at least one.
        studies: how many were scored.
        patients: how many were resampled; None: studies were.
        distinct: how many outputs differ.
        collapsed: whether they are too few.
    """
    baseline = min(against, key=lambda name: (_ORDER.index(outcome(against[name])), against[name].value))
    found = against[baseline]
    return Verdict(
        outcome(found),
        metric,
        baseline,
        score,
        rivals[baseline],
        found,
        against,
        studies,
        patients,
        distinct,
        collapsed,
    )
