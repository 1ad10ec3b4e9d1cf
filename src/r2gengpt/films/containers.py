"""PNG and JPEG files taken apart: format, size, orientation, and only the bytes that make pixels. Decodes no pixel.

DICOM is only recognised here; `dicom` reads it.

Reading the size here, before Pillow sees the file, lets decompression bombs be refused without touching Pillow's
process-wide limit; leaving metadata out keeps its parsers (EXIF, colour profiles, compressed text, animation), their
warnings and their faults away from files that strangers send.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

PNG_SIGNATURE, JPEG_SIGNATURE = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
JPEG_END = b"\xff\xd9"
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOFn; the three are DHT, JPG and DAC
ALONE = frozenset((0x01, *range(0xD0, 0xD8)))
"""Markers of JPEG without a length."""
MOST_SCANS = 64
"""Scans of a JPEG picture at most: encoders make a dozen, and each is a pass over all pixels, however short it is."""
MOST_SEGMENTS = 100_000
"""Chunks of a PNG, or segments of a JPEG: each costs an object, however short it is."""
_JPEG_METADATA = frozenset((*range(0xE1, 0xEE), 0xEF, 0xFE))  # APPn and COM, but JFIF's APP0 and Adobe's APP14
_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}
"""How an EXIF block begins → its byte order."""
_MARKER = re.compile(rb"\xff[^\xff]")
_SEGMENT = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")  # none of the markers without a length, and none of no meaning


class ContainerError(ValueError):
    """The bytes are not a whole PNG or JPEG file; says what is wrong."""


@dataclass(frozen=True)
class Container:
    """What is known of an image before it is decoded.

    Attributes:
        format: "PNG" or "JPEG".
        size: width and height in pixels, as stored (before `orientation`).
        orientation: the EXIF orientation, 1 to 8; 1 is upright.
        data: a file of the same pixels without metadata.
    """

    format: Literal["PNG", "JPEG"]
    size: tuple[int, int]
    orientation: int
    data: bytes


@dataclass(frozen=True)
class DicomChoice:
    """What a caller asks of DICOM files.

    `frame` is which of several, from 1; `force` takes what is no chest film too, `mixed_patients` files of one study
    that name two patients or two studies.
    """

    frame: int | None = None
    force: bool = False
    mixed_patients: bool = False


def is_film(data: bytes) -> bool:
    """Whether the bytes begin as a PNG or JPEG file does."""
    return data.startswith((PNG_SIGNATURE, JPEG_SIGNATURE))


def is_dicom(data: bytes) -> bool:
    """Whether the bytes are those of a DICOM file: by its preamble or, without one, by its first element.

    A file without preamble begins with an element of group 2 or 8, whose length is small or preceded by a type.
    """
    if is_film(data):
        return False
    if data[128:132] == b"DICM":
        return True
    if len(data) < 16:
        return False
    for order in "<>":
        group, element, kind, length = struct.unpack_from(f"{order}HH2sH", data)
        if group in (0x0002, 0x0008) and element <= 0x0018:
            return bool(kind.isalpha() and kind.isupper()) or (order == "<" and length == 0)
    return False


def open_container(data: bytes) -> Container:
    """Take a PNG or JPEG file apart.

    Raises:
        ContainerError: empty, of another format, cut off, or without a size.
    """
    if not data:
        raise ContainerError("is empty (0 bytes)")
    try:
        if data.startswith(PNG_SIGNATURE):
            return _open_png(data)
        if data.startswith(JPEG_SIGNATURE):
            return _open_jpeg(data)
    except (struct.error, IndexError):
        raise ContainerError("is cut off in its header") from None
    if is_dicom(data):
        raise ContainerError("is DICOM, which is not read here")
    raise ContainerError("is not a PNG or JPEG image, nor DICOM")


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Type, content and the whole bytes of each chunk up to IEND."""
    position = len(PNG_SIGNATURE)
    for _ in range(MOST_SEGMENTS):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise ContainerError(f"is cut off: its {kind.decode('latin-1')!r} chunk ends {end - len(data)} bytes later")
        yield kind, data[position + 8 : end - 4], data[position:end]
        if kind == b"IEND":
            return
        position = end
    raise ContainerError(f"has more than {MOST_SEGMENTS} chunks")


