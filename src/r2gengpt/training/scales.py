"""The scales of a finding head, fitted to its logits on the validation split. Runs no model, writes no file."""

import math
from collections.abc import Sequence

import numpy as np

from r2gengpt.confidence.findings import Scale
from r2gengpt.metrics import calibration
from r2gengpt.metrics.detection import FEWEST, areas, decided, numbered, resampled
from r2gengpt.metrics.ngrams import Floats
from r2gengpt.text.observations import ALL_OBSERVATIONS, CHILD, NO_FINDING

CHANCE = 0.55
"""An observation is assessed where the lower end of its area under the curve's interval is above this."""
MISSED = 0.1
"""Share of validation positives that `UNLIKELY` may hold, at most."""
RIDGE = 1.0, 1e-3
"""Weights of the priors that slope and intercept stay as they are: few positives then move the slope little.

Next to none lies on the intercept: it follows the share of positives, whatever that was in training.
"""


def fit_scale(
    name: str,
    labels: Floats,
    logits: Floats,
    groups: Sequence[str],
    *,
    children: Floats | None = None,
    resamples: int = 200,
) -> Scale:
    """The scale of one observation.

    Args:
        name: the observation's.
        labels: (n,), 0 to 1, NaN where unknown; between .25 and .75 counts as unknown too.
        logits: (n,).
        groups: whose study each is, drawn together.
        children: (n,), whether each is of a child, 0 to 1, NaN where unknown.
        resamples: of the interval of the area.
    """
    known = decided(labels)
    truth, seen, whose = labels[known] > 0.5, logits[known], numbered(np.asarray(groups)[known].tolist())
    p, n = int(truth.sum()), int((~truth).sum())
    young = None if children is None or np.isnan(children).all() else int((truth & (children[known] > 0.5)).sum())
    if min(p, n) < FEWEST:
        return Scale(name, positives=p, negatives=n, children=young)
    found = resampled({"auc": areas(truth, seen)}, whose, resamples)["auc"]
    low, high = found.ci95 or (0.0, 1.0)
    slope, intercept, variance = logistic(seen, truth.astype(float))
    chances = 1 / (1 + np.exp(-np.clip(slope * seen + intercept, -30, 30)))
    best = balanced(slope, intercept, p / (p + n)) if name == NO_FINDING else highest_f1(seen, chances)
    return Scale(
        name,
        slope,
        intercept,
        variance,
        likely=best,
        unlikely=min(best, float(np.quantile(seen[truth], MISSED, method="lower"))),
        positives=p,
        negatives=n,
        auc=found.value,
        auc_ci95=(low, high),
        assessed=low > CHANCE and slope > 0,
        children=young,
    )


def logistic(logits: Floats, truth: Floats) -> tuple[float, float, tuple[float, float, float]]:
    """Slope, intercept and their covariance of a logistic regression with `RIDGE` about (1, 0).

    Source: Platt 1999, "Probabilistic outputs for support vector machines".
    """
    columns = np.stack([logits, np.ones_like(logits)], 1)
    beta, curve = calibration.logistic(columns, truth, np.array([1.0, 0.0]), np.array(RIDGE))
    covariance = np.linalg.inv(curve)
    return float(beta[0]), float(beta[1]), (float(covariance[0, 0]), float(covariance[0, 1]), float(covariance[1, 1]))


def balanced(slope: float, intercept: float, share: float) -> float:
    """The logit at which a film is called as often rightly where it shows something as where it does not.

    There the probability is the share of positives. A threshold searched among few films follows their noise.

    Args:
        slope: of the scale.
        intercept: of the scale.
        share: of positives among the films that both were fitted to, above 0 and below 1.
    """
    return (math.log(share / (1 - share)) - intercept) / slope if slope > 0 else 0.0


def highest_f1(logits: Floats, chances: Floats) -> float:
    """The threshold whose F1 is the highest that is expected by the films' probabilities, (n,) each; midway.

    Source: Lipton et al. 2014, "Optimal thresholding of classifiers to maximize F1" (arXiv 1402.1892).
    """
    order = np.argsort(-logits, kind="stable")
    sorted_logits, hits = logits[order], np.cumsum(chances[order])
    expected = 2 * hits / (np.arange(1, len(logits) + 1) + hits[-1])
    last = int(expected.argmax())
    return float(sorted_logits[last : last + 2].mean())


def fit_scales(labels: Floats, logits: Floats, groups: Sequence[str]) -> tuple[Scale, ...]:
    """The scale of each observation, from (n, O) labels and logits of the validation split."""
    children = labels[:, ALL_OBSERVATIONS.index(CHILD)]
    return tuple(
        fit_scale(name, labels[:, at], logits[:, at], groups, children=children)
        for at, name in enumerate(ALL_OBSERVATIONS)
    )
