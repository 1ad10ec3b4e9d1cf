"""The patient's study before, from an archive: which one, its films and report, by each protocol, whatever fails."""

import dataclasses
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from archive_parts import (
    MISSING,
    PLUGIN,
    Orthanc,
    content_text,
    film_data,
    free_port,
    orthanc,
    study_film,
    study_report,
    uid,
)
from dicom_files import data_of as file_of
from r2gengpt.clinical.archive.earlier import Candidate, EarlierStudies, EarlierStudy, StudyObjects, earlier_than
from r2gengpt.clinical.archive.earlier_web import WebArchive
from r2gengpt.clinical.archive.films import identified
from r2gengpt.clinical.archive.retrieve import TAKEN, DimseArchive, MoveTo, Taken
from r2gengpt.clinical.archive.run import earlier_of, writer
from r2gengpt.clinical.archive.web import connect
from r2gengpt.clinical.documents.dicom_objects import item
from r2gengpt.config import PRIOR
from r2gengpt.errors import InputError, RunError
from r2gengpt.films.context import since
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.report import Report
from r2gengpt.settings import ListenConfig, PriorConfig
from r2gengpt.text.context import Context
from stow_answers import answer, stow_server

pytestmark = pytest.mark.filterwarnings(  # pynetdicom drops sockets whose peer is not there without closing them
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)
FOUND = {
    "0020000D": {"vr": "UI", "Value": [uid(3)]},
    "00100020": {"vr": "LO", "Value": ["P-1"]},
    "00080020": {"vr": "DA", "Value": ["20260101"]},
}
LISTED = {"00080060": {"vr": "CS", "Value": ["SR"]}, "0020000E": {"vr": "UI", "Value": [uid(3, 101)]}}
"""A study and a series as a DICOMweb server lists them."""
NOW = identified(film_data(1, PatientID="P-1", StudyDate="20260301", StudyTime="100000"))
MEBIBYTE = 2**20


def before(study: int, date: str, number: int = 1, **more: Any) -> Dataset:
    return study_film(study, number, PatientID="P-1", StudyDate=date, StudyTime="090000", **more)


FINDINGS = ("121071", "DCM", "Finding")
REPORT = study_report(3, [content_text(FINDINGS, "Small effusion.")], PatientID="P-1", StudyDate="20260101")
STUDIES = {
    uid(2): [before(2, "20250101")],
    uid(3): [before(3, "20260101"), before(3, "20260101", 2), REPORT],
    uid(4): [before(4, "20260201", Modality="CT")],
    uid(5): [before(5, "20260401")],
}


def candidate(study: int, date: str, time: str = "090000", **more: Any) -> Candidate:
    return Candidate(uid(study), date, time, "P-1", **more)


def test_the_newest_earlier_study_of_the_patient_with_films_comes_first() -> None:
    found = earlier_than(
        NOW,
        [
            candidate(2, "20250101"),
            candidate(3, "20260101", modalities=("DX", "SR")),
            candidate(4, "20260201", modalities=("CT",)),
            candidate(5, "20260401"),
            candidate(6, "20260301", "100001"),
            candidate(7, "20260301", "0959"),
            candidate(8, ""),
            candidate(11, NOW.study_date, ""),
            Candidate(NOW.study_uid, "20260101", "", "P-1"),
            Candidate(uid(9), "20260201", "", "P-10"),
            candidate(10, "20260201", issuer="elsewhere"),
        ],
    )
    assert [one.uid for one in found] == [uid(7), uid(10), uid(3), uid(2)]


@pytest.mark.parametrize("day", ["", "00000000", "00010101", "20250101-20260101", "2025"])
def test_a_study_without_a_day_of_the_calendar_is_no_earlier_one(day: str) -> None:
    with disable_value_validation():
        answer = item(StudyInstanceUID=uid(2), StudyDate=day, PatientID="P-1")
    assert earlier_than(NOW, [Candidate.of(answer)]) == []


class Shelf:
    """An archive in this process."""

    name = "shelf"

    def __init__(self, studies: list[Candidate], films: dict[str, list[bytes]], fault: Exception | None = None) -> None:
        self.given, self.kept, self.fault = studies, films, fault
        self.asked: list[str] = []

    def studies(self, header: DicomHeader) -> list[Candidate]:
        if self.fault is not None:
            raise self.fault
        return self.given

    def objects(self, study: str) -> StudyObjects:
        self.asked.append(study)
        reports = [file_of(REPORT)] if study == uid(3) else []
        return StudyObjects(self.kept.get(study, []), reports)


def data_of(study: int, date: str, **more: Any) -> bytes:
    return film_data(study, PatientID="P-1", StudyDate=date, **more)


