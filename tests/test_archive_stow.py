"""What a DICOMweb server answers to a report: sent is what it names, nothing else; and what the loop does with it."""

import contextlib
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import r2gengpt.clinical.archive.stow as stow_module
from archive_parts import Clock, film_data, later, run_all, spool_in, stand_in, states, uid
from r2gengpt.clinical.archive.exchange import BoundedSession, Doubtful
from r2gengpt.clinical.archive.ledger import key_of
from r2gengpt.clinical.archive.loop import Loop, NotNow, Refused
from r2gengpt.clinical.archive.web import connect, stow
from r2gengpt.films.dicom.header import read_header
from stow_answers import (
    JSON,
    LOGIN,
    STORED,
    XML,
    Server,
    answer,
    body_of,
    chunked,
    drawn,
    found,
    item,
    packed,
    stow_server,
    xml_of,
)

REPORT = stand_in([], [read_header(film_data(1), "film")])
UID = REPORT.uid
GOOD = body_of([item(UID)], [])
SHORT, LONG_RUN = 120, 2000


def outcome(server: Server) -> str:
    """What sending a report to this server comes to."""
    failed: Exception | None = None
    try:
        stow(connect(server.url))(REPORT.data)
    except (Refused, NotNow) as error:
        failed = error
    assert "\n" not in str(failed)
    assert UID not in str(failed)
    return {Refused: "refused", NotNow: "later", type(None): "sent"}[type(failed)]


SENT = {
    "json": answer(200, GOOD),
    "json with parameters": answer(200, GOOD, f"{JSON}; charset=utf-8"),
    "plain json": answer(200, GOOD, "application/json"),
    "xml": answer(200, xml_of(UID), XML),
    "202 that names it": answer(202, GOOD),
    "a warning": answer(200, body_of([item(UID, 0xB000)], [])),
    "padded": answer(200, body_of([item(f"{UID}\0")], [])),
    "chunked": chunked(GOOD),
    "packed": packed(GOOD),
}
LATER = {
    "empty 200": answer(200),
    "202": answer(202),
    "204": answer(204, b"", None),
    "nothing listed": answer(200, b"{}"),
    "empty sequences": answer(200, body_of([], [])),
    "login page": answer(200, LOGIN, "text/html"),
    "login page as json": answer(200, LOGIN),
    "named, but as html": answer(200, GOOD, "text/html"),
    "named, without a type": answer(200, GOOD, None),
    "redirect": answer(302, b"", None, "Location: http://127.0.0.1:9/login"),
    "redirect that names it": answer(307, GOOD, JSON, "Location: /dicom-web/studies"),
    "another instance": answer(200, body_of([item(UID + "1")], [])),
    "named twice": answer(200, body_of([item(UID)], [item(UID, 0xC000)])),
    "no room": answer(409, body_of([], [item(UID, 0xA700)])),
    "processing failure": answer(200, body_of([], [item(UID, 0x0110)])),
    "failure without a reason": answer(409, body_of([], [item(UID)])),
    "an error that names it as stored": answer(500, GOOD),
    "400 of a proxy": answer(400, b"<html>", "text/html"),
    "409 alone": answer(409),
    "413": answer(413, b"", "text/html"),
    "401": answer(401, b"", None),
    "503": answer(503, b"", None, "Retry-After: 9"),
    "a list": answer(200, b"[%b]" % GOOD),
    "cut off": answer(200, GOOD)[:-9],
    "cut off chunks": chunked(GOOD)[:-30],
    "no http": b"\x16\x03\x01 what",
    "nothing": b"",
    "too large": answer(200, GOOD + b" " * 2**20),
    "a bomb": packed(bytes(2**26)),
    "a bomb in a bomb": answer(200, GOOD, JSON, "Content-Encoding: gzip, gzip"),
    "deep json": answer(200, b"[" * 100_000),
    "deep xml": answer(200, b"<a>" * 100_000, XML),
    "entities": answer(200, b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + xml_of(UID), XML),
    "an unknown encoding": answer(200, xml_of(UID).replace(b"utf-8", b"utf-99"), XML),
    "a number": answer(200, b'{"%b": 3}' % STORED.encode()),
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500,
}


