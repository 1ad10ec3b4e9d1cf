"""Results by MLLP: what is sent, when it counts as taken, refused or for later; what a kill leaves; the whole way."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message

import r2gengpt.clinical.hl7.results as results_module
from archive_keys import NEEDS_OPENSSL, Keys
from archive_parts import (
    Kept,
    Listening,
    files,
    film_data,
    later,
    listening,
    peer,
    run_all,
    spool_in,
    stand_in_for,
    states,
    store,
    study_film,
    try_to_store,
    uid,
    wait_until,
)
from mllp_parts import ResultReceiver, Sender, acknowledged, book_in, code_of, order, result_receiver
from r2gengpt.clinical.archive.films import identified
from r2gengpt.clinical.archive.ledger import Ledger, accession_key, key_of
from r2gengpt.clinical.archive.loop import Loop, NotNow, Refused
from r2gengpt.clinical.archive.run import writer, written_for
from r2gengpt.clinical.archive.spool import Spool
from r2gengpt.clinical.hl7.orders import NO_ORDER, STAT, Order, patient_keys
from r2gengpt.clinical.hl7.results import MessageQueue, control_id_of, mllp_send
from r2gengpt.clinical.hl7.run import message_peer_of, results_sent
from r2gengpt.errors import InputError
from r2gengpt.report import Report
from r2gengpt.settings import ListenConfig, MllpConfig
from r2gengpt.text.context import Context

pytestmark = pytest.mark.filterwarnings(  # pynetdicom drops sockets whose peer has gone without closing them
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)


class Taken:
    """A peer in this process that keeps messages, unless it is told to raise something first."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.raising: list[Exception] = []

    def __call__(self, message: bytes) -> None:
        if self.raising:
            raise self.raising.pop(0)
        self.messages.append(message)


def no_order(_: object) -> Order:
    return NO_ORDER


def report_all(spool: Spool, to: Any, find: Any = no_order, **more: Any) -> None:
    """Report what is quiet, with messages."""
    later(spool, 10)
    run_all(Loop(spool, partial(stand_in_for, find, "RIS^HOSPITAL"), to, 1.0, 8, **more))


@contextmanager
def reported(directory: Path, *studies: int) -> Iterator[tuple[Spool, Kept]]:
    """A spool whose studies are reported, sent, and have messages."""
    with spool_in(directory) as spool:
        to = Kept()
        for study in studies or (1,):
            spool.add(film_data(study))
        report_all(spool, to)
        yield spool, to


def test_a_message_waits_beside_its_report_until_it_is_acknowledged(tmp_path: Path) -> None:
    with reported(tmp_path) as (spool, to):
        assert to.studies == [uid(1)]
        assert files(spool.reports) == [f"{key_of(uid(1))}.hl7"]
        taken = Taken()
        results = MessageQueue(spool, taken)
        assert results.step()
        assert not results.step()
        assert files(spool.reports) == []
        assert spool.used == sum(path.stat().st_size for place in spool.places for path in place.iterdir())
        (message,) = taken.messages
        parsed = parse_message(message.decode(), validation_level=VALIDATION_LEVEL.TOLERANT)
        assert parsed.msh.msh_9.value == "ORU^R01^ORU_R01"
        assert control_id_of(message) == parsed.msh.msh_10.value != ""
        assert (parsed.msh.msh_5.value, parsed.msh.msh_6.value) == ("RIS", "HOSPITAL")


def test_a_message_that_is_not_acknowledged_goes_again_byte_for_byte_less_and_less_often(tmp_path: Path) -> None:
    with reported(tmp_path) as (spool, _):
        taken, sent = Taken(), list[bytes]()
        taken.raising = [NotNow("away")] * 4
        results = MessageQueue(spool, lambda message: (sent.append(message), taken(message))[1])
        tries = []
        for second in range(60):
            before = len(sent)
            results.step()
            tries += [second] if len(sent) > before else []
            later(spool, 1)
        assert tries == [0, 1, 3, 7, 15]
        assert len(set(sent)) == 1


