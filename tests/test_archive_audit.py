"""What `listen` and `dicomweb` record of films, reports, orders and callers; and that nothing goes unrecorded."""

import random
import resource
import signal
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

import r2gengpt.clinical.archive.door as door_module
from archive_keys import NEEDS_OPENSSL, Keys
from archive_parts import (
    SR,
    Kept,
    Listening,
    association,
    film_data,
    later,
    listening,
    peer,
    receiver_in,
    run_all,
    spool_in,
    stand_in,
    states,
    store,
    study_film,
    try_to_store,
    uid,
    wait_until,
)
from audit_parts import Said, said_in
from mllp_parts import Sender, book_in, code_of, intake_in, order
from r2gengpt.auditlog.attempts import EACH
from r2gengpt.auditlog.log import AuditLog, opened_log
from r2gengpt.auditlog.message import ActiveParticipant
from r2gengpt.auditlog.verify import verify
from r2gengpt.cli.commands.dicomweb import written
from r2gengpt.clinical.archive.audited import ArchiveAudit, recording
from r2gengpt.clinical.archive.ledger import key_of
from r2gengpt.clinical.archive.loop import Loop, NotNow, Refused
from r2gengpt.clinical.archive.receive import NO_ROOM, NOT_UNDERSTOOD
from r2gengpt.clinical.archive.run import document_of
from r2gengpt.clinical.hl7.audited import subjects_of_result
from r2gengpt.clinical.hl7.listener import OrderListener
from r2gengpt.clinical.hl7.orders import accession_key
from r2gengpt.clinical.hl7.run import order_listener
from r2gengpt.errors import RunError
from r2gengpt.films.dicom.header import read_header
from r2gengpt.report import Report
from r2gengpt.reporter import Reporter
from r2gengpt.settings import ListenConfig, MllpConfig
from test_archive_tls import a_strangers, no_certificate, old_tls, store_by, weak_ciphers

pytestmark = pytest.mark.filterwarnings(  # pynetdicom drops sockets whose peer has gone without closing them
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning",
    "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning",
)
PEER = ActiveParticipant("PEER", address="192.0.2.9", alternative="AETITLES=PEER")


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    return opened_log(str(tmp_path / "log"), "listen", ["R2GENGPT"])


def said(log: AuditLog) -> list[Said]:
    verify(log.directory)
    return said_in(log.directory)


def short(one: Said) -> tuple[str, str, str]:
    return one.event, one.action, one.outcome


@contextmanager
def no_room(log: AuditLog) -> Iterator[None]:
    """The log's directory is not there."""
    away = log.directory.with_name("away")
    log.directory.rename(away)
    try:
        yield
    finally:
        away.rename(log.directory)


def test_each_film_that_comes_is_recorded_with_its_sender_study_and_patient(tmp_path: Path, log: AuditLog) -> None:
    with receiver_in(tmp_path, ArchiveAudit(log)) as (_, receiver):
        assert store(receiver.port, study_film(1), study_film(1), study_film(2, AccessionNumber="A-2")) == [0, 0, 0]
        assert store(receiver.port, study_film(3, StudyInstanceUID="")) == [NOT_UNDERSTOOD]
    found = said(log)
    assert [short(one) for one in found] == [
        ("DICOM Instances Transferred", "C", "0"),
        ("DICOM Instances Transferred", "R", "0"),
        ("DICOM Instances Transferred", "C", "0"),
        ("DICOM Instances Transferred", "R", "4"),
    ]
    assert [one.objects for one in found] == [
        (uid(1), "P-1"), (uid(1), "P-1"), (uid(2), "P-2"), ("unknown", "unknown"),
    ]  # fmt: skip
    assert {(one.user, one.address) for one in found} == {("TESTER", "127.0.0.1")}
    assert 'AlternativeUserID="AETITLES=R2GENGPT"' in found[0].xml
    assert '<Accession Number="A-2" />' in found[2].xml
    assert "<EventOutcomeDescription>status 0xC000<" in found[3].xml


def test_a_film_that_cannot_be_recorded_is_not_said_to_be_taken(tmp_path: Path, log: AuditLog) -> None:
    with receiver_in(tmp_path, ArchiveAudit(log)) as (spool, receiver):
        assert store(receiver.port, study_film(1)) == [0]
        with no_room(log):
            assert store(receiver.port, study_film(2)) == [NO_ROOM]
        assert store(receiver.port, study_film(2)) == [0]
        assert states(spool) == {key_of(uid(1)): "received", key_of(uid(2)): "received"}
    assert [one.event for one in said(log)] == [
        "DICOM Instances Transferred", "Security Alert", "DICOM Instances Transferred",
    ]  # fmt: skip


