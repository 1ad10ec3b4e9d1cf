"""PNG and JPEG decoding: modes, depth, orientation, reduced scale, and every kind of bad file."""

import io
import os
import random
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from r2gengpt.errors import InputError
from r2gengpt.films.containers import PNG_SIGNATURE, ContainerError, open_container
from r2gengpt.films.depth import check_shows_something, depth_of, grey8, is_one_grey
from r2gengpt.films.reader import MAX_PIXELS, MIN_SIDE, decode_image, load_image, to_rgb
from r2gengpt.films.sources import film_of, study_of
from r2gengpt.films.whole import check_jpeg, check_png

ORIENTATION = 0x0112
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Column and row that a pass of an interlaced PNG begins at, and its steps."""


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def grey(width: int = 40, height: int = 30) -> Image.Image:
    """A ramp: dark upper left, bright lower right."""
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray((rows * 3 + columns * 2).astype(np.uint8))


def film(side: int) -> Image.Image:
    """A smooth picture with fine grain, like a film of a large detector."""
    rows, columns = np.mgrid[0:side, 0:side] / side
    smooth = 120 + 60 * np.sin(7 * columns) * np.cos(5 * rows)
    grain = np.random.default_rng(0).normal(0, 6, (side, side))
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["L", "RGB", "LA", "RGBA", "P", "1"])
def test_every_png_mode_becomes_the_same_rgb_as_pillow_makes_of_opaque_images(mode: str) -> None:
    source = grey().convert(mode)
    image = decode_image(encode(source), "x.png")
    assert image.mode == "RGB"
    assert image.tobytes() == source.convert("RGB").tobytes()


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_modes_become_rgb(mode: str) -> None:
    data = encode(grey().convert(mode), "JPEG")
    image = decode_image(data, "x.jpg")
    assert (image.mode, image.size) == ("RGB", (40, 30))
    assert image.tobytes() == Image.open(io.BytesIO(data)).convert("RGB").tobytes()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_laid_over_black(mode: str) -> None:
    source = Image.new(mode, (20, 20), (200, 0) if mode == "LA" else (200, 200, 200, 0))
    source.paste((200, 128) if mode == "LA" else (200, 200, 200, 128), (0, 0, 20, 10))
    pixels = np.asarray(decode_image(encode(source), "x.png"))
    assert pixels[15].max() == 0
    assert abs(int(pixels[5].max()) - 100) <= 1


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])])
def test_a_transparent_palette_colour_is_black(transparency: int | bytes) -> None:
    source = Image.new("P", (20, 20), 0)
    source.putpalette([90, 90, 90, 250, 250, 250])
    source.paste(1, (0, 0, 20, 10))
    pixels = np.asarray(decode_image(encode(source, transparency=transparency), "x.png"))
    assert (pixels[5].max(), pixels[15].max()) == (0, 90)


@pytest.mark.parametrize(("red", "left"), [(200, 0), (201, 200), (300, 200)], ids=["there", "absent", "beyond 8 bits"])
def test_a_transparent_colour_is_black_where_a_pixel_has_it(red: int, left: int) -> None:
    source = Image.new("RGB", (20, 20), (200, 20, 30))
    source.paste((90, 90, 90), (0, 0, 20, 10))
    pixels = np.asarray(decode_image(encode(source, transparency=(red, 20, 30)), "x.png"))
    assert (pixels[5].max(), pixels[15].max()) == (90, left)


@pytest.mark.parametrize("depth", [2, 4, 8])
def test_a_transparent_grey_of_few_bits_is_black(depth: int) -> None:
    top = 2**depth - 1
    rows = np.repeat(np.array([0, 1, 2, 3]) * top // 3, 5)
    each = 8 // depth
    packed = sum(np.repeat(rows[:, None], 24, 1)[:, place::each] << (8 - depth * (place + 1)) for place in range(each))
    lines = b"".join(b"\0" + row.tobytes() for row in np.asarray(packed, np.uint8))
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 24, 20, depth, 0, 0, 0, 0))
    key = png_chunk(b"tRNS", struct.pack(">H", top * 2 // 3))
    data = b"\x89PNG\r\n\x1a\n" + header + key + png_chunk(b"IDAT", zlib.compress(lines)) + png_chunk(b"IEND", b"")
    assert np.asarray(decode_image(data, "x.png"))[::5, 0, 0].tolist() == [0, 85, 0, 255]


@pytest.mark.parametrize(
    ("top", "bits"), [(200, 8), (255, 8), (256, 10), (1023, 10), (4000, 12), (4095, 12), (16383, 14), (65535, 16)]
)
def test_16_bit_greys_are_scaled_by_the_depth_in_use(top: int, bits: int) -> None:
    deep = np.zeros((20, 20), np.uint16)
    deep[0, 0], deep[0, 1] = top, top // 2
    pixels = np.asarray(decode_image(encode(Image.fromarray(deep)), "x.png"))
    assert pixels[0, 0].tolist() == [round(top * 255 / (2**bits - 1))] * 3
    assert pixels[0, 1, 0] == pytest.approx(top // 2 * 255 / (2**bits - 1), abs=0.51)
    assert pixels[1:].max() == 0


def test_32_bit_greys_are_scaled_alike_and_negative_ones_are_black() -> None:
    deep = np.full((20, 20), -5, np.int32)
    deep[0, :3] = 4095, 2048, 0
    assert np.asarray(to_rgb(Image.fromarray(deep)))[:2, :4, 0].tolist() == [[255, 128, 0, 0], [0, 0, 0, 0]]
    deep[0, 0] = 2**20 - 1
    assert np.asarray(to_rgb(Image.fromarray(deep)))[0, 0].tolist() == [255] * 3


def test_negative_greys_are_black_and_others_as_they_are() -> None:
    assert grey8(np.array([[-300, -1, 0, 1, 255]], np.int32)).tolist() == [[0, 0, 0, 1, 255]]


def test_what_shows_nothing_is_refused_with_the_share_of_its_grey() -> None:
    picture = np.full((20, 20), 90, np.uint8)
    picture[0] = 91
    with pytest.raises(InputError, match=r"shows nothing: 95\.0% of its pixels are of one grey$"):
        decode_image(encode(Image.fromarray(picture), "PNG"), "x.png")


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("as_picture", [True, False])
def test_values_below_zero_are_refused_with_the_least(kind: type[np.signedinteger[Any]], as_picture: bool) -> None:
    def shown(values: npt.NDArray[Any]) -> object:
        return Image.fromarray(values.astype(np.int32)) if as_picture else values

    pixels = (np.arange(400).reshape(20, 20) % 100).astype(kind)
    assert film_of(shown(pixels), "images[1]").shown.size == (20, 20)
    pixels[0, 0] = -90
    with pytest.raises(InputError, match=r"^image images\[1\]: has values from -90, must be from 0: "):
        film_of(shown(pixels), "images[1]")


def test_floating_point_images_are_refused() -> None:
    with pytest.raises(InputError, match=r"^image images\[1\]: its floating-point pixels"):
        film_of(Image.new("F", (20, 20)), "images[1]")


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation_is_applied_as_pillow_does(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encode(grey(), format, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    image = decode_image(data, "x")
    assert image.size == ((30, 40) if orientation in range(5, 9) else (40, 30))
    assert image.tobytes() == upright.tobytes()


@pytest.mark.parametrize("kept", ["opened", "converted"])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_pillow_image_is_turned_upright_as_its_file_is(format: str, kept: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    lying = Image.open(io.BytesIO(encode(grey(), format, exif=exif)))
    assert film_of(lying if kept == "opened" else lying.convert("RGB"), "x").shown.size == (30, 40)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((0, 0), np.uint16), "image x: is 0x0 pixels: at least 16"),
        (np.zeros((0, 20), np.int64), "image x: is 20x0 pixels: at least 16"),
        (np.ma.masked_all((20, 20), np.uint16), "image x: shows nothing"),
        (Image.open(io.BytesIO(encode(film(200))[:5000])), "image x: its L pixels cannot be decoded: image file is"),
        (Image.open(io.BytesIO(encode(film(200), "JPEG")[:3000])), "image x: its L pixels cannot be decoded"),
        (Image.new("La", (20, 20)), "image x: its La pixels cannot be decoded: conversion from La"),
        ("a\0b.png", r"image 'a\\x00b.png': holds a NUL"),
    ],
)
def test_what_python_gives_that_holds_no_picture_is_refused_by_its_name(image: object, words: str) -> None:
    with pytest.raises(InputError, match=f"^{words}"):
        film_of(image, "x")


def test_a_masked_pixel_of_an_array_is_black() -> None:
    pixels = np.asarray(grey())
    shown = np.asarray(film_of(np.ma.masked_greater(pixels, 100), "x").shown)
    assert (shown[..., 0] == np.where(pixels > 100, 0, pixels)).all()


@pytest.mark.parametrize("alone", [memoryview(b"ab"), io.BytesIO(b"a\nb")])
def test_a_file_in_place_of_a_list_of_views_is_refused_as_one(alone: object) -> None:
    with pytest.raises(InputError, match=r"^images: must be a list"):
        study_of(alone)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0MM\0*\xff\xff\xff\xff\0\0\0\0", b"Exif\0\0junk"]
)
def test_broken_exif_is_upright_and_silent(exif: bytes) -> None:
    data = encode(grey(), "JPEG", exif=exif)
    assert decode_image(data, "x.jpg").size == (40, 30)


def test_a_large_png_text_block_is_never_unpacked() -> None:
    plain = encode(grey())
    bomb = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**26)))
    data = plain[:33] + bomb + plain[33:]
    assert decode_image(data, "x.png").tobytes() == decode_image(plain, "x.png").tobytes()


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_large_film_is_reduced_but_never_below_twice_the_size(format: str) -> None:
    data = encode(film(3000).crop((0, 0, 3000, 2400)), format)
    image = decode_image(data, "x", size=224)
    assert 2 * 224 <= min(image.size) < 4 * 224
    assert image.size[0] / image.size[1] == pytest.approx(3000 / 2400, rel=0.01)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_the_reduced_film_looks_like_the_whole_one(format: str) -> None:
    data = encode(film(2500), format, **({"quality": 95} if format == "JPEG" else {}))
    side = (224, 224)
    whole, reduced = (
        np.asarray(decode_image(data, "x", size).resize(side, Image.Resampling.BICUBIC), dtype=float)
        for size in (None, 224)
    )
    # grey levels of 255; two anti-aliasing filters in place of one leave about half a level
    assert np.abs(whole - reduced).mean() < 1.0
    assert np.abs(whole - reduced).max() < 8.0


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_an_image_below_twice_the_size_is_left_as_it_is(format: str) -> None:
    data = encode(grey(400, 300), format)
    assert decode_image(data, "x", size=224).tobytes() == decode_image(data, "x").tobytes()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("empty.png", b"", "is empty (0 bytes)"),
        ("text.png", b"Dear colleague, the film is attached.", "is not a PNG or JPEG image"),
        ("anim.gif", b"GIF89a" + bytes(100), "is not a PNG or JPEG image"),
        ("cut.png", encode(grey())[:-30], "is cut off"),
        ("head.png", encode(grey())[:20], "is cut off"),
        ("cut.jpg", encode(grey(), "JPEG")[:-30], "cannot be decoded"),
        ("head.jpg", encode(grey(), "JPEG")[:30], "is cut off in its header"),
        ("dot.png", encode(Image.new("L", (1, 1))), "is 1x1 pixels: must be at least 16 on each side"),
        ("line.png", encode(Image.new("L", (15, 4000))), "is 15x4000 pixels"),
        ("bomb.png", png_header(40_000, 40_000), "40000x40000 is 1600000000 pixels: at most 80000000"),
        ("nodata.png", png_header(40, 30), "PNG data cannot be decoded"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_it(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        load_image(path, size=224)
    text = str(caught.value)
    assert text.startswith(f"image {path}: ")
    assert words in text
    assert "\n" not in text
    assert "0x" not in text.removeprefix(f"image {path}").replace("40000x40000", "").replace("15x4000", "")


def png_rows(width: int, height: int, bits: int, colour: int, interlaced: int) -> bytes:
    """Unfiltered random rows of a PNG picture, whose last quarter is black."""
    channels, rng = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour], np.random.default_rng(0)
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = [-(-(width - left) // across) for left, top, across, down in passes for _ in range(top, height, down)]
    raw = b"".join(b"\0" + rng.bytes((columns * bits * channels + 7) // 8) for columns in rows if columns)
    return raw[: len(raw) * 3 // 4] + bytes(len(raw) - len(raw) * 3 // 4)


@pytest.mark.parametrize("size", [(40, 30), (41, 33)])  # passes begin at columns and rows 0, 1, 2 and 4 of 8
@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize(
    ("bits", "colour"), [(1, 0), (2, 0), (8, 0), (16, 0), (8, 2), (16, 2), (4, 3), (8, 3), (8, 4), (16, 4), (16, 6)]
)
def test_a_png_whose_pixels_end_early_is_refused(
    bits: int, colour: int, interlaced: int, size: tuple[int, int]
) -> None:
    rows = png_rows(*size, bits, colour, interlaced)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, interlaced))
    palette = png_chunk(b"PLTE", (bytes(range(256)) * 3)[: 3 * 2**bits]) if colour == 3 else b""

    def png(held: bytes) -> bytes:
        chunks = header + palette + png_chunk(b"IDAT", zlib.compress(held)) + png_chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + chunks

    assert decode_image(png(rows), "x.png").size == size
    for held in (len(rows) // 2, len(rows) - len(rows) // 30, len(rows) - 1):
        with pytest.raises(InputError, match=r"is cut off: its pixels unpack to|image file is truncated"):
            decode_image(png(rows[:held]), "x.png")


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize(("bits", "colour"), [(1, 0), (8, 2)])
def test_the_bytes_that_a_png_must_hold_are_those_of_its_passes(bits: int, colour: int, interlaced: int) -> None:
    for width, height in [(width, height) for width in range(1, 18) for height in range(1, 18)]:
        rows = png_rows(width, height, bits, colour, interlaced)
        header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced))
        black = Image.new("L", (width, height))
        for held in (len(rows), len(rows) - 1):
            data = PNG_SIGNATURE + header + png_chunk(b"IDAT", zlib.compress(rows[:held])) + png_chunk(b"IEND", b"")
            if held == len(rows):
                check_png(black, data)
            else:
                with pytest.raises(ContainerError, match=f"unpack to {held} bytes, must be {len(rows)}$"):
                    check_png(black, data)


def png_of(width: int, height: int, *packed: bytes, interlaced: int = 0, colour: int = 0) -> bytes:
    """A PNG of 8 bits whose pixels are those packed parts."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, interlaced))
    return PNG_SIGNATURE + header + b"".join(png_chunk(b"IDAT", part) for part in packed) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize(("height", "interlaced", "last"), [(20, 0, 19), (21, 0, 20), (20, 1, 19), (21, 1, 19)])
