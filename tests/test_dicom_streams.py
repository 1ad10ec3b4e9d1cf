"""Compressed frames taken apart byte by byte: run lengths, and the size that JPEG and JPEG 2000 headers say."""

import struct

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

from r2gengpt.films.containers import ContainerError
from r2gengpt.films.dicom.streams import decode_rle, stream_size, with_ones


def packed(*segments: bytes) -> bytes:
    """An RLE frame: 64 bytes of how many segments there are and where each begins, then these."""
    starts = [64 + sum(map(len, segments[:at])) for at in range(len(segments))]
    return struct.pack("<16L", len(segments), *starts, *(0,) * (15 - len(segments))) + b"".join(segments)


# ------------------------------------------------------------------ run lengths


def test_samples_of_two_bytes_have_their_high_bytes_in_the_first_segment() -> None:
    found = decode_rle(packed(b"\x05\x01\x02\x03\x04\x05\xff", b"\xfb\x07"), (2, 3), 1, 2)
    assert found.dtype == np.uint16
    assert found.tolist() == [[0x0107, 0x0207, 0x0307], [0x0407, 0x0507, 0xFF07]]


def test_colours_have_a_segment_each() -> None:
    found = decode_rle(packed(b"\x05abcdef", b"\xfb\x01", b"\x02ABC\xfe\x02"), (3, 2), 3, 1)
    assert found.shape == (3, 2, 3)
    assert found[..., 0].tobytes() == b"abcdef"
    assert found[..., 1].tobytes() == b"\x01" * 6
    assert found[..., 2].tobytes() == b"ABC\x02\x02\x02"


@pytest.mark.parametrize(
    ("runs", "samples"),
    [
        (b"\xffz\x01ab", b"zzab"),  # 255: twice
        (b"\x81z\x00a", b"z" * 128 + b"a"),  # 129: 128 times
        (b"\x7f" + bytes(range(128)) + b"\x00a", bytes(range(128)) + b"a"),  # 127: the next 128
        (b"\x80\x00a", b"a"),  # 128: nothing
    ],
)
def test_a_run_has_as_many_bytes_as_its_head_says(runs: bytes, samples: bytes) -> None:
    assert decode_rle(packed(runs), (1, len(samples)), 1, 1).tolist() == [list(samples)]


@pytest.mark.parametrize("runs", [b"", b"\x01ab", b"\x04abc", b"\xfe", b"\x02abc\xff", b"\x02abc\x80"])
def test_a_segment_that_holds_less_than_the_picture_is_refused(runs: bytes) -> None:
    held = len(runs.strip(b"\x01\x02\x04\x80\xfe\xff"))
    with pytest.raises(ContainerError, match=f"its RLE segment holds {held} bytes, must be 4"):
        decode_rle(packed(runs), (2, 2), 1, 1)


def test_a_frame_shorter_than_its_header_is_refused() -> None:
    with pytest.raises(ContainerError, match="its RLE frame is cut off in its header"):
        decode_rle(packed()[:63], (2, 2), 1, 1)


@pytest.mark.parametrize(("samples", "width", "must"), [(1, 1, 1), (1, 2, 2), (3, 1, 3)])
def test_a_frame_has_a_segment_for_each_byte_of_a_pixel(samples: int, width: int, must: int) -> None:
    for count in {1, 2, 3, 4} - {must}:
        with pytest.raises(ContainerError, match=f"its RLE frame has {count} segments, must be {must}"):
            decode_rle(packed(*[b"\x03abcd"] * count), (2, 2), samples, width)


# ------------------------------------------------------------------ JPEG

START, END = b"\xff\xd8", b"\xff\xd9"


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def frame_header(marker: int, width: int = 300, height: int = 200, components: int = 1) -> bytes:
    """SOFn of ISO 10918-1, B.2.2: precision, lines, samples of a line, components."""
    return segment(marker, struct.pack(">BHHB", 8, height, width, components) + b"\x01\x11\x00" * components)


SCAN = segment(0xDA, b"\x01\x01\x00\x00\x3f\x00") + b"pixels"


@pytest.mark.parametrize("marker", [*range(0xC0, 0xC4), 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7])
def test_the_size_is_that_of_whichever_frame_header_there_is(marker: int) -> None:
    stream = START + segment(0xDB, bytes(65)) + frame_header(marker, 300, 200, 3) + SCAN + END
    assert stream_size(stream, JPEGBaseline8Bit) == (300, 200, 3)


@pytest.mark.parametrize("marker", [0xC4, 0xC8, 0xCC, 0xDB, 0xE0, 0xF6, 0xF8, 0xFE])
def test_a_segment_of_another_kind_says_no_size(marker: int) -> None:
    with pytest.raises(ContainerError, match=r"^its compressed frame has no size$"):
        stream_size(START + frame_header(marker) + SCAN + END, JPEGBaseline8Bit)
    both = START + frame_header(marker) + frame_header(0xC0, 32, 16) + SCAN + END
    assert stream_size(both, JPEGBaseline8Bit) == (32, 16, 1)


