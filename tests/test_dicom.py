"""DICOM in: pixels of every encoding, greys as the standard says, views, refusals, damage.

`data/dicom_jpeg_*.dcm` are `ramp()` of `dicom_files.py` as dcmtk 3.6.7 compressed it (dcmcjpeg +ee +q 95; +el +sv 4;
+e1).
"""

import io
import json
import math
import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import Dataset, dcmread, uid
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from conftest import Outcome, TinySet
from dicom_files import ROOT, data_of, film, ramp
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.features.filling import image_digest
from r2gengpt.data.loading import StudyDataset
from r2gengpt.errors import InputError
from r2gengpt.films.containers import MOST_SCANS, ContainerError, DicomChoice, is_dicom
from r2gengpt.films.dicom import header as dicom_header
from r2gengpt.films.dicom import picture
from r2gengpt.films.dicom.greys import Curve, Greys, quantiles, stretched
from r2gengpt.films.dicom.header import DicomHeader, header_of, open_dataset, read_header
from r2gengpt.films.dicom.picture import decode_dicom
from r2gengpt.films.dicom.streams import JPEG, TELLS, decode_rle, stream_size
from r2gengpt.films.dicom.tables import StoredPixels, greys_of
from r2gengpt.films.dicom.values import numbers_of
from r2gengpt.films.reader import MAX_PIXELS, PLAIN, decode_image, load_image
from r2gengpt.films.sources import study_of

DATA = Path(__file__).parent / "data"


def greys_in(data: bytes, choice: DicomChoice = PLAIN) -> npt.NDArray[np.uint8]:
    return np.asarray(decode_image(data, "x.dcm", None, choice))[..., 0]


def greys(dataset: Any, choice: DicomChoice = PLAIN) -> npt.NDArray[np.uint8]:
    return greys_in(data_of(dataset), choice)


def plain_grey(value: int, black: int, white: int, how: dict[str, Any]) -> int:
    """One stored value as a grey, by the standard's formulas and nothing else (PS3.3, C.11.2.1.2)."""
    x = value * how["slope"] + how["intercept"]
    c, w = how["center"], how["width"]
    if how["function"] == "LINEAR":
        y = 0.0 if x <= c - 0.5 - (w - 1) / 2 else 1.0 if x > c - 0.5 + (w - 1) / 2 else (x - (c - 0.5)) / (w - 1) + 0.5
    elif how["function"] == "LINEAR_EXACT":
        y = 0.0 if x <= c - w / 2 else 1.0 if x > c + w / 2 else (x - c) / w + 0.5
    else:
        y = 1 / (1 + math.exp(-4 * (x - c) / w))
    return math.floor((1 - y if how["inverted"] else y) * 255 + 0.5)


@settings(max_examples=60)
@given(
    bits=st.integers(8, 16),
    signed=st.booleans(),
    inverted=st.booleans(),
    function=st.sampled_from(("LINEAR", "LINEAR_EXACT", "SIGMOID")),
    slope=st.sampled_from((1.0, 0.5, 2.0, -1.0)),
    intercept=st.sampled_from((0.0, -1024.0, 100.0)),
    where=st.floats(0.2, 0.8),
    share=st.floats(0.05, 1.5),
)
def test_greys_are_those_of_the_standards_formulas(
    bits: int, signed: bool, inverted: bool, function: str, slope: float, intercept: float, where: float, share: float
) -> None:
    pixels = ramp(20, 16, bits, signed)
    ends = sorted(float(end) * slope + intercept for end in (pixels.min(), pixels.max()))
    how = {
        "slope": slope,
        "intercept": intercept,
        "center": float(round(ends[0] + where * (ends[1] - ends[0]))),
        "width": float(max(2, round(share * (ends[1] - ends[0])))),
        "function": function,
        "inverted": inverted,
    }
    dataset = film(
        pixels,
        bits,
        PhotometricInterpretation="MONOCHROME1" if inverted else "MONOCHROME2",
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        WindowCenter=how["center"],
        WindowWidth=how["width"],
        VOILUTFunction=function,
    )
    found = greys(dataset).astype(int)
    expected = np.array([[plain_grey(int(v), 0, 0, how) for v in row] for row in pixels])
    # one level: a value whose grey lies exactly between two may be rounded either way by another order of operations
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.02


def curve(descriptor: list[int], entries: list[int], **more: Any) -> Sequence:
    item = Dataset()
    item.LUTDescriptor = descriptor
    item["LUTDescriptor"].VR = "US"
    item.LUTData = entries
    item["LUTData"].VR = "US"
    for key, value in more.items():
        setattr(item, key, value)
    return Sequence([item])