@pytest.mark.parametrize("column", [0, 29])
def test_a_png_is_counted_unless_the_row_that_is_decoded_last_shows_something(
    height: int, interlaced: int, last: int, column: int
) -> None:
    nothing = png_of(30, height, interlaced=interlaced)
    shows = Image.new("L", (30, height))
    shows.putpixel((column, last), 1)
    check_png(shows, nothing)
    misses = Image.new("L", (30, height), 255)
    misses.paste(0, (0, last, 30, last + 1))
    with pytest.raises(ContainerError, match=r"^is cut off: its pixels unpack to 0 bytes, must be \d+$"):
        check_png(misses, nothing)


def test_the_colours_of_a_palette_are_counted_whatever_the_last_row_shows() -> None:
    with pytest.raises(ContainerError, match=r"unpack to 0 bytes, must be 620$"):
        check_png(Image.new("RGB", (30, 20), "white"), png_of(30, 20, colour=3))


@pytest.mark.parametrize("cut", [0, 1])
def test_a_long_png_stream_in_several_chunks_is_counted_to_its_end(cut: int) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (200, 301), np.uint8)
    rows[:, 0], rows[-1] = 0, 0
    packed = zlib.compress(rows.tobytes()[: rows.size - cut])
    data = png_of(300, 200, packed[:1], packed[1:40_001], packed[40_001:])
    black = Image.new("L", (300, 200))
    if cut:
        with pytest.raises(ContainerError, match=r"unpack to 60199 bytes, must be 60200$"):
            check_png(black, data)
    else:
        check_png(black, data)


