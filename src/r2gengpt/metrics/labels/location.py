"""Side and place of findings as a family of metrics, apart from whether they are there. Reads no text itself.

Only observations that report and reference both assert or doubt count, and of these only what the reference places:
so the labels' F1 tells what was found, and these tell whether it was found where it is. 0/0 is 0, as in `agreement`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from r2gengpt.metrics.families import MetricFamily, Texts, remembered
from r2gengpt.metrics.labels.agreement import MEASURES, agreed, measures
from r2gengpt.metrics.labels.places import Where, located
from r2gengpt.metrics.ngrams import Floats

KINDS: Mapping[str, str] = {"side": "sides", "place": "heights", "side_and_place": "both"}
"""Kind → the field of `Where`: left or right; upper, middle, lower or hilar; and both at once."""
LOCATION_NAMES = tuple(f"{kind}_{measure}" for kind in KINDS for measure in MEASURES)
LOCATION_TITLES: Mapping[str, str] = {f"{kind}_f1": f"{kind.replace('_', ' ')} of findings: F1" for kind in KINDS}
"""Name of each F1 → what a page calls it."""


def statistics(texts: Texts) -> Floats:
    """True positives, false positives and misses of each kind, then how many observations were compared, (S, 10)."""
    found = (_located(text) for text in texts.written)
    wanted = (_located("\n".join(several)) for several in texts.wanted)
    return np.array([_study(ours, theirs) for ours, theirs in zip(found, wanted, strict=True)], dtype=np.float64)


_located = remembered(located)


def _study(found: Mapping[str, Where], wanted: Mapping[str, Where]) -> list[int]:
    shared = [name for name in wanted if name in found]
    counts = []
    for field in KINDS.values():
        pairs = [(getattr(found[name], field), getattr(wanted[name], field)) for name in shared]
        placed = [(ours, theirs) for ours, theirs in pairs if theirs]
        counts.append(sum(len(ours & theirs) for ours, theirs in placed))
        counts.append(sum(len(ours - theirs) for ours, theirs in placed))
        counts.append(sum(len(theirs - ours) for ours, theirs in placed))
    return [*counts, len(shared)]


def scores(sums: Floats, studies: Floats) -> Floats:
    """Precision, recall and F1 of each kind, (…, 9), all findings of all studies counted together."""
    counts = sums[..., :-1].reshape(*sums.shape[:-1], len(KINDS), 3)
    return measures(counts).reshape(*sums.shape[:-1], len(LOCATION_NAMES))


def details(sums: Floats) -> Mapping[str, Any]:
    """How many findings were compared, and what of each kind report and reference name of them."""
    return {"compared": int(sums[-1])} | agreed(KINDS, sums[:-1].reshape(len(KINDS), 3))


LOCATION = MetricFamily(
    "location",
    LOCATION_NAMES,
    3 * len(KINDS) + 1,
    statistics,
    scores,
    shown=tuple(LOCATION_TITLES),
    details=details,
)
