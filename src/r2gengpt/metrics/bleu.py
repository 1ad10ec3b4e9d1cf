"""Corpus and per-study BLEU-1 to 4 with the closest reference length, from sums that add up. No tokenizer.

Source: Papineni et al. 2002, in the form that coco-caption computes (`pycocoevalcap/bleu/bleu_scorer.py`): both a
numerator of 1e-15 and a denominator of 1e-9 are added to each precision, so nothing is divided by zero. An empty
hypothesis therefore scores 0 and not an error; an empty reference is the caller's to refuse.
"""

from dataclasses import dataclass

import numpy as np

from r2gengpt.metrics.ngrams import ORDERS, Corpus, Floats, Ints, NgramPair, look_up

TINY, SMALL = 1e-15, 1e-9


@dataclass(frozen=True)
class BleuStatistics:
    """What BLEU needs of each of S studies; sums over studies give the corpus score.

    `matched` (S, 4): n-grams shared with the references, each at most as often as one of them has it.
    `total` (S, 4): n-grams of the hypothesis. `words` (S,): its length. `closest` (S,): the reference length nearest
    to it, the shorter of two that are equally near.
    """

    matched: Ints
    total: Ints
    words: Ints
    closest: Ints

    def columns(self) -> Floats:
        """All statistics side by side, (S, 10): what a bootstrap sums."""
        return np.column_stack([self.matched, self.total, self.words, self.closest]).astype(np.float64)


def bleu_statistics(corpus: Corpus) -> BleuStatistics:
    """The statistics of each study."""
    studies = corpus.hypothesis_words.size
    matched = np.stack([_matched(pair, corpus.study, studies) for pair in corpus.orders], axis=1)
    total = np.maximum(corpus.hypothesis_words[:, None] - np.arange(ORDERS), 0)
    distance = np.abs(corpus.reference_words - corpus.hypothesis_words[corpus.study])
    nearest = np.lexsort((corpus.reference_words, distance, corpus.study))
    first = nearest[np.searchsorted(corpus.study, np.arange(studies))]
    return BleuStatistics(matched, total, corpus.hypothesis_words, corpus.reference_words[first])


def _matched(pair: NgramPair, study: Ints, studies: int) -> Ints:
    """Clipped matches of one order for each study, (S,)."""
    references, hypotheses = pair.references, pair.hypotheses
    keys = study[references.text] * pair.kinds + references.ngram
    order = np.lexsort((-references.count, keys))
    keys, first = np.unique(keys[order], return_index=True)
    allowed = look_up(keys, references.count[order][first], hypotheses.text * pair.kinds + hypotheses.ngram)
    shared = np.bincount(hypotheses.text, np.minimum(allowed, hypotheses.count), minlength=studies)
    return shared.astype(np.int64)


def bleu(columns: Floats) -> Floats:
    """BLEU-1 to 4 in [0, 1], (…, 4), of rows of `BleuStatistics.columns`, (…, 10): one study's, or sums of studies'."""
    matched, total = columns[..., :ORDERS], columns[..., ORDERS : 2 * ORDERS]
    words, closest = columns[..., -2], columns[..., -1]
    precision = np.cumprod((matched + TINY) / (total + SMALL), axis=-1) ** (1 / np.arange(1, ORDERS + 1))
    ratio = (words + TINY) / (closest + SMALL)
    brevity = np.exp(np.minimum(1 - 1 / ratio, 0))
    return np.asarray(precision * brevity[..., None], dtype=np.float64)
