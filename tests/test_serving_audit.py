"""What the server's audit log says: who asked for what, and how it ended; and that nothing goes out unrecorded."""

import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from audit_parts import Said, said_in
from dicom_files import DX, ROOT, data_of
from dicom_files import film as dicom
from r2gengpt.auditlog.attempts import EACH, MINUTE, Attempts
from r2gengpt.auditlog.log import opened_log
from r2gengpt.auditlog.verify import verify
from r2gengpt.cli.main import run
from r2gengpt.errors import InputError
from r2gengpt.provenance import file_sha256
from r2gengpt.reporter import Reporter
from r2gengpt.serving.access import ACCESS
from r2gengpt.serving.app import create_app
from r2gengpt.serving.generator import Generator
from r2gengpt.serving.identity import KEYS_VARIABLE
from r2gengpt.serving.keys import add_key, remove_key
from r2gengpt.serving.trail import KINDS, Trail
from r2gengpt.settings import ServeConfig
from r2gengpt.verdicts.address import opened_store
from r2gengpt.verdicts.store import VerdictStore
from serving_parts import LONG, data_url, film, generator_of, message, upload

REPORTS = "/v1/reports"
STUDY, PATIENT = f"{ROOT}1", "P-1"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@contextmanager
def audited(
    directory: Path, served: Reporter | None, store: VerdictStore | None = None, **changes: Any
) -> Iterator[TestClient]:
    """A client of a server with an audit log; without a model it never becomes ready."""
    settings = ServeConfig(**changes)
    generator = Generator(1, 1) if served is None else generator_of(served, settings)
    trail = Trail(opened_log(str(directory), "serve"))
    with trail.audit.running():
        app = create_app(generator, settings, store, trail)
        with TestClient(app, base_url="http://127.0.0.1", client=("192.0.2.7", 4711)) as client:
            yield client
        trail.close()
    if served is not None:
        assert generator.stop(LONG)
    verify(directory)


def between(found: list[Said]) -> list[Said]:
    """Without the server's start and stop."""
    assert [(one.event, one.kind) for one in (found[0], found[-1])] == [
        ("Application Activity", "110120"),
        ("Application Activity", "110121"),
    ]
    return found[1:-1]


def short(one: Said) -> tuple[str, str, str, str]:
    return one.event, one.kind, one.action, one.outcome


def test_every_request_with_films_is_recorded_with_caller_study_patient_and_outcome(
    served: Reporter, tmp_path: Path
) -> None:
    key = add_key(tmp_path / "keys.json", "ward-7", ["report"])
    data, headers = data_of(dicom()), bearer(key)
    with audited(tmp_path / "log", served, api_keys=str(tmp_path / "keys.json")) as client:
        kinds = ("application/json", "text/plain", "text/event-stream", "application/pdf", "application/fhir+json")
        for kind in kinds:
            assert client.post(REPORTS, files=upload(data), headers={**headers, "Accept": kind}).status_code == 200
        text = {"report": "Large heart."}
        assert client.post("/v1/evidence", files=upload(data), data=text, headers=headers).status_code == 200
        assert client.post("/v1/preview", files=upload(data), headers=headers).status_code == 200
        wanted = {**headers, "Accept": "application/dicom"}
        assert client.post("/v1/documents", files=upload(data), data=text, headers=wanted).status_code == 200
        chat: dict[str, Any] = {"model": "best", "messages": message(data)}
        chat["messages"][0]["content"][0]["image_url"]["url"] = data_url(data).replace("image/png", "application/dicom")
        assert client.post("/v1/chat/completions", json=chat, headers=headers).status_code == 200
        assert client.get("/v1/models", headers=headers).status_code == 200, "of no patient: not recorded"
    found = between(said_in(tmp_path / "log"))
    assert [short(one) for one in found] == [
        ("DICOM Instances Accessed", "report", "R", "0"),
        ("DICOM Instances Accessed", "report", "R", "0"),
        ("DICOM Instances Accessed", "report", "R", "0"),
        ("Export", "report", "R", "0"),
        ("Export", "report", "R", "0"),
        ("DICOM Instances Accessed", "evidence", "R", "0"),
        ("DICOM Instances Accessed", "preview", "R", "0"),
        ("Export", "document", "R", "0"),
        ("DICOM Instances Accessed", "chat", "R", "0"),
    ]
    for one in found:
        assert (one.user, one.address, one.objects) == ("ward-7", "192.0.2.7", (STUDY, PATIENT))
        assert '<Accession Number="A 77" />' in one.xml
        assert f'<SOPClass UID="{DX}" NumberOfInstances="1" />' in one.xml
        assert 'csd-code="report" codeSystemName="99R2GENGPT" originalText="Role report"' in one.xml


def test_every_route_that_takes_films_or_texts_is_recorded() -> None:
    assert {f"POST {path}" for path in KINDS} == {route for route in ACCESS if route.startswith("POST ")}


