"""The elements that say how stored values become greys: rescale, windows, tables, padding; what is left out of them."""

import struct
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian

from dicom_files import data_of, film
from r2gengpt.films.dicom.greys import Curve, Greys, Window
from r2gengpt.films.dicom.header import open_dataset
from r2gengpt.films.dicom.tables import StoredPixels, greys_of

NO_SCALE = "has a rescale that is no scale, which is left out"
NO_WINDOW = "has a window that cannot be read, and is left out"
NO_TABLE = "has a VOILUT that cannot be read, and is left out"
NO_MODALITY = "has a ModalityLUT that cannot be read, and is left out"


def found_in(stored: StoredPixels | None = None, **elements: Any) -> tuple[Greys, list[str]]:
    with disable_value_validation():
        return greys_of(film(**elements), stored or StoredPixels(12, False, False))


def table(descriptor: object, data: object, kind: str = "US") -> Dataset:
    """A table's item, its descriptor numbers or bytes."""
    made = Dataset()
    with disable_value_validation():
        made.add_new("LUTDescriptor", "OW" if isinstance(descriptor, bytes) else "US", descriptor)
        made.add_new("LUTData", "OW" if isinstance(data, bytes) else kind, data)
    return made


def curves_in(*tables: Dataset) -> tuple[tuple[Any, ...], list[str]]:
    greys, left_out = found_in(VOILUTSequence=Sequence(tables))
    return greys.choices, left_out


def test_a_film_that_says_nothing_of_its_greys_has_them_as_they_are_stored() -> None:
    for signed, inverted in ((False, False), (True, True)):
        greys, left_out = found_in(StoredPixels(10, signed, inverted))
        assert greys == Greys(10, signed, 1.0, 0.0, None, (), inverted, None)
        assert left_out == []


# ------------------------------------------------------------------ rescale and windows


@pytest.mark.parametrize(
    ("slope", "intercept", "found", "said"),
    [
        ("2", "-1024", (2.0, -1024.0), []),
        ("-1", "1", (-1.0, 1.0), []),
        ("0.5", None, (0.5, 0.0), []),
        (None, "7", (1.0, 7.0), []),
        ("0", "7", (1.0, 0.0), [NO_SCALE]),
        ("1e400", "7", (1.0, 0.0), [NO_SCALE]),
    ],
)
def test_a_rescale_is_a_slope_that_is_not_0_and_an_intercept(
    slope: str | None, intercept: str | None, found: tuple[float, float], said: list[str]
) -> None:
    dataset = film()
    for key, value in (("RescaleSlope", slope), ("RescaleIntercept", intercept)):
        if value is not None:
            dataset.add_new(key, "LO", value)
    greys, left_out = greys_of(dataset, StoredPixels(12, False, False))
    assert ((greys.slope, greys.intercept), left_out) == (found, said)


@pytest.mark.parametrize(
    ("centers", "widths", "found", "said"),
    [
        ([40.0], [400.0], [(40, 400)], []),
        ([40.0, 50.0], [400.0, 100.0], [(40, 400), (50, 100)], []),
        ([40.0, 50.0], [400.0], [(40, 400)], [NO_WINDOW]),
        ([40.0], [400.0, 100.0], [(40, 400)], [NO_WINDOW]),
        ([40.0], None, [], [NO_WINDOW]),
        (None, [400.0], [], [NO_WINDOW]),
        (None, None, [], []),
    ],
)
def test_a_window_is_a_center_and_its_width(
    centers: list[float] | None, widths: list[float] | None, found: list[tuple[float, float]], said: list[str]
) -> None:
    greys, left_out = found_in(WindowCenter=centers, WindowWidth=widths)
    assert greys.choices == tuple(Window(center, width, "LINEAR") for center, width in found)
    assert left_out == said


@pytest.mark.parametrize(
    ("said", "function"),
    [
        (None, "LINEAR"),
        ("LINEAR", "LINEAR"),
        ("linear_exact", "LINEAR_EXACT"),
        (" SIGMOID ", "SIGMOID"),
        ("LOG", "LINEAR"),
    ],
)
def test_a_windows_function_is_one_of_three(said: str | None, function: str) -> None:
    greys, _ = found_in(WindowCenter=40.0, WindowWidth=400.0, VOILUTFunction=said)
    assert greys.choices == (Window(40.0, 400.0, function),)


@pytest.mark.parametrize(
    ("shape", "inverted"), [("INVERSE", True), ("INVERSE ", True), ("IDENTITY", False), ("", False)]
)
def test_the_presentations_shape_may_turn_a_film_over(shape: str, inverted: bool) -> None:
    assert found_in(PresentationLUTShape=shape)[0].inverted is inverted


# ------------------------------------------------------------------ tables


