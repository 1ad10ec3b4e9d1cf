"""A generated text beside its reference: shared words, sentences with their confidence and evidence map. No HTML.

Confidence and evidence are read from predictions.jsonl and evidence.jsonl; none is computed here.
"""

import base64
import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from r2gengpt.errors import InputError
from r2gengpt.report import Sentence

LITTLE_WORDS = frozenset(
    {"a", "an", "and", "are", "as", "at", "by", "for", "from", "in", "is", "of", "on", "or", "the", "to", "was", "with"}
)
"""A shared run of nothing but these says nothing: it is marked like its neighbours, which keeps phrases whole."""
LARGEST_GRID = 16
"""Cells a side of a drawn map: finer ones are averaged, which keeps the page small."""
SHADES = 5
"""Steps of the confidence shading."""


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


@dataclass(frozen=True)
class Map:
    """One sentence's evidence.

    `levels` has rows · columns bytes in base64 for each view, or one for all: 255 is the sentence's largest value, 0
    none or against it.
    """

    levels: tuple[str, ...]
    drop_top: float | None
    drop_random: float | None
    verdict: str


@dataclass(frozen=True)
class ShownEvidence:
    """A study's maps: grid (rows, columns) as drawn, one map for each sentence, the words of the verdict on all."""

    grid: tuple[int, int]
    sentences: tuple[tuple[str, Map], ...]
    verdict: str


@dataclass(frozen=True)
class ShownSentence:
    """A sentence's words as runs shared with the reference or not, and what is known of it."""

    spans: tuple[Span, ...]
    known: Sentence | None = None
    map: Map | None = None

    @property
    def needs_review(self) -> bool:
        """Whether a reader is asked to check it."""
        return self.known is not None and self.known.needs_review

    @cached_property
    def numbers(self) -> dict[str, float]:
        """What is known of it, by name; zero tokens and numbers that are not finite are not."""
        if self.known is None:
            return {}
        names = ("agreement", "confidence") if self.known.source else ("logprob", "agreement", "confidence")
        known = {name: getattr(self.known, name) for name in names}
        tokens = {"tokens": self.known.tokens} if self.known.tokens else {}
        return tokens | {name: value for name, value in known.items() if finite(value) is not None}

    @property
    def sureness(self) -> float | None:
        """What the shading shows: the confidence or, where it is not calibrated, the mean token probability."""
        if "confidence" not in self.numbers and "logprob" in self.numbers:
            return math.exp(min(self.numbers["logprob"], 0.0))
        return self.numbers.get("confidence")

    @property
    def shade(self) -> int | None:
        """The step of the shading, 0 for the least sure; None: nothing is known."""
        sureness = self.sureness
        return None if sureness is None else min(SHADES - 1, int(max(0.0, sureness) * SHADES))


def read_evidence(path: Path) -> dict[str, ShownEvidence]:
    """Study id → its evidence, of a file of JSON lines; empty where there is no such file.

    Raises:
        InputError: a line that is no such record; it is named.
    """
    if not path.is_file():
        return {}
    found = {}
    for place, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            found[str(record["id"])] = evidence_of(record)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise InputError(f"{path}: line {place} is no evidence record: {type(error).__name__} {error}") from None
    return found


def evidence_of(record: Mapping[str, Any]) -> ShownEvidence:
    """The record of one study.

    Raises:
        ValueError, TypeError, KeyError: something is missing, or a map has not as many numbers as the grid.
    """
    rows, columns = (int(side) for side in record["grid"])
    sentences, shape = [], (rows, columns)
    for sentence in record["sentences"]:
        levels = drawn_levels(sentence.get("maps") or [sentence["map"]], (rows, columns))
        shape = (levels.shape[1], levels.shape[2])
        drops = (finite(sentence.get("drop_top")), finite(sentence.get("drop_random")))
        packed = tuple(base64.b64encode(view.tobytes()).decode("ascii") for view in levels)
        sentences.append((str(sentence["text"]), Map(packed, *drops, str(sentence.get("verdict") or ""))))
    return ShownEvidence(shape, tuple(sentences), str(record.get("verdict") or ""))


def drawn_levels(views: Sequence[Sequence[float]], grid: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A sentence's maps as bytes, (views, rows, columns), at most 16 cells a side, all views on one scale.

    0 is for what is not above 0, 255 for the largest value.

    Raises:
        ValueError: as many values are not in the grid, or one is not finite.
    """
    cells = np.asarray(views, dtype=np.float64).reshape(len(views), *grid)
    if not np.isfinite(cells).all():
        raise ValueError("a map holds a number that is not finite")
    rows, columns = (np.arange(side) * min(side, LARGEST_GRID) // side for side in grid)
    sums = np.zeros((len(views), rows[-1] + 1, columns[-1] + 1))
    np.add.at(sums, np.ix_(np.arange(len(views)), rows, columns), cells)
    means = np.maximum(sums / np.outer(np.bincount(rows), np.bincount(columns)), 0.0)
    return np.round(means * (255 / top if (top := means.max()) > 0 else 0.0)).astype(np.uint8)


def sentences_of(
    spans: Sequence[Span], known: Sequence[Sentence], evidence: ShownEvidence | None
) -> tuple[ShownSentence, ...]:
    """The text's sentences with what is known of each; none where the sentences are not those of the text.

    Args:
        spans: the generated text in runs of words.
        known: the sentences in predictions.jsonl; empty: confidence is not known.
        evidence: of the same sentences; None: not measured.
    """
    maps = () if evidence is None else evidence.sentences
    cut = cut_spans(spans, [sentence.text for sentence in known] or [words for words, _ in maps])
    return tuple(
        ShownSentence(part, known[place] if known else None, maps[place][1] if maps else None)
        for place, part in enumerate(cut or ())
    )


def same_sentences(texts: Sequence[str], maps: Sequence[tuple[str, Map]]) -> bool:
    """Whether the maps are of these sentences, but for white space."""
    return [text.split() for text in texts] == [words.split() for words, _ in maps]


def finite(value: Any) -> float | None:
    """The number, or None where there is none."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def cut_spans(spans: Sequence[Span], texts: Sequence[str]) -> list[tuple[Span, ...]] | None:
    """Runs of words cut where sentences end; None where the sentences' words are not those of the runs.

    >>> cut_spans([Span("no effusion. clear lungs.", True)], ["no effusion.", "clear lungs."])
    [(Span(text='no effusion.', shared=True),), (Span(text='clear lungs.', shared=True),)]
    """
    words = [(word, span.shared) for span in spans for word in span.text.split()]
    if not texts or [word for word, _ in words] != [word for text in texts for word in text.split()]:
        return None
    found, start = [], 0
    for text in texts:
        end = start + len(text.split())
        runs: list[Span] = []
        for word, shared in words[start:end]:
            if runs and runs[-1].shared == shared:
                runs[-1] = Span(f"{runs[-1].text} {word}", shared)
            else:
                runs.append(Span(word, shared))
        found.append(tuple(runs))
        start = end
    return found
