"""Percentile bootstrap over studies from sums of statistics. Knows no metric.

Differs from resampling texts and scoring anew only in CIDEr-D, whose document frequencies stay those of the full set.
"""

import numpy as np

from r2gengpt.metrics.ngrams import Floats

BLOCK = 4_000_000
"""Draws held in memory at once (32 MB)."""


def resampled_sums(columns: Floats, resamples: int, seed: int) -> Floats:
    """Sums of statistics over studies drawn with replacement.

    All columns see the same draws, so systems laid side by side in `columns` are resampled in pairs; the same seed
    and number of studies give the same draws in another call.

    Args:
        columns: (S, C).
        resamples: how many times S studies are drawn.
        seed: of the draws.

    Returns:
        (resamples, C).
    """
    studies = columns.shape[0]
    generator = np.random.default_rng(seed)
    block = max(1, BLOCK // studies)
    sums = np.empty((resamples, columns.shape[1]))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        draws = generator.integers(0, studies, size=(rows, studies))
        draws += np.arange(rows)[:, None] * studies
        times = np.bincount(draws.ravel(), minlength=rows * studies).reshape(rows, studies)
        sums[start : start + rows] = times.astype(np.float64) @ columns
    return sums


def ci95(resampled: Floats) -> Floats:
    """The 2.5th and 97.5th percentile over the first axis, (2, …)."""
    return np.percentile(resampled, [2.5, 97.5], axis=0)
