"""Values of DICOM files that are no date, no time, no text of their character set, or more than one: in all forms."""

import base64
import codecs
import io
import json
import math
import random
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from dicom_files import data_of, film, verified
from r2gengpt.cli.main import run
from r2gengpt.clinical.documents.draft import draft_of
from r2gengpt.clinical.documents.forms import FORMS, bytes_of
from r2gengpt.clinical.documents.hl7 import ESCAPES
from r2gengpt.errors import InputError, RunError
from r2gengpt.films.dicom.header import DicomHeader, read_header
from r2gengpt.films.dicom.values import charsets_of, date_of, decoded, numbers_of, text_of, time_of
from r2gengpt.films.reader import decode_image
from r2gengpt.settings import OBJECT_FORMS
from test_clinical_forms import KINDS

NOW = datetime(2026, 1, 3, 4, 5, 6, tzinfo=UTC)
NO_DATES = (
    "00000000", "20241301", "20230229", "20240230", "20240100", "19700000", "2024.02.30", "2024.0229", "2024", "202402",
    "20240102+0100", "20240102-20240103", "20240102120000", "2024-01-02", "tomorrow", "00010101", "09991231",
)  # fmt: skip
NO_TIMES = (
    "240000", "246199", "101160", "106000", "1", "101", "10111", "10:1112", "101112+0100", "101112-0500", "101112.",
    "101112,5", "101112Z", "noon", "99",
)  # fmt: skip


def with_bytes(values: dict[str, bytes], charset: str | None = None) -> bytes:
    """A film whose elements hold these very bytes, which pydicom would not write."""
    values = {key: value.ljust(8 + len(value) % 2) for key, value in values.items()}
    signs = {key: "7" if key == "SeriesNumber" else chr(ord("a") + at) for at, key in enumerate(values)}
    holes: dict[str, Any] = {key: signs[key] * len(value) for key, value in values.items()}
    odd = charset in ("NO SUCH", "ISO-IR 144")
    with disable_value_validation():
        data = data_of(film(SpecificCharacterSet="ISO_IR 100" if odd else charset, **holes))
    if odd:
        data = data.replace(b"ISO_IR 100", str(charset).ljust(10).encode())
    for key, value in values.items():
        assert data.count(holes[key].encode()) == 1
        data = data.replace(holes[key].encode(), value)
    return data


def header_with(charset: str | None = None, **values: bytes) -> DicomHeader:
    return read_header(with_bytes(values, charset), "x")


def formed(header: DicomHeader, form: str) -> bytes:
    return bytes_of(draft_of("Clear lungs.", [header], "tiny", "ab" * 32, NOW, {"Edema": "negative"}), form)


def message(header: DicomHeader) -> dict[str, list[str]]:
    """The fields of the message's segments, the last of a kind, after a strict load."""
    text = formed(header, "hl7").decode()
    assert parse_message(text, validation_level=VALIDATION_LEVEL.STRICT, find_groups=True).validate()
    return {line.split("|")[0]: line.split("|") for line in text.rstrip("\r").split("\r")}


def bundle(header: DicomHeader) -> dict[str, Any]:
    """The resources of the bundle by type, after a validating load."""
    data = formed(header, "fhir")
    Bundle.model_validate_json(data)
    return {entry["resource"]["resourceType"]: entry["resource"] for entry in json.loads(data)["entry"]}


def read(header: DicomHeader, form: str) -> Dataset:
    return dcmread(io.BytesIO(formed(header, form)))


# ------------------------------------------------------------------ dates and times


@pytest.mark.parametrize("value", NO_DATES)
def test_what_is_no_day_of_the_calendar_is_left_out_of_every_form(value: str) -> None:
    header = header_with(StudyDate=value.encode(), PatientBirthDate=value.encode())
    assert (header.study_date, header.birth_date) == ("", "")
    fields, found = message(header), bundle(header)
    assert (fields["PID"][7], fields["OBR"][7]) == ("", "")
    assert "started" not in found["ImagingStudy"]
    assert not [kind for kind in ("DiagnosticReport", "Observation") if "effectiveDateTime" in found[kind]]
    for form in OBJECT_FORMS:
        assert (read(header, form).StudyDate, read(header, form).PatientBirthDate) == ("", "")
    assert not [form for form in ("sr", "fhir", "hl7") if value.encode() in formed(header, form)]


