"""ROUGE-L with beta 1.2 on text split at single spaces. No stemmer, no tokenizer.

Source: Lin 2004, in the form that coco-caption computes (`pycocoevalcap/rouge/rouge.py`): the best precision and the
best recall may come from different references. Because it splits at each single space, an empty text is one empty
word: two empty texts score 1, and runs of spaces change a score. `protocols` joins words by one space to avoid both.
"""

from collections.abc import Sequence

import numpy as np

from r2gengpt.metrics.ngrams import Floats

BETA = 1.2


def longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence of two word lists.

    One bit a word of `a`, one addition a word of `b`. Source: Hyyrö 2004, "Bit-parallel LCS-length computation
    revisited".
    """
    if len(a) > len(b):
        a, b = b, a
    places: dict[str, int] = {}
    for i, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        if match := row & places.get(word, 0):
            row = (row + match | row - match) & full
    return len(a) - row.bit_count()


def rouge_l(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """ROUGE-L in [0, 1] of each study, (S,); the corpus score is their mean."""
    pairs = zip(hypotheses, references, strict=True)
    return np.array([_score(hypothesis, several) for hypothesis, several in pairs], dtype=np.float64)


def _score(hypothesis: str, references: Sequence[str]) -> float:
    words = hypothesis.split(" ")
    precision = recall = 0.0
    for reference in references:
        other = reference.split(" ")
        common = longest_common_subsequence(words, other)
        precision = max(precision, common / len(words))
        recall = max(recall, common / len(other))
    if precision == 0:  # then recall is, too
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)
