"""A report in several forms: each has a UID of its own, and goes once, whatever ends the program meanwhile."""

import io
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

import r2gengpt.clinical.archive.web as web
from archive_parts import (
    COMPREHENSIVE,
    PDF,
    SR,
    TEXT,
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
    study_film,
    try_to_store,
    uid,
    wait_until,
)
from r2gengpt.cli.commands.dicomweb import DicomWebFlags, push
from r2gengpt.clinical.archive.ledger import key_of
from r2gengpt.clinical.archive.loop import DicomObject, Loop, NotNow, Refused
from r2gengpt.clinical.archive.run import document_of, no_order
from r2gengpt.clinical.archive.spool import Spool
from r2gengpt.errors import InputError, RunError
from r2gengpt.films.dicom.header import read_header
from r2gengpt.films.regions import Region
from r2gengpt.report import Report
from r2gengpt.settings import ListenConfig
from test_archive_recovery import HARMS, opened

FORMS = ("sr", "measurement-sr", "pdf")
KINDS = [SR, COMPREHENSIVE, PDF]
KEY = key_of(uid(1))


def loop_of(spool: Spool, to: Callable[[bytes], None], forms: Sequence[str] = FORMS) -> Loop:
    return Loop(spool, partial(stand_in_for, no_order, None, forms=forms), to, 0, 8)


def kinds(to: Kept) -> list[str]:
    return [str(one.SOPClassUID) for one in to.reports]


def test_each_form_has_the_uid_that_it_has_alone() -> None:
    header = read_header(film_data(1), "film")
    region = Region("The heart is large.", "Cardiomegaly", 0, ((2, 2), (20, 2), (20, 20), (2, 2)))

    def made(form: str, *further: str) -> Any:
        return document_of(Report("s", TEXT), [header], "m", "ab" * 32, form, further=further, regions=[region])

    alone = [made(form).uid for form in FORMS]
    assert len(set(alone)) == len(FORMS)
    together = made(*FORMS)
    assert [one.uid for one in together.objects] == alone
    assert [one.uid for one in made(*reversed(FORMS)).objects] == alone[::-1]
    for one in together.objects:
        assert dcmread(io.BytesIO(one.data)).SOPInstanceUID == one.uid


def test_all_forms_go_in_their_order_and_lie_in_sent(tmp_path: Path) -> None:
    to = Kept()
    with spool_in(tmp_path) as spool:
        spool.add(film_data(1))
        run_all(loop_of(spool, to))
        assert kinds(to) == KINDS
        assert states(spool) == {KEY: "sent"}
        assert files(spool.reports) == []


def test_a_form_that_waits_goes_alone_once_the_peer_takes_it(tmp_path: Path) -> None:
    to = Kept()
    with spool_in(tmp_path) as spool:
        spool.add(film_data(1))
        loop = loop_of(spool, to)
        while not to.reports:
            loop.step()
        to.raising = [NotNow("away")]
        run_all(loop)
        assert (kinds(to), states(spool)) == (KINDS[:1], {KEY: "reported"})
    with spool_in(tmp_path) as spool:  # another process
        loop = loop_of(spool, to)
        later(spool, 60)
        run_all(loop)
        assert (kinds(to), states(spool)) == (KINDS, {KEY: "sent"})


def test_a_form_that_the_peer_refuses_holds_up_no_other_and_puts_the_study_aside_with_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    to = Kept()
    to.raising = [Refused("status 0x0110")]
    with spool_in(tmp_path) as spool:
        spool.add(film_data(1))
        run_all(loop_of(spool, to))
        assert kinds(to) == KINDS[1:]
        (study,) = spool.ledger.studies("aside")
        assert study.reason == "the peer refused its report: status 0x0110 (it has taken 2 of 3 forms)"
        assert files(spool.reports) == []
    assert "form 1: the peer refused its report" in caplog.text


def test_a_form_whose_file_is_gone_is_written_again_as_the_same_object(tmp_path: Path) -> None:
    to = Kept()
    with spool_in(tmp_path) as spool:
        spool.add(film_data(1))
        loop = loop_of(spool, to)
        while not to.reports:
            loop.step()
        spool.report_path(KEY, 1).unlink()
        run_all(loop)
        assert states(spool) == {KEY: "sent"}
        assert Counter(kinds(to)) == {SR: 2, COMPREHENSIVE: 1, PDF: 1}
        assert len({str(one.SOPInstanceUID) for one in to.reports}) == len(FORMS)


