"""What a caller may give as a film: arrays, pictures, data sets, paths; and what is refused, under which argument."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pydicom import Dataset, dcmread

from dicom_files import film, ramp
from r2gengpt.errors import InputError
from r2gengpt.films import reader
from r2gengpt.films.containers import PNG_SIGNATURE, DicomChoice
from r2gengpt.films.dicom.header import DicomHeader, read_header
from r2gengpt.films.film import Film, header_in
from r2gengpt.films.reader import decode_image, read_file, reduced
from r2gengpt.films.sources import film_of, listed, once, prior_of, study_of, written

RAMP = ramp(20, 30, 8)
"""Each row brighter than the one above, 0 to 255: (20, 30)."""


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def png_of(width: int, height: int, bits: int = 8, packed: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes = b"") -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return PNG_SIGNATURE + header + chunk(b"IDAT", packed) + chunk(b"IEND")


def greys(image: object) -> npt.NDArray[np.uint8]:
    return np.asarray(film_of(image, "x").shown)[..., 0]


# ------------------------------------------------------------------ a study


def test_a_study_is_its_films_in_order_under_the_names_of_their_places() -> None:
    films = study_of([RAMP[::-1], Image.fromarray(RAMP)]).films
    assert [one.name for one in films] == ["images[0]", "images[1]"]
    assert [int(np.asarray(one.shown)[-1, -1, 0]) for one in films] == [int(RAMP[0, -1]), 255]


def test_films_count_once_where_header_and_picture_are_the_same(caplog: pytest.LogCaptureFixture) -> None:
    header = DicomHeader("1", "1", "1", "1", "DX")
    one, other = (Image.new("RGB", (20, 20), colour) for colour in ("black", "white"))
    films = [Film("a", one), Film("b", other), Film("c", one, header), Film("d", one.copy()), Film("e", one, header)]
    assert [film.name for film in once(films)] == ["a", "b", "c"]
    assert "image d is the same film as a: it counts once" in caplog.text
    assert "image e is the same film as c: it counts once" in caplog.text


def test_a_study_without_films_is_refused_and_a_prior_without_them_is_none() -> None:
    with pytest.raises(InputError, match=r"^images: is empty, must hold the views of one study$") as caught:
        study_of([])
    assert caught.value.field == "images"
    assert prior_of(iter([])) is None
    prior = prior_of(iter([RAMP]), side=5)
    assert prior is not None
    assert [(one.name, one.shown.size) for one in prior.films] == [("prior[0]", (15, 10))]


def test_what_is_wrong_with_a_view_is_wrong_with_the_argument_of_its_place() -> None:
    with pytest.raises(InputError, match=r"^image images\[1\]: is of type int, must be a path, bytes") as caught:
        study_of([RAMP, 3])
    assert caught.value.field == "images[1]"
    with pytest.raises(InputError, match=r"^frame 2: belongs to DICOM") as caught:
        study_of([RAMP], DicomChoice(frame=2))
    assert caught.value.field == "frame"


@pytest.mark.parametrize("choice", [None, 2, {"frame": 2}, DicomChoice])
def test_a_choice_of_another_type_is_refused(choice: Any) -> None:
    with pytest.raises(InputError, match=r"^choice: is of type \w+, must be a DicomChoice") as caught:
        study_of([RAMP], choice)
    assert caught.value.field == "choice"


def test_the_parts_of_a_choice_have_their_types() -> None:
    with pytest.raises(InputError, match=r"^force 1: must be of type bool$"):
        study_of([RAMP], DicomChoice(force=1))  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    "alone",
    ["a.png", b"ab", bytearray(b"ab"), Path("a.png"), RAMP, Image.new("L", (20, 20)), {"a": 1}, film(), 3, None],
)
def test_one_view_by_itself_is_no_list_of_views(alone: Any) -> None:
    with pytest.raises(InputError, match=r"^prior: must be a list, the views of ONE study$") as caught:
        listed(alone, "prior")
    assert caught.value.field == "prior"


@pytest.mark.parametrize("views", [[RAMP], (RAMP,), iter([RAMP])])
def test_views_are_taken_from_whatever_holds_them(views: Any) -> None:
    assert listed(views, "images") is views


@pytest.mark.parametrize(
    ("path", "words"),
    [("", "image x: is empty, must"), ("https://host/a.png", "image https://host/a.png: is an address of the network")],
)
def test_a_path_is_neither_empty_nor_an_address(path: str, words: str) -> None:
    with pytest.raises(InputError, match=f"^{words}"):
        film_of(path, "x")


# ------------------------------------------------------------------ arrays and pictures


@pytest.mark.parametrize(
    ("top", "bits"), [(255, 8), (1023, 10), (4095, 12), (16383, 14), (65535, 16), (300, 10), (5000, 14)]
)
@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.int64])
def test_an_array_is_scaled_by_the_depth_in_use(top: int, bits: int, kind: type[np.integer[Any]]) -> None:
    pixels = np.linspace(0, top, 600).round().reshape(20, 30).astype(kind)
    assert greys(pixels).tolist() == np.floor(pixels * (255 / (2**bits - 1)) + 0.5).astype(int).tolist()


def test_an_array_of_bytes_is_the_picture_as_it_is() -> None:
    assert greys(RAMP).tolist() == RAMP.tolist()
    colours = np.stack([RAMP, RAMP[::-1], RAMP], axis=2)
    assert np.asarray(film_of(colours, "x").shown).tolist() == colours.tolist()


@pytest.mark.parametrize(
    "pixels",
    [
        RAMP.astype(float), RAMP > 9, RAMP[0], RAMP[None], RAMP[..., None], np.stack([RAMP] * 2, 2),
        np.stack([RAMP] * 4, 2), np.stack([RAMP] * 3, 2).astype(np.int8), np.stack([RAMP] * 3, 2).astype(float),
        np.zeros((20, 30, 3, 1), np.uint8),
    ],
    ids=lambda pixels: f"{pixels.dtype} {pixels.shape}",
)  # fmt: skip
def test_an_array_of_another_form_is_refused(pixels: npt.NDArray[Any]) -> None:
    words = f"image x: is {pixels.dtype} of shape {pixels.shape}, must be whole numbers (H, W), or uint8 (H, W, 3)"
    with pytest.raises(InputError) as caught:
        film_of(pixels, "x")
    assert str(caught.value) == words


@pytest.mark.parametrize(("size", "is_read"), [((16, 17), True), ((15, 17), False), ((17, 15), False)])
def test_a_picture_has_16_pixels_on_each_side(size: tuple[int, int], is_read: bool) -> None:
    picture = Image.linear_gradient("L").resize(size)
    for image in (picture, np.asarray(picture)):
        if is_read:
            assert film_of(image, "x").shown.size == size
        else:
            with pytest.raises(InputError, match=f"^image x: is {size[0]}x{size[1]} pixels: at least 16 on each side"):
                film_of(image, "x")


@pytest.mark.parametrize(
    ("size", "words"),
    [((8000, 10_000), "its L pixels cannot be decoded"), ((8000, 10_001), "is 8000x10001 pixels: .* at most 80000000")],
)
def test_a_picture_has_80_million_pixels_at_most(size: tuple[int, int], words: str) -> None:
    with pytest.raises(InputError, match=f"^image x: {words}"):
        film_of(Image.open(io.BytesIO(png_of(*size))), "x")  # the header alone: nothing is decoded of the larger one


# ------------------------------------------------------------------ data sets


def test_a_data_set_is_written_whatever_its_file_meta_lacks() -> None:
    dataset = film()
    del dataset.file_meta.MediaStorageSOPClassUID, dataset.SOPClassUID
    found = dcmread(io.BytesIO(written(dataset, "x")), force=True)
    assert (found.PatientID, found.PixelData) == (dataset.PatientID, dataset.PixelData)


@pytest.mark.filterwarnings("ignore:A value of type 'str' cannot be assigned:UserWarning")
def test_a_data_set_that_cannot_be_written_is_refused_without_a_value_of_it() -> None:
    bare = Dataset()
    bare.PatientID = "P-1"
    with pytest.raises(InputError, match=r"cannot be written as a file: its file_meta names no TransferSyntaxUID$"):
        written(bare, "x")
    wrong = film()
    wrong.Rows = "P-1"
    with pytest.raises(InputError, match=r"^image x: its data set cannot be written as a file: \w+$"):
        written(wrong, "x")


def test_only_a_dicom_file_has_a_header() -> None:
    data = written(film(), "x")
    assert header_in(data, "x") == read_header(data, "x")
    assert header_in(encoded(Image.fromarray(RAMP)), "x") is None


# ------------------------------------------------------------------ files and their decoding


def test_a_file_may_be_as_large_as_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_BYTES", 100)
    for size in (100, 101):
        (tmp_path / "x").write_bytes(bytes(size))
        if size == 100:
            assert read_file(tmp_path / "x") == bytes(100)
            with pytest.raises(InputError, match="is not a PNG or JPEG image"):
                decode_image(bytes(100), "x")
        else:
            for read in (lambda: read_file(tmp_path / "x"), lambda: decode_image(bytes(101), "x")):
                with pytest.raises(InputError, match=r"is 101 bytes large: at most 100$"):
                    read()


def test_a_file_of_256_mib_is_read_and_no_larger_one() -> None:
    with pytest.raises(InputError, match="is not a PNG or JPEG image"):
        decode_image(bytes(2**28), "x")
    with pytest.raises(InputError, match=r"is 268435457 bytes large: at most 268435456$"):
        decode_image(bytes(2**28 + 1), "x")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="a file that is longer than it says is Linux's")
def test_a_file_that_is_longer_than_it_says_is_refused() -> None:
    with pytest.raises(InputError, match=r"grows while it is read$"):
        read_file(Path("/proc/self/status"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png_of(20, 30, bits=7), "broken header"),
        (encoded(Image.linear_gradient("L"), "JPEG")[:700], r"image file is truncated \(\d+ bytes not processed\)"),
    ],
)
def test_why_a_file_cannot_be_decoded_is_said_in_the_decoders_words(data: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=f"^image x: its (PNG|JPEG) data cannot be decoded: {reason}$"):
        decode_image(data, "x")


@pytest.mark.parametrize(
    ("size", "side", "wanted"),
    [((128, 150), None, (128, 150)), ((128, 150), 64, (128, 150)), ((255, 150), 64, (255, 150)),
     ((256, 300), 64, (128, 150)), ((300, 256), 64, (150, 128)), ((512, 600), 64, (128, 150)),
     ((127, 90), 64, (127, 90))],
)  # fmt: skip
def test_a_picture_is_reduced_by_the_whole_factor_that_leaves_twice_the_side(
    size: tuple[int, int], side: int | None, wanted: tuple[int, int]
) -> None:
    assert reduced(Image.new("L", size), side).size == wanted


@pytest.mark.parametrize("size", [(512, 640), (640, 512)])
def test_a_jpeg_is_reduced_by_its_own_decoder_as_far_as_that_goes(size: tuple[int, int]) -> None:
    data = encoded(Image.merge("RGB", [Image.effect_noise(size, 80) for _ in "RGB"]), "JPEG")
    with Image.open(io.BytesIO(data)) as opened:
        opened.draft(None, (size[0] // 8, size[1] // 8))
        eighth = opened.convert("RGB")
    assert eighth.size == (size[0] // 8, size[1] // 8)
    assert decode_image(data, "x", 32).tobytes() == eighth.tobytes()
