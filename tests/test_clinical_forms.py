"""Drafts on their way out: structured report, encapsulated PDF, FHIR bundle, HL7 message; what each must say."""

import dataclasses
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fhir.resources.R4B.bundle import Bundle
from hl7apy.parser import parse_message
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes

from conftest import Outcome, TinySet
from dicom_files import ROOT, data_of, film, verified
from film_parts import FINDINGS, LEFT_OUT, REASON
from film_parts import REPORT as WITH_FINDINGS
from r2gengpt.clinical.archive.run import document_of
from r2gengpt.clinical.documents.draft import NO_TEXT, Draft, draft_of, images_to_send
from r2gengpt.clinical.documents.fhir import CODES
from r2gengpt.clinical.documents.forms import FORMS, bytes_of
from r2gengpt.clinical.documents.hl7 import escaped
from r2gengpt.clinical.documents.plain_pdf import BREADTH, WIDTHS, pdf_of
from r2gengpt.clinical.hl7.er7 import header_of, read_message
from r2gengpt.errors import InputError
from r2gengpt.films.dicom.header import DicomHeader, read_header
from r2gengpt.report import Finding
from r2gengpt.reporter import Reporter
from r2gengpt.settings import OBJECT_FORMS
from r2gengpt.text.observations import ALL_OBSERVATIONS
from r2gengpt.text.written import NOTICE

KINDS = {
    "sr": "BasicTextSR",
    "measurement-sr": "ComprehensiveSR",
    "pdf": "EncapsulatedPDF",
    "secondary-capture": "SCImage",
}
"""Form → what dciodvfy calls it."""
NOW = datetime(2026, 1, 3, 4, 5, 6, tzinfo=UTC)
REPORT = "FINDINGS: The heart is large (2025: normal). Größe \\ <16 cm & stable.\nIMPRESSION: Cardiomegaly."


def header(**more: Any) -> DicomHeader:
    return read_header(data_of(film(**more)), "x")


SIDE: dict[str, Any] = {"SOPInstanceUID": f"{ROOT}4", "SeriesInstanceUID": f"{ROOT}22", "ViewPosition": "LL"}


def draft(report: str = REPORT, digest: str = "ab" * 32, **more: Any) -> Draft:
    labels = {"Cardiomegaly": "positive", "Pleural Effusion": "negative"}
    return draft_of(report, [header(**more), header(**{**more, **SIDE})], "tiny", digest, NOW, labels)


def with_film(**more: Any) -> Draft:
    """The draft of a model with a finding head."""
    return dataclasses.replace(draft(**more), film=FINDINGS, review=(LEFT_OUT,))


EFFUSION_LINE = "Pleural Effusion: likely (probability 0.91, 95 % interval 0.85 to 0.95)"
HEART_LINE = "Cardiomegaly: unlikely (probability 0.03, 95 % interval 0.01 to 0.07)"


def read(one: Draft, form: str) -> Dataset:
    return dcmread(io.BytesIO(bytes_of(one, form)))


def bundle(one: Draft) -> dict[str, list[Any]]:
    """The resources of a draft's bundle by type, after a validating load."""
    found: dict[str, list[Any]] = {}
    for entry in Bundle.model_validate_json(bytes_of(one, "fhir")).entry:
        found.setdefault(entry.resource.get_resource_type(), []).append(entry.resource)
    return found


def items(dataset: Dataset) -> list[Dataset]:
    """The content tree, depth first."""
    return [one for child in dataset.get("ContentSequence", []) for one in (child, *items(child))]


def test_a_structured_report_is_preliminary_unverified_and_by_a_device() -> None:
    sr = read(draft(), "sr")
    assert (sr.VerificationFlag, sr.PreliminaryFlag, sr.CompletionFlag) == ("UNVERIFIED", "PRELIMINARY", "PARTIAL")
    assert sr.CompletionFlagDescription == NOTICE
    assert sr.AuthorObserverSequence[0].ObserverType == "DEV"
    assert sr.ContentTemplateSequence[0].TemplateIdentifier == "2000"
    assert (sr.PatientID, sr.PatientName, sr.AccessionNumber) == ("P-1", "Muster^Erika", "A 77")


