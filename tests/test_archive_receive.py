"""Films by C-STORE over real sockets, reports out again: what peers are answered, and what they cannot do."""

import contextlib
import logging
import struct
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import JPEG2000Lossless

import r2gengpt.clinical.archive.bounded as bounded
from archive_parts import (
    Clock,
    Kept,
    association,
    files,
    film_data,
    peer,
    receiver_in,
    run_all,
    spool_in,
    stand_in,
    states,
    store,
    study_film,
    to_peer,
    uid,
    wait_until,
)
from r2gengpt.clinical.archive.films import checked_film
from r2gengpt.clinical.archive.ledger import key_of
from r2gengpt.clinical.archive.loop import Loop, NotNow, Refused
from r2gengpt.clinical.archive.receive import FAULT, MAX_PDU, NO_ROOM, NOT_UNDERSTOOD, Receiver
from r2gengpt.clinical.archive.send import judge
from r2gengpt.clinical.archive.spool import KeptFilm
from r2gengpt.errors import InputError
from r2gengpt.films.cell.pool import _log_once
from r2gengpt.films.sources import study_of
from r2gengpt.settings import ListenConfig

pytestmark = pytest.mark.filterwarnings(  # pynetdicom drops sockets whose peer has gone without closing them
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)


def test_films_are_kept_and_echo_is_answered(tmp_path: Path) -> None:
    with receiver_in(tmp_path) as (spool, receiver):
        with association(receiver.port) as assoc:
            assert assoc.send_c_echo().Status == 0
        assert store(receiver.port, study_film(1, 1), study_film(1, 2)) == [0, 0]
        assert states(spool) == {key_of(uid(1)): "received"}
        assert len(files(spool.incoming)) == 2


