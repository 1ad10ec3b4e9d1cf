"""A generated text as a report: where its sentences begin and end, and which tokens are whose. Pure functions.

Rules for radiology reports, no model: a sentence ends at a full stop, a question or an exclamation mark before white
space, and at a line break. In "opacity ? pneumonia" the mark opens a doubt and ends nothing. No word is changed.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence

Span = tuple[int, int]
"""First character and the one after the last."""

_END = re.compile(r"(?<![.?!])(?!(?<=\s)\?\s++[a-z])[.?!]++[\"')\]]*+(?=\s)|(?<!\s)\s*[\r\n]+")
"""Each run of marks, and each of white space, is looked at once, however long it is."""
_TAIL = 16
"""Characters before an end that tell whether it is one; the longest abbreviation has fewer."""
_ABBREVIATION = re.compile(r"(?:^|[\s(\"'])(?:drs?|mrs?|ms|prof|st|vs|approx|e\.g|i\.e|cf|fig|resp)\.$", re.IGNORECASE)
_LIST_NUMBER = re.compile(r"^\W*\d{1,2}\.$")
_NUMBER = re.compile(r"(?:^|\s)nos?\.$", re.IGNORECASE)
_WORD = re.compile(r"\w")
_DIGIT = re.compile(r"\s*\d")
_REST_OF_A_LENGTH = re.compile(r"\s+\d+\s?[cm]m\b", re.IGNORECASE)
_OPENING = re.compile(r"^\W*(?:\d{1,2}[.)]\s)?\W*")
_CLOSING = re.compile(r"\W+$")
ROLE_WORDS = ("Assistant:", "Human:")


def has_words(text: str) -> bool:
    """Whether a report says anything: holds a letter.

    >>> has_words(" . "), has_words("Edema.")
    (False, True)
    """
    return any(map(str.isalpha, text))


def tidy_report(text: str) -> str:
    """Generated text without the white space around it and without role words, where they are its prefix.

    >>> tidy_report(" Assistant: The lungs are clear. ")
    'The lungs are clear.'
    """
    text = text.strip()
    for word in ROLE_WORDS:
        if text.startswith(word):
            return text.removeprefix(word).strip()
    return text


def sentence_spans(text: str) -> tuple[Span, ...]:
    """The sentences of a text, in order, without the white space around each; all that is not blank lies in one.

    No sentence ends in "3.5 cm" (nor in "3. 5 cm"), after "Dr." or "vs.", after "No." before a number, or after the
    number of a list. A piece without a word belongs to what stands before it.

    >>> sentence_spans("1. Lungs clear. Dr. A measured 3.5 cm.")
    ((0, 15), (16, 38))
    """
    spans: list[Span] = []
    for start, end in _pieces(text):
        if spans and not (_WORD.search(text, start, end) and _WORD.search(text, *spans[-1])):
            spans[-1] = spans[-1][0], end
        else:
            spans.append((start, end))
    return tuple(spans)


def _pieces(text: str) -> Iterator[Span]:
    """The text between ends of sentences, none blank."""
    start = 0
    for match in _END.finditer(text):
        if "\n" in match[0] or "\r" in match[0] or _is_end(text, start, match.end()):
            yield from _stripped(text, start, match.end())
            start = match.end()
    yield from _stripped(text, start, len(text))


def _is_end(text: str, start: int, stop: int) -> bool:
    """Whether the sentence that began at `start` ends with the mark that ends at `stop`."""
    so_far = text[max(start, stop - _TAIL) : stop]
    if _ABBREVIATION.search(so_far) or _LIST_NUMBER.match(text[start:stop]):
        return False
    if _NUMBER.search(so_far) and _DIGIT.match(text, stop):
        return False
    return not (re.search(r"\d\s?\.$", so_far) and _REST_OF_A_LENGTH.match(text, stop))


def _stripped(text: str, start: int, stop: int) -> Iterator[Span]:
    piece = text[start:stop]
    if body := piece.strip():
        first = start + len(piece) - len(piece.lstrip())
        yield first, first + len(body)


def same_sentence(sentence: str) -> str:
    """What two sentences have in common that differ in case, white space, list number and closing marks only.

    >>> same_sentence("2. No  effusion.") == same_sentence("no effusion")
    True
    """
    return " ".join(_CLOSING.sub("", _OPENING.sub("", sentence)).casefold().split())


def tokens_of(spans: Sequence[Span], ends: Sequence[int]) -> list[list[int]]:
    """The tokens of each sentence by number: those that a character of the sentence comes from.

    A token that makes no text by itself (the first bytes of a character) goes with the next one that does. One that
    reaches over two sentences counts for both, so no sentence is without a token where the tokens cover the text.

    Args:
        spans: of the sentences, in order.
        ends: for each token the length of the text up to and with it; never falls.

    >>> tokens_of([(0, 6), (7, 10)], [3, 6, 6, 10, 12])
    [[0, 1], [2, 3]]
    """
    found: list[list[int]] = [[] for _ in spans]
    start = 0
    for number, end in enumerate(ends):
        following = bisect_right(ends, start)
        stop = ends[following] if following < len(ends) else start
        for index, (first, last) in enumerate(spans):
            if max(start, first) < min(stop, last):
                found[index].append(number)
        start = max(start, end)
    return found
