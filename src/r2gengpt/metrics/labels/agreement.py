"""Precision, recall and F1 of labels against labels, as columns that add up over studies. Reads no text.

0/0 is 0 everywhere, as scikit-learn has it by default: an observation that neither side has lowers a macro average,
and a study with nothing to find on either side lowers an example-based one.

Source: Sorower 2010, "A literature survey on algorithms for multi-label learning", section 7: the three averages.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from r2gengpt.metrics.labels.reading import FIVE, THERE, Label
from r2gengpt.metrics.ngrams import Floats
from r2gengpt.text.observations import OBSERVATIONS

POLICIES: Mapping[str, tuple[Label, ...]] = {
    "uncertain_as_positive": THERE,
    "uncertain_as_negative": (Label.POSITIVE,),
}
"""Policy → the labels that count as there; blank counts as not there in both."""
SETS: Mapping[str, Sequence[str]] = {"14": OBSERVATIONS, "5": FIVE}
AVERAGES = ("micro", "macro", "example")
MEASURES = ("precision", "recall", "f1")
COUNTED = 3 * len(OBSERVATIONS)
COLUMNS = COUNTED + len(SETS) * len(MEASURES)
"""True positives, false positives and misses of each observation, then each set's three measures of the study."""

_PLACES = [[OBSERVATIONS.index(name) for name in names] for names in SETS.values()]


def is_there(labels: Sequence[Mapping[str, Label]], policy: str) -> Floats:
    """1 where an observation counts as there, else 0: (S, 14)."""
    return np.array([[report[name] in POLICIES[policy] for name in OBSERVATIONS] for report in labels], dtype=float)


def statistics(predicted: Floats, reference: Floats) -> Floats:
    """The columns of each study, (S, `COLUMNS`), from what is there on either side, each (S, 14)."""
    hits = predicted * reference
    counts = np.stack([hits, predicted - hits, reference - hits], axis=-2)
    each = [measures(counts[..., places].sum(axis=-1)) for places in _PLACES]
    return np.concatenate([counts.reshape(len(hits), COUNTED), *each], axis=-1)


def averages(sums: Floats, studies: Floats) -> Floats:
    """Precision, recall and F1 by set and average: (…, 2, 3, 3).

    Args:
        sums: of columns, (…, `COLUMNS`).
        studies: how many were summed, (…, 1).

    Macro F1 is the mean of the observations' F1, and example-based F1 the mean of the studies'; neither is the harmonic
    mean of the averaged precision and recall.
    """
    counts = _counts(sums)
    each = (sums[..., COUNTED:] / studies).reshape(*sums.shape[:-1], len(SETS), len(MEASURES))
    rows = []
    for number, places in enumerate(_PLACES):
        some = counts[..., places]
        means = [measures(some.sum(axis=-1)), by_observation(some).mean(axis=-2), each[..., number, :]]
        rows.append(np.stack(means, axis=-2))
    return np.stack(rows, axis=-3)


def of_observations(sums: Floats) -> Floats:
    """Precision, recall and F1 of each of the 14 observations, (…, 14, 3)."""
    return by_observation(_counts(sums))


def positives(sums: Floats) -> Floats:
    """How many studies each observation is there in, by report and by reference: (…, 2, 14)."""
    counts = _counts(sums)
    return np.stack([counts[..., 0, :] + counts[..., 1, :], counts[..., 0, :] + counts[..., 2, :]], axis=-2)


def by_observation(counts: Floats) -> Floats:
    """Three measures of each observation, (…, n, 3), from its three counts, (…, 3, n)."""
    return measures(np.swapaxes(counts, -1, -2))


def _counts(sums: Floats) -> Floats:
    return sums[..., :COUNTED].reshape(*sums.shape[:-1], 3, len(OBSERVATIONS))


def agreed(kinds: Iterable[str], counts: Floats) -> dict[str, dict[str, int]]:
    """What report and reference name of each kind, of its true positives, false positives and misses, (K, 3)."""
    return {
        kind: {"agreed": int(hits), "predicted": int(hits + wrong), "reference": int(hits + missed)}
        for kind, (hits, wrong, missed) in zip(kinds, counts, strict=True)
    }


def measures(counts: Floats) -> Floats:
    """Precision, recall and F1, (…, 3), of true positives, false positives and misses, (…, 3)."""
    hits, wrong, missed = np.moveaxis(counts, -1, 0)
    over = np.stack([hits + wrong, hits + missed, hits + (wrong + missed) / 2], axis=-1)
    shares: Floats = np.divide(hits[..., None], over, out=np.zeros_like(over), where=over > 0)
    return shares
