"""Films that would have been decoded wrong without a word: tables that miss, windows that are text, 16-bit colours."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_files import data_of, film, ramp
from r2gengpt.errors import InputError
from r2gengpt.films.containers import DicomChoice
from r2gengpt.films.dicom.header import read_header, warn_of
from r2gengpt.films.reader import decode_image


def greys(data: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(decode_image(data, "x.dcm").convert("L"))


def lut(first: int, count: int = 4096, kind: str = "US", bits: int = 12) -> Sequence:
    item = Dataset()
    low = first - 65536 if kind == "SS" and first > 32767 else first
    item.add(DataElement(0x00283002, kind, [count if kind == "US" or count < 32768 else count - 65536, low, bits]))
    item.add(DataElement(0x00283006, "OW", np.arange(count, dtype="<u2").tobytes()))
    return Sequence([item])


def with_lut(key: str, first: int, syntax: str = ExplicitVRLittleEndian, kind: str = "US", **more: Any) -> bytes:
    pixels = more.pop("pixels", None)
    dataset = film(ramp(bits=12) if pixels is None else pixels, 12, syntax, **more)
    setattr(dataset, key, lut(first, kind=kind))
    return data_of(dataset)


RIGHT = greys(data_of(film(ramp(bits=12), 12)))
SIGNED = {"pixels": ramp(bits=12, signed=True), "PixelRepresentation": 1}
RESCALED = {"RescaleSlope": 1, "RescaleIntercept": -2048}


@pytest.mark.parametrize(
    ("key", "more"),
    [
        ("VOILUTSequence", {"syntax": ImplicitVRLittleEndian, **RESCALED}),
        ("VOILUTSequence", {"syntax": ExplicitVRLittleEndian, **RESCALED}),
        ("VOILUTSequence", {"syntax": ExplicitVRLittleEndian, "kind": "SS", **RESCALED}),
        ("VOILUTSequence", {"syntax": ExplicitVRLittleEndian, **SIGNED}),
        ("VOILUTSequence", {"syntax": ImplicitVRLittleEndian, **SIGNED}),
        ("ModalityLUTSequence", {"syntax": ExplicitVRLittleEndian, **SIGNED}),
        ("ModalityLUTSequence", {"syntax": ImplicitVRLittleEndian, **SIGNED}),
    ],
    ids=str,
)
def test_a_tables_first_value_is_read_as_it_meets_the_pixels(key: str, more: dict[str, Any]) -> None:
    found = greys(with_lut(key, 63488, **more))  # 63488 is -2048 without its sign
    assert int(found.min()) == 0
    assert int(found.max()) == 255
    assert abs(found.astype(int) - RIGHT).max() <= 2, "the table is the identity"


@pytest.mark.parametrize("key", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_table_that_misses_the_pixels_is_left_out_with_a_warning(key: str, caplog: pytest.LogCaptureFixture) -> None:
    warn_of.cache_clear()
    found = greys(with_lut(key, 50000))
    assert np.ptp(found) > 200
    assert "leaves nearly one" in caplog.text


@pytest.mark.parametrize(
    "window",
    [(90000, 10), (-5000, 100), (2048, 0), (2048, -5), (60000, 2), ("AUTO", "3000.5"), ("", "100"), ("1e400", "5")],
    ids=str,
)
def test_a_window_that_shows_nothing_is_left_out_with_a_warning(
    window: tuple[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    warn_of.cache_clear()
    data = data_of(film(ramp(bits=12), 12, WindowCenter="1111.25", WindowWidth="2222.25"))
    for old, new in zip(("1111.25", "2222.25"), window, strict=True):
        data = data.replace(old.encode() + b" ", str(new).encode().ljust(8))
    found = greys(data)
    assert np.ptp(found) > 200
    assert caplog.text.count("WARNING") >= 1


@pytest.mark.parametrize(("center", "width"), [("2048,5", "3000.5"), ("2048.5", "3000,5"), (" 2048.5", "+3000.5")])
def test_a_decimal_comma_is_a_point(center: str, width: str) -> None:
    data = data_of(film(ramp(bits=12), 12, WindowCenter="1111.25", WindowWidth="2222.25"))
    wanted = greys(data_of(film(ramp(bits=12), 12, WindowCenter="2048.5", WindowWidth="3000.5")))
    for old, new in (("1111.25", center), ("2222.25", width)):
        data = data.replace(old.encode() + b" ", new.encode().ljust(8))
    assert np.array_equal(greys(data), wanted)


def test_the_second_window_stands_in_for_one_that_shows_nothing() -> None:
    found = greys(data_of(film(ramp(bits=12), 12, WindowCenter=[90000, 2048], WindowWidth=[10, 4096])))
    assert np.array_equal(found, greys(data_of(film(ramp(bits=12), 12, WindowCenter=2048, WindowWidth=4096))))


def raw_element(tag: bytes, kind: bytes, value: bytes) -> bytes:
    return tag + kind + struct.pack("<H", len(value)) + value


def put_before_pixels(data: bytes, element: bytes) -> bytes:
    at = data.index(b"\xe0\x7f\x10\x00")
    return data[:at] + element + data[at:]


@pytest.mark.parametrize(
    "element",
    [
        b"\xfe\xff\x00\xe0\x00\x00\x00\x00",  # an item outside of any sequence
        raw_element(b"\x28\x00\x08\x00", b"IS", b"1."),
        raw_element(b"\x28\x00\x20\x01", b"US", b"\x00\x00\x01"),
        raw_element(b"\x28\x00\x52\x10", b"DS", b"none"),
        raw_element(b"\x28\x00\x53\x10", b"DS", b"0 "),
        raw_element(b"\x28\x00\x56\x10", b"QQ", b"LINEAR"),
        raw_element(b"\x28\x00\x10\x30", b"SH", b"noseq "),
        raw_element(b"\x28\x00\x00\x30", b"US", b"\x00\x00"),
        raw_element(b"\x50\x20\x20\x00", b"IS", b"INVERT"),
    ],
    ids=lambda value: value[:6].hex(),
)
def test_an_element_that_the_picture_can_do_without_refuses_no_film(element: bytes) -> None:
    data = put_before_pixels(data_of(film(ramp(bits=12), 12)), element)
    assert abs(greys(data).astype(int) - RIGHT).max() <= 2
    assert read_header(data, "x").modality == "DX"


NUMBERS = (
    *("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "WindowCenter", "WindowWidth", "RescaleSlope", "NumberOfFrames"),
)


@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_whose_kind_is_not_told_is_read_as_what_its_tag_is(key: str) -> None:
    pixels = ramp(bits=12, signed=True)
    pixels[:8] = 2047
    told = film(pixels, 12, PixelPaddingValue=2047, PixelPaddingRangeLimit=2000, WindowCenter=90, WindowWidth=3000,
                RescaleSlope=2, NumberOfFrames=1)  # fmt: skip
    data, element = data_of(told), told[key]
    start = struct.pack("<HH", element.tag.group, element.tag.element) + element.VR[:2].encode()
    at = data.index(start if element.VR in ("DS", "IS", "US") else start[:4])
    unknown = data[: at + 4] + b"UN\0\0" + data[at + 6 : at + 8] + b"\0\0" + data[at + 8 :]
    assert np.array_equal(greys(unknown), greys(data))
    assert read_header(unknown, "x") == read_header(data, "x")


def png(levels: npt.NDArray[np.uint16], colour_type: int, interlaced: bool = False, more: bytes = b"") -> bytes:
    """A 16-bit PNG of (H, W, C) levels; with interlacing in one pass only (of pictures of 1x1)."""
    height, width = levels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, int(interlaced))
    body = chunk(b"IHDR", head) + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("form", ["RGB", "LA", "RGBA"])
def test_sixteen_bit_colours_follow_the_rule_of_sixteen_bit_greys(form: str, bits: int) -> None:
    levels = ramp(40, 32, bits).astype(np.uint16)
    grey = np.asarray(decode_image(png(levels[..., None], 0), "x"))
    full = np.full_like(levels, 65535)
    planes = {"RGB": [levels] * 3, "LA": [levels, full], "RGBA": [levels, levels, levels, full]}[form]
    found = np.asarray(decode_image(png(np.stack(planes, axis=-1), {"RGB": 2, "LA": 4, "RGBA": 6}[form]), "x"))
    assert np.array_equal(found, grey)
    assert int(grey.max()) == 255


def test_a_transparent_part_of_sixteen_bits_is_black_and_counts_for_no_depth() -> None:
    levels = ramp(40, 32, 12).astype(np.uint16)
    levels[:5] = 65535
    alpha = np.full_like(levels, 65535)
    alpha[:5] = 0
    found = np.asarray(decode_image(png(np.stack([levels, alpha], axis=-1), 4), "x"))
    assert int(found[:5].max()) == 0
    assert int(found.max()) == 255


def encoded(image: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize(("mode", "colour"), [("L", 0), ("L", 130), ("RGB", (90, 10, 200)), ("RGB", (255, 255, 255))])
def test_a_picture_of_one_grey_is_refused(form: str, mode: str, colour: Any) -> None:
    with pytest.raises(InputError, match=r"^image x: shows nothing: .* of one grey$"):
        decode_image(encoded(Image.new(mode, (200, 160), colour), form), "x")


def test_a_marker_on_nothing_is_no_film() -> None:
    nearly = Image.new("L", (200, 200), 3)
    nearly.paste(255, (10, 10, 20, 18))
    with pytest.raises(InputError, match="shows nothing"):
        decode_image(encoded(nearly, "PNG"), "x")


def test_a_dark_film_is_a_film() -> None:
    dark = Image.fromarray(np.random.default_rng(0).integers(0, 16, (200, 200)).astype(np.uint8))
    assert decode_image(encoded(dark, "PNG"), "x").size == (200, 200)


def test_a_dicom_film_of_one_value_is_refused_whatever_its_window() -> None:
    flat = np.full((40, 32), 700, dtype=np.uint16)
    for more in ({}, {"WindowCenter": 700, "WindowWidth": 10}, {"PhotometricInterpretation": "MONOCHROME1"}):
        with pytest.raises(InputError, match="shows nothing"):
            decode_image(data_of(film(flat, 12, **more)), "x", None, DicomChoice())


@pytest.mark.parametrize("frames", [2, 3])
def test_an_animated_png_is_refused_and_one_of_one_frame_is_read(frames: int) -> None:
    content = struct.pack(">II", frames, 0)
    animation = struct.pack(">I", 8) + b"acTL" + content + struct.pack(">I", zlib.crc32(b"acTL" + content))
    still = struct.pack(">I", 8) + b"acTL" + struct.pack(">II", 1, 0) + bytes(4)
    levels = ramp(40, 32, 12).astype(np.uint16)[..., None]
    with pytest.raises(InputError, match=f"has more than one frame \\({frames} of them\\)"):
        decode_image(png(levels, 0, more=animation), "x")
    assert decode_image(png(levels, 0, more=still), "x").size == (32, 40)