@pytest.mark.parametrize(
    ("descriptor", "data", "curve"),
    [
        ([3, 100, 8], [0, 7, 255], Curve(100, (0, 7, 255), 8)),
        ([3, 100, 8], [0, 7, 255, 9], Curve(100, (0, 7, 255), 8)),  # no more than it counts
        ([3, 100, 8], [0, 7], Curve(100, (0, 7), 8)),
        ([1, 0, 8], 9, Curve(0, (9,), 8)),
        ([2, 0, 0], [0, 1], Curve(0, (0, 1), 1)),
        ([2, 0, 16], [0, 1], Curve(0, (0, 1), 16)),
        ([2, 0, 17], [0, 1], Curve(0, (0, 1), 16)),
        ([3, 0, 8], b"\x00\x07\xff\x00", Curve(0, (0, 7, 255), 8)),
        ([2, 0, 8], b"\x01\x02\x03\x04", Curve(0, (0x0201, 0x0403), 8)),
        ([2, 0, 8], b"\x01\x02\x03\x04\x05\x06", Curve(0, (0x0201, 0x0403), 8)),
        (struct.pack("<HhH", 2, -5, 10), [0, 1023], Curve(-5, (0, 1023), 10)),
        (struct.pack("<HhHH", 2, -5, 10, 0), [0, 1023], Curve(-5, (0, 1023), 10)),
    ],
)
def test_a_table_has_the_entries_that_its_descriptor_counts(descriptor: Any, data: Any, curve: Curve) -> None:
    assert curves_in(table(descriptor, data)) == ((curve,), [])


@pytest.mark.parametrize("count", [0, 65536])
def test_no_entries_stand_for_65536(count: int) -> None:
    ((found,), left_out) = curves_in(table([count, 0, 16], np.arange(65540, dtype=np.uint32).astype("<u2").tobytes()))
    assert (len(found.entries), found.entries[-1], left_out) == (65536, 65535, [])


def test_entries_with_a_sign_are_meant_without() -> None:
    made = table([3, 0, 16], [0, 1, -1], "SS")
    made["LUTDescriptor"].VR = "SS"
    made.LUTDescriptor = [-3, 0, 16]
    ((found,), _) = curves_in(made)
    assert found.entries == (0, 1, 65535)


@pytest.mark.parametrize(
    ("descriptor", "data"),
    [
        ([2, 0], [0, 1]),
        (struct.pack("<Hh", 2, 0), [0, 1]),
        (struct.pack("<HhB", 2, 0, 8), [0, 1]),
        ([2, 0, 8, 9], [0, 1]),
        ([2, 0, 8], b""),
        ([2, 0, 8], None),
    ],
)
def test_a_table_without_three_numbers_or_without_entries_is_left_out(descriptor: Any, data: Any) -> None:
    whole = table([2, 0, 8], [0, 1])
    assert curves_in(table(descriptor, data), whole) == ((Curve(0, (0, 1), 8),), [NO_TABLE])


def test_tables_come_before_windows_and_the_first_modality_table_is_used() -> None:
    tables = Sequence([table([2, 0, 8], [0, 1]), table([2, 0, 8], [2, 3])])
    greys, left_out = found_in(
        ModalityLUTSequence=tables, VOILUTSequence=tables, WindowCenter=1.0, WindowWidth=2.0, RescaleSlope="2"
    )
    first, second = Curve(0, (0, 1), 8), Curve(0, (2, 3), 8)
    assert greys.modality == first
    assert greys.choices == (first, second, Window(1.0, 2.0))
    assert left_out == []


@pytest.mark.parametrize(
    ("value", "kind", "said"), [(b"", "OB", []), (b"abcdef", "OB", [NO_MODALITY]), ("abc", "LO", [NO_MODALITY])]
)
def test_what_stands_in_a_sequences_place_is_left_out_and_said_unless_it_is_empty(
    value: object, kind: str, said: list[str]
) -> None:
    dataset = film()
    dataset.add_new("ModalityLUTSequence", kind, value)
    greys, left_out = greys_of(dataset, StoredPixels(12, False, False))
    assert (greys.modality, left_out) == (None, said)


def test_the_bytes_of_a_table_lie_as_those_of_its_file() -> None:
    made = table([2, 0, 16], np.array([1, 1000], ">u2").tobytes())
    big = film(syntax=ExplicitVRBigEndian, VOILUTSequence=Sequence([made]))
    big["PixelData"].VR = "OW"
    greys, _ = greys_of(open_dataset(data_of(big), "x"), StoredPixels(12, False, False))
    assert greys.choices == (Curve(0, (1, 1000), 16),)


# ------------------------------------------------------------------ padding


@pytest.mark.parametrize(
    ("signed", "value", "limit", "found"),
    [
        (False, 0, None, (0, 0)),
        (False, 65535, None, (65535, 65535)),
        (False, 10, 20, (10, 20)),
        (False, 20, 10, (10, 20)),
        (False, 0, 0, (0, 0)),
        (True, 32768, 32770, (-32768, -32766)),
        (True, 65535, 0, (-1, 0)),
        (True, 32767, None, (32767, 32767)),
        (False, None, 5, None),
    ],
)
def test_padding_is_from_its_value_to_its_limit(
    signed: bool, value: int | None, limit: int | None, found: tuple[int, int] | None
) -> None:
    dataset = film()
    for key, number in (("PixelPaddingValue", value), ("PixelPaddingRangeLimit", limit)):
        if number is not None:
            dataset.add_new(key, "US", number)
    assert greys_of(dataset, StoredPixels(16, signed, False))[0].padding == found


@pytest.mark.parametrize(("value", "limit"), [("none", "5"), ("5", "none")])
def test_padding_that_is_no_number_is_none(value: str, limit: str) -> None:
    dataset = film()
    dataset.add_new("PixelPaddingValue", "LO", value)
    dataset.add_new("PixelPaddingRangeLimit", "LO", limit)
    assert greys_of(dataset, StoredPixels(16, False, False))[0].padding is None


def test_of_several_padding_values_the_first_is_meant() -> None:
    dataset = film()
    dataset.add_new("PixelPaddingValue", "US", [5, 100])
    assert greys_of(dataset, StoredPixels(16, False, False))[0].padding == (5, 5)
