"""What a metric is to the scorer: statistics of each study that add up, and scores of their sums. No metric here.

A metric that keeps to this gets its intervals, baselines, comparisons and its place in every file without more code:

    MetricFamily("length", ("words",), 1, lambda texts: ..., lambda sums, studies: sums / studies)
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from r2gengpt.metrics.ngrams import Corpus, Floats, corpus


@dataclass(frozen=True)
class Texts:
    """S outputs and their references, in the protocol's form and as they were given.

    `hypotheses` (S texts) and `references` (for each study one text or more) are ready to split at white space;
    `written` and `wanted` are the same before the protocol's cleaning, for metrics with a reading of their own.
    """

    hypotheses: Sequence[str]
    references: Sequence[Sequence[str]]
    written: Sequence[str]
    wanted: Sequence[Sequence[str]]

    @functools.cached_property
    def counted(self) -> Corpus:
        """The n-grams of the protocol's form, counted once for all families that read them."""
        return corpus(self.hypotheses, self.references)


@dataclass(frozen=True)
class MetricFamily:
    """Metrics that share their statistics.

    Attributes:
        name: of the family; unique among those scored together.
        metrics: names of its scores in lower case, as scores.json has them.
        columns: C, how many statistics it keeps of each study.
        statistics: the texts of S studies → (S, C), float64, finite. Sums over any studies must be what `scores` needs.
        scores: sums of statistics (…, C) and the number of studies in each, (…, 1) → (…, len(metrics)). With one
            study's statistics and 1 these are that study's scores.
        shown: those of its metrics that tables show; None: all.
        details: sums over all studies (C,) → what scores.json holds of it beside its metrics, under the family's name.
        note: what a reader must know of it, for instance "rule-based, not CheXbert"; empty: nothing.
    """

    name: str
    metrics: tuple[str, ...]
    columns: int
    statistics: Callable[[Texts], Floats]
    scores: Callable[[Floats, Floats], Floats]
    note: str = ""
    shown: tuple[str, ...] | None = None
    details: Callable[[Floats], Mapping[str, Any]] | None = None


remembered = functools.lru_cache(maxsize=16_384)
"""Keeps what a reader makes of texts: references come once with each baseline, and some of these say the same of all
studies."""


def shown_names(families: Sequence[MetricFamily]) -> tuple[str, ...]:
    """The metrics that tables show."""
    return tuple(name for f in families for name in (f.metrics if f.shown is None else f.shown))


def family_details(families: Sequence[MetricFamily], sums: Floats) -> dict[str, Mapping[str, Any]]:
    """Family → what it says beside its metrics, of sums over all studies (C,)."""
    parts = np.split(sums, np.cumsum([family.columns for family in families])[:-1])
    return {f.name: f.details(part) for f, part in zip(families, parts, strict=True) if f.details is not None}


def mean(sums: Floats, studies: Floats) -> Floats:
    """The scores of a family whose corpus scores are the means of its studies'."""
    return sums / studies