@pytest.mark.parametrize("key", ["VOILUTSequence", "ModalityLUTSequence"])
def test_the_largest_tables_are_read_however_their_sequence_ends(key: str) -> None:
    pixels = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    (table,) = curve([0, 0, 16], [0], ModalityLUTType="US")
    table.add_new("LUTData", "OW", (np.arange(65536, dtype=np.uint64) ** 2 // 65535).astype("<u2").tobytes())
    for closed in (False, True):
        dataset = film(pixels, 16, **{key: Sequence([table] * 5)})
        dataset[key].is_undefined_length = not closed
        assert 40 < greys(dataset)[16, 0] < 80, "a straight line is 128 there"


def test_a_voi_table_comes_before_a_window_and_is_held_at_its_ends() -> None:
    pixels = np.arange(320, dtype=np.uint16).reshape(20, 16)
    table = curve([4, 100, 8], [0, 51, 102, 255])
    found = greys(film(pixels, 12, VOILUTSequence=table, WindowCenter=5, WindowWidth=2))
    assert found.ravel()[[0, 100, 101, 102, 103, 319]].tolist() == [0, 0, 51, 102, 255, 255]


@pytest.mark.parametrize("kind", ["<u1", "<u2"])
def test_a_table_in_bytes_holds_one_or_two_for_each_entry(kind: str) -> None:
    pixels = np.tile(np.arange(4, dtype=np.uint16), (16, 4))
    table = curve([4, 0, 8], [])
    table[0]["LUTData"].VR = "OW"
    table[0].LUTData = np.array([0, 51, 102, 255], kind).tobytes()
    assert greys(film(pixels, 12, VOILUTSequence=table))[0, :4].tolist() == [0, 51, 102, 255]


def test_a_table_that_meets_stored_and_rescaled_values_is_used_of_the_rescaled() -> None:
    pixels = np.tile(np.arange(4, dtype=np.uint16), (16, 4))
    table = curve([8, 0, 8], [0, 0, 0, 51, 102, 204, 255, 255])
    found = greys(film(pixels, 12, VOILUTSequence=table, RescaleSlope=1, RescaleIntercept=2))
    assert found[0, :4].tolist() == [0, 51, 102, 204]


def test_a_table_has_its_entries_from_half_before_the_first_to_half_after_the_last() -> None:
    values = np.array([-0.6, -0.5, 0.0, 1.4, 1.5])
    assert Curve(0, (0, 255), 8).share_of(values, np.array([1, 2, 4, 8, 16])) == 14 / 31


def test_a_film_whose_range_is_one_value_is_white_above_it() -> None:
    assert stretched(np.arange(3.0), np.array([1, 9998, 1])).tolist() == [0, 0, 1]


@pytest.mark.parametrize(("stored", "high"), [(12, 10), (12, 16), (0, 11), (17, 16)])
def test_bits_that_are_not_within_their_samples_are_refused(stored: int, high: int) -> None:
    with pytest.raises(InputError, match=f"stores {stored} of 16 bits up to bit {high}: must be"):
        greys(film(ramp(bits=12), 12, BitsStored=stored, HighBit=high))


@pytest.mark.parametrize(
    ("counts", "expected"), [([1, 1, 98], (2.0, 2.0)), ([98, 1, 1], (0.0, 0.0)), ([50, 0, 50], (0.0, 2.0))]
)
def test_quantiles_are_those_of_the_pixels(counts: list[int], expected: tuple[float, float]) -> None:
    assert quantiles(np.arange(3.0), np.array(counts), (0.25, 0.75)) == expected


@pytest.mark.parametrize(
    ("first", "signed"), [([4, 65436, 8], True), ([4, -100, 8], False)], ids=["unsigned", "signed"]
)
def test_a_tables_first_value_is_read_as_signed_or_not_by_the_pixels(first: list[int], signed: bool) -> None:
    stored = np.tile(np.arange(-100, -96, dtype=np.int16), (16, 4))
    pixels = stored if signed else stored.view(np.uint16)
    table = curve(first, [0, 51, 102, 255])
    table[0]["LUTDescriptor"].VR = "US" if signed else "SS"
    assert greys(film(pixels, 16, VOILUTSequence=table))[0, :4].tolist() == [0, 51, 102, 255]


@pytest.mark.parametrize("packed", [True, False], ids=["run lengths", "plain"])
@pytest.mark.parametrize("colours", ["RGB", "YBR_FULL"])
def test_films_in_colour_have_their_own_colours(colours: str, packed: bool) -> None:
    bars = np.tile(np.repeat(np.array([[200, 40, 30], [30, 60, 210]], np.uint8), 24, axis=0), (64, 1, 1))
    stored = bars if colours == "RGB" else np.asarray(Image.fromarray(bars).convert("YCbCr"))
    dataset = film(stored[..., 0], 8)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, colours, 0
    dataset.PixelData = np.ascontiguousarray(stored).tobytes()
    if packed:
        dataset.compress(RLELossless, generate_instance_uid=False)
    found = np.asarray(decode_image(data_of(dataset), "film.dcm")).astype(int)
    assert np.abs(found[32, [8, 40]] - bars[32, [8, 40]]).max() <= (0 if colours == "RGB" else 2)


@pytest.mark.parametrize(("more", "words"), [(0, "has no size"), (1, f"has more than {MOST_SCANS} scans")])
def test_a_stream_may_have_as_many_scans_as_encoders_make(more: int, words: str) -> None:
    stream = b"\xff\xd8" + b"\xff\xda\x00\x02" * (MOST_SCANS + more) + b"\xff\xd9"
    with pytest.raises(ContainerError, match=f"^its compressed frame {words}$"):
        stream_size(stream, JPEGBaseline8Bit)


def test_numbers_of_implicit_types_may_have_a_decimal_comma() -> None:
    data = data_of(film(syntax=ImplicitVRLittleEndian, WindowCenter=2048, WindowWidth=4096))
    assert data.count(b"2048.0") == 1
    assert numbers_of(dcmread(io.BytesIO(data.replace(b"2048.0", b"2048,5"))), "WindowCenter") == [2048.5]


def test_a_jpeg_in_colour_has_its_own_colours() -> None:
    dataset = jpeg_film("baseline in colour")
    bars = np.repeat(np.array([[200, 40, 30], [30, 60, 210]], np.uint8), 24, axis=0)
    out = io.BytesIO()
    Image.fromarray(np.tile(bars, (64, 1, 1))).save(out, "JPEG", quality=95, subsampling=0)
    dataset.PixelData = encapsulate([out.getvalue()])
    found = np.asarray(decode_image(data_of(dataset), "film.dcm")).astype(int)
    assert np.abs(found[32, [8, 40]] - bars[[0, 24]]).max() <= 4  # levels of 255: JPEG is lossy


def test_a_modality_table_comes_before_the_window() -> None:
    pixels = np.tile(np.array([0, 1, 2, 3], dtype=np.uint16), (16, 4))
    table = curve([4, 0, 16], [30, 20, 10, 0], ModalityLUTType="US")
    found = greys(
        film(pixels, 12, ModalityLUTSequence=table, WindowCenter=15, WindowWidth=30, VOILUTFunction="LINEAR_EXACT")
    )
    assert found[0, :4].tolist() == [255, 170, 85, 0]


def test_a_table_that_declares_more_bits_than_it_uses_does_not_come_out_black() -> None:
    pixels = np.tile(np.arange(16, dtype=np.uint16), (16, 1))
    found = greys(film(pixels, 12, VOILUTSequence=curve([16, 0, 16], [273 * i for i in range(16)])))
    assert found.max() == 255


@pytest.mark.parametrize("window", [(None, None), (-5000, 10), (60_000, 100), (2000, 0), ("", "")])
def test_a_window_that_misses_the_pixels_is_replaced_by_percentiles(window: tuple[Any, Any]) -> None:
    pixels = np.full((100, 100), 1000, dtype=np.uint16)
    pixels[:, 50:] = 2000
    pixels[0, 0], pixels[0, 1] = 0, 4095  # a marker and a dead pixel do not count
    found = greys(film(pixels, 12, WindowCenter=window[0], WindowWidth=window[1]))
    assert found[50, [0, 99]].tolist() == [0, 255]


def test_inversion_is_told_by_the_photometric_word_or_the_presentation_shape_and_never_twice() -> None:
    upright = greys(film(WindowCenter=2048, WindowWidth=4096))
    inverted: list[dict[str, Any]] = [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    ]
    for more in inverted:
        assert np.array_equal(greys(film(WindowCenter=2048, WindowWidth=4096, **more)), 255 - upright)


def test_padding_is_black_also_where_low_values_are_white_and_does_not_count_for_the_range() -> None:
    pixels = ramp(bits=12) // 2 + 1000
    pixels[:5] = 0
    found = greys(film(pixels, 12, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=0))
    assert found[:5].max() == 0
    assert found[5, 0] > 250


@pytest.mark.parametrize(
    ("pixels", "more", "told"),
    [
        (ramp(bits=12), {"BitsStored": 10, "HighBit": 9}, True),
        (ramp(bits=12, signed=True), {"BitsStored": 10, "HighBit": 9}, True),
        (ramp(bits=12), {"BitsStored": 10, "HighBit": 11}, False),
        (ramp(bits=12), {}, False),
        (ramp(bits=16), {"BitsStored": 16, "HighBit": 15}, False),
        (ramp(bits=12, signed=True), {}, False),
        (ramp(bits=12, signed=True).view(np.uint16) & 0xFFF, {"PixelRepresentation": 1}, False),
        (ramp(bits=15, signed=True), {"BitsStored": 15, "HighBit": 14}, False),
    ],
)
def test_values_beyond_the_stored_bits_are_warned_of(
    pixels: npt.NDArray[Any], more: dict[str, Any], told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"{pixels.dtype}{pixels.max()}{more}"  # a film is warned of once
    dataset = film(pixels, **more)
    decode_image(data_of(dataset), name)
    assert ("upper bits are left out" in caplog.text) is told
    caplog.clear()
    dataset.add_new(0x60000102, "US", 15)
    decode_image(data_of(dataset), f"{name} with an overlay")
    assert not caplog.text


@pytest.mark.parametrize(
    ("columns", "more", "told"),
    [(39, 0, False), (39, 1, False), (39, 2, True), (39, 2560, True), (40, 0, False), (40, 2, True)],
)
def test_more_pixels_than_the_header_says_are_warned_of(
    columns: int, more: int, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = ramp(columns, 33, 8)
    dataset = film(pixels, 8)
    dataset.PixelData = pixels.tobytes() + bytes(more + (more + pixels.size) % 2)
    decode_image(data_of(dataset), f"{columns}, {more} more")
    assert (
        f"bytes of pixels, of which its header counts {pixels.size}: the others are left out" in caplog.text
    ) is told


@pytest.mark.parametrize(
    ("frames", "samples", "more", "told"),
    [(2, 1, 0, False), (2, 1, 2, True), (1, 3, 0, False), (1, 3, 2, True), (3, 3, 0, False), (3, 3, 2, True)],
)
def test_all_frames_and_colours_are_counted(
    frames: int, samples: int, more: int, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    colours = "RGB" if samples == 3 else "MONOCHROME2"
    dataset = film(
        ramp(40, 32, 8), 8, SamplesPerPixel=samples, PhotometricInterpretation=colours, NumberOfFrames=frames
    )
    dataset.PixelData = ramp(40 * frames, 32 * samples, 8).tobytes() + bytes(more)
    decode_image(data_of(dataset), f"{frames} of {samples}, {more} more", None, DicomChoice(frame=1))
    held = 40 * 32 * frames * samples
    assert (f"holds {held + 2} bytes of pixels, of which its header counts {held}" in caplog.text) is told
    assert told or not caplog.text


@pytest.mark.parametrize(("group", "told"), [(0x5FFE, True), (0x6000, False), (0x60FE, False), (0x6100, True)])
def test_bits_may_be_an_overlays_where_a_group_from_6000_to_60ff_says_so(
    group: int, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = film(ramp(bits=12), BitsStored=10, HighBit=9)
    dataset.add_new((group, 0x0102), "US", 15)
    decode_image(data_of(dataset), f"group {group}")
    assert ("upper bits are left out" in caplog.text) is told


@pytest.mark.parametrize(("told", "held", "warned"), [(None, 1, False), (None, 3, True), (2, 3, True), (3, 3, False)])
def test_more_compressed_frames_than_the_header_says_are_warned_of(
    told: int | None, held: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = film(np.stack([ramp(bits=8)] * held), 8)
    dataset.compress(RLELossless, generate_instance_uid=False)
    if told is None:
        dataset.pop("NumberOfFrames", None)
    else:
        dataset.NumberOfFrames = told
    decode_image(data_of(dataset), f"{told} of {held}", None, DicomChoice(frame=1))
    assert (f"holds {held} frames, of which its header counts {told or 1}" in caplog.text) is warned


def test_overlays_in_the_unused_bits_do_not_show() -> None:
    pixels = ramp(bits=12)
    drawn = pixels | np.uint16(0x8000)
    assert np.array_equal(greys(film(drawn, 12)), greys(film(pixels, 12)))
    high = film((pixels << 4).astype(np.uint16), 12, HighBit=15)
    assert np.array_equal(greys(high), greys(film(pixels, 12)))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize(
    ("bits", "signed"), [(8, False), (10, False), (12, False), (12, True), (16, False), (16, True)]
)
def test_lossless_encodings_give_the_same_picture(syntax: str, bits: int, signed: bool) -> None:
    pixels = ramp(64, 64, bits, signed)
    packed = film(pixels, bits)
    packed.compress(syntax, generate_instance_uid=False)
    assert np.array_equal(greys(packed), greys(film(pixels, bits)))


def test_implicit_types_and_big_endian_files_give_the_same_picture() -> None:
    implicit, big = film(syntax=ImplicitVRLittleEndian), film(syntax=ExplicitVRBigEndian)
    big.PixelData = ramp().astype(">u2").tobytes()
    big["PixelData"].VR = "OW"
    for dataset in (implicit, big):
        assert np.array_equal(greys(dataset), greys(film()))


@pytest.mark.parametrize(
    ("name", "bits", "most"), [("extended12", 12, 1), ("lossless16", 16, 0), ("lossless_sv1_16", 16, 0)]
)
def test_jpeg_of_twelve_and_sixteen_bits_gives_the_same_picture(name: str, bits: int, most: int) -> None:
    found = np.asarray(load_image(DATA / f"dicom_jpeg_{name}.dcm"))[..., 0].astype(int)
    # extended JPEG of quality 95 is one stored level of 4,096 off at most, hence one grey level
    assert np.abs(found - greys(film(bits=bits))).max() <= most


def test_lossy_encodings_are_near() -> None:
    smooth = (np.add.outer(np.arange(64), np.arange(64)) * 2).astype(np.uint8)
    plain = greys(film(smooth, 8, WindowCenter=128, WindowWidth=256)).astype(int)
    baseline = film(smooth, 8, JPEGBaseline8Bit, WindowCenter=128, WindowWidth=256)
    out = io.BytesIO()
    Image.fromarray(smooth).save(out, "JPEG", quality=95)
    baseline.PixelData = encapsulate([out.getvalue()])
    near = film(smooth, 8, WindowCenter=128, WindowWidth=256)
    near.compress(JPEGLSNearLossless, jls_error=2, generate_instance_uid=False)
    wavelets = film(smooth, 8, WindowCenter=128, WindowWidth=256)
    wavelets.compress(JPEG2000, j2k_cr=[4], generate_instance_uid=False)
    for packed in (baseline, near, wavelets):  # levels of 255; JPEG-LS was allowed two, the others are near that
        assert np.abs(greys(packed).astype(int) - plain).max() <= 3


@pytest.mark.parametrize("strip", ["preamble", "preamble and meta"])
def test_files_without_preamble_are_known_by_their_bytes(strip: str) -> None:
    data = data_of(film())[132:]
    if strip == "preamble and meta":
        length = int.from_bytes(data[8:12], "little")
        data = data[12 + length :]
    assert is_dicom(data)
    assert np.array_equal(np.asarray(decode_image(data, "x.png"))[..., 0], greys(film()))


def test_a_file_that_names_no_transfer_syntax_is_read_as_its_elements_are_written() -> None:
    big = film(syntax=ExplicitVRBigEndian)
    big.PixelData = ramp().astype(">u2").tobytes()
    for dataset in (big, film(syntax=ImplicitVRLittleEndian)):
        data = data_of(dataset)[132:]
        bare = data[12 + int.from_bytes(data[8:12], "little") :]
        assert np.array_equal(np.asarray(decode_dicom(bare, "x", PLAIN, (16, MAX_PIXELS))), greys(film()))


@pytest.mark.parametrize("missing", ["BitsStored", "HighBit", "SamplesPerPixel", "PixelRepresentation"])
@pytest.mark.parametrize("value", [None, "none"])
def test_what_a_film_does_not_say_of_its_samples_is_the_usual(missing: str, value: str | None) -> None:
    bits = 16 if missing == "BitsStored" else 12
    dataset = film(bits=bits, **{missing: None})
    if value:
        dataset.add_new(missing, "LO", value)
    assert np.array_equal(greys(dataset), greys(film(bits=bits)))


@pytest.mark.parametrize("planar", [None, 0, 1])
def test_colours_lie_pixel_by_pixel_or_plane_by_plane(planar: int | None) -> None:
    colours = np.random.default_rng(3).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    dataset = film(colours[..., 0], 8, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=planar)
    dataset.PixelData = (np.moveaxis(colours, 2, 0) if planar else colours).tobytes()
    assert np.array_equal(np.asarray(decode_image(data_of(dataset), "x")), colours)


def test_the_limits_are_the_least_side_and_the_most_pixels_that_are_read() -> None:
    data = data_of(film(ramp(40, 32)))
    assert decode_dicom(data, "x", PLAIN, (32, 40 * 32)).size == (32, 40)
    for pixels, least in ((ramp(40, 32), 33), (ramp(32, 40), 33)):
        with pytest.raises(InputError, match="must be at least 33 on each side"):
            decode_dicom(data_of(film(pixels)), "x", PLAIN, (least, 40 * 32))
    with pytest.raises(InputError, match="is 1280 pixels: at most 1279"):
        decode_dicom(data, "x", PLAIN, (32, 40 * 32 - 1))


@pytest.mark.parametrize(
    ("samples", "colours", "allocated"),
    [
        (1, "RGB", 8),
        (3, "MONOCHROME2", 8),
        (3, "PALETTE COLOR", 8),
        (3, "RGB", 16),
        (2, "MONOCHROME2", 8),
        (4, "RGB", 8),
    ],
)
def test_pixels_are_grey_or_of_three_colours_of_eight_bits(samples: int, colours: str, allocated: int) -> None:
    dataset = film(bits=8, SamplesPerPixel=samples, PhotometricInterpretation=colours, BitsAllocated=allocated)
    words = f"is {colours} of {samples} samples: must be MONOCHROME1 or 2, or 8-bit colours"
    with pytest.raises(InputError, match=words):
        greys(dataset)


def test_a_film_of_one_bit_is_black_and_white() -> None:
    assert np.unique(greys(film(ramp(bits=1), 1))).tolist() == [0, 255]
    assert np.unique(greys(film(ramp(bits=1, signed=True), 1))).tolist() == [0, 255]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("10 bytes\n  of\t20"), "10 bytes of 20"),
        (ValueError(""), "ValueError"),
        (KeyError(), "KeyError"),
        (ValueError("no 'Muster'"), "ValueError"),
        (ValueError('no "Muster"'), "ValueError"),
        (ValueError("no `Muster"), "ValueError"),
        (ValueError("x" * 200), "x" * 200),
        (ValueError("x" * 201), "x" * 200),
    ],
)
def test_a_decoders_reason_is_a_short_line_that_quotes_nothing(error: Exception, said: str) -> None:
    assert picture._reason(error) == said


def test_what_a_lossy_decoder_overshoots_is_white() -> None:
    """A JPEG of 8 bits in a film that says it stores 7: its upper half is beyond them."""
    smooth = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    dataset = film(smooth, 7, JPEGBaseline8Bit, WindowCenter=64, WindowWidth=128)
    out = io.BytesIO()
    Image.fromarray(smooth).save(out, "JPEG", quality=95)
    dataset.PixelData = encapsulate([out.getvalue()])
    found = greys(dataset)
    assert found[:, 34:].min() == 255
    assert np.abs(found[:, :30].astype(int) - smooth[:, :30].astype(int) * 255 // 127).max() <= 4


def test_no_png_jpeg_or_text_is_taken_for_dicom() -> None:
    out = io.BytesIO()
    Image.new("L", (40, 40)).save(out, "PNG")
    for data in (out.getvalue(), b"\xff\xd8\xff" + bytes(125) + b"DICM", b"The lungs are clear." * 20, b"", bytes(200)):
        assert not is_dicom(data)


def test_a_frame_is_named_where_there_are_several() -> None:
    frames = np.stack([ramp(), ramp()[::-1]])
    dataset = film(frames, 12)
    assert np.array_equal(greys(dataset, DicomChoice(frame=2)), greys(film(frames[1], 12)))
    with pytest.raises(InputError, match=r"image x\.dcm: has 2 frames: name one with frame 1 to 2"):
        greys(dataset)
    with pytest.raises(InputError, match=r"frame 3: image x\.dcm has frames 1 to 2"):
        greys(dataset, DicomChoice(frame=3))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"Modality": "CT"}, "its modality is CT, must be CR, DX, DR"),
        ({"Modality": None}, "its modality is not named"),
        ({"BodyPartExamined": "HAND"}, "shows HAND, must be a chest film"),
    ],
)
def test_what_is_no_chest_film_is_refused_unless_forced(more: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        greys(film(**more))
    assert greys(film(**more), DicomChoice(force=True)).max() == 255


@pytest.mark.parametrize("part", [None, "CHEST PA", "THORAX", "Chest"])
def test_a_chest_film_is_known_in_several_spellings(part: str | None) -> None:
    assert greys(film(BodyPartExamined=part)).shape == (40, 32)


def test_another_anatomic_region_is_refused_where_no_body_part_is_named() -> None:
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "85562004", "SCT", "Hand"
    with pytest.raises(InputError, match="shows HAND"):
        greys(film(BodyPartExamined=None, AnatomicRegionSequence=Sequence([region])))
    for value in ("816094009", "51185008", "T-D3000"):  # those of PS3.16, CID 4031, whatever language they are in
        region.CodeValue, region.CodeMeaning = value, "Brustkorb"
        assert greys(film(BodyPartExamined=None, AnatomicRegionSequence=Sequence([region]))).shape == (40, 32)


@pytest.mark.parametrize(
    "part",
    ["Thoracic spine", "THORACO-LUMBAR SPINE", "THORACOLUMBAR", "Rachis thoracique", "Thorakale Wirbelsaeule"],
)
def test_the_spine_of_the_chest_is_another_part(part: str) -> None:
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "122495006", "SCT", part
    for told in ({"BodyPartExamined": part}, {"BodyPartExamined": None, "AnatomicRegionSequence": Sequence([region])}):
        with pytest.raises(InputError, match=f"shows {part.upper()}, must be a chest film"):
            greys(film(**told))


def test_burned_in_annotation_is_warned_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_of(film(BurnedInAnnotation="YES", SOPInstanceUID=f"{ROOT}99"))
    said: list[str] = []
    monkeypatch.setattr(dicom_header.log, "warning", lambda text, *words: said.append(text % words))
    decode_image(data, "burned.dcm")
    decode_image(data, "burned.dcm")
    assert len(said) == 1
    assert "burned-in annotation" in said[0]
    assert "Muster" not in said[0]


def test_views_and_laterality_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data_of(film()))
    (tmp_path / "b").write_bytes(data_of(film(ViewPosition="LATERAL", ImageLaterality="L")))
    headers = study_of([tmp_path / "a", tmp_path / "b"], DicomChoice()).headers
    assert [header and header.view_name for header in headers] == ["PA", "LATERAL L"]


def test_images_of_two_studies_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data_of(film()))
    (tmp_path / "b").write_bytes(data_of(film(StudyInstanceUID=f"{ROOT}7")))
    with pytest.raises(InputError, match="are of two studies"):
        study_of([tmp_path / "a", tmp_path / "b"], DicomChoice())