def test_a_refused_message_is_put_aside_with_its_reason_and_holds_up_no_other(tmp_path: Path) -> None:
    with reported(tmp_path, 1, 2) as (spool, _):
        taken = Taken()
        taken.raising = [Refused("AE with error 101")]
        results = MessageQueue(spool, taken)
        while results.step():
            pass
        assert len(taken.messages) == 1
        (note,) = spool.aside.glob("*.txt")
        assert note.read_text() == "the peer refused it: AE with error 101\n"
        assert note.with_suffix(".hl7").exists()
        before = sorted(path.name for path in spool.aside.iterdir())
    with spool_in(tmp_path) as spool:
        assert sorted(path.name for path in spool.aside.iterdir()) == before


def test_messages_and_reports_do_not_hold_each_other_up(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        away, taken = Kept(), Taken()
        away.raising = [NotNow("away")]
        spool.add(film_data(1))
        report_all(spool, away)
        assert MessageQueue(spool, taken).step()
        assert len(taken.messages) == 1
        assert states(spool) == {key_of(uid(1)): "reported"}
        assert files(spool.reports) == [f"{key_of(uid(1))}.dcm"]


@pytest.mark.parametrize("is_lost", [False, True], ids=["ledger kept", "ledger lost"])
def test_a_message_outlives_a_restart_and_its_report(is_lost: bool, tmp_path: Path) -> None:
    with reported(tmp_path) as (spool, _):
        (path,) = spool.reports.glob("*.hl7")
        before = path.read_bytes()
    if is_lost:
        for one in (tmp_path / "spool").glob("ledger.sqlite*"):
            one.unlink()
    with spool_in(tmp_path) as spool:
        taken = Taken()
        assert MessageQueue(spool, taken).step()
        assert taken.messages == [before]
        assert states(spool) == {key_of(uid(1)): "sent"}


def test_a_message_of_a_report_that_was_not_finished_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with spool_in(tmp_path) as spool:
        spool.add(film_data(1))
        with monkeypatch.context() as patch:
            patch.setattr(Spool, "remove", lambda *_: None)  # as if killed just before the ledger is told
            patch.setattr(Ledger, "set_reported", lambda *_: False)
            spool.keep_report(key_of(uid(1)), frozenset(), b"report", "1.2", b"message")
        assert len(files(spool.reports)) == 2
    with spool_in(tmp_path) as spool:
        assert files(spool.reports) == []
        report_all(spool, Kept())
        assert [path.read_bytes()[:3] for path in spool.reports.glob("*.hl7")] == [b"MSH"]


def test_a_film_that_comes_while_the_report_is_written_leaves_no_message(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        spool.add(film_data(1))
        assert not spool.keep_report(key_of(uid(1)), frozenset({"another"}), b"report", "1.2", b"message")
        assert spool.messages() == []
        assert files(spool.reports) == []


def test_a_message_of_a_lost_report_is_written_again_with_it(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        spool.add(film_data(1))
        to = Kept()
        to.raising = [NotNow("away")]
        report_all(spool, to)
        spool.report_path(key_of(uid(1))).unlink()
        later(spool, 60)
        assert Loop(spool, partial(stand_in_for, no_order, ""), to, 1.0, 8).step()
        assert spool.messages() == [], "its report may become another one"
        report_all(spool, to)
        assert to.studies == [uid(1)]
        assert spool.messages() == [key_of(uid(1))]


def test_an_answer_to_a_message_that_was_written_anew_meanwhile_does_not_count_for_it(tmp_path: Path) -> None:
    with reported(tmp_path) as (spool, _):
        path = spool.message_path(key_of(uid(1)))

        def write_anew(_: bytes) -> None:
            path.write_bytes(b"another")

        assert MessageQueue(spool, write_anew).step()
        assert path.read_bytes() == b"another"


def test_films_without_a_patient_make_no_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with spool_in(tmp_path) as spool:
        to = Kept()
        spool.add(film_data(1, PatientID=""))
        report_all(spool, to)
        assert to.studies == [uid(1)]
        assert spool.messages() == []
    assert "becomes no message" in caplog.text


def test_messages_that_nobody_gets_are_told_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with reported(tmp_path) as (spool, _), results_sent(spool, None):
        assert "1 messages wait in the spool" in caplog.text


def send_to(receiver: ResultReceiver, message: bytes) -> None:
    mllp_send("127.0.0.1", receiver.port)(message)


MESSAGE = b"MSH|^~\\&|r2gengpt||||20260301||ORU^R01^ORU_R01|ID-1|T|2.5.1\rPID|1\r"


@pytest.mark.parametrize(
    ("code", "number", "error"),
    [
        ("AA", "", None), ("CA", "", None), ("AE", "", Refused), ("CE", "", Refused), ("AE", "101", Refused),
        ("AE", "204", NotNow), ("AE", "207", NotNow), ("AR", "", NotNow), ("CR", "", NotNow), ("AR", "207", NotNow),
        ("AR", "200", Refused), ("CR", "203", Refused), ("ZZ", "", NotNow),
    ],
)  # fmt: skip
def test_an_answer_means_taken_refused_or_later(code: str, number: str, error: type[Exception] | None) -> None:
    with result_receiver(lambda message: acknowledged(message, code, number)) as receiver:
        if error is None:
            send_to(receiver, MESSAGE)
        else:
            with pytest.raises(error):
                send_to(receiver, MESSAGE)
        assert receiver.messages == [MESSAGE]


@pytest.mark.parametrize(
    "answer",
    [
        None, b"", b"no message", b"MSH|^~\\&|RIS\r", acknowledged(MESSAGE.replace(b"ID-1", b"ID-2")), b"MSA|AA|ID-1\r",
        b"MSH|^~\\&|\rMSA|AA\r", b"x" * 2**17,
    ],
)  # fmt: skip
def test_an_answer_in_doubt_means_later(answer: bytes | None) -> None:
    with result_receiver(lambda _: answer) as receiver, pytest.raises(NotNow):
        send_to(receiver, MESSAGE)


def test_a_commit_after_an_answer_to_another_message_counts() -> None:
    answers = acknowledged(MESSAGE.replace(b"ID-1", b"ID-0")) + b"\x1c\r\x0b" + acknowledged(MESSAGE, "CA")
    with result_receiver(lambda _: answers) as receiver:
        send_to(receiver, MESSAGE)


def test_a_peer_that_is_away_or_does_not_answer_in_time_means_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_module, "ANSWER_SECONDS", 0.2)
    with result_receiver() as receiver:
        receiver.hold.clear()
        with pytest.raises(NotNow, match="no answer in time"):
            send_to(receiver, MESSAGE)
        port = receiver.port
    with pytest.raises(NotNow, match="refused"):
        mllp_send("127.0.0.1", port)(MESSAGE)


@NEEDS_OPENSSL
def test_results_go_by_tls_to_a_peer_that_fits_alone(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    settings = ListenConfig(**keys.settings(keys.client))
    for pair, taken in ((keys.server, True), (keys.stranger, False)):
        with result_receiver() as receiver:
            receiver.secure(pair.cert, pair.key, keys.ca.cert)
            send = message_peer_of(MllpConfig(mllp=receiver.address), settings)
            assert send is not None
            if taken:
                send(MESSAGE)
            else:
                with pytest.raises(NotNow, match="TLS"):
                    send(MESSAGE)
            assert receiver.messages == [MESSAGE] * taken
    with result_receiver() as receiver:  # of plain text
        send = message_peer_of(MllpConfig(mllp=receiver.address), settings)
        assert send is not None
        with pytest.raises(NotNow):
            send(MESSAGE)
        assert MESSAGE not in receiver.messages


def test_a_stat_study_is_reported_first(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool, book_in(tmp_path) as book:
        to = Kept()
        for study in (1, 2, 3):
            spool.add(film_data(study, AccessionNumber=f"A-{study}"))
            later(spool, 1)
        book.take("1", [Order(accession_key("A-3"), priority=STAT)])
        report_all(spool, to, book.order_for, urgent=book.urgent)
        assert [str(one.StudyInstanceUID) for one in to.reports] == [uid(3), uid(1), uid(2)]


def test_a_stat_study_that_was_begun_twice_lets_others_go_first(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        keys = [key_of(uid(study)) for study in (1, 2)]
        for study in (1, 2):
            spool.add(film_data(study, AccessionNumber=f"A-{study}"))
        ranks = {accession_key("A-2"): STAT}
        later(spool, 10)
        assert spool.ledger.next_quiet(spool.clock(), ranks) == keys[1]
        spool.ledger.begin(keys[1])
        assert spool.ledger.next_quiet(spool.clock(), ranks) == keys[1]
        spool.ledger.begin(keys[1])
        assert spool.ledger.next_quiet(spool.clock(), ranks) == keys[0]


def test_the_accession_number_is_known_again_after_the_ledger_is_lost(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        for study in (1, 2):
            spool.add(film_data(study, AccessionNumber=f"A-{study}"))
    for one in (tmp_path / "spool").glob("ledger.sqlite*"):
        one.unlink()
    with spool_in(tmp_path) as spool:
        assert spool.ledger.next_quiet(spool.clock(), {accession_key("A-2"): STAT}) == key_of(uid(2))
        assert spool.ledger.next_quiet(spool.clock(), {accession_key("A-1"): STAT}) == key_of(uid(1))


def test_an_accession_number_that_a_later_film_names_counts_and_stays(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        spool.add(film_data(1))
        spool.add(film_data(2, AccessionNumber=""))
        spool.add(film_data(2, 2, AccessionNumber="A-2"))
        spool.add(film_data(2, 3, AccessionNumber=""))
        assert spool.ledger.next_quiet(spool.clock(), {accession_key("A-2"): STAT}) == key_of(uid(2))


def test_a_ledger_of_an_earlier_version_gets_its_new_column(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        spool.add(film_data(1, AccessionNumber="A-1"))
        spool.ledger._base.execute("ALTER TABLE studies DROP COLUMN accession")
    with spool_in(tmp_path) as spool:
        assert states(spool) == {key_of(uid(1)): "received"}
        report_all(spool, Kept(), urgent=lambda: {accession_key("A-1"): STAT})
        assert states(spool) == {key_of(uid(1)): "sent"}


def test_an_indication_that_cannot_stand_in_the_prompt_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []

    def write(context: Context) -> Report:
        asked.append(context.indication)
        if "long" in context.indication:
            raise InputError("does not fit")
        return Report("study", context.indication)

    assert written_for(Context("Cough"), write).text == "Cough"
    assert written_for(Context("long"), write).text == ""
    assert written_for(Order("", indication="<ImageHere>").context, write).text == ""
    assert asked == ["Cough", "long", "", ""]
    assert "reported without it" in caplog.text


def test_the_writer_gives_the_indication_to_the_model_and_the_placers_number_to_the_message(tmp_path: Path) -> None:
    asked: list[str] = []

    def write(studies: list[Any], context: Context, prior: Any = None) -> Iterator[Report]:
        asked.append(context.indication)
        yield Report("study", "The lungs are clear.")

    digest = "ab" * 32
    reporter: Any = SimpleNamespace(documents_sha256=digest, side=None, name="m", write=write, context_fields=())
    path = tmp_path / "film.dcm"
    path.write_bytes(film_data(1, AccessionNumber="A-1"))
    headers = [identified(path.read_bytes())]
    with book_in(tmp_path) as book:
        book.take("1", [Order(accession_key("A-1"), "PL-1^RIS", patient_keys("P-1"), "Fever")])
        made = writer(reporter, "sr", book.order_for, message_to="RIS")([path], headers)
        assert b"|PL-1^RIS|A-1|" in made.message
        book.take("2", [Order(accession_key("A-1"), is_withdrawn=True)])
        assert b"PL-1" not in writer(reporter, "sr", book.order_for, message_to="RIS")([path], headers).message
    assert writer(reporter, "sr")([path], headers).message == b""
    assert asked == ["Fever", "", ""]


def settings_for(port: int, receiver: ResultReceiver, **more: Any) -> dict[str, Any]:
    return {"to_host": "127.0.0.1", "to_port": port, "to_ae": "PEER", "mllp": receiver.address, "mllp_port": 0, **more}


def message_files(one: Listening) -> list[Path]:
    return list((one.log.parent / "spool" / "reports").glob("*.hl7"))


def test_an_order_comes_in_a_film_comes_in_and_a_result_goes_out(tmp_path: Path) -> None:
    with result_receiver() as receiver, peer() as (port, stored):
        with listening(tmp_path, **settings_for(port, receiver)) as one:
            with Sender(one.orders_port) as sender:
                assert code_of(sender.send(order("A-1", reason="Fever", control="7"))) == "AA 7"
                assert code_of(sender.send(order("A-1", kind="ADT^A01", control="8"))) == "AR 8"
            assert one.port is not None
            assert store(one.port, study_film(1, AccessionNumber="A-1"), study_film(2)) == [0, 0]
            wait_until(lambda: one.studies("sent") == 2 and not message_files(one))
            assert one.end(signal.SIGTERM) == 0
        assert len(stored) == 2
        found = {}
        for message in receiver.messages:
            parsed = parse_message(message.decode(), validation_level=VALIDATION_LEVEL.TOLERANT)
            request = parsed.oru_r01_patient_result.oru_r01_order_observation.obr
            found[request.obr_3.value] = (request.obr_2.value, "Fever" in message.decode())
        assert found == {"A-1": ("PL-1^RIS", True), "A 77": ("", False)}
        log = one.log.read_text()
        assert "message acknowledged" in log
        assert not [word for word in ("Fever", "DOE", "PL-1", "A-1", "P-1") if word in log]


def test_a_kill_between_message_and_acknowledgement_sends_it_again_under_the_same_control_id(tmp_path: Path) -> None:
    with result_receiver() as receiver, peer() as (port, stored):
        receiver.hold.clear()
        first = Listening(tmp_path, **settings_for(port, receiver))
        assert first.port is not None
        assert store(first.port, study_film(1)) == [0]
        wait_until(lambda: len(receiver.messages) == 1 and first.studies("sent") == 1)
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
        receiver.hold.set()
        with listening(tmp_path, **settings_for(port, receiver)) as second:
            wait_until(lambda: len(receiver.messages) == 2 and not message_files(second))
            assert second.end(signal.SIGTERM) == 0
        with listening(tmp_path, **settings_for(port, receiver)) as third:
            assert store(third.port or 0, study_film(1)) == [0]
            assert third.end(signal.SIGTERM) == 0
        assert len(set(receiver.messages)) == 1
        assert len(receiver.messages) == 2
        assert len(set(stored)) == 1


def killed_with_messages(directory: Path, number: int) -> bool:
    """Two orders, two studies and their messages by a `listen` that is killed before its operation `number`."""
    films = [study_film(1, AccessionNumber="A-1"), study_film(2, AccessionNumber="A-2")]
    orders = [order(f"A-{study}", control=str(study), reason=f"Reason{study}") for study in (1, 2)]
    with result_receiver() as receiver, peer() as (port, stored):
        first = Listening(directory, kill_before=number, **settings_for(port, receiver))
        kept = [one for one in orders if try_to_order(first.orders_port, one)]
        left = films
        if len(kept) == 2:
            left = try_to_store(first.port, films)
        if first.process.poll() is None and not left:
            wait_until(lambda: first.process.poll() is not None or is_done(first))
        survived = not left and len(kept) == 2 and first.process.poll() is None
        first.end(signal.SIGKILL)
        with listening(directory, **settings_for(port, receiver)) as second:
            assert all(try_to_order(second.orders_port, one) for one in orders if one not in kept)
            assert try_to_store(second.port, left) == []
            wait_until(lambda: is_done(second))
            assert second.end(signal.SIGTERM) == 0
        texts = {control_id_of(one): one.decode() for one in receiver.messages}
        assert len(set(receiver.messages)) == len(texts) == 2, number
        assert sorted("Reason1" in text for text in texts.values()) == [False, True], "no order was lost"
        assert len(set(stored)) == 2
    return survived


def is_done(one: Listening) -> bool:
    return one.studies("sent") == 2 and not message_files(one)


def try_to_order(port: int | None, message: bytes) -> bool:
    """Whether an order was acknowledged."""
    try:
        with Sender(port) as sender:
            return sender.send(message) != b""
    except (AssertionError, OSError):
        return False


@pytest.mark.parametrize("number", [4, 12, 20])
def test_a_kill_before_a_durable_operation_loses_no_order_and_no_message(number: int, tmp_path: Path) -> None:
    killed_with_messages(tmp_path, number)


@pytest.mark.drill
def test_a_kill_before_each_durable_operation_loses_no_order_and_no_message(tmp_path: Path) -> None:
    survived = [killed_with_messages(tmp_path / str(number), number) for number in range(1, 50)]
    assert survived[-1], "there are more operations"
    assert survived.index(True) > 15