@pytest.mark.parametrize(
    ("mode", "grey_corner"), [("L", 128), ("L", 127), ("RGB", (128, 127, 128)), ("CMYK", (127,) * 4)]
)
def test_a_jpeg_is_tried_where_its_last_corner_is_as_grey_as_what_is_missing(mode: str, grey_corner: Any) -> None:
    cut = encode(grey().resize((64, 64)), "JPEG")
    cut = cut[: cut.index(b"\xff\xda") + 20] + b"\xff\xd9"
    shown = Image.new(mode, (8, 8))
    check_jpeg(shown, cut)
    shown.putpixel((7, 7), grey_corner)
    with pytest.raises(ContainerError, match=r"^is cut off: its last scan ends before the picture does$"):
        check_jpeg(shown, cut)
    check_jpeg(shown, cut.removesuffix(b"\xff\xd9"))


@pytest.mark.parametrize("grey_corner", [126, 129, 255])
def test_a_jpeg_whose_last_corner_is_of_another_grey_is_whole(grey_corner: int) -> None:
    cut = encode(grey().resize((64, 64)), "JPEG")
    cut = cut[: cut.index(b"\xff\xda") + 20] + b"\xff\xd9"
    check_jpeg(Image.new("L", (8, 8), grey_corner), cut)
    check_jpeg(Image.new("RGB", (8, 8), (128, 128, grey_corner)), cut)


