"""`listen` killed with -9, before each durable operation and at seeded moments. Nothing lost, nothing twice."""

import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from archive_parts import (
    MISSING,
    Listening,
    free_port,
    listening,
    orthanc,
    peer,
    study_film,
    try_to_store,
    uid,
    wait_until,
)
from r2gengpt.clinical.archive.ledger import key_of
from stow_answers import answer, body_of, drawn, found, item, stow_server

pytestmark = pytest.mark.filterwarnings(  # pynetdicom drops sockets whose peer has gone without closing them
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)
OPERATIONS = 45
"""More durable operations than the loop needs for the two studies below; the test says so if it is not."""


def settings_for(port: int, **more: Any) -> dict[str, Any]:
    return {"to_host": "127.0.0.1", "to_port": port, "to_ae": "PEER", **more}


def run_killed(directory: Path, number: int) -> bool:
    """Two studies, one with a film of no use, by a `listen` that is killed before its operation `number`, and another
    one after it; whether the first one came to its end."""
    films = [study_film(1, 1), study_film(1, 2, BodyPartExamined="HAND"), study_film(2, 1)]
    with peer() as (port, stored):
        first = Listening(directory, kill_before=number, **settings_for(port))
        left = try_to_store(first.port, films)
        if first.process.poll() is None and not left:
            wait_until(lambda: first.process.poll() is not None or is_done(first))
        survived = not left and first.process.poll() is None
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
        with listening(directory, **settings_for(port)) as second:
            assert try_to_store(second.port, left) == []
            wait_until(lambda: is_done(second))
            assert second.end(signal.SIGTERM) == 0
        assert len(set(stored)) == 2, (number, stored)
    spool = directory / "spool"
    assert [len(list((spool / name).iterdir())) for name in ("incoming", "reports", "aside")] == [0, 0, 2], number
    return survived


def is_done(one: Listening) -> bool:
    return one.studies("sent") == 2


@pytest.mark.parametrize("number", [3, 9, 17])
def test_a_kill_before_a_durable_operation_loses_nothing_and_sends_one_report_for_each_study(
    number: int, tmp_path: Path
) -> None:
    run_killed(tmp_path, number)


@pytest.mark.drill
def test_a_kill_before_each_durable_operation_loses_nothing_and_sends_one_report_for_each_study(tmp_path: Path) -> None:
    survived = [run_killed(tmp_path / str(number), number) for number in range(1, OPERATIONS)]
    assert survived[-1], "there are more operations"
    assert survived.index(True) > 20


def kills(directory: Path, studies: int, listen_kills: int, peer_kills: int, seed: int) -> Counter[str]:
    """Studies by two films each to a `listen` that is killed at random moments, as is the Orthanc behind it.

    Gives the reports that Orthanc has in the end, by study.
    """
    chance = random.Random(seed)
    port = free_port()
    events = sorted(
        [(chance.randrange(studies), "listen") for _ in range(listen_kills)]
        + [(chance.randrange(studies), "orthanc") for _ in range(peer_kills)]
    )
    with orthanc(directory / "orthanc") as archive:
        more: dict[str, Any] = {"to_host": "127.0.0.1", "to_port": archive.dicom_port, "to_ae": "ORTHANC", "port": port}
        one = Listening(directory, **more)
        try:
            for study in range(studies):
                left = [study_film(study, 1), study_film(study, 2)]
                for _, what in [event for event in events if event[0] == study]:
                    left = try_to_store(port, left[: chance.randint(0, 2)]) + left[chance.randint(0, 2) :]
                    if what == "listen":
                        one.end(signal.SIGKILL)
                        one = Listening(directory, **more)
                    else:
                        archive.stop(kill=True)
                        archive.start()
                left = [study_film(study, 1), study_film(study, 2)]  # a sender that starts anew, as it was not answered
                while left:
                    left = try_to_store(port, left)
            wait_until(lambda: one.studies("sent") == studies, 120)
            assert one.end(signal.SIGTERM) == 0
        finally:
            if one.process.poll() is None:
                one.end(signal.SIGKILL)
        return archive.reports()


@pytest.mark.pacs
@pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
def test_three_kills_during_twelve_studies_leave_one_report_for_each(tmp_path: Path) -> None:
    assert kills(tmp_path, 12, 2, 1, seed=1) == Counter(uid(study) for study in range(12))


@pytest.mark.pacs
@pytest.mark.drill
@pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
def test_twenty_kills_during_a_hundred_studies_leave_one_report_for_each(tmp_path: Path) -> None:
    assert kills(tmp_path, 100, 12, 8, seed=7) == Counter(uid(study) for study in range(100))


def doubtful_kills(directory: Path, studies: int, kills_: int, seed: int) -> tuple[Counter[str], int]:
    """Studies to a `listen` that is killed at random moments; to a server that answers by chance, and well in the end.

    The server has what it names, and now and then what it does not name; searches find both. Gives the reports that it
    has by UID, and how often it was sent one.
    """
    chance = random.Random(seed)
    has: Counter[str] = Counter()
    good: list[bool] = []

    def post(report: str) -> bytes:
        if good:
            has[report] += 1
            return answer(200, body_of([item(report)], []))
        data, names_it = drawn(report, chance)
        has[report] += names_it or chance.random() < 0.1
        return data

    def find(path: str) -> bytes:
        wanted = path.rpartition("=")[2]
        return found(wanted) if has[wanted] else drawn("1.2.3", chance)[0]

    moments = Counter(chance.randrange(studies) for _ in range(kills_))
    with stow_server(post, find) as server:
        one = Listening(directory, stow=server.url)
        try:
            for study in range(studies):
                for _ in range(moments[study]):
                    one.end(signal.SIGKILL)
                    one = Listening(directory, stow=server.url)
                left = [study_film(study)]
                while left:
                    left = try_to_store(one.port, left)
            good.append(True)
            one.end(signal.SIGKILL)
            one = last = Listening(directory, stow=server.url)  # whose start tries what waits at once
            wait_until(lambda: last.studies("sent") == studies)
            assert one.end(signal.SIGTERM) == 0
        finally:
            if one.process.poll() is None:
                one.end(signal.SIGKILL)
        assert "Traceback" not in one.log.read_text()
        assert set(server.posted) == set(+has)
    kept = sorted(path.name for path in (directory / "spool" / "sent").glob("*-report.dcm"))
    assert kept == sorted(f"{key_of(uid(study))}-report.dcm" for study in range(studies))
    return has, len(server.posted)


def test_kills_and_answers_in_doubt_lose_no_report_and_make_no_second_one(tmp_path: Path) -> None:
    has, _ = doubtful_kills(tmp_path, 5, 2, seed=4)
    assert len(+has) == 5


@pytest.mark.drill
def test_thirty_kills_and_answers_in_doubt_lose_no_report_and_make_no_second_one(tmp_path: Path) -> None:
    has, sent = doubtful_kills(tmp_path, 60, 30, seed=5)
    print(f"{sent} answers for 60 reports")  # for who runs the drill with -s
    assert len(+has) == 60
