"""Which words two texts share in order. No HTML, no scores."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

LITTLE_WORDS = frozenset(
    {"a", "an", "and", "are", "as", "at", "by", "for", "from", "in", "is", "of", "on", "or", "the", "to", "was", "with"}
)
"""A shared run of nothing but these says nothing: it is marked like its neighbours, which keeps phrases whole."""


@dataclass(frozen=True)
class Span:
    """A run of words that the other text has at this place (`shared`) or has not."""

    text: str
    shared: bool


def word_differences(first: str, second: str) -> tuple[list[Span], list[Span]]:
    """Both texts as runs of shared and unshared words; case and punctuation don't count as differences.

    >>> word_differences("Lungs are clear.", "lungs clear")[0]
    [Span(text='Lungs', shared=True), Span(text='are', shared=False), Span(text='clear.', shared=True)]
    """
    words, others = first.split(), second.split()
    keys, other_keys = [_key(word) for word in words], [_key(word) for word in others]
    matcher = difflib.SequenceMatcher(None, keys, other_keys, autojunk=False)
    shared, other_shared = [False] * len(words), [False] * len(others)
    for start, other_start, length in matcher.get_matching_blocks():
        if all(key in LITTLE_WORDS or not key for key in keys[start : start + length]):
            continue
        shared[start : start + length] = [True] * length
        other_shared[other_start : other_start + length] = [True] * length
    return _spans(words, keys, shared), _spans(others, other_keys, other_shared)


def _key(word: str) -> str:
    """The word as it is compared: its letters and digits in lower case; empty for punctuation that stands alone."""
    return "".join(character for character in word.lower() if character.isalnum())


def _spans(words: Sequence[str], keys: Sequence[str], shared: Sequence[bool]) -> list[Span]:
    """Neighbouring words of the same kind joined; punctuation that stands alone goes with the run before it."""
    spans: list[Span] = []
    for word, key, same in zip(words, keys, shared, strict=True):
        if spans and (not key or spans[-1].shared == same):
            spans[-1] = Span(f"{spans[-1].text} {word}", spans[-1].shared)
        else:
            spans.append(Span(word, same or not key))
    return spans