@pytest.mark.parametrize("name", SENT)
def test_a_report_that_the_answer_names_as_stored_is_sent(name: str) -> None:
    with stow_server(lambda _: SENT[name]) as server:
        assert outcome(server) == "sent"
        assert (server.posted, len(server.paths)) == ([UID], 1)


@pytest.mark.parametrize("name", LATER)
def test_an_answer_in_doubt_means_later(name: str) -> None:
    with stow_server(lambda _: LATER[name]) as server:
        assert outcome(server) == "later"
        assert set(server.posted) == {UID}


@pytest.mark.parametrize("name", ["empty 200", "204", "login page", "redirect", "cut off", "nothing", "a bomb"])
def test_after_an_answer_in_doubt_the_server_is_asked_whether_it_has_the_report(name: str) -> None:
    with stow_server(lambda _: LATER[name], lambda _: found(UID)) as server:
        assert outcome(server) == "sent"
        assert server.paths[1].endswith(f"/instances?SOPInstanceUID={UID}")


FOUND_NOTHING = {
    "another": found(UID + "1"),
    "login page": answer(200, LOGIN, "text/html"),
    "login page that names it": answer(200, UID.encode(), "text/html"),
    "found, but as html": answer(200, b'[{"00080018": {"Value": ["%b"]}}]' % UID.encode(), "text/html"),
    "redirect": answer(302, b"", None, "Location: /"),
    "no list": answer(200, b'{"00080018": {"Value": ["%b"]}}' % UID.encode()),
    "numbers": answer(200, b'[1, null, {"00080018": 4}, {"00080018": {"Value": [5]}}]'),
    "error": answer(500, b'[{"00080018": {"Value": ["%b"]}}]' % UID.encode()),
    "nothing": b"",
}


@pytest.mark.parametrize("name", FOUND_NOTHING)
def test_a_search_counts_only_if_it_names_the_report(name: str) -> None:
    with stow_server(lambda _: answer(200), lambda _: FOUND_NOTHING[name]) as server:
        assert outcome(server) == "later"


@pytest.mark.parametrize("reason", [0xA900, 0xC000, 0xC122, 0x0117])
def test_a_report_that_the_answer_names_as_refused_is_refused(reason: int) -> None:
    with stow_server(lambda _: answer(409, body_of([], [item(UID, reason)]))) as server:
        assert outcome(server) == "refused"


def test_a_report_without_uids_is_refused_unsent() -> None:
    with stow_server(lambda _: answer(200)) as server:
        for data in (b"", b"no dicom", REPORT.data.replace(UID.encode(), b"x" * len(UID))):
            with pytest.raises(Refused):
                stow(connect(server.url))(data)
        assert server.posted == []


def test_a_redirect_is_not_followed_anywhere() -> None:
    with stow_server(lambda _: answer(200, GOOD)) as other:
        where = f"Location: {other.url}/studies"
        with stow_server(lambda _: answer(307, b"", None, where), lambda _: answer(302, b"", None, where)) as server:
            assert outcome(server) == "later"
        assert other.paths == []


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{"])
def test_an_answer_that_trickles_is_given_up_after_its_time(data: bytes) -> None:
    ended = threading.Event()

    class Trickle(Server):
        def _answer(self, connection: Any) -> bytes:
            with contextlib.suppress(OSError):
                connection.sendall(data)
                while not ended.wait(0.02):
                    connection.sendall(b"1")
            return b""

    server = Trickle(lambda _: b"")
    try:
        begun = time.monotonic()
        with BoundedSession(2**20, 0.3) as session, pytest.raises(Doubtful, match="takes more than 0 s"):
            session.get(server.url, timeout=(5, 5))
        assert time.monotonic() - begun < 3
    finally:
        ended.set()
        server.close()


def test_a_silent_server_is_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stow_module, "SILENT", 0.1)
    held = threading.Event()
    with stow_server(lambda _: answer(200) if held.wait(0.5) else b"") as server:
        assert outcome(server) == "later"
        held.set()


