"""The sentences of training reports, what each says, and what the finding head sees on their films. Writes no report.

The file holds texts of the training set: it may be passed on where they may.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.files import whole_file
from r2gengpt.metrics.labels.reading import Label, label_report
from r2gengpt.text.observations import ABNORMAL, ALL_OBSERVATIONS, NO_FINDING, OBSERVATIONS
from r2gengpt.text.sentences import sentence_spans

MOST_SENTENCES = 6
"""Of a report that is composed, or taken whole."""
CODES = (Label.BLANK, Label.POSITIVE, Label.UNCERTAIN, Label.NEGATIVE)
"""What a sentence says of an observation, by its number in the file."""
_NOT_OF_THE_FILM = re.compile(
    r"\d|_{2,}|\bx{3,}\b|"  # a size, a date or an age, and what de-identification left
    r"\b(?:prior|previous\w*|earlier|since|interval|again|compar\w+|unchanged|stable|stability|new|newly|now|"
    r"increas(?:ed|ing) (?:in|from)|decreas\w+|improv\w+|worsen\w*|progress\w*|resol\w+|persist\w*|remain\w*|"
    r"re-?demonstrat\w*|follow-?up|history|patient\w*|year-?old|clinical\w*|ct|mri)\b",
    re.IGNORECASE,
)
"""Marks a sentence that tells of another film, of the patient, or a number: no other film shows that."""
_SIDE = re.compile(r"\b(?:left|right|both|bilateral\w*|unilateral\w*)\b", re.IGNORECASE)
_LIST_NUMBER = re.compile(r"^\W*\d{1,2}[.)]\s+")
_CLOSED = re.compile(r"[.?!][\"')\]]*$")

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int8]
Places = npt.NDArray[np.int64]


def own_sentence(text: str) -> str:
    """A sentence as it can stand in another film's report; empty where it cannot.

    >>> own_sentence("2. The lungs are  clear"), own_sentence("Effusion has increased since the prior film.")
    ('The lungs are clear.', '')
    """
    sentence = " ".join(_LIST_NUMBER.sub("", text, count=1).split())
    if not sentence or _NOT_OF_THE_FILM.search(sentence):
        return ""
    sentence = sentence if _CLOSED.search(sentence) else f"{sentence}."
    beside = f"Clear. {sentence} Clear."
    parts = [beside[first:last] for first, last in sentence_spans(beside)]
    return sentence if parts == ["Clear.", sentence, "Clear."] else ""


def codes_of(sentence: str) -> list[int]:
    """What a sentence says of each observation; of No Finding nothing, which a whole report alone can say."""
    found = label_report(sentence)
    return [0 if name == NO_FINDING else CODES.index(found[name]) for name in OBSERVATIONS]


@dataclass(frozen=True, eq=False)
class SentenceIndex:
    """S distinct sentences of T training studies.

    Attributes:
        sentences: S texts, cleaned as in training.
        codes: (S, 14), what each says of each observation, by `CODES`.
        studies: T ids.
        starts: (T + 1,), where the sentences of each study begin in `places`, and where the last one's end.
        places: the numbers of all studies' sentences, in the order of their reports.
        normal: (T,), whether a study's whole report is there, short, and names nothing abnormal.
        vectors: (T, D), what studies are compared by: the finding head's logits.
    """

    sentences: tuple[str, ...]
    codes: Codes
    studies: tuple[str, ...]
    starts: Places
    places: Places
    normal: Bools
    vectors: Floats

    @classmethod
    def of(cls, studies: Sequence[Study], clean: Callable[[str], str], vectors: Floats) -> "SentenceIndex":
        """The index of training studies; those without a sentence that can stand elsewhere are left out.

        Args:
            studies: with reports.
            clean: the data set's cleaner.
            vectors: (T, D), of the studies.
        """
        cut = [cut_report(clean(study.report)) for study in studies]
        kept = [at for at, (own, _) in enumerate(cut) if own]
        numbers: dict[str, int] = {}
        rows = [[numbers.setdefault(sentence, len(numbers)) for sentence in cut[at][0]] for at in kept]
        codes = np.array([codes_of(sentence) for sentence in numbers], dtype=np.int8).reshape(-1, len(OBSERVATIONS))
        named = codes[:, [OBSERVATIONS.index(name) for name in ABNORMAL]]
        finds: Bools = ((named == 1) | (named == 2)).any(axis=1)
        normal = [
            cut[at][1] and len(row) <= MOST_SENTENCES and not finds[row].any() and is_normal(studies[at])
            for at, row in zip(kept, rows, strict=True)
        ]
        return cls(
            tuple(numbers),
            codes,
            tuple(studies[at].id for at in kept),
            np.cumsum([0, *map(len, rows)], dtype=np.int64),
            np.array([number for row in rows for number in row], dtype=np.int64),
            np.array(normal, dtype=np.bool_),
            np.asarray(vectors, dtype=np.float64)[kept],
        )

    def report(self, study: int) -> list[int]:
        """The numbers of a study's sentences, in the order of its report."""
        return [int(number) for number in self.places[self.starts[study] : self.starts[study + 1]]]

    @cached_property
    def sided(self) -> Bools:
        """(S,), whether a sentence names a side, which no finding tells."""
        return np.array([bool(_SIDE.search(sentence)) for sentence in self.sentences], dtype=np.bool_)

    @cached_property
    def _owners(self) -> tuple[Places, Places]:
        """The studies of all sentences, sentence after sentence, and where each one's begin (S + 1,)."""
        owners = np.repeat(np.arange(len(self.studies)), np.diff(self.starts))
        order = np.argsort(self.places, kind="stable")
        counts = np.bincount(self.places, minlength=len(self.sentences))
        return owners[order], np.concatenate([[0], np.cumsum(counts)])

    def nearest(self, distances: Floats) -> Floats:
        """How far the nearest study of each sentence is, (S,), from how far the studies are, (T,)."""
        owners, begins = self._owners
        return np.minimum.reduceat(distances[owners], begins[:-1]) if len(owners) else np.empty(0)

    def source(self, sentence: int, distances: Floats) -> int:
        """The nearest study whose report has a sentence; of equal ones the first."""
        owners, begins = self._owners
        mine = owners[begins[sentence] : begins[sentence + 1]]
        return int(mine[np.argmin(distances[mine])])

    def distances(self, vector: Floats, columns: Sequence[int] | None = None) -> Floats:
        """How far the studies are from a vector (D,), each of its numbers in its own standard deviations, (T,).

        Args:
            vector: of a film.
            columns: the numbers that count; None: all.
        """
        chosen = list(range(self.vectors.shape[1])) if columns is None else list(columns)
        spread = self._spread[chosen]
        known = spread > 0
        apart = (self.vectors[:, chosen] - np.asarray(vector, dtype=np.float64)[chosen])[:, known] / spread[known]
        found: Floats = np.sqrt(np.square(apart).sum(axis=1))
        return found

    @cached_property
    def _spread(self) -> Floats:
        """The standard deviations, (D,); 0 where a number is the same in all studies but for rounding."""
        spread = self.vectors.std(axis=0) if len(self.vectors) else np.zeros(self.vectors.shape[1])
        return np.where(spread > 1e-6, spread, 0.0)