def test_reports_are_recorded_when_films_are_used_and_when_they_go(tmp_path: Path, log: AuditLog) -> None:
    kept, audit = Kept(), ArchiveAudit(log)
    with spool_in(tmp_path) as spool:
        loop = Loop(spool, audit.writing(stand_in), audit.sending(kept, PEER), 0, 8)
        spool.add(film_data(1))
        kept.raising = [NotNow("no answer"), Refused("status 0xC000")]
        run_all(loop)
        later(spool, 5)
        run_all(loop)
        spool.add(film_data(2))
        run_all(loop)
        assert states(spool) == {key_of(uid(1)): "aside", key_of(uid(2)): "sent"}
    begin, end = "Begin Transferring DICOM Instances", "DICOM Instances Transferred"
    found = said(log)
    assert [(one.event, one.outcome, one.objects[0]) for one in found] == [
        ("DICOM Instances Accessed", "0", uid(1)),
        (begin, "0", uid(1)), (end, "4", uid(1)), (begin, "0", uid(1)), (end, "8", uid(1)),
        ("DICOM Instances Accessed", "0", uid(2)),
        (begin, "0", uid(2)), (end, "0", uid(2)),
    ]  # fmt: skip
    assert "<EventOutcomeDescription>no answer<" in found[2].xml
    assert f'SOPClass UID="{SR}"' in found[1].xml
    assert 'UserID="PEER" AlternativeUserID="AETITLES=PEER"' in found[1].xml


def test_without_the_log_no_report_is_written_or_sent_and_nothing_is_put_aside(
    tmp_path: Path, log: AuditLog, caplog: pytest.LogCaptureFixture
) -> None:
    kept, audit = Kept(), ArchiveAudit(log)
    with spool_in(tmp_path) as spool:
        loop = Loop(spool, audit.writing(stand_in), audit.sending(kept, PEER), 0, 8)
        spool.add(film_data(1))
        with no_room(log):
            run_all(loop)
            assert states(spool) == {key_of(uid(1)): "received"}
            assert "the audit log cannot be written (No such file or directory): again in 10 s" in caplog.text
        later(spool, 11)
        assert loop.step()
        assert states(spool) == {key_of(uid(1)): "reported"}
        with no_room(log):
            run_all(loop)
            assert kept.reports == []
        later(spool, 11)
        run_all(loop)
        assert kept.studies == [uid(1)]
    verify(log.directory)


def test_a_report_whose_end_cannot_be_recorded_goes_out_again_as_the_same_object(tmp_path: Path, log: AuditLog) -> None:
    sent: list[bytes] = []
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)

    def send(report: bytes) -> None:
        sent.append(report)
        if len(sent) == 1:
            (path,) = log.directory.glob("audit-*.log")
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, kept[1]))

    with spool_in(tmp_path) as spool:
        spool.add(film_data(1))
        report = stand_in([], [read_header(film_data(1), "film")]).data
        try:
            with pytest.raises(NotNow, match="it goes out again"):
                ArchiveAudit(log).sending(send, PEER)(report)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, kept)
        ArchiveAudit(log).sending(send, PEER)(report)
    assert sent == [report, report]
    assert said(log)[-1].outcome == "0"


def test_who_is_not_let_in_is_recorded_up_to_a_number(tmp_path: Path, log: AuditLog) -> None:
    with recording(log) as audit, receiver_in(tmp_path, audit, allowed_aets=("FRIEND",)) as (_, receiver):
        for _ in range(EACH + 2):
            with association(receiver.port, calling="STRANGER") as assoc:
                assert assoc.is_rejected
    found = said(log)[1:-1]
    assert [(*short(one), one.kind, one.user) for one in found[:-1]] == [
        ("Security Alert", "E", "4", "110126", "STRANGER")
    ] * EACH
    assert found[-1].details == ("2 more refused attempts have no record of their own",)


