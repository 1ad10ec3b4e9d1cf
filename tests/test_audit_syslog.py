"""Audit records to a syslog server by TLS: each in RFC 5424's form, none lost while the server is away."""

import os
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from archive_keys import NEEDS_OPENSSL, Keys, Pair
from archive_parts import free_port, wait_until
from audit_parts import check_message, said_in
from conftest import Outcome
from r2gengpt.auditlog import follow as follow_module
from r2gengpt.auditlog import syslog as syslog_module
from r2gengpt.auditlog.chain import record_after
from r2gengpt.auditlog.codes import own_code
from r2gengpt.auditlog.events import NOBODY, accessed, subjects_of_study, this_process
from r2gengpt.auditlog.files import find_end
from r2gengpt.auditlog.follow import STATE, LogFollower, Mark, SentState
from r2gengpt.auditlog.log import AuditLog, log_of
from r2gengpt.auditlog.message import MINOR, xml_of
from r2gengpt.auditlog.syslog import syslog_message
from r2gengpt.auditlog.verify import verify
from r2gengpt.clinical.archive.tls import syslog_connection
from r2gengpt.errors import InputError
from r2gengpt.settings import AuditLogConfig
from stow_answers import answer, stow_server

pytestmark = NEEDS_OPENSSL
SYSLOG = re.compile(
    rb"<(\d{1,3})>1 (\S+) (\S+) r2gengpt (\d+) DICOM\+RFC3881 - \xef\xbb\xbf(<AuditMessage.*)", re.DOTALL
)


class Repository:
    """A syslog server of TLS on a port of its own: its messages, and what is wrong with it."""

    def __init__(self, pair: Pair, ca: Path, port: int = 0) -> None:
        self.messages: list[bytes] = []
        self.connections = 0
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pair.cert, pair.key)
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.context.load_verify_locations(ca)
        self.listening = socket.create_server(("127.0.0.1", port))
        self.port = int(self.listening.getsockname()[1])
        self.open: list[socket.socket] = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while True:
            try:
                plain, _ = self.listening.accept()
            except OSError:
                return
            self.open.append(plain)
            plain.settimeout(20)
            with suppress(OSError), self.context.wrap_socket(plain, server_side=True) as connection:
                self.open.append(connection)
                self.connections += 1
                with suppress(OSError, ValueError):
                    self._read(connection)

    def _read(self, connection: ssl.SSLSocket) -> None:
        with connection.makefile("rb") as file:
            while head := file.read(1):
                while not head.endswith(b" "):
                    head += file.read(1)
                self.messages.append(file.read(int(head)))

    def close(self) -> None:
        with suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        for one in self.open:
            with suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)
        self.thread.join()

    @property
    def kinds(self) -> list[str]:
        """The kinds of the events that came."""
        return [re.findall(r'EventTypeCode csd-code="([^"]+)"', one.decode())[0] for one in self.messages]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@contextmanager
def repository(keys: Keys, port: int = 0) -> Iterator[Repository]:
    made = Repository(keys.server, keys.ca.cert, port)
    try:
        yield made
    finally:
        made.close()


def config(directory: Path, keys: Keys, port: int, **changes: Any) -> AuditLogConfig:
    values: dict[str, Any] = {
        "audit_log": str(directory / "log"),
        "audit_syslog": f"127.0.0.1:{port}",
        "audit_syslog_ca": str(keys.ca.cert),
        "audit_syslog_cert": str(keys.client.cert),
        "audit_syslog_key": str(keys.client.key),
    }
    return AuditLogConfig(**{**values, **changes})


def log_in(directory: Path, keys: Keys, port: int, **changes: Any) -> AuditLog:
    made = log_of(config(directory, keys, port, **changes), "listen", connect=syslog_connection)
    assert made is not None
    return made


def record(log: AuditLog, name: str, outcome: str = "0") -> None:
    log.append(accessed(log.process, None, NOBODY, own_code(name, "of a test"), outcome))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_WAIT", "LONGEST_WAIT", "PAUSE"):
        monkeypatch.setattr(syslog_module, name, 0.02)


def test_each_record_goes_in_the_form_of_the_rfcs_in_its_order(tmp_path: Path, keys: Keys) -> None:
    with repository(keys) as server, log_in(tmp_path, keys, server.port).running() as log:
        record(log, "one")
        record(log, "two ≥", MINOR)
        wait_until(lambda: len(server.messages) == 3)
        found = [SYSLOG.fullmatch(one) for one in server.messages]
        assert all(found)
        priorities, times, hosts, processes, bodies = zip(*(one.groups() for one in found if one), strict=True)
    assert priorities == (b"85", b"85", b"84")
    assert set(processes) == {str(os.getpid()).encode()}
    assert len(set(hosts)) == 1
    assert all(datetime.fromisoformat(one.decode()).tzinfo is not None for one in times)
    sent = [check_message(one.decode()) for one in bodies]
    kept = said_in(tmp_path / "log")
    assert [one.xml for one in kept[:3]] == [one.decode() for one in bodies]
    assert len(sent) == 3


