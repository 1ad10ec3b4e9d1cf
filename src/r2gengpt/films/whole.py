"""Whether a PNG or JPEG file holds all the pixels of its header. Decoders fill what is missing in silence.

Pillow leaves rows black where a PNG's zlib stream ends early, and colours that its palette lacks. libjpeg makes grey
blocks where a scan ends early. A picture whose end is neither black nor grey is whole, so most are read no further.
"""

import io
import struct
import zlib

from PIL import Image

from r2gengpt.films.containers import JPEG_END, ContainerError, png_chunks

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PALETTE = 3
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Column and row that a pass begins at, and its steps. Source: PNG, third edition, 8.1."""
_PIECE = 2**14
"""Bytes that are unpacked at a time, to 16 MiB at most."""
_NOT_DECODED = (128, 127)
"""Levels of a block that was never decoded; of inverted colours they are one lower."""
_MORE = b"\x5a\xa5" * 64
"""Entropy-coded bytes that change a picture unless all its blocks stand before them."""


def check_png(picture: Image.Image, data: bytes) -> None:
    """Refuse a PNG whose stream ends before its last row, or that uses colours which its palette lacks.

    Args:
        picture: what was decoded, in mode L or RGB.
        data: the file.

    Raises:
        ContainerError: so it is.
    """
    chunks = [(kind, content) for kind, content, _ in png_chunks(data)]
    header = next(content for kind, content in chunks if kind == b"IHDR")
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", header)
    last = height // 2 * 2 - 1 if interlaced else height - 1  # the row that is decoded last
    if colour != _PALETTE and picture.crop((0, last, width, last + 1)).getbbox():
        return
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sides = [(-(-(width - left) // across), -(-(height - top) // down)) for left, top, across, down in passes]
    wanted = sum(rows * (1 + (columns * bits * _CHANNELS[colour] + 7) // 8) for columns, rows in sides if columns > 0)
    stream, held = zlib.decompressobj(), 0
    for content in (content for kind, content in chunks if kind == b"IDAT"):
        for start in range(0, len(content), _PIECE):
            held += len(stream.decompress(content[start : start + _PIECE]))
            if held >= wanted:
                return
    raise ContainerError(f"is cut off: its pixels unpack to {held} bytes, must be {wanted}")


def check_palette(opened: Image.Image) -> None:
    """Refuse a PNG that was opened and not loaded, and uses more colours than its palette has.

    Raises:
        ContainerError: so it is.
    """
    if opened.mode == "P":
        colours = len(opened.palette.getdata()[1]) // 3 if opened.palette else 0
        used = max(level for level, count in enumerate(opened.histogram()) if count) + 1
        if used > colours:
            raise ContainerError(f"uses colour {used} of a palette of {colours}")


def check_jpeg(loaded: Image.Image, data: bytes) -> None:
    """Refuse a JPEG whose last scan ends before its last block: bytes after a whole scan would change nothing.

    A progressive file whose later scans are cut only lacks detail, and is read.

    Args:
        loaded: the picture as Pillow decodes it, at any scale.
        data: the file.

    Raises:
        ContainerError: so it is.
    """
    corner = loaded.getpixel((loaded.width - 1, loaded.height - 1))
    levels = corner if isinstance(corner, tuple) else (corner,)
    if not all(level in _NOT_DECODED for level in levels) or not data.endswith(JPEG_END):
        return
    if _smallest(data) != _smallest(data.removesuffix(JPEG_END) + _MORE + JPEG_END):
        raise ContainerError("is cut off: its last scan ends before the picture does")


def _smallest(data: bytes) -> bytes:
    """The pixels of a JPEG at an eighth of its scale."""
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as opened:
        opened.draft(None, (1, 1))
        return opened.tobytes()
