"""JSON bodies and data URLs taken apart within bounds, before anything is built of them. No field is known here.

Images are long strings. They stay where they are in the body; the rest is small, and only that is parsed.
"""

import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

import pydantic_core

from r2gengpt.serving.failures import ApiError

MOST_MARKS = 10_000
"""Brackets, commas and strings of a body: a chat of one study has some dozens, and each costs up to a few hundred
bytes."""
DEEPEST = 32
LONG, LONG_IMAGE = 2**16, 2**10
"""Bytes from which a string stays in the body: any string, and one that begins as a data URL does."""
MOST_REST = 2**18
CHUNK = 2**16
MARK = "\0long:"
_MARKS = re.compile(rb'[\[\]{},"]')
_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+"', re.DOTALL)
_WHOLE_ESCAPES = re.compile(rb"(?:[^\\]++|\\u.{4}|\\[^u])*+", re.DOTALL)
_IMAGE = re.compile(rb"\s*data:", re.IGNORECASE)


@dataclass(frozen=True)
class Apart:
    """A body: the JSON without its long strings, each replaced by a mark, and those strings as the body has them."""

    rest: bytes
    long: tuple[memoryview, ...]

    def is_long(self, text: str) -> bool:
        """Whether a string of the rest stands for a long one."""
        return text.startswith(MARK)

    def pieces(self, text: str) -> Iterator[bytes]:
        """A string of the rest, or the long one that it stands for, in pieces of about `CHUNK` bytes.

        Raises:
            ValueError: it is no string of JSON.
        """
        if not self.is_long(text):
            yield text.encode()
            return
        number = text.removeprefix(MARK)
        if not number.isdecimal() or int(number) >= len(self.long):
            raise ValueError("no such string")
        whole, at = self.long[int(number)], 0
        while at < len(whole):
            found = _WHOLE_ESCAPES.match(whole, at, at + CHUNK)
            if found is None or found.end() == at:
                raise ValueError("a broken escape")
            yield str(pydantic_core.from_json(b'"%b"' % bytes(whole[at : found.end()]))).encode()
            at = found.end()


def take_apart(body: bytes | bytearray) -> Apart:
    """Cut the long strings out of a JSON body. What is left may still be no JSON.

    Raises:
        ApiError: 400, it is deeper, of more values, or larger without its images than any study is.
    """
    kept: list[bytes | memoryview] = []
    long: list[memoryview] = []
    view = memoryview(body)
    at = start = depth = count = 0
    while (mark := _MARKS.search(body, at)) is not None:
        at, sign, count = mark.end(), mark[0], count + 1
        depth += (sign in b"[{") - (sign in b"]}")
        if count > MOST_MARKS or depth > DEEPEST:
            limit = f"{DEEPEST} levels deep" if depth > DEEPEST else f"{MOST_MARKS} brackets, commas and strings"
            raise ApiError(400, f"the body: is more than {limit}", "invalid_json")
        if sign == b'"':
            string = _STRING.match(body, at)
            end = len(body) if string is None else string.end() - 1
            if end - at > (LONG_IMAGE if _IMAGE.match(body, at, at + 64) else LONG):
                kept += [view[start:at], b"\\u0000%b%d" % (MARK[1:].encode(), len(long))]
                long.append(view[at:end])
                start = end
            at = end + 1
    kept.append(view[start:])
    if (size := sum(map(len, kept))) > MOST_REST:
        raise ApiError(400, f"the body: has {size} bytes besides its images: at most {MOST_REST}", "invalid_json")
    return Apart(b"".join(kept), tuple(long))


TYPES = frozenset(
    (
        *(f"image/{kind}" for kind in ("png", "x-png", "jpeg", "jpg", "pjpeg", "dicom", "*")),
        *(f"application/{kind}" for kind in ("dicom", "dicom+octet-stream", "octet-stream")),
        "binary/octet-stream",
        "",
    )
)
"""Media types that may be an image that is read here. What an image is shows in its bytes."""
LONGEST_HEAD = 1000
_HEAD = re.compile(rb"\s*data:([^;,]*)(?:;[^;,]*)*?;\s*base64\s*,", re.IGNORECASE)
_WHITE = b" \t\r\n\f"
_STANDARD = bytes.maketrans(b"-_", b"+/")


class NoDataUrl(ValueError):
    """It is an address, or of another media type, or not in base64."""


def read_data_url(pieces: Iterable[bytes]) -> bytes:
    """The bytes of a data URL that comes in pieces.

    White space, parameters, percent signs, the URL-safe alphabet and missing padding are taken.

    Raises:
        NoDataUrl: it does not begin as a data URL of an image in base64.
        ValueError: what follows is not base64.
    """
    left = iter(pieces)
    first = next(left, b"")
    head = _HEAD.match(first[:LONGEST_HEAD])
    if head is None or head[1].strip().lower().decode("latin-1") not in TYPES:
        raise NoDataUrl
    return b"".join(_decoded(_signs(_chain(first[head.end() :], left))))


def _chain(first: bytes, others: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from others


def _signs(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The signs of base64, in the standard alphabet, white space and percent signs taken out."""
    held = b""
    for piece in pieces:
        text = held + piece
        cut = text.find(b"%", max(len(text) - 2, 0))  # of which the digits may be in the next piece
        held, text = (text[cut:], text[:cut]) if cut >= 0 else (b"", text)
        yield unquote_to_bytes(text).translate(_STANDARD, _WHITE)
    if held:
        raise ValueError("a percent sign without digits")


def _decoded(signs: Iterator[bytes]) -> Iterator[bytes]:
    held, padding = b"", 0
    for piece in signs:
        text = piece.rstrip(b"=")
        if b"=" in text or (padding and text):
            raise ValueError("signs after the padding")
        padding += len(piece) - len(text)
        held += text
        whole = len(held) // 4 * 4
        yield binascii.a2b_base64(held[:whole], strict_mode=True)
        held = held[whole:]
    missing = -len(held) % 4
    if padding not in (0, missing):
        raise ValueError("padding of another length")
    yield binascii.a2b_base64(held + b"=" * missing, strict_mode=True)
