"""METEOR 1.5 in Python: from texts to the jar's 23 statistics, without Java. No formula.

Equal to the jar with `-l en -norm`, as pycocoevalcap runs it. Its words, candidates and search were found from the
published description and by asking the jar. The stemmer is Snowball's English one before version 3, as the jar has it.
"""

import functools
import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np

from r2gengpt.errors import RunError, installing
from r2gengpt.metrics.meteor import paraphrases, tables
from r2gengpt.metrics.meteor.alignment import EXACT, PARAPHRASE, STEM, SYNONYM, Match, align
from r2gengpt.metrics.meteor.paraphrases import ParaphraseIndex, Phrases
from r2gengpt.metrics.meteor.statistics import COLUMNS, LONGEST, meteor, without_perfect_chunks
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

    stems: Mapping[str, Sequence[str]]
    synonyms: Mapping[str, Sequence[str]]
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
        of = dict(zip(texts, analysed, strict=True))
        return np.array(
            [_best([statistics(of[one], of[text], kin) for text in several]) for one, several in pairs],
            dtype=np.float64,
        ).reshape(len(pairs), COLUMNS)

    def _analyse(self, texts: Sequence[Sequence[str]]) -> tuple[Kinship, list[AnalysedText]]:
        """What matches among texts, and each of them."""
        longest = max(map(len, texts), default=0)
        if longest > LONGEST:
            raise RunError(f"METEOR: a text of {longest} words, at most {LONGEST}; leave it out with `meteor` none")
        vocabulary = list(dict.fromkeys(word for text in texts for word in text))
        phrases = self.paraphrases.find(texts)
        partners = self.paraphrases.among(phrases.number)
        kin = Kinship(_families(vocabulary, self.stem), self.synonyms.among(vocabulary), partners)
        involved = {*partners, *(target for targets in partners.values() for target in targets)}
        listed = _listed(phrases, involved, len(texts))
        return kin, [
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


def _places(text: Sequence[str]) -> dict[str, list[int]]:
    """Where each word stands, in ascending order."""
    found: dict[str, list[int]] = {}
    for place, word in enumerate(text):
        found.setdefault(word, []).append(place)
    return found


def candidates(hypothesis: AnalysedText, reference: AnalysedText, kin: Kinship) -> list[list[Match]]:
    """For each place of the reference the matches that begin there: by kind, then by place in the hypothesis.

    A paraphrase that the table has in both directions stands there twice, as in the jar. Those from the reference to
    the hypothesis come first; among them the shorter phrase, then the order of the table.
    """
    found = []
    for place, word in enumerate(reference.words):
        here = [Match(place, 1, other, 1, EXACT) for other in hypothesis.places.get(word, ())]
        for kind, related in ((STEM, kin.stems), (SYNONYM, kin.synonyms)):
            if others := related.get(word):
                standing = sorted(i for other in others for i in hypothesis.places.get(other, ()))
                here += [Match(place, 1, other, 1, kind) for other in standing]
        found.append(here)
    for start, length, other, other_length in _paraphrased(reference.phrases, hypothesis.phrases, kin.paraphrases):
        found[start].append(Match(start, length, other, other_length, PARAPHRASE))
    for other, other_length, start, length in _paraphrased(hypothesis.phrases, reference.phrases, kin.paraphrases):
        found[start].append(Match(start, length, other, other_length, PARAPHRASE))
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


def statistics(hypothesis: AnalysedText, reference: AnalysedText, kin: Kinship) -> list[int]:
    """The 23 numbers of one pair, as `statistics.COLUMNS` describes them."""
    alignment = align(candidates(hypothesis, reference, kin), len(hypothesis.words))
    kinds, matched = [0] * 16, [0, 0]
    for place, length, other, other_length, kind in alignment.matches:
        for side, flags in enumerate(
            (hypothesis.function[other : other + other_length], reference.function[place : place + length])
        ):
            function = sum(flags)
            kinds[4 * kind + side] += len(flags) - function
            kinds[4 * kind + 2 + side] += function
            matched[side] += len(flags)
    lengths = [len(text.words) for text in (hypothesis, reference)]
    return [*lengths, sum(hypothesis.function), sum(reference.function), *kinds, alignment.chunks, *matched]


def _best(rows: Sequence[Sequence[int]]) -> Sequence[float]:
    """The statistics that score best; of equal ones the first."""
    if len(rows) == 1:
        return rows[0]
    found = np.array(rows, dtype=np.float64)
    best: list[float] = found[np.argmax(meteor(without_perfect_chunks(found)))].tolist()
    return best