def test_two_senders_at_once_mix_nothing(tmp_path: Path) -> None:
    with receiver_in(tmp_path) as (spool, receiver):
        numbers = (range(0, 8), range(4, 12))  # half of the studies come from both
        answers: list[list[int | None]] = []

        def send(studies: range) -> None:
            answers.append(store(receiver.port, *(study_film(study, n) for study in studies for n in (1, 2))))

        threads = [threading.Thread(target=send, args=(studies,)) for studies in numbers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [[0] * 16] * 2
        assert set(states(spool)) == {key_of(uid(study)) for study in range(12)}
        assert len(files(spool.incoming)) == 24
        kept = Kept()
        run_all(Loop(spool, stand_in, kept, 0, 8))
        assert kept.studies == sorted(uid(study) for study in range(12))


@pytest.mark.parametrize(("called", "calling"), [("OTHER", "TESTER"), ("R2GENGPT", "STRANGER")])
def test_who_calls_another_title_or_is_not_allowed_is_rejected(called: str, calling: str, tmp_path: Path) -> None:
    with (
        receiver_in(tmp_path, allowed_aets=("TESTER",)) as (_, receiver),
        association(receiver.port, called=called, calling=calling) as assoc,
    ):
        assert assoc.is_rejected


def test_what_has_no_place_here_finds_no_presentation_context(tmp_path: Path) -> None:
    ct = study_film(1, SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    with receiver_in(tmp_path) as (spool, receiver), association(receiver.port, ct) as assoc:
        assert not assoc.is_established
        assert files(spool.incoming) == []


@pytest.mark.parametrize("bad_uid", [None, f"{uid(2)}\\{uid(1)}"])
def test_a_film_of_no_study_or_of_two_is_answered_with_a_failure_and_kept_aside(
    bad_uid: str | None, tmp_path: Path
) -> None:
    with receiver_in(tmp_path) as (spool, receiver):
        good, bad = study_film(1), study_film(2, StudyInstanceUID=bad_uid)
        assert store(receiver.port, bad, good) == [NOT_UNDERSTOOD, 0]
        assert len(files(spool.aside)) == 2
        (reason,) = spool.aside.glob("*.txt")
        assert reason.read_text() == "has no valid study UID to refer to\n"
        assert set(states(spool)) == {key_of(uid(1))}


def test_a_full_spool_is_answered_with_out_of_resources(tmp_path: Path) -> None:
    size = len(film_data(1))
    limits = {"max_spool_bytes": max(2 * size, 2048), "max_instance_bytes": 2048}
    with receiver_in(tmp_path, None, **limits) as (spool, receiver):
        spool.most_bytes = size + 200
        assert store(receiver.port, study_film(1), study_film(2)) == [0, NO_ROOM]
        assert len(files(spool.incoming)) == 1
        spool.most_bytes = 10 * size
        assert store(receiver.port, study_film(2)) == [0]


def test_a_fault_of_ours_is_answered_with_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver_in(tmp_path) as (spool, receiver):
        monkeypatch.setattr(spool, "_write", lambda *_: 1 / 0)
        assert store(receiver.port, study_film(1)) == [FAULT]
        assert spool.ledger.films() == []


def test_an_association_that_is_aborted_within_a_film_leaves_nothing_of_it(tmp_path: Path) -> None:
    with receiver_in(tmp_path) as (spool, receiver):
        one = study_film(1)
        with association(receiver.port, one) as assoc:
            raw = assoc.dul.socket.socket
            payload = b"\x01\x00" + b"\x00" * 500  # a piece of data without a command, and then nothing more
            raw.sendall(struct.pack(">BBL", 4, 0, len(payload) + 4 + 2000) + struct.pack(">L", len(payload)) + payload)
            assoc.abort()
        wait_until(lambda: not receiver.server.active_associations)
        assert (files(spool.incoming), files(spool.aside)) == ([], [])
        assert store(receiver.port, one) == [0]


def test_a_film_larger_than_allowed_ends_its_association_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "_too_large", bounded.Seldom("beyond `max_instance_bytes`"))  # one a minute
    large = study_film(1)
    large.PixelData = bytes(2 * 2**20)
    with (
        receiver_in(tmp_path, max_instance_bytes=2**20) as (spool, receiver),
        caplog.at_level(logging.WARNING, "r2gengpt"),
    ):
        with association(receiver.port, large, patience=1.0) as assoc:
            assert "Status" not in assoc.send_c_store(large)
        assert store(receiver.port, study_film(2)) == [0]
        assert len(files(spool.incoming)) == 1
        assert "max_instance_bytes" in caplog.text


def test_a_header_that_claims_gigabytes_is_not_believed(tmp_path: Path) -> None:
    with receiver_in(tmp_path) as (_, receiver), association(receiver.port) as assoc:
        raw = assoc.dul.socket.socket
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the header alone may end it
            raw.sendall(struct.pack(">BBL", 4, 0, 2**32 - 1) + bytes(8 * MAX_PDU))
        wait_until(lambda: not receiver.server.active_associations)


def test_requests_that_do_not_wait_for_their_answers_do_not_pile_up(tmp_path: Path, monkeypatch: Any) -> None:
    with receiver_in(tmp_path, max_instance_bytes=2**20) as (spool, receiver):
        hold, begun = threading.Event(), threading.Event()
        take = spool.take

        def slow(data: Any) -> KeptFilm:
            begun.set()
            assert hold.wait(30)
            return take(data)

        monkeypatch.setattr(spool, "take", slow)
        one = study_film(1)
        one.PixelData = bytes(600_000)
        with association(receiver.port, one, patience=1.0) as assoc:
            sent = []

            def many() -> None:
                send = assoc.dul.socket.send
                monkeypatch.setattr(assoc.dul.socket, "send", lambda data: (sent.append(bytes(data)), send(data)))
                assoc.send_c_store(one)

            thread = threading.Thread(target=many)
            thread.start()
            assert begun.wait(30)
            wait_until(lambda: sum(map(len, sent)) > 600_000)
            raw = assoc.dul.socket.socket
            with pytest.raises(OSError):  # whichever way the connection ends
                raw.sendall(50 * b"".join(sent))
            hold.set()
            thread.join(30)


def test_the_address_that_is_taken_is_refused_by_name(tmp_path: Path) -> None:
    with receiver_in(tmp_path / "a") as (_, receiver), spool_in(tmp_path / "b") as spool:
        taken = ListenConfig(port=receiver.port)
        with pytest.raises(InputError, match=f"port {receiver.port}: Address already in use"):
            Receiver(spool, taken)


def test_a_report_goes_out_by_c_store_once(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool, peer() as (port, stored):
        spool.add(film_data(1))
        run_all(Loop(spool, stand_in, to_peer(port), 0, 8))
        assert len(stored) == 1
        assert [study.report for study in spool.ledger.studies("sent")] == stored


def test_a_peer_without_room_gets_the_same_report_again(tmp_path: Path) -> None:
    clock = Clock()
    with spool_in(tmp_path, clock=clock) as spool, peer([0xA700]) as (port, stored):
        spool.add(film_data(1))
        loop = Loop(spool, stand_in, to_peer(port), 0, 8)
        run_all(loop)
        assert stored == []
        clock.now += 60
        run_all(loop)
        assert [study.report for study in spool.ledger.studies("sent")] == stored


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(0, None), (0xB000, None), (0xB007, None), (0xA701, NotNow), (None, NotNow), (0xA900, Refused), (0xC123, Refused)],
)
def test_what_an_answers_status_means(status: int | None, outcome: type[Exception] | None) -> None:
    if outcome is None:
        judge(status)
    else:
        with pytest.raises(outcome):
            judge(status)


