"""PNG and JPEG files taken apart byte by byte: the files are built here by hand, and no decoder reads them."""

import struct
import zlib

import pytest

from r2gengpt.films.containers import (
    PNG_SIGNATURE,
    ContainerError,
    exif_orientation,
    is_dicom,
    is_film,
    open_container,
    png_chunks,
)

STANDING_ALONE = (0x01, *range(0xD0, 0xD8))
"""TEM and RST0 to RST7, which have no length. Source: ISO 10918-1, table B.1."""
FRAMES = (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
"""SOF0 to SOF15: C4 is DHT, C8 is JPG, CC is DAC. Source: the same."""


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def header(width: int = 40, height: int = 30) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))


IDAT, IEND = chunk(b"IDAT", b"pixels"), chunk(b"IEND")


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", 2 + len(content)) + content


def frame(width: int = 40, height: int = 30, marker: int = 0xC0) -> bytes:
    return segment(marker, struct.pack(">BHHB", 8, height, width, 1))


SOI, SCAN, EOI = b"\xff\xd8", segment(0xDA, b"scan") + b"coded", b"\xff\xd9"


def tiff(*entries: tuple[int, int, int], order: str = "<", offset: int = 8, count: int | None = None) -> bytes:
    """An EXIF block whose one directory has entries of a tag, a kind (3: 16 bits) and a value."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", offset) + bytes(offset - 8)
    rows = b"".join(struct.pack(f"{order}HHIHH", tag, kind, 1, value, 0) for tag, kind, value in entries)
    return head + struct.pack(f"{order}H", len(entries) if count is None else count) + rows


ORIENTATION = 0x0112


def element(group: int, number: int, rest: bytes, order: str = "<") -> bytes:
    """The first 16 bytes of a data set: a tag, then two letters and a length or a length alone."""
    return (struct.pack(f"{order}HH", group, number) + rest).ljust(16, b"\1")


@pytest.mark.parametrize(
    "data",
    [
        bytes(128) + b"DICM" + b"\2\0",
        element(0x0002, 0x0000, b"UL\4\0"),
        element(0x0008, 0x0005, b"CS\x0a\0"),
        element(0x0008, 0x0018, b"UI\x1a\0"),
        element(0x0008, 0x0005, b"\x0a\0\0\0"),
        element(0x0008, 0x0005, b"\xff\xff\0\0"),
        element(0x0008, 0x0005, b"CS\0\x0a", ">"),
    ],
    ids=["preamble", "group 2", "group 8", "last element", "implicit", "implicit and long", "big endian"],
)
def test_a_dicom_file_is_known_by_its_preamble_or_its_first_element(data: bytes) -> None:
    assert is_dicom(data)
    assert not is_film(data)
    with pytest.raises(ContainerError, match=r"^is DICOM, which is not read here$"):
        open_container(data)


@pytest.mark.parametrize(
    "data",
    [
        bytes(127) + b"DICM" + bytes(9),
        bytes(129) + b"DICM" + bytes(9),
        bytes(128) + b"dicm" + bytes(9),
        element(0x0002, 0x0000, b"UL\4\0")[:15],
        element(0x0003, 0x0000, b"UL\4\0"),
        element(0x0009, 0x0000, b"UL\4\0"),
        element(0x0010, 0x0010, b"PN\4\0"),
        element(0x0008, 0x0019, b"UI\4\0"),
        element(0x0008, 0x0005, b"cs\4\0"),
        element(0x0008, 0x0005, b"C1\4\0"),
        element(0x0008, 0x0005, b"\x0a\0\1\0"),
        element(0x0008, 0x0005, b"\0\x0a\0\0", ">"),
        b"Dear colleague, the film is attached.",
    ],
)
def test_what_begins_in_another_way_is_no_dicom_file(data: bytes) -> None:
    assert not is_dicom(data)
    with pytest.raises(ContainerError, match=r"^is not a PNG or JPEG image, nor DICOM$"):
        open_container(data)


@pytest.mark.parametrize("start", [PNG_SIGNATURE, b"\xff\xd8\xff"])
def test_a_film_whose_bytes_hold_the_word_of_dicom_is_a_film(start: bytes) -> None:
    data = start.ljust(128, b"\0") + b"DICM"
    assert is_film(data)
    assert not is_dicom(data)


def test_a_png_is_its_size_and_the_chunks_that_make_pixels() -> None:
    parts = header(), chunk(b"PLTE", b"rgb"), chunk(b"tRNS", b"\0"), IDAT, IDAT, IEND
    beside = chunk(b"tEXt", b"Comment"), chunk(b"iCCP", b"profile"), chunk(b"gAMA", b"1234"), chunk(b"fdAT", b"frame")
    mixed = [part for pair in zip(parts, (*beside, b"", b""), strict=True) for part in pair]
    found = open_container(PNG_SIGNATURE + b"".join(mixed) + b"what follows the end")
    assert (found.format, found.size, found.orientation) == ("PNG", (40, 30), 1)
    assert found.data == PNG_SIGNATURE + b"".join(parts)


def test_the_chunks_of_a_png_come_with_their_contents() -> None:
    found = list(png_chunks(PNG_SIGNATURE + header() + IDAT + IEND + IDAT))
    assert [kind for kind, _, _ in found] == [b"IHDR", b"IDAT", b"IEND"]
    assert [content for _, content, _ in found[1:]] == [b"pixels", b""]
    assert [whole for _, _, whole in found] == [header(), IDAT, IEND]


@pytest.mark.parametrize("missing", [1, 4, 5, 12])
def test_a_png_chunk_that_ends_after_the_file_is_cut_off(missing: int) -> None:
    data = PNG_SIGNATURE + header() + chunk(b"IDAT", bytes(20))
    with pytest.raises(ContainerError, match=f"^is cut off: its 'IDAT' chunk ends {missing} bytes later$"):
        open_container(data[:-missing])


def test_a_png_without_a_header_has_no_size_and_of_two_the_first_counts() -> None:
    with pytest.raises(ContainerError, match=r"^has no size: its IHDR chunk is missing$"):
        open_container(PNG_SIGNATURE + IDAT + IEND)
    assert open_container(PNG_SIGNATURE + header(40, 30) + header(41, 31) + IDAT + IEND).size == (40, 30)


@pytest.mark.parametrize(
    ("content", "frames"),
    [(struct.pack(">II", 1, 0), 1), (struct.pack(">II", 2, 0), 2), (struct.pack(">II", 2**24 + 1, 7), 2**24 + 1),
     (struct.pack(">I", 2), 1), (struct.pack(">II", 2, 0) + b"\0", 1), (b"", 1)],
)  # fmt: skip
def test_an_animation_of_several_frames_is_refused_and_a_broken_mark_of_one_is_none(
    content: bytes, frames: int
) -> None:
    data = PNG_SIGNATURE + header() + chunk(b"acTL", content) + IDAT + IEND
    if frames == 1:
        assert open_container(data).data == PNG_SIGNATURE + header() + IDAT + IEND
    else:
        with pytest.raises(ContainerError, match=f"has more than one frame \\({frames} of them\\)"):
            open_container(data)


def test_the_mark_of_an_animation_counts_before_the_pixels_alone() -> None:
    late = PNG_SIGNATURE + header() + IDAT + chunk(b"acTL", struct.pack(">II", 2, 0)) + IEND
    assert open_container(late).data == PNG_SIGNATURE + header() + IDAT + IEND


@pytest.mark.parametrize("marker", range(0xC0, 0xD0))
def test_each_frame_header_of_a_jpeg_tells_the_size(marker: int) -> None:
    data = SOI + frame(marker=marker) + SCAN + EOI
    if marker in FRAMES:
        found = open_container(data)
        assert (found.format, found.size, found.orientation, found.data) == ("JPEG", (40, 30), 1, data)
    else:
        with pytest.raises(ContainerError, match=r"^has no size: its frame header is missing$"):
            open_container(data)


def test_a_jpeg_of_two_frame_headers_is_refused() -> None:
    with pytest.raises(ContainerError, match=r"^has two frame headers$"):
        open_container(SOI + frame() + frame(marker=0xC2) + SCAN + EOI)


@pytest.mark.parametrize("marker", STANDING_ALONE)
def test_a_marker_without_a_length_is_passed_over(marker: int) -> None:
    found = open_container(SOI + bytes((0xFF, marker)) + frame() + bytes((0xFF, marker)) + SCAN + EOI)
    assert (found.size, found.data) == ((40, 30), SOI + frame() + SCAN + EOI)


def test_a_second_start_is_none_of_them() -> None:
    with pytest.raises(ContainerError, match=r"^is cut off in its header$"):
        open_container(SOI + SOI + frame() + SCAN + EOI)


@pytest.mark.parametrize("stray", [b"\xff\0", b"stray", b"\xff\xff\xff", b"\xff\0\xff"])
def test_stray_bytes_before_a_jpeg_segment_are_passed_over(stray: bytes) -> None:
    data = SOI + segment(0xDB, b"table") + stray + frame() + stray + SCAN + EOI
    assert open_container(data).size == (40, 30)


@pytest.mark.parametrize("marker", [*range(0xE0, 0xF0), 0xFE, 0xDB, 0xC4, 0xDD])
def test_the_segments_of_a_jpeg_but_metadata_are_kept(marker: int) -> None:
    beside = segment(marker, b"\0\xff\xc0 content")
    kept = marker in (0xE0, 0xEE, 0xDB, 0xC4, 0xDD)  # JFIF, Adobe, and what a decoder needs
    found = open_container(SOI + beside + frame() + beside + SCAN + EOI)
    wanted = [SOI, beside, frame(), beside, SCAN, EOI] if kept else [SOI, frame(), SCAN, EOI]
    assert found.data == b"".join(wanted)


@pytest.mark.parametrize("end", [EOI, b""])
def test_a_jpeg_without_a_scan_is_handed_on_for_the_decoder_to_refuse(end: bytes) -> None:
    data = SOI + frame() + end
    if end:
        assert open_container(data + b"more").data == data
    else:
        with pytest.raises(ContainerError, match=r"^is cut off in its header$"):
            open_container(data)


@pytest.mark.parametrize("scans", [1, 64, 65])
def test_a_jpeg_of_64_scans_is_read_and_of_one_more_refused(scans: int) -> None:
    data = SOI + frame() + SCAN * scans + EOI
    if scans <= 64:
        assert open_container(data).data == data
    else:
        with pytest.raises(ContainerError, match=r"^has more than 64 scans$"):
            open_container(data)


@pytest.mark.parametrize("hidden", [EOI, b"\xff\xda\0\2" * 65], ids=["end", "scans"])
@pytest.mark.parametrize("marker", [0xDA, 0xC4, 0xFE])
def test_what_lies_within_a_segment_is_neither_a_scan_nor_the_end(marker: int, hidden: bytes) -> None:
    data = SOI + frame() + (SCAN if marker != 0xDA else b"") + segment(marker, hidden) + b"coded" + SCAN + EOI
    assert open_container(data + b"what follows").data == data
    assert open_container(data + b"\xff\xda\0\2" * 65).data == data


def test_coded_pixels_are_no_segments() -> None:
    data = SOI + frame() + SCAN + b"\xff\0\xff\xd0\xff\1\xff\xd7" + SCAN + EOI
    assert open_container(data).data == data


def test_a_jpeg_whose_end_is_missing_is_handed_on_whole() -> None:
    data = SOI + frame() + SCAN
    assert open_container(data).data == data


def exif_of(format: str, exif: bytes) -> bytes:
    if format == "PNG":
        return PNG_SIGNATURE + header() + chunk(b"eXIf", exif) + IDAT + IEND
    return SOI + segment(0xE1, b"Exif\0\0" + exif) + frame() + SCAN + EOI


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_the_orientation_is_read_in_either_byte_order_and_left_out(format: str, order: str) -> None:
    found = open_container(exif_of(format, tiff((0x010F, 2, 9), (ORIENTATION, 3, 6), order=order)))
    assert (found.orientation, found.size) == (6, (40, 30))
    assert b"Exif" not in found.data
    assert b"eXIf" not in found.data


@pytest.mark.parametrize(("marker", "name"), [(0xE2, b"Exif\0\0"), (0xE1, b"Ducky\0"), (0xE0, b"Exif\0\0")])
def test_no_other_segment_of_a_jpeg_tells_the_orientation(marker: int, name: bytes) -> None:
    data = SOI + segment(marker, name + tiff((ORIENTATION, 3, 6))) + frame() + SCAN + EOI
    assert open_container(data).orientation == 1


@pytest.mark.parametrize("value", range(11))
def test_an_orientation_is_one_of_eight(value: int) -> None:
    assert exif_orientation(tiff((ORIENTATION, 3, value))) == (value if 1 <= value <= 8 else 1)


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        b"II*\0\10",
        b"II*\0\10\0\0\0",
        b"II*\0\10\0\0\0\1",
        b"JJ*\0" + tiff((ORIENTATION, 3, 6))[4:],
        tiff((ORIENTATION, 4, 6)),
        tiff((ORIENTATION, 2, 6)),
        tiff((ORIENTATION + 1, 3, 6)),
        tiff((ORIENTATION - 1, 3, 6)),
        tiff((0x010F, 3, 5), (ORIENTATION, 3, 6), count=1),
        tiff(*[(0x010F, 3, 5)] * 12, (ORIENTATION, 3, 6), count=12),
        tiff((ORIENTATION, 3, 6), count=0),
        tiff((ORIENTATION, 3, 6))[:-1],
        tiff((ORIENTATION, 3, 6))[:-2],
        b"II*\0\xff\xff\xff\xff" + tiff((ORIENTATION, 3, 6)),
        tiff((ORIENTATION, 3, 9), (ORIENTATION, 3, 6)),
    ],
)
def test_an_orientation_that_is_not_there_or_broken_is_upright(exif: bytes) -> None:
    assert exif_orientation(exif) == 1


def test_a_directory_of_an_exif_block_may_begin_anywhere_and_claim_too_many_entries() -> None:
    assert exif_orientation(tiff((ORIENTATION, 3, 6), offset=21)) == 6
    assert exif_orientation(tiff((0x010F, 3, 5), (ORIENTATION, 3, 6), count=60000)) == 6
