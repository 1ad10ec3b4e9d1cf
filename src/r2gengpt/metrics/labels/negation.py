"""NegEx: which of a sentence's mentions stand within reach of a cue. It knows no observation and no cue of its own.

Source: Chapman et al. 2001, "A simple algorithm for identifying negated findings and diseases in discharge summaries".
"""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

Span = tuple[int, int]
"""First and the one after the last."""

_TOKEN = re.compile(r"\bvs\.|\d+(?:[.,]\d+)+|[a-z]+n't\b|\w+|[^\w\s]")
_END_OF_A_SENTENCE = frozenset(".?!")


class Cue(Enum):
    """What a cue does: act on what stands after it, or before it, end a reach, or keep another cue from acting."""

    BEFORE = auto()
    AFTER = auto()
    END = auto()
    PSEUDO = auto()


@dataclass(frozen=True)
class TermSet:
    """The wordings of one kind of statement, as of denials; lower case.

    Attributes:
        before: cues that stand before what they act on.
        after: cues that stand after it.
        ends: wordings that end the reach of a cue, on either side, unless they begin within one.
        pseudo: wordings that look like a cue and do not act.
    """

    before: Sequence[str]
    after: Sequence[str]
    ends: Sequence[str]
    pseudo: Sequence[str]


class Words:
    """A sentence as words and marks.

    >>> Words("no right-sided effusion").words
    ('no', 'right', '-', 'sided', 'effusion')
    """

    def __init__(self, sentence: str) -> None:
        self.spans = tuple(match.span() for match in _TOKEN.finditer(sentence))
        self.words = tuple(sentence[first:last] for first, last in self.spans)
        self._starts = [first for first, _ in self.spans]

    def covering(self, first: int, last: int) -> Span:
        """The words that hold the characters from `first` to before `last`, by number."""
        return bisect_right(self._starts, first) - 1, bisect_right(self._starts, last - 1)

    def characters(self, span: Span) -> Span:
        """The characters of words, given by number."""
        return self.spans[span[0]][0], self.spans[span[1] - 1][1]


class NegEx:
    """Finds what a set of cues acts on.

    >>> negex = NegEx(TermSet(before=["no"], after=["is absent"], ends=["but"], pseudo=["no change"]))
    >>> negex.reached(Words("no edema but effusion"), [(1, 2), (3, 4)])
    (True, False)
    """

    def __init__(self, terms: TermSet) -> None:
        self._by_first: defaultdict[str, list[tuple[tuple[str, ...], Cue]]] = defaultdict(list)
        kinds = {Cue.BEFORE: terms.before, Cue.AFTER: terms.after, Cue.END: terms.ends, Cue.PSEUDO: terms.pseudo}
        for cue, wordings in kinds.items():
            for words in (Words(wording).words for wording in wordings):
                self._by_first[words[0]].append((words, cue))

    def reached(self, sentence: Words, mentions: Iterable[Span]) -> tuple[bool, ...]:
        """Whether a cue acts on each mention.

        Args:
            sentence: in lower case.
            mentions: which of its words, by number.
        """
        cues = self._acting((*sentence.words, "."))  # the last sentence may lack its mark
        reaching = [(at, stop) for at, stop, cue in cues if cue is not Cue.END]
        closing = (at for at, _, cue in cues if cue is Cue.END and not any(a < at < b for a, b in reaching))
        ends = sorted({0, *_starts_of_sentences(sentence.words), *closing})
        return tuple(any(_acts(cue, mention, ends) for cue in cues) for mention in mentions)

    def _found(self, words: Sequence[str]) -> Iterator[tuple[int, int, Cue]]:
        """Each wording of the set that stands in a sentence: first word, the one after its last, what it does."""
        for at, word in enumerate(words):
            for wording, cue in self._by_first.get(word, ()):
                if tuple(words[at : at + len(wording)]) == wording:
                    yield at, at + len(wording), cue

    def _acting(self, words: Sequence[str]) -> list[tuple[int, int, Cue]]:
        """What stands there and does not begin within a pseudo cue, or right behind it."""
        found = list(self._found(words))
        pseudo = [(first, last) for first, last, cue in found if cue is Cue.PSEUDO]
        return [
            (at, stop, cue)
            for at, stop, cue in found
            if cue is not Cue.PSEUDO and not any(first <= at <= last for first, last in pseudo)
        ]


def _acts(cue: tuple[int, int, Cue], mention: Span, ends: Sequence[int]) -> bool:
    """Whether a cue acts on a mention: both in one reach, the cue on the side that its kind asks for."""
    at, stop, kind = cue
    reach = bisect_right(ends, at)
    if not reach == bisect_right(ends, mention[0]) == bisect_right(ends, mention[1] - 1):
        return False
    return at < mention[0] if kind is Cue.BEFORE else kind is Cue.AFTER and stop > mention[1]


def _starts_of_sentences(words: Sequence[str]) -> Iterator[int]:
    """The first word, and the first behind each mark that ends a sentence; other marks between them do not count."""
    ended = True
    for at, word in enumerate(words):
        if ended and word[0].isalnum():
            yield at
            ended = False
        ended |= word in _END_OF_A_SENTENCE
