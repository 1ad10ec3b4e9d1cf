"""Whose images these are: contradictions are refused at every door, what is not known is noted in every form."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from hl7apy.parser import parse_message
from PIL import Image
from pydicom import dcmread
from starlette.testclient import TestClient

from archive_parts import Clock, Kept, film_data, run_all, spool_in, stand_in, uid
from batch_parts import NoViews, StandIn
from conftest import Outcome, TinySet
from dicom_files import ROOT, data_of, film, ramp, verified
from r2gengpt.batch.folders import studies_below
from r2gengpt.batch.listing import ImageFile, StudyFiles
from r2gengpt.batch.shards import BatchRow, decoded, encoded, json_lines
from r2gengpt.batch.workers import FilmPixels, decode_study, shard_rows
from r2gengpt.clinical.archive.films import TWO_PATIENTS
from r2gengpt.clinical.archive.loop import Loop
from r2gengpt.clinical.archive.web import chest_films
from r2gengpt.data.identity import check_files
from r2gengpt.data.loading import StudyDataset
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.films.containers import DicomChoice
from r2gengpt.films.dicom.header import DicomHeader, read_header
from r2gengpt.films.film import contradiction, note_of
from r2gengpt.films.sources import study_of
from r2gengpt.reporter import Reporter
from r2gengpt.text.written import NOTICE
from serving_parts import client_of, upload
from test_serving_api import CHAT, EVIDENCE, REPORTS
from test_serving_dicom import asked_for

CHECK = "CHECK WHOSE IMAGES THESE ARE: "
NOBODY = f"{CHECK}1 of 2 names no patient, whether all are of one patient is not known"
DIFFER = f"{CHECK}films of one study differ in the patient's"
TWO_NUMBERS = f"{CHECK}films of one study have two accession numbers"
ONE_UID = f"{CHECK}several films that differ have one SOP Instance UID"
SIDE: dict[str, Any] = {"SOPInstanceUID": f"{ROOT}4", "SeriesInstanceUID": f"{ROOT}22", "ViewPosition": "LL"}
CONTRADICTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "are of two patients (their Patient IDs differ)": ({}, {"PatientID": "P-2"}),
    "are of two patients (their Patient IDs have two issuers)": (
        {"IssuerOfPatientID": "A"}, {"IssuerOfPatientID": "B"},
    ),
    "are of two patients (their birth dates differ)": ({}, {"PatientBirthDate": "19500103"}),
    "are of two patients (their names differ, and they have no Patient ID)": (
        {"PatientID": None}, {"PatientID": None, "PatientName": "Muster^Anna"},
    ),
    "are of two studies (their Study Instance UIDs differ)": ({}, {"StudyInstanceUID": f"{ROOT}9"}),
}  # fmt: skip
Run = Callable[[list[str]], Outcome]
SECRETS = ("P-1", "P-2", "1950", "Muster", f"{ROOT}1", f"{ROOT}9")


def header(**more: Any) -> DicomHeader:
    return read_header(data_of(film(**more)), "x")


def front(**more: Any) -> bytes:
    return data_of(film(**more))


def side(**more: Any) -> bytes:
    return data_of(film(ramp()[::-1], **{**SIDE, **more}))


def png() -> bytes:
    out = io.BytesIO()
    Image.fromarray(ramp(bits=8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(params=list(CONTRADICTIONS), ids=["number", "issuer", "birth", "name", "study"])
def pair(request: pytest.FixtureRequest) -> tuple[str, bytes, bytes]:
    """Two films that contradict each other, and in what."""
    first, second = CONTRADICTIONS[request.param]
    return request.param, front(**first), side(**second)


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., list[str]]:
    """Writes films to files; gives their paths."""

    def write(*films: bytes) -> list[str]:
        paths = [tmp_path / f"film{number}" for number in range(len(films))]
        for path, data in zip(paths, films, strict=True):
            path.write_bytes(data)
        return [str(path) for path in paths]

    return write


# ------------------------------------------------------------------ the rule


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"PatientID": None},
        {"PatientID": "P-1 "},
        {"PatientBirthDate": None},
        {"PatientBirthDate": "1950.01.02"},
        {"PatientName": "Another^Spelling"},
        {"IssuerOfPatientID": "A"},
        {"PatientID": None, "IssuerOfPatientID": "B"},
        {"StudyInstanceUID": None},
    ],
)
def test_what_a_film_does_not_say_contradicts_nothing(more: dict[str, Any]) -> None:
    assert contradiction([header(), header(**more)]) is None
    assert contradiction([header(**more), None, header()]) is None


@pytest.mark.parametrize(
    "name", ["MUSTER^ERIKA", "Erika Muster", "Muster^Erika^^Dr.", "Muster^Erika^Maria", "=Muster^Anna", "", None]
)
def test_one_name_written_in_several_ways_contradicts_nothing(name: str | None) -> None:
    assert contradiction([header(PatientID=None), header(PatientID=None, PatientName=name)]) is None


def test_two_accession_numbers_of_one_study_are_told() -> None:
    number = header(AccessionNumber="A-1")
    assert note_of([number, header(AccessionNumber="A-2", SOPInstanceUID=f"{ROOT}4")]) == TWO_NUMBERS
    for other in ("A-1", " A-1 ", None):
        assert note_of([number, header(AccessionNumber=other, SOPInstanceUID=f"{ROOT}4")]) == ""


def test_each_film_is_compared_with_each() -> None:
    nobody = header(PatientID=None)
    found = contradiction([nobody, header(), None, nobody, header(PatientID="P-2")])
    assert found is not None
    assert (found.first, found.second) == (1, 4)
    issuers = [header(), header(IssuerOfPatientID="A"), header(IssuerOfPatientID="B")]
    assert contradiction(issuers) is not None


@pytest.mark.parametrize(
    ("headers", "note"),
    [
        ([header(), header(**SIDE)], ""),
        ([header()], ""),
        ([header(PatientID=None)], ""),
        ([header(PatientID=None), header(PatientID=None)], ""),
        ([None, None], ""),
        ([header(), None], NOBODY),
        ([header(), header(ViewPosition="LL")], ONE_UID),
        ([header(SOPInstanceUID=None), header(SOPInstanceUID=None)], ""),
        ([header(), header(PatientSex="M", **SIDE)], f"{DIFFER} sex"),
        ([header(), header(PatientSex="O"), None], f"{DIFFER} sex"),
        ([header(), header(PatientName="Adam^Anna")], f"{DIFFER} name"),
        ([header(), header(PatientName="Adam^Anna", PatientSex="M")], f"{DIFFER} name and sex"),
        ([header(), header(PatientSex=None, PatientName="MUSTER-ADAM^ERIKA^^Dr.=Adam", **SIDE)], ""),
        ([header(), header(PatientSex="unknown", PatientName="^^^Dr.", **SIDE)], ""),
        ([header(), header(PatientID=None)], NOBODY),
        ([header(PatientID=None), None], NOBODY.replace("1 of 2 names", "2 of 2 name")),
        ([header(), header(StudyInstanceUID=None)], NOBODY.replace("patient", "study")),
        (
            [header(), header(PatientID="P-2")],
            f"{CHECK}they are of two patients (their Patient IDs differ), and one draft of all was asked for",
        ),
    ],
)
def test_the_note_says_what_is_doubtful_and_names_nobody(headers: list[DicomHeader | None], note: str) -> None:
    assert note_of(headers) == note
    assert not [secret for secret in SECRETS if secret in note]


# ------------------------------------------------------------------ a film that is given twice


@pytest.mark.parametrize("make", [front, png])
def test_a_film_that_is_given_twice_counts_once_and_the_log_says_so(
    make: Callable[[], bytes], files: Callable[..., list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    path, copy = files(make(), make())
    pictures = Image.open(io.BytesIO(png())), ramp(bits=8)
    for images in ([path, path], [path, copy], [make(), make()], [Path(path), make(), copy], pictures):
        caplog.clear()
        assert len(study_of(images).films) == 1
        assert caplog.text.count("is the same film as") == len(images) - 1
    caplog.clear()
    assert len(study_of([make(), side()] if make is front else [make(), ramp(bits=8)[::-1]]).films) == 2
    assert not caplog.text


def test_generate_counts_a_film_that_is_given_twice_once(
    files: Callable[..., list[str]], tiny_checkpoint: Path, run_cli_process: Run
) -> None:
    (path,) = files(front())
    done = run_cli_process(
        ["generate", path, path, "--format", "sr", "--output", f"{path}.sr", "--model", str(tiny_checkpoint)]
    )
    assert (done.code, done.stderr.count(f"image {path} is the same film as {path}: it counts once")) == (0, 1)
    (series,) = dcmread(f"{path}.sr").CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert len(series.ReferencedSOPSequence) == 1


def test_films_that_differ_under_one_uid_are_both_read_with_a_note() -> None:
    study = study_of([front(), side(SOPInstanceUID=header().instance_uid)])
    assert (len(study.films), study.note) == (2, ONE_UID)


def test_serve_refuses_a_film_that_comes_twice(client: TestClient) -> None:
    for one in (front(), png()):
        refused = asked_for(client, one, one)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "images[1]")
        assert "image images[1]: is the same film as images[0]: give each once" in refused.text
        assert chat(client, one, one).json()["error"]["param"] == "messages.0.content.1"
        assert asked_for(client, one, one, path=EVIDENCE, report="Clear.").status_code == 400
    assert asked_for(client, front(), side(SOPInstanceUID=header().instance_uid)).json()["note"] == ONE_UID


# ------------------------------------------------------------------ generate


def test_generate_refuses_contradictions_before_a_model_is_loaded_unless_asked(
    pair: tuple[str, bytes, bytes],
    files: Callable[..., list[str]],
    tiny_checkpoint: Path,
    without_weights: Path,
    run_cli: Run,
) -> None:
    why, *films = pair
    paths = files(*films)
    refused = run_cli(["generate", *paths, "--model", str(without_weights)])
    assert refused.code == 2
    assert (
        f"images {paths[0]} and {paths[1]} {why}: give the views of ONE study (--mixed_patients True" in refused.stderr
    )
    assert not [secret for secret in SECRETS if secret in refused.stderr]
    done = run_cli(["generate", *paths, "--model", str(tiny_checkpoint), "--mixed_patients", "True"])
    assert done.code == 0, done.stderr
    assert done.stdout.startswith(f"{CHECK}they {why}")


@pytest.mark.parametrize("other", [png(), side(PatientID=None)], ids=["png", "nobody"])
def test_generate_notes_an_unknown_patient_in_text_stream_json_and_evidence(
    other: bytes, files: Callable[..., list[str]], tiny_checkpoint: Path, tmp_path: Path, run_cli: Run
) -> None:
    words = ["generate", *files(front(), other), "--model", str(tiny_checkpoint)]
    plain = run_cli(words)
    assert plain.stdout.startswith(f"{NOBODY}\n\n")
    assert run_cli([*words, "--stream"]).stdout.startswith(f"{NOBODY}\n\n")
    assert run_cli([*words, "--output", str(tmp_path / "t")]).code == 0
    assert (tmp_path / "t").read_text().startswith(f"{NOTICE}\n{NOBODY}\n\n")
    found = json.loads(run_cli([*words, "--format", "json", "--evidence", str(tmp_path / "maps")]).stdout)
    assert found["note"] == NOBODY
    assert json.loads((tmp_path / "maps" / "evidence.json").read_text())["note"] == NOBODY


def test_generate_says_nothing_of_films_that_agree(
    files: Callable[..., list[str]], tiny_checkpoint: Path, run_cli: Run
) -> None:
    words = ["generate", *files(front(), side()), "--model", str(tiny_checkpoint)]
    assert CHECK not in run_cli(words).stdout
    assert "note" not in json.loads(run_cli([*words, "--format", "json"]).stdout)


@pytest.mark.parametrize("nobody_first", [False, True])
def test_the_forms_of_archives_name_the_patient_that_one_film_names_and_carry_the_note(
    nobody_first: bool, files: Callable[..., list[str]], tiny_checkpoint: Path, tmp_path: Path, run_cli: Run
) -> None:
    paths = files(front(), side(PatientID=None, PatientName=None))
    words = ["generate", *paths[:: -1 if nobody_first else 1], "--model", str(tiny_checkpoint)]
    for form in ("fhir", "hl7", "sr", "pdf"):
        assert run_cli([*words, "--format", form, "--output", str(tmp_path / form)]).code == 0
    made = Bundle.model_validate_json((tmp_path / "fhir").read_bytes())
    (report,) = [one.resource for one in made.entry if one.resource.get_resource_type() == "DiagnosticReport"]
    assert report.subject.identifier.value == "P-1"
    assert (NOBODY in report.conclusion, NOBODY in report.text.div) == (True, True)
    (study,) = [one.resource for one in made.entry if one.resource.get_resource_type() == "ImagingStudy"]
    assert study.note[0].text == NOBODY
    message = (tmp_path / "hl7").read_bytes().decode()
    assert parse_message(message, find_groups=True).validate()
    assert "|P-1|" in message
    assert [line.split("|")[0] for line in message.split("\r") if NOBODY in line] == ["NTE", "OBX"]
    sr, pdf = (dcmread(tmp_path / form) for form in ("sr", "pdf"))
    assert (sr.PatientID, pdf.PatientID) == ("P-1", "P-1")
    assert NOBODY in sr.to_json()
    assert CHECK.encode() in pdf.EncapsulatedDocument


def test_a_mixture_that_was_asked_for_keeps_its_studies_apart_in_the_forms(
    files: Callable[..., list[str]], tiny_checkpoint: Path, tmp_path: Path, run_cli: Run
) -> None:
    films = front(), side(StudyInstanceUID=f"{ROOT}9", PatientID="P-2"), front(SOPInstanceUID=f"{ROOT}5")
    words = ["generate", *files(*films), "--mixed-patients", "--model", str(tiny_checkpoint)]
    for form in ("fhir", "sr"):
        assert run_cli([*words, "--format", form, "--output", str(tmp_path / form)]).code == 0
    sr = dcmread(tmp_path / "sr")
    evidence = sr.CurrentRequestedProcedureEvidenceSequence
    assert [one.StudyInstanceUID for one in evidence] == [f"{ROOT}1", f"{ROOT}9"]
    if shutil.which("dciodvfy") is not None:
        assert verified(tmp_path / "sr") == ["BasicTextSR"]
    entries = Bundle.model_validate_json((tmp_path / "fhir").read_bytes()).entry
    studies = [one.resource for one in entries if one.resource.get_resource_type() == "ImagingStudy"]
    assert [one.numberOfInstances for one in studies] == [2, 1]
    assert [one.subject.identifier.value for one in studies] == ["P-1", "P-2"]
    assert "two patients" in sr.to_json()


def test_the_flag_belongs_to_dicom(files: Callable[..., list[str]], run_cli: Run) -> None:
    done = run_cli(["generate", *files(png()), "--mixed_patients", "True"])
    assert (done.code, "--mixed_patients True: belongs to DICOM" in done.stderr) == (2, True)


# ------------------------------------------------------------------ serve


@pytest.fixture(scope="module")
def client(served: Reporter) -> Iterator[TestClient]:
    with client_of(served) as (client, _):
        yield client


def chat(client: TestClient, *films: bytes, **more: Any) -> Any:
    import base64

    kinds = ["png" if data.startswith(b"\x89PNG") else "dicom" for data in films]
    urls = [
        f"data:{'image/png' if kind == 'png' else 'application/dicom'};base64,{base64.b64encode(data).decode()}"
        for kind, data in zip(kinds, films, strict=True)
    ]
    content = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return client.post(CHAT, json={"model": "best", "messages": [{"role": "user", "content": content}], **more})


def test_serve_refuses_contradictions_in_forms_and_chats_unless_asked(
    client: TestClient, pair: tuple[str, bytes, bytes]
) -> None:
    why, *films = pair
    for refused in (asked_for(client, *films), chat(client, *films), asked_for(client, *films, mixed_patients="false")):
        said = refused.json()["error"]["message"]
        assert (refused.status_code, f"{why}: give the views of ONE study" in said) == (400, True), said
        assert "--" not in said
        assert not [secret for secret in SECRETS if secret in said]
    for given in (asked_for(client, *films, mixed_patients="true"), chat(client, *films, mixed_patients=True)):
        assert given.status_code == 200
        assert given.json()["note"].startswith(f"{CHECK}they {why}")
    assert asked_for(client, *films, mixed_patients="maybe").status_code == 400
    assert chat(client, *films, mixed_patients="yes").status_code == 400


@pytest.mark.parametrize("other", [png(), side(PatientID=None)], ids=["png", "nobody"])
def test_serve_notes_an_unknown_patient_in_every_form(client: TestClient, other: bytes) -> None:
    films = front(), other
    assert asked_for(client, *films).json()["note"] == NOBODY
    assert asked_for(client, *films, kind="text/plain").text.startswith(f"{NOTICE}\n{NOBODY}\n\n")
    assert CHECK.encode() in asked_for(client, *films, kind="application/pdf").content
    assert asked_for(client, *films, path=EVIDENCE, report="Clear.").json()["note"] == NOBODY
    events = [line[6:] for line in asked_for(client, *films, kind="text/event-stream").text.split("\n\n") if line]
    assert json.loads(events[0]) == {"delta": "", "note": NOBODY}
    assert json.loads(events[-2])["note"] == NOBODY
    whole = chat(client, *films).json()
    assert (whole["note"], whole["choices"][0]["message"]["content"][: len(NOBODY)]) == (NOBODY, NOBODY)
    chunks = [json.loads(line[6:]) for line in chat(client, *films, stream=True).text.split("\n\n") if "{" in line]
    text = "".join(one["choices"][0]["delta"].get("content", "") for one in chunks if one["choices"])
    assert text.startswith(f"{NOBODY}\n\n")
    assert {one["note"] for one in chunks} == {NOBODY}


def test_serve_notes_an_unknown_patient_in_the_forms_of_archives(client: TestClient) -> None:
    films = side(PatientID=None), front()
    bundle = asked_for(client, *films, kind="application/fhir+json")
    assert NOBODY in bundle.text
    assert Bundle.model_validate_json(bundle.content)
    sr = dcmread(io.BytesIO(asked_for(client, *films, kind="application/dicom").content))
    assert (sr.PatientID, NOBODY in sr.to_json()) == ("P-1", True)


def test_serve_says_nothing_of_films_that_agree_or_name_nobody(client: TestClient) -> None:
    for films in ((front(), side()), (png(), png()), (front(PatientID=None), side(PatientID=None))):
        assert "note" not in asked_for(client, *films).json()
        assert CHECK not in asked_for(client, *films, kind="text/event-stream").text
        assert CHECK not in chat(client, *films).text
    assert "mixed_patients" in json.dumps(client.get("/openapi.json").json()["paths"][REPORTS])
    assert client.post(REPORTS, files=upload(png()), data={"mixed_patients": ""}).status_code == 200


# ------------------------------------------------------------------ batch


def row_of(folder: Path, films: tuple[bytes, ...], choice: DicomChoice | None = None) -> dict[str, Any]:
    """The row of one study, by pixels that are read as `batch` reads them; the model is a stand-in."""
    names = [f"{number}" for number in range(len(films))]
    for name, data in zip(names, films, strict=True):
        (folder / name).write_bytes(data)
    study = StudyFiles("s", tuple(ImageFile(name, 1, 1) for name in names))
    made = decode_study(folder, study, FilmPixels(NoViews(), choice or DicomChoice()))
    (row,) = shard_rows(StandIn(), [made], 0)
    return row.to_json()


def test_a_bulk_runs_row_of_contradicting_films_is_an_error_unless_asked(
    pair: tuple[str, bytes, bytes], tmp_path: Path
) -> None:
    why, *films = pair
    failed = row_of(tmp_path, tuple(films))
    assert (failed["report"], failed["error"]["kind"]) == (None, "image")
    assert f"images 0 and 1 {why}" in failed["error"]["message"]
    asked = row_of(tmp_path, tuple(films), DicomChoice(mixed_patients=True))
    assert (asked["error"], asked["note"].startswith(CHECK)) == (None, True)


def test_a_bulk_runs_row_notes_an_unknown_patient(tmp_path: Path) -> None:
    assert row_of(tmp_path, (front(), png()))["note"] == NOBODY
    assert row_of(tmp_path, (front(), side(PatientID=None)))["note"] == NOBODY
    assert row_of(tmp_path, (front(), side()))["note"] is None


def test_the_note_stands_in_both_formats_of_a_bulk_run() -> None:
    lines = json_lines([BatchRow("a", None, (), {}, note=NOBODY), BatchRow("b", None, (), {})])
    for form in ("jsonl", "parquet"):
        assert [row["note"] for row in decoded(encoded(lines, form), form)] == [NOBODY, None]


def test_a_dicom_tree_does_not_hide_a_second_patient_in_a_study(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(front())
    (tmp_path / "b").write_bytes(side(PatientID="P-2"))
    assert studies_below(tmp_path, []) == {(f"{ROOT}1", "DICOM"): ["a", "b"]}
    assert row_of(tmp_path, (front(), side(PatientID="P-2")))["error"] is not None


# ------------------------------------------------------------------ listen, dicomweb


@pytest.mark.parametrize(
    "more", [{"PatientID": "P-9"}, {"PatientBirthDate": "19600101"}, {"PatientID": "P-0", "IssuerOfPatientID": "B"}]
)
def test_listen_puts_a_study_of_two_patients_aside_unless_asked(more: dict[str, Any], tmp_path: Path) -> None:
    for mixed in (False, True):
        peer, clock = Kept(), Clock()
        with spool_in(tmp_path / str(mixed), clock=clock) as spool:
            spool.add(film_data(0, 1, IssuerOfPatientID="A"))
            spool.add(film_data(0, 2, **more))
            run_all(Loop(spool, stand_in, peer, 0.0, 8, mixed=mixed))
            (study,) = spool.ledger.studies()
            assert (study.state, study.reason) == (("sent", "") if mixed else ("aside", TWO_PATIENTS))
        assert [CHECK in report.to_json() for report in peer.reports] == [True] * mixed


def test_listen_reports_a_study_with_a_film_of_nobody_and_says_so(tmp_path: Path) -> None:
    peer = Kept()
    with spool_in(tmp_path) as spool:
        spool.add(film_data(0, 1, PatientID=None))
        spool.add(film_data(0, 2))
        run_all(Loop(spool, stand_in, peer, 0.0, 8))
    (report,) = peer.reports
    assert (report.PatientID, NOBODY in report.to_json()) == ("P-0", True)


def test_dicomweb_refuses_a_study_of_two_patients_unless_asked() -> None:
    films = [film_data(0), film_data(0, 2, PatientBirthDate="19600101")]
    with pytest.raises(InputError, match=rf"study {uid(0)}: {TWO_PATIENTS} \(mixed_patients True"):
        chest_films(films, uid(0), 8)
    assert len(chest_films(films, uid(0), 8, mixed=True)) == 2


# ------------------------------------------------------------------ train, test


def test_a_study_of_contradicting_films_is_no_example_unless_asked(
    pair: tuple[str, bytes, bytes], files: Callable[..., list[str]], served: Reporter
) -> None:
    why, *films = pair
    study = Study("s", tuple(map(Path, files(*films))), "Clear lungs.")
    with pytest.raises(InputError, match=r"give the views of ONE study \(mixed_patients True") as raised:
        StudyDataset([study], served.built.processor, "plain")[(0, 0)]
    assert why in str(raised.value)
    asked = replace(study, dicom=DicomChoice(mixed_patients=True))
    assert StudyDataset([asked], served.built.processor, "plain")[(0, 0)].views == 2
    with pytest.raises(InputError):
        check_files(study)


def test_a_missing_film_is_named_as_ever(tmp_path: Path, served: Reporter) -> None:
    study = Study("s", (tmp_path / "a", tmp_path), "Clear lungs.")
    with pytest.raises(InputError, match="a: No such file"):
        StudyDataset([study], served.built.processor, "plain")[(0, 0)]


def test_test_refuses_contradicting_films_with_and_without_a_feature_cache(
    tiny_set: TinySet, tiny_checkpoint: Path, tmp_path: Path, run_cli: Run
) -> None:
    for name, data in (("a.dcm", front()), ("b.dcm", side(PatientID="P-2"))):
        (tmp_path / name).write_bytes(data)
    record = {"id": "x", "report": "Clear lungs.", "image_path": ["a.dcm", "b.dcm"], "split": "test"}
    annotation = tmp_path / "annotation.json"
    annotation.write_text(json.dumps({split: [{**record, "id": split}] for split in ("train", "val", "test")}))
    words = ["test", "--delta_file", str(tiny_checkpoint), "--annotation", str(annotation), "--base_dir", str(tmp_path),
             "--dataset", "plain"]  # fmt: skip
    for more in ([], ["--feature_cache", str(tmp_path / "cache")]):
        done = run_cli([*words, *more, "--output", str(tmp_path / "out")])
        assert (done.code, "are of two patients" in done.stderr) == (2, True), done.stderr
    asked = [*words, "--mixed_patients", "True", "--output", str(tmp_path / "asked")]
    assert run_cli(asked).code == 0