@pytest.mark.parametrize("value", NO_TIMES)
def test_what_is_no_time_of_the_day_is_left_out_of_every_form(value: str) -> None:
    header = header_with(StudyTime=value.encode())
    assert header.study_time == ""
    assert message(header)["OBR"][7] == "20260102"
    assert bundle(header)["ImagingStudy"]["started"] == "2026-01-02"
    assert [read(header, form).StudyTime for form in ("sr", "pdf")] == ["", ""]


@pytest.mark.parametrize(
    ("date", "time", "wanted"),
    [
        ("2024.02.29", "10:11:12", "20240229101112"),
        ("20240229", "101112.123456", "20240229101112"),
        ("20240229", "10:11:12.5", "20240229101112"),
        ("20240229", "1011", "202402291011"),
        ("20240229", "23", "2024022923"),
        ("20240229 ", "000000 ", "20240229000000"),
        ("20240229\\20240301", "101112\\111213", "20240229101112"),
    ],
)
def test_dates_and_times_that_mean_one_are_written_as_the_standard_has_it(date: str, time: str, wanted: str) -> None:
    header = header_with(StudyDate=date.encode(), StudyTime=time.encode(), PatientBirthDate=date.encode())
    fields = message(header)
    assert (fields["OBR"][7], fields["PID"][7]) == (wanted, "20240229")
    assert bundle(header)["DiagnosticReport"]["effectiveDateTime"] == "2024-02-29"
    for form in OBJECT_FORMS:
        made = read(header, form)
        assert (made.StudyDate + made.StudyTime, made.PatientBirthDate) == (wanted, "20240229")


