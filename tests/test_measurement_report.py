"""A draft as a measurement report of TID 1500: coded findings, regions on films, its writer, as readers see it."""

import dataclasses
import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom import sr
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from starlette.testclient import TestClient

from conftest import Outcome
from dicom_files import DX, ROOT, data_of, film, verified
from edge_parts import checkpoint_with_head
from film_parts import FINDINGS
from r2gengpt.clinical.archive.run import document_of
from r2gengpt.clinical.documents.codes import OBSERVATIONS, VERDICTS, probability_of
from r2gengpt.clinical.documents.draft import Draft
from r2gengpt.clinical.documents.forms import bytes_of
from r2gengpt.confidence.maps import EVIDENCE, NO_EVIDENCE, Evidence, SentenceEvidence
from r2gengpt.films.regions import Region
from r2gengpt.films.sources import study_of
from r2gengpt.locate import ModelChoice
from r2gengpt.report import Report
from r2gengpt.reporter import Reporter
from r2gengpt.text.observations import ALL_OBSERVATIONS
from r2gengpt.text.written import NOTICE
from serving_parts import client_of, upload
from test_clinical_forms import SIDE, draft, header, with_film

FORM = "measurement-sr"
OUTLINE = ((2, 3), (9, 3), (9, 8), (2, 8), (2, 3))
EFFUSION = Region("There is pleural effusion.", "Pleural Effusion", 0, OUTLINE)
OTHER = dataclasses.replace(EFFUSION, view=1)
UNNAMED = Region("The heart is large.", "", 1, OUTLINE)
Run = Callable[[list[str]], Outcome]


def with_regions(*regions: Region, **more: Any) -> Draft:
    return dataclasses.replace(with_film(**more), regions=regions)


def content(one: Draft) -> sr.MeasurementReport:
    """As highdicom reads it."""
    read = sr.srread(io.BytesIO(bytes_of(one, FORM)))
    assert isinstance(read, sr.ComprehensiveSR)
    assert isinstance(read.content, sr.MeasurementReport)
    return read.content


def label(group: Any) -> str:
    return str(group.tracking_identifier)


def evaluations(one: Draft) -> list[Dataset]:
    """The items of the container of qualitative evaluations."""
    last = dcmread(io.BytesIO(bytes_of(one, FORM))).ContentSequence[-1]
    assert last.ConceptNameCodeSequence[0].CodeMeaning == "Qualitative Evaluations"
    return list(last.ContentSequence)