def test_a_peer_that_is_away_rejects_us_or_takes_no_reports_is_for_later(tmp_path: Path) -> None:
    report = stand_in([], [header_of_film()])
    with receiver_in(tmp_path) as (_, receiver):
        from r2gengpt.clinical.archive.send import c_store

        for called, words in (("R2GENGPT", "takes no such reports"), ("OTHER", "rejects us as US")):
            with pytest.raises(NotNow, match=words):
                c_store("127.0.0.1", receiver.port, called, "US")(report.data)
        closed = receiver.port
    with pytest.raises(NotNow, match="is not reached"):
        to_peer(closed)(report.data)


def header_of_film() -> Any:
    from r2gengpt.films.dicom.header import read_header

    return read_header(film_data(1), "film")


def test_compressed_films_are_kept_as_they_come(tmp_path: Path) -> None:
    from pydicom import dcmread
    from pydicom.data import get_testdata_file

    found = get_testdata_file("JPEG2000.dcm")  # pydicom's own small file
    assert found is not None
    one = dcmread(found)
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    with receiver_in(tmp_path) as (spool, receiver):
        assert store(receiver.port, one) == [0]
        (name,) = files(spool.incoming)
        kept = dcmread(spool.incoming / name)
        assert kept.file_meta.TransferSyntaxUID == one.file_meta.TransferSyntaxUID != JPEG2000Lossless
        assert kept.PixelData == one.PixelData


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "who gets the reports"),
        ({"to_host": "h"}, "to_port, to_ae missing"),
        ({"to_host": "h", "to_port": 1, "to_ae": "A", "stow": "http://h"}, "two peers"),
        ({"to_ae": "SEVENTEEN_LETTERS"}, "to_ae"),
        ({"allowed_aets": ("",)}, "allowed_aets"),
        ({"max_spool_bytes": 2000, "max_instance_bytes": 3000}, "is less than"),
        ({"quiet_seconds": -1.0}, "quiet_seconds"),
        ({"spool": " "}, "spool is empty"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ListenConfig(**changes).check_peer()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ("who gets the reports", "--stow")),
        (["--stow", "http://h/d", "--port", "70000"], ("--port 70000", "at most 65535")),
        (["--stow", "http://h/d", "--to_ae", "PACS"], ("two peers",)),
        (["--stow", "http://h/d", "--speculate", "True", "--beam_size", "1"], ("--speculate True", "not in listen")),
        (["--stow", "http://h/d", "--quite_seconds", "4"], ("--quite_seconds", "--quiet_seconds")),
        (["--stow", "no address"], ("--stow no address", "must be like http://")),
        (["--stow", "http://h/d", "--password_file", "no/such"], ("--password_file no/such",)),
        (["--stow", "http://h/d", "--bind", "192.0.2.1"], ("--bind 192.0.2.1",)),
        (["--stow", "http://h/d", "--model", "no/such/place"], ("--model no/such/place",)),
        (["--stow", "http://h/d", "--mllp", "ris"], ("--mllp ris: must be like ris.example:2575",)),
        (["--stow", "http://h/d", "--mllp_tls", "False"], ("--mllp_tls False has an effect with --tls_cert",)),
    ],
)
def test_wrong_flags_of_listen_are_refused_in_one_line(
    words: list[str], parts: tuple[str, ...], run_cli: Any, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    model = [] if "--model" in words else ["--model", str(tiny_checkpoint)]
    code, stdout, stderr = run_cli(["listen", *model, "--spool", str(tmp_path / "spool"), *words])
    assert (code, stdout) == (2, "")
    assert "Traceback" not in stderr
    for part in parts:
        assert part in stderr.splitlines()[-1]


def test_an_open_address_is_warned_of(run_cli: Any, tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file, so that nothing is received")
    words = ["--stow", "http://h/d", "--bind", "0.0.0.0", "--spool", str(tmp_path / "spool")]
    code, _, stderr = run_cli(["listen", "--model", str(tiny_checkpoint), *words])
    assert code == 2
    assert "--bind 0.0.0.0: whoever reaches this port may send films" in stderr


def test_the_names_of_patients_and_uids_stay_out_of_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with receiver_in(tmp_path) as (spool, receiver), peer() as (port, stored):
        store(
            receiver.port, study_film(1), study_film(2, StudyInstanceUID=None), study_film(3, BodyPartExamined="HAND")
        )
        run_all(Loop(spool, stand_in, to_peer(port), 0, 8))
        assert len(stored) == 1
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("r2gengpt"))
    assert "report sent" in ours
    assert not [word for word in ("Muster", "P-1", uid(1), uid(3), stored[0]) if word in ours]
    assert "pynetdicom" not in {record.name.split(".")[0] for record in caplog.records}
    assert sys.stderr is not None


def test_what_a_film_is_warned_of_is_one_line_that_names_its_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    where = tmp_path / f"{key_of(uid(4))}.dcm"
    where.write_bytes(film_data(4, BurnedInAnnotation="YES"))
    _log_once.cache_clear()
    header = checked_film(where.read_bytes())
    study_of([where], side=16)
    assert header.burned_in
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [f"image {where}"]
