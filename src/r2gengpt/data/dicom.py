"""DICOM files to 8-bit pictures, as a viewer would first show them. Knows nothing of patients (see dicom_header).

Needs pydicom and pylibjpeg's decoders (extra `dicom`), which are imported where they are used.
"""

import re
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from r2gengpt.data.containers import ContainerError, DicomChoice
from r2gengpt.data.dicom_grey import Curve, Greys, Window, grey_pixels
from r2gengpt.data.dicom_header import DicomHeader, check_is_chest_film, header_of, open_dataset, warn_of, warnings_of
from r2gengpt.data.dicom_rle import decode_rle
from r2gengpt.data.dicom_streams import JPEG, JPEG_2000, stream_size
from r2gengpt.errors import InputError

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
    if "PixelData" not in dataset:
        raise InputError(f"image {name}: holds no pixels, or is cut off before them")
    if not choice.force:
        check_is_chest_film(header, name)
    frame = _frame(header, choice.frame, name)
    try:
        syntax = _syntax(dataset)
        _check_form(dataset, syntax, limits)
        picture = _picture(dataset, _pixels(dataset, syntax, header.frames, frame))
    except ContainerError as error:
        raise InputError(f"image {name}: {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # decoders over bytes of strangers: anything may come
        raise InputError(f"image {name}: its DICOM pixels cannot be decoded: {_reason(error)}") from None
    warn_of(warnings_of(header), name)
    return picture


def _reason(error: Exception) -> str:
    """A decoder's own words, unless they quote something: that is a value of the file, and may name its patient."""
    words = " ".join(str(error).split())[:200]
    return type(error).__name__ if not words or re.search("['\"`]", words) else words


def _frame(header: DicomHeader, wanted: int | None, name: str) -> int:
    """The frame's index from 0."""
    if wanted is None and header.frames > 1:
        raise InputError(
            f"image {name}: has {header.frames} frames: name one with --frame 1 to {header.frames}", field="frame"
        )
    if wanted is not None and not 1 <= wanted <= header.frames:
        raise InputError(f"--frame {wanted}: image {name} has frames 1 to {header.frames}", field="frame")
    return 0 if wanted is None else wanted - 1


def _syntax(dataset: "Dataset") -> str:
    """The transfer syntax; files without file meta are told by how their elements were written."""
    named = str(getattr(dataset, "file_meta", {}).get("TransferSyntaxUID", "") or "")
    if not named:
        from pydicom.dataset import FileMetaDataset
        from pydicom.uid import UID

        implicit, little = dataset.original_encoding
        named = IMPLICIT if implicit else EXPLICIT if little else BIG_ENDIAN
        if not isinstance(getattr(dataset, "file_meta", None), FileMetaDataset):
            dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = UID(named)
    return named


def _number(dataset: "Dataset", key: str, default: int | None = None) -> int:
    value = dataset.get(key, default)
    if not isinstance(value, int):
        raise ContainerError(f"its {key} is missing or no number")
    return int(value)


def _check_form(dataset: "Dataset", syntax: str, limits: tuple[int, int]) -> None:
    """Refuse by the header alone: size, depth, colour space, transfer syntax."""
    rows, columns = _number(dataset, "Rows"), _number(dataset, "Columns")
    least, most = limits
    if min(rows, columns) < least:
        raise ContainerError(f"is {columns}x{rows} pixels: must be at least {least} on each side")
    if rows * columns > most:
        raise ContainerError(f"{columns}x{rows} is {rows * columns} pixels: at most {most}")
    if syntax not in READ:
        raise ContainerError(f"its transfer syntax {syntax[:64]} is not read")
    allocated, stored = _number(dataset, "BitsAllocated"), _number(dataset, "BitsStored")
    high = _number(dataset, "HighBit", stored - 1)
    samples = _number(dataset, "SamplesPerPixel", 1)
    colours = str(dataset.get("PhotometricInterpretation", ""))
    grey = samples == 1 and colours in ("MONOCHROME1", "MONOCHROME2")
    if not grey and not (samples == 3 and (colours == "RGB" or colours.startswith("YBR_")) and allocated == 8):
        raise ContainerError(f"is {colours[:16]} of {samples} samples: must be MONOCHROME1 or 2, or 8-bit colours")
    if allocated not in (8, 16) or not 1 <= stored <= allocated or not stored - 1 <= high < allocated:
        raise ContainerError(
            f"stores {stored} of {allocated} bits up to bit {high}: must be 1 to 16 in 8 or 16, within them"
        )


def _pixels(dataset: "Dataset", syntax: str, frames: int, frame: int) -> npt.NDArray[Any]:
    """The frame's stored samples; a compressed frame whose own size is not the header's is refused before decoding."""
    from pydicom.encaps import get_frame
    from pydicom.pixels import pixel_array

    samples = _number(dataset, "SamplesPerPixel", 1)
    if syntax not in (IMPLICIT, EXPLICIT, BIG_ENDIAN):
        stream = get_frame(dataset.PixelData, frame, number_of_frames=frames)
        if syntax == RLE:
            return decode_rle(stream, (dataset.Rows, dataset.Columns), samples, dataset.BitsAllocated // 8)
        said, size = stream_size(stream, syntax), (dataset.Columns, dataset.Rows, samples)
        if said != size:
            raise ContainerError(f"its header says {_words(size)}, its compressed frame {_words(said)}")
    pixels: npt.NDArray[Any] = pixel_array(dataset, index=frame, raw=samples == 1, correct_unused_bits=False)
    return pixels


def _words(size: tuple[int, int, int]) -> str:
    return f"{size[0]}x{size[1]} pixels of {size[2]} samples"


def _picture(dataset: "Dataset", pixels: npt.NDArray[Any]) -> Image.Image:
    """The samples, (H, W) or (H, W, 3), as a picture."""
    if pixels.ndim == 3:
        picture = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8))
        if dataset.file_meta.TransferSyntaxUID == RLE and dataset.PhotometricInterpretation != "RGB":
            return Image.frombytes("YCbCr", picture.size, picture.tobytes()).convert("RGB")
        return picture
    return Image.fromarray(grey_pixels(_patterns(dataset, pixels), greys_of(dataset)))


