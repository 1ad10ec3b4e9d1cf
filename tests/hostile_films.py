"""Films that were made to cost much or to break a decoder, and damaged real ones, by a seed. No test stands here."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from dicom_files import data_of, film, ramp

DATA = Path(__file__).parent / "data"


def jpeg(side: int = 64, *, progressive: bool = False) -> bytes:
    out = io.BytesIO()
    Image.fromarray(ramp(side, side, 8)).save(out, "JPEG", progressive=progressive)
    return out.getvalue()


def png(side: int = 64) -> bytes:
    out = io.BytesIO()
    Image.fromarray(ramp(side, side, 8)).save(out, "PNG")
    return out.getvalue()


def with_scans(data: bytes, count: int) -> bytes:
    """A progressive JPEG whose last scan's header comes again until there are `count` scans, each nearly empty."""
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    (length,) = struct.unpack_from(">H", data, last + 2)
    again = data[last : last + 2 + length] + bytes(4)
    return data[:end] + again * (count - data.count(b"\xff\xda")) + data[end:]


def many_scans(count: int = 2000, side: int = 64) -> bytes:
    return with_scans(jpeg(side, progressive=True), count)


def compressed(stream: bytes, syntax: str, side: int = 64) -> bytes:
    """A DICOM film of 8 bits whose one frame is this stream."""
    dataset = film(ramp(side, side, 8), 8)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR = "OB"
    return data_of(dataset)


def wavelets(side: int = 64) -> bytes:
    """A JPEG 2000 codestream of 8 bits."""
    dataset = film(ramp(side, side, 8), 8)
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    return next(generate_frames(dataset.PixelData, number_of_frames=1))


def box(kind: bytes, contents: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(contents), kind) + contents


def siz(width: int, height: int) -> bytes:
    """The beginning of a codestream of this size, which no pixels follow."""
    sizes = struct.pack(">HIIIIIIIIHBBB", 0, width, height, 0, 0, width, height, 0, 0, 1, 7, 1, 1)
    return b"\xff\x4f\xff\x51" + struct.pack(">H", 2 + len(sizes)) + sizes


def jp2(codestream: bytes, width: int, height: int, decoy: bytes = b"") -> bytes:
    """A JP2 file of a codestream; the decoy stands in a box before it."""
    header = box(b"ihdr", struct.pack(">IIHBBBB", height, width, 1, 7, 7, 0, 0)) + box(b"colr", b"\1\0\0\0\0\0\x11")
    start = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ") + box(b"jp2h", header)
    return start + (box(b"xml ", decoy) if decoy else b"") + box(b"jp2c", codestream)


def decoy(side: int = 64, real: int = 20_000) -> bytes:
    """A film whose JPEG 2000 stream shows its header's size in a comment, and is 20,000 pixels wide and high."""
    body = siz(real, real) + wavelets()[51:]
    return compressed(jp2(body, real, real, siz(side, side)), JPEG2000Lossless)


def chunk(kind: bytes, contents: bytes) -> bytes:
    return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", zlib.crc32(kind + contents))


def png_of(width: int, height: int, *chunks: bytes, colour: int = 0) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def png_bomb(width: int = 64, height: int = 64, unpacked: int = 2**24, colour: int = 0) -> bytes:
    """Pixels that unpack to so many bytes, of a picture of grey (0) or RGB (2)."""
    return png_of(width, height, chunk(b"IDAT", zlib.compress(bytes(unpacked), 1)), colour=colour)


def png_of_chunks(count: int = 150_000) -> bytes:
    return png_of(64, 64, chunk(b"IDAT", b"") * count)


def rle(side: int, segment: bytes) -> bytes:
    """A film of one run-length segment."""
    stream = struct.pack("<16L", 1, 64, *[0] * 14) + segment
    return compressed(stream + bytes(len(stream) % 2), RLELossless, side)


def many_elements(count: int = 150_000) -> bytes:
    """A file of far more elements than any film has."""
    one = struct.pack("<HH2sH", 0x0009, 0x1001, b"LO", 0)
    return bytes(128) + b"DICM" + one * count


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut off, or with some bytes changed."""
    if rng.random() < 0.3:
        return data[: int(rng.integers(8, len(data)))]
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 30))):
        changed[int(rng.integers(4, len(data)))] = int(rng.integers(256))
    return bytes(changed)


def real_films() -> list[bytes]:
    """Small good files of every kind that is read."""
    found = [jpeg(), jpeg(progressive=True), png(), data_of(film()), compressed(wavelets(), JPEG2000Lossless)]
    return [*found, *(path.read_bytes() for path in sorted(DATA.glob("dicom_jpeg_*.dcm")))]


def hostile(rng: np.random.Generator) -> bytes:
    """One film that must be refused or read, and harm nobody."""
    kinds = (
        lambda: many_scans(int(rng.integers(65, 5000))),
        lambda: compressed(many_scans(int(rng.integers(65, 5000))), JPEGBaseline8Bit),
        lambda: decoy(real=int(rng.integers(65, 60_000))),
        lambda: png_bomb(unpacked=int(rng.integers(2**16, 2**25))),
        lambda: png_of(int(rng.integers(2**31)), int(rng.integers(2**31)), chunk(b"IDAT", b"")),
        lambda: png_of_chunks(int(rng.integers(100_000, 200_000))),
        lambda: rle(64, bytes([129, 0]) * int(rng.integers(10**5))),
        lambda: rle(4000, b"\x80" * int(rng.integers(10**6))),
        lambda: many_elements(int(rng.integers(10**5, 3 * 10**5))),
    )
    if rng.random() < 0.5:
        films = real_films()
        return damaged(films[int(rng.integers(len(films)))], rng)
    return kinds[int(rng.integers(len(kinds)))]()