def meaning(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


def test_every_assessed_observation_is_coded_with_its_verdict_its_probability_and_its_films() -> None:
    found = {meaning(one): one for one in evaluations(with_film()) if one.ValueType == "CODE"}
    assert {name: one.ConceptCodeSequence[0].CodeValue for name, one in found.items()} == {
        "Lung Opacity": "LIKELY", "Pleural effusion": "LIKELY", "Pulmonary edema": "POSSIBLE",
        "Cardiomegaly": "UNLIKELY",
    }  # fmt: skip
    effusion = found["Pleural effusion"]
    assert effusion.ConceptNameCodeSequence[0].CodeValue == codes.SCT.PleuralEffusion.value
    probability, *films = effusion.ContentSequence
    assert (probability.RelationshipType, meaning(probability)) == ("HAS PROPERTIES", "Probability")
    (value,) = probability.MeasuredValueSequence
    assert (value.NumericValue, value.MeasurementUnitsCodeSequence[0].CodeValue) == (0.9142, "1")
    bounds = {meaning(one)[0]: float(one.MeasuredValueSequence[0].NumericValue) for one in probability.ContentSequence}
    assert bounds == {"+": 0.0358, "-": 0.0642}
    assert {one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for one in films} == {f"{ROOT}3", f"{ROOT}4"}
    assert {one.RelationshipType for one in films} == {"INFERRED FROM"}


def test_what_is_unlikely_is_no_finding_even_with_a_region() -> None:
    """A reader that looks at measurement groups alone must not take it for one that is there."""
    heart = Region("The heart is large.", "Cardiomegaly", 0, OUTLINE)
    (only,) = content(with_regions(EFFUSION, heart)).get_planar_roi_measurement_groups()
    assert label(only) == "Pleural Effusion: likely"


def test_what_was_not_assessed_is_no_observation_and_stands_in_a_comment() -> None:
    found = evaluations(with_film())
    texts = [one.TextValue for one in found if one.ValueType == "TEXT"]
    assert NOTICE in texts[0]
    assert "Not assessed: Fracture" in texts
    assert "Fracture" not in [meaning(one) for one in found]


def test_every_observation_and_verdict_has_a_code_of_its_own() -> None:
    every = [*OBSERVATIONS.values(), *VERDICTS.values(), *map(probability_of, ALL_OBSERVATIONS)]
    assert set(OBSERVATIONS) == set(ALL_OBSERVATIONS)
    assert len({(one.scheme, one.value) for one in every}) == len(every)
    assert max(len(one.value) for one in every) <= 16, "a Code Value (SH) has no more"
    assert max(len(one.meaning) for one in every) < 64, "a Code Meaning (LO) has no more, and none is cut"


def test_an_evidence_region_is_a_closed_polyline_on_its_film() -> None:
    report = content(with_regions(EFFUSION, OTHER, UNNAMED))
    found = {label(one): one for one in report.get_planar_roi_measurement_groups()}
    assert list(found) == [
        "Pleural Effusion: likely", "Pleural Effusion, region 2: likely", "The heart is large.",
    ]  # fmt: skip
    for group, film_uid in zip(found.values(), (f"{ROOT}3", f"{ROOT}4", f"{ROOT}4"), strict=True):
        assert group.roi.graphic_type == sr.GraphicTypeValues.POLYLINE
        assert np.array_equal(group.roi.value, np.array(OUTLINE))
        assert group.roi.ContentSequence[0].referenced_sop_instance_uid == film_uid
    first, second, third = found.values()
    assert first.finding_type == second.finding_type == codes.SCT.PleuralEffusion
    (probability,) = first.get_measurements()
    assert (probability.name.meaning, probability.value, probability.unit) == (
        "AI draft, pleural effusion", 91.42, codes.UCUM.Percent,
    )  # fmt: skip
    (certainty,) = first.get_qualitative_evaluations(codes.DCM.CertaintyOfFinding)
    assert certainty[0].ConceptCodeSequence[0].CodeValue == "LIKELY"
    assert third.get_measurements() == []
    assert third.finding_type.value == "SENTENCE"
    assert len({one.tracking_uid for one in found.values()}) == 3


def test_a_region_of_a_film_of_several_frames_names_its_frame() -> None:
    (group,) = content(with_regions(dataclasses.replace(EFFUSION, frame=7))).get_planar_roi_measurement_groups()
    assert group.roi.ContentSequence[0].referenced_frame_numbers == [7]


def test_without_evidence_there_is_no_region_and_no_measurement_group() -> None:
    """A group without coordinates would be legal, and OHIF 3.13 fails on one."""
    for one in (draft(), with_film()):
        assert b"SCOORD" not in bytes_of(one, FORM)
        assert b"Measurement Group" not in bytes_of(one, FORM)
        assert content(one).get_image_measurement_groups() == []
    assert b"The heart is large" in bytes_of(draft(), FORM)


def test_the_tracking_of_a_finding_is_the_same_in_every_draft_of_a_study() -> None:
    def tracked(one: Draft) -> list[str]:
        return [str(group.tracking_uid) for group in content(one).get_planar_roi_measurement_groups()]

    first = with_regions(EFFUSION, OTHER)
    assert tracked(first) == tracked(dataclasses.replace(first, impression="Other words."))
    assert not set(tracked(first)) & set(tracked(with_regions(EFFUSION, StudyInstanceUID=f"{ROOT}77")))


def test_other_regions_make_another_object_and_the_same_ones_the_same() -> None:
    def instance(*regions: Region) -> str:
        return str(dcmread(io.BytesIO(bytes_of(with_regions(*regions), FORM))).SOPInstanceUID)

    assert instance(EFFUSION) == instance(EFFUSION)
    assert len({instance(), instance(EFFUSION), instance(OTHER)}) == 3
    made = document_of(Report("s", "Clear."), [header()], "tiny", "ab" * 32, FORM, regions=[EFFUSION])
    assert dcmread(io.BytesIO(made.data)).SOPInstanceUID == made.uid


def test_a_film_of_a_class_that_the_standard_does_not_have_is_referred_to_and_has_no_region() -> None:
    odd = dataclasses.replace(header(), class_uid=f"{ROOT}99")
    one = dataclasses.replace(with_regions(EFFUSION), images=(odd,))
    read = dcmread(io.BytesIO(bytes_of(one, FORM)))
    assert content(one).get_planar_roi_measurement_groups() == []
    evidence = read.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert evidence.ReferencedSOPSequence[0].ReferencedSOPClassUID == f"{ROOT}99"


def test_own_and_radlex_codes_name_their_schemes() -> None:
    read = dcmread(io.BytesIO(bytes_of(with_film(), FORM)))
    named = {one.CodingSchemeDesignator for one in read.CodingSchemeIdentificationSequence}
    assert named == {"99R2GENGPT", "RADLEX"}


EVERY = [draft(), with_film(), with_regions(EFFUSION, OTHER, UNNAMED), with_regions(UNNAMED, PatientID=None)]
NAMES = ["text", "film", "regions", "bare"]


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="needs dcmtk")
@pytest.mark.parametrize("one", EVERY, ids=NAMES)
def test_dcmtk_reads_it_without_a_warning(one: Draft, tmp_path: Path) -> None:
    path = tmp_path / "sr.dcm"
    path.write_bytes(bytes_of(one, FORM))
    for command in (["dsrdump", "+Pl", "+Pc", str(path)], ["dsr2html", str(path)]):
        done = subprocess.run(command, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"he heart is large" in done.stdout
        assert command[0] == "dsr2html" or done.stdout.count(b"POLYLINE") == len(one.regions)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dicom3tools")
@pytest.mark.parametrize("one", EVERY[:3], ids=NAMES[:3])
def test_dciodvfy_finds_no_fault(one: Draft, tmp_path: Path) -> None:
    path = tmp_path / "sr.dcm"
    path.write_bytes(bytes_of(one, FORM))
    assert verified(path) == ["ComprehensiveSR"]


# ------------------------------------------------------------------ regions from a model's maps


def films_in(directory: Path) -> list[Path]:
    paths = [directory / "front.dcm", directory / "side.dcm"]
    for path, more in zip(paths, ({}, SIDE), strict=True):
        path.write_bytes(data_of(film(**more)))
    return paths


def marked(verdict: str, views: int, side: int) -> Evidence:
    """Maps of each film whose evidence lies on the last one, in the upper left corner."""
    map_ = np.zeros((views, side, side))
    map_[-1, 0, 0] = 1.0
    sentence = SentenceEvidence("There is edema.", tuple(map_.ravel().tolist()), 1.0, 0.0, verdict, "Edema")
    return Evidence("study", "findings", (side, side), (sentence,))


@pytest.mark.parametrize(("verdict", "count"), [(EVIDENCE, 1), (NO_EVIDENCE, 0)])
def test_a_document_has_regions_where_the_models_own_maps_are_evidence(
    verdict: str, count: int, served: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reporter, "explain", lambda self, report, method=None: marked(verdict, 2, 2))
    report = Report("s", "There is edema.", findings=FINDINGS, study=study_of(films_in(tmp_path)), reporter=served)
    read = sr.srread(io.BytesIO(report.to_measurement_sr()))
    assert isinstance(read.content, sr.MeasurementReport)
    found = read.content.get_planar_roi_measurement_groups()
    assert [label(one) for one in found] == ["Edema: possible"] * count
    for one in found:
        assert one.roi.ContentSequence[0].referenced_sop_instance_uid == f"{ROOT}4"
        assert one.roi.value.tolist() == [[0, 0], [16, 0], [16, 20], [0, 20], [0, 0]]
    assert b"SCOORD" not in report.to_sr()


def test_a_model_without_maps_makes_a_document_without_regions(
    served: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(served.built.model.config), "tokens_per_view", 1)
    report = Report("s", "There is edema.", findings=FINDINGS, study=study_of(films_in(tmp_path)), reporter=served)
    assert b"SCOORD" not in report.to_measurement_sr()


def test_from_films_to_regions_with_a_finding_head(tmp_path: Path) -> None:
    """Of a head of random weights: what it denies has no region, what it calls likely has one on each film."""
    reporter = Reporter.load(ModelChoice(str(checkpoint_with_head(tmp_path / "model", "Llama-2", "vit"))))
    noise = np.random.default_rng(0).integers(0, 4096, (2, 40, 32)).astype(np.uint16)
    paths = [tmp_path / "front.dcm", tmp_path / "side.dcm"]
    for path, pixels, more in zip(paths, noise, ({}, SIDE), strict=True):
        path.write_bytes(data_of(film(pixels, **more)))
    (report,) = reporter.write([study_of(paths)])
    verdicts = {one.name: one.verdict for one in report.findings}
    assert (verdicts["Pneumothorax"], verdicts["Consolidation"]) == ("likely", "unlikely")
    told = dataclasses.replace(report, text="There is pneumothorax. There is consolidation.", sentences=())
    assert [one.verdict for one in reporter.explain(told).sentences] == [EVIDENCE, NO_EVIDENCE]
    regions = reporter.regions(told)
    assert {(one.sentence, one.finding) for one in regions} == {("There is pneumothorax.", "Pneumothorax")}
    assert {one.view for one in regions} == {0, 1}
    assert all(0 <= column <= 32 and 0 <= row <= 40 for one in regions for column, row in one.outline)
    read = sr.srread(io.BytesIO(told.to_measurement_sr()))
    assert isinstance(read.content, sr.MeasurementReport)
    assert len(read.content.get_planar_roi_measurement_groups()) == len(regions)


# ------------------------------------------------------------------ at the server


REPORTS, DOCUMENTS, DICOM = "/v1/reports", "/v1/documents", "application/dicom"


def asked(client: TestClient, path: str, **fields: Any) -> Any:
    files = upload(data_of(film()))
    return client.post(path, files=files, data=fields, headers={"Accept": DICOM})


def template(response: Any) -> str:
    read: Dataset = dcmread(io.BytesIO(response.content))
    return str(read.ContentTemplateSequence[0].TemplateIdentifier)


def test_the_server_gives_the_form_that_the_query_names(served: Reporter) -> None:
    with client_of(served) as (client, _):
        assert template(asked(client, REPORTS)) == "2000"
        assert template(asked(client, f"{REPORTS}?form=measurement-sr")) == "1500"
        assert dcmread(io.BytesIO(asked(client, f"{REPORTS}?form=pdf").content)).Modality == "DOC"
        refused = asked(client, f"{REPORTS}?form=fhir")
    assert refused.status_code == 400
    assert "form: fhir is none of application/dicom: must be one of sr, measurement-sr" in refused.text


def known(**more: Any) -> str:
    region = {"sentence": "There is edema.", "finding": "Edema", "view": 0, "outline": [list(one) for one in OUTLINE]}
    finding = {"name": "Edema", "probability": 0.9, "interval": [0.8, 0.95], "verdict": "likely"}
    return json.dumps({"film_findings": [finding], "regions": [{**region, **more}]})


def test_an_edited_text_keeps_the_regions_of_the_sentences_that_still_stand(served: Reporter) -> None:
    path = f"{DOCUMENTS}?form=measurement-sr"
    with client_of(served) as (client, _):
        kept = asked(client, path, report="There is edema. And more.", known=known())
        gone = asked(client, path, report="No edema.", known=known())
        plain = asked(client, DOCUMENTS, report="There is edema.", known=known())
    assert b"POLYLINE" in kept.content
    assert b"POLYLINE" not in gone.content
    assert (template(gone), template(plain)) == ("1500", "2000")


@pytest.mark.parametrize(
    "more", [{"view": 1}, {"outline": [[0, 0], [33, 0], [33, 9], [0, 0]]}, {"outline": [[0, 0], [1, 1]]}, {"view": -1}]
)
def test_a_region_that_lies_on_no_image_is_refused(more: dict[str, Any], served: Reporter) -> None:
    with client_of(served) as (client, _):
        refused = asked(client, f"{DOCUMENTS}?form=measurement-sr", report="There is edema.", known=known(**more))
    assert refused.status_code == 400
    assert "region" in refused.json()["error"]["message"]


def test_generate_names_the_form_and_its_file_is_read_back(tiny_checkpoint: Path, tmp_path: Path, run_cli: Run) -> None:
    out = tmp_path / "report.dcm"
    words = [*map(str, films_in(tmp_path)), "--model", str(tiny_checkpoint), "--format", FORM]
    assert run_cli(["generate", *words, "--output", str(out)]).code == 0
    read = sr.srread(out)
    assert isinstance(read.content, sr.MeasurementReport)
    assert read.ContributingEquipmentSequence[0].DeviceUID.startswith("2.25.")
    assert {one.class_uid for one in (header(), header(**SIDE))} == {DX}