@NEEDS_OPENSSL
def test_a_caller_whom_tls_refuses_is_recorded_by_its_address(tmp_path: Path, log: AuditLog) -> None:
    keys = Keys(tmp_path / "keys")
    with receiver_in(tmp_path, ArchiveAudit(log), **keys.settings()) as (_, receiver):
        assert store_by(receiver.port, no_certificate(keys), patience=2.0) == []
        wait_until(lambda: len(said_in(log.directory)) == 1)
    (one,) = said(log)
    assert (*short(one), one.kind, one.user) == ("Security Alert", "E", "4", "110126", "127.0.0.1")
    assert one.details[0].startswith("TLS: ")


@NEEDS_OPENSSL
def test_a_handshake_at_the_port_of_films_that_is_not_done_in_its_time_is_recorded(
    tmp_path: Path, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "ASK_SECONDS", 0.2)
    keys = Keys(tmp_path / "keys")
    with receiver_in(tmp_path, ArchiveAudit(log), **keys.settings()) as (_, receiver), Sender(receiver.port):
        wait_until(lambda: len(said_in(log.directory)) == 1)
    (one,) = said(log)
    assert one.details == ("TLS: the handshake was not done in its time",)


@NEEDS_OPENSSL
@pytest.mark.parametrize("caller", [no_certificate, a_strangers, old_tls, weak_ciphers, None])
def test_a_failed_handshake_at_the_port_of_orders_is_recorded_and_no_order_is_taken(
    caller: Callable[[Keys], ssl.SSLContext] | None, tmp_path: Path, log: AuditLog
) -> None:
    keys = Keys(tmp_path / "keys")
    settings, mllp = ListenConfig(**keys.settings()), MllpConfig(mllp_port=0)
    audit = ArchiveAudit(log)
    with (
        book_in(tmp_path) as book,
        order_listener(settings, mllp, book, log, audit.unsafe) as port,
        Sender(port) as sender,
    ):
        if caller is None:
            assert b"MSA" not in sender.send(order())
        else:
            with suppress(OSError):  # TLS 1.3 refuses us where we read first
                sender.socket = caller(keys).wrap_socket(sender.socket, server_hostname="127.0.0.1")
                assert sender.send(order()) == b""
        wait_until(lambda: len(said_in(log.directory)) == 1)
    (one,) = said(log)
    assert (*short(one), one.kind, one.user) == ("Security Alert", "E", "4", "110126", "127.0.0.1")
    assert one.details[0].startswith("TLS: ")


def test_orders_are_recorded_with_sender_and_patient_and_wait_where_they_cannot_be(
    tmp_path: Path, log: AuditLog
) -> None:
    with intake_in(tmp_path, audit=log) as intake:
        assert code_of(intake.answer(order(), "192.0.2.8")[0]) == "AA 1"
        assert code_of(intake.answer(order(action="CA", control="2"), "192.0.2.8")[0]) == "AA 2"
        assert code_of(intake.answer(order(action="??", control="3"), "192.0.2.8")[0]) == "AE 3"
        with no_room(log):
            assert code_of(intake.answer(order("A-4", control="4"), "192.0.2.8")[0]) == "AR 4"
        assert code_of(intake.answer(order("A-4", control="4"), "192.0.2.8")[0]) == "AA 4"
    found = [one for one in said(log) if one.event == "Order Record"]
    assert [(one.action, one.outcome, one.objects) for one in found] == [
        ("C", "0", ("P-1", accession_key("A-1"))),
        ("D", "0", ("P-1", accession_key("A-1"))),
        ("C", "4", ("unknown",)),
        ("C", "0", ("P-1", accession_key("A-4"))),
    ]
    assert {(one.user, one.address) for one in found} == {("RIS^HOSPITAL", "192.0.2.8")}
    assert "Cough" not in "".join(one.xml for one in found)


def test_an_order_that_is_too_long_is_recorded_with_its_sender(tmp_path: Path, log: AuditLog) -> None:
    with intake_in(tmp_path, audit=log) as intake, closing(OrderListener("127.0.0.1", 0, intake, 4)) as listener:
        with Sender(listener.port) as sender:
            assert code_of(sender.send(order(reason="Cough" * intake.most_bytes))) == "AR 1"
        with no_room(log):
            assert code_of(intake.refuse_long(order())[0]) == "AR 1"
    (one,) = [one for one in said(log) if one.event == "Order Record"]
    assert (one.action, one.outcome, one.user, one.address) == ("C", "4", "RIS^HOSPITAL", "127.0.0.1")
    assert f"more than {intake.most_bytes} bytes" in one.xml