def test_names_of_patients_stay_out_of_the_headers_repr() -> None:
    text = repr(read_header(data_of(film()), "x"))
    assert not [word for word in ("Muster", "P-1", "A 77", "19500102", "Hay") if word in text]


def test_a_large_film_is_reduced_as_png_is() -> None:
    pixels = (np.add.outer(np.arange(1200), np.arange(1000)) % 4096).astype(np.uint16)
    image = decode_image(data_of(film(pixels, 12)), "x", size=100)
    assert min(image.size) == 200
    assert image.mode == "RGB"


def test_colour_pictures_are_read_when_forced() -> None:
    colours = np.zeros((20, 20, 3), dtype=np.uint8)
    colours[..., 0] = 200
    colours[10:, :, 1] = 90
    dataset = film(
        colours[..., 0], 8, Modality="OT", SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0
    )
    dataset.PixelData = colours.tobytes()
    image = decode_image(data_of(dataset), "x", None, DicomChoice(force=True))
    assert image.getpixel((3, 3)) == (200, 0, 0)


def with_syntax(syntax: str) -> bytes:
    """An uncompressed file that names another transfer syntax of as many characters, or three more."""
    dataset = film()
    dataset.file_meta.PrivateInformationCreatorUID = "1.2.840.10008.1.2.1"
    data = data_of(dataset)
    named, plain = syntax.encode(), b"1.2.840.10008.1.2.1\0"
    if len(named) <= len(plain):
        return data.replace(plain, named.ljust(len(plain), b"\0"))
    return data.replace(b"\x14\0" + plain, b"\x16\0" + named, 1)


