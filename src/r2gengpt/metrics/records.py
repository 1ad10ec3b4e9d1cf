"""What scoring gives: values with intervals, baseline rows, and what a reader must know. Scores nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from r2gengpt.metrics.families import Family, family_details, shown_names
from r2gengpt.metrics.ngrams import Floats
from r2gengpt.metrics.paired import Difference
from r2gengpt.metrics.signature import Signature


@dataclass(frozen=True)
class Score:
    """A metric's value and its 95 % interval (None: not resampled, or one study)."""

    value: float
    ci95: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """`{"value": …, "ci95": [low, high]}`, without the interval where there is none."""
        return {"value": self.value} | ({} if self.ci95 is None else {"ci95": list(self.ci95)})


@dataclass(frozen=True)
class Row:
    """A baseline: what its texts are, and its scores by metric."""

    text: str
    metrics: Mapping[str, Score]


@dataclass(frozen=True)
class Scores:
    """The scores of one set of predictions.

    `per_study` holds for each metric an array in the order of `ids`; `columns` (S, C) are the statistics of `families`,
    which comparing needs. `distinct` counts different outputs,
    `commonest_share` is the share of the commonest one; `verbatim_in_train` the share of studies whose reference is in
    the train split word for word (None: train split not given). `grounding_gap` is each score minus the score with the
    images shuffled between studies (None: the model did not write for shuffled images); `patients` is how many were
    resampled (None: studies were). `confidence` is what is known of the sentences' confidence, as scores.json has it.
    """

    signature: Signature
    ids: tuple[str, ...]
    metrics: Mapping[str, Score]
    per_study: Mapping[str, Floats] = field(repr=False)
    families: tuple[Family, ...] = field(repr=False)
    columns: Floats = field(repr=False)
    baselines: Mapping[str, Row]
    distinct: int
    commonest_share: float
    collapsed: bool
    verbatim_in_train: float | None
    not_available: Mapping[str, str]
    grounding_gap: Mapping[str, Difference] | None
    notes: tuple[str, ...]
    resamples: int
    seed: int
    patients: int | None = None
    confidence: Mapping[str, Any] | None = None

    @property
    def shown(self) -> tuple[str, ...]:
        """The metrics that tables show."""
        return shown_names(self.families)

    def to_json(self) -> dict[str, Any]:
        """The content of scores.json."""
        return {
            "signature": str(self.signature),
            "n": len(self.ids),
            "metrics": _metrics_json(self.metrics),
            "baselines": {
                name: {"text": row.text, "metrics": _metrics_json(row.metrics)} for name, row in self.baselines.items()
            },
            "grounding_gap": (
                None
                if self.grounding_gap is None
                else {name: gap.to_json() for name, gap in self.grounding_gap.items()}
            ),
            **family_details(self.families, self.columns.sum(axis=0)),
            "outputs": {
                "distinct": self.distinct,
                "commonest_share": self.commonest_share,
                "collapsed": self.collapsed,
            },
            "confidence": None if self.confidence is None else dict(self.confidence),
            "references_verbatim_in_train": self.verbatim_in_train,
            "not_available": dict(self.not_available),
            "notes": list(self.notes),
            "bootstrap": {
                "resamples": self.resamples,
                "seed": self.seed,
                "by": "study" if self.patients is None else "patient",
                "patients": self.patients,
            },
        }


def _metrics_json(metrics: Mapping[str, Score]) -> dict[str, Any]:
    return {name: score.to_json() for name, score in metrics.items()}