def test_results_by_hl7_are_recorded_as_exports(tmp_path: Path, log: AuditLog) -> None:
    header = read_header(film_data(1, AccessionNumber="A-1"), "film")
    message = document_of(Report("study", "Large heart."), [header], "m", "ab" * 32, "sr", message_to="").message
    sent: list[bytes] = []
    ArchiveAudit(log).exporting(sent.append, ("ris.example", 2575), subjects_of_result)(message)
    (one,) = said(log)
    assert (*short(one), one.kind, one.objects) == ("Export", "R", "0", "result", (uid(1), "P-1"))
    assert '<Accession Number="A-1" />' in one.xml
    assert "Large heart" not in one.xml
    assert sent == [message]


def test_a_study_that_is_pulled_is_asked_for_and_recorded(log: AuditLog) -> None:
    audit, url = ArchiveAudit(log), "http://pacs.example/dicom-web"
    header = read_header(film_data(1), "film")
    assert audit.pulling(lambda: [(b"", header)], url, uid(1)) == [(b"", header)]
    with pytest.raises(ZeroDivisionError):
        audit.pulling(lambda: [(bytes(1 // 0), header)], url, uid(2))
    assert audit.pulling(lambda: [], url, uid(4)) == []
    with no_room(log), pytest.raises(RunError, match="the audit log cannot be written"):
        audit.pulling(lambda: [], url, uid(3))
    found = [one for one in said(log) if one.event != "Security Alert"]
    assert [(*short(one), one.objects[0]) for one in found] == [
        ("Query", "E", "0", "1.2.840.10008.5.1.4.1.2.2.1"),
        ("DICOM Instances Transferred", "C", "0", uid(1)),
        ("Query", "E", "0", "1.2.840.10008.5.1.4.1.2.2.1"),
        ("DICOM Instances Transferred", "C", "8", uid(2)),
        ("Query", "E", "0", "1.2.840.10008.5.1.4.1.2.2.1"),
        ("DICOM Instances Transferred", "C", "0", uid(4)),
    ]


def listen_killed(directory: Path, number: int) -> None:
    """`listen` is killed before its operation `number`; the next one goes on. What was sent is in the log, whole."""
    log, films = directory / "log", [study_film(1, 1), study_film(2, 1)]
    with peer() as (port, stored):
        settings = {"to_host": "127.0.0.1", "to_port": port, "to_ae": "PEER", "audit_log": str(log)}
        first = Listening(directory, kill_before=number, **settings)
        left = try_to_store(first.port, films)
        if not left:
            wait_until(lambda: first.process.poll() is not None or first.studies("sent") == 2)
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
        with listening(directory, **settings) as second:
            assert try_to_store(second.port, left) == []
            wait_until(lambda: second.studies("sent") == 2)
            assert second.end(signal.SIGTERM) == 0
    verify(log)
    found = said_in(log)
    sent = [one.objects[0] for one in found if one.event == "DICOM Instances Transferred" and not one.user]
    came = [one.objects[0] for one in found if one.event == "DICOM Instances Transferred" and one.user == "TESTER"]
    assert set(sent) == set(came) == {uid(1), uid(2)}
    begun = [one.objects[0] for one in found if one.event == "Begin Transferring DICOM Instances"]
    assert len(begun) >= len(stored) >= len(set(stored)) == 2, (number, begun, stored)
    assert found[-1].kind == "110121", "it was stopped"


@pytest.mark.parametrize("number", [7, 19, 31])
def test_listen_that_is_killed_leaves_a_chain_that_holds_and_has_what_was_sent(tmp_path: Path, number: int) -> None:
    listen_killed(tmp_path, number)


@pytest.mark.drill
def test_listen_that_is_killed_twenty_times_leaves_chains_that_hold_and_have_what_was_sent(tmp_path: Path) -> None:
    for number in random.Random(7).sample(range(2, 60), 20):
        listen_killed(tmp_path / str(number), number)


def test_dicomweb_ends_with_one_line_where_the_use_of_films_cannot_be_recorded(
    served: Reporter, tmp_path: Path, log: AuditLog
) -> None:
    films = [(film_data(1), read_header(film_data(1), "film"))]
    audit = ArchiveAudit(log)
    assert written(served, films, ["sr"], audit).uid
    with no_room(log), pytest.raises(RunError, match="the audit log cannot be written"):
        written(served, films, ["sr"], audit)
    assert [one.event for one in said(log)] == ["DICOM Instances Accessed"]
