"""METEOR's table of paraphrases as a compact index, made once and kept in the user's cache. No alignment.

The table has 5.3 million pairs of phrases of one to seven words. The index is a tree of words in sorted arrays: a
phrase of n words is the number of its first n - 1 words together with its last word. So all phrases of all texts are
found in seven binary searches, and the arrays are mapped into memory, of which only what is looked at is read.
"""

import contextlib
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r2gengpt.files import cache_dir, whole_directory
from r2gengpt.metrics.meteor.tables import PARAPHRASES
from r2gengpt.metrics.ngrams import Ints

LAYOUT = 1
"""Goes up when the index of one table changes."""
_CHUNK = 1 << 25
"""Bytes of the table that are split at once."""


@dataclass(frozen=True)
class Phrases:
    """Phrases that occur in texts: `number[i]` has `length[i]` words from place `start[i]` of text `text[i]`."""

    text: Ints
    start: Ints
    length: Ints
    number: Ints


@dataclass(frozen=True)
class ParaphraseIndex:
    """The table.

    `words` numbers its words. `nodes` holds, for n from 2, the ascending keys (number of the first n - 1 words times
    the number of words, plus the last word) of all beginnings of n words; `bounds` says where each n begins. A phrase
    of one word has the word's number; others come after them, in the order of `nodes`. `targets` from
    `starts[i]` to `starts[i + 1]` are the paraphrases of `sources[i]`, as the table lists them.
    """

    words: dict[str, int]
    nodes: NDArray[np.int64]
    bounds: Ints
    sources: NDArray[np.int32]
    starts: NDArray[np.int32]
    targets: NDArray[np.int32]

    def find(self, texts: Sequence[Sequence[str]]) -> Phrases:
        """All phrases of the table in texts, and beginnings of phrases, in the order of text, start and length."""
        words = np.array([self.words.get(word, -1) for text in texts for word in text], dtype=np.int64)
        owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        first = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
        start = np.flatnonzero(words >= 0)
        number, parts = words[start], [(start, np.ones_like(start), words[start])]
        for length, (low, high) in enumerate(zip(self.bounds[:-1], self.bounds[1:], strict=True), start=2):
            last = start + length - 1
            inside = last < words.size
            inside[inside] = (owner[start[inside]] == owner[last[inside]]) & (words[last[inside]] >= 0)
            start, key = start[inside], number[inside] * len(self.words) + words[last[inside]]
            place = np.searchsorted(self.nodes[low:high], key)
            there = place < high - low
            there[there] = self.nodes[low:high][place[there]] == key[there]
            start, number = start[there], len(self.words) + low + place[there]
            parts.append((start, np.full_like(start, length), number))
        starts, lengths, numbers = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        order = np.lexsort((lengths, starts))
        text = owner[starts[order]]
        return Phrases(text, starts[order] - first[text], lengths[order], numbers[order])

    def among(self, numbers: Ints) -> dict[int, list[int]]:
        """Each phrase's paraphrases among phrases, as the table lists them; those without any are left out."""
        present = np.zeros(len(self.words) + self.nodes.size, dtype=bool)
        present[numbers] = True
        phrases = np.flatnonzero(present)
        place = np.minimum(np.searchsorted(self.sources, phrases), self.sources.size - 1)
        found: dict[int, list[int]] = {}
        for i in place[self.sources[place] == phrases]:
            several = self.targets[self.starts[i] : self.starts[i + 1]]
            if (kept := several[present[several]]).size:
                found[int(self.sources[i])] = kept.tolist()
        return found


def load(directory: Path) -> ParaphraseIndex:
    """The index of the table in pycocoevalcap's directory: of the cache, else made there, which takes seconds.

    Where the cache cannot be written to, the index is made each time.
    """
    table = directory / PARAPHRASES
    place = cache_dir() / "meteor" / f"{_checksum(table)}-v{LAYOUT}"
    with contextlib.suppress(OSError, ValueError, EOFError):  # not there yet, or spoilt: it is made anew
        return _read(place)
    index = build(table)
    with contextlib.suppress(OSError), whole_directory(place) as temporary:
        temporary.joinpath("words.txt").write_text("\n".join(index.words), encoding="utf-8", newline="\n")
        for name in _ARRAYS:
            np.save(temporary / f"{name}.npy", getattr(index, name))
    return index


_ARRAYS = ("nodes", "bounds", "sources", "starts", "targets")


def _read(place: Path) -> ParaphraseIndex:
    words = place.joinpath("words.txt").read_text(encoding="utf-8").split("\n")
    arrays = [np.load(place / f"{name}.npy", mmap_mode="r") for name in _ARRAYS]
    return ParaphraseIndex({word: number for number, word in enumerate(words)}, *arrays)


def _checksum(table: Path) -> str:
    """What gzip keeps at a file's end: the contents' CRC-32 and size."""
    with table.open("rb") as file:
        file.seek(-8, 2)
        return file.read().hex()


def build(table: Path) -> ParaphraseIndex:
    """Read a whole table: three lines a pair, of which the first, its probability, has no part in METEOR."""
    phrases: dict[bytes, int] = {}
    pairs = []
    for lines in _chunks(table):
        columns = [[phrases.setdefault(line, len(phrases)) for line in lines[column::3]] for column in (1, 2)]
        pairs.append(np.array(columns, dtype=np.int32))
    words, rows = _rows(list(phrases))
    del phrases
    number, levels, size = rows[:, 0].astype(np.int64), [], len(words)
    for column in rows.T[1:]:
        longer = column >= 0
        keys, place = np.unique(number[longer] * len(words) + column[longer], return_inverse=True)
        number[longer] = size + place
        size += keys.size
        levels.append(keys)
    source, target = number[np.concatenate(pairs, axis=1)].astype(np.int32)
    order = np.argsort(source, kind="stable")
    sources, starts = np.unique(source[order], return_index=True)
    return ParaphraseIndex(
        words,
        np.concatenate([np.zeros(0, dtype=np.int64), *levels]),
        np.cumsum([0, *map(len, levels)]),
        sources,
        np.append(starts, source.size).astype(np.int32),
        target[order],
    )


def _chunks(table: Path) -> Iterator[list[bytes]]:
    """The table's lines, a multiple of three at a time."""
    with gzip.open(table) as file:
        rest: list[bytes] = [b""]
        while chunk := file.read(_CHUNK):
            lines = (rest[-1] + chunk).split(b"\n")
            lines[:0] = rest[:-1]
            whole = (len(lines) - 1) // 3 * 3
            yield lines[:whole]
            rest = lines[whole:]
    if len(whole_lines := [line for line in rest if line]) == 3:  # no line break at the end
        yield whole_lines


def _rows(phrases: Sequence[bytes]) -> tuple[dict[str, int], NDArray[np.int32]]:
    """The numbering of all words, and the words of each phrase from the left, -1 after its end."""
    number: dict[bytes, int] = {}
    lengths = np.array([phrase.count(b" ") + 1 for phrase in phrases], dtype=np.int64)
    words = [number.setdefault(word, len(number)) for word in b" ".join(phrases).split(b" ")]
    rows = np.full((len(phrases), int(lengths.max(initial=1))), -1, dtype=np.int32)
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = words
    return {word.decode(): place for word, place in number.items()}, rows
