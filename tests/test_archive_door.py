"""Peers that connect to `listen` and say nothing, too little or too much: they cost no place, and delay nobody."""

import logging
import socket
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pynetdicom.dimse_primitives import C_CANCEL

import r2gengpt.clinical.archive.bounded as bounded
import r2gengpt.clinical.archive.door as door
import r2gengpt.clinical.archive.send as send
from archive_parts import (
    LONG,
    association,
    drop_sockets,
    listening,
    receiver_in,
    stand_in,
    store,
    study_film,
    wait_until,
)
from conftest import Outcome
from r2gengpt.clinical.archive.bounded import ABORT, EVERY, Seldom
from r2gengpt.clinical.archive.loop import NotNow
from r2gengpt.clinical.archive.spool import KeptFilm
from slow_peers import KINDS, log_of, request, seconds_of_a_good_one, slow_peers
from test_archive_receive import header_of_film

pytestmark = pytest.mark.filterwarnings(  # pynetdicom drops sockets whose peer has gone without closing them
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)
IDLE_KINDS = ("idle", "idle trickle", "idle huge")


def connect(port: int, data: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), 10, (source, 0))
    made.sendall(data)
    return made


def last_word(connection: socket.socket) -> bytes:
    """What the listener says until it ends a connection, which it must within ten seconds."""
    with connection:
        data = b""
        try:
            while piece := connection.recv(4096):
                data += piece
        except ConnectionResetError:
            pass
        return data


@pytest.mark.parametrize("kind", [*KINDS, *IDLE_KINDS])
def test_eight_slow_peers_delay_a_good_one_by_less_than_a_second(kind: str, tmp_path: Path) -> None:
    with receiver_in(tmp_path) as (_, receiver):
        quiet = seconds_of_a_good_one(receiver.port, 1)
        with slow_peers(receiver.port, 8, (kind,)):
            seconds = (seconds_of_a_good_one(receiver.port, number) for number in (2, 3, 4))
            assert any(one < quiet + 1 for one in seconds), "each of three was delayed"  # a busy machine delays one


@pytest.mark.parametrize("data", [b"", b"\x01", request()[:40], request()[:-1]])
def test_who_does_not_ask_in_time_is_sent_away(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "ASK_SECONDS", 0.1)
    with receiver_in(tmp_path) as (_, receiver):
        assert last_word(connect(receiver.port, data)) == ABORT


HUGE, SHORT, DATA, TLS = b"\1\0\xff\xff\xff\xff", b"\1\0\0\0\0\5", b"\4\0\0\0\0\x50", b"\x16\3\1\0\xee\1"


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", HUGE, SHORT, DATA, TLS])
def test_what_cannot_become_a_request_is_ended_at_once(data: bytes, tmp_path: Path) -> None:
    with receiver_in(tmp_path) as (_, receiver):
        assert last_word(connect(receiver.port, data)) in (ABORT, b"")  # b"": where the rest was not read
        assert store(receiver.port, study_film(1)) == [0]


def test_a_request_may_come_in_pieces(tmp_path: Path) -> None:
    with receiver_in(tmp_path) as (_, receiver), connect(receiver.port) as connection:
        for at in range(0, len(request()), 50):
            connection.sendall(request()[at : at + 50])
            threading.Event().wait(0.01)
        assert connection.recv(1) == b"\x02"  # A-ASSOCIATE-AC


def test_of_too_many_of_one_address_the_oldest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MOST_OF_ADDRESS", 3)
    with receiver_in(tmp_path) as (_, receiver):
        other = connect(receiver.port, source="127.0.0.2")
        first, *rest = [connect(receiver.port) for _ in range(4)]
        assert last_word(first) == ABORT
        for one in [other, *rest]:
            with one:
                one.sendall(request())
                assert one.recv(1) == b"\x02"


def test_of_too_many_the_oldest_of_the_busiest_address_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MOST_CALLERS", 3)
    with receiver_in(tmp_path) as (_, receiver):
        with connect(receiver.port, source="127.0.0.2") as other:
            mine = [connect(receiver.port) for _ in range(6)]
            assert [last_word(one) for one in mine[:4]] == [ABORT] * 4
            other.sendall(request())
            assert other.recv(1) == b"\x02"
        for one in mine[4:]:
            one.close()