def test_a_study_without_chest_films_gives_way_to_the_one_before() -> None:
    hand = data_of(3, "20260101", BodyPartExamined="HAND")
    shelf = Shelf(
        [candidate(2, "20250101"), candidate(3, "20260101")], {uid(3): [hand], uid(2): [data_of(2, "20250101")]}
    )
    before = EarlierStudies(shelf, 8).of([NOW])
    assert [one.study_uid for _, one in before.films] == [uid(2)]
    assert before.report == ""
    assert shelf.asked == [uid(3), uid(2)]


@pytest.mark.parametrize(
    "film",
    [
        data_of(3, "20260101") + b"",
        film_data(3, PatientID="P-2", StudyDate="20260101"),
        data_of(9, "20260101"),
        b"DICM",
    ],
)
def test_films_of_another_patient_or_study_are_never_used(film: bytes) -> None:
    found = EarlierStudies(Shelf([candidate(3, "20260101")], {uid(3): [film]}), 8).of([NOW])
    is_usable = film == data_of(3, "20260101")
    assert [one.study_uid for _, one in found.films] == ([uid(3)] if is_usable else [])
    assert found.report == ("Small effusion." if is_usable else "")


@pytest.mark.parametrize(
    ("now", "earlier"),
    [
        ({"birth_date": "19500101"}, {"PatientBirthDate": "19510101"}),
        ({"issuer": "A"}, {"IssuerOfPatientID": "B"}),
        ({"patient_id": "P-2"}, {}),
        ({}, {"StudyDate": "18581117"}),
    ],
    ids=["birth date", "issuer", "mixed patients", "no real date"],
)
def test_an_earlier_study_that_contradicts_any_film_of_the_study_holds_no_report_up(
    now: dict[str, Any], earlier: dict[str, Any]
) -> None:
    first = dataclasses.replace(NOW, birth_date="", issuer="")
    headers = [first, dataclasses.replace(first, instance_uid=f"{NOW.instance_uid}.2", **now)]
    told: dict[str, Any] = {"StudyDate": "20260101", "PatientBirthDate": "", **earlier}
    shelf = Shelf([candidate(3, told["StudyDate"])], {uid(3): [film_data(3, PatientID="P-1", **told)]})
    found = EarlierStudies(shelf, 8).of(headers)
    assert len(found.films) == (not now)
    assert since(Context(), headers, [header for _, header in found.films]).prior_days is None


@pytest.mark.parametrize("number", ["", "P*", "P?1", "P\\1"])
def test_a_number_that_would_ask_for_other_patients_is_not_asked_for(number: str) -> None:
    shelf = Shelf([candidate(3, "20260101")], {}, RuntimeError("asked"))
    header = identified(film_data(1, StudyDate="20260301"))
    assert EarlierStudies(shelf, 8).of([DicomHeader(**{**vars(header), "patient_id": number})]) == EarlierStudy()


