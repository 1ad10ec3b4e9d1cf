"""The beam search of METEOR 1.5 over candidate matches. Knows no words: candidates come with their places.

From left to right through the reference, 40 partial alignments are kept, ordered by matched words, then chunks, then
distance. Only exact matches count whole there: the weight 1/2 of the others is cut off to a whole number on each side,
so a stem counts nothing and a paraphrase of two words counts one. Such a match is taken where it makes no further
chunk, and always where none of its words has another candidate. Source: Denkowski and Lavie 2014, section 2; the jar
(LGPL), its disassembled classes for the search over single words, its answers for phrases.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

BEAM = 40
EXACT, STEM, SYNONYM, PARAPHRASE = range(4)
_CHUNK, _MATCH = 1 << 40, 1 << 60
"""One chunk outweighs all distances, and one matched word all chunks, in a rank that is one whole number."""
_GAP = -1


class Match(NamedTuple):
    """A candidate: words of the reference from `place`, words of the hypothesis from `other`, and its kind."""

    place: int
    length: int
    other: int
    other_length: int
    kind: int

    def gain(self) -> int:
        """Matched words of both sides, as the search counts them."""
        return 2 if self.kind == EXACT else self.length // 2 + self.other_length // 2


@dataclass(frozen=True)
class Alignment:
    """The matches that were taken, from right to left, and into how many chunks they fall."""

    matches: list[Match]
    chunks: int


_Trail = tuple["_Trail", Match] | None
_Path = tuple[int, int, int, int, _Trail]
"""Rank (lower is better); place after the last match in the hypothesis, or `_GAP`; place in the reference up to which
words are taken; taken words of the hypothesis, as bits; matches so far."""


def align(candidates: Sequence[Sequence[Match]], words: int) -> Alignment:
    """The best alignment found.

    Args:
        candidates: for each place of the reference those that begin there, in the order of preference among equals.
        words: of the hypothesis.
    """
    fixed = _fixed(candidates, words)
    paths: list[_Path] = [(0, _GAP, 0, sum(_bits(match) for match in fixed.values()), None)]
    for place, several in enumerate(candidates):
        if place in fixed:
            paths = _with(fixed[place], paths)
        elif several:
            paths = _following(place, several, paths)
        else:
            paths = [
                path if path[1] == _GAP or path[2] > place else (path[0] + _CHUNK, _GAP, path[2], path[3], path[4])
                for path in paths
            ]
        paths.sort(key=itemgetter(0))
        del paths[BEAM:]
    ends = [(rank + _CHUNK * (end != _GAP), trail) for rank, end, _, _, trail in paths]
    rank, trail = min(ends, key=itemgetter(0))
    matches = []
    while trail is not None:
        trail, match = trail
        matches.append(match)
    return Alignment(matches, rank % _MATCH // _CHUNK)


def _fixed(candidates: Sequence[Sequence[Match]], words: int) -> dict[int, Match]:
    """Place → the candidate there, for those none of whose words has another."""
    covered, others = [0] * len(candidates), [0] * words
    for several in candidates:
        for place, length, other, other_length, _ in several:
            if length == other_length == 1:
                covered[place] += 1
                others[other] += 1
                continue
            for i in range(place, place + length):
                covered[i] += 1
            for i in range(other, other + other_length):
                others[i] += 1
    return {
        match.place: match
        for several in candidates
        if len(several) == 1
        for match in several
        if all(count == 1 for count in covered[match.place : match.place + match.length])
        and all(count == 1 for count in others[match.other : match.other + match.other_length])
    }


def _bits(match: Match) -> int:
    return ((1 << match.other_length) - 1) << match.other


def _with(match: Match, paths: Sequence[_Path]) -> list[_Path]:
    """The alignments with a match whose words are its own."""
    place, length, start, other_length, _ = match
    step = abs(place - start) - match.gain() * _MATCH
    return [
        (
            rank + step + (0 if end in (_GAP, start) else _CHUNK),
            start + other_length,
            place + length,
            used,
            (tail, match),
        )
        for rank, end, _, used, tail in paths
    ]


def _following(place: int, several: Sequence[Match], paths: Sequence[_Path]) -> list[_Path]:
    """Each alignment with each match that is still free, then without any.

    The jar adds a match's distance not to the alignment that has the match, but to those that come after it here.
    """
    steps = []
    for match in several:
        stop, after, gain = match.other + match.other_length, place + match.length, match.gain() * _MATCH
        steps.append((match, match.other, stop, after, _bits(match), gain, abs(place - match.other)))
    found: list[_Path] = []
    add = found.append
    for path in paths:
        rank, end, until, used, trail = path
        if until > place:
            add(path)
            continue
        for match, start, stop, after, bits, gain, far in steps:
            if not used & bits:
                if end in (start, _GAP):
                    add((rank - gain, stop, after, used | bits, (trail, match)))
                else:
                    add((rank - gain + _CHUNK, stop, after, used | bits, (trail, match)))
                rank += far
        add((rank if end == _GAP else rank + _CHUNK, _GAP, until, used, trail))
    return found