def test_a_jpeg_without_metadata_is_handed_on_byte_for_byte() -> None:
    out = io.BytesIO()
    Image.effect_noise((40, 30), 60).save(out, "JPEG", quality=90)
    assert open_container(out.getvalue()).data == out.getvalue()


@pytest.mark.parametrize("colours", [0, 3, 165])
def test_a_palette_that_lacks_a_colour_of_its_picture_is_refused(colours: int) -> None:
    data = encode(grey().convert("P"))
    at = data.index(b"PLTE") - 4
    short = png_chunk(b"PLTE", (bytes(range(256)) * 3)[: 3 * colours]) if colours else b""
    damaged = data[:at] + short + data[at + 12 + int.from_bytes(data[at : at + 4]) :]
    with pytest.raises(InputError, match=f"uses colour 166 of a palette of {colours}$"):
        decode_image(damaged, "x.png")


@pytest.mark.parametrize("size", [None, 64])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("more", [{}, {"restart_marker_rows": 1}, {"optimize": True, "quality": 30}])
def test_a_jpeg_whose_scan_ends_early_is_refused(mode: str, more: dict[str, Any], size: int | None) -> None:
    corner = film(300).convert("L")
    corner.paste(128, (200, 200, 300, 300))  # as grey as what was never decoded
    data = encode(corner.convert(mode), "JPEG", **more)
    assert min(decode_image(data, "x.jpg", size).size) >= 128
    scan = data.index(b"\xff\xda")
    for share in (0.3, 0.7, 0.95):
        cut = data[: scan + int((len(data) - scan) * share)].rstrip(b"\xff") + b"\xff\xd9"
        with pytest.raises(InputError, match="is cut off: its last scan ends before the picture does"):
            decode_image(cut, "x.jpg", size)