@pytest.mark.parametrize("fault", [RunError("gone"), InputError("refuses"), ValueError("P-1 Muster^Erika")])
def test_a_fault_of_the_archive_leaves_the_report_without_and_no_name_in_the_log(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert EarlierStudies(Shelf([], {}, fault), 8).of([NOW]) == EarlierStudy()
    assert "written without" in caplog.text
    assert "Muster" not in caplog.text


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ({}, "has no such study, or is no DICOMweb service (404)"),
        ({"/studies": [FOUND]}, "has no such study, or is no DICOMweb service (404)"),
        ({"/studies": [FOUND], "/series": []}, "has no such study"),
        ({"/studies": [FOUND], "/series": [LISTED]}, "has no CR, DX, DR images, only SR"),
    ],
    ids=["no studies", "no series", "an empty study", "no films"],
)
def test_the_log_of_an_earlier_study_that_cannot_be_had_names_no_study(
    lists: dict[str, list[Any]], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    def find(path: str) -> bytes:
        found = next((one for end, one in lists.items() if path.partition("?")[0].endswith(end)), None)
        return answer(404) if found is None else answer(200, json.dumps(found).encode())

    with stow_server(lambda _: b"", find) as server:
        assert EarlierStudies(WebArchive(connect(server.url)), 8).of([NOW]) == EarlierStudy()
    assert words in caplog.text
    assert uid(1) not in caplog.text
    assert uid(3) not in caplog.text


class Peer:
    """An archive of DIMSE on a port of this machine: C-FIND, C-GET and C-MOVE over `STUDIES`."""

    def __init__(self, places: dict[str, int]) -> None:
        self.places, self.queries = places, list[Dataset]()
        self.lock = threading.Lock()

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        with self.lock:
            self.queries.append(query)
        for films in STUDIES.values():
            answer = Dataset()
            for name in ("StudyInstanceUID", "StudyDate", "StudyTime", "PatientID"):
                setattr(answer, name, films[0][name].value)
            answer.ModalitiesInStudy = films[0].Modality
            answer.QueryRetrieveLevel = "STUDY"
            yield 0xFF00, answer

    def get(self, event: Any) -> Iterator[Any]:
        films = STUDIES.get(str(event.identifier.StudyInstanceUID), [])
        yield len(films)
        for film in films:
            yield 0xFF00, film

    def move(self, event: Any) -> Iterator[Any]:
        yield "127.0.0.1", self.places[event.move_destination]
        yield from self.get(event)


@contextmanager
def peer(places: dict[str, int] | None = None) -> Iterator[tuple[Peer, int]]:
    made = Peer(places or {})
    ae = AE(ae_title="PACS")
    for one in TAKEN:
        ae.add_supported_context(one, scu_role=True, scp_role=True)
        ae.add_requested_context(one)
    for model in (
        StudyRootQueryRetrieveInformationModelFind,
        StudyRootQueryRetrieveInformationModelGet,
        StudyRootQueryRetrieveInformationModelMove,
    ):
        ae.add_supported_context(model)
    handlers: list[Any] = [(evt.EVT_C_FIND, made.find), (evt.EVT_C_GET, made.get), (evt.EVT_C_MOVE, made.move)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield made, server.socket.getsockname()[1]
    finally:
        server.shutdown()


@pytest.mark.parametrize("by", ["C-GET", "C-MOVE"])
def test_films_and_report_come_by_c_find_and_c_get_or_c_move(by: str) -> None:
    move = None if by == "C-GET" else MoveTo("R2GENGPT_PRIOR", "127.0.0.1", free_port())
    with peer({} if move is None else {move.title: move.port}) as (archive, port):
        dimse = DimseArchive("127.0.0.1", port, "PACS", "R2GENGPT", MEBIBYTE, move=move)
        found = EarlierStudies(dimse, 8).of([NOW])
    assert [one.instance_uid for _, one in found.films] == [uid(3, 1), uid(3, 2)]
    assert found.report == "Small effusion."
    (query,) = archive.queries
    assert (query.PatientID, query.StudyDate, query.QueryRetrieveLevel) == ("P-1", "-20260301", "STUDY")


def listed(number: int) -> dict[str, Any]:
    values = {"StudyInstanceUID": f"1.2.{number}", "StudyDate": f"{1500 + number}0101", "PatientID": "P-1"}
    answer = Dataset()
    for name, value in values.items():
        setattr(answer, name, value)
    return answer.to_json_dict()


@pytest.mark.parametrize("pages", [True, False])
def test_the_newest_study_of_many_is_found_wherever_a_dicomweb_server_names_it(pages: bool) -> None:
    """A server that knows no `offset` answers the same again, and is not asked for ever."""
    asked: list[int] = []

    def search(*, limit: int, offset: int | None, **_: Any) -> list[dict[str, Any]]:
        asked.append(offset or 0)
        first = offset or 0 if pages else 0
        return [listed(number) for number in range(450)][first : first + limit]

    server: Any = SimpleNamespace(base_url="http://pacs", search_for_studies=search)
    found = earlier_than(NOW, WebArchive(server).studies(NOW))
    assert (asked, found[0].uid) == (([0, 200, 400], "1.2.449") if pages else ([0, 200], "1.2.199"))


def test_the_newest_study_of_many_is_found_wherever_an_archive_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    many = {f"1.2.{number}": [before(2, "20200101", StudyInstanceUID=f"1.2.{number}")] for number in range(300)}
    monkeypatch.setattr(sys.modules[__name__], "STUDIES", many | STUDIES)
    with peer() as (_, port):
        archive = DimseArchive("127.0.0.1", port, "PACS", "R2GENGPT", MEBIBYTE)
        assert earlier_than(NOW, archive.studies(NOW))[0].uid == uid(3)


def test_more_bytes_than_allowed_are_not_taken() -> None:
    with peer() as (_, port):
        found = EarlierStudies(DimseArchive("127.0.0.1", port, "PACS", "R2GENGPT", 5000), 8).of([NOW])
    assert len(found.films) <= 1


def test_an_archive_that_is_not_there_leaves_the_report_without(caplog: pytest.LogCaptureFixture) -> None:
    dimse = DimseArchive("127.0.0.1", free_port(), "PACS", "R2GENGPT", MEBIBYTE)
    assert EarlierStudies(dimse, 8).of([NOW]) == EarlierStudy()
    assert "no association" in caplog.text


def test_reports_that_cannot_be_had_leave_the_films(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(server: Any, study: str) -> list[bytes]:
        raise RunError("answers with status 500")

    monkeypatch.setattr("r2gengpt.clinical.archive.earlier_web.pull", lambda server, study: [data_of(3, "20260101")])
    monkeypatch.setattr("r2gengpt.clinical.archive.earlier_web.pull_reports", refuse)
    found = WebArchive(connect("http://127.0.0.1:1/dicom-web")).objects(uid(3))
    assert (len(found.films), found.reports) == (1, [])
    assert "cannot be had: answers with status 500" in caplog.text


def test_a_film_of_another_study_is_refused_where_c_move_sends_films() -> None:
    move = MoveTo("R2GENGPT_PRIOR", "127.0.0.1", free_port())
    taken = Taken(uid(3), MEBIBYTE)
    with taken.received(move):
        ae = AE(ae_title="PACS")
        for one in TAKEN:
            ae.add_requested_context(one)
        assoc = ae.associate("127.0.0.1", move.port, ae_title=move.title)
        statuses = [assoc.send_c_store(film).Status for film in (STUDIES[uid(2)][0], STUDIES[uid(3)][0])]
        assoc.release()
        assert ae.associate("127.0.0.1", move.port, ae_title="OTHER").is_rejected
    assert statuses == [0xA900, 0x0000]
    assert len(taken.films) == 1


def test_films_days_and_report_reach_a_model_that_was_trained_with_earlier_studies(tmp_path: Path) -> None:
    asked: list[tuple[Context, int]] = []

    class Model:
        name, side, context_fields = "m", 32, (PRIOR,)
        documents_sha256 = "ab" * 32

        def write(self, studies: Any, on_text: Any = None, context: Any = None, prior: Any = None) -> Iterator[Report]:
            asked.append((context, 0 if prior is None else len(prior.films)))
            if prior is not None and len(asked) > 1:
                raise InputError("does not fit")
            yield Report("study", "Clear.")

        def regions(self, report: Report) -> tuple[()]:
            return ()

    path = tmp_path / "film.dcm"
    path.write_bytes(film_data(1, PatientID="P-1", StudyDate="20260301"))
    headers = [identified(path.read_bytes())]
    model: Any = Model()
    earlier = EarlierStudies(Shelf([candidate(3, "20260101")], {uid(3): [data_of(3, "20260101")]}), 8)
    for _ in range(2):
        writer(model, "sr", earlier=earlier)([path], headers)
    told, without = Context(prior="Small effusion.", prior_days=59.0), Context(prior_days=59.0)
    assert asked == [(told, 1), (told, 1), (without, 1), (Context(), 0)]
    model.context_fields = ()
    writer(model, "sr", earlier=earlier)([path], headers)
    assert asked[-1] == (Context(), 0)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"prior_host": "pacs"}, "belong together"),
        ({"prior_host": "pacs", "prior_port": 104, "prior_ae": "PACS", "prior_url": "http://a"}, "give one"),
        ({"prior_move_port": 11113}, "belongs to prior_host"),
        ({"prior_host": "pacs", "prior_port": 104, "prior_ae": "A" * 17}, "1 to 16"),
    ],
)
def test_settings_that_name_no_archive_are_refused(flags: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        PriorConfig(**flags)


def test_nothing_is_looked_for_where_no_archive_is_named() -> None:
    def no_client(url: str) -> Any:
        raise AssertionError(url)

    assert earlier_of(ListenConfig(), PriorConfig(), no_client) is None
    tls = ListenConfig(tls_cert="c.pem", tls_key="k.pem", tls_ca="a.pem")
    with pytest.raises(InputError, match="plain text beside"):
        earlier_of(tls, PriorConfig(prior_host="h", prior_port=1, prior_ae="A", prior_move_port=2), no_client)


MOVE = MoveTo("R2GENGPT_PRIOR", "127.0.0.1", free_port())


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Orthanc as a hospital sets it up: it knows our two titles, and lets all find and get."""
    settings = {
        "DicomAet": "ORTHANC", "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}, "DicomCheckCalledAet": True,
        "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True, "DicomAlwaysAllowMove": True,
        "DicomModalities": {"prior": [MOVE.title, MOVE.bind, MOVE.port]},
    }  # fmt: skip
    with orthanc(tmp_path_factory.mktemp("orthanc"), settings=settings) as one:
        for film in (film for films in STUDIES.values() for film in films):
            requests.post(f"{one.url}/instances", data=file_of(film), timeout=60).raise_for_status()
        yield one


@pytest.mark.pacs
@pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
@pytest.mark.parametrize("by", ["C-GET", "C-MOVE", "DICOMweb"])
def test_orthanc_gives_the_newest_earlier_study_and_its_report(archive: Orthanc, by: str) -> None:
    web = WebArchive(connect(f"{archive.url}/dicom-web"))
    move = MOVE if by == "C-MOVE" else None
    dimse = DimseArchive("127.0.0.1", archive.dicom_port, "ORTHANC", "R2GENGPT", MEBIBYTE, move=move)
    found = EarlierStudies(web if by == "DICOMweb" else dimse, 8).of([NOW])
    assert [one.instance_uid for _, one in found.films] == [uid(3, 1), uid(3, 2)]
    assert found.report == "Small effusion."
