"""What a DICOM file says of itself: each field, its limits, and what is no chest film. Datasets are made by hand."""

import logging
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from dicom_files import data_of, film
from r2gengpt.errors import InputError
from r2gengpt.films.dicom.header import (
    DicomHeader,
    _Counted,
    _Packed,
    _TooMany,
    check_is_chest_film,
    header_of,
    is_deflated,
    open_dataset,
    read_header,
    warn_of,
    warnings_of,
)


def item(**values: Any) -> Dataset:
    dataset = Dataset()
    for key, value in values.items():
        setattr(dataset, key, value)
    return dataset


def header(**more: Any) -> DicomHeader:
    with disable_value_validation():
        return header_of(film(**more), "x")


# ------------------------------------------------------------------ opening


@pytest.mark.parametrize(("length", "kept"), [(2**19, True), (2**19 + 2, False)])
def test_an_element_besides_the_pixels_is_kept_up_to_half_a_mebibyte(length: int, kept: bool) -> None:
    dataset = film()
    dataset.add_new(0x00420011, "OB", bytes(length))
    assert (0x00420011 in open_dataset(data_of(dataset), "x")) is kept


@pytest.mark.parametrize("key", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize(("more", "kept"), [(0, True), (2, False)])
def test_tables_are_kept_up_to_two_mebibytes(key: str, more: int, kept: bool) -> None:
    # 8 bytes begin the item, 8 its descriptor's element and 12 that of its data
    table = item(LUTData=bytes(2**21 + more - 8 - 14 - 12))
    table.add_new("LUTDescriptor", "US", [0, 0, 16])
    table["LUTData"].VR = "OW"
    data = data_of(film(**{key: Sequence([table])}))
    assert (key in open_dataset(data, "x")) is kept


def test_pixels_are_kept_however_many_there_are_unless_nobody_asks_for_them() -> None:
    dataset = film()
    dataset.PixelData = bytes(2**21 + 2)
    data = data_of(dataset)
    assert len(open_dataset(data, "x").PixelData) == 2**21 + 2
    assert "PixelData" not in open_dataset(data, "x", pixels=False)
    assert "Rows" in open_dataset(data, "x", pixels=False)


@pytest.mark.parametrize("mark", [0xE000, 0xE00D, 0xE0DD])
def test_a_stray_mark_between_items_is_no_element(mark: int) -> None:
    data = data_of(film())
    at = data.index(b"\xe0\x7f\x10\x00")
    stray = b"\xfe\xff" + mark.to_bytes(2, "little") + bytes(4)
    opened = open_dataset(data[:at] + stray + data[at:], "x")
    assert not [tag for tag in opened.keys() if tag.group == 0xFFFE]  # noqa: SIM118  # of the dataset itself elements
    assert read_header(data[:at] + stray + data[at:], "x").modality == "DX"


def test_pydicom_is_silent_and_takes_values_as_they_come() -> None:
    open_dataset(data_of(film()), "x")
    assert not logging.getLogger("pydicom").isEnabledFor(logging.ERROR)


@pytest.mark.parametrize("end", [133, 140, 150])
def test_a_file_that_ends_within_its_first_elements_is_refused(end: int) -> None:
    with pytest.raises(InputError, match=r"^image x: its DICOM (elements are cut off|header cannot be read)"):
        open_dataset(data_of(film())[:end], "x")


def test_a_file_is_deflated_where_its_transfer_syntax_says_so_or_may_where_that_cannot_be_read() -> None:
    plain = data_of(film(StudyDescription="1.2.840.10008.1.2.1.99"))
    named, deflated = ExplicitVRLittleEndian.encode() + b"\0", b"1.2.840.10008.1.2.1.99"
    packed = data_of(film()).replace(b"\x14\0" + named, b"\x16\0" + deflated, 1)
    assert not is_deflated(plain)
    assert is_deflated(packed)
    assert is_deflated(b"\x02\0" + deflated)
    assert not is_deflated(b"\x02\0")


@pytest.mark.parametrize("size", [-1, -2, None])
def test_a_file_is_not_given_to_its_end_at_once_as_only_what_unpacks_it_asks_for_that(size: int | None) -> None:
    file = _Counted(b"abcd")
    with pytest.raises(_Packed):
        file.read(size)
    with pytest.raises(_Packed):
        file.read()
    assert (file.read(0), file.read(1), file.read(2), file.read(5)) == (b"", b"a", b"bc", b"d")


def test_a_file_is_taken_apart_in_a_hundred_thousand_pieces_at_most() -> None:
    file = _Counted(b"")
    for _ in range(100_000):
        file.read(1)
    with pytest.raises(_TooMany):
        file.read(1)


def test_a_file_without_preamble_is_opened() -> None:
    assert open_dataset(data_of(film())[132:], "x").Modality == "DX"


# ------------------------------------------------------------------ fields


def test_a_header_of_identifiers_alone_has_one_frame_no_size_and_nothing_to_warn_of() -> None:
    plain = DicomHeader("1", "2", "3", "4", "DX")
    assert (plain.frames, plain.size, plain.burned_in, plain.for_processing) == (1, (0, 0), False, False)
    assert (plain.view_name, warnings_of(plain)) == ("", ())
    for key in ("patient_id", "issuer", "name", "birth_date", "sex", "accession", "study_id", "study_description"):
        assert getattr(plain, key) == ""


def test_the_fields_of_a_header_are_those_of_the_elements_of_their_name() -> None:
    found = header(
        IssuerOfPatientID="Clinic", StudyDescription="Chest", Manufacturer="Maker", ManufacturerModelName="Model",
        PatientAge="063Y", InstanceNumber="-12", SeriesNumber="+3", Laterality="R", NumberOfFrames="2",
        BurnedInAnnotation="yes", PresentationIntentType="For Processing", ReasonForStudy="Cough",
    )  # fmt: skip
    assert found == DicomHeader(
        study_uid="1.2.826.0.1.3680043.8.498.1", series_uid="1.2.826.0.1.3680043.8.498.2",
        instance_uid="1.2.826.0.1.3680043.8.498.3", class_uid="1.2.840.10008.5.1.4.1.1.1.1", modality="DX",
        body_part="CHEST", view="PA", laterality="R", frames=2, size=(32, 40), burned_in=True, for_processing=True,
        series_number="+3", instance_number="-12", study_date="20260102", study_time="101112", patient_id="P-1",
        issuer="Clinic", name="Muster^Erika", birth_date="19500102", sex="F", accession="A 77", study_id="S1",
        study_description="Chest", referring="Hay^R", device="Maker Model", age="063Y", reason="Cough",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "field", "found"),
    [
        ("BurnedInAnnotation", "NO", "burned_in", False),
        ("PresentationIntentType", "FOR PRESENTATION", "for_processing", False),
        ("Manufacturer", "Maker", "device", "Maker"),
        ("ManufacturerModelName", "Model", "device", "Model"),
        ("ImageLaterality", "L", "laterality", "L"),
        ("ImageLaterality", "U", "laterality", ""),
        ("ViewPosition", "ap", "view", "AP"),
        ("Modality", "dx", "modality", "DX"),
        ("NumberOfFrames", "0", "frames", 1),
        ("NumberOfFrames", "1", "frames", 1),
        ("Rows", None, "size", (32, 0)),
        ("Columns", None, "size", (0, 40)),
        ("PatientSex", "O", "sex", "O"),
        ("PatientSex", "X", "sex", ""),
        ("PatientAge", "63Y", "age", ""),
        ("SeriesNumber", "12345678901", "series_number", "12345678901"),
    ],
)
def test_a_field_is_what_its_element_says_or_empty(key: str, value: str | None, field: str, found: object) -> None:
    assert getattr(header(**{key: value}), field) == found


