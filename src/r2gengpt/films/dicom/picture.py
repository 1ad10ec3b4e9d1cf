"""DICOM files to 8-bit pictures, as a viewer would first show them. Knows nothing of patients (see dicom_header).

Needs pydicom and pylibjpeg's decoders (extra `dicom`), which are imported where they are used.
"""

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from r2gengpt.errors import InputError
from r2gengpt.films.containers import ContainerError, DicomChoice
from r2gengpt.films.depth import check_picture
from r2gengpt.films.dicom.greys import grey_pixels
from r2gengpt.films.dicom.header import DicomHeader, check_is_chest_film, header_of, open_dataset, warn_of, warnings_of
from r2gengpt.films.dicom.streams import JPEG, JPEG_2000, TELLS, decode_rle, stream_size, with_ones
from r2gengpt.films.dicom.tables import StoredPixels, greys_of
from r2gengpt.films.dicom.values import numbers_of, value_of

if TYPE_CHECKING:
    from pydicom import Dataset

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
READ = frozenset((IMPLICIT, EXPLICIT, BIG_ENDIAN, RLE, *JPEG, *JPEG_2000))
"""Transfer syntaxes that are read."""


def decode_dicom(data: bytes, name: str, choice: DicomChoice, limits: tuple[int, int]) -> Image.Image:
    """The picture of a DICOM file: mode L, or RGB for one in colour.

    Args:
        data: the file.
        name: what errors call it.
        choice: which frame, and whether what is no chest film is read too.
        limits: least side and most pixels.

    Raises:
        InputError: it cannot be read, is no chest film, has several frames and none is named, or breaks the limits.
    """
    dataset = open_dataset(data, name)
    header = header_of(dataset, name)
    if not value_of(dataset, "PixelData"):
        raise InputError(f"image {name}: holds no pixels, or is cut off before them")
    if not choice.force:
        check_is_chest_film(header, name)
    frame = _frame(header, choice.frame, name)
    try:
        syntax = _syntax(dataset)
        form = _form(dataset, header.frames)
        _check_form(form, syntax, limits)
        picture, warnings = _picture(dataset, form, _pixels(form, syntax, header.frames, frame))
        check_picture(picture)
        held = _frame_warnings(dataset.PixelData, header.frames) if is_compressed(syntax) else _length_warnings(form)
    except ContainerError as error:
        raise InputError(f"image {name}: {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # decoders over bytes of strangers: anything may come
        raise InputError(f"image {name}: its DICOM pixels cannot be decoded: {_reason(error)}") from None
    warn_of((*warnings_of(header), *warnings, *held), name)
    return picture


def _reason(error: Exception) -> str:
    """A decoder's own words, unless they quote something: that is a value of the file, and may name its patient."""
    words = " ".join(str(error).split())[:200]
    return type(error).__name__ if not words or re.search("['\"`]", words) else words


def _frame(header: DicomHeader, wanted: int | None, name: str) -> int:
    """The frame's index from 0."""
    if wanted is None and header.frames > 1:
        raise InputError(
            f"image {name}: has {header.frames} frames: name one with `frame` 1 to {header.frames}", field="frame"
        )
    if wanted is not None and not 1 <= wanted <= header.frames:
        raise InputError(f"image {name} has frames 1 to {header.frames}", value=wanted, field="frame")
    return 0 if wanted is None else wanted - 1


def _syntax(dataset: "Dataset") -> str:
    """The transfer syntax; files without file meta are told by how their elements were written."""
    named = str(dataset.file_meta.get("TransferSyntaxUID", "") or "")
    if not named:
        from pydicom.uid import UID

        implicit, little = dataset.original_encoding
        named = IMPLICIT if implicit else EXPLICIT if little else BIG_ENDIAN
        dataset.file_meta.TransferSyntaxUID = UID(named)
    return named


def _form(dataset: "Dataset", frames: int) -> "Dataset":
    """The elements that the stored samples need, and no other: what stands beside them can't harm the decoder.

    Raises:
        ContainerError: one is missing or no number.
    """
    from pydicom import Dataset

    form = Dataset()
    form.file_meta = dataset.file_meta
    form.Rows, form.Columns = _number(dataset, "Rows"), _number(dataset, "Columns")
    form.BitsAllocated = _number(dataset, "BitsAllocated")
    form.BitsStored = _number(dataset, "BitsStored", form.BitsAllocated)
    form.HighBit = _number(dataset, "HighBit", form.BitsStored - 1)
    form.SamplesPerPixel = _number(dataset, "SamplesPerPixel", 1)
    form.PixelRepresentation = int(_number(dataset, "PixelRepresentation", 0) == 1)
    form.PlanarConfiguration = int(_number(dataset, "PlanarConfiguration", 0) == 1)
    form.PhotometricInterpretation = str(value_of(dataset, "PhotometricInterpretation") or "").strip().upper()
    form.NumberOfFrames = frames
    for key in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if isinstance(table := value_of(dataset, key), bytes):
            setattr(form, key, table)
    form["PixelData"] = dataset["PixelData"]
    return form


def _number(dataset: "Dataset", key: str, default: int | None = None) -> int:
    """A whole number; the default where there is none that can be read."""
    found = numbers_of(dataset, key)
    if found and found[0].is_integer():
        return int(found[0])
    if default is None:
        raise ContainerError(f"its {key} is missing or no number")
    return default


def _check_form(form: "Dataset", syntax: str, limits: tuple[int, int]) -> None:
    """Refuse by the header alone: size, depth, colour space, transfer syntax."""
    rows, columns = form.Rows, form.Columns
    least, most = limits
    if min(rows, columns) < least:
        raise ContainerError(f"is {columns}x{rows} pixels: must be at least {least} on each side")
    if rows * columns > most:
        raise ContainerError(f"{columns}x{rows} is {rows * columns} pixels: at most {most}")
    if syntax not in READ:
        raise ContainerError(f"its transfer syntax {syntax[:64]} is not read")
    allocated, stored, high = form.BitsAllocated, form.BitsStored, form.HighBit
    samples, colours = form.SamplesPerPixel, form.PhotometricInterpretation
    grey = samples == 1 and colours in ("MONOCHROME1", "MONOCHROME2")
    if not grey and not (samples == 3 and (colours == "RGB" or colours.startswith("YBR_")) and allocated == 8):
        said = f"is {colours[:16]}" if colours else "names no PhotometricInterpretation, and is"
        raise ContainerError(f"{said} of {samples} samples: must be MONOCHROME1 or 2, or 8-bit colours")
    if allocated not in (8, 16) or not 1 <= stored <= allocated or not stored - 1 <= high < allocated:
        raise ContainerError(
            f"stores {stored} of {allocated} bits up to bit {high}: must be 1 to 16 in 8 or 16, within them"
        )


def _pixels(form: "Dataset", syntax: str, frames: int, frame: int) -> npt.NDArray[Any]:
    """The frame's stored samples; a compressed frame whose own size is not the header's is refused before decoding."""
    from pydicom.encaps import get_frame
    from pydicom.pixels import pixel_array

    samples = form.SamplesPerPixel
    if is_compressed(syntax):
        stream = get_frame(form.PixelData, frame, number_of_frames=frames)
        if syntax == RLE:
            return decode_rle(stream, (form.Rows, form.Columns), samples, form.BitsAllocated // 8)
        said, size = stream_size(stream, syntax), (form.Columns, form.Rows, samples)
        if said != size:
            raise ContainerError(f"its header says {_words(size)}, its compressed frame {_words(said)}")
        if syntax in JPEG:
            return _whole(form, stream, syntax)
    pixels: npt.NDArray[Any] = pixel_array(form, index=frame, correct_unused_bits=False)
    return pixels


def _whole(form: "Dataset", stream: bytes, syntax: str) -> npt.NDArray[Any]:
    """The samples of a JPEG stream, which decoders make up in silence where its last scan ends too early.

    Raises:
        ContainerError: so it does.
    """
    from pydicom.encaps import encapsulate
    from pydicom.pixels import pixel_array

    def decoded(frame: bytes) -> npt.NDArray[Any]:
        form.add_new("PixelData", "OB", encapsulate([frame]))  # the file's own element stays as it is
        form.NumberOfFrames = 1
        pixels: npt.NDArray[Any] = pixel_array(form, correct_unused_bits=False)
        return pixels

    for table in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if table in form:
            delattr(form, table)
    try:
        pixels = decoded(with_ones(stream))
    except MemoryError:
        raise
    except Exception:  # it read on: was the stream damaged before?
        decoded(stream)
        pixels = None
    if pixels is None or (syntax not in TELLS and (pixels != decoded(stream)).any()):
        raise ContainerError("its compressed frame is cut off: it ends before its pixels do")
    return pixels


def is_compressed(syntax: str) -> bool:
    """Whether pixels of a transfer syntax lie in streams, a frame each."""
    return syntax not in (IMPLICIT, EXPLICIT, BIG_ENDIAN)


def _frame_warnings(streams: bytes, frames: int) -> list[str]:
    """A line where the table of streams has more frames than the header says. Without a table they can't be counted."""
    from pydicom.encaps import parse_basic_offsets

    held = len(parse_basic_offsets(streams))
    if held <= frames:
        return []
    return [f"holds {held} frames, of which its header counts {frames}: the others are left out"]


def _length_warnings(form: "Dataset") -> list[str]:
    """A line where there are more plain samples than the header says. Fewer are refused by the decoder."""
    held = len(form.PixelData)
    said = form.Rows * form.Columns * form.SamplesPerPixel * form.BitsAllocated // 8 * form.NumberOfFrames
    if held <= said + 1:  # one byte makes the length even
        return []
    return [f"holds {held} bytes of pixels, of which its header counts {said}: the others are left out"]


def _words(size: tuple[int, int, int]) -> str:
    return f"{size[0]}x{size[1]} pixels of {size[2]} samples"


def _picture(dataset: "Dataset", form: "Dataset", pixels: npt.NDArray[Any]) -> tuple[Image.Image, list[str]]:
    """The samples, (H, W) or (H, W, 3), as a picture, and what a reader must know of how it was made."""
    if pixels.ndim == 3:
        picture = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8))
        if form.file_meta.TransferSyntaxUID == RLE and form.PhotometricInterpretation != "RGB":
            picture = Image.frombytes("YCbCr", picture.size, picture.tobytes()).convert("RGB")
        return picture, []
    inverted = form.PhotometricInterpretation == "MONOCHROME1"
    greys, warnings = greys_of(dataset, StoredPixels(form.BitsStored, form.PixelRepresentation == 1, inverted))
    shown, more = grey_pixels(_patterns(form, pixels), greys)
    return Image.fromarray(shown), [*warnings, *more, *_bits_warnings(dataset, form, pixels)]


