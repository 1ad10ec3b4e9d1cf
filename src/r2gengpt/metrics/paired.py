"""Whether two systems' scores on the same studies differ by more than chance. Reads no texts; knows no metric.

Sources: Koehn 2004, Statistical significance tests for machine translation evaluation (paired bootstrap); Riezler and
Maxwell 2005, On some pitfalls in automatic evaluation and significance testing for MT (approximate randomisation, and
why its p is the safer one).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from r2gengpt.metrics.bootstrap import BLOCK, ci95, patient_sums, resampled_sums
from r2gengpt.metrics.families import MetricFamily
from r2gengpt.metrics.measure import metric_names, scores_of
from r2gengpt.metrics.ngrams import Floats, Ints

ROUNDING = 1e-10
"""Two differences of scores that are this near are equal: sums taken in another order differ by less than 1e-12."""


@dataclass(frozen=True)
class Difference:
    """The second system's score minus the first's.

    Attributes:
        value: on all studies.
        ci95: percentile interval of it over paired resamples; None: not resampled.
        p_bootstrap: twice the share of resamples on the rarer side of 0; about .05 where an end of `ci95` is 0.
        p_randomisation: the share of random swaps of the two systems' outputs, study by study (patient by patient),
            after which the scores differ by at least as much. 1 for identical outputs.
    """

    value: float
    ci95: tuple[float, float] | None = None
    p_bootstrap: float | None = None
    p_randomisation: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The four values, without those that were not computed."""
        interval = None if self.ci95 is None else list(self.ci95)
        values = {
            "value": self.value,
            "ci95": interval,
            "p_bootstrap": self.p_bootstrap,
            "p_randomisation": self.p_randomisation,
        }
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Resampling:
    """What is drawn of studies, or of patients with all their studies.

    Attributes:
        resamples: of the paired bootstrap; 0: no interval and no p of it.
        swaps: of the approximate randomisation; 0: none.
        seed: of both.
        patients: each study's patient number, (S,): drawn and swapped with all studies; None: study by study.
    """

    resamples: int
    swaps: int
    seed: int
    patients: Ints | None = None

    def units(self, studies: int) -> int:
        """How many there are to draw from."""
        return studies if self.patients_drawn is None else self.patients_drawn

    @property
    def patients_drawn(self) -> int | None:
        """How many patients are drawn; None: studies are."""
        return None if self.patients is None else int(self.patients.max()) + 1


def metric_difference(
    metric: str, first: Floats, second: Floats, families: Sequence[MetricFamily], draws: Resampling
) -> Difference:
    """One metric's difference, second minus first, from the columns of its family alone."""
    ends = np.cumsum([family.columns for family in families])
    place = next(i for i, family in enumerate(families) if metric in family.metrics)
    some = slice(int(ends[place]) - families[place].columns, int(ends[place]))
    return differences(first[:, some], second[:, some], (families[place],), draws)[metric]


def differences(
    first: Floats, second: Floats, families: Sequence[MetricFamily], draws: Resampling
) -> Mapping[str, Difference]:
    """Every corpus score's difference, second minus first.

    Both tests add one to what they count, in numerator and denominator, so no p is 0.

    Args:
        first: statistics of one system, (S, C), as `measure` gives them.
        second: of the other one, the same studies in the same order.
        families: those measured.
        draws: by which chance is told.
    """
    studies = first.shape[0]
    sums = np.stack([first.sum(axis=0), second.sum(axis=0)])
    values = np.subtract(*scores_of(sums, studies, families)[::-1])
    found: list[dict[str, Any]] = [{"value": float(value)} for value in values]
    some = draws.units(studies) > 1
    if some and draws.resamples:
        drawn = _drawn_differences(first, second, families, draws)
        rarer = np.minimum((drawn <= ROUNDING).sum(axis=0), (drawn >= -ROUNDING).sum(axis=0))
        tails = np.minimum(1.0, 2 * (rarer + 1) / (draws.resamples + 1))
        for entry, low, high, p in zip(found, *ci95(drawn), tails, strict=True):
            entry |= {"ci95": (float(low), float(high)), "p_bootstrap": float(p)}
    if some and draws.swaps:
        swapped = _swapped_differences(first, second, families, draws)
        as_far = (swapped >= np.abs(values) - ROUNDING).sum(axis=0)
        for entry, count in zip(found, as_far, strict=True):
            entry["p_randomisation"] = float((count + 1) / (draws.swaps + 1))
    return {name: Difference(**entry) for name, entry in zip(metric_names(families), found, strict=True)}


def _drawn_differences(first: Floats, second: Floats, families: Sequence[MetricFamily], draws: Resampling) -> Floats:
    """Differences of scores on resampled studies, the same draws for both systems, (resamples, M)."""
    columns = np.column_stack([np.ones(first.shape[0]), first, second])
    sums = resampled_sums(columns, draws.resamples, draws.seed, draws.patients)
    counts, width = sums[:, 0], first.shape[1]
    one, other = sums[:, 1 : 1 + width], sums[:, 1 + width :]
    return scores_of(other, counts, families) - scores_of(one, counts, families)


def _swapped_differences(first: Floats, second: Floats, families: Sequence[MetricFamily], draws: Resampling) -> Floats:
    """Sizes of the differences after each unit's outputs changed sides with probability 1/2, (swaps, M)."""
    studies, whole = first.shape[0], first.sum(axis=0) + second.sum(axis=0)
    apart = patient_sums(second - first, draws.patients)
    generator = np.random.default_rng(draws.seed)
    block, found = max(1, BLOCK // apart.shape[0]), []
    for start in range(0, draws.swaps, block):
        sides = generator.integers(0, 2, size=(min(block, draws.swaps - start), apart.shape[0]))
        one = first.sum(axis=0) + sides.astype(np.float64) @ apart
        found.append(np.abs(scores_of(whole - one, studies, families) - scores_of(one, studies, families)))
    return np.concatenate(found)