def fuzz(count: int) -> Counter[str]:
    """Drawn answers; each must come to what it says, and none to an error of ours."""
    chance, seen = random.Random(14), Counter[str]()
    said: list[bool] = []

    def post(uid_: str) -> bytes:
        data, names_it = drawn(uid_, chance)
        said.append(names_it)
        return data

    with stow_server(post) as server:
        send = stow(connect(server.url))
        for number in range(count):
            came_to = "sent"
            try:
                send(REPORT.data)
            except (Refused, NotNow) as error:
                came_to = type(error).__name__
            assert (came_to == "sent") == said[-1], (number, came_to)
            seen[came_to] += 1
    assert len(said) == count
    return seen


def test_drawn_answers_count_as_sent_only_if_they_name_the_report() -> None:
    seen = fuzz(SHORT)
    assert min(seen["sent"], seen["NotNow"]) > 10


@pytest.mark.drill
def test_two_thousand_drawn_answers_count_as_sent_only_if_they_name_the_report() -> None:
    seen = fuzz(LONG_RUN)
    print(seen)  # for who runs the drill with -s
    assert seen.total() == LONG_RUN


def test_no_answer_ends_the_loop_or_loses_a_film(tmp_path: Path) -> None:
    """Ten studies through answers of chance, until the server answers as it should."""
    chance = random.Random(3)
    good = [False]

    def post(uid_: str) -> bytes:
        return answer(200, body_of([item(uid_)], [])) if good[0] else drawn("1.2.3", chance)[0]

    with stow_server(post) as server, spool_in(tmp_path) as spool:
        for study in range(10):
            spool.add(film_data(study))
        loop = Loop(spool, stand_in, stow(connect(server.url)), 0, 8)
        for _ in range(60):
            loop.step()
            later(spool, 60)
        assert set(states(spool).values()) == {"reported"}
        assert len(list(spool.incoming.iterdir())) == 10
        good[0] = True
        for _ in range(40):
            loop.step()
            later(spool, 60)
        assert set(states(spool).values()) == {"sent"}
        assert set(server.posted[-10:]) == set(server.posted)


def test_a_report_that_always_fails_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """It comes first, and fails with every kind of answer; those that come later are sent within a second each."""
    kinds = list(LATER.values())
    poison: list[str] = []

    def post(uid_: str) -> bytes:
        poison[:] = poison or [uid_]
        return kinds[len(server.posted) % len(kinds)] if uid_ in poison else answer(200, body_of([item(uid_)], []))

    with stow_server(post) as server, spool_in(tmp_path) as spool:
        loop = Loop(spool, stand_in, stow(connect(server.url)), 0, 8)
        for study in range(20):
            spool.add(film_data(study))
            run_all(loop)
            later(spool, 1)
            run_all(loop)
            if study:
                assert states(spool)[key_of(uid(study))] == "sent", study
        assert Counter(states(spool).values()) == {"sent": 19, "reported": 1}
        later(spool, 4000)
        run_all(loop)
        assert server.posted[-1] in poison


def test_a_peer_that_is_away_with_many_reports_is_tried_once_a_minute(tmp_path: Path) -> None:
    tries: list[float] = []
    clock = Clock()

    def away(_: bytes) -> None:
        tries.append(clock.now)
        raise NotNow("away")

    with spool_in(tmp_path, clock=clock) as spool:
        for study in range(30):
            spool.add(film_data(study))
        loop = Loop(spool, stand_in, away, 0, 8)
        for _ in range(1200):
            run_all(loop)
            later(spool, 1)
        assert len(tries) < 30
        loop.send = lambda _: None
        for _ in range(120):
            run_all(loop)
            later(spool, 1)
        assert set(states(spool).values()) == {"sent"}


def test_an_error_of_a_library_while_sending_is_for_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: bytes) -> None:
        raise AttributeError("Muster^Erika")

    with spool_in(tmp_path) as spool:
        spool.add(film_data(1))
        run_all(Loop(spool, stand_in, broken, 0, 8))
        assert set(states(spool).values()) == {"reported"}
        assert "not sent (AttributeError at " in caplog.text
        assert "Muster" not in caplog.text