def test_a_structured_report_has_its_sections_and_refers_to_every_image() -> None:
    sr = read(draft(), "sr")
    texts = {one.ConceptNameCodeSequence[0].CodeMeaning: one.TextValue for one in items(sr) if one.ValueType == "TEXT"}
    assert texts["Finding"] == "The heart is large (2025: normal). Größe \\ <16 cm & stable."
    assert texts["Impression"] == "Cardiomegaly."
    series = sr.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    evidence = {one.ReferencedSOPInstanceUID for each in series for one in each.ReferencedSOPSequence}
    shown = {one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for one in items(sr) if one.ValueType == "IMAGE"}
    assert evidence == shown == {f"{ROOT}3", f"{ROOT}4"}
    assert len(series) == 2


@pytest.mark.parametrize(("text", "charset"), [("Clear.", None), ("Größe", "ISO_IR 100"), ("≥ 3 cm", "ISO_IR 192")])
def test_texts_survive_in_the_smallest_character_set(text: str, charset: str | None) -> None:
    sr = read(draft(text), "sr")
    assert sr.get("SpecificCharacterSet") == charset
    assert text in [one.get("TextValue") for one in items(sr)]


def test_an_encapsulated_pdf_refers_to_its_sources_and_holds_the_text() -> None:
    pdf = read(draft(), "pdf")
    assert pdf.VerificationFlag == "UNVERIFIED"
    assert {one.ReferencedSOPInstanceUID for one in pdf.SourceInstanceSequence} == {f"{ROOT}3", f"{ROOT}4"}
    page = pdf.EncapsulatedDocument[: pdf.EncapsulatedDocumentLength]
    assert page.startswith(b"%PDF-1.4")
    assert rb"\(2025: normal\)" in page
    assert b"Muster" not in page