def cut_report(report: str) -> tuple[list[str], bool]:
    """The sentences of a report that can stand elsewhere, each once, and whether they are all of it."""
    own = [own_sentence(report[first:last]) for first, last in sentence_spans(report)]
    return list(dict.fromkeys(filter(None, own))), all(own)


def is_normal(study: Study) -> bool:
    """Whether nothing is known against a study's film being normal."""
    return study.labels.get(NO_FINDING, 1.0) >= 0.75


def save_sentences(index: SentenceIndex, path: Path) -> None:
    """Write an index whole; the vectors at half precision."""
    texts = {name: json_bytes(getattr(index, name)) for name in ("sentences", "studies")}
    arrays = {"codes": index.codes, "starts": index.starts, "places": index.places, "normal": index.normal}
    with whole_file(path) as target:
        vectors = {"vectors": index.vectors.astype(np.float16)}
        safetensors.numpy.save_file({**texts, **arrays, **vectors}, target, metadata={"format": "r2gengpt-sentences-1"})


def json_bytes(texts: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Texts as the bytes of a JSON list."""
    return np.frombuffer(json.dumps(list(texts)).encode(), dtype=np.uint8)


def load_sentences(path: Path) -> SentenceIndex:
    """The index in a file.

    Raises:
        InputError: no file that can be read, or a damaged one.
    """
    try:
        arrays = safetensors.numpy.load_file(path)
        sentences, studies = (json.loads(arrays[name].tobytes()) for name in ("sentences", "studies"))
        rows = (arrays[name] for name in ("codes", "starts", "places", "normal", "vectors"))
        codes, starts, places, normal, vectors = rows
        index = SentenceIndex(
            tuple(sentences), codes, tuple(studies), starts, places, normal, vectors.astype(np.float64)
        )
        if fault := next(faults(index), ""):
            raise ValueError(fault)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}", field="writer", value="retrieve") from None
    return index


def faults(index: SentenceIndex) -> Iterator[str]:
    """What is wrong with an index that was read."""
    count, studies = len(index.sentences), len(index.studies)
    if not all(isinstance(text, str) for text in (*index.sentences, *index.studies)):
        yield "sentences and studies must be texts"
    if index.codes.dtype != np.int8 or index.codes.shape != (count, len(OBSERVATIONS)):
        yield f"{count} sentences need {len(OBSERVATIONS)} labels each"
    elif count and not 0 <= index.codes.min() <= index.codes.max() < len(CODES):
        yield "a label that is none"
    if index.vectors.shape != (studies, len(ALL_OBSERVATIONS)) or not np.isfinite(index.vectors).all():
        yield f"{studies} studies need {len(ALL_OBSERVATIONS)} finite logits each"
    if index.normal.dtype != np.bool_ or index.normal.shape != (studies,):
        yield f"{studies} studies need a mark each"
    if index.starts.dtype != np.int64 or index.places.dtype != np.int64 or index.starts.shape != (studies + 1,):
        yield f"{studies} studies need a beginning each"
    elif (index.starts[0], index.starts[-1]) != (0, len(index.places)) or (np.diff(index.starts) < 1).any():
        yield "studies without sentences"
    elif set(index.places.tolist()) != set(range(count)):
        yield "sentences without studies"
