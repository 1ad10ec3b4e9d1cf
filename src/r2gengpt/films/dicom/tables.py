"""The elements of a DICOM file that say how stored values become greys. Computes no grey (see dicom_grey).

A picture can do without each of them: one that is broken is left out, with a warning. Needs pydicom (extra `dicom`).
"""

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from r2gengpt.films.dicom.greys import Curve, Greys, Window
from r2gengpt.films.dicom.values import items_of, numbers_of, value_of

if TYPE_CHECKING:
    from pydicom import Dataset

LEFT_OUT = "cannot be read, and is left out"


@dataclass(frozen=True)
class StoredPixels:
    """How a file stores its values: bits of each, in two's complement or not, and whether the lowest is white."""

    bits: int
    signed: bool
    inverted: bool


def greys_of(dataset: "Dataset", stored: StoredPixels) -> tuple[Greys, list[str]]:
    """How the file's stored values become greys, and what of it was left out, in words that follow the file's name."""
    left_out: list[str] = []
    shape = str(value_of(dataset, "PresentationLUTShape") or "")
    slope, intercept = _rescale(dataset, left_out)
    greys = Greys(
        bits=stored.bits,
        signed=stored.signed,
        slope=slope,
        intercept=intercept,
        modality=next(iter(_curves(dataset, "ModalityLUTSequence", left_out)), None),
        choices=(*_curves(dataset, "VOILUTSequence", left_out), *_windows(dataset, left_out)),
        inverted=stored.inverted or shape.strip() == "INVERSE",
        padding=_padding(dataset, stored.signed),
    )
    return greys, left_out


def _rescale(dataset: "Dataset", left_out: list[str]) -> tuple[float, float]:
    """Slope and intercept; 1 and 0 where there are none, or none that scale."""
    found = [next(iter(numbers_of(dataset, key)), default) for key, default in
             (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))]  # fmt: skip
    if found[0] != 0 and np.isfinite(found).all():
        return found[0], found[1]
    left_out.append("has a rescale that is no scale, which is left out")
    return 1.0, 0.0


def _windows(dataset: "Dataset", left_out: list[str]) -> list[Window]:
    """The windows, in the file's order."""
    centers, widths = (numbers_of(dataset, key) for key in ("WindowCenter", "WindowWidth"))
    function = str(value_of(dataset, "VOILUTFunction") or "").strip().upper()
    pairs = [pair for pair in zip(centers, widths, strict=False) if np.isfinite(pair).all()]
    if len(pairs) < max(len(centers), len(widths)):
        left_out.append("has a window that " + LEFT_OUT)
    known = function if function in ("SIGMOID", "LINEAR_EXACT") else "LINEAR"
    return [Window(center, width, known) for center, width in pairs]


def _curves(dataset: "Dataset", key: str, left_out: list[str]) -> list[Curve]:
    """The lookup tables of a sequence, in the file's order. Source: PS3.3, C.11.1.1.1."""
    big_endian = dataset.original_encoding[1] is False
    items = items_of(dataset, key)
    curves = [curve for item in items if (curve := _curve_of(item, big_endian=big_endian)) is not None]
    if len(curves) < len(items) or (key in dataset and not items and not _is_empty(dataset, key)):
        left_out.append(f"has a {key.removesuffix('Sequence')} that {LEFT_OUT}")
    return curves


def _is_empty(dataset: "Dataset", key: str) -> bool:
    """Whether an element is there with nothing in it, as an empty sequence is."""
    value = value_of(dataset, key)
    return value is None or (hasattr(value, "__len__") and not len(value))


def _curve_of(item: "Dataset", *, big_endian: bool) -> Curve | None:
    """A lookup table; None where it is none. A descriptor's 0 entries mean 65,536.

    Whether its first mapped value is signed is decided by the pixels (`Curve.meeting`).
    """
    order = ">" if big_endian else "<"
    descriptor, data = value_of(item, "LUTDescriptor"), value_of(item, "LUTData")
    if isinstance(descriptor, bytes) and len(descriptor) >= 6:
        descriptor = struct.unpack_from(f"{order}HhH", descriptor)
    try:
        count, first, bits = (int(number) for number in descriptor)
        entries = _entries(data, (count & 0xFFFF) or 65536, order)
    except (TypeError, ValueError):
        return None
    if not len(entries):
        return None
    return Curve(first, tuple(entries.tolist()), min(max(bits & 0xFFFF, 1), 16))


def _entries(data: object, count: int, order: str) -> npt.NDArray[np.int64]:
    """At most `count` entries, 0 to 65,535; bytes hold one or two for each."""
    if isinstance(data, bytes):
        size = 1 if len(data) < 2 * count else 2
        return np.frombuffer(data[: size * count], f"{order}u{size}").astype(np.int64)
    found = np.atleast_1d(np.asarray(data, dtype=np.int64))
    return found[:count] & 0xFFFF


def _padding(dataset: "Dataset", signed: bool) -> tuple[int, int] | None:
    """First and last stored value that is padding."""
    keys = ("PixelPaddingValue", "PixelPaddingRangeLimit")
    found = [number for key in keys for number in numbers_of(dataset, key)[:1]]
    if not numbers_of(dataset, keys[0]) or not np.isfinite(found).all():
        return None
    least = -32768 if signed else 0  # files tell of a sign, or of none, where their pixels do otherwise
    ends = [(int(number) - least) % 65536 + least for number in found]
    return min(ends), max(ends)