def test_where_all_places_are_in_use_the_next_one_waits_and_is_rejected_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "WAIT_SECONDS", 0.2)
    with receiver_in(tmp_path, max_associations=1) as (spool, receiver):
        hold, begun = threading.Event(), threading.Event()
        take = spool.take

        def slow(data: Any) -> KeptFilm:
            begun.set()
            assert hold.wait(30)
            return take(data)

        monkeypatch.setattr(spool, "take", slow)
        sent: list[Any] = []
        thread = threading.Thread(target=lambda: sent.extend(store(receiver.port, study_film(1))))
        thread.start()
        assert begun.wait(30)
        with association(receiver.port) as assoc:
            assert assoc.is_rejected
        hold.set()
        thread.join()
        assert sent == [0]
        assert store(receiver.port, study_film(2)) == [0]


def test_a_sender_that_gets_further_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sends while idle ones come and go: it is never sent away."""
    now = 0.0  # it goes on between two films only, as a busy machine would keep a sender from getting further, too
    monkeypatch.setattr(bounded, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(door, "WAIT_SECONDS", LONG)
    film = study_film(1)
    film.PixelData = bytes(2**21)
    with (
        receiver_in(tmp_path, max_associations=2) as (_, receiver),
        association(receiver.port, film) as assoc,
        slow_peers(receiver.port, 3, ("idle", "idle trickle")) as peers,
    ):
        end = time.monotonic() + LONG
        while peers.again < 3:
            assert assoc.send_c_store(film).Status == 0
            now += 0.9 * door.IDLE_SECONDS
            assert time.monotonic() < end


def test_a_peer_whose_message_gets_no_answer_loses_its_place_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "SECONDS", 0.2)
    cancel = C_CANCEL()
    cancel.MessageIDBeingRespondedTo = 1
    with receiver_in(tmp_path, max_associations=1) as (_, receiver), association(receiver.port) as assoc:
        assoc.dimse.send_msg(cancel, assoc.accepted_contexts[0].context_id)
        (held,) = receiver.server.active_associations
        wait_until(lambda: held.dul.socket is None or held.dul.socket._busy_since is not None)
        assert store(receiver.port, study_film(1)) == [0]


def test_a_fault_of_ours_does_not_shut_the_door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with receiver_in(tmp_path) as (_, receiver):
        faults = [1, 2]
        admit, enter = receiver._door._admit, receiver._door.enter

        def faulty_admit() -> None:
            if faults[1:]:
                raise ValueError(f"Muster^Erika {faults.pop()}")
            admit()

        def faulty_enter(*args: Any) -> Any:
            if faults:
                raise ValueError(f"Muster^Erika {faults.pop()}")
            return enter(*args)

        monkeypatch.setattr(receiver._door, "_admit", faulty_admit)
        monkeypatch.setattr(receiver._door, "enter", faulty_enter)
        assert last_word(connect(receiver.port, request())) == ABORT
        assert store(receiver.port, study_film(1)) == [0]
    assert "could not be let in: ValueError at test_archive_door.py" in caplog.text
    assert "Muster" not in caplog.text


def test_strangers_write_one_line_a_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "r2gengpt"), receiver_in(tmp_path) as (_, receiver):
        for _ in range(50):
            last_word(connect(receiver.port, b"GET / HTTP/1.1\r\n\r\n"))
    assert len(caplog.records) == 1


def test_a_line_that_is_held_back_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    line = Seldom("refused: ", clock=lambda: now[0])
    for number in range(5):
        line(f"reason {number}")
    now[0] = EVERY
    line("again")
    assert [record.getMessage() for record in caplog.records] == ["refused: reason 0", "refused: again (5 times)"]


def test_closing_waits_for_no_slow_peer(tmp_path: Path) -> None:
    with receiver_in(tmp_path) as (_, receiver), slow_peers(receiver.port, 6, ("idle", "silent", "idle trickle")):
        wait_until(lambda: bool(receiver.server.active_associations))
        begun = time.monotonic()
        receiver.close()
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize("kind", ["silent", "trickle", "huge"])
def test_a_peer_that_answers_slowly_or_hugely_gets_no_report_and_holds_up_nothing(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "SECONDS", 0.3)
    report = stand_in([], [header_of_film()])
    stop = threading.Event()

    def answer(listening_: socket.socket) -> None:
        with listening_.accept()[0] as connection:
            connection.recv(2**16)
            try:
                if kind == "huge":
                    connection.sendall(b"\x02\0\xff\xff\xff\xff")
                for byte in b"\x02\0\0\0\0\xb8" + bytes(999):
                    if stop.wait(0.05):
                        return
                    connection.sendall(b"" if kind == "silent" else bytes([byte]))
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listening_:
        thread = threading.Thread(target=answer, args=(listening_,))
        thread.start()
        begun = time.monotonic()
        with pytest.raises(NotNow):
            send.c_store("127.0.0.1", listening_.getsockname()[1], "PEER", "US")(report.data)
        assert time.monotonic() - begun < 5
        stop.set()
        thread.join()
    drop_sockets()


@pytest.mark.drill
def test_among_five_hundred_slow_peers_good_ones_are_served_within_twice_their_quiet_time(tmp_path: Path) -> None:
    """The listener is a process of its own. Peers come back as soon as they are sent away."""
    with listening(tmp_path, stow="http://127.0.0.1:1/none", quiet_seconds=1000.0) as one:
        assert one.port is not None
        quiet = [seconds_of_a_good_one(one.port, number) for number in range(30)]
        with slow_peers(one.port, 500) as peers:
            busy = [seconds_of_a_good_one(one.port, 100 + number) for number in range(30)]
            again = peers.again
        assert one.studies("received") == 60
    found = [f"{name(times):.3f} s" for times in (quiet, busy) for name in (statistics.median, max)]
    print(f"median and longest, quiet and busy: {', '.join(found)}; {again} came again")  # for who runs it with -s
    assert statistics.median(busy) < 2 * statistics.median(quiet)
    assert max(busy) < max(quiet) + 1
    assert "Traceback" not in log_of(tmp_path)
    assert len(log_of(tmp_path).splitlines()) < 10


def test_what_is_asked_of_listening_reaches_who_does_it(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Callable[[list[str]], Outcome]
) -> None:
    """In one process, with a loop that ends at once."""
    seen: dict[str, Any] = {}

    class EndsAtOnce:
        def __init__(self, spool: Any, write: Any, send: Any, quiet: float, most: int, **more: Any) -> None:
            seen.update(write=write, quiet=quiet, most=most, mixed=more["mixed"], urgent=more["urgent"]())

        def run(self, stop: Any) -> None:
            seen["stop"] = stop.is_set()

    monkeypatch.setattr("r2gengpt.clinical.archive.run.Loop", EndsAtOnce)

    def name_them(
        reporter: Any, form: str, find: Any, *, further: Any, message_to: str | None, earlier: Any
    ) -> tuple[Any, ...]:
        return reporter.name, form, further, message_to, earlier

    monkeypatch.setattr("r2gengpt.clinical.archive.run.writer", name_them)
    asked = ["--format", "pdf", "sr", "--quiet_seconds", "7", "--max_images", "3", "--mixed_patients", "True"]
    asked += ["--mllp_port", "0", "--mllp", "127.0.0.1:9", "--mllp_receiver", "RIS^HOSPITAL"]
    place = ["--model", str(tiny_checkpoint), "--spool", str(tmp_path / "spool"), "--port", "0"]
    done = run_cli(["listen", *place, "--stow", "http://127.0.0.1:9", "--accelerator", "cpu", *asked])
    assert (done.code, done.stdout.count("r2gengpt listens at 127.0.0.1:")) == (0, 1), done.stderr
    assert ", for orders at 127.0.0.1:" in done.stdout
    write = (tiny_checkpoint.name, "pdf", ["sr"], "RIS^HOSPITAL", None)
    assert seen == {"write": write, "quiet": 7.0, "most": 3, "mixed": True, "stop": False, "urgent": {}}
