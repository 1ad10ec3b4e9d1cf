"""Work items of a worklist server, from the claim to the end, against a server built on the standard's tables."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from archive_parts import LONG, content_text, film_data, stand_in, study_report, uid, wait_until
from dicom_files import data_of
from r2gengpt.clinical.archive.earlier import EarlierStudies
from r2gengpt.clinical.archive.earlier_web import WebArchive
from r2gengpt.clinical.archive.run import writer
from r2gengpt.clinical.archive.web import connect
from r2gengpt.clinical.worklist.performer import Performer
from r2gengpt.clinical.worklist.service import MOST_FOUND, MOST_PAGES, Worklist
from r2gengpt.clinical.worklist.stages import MOST_CONFLICTS
from r2gengpt.config import PRIOR
from r2gengpt.errors import InputError
from r2gengpt.films.dicom.header import read_header
from r2gengpt.report import Report
from r2gengpt.settings import WorklistConfig
from r2gengpt.text.context import Context
from r2gengpt.text.written import NOTICE
from stow_answers import LOGIN, answer
from upsrs_parts import (
    WorklistServer,
    claims_in,
    coded,
    element,
    first,
    item_uid,
    performer_of,
    run_on,
    work_item,
    worklist_server,
)


def draft_uid(number: int, *films: int) -> str:
    """The UID of the draft of these films."""
    return stand_in([], [read_header(film_data(number, one), "film") for one in films or (1,)]).uid


def done_by(
    directory: Path, server: WorklistServer, seconds: float = 400.0, pause: float = 1.0, **changes: Any
) -> Performer:
    """A performer that has worked on all that there is; nothing of it is left."""
    with claims_in(directory) as claims:
        performer = performer_of(server, claims, **changes)
        run_on(performer, seconds, pause)
        assert [one.stage for one in claims.open()] == []
        assert list(claims.reports.iterdir()) == list(claims.films.iterdir()) == []
    return performer


def test_an_item_is_claimed_drafted_stored_and_completed_with_the_uid_of_its_report(tmp_path: Path) -> None:
    with worklist_server() as server:
        name = server.schedule(1, 2)
        done_by(tmp_path, server)
        assert server.states[name] == ["IN PROGRESS", "COMPLETED"]
        assert server.outputs(1) == [draft_uid(1, 1, 2)]
        assert dict(server.stored) == {draft_uid(1, 1, 2): 1}
        assert server.progress[name] == sorted(server.progress[name])
        assert server.progress[name][-1] == 100
        performed = first(server.items[name], "00741216")
        assert first(first(performed, "00404028"), "00080100") == "R2GENGPT"
        assert first(first(performed, "00404019"), "00080100") == "110003"
        series = first(performed, "00404033")
        assert first(series, "0020000D") == uid(1)
        address = f"{server.url}/studies/{uid(1)}/series/{first(series, '0020000E')}"
        assert first(first(series, "0040E025"), "00081190") == address


def test_the_same_films_give_the_same_report_for_another_item(tmp_path: Path) -> None:
    with worklist_server() as server:
        server.schedule(1)
        done_by(tmp_path, server)
        again = {**work_item(1), "00080018": element("UI", item_uid(2))}
        server.items[item_uid(2)] = again
        done_by(tmp_path, server)
        assert server.outputs(2) == server.outputs(1) == [draft_uid(1)]


class Comparing:
    """A model that was trained with earlier studies, and tells what it was given."""

    name, side, context_fields = "m", 32, (PRIOR,)
    documents_sha256 = "ab" * 32

    def __init__(self) -> None:
        self.asked: list[tuple[Context, int]] = []

    def write(self, studies: Any, on_text: Any = None, context: Any = None, prior: Any = None) -> Iterator[Report]:
        self.asked.append((context, 0 if prior is None else len(prior.films)))
        yield Report("study", "Clear.")

    def regions(self, report: Report) -> tuple[()]:
        return ()


def test_films_and_report_of_the_patients_study_before_go_into_the_draft_of_an_item(tmp_path: Path) -> None:
    patient: dict[str, Any] = {"PatientID": "P-1", "StudyDate": "20251201"}
    report = study_report(2, [content_text(("121071", "DCM", "Finding"), "Small effusion.")], **patient)
    model: Any = Comparing()
    with worklist_server() as server:
        server.schedule(1)
        server.films[uid(2)] = [film_data(2, **patient), data_of(report)]
        server.films[uid(3)] = [film_data(3, PatientID="P-1", StudyDate="20260201")]
        earlier = EarlierStudies(WebArchive(connect(server.url)), 8)
        done_by(tmp_path, server, write=writer(model, "sr", earlier=earlier))
        assert server.state(1) == "COMPLETED"
    assert model.asked == [(Context(prior="Small effusion.", prior_days=32.0), 1)]


def test_only_the_instances_that_an_item_names_are_reported(tmp_path: Path) -> None:
    with worklist_server() as server:
        server.schedule(1, 3, 1, 3)
        done_by(tmp_path, server)
        assert server.outputs(1) == [draft_uid(1, 1, 3)]


WITHOUT_CLASSES = element(
    "SQ",
    {
        "0020000D": element("UI", uid(1)),
        "00081199": element("SQ", *({"00081155": element("UI", uid(1, one))} for one in (1, 9))),
    },
)
"""An input of two instances, the second of which is not there."""
UNUSABLE: dict[str, tuple[dict[str, Any], str, str]] = {
    "no inputs": ({"t00404021": None}, "names no study", "110523"),
    "inputs of another form": ({"t00404021": element("SQ", 7, "x")}, "names no study", "110523"),
    "two studies": (
        {"t00404021": element("SQ", {"0020000D": element("UI", uid(1))}, {"0020000D": element("UI", uid(2))})},
        "names 2 studies",
        "110523",
    ),
    "a study that is not there": (
        {"t00404021": element("SQ", {"0020000D": element("UI", uid(77))})},
        "no such study",
        "110523",
    ),
    "an instance that is not there": ({"instances": (1, 9)}, "1 of the 2 instances that it names", "110523"),
    "one that is named last of many": ({"instances": (1,) * 1001 + (9,)}, "1 of the 2 instances", "110523"),
    "one of no class": ({"t00404021": WITHOUT_CLASSES}, "1 of the 2 instances that it names", "110523"),
    "too many instances": ({"instances": range(1, 1002)}, "names more than 1000 instances", "110523"),
    "another patient": ({"t00100020": element("LO", "SOMEBODY")}, "another patient", "110514"),
    "another birth date": ({"t00100030": element("DA", "19500103")}, "another patient", "110514"),
    "another issuer": ({"t00100021": element("LO", "OTHER")}, "another patient", "110514"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_item_whose_input_is_of_no_use_is_canceled_with_the_reason(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes, words, code = UNUSABLE[name]
    with worklist_server() as server:
        changes = dict(changes)
        server.schedule(1, 1, *changes.pop("instances", ()), **changes)
        server.films[uid(1)] = [film_data(1, IssuerOfPatientID="OURS")]
        server.schedule(3)
        done_by(tmp_path, server)
        assert server.states[item_uid(1)] == ["IN PROGRESS", "CANCELED"]
        assert words in server.reason(1)
        assert first(first(first(server.items[item_uid(1)], "00741002"), "0074100E"), "00080100") == code
        assert server.outputs(1) == []
        assert server.state(3) == "COMPLETED"
    (line,) = [one.getMessage() for one in caplog.records if "is canceled" in one.getMessage()]
    assert words in line
    assert uid(1) not in caplog.text
    assert "Muster" not in caplog.text


@pytest.mark.parametrize("broken", [b"no film", film_data(1, BodyPartExamined="HAND")])
def test_films_that_cannot_be_read_or_are_no_chest_films_cancel_their_item(broken: bytes, tmp_path: Path) -> None:
    with worklist_server() as server:
        server.schedule(1)
        good = server.films[uid(1)][0]
        server.films[uid(1)] = [broken]
        server.fault = lambda method, path: _series(good) if path.endswith("/series") else _films(path, broken)
        done_by(tmp_path, server)
        assert server.state(1) == "CANCELED"
        assert "none of its 1 images can be used" in server.reason(1)
        assert not server.stored


def _series(good: bytes) -> bytes:
    import json

    listed = [{"00080060": element("CS", "DX"), "0020000E": element("UI", read_header(good, "film").series_uid)}]
    return answer(200, json.dumps(listed).encode())


def _films(path: str, data: bytes) -> bytes | None:
    return answer(200, data, "application/dicom") if "/series/" in path else None


def test_a_model_that_fails_cancels_the_item_and_the_next_one_is_done(tmp_path: Path) -> None:
    def fails(paths: Any, headers: Any) -> Any:
        if headers[0].study_uid == uid(1):
            raise ValueError("Muster^Erika")
        return stand_in(paths, headers)

    with worklist_server() as server:
        server.schedule(1)
        server.schedule(2)
        done_by(tmp_path, server, write=fails)
        assert (server.state(1), server.state(2)) == ("CANCELED", "COMPLETED")
        assert server.reason(1).startswith("its draft could not be written: ValueError at ")


def test_more_films_than_may_be_cancel_the_item(tmp_path: Path) -> None:
    with worklist_server() as server:
        server.schedule(1, 3)
        done_by(tmp_path, server, most_films=2)
        assert server.reason(1) == "has 3 films: at most 2 (max_images)"


OTHERS: dict[str, dict[str, Any]] = {
    "another station": {"t00404025": element("SQ", coded("OTHER"))},
    "no station": {"t00404025": None},
    "not ready": {"t00404041": element("CS", "INCOMPLETE")},
    "in work": {"t00741000": element("CS", "IN PROGRESS")},
    "canceled": {"t00741000": element("CS", "CANCELED")},
    "no state": {"t00741000": None},
    "another procedure": {"t00404018": element("SQ", coded("110008"))},
    "no procedure": {"t00404018": None},
    "later": {"t00404005": element("DT", "29990101")},
    "no uid": {"t00080018": element("UI", "../../x")},
}


@pytest.mark.parametrize("name", OTHERS)
def test_an_item_that_is_not_ours_to_do_now_is_never_claimed_whatever_the_server_finds(
    name: str, tmp_path: Path
) -> None:
    with worklist_server() as server:
        server.schedule(1, **OTHERS[name])
        listed = answer(200, json.dumps([server.items[item_uid(1)]]).encode())
        server.fault = lambda method, path: listed if path == "/workitems" else None
        done_by(tmp_path, server, 20, procedures=("110003",))
        assert not server.states
        assert set(server.paths) == {"GET /workitems"}


def test_urgent_items_are_claimed_first(tmp_path: Path) -> None:
    with worklist_server() as server:
        for number, priority in ((1, "LOW"), (2, "MEDIUM"), (3, "HIGH")):
            server.schedule(number, t00741200=element("CS", priority))
        done_by(tmp_path, server)
        assert list(server.states) == [item_uid(3), item_uid(2), item_uid(1)]


def test_items_behind_a_full_answer_are_found(tmp_path: Path) -> None:
    with worklist_server() as server:
        for number in range(1, 2 * MOST_FOUND + 1):
            server.schedule(number, t00404005=element("DT", "29990101"))
        server.schedule(2 * MOST_FOUND + 1)
        done_by(tmp_path, server)
        assert list(server.states) == [item_uid(2 * MOST_FOUND + 1)]


def test_a_server_that_knows_no_offset_is_asked_twice_and_one_with_too_many_items_in_a_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with worklist_server() as server:
        for number in range(1, MOST_FOUND * MOST_PAGES + 2):
            server.schedule(number)
        service = Worklist(connect(server.url))
        assert len(service.search("R2GENGPT")) == MOST_FOUND * MOST_PAGES
        assert "has more than 1000 work items, the others are not seen" in caplog.text
        listed = answer(200, json.dumps(list(server.items.values())[:MOST_FOUND]).encode())
        server.fault = lambda *_: listed
        server.paths.clear()
        assert len(service.search("R2GENGPT")) == MOST_FOUND
        assert len(server.paths) == 2


def test_two_performers_share_items_and_each_is_done_once(tmp_path: Path) -> None:
    with worklist_server() as server, claims_in(tmp_path / "a") as one, claims_in(tmp_path / "b") as two:
        for number in range(1, 7):
            server.schedule(number)
        performers = [performer_of(server, one), performer_of(server, two)]
        for _ in range(200):
            for performer in performers:
                if not performer.step():
                    performer.claims.clock.now += 1  # type: ignore[attr-defined]  # a test's clock
        assert {server.state(number) for number in range(1, 7)} == {"COMPLETED"}
        assert set(server.stored.values()) == {1}
        assert {tuple(states) for states in server.states.values()} == {("IN PROGRESS", "COMPLETED")}


def requests_of_one(directory: Path) -> int:
    """How many requests an item takes."""
    with worklist_server() as server:
        server.schedule(1)
        with claims_in(directory) as claims:
            performer = performer_of(server, claims)
            while server.state(1) != "COMPLETED":
                performer.step()
        return server.count


def test_any_answer_may_be_lost_and_the_item_is_done_once(tmp_path: Path) -> None:
    for number in range(1, requests_of_one(tmp_path / "count") + 1):
        with worklist_server() as server:
            name = server.schedule(1)
            server.silent = {number}
            done_by(tmp_path / str(number), server)
            assert server.states[name] == ["IN PROGRESS", "COMPLETED"], number
            assert server.outputs(1) == list(server.stored) == [draft_uid(1)], number


@pytest.mark.parametrize("status", [401, 503])
def test_any_request_may_be_refused_for_a_while_and_the_item_is_done_once(status: int, tmp_path: Path) -> None:
    for number in range(1, requests_of_one(tmp_path / "count") + 1):
        with worklist_server() as server:
            name = server.schedule(1)
            server.fault = _status_at(server, {number, number + 1}, status)
            done_by(tmp_path / str(number), server)
            assert server.states[name] == ["IN PROGRESS", "COMPLETED"], number
            assert dict(server.stored) == {draft_uid(1): 1}, number


def _status_at(server: WorklistServer, numbers: set[int], status: int) -> Callable[[str, str], bytes | None]:
    return lambda method, path: answer(status) if server.count in numbers else None


@pytest.mark.parametrize("state", ["IN PROGRESS", "COMPLETED"])
def test_a_login_page_in_place_of_a_change_of_state_is_not_taken_for_one(state: str, tmp_path: Path) -> None:
    with worklist_server() as server:
        name, told = server.schedule(1), list[str]()

        def login(method: str, path: str) -> bytes | None:
            reached = "IN PROGRESS" if name not in server.states else "COMPLETED"
            if method != "PUT" or reached != state or len(told) == 3:
                return None
            told.append(path)
            return answer(200, LOGIN, "text/html")

        server.fault = login
        done_by(tmp_path, server)
        assert server.states[name] == ["IN PROGRESS", "COMPLETED"]
        assert len(told) == 3


def test_a_server_that_forgets_what_is_finished_is_done_with(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with worklist_server() as server:
        name = server.schedule(1)
        server.fault = lambda method, path: answer(404) if _is_over(server, name, method) else None
        done_by(tmp_path, server)
        assert server.states[name] == ["IN PROGRESS", "COMPLETED"]
    assert "is left" not in caplog.text


def _is_over(server: WorklistServer, name: str, method: str) -> bool:
    return method == "GET" and server.states.get(name, [])[-1:] == ["COMPLETED"]


def test_a_report_that_the_archive_refuses_cancels_the_item(tmp_path: Path) -> None:
    with worklist_server() as server:
        server.schedule(1)
        server.refused = 0xA900
        done_by(tmp_path, server)
        assert server.state(1) == "CANCELED"
        assert server.reason(1) == "the archive refused the report: failure reason 0xA900"


def test_films_that_never_come_cancel_the_item_and_hold_up_no_other(tmp_path: Path) -> None:
    with worklist_server() as server:
        server.schedule(1)
        server.schedule(2)
        server.fault = lambda method, path: answer(500) if path == f"/studies/{uid(1)}/series" else None
        done_by(tmp_path, server, 8000, 60)
        assert server.state(2) == "COMPLETED"
        assert server.reason(1) == "its films could not be fetched within 3600 s"


def test_an_item_that_the_server_ends_or_loses_is_left_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with worklist_server() as server, claims_in(tmp_path) as claims:
        performer = performer_of(server, claims)
        for number in (1, 2):
            server.schedule(number)
            while item_uid(number) not in server.states:
                run_on(performer, 1)
            if number == 1:
                server.items[item_uid(1)]["00741000"] = element("CS", "CANCELED")
            else:
                del server.items[item_uid(2)]
            run_on(performer)
        server.schedule(3)
        run_on(performer)
        assert (server.state(3), claims.all()) == ("COMPLETED", [])
    lines = [one.getMessage() for one in caplog.records if "is left" in one.getMessage()]
    assert len(lines) == 2
    assert any("CANCELED already" in line for line in lines)
    assert any("status 404" in line for line in lines)


def test_a_server_that_refuses_the_end_of_an_item_is_tried_then_asked_to_cancel_it_then_people_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with worklist_server() as server, claims_in(tmp_path) as claims:
        server.schedule(1)

        def no_end(method: str, path: str) -> bytes | None:
            ours = method == "PUT" and item_uid(1) in path
            return answer(409) if ours and server.states.get(item_uid(1)) == ["IN PROGRESS"] else None

        server.fault = no_end
        run_on(performer_of(server, claims), 1000, 10)
        assert [one.stage for one in claims.all()] == ["aside"]
        server.schedule(2)
        run_on(performer_of(server, claims))
        assert server.state(2) == "COMPLETED"
        assert sum(path == f"PUT /workitems/{item_uid(1)}/state" for path in server.paths) == 1 + 2 * MOST_CONFLICTS
    assert sum("is put aside" in one.getMessage() for one in caplog.records) == 1


SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "no server": ({}, "worklist is missing: name the URL"),
    "no directory": ({"worklist": "http://h", "claims": " "}, "claims is empty"),
    "a long station": ({"worklist": "http://h", "station": "S" * 17}, "must be 1 to 16 printable ASCII signs"),
    "a procedure of two lines": ({"worklist": "http://h", "procedures": ("A\nB",)}, "procedures 'A\\nB': must be"),
    "no time": ({"worklist": "http://h", "poll_seconds": -1.0}, "poll_seconds -1.0: must be at least 0"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_cannot_be_meant_are_refused_in_one_line(name: str) -> None:
    values, words = SETTINGS[name]
    with pytest.raises(InputError) as error:
        WorklistConfig(**values)
    assert words in str(error.value)


def test_a_directory_of_claims_belongs_to_one_process(tmp_path: Path) -> None:
    with claims_in(tmp_path), pytest.raises(InputError, match="another process uses it"), claims_in(tmp_path):
        pass


def test_claims_that_are_no_data_base_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "claims.sqlite").write_bytes(b"x" * 4096)
    with pytest.raises(InputError, match="claims: file is not a database"), claims_in(tmp_path):
        pass


def test_the_command_performs_an_item_by_a_model_and_ends_with_a_signal(tiny_checkpoint: Path, tmp_path: Path) -> None:
    code = "from r2gengpt.cli.main import main; main()"
    with worklist_server() as server, (tmp_path / "log").open("wb") as log:
        server.schedule(1, 2)
        flags = ["--worklist", server.url, "--claims", str(tmp_path / "claims"), "--model", str(tiny_checkpoint)]
        flags += ["--fetch_prior", "True", "--poll_seconds", "0.1"]
        command = [sys.executable, "-c", code, "worklist", *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            wait_until(lambda: server.state(1) == "COMPLETED" or process.poll() is not None)
        finally:
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=LONG)
        assert process.returncode == 0, (tmp_path / "log").read_text()
        assert said == f"r2gengpt performs work items of {server.url} as R2GENGPT ({NOTICE})\n"
        assert server.outputs(1) == list(server.stored)
    told = (tmp_path / "log").read_text()
    assert "completed" in told
    assert "no earlier study is fetched: the model was trained without --prior_study" in told
    assert uid(1) not in told