def test_what_follows_the_end_of_a_jpeg_is_no_part_of_it() -> None:
    data = encode(grey(), "JPEG")
    assert decode_image(data + data, "x.jpg").tobytes() == decode_image(data, "x.jpg").tobytes()


def test_a_real_jpeg_bomb_is_refused_before_decoding() -> None:
    data = bytearray(encode(grey(), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 40_000, 40_000)
    with pytest.raises(InputError, match="40000x40000 is 1600000000 pixels"):
        decode_image(bytes(data), "bomb.jpg")


def test_missing_files_and_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.png: No such file"):
        load_image(tmp_path / "nothing.png")
    with pytest.raises(InputError, match="is a directory"):
        load_image(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="is not a regular file"):
        load_image(tmp_path / "pipe.png")


def test_the_limits_are_the_ones_documented() -> None:
    assert decode_image(encode(Image.linear_gradient("L").resize((MIN_SIDE, MIN_SIDE))), "x").size == (16, 16)
    with pytest.raises(InputError, match="cannot be decoded"):  # allowed by its size, refused for its missing data
        decode_image(png_header(8000, 10_000), "x")
    with pytest.raises(InputError, match=f"at most {MAX_PIXELS}"):
        decode_image(png_header(8000, 10_001), "x")


def test_pillows_own_limit_is_not_touched() -> None:
    before = Image.MAX_IMAGE_PIXELS
    decode_image(encode(grey()), "x")
    assert before == Image.MAX_IMAGE_PIXELS


def test_threads_decode_side_by_side() -> None:
    files = [encode(film(200 + 8 * i), format) for i in range(8) for format in ("PNG", "JPEG")]
    alone = [decode_image(data, "x", 64).tobytes() for data in files]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda data: decode_image(data, "x", 64).tobytes(), files * 3))
    assert together == alone * 3