def test_every_day_of_four_centuries_is_one_and_no_other() -> None:
    days = {date_of(f"{year:04}{month:02}{day:02}") for year in (1900, 2000, 2023, 2024)
            for month in range(14) for day in range(33)}  # fmt: skip
    assert len(days - {""}) == 365 + 366 + 365 + 366
    assert sum(bool(time_of(f"{number:06}")) for number in range(0, 1_000_000, 7)) == len(
        [n for n in range(0, 1_000_000, 7) if n // 10_000 < 24 and n // 100 % 100 < 60 and n % 100 < 60]
    )
    assert (date_of("２０２４０１０２"), time_of("１０１１１２")) == ("", "")


# ------------------------------------------------------------------ character sets


JAPANESE = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"
CHINESE = b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab"
"""The example of PS3.5, K.2."""


@pytest.mark.parametrize(
    ("charset", "data", "name"),
    [
        ("ISO_IR 192", "Müller^Jörg".encode("latin-1"), "Müller^Jörg"),
        ("ISO_IR 192", "Müller^Jörg".encode(), "Müller^Jörg"),
        (None, "Müller^Jörg".encode(), "Müller^Jörg"),
        (None, "Müller^Jörg".encode("latin-1"), "Müller^Jörg"),
        ("NO SUCH", "Müller".encode(), "Müller"),
        ("ISO_IR 100", "Müller".encode("latin-1"), "Müller"),
        ("ISO_IR 100", "À^É".encode(), "À^É"),
        ("ISO_IR 100", "Šimić".encode("cp1252", "replace"), "Šimi?"),
        ("ISO-IR 144", "Люкceмбypг".encode("iso8859_5"), "Люкceмбypг"),
        ("GB18030", "Wang^XiaoDong=王^小东".encode("gb18030"), "Wang^XiaoDong=王^小东"),
        ("GBK", b"\x81\x5c^\x81\x5e", "乗^乛"),
        ("\\ISO 2022 IR 87", JAPANESE, "Yamada^Tarou=山田^太郎"),
        (None, JAPANESE, "Yamada^Tarou=山田^太郎"),
        ("\\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "Hong^Gildong=洪^吉洞"),
        ("\\ISO 2022 IR 149", b"Hong^Gildong=\xfb\xf3^\xd1\xce\xd4\xd7", "Hong^Gildong=洪^吉洞"),
        ("\\ISO 2022 IR 58", CHINESE, "Zhang^XiaoDong=张^小东"),
        ("\\ISO 2022 IR 58", CHINESE.replace(b"\x1b$)A", b""), "Zhang^XiaoDong=张^小东"),
        ("\\ISO 2022 IR 58\\ISO 2022 IR 87", b"\x1b$)A\xd5\xc5\x1b(B^\x1b$B;3ED\x1b(B", "张^山田"),
        (None, CHINESE, "Zhang^XiaoDong=张^小东"),
        ("ISO_IR 192", "a\ufffdb".encode(), "a?b"),
        ("ISO_IR 192", b"a\x1b%G\xff\x81", "a %G\xff"),
    ],
)
def test_a_name_is_read_by_the_declared_sets_else_as_utf_8_else_as_latin_1(
    charset: str | None, data: bytes, name: str
) -> None:
    header = header_with(charset, PatientName=data)
    assert header.name == name
    for form in OBJECT_FORMS:
        assert str(read(header, form).PatientName) == name
    if "^" in name:
        assert message(header)["PID"][5] == name.split("=")[0]


def test_no_byte_in_any_declared_set_becomes_the_sign_of_what_cannot_be_read() -> None:
    rng = random.Random(5)
    for charset in (None, "ISO_IR 192", "ISO_IR 100", "ISO_IR 13", "GB18030", "\\ISO 2022 IR 87", "\\ISO 2022 IR 149",
                    "\\ISO 2022 IR 58"):  # fmt: skip
        for _ in range(20):
            name = bytes(rng.choice((rng.randrange(256), 0x1B, 0x24, 0x42)) for _ in range(rng.randrange(2, 20)))
            header = header_with(charset, PatientName=name, StudyDescription=name[::-1])
            assert "\ufffd" not in header.name + header.study_description
            sr = read(header, "sr")
            assert "\ufffd" not in f"{sr.PatientName}{sr.get('StudyDescription')}"


@pytest.mark.parametrize(
    ("named", "found"),
    [
        (None, ("ascii",)),
        ("", ("ascii",)),
        ("NO SUCH", ("ascii",)),
        ("ISO_IR 6", ("ascii",)),
        ("ISO_IR 100", ("latin_1",)),
        ("ISO-IR 100", ("latin_1",)),
        ("ISO 2022-IR 100", ("latin_1",)),
        ("ISO_IR 192", ("UTF8",)),
        (["", "ISO 2022 IR 87"], ("ascii", "iso2022_jp")),
        (["NO SUCH", "ISO_IR 100"], ("latin_1",)),
    ],
)
def test_character_sets_are_known_by_the_standards_names_and_by_near_ones(
    named: str | list[str] | None, found: tuple[str, ...]
) -> None:
    dataset = Dataset()
    dataset.add_new("SpecificCharacterSet", "LO", named)
    assert [codecs.lookup(name) for name in charsets_of(dataset)] == [codecs.lookup(name) for name in found]


@pytest.mark.parametrize(
    ("data", "charsets", "text"),
    [
        (b"abc", ("ascii",), "abc"),
        (b"\xe9", ("latin_1",), "é"),
        (b"\xc3\xa9", ("latin_1",), "Ã©"),
        (b"\xc3\xa9", ("ascii",), "é"),
        (b"\xb3", ("ascii", "iso8859_2"), "ł"),
        (b"\xb3", ("ascii",), "³"),
        (b"\x8a", ("ascii",), "Š"),
        (b"\x81", ("ascii",), "\x81"),
        (b"\x1b$B;3ED\x1b(B", ("ascii",), "山田"),
        (b"\x1bx", ("ascii",), "\x1bx"),  # no escape sequence
    ],
)
def test_bytes_are_read_by_the_first_set_that_has_a_sign_for_each(
    data: bytes, charsets: tuple[str, ...], text: str
) -> None:
    assert decoded(data, charsets) == text


@pytest.mark.parametrize("kind", [None, "UN", "DS", "LO"])
def test_numbers_in_a_text_of_any_kind_are_read_one_by_one(kind: str | None) -> None:
    dataset = Dataset()
    tag = Tag("WindowCenter")
    dataset[tag] = RawDataElement(tag, kind, 8, b"40,5\\x\\1.", 0, kind is None, True)
    first, none, last = numbers_of(dataset, "WindowCenter")
    assert (first, last) == (40.5, 1.0)
    assert math.isnan(none)


@pytest.mark.parametrize("kind", [None, "US"])
def test_numbers_in_binary_are_read_one_by_one(kind: str | None) -> None:
    dataset = Dataset()
    tag = Tag("Rows")
    dataset[tag] = RawDataElement(tag, kind, 4, b"\x05\x00\x07\x01", 0, kind is None, True)
    assert numbers_of(dataset, "Rows") == [5, 263]


@pytest.mark.parametrize("kind", [None, "UN", "LO"])
def test_a_text_of_any_kind_is_whole_and_in_its_character_set(kind: str | None) -> None:
    dataset = Dataset()
    tag = Tag("PatientID")
    dataset[tag] = RawDataElement(tag, kind, 6, b"a\\\xc3\xa9\x00b ", 0, kind is None, True)
    assert text_of(dataset, "PatientID", ("utf-8",)) == "a\\é b"


def test_what_is_not_there_or_has_no_value_is_an_empty_text_and_no_number() -> None:
    dataset = Dataset()
    dataset.PatientID, dataset.Rows, dataset.InstanceNumber = "", None, None
    for key in ("PatientID", "Rows", "InstanceNumber", "StudyID", "NoSuchElement"):
        assert text_of(dataset, key, ("ascii",)) == ""
    for key in ("Rows", "InstanceNumber", "Columns", "NoSuchElement"):
        assert numbers_of(dataset, key) == []


def test_values_that_python_has_put_there_are_as_those_of_a_file() -> None:
    dataset = Dataset()
    dataset.PatientID, dataset.ImageType, dataset.WindowCenter = "ab", ["ORIGINAL", "PRIMARY"], [1, 2.5]
    dataset.add_new("PixelData", "OB", b"ab")
    assert text_of(dataset, "PatientID", ("ascii",)) == "ab"
    assert text_of(dataset, "ImageType", ("ascii",)) == "ORIGINAL\\PRIMARY"
    assert text_of(dataset, "PixelData", ("ascii",)) == "ab"
    assert numbers_of(dataset, "WindowCenter") == [1, 2.5]


@pytest.mark.parametrize("time", ["00", "23", "0000", "2359", "000000", "235959"])
def test_the_first_and_last_times_of_a_day_are_ones(time: str) -> None:
    assert time_of(time) == time


@pytest.mark.parametrize("time", ["24", "2360", "235960", "0060", "000060"])
def test_what_is_beyond_a_day_an_hour_or_a_minute_is_no_time(time: str) -> None:
    assert time_of(time) == ""


# ------------------------------------------------------------------ identifiers


IDENTIFIERS = ("PatientID", "IssuerOfPatientID", "AccessionNumber", "StudyID", "StudyDescription")


def test_an_identifier_with_a_backslash_is_whole_in_every_form() -> None:
    values = {key: f"{key[:4]}\\12\\ä".encode() for key in IDENTIFIERS}
    header = header_with("ISO_IR 192", **values)
    assert (header.patient_id, header.accession, header.study_id) == ("Pati\\12\\ä", "Acce\\12\\ä", "Stud\\12\\ä")
    subject = bundle(header)["DiagnosticReport"]["subject"]["identifier"]
    assert subject == {"value": "Pati\\12\\ä", "assigner": {"display": "Issu\\12\\ä"}}
    fields = message(header)
    assert (fields["PID"][3], fields["OBR"][3]) == ("Pati\\E\\12\\E\\ä^^^Issu\\E\\12\\E\\ä", "Acce\\E\\12\\E\\ä")
    for form in OBJECT_FORMS:
        again = read_header(formed(header, form), "x")
        assert [getattr(again, name) == getattr(header, name) for name in
                ("patient_id", "issuer", "accession", "study_id", "study_description")] == [True] * 5  # fmt: skip


@pytest.mark.parametrize("sign", ["\ue000", "\u200b", "\uffff", "\u3000", "\U0001f600"])
def test_no_sign_of_an_identifier_is_taken_for_another_in_a_message(sign: str) -> None:
    header = header_with("ISO_IR 192", PatientID=f"A{sign}B".encode(), PatientName=f"A{sign}B^C".encode())
    assert (message(header)["PID"][3], message(header)["PID"][5]) == (f"A{sign}B", f"A{sign}B^C")


def unescaped(text: str) -> str:
    signs = {f"{sequence[1]}": sign for sign, sequence in ESCAPES.items()}
    return re.sub(r"\\([EFSTR])\\", lambda found: signs[found[1]], text)


SIGNS = "ab1 ^=|&~\\.\r\n\t\0\x1b\x7f\x85ESFTR'<>%éß\u2028"


@pytest.mark.parametrize("seed", range(40))
def test_drawn_names_and_identifiers_pass_through_every_form(seed: int) -> None:
    """What HL7's escapes stand for is what the film says, and no form is refused or broken by it."""
    rng = random.Random(seed)
    keys = (*IDENTIFIERS, "PatientName", "ReferringPhysicianName", "Modality", "ViewPosition", "PatientSex",
            "SeriesNumber")  # fmt: skip
    values = {key: "".join(rng.choices(SIGNS, k=rng.randrange(2, 9))).encode() for key in keys}
    header = header_with("ISO_IR 192", **values)
    assert not re.search("[\0-\x1f\x7f-\x9f\u2028]", header.patient_id + header.name + header.accession)
    text = formed(header, "hl7").decode()
    assert parse_message(text, find_groups=True).validate()
    segments = {line.split("|")[0]: line.split("|") for line in text.rstrip("\r").split("\r")}
    number, _, _, *issuer = segments["PID"][3].split("^") + [""] * 3
    assert unescaped(number) == header.patient_id
    assert list(segments) == ["MSH", "PID", "OBR", "NTE", "OBX"]
    assert issuer
    found = bundle(header)
    if header.patient_id:
        assert found["DiagnosticReport"]["subject"]["identifier"]["value"] == header.patient_id
    for form in OBJECT_FORMS:
        again = read_header(formed(header, form), "x")
        assert (again.patient_id, again.accession, again.study_id) == (
            header.patient_id, header.accession, header.study_id,
        )  # fmt: skip
        assert again.name.rstrip("^= ") == header.name.rstrip("^= ")


def test_a_name_in_ideographs_alone_names_the_patient_in_a_message() -> None:
    header = header_with("ISO_IR 192", PatientName="=山田^太郎".encode())
    assert message(header)["PID"][5] == "山田^太郎"


@pytest.mark.skipif(
    shutil.which("dciodvfy") is None or shutil.which("dsrdump") is None, reason="needs dcmtk, dicom3tools"
)
@pytest.mark.parametrize(("form", "kind"), KINDS.items())
def test_objects_of_films_with_odd_values_are_as_the_standard_has_them(form: str, kind: str, tmp_path: Path) -> None:
    values = {
        "StudyDate": b"20241301", "StudyTime": b"246199", "PatientBirthDate": b"19700000",
        "PatientName": b"M\xfcller^J", "ReferringPhysicianName": JAPANESE, "PatientSex": b"??", "PatientID": b"a\x07b",
    }  # fmt: skip
    path = tmp_path / "x.dcm"
    path.write_bytes(formed(header_with("ISO_IR 192", **values), form))
    lines = verified(path)
    assert [line for line in lines if "would be needed to build DICOMDIR" not in line] == [kind]
    if form.endswith("sr"):
        shown = subprocess.run(["dsrdump", str(path)], capture_output=True, check=False)
        said = [line for line in shown.stderr.splitlines() if b"VR checker does not support" not in line]
        assert (shown.returncode, said) == (0, [])


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize("form", FORMS)
def test_an_error_of_a_form_names_its_kind_and_place_and_no_value(
    form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The packages' own words quote what they refuse."""
    names = {
        "sr": "structured_report",
        "measurement-sr": "measurement_report",
        "pdf": "encapsulated_pdf",
        "secondary-capture": "secondary_capture",
        "fhir": "fhir_bundle",
        "hl7": "hl7_message",
    }
    room = f"{form if form in ('fhir', 'hl7') else names[form]}.{names[form]}"

    def refuse(*_: object) -> bytes:
        raise ValueError("input_value='Muster^Erika'")

    monkeypatch.setattr(f"r2gengpt.clinical.documents.{room}", refuse)
    with pytest.raises(RunError) as raised:
        formed(header_with(), form)
    assert re.fullmatch(
        rf"the draft cannot be made as {form}: ValueError at test_dicom_values.py:\d+", str(raised.value)
    )
    assert raised.value.__suppress_context__

    class Command:
        @staticmethod
        def main(argv: list[str]) -> None:
            formed(header_with(), form)

    monkeypatch.setattr("importlib.import_module", lambda name: Command)
    assert run("generate", []) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"r2gengpt generate: the draft cannot be made as {form}")
    assert "Muster" not in said


@pytest.mark.parametrize("key", ["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "NumberOfFrames"])
def test_an_element_that_cannot_be_read_is_not_quoted(key: str) -> None:
    """What a shifted or damaged file has where a number belongs may be a name; the film may be read or refused."""
    values: dict[str, Any] = {
        "RescaleSlope": "1",
        "RescaleIntercept": "0",
        "WindowCenter": "9",
        "WindowWidth": "9",
        key: "77777777",
    }
    data = data_of(film(**values)).replace(b"77777777", b"Muster^E")
    said = ""
    try:
        decode_image(data, "x")
    except InputError as error:
        said = str(error)
    assert "Muster" not in said


def test_a_decoders_own_words_are_kept() -> None:
    with pytest.raises(InputError, match=r"x: its DICOM pixels cannot be decoded: .*\d+ bytes"):
        decode_image(data_of(film())[:-700], "x")


def test_a_presented_form_is_the_text_that_the_bundle_says_it_is() -> None:
    (shown,) = bundle(header_with())["DiagnosticReport"]["presentedForm"]
    assert base64.b64decode(shown["data"]).decode().endswith("Findings: Clear lungs.\n")
