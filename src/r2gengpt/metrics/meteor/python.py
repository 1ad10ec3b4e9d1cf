"""METEOR by exact words and stems without Java, under a name of its own. Not METEOR 1.5: no synonyms, no paraphrases.

The search is the METEOR 1.5 jar's (LGPL), read from its disassembled classes and checked on its answers: from left to
right through the reference, 40 partial alignments are kept, ordered by matched words, then chunks, then distance.
Only exact matches count as matched words there: a weight of 1/2 for a stem is cut off to a whole number. A stem is
taken nevertheless where it makes no further chunk, and always where neither of its words has another match. Source:
Denkowski and Lavie 2014, section 2; the jar.

Equal to the METEOR 1.5 jar with `-l en -lower -m "exact stem"`: the protocol's words in lower case, no tokenizer of its
own. The list of function words is the jar's (LGPL); it is read from the installed package and no part of this program.
The stemmer is Snowball's English one in its form before version 3, which the jar has.
"""

import functools
import importlib.util
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from r2gengpt.errors import installing
from r2gengpt.metrics.families import MetricFamily
from r2gengpt.metrics.meteor.jar import JAR
from r2gengpt.metrics.meteor.statistics import COLUMNS, meteor, meteor_family, without_perfect_chunks
from r2gengpt.metrics.ngrams import Floats

BEAM = 40
EXACT, STEM = 0, 1


@dataclass(frozen=True)
class Alignment:
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

    def matched(self, place: int, other: int, kind: int, distance: int) -> "Alignment":
        """With one more match, and `distance` between places more."""
        return Alignment(
            (*self.pairs, (place, other, kind)),
            self.used | 1 << other,
            self.exact + (kind == EXACT),
            self.chunks + (self.end not in (-1, other)),
            self.distance + distance,
            other + 1,
        )

    def skipped(self, distance: int = 0) -> "Alignment":
        """With a word that has no match."""
        chunks = self.chunks + (self.end != -1)
        return Alignment(self.pairs, self.used, self.exact, chunks, self.distance + distance)

    def rank(self) -> tuple[int, int, int]:
        """Lower is better."""
        return (-self.exact, self.chunks, self.distance)


def align(hypothesis: Sequence[str], reference: Sequence[str], stems: tuple[Sequence[str], Sequence[str]]) -> Alignment:
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
    paths = [Alignment(used=sum(1 << other for other, _ in fixed.values()))]
    for place, several in enumerate(matches):
        kept = sorted(paths, key=Alignment.rank)[:BEAM]
        if place in fixed:
            other, kind = fixed[place]
            paths = [path.matched(place, other, kind, abs(place - other)) for path in kept]
            continue
        paths = [following for path in kept for following in _following(path, place, several)]
    return min((path.skipped() for path in sorted(paths, key=Alignment.rank)[:BEAM]), key=Alignment.rank)


def _following(path: Alignment, place: int, matches: Sequence[tuple[int, int]]) -> Iterator[Alignment]:
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


NAME = "meteor_exact_stem"
NOTE = f"{NAME} is METEOR with exact and stem matches only; it is not comparable with published METEOR"
_LIST = "function/english.words"


def exact_stem_family() -> MetricFamily | str:
    """The family, or in words what is missing."""
    package = importlib.util.find_spec("pycocoevalcap")
    if importlib.util.find_spec("snowballstemmer") is None:
        return f"the package snowballstemmer is missing: {installing('metrics')}"
    if package is None or not package.submodule_search_locations:
        return f"METEOR's function words are missing: {installing('metrics')} (package pycocoevalcap)"
    jar = Path(package.submodule_search_locations[0], "meteor", JAR)
    if not jar.is_file():
        return f"METEOR's function words are missing: {jar}; install pycocoevalcap anew"
    return meteor_family(NAME, lambda pairs: exact_stem_rows(pairs, function_words(jar), stemmer()), NOTE)


@functools.cache
def function_words(jar: Path) -> frozenset[str]:
    """The English function words in the jar."""
    with zipfile.ZipFile(jar) as archive:
        return frozenset(archive.read(_LIST).decode().split())


@functools.cache
def stemmer() -> Callable[[str], str]:
    """Snowball's English stemmer, which remembers words."""
    import snowballstemmer

    stem: Callable[[str], str] = snowballstemmer.stemmer("english").stemWord
    return functools.cache(stem)


def exact_stem_rows(
    pairs: Sequence[tuple[str, Sequence[str]]], function_words: frozenset[str], stem: Callable[[str], str]
) -> Floats:
    """The statistics of pairs of a hypothesis and its references, (pairs, 23): of the reference that scores best."""
    return np.stack([_row(hypothesis, references, function_words, stem) for hypothesis, references in pairs])


def _row(
    hypothesis: str, references: Sequence[str], function_words: frozenset[str], stem: Callable[[str], str]
) -> Floats:
    words = _words(hypothesis)
    rows = np.zeros((len(references), COLUMNS))
    for row, text in zip(rows, references, strict=True):
        wanted = _words(text)
        stems = [stem(word) for word in words], [stem(word) for word in wanted]
        row[:] = statistics(words, wanted, stems, function_words)
    best: Floats = rows[np.argmax(meteor(without_perfect_chunks(rows)))]
    return best


def _words(text: str) -> list[str]:
    """Split as Java does: at ASCII white space only."""
    return [word for word in text.lower().translate(_BLANKS).split(" ") if word]


_BLANKS = str.maketrans("\t\n\r\f", "    ")