def test_the_images_own_side_comes_before_that_of_its_series() -> None:
    assert header(ImageLaterality="L", Laterality="R").laterality == "L"


def test_of_several_values_the_first_is_taken() -> None:
    found = header(Modality=["CR", "DX"], ViewPosition=["AP", "PA"], NumberOfFrames=["2", "3"])
    assert (found.modality, found.view, found.frames) == ("CR", "AP", 2)


def test_a_view_is_the_first_codes_meaning_where_no_position_is_named() -> None:
    codes = Sequence([item(CodeMeaning="antero-posterior"), item(CodeMeaning="lateral")])
    assert header(ViewPosition=None, ViewCodeSequence=codes).view == "ANTERO-POSTERIOR"
    assert header(ViewPosition="LL", ViewCodeSequence=codes).view == "LL"
    assert header(ViewPosition=None, ViewCodeSequence=Sequence([])).view == ""


@pytest.mark.parametrize(
    ("film_says", "request_says", "reason"),
    [
        ({"ReasonForTheRequestedProcedure": "a", "ReasonForStudy": "b"}, {"ReasonForStudy": "c"}, "a"),
        ({"ReasonForStudy": "b"}, {"ReasonForTheRequestedProcedure": "c"}, "c"),
        ({"ReasonForStudy": "b"}, {"ReasonForStudy": "c"}, "b"),
        ({"AdmittingDiagnosesDescription": "d"}, {"ReasonForStudy": "c"}, "c"),
        ({"AdmittingDiagnosesDescription": "d"}, {}, "d"),
        ({"ReasonForTheRequestedProcedure": " "}, {}, ""),
        ({}, {}, ""),
    ],
)
def test_the_reason_is_the_first_that_the_film_or_its_first_request_has(
    film_says: dict[str, str], request_says: dict[str, str], reason: str
) -> None:
    requests = Sequence([item(**request_says), item(ReasonForTheRequestedProcedure="of another request")])
    assert header(RequestAttributesSequence=requests, **film_says).reason == reason


