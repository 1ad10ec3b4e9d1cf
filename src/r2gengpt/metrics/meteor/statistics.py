"""METEOR from its sufficient statistics, which `python` or the METEOR 1.5 jar gives. No Java process, and no aligner.

The value is that of pycocoevalcap's `Meteor` (`-l en -norm`: English parameters, its own tokenizer, lower case; exact,
stem, synonym and paraphrase matches). A study's statistics are the jar's 23 numbers; a corpus score is the formula on
their sums, and so is each interval. Source: Denkowski and Lavie 2014, "Meteor Universal"; the jar's own sums.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from r2gengpt.metrics.families import MetricFamily, Texts
from r2gengpt.metrics.ngrams import Floats

Rows = Callable[[Sequence[tuple[str, Sequence[str]]]], Floats]
"""Pairs of a hypothesis and its references → their statistics, (pairs, 23)."""

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
"""Weight of precision against recall, the penalty's exponent and size, weight of content words (English, task rank)."""
WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])
"""Of exact, stem, synonym and paraphrase matches."""
COLUMNS = 23
"""Words of hypothesis and reference, function words of both; for each of the four kinds of match the matched content
words of both, then the function words; chunks, matched words of both."""
LONGEST = 5_000
"""Words of a text that are aligned: time and memory grow with the product of both lengths."""
_CHUNKS = 20


def meteor_family(rows: Rows) -> MetricFamily:
    """The family of METEOR, whose statistics `rows` gives; it is pickled where `rows` is."""
    return MetricFamily("meteor", ("meteor",), COLUMNS, partial(_statistics, rows), _scores)


def _statistics(rows: Rows, texts: Texts) -> Floats:
    """Of S studies, (S, 23); a pair that occurs often is asked for once."""
    pairs = [(one, tuple(several)) for one, several in zip(texts.hypotheses, texts.references, strict=True)]
    distinct = list(dict.fromkeys(pairs))
    place = {pair: i for i, pair in enumerate(distinct)}
    return without_perfect_chunks(rows(distinct))[[place[pair] for pair in pairs]]


def _scores(sums: Floats, studies: Floats) -> Floats:
    return meteor(sums)[..., None]


def without_perfect_chunks(rows: Floats) -> Floats:
    """Statistics with 0 chunks where all words match in one chunk: as the jar adds them up; such a pair scores 1."""
    perfect = (rows[:, _CHUNKS] == 1) & (rows[:, 21] == rows[:, 0]) & (rows[:, 22] == rows[:, 1])
    rows = rows.copy()
    rows[perfect, _CHUNKS] = 0
    return rows


def meteor(sums: Floats) -> Floats:
    """METEOR in [0, 1], (…), of statistics or sums of them, (…, 23)."""
    matches = sums[..., 4:_CHUNKS].reshape(*sums.shape[:-1], 4, 4)
    content, function = matches[..., :2], matches[..., 2:]
    matched = np.einsum("k,...kt->...t", WEIGHTS, DELTA * content + (1 - DELTA) * function)
    length = DELTA * (sums[..., :2] - sums[..., 2:4]) + (1 - DELTA) * sums[..., 2:4]
    share = np.divide(matched, length, out=np.zeros_like(matched), where=length > 0)
    precision, recall = share[..., 0], share[..., 1]
    both = ALPHA * precision + (1 - ALPHA) * recall
    mean = np.divide(precision * recall, both, out=np.zeros_like(both), where=both > 0)
    words = (sums[..., 21] + sums[..., 22]) / 2
    fragments = np.divide(sums[..., _CHUNKS], words, out=np.zeros_like(words), where=words > 0)
    return np.asarray(mean * (1 - GAMMA * fragments**BETA), dtype=np.float64)
