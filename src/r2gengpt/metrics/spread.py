"""Mean and standard deviation of one score over several runs. Knows no run, and resamples nothing."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spread:
    """A score of several runs: their mean, and the sample's standard deviation (None: of one run there is none).

    The deviation tells how far runs of different seeds lie apart. It is no interval of the mean.
    """

    mean: float
    sd: float | None
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value.

        >>> Spread.of([0.25, 0.75]).mean, round(Spread.of([0.25, 0.75]).sd or 0, 3), Spread.of([0.5]).sd
        (0.5, 0.354, None)
        """
        sd = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), sd, tuple(values))

    def __str__(self) -> str:
        """As text: the mean ± the deviation.

        >>> str(Spread.of([0.25, 0.75])), str(Spread.of([0.5]))
        ('0.500 ± 0.354', '0.500')
        """
        return f"{self.mean:.3f}" if self.sd is None else f"{self.mean:.3f} ± {self.sd:.3f}"

    def to_json(self) -> dict[str, Any]:
        """`{"mean": …, "sd": …, "values": [..]}`."""
        return {"mean": self.mean, "sd": self.sd, "values": list(self.values)}