@pytest.mark.parametrize(
    ("examined", "regions", "part"),
    [
        ("Hand", [{"CodeValue": "816094009"}], "HAND"),
        (None, [{"CodeValue": "43799004", "CodeMeaning": "Cavum"}, {"CodeValue": "1"}], "CHEST"),
        (None, [{"CodeValue": "1", "CodeMeaning": "Hand"}, {"CodeValue": "816094009"}], "HAND"),
        (None, [{"CodeValue": "1"}], "ANOTHER REGION"),
        (None, [], ""),
        (None, None, ""),
    ],
)
def test_the_body_part_is_what_was_examined_else_the_first_region(
    examined: str | None, regions: list[dict[str, str]] | None, part: str
) -> None:
    sequence = None if regions is None else Sequence([item(**region) for region in regions])
    assert header(BodyPartExamined=examined, AnatomicRegionSequence=sequence).body_part == part


# ------------------------------------------------------------------ what is read


@pytest.mark.parametrize("modality", ["CR", "DX", "DR"])
@pytest.mark.parametrize("part", ["", "CHEST", "THORAX", "TÓRAX", "LUNGS", "HEART"])
def test_a_projection_radiograph_of_the_chest_is_read(modality: str, part: str) -> None:
    check_is_chest_film(DicomHeader("1", "2", "3", "4", modality, body_part=part), "x")


@pytest.mark.parametrize(
    ("modality", "part", "said"),
    [
        ("", "CHEST", "its modality is not named, must be CR, DX, DR"),
        ("MG", "CHEST", "its modality is MG, must be CR, DX, DR"),
        ("M" * 41, "", f"its modality is {'M' * 40}, must be CR, DX, DR"),
        ("DX", "KNEE", "shows KNEE, must be a chest film"),
        ("DX", "CHEST LUMBAR", "shows CHEST LUMBAR, must be a chest film"),
        ("DX", "LUMBAR", "shows LUMBAR, must be a chest film"),
        ("DX", "K" * 41, f"shows {'K' * 40}, must be a chest film"),
    ],
)
def test_anything_else_is_refused_in_a_line_of_limited_length(modality: str, part: str, said: str) -> None:
    with pytest.raises(InputError, match=rf"^image x: {said} \(force reads it all the same\)$"):
        check_is_chest_film(DicomHeader("1", "2", "3", "4", modality, body_part=part), "x")


def test_what_may_mislead_is_said_once_for_each_file(caplog: pytest.LogCaptureFixture) -> None:
    found = warnings_of(DicomHeader("1", "2", "3", "4", "DX", burned_in=True, for_processing=True))
    assert [words.partition(":")[0] for words in found] == [
        "says that it has burned-in annotation",
        "is raw (FOR PROCESSING), not the picture that is meant for reading",
    ]
    for name in ("a film told of once", "a film told of once", "another film told of once"):
        warn_of(found, name)
    assert len(caplog.records) == 4