def test_random_damage_is_decoded_or_refused_but_never_crashes() -> None:
    rng = random.Random(0)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    files = [encode(grey().convert(mode), exif=exif) for mode in ("L", "RGBA", "P")]
    files += [encode(grey().convert(mode), "JPEG", progressive=True, exif=exif) for mode in ("L", "RGB", "CMYK")]
    outcomes = set()
    for _ in range(1500):
        data = bytearray(rng.choice(files))
        for _ in range(rng.choice((1, 2, 8))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        try:
            outcomes.add(decode_image(bytes(data), "x", rng.choice((None, 4))).mode)
        except InputError:
            outcomes.add("refused")
    assert outcomes == {"RGB", "refused"}


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_an_orientation_after_other_tags_is_found(format: str) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[ORIENTATION] = "Maker", "Model", 8
    assert decode_image(encode(grey(), format, exif=exif), "x").size == (30, 40)


def test_an_array_of_colours_is_read_where_it_has_8_bits() -> None:
    colours = np.stack([np.asarray(grey()), np.asarray(grey().rotate(180)), np.asarray(grey())], axis=2)
    assert np.asarray(film_of(colours, "x").shown).shape == (*np.asarray(grey()).shape, 3)
    with pytest.raises(InputError, match=r"is uint16 of shape .* must be whole numbers \(H, W\), or uint8 \(H, W, 3\)"):
        film_of(colours.astype(np.uint16), "x")


def test_a_picture_of_two_greys_shows_nothing_where_nearly_all_of_it_is_one() -> None:
    counts = np.zeros(256, int)
    counts[[10, 200]] = 970, 30
    assert is_one_grey(counts)
    counts[100], counts[10] = 1, 969
    assert not is_one_grey(counts)
    for common, one_grey in ((950, True), (949, False), (930, False)):
        counts[[10, 100, 200]] = common, 0, 1000 - common
        assert is_one_grey(counts) == one_grey


def test_a_grey_and_its_two_neighbours_are_one() -> None:
    counts = np.zeros(256, int)
    counts[[9, 10, 11, 200]] = 50, 900, 47, 3
    assert is_one_grey(counts)
    counts[[11, 12]] = 0, 47
    assert not is_one_grey(counts)


@pytest.mark.parametrize("form", ["TIFF", "GIF", "PNG"])
def test_a_picture_of_several_frames_is_refused_as_its_file_is_and_a_copy_of_one_is_taken(form: str) -> None:
    frames = [
        Image.fromarray(np.arange(k, k + 80 * 80, dtype=np.uint16).astype(np.uint8).reshape(80, 80)) for k in (0, 9)
    ]
    file = io.BytesIO()
    frames[0].save(file, form, save_all=True, append_images=frames[1:])
    picture = Image.open(file)
    with pytest.raises(InputError, match=r"images\[0\]: has 2 frames: give one of them, as `image.copy\(\)` makes it"):
        study_of([picture])
    assert study_of([picture.copy()]).pictures[0].size == (80, 80)


def test_a_jpeg_with_previews_behind_it_is_its_first_picture_whether_open_or_in_bytes() -> None:
    frames = [Image.fromarray(np.full((80, 80), k, np.uint8)) for k in (0, 9)]
    for frame in frames:
        frame.paste(255, (0, 0, 40, 80))
    file = io.BytesIO()
    frames[0].save(file, "MPO", save_all=True, append_images=frames[1:])
    (opened,), (read,) = (study_of([one]).pictures for one in (Image.open(file), file.getvalue()))
    assert np.array_equal(np.asarray(opened), np.asarray(read))


def histogram(counts: dict[int, int]) -> npt.NDArray[np.int64]:
    """The number of pixels of each of 256 greys."""
    found = np.zeros(256, np.int64)
    found[list(counts)] = list(counts.values())
    return found


@pytest.mark.parametrize(
    ("counts", "one_grey"),
    [
        ({0: 996, 100: 2, 200: 2}, True),
        ({0: 995, 100: 2, 200: 3}, False),
        ({255: 996, 100: 2, 200: 2}, True),
        ({9: 47, 10: 950, 200: 3}, True),
        ({8: 47, 10: 950, 200: 3}, False),
        ({7: 1}, True),
        ({}, True),
    ],
    ids=["black", "five of a thousand are others", "white", "a neighbour below", "two below", "one pixel", "none"],
)
def test_a_picture_is_of_one_grey_where_more_than_995_of_1000_pixels_are_near_it(
    counts: dict[int, int], one_grey: bool
) -> None:
    assert is_one_grey(histogram(counts)) == one_grey


@pytest.mark.parametrize(
    ("channels", "share"),
    [([{7: 1}], "100.0"), ([{7: 999, 90: 1}] * 3, "99.9"), ([{7: 999, 90: 1}, {7: 997, 90: 3}], "99.7"), ([{}], "0.0")],
)
def test_what_shows_nothing_is_told_with_the_share_of_the_channel_that_shows_most(
    channels: list[dict[int, int]], share: str
) -> None:
    with pytest.raises(ContainerError, match=f"^shows nothing: {share}% of its pixels are of one grey$"):
        check_shows_something(np.array([histogram(counts) for counts in channels]))
    check_shows_something(np.array([histogram({7: 999, 90: 1}), histogram({7: 500, 90: 500})]))


@pytest.mark.parametrize(
    ("levels", "bits"),
    [(255, 8), (256, 10), (1023, 10), (1024, 12), (4096, 14), (16384, 16), (65535, 16), (65536, 17), (2**20, 21)],
)
def test_a_depth_is_the_smallest_of_detectors_that_holds_a_level(levels: int, bits: int) -> None:
    assert depth_of(levels) == bits


@pytest.mark.parametrize("bits", [17, 18, 20, 24])
def test_greys_of_more_than_16_bits_are_scaled_by_their_own(bits: int) -> None:
    assert grey8(np.array([[2**bits - 1, 2 ** (bits - 1), 0, -5]], np.int32)).tolist() == [[255, 128, 0, 0]]


@pytest.mark.parametrize(
    ("red", "key", "left"), [(255, 255, 0), (0, 256, 30), (0, 255, 30)], ids=["white", "beyond 8 bits", "absent"]
)
def test_the_largest_level_of_a_transparent_colour_is_255(red: int, key: int, left: int) -> None:
    source = Image.new("RGB", (20, 20), (red, 20, 30))
    source.paste((90, 90, 90), (0, 0, 20, 10))
    pixels = np.asarray(decode_image(encode(source, transparency=(key, 20, 30)), "x.png"))
    assert (pixels[5].max(), pixels[15].max()) == (90, left)


def deep_png(levels: npt.NDArray[np.integer], key: tuple[int, ...] = ()) -> bytes:
    """A PNG of 16 bits a channel, (H, W, channels): grey or colours, with opacity or without."""
    height, width, channels = levels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + (png_chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)) if key else b"")
    rows = b"".join(b"\0" + line.astype(">u2").tobytes() for line in levels)
    return PNG_SIGNATURE + chunks + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("colours", [1, 3])
