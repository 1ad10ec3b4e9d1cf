"""Temporal F1: what report and reference say has changed, as a family of metrics. Reads no text itself.

A pair of an observation and what has become of it counts once a study. Rules read both texts (`changes`); it is not the
Temporal Entity F1 of Libra (Zhang et al. 2024, arXiv 2411.19378), which compares words that a trained tagger finds.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from r2gengpt.metrics.families import MetricFamily, Texts, remembered
from r2gengpt.metrics.labels.agreement import MEASURES, agreed, measures
from r2gengpt.metrics.labels.changes import VERSION, Change, Pair, changes
from r2gengpt.metrics.ngrams import Floats

TEMPORAL_NAMES = tuple(f"temporal_{measure}" for measure in MEASURES)
TEMPORAL_TITLES: Mapping[str, str] = {"temporal_f1": "what has changed: F1"}
"""Name of the F1 → what a page calls it."""


def statistics(texts: Texts) -> Floats:
    """Hits, false alarms and misses of each change, then studies whose reference tells of one, (S, 16)."""
    found = (_changes(text) for text in texts.written)
    wanted = (_changes("\n".join(several)) for several in texts.wanted)
    return np.array([_study(ours, theirs) for ours, theirs in zip(found, wanted, strict=True)], dtype=np.float64)


_changes = remembered(changes)


def _study(found: frozenset[Pair], wanted: frozenset[Pair]) -> list[int]:
    counts = [
        sum(change is one for _, change in pairs)
        for one in Change
        for pairs in (found & wanted, found - wanted, wanted - found)
    ]
    return [*counts, int(bool(wanted))]


def scores(sums: Floats, studies: Floats) -> Floats:
    """Precision, recall and F1 of all pairs of all studies, (…, 3)."""
    counts = sums[..., :-1].reshape(*sums.shape[:-1], len(Change), 3).sum(-2)
    return measures(counts)


def details(sums: Floats) -> Mapping[str, Any]:
    """How many references tell of a change, and of each change what report and reference name."""
    counts = agreed([change.value for change in Change], sums[:-1].reshape(len(Change), 3))
    return {"version": VERSION, "references_with_change": int(sums[-1])} | counts


TEMPORAL = MetricFamily(
    "temporal",
    TEMPORAL_NAMES,
    3 * len(Change) + 1,
    statistics,
    scores,
    shown=tuple(TEMPORAL_TITLES),
    details=details,
)
