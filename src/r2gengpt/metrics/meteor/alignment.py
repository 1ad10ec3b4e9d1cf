"""The beam search of METEOR 1.5 over candidate matches, for many pairs of texts at once. Knows no words.

From left to right through the reference, 40 partial alignments are kept, ordered by matched words, then chunks, then
distance. Only exact matches count whole there: the weight 1/2 of the others is cut off to a whole number on each side,
so a stem counts nothing and a paraphrase of two words counts one. Such a match is taken where it makes no further
chunk, and always where none of its words has another candidate. A candidate's distance is added to the alignments that
come after it at its place, not to the one that has it. Source: Denkowski and Lavie 2014, section 2; the jar (LGPL), its
disassembled classes for the search over single words, its answers for phrases.

All pairs go forward together, a place of the reference at a time. The alignments of all of them lie in flat arrays,
those of a pair side by side and best first.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from r2gengpt.errors import RunError
from r2gengpt.metrics.ngrams import Ints

BEAM = 40
EXACT, STEM, SYNONYM, PARAPHRASE = range(4)
_TOGETHER = 512
"""Pairs that go forward together: more need more memory at no gain."""
_GAP = -1
_USED_BITS, _KEY_BITS = 64, 63
Bits = NDArray[np.uint64]


@dataclass(frozen=True)
class PossibleMatches:
    """Matches that may be taken: of pair `pair`, words of the reference from `place`, of the hypothesis from `other`.

    Pairs ascend; among the candidates of a place the order is that of preference among equals.
    """

    pair: Ints
    place: Ints
    length: Ints
    other: Ints
    other_length: Ints
    kind: Ints

    def __getitem__(self, which: Ints) -> "PossibleMatches":
        """Some of them."""
        return PossibleMatches(*(getattr(self, field.name)[which] for field in fields(self)))


@dataclass(frozen=True)
class Alignments:
    """Which candidates are taken, and into how many chunks those of each pair fall."""

    taken: Ints
    chunks: Ints


@dataclass(frozen=True)
class _Paths:
    """Partial alignments: pair; rank, lower is better; place after the last match in the hypothesis, or `_GAP`;
    place in the reference up to which words are taken; taken words of the hypothesis; the last step of its trail."""

    pair: Ints
    rank: Ints
    end: Ints
    until: Ints
    used: Bits
    trail: Ints

    def cut(self, place: int) -> "tuple[_Paths, _Paths]":
        """Those before `place`, and the others."""
        columns = [getattr(self, field.name) for field in fields(self)]
        return _Paths(*(column[:place] for column in columns)), _Paths(*(column[place:] for column in columns))


@dataclass(frozen=True)
class _Scale:
    """How a rank is one whole number. From below: bits of the distance, of the chunks, of the matched words.

    `top` is the rank of an empty alignment, `rank` the bits of a rank, `order` those of a place among equals.
    """

    distance: int
    matched: int
    top: int
    rank: int
    order: int

    @classmethod
    def of(cls, candidates: PossibleMatches, words: int, pairs: int) -> "_Scale | None":
        """The narrowest that no alignment of so many words leaves; None: pair, rank and order need too many bits."""
        far = np.bincount(candidates.pair, np.abs(candidates.place - candidates.other)).max(initial=0)
        here = np.unique(candidates.pair * words + candidates.place, return_counts=True)[1].max(initial=0)
        distance, count = int(far).bit_length(), (words + 1).bit_length()
        scale = cls(
            distance,
            distance + count,
            words << (distance + count),
            distance + 2 * count,
            int(BEAM * (here + 1)).bit_length(),
        )
        return scale if scale.rank + scale.order + pairs.bit_length() <= _KEY_BITS else None


def align(candidates: PossibleMatches, references: Ints, hypotheses: Ints) -> Alignments:
    """The best alignment found of each pair.

    Args:
        candidates: of all pairs.
        references: words of each pair's reference.
        hypotheses: words of its hypothesis.

    Raises:
        RunError: a pair has so many equal words that ranks do not fit into 64 bits.
    """
    taken, chunks = [np.zeros(0, dtype=np.int64)], np.zeros(references.size, dtype=np.int64)
    order = np.argsort(-references, kind="stable")
    starts = np.searchsorted(candidates.pair, np.arange(references.size + 1))
    todo = [order[i : i + _TOGETHER] for i in range(0, order.size, _TOGETHER)]
    while todo:
        pairs = todo.pop()
        counts = starts[pairs + 1] - starts[pairs]
        own = np.repeat(starts[pairs] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        part = replace(candidates[own], pair=np.repeat(np.arange(pairs.size), counts))
        words = references[pairs], hypotheses[pairs]
        scale = _Scale.of(part, int((words[0] + words[1]).max()), pairs.size)
        if scale is not None:
            found, chunks[pairs] = _Search(part, *words, scale).run()
            taken.append(own[found])
        elif pairs.size > 1:
            todo += [pairs[: pairs.size // 2], pairs[pairs.size // 2 :]]
        else:
            what = f"a text of {words[1][0]} words and a reference of {words[0][0]} share too many words"
            raise RunError(f"METEOR: {what}; leave it out with `meteor` none")
    return Alignments(np.concatenate(taken), chunks)


class _Search:
    """The search for some pairs, whose references get shorter from pair to pair."""

    def __init__(self, candidates: PossibleMatches, references: Ints, hypotheses: Ints, scale: _Scale) -> None:
        self.references, self.scale, self.chunk = references, scale, 1 << scale.distance
        self.order = np.argsort(candidates.place, kind="stable")
        self.candidates = here = candidates[self.order]
        self.fixed, self.bits = _fixed_and_bits(here, references, hypotheses)
        self.gain = np.where(here.kind == EXACT, 2, here.length // 2 + here.other_length // 2) << scale.matched
        self.far = np.abs(here.place - here.other)
        self.blocks = np.searchsorted(here.place, np.arange(int(references.max(initial=0)) + 1))
        self.steps: list[tuple[Ints, Ints]] = []
        """Of each place the matches taken there, and the steps before them."""
        self.count = 0

    def run(self) -> tuple[Ints, Ints]:
        """The candidates taken, and the chunks of each pair."""
        pairs = self.references.size
        zero = np.zeros(pairs, dtype=np.int64)
        used = np.zeros((pairs, self.bits.shape[1]), dtype=np.uint64)
        paths = _Paths(np.arange(pairs), zero + self.scale.top, zero + _GAP, zero, used, zero - 1)
        ended = []
        for place in range(self.blocks.size - 1):
            alive = int(np.searchsorted(-self.references, -place))
            paths, rest = paths.cut(int(np.searchsorted(paths.pair, alive)))
            ended.append(rest)
            paths = self._go(paths, place, alive)
        ended.append(paths)
        pair, rank, end, trail = (
            np.concatenate([getattr(some, name) for some in ended]) for name in ("pair", "rank", "end", "trail")
        )
        rank = rank + self.chunk * (end != _GAP)
        order = np.lexsort((rank, pair))
        best = order[np.searchsorted(pair[order], np.arange(pairs))]
        return self.order[self._follow(trail[best])], (rank[best] & ((1 << self.scale.matched) - 1)) // self.chunk

    def _go(self, paths: _Paths, place: int, alive: int) -> _Paths:
        """The best alignments after one more place, of the first `alive` pairs."""
        low, high = self.blocks[place], self.blocks[place + 1]
        bounds = low + np.searchsorted(self.candidates.pair[low:high], np.arange(alive + 1))
        waiting = paths.until > place
        count = np.where(waiting, 0, np.diff(bounds)[paths.pair])
        path = np.repeat(np.arange(paths.pair.size), count)
        match = np.arange(path.size) + np.repeat(bounds[paths.pair] - np.cumsum(count) + count, count)
        free = np.ones(path.size, dtype=bool)
        for used, bits in zip(paths.used.T, self.bits.T, strict=True):
            free &= used[path] & bits[match] == 0
        path, match = path[free], match[free]
        count = np.bincount(path, minlength=paths.pair.size)
        after = np.cumsum(count)
        walked = np.concatenate([[0], np.cumsum(self.far[match])])
        before = walked[:-1] - walked[after - count][path]
        end = paths.end[path]
        further = self.chunk * ((end != _GAP) & (end != self.candidates.other[match]))
        ranks = paths.rank[path] - self.gain[match] + further + np.where(self.fixed[match], self.far[match], before)
        must = np.zeros(alive, dtype=bool)
        must[self.candidates.pair[low:high][self.fixed[low:high]]] = True
        may = ~must[paths.pair]
        skipped = np.flatnonzero(may)
        cost = np.where(waiting, 0, walked[after] - walked[after - count] + self.chunk * (paths.end != _GAP))
        shift = np.cumsum(may) - may
        place_of = np.concatenate([np.arange(path.size) + shift[path], (after + shift)[skipped]])
        source, matched, rank = (np.empty(place_of.size, dtype=np.int64) for _ in range(3))
        source[place_of] = np.concatenate([path, skipped])
        matched[place_of] = np.concatenate([match, np.full(skipped.size, -1)])
        rank[place_of] = np.concatenate([ranks, (paths.rank + cost)[skipped]])
        chosen, rank = self._best(paths.pair[source], rank, alive)
        source, matched = source[chosen], matched[chosen]
        taken = matched >= 0
        end = np.where(waiting, paths.end, _GAP)[source]
        until, taken_words, trail = paths.until[source], paths.used[source], paths.trail[source]
        match = matched[taken]
        end[taken] = self.candidates.other[match] + self.candidates.other_length[match]
        until[taken] = place + self.candidates.length[match]
        taken_words[taken] |= self.bits[match]
        self.steps.append((match, trail[taken]))
        trail[taken] = self.count + np.arange(match.size)
        self.count += match.size
        return _Paths(paths.pair[source], rank, end, until, taken_words, trail)

    def _best(self, pair: Ints, rank: Ints, alive: int) -> tuple[Ints, Ints]:
        """Which alignments are kept of each pair, best first, of equal ones the first; and their ranks."""
        start = np.searchsorted(pair, np.arange(alive))[pair]
        number = np.arange(pair.size) - start
        scale = self.scale
        key = np.sort((((pair << scale.rank) | rank) << scale.order) | number)[number < BEAM]
        start = start[number < BEAM]
        return start + (key & ((1 << scale.order) - 1)), (key >> scale.order) & ((1 << scale.rank) - 1)

    def _follow(self, trail: Ints) -> Ints:
        """All matches on trails."""
        matches = np.concatenate([np.zeros(0, dtype=np.int64), *(match for match, _ in self.steps)])
        before = np.concatenate([np.zeros(0, dtype=np.int64), *(step for _, step in self.steps)])
        found = [np.zeros(0, dtype=np.int64)]
        while (trail := trail[trail >= 0]).size:
            found.append(matches[trail])
            trail = before[trail]
        return np.concatenate(found)


def _covered(pair: Ints, start: Ints, length: Ints, words: Ints) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """Each word that a candidate covers, with the candidate; and for each word whether several candidates cover it.

    Words are numbered through all texts, of which `words` are the lengths.
    """
    candidate = np.repeat(np.arange(start.size), length)
    first = (np.cumsum(words) - words)[pair] + start
    word = np.arange(candidate.size) + np.repeat(first - np.cumsum(length) + length, length)
    return candidate, word, np.bincount(word, minlength=int(words.sum())) > 1


def _fixed_and_bits(candidates: PossibleMatches, references: Ints, hypotheses: Ints) -> tuple[NDArray[np.bool_], Bits]:
    """Whether none of a candidate's words has another one; and those of the hypothesis that have, as bits, (C, W)."""
    here = candidates
    count = here.pair.size
    candidate, word, shared = _covered(here.pair, here.place, here.length, references)
    fixed = np.bincount(candidate, shared[word], minlength=count) == 0
    candidate, word, shared = _covered(here.pair, here.other, here.other_length, hypotheses)
    fixed &= np.bincount(candidate, shared[word], minlength=count) == 0
    before: Ints = np.cumsum(shared) - shared
    number: Ints = before - before[np.repeat(np.cumsum(hypotheses) - hypotheses, hypotheses)]
    width = int(number.max(initial=0)) // _USED_BITS + 1
    bits = np.zeros((count, width), dtype=np.uint64)
    several = shared[word]
    candidate, number = candidate[several], number[word[several]]
    column, bit = np.divmod(number, _USED_BITS)
    np.bitwise_or.at(bits, (candidate, column), np.uint64(1) << bit.astype(np.uint64))
    return fixed, bits
