"""METEOR's alignment of two word lists by exact words and stems, in pure Python. No synonyms, no paraphrases, no score.

The search is the METEOR 1.5 jar's (LGPL), read from its disassembled classes and checked on its answers: from left to
right through the reference, 40 partial alignments are kept, ordered by matched words, then chunks, then distance.
Only exact matches count as matched words there: a weight of 1/2 for a stem is cut off to a whole number. A stem is
taken nevertheless where it makes no further chunk, and always where neither of its words has another match. Source:
Denkowski and Lavie 2014, section 2; the jar.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

BEAM = 40
EXACT, STEM = 0, 1


@dataclass(frozen=True)
class Path:
    """An alignment of the reference's first words.

    `pairs` holds (place in reference, place in hypothesis, kind); `used` the hypothesis' places taken, as bits; `end`
    the place after the last match in the hypothesis, or -1 after a gap; `exact` counts exact matches.
    """

    pairs: tuple[tuple[int, int, int], ...] = ()
    used: int = 0
    exact: int = 0
    chunks: int = 0
    distance: int = 0
    end: int = -1

    def matched(self, place: int, other: int, kind: int, distance: int) -> "Path":
        """With one more match, and `distance` between places more."""
        return Path(
            (*self.pairs, (place, other, kind)),
            self.used | 1 << other,
            self.exact + (kind == EXACT),
            self.chunks + (self.end not in (-1, other)),
            self.distance + distance,
            other + 1,
        )

    def skipped(self, distance: int = 0) -> "Path":
        """With a word that has no match."""
        chunks = self.chunks + (self.end != -1)
        return Path(self.pairs, self.used, self.exact, chunks, self.distance + distance)

    def rank(self) -> tuple[int, int, int]:
        """Lower is better."""
        return (-self.exact, self.chunks, self.distance)


def align(hypothesis: Sequence[str], reference: Sequence[str], stems: tuple[Sequence[str], Sequence[str]]) -> Path:
    """The best alignment found, its last chunk counted.

    Args:
        hypothesis: words.
        reference: words.
        stems: of the words of both.
    """
    matches = _matches(hypothesis, reference, stems)
    covered: dict[int, int] = {}
    for several in matches:
        for other, _ in several:
            covered[other] = covered.get(other, 0) + 1
    fixed = {
        place: several[0] for place, several in enumerate(matches) if len(several) == 1 and covered[several[0][0]] == 1
    }
    paths = [Path(used=sum(1 << other for other, _ in fixed.values()))]
    for place, several in enumerate(matches):
        kept = sorted(paths, key=Path.rank)[:BEAM]
        if place in fixed:
            other, kind = fixed[place]
            paths = [path.matched(place, other, kind, abs(place - other)) for path in kept]
            continue
        paths = [following for path in kept for following in _following(path, place, several)]
    return min((path.skipped() for path in sorted(paths, key=Path.rank)[:BEAM]), key=Path.rank)


def _following(path: Path, place: int, matches: Sequence[tuple[int, int]]) -> Iterator[Path]:
    """The alignment with each match of a reference word that is still free, then without any.

    The jar adds a match's distance not to the alignment that has the match, but to those that come after it here.
    """
    distance = 0
    for other, kind in matches:
        if not path.used >> other & 1:
            yield path.matched(place, other, kind, distance)
            distance += abs(place - other)
    yield path.skipped(distance)


def _matches(
    hypothesis: Sequence[str], reference: Sequence[str], stems: tuple[Sequence[str], Sequence[str]]
) -> list[list[tuple[int, int]]]:
    """For each word of the reference the places in the hypothesis that match it, exact ones first, with the kind."""
    places: tuple[dict[str, list[int]], dict[str, list[int]]] = ({}, {})
    for kind, words in ((EXACT, hypothesis), (STEM, stems[0])):
        for place, word in enumerate(words):
            places[kind].setdefault(word, []).append(place)
    return [
        [(other, EXACT) for other in places[EXACT].get(word, ())]
        + [(other, STEM) for other in places[STEM].get(stem, ()) if hypothesis[other] != word]
        for word, stem in zip(reference, stems[1], strict=True)
    ]


def statistics(
    hypothesis: Sequence[str],
    reference: Sequence[str],
    stems: tuple[Sequence[str], Sequence[str]],
    function_words: Collection[str],
) -> list[float]:
    """The 23 numbers of one pair, as `meteor.COLUMNS` describes them."""
    found = align(hypothesis, reference, stems)
    function = [sum(word in function_words for word in words) for words in (hypothesis, reference)]
    kinds = [0] * 16
    for place, other, kind in found.pairs:
        for side, word in enumerate((hypothesis[other], reference[place])):
            kinds[4 * kind + 2 * (word in function_words) + side] += 1
    matched = len(found.pairs)
    numbers = (len(hypothesis), len(reference), *function, *kinds, found.chunks, matched, matched)
    return [float(number) for number in numbers]
