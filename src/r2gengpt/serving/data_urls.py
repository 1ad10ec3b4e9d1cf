"""Data URLs to bytes, by RFC 2397 and as clients really write them. Images are not looked into."""

import binascii
import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote_to_bytes

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
