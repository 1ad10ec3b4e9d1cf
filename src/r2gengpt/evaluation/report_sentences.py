"""Sentences of a generated text with their confidence and evidence map, as the report page shows them. No HTML.

Read from what predictions.jsonl and evidence.jsonl say; neither confidence nor evidence is computed here.
"""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from r2gengpt.errors import InputError
from r2gengpt.evaluation.differences import Span

LARGEST_GRID = 16
"""Cells a side of a drawn map: finer ones are averaged, which keeps the page small."""


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
class Evidence:
    """A study's maps: grid (rows, columns) as drawn, one map for each sentence, the words of the verdict on all."""

    method: str
    grid: tuple[int, int]
    sentences: tuple[tuple[str, Map], ...]
    verdict: str


@dataclass(frozen=True)
class Sentence:
    """A sentence's words as runs shared with the reference or not, and what is known of it."""

    spans: tuple[Span, ...]
    tokens: int = 0
    logprob: float | None = None
    agreement: float | None = None
    confidence: float | None = None
    needs_review: bool = False
    map: Map | None = None

    @property
    def sureness(self) -> float | None:
        """What the shading shows: the confidence or, where it is not calibrated, the mean token probability."""
        if self.confidence is None and self.logprob is not None:
            return math.exp(min(self.logprob, 0.0))
        return self.confidence


def read_evidence(path: Path) -> dict[str, Evidence]:
    """Study id → its evidence, of a file of JSON lines; empty where there is no such file.

    Raises:
        InputError: a line that is no such record; it is named.
    """
    if not path.is_file():
        return {}
    found = {}
    for place, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            found[str(record["id"])] = evidence_of(record)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{path}: line {place} is no evidence record: {type(error).__name__} {error}") from None
    return found


def evidence_of(record: Mapping[str, Any]) -> Evidence:
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
    return Evidence(str(record.get("method", "")), shape, tuple(sentences), str(record.get("verdict") or ""))


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
    spans: Sequence[Span], record: Sequence[Mapping[str, Any]], evidence: Evidence | None
) -> tuple[Sentence, ...]:
    """The text's sentences with what is known of each; none where the sentences are not those of the text.

    Args:
        spans: the generated text in runs of words.
        record: `sentences` of the study in predictions.jsonl; empty: confidence is not known.
        evidence: of the study; None: not measured.
    """
    maps = () if evidence is None else evidence.sentences
    texts = [str(part["text"]) for part in record] or [words for words, _ in maps]
    cut = cut_spans(spans, texts)
    if cut is None or (record and maps and not same_sentences(texts, maps)):
        return ()
    found: list[Sentence] = []
    for place, part in enumerate(cut):
        known: Mapping[str, Any] = record[place] if record else {}
        found.append(
            Sentence(
                part,
                tokens=int(known.get("tokens", 0)),
                logprob=finite(known.get("logprob")),
                agreement=finite(known.get("agreement")),
                confidence=finite(known.get("confidence")),
                needs_review=bool(known.get("needs_review", False)),
                map=maps[place][1] if maps else None,
            )
        )
    return tuple(found)


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