def test_deep_levels_over_black_are_rounded_and_what_is_wholly_transparent_tells_no_depth(colours: int) -> None:
    opacity, level = np.mgrid[0:256, 0:256]
    levels = np.stack([np.where(opacity, level, 65535)] * colours + [opacity * 257], axis=2)
    pixels = np.asarray(decode_image(deep_png(levels), "x.png"))
    assert (pixels == ((2 * level * opacity + 255) // 510)[..., None]).all()


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize(("opacity", "share"), [(65535, 1.0), (32896, 128 / 255)])
def test_one_opacity_of_all_deep_pixels_darkens_all(colours: int, opacity: int, share: float) -> None:
    level = np.arange(400).reshape(20, 20) % 256
    levels = np.stack([level] * colours + [np.full_like(level, opacity)], axis=2)
    pixels = np.asarray(decode_image(deep_png(levels), "x.png"))
    assert (pixels == np.rint(level * share)[..., None]).all()


def test_a_transparent_deep_grey_is_black_and_tells_no_depth() -> None:
    level = np.arange(400).reshape(20, 20, 1) % 200
    pixels = np.asarray(decode_image(deep_png(np.where(level == 7, 60_000, level), (60_000,)), "x.png"))
    assert (pixels == np.where(level == 7, 0, level)).all()


def test_a_transparent_deep_colour_is_black_where_all_its_channels_are_met() -> None:
    levels = np.zeros((20, 20, 3), int)
    levels[0], levels[1], levels[2] = (60_000, 20, 30), (90, 20, 30), (90, 20, 255)
    levels[3] = 40, 50, 60
    pixels = np.asarray(decode_image(deep_png(levels, (60_000, 20, 30)), "x.png"))
    assert pixels[:4, 0].tolist() == [[0, 0, 0], [90, 20, 30], [90, 20, 255], [40, 50, 60]]


def test_deep_colours_are_scaled_by_the_brightest_channel() -> None:
    levels = np.zeros((20, 20, 3), int)
    levels[0], levels[1] = (4095, 2048, 256), (1023, 0, 16)
    pixels = np.asarray(decode_image(deep_png(levels), "x.png"))
    assert pixels[:3, 0].tolist() == [[255, 128, 16], [64, 0, 1], [0, 0, 0]]  # of 4095


@pytest.mark.parametrize("colours", [1, 3])
def test_levels_and_opacities_of_12_bits_are_scaled_each_by_their_own_depth(colours: int) -> None:
    rows = np.array([(4095, 4095), (4095, 2048), (1024, 4095), (1024, 2048), (0, 4095)])
    levels = np.repeat(np.stack([rows[:, 0]] * colours + [rows[:, 1]], axis=1)[:, None], 20, 1).repeat(4, 0)
    pixels = np.asarray(decode_image(deep_png(levels), "x.png"))
    assert pixels[::4, 0, 0].tolist() == [255, 128, 64, 32, 0]


def test_what_is_hardly_seen_tells_the_depth_too() -> None:
    levels = np.full((20, 20, 2), (1000, 65535))
    levels[0], levels[10:, :, 0] = (4095, 257), 500
    pixels = np.asarray(decode_image(deep_png(levels), "x.png"))
    assert pixels[[0, 1, 10], 0, 0].tolist() == [1, 62, 31]  # white at 1 of 255; the others of 4095