def without_pixels() -> Dataset:
    """A film whose element of pixels is there, and empty."""
    dataset = film()
    dataset.PixelData = b""
    return dataset


def without_end(name: str) -> bytes:
    """A film of the tests' data whose stream lacks its end."""
    dataset = dcmread(DATA / name)
    (stream,) = generate_frames(dataset.PixelData, number_of_frames=1)
    half = stream[: len(stream) // 4 * 2]
    dataset.PixelData = encapsulate([half])
    return data_of(dataset)


def jpeg_film(syntax: str) -> Dataset:
    """A film of 8 bits as JPEG, in grey or in colour, or as JPEG-LS."""
    noise = np.random.default_rng(4).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    if syntax == JPEGLSLossless:
        dataset = film(noise[..., 0], 8, WindowCenter=128, WindowWidth=256)
        dataset.compress(syntax, generate_instance_uid=False)
        return dataset
    colour, restarts = syntax.endswith("colour"), syntax.endswith("restarts")
    dataset = film(noise[..., 0], 8, JPEGBaseline8Bit, WindowCenter=128, WindowWidth=256)
    out = io.BytesIO()
    picture = Image.fromarray(noise if colour else noise[..., 0])
    picture.save(out, "JPEG", quality=90, **({"restart_marker_rows": 2} if restarts else {}))
    if colour:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "YBR_FULL_422", 0
    dataset.PixelData = encapsulate([out.getvalue()])
    return dataset


@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
@pytest.mark.parametrize(
    "kind", ["dicom_jpeg_extended12.dcm", "dicom_jpeg_lossless16.dcm", "dicom_jpeg_lossless_sv1_16.dcm",
             JPEGLSLossless, "baseline", "baseline in colour", "baseline with restarts"],
)  # fmt: skip
def test_a_jpeg_that_ends_before_its_pixels_do_is_refused_though_it_has_an_end(kind: str, share: float) -> None:
    dataset = dcmread(DATA / kind) if kind.endswith(".dcm") else jpeg_film(kind)
    (stream,) = generate_frames(dataset.PixelData, number_of_frames=1)
    whole = stream[: stream.rfind(b"\xff\xd9")]
    scan = whole.rfind(b"\xff\xda") + 14
    cut = whole[: scan + int((len(whole) - scan) * share)].rstrip(b"\xff")
    decode_image(data_of(dataset), "film.dcm")
    dataset.PixelData = encapsulate([whole + 3 * b"\xff" + b"\xff\xd9"])  # bytes that fill up before a marker
    decode_image(data_of(dataset), "film.dcm")
    dataset.PixelData = encapsulate([cut + b"\xff\xd9"])
    words = "^image film.dcm: its compressed frame is cut off: it ends before its pixels do$"
    with pytest.raises(InputError, match=words):
        decode_image(data_of(dataset), "film.dcm")


def j2k_that_claims(side: int) -> bytes:
    dataset = film(ramp(64, 64))
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    data = bytearray(data_of(dataset))
    at = data.index(b"\xff\x4f\xff\x51") + 8
    data[at : at + 8] = side.to_bytes(4, "big") * 2
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (data_of(film())[:200], "holds no pixels|cut off"),
        (data_of(film())[:-700], "cut off|cannot be decoded"),
        (data_of(film(Rows=41)), "cannot be decoded"),
        (data_of(film(Rows=9000, Columns=9000)), f"is 81000000 pixels: at most {MAX_PIXELS}"),
        (data_of(film(ramp(8, 200))), "is 200x8 pixels: must be at least 16"),
        (data_of(film(Rows=None)), "Rows is missing"),
        (data_of(film(BitsAllocated=32)), "stores 12 of 32 bits"),
        (data_of(film(BitsStored=17)), "stores 17 of 16 bits"),
        (data_of(film(PhotometricInterpretation="PALETTE COLOR")), "is PALETTE COLOR of 1 samples"),
        (data_of(film(PhotometricInterpretation=None)), "names no PhotometricInterpretation, and is of 1 samples"),
        (data_of(without_pixels()), "holds no pixels"),
        (without_end("dicom_jpeg_extended12.dcm"), "its compressed frame is cut off: its end is missing"),
        (without_end("dicom_jpeg_lossless16.dcm"), "its compressed frame is cut off: its end is missing"),
        (with_syntax("1.2.840.10008.1.2.9"), r"transfer syntax 1\.2\.840\.10008\.1\.2\.9 is not read"),
        (with_syntax("1.2.840.10008.1.2.1.99"), "deflated DICOM"),
        (j2k_that_claims(60_000), "its header says 64x64 pixels of 1 samples, its compressed frame 60000x60000"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_it(data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        decode_image(data, "film.dcm")
    assert str(caught.value).startswith("image film.dcm: ")
    assert "\n" not in str(caught.value)
    assert "Muster" not in str(caught.value)


PACKED = "1.2.840.10008.1.2.1.99"


@pytest.mark.parametrize("preamble", [True, False])
@pytest.mark.parametrize("place", ["StudyDescription", "PixelData", "PrivateInformationCreatorUID"])
def test_a_film_that_names_the_deflated_syntax_in_a_value_is_read(place: str, preamble: bool) -> None:
    dataset = film()
    if place == "PixelData":
        dataset.PixelData = PACKED.encode() + dataset.PixelData[len(PACKED) :]
    else:
        setattr(dataset if place == "StudyDescription" else dataset.file_meta, place, PACKED)
    data = data_of(dataset)
    assert PACKED.encode() in data
    assert decode_image(data if preamble else data[132:], "film.dcm").size == decode_image(data_of(film()), "film").size


@pytest.mark.parametrize("pixels", [True, False])
@pytest.mark.parametrize("syntax", [f"{PACKED}\0\0", f" {PACKED} ", f"{PACKED}  ", f"{PACKED}\\1", PACKED])
@pytest.mark.parametrize("kind", ["UI", "LO", "UN\0\0", ""])
@pytest.mark.parametrize("head", ["\0" * 128 + "DICM", ""])
def test_no_spelling_of_the_deflated_syntax_has_a_file_unpacked(
    head: str, kind: str, syntax: str, pixels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked: list[bytes] = []
    monkeypatch.setattr(zlib, "decompress", lambda data, bits: unpacked.append(data) or b"")
    size = len(syntax).to_bytes(2 if len(kind) == 2 else 4, "little")
    element = b"\x02\0\x10\0" + kind.encode() + size + syntax.encode()
    with suppress(InputError):
        open_dataset(head.encode() + element + b"packed" * 100, "film.dcm", pixels=pixels)
    assert unpacked == []


def named_by_hand(key: str, value: object) -> Dataset:
    """A film with an element that Python has put there and that no file can hold."""
    dataset = film()
    dataset[key]._value = value
    return dataset


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (Dataset(), "its file_meta names no TransferSyntaxUID"),
        (named_by_hand("Rows", "Muster"), "OSError"),
        (named_by_hand("PatientName", object()), "AttributeError|TypeError"),
    ],
)
def test_a_data_set_that_makes_no_file_is_refused_in_one_line_that_names_no_value(dataset: Dataset, words: str) -> None:
    with pytest.raises(InputError, match=f"^image images.0.: its data set cannot be written as a file: ({words})$"):
        study_of([dataset])


def test_a_data_set_in_place_of_a_list_is_refused_as_one() -> None:
    for dataset in (film(), Dataset()):
        with pytest.raises(InputError, match=r"^images: must be a list"):
            study_of(dataset)


def test_a_header_shows_nothing_of_its_patient_where_it_is_printed() -> None:
    told = {one.name for one in fields(DicomHeader) if one.repr}
    assert told <= {
        *("modality", "body_part", "view", "laterality", "instance_uid", "class_uid", "series_uid", "study_uid"),
        *("frames", "size", "burned_in", "for_processing", "series_number", "instance_number", "study_date"),
        *("study_time", "device"),
    }


@pytest.mark.parametrize(
    ("packed", "samples"),
    [
        (b"\x03abcd", b"abcd"),
        (b"\xfdz", b"zzzz"),
        (b"\x81z", b"zzzz"),  # 128 of them
        (b"\x80\x01ab\x80\xffz", b"abzz"),  # 128 stands for nothing
        (b"\x00a\x01bc\x00d\x00e", b"abcd"),  # what is too much is left out
    ],
)
def test_run_lengths_are_those_of_the_standard(packed: bytes, samples: bytes) -> None:
    header = b"".join(number.to_bytes(4, "little") for number in (1, 64, *(0,) * 14))
    assert decode_rle(header + packed, (2, 2), 1, 1).tobytes() == samples


def test_the_transfer_syntaxes_are_the_standards() -> None:
    assert {uid.JPEGLossless, uid.JPEGLosslessSV1} == TELLS
    lossy = {uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit}
    assert lossy | TELLS | {uid.JPEGLSLossless, uid.JPEGLSNearLossless} == JPEG


def test_an_rle_frame_that_would_unpack_to_gigabytes_is_not_unpacked() -> None:
    dataset = film(ramp(64, 64, 8), 8, RLELossless, WindowCenter=128, WindowWidth=256)
    header = b"".join(number.to_bytes(4, "little") for number in (1, 64, *(0,) * 14))
    dataset.PixelData = encapsulate([header + b"\x81\xff" * 2_000_000])  # 256 MB of white
    data = data_of(dataset)
    tracemalloc.start()
    with pytest.raises(InputError, match="shows nothing"):
        decode_image(data, "x")
    assert tracemalloc.get_traced_memory()[1] < 6 * len(data)
    tracemalloc.stop()


def damage(data: bytes, rng: random.Random) -> bytes:
    """The file with some bytes changed, half of the time in its header, or cut off, or with a piece doubled."""
    changed = bytearray(data)
    end = min(1200, len(data)) if rng.random() < 0.5 else len(data)
    for _ in range(rng.choice((1, 2, 8))):
        changed[rng.randrange(end)] = rng.randrange(256)
    if rng.random() < 0.15:
        del changed[rng.randrange(len(changed)) :]
    if rng.random() < 0.1:
        at = rng.randrange(len(changed) + 1)
        changed[at:at] = changed[at : at + rng.randrange(64)]
    return bytes(changed)


def damaged_files_are_decoded_or_refused(count: int) -> None:
    rng = random.Random(0)
    files = [
        data_of(film()),
        data_of(film())[132:],
        *(path.read_bytes() for path in sorted(DATA.glob("dicom_jpeg_*.dcm"))),
    ]
    for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        packed = film(WindowCenter=2048, WindowWidth=4096, VOILUTSequence=curve([4, 100, 8], [0, 51, 102, 255]))
        packed.compress(syntax, generate_instance_uid=False)
        files.append(data_of(packed))
    outcomes = set()
    for _ in range(count):
        try:
            outcomes.add(decode_image(damage(rng.choice(files), rng), "x", rng.choice((None, 4))).mode)
        except InputError as error:
            outcomes.add("leaks" if "Muster" in str(error) else "refused")
    assert outcomes == {"RGB", "refused"}


def test_random_damage_is_decoded_or_refused_but_never_crashes() -> None:
    damaged_files_are_decoded_or_refused(400)


@pytest.mark.drill
def test_two_thousand_damaged_files_are_decoded_or_refused() -> None:
    damaged_files_are_decoded_or_refused(2000)


def test_the_real_films_encodings_agree() -> None:
    data_store = pytest.importorskip("data_store", reason="needs pydicom-data")
    directory = Path(next(iter(data_store.__path__))) / "data"
    found = {name: np.asarray(load_image(directory / f"RG1_{name}.dcm")) for name in ("UNCR", "J2KR", "UNCI", "J2KI")}
    assert found["UNCR"].shape == (1955, 1841, 3)
    assert np.array_equal(found["UNCR"], found["J2KR"])  # reversible JPEG 2000
    assert np.array_equal(found["UNCI"], found["J2KI"])  # what the irreversible one decodes to, uncompressed
    # what irreversible JPEG 2000 loses on this film: measured 3 levels of 255 at most
    assert np.abs(found["UNCR"].astype(int) - found["J2KI"]).max() <= 3
    header = read_header((directory / "RG1_UNCR.dcm").read_bytes(), "x")
    assert (header.view_name, header.modality, header.body_part) == ("PA", "CR", "CHEST")
    corner, spine = found["UNCR"][5, 5, 0], found["UNCR"][900, 900, 0]
    assert corner < 100 < 200 < spine  # MONOCHROME1 is turned over: air beside the patient is darker than bone


def test_datasets_that_were_read_keep_pydicoms_own_settings_quiet_about_names() -> None:
    odd = film(PatientBirthDate=None)
    data = data_of(odd).replace(b"20260102", b"notADate")
    assert decode_image(data, "x").mode == "RGB"  # warnings are errors in tests
    assert read_header(data, "x").study_date == ""
    assert dcmread(io.BytesIO(data)).StudyDate == "notADate"


@pytest.fixture
def films(tmp_path: Path) -> list[Path]:
    """A study of two views; nothing in the names says what they are."""
    paths = [tmp_path / "front", tmp_path / "side.png"]
    paths[0].write_bytes(data_of(film()))
    paths[1].write_bytes(data_of(film(ViewPosition="LL", SOPInstanceUID=f"{ROOT}4")))
    return paths


def test_generate_reads_dicom_by_its_bytes_and_names_the_views(
    films: list[Path], tiny_checkpoint: Path, run_cli: Callable[[list[str]], Outcome]
) -> None:
    done = run_cli(["generate", *map(str, films), "--model", str(tiny_checkpoint), "--format", "json"])
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["views"] == ["PA", "LL"]
    assert "Muster" not in done.stdout + done.stderr


def test_generate_takes_a_frame_and_what_is_forced(
    tmp_path: Path, tiny_checkpoint: Path, run_cli: Callable[[list[str]], Outcome]
) -> None:
    path = tmp_path / "x"
    path.write_bytes(data_of(film(np.stack([ramp(), ramp()[::-1]]), 12, Modality="RF")))
    words = ["generate", str(path), "--model", str(tiny_checkpoint)]
    refused, unnamed = run_cli(words), run_cli([*words, "--force"])
    assert (refused.code, unnamed.code) == (2, 2)
    assert "its modality is RF" in refused.stderr
    assert "has 2 frames: name one with --frame" in unnamed.stderr
    assert run_cli([*words, "--force", "--frame", "2"]).code == 0
    assert "--frame 3: image" in run_cli([*words, "--force", "--frame", "3"]).stderr


def test_the_flags_for_dicom_are_refused_where_no_image_is(
    tiny_set: TinySet, run_cli: Callable[[list[str]], Outcome]
) -> None:
    png = str(tiny_set.base_dir / "train0_0.png")
    assert "--frame 2: belongs to DICOM" in run_cli(["generate", png, "--frame", "2"]).stderr


def test_annotations_may_point_at_dicom(tmp_path: Path, tiny_checkpoint: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(data_of(film()))
    record = {"id": "a", "report": "The lungs are clear.", "image_path": ["a.dcm"]}
    (tmp_path / "annotation.json").write_text(json.dumps({"train": [record], "val": [], "test": []}))
    studies = read_annotation(tmp_path / "annotation.json", tmp_path, ["train"])["train"]
    processor = load_checkpoint(tiny_checkpoint)[0].processor
    example = StudyDataset(studies, processor, "plain")[(0, 0)]
    assert example.pixels is not None
    assert example.pixels.shape[0] == 1
    assert example.pixels.std() > 0.1  # a ramp, not one grey


def other_kinds(directory: Path) -> list[str]:
    """Flags of a set whose films are no chest films of one frame, two for each split."""
    splits: dict[str, list[dict[str, Any]]] = {}
    for number, split in enumerate(("train", "val", "test")):
        splits[split] = []
        for index in range(2):
            name = f"{split}{index}.dcm"
            frames = np.stack([ramp(), np.roll(ramp(), 97 * (2 * number + index + 1))])
            (directory / name).write_bytes(data_of(film(frames, Modality="RF")))
            splits[split].append({"id": name, "report": "The lungs are clear.", "image_path": [name]})
    (directory / "annotation.json").write_text(json.dumps(splits))
    return ["--annotation", str(directory / "annotation.json"), "--base_dir", str(directory), "--dataset", "plain"]


def test_train_and_test_take_a_frame_and_what_is_forced_with_and_without_a_feature_cache(
    tmp_path: Path, tiny_parts: Path, run_cli: Callable[[list[str]], Outcome]
) -> None:
    (tmp_path / "set").mkdir()
    data = [*other_kinds(tmp_path / "set"), "--max_length", "8"]
    parts = ["--vision_model", str(tiny_parts / "vision-swin"), "--lm_model", str(tiny_parts / "lm-stablelm")]
    run = [*parts, *data, "--max_epochs", "1", "--accelerator", "cpu", "--max_new_tokens", "4", "--min_new_tokens", "0"]
    run += ["--scorer_types", "val_loss", "--weights", "1", "--num_sanity_val_steps", "0", "--precision", "32-true"]
    refused = run_cli(["train", *run, "--savedmodel_path", str(tmp_path / "no"), "--frame", "2"])
    assert (refused.code, "its modality is RF" in refused.stderr) == (2, True)
    losses = []
    for name, flags in (("plain", []), ("cached", ["--feature_cache", str(tmp_path / "cache")])):
        asked = ["--force", "True", "--frame", "2", *flags, "--savedmodel_path", str(tmp_path / name)]
        done = run_cli(["train", *run, *asked])
        assert done.code == 0, done.stderr
        losses.append(json.loads((tmp_path / name / "summary.json").read_text())["best"])
    assert losses[0] == losses[1] != {}
    tested = run_cli(
        ["test", "--ckpt_file", str(tmp_path / "plain"), "--nearest_image", "True", "--accelerator", "cpu"]
    )
    assert tested.code == 0, tested.stderr
    assert "data:image/jpeg;base64," in Path(tested.stdout.splitlines()[-1]).read_text(encoding="utf-8")
    other = run_cli(["test", "--ckpt_file", str(tmp_path / "plain"), "--frame", "3", "--accelerator", "cpu"])
    assert (other.code, "--frame 3: image" in other.stderr) == (2, True)


def test_frames_of_one_file_have_features_of_their_own(tmp_path: Path) -> None:
    data = data_of(film(np.stack([ramp(), ramp()[::-1]])))
    first, second, plain = (image_digest(data, DicomChoice(frame)) for frame in (1, 2, None))
    assert len({first, second, plain}) == 3
    assert image_digest(b"\x89PNG\r\n\x1a\n", DicomChoice(2)) == image_digest(b"\x89PNG\r\n\x1a\n", DicomChoice())


def test_a_header_shows_nothing_of_the_patient_when_it_is_printed() -> None:
    personal = (
        "patient_id", "issuer", "name", "birth_date", "sex", "accession", "study_id", "study_description", "referring",
        "age", "reason",
    )  # fmt: skip
    private: Any = dict.fromkeys(personal, "PRIVATE")
    header = replace(header_of(film(), "x"), **private)
    assert "PRIVATE" not in repr(header)


def test_rows_and_columns_that_are_no_numbers_are_none() -> None:
    data = film()
    data.Rows = data.Columns = None
    assert header_of(data, "x").size == (0, 0)


@pytest.mark.parametrize(
    ("signed", "kind", "value", "found"),
    [(False, "US", 65535, 65535), (False, "SS", -1, 65535), (True, "SS", -2000, -2000), (True, "US", 63536, -2000)],
)
def test_a_padding_value_has_the_sign_of_the_pixels(signed: bool, kind: str, value: int, found: int) -> None:
    told = film()
    told.add_new("PixelPaddingValue", kind, value)
    greys, _ = greys_of(told, StoredPixels(16, signed, False))
    assert greys.padding == (found, found)


def test_padding_is_seen_by_nobody_unless_it_is_next_to_all() -> None:
    greys = Greys(bits=8, padding=(0, 3))
    assert greys.seen(np.ones(256, int)).tolist() == [0] * 4 + [1] * 252
    black = np.zeros(256, int)
    black[0] = 1000
    assert greys.seen(black).tolist() == black.tolist()


def test_a_table_of_no_bits_has_one() -> None:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [2, 0, 0], [0, 1]
    greys, left_out = greys_of(film(VOILUTSequence=Sequence([table])), StoredPixels(12, False, False))
    (curve,) = greys.choices[:1]
    assert isinstance(curve, Curve)
    assert (curve.bits, left_out) == (1, [])


def test_sixteen_bytes_are_enough_to_tell_a_file_without_preamble() -> None:
    beginning = struct.pack("<HH2sHII", 0x0008, 0x0005, b"CS", 4, 0, 0)
    assert is_dicom(beginning)
    assert not is_dicom(beginning[:-1])


def test_several_numbers_are_read_one_by_one_and_a_text_as_one() -> None:
    data = Dataset()
    data.WindowCenter, data.RescaleSlope = [40.0, "50"], "1"
    assert numbers_of(data, "WindowCenter") == [40.0, 50.0]
    assert numbers_of(data, "RescaleSlope") == [1.0]


@pytest.mark.parametrize("empty", [Sequence([]), None])
def test_an_empty_table_is_as_none(empty: Any) -> None:
    assert greys_of(film(VOILUTSequence=empty), StoredPixels(12, False, False))[1] == []


@pytest.mark.parametrize(("first", "meets"), [(32767, 32767), (32768, -32768), (65535, -1), (0, 0), (-1, 65535)])
def test_the_first_value_of_a_table_is_signed_or_unsigned_as_its_pixels_are(first: int, meets: int) -> None:
    values = np.arange(meets, meets + 4).astype(float)
    found = Curve(first, (0, 1, 2, 3), 8).meeting(values, np.ones(4, int))
    assert (found.first, found.share_of(values, np.ones(4, int))) == (meets, 1.0)


def test_a_table_that_no_other_sign_could_move_stays_where_it_is() -> None:
    values = np.arange(-32769, -32765).astype(float)
    assert Curve(32767, (0, 1, 2, 3), 8).meeting(values, np.ones(4, int)).first == 32767