def _open_png(data: bytes) -> Container:
    size, orientation, started, kept = None, 1, False, [PNG_SIGNATURE]
    for kind, content, whole in png_chunks(data):
        if kind == b"IHDR" and size is None:
            size = struct.unpack_from(">II", content)
        elif kind == b"eXIf":
            orientation = exif_orientation(content)
        elif kind == b"acTL" and not started:
            _check_frames(content)
        started |= kind == b"IDAT"
        if kind in _PNG_PIXELS:
            kept.append(whole)
    if size is None:
        raise ContainerError("has no size: its IHDR chunk is missing")
    return Container("PNG", (size[0], size[1]), orientation, b"".join(kept))


def _check_frames(animation: bytes) -> None:
    """Refuse an animation of several frames. Source: PNG, third edition, 11.3.6.1 (acTL, before the first IDAT)."""
    frames = int.from_bytes(animation[:4]) if len(animation) == 8 else 1
    if frames > 1:
        raise ContainerError(f"has more than one frame ({frames} of them): give one image for each view")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Marker, content and the whole bytes of each segment; the first scan comes with all that follows it."""
    position = 2
    for _ in range(MOST_SEGMENTS):
        position, marker = next_marker(data, position)
        start = position - 1
        if marker in (_JPEG_SCAN, _JPEG_END):
            yield marker, b"", data[start:]
            return
        if marker == 0 or marker in ALONE:
            position += 1
            continue
        (length,) = struct.unpack_from(">H", data, position + 1)
        position += 1 + length
        yield marker, data[start + 4 : position], data[start:position]
    raise ContainerError(f"has more than {MOST_SEGMENTS} segments")


def next_marker(data: bytes, position: int) -> tuple[int, int]:
    """Where the code of the next marker stands, and the code. Stray bytes before it are skipped, as libjpeg does.

    Raises:
        IndexError: there is none.
    """
    found = _MARKER.search(data, position)
    if found is None:
        raise IndexError
    return found.end() - 1, found[0][1]


def _scans(data: bytes) -> bytes:
    """What follows a JPEG's headers up to the picture's end. Many scans, counted as libjpeg meets them, are refused.

    What looks like a scan within another segment, or after the picture's end, is none.

    Raises:
        ContainerError: so it is.
    """
    position = scans = 0
    for _ in range(MOST_SEGMENTS):
        found = _SEGMENT.search(data, position)
        if found is None or found[0][1] == _JPEG_END:
            return data if found is None else data[: found.end()]
        scans += found[0][1] == _JPEG_SCAN
        if scans > MOST_SCANS:
            raise ContainerError(f"has more than {MOST_SCANS} scans")
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    raise ContainerError(f"has more than {MOST_SEGMENTS} segments")


def _open_jpeg(data: bytes) -> Container:
    size, orientation, kept = None, 1, [data[:2]]
    for marker, content, whole in _jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            if size is not None:
                raise ContainerError("has two frame headers")
            height, width = struct.unpack_from(">HH", content, 1)
            size = (width, height)
        elif marker == 0xE1 and content.startswith(b"Exif\0\0"):
            orientation = exif_orientation(content[6:])
        if marker not in _JPEG_METADATA:
            kept.append(whole)
    if size is None:
        raise ContainerError("has no size: its frame header is missing")
    return Container("JPEG", size, orientation, b"".join([*kept[:-1], _scans(kept[-1])]))


def exif_orientation(exif: bytes) -> int:
    """The orientation tag (0x0112) of the first directory of an EXIF block; 1 where there is none or it is broken.

    Source: EXIF 2.3, section 4.6 (TIFF 6.0 directories).
    """
    order = _ORDERS.get(exif[:4])
    if order is None:
        return 1
    start = int.from_bytes(exif[4:8], order) + 2
    count = int.from_bytes(exif[start - 2 : start], order)
    for entry in range(start, min(start + 12 * count, len(exif)) - 11, 12):
        tag, kind, value = (int.from_bytes(exif[entry + at : entry + at + 2], order) for at in (0, 2, 8))
        if tag == 0x0112:
            return value if kind == 3 and 2 <= value <= 8 else 1
    return 1
