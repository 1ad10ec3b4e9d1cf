"""What a reader changed in a text, sentence by sentence, and the least words it takes. No meaning is read."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from r2gengpt.text.sentences import same_sentence, sentence_spans
from r2gengpt.verdicts.record import SentenceEdit

ALIKE = 0.6
"""Share of words that two sentences may differ in and still be one sentence that was changed."""


def sentences_in(text: str) -> list[str]:
    """The sentences of a text, in order."""
    return [text[first:last] for first, last in sentence_spans(text)]


def word_distance(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """Words to insert, delete or replace to make one text of the other (Levenshtein).

    >>> word_distance("the heart is large".split(), "the heart is not very large".split())
    2
    """
    if not ours or not theirs:
        return len(ours) + len(theirs)
    numbers = {word: number for number, word in enumerate({*ours, *theirs})}
    column = np.array([numbers[word] for word in theirs])
    steps = np.arange(len(theirs) + 1)
    row = steps.copy()
    for at, word in enumerate(ours, start=1):
        following = np.empty_like(row)
        following[0] = at
        following[1:] = np.minimum(row[1:] + 1, row[:-1] + (column != numbers[word]))
        row = np.minimum.accumulate(following - steps) + steps  # insertions, which follow each other
    return int(row[-1])


def _unlike(ours: Counter[str], theirs: Counter[str]) -> float:
    """A bound from below on the share of words that two sentences differ in, which needs no alignment."""
    longer = max(ours.total(), theirs.total())
    return 1 - (ours & theirs).total() / longer if longer else 0.0


def sentence_edits(draft: str, final: str) -> tuple[SentenceEdit, ...]:
    """How the sentences of a draft became those of the final text, in its order; removed ones before what follows them.

    Sentences are one where they differ in case, white space, list numbers and closing marks only. They are aligned in
    their order at the least cost: 1 for a sentence added or removed, twice the share of words that differ for one
    changed. A sentence that moved is removed in one place and added in another.
    """
    ours, theirs = ([same_sentence(one).split() for one in sentences_in(text)] for text in (draft, final))
    bags = [[Counter(words) for words in side] for side in (ours, theirs)]
    costs = np.zeros((len(ours) + 1, len(theirs) + 1))
    costs[:, 0], costs[0, :] = np.arange(len(ours) + 1), np.arange(len(theirs) + 1)
    pairs = np.full((len(ours), len(theirs)), np.inf)
    for i, one in enumerate(bags[0]):
        for j, other in enumerate(bags[1]):
            unlike = 0.0 if ours[i] == theirs[j] else max(_unlike(one, other), 1e-3)
            pairs[i, j] = 2 * unlike if unlike <= ALIKE else np.inf
            costs[i + 1, j + 1] = min(costs[i, j] + pairs[i, j], costs[i, j + 1] + 1, costs[i + 1, j] + 1)
    found: list[SentenceEdit] = []
    i, j = len(ours), len(theirs)
    while i or j:
        if i and j and costs[i, j] == costs[i - 1, j - 1] + pairs[i - 1, j - 1]:
            i, j = i - 1, j - 1
            words = word_distance(ours[i], theirs[j])
            found.append(SentenceEdit("changed" if words else "kept", i, j, words))
        elif j and costs[i, j] == costs[i, j - 1] + 1:
            j -= 1
            found.append(SentenceEdit("added", None, j, len(theirs[j])))
        else:
            i -= 1
            found.append(SentenceEdit("removed", i, None, len(ours[i])))
    return tuple(reversed(found))
