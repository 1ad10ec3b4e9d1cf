"""METEOR 1.5 in Python: from texts to the jar's 23 statistics, without Java. No formula.

Equal to the jar with `-l en -norm`, as pycocoevalcap runs it. Its words, candidates and search were found from the
published description and by asking the jar. The stemmer is Snowball's English one before version 3, as the jar has it.
"""

import functools
import importlib.util
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np

from r2gengpt.errors import RunError, installing
from r2gengpt.metrics.meteor import paraphrases, tables
from r2gengpt.metrics.meteor.alignment import EXACT, PARAPHRASE, STEM, SYNONYM, PossibleMatches, align
from r2gengpt.metrics.meteor.paraphrases import ParaphraseIndex, Phrases
from r2gengpt.metrics.meteor.statistics import LONGEST, meteor, without_perfect_chunks
from r2gengpt.metrics.meteor.synonyms import Synonyms
from r2gengpt.metrics.meteor.tokens import words
from r2gengpt.metrics.ngrams import Floats


def find() -> Path | str:
    """The directory of METEOR's tables, or in words what is missing."""
    if importlib.util.find_spec("snowballstemmer") is None:
        return f"the package snowballstemmer is missing: {installing('metrics')}"
    return tables.find_tables()


@dataclass(frozen=True)
class AnalysedText:
    """A text's words and which are function words, where each word stands, and its phrases that have paraphrases."""

    words: Sequence[str]
    function: Sequence[bool]
    places: Mapping[str, Sequence[int]]
    phrases: Mapping[int, Sequence[tuple[int, int]]]
    """The number of a phrase that has paraphrases → its places and length, in the order of both."""


@dataclass(frozen=True)
class Kinship:
    """What matches among the words and phrases of a set of texts, beside equal words."""

    words: Mapping[str, Sequence[tuple[int, Sequence[str]]]]
    """Word → kind and words, first of stems and then of synonyms."""
    paraphrases: Mapping[int, Sequence[int]]


@dataclass(frozen=True)
class MeteorTables:
    """All that METEOR knows of English."""

    prefixes: tables.Prefixes
    function_words: frozenset[str]
    stem: Callable[[str], str]
    synonyms: Synonyms
    paraphrases: ParaphraseIndex

    def rows(self, pairs: Sequence[tuple[str, Sequence[str]]]) -> Floats:
        """The statistics of pairs of a hypothesis and its references, (pairs, 23): of the reference that scores best.

        Raises:
            RunError: a text is too long.
        """
        texts = list(dict.fromkeys(text for one, several in pairs for text in (one, *several)))
        kin, analysed = self._analyse([words(text, self.prefixes) for text in texts])
        number = {text: i for i, text in enumerate(texts)}
        each = [(number[one], number[text]) for one, several in pairs for text in several]
        rows = _statistics(each, analysed, kin)
        if len(each) == len(pairs):
            return rows
        first = np.cumsum([0, *(len(several) for _, several in pairs)])
        scores = meteor(without_perfect_chunks(rows))
        best = [low + int(np.argmax(scores[low:high])) for low, high in itertools.pairwise(first)]
        return rows[best]

    def _analyse(self, texts: Sequence[tuple[str, ...]]) -> tuple[Kinship, list[AnalysedText]]:
        """What matches among texts, and each of them."""
        longest = max(map(len, texts), default=0)
        if longest > LONGEST:
            raise RunError(f"METEOR: a text of {longest} words, at most {LONGEST}; leave it out with `meteor` none")
        vocabulary = list(dict.fromkeys(word for text in texts for word in text))
        phrases = self.paraphrases.find(texts)
        partners = self.paraphrases.among(phrases.number)
        related: dict[str, list[tuple[int, Sequence[str]]]] = {}
        for kind, found in ((STEM, _families(vocabulary, self.stem)), (SYNONYM, self.synonyms.among(vocabulary))):
            for word, others in found.items():
                related.setdefault(word, []).append((kind, others))
        involved = {*partners, *(target for targets in partners.values() for target in targets)}
        listed = _listed(phrases, involved, len(texts))
        return Kinship(related, partners), [
            AnalysedText(text, [word in self.function_words for word in text], _places(text), own)
            for text, own in zip(texts, listed, strict=True)
        ]


@functools.cache
def shared(directory: Path) -> MeteorTables:
    """The tables of a directory, read once in this program."""
    import snowballstemmer

    return MeteorTables(
        tables.prefixes(directory),
        tables.function_words(directory),
        functools.cache(snowballstemmer.stemmer("english").stemWord),
        Synonyms.read(directory),
        paraphrases.load(directory),
    )


def rows_of(directory: Path, pairs: Sequence[tuple[str, Sequence[str]]]) -> Floats:
    """`MeteorTables.rows` of the shared tables."""
    return shared(directory).rows(pairs)


def _families(vocabulary: Iterable[str], stem: Callable[[str], str]) -> dict[str, list[str]]:
    """Each word's other words of the same stem; words without any are left out."""
    members: dict[str, list[str]] = {}
    for word in vocabulary:
        members.setdefault(stem(word), []).append(word)
    shared_stems = [several for several in members.values() if len(several) > 1]
    return {word: [other for other in several if other != word] for several in shared_stems for word in several}