def _patterns(dataset: "Dataset", pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Stored values (H, W) as their bits alone, uint16 below 2**stored.

    Plain pixels may keep overlays in their other bits, which go; lossy decoders may overshoot, which is cut.
    """
    stored = int(dataset.BitsStored)
    shift = _number(dataset, "HighBit", stored - 1) + 1 - stored
    if dataset.file_meta.TransferSyntaxUID in JPEG | JPEG_2000:
        low = -(1 << (stored - 1)) if pixels.dtype.kind == "i" else 0
        pixels, shift = np.clip(pixels, low, low + (1 << stored) - 1), 0
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    bits: npt.NDArray[np.uint16] = pixels.view(np.uint8 if pixels.dtype.itemsize == 1 else np.uint16).astype(np.uint16)
    return (bits >> np.uint16(shift)) & np.uint16((1 << stored) - 1)


def greys_of(dataset: "Dataset") -> Greys:
    """How the file's stored values become greys."""
    signed = _number(dataset, "PixelRepresentation", 0) == 1
    slope, intercept = _decimal(dataset, "RescaleSlope", 1.0), _decimal(dataset, "RescaleIntercept", 0.0)
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        raise ContainerError(f"its rescale slope {slope} and intercept {intercept} are no scale")
    return Greys(
        bits=int(dataset.BitsStored),
        signed=signed,
        slope=slope,
        intercept=intercept,
        modality=_curve(dataset, "ModalityLUTSequence"),
        voi=_curve(dataset, "VOILUTSequence"),
        window=_window(dataset),
        inverted="MONOCHROME1" in dataset.PhotometricInterpretation
        or str(dataset.get("PresentationLUTShape", "")) == "INVERSE",
        padding=_padding(dataset, signed),
    )


def _decimal(dataset: "Dataset", key: str, default: float) -> float:
    """The first number of an element; the default where there is none."""
    value = dataset.get(key)
    if hasattr(value, "__len__") and not isinstance(value, str):
        value = value[0] if len(value) else None
    return default if value is None or value == "" else float(value)


def _window(dataset: "Dataset") -> Window | None:
    """The first window."""
    center, width = (_decimal(dataset, key, float("nan")) for key in ("WindowCenter", "WindowWidth"))
    function = str(dataset.get("VOILUTFunction", "") or "LINEAR")
    if np.isnan(center) or np.isnan(width):
        return None
    return Window(center, width, function if function in ("SIGMOID", "LINEAR_EXACT") else "LINEAR")


def _curve(dataset: "Dataset", key: str) -> Curve | None:
    """The first lookup table of a sequence. Source: PS3.3, C.11.1.1.1 (its descriptor: 0 entries mean 65,536)."""
    items = dataset.get(key)
    if not items:
        return None
    count, first, bits = (int(number) for number in items[0].LUTDescriptor)
    data = items[0].LUTData
    if isinstance(data, bytes):
        size = 1 if len(data) < 2 * (count or 65536) else 2
        order = sys.byteorder if size == 1 else ("little" if dataset.original_encoding[1] is not False else "big")
        data = np.frombuffer(data, np.dtype(f"{'<' if order == 'little' else '>'}u{size}")).tolist()
    entries = tuple(int(entry) & 0xFFFF for entry in (data if hasattr(data, "__iter__") else [data]))
    if not entries:
        raise ContainerError(f"its {key} has no entries")
    return Curve(first, entries[: count or 65536], min(max(bits, 1), 16))


def _padding(dataset: "Dataset", signed: bool) -> tuple[int, int] | None:
    """First and last stored value that is padding."""
    if dataset.get("PixelPaddingValue") is None:
        return None
    ends = [_number(dataset, "PixelPaddingValue")]
    ends.append(_number(dataset, "PixelPaddingRangeLimit", ends[0]))
    if signed:
        ends = [end - 65536 if end > 32767 else end for end in ends]
    return min(ends), max(ends)