def _patterns(form: "Dataset", pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Stored values (H, W) as their bits alone, uint16 below 2**stored.

    Plain pixels may keep overlays in their other bits, which go; lossy decoders may overshoot, which is cut.
    """
    stored = int(form.BitsStored)
    shift = form.HighBit + 1 - stored
    if form.file_meta.TransferSyntaxUID in JPEG | JPEG_2000:
        low = -(1 << (stored - 1)) if pixels.dtype.kind == "i" else 0
        pixels, shift = np.clip(pixels, low, low + (1 << stored) - 1), 0
    return (_bits(pixels) >> np.uint16(shift)) & np.uint16((1 << stored) - 1)


def _bits(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Samples of 8 or 16 bits, signed or not, as they lie in memory."""
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    bits: npt.NDArray[np.uint16] = pixels.view(np.uint8 if pixels.dtype.itemsize == 1 else np.uint16).astype(np.uint16)
    return bits


def _bits_warnings(dataset: "Dataset", form: "Dataset", pixels: npt.NDArray[Any]) -> list[str]:
    """A line where samples have bits above the highest that is stored, and these are neither a sign nor an overlay."""
    unused = form.BitsAllocated - form.HighBit - 1
    tags = dataset.keys()  # of the dataset itself an iterator takes each element apart
    overlays = any(0x6000 <= tag.group < 0x6100 for tag in tags)
    if not unused or overlays or form.file_meta.TransferSyntaxUID in JPEG | JPEG_2000:
        return []
    above = _bits(pixels) >> np.uint16(form.HighBit + 1)
    if form.PixelRepresentation:
        above = above % np.uint16((1 << unused) - 1)  # all ones are a sign
    if not above.any():
        return []
    return [f"has values beyond the {form.BitsStored} bits that it says it stores: their upper bits are left out"]