@pytest.mark.parametrize(
    "between", [b"", b"\xff\x01", b"\xff\xd0", b"\xff\xd7", b"\xff\x00", b"stray", b"\xff\xff\xff", segment(0xFE, b"")]
)
def test_what_stands_before_a_frame_header_and_has_no_length_is_passed_over(between: bytes) -> None:
    stream = START + between + frame_header(0xC0, 300, 200) + between + SCAN + END
    assert stream_size(stream, JPEGBaseline8Bit) == (300, 200, 1)


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (b"", "is no JPEG stream"),
        (b"\xff\xd9" + frame_header(0xC0) + SCAN + END, "is no JPEG stream"),
        (START, "is cut off in its header"),
        (START + END, "has no size"),
        (START + SCAN + END + frame_header(0xC0) + END, "has no size"),
        (START + END + frame_header(0xC0) + SCAN + END, "has no size"),
        (START + frame_header(0xC0) + SCAN, "is cut off: its end is missing"),
        (START + frame_header(0xC0) + END + SCAN, "is cut off: its end is missing"),
        (START + frame_header(0xC0) + frame_header(0xC0) + SCAN + END, "has two headers"),
        (START + b"\xff\xc0\x00", "is cut off in its header"),
    ],
)
def test_a_stream_without_one_frame_header_before_its_scan_is_refused(stream: bytes, words: str) -> None:
    with pytest.raises(ContainerError, match=f"^its compressed frame {words}$"):
        stream_size(stream, JPEGBaseline8Bit)


def test_ones_stand_before_the_last_end_in_place_of_what_fills_up() -> None:
    filled = with_ones(START + END + b"pixels\xff\xff" + END + b"\0")
    assert filled.startswith(START + END + b"pixels\xff\x00")
    assert filled.endswith(b"\xff\x00" + END + b"\0")


# ------------------------------------------------------------------ JPEG 2000


def codestream(right: int, bottom: int, left: int = 0, top: int = 0, components: int = 1) -> bytes:
    """SOC and SIZ of ISO 15444-1, A.5.1: capabilities, image area, tiles, components."""
    area = struct.pack(">HIIIIIIII", 0, right, bottom, left, top, right, bottom, 0, 0)
    return b"\xff\x4f" + segment(0x51, area + struct.pack(">H", components) + b"\x07\x01\x01" * components)


def box(kind: bytes, content: bytes = b"", *, length: int | None = None, long: bool = False) -> bytes:
    """A box of ISO 15444-1, I.4; a long one has its length in eight bytes behind its kind."""
    said = (16 if long else 8) + len(content) if length is None else length
    return struct.pack(">I4sQ", 1, kind, said) + content if long else struct.pack(">I4s", said, kind) + content


JP2 = box(b"jP  ", b"\r\n\x87\n")


@pytest.mark.parametrize(
    "head",
    [
        b"",
        JP2 + box(b"jp2c"),
        JP2 + box(b"jp2c", length=0),
        JP2 + box(b"jp2c", long=True),
        JP2 + box(b"ftyp", b"jp2 \0\0\0\0jp2 ") + box(b"jp2h", box(b"ihdr", bytes(14))) + box(b"jp2c"),
        JP2 + box(b"free") + box(b"jp2c"),
        JP2 + box(b"free", long=True) + box(b"jp2c"),
        JP2 + box(b"free", codestream(7, 7), long=True) + box(b"jp2c", long=True),
        JP2 + box(b"uuid", codestream(7, 7)) + box(b"jp2c"),
    ],
)
def test_a_codestreams_size_is_what_its_area_leaves_of_it_bare_or_in_boxes(head: bytes) -> None:
    stream = head + codestream(320, 210, left=20, top=10, components=3) + b"\xff\xd9"
    assert stream_size(stream, JPEG2000Lossless) == (300, 200, 3)


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (b"", "is no JPEG 2000 stream"),
        (b"\0" + codestream(32, 32), "is no JPEG 2000 stream"),
        (codestream(32, 32)[:41], "is cut off in its header"),
        (JP2 + codestream(32, 32), "is (no JPEG 2000 stream|cut off in its header)"),
        (JP2 + box(b"jp2c") + b"\0" + codestream(32, 32), "is no JPEG 2000 stream"),
        (JP2 + box(b"free", length=0) + box(b"jp2c") + codestream(32, 32), "is no JPEG 2000 stream"),
        (JP2 + box(b"free", length=7) + box(b"jp2c") + codestream(32, 32), "is no JPEG 2000 stream"),
        (JP2 + box(b"free", length=15, long=True) + box(b"jp2c") + codestream(32, 32), "is no JPEG 2000 stream"),
        (JP2, "is cut off in its header"),
    ],
)
def test_what_holds_no_codestream_where_its_boxes_say_is_refused(stream: bytes, words: str) -> None:
    with pytest.raises(ContainerError, match=f"^its compressed frame {words}$"):
        stream_size(stream, JPEG2000Lossless)