@pytest.mark.parametrize(("outcome", "priority"), [("0", 85), ("4", 84), ("8", 84)])
@pytest.mark.parametrize("words", ["1.2", 'EventOutcomeIndicator="0"', 'EventDateTime="2001-01-01T00:00:00+00:00" '
                                   'EventOutcomeIndicator="0"'])  # fmt: skip
def test_the_priority_is_the_outcomes_whatever_texts_of_strangers_say(words: str, outcome: str, priority: int) -> None:
    message = accessed(this_process("listen"), None, subjects_of_study(words), own_code("a", "of a test"), outcome)
    sent = syslog_message(record_after("0" * 64, 0, xml_of(message, "us")), "host", "1")
    found = SYSLOG.fullmatch(sent)
    assert found is not None
    assert (int(found[1]), found[2][:19].decode()) == (priority, message.when.isoformat()[:19])


def test_the_stop_of_a_program_still_goes(tmp_path: Path, keys: Keys) -> None:
    with repository(keys) as server:
        with log_in(tmp_path, keys, server.port).running():
            pass
        assert server.kinds == ["110120", "110121"]


def test_records_wait_while_the_server_is_away_and_hold_up_nobody(
    tmp_path: Path, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    with log_in(tmp_path, keys, port).running() as log:
        for number in range(600):
            record(log, f"r{number}")
        wait_until(lambda: "do not reach" in caplog.text)
        with repository(keys, port) as server:
            wait_until(lambda: len(server.messages) == 601)
            assert server.kinds == ["110120", *(f"r{number}" for number in range(600))]
            assert caplog.text.count("do not reach") == 1
    assert verify(tmp_path / "log").records == 602


def test_another_process_goes_on_where_one_was_ended(tmp_path: Path, keys: Keys) -> None:
    port = free_port()
    with log_in(tmp_path, keys, port).running() as log:
        record(log, "unsent")
    with repository(keys, port) as server, log_in(tmp_path, keys, port).running():
        wait_until(lambda: len(server.messages) == 4)
        assert server.kinds == ["110120", "unsent", "110121", "110120"]
    with repository(keys, port) as server, log_in(tmp_path, keys, port).running():
        wait_until(lambda: len(server.messages) == 1)
        assert server.kinds == ["110120"], "what was sent goes once"


def test_a_server_that_goes_and_comes_back_misses_no_record(tmp_path: Path, keys: Keys) -> None:
    port, seen = free_port(), set[str]()
    with log_in(tmp_path, keys, port).running() as log:
        for turn in range(4):
            with repository(keys, port) as server:
                wanted = {f"t{turn}-{number}" for number in range(20)}
                for name in sorted(wanted):
                    record(log, name)
                wait_until(lambda server=server, wanted=wanted: wanted <= set(server.kinds))  # type: ignore[misc]  # its own
                seen |= set(server.kinds)
            record(log, f"away-{turn}")
        with repository(keys, port) as server:
            record(log, "last")
            wait_until(lambda: "last" in server.kinds)
            seen |= set(server.kinds)
    assert {f"away-{turn}" for turn in range(4)} <= seen


def test_two_programs_of_one_log_send_each_record_once(tmp_path: Path, keys: Keys) -> None:
    with (
        repository(keys) as server,
        log_in(tmp_path, keys, server.port).running() as one,
        log_in(tmp_path, keys, server.port).running() as two,
    ):
        for number in range(10):
            record(one if number % 2 else two, f"r{number}")
        wait_until(lambda: len(server.messages) >= 12)
        assert server.kinds == ["110120", "110120", *(f"r{number}" for number in range(10))]
        assert server.connections == 1


def old_tls(server: Repository, keys: Keys) -> None:
    server.context.set_ciphers("ALL:@SECLEVEL=0")
    server.context.minimum_version, server.context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1


def strangers(server: Repository, keys: Keys) -> None:
    server.context.load_cert_chain(keys.stranger.cert, keys.stranger.key)


def wants_another(server: Repository, keys: Keys) -> None:
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.context.load_cert_chain(keys.server.cert, keys.server.key)
    server.context.verify_mode = ssl.CERT_REQUIRED
    server.context.load_verify_locations(keys.other_ca.cert)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
@pytest.mark.parametrize("wrong", [old_tls, strangers, wants_another])
def test_no_record_goes_to_a_server_that_does_not_fit(
    wrong: Any, tmp_path: Path, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    with repository(keys) as server:
        wrong(server, keys)
        with log_in(tmp_path, keys, server.port).running() as log:
            record(log, "one")
            wait_until(lambda: "do not reach" in caplog.text)
        assert server.messages == []
    assert "(TLS: " in caplog.text or wrong is wants_another  # whose alert may be lost with the connection
    with repository(keys) as server, log_in(tmp_path, keys, server.port).running():
        wait_until(lambda: len(server.messages) == 4)


def refuses_late(server: socket.socket, context: ssl.SSLContext) -> None:
    """Shake hands by TLS 1.3, and look at who the other side is only once its first bytes are there."""
    plain, _ = server.accept()
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(came, goes, server_side=True)
    with plain:
        came.write(plain.recv(65536))
        with suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        plain.sendall(goes.read())
        threading.Event().wait(0.5)
        came.write(plain.recv(65536))
        with suppress(ssl.SSLError):
            tls.do_handshake()
        plain.sendall(goes.read())


def test_a_server_that_refuses_us_after_the_handshake_gets_what_it_refused_later(
    tmp_path: Path, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys.server.cert, keys.server.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(keys.other_ca.cert)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = int(listening.getsockname()[1])
        slow = threading.Thread(target=refuses_late, args=(listening, context), daemon=True)
        slow.start()
        with log_in(tmp_path, keys, port).running():
            wait_until(lambda: "do not reach" in caplog.text, seconds=10)
            slow.join()
            listening.close()
    with repository(keys, port) as server, log_in(tmp_path, keys, port).running():
        wait_until(lambda: len(server.messages) >= 3, seconds=20)
        assert server.kinds == ["110120", "110121", "110120"]


SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "no log": ({"audit_log": None}, "audit_syslog needs audit_log"),
    "no authority": ({"audit_syslog_ca": None}, "audit_syslog_ca is missing"),
    "half a pair": ({"audit_syslog_key": None}, "audit_syslog_cert and audit_syslog_key belong together"),
    "no port": ({"audit_syslog": "log.example"}, "audit_syslog log.example: must be like log.example:6514"),
    "no server": ({"audit_syslog": None}, "need audit_syslog"),
    "no file": ({"audit_syslog_ca": "no/such"}, "audit_syslog_ca no/such: no such file"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_cannot_be_meant_are_refused_in_one_line(name: str, tmp_path: Path, keys: Keys) -> None:
    changes, words = SETTINGS[name]
    with pytest.raises(InputError) as error:
        log_in(tmp_path, keys, 1, **changes)
    assert words in str(error.value)


def test_how_far_a_log_was_sent_outlives_a_torn_write(tmp_path: Path) -> None:
    state = SentState(tmp_path)
    for number in (1, 2, 3):
        state.save(Mark(number, f"{number}" * 64))
    with pytest.raises(BlockingIOError):
        SentState(tmp_path)
    state.close()
    data = (tmp_path / STATE).read_bytes()
    slot = 128 if b" 3 333" in data[128:] else 0
    (tmp_path / STATE).write_bytes(data[: slot + 9] + bytes(60) + data[slot + 69 :])
    again = SentState(tmp_path)
    assert again.mark == Mark(2, "2" * 64)
    again.close()


def test_files_that_were_put_away_before_they_were_sent_are_counted(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    for day in (1, 2, 3):
        noon = datetime.fromisoformat(f"2026-01-0{day}T12:00Z")
        record(AuditLog(tmp_path / "log", "listen", clock=partial(datetime.astimezone, noon)), f"d{day}")
    first, *_ = sorted((tmp_path / "log").iterdir())
    first.unlink()
    follower = LogFollower(tmp_path / "log", Mark(0, "0" * 64))
    assert [one.number for _ in range(2) for one in follower.next()] == [2, 3]
    assert follower.missing == 1
    assert LogFollower(tmp_path / "log", Mark(99, "0" * 64)).next()[0].number == 2
    assert LogFollower(tmp_path / "log", None).next() == []


def written(directory: Path, names: list[str], *, days: int = 1) -> Mark:
    """A log of records, spread over days; its last record."""
    directory.mkdir()
    for at, name in enumerate(names):
        noon = datetime.fromisoformat(f"2026-01-0{1 + at * days // len(names)}T12:00Z")
        log = AuditLog(directory, "listen", clock=partial(datetime.astimezone, noon))
        record(log, name)
    end = find_end(directory)
    return Mark(end.number, end.digest)


def followed(follower: LogFollower) -> list[str]:
    """The kinds of all records that are there now."""
    found = iter(follower.next, [])
    return [re.findall(r'EventTypeCode csd-code="([^"]+)"', one.message)[0] for some in found for one in some]


@pytest.mark.parametrize("sent", [1, 2, 3, 5])
@pytest.mark.parametrize("days", [1, 2, 5])
def test_all_records_of_a_log_that_took_anothers_place_are_sent(sent: int, days: int, tmp_path: Path) -> None:
    mark = written(tmp_path / "old", [f"old{at}" for at in range(sent)])
    names = [f"new{at}" for at in range(5)]
    last = written(tmp_path / "new", names, days=days)
    follower = LogFollower(tmp_path / "new", mark)
    assert followed(follower) == names
    assert follower.missing == 0
    assert followed(LogFollower(tmp_path / "new", last)) == [], "of the same log nothing goes twice"


def test_a_log_that_is_made_anew_while_it_is_sent_is_sent_whole(tmp_path: Path) -> None:
    written(tmp_path / "log", ["old1", "old2", "old3"])
    follower = LogFollower(tmp_path / "log", Mark(0, "0" * 64))
    assert followed(follower) == ["old1", "old2", "old3"]
    (tmp_path / "log").rename(tmp_path / "away")
    written(tmp_path / "log", ["new1", "new2"])
    assert followed(follower) == ["new1", "new2"]


def test_a_changed_record_makes_no_other_log_of_what_was_sent(tmp_path: Path) -> None:
    written(tmp_path / "log", ["one", "two", "three", "four"], days=2)
    first, _ = sorted((tmp_path / "log").iterdir())
    _, second = LogFollower(tmp_path / "log", Mark(0, "0" * 64)).next()
    first.write_text(first.read_text(encoding="utf-8").replace('"two"', '"TWO"'), encoding="utf-8")
    assert followed(LogFollower(tmp_path / "log", Mark(2, second.digest))) == ["three", "four"]


def test_a_record_of_any_length_is_sent_with_those_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "MOST_BYTES", 100)
    last = written(tmp_path / "log", ["one", "two", "three"])
    assert followed(LogFollower(tmp_path / "log", Mark(0, "0" * 64))) == ["one", "two", "three"]
    assert followed(LogFollower(tmp_path / "log", last)) == []


def test_an_older_file_that_cannot_be_read_ends_no_program_and_what_waits_for_it_goes_later(
    tmp_path: Path, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    old = tmp_path / "log" / "audit-2020-01-01.log"
    old.parent.mkdir()
    record(AuditLog(tmp_path / "log", "listen", clock=lambda: datetime.fromisoformat("2026-01-01T12:00Z")), "before")
    old.mkdir()
    with repository(keys) as server, log_in(tmp_path, keys, server.port).running() as log:
        record(log, "one")
        wait_until(lambda: "audit records do not reach the syslog server" in caplog.text)
        assert server.messages == []
        old.rmdir()
        wait_until(lambda: len(server.messages) == 2)
    assert server.kinds == ["110120", "one", "110121"]


def test_a_record_that_comes_while_the_day_changes_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    days = iter((1, 1, 2))
    log = AuditLog(tmp_path, "listen", clock=lambda: datetime.fromisoformat(f"2026-01-0{next(days)}T12:00Z"))
    record(log, "one")
    follower = LogFollower(tmp_path, Mark(0, "0" * 64))
    assert [one.number for one in follower.next()] == [1]
    read = LogFollower._read

    def reading(self: LogFollower, path: Path) -> Any:
        found = read(self, path)
        monkeypatch.setattr(LogFollower, "_read", read)
        record(log, "within the old day's file, after it was read")
        record(log, "within the new one")
        return found

    monkeypatch.setattr(LogFollower, "_read", reading)
    numbers = [one.number for _ in range(3) for one in follower.next()]
    assert numbers == [2, 3]


def test_a_command_sends_what_it_records(
    tmp_path: Path, keys: Keys, tiny_checkpoint: Path, run_cli: Callable[[list[str]], Outcome]
) -> None:
    with repository(keys) as server, stow_server(lambda _: b"", lambda _: answer(200, b"[]")) as archive:
        flags = {"audit_log": tmp_path / "log", "audit_syslog": f"127.0.0.1:{server.port}"}
        flags |= {"audit_syslog_ca": keys.ca.cert, "audit_syslog_cert": keys.client.cert}
        flags |= {"audit_syslog_key": keys.client.key, "model": tiny_checkpoint, "url": archive.url, "study": "1.2.3"}
        done = run_cli(["dicomweb", *(word for name, value in flags.items() for word in (f"--{name}", str(value)))])
        assert "no such study" in done.stderr
        kept = [one.xml for one in said_in(tmp_path / "log")]
        assert len(kept) == 4
        assert [one.partition(b"\xef\xbb\xbf")[2].decode() for one in server.messages] == kept
