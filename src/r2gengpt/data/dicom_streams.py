"""The size in pixels that a compressed DICOM frame claims, before a decoder believes it. Decodes no pixel.

A file's header may say 100x100 and its JPEG stream 60,000x60,000: what is allocated follows the stream.
"""

import struct

from r2gengpt.data.containers import ContainerError

JPEG = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81))
"""Transfer syntaxes: JPEG baseline, extended, lossless (two), JPEG-LS (two)."""
JPEG_2000 = frozenset(("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"))
_FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}  # SOFn; 0xF7 is JPEG-LS's


def stream_size(stream: bytes, syntax: str) -> tuple[int, int, int]:
    """Width, height and components that the stream's own header says; `syntax` is of `JPEG` or `JPEG_2000`.

    Raises:
        ContainerError: no such header.
    """
    try:
        return _jpeg(stream) if syntax in JPEG else _jpeg_2000(stream)
    except (struct.error, IndexError):
        raise ContainerError("its compressed frame is cut off in its header") from None


def _jpeg(stream: bytes) -> tuple[int, int, int]:
    """From the first frame header. Source: ISO 10918-1, B.2.2; ISO 14495-1, C.2.2 has the same form."""
    if stream[:2] != b"\xff\xd8":
        raise ContainerError("its compressed frame is no JPEG stream")
    position = 2
    while True:
        while stream[position] != 0xFF:
            position += 1
        while stream[position] == 0xFF:
            position += 1
        marker = stream[position]
        if marker in _FRAMES:
            height, width, components = struct.unpack_from(">HHB", stream, position + 4)
            return width, height, components
        if marker in (0xD9, 0xDA):
            raise ContainerError("its compressed frame has no size")
        (length,) = struct.unpack_from(">H", stream, position + 1)
        position += 1 + length


def _jpeg_2000(stream: bytes) -> tuple[int, int, int]:
    """From the codestream's SIZ marker, which is its second. Source: ISO 15444-1, A.5.1."""
    at = stream.find(b"\xff\x4f\xff\x51", 0, 4096)  # a JP2 box may come first, against the standard
    if at < 0:
        raise ContainerError("its compressed frame is no JPEG 2000 stream")
    right, bottom, left, top = struct.unpack_from(">IIII", stream, at + 8)
    (components,) = struct.unpack_from(">H", stream, at + 40)
    return right - left, bottom - top, components
