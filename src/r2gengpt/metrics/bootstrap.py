"""Percentile bootstrap over studies or patients from sums of statistics. Knows no metric.

Differs from resampling texts and scoring anew only in CIDEr-D, whose document frequencies stay those of the full set.
Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13 (percentile intervals).
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from r2gengpt.metrics.ngrams import Floats, Ints

BLOCK = 4_000_000
"""Draws held in memory at once (32 MB)."""


def patient_numbers(studies: Sequence[str], patients: Mapping[str, str]) -> Ints | None:
    """Each study's patient as a number, (S,), counted from 0 in order of appearance.

    None unless every study's patient is known: a part of them says too little of which studies go together.
    """
    if not all(patients.get(study) for study in studies):
        return None
    number: dict[str, int] = {}
    return np.array([number.setdefault(patients[study], len(number)) for study in studies], dtype=np.int64)


def patient_sums(columns: Floats, patients: Ints | None) -> Floats:
    """Statistics summed over each patient's studies, (P, C); the studies' own where no patients are given."""
    if patients is None:
        return columns
    sums = np.zeros((int(patients.max()) + 1, columns.shape[1]))
    np.add.at(sums, patients, columns)
    return sums


def resampled_sums(columns: Floats, resamples: int, seed: int, patients: Ints | None = None) -> Floats:
    """Sums of statistics over studies, or over all studies of patients, drawn with replacement.

    All columns see the same draws, so systems laid side by side in `columns` are resampled in pairs; the same seed
    and number of studies give the same draws in another call. A column of ones counts the studies of each draw.

    Args:
        columns: (S, C).
        resamples: how many times S studies (P patients) are drawn.
        seed: of the draws.
        patients: each study's, (S,), from 0 to P - 1; None: studies are drawn.

    Returns:
        (resamples, C).
    """
    columns = patient_sums(columns, patients)
    sums = [times @ columns for times in drawn_times(columns.shape[0], resamples, seed)]
    return np.concatenate(sums) if sums else np.empty((0, columns.shape[1]))


def drawn_times(units: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each unit is drawn, (rows, units), in blocks of rows that together are the resamples.

    Args:
        units: how many are drawn, with replacement, from as many.
        resamples: how many times.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    block = max(1, BLOCK // units)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        draws = generator.integers(0, units, size=(rows, units))
        draws += np.arange(rows)[:, None] * units
        times = np.bincount(draws.ravel(), minlength=rows * units).reshape(rows, units)
        yield times.astype(np.float64)


def ci95(resampled: Floats) -> Floats:
    """The 2.5th and 97.5th percentile over the first axis, (2, …)."""
    return np.percentile(resampled, [2.5, 97.5], axis=0)
