"""Compressed DICOM frames: run lengths decoded, and the size that any other claims before a decoder believes it.

Our own, as the decoders at hand either stop with a trace on damaged runs or unpack them without a limit.

A file's header may say 100x100 and its JPEG stream 60,000x60,000: what is allocated follows the stream.
"""

import struct

import numpy as np
import numpy.typing as npt

from r2gengpt.films.containers import ALONE, JPEG_END, MOST_SCANS, MOST_SEGMENTS, ContainerError, next_marker


def decode_rle(stream: bytes, shape: tuple[int, int], samples: int, width: int) -> npt.NDArray[np.integer]:
    """A frame's samples. Source: PS3.5, annex G.

    Args:
        stream: the compressed frame.
        shape: rows and columns.
        samples: of a pixel, 1 or 3.
        width: bytes of a sample, 1 or 2.

    Returns:
        (rows, columns), or (rows, columns, 3); uint8 or uint16.

    Raises:
        ContainerError: the frame is damaged.
    """
    if len(stream) < 64:
        raise ContainerError("its RLE frame is cut off in its header")
    count, *offsets = struct.unpack_from("<16L", stream)
    if count != samples * width:
        raise ContainerError(f"its RLE frame has {count} segments, must be {samples * width}")
    ends = [*offsets[1:count], len(stream)]
    planes = [_segment(stream[at:end], shape[0] * shape[1]) for at, end in zip(offsets[:count], ends, strict=True)]
    if width == 2:
        high, low = (plane.astype(np.uint16) for plane in planes)
        return ((high << np.uint16(8)) | low).reshape(shape)
    return planes[0].reshape(shape) if samples == 1 else np.stack(planes, axis=-1).reshape(*shape, samples)


def _segment(packed: bytes, count: int) -> npt.NDArray[np.uint8]:
    """The first `count` bytes of a segment."""
    out, at = bytearray(), 0
    while at < len(packed) and len(out) < count:
        head = packed[at]
        if head < 128:
            out += packed[at + 1 : at + 2 + head]
            at += 2 + head
        elif head > 128:
            out += packed[at + 1 : at + 2] * (257 - head)
            at += 2
        else:
            at += 1
    if len(out) < count:
        raise ContainerError(f"its RLE segment holds {len(out)} bytes, must be {count}")
    return np.frombuffer(out, np.uint8, count)


JPEG = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81))
"""Transfer syntaxes: JPEG baseline, extended, lossless (two), JPEG-LS (two)."""
JPEG_2000 = frozenset(("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"))
TELLS = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (57, 70))
"""Those whose decoder refuses the code of `with_ones`: lossless JPEG."""
_CODESTREAM = b"\xff\x4f\xff\x51"
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
_FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}  # SOFn; 0xF7 is JPEG-LS's


def stream_size(stream: bytes, syntax: str) -> tuple[int, int, int]:
    """Width, height and components that the stream's own header says; `syntax` is of `JPEG` or `JPEG_2000`.

    Raises:
        ContainerError: no such header, two of them, more scans than any encoder makes, or a JPEG without an end.
    """
    try:
        return _jpeg(stream) if syntax in JPEG else _jpeg_2000(stream)
    except (struct.error, IndexError):
        raise ContainerError("its compressed frame is cut off in its header") from None


def _jpeg(stream: bytes) -> tuple[int, int, int]:
    """From the frame header. Source: ISO 10918-1, B.2.2; ISO 14495-1, C.2.2 has the same form."""
    if stream[:2] != b"\xff\xd8":
        raise ContainerError("its compressed frame is no JPEG stream")
    if stream.count(b"\xff\xda") > MOST_SCANS:  # compressed pixels never hold these bytes
        raise ContainerError(f"its compressed frame has more than {MOST_SCANS} scans")
    if stream.rfind(JPEG_END) < stream.rfind(b"\xff\xda"):  # the decoder would make up the rest
        raise ContainerError("its compressed frame is cut off: its end is missing")
    position, found = 2, None
    for _ in range(MOST_SEGMENTS):
        position, marker = next_marker(stream, position)
        if marker in (0xD9, 0xDA):
            break
        if marker == 0 or marker in ALONE:
            position += 1
            continue
        if marker in _FRAMES:
            if found is not None:
                raise ContainerError("its compressed frame has two headers")
            height, width, components = struct.unpack_from(">HHB", stream, position + 4)
            found = width, height, components
        (length,) = struct.unpack_from(">H", stream, position + 1)
        position += 1 + length
    if found is None:
        raise ContainerError("its compressed frame has no size")
    return found


_ONES = b"\xff\x00" * 64


def with_ones(stream: bytes) -> bytes:
    """A JPEG stream with a run of ones before its end, which a decoder reads only where blocks or lines are missing.

    Such a run is no Huffman code, and in JPEG-LS it goes on with a line. Source: ISO 10918-1, C.2.
    """
    end = stream.rfind(JPEG_END)
    return stream[:end].rstrip(b"\xff") + _ONES + stream[end:]


def _jpeg_2000(stream: bytes) -> tuple[int, int, int]:
    """From the codestream's SIZ marker, which is its second. Source: ISO 15444-1, A.5.1.

    A JP2 file may stand around it, against the standard. Its boxes are followed as decoders do: what looks like a
    codestream within one of the others is none.
    """
    at = _codestream(stream) if stream.startswith(_JP2) else 0
    if not stream.startswith(_CODESTREAM, at):
        raise ContainerError("its compressed frame is no JPEG 2000 stream")
    right, bottom, left, top = struct.unpack_from(">IIII", stream, at + 8)
    (components,) = struct.unpack_from(">H", stream, at + 40)
    return right - left, bottom - top, components


def _codestream(file: bytes) -> int:
    """Where the contents of a JP2 file's first codestream box begin. Source: ISO 15444-1, I.4."""
    at = 0
    for _ in range(MOST_SEGMENTS):
        length, kind = struct.unpack_from(">I4s", file, at)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", file, at + 8)
            head = 16
        if kind == b"jp2c":
            return at + head
        if length < head:  # 0: the last box, up to the end
            break
        at += length
    raise ContainerError("its compressed frame is no JPEG 2000 stream")
