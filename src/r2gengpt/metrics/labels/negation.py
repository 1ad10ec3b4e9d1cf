"""NegEx: which of a sentence's mentions stand within reach of a cue. It knows no observation and no cue of its own.

Source: Chapman et al. 2001, "A simple algorithm for identifying negated findings and diseases in discharge summaries".
"""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Container, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

Span = tuple[int, int]
"""First and the one after the last."""

_TOKEN = re.compile(r"\bvs\.|\d+(?:[.,]\d+)+|[a-z]+n't\b|\w+|[^\w\s]")
_END_OF_A_SENTENCE = frozenset(".?!")
ASKS = "\u00bf"
"""Stands for a question mark before its words; a reach may begin with it."""
_JOINS = frozenset(("and", "or", "nor", "/"))
_FEW = 4
"""Words between two commas, and one of the commas."""


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

    def reached(self, sentence: Words, mentions: Collection[Span]) -> tuple[bool, ...]:
        """Whether a cue acts on each mention.

        A cue behind its mention acts within the clause of the mention nearest to it: "opacity, edema is absent" tells
        of the edema. A clause begins at a comma; in a list it is the whole reach.

        Args:
            sentence: in lower case.
            mentions: which of its words, by number.
        """
        words = (*sentence.words, ".")  # the last sentence may lack its mark
        cues = self._acting(words)
        within = {at for first, last, cue in cues if cue is not Cue.END for at in range(first + 1, last)}
        closing = (at for at, _, cue in cues if cue is Cue.END and at not in within)
        ends = sorted({0, *_starts_of_sentences(sentence.words), *closing})
        clauses = _clauses(words, {first for first, _ in mentions})
        before: dict[int, int] = {}
        furthest = [0] * len(words)
        for at, stop, cue in cues:
            reach = bisect_right(ends, at)
            if cue is Cue.BEFORE:
                before[reach] = min(before.get(reach, at), at)
            elif cue is Cue.AFTER:
                first = max(clauses[at], ends[reach - 1])
                furthest[first] = max(furthest[first], stop)
        for at in range(1, len(words)):
            if bisect_right(ends, at) == bisect_right(ends, at - 1):
                furthest[at] = max(furthest[at], furthest[at - 1])
        answers = []
        for first, last in mentions:
            reach = bisect_right(ends, first)
            acts = before.get(reach, first) < first or furthest[first] > last
            answers.append(acts and reach == bisect_right(ends, last - 1))
        return tuple(answers)

    def _found(self, words: Sequence[str]) -> Iterator[tuple[int, int, Cue]]:
        """Each wording of the set that stands in a sentence: first word, the one after its last, what it does."""
        for at, word in enumerate(words):
            for wording, cue in self._by_first.get(word, ()):
                if tuple(words[at : at + len(wording)]) == wording:
                    yield at, at + len(wording), cue

    def _acting(self, words: Sequence[str]) -> list[tuple[int, int, Cue]]:
        """What stands there and does not begin within a pseudo cue, or right behind it.

        A cue that acts on what stands after it takes the place of a shorter one that begins with it and acts on what
        stands before it: "unlikely to be" of "unlikely".
        """
        found = list(self._found(words))
        pseudo = {at for first, last, cue in found if cue is Cue.PSEUDO for at in range(first, last + 1)}
        before = {at: stop for at, stop, cue in found if cue is Cue.BEFORE}
        return [
            (at, stop, cue)
            for at, stop, cue in found
            if cue is not Cue.PSEUDO and at not in pseudo and not (cue is Cue.AFTER and stop < before.get(at, 0))
        ]


def _clauses(words: Sequence[str], mentions: Container[int]) -> list[int]:
    """For each word, where the clause of the last mention before it begins; 0 in a list.

    A word of `_JOINS` makes a list, and so does a mention of few words between two commas.
    """
    clauses = []
    comma = clause = 0
    joined = named = False
    for at, word in enumerate(words):
        clauses.append(clause)
        if word == ",":
            joined = named and comma > 0 and at - comma <= _FEW
            clause = 0 if joined else clause
            comma, named = at, False
        elif word in _JOINS:
            clause, joined = 0, True
        elif at in mentions:
            clause, named = 0 if joined else comma, True
    return clauses


def _starts_of_sentences(words: Sequence[str]) -> Iterator[int]:
    """The first word, and the first behind each mark that ends a sentence; other marks between them do not count."""
    ended = True
    for at, word in enumerate(words):
        if ended and (word[0].isalnum() or word == ASKS):
            yield at
            ended = False
        ended |= word in _END_OF_A_SENTENCE
