"""How far confidence can be relied on: a fitted logistic, reliability, risk and coverage. Reads no text.

The fit is Platt scaling of a mean log-probability: confidence = 1 / (1 + exp(-(temperature · logprob + bias))), with a
temperature of 0 or more: where likelier sentences are not more often right, all get the same confidence.

Sources: Platt 1999, "Probabilistic outputs for support vector machines" (the fit and its softened targets); Guo et al.
2017, "On calibration of modern neural networks", section 2 (expected calibration error); Geifman and El-Yaniv 2017,
"Selective classification for deep neural networks" (risk and coverage).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2gengpt.metrics.bootstrap import ci95, resampled_sums
from r2gengpt.metrics.ngrams import Floats, Ints
from r2gengpt.metrics.records import Score

BINS = 10
POINTS = 100
"""Most points of a risk–coverage curve in a file."""


@dataclass(frozen=True)
class Judged:
    """n sentences: their mean log-probability, whether each is right (1, 0), and the study or patient it is of.

    All (n,); `groups` are numbers from 0 to `count` - 1, of which some may have no sentence.
    """

    logprobs: Floats
    correct: Floats
    groups: Ints
    count: int

    def __len__(self) -> int:
        return len(self.logprobs)

    def only(self, kept: NDArray[np.bool_]) -> "Judged":
        """Those of the sentences that are kept, (n,)."""
        return Judged(self.logprobs[kept], self.correct[kept], self.groups[kept], self.count)


def probability(logprobs: Floats, temperature: float, bias: float) -> Floats:
    """The confidence of sentences, (n,), from their mean log-probability."""
    scaled: Floats = np.clip(temperature * logprobs + bias, -700.0, 700.0)  # beyond that exp overflows
    return 1.0 / (1.0 + np.exp(-scaled))


def fit(logprobs: Floats, correct: Floats) -> tuple[float, float]:
    """Temperature, at least 0, and bias by maximum likelihood.

    As in Platt 1999 the targets are (r + 1) / (r + 2) for the r right ones and 1 / (w + 2) for the w wrong ones, so
    that the numbers stay finite where the two are told apart without a fault, or only one kind is there.

    Args:
        logprobs: (n,), n at least 1.
        correct: (n,), 1 or 0.
    """
    right, wrong = float(correct.sum()), float((1.0 - correct).sum())
    targets = np.where(correct > 0, (right + 1) / (right + 2), 1 / (wrong + 2))
    middle, scale = float(logprobs.mean()), float(logprobs.std()) or 1.0
    columns = np.stack([(logprobs - middle) / scale, np.ones_like(logprobs)], axis=1)
    weights, _ = logistic(columns, targets, np.array([0.0, np.log((right + 1) / (wrong + 1))]), np.full(2, 1e-12))
    if weights[0] <= 0:  # the best at temperature 0 is the targets' mean for all
        share = float(targets.mean())
        return 0.0, float(np.log(share / (1 - share)))
    return float(weights[0] / scale), float(weights[1] - weights[0] * middle / scale)


def logistic(columns: Floats, targets: Floats, prior: Floats, ridge: Floats) -> tuple[Floats, Floats]:
    """Weights of a logistic regression by Newton's method, (C,), and the curvature of its loss there, (C, C).

    A step that makes the fit worse is halved: where columns lie far from 0, whole steps would swing ever wider.

    Args:
        columns: (n, C).
        targets: (n,), 0 to 1.
        prior: (C,), where the weights begin, and what they are held at.
        ridge: (C,), how firmly they are held.
    """
    weights, pull = prior, np.diag(ridge)

    def loss(weights: Floats) -> float:
        scaled, apart = columns @ weights, weights - prior
        return float(np.sum(np.logaddexp(0.0, scaled) - targets * scaled) + apart @ pull @ apart / 2)

    for _ in range(100):
        shares = probability(columns @ weights, 1.0, 0.0)
        curve = (columns * (shares * (1 - shares))[:, None]).T @ columns + pull
        step = np.linalg.solve(curve, columns.T @ (targets - shares) - pull @ (weights - prior))
        most = loss(weights) + 1e-9
        while loss(weights + step) > most:
            step = step / 2
        weights = weights + step
        if np.abs(step).max() < 1e-9:
            break
    return weights, curve


def bin_columns(confidence: Floats, correct: Floats, groups: Ints, count: int) -> Floats:
    """Of each group and each of `BINS` equal bins the sentences, their confidence, the right ones: (count, 3 · BINS).

    A bin holds its lower edge; the last one holds 1 too.
    """
    places = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    sums = np.zeros((count, 3, BINS))
    for number, values in enumerate((np.ones_like(confidence), confidence, correct)):
        np.add.at(sums[:, number], (groups, places), values)
    return sums.reshape(count, 3 * BINS)


def calibration_error(sums: Floats) -> Floats:
    """The expected calibration error, (…), of columns summed over groups, (…, 3 · BINS); 0 of no sentence."""
    counts, confidence, correct = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, BINS), -2, 0)
    total: Floats = np.abs(correct - confidence).sum(axis=-1) / np.maximum(counts.sum(axis=-1), 1.0)
    return total


def calibration_score(confidence: Floats, judged: Judged, resamples: int, seed: int) -> Score:
    """The expected calibration error with its interval over resampled groups; none with one group or no resamples."""
    columns = bin_columns(confidence, judged.correct, judged.groups, judged.count)
    value = float(calibration_error(columns.sum(axis=0)))
    if judged.count < 2 or not resamples:
        return Score(value)
    low, high = ci95(calibration_error(resampled_sums(columns, resamples, seed)))
    return Score(value, (float(low), float(high)))


def reliability(confidence: Floats, correct: Floats) -> list[dict[str, Any]]:
    """The bins of a reliability diagram: edges, sentences, mean confidence and share right (None in an empty bin)."""
    sums = bin_columns(confidence, correct, np.zeros(len(confidence), dtype=np.int64), 1)
    rows = sums.reshape(3, BINS).T
    return [
        {
            "low": number / BINS,
            "high": (number + 1) / BINS,
            "count": int(count),
            "confidence": float(total / count) if count else None,
            "accuracy": float(right / count) if count else None,
        }
        for number, (count, total, right) in enumerate(rows)
    ]


def risks(confidence: Floats, correct: Floats) -> tuple[Floats, Floats]:
    """Coverage and risk after each level of confidence, both (levels,), the most confident sentences first.

    Sentences of equal confidence are kept or left out together. The last coverage is 1.
    """
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(1.0 - correct[order])
    last = np.append(np.diff(confidence[order]) != 0, True)
    kept = np.arange(1, len(order) + 1)[last]
    return kept / len(order), wrong[last] / kept


def risk_coverage(confidence: Floats, correct: Floats) -> list[dict[str, float]]:
    """The curve as at most `POINTS` points, evenly taken, the last one at full coverage."""
    coverage, risk = risks(confidence, correct)
    places: Sequence[int] = np.unique(np.linspace(0, len(risk) - 1, POINTS).round().astype(int)).tolist()
    return [{"coverage": float(coverage[place]), "risk": float(risk[place])} for place in places]


def area_under_risk(confidence: Floats, correct: Floats) -> float:
    """The mean over all sentences of the risk at the coverage that keeps them; the whole curve, not its points."""
    coverage, risk = risks(confidence, correct)
    return float(np.sum(np.diff(coverage, prepend=0.0) * risk))
