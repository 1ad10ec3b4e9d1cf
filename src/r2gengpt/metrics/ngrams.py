"""Counts of 1- to 4-grams of hypotheses and references in one numbering. No metric: BLEU and CIDEr-D read these."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
ORDERS = 4
"""BLEU and CIDEr-D both use 1- to 4-grams."""


@dataclass(frozen=True)
class Counts:
    """n-grams of one order: text `text[i]` holds n-gram `ngram[i]` `count[i]` times. Sorted by text, then n-gram."""

    text: Ints
    ngram: Ints
    count: Ints


@dataclass(frozen=True)
class NgramPair:
    """n-grams of one order in hypotheses and in references, `kinds` different ones in all, numbered from 0."""

    hypotheses: Counts
    references: Counts
    kinds: int


@dataclass(frozen=True)
class Corpus:
    """S hypotheses and R references, R ≥ S, as counts.

    `hypothesis_words` (S,) and `reference_words` (R,) count words; `study` (R,) says which hypothesis a reference
    belongs to, ascending; `orders` holds one `NgramPair` for each of 1 to `ORDERS`.
    """

    hypothesis_words: Ints
    reference_words: Ints
    study: Ints
    orders: tuple[NgramPair, ...]


def corpus(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Corpus:
    """Count the n-grams of texts split at whitespace.

    Args:
        hypotheses: S texts; may be empty.
        references: for each hypothesis one text or more.

    Raises:
        ValueError: different numbers of both, none at all, or a study without reference.
    """
    if not hypotheses or len(hypotheses) != len(references) or not all(references):
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} studies; each needs a reference")
    number: dict[str, int] = {}
    texts = [text.split() for text in (*hypotheses, *(text for several in references for text in several))]
    words = np.array([number.setdefault(word, len(number)) for text in texts for word in text], dtype=np.int64)
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    studies = len(hypotheses)
    return Corpus(
        lengths[:studies],
        lengths[studies:],
        np.repeat(np.arange(studies), [len(several) for several in references]),
        _orders(words, np.repeat(np.arange(len(texts)), lengths), studies),
    )


def _orders(words: Ints, text: Ints, studies: int) -> tuple[NgramPair, ...]:
    """The n-grams of a stream of word numbers, `text[i]` being the text that word i stands in.

    An n-gram is numbered through the pair (number of its first n-1 words, its last word), so all stays in integers.
    """
    width = int(words.max(initial=0)) + 1
    start, ngram, pairs = np.arange(words.size), words, []
    for order in range(1, ORDERS + 1):
        if order > 1:
            last = start + order - 1
            inside = last < words.size
            inside[inside] = text[start[inside]] == text[last[inside]]
            start, last = start[inside], last[inside]
            _, ngram = np.unique(ngram[inside] * width + words[last], return_inverse=True)
        kinds = int(ngram.max(initial=-1)) + 1
        keys, count = distinct(text[start] * kinds + ngram)
        owner, kind = np.divmod(keys, max(kinds, 1))
        split = int(np.searchsorted(owner, studies))
        pairs.append(
            NgramPair(
                Counts(owner[:split], kind[:split], count[:split]),
                Counts(owner[split:] - studies, kind[split:], count[split:]),
                kinds,
            )
        )
    return tuple(pairs)


def distinct(keys: Ints) -> tuple[Ints, Ints]:
    """The different keys in ascending order, and how often each occurs (by sorting: `np.unique` hashes, slower)."""
    keys = np.sort(keys)
    first = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))
    return keys[first], np.diff(first, append=keys.size)


def look_up(keys: Ints, values: Ints, wanted: Ints) -> Ints:
    """`values` at the places where the ascending `keys` equal `wanted`; 0 where they hold no such key."""
    if keys.size == 0:
        return np.zeros(wanted.shape, dtype=np.int64)
    place = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
    return np.where(keys[place] == wanted, values[place], 0)
