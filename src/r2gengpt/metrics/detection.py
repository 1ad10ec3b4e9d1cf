"""How well values or calls tell those that have something from those that have not. Reads no text, runs no model.

A measure is a function of draws: how often each of the n is drawn, (R, n), gives R values. So each has an interval.

Sources: Hanley and McNeil 1982, "The meaning and use of the area under a receiver operating characteristic (ROC)
curve"; Davis and Goadrich 2006, "The relationship between precision-recall and ROC curves"; Brodersen et al. 2010, "The
balanced accuracy and its posterior distribution"; Brier 1950, "Verification of forecasts expressed in terms of
probability".
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from r2gengpt.metrics.bootstrap import ci95, drawn_times
from r2gengpt.metrics.ngrams import Floats, Ints
from r2gengpt.metrics.records import Score
from r2gengpt.text.observations import ALL_OBSERVATIONS

FEWEST = 5
"""Positives, and negatives, that a measure needs."""
ABSENT, PRESENT = 0.25, 0.75
"""Labels up to the one are absent, from the other on present; those between count as unknown."""

Bools = NDArray[np.bool_]
Measure = Callable[[Floats], Floats]


def decided(labels: Floats) -> Bools:
    """Where labels, 0 to 1 and NaN where unknown, are present or absent."""
    found: Bools = (labels <= ABSENT) | (labels >= PRESENT)
    return found


def enough(labels: Floats) -> bool:
    """Whether decided labels have positives and negatives enough."""
    positives = int((labels > 0.5).sum())
    return min(positives, len(labels) - positives) >= FEWEST


def numbered(groups: Iterable[object]) -> Ints:
    """Groups as numbers from 0, in order of appearance."""
    places: dict[object, int] = {}
    return np.array([places.setdefault(group, len(places)) for group in groups], dtype=np.int64)


def resampled(measures: Mapping[str, Measure], groups: Ints, resamples: int, seed: int = 0) -> dict[str, Score]:
    """Measures and their 95 % intervals, groups drawn anew; draws in which one has no value are left out.

    Args:
        measures: by name; of draws, (R, n) to (R,), NaN where there is no value.
        groups: (n,), whose each is, numbered from 0; drawn together.
        resamples: how many draws; 0, or one group only: no intervals.
        seed: of the draws.
    """
    values: dict[str, list[Floats]] = {name: [] for name in measures}
    for times in drawn_times(int(groups.max()) + 1, resamples if groups.any() else 0, seed):
        for name, measure in measures.items():
            values[name].append(measure(times[:, groups]))
    once = np.ones((1, len(groups)))
    return {
        name: Score(float(measure(once)[0]), interval(np.concatenate([np.empty(0), *values[name]])))
        for name, measure in measures.items()
    }


def interval(values: Floats) -> tuple[float, float] | None:
    """The 95 % interval of draws, those left out that are NaN; None where fewer than two are left."""
    found = values[~np.isnan(values)]
    if len(found) < 2:
        return None
    low, high = ci95(found)
    return float(low), float(high)


def area(labels: Floats, values: Floats) -> float:
    """Area under the ROC curve: how often a positive has the higher value; ties count half.

    Args:
        labels: (n,), above a half where positive; both kinds are there.
        values: (n,).
    """
    return float(areas(labels > 0.5, values)(np.ones((1, len(labels))))[0])


def areas(truth: Bools, values: Floats) -> Measure:
    """The area under the ROC curve, of which (n,) are positive and their values, (n,)."""

    def measure(times: Floats) -> Floats:
        positives, negatives = _by_value(truth, values, times)
        ranks = np.cumsum(negatives, axis=1) - negatives / 2
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        return _share((positives * ranks).sum(axis=1), pairs)

    return measure


def precisions(truth: Bools, values: Floats) -> Measure:
    """The average precision: that at each value, weighted by the positives that have it. Arguments as `areas`."""

    def measure(times: Floats) -> Floats:
        positives, negatives = (kind[:, ::-1] for kind in _by_value(truth, values, times))
        hits = np.cumsum(positives, axis=1)
        called = hits + np.cumsum(negatives, axis=1)
        there = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
        return _share((positives * there).sum(axis=1), hits[:, -1])

    return measure


def _by_value(truth: Bools, values: Floats, times: Floats) -> tuple[Floats, Floats]:
    """How many positives and negatives of each draw have each value, smallest first: two of (R, V)."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(values[order]) != 0))
    ordered = times[:, order]
    positives, negatives = (np.add.reduceat(ordered * kind[order], starts, axis=1) for kind in (truth, ~truth))
    return positives, negatives


def shares(called: Bools, of: Bools) -> Measure:
    """The share of some, (n,), that are called so, (n,): sensitivity of positives, specificity of negatives."""
    return lambda times: _share(times @ (called & of).astype(float), times @ of.astype(float))


def balanced(called: Bools, truth: Bools) -> Measure:
    """The balanced accuracy of calls, (n,): the mean of sensitivity and specificity."""
    sensitivity, specificity = shares(called, truth), shares(~called, ~truth)
    return lambda times: (sensitivity(times) + specificity(times)) / 2


def mean(values: Floats) -> Measure:
    """The mean of values, (n,)."""
    return lambda times: _share(times @ values, times.sum(axis=1))


def mean_of(measures: Sequence[tuple[Bools, Measure]]) -> Measure:
    """The mean of several measures, each of the ones that are kept of the n, (n,); no value where one has none."""

    def measure(times: Floats) -> Floats:
        total: Floats = np.sum([one(times[:, kept]) for kept, one in measures], axis=0) / len(measures)
        return total

    return measure


def _share(part: Floats, whole: Floats) -> Floats:
    """Part over whole, NaN where there is none."""
    found: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return found


def moved(called: Bools, truth: Bools, sources: Sequence[str], times: int, seed: int = 0) -> Score:
    """The mean balanced accuracy, and where 95 % of it lie, when calls are moved among the studies of their source.

    Args:
        called: (n,).
        truth: (n,), both kinds are there.
        sources: (n,).
        times: how often they are moved.
        seed: of the moves.
    """
    generator, whose = np.random.default_rng(seed), np.asarray(sources)
    rows = np.tile(called, (times, 1))
    for source in dict.fromkeys(sources):
        rows[:, whose == source] = generator.permuted(rows[:, whose == source], axis=1)
    values = (rows[:, truth].mean(axis=1) + (~rows[:, ~truth]).mean(axis=1)) / 2
    return Score(float(values.mean()), interval(values))


def areas_by_source(labels: Floats, values: Floats, sources: Sequence[str]) -> dict[tuple[str, str], float]:
    """The area of each observation within each source that has positives and negatives enough.

    Args:
        labels: (n, O), O all observations; NaN where unknown.
        values: (n, O).
        sources: of each of the n.
    """
    found, whose = {}, np.asarray(sources)
    for source in dict.fromkeys(sources):
        for at, name in enumerate(ALL_OBSERVATIONS):
            kept = (whose == source) & decided(labels[:, at])
            if enough(labels[kept, at]):
                found[source, name] = area(labels[kept, at], values[kept, at])
    return found