def test_every_object_of_the_pdf_stands_where_its_table_says_and_long_texts_take_more_pages() -> None:
    data = pdf_of(f"{'word ' * 3000}\n\n{'w' * 300}\nlast (line) \\ ♥ é", "head", "foot")
    start = int(re.findall(rb"startxref\n(\d+)", data)[0])
    places = [int(place) for place in re.findall(rb"^(\d{10}) 00000 n", data[start:], re.MULTILINE)]
    assert all(data[place:].startswith(f"{number} 0 obj".encode()) for number, place in enumerate(places, 1))
    assert data.count(b"/Type /Page ") == data.count(b"(head) Tj") == 5
    assert [int(page) for page in re.findall(rb"\(foot   Page (\d) of 5\) Tj", data)] == [1, 2, 3, 4, 5]
    *lines, last = re.findall(rb"^\((.*)\) Tj T\*", data, re.MULTILINE)
    assert last == b"last \\(line\\) \\\\ ? \xe9"
    assert b" ".join(lines).split()[:3000] == [b"word"] * 3000
    assert b"".join(lines).count(b"w") == 3000 + 300
    assert max(sum(WIDTHS[letter - 32] for letter in line) for line in lines) <= BREADTH


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="needs poppler-utils")
def test_poppler_reads_the_pdf(tmp_path: Path) -> None:
    (tmp_path / "x.pdf").write_bytes(pdf_of("The heart is large.", "h"))
    done = subprocess.run(["pdftotext", str(tmp_path / "x.pdf"), "-"], capture_output=True, text=True, check=True)
    assert "The heart is large." in done.stdout
    assert done.stderr == ""


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="needs dcmtk")
@pytest.mark.parametrize("one", [draft(), draft("Clear lungs. The heart is large."), with_film()])
def test_dcmtk_reads_the_structured_report_without_a_warning(one: Draft, tmp_path: Path) -> None:
    path = tmp_path / "sr.dcm"
    path.write_bytes(bytes_of(one, "sr"))
    for command in (["dsrdump", "+Pl", str(path)], ["dsr2html", str(path)]):
        done = subprocess.run(command, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"he heart is large" in done.stdout


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dicom3tools")
@pytest.mark.parametrize("make", [draft, with_film], ids=["text", "film"])
@pytest.mark.parametrize("bare", [False, True], ids=["whole", "bare"])
@pytest.mark.parametrize(("form", "kind"), KINDS.items())
def test_no_module_or_value_that_the_standard_requires_is_missing(
    form: str, kind: str, bare: bool, make: Callable[..., Draft], tmp_path: Path
) -> None:
    names = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber", "StudyDate")
    gone = dict.fromkeys((*names, "StudyTime", "ReferringPhysicianName")) if bare else {}
    path = tmp_path / "x.dcm"
    path.write_bytes(bytes_of(make(**gone), form))
    lines = verified(path)
    if bare:  # what may be empty in the images is empty here, and said to be of no use to a DICOMDIR
        lines = [line for line in lines if "would be needed to build DICOMDIR" not in line]
    assert lines == [kind]


def test_a_structured_report_has_findings_of_the_film_in_a_container_of_their_own() -> None:
    sr = read(with_film(), "sr")
    *before, own = sr.ContentSequence
    assert own.ConceptNameCodeSequence[0].CodeMeaning == "CAD Processing and Findings Summary"
    assert [(one.ConceptNameCodeSequence[0].CodeMeaning, one.TextValue) for one in own.ContentSequence] == [
        ("Finding", "Computer-aided finding: Lung Opacity: likely (probability 0.93, 95 % interval 0.90 to 0.96)"),
        ("Finding", f"Computer-aided finding: {EFFUSION_LINE}"),
        ("Finding", "Computer-aided finding: Edema: possible (probability 0.44, 95 % interval 0.31 to 0.58)"),
        ("Finding", f"Computer-aided finding: {HEART_LINE}"),
        ("Comment", "Not assessed: Fracture"),
        ("Comment", f"Needs review: {LEFT_OUT}"),
    ]
    assert {len(one.get("ContentSequence", [])) for one in own.ContentSequence} == {0, 2}, "findings name their images"
    assert len(before) == len(read(draft(), "sr").ContentSequence)


def test_the_page_of_a_pdf_has_a_block_of_findings_and_one_of_what_needs_review() -> None:
    page = read(with_film(), "pdf").EncapsulatedDocument.decode("cp1252")
    for words in ("FINDINGS OF THE FILM \\(AI\\)", "NEEDS REVIEW", "Not assessed: Fracture"):
        assert words in page
    assert EFFUSION_LINE.replace("(", "\\(").replace(")", "\\)") in page
    assert page.index("Lung Opacity") < page.index("Pleural Effusion") < page.index("Cardiomegaly: unlikely")


def test_a_bundle_has_an_observation_of_each_finding_that_was_assessed() -> None:
    found = bundle(with_film())
    seen = {one.code.text: one for one in found["Observation"] if one.valueCodeableConcept is not None}
    assert {name: one.valueCodeableConcept.text for name, one in seen.items()} == {
        "Cardiomegaly": "unlikely", "Lung Opacity": "likely", "Edema": "possible", "Pleural Effusion": "likely",
    }  # fmt: skip
    effusion = seen["Pleural Effusion"]
    assert [(one.system, one.code) for one in effusion.code.coding] == [("http://snomed.info/sct", "60046008")]
    assert seen["Lung Opacity"].code.coding is None, "no code means exactly this"
    probability, interval = effusion.component
    assert float(probability.valueQuantity.value) == 0.9142
    assert (float(interval.valueRange.low.value), float(interval.valueRange.high.value)) == (0.85, 0.95)
    assert {one.status for one in seen.values()} == {"preliminary"}
    assert all(NOTICE in one.note[0].text for one in seen.values())
    study, report = found["ImagingStudy"][0], found["DiagnosticReport"][0]
    assert effusion.derivedFrom[0].reference == f"urn:uuid:{study.id}"
    assert effusion.subject.identifier.value == "P-1"
    assert {f"urn:uuid:{one.id}" for one in found["Observation"]} == {one.reference for one in report.result}
    assert {one.reference for one in found["Provenance"][0].target} > {f"urn:uuid:{one.id}" for one in seen.values()}
    for place in (report.conclusion, report.text.div):
        assert LEFT_OUT in place
    assert EFFUSION_LINE in report.text.div
    assert "Not assessed: Fracture" in report.text.div


def test_the_codes_of_findings_are_those_of_public_schemes() -> None:
    """SNOMED CT's of PS3.16 as pydicom has them; the others are RadLex's."""
    for code in CODES.values():
        keyword = code["display"].title().replace(" ", "")
        if code["system"] == "http://snomed.info/sct":
            assert getattr(codes.SCT, keyword).value == code["code"]
        else:
            assert re.fullmatch(r"RID\d+", code["code"])
    assert set(CODES) < set(ALL_OBSERVATIONS)


def test_a_message_has_an_observation_with_a_probability_of_each_finding() -> None:
    found = segments(with_film())
    own = [one for one in found if one[0] == "OBX" and len(one) > 9 and one[9]]
    assert [(one[2], one[3], one[5], one[9], one[11]) for one in own] == [
        ("ST", "^Lung Opacity", "likely", "0.930", "P"),
        ("ST", "^Pleural Effusion", "likely", "0.914", "P"),
        ("ST", "^Edema", "possible", "0.440", "P"),
        ("ST", "^Cardiomegaly", "unlikely", "0.030", "P"),
    ]
    notes = [one[3] for one in found if one[0] == "NTE"][1:]
    assert notes[1] == "Findings of the film (AI). 95 % interval 0.85 to 0.95"
    assert len(notes) == len(own)
    assert [one[5] for one in found if one[0] == "OBX"][-2:] == ["Not assessed: Fracture", f"Needs review: {LEFT_OUT}"]
    assert parse_message(bytes_of(with_film(), "hl7").decode(), find_groups=True).validate()


def test_the_settings_name_the_forms_that_are_dicom_objects() -> None:
    assert tuple(name for name, form in FORMS.items() if form.binary) == OBJECT_FORMS
    assert set(KINDS) == set(OBJECT_FORMS)


def test_every_object_names_its_writer_by_the_hash_of_the_weights() -> None:
    """Contributing Equipment: one Device UID for one set of weights, whatever the study and the form."""

    def device(one: Draft, form: str) -> str:
        (equipment,) = read(one, form).ContributingEquipmentSequence
        assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert one.digest in equipment.ContributionDescription
        return str(equipment.DeviceUID)

    drafts = [draft(), draft("Clear lungs."), draft(StudyInstanceUID=f"{ROOT}77")]
    assert len({device(one, form) for one in drafts for form in OBJECT_FORMS}) == 1
    assert device(draft(digest="cd" * 32), "sr") != device(draft(), "sr")
    assert device(draft(), "sr") == read(draft(), "sr").AuthorObserverSequence[0].DeviceUID


def test_other_findings_make_another_draft() -> None:
    first, second = with_film(), dataclasses.replace(with_film(), film=FINDINGS[:2])
    assert len({draft().uid("SR"), first.uid("SR"), second.uid("SR")}) == 3


def test_the_same_images_model_and_text_have_the_same_identifiers_and_others_have_others() -> None:
    later = dataclasses.replace(draft(), created=datetime(2027, 1, 1, tzinfo=UTC))
    others = [draft(digest="cd" * 32), draft("Clear lungs."), draft(StudyInstanceUID=f"{ROOT}77")]
    for form in OBJECT_FORMS:
        first = read(draft(), form).SOPInstanceUID
        assert read(later, form).SOPInstanceUID == first
        assert len({first, *(read(one, form).SOPInstanceUID for one in others)}) == 4
    assert len({read(draft(), form).SOPInstanceUID for form in OBJECT_FORMS}) == len(OBJECT_FORMS)
    assert len({read(draft(), form).SeriesInstanceUID for form in OBJECT_FORMS}) == len(OBJECT_FORMS)
    assert read(draft(), "sr").SeriesInstanceUID == read(draft("Clear lungs."), "sr").SeriesInstanceUID
    ids = [{one.id for kind in bundle(each).values() for one in kind} for each in (draft(), later)]
    assert ids[0] == ids[1]


def test_the_order_of_the_images_does_not_matter_to_the_identifiers() -> None:
    turned = dataclasses.replace(draft(), images=draft().images[::-1])
    assert turned.uid("SR") == draft().uid("SR")


@pytest.mark.parametrize("form", FORMS)
def test_the_same_draft_gives_the_same_bytes(form: str) -> None:
    assert bytes_of(draft(), form) == bytes_of(draft(), form)


def test_a_bundle_is_preliminary_and_its_references_lead_to_its_resources() -> None:
    found = bundle(draft())
    assert {kind: len(them) for kind, them in found.items()} == {
        "Device": 1, "ImagingStudy": 1, "Observation": 2, "DiagnosticReport": 1, "Provenance": 1,
    }  # fmt: skip
    (report,) = found["DiagnosticReport"]
    assert report.status == "preliminary"
    assert {one.status for one in found["Observation"]} == {"preliminary"}
    assert {(one.code.text, one.valueString) for one in found["Observation"]} == set(draft().labels.items())
    data = json.loads(bytes_of(draft(), "fhir"))
    assert data["type"] == "transaction"
    urls = {entry["fullUrl"] for entry in data["entry"]}
    assert set(re.findall(r'"reference": "([^"]+)"', json.dumps(data))) <= urls
    assert all(entry["request"]["method"] == "PUT" for entry in data["entry"])
    assert found["ImagingStudy"][0].numberOfInstances == 2
    assert "&lt;16 cm &amp; stable" in report.text.div


def test_a_bundle_without_labels_or_patient_is_valid_too() -> None:
    found = bundle(dataclasses.replace(draft(PatientID=None, StudyDate=None), labels={}))
    assert "Observation" not in found
    assert found["DiagnosticReport"][0].result is None


def segments(one: Draft) -> list[list[str]]:
    text = bytes_of(one, "hl7").decode()
    assert "\n" not in text
    assert text.endswith("\r")
    return [line.split("|") for line in text.rstrip("\r").split("\r")]


def test_a_message_is_preliminary_and_parses_again() -> None:
    found = segments(draft())
    assert [one[0] for one in found] == ["MSH", "PID", "OBR", "NTE", "OBX", "OBX", "OBX", "OBX"]
    assert found[0][8] == "ORU^R01^ORU_R01"
    assert (found[0][10], found[0][11]) == ("T", "2.5.1")
    assert found[2][25] == "P"
    assert {one[11] for one in found if one[0] == "OBX"} == {"P"}
    assert found[1][3:9] == ["P-1", "", "Muster^Erika", "", "19500102", "F"]
    parsed = parse_message(bytes_of(draft(), "hl7").decode(), find_groups=True)
    assert parsed.validate()


def test_separators_in_texts_and_names_are_escaped_once() -> None:
    one = draft("Shift ~2 | 3 cm ^ R&D \\ x", PatientName="A|B^C&D", PatientID="7^8", IssuerOfPatientID="H~1")
    found = segments(one)
    assert found[6][5] == "Shift \\R\\2 \\F\\ 3 cm \\S\\ R\\T\\D \\E\\ x"
    assert found[1][5] == "A\\F\\B^C\\T\\D"
    assert found[1][3] == "7\\S\\8^^^H\\R\\1"


NULLS = ("PatientID", "IssuerOfPatientID", "AccessionNumber", "PatientName")


@pytest.mark.parametrize("name", NULLS)
@pytest.mark.parametrize("quotes", ['""', ' "" '])
def test_two_quotes_in_a_film_delete_nothing_in_a_record(name: str, quotes: str) -> None:
    data = bytes_of(draft(**{name: quotes}), "hl7")
    assert b'""' not in data
    read = {one.name: one for one in read_message(data, header_of(data)).segments}
    pid = read["PID"]
    found = (pid.text(3), pid.text(3, 4), read["OBR"].text(3), pid.text(5))
    assert found[NULLS.index(name)] == '""'


def test_line_breaks_become_escape_sequences_and_no_new_segment() -> None:
    one = dataclasses.replace(draft(), findings="a\r\nOBX|1|forged\nb\x0bc\x00d", impression="")
    found = segments(one)
    assert len(found) == 7
    assert found[6][5] == "a\\.br\\OBX\\F\\1\\F\\forged\\.br\\b\\.br\\c d"
    assert escaped("plain") == "plain"


@pytest.mark.parametrize("make", [draft, with_film], ids=["text", "film"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_that_it_is_a_draft(form: str, make: Callable[..., Draft]) -> None:
    data = bytes_of(make(), form)
    assert NOTICE.encode() in data
    if form == "fhir":
        resources = [entry["resource"] for entry in json.loads(data)["entry"]]
        silent = [one["resourceType"] for one in resources if NOTICE not in json.dumps(one)]
        assert silent == ["ImagingStudy"]  # which says nothing but what images there are


@pytest.mark.parametrize("form", FORMS)
def test_no_sign_of_a_text_or_a_models_name_breaks_a_form(form: str) -> None:
    """Those of Unicode that are no text: controls, halves of pairs, and the two that XML forbids."""
    odd = "".join(map(chr, [*range(32), *range(127, 160), 0xD800, 0xDCFC, 0xFFFE, 0xFFFF]))
    found = Finding("Edema", 0.9, (0.8, 0.95), "likely")
    one = draft_of(f"Clear{odd}lungs.", [header()], f"ti\\ny{odd}", "ab" * 32, NOW, review=[odd], film=[found])
    data = bytes_of(one, form)
    if FORMS[form].binary:
        dataset = dcmread(io.BytesIO(data))
        assert dataset.ManufacturerModelName.startswith("ti ny")
        texts = [str(element.value) for element in dataset.iterall() if element.VR in ("UT", "LT", "ST", "LO", "SH")]
    elif form == "fhir":
        resources = [entry["resource"] for entry in json.loads(data)["entry"]]
        texts = ["".join(ElementTree.fromstring(one["text"]["div"]).itertext()) for one in resources if "text" in one]
    else:
        texts = data.decode().split("\r")
    assert [text for text in texts if re.search("[\0-\x08\x0b\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", text)] == []


@pytest.mark.parametrize(
    ("report", "findings", "impression"),
    [
        ("Clear lungs.\n\nImpression:\nNormal.", "Clear lungs.", "Normal."),
        ("FINDINGS: Clear lungs. IMPRESSION: Normal.", "Clear lungs.", "Normal."),
        ("A large heart. FINDINGS: Clear lungs.", "A large heart. Clear lungs.", ""),
        ("IMPRESSION: Normal. RECOMMENDATION: CT.", "RECOMMENDATION: CT.", "Normal."),
        ("FINDINGS: Mass. NOTIFICATION: Dr. X knows.", "Mass. NOTIFICATION: Dr. X knows.", ""),
        ("IMPRESSION: One.\nFINDINGS: Two.\nIMPRESSION: Three.", "Two.", "One. Three."),
        (
            "FINDINGS: Clear.\nADDENDUM: A nodule.\nIMPRESSION: Nodule.",
            "Clear. ADDENDUM: A nodule. IMPRESSION: Nodule.",
            "",
        ),
        ("CHEST, PA AND LATERAL: Clear. IMPRESSION: Normal.", "CHEST, PA AND LATERAL: Clear.", "Normal."),
        ("COMPARISON: None. The heart is large.", "COMPARISON: None. The heart is large.", ""),
        ("IMPRESSION: Normal.", "", "Normal."),
    ],
)
def test_no_word_of_a_report_is_left_out_whatever_sections_it_names(
    report: str, findings: str, impression: str
) -> None:
    one = draft_of(report, [header()], "tiny", "ab" * 32, NOW)
    assert (one.findings, one.impression) == (findings, impression)


@pytest.mark.parametrize("form", FORMS)
def test_a_report_without_text_says_so(form: str) -> None:
    one = dataclasses.replace(draft("  "), labels={})
    assert one.findings == NO_TEXT
    assert NO_TEXT.encode() in bytes_of(one, form)


@pytest.mark.parametrize(
    "given", [{"study_uid": ""}, {"instance_uid": "1.02"}, {"series_uid": "1." * 40 + "1"}, {"class_uid": "1.2\u0662"}]
)
def test_images_without_valid_identifiers_are_refused(given: dict[str, Any]) -> None:
    (name,) = given
    words = f"image x has no valid {name.replace('_uid', '')} UID"
    with pytest.raises(InputError, match=words):
        images_to_send([Path("x")], [dataclasses.replace(header(), **given)], field="format", value="sr")


@pytest.mark.parametrize("form", FORMS)
def test_identifiers_that_break_the_standards_limits_are_passed_on_as_they_came(form: str) -> None:
    odd = header()
    odd = dataclasses.replace(odd, study_id="x" * 40, patient_id="P" * 80, name="Ü" * 70, accession="a\tb" * 9, sex="")
    data = bytes_of(draft_of("Clear.", [odd], "tiny", "ab", NOW), form)
    assert b"P" * 80 in data


@pytest.fixture
def films(tmp_path: Path) -> list[str]:
    paths = [tmp_path / "front.dcm", tmp_path / "side.dcm"]
    paths[0].write_bytes(data_of(film()))
    paths[1].write_bytes(data_of(film(**SIDE)))
    return [str(path) for path in paths]


Run = Callable[[list[str]], Outcome]


@pytest.mark.parametrize("form", FORMS)
def test_generate_writes_each_form_whole_and_names_no_patient_in_its_log(
    form: str, films: list[str], tiny_checkpoint: Path, tmp_path: Path, run_cli: Run
) -> None:
    out = tmp_path / "out" / "report"
    done = run_cli(["generate", *films, "--model", str(tiny_checkpoint), "--format", form, "--output", str(out)])
    assert (done.code, done.stdout) == (0, ""), done.stderr
    assert NOTICE in done.stderr
    assert not [word for word in ("Muster", "P-1", "19500102", "A 77") if word in done.stderr]
    assert NOTICE.encode() in out.read_bytes()
    assert [path.name for path in out.parent.iterdir()] == ["report"]


@pytest.mark.parametrize("form", FORMS)
def test_generate_puts_what_the_film_shows_into_each_form(
    form: str, films: list[str], tiny_checkpoint: Path, tmp_path: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Reporter, "judged", lambda self, report, facts=(): dataclasses.replace(WITH_FINDINGS, id=report.id)
    )
    out = tmp_path / "report"
    done = run_cli(["generate", *films, "--model", str(tiny_checkpoint), "--format", form, "--output", str(out)])
    assert done.code == 0, done.stderr
    data = out.read_bytes().replace(b"\\", b"")
    assert b"train-17" not in data, "another patient's study stands in no document"
    for words in ("Pleural Effusion", "likely", "[needs review] No pleural effusion", LEFT_OUT, REASON):
        assert words.lower().encode() in data.lower(), words


@pytest.mark.parametrize("form", OBJECT_FORMS)
def test_what_listen_sends_has_what_the_film_shows(form: str) -> None:
    made = document_of(WITH_FINDINGS, [header()], "tiny", "ab" * 32, form)
    data = made.data.replace(b"\\", b"")
    for words in ("Pleural Effusion", "likely", "[needs review] No pleural effusion", LEFT_OUT, REASON):
        assert words.lower().encode() in data.lower(), words
    plain = dataclasses.replace(WITH_FINDINGS, findings=(), review=())
    assert document_of(plain, [header()], "tiny", "ab" * 32, form).uid != made.uid


def test_generate_twice_gives_the_same_uid_and_the_text_that_it_prints(
    films: list[str], tiny_checkpoint: Path, tmp_path: Path, run_cli: Run
) -> None:
    words = ["generate", *films, "--model", str(tiny_checkpoint)]
    for name in ("a", "b"):
        assert run_cli([*words, "--format", "sr", "--output", str(tmp_path / name)]).code == 0
    first, second = (dcmread(tmp_path / name) for name in ("a", "b"))
    assert first.SOPInstanceUID == second.SOPInstanceUID
    printed = run_cli(words).stdout
    (text,) = [one.TextValue for one in items(first) if one.ValueType == "TEXT" and "121071" in str(one)]
    assert text == (" ".join(printed.split()) or NO_TEXT)


def test_generate_prints_text_forms_and_writes_text_and_json_to_a_file(
    films: list[str], tiny_checkpoint: Path, tmp_path: Path, run_cli: Run
) -> None:
    words = ["generate", *films, "--model", str(tiny_checkpoint)]
    assert json.loads(run_cli([*words, "--format", "fhir"]).stdout)["type"] == "transaction"
    assert run_cli([*words, "--format", "hl7"]).stdout.startswith("MSH|")
    assert run_cli([*words, "--output", str(tmp_path / "t.txt")]).stdout == ""
    assert (tmp_path / "t.txt").read_text().startswith(NOTICE)
    assert run_cli([*words, "--format", "json", "--output", str(tmp_path / "t.json")]).code == 0
    assert json.loads((tmp_path / "t.json").read_text())["notice"] == NOTICE


def test_what_cannot_be_delivered_is_refused_before_a_model_is_loaded(
    films: list[str], tiny_set: TinySet, tmp_path: Path, without_weights: Path, run_cli: Run
) -> None:
    png = str(tiny_set.base_dir / "train0_0.png")
    (tmp_path / "nobody").write_bytes(data_of(film(PatientID=None)))
    cases = {
        "--format sr: is no text, name a file with --output": [*films, "--format", "sr"],
        "--format fhir: needs DICOM images": [png, "--format", "fhir"],
        "is a directory, must be a file": [*films, "--output", str(tmp_path)],
        "--output": [*films, "--output", f"{films[0]}/x"],
        "leave out --offload_folder": [*films, "--format", "hl7", "--device_map", "auto", "--offload_folder", "x"],
        "a message needs a patient": [str(tmp_path / "nobody"), "--format", "hl7"],
    }
    for said, words in cases.items():
        done = run_cli(["generate", *words, "--model", str(without_weights)])
        assert done.code == 2
        assert said in done.stderr
        assert "without-weights" not in done.stderr