def _listed(phrases: Phrases, involved: set[int], texts: int) -> list[dict[int, list[tuple[int, int]]]]:
    """For each text its phrases that are `involved`, as `AnalysedText` has them."""
    kept = np.isin(phrases.number, np.fromiter(involved, dtype=np.int64, count=len(involved)))
    columns = [column[kept].tolist() for column in (phrases.text, phrases.number, phrases.start, phrases.length)]
    found: list[dict[int, list[tuple[int, int]]]] = [{} for _ in range(texts)]
    for text, number, start, length in zip(*columns, strict=True):
        found[text].setdefault(number, []).append((start, length))
    return found


@functools.lru_cache(maxsize=1 << 15)
def _places(text: tuple[str, ...]) -> dict[str, list[int]]:
    """Where each word stands, in ascending order."""
    found: dict[str, list[int]] = {}
    for place, word in enumerate(text):
        found.setdefault(word, []).append(place)
    return found


Found = list[tuple[int, int, int, int, int]]
MOST = 1 << 22
"""Candidates of a pair: as of two texts of one word 2,048 times."""


def candidates(hypothesis: AnalysedText, reference: AnalysedText, kin: Kinship) -> Found:
    """Place, length, place and length in the hypothesis, and kind of matches: by place, kind, place in the hypothesis.

    A paraphrase that the table has in both directions stands there twice, as in the jar. Those from the reference to
    the hypothesis come first; among them the shorter phrase, then the order of the table.

    Raises:
        RunError: there are too many.
    """
    found: Found = []
    standing = hypothesis.places
    for place, word in enumerate(reference.words):
        if word in standing:
            found += [(place, 1, other, 1, EXACT) for other in standing[word]]
        if len(found) > MOST:
            what = f"a text of {len(hypothesis.words)} words and a reference of {len(reference.words)} share too many"
            raise RunError(f"METEOR: {what}; leave it out with `meteor` none")
        for kind, others in kin.words.get(word, ()):
            places = [i for other in others if other in standing for i in standing[other]]
            found += [(place, 1, other, 1, kind) for other in sorted(places)]
    for start, length, other, other_length in _paraphrased(reference.phrases, hypothesis.phrases, kin.paraphrases):
        found.append((start, length, other, other_length, PARAPHRASE))
    for other, other_length, start, length in _paraphrased(hypothesis.phrases, reference.phrases, kin.paraphrases):
        found.append((start, length, other, other_length, PARAPHRASE))
    return found


def _paraphrased(
    phrases: Mapping[int, Sequence[tuple[int, int]]],
    others: Mapping[int, Sequence[tuple[int, int]]],
    table: Mapping[int, Sequence[int]],
) -> list[tuple[int, int, int, int]]:
    """Start and length of each phrase of a text with those of each of its paraphrases in the other text."""
    found = [
        (*one, *other)
        for number, standing in phrases.items()
        for target in table.get(number, ())
        if target in others
        for one in standing
        for other in others[target]
    ]
    found.sort(key=itemgetter(0, 1))
    return found


def _statistics(pairs: Sequence[tuple[int, int]], texts: Sequence[AnalysedText], kin: Kinship) -> Floats:
    """The 23 numbers of each pair of hypothesis and reference, as `statistics.COLUMNS` describes them."""
    found = [candidates(texts[one], texts[other], kin) for one, other in pairs]
    pair = np.repeat(np.arange(len(pairs)), [len(matches) for matches in found])
    columns = np.array([match for matches in found for match in matches], dtype=np.int64).reshape(pair.size, 5).T
    matches = PossibleMatches(pair, *columns)
    lengths = np.array([len(text.words) for text in texts], dtype=np.int64)
    sides = np.array(pairs, dtype=np.int64).reshape(len(pairs), 2).T
    words = lengths[sides]
    aligned = align(matches, words[1], words[0])
    taken = matches[aligned.taken]
    function = np.cumsum([False, *(flag for text in texts for flag in text.function)])
    start = (np.cumsum(lengths) - lengths)[sides]
    kinds = np.zeros((2, 4, 2, len(pairs)))
    for side, (first, length) in enumerate(((taken.other, taken.other_length), (taken.place, taken.length))):
        first = start[side, taken.pair] + first
        functional = function[first + length] - function[first]
        for kind, one in ((kind, taken.kind == kind) for kind in range(4)):
            kinds[side, kind, 0] = np.bincount(taken.pair[one], (length - functional)[one], minlength=len(pairs))
            kinds[side, kind, 1] = np.bincount(taken.pair[one], functional[one], minlength=len(pairs))
    functions = function[start + words] - function[start]
    matched = kinds.transpose(1, 2, 0, 3).reshape(16, len(pairs))
    rows: Floats = np.concatenate([words, functions, matched, aligned.chunks[None], kinds.sum(axis=(1, 2))]).T
    return rows
