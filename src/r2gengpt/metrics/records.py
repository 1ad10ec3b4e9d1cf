"""What scoring gives: values with intervals, baseline rows, and what a reader must know. Scores nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from r2gengpt.metrics.families import Family
from r2gengpt.metrics.ngrams import Floats
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
    the train split word for word (None: train split not given).
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
    verbatim_in_train: float | None
    not_available: Mapping[str, str]
    notes: tuple[str, ...]
    resamples: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """The content of scores.json."""
        return {
            "signature": str(self.signature),
            "n": len(self.ids),
            "metrics": _metrics_json(self.metrics),
            "baselines": {
                name: {"text": row.text, "metrics": _metrics_json(row.metrics)} for name, row in self.baselines.items()
            },
            "outputs": {"distinct": self.distinct, "commonest_share": self.commonest_share},
            "references_verbatim_in_train": self.verbatim_in_train,
            "not_available": dict(self.not_available),
            "notes": list(self.notes),
            "bootstrap": {"resamples": self.resamples, "seed": self.seed},
        }


def _metrics_json(metrics: Mapping[str, Score]) -> dict[str, Any]:
    return {name: score.to_json() for name, score in metrics.items()}
