"""Whether a directory's tokenizer.json and tokenizer.model agree. Compares vocabularies only; loads none."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger("r2gengpt.parts")
PIECES, TEXT = 1, 1
"""Field numbers: a model's pieces, and a piece's text. Source: sentencepiece_model.proto."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types of protocol buffers."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A whole number at a place, and the place behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message that hold bytes, by their numbers; others are passed over.

    Raises:
        ValueError: the bytes are no message.
        IndexError: likewise.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            _, at = _varint(data, at)
        elif kind in (FIXED64, FIXED32):
            at += 8 if kind == FIXED64 else 4
        elif kind == BYTES:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("cut off")
            yield number, data[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {kind}")


def pieces_of(file: Path) -> list[str] | None:
    """The pieces of a SentencePiece model by their ids, or None where the file is of another kind (Llama 3's is)."""
    try:
        pieces = [data for number, data in _fields(file.read_bytes()) if number == PIECES]
        return [next(text for number, text in _fields(piece) if number == TEXT).decode("utf-8") for piece in pieces]
    except (ValueError, IndexError, StopIteration):
        return None


def tell_disagreement(directory: Path, tokenizer: Any, source: str) -> None:
    """Say which file is used where a language model comes with two tokenizers of different vocabularies.

    Args:
        directory: of the language model.
        tokenizer: as the library loaded it.
        source: flag and name, for the log line.
    """
    if not all((directory / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        return
    ids, pieces = tokenizer.get_vocab(), pieces_of(directory / "tokenizer.model")
    differing = [number for number, piece in enumerate(pieces or []) if ids.get(piece) != number]
    if differing:
        log.warning(
            "warning: %s: tokenizer.json is used; tokenizer.model gives %d of its %d tokens another id, first %d (the "
            "original reads tokenizer.model)",
            source,
            len(differing),
            len(pieces or []),
            differing[0],
        )
