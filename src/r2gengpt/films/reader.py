"""PNG, JPEG and DICOM files to upright 8-bit RGB images. No resizing to a model's input size, no normalisation."""

import io
import stat
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from r2gengpt.errors import InputError
from r2gengpt.files import open_regular
from r2gengpt.films.containers import Container, ContainerError, DicomChoice, is_dicom, open_container
from r2gengpt.films.depth import check_picture, grey8, png_picture
from r2gengpt.films.film import Film, header_in
from r2gengpt.films.whole import check_jpeg, check_palette, check_png

MIN_SIDE = 16
"""Pixels: what is smaller on a side is no chest film but a placeholder."""
MAX_PIXELS = 80_000_000
"""Pixels of the largest image decoded: five times the largest radiography detector, and below Pillow's own limit."""
MAX_BYTES = 256 * 2**20
"""Bytes of the largest file read."""
PLAIN = DicomChoice()

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → the transposition that undoes it. Source: EXIF 2.3, table of tag 0x0112."""

BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, AssertionError, OverflowError,
    struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's decoders raise on broken files."""


def load_image(path: str | Path, *, size: int | None = None, dicom: DicomChoice = PLAIN) -> Image.Image:
    """Read a PNG, JPEG or DICOM file, told by its bytes, as an upright RGB image.

    Args:
        path: the file.
        size: the side in pixels that the image will be resized to by the caller. Given, a larger film is decoded at a
            reduced scale, never below twice this size on its shorter side. None decodes at full scale.
        dicom: what is asked of a DICOM file.

    Returns:
        Mode RGB, 8 bits a channel, EXIF orientation applied, transparency over black.

    Raises:
        InputError: no such file, a directory, empty, of another format, cut off, too small or too large; DICOM that is
            no chest film, or of several frames; a picture that shows nothing.
    """
    return decode_image(read_file(Path(path)), str(path), size, dicom)


def read_film(data: bytes, name: str, size: int | None = None, dicom: DicomChoice = PLAIN) -> Film:
    """The picture and, of DICOM, the header of a file's bytes; `name` is what errors call it. See `load_image`."""
    picture = decode_image(data, name, size, dicom)
    return Film(name, picture, header_in(data, name))


def read_file(path: Path) -> bytes:
    """The bytes of a regular file of bounded size.

    Raises:
        InputError: no such file, a directory, a pipe or the like, too large.
    """
    if "\0" in str(path):
        raise InputError(f"image {str(path)!r}: holds a NUL, which no file's name can")
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"image {path}: is a directory, must be a PNG, JPEG or DICOM file")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"image {path}: is not a regular file")
        if status.st_size > MAX_BYTES:
            raise InputError(f"image {path}: is {status.st_size} bytes large: at most {MAX_BYTES}")
        with open_regular(path) as file:
            data = file.read(status.st_size + 1)
        if len(data) > status.st_size:
            raise InputError(f"image {path}: grows while it is read")
        return data
    except OSError as error:
        raise InputError(f"image {path}: {error.strerror or error}") from None


def decode_image(data: bytes, name: str, size: int | None = None, dicom: DicomChoice = PLAIN) -> Image.Image:
    """Decode the bytes of a PNG, JPEG or DICOM file, as `load_image` does; `name` is what errors call it.

    Raises:
        InputError: as `load_image`, but for the file itself.
    """
    if len(data) > MAX_BYTES:
        raise InputError(f"image {name}: is {len(data)} bytes large: at most {MAX_BYTES}")
    if is_dicom(data):
        from r2gengpt.films.dicom.picture import decode_dicom

        return reduced(decode_dicom(data, name, dicom, (MIN_SIDE, MAX_PIXELS)), size).convert("RGB")
    try:
        container = open_container(data)
        _check_size(container.size)
        return _decode(container, size)
    except ContainerError as error:
        raise InputError(f"image {name}: {error}") from None


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if min(width, height) < MIN_SIDE:
        raise ContainerError(f"is {width}x{height} pixels: must be at least {MIN_SIDE} on each side")
    if width * height > MAX_PIXELS:
        raise ContainerError(f"{width}x{height} is {width * height} pixels: at most {MAX_PIXELS}")


def _decode(container: Container, size: int | None) -> Image.Image:
    """The upright RGB image, reduced on the way as far as `size` allows."""
    try:
        image = _picture(container, size)
    except ContainerError:
        raise
    except BROKEN as error:
        reason = "broken header" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
        raise ContainerError(f"its {container.format} data cannot be decoded: {reason}") from None
    check_picture(image)
    image = reduced(image, size)
    if container.orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[container.orientation])
    return image.convert("RGB")


def _picture(container: Container, size: int | None) -> Image.Image:
    """The image as it is stored, in mode L or RGB; a JPEG at the scale that it is decoded at."""
    with Image.open(io.BytesIO(container.data), formats=(container.format,)) as opened:
        if opened.size != container.size:
            raise ContainerError(f"its headers disagree on the size: {container.size} and {opened.size}")
        if container.format == "PNG":
            check_palette(opened)
            picture = png_picture(opened, container.data) or _eight_bits(opened)
            check_png(picture, container.data)
            return picture
        if size is not None:
            opened.draft(None, (2 * size, 2 * size))
        picture = _eight_bits(opened)
        check_jpeg(opened, container.data)
        return picture


def reduced(image: Image.Image, size: int | None) -> Image.Image:
    """The image at a whole fraction of its scale, its shorter side still at least twice `size`."""
    factor = 1 if size is None else min(image.size) // (2 * size)
    return image.reduce(factor) if factor > 1 else image


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image as 8-bit RGB: transparency over black, deeper greys scaled as `depth` says.

    Raises:
        ContainerError: a mode that holds no picture of known range ("F").
    """
    return _eight_bits(image).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """The image in mode L or RGB. Greys stay grey, which makes what follows three times as fast."""
    if image.mode.startswith("I"):
        return Image.fromarray(grey8(np.asarray(image)))
    if image.mode == "F":
        raise ContainerError("its floating-point pixels have no known range: must be 8 or 16 bits")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), colours).convert("RGB")
    if image.mode in ("1", "L"):
        return image.convert("L")
    return image.convert("RGB")