def test_no_name_no_text_no_key_and_no_pixel_is_in_the_log(served: Reporter, tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.json", "ward-7", ["report"])
    with audited(tmp_path / "log", served, api_keys=str(tmp_path / "keys.json")) as client:
        data = {"indication": "Hemoptysis."}
        got = client.post(REPORTS, files=upload(data_of(dicom()), name="Muster.dcm"), data=data, headers=bearer(key))
        assert got.status_code == 200
        client.post(REPORTS, headers=bearer(key[:-1] + "x"))
    (path,) = (tmp_path / "log").glob("audit-*.log")
    text = path.read_text()
    for secret in ("Muster", "Erika", "19500102", "Hemoptysis", key[:12], got.json()["findings"][:12]):
        assert secret not in text
    assert max(map(len, text.splitlines())) < 3000


def test_a_film_without_an_id_is_known_by_its_hash_and_a_refused_request_by_its_outcome(
    served: Reporter, tmp_path: Path
) -> None:
    (tmp_path / "film").write_bytes(film(1))
    with audited(tmp_path / "log", served) as client:
        assert client.post(REPORTS, files=upload(film(1))).status_code == 200
        assert client.post(REPORTS, files=upload(b"no film")).status_code == 400
        assert client.post("/v1/documents", files=upload(film(1)), headers={"Accept": "text/html"}).status_code == 406
        assert client.post("/v1/pdf", json={"report": "Large heart."}).status_code == 200
    found = between(said_in(tmp_path / "log"))
    assert [(one.event, one.outcome, one.objects) for one in found] == [
        ("DICOM Instances Accessed", "0", (file_sha256(tmp_path / "film"), "unknown")),
        ("DICOM Instances Accessed", "4", ("unknown", "unknown")),
        ("DICOM Instances Accessed", "4", ("unknown", "unknown")),
        ("Export", "0", ("unknown", "unknown")),
    ]
    assert {one.user for one in found} == {"anybody"}
    assert "<EventOutcomeDescription>HTTP status 400<" in found[1].xml


def test_a_verdict_is_recorded_with_its_draft_and_never_its_words(served: Reporter, tmp_path: Path) -> None:
    store = opened_store(str(tmp_path / "verdicts.db"))
    with audited(tmp_path / "log", served, store) as client:
        draft = client.post(REPORTS, files=upload(data_of(dicom()))).json()
        words = {"receipt": draft["receipt"], "verdict": "reject", "key": "0123456789abcdef", "note": "Blurred."}
        assert client.post("/v1/verdicts", json=words).status_code == 201
        assert client.post("/v1/verdicts", json={**words, "receipt": "x"}).status_code == 400
    store.close()
    _, kept, refused = between(said_in(tmp_path / "log"))
    assert short(kept) == ("Procedure Record", "verdict", "C", "0")
    assert kept.objects[0] == draft["id"]
    assert kept.objects[1] == draft["provenance"]["inputs"][0]["sha256"]
    assert len(kept.objects) == 3, "and the patient's pseudonym"
    assert short(refused) == ("Procedure Record", "verdict", "C", "4")
    assert "Blurred" not in kept.xml


def test_wrong_keys_and_roles_are_recorded_up_to_a_number_and_the_rest_is_counted(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    read = add_key(keys, "grafana", ["read"])
    with audited(tmp_path / "log", None, api_keys=str(keys)) as client:
        for _ in range(EACH + 5):
            assert client.get("/v1/models", headers=bearer("a key that is none")).status_code == 401
        assert client.post(REPORTS, headers=bearer(read)).status_code == 403
    found = between(said_in(tmp_path / "log"))
    assert [short(one) for one in found[:EACH]] == [("User Authentication", "110122", "E", "4")] * EACH
    assert {(one.user, one.address) for one in found[:EACH]} == {("unknown", "192.0.2.7")}
    assert short(found[EACH]) == ("Security Alert", "110132", "E", "4")
    assert found[EACH].details == (f"{REPORTS}: not with these roles",)
    assert found[EACH + 1].details == ("5 more refused attempts have no record of their own",)
    assert len(found) == EACH + 2


@pytest.mark.parametrize("header", ["Origin: https://foreign.example", "Host: foreign.example", "Authorization: none"])
def test_whoever_is_refused_at_the_door_fills_no_log(header: str, tmp_path: Path) -> None:
    add_key(tmp_path / "keys.json", "ward-7", ["report"])
    with audited(tmp_path / "log", None, api_keys=str(tmp_path / "keys.json")) as client:
        for _ in range(EACH + 5):
            assert client.post(REPORTS, headers=dict([header.split(": ")])).status_code in (400, 401, 403)
    *found, told = between(said_in(tmp_path / "log"))
    assert [(one.user, one.address) for one in found] == [("unknown", "192.0.2.7")] * EACH
    assert told.details == ("5 more refused attempts have no record of their own",)


def test_attempts_that_never_pause_are_told_of_each_minute() -> None:
    now, told = [0.0], list[str]()
    attempts = Attempts(lambda: now[0])
    for second in range(3 * int(MINUTE) + 1):
        now[0] = float(second)
        attempts.is_recorded("192.0.2.1")
        told.append(attempts.left_out())
    assert [(at, words[:3]) for at, words in enumerate(told) if words] == [(60, "50 "), (120, "50 "), (180, "50 ")]


def test_attempts_of_many_addresses_have_a_limit_together_and_begin_anew_each_minute() -> None:
    now = [0.0]
    attempts = Attempts(lambda: now[0])
    assert sum(attempts.is_recorded(f"192.0.2.{number}") for number in range(200)) == 60
    assert attempts.left_out() == "", "the minute is not over"
    now[0] += MINUTE
    assert attempts.left_out().startswith("140 more refused attempts")
    assert attempts.left_out() == ""
    assert attempts.is_recorded("192.0.2.1")


def test_changes_of_the_file_of_keys_are_recorded_by_name(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    key = add_key(keys, "ward-7", ["report"])
    with audited(tmp_path / "log", None, api_keys=str(keys)) as client:
        add_key(keys, "ward-8", ["admin"])
        client.get("/v1/models", headers=bearer(key))
        remove_key(keys, "ward-7")
        client.get("/v1/models", headers=bearer(key))
    found = between(said_in(tmp_path / "log"))
    assert [one.details for one in found if one.kind == "110137"] == [
        ("keys added: ward-8; removed: none; changed: none",),
        ("keys added: none; removed: ward-7; changed: none",),
    ]


@contextmanager
def no_room(directory: Path) -> Iterator[None]:
    """The log's file cannot grow: the system refuses, as on a full disk."""
    (path,) = directory.glob("audit-*.log")
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, kept[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)


def test_without_room_for_its_record_a_request_gets_503_and_nothing_else(
    served: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, "a-key-of-the-ward-7")
    headers = bearer("a-key-of-the-ward-7")
    caplog.set_level(logging.ERROR)
    with audited(tmp_path / "log", served) as client:
        with no_room(tmp_path / "log"):
            for kind in ("application/json", "text/event-stream", "application/pdf"):
                got = client.post(REPORTS, files=upload(film(1)), headers={**headers, "Accept": kind})
                assert got.status_code == 503
                assert got.json()["error"]["message"] == (
                    "the audit log cannot be written (File too large): requests are refused until it can"
                )
                assert got.headers["x-notice"]
            assert client.get("/v1/models").status_code == 503, "a refusal that cannot be recorded"
            assert client.get("/ready").status_code == 503
            assert client.get("/health").status_code == 200
            assert client.get("/v1/models", headers=headers).status_code == 200, "of no patient"
        assert client.get("/ready").status_code == 200
        assert client.post(REPORTS, files=upload(film(1)), headers=headers).status_code == 200
    found = between(said_in(tmp_path / "log"))
    assert [one.kind for one in found] == ["110134", "report"]
    assert "records that this process could not write" in found[0].details[0]
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"audit_log {tmp_path / 'log'}: cannot be written: File too large"]


def test_a_log_that_is_taken_away_refuses_requests_until_it_is_there_again(served: Reporter, tmp_path: Path) -> None:
    with audited(tmp_path / "log", served) as client:
        (tmp_path / "log").rename(tmp_path / "away")
        for _ in range(2):
            got = client.post(REPORTS, files=upload(film(1)))
            assert got.status_code == 503
            assert "No such file or directory" in got.json()["error"]["message"]
        (tmp_path / "away").rename(tmp_path / "log")
        assert client.post(REPORTS, files=upload(film(1))).status_code == 200


def test_a_directory_that_cannot_be_used_is_refused_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for command, more in (("serve", []), ("listen", ["--stow", "http://127.0.0.1:1"])):
        assert run(command, ["--audit_log", str(tmp_path / "file"), "--port", "0", *more]) == 2
        assert capsys.readouterr().err == f"r2gengpt {command}: --audit_log {tmp_path / 'file'}: is no directory\n"


def test_a_start_that_cannot_be_recorded_is_an_error_of_the_input(tmp_path: Path) -> None:
    audit = opened_log(str(tmp_path / "log"), "serve")
    (tmp_path / "log").rmdir()
    with pytest.raises(InputError, match=r"audit_log .*: the audit log cannot be written"), audit.running():
        raise AssertionError("it runs")


def test_messages_of_hostile_values_stay_one_line_that_fits_the_standard(served: Reporter, tmp_path: Path) -> None:
    odd = data_of(
        dicom(PatientID='A"><x>\x01\r\u2028&\u00e4', AccessionNumber="<!--", SpecificCharacterSet="ISO_IR 192")
    )
    with audited(tmp_path / "log", served) as client:
        client.post(REPORTS, files=upload(odd))
    (one,) = between(said_in(tmp_path / "log"))
    assert one.objects[0] == STUDY
    assert one.objects[1].startswith('A"><x>')
    assert one.objects[1].endswith("&ä")
