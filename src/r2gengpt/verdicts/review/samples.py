"""Two samples beside each other: population stability index, two-sample tests, Holm's correction. Knows no drafts.

A permutation test draws which sample each value belongs to, so it keeps its level for rare values too.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
DRAWS = 9999
"""Permutations of a test; the least p is 1 / (DRAWS + 1)."""
A_BIN = 20
"""Values of the smaller sample for each bin of numbers."""
MOST_BINS = 10
AT_ONCE = 4_000_000
"""Numbers that are drawn at once."""


def stability_index(ours: Sequence[int], theirs: Sequence[int]) -> float:
    """The population stability index of two counts of the same bins, half a value added to each bin.

    Source: Siddiqi 2006, "Credit Risk Scorecards", chapter 8: sum of (q - p) ln(q / p).

    >>> round(stability_index([50, 50], [50, 50]), 3), round(stability_index([90, 10], [50, 50]), 2)
    (0.0, 0.85)
    """
    first, second = (np.asarray(counts, dtype=np.float64) + 0.5 for counts in (ours, theirs))
    first, second = first / first.sum(), second / second.sum()
    return float(((second - first) * np.log(second / first)).sum())


def binned(ours: Floats, theirs: Floats) -> tuple[list[int], list[int]]:
    """Counts of numbers in bins that hold equal shares of `ours`: a bin for each `A_BIN` values, 2 to `MOST_BINS`.

    A value that makes up a bin's share by itself has a bin of its own, so that what lies below it shows.
    """
    bins = max(2, min(MOST_BINS, min(len(ours), len(theirs)) // A_BIN))
    edges = np.unique(np.quantile(ours, np.arange(1, bins) / bins))
    alone = [edge for edge in edges if np.count_nonzero(ours == edge) * bins >= len(ours)]
    edges = np.union1d(edges, np.nextafter(alone, -np.inf))
    first, second = (np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
                     for values in (ours, theirs))  # fmt: skip
    return first.tolist(), second.tolist()


def kolmogorov_smirnov(ours: Floats, theirs: Floats) -> float:
    """p of the two-sample Kolmogorov-Smirnov test, by its limit; too large where values are tied.

    Source: Stephens 1970, "Use of the Kolmogorov-Smirnov ... statistics without extensive tables", JRSS B 32.
    """
    first, second = np.sort(ours), np.sort(theirs)
    both = np.concatenate([first, second])
    shares = [np.searchsorted(one, both, side="right") / len(one) for one in (first, second)]
    distance = float(np.abs(shares[0] - shares[1]).max())
    size = math.sqrt(len(first) * len(second) / (len(first) + len(second)))
    reach = (size + 0.12 + 0.11 / size) * distance
    if reach < 0.2:
        return 1.0  # the series below converges slowly there, and is 1 to twelve digits
    terms = [2.0 * (1 if k % 2 else -1) * math.exp(-2 * k * k * reach * reach) for k in range(1, 101)]
    return min(1.0, max(0.0, math.fsum(terms)))


def chi_square_by_draws(ours: Sequence[int], theirs: Sequence[int], seed: int = 0) -> float:
    """p of Pearson's chi-square of two counts of the same kinds, by `DRAWS` permutations with these totals."""
    counts = np.asarray([ours, theirs], dtype=np.int64)
    counts = counts[:, counts.sum(axis=0) > 0]
    size, totals = int(counts[0].sum()), counts.sum(axis=0)
    if len(totals) < 2 or not size or size == totals.sum():
        return 1.0
    random = np.random.default_rng(seed)
    seen, above, left = _chi_square(counts[:1], totals)[0], 0, DRAWS
    while left:
        some = min(left, max(1, AT_ONCE // len(totals)))
        drawn = random.multivariate_hypergeometric(totals, size, size=some)
        above += int((_chi_square(drawn, totals) >= seen * (1 - 1e-12)).sum())
        left -= some
    return (above + 1) / (DRAWS + 1)


def _chi_square(first: Ints, totals: Ints) -> Floats:
    """Pearson's statistic of each row against what is left of the totals, (R,) of (R, K) and (K,)."""
    share = first.sum(axis=1, keepdims=True) / totals.sum()
    off = first - share * totals
    found: Floats = (off * off / totals).sum(axis=1) / (share * (1 - share))[:, 0]
    return found


def distinct_of(counts: Ints, size: int) -> float:
    """The distinct kinds that so many values have, drawn from these counts without return, on average.

    Source: Hurlbert 1971, "The nonconcept of species diversity", Ecology 52 (rarefaction).
    """
    total = int(counts.sum())
    ways = _log_ways(total, size)
    absent = [math.exp(_log_ways(total - int(n), size) - ways) if total - n >= size else 0.0 for n in counts]
    return len(counts) - sum(absent)


def _log_ways(of: int, size: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(size + 1) - math.lgamma(of - size + 1)


def repeats_by_draws(ours: Sequence[str], theirs: Sequence[str], draws: int = 999, seed: int = 0) -> float:
    """p of the difference in how often two values of one sample are equal, by permutations."""
    _, kinds = np.unique(np.asarray([*ours, *theirs]), return_inverse=True)
    random, size = np.random.default_rng(seed), len(ours)

    def difference(of: Ints) -> float:
        first, second = _repeated(of[:size]), _repeated(of[size:])
        return abs(first - second)

    seen = difference(kinds)
    above = sum(difference(random.permutation(kinds)) >= seen * (1 - 1e-12) for _ in range(draws))
    return (above + 1) / (draws + 1)


def _repeated(kinds: Ints) -> float:
    """The chance that two values are equal, drawn without return."""
    counts, size = np.bincount(kinds), len(kinds)
    return float((counts * (counts - 1)).sum()) / (size * (size - 1))


def holm(chances: Sequence[float]) -> list[float]:
    """The p of several tests at once, made larger so that all of them together keep the level.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(chances)), key=lambda at: chances[at])
    found, reached = [0.0] * len(chances), 0.0
    for rank, at in enumerate(order):
        reached = max(reached, min(1.0, (len(chances) - rank) * chances[at]))
        found[at] = reached
    return found