@pytest.mark.parametrize("harm", HARMS)
def test_a_lost_ledger_loses_no_form_and_makes_no_other_object(harm: Callable[[Path], None], tmp_path: Path) -> None:
    to = Kept()
    spool = opened(tmp_path)
    spool.add(film_data(1))
    spool.add(film_data(2))
    loop = loop_of(spool, to)
    while len(to.reports) < len(FORMS) + 1:  # one study is sent, one form of the other
        loop.step()
    spool.close()
    harm(tmp_path / "spool")
    spool = opened(tmp_path)
    assert sorted(states(spool).values()) == ["reported", "sent"]
    run_all(loop_of(spool, to))
    assert Counter(states(spool).values()) == {"sent": 2}
    assert len({str(one.SOPInstanceUID) for one in to.reports}) == 2 * len(FORMS)
    assert len(to.reports) == 2 * len(FORMS) + 1
    assert len(files(spool.sent)) == 2 * (len(FORMS) + 1)
    spool.close()


def run_killed(directory: Path, number: int) -> bool:
    """One study in three forms by a `listen` that is killed before its operation `number`, and another one after it."""
    film = study_film(1)
    with peer() as (port, stored):
        more: dict[str, Any] = {"to_host": "127.0.0.1", "to_port": port, "to_ae": "PEER", "format": FORMS}
        first = Listening(directory, kill_before=number, **more)
        left = try_to_store(first.port, [film])
        if first.process.poll() is None and not left:
            wait_until(lambda: first.process.poll() is not None or first.studies("sent") == 1)
        survived = not left and first.process.poll() is None
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
        with listening(directory, **more) as second:
            assert try_to_store(second.port, left) == []
            wait_until(lambda: second.studies("sent") == 1)
            assert second.end(signal.SIGTERM) == 0
        assert len(set(stored)) == len(FORMS), (number, stored)
        assert len(stored) <= len(FORMS) + 1, "at most the one whose answer was not kept goes twice"
    assert files(directory / "spool" / "reports") == []
    return survived


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", [12, 16])
def test_a_kill_between_two_forms_loses_none_and_doubles_none(number: int, tmp_path: Path) -> None:
    run_killed(tmp_path, number)


@pytest.mark.drill
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")
def test_a_kill_before_each_operation_of_a_report_in_three_forms_loses_none_and_doubles_none(tmp_path: Path) -> None:
    survived = [run_killed(tmp_path / str(number), number) for number in range(1, 45)]
    assert survived[-1], "there are more operations"


@pytest.mark.parametrize(("taken", "words"), [(0, "form 1 of 3 of"), (2, "form 3 of 3 of"), (3, "")])
def test_dicomweb_tells_which_forms_were_stored_before_one_was_not(
    taken: int, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []

    def send(data: bytes) -> None:
        if len(sent) == taken:
            raise Refused("status 409")
        sent.append(data)

    monkeypatch.setattr(web, "stow", lambda client: send)
    objects = [DicomObject(b"%d" % number, f"2.25.{number}") for number in range(3)]
    context = (
        pytest.raises(RunError, match=f"{words} the report was not stored: status 409") if words else nullcontext()
    )
    with context:
        push(objects, None, "http://h", None)
    assert sent == [one.data for one in objects[:taken]]
    assert capsys.readouterr().out.splitlines() == [one.uid for one in objects[:taken]]


@pytest.mark.parametrize(
    ("forms", "words"),
    [
        ((), "format is empty: must name a form"),
        (("sr", "sr"), "format sr sr: names a form twice"),
        (("sr", "fhir"), "format fhir: choose from sr, measurement-sr, pdf, secondary-capture"),
    ],
)
def test_forms_that_cannot_be_meant_are_refused(forms: tuple[str, ...], words: str) -> None:
    for kind in (ListenConfig, DicomWebFlags):
        with pytest.raises(InputError) as error:
            kind(format=forms)
        assert str(error.value) == words


def test_a_file_takes_one_form() -> None:
    with pytest.raises(InputError, match="holds one form: name one"):
        DicomWebFlags(format=("sr", "pdf"), output="r.dcm")
