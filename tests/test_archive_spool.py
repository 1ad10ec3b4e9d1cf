"""The spool and the loop: what is kept, grouped, reported once and put aside. Without a network, without a model."""

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from archive_parts import Clock, Kept, files, film_data, run_all, spool_in, stand_in, states, uid
from r2gengpt.clinical.archive.films import order_of
from r2gengpt.clinical.archive.ledger import LATE, NO_FILM, key_of
from r2gengpt.clinical.archive.loop import FIRST_WAIT, MOST_ATTEMPTS, SPOOL_WAIT, Document, Loop, NotNow, Refused
from r2gengpt.clinical.archive.spool import NoSpace, Spool, Unreadable
from r2gengpt.clinical.worklist.claims import Claims
from r2gengpt.errors import InputError
from r2gengpt.films.dicom.header import DicomHeader, read_header

QUIET = 30.0


def loop_of(spool: Spool, peer: Kept, write: Any = stand_in, most: int = 8) -> Loop:
    return Loop(spool, write, peer, QUIET, most)


def later(spool: Spool, seconds: float = QUIET) -> None:
    assert isinstance(spool.clock, Clock)
    spool.clock.now += seconds


def test_a_study_is_reported_once_quiet_with_all_its_films_and_leaves_no_file(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        peer = Kept()
        loop = loop_of(spool, peer)
        spool.add(film_data(1, 1))
        later(spool, QUIET - 1)
        spool.add(film_data(1, 2))
        later(spool, QUIET - 1)
        assert not loop.step()
        later(spool, 1)
        run_all(loop)
        (report,) = peer.reports
        series = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        named = {one.ReferencedSOPInstanceUID for each in series for one in each.ReferencedSOPSequence}
        assert named == {uid(1, 1), uid(1, 2)}
        assert states(spool) == {key_of(uid(1)): "sent"}
        assert files(spool.incoming) == files(spool.reports) == files(spool.aside) == []
        assert spool.used == 0


def test_studies_are_told_apart_by_their_uid(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        peer = Kept()
        for study in (1, 2, 3):
            spool.add(film_data(study))
        later(spool)
        run_all(loop_of(spool, peer))
        assert peer.studies == [uid(1), uid(2), uid(3)]


def test_a_study_sent_again_before_or_after_its_report_gives_no_second_one(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        peer = Kept()
        loop = loop_of(spool, peer)
        for _ in range(2):
            spool.add(film_data(1))
            assert files(spool.incoming) == [f"{key_of(f'{uid(1)} {uid(1, 1)}')}.dcm"]
        later(spool)
        run_all(loop)
        spool.add(film_data(1))
        later(spool)
        run_all(loop)
        assert len(peer.reports) == 1
        assert files(spool.incoming) == files(spool.aside) == []


def test_a_film_that_comes_after_the_report_is_kept_aside_with_the_reason(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        peer = Kept()
        loop = loop_of(spool, peer)
        spool.add(film_data(1))
        later(spool)
        run_all(loop)
        spool.add(film_data(1, 2))
        later(spool)
        run_all(loop)
        assert len(peer.reports) == 1
        assert [film.reason for film in spool.ledger.films() if film.state == "aside"] == [LATE]
        assert len(files(spool.aside)) == 2


def test_a_film_that_comes_while_the_report_is_written_makes_it_written_again(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        peer = Kept()

        def interrupted(paths: Sequence[Path], headers: Sequence[DicomHeader]) -> Document:
            spool.add(film_data(1, 2))
            return stand_in(paths, headers)

        spool.add(film_data(1))
        later(spool)
        loop = loop_of(spool, peer, interrupted)
        run_all(loop)
        assert (peer.reports, files(spool.reports)) == ([], [])
        later(spool)
        run_all(loop)
        assert [len(one.ContentSequence) > 0 for one in peer.reports] == [True]
        assert len(peer.reports[0].CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence) == 2


BAD = [
    ({"BodyPartExamined": "HAND"}, "shows HAND, must be a chest film"),
    ({"Modality": "CT"}, "its modality is CT, must be CR, DX, DR"),
    ({"PixelData": b"\0" * 10}, "its DICOM pixels cannot be decoded"),
    ({"PhotometricInterpretation": "PALETTE COLOR"}, "is PALETTE COLOR of 1 samples"),
]


@pytest.mark.parametrize(("change", "reason"), BAD)
def test_a_film_of_no_use_is_kept_aside_with_its_reason_and_the_others_go_on(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with spool_in(tmp_path) as spool:
        peer = Kept()
        spool.add(film_data(1))
        bad = spool.add(film_data(1, 2, **change))
        later(spool)
        run_all(loop_of(spool, peer))
        assert len(peer.reports) == 1
        assert files(spool.aside) == [f"{bad}.dcm", f"{bad}.txt"]
        assert reason in (spool.aside / f"{bad}.txt").read_text()


def test_a_study_without_a_usable_film_is_put_aside_until_one_comes(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        peer = Kept()
        loop = loop_of(spool, peer)
        spool.add(film_data(1, BodyPartExamined="HAND"))
        later(spool)
        run_all(loop)
        assert [(study.state, study.reason) for study in spool.ledger.studies()] == [("aside", NO_FILM)]
        spool.add(film_data(1, 2))
        later(spool)
        run_all(loop)
        assert len(peer.reports) == 1


def test_a_better_copy_takes_the_place_of_a_film_that_is_aside(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        peer = Kept()
        loop = loop_of(spool, peer)
        spool.add(film_data(1, PixelData=b"\0" * 10))
        later(spool)
        run_all(loop)
        spool.add(film_data(1))
        later(spool)
        run_all(loop)
        assert len(peer.reports) == 1
        assert files(spool.aside) == []


@pytest.mark.parametrize("data", [b"", b"no dicom at all" * 9, film_data(1)[:200], film_data(1, StudyInstanceUID=None)])
def test_what_names_no_study_is_kept_aside_once_with_its_reason(data: bytes, tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        for _ in range(2):
            with pytest.raises(Unreadable):
                spool.add(data)
        assert [name.rpartition(".")[2] for name in files(spool.aside)] == ["dcm", "txt"]
        assert files(spool.incoming) == []
        assert spool.ledger.studies() == []


def test_films_of_two_patients_in_one_study_are_not_mixed(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        peer = Kept()
        spool.add(film_data(1))
        spool.add(film_data(1, 2, PatientID="P-OTHER"))
        later(spool)
        run_all(loop_of(spool, peer))
        (study,) = spool.ledger.studies()
        assert (study.state, peer.reports) == ("aside", [])
        assert study.reason == "its films name different patients"
        assert len(files(spool.aside)) == 4
        spool.add(film_data(1, 3))  # nothing more is made of such a study
        assert {film.reason for film in spool.ledger.films()} == {study.reason}


def test_a_study_of_too_many_films_is_put_aside(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        for number in (1, 2, 3):
            spool.add(film_data(1, number))
        later(spool)
        run_all(loop_of(spool, Kept(), most=2))
        assert spool.ledger.studies()[0].reason == "has 3 films: at most 2 (`max_images`)"


def test_a_report_that_cannot_be_written_puts_its_study_aside_and_the_next_one_is_written(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        peer = Kept()

        def some(paths: Sequence[Path], headers: Sequence[DicomHeader]) -> Document:
            if headers[0].study_uid == uid(1):
                raise RuntimeError("Muster^Erika")
            return stand_in(paths, headers)

        spool.add(film_data(1))
        spool.add(film_data(2))
        later(spool)
        run_all(loop_of(spool, peer, some))
        assert peer.studies == [uid(2)]
        (study,) = spool.ledger.studies("aside")
        assert study.reason.startswith("its report could not be written: RuntimeError at ")
        assert "Muster" not in study.reason


def test_a_study_that_shows_no_chest_is_put_aside_with_that_reason(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:

        def refusing(paths: Sequence[Path], headers: Sequence[DicomHeader]) -> Document:
            words = f"image {paths[0]}: looks like no whole chest film (2.0 times) (`force` reads it all the same)"
            raise InputError(words, field="force")

        spool.add(film_data(1))
        later(spool)
        run_all(loop_of(spool, Kept(), refusing))
        (study,) = spool.ledger.studies("aside")
        words = "its report could not be written: looks like no whole chest film (2.0 times)"
        assert study.reason == words


def test_a_study_that_ends_the_program_again_and_again_is_put_aside(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        spool.add(film_data(1))
        for _ in range(MOST_ATTEMPTS):
            spool.ledger.begin(key_of(uid(1)))
        later(spool)
        run_all(loop_of(spool, Kept()))
        assert f"begun {MOST_ATTEMPTS} times" in spool.ledger.studies("aside")[0].reason


def test_a_peer_that_is_away_is_tried_less_and_less_often_while_reports_are_written(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        peer = Kept()
        loop = loop_of(spool, peer)
        peer.raising = [NotNow("away")] * 3
        spool.add(film_data(1))
        spool.add(film_data(2))
        later(spool)
        run_all(loop)
        loop.step()
        assert sorted(states(spool).values()) == ["reported", "reported"]
        assert len(peer.raising) == 2
        for wait, left in ((FIRST_WAIT, 1), (2 * FIRST_WAIT, 0)):
            later(spool, wait - 0.01)
            assert not loop.step()
            assert len(peer.raising) == left + 1
            later(spool, 0.01)
            loop.step()
            assert len(peer.raising) == left
        later(spool, 4 * FIRST_WAIT)
        run_all(loop)
        assert peer.studies == [uid(1), uid(2)]


def test_a_report_that_the_peer_refuses_puts_its_study_aside_and_the_next_one_is_sent(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        peer = Kept()
        peer.raising = [Refused("status 0xC000")]
        spool.add(film_data(1))
        spool.clock.now += 1  # type: ignore[attr-defined]  # the test's own clock
        spool.add(film_data(2))
        later(spool)
        run_all(loop_of(spool, peer))
        assert peer.studies == [uid(2)]
        assert spool.ledger.studies("aside")[0].reason == "the peer refused its report: status 0xC000"
        assert len(files(spool.aside)) == 2


def test_a_full_spool_refuses_films_and_keeps_nothing_of_them(tmp_path: Path) -> None:
    size = len(film_data(1))
    with spool_in(tmp_path, most=2 * size + 100) as spool:
        spool.add(film_data(1))
        spool.add(film_data(2))
        with pytest.raises(NoSpace, match="max_spool_bytes"):
            spool.add(film_data(3))
        assert len(files(spool.incoming)) == len(spool.ledger.films()) == 2


@contextmanager
def full_disk(number: int = errno.ENOSPC) -> Iterator[None]:
    def full(handle: int) -> None:
        raise OSError(number, "full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        yield


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_refuses_films_and_leaves_nothing_half_written(number: int, tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        spool.add(film_data(1))
        with full_disk(number), pytest.raises(NoSpace, match="the disk is full"):
            spool.add(film_data(2))
        assert len(files(spool.incoming)) == len(spool.ledger.films()) == 1
        spool.add(film_data(2))
        assert len(files(spool.incoming)) == 2


def test_a_report_that_finds_no_room_is_written_later(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        peer = Kept()
        spool.add(film_data(1))
        later(spool)
        loop = loop_of(spool, peer)
        with full_disk():
            for _ in range(2 * MOST_ATTEMPTS):
                assert not loop.step()
                later(spool, SPOOL_WAIT)
        assert list(states(spool).values()) == ["received"]
        run_all(loop)
        assert len(peer.reports) == 1


def test_a_spool_that_is_full_of_films_reports_them_and_takes_films_again(tmp_path: Path) -> None:
    with spool_in(tmp_path, most=3 * len(film_data(1))) as spool:
        peer = Kept()
        for study in range(3):
            spool.add(film_data(study))
        with pytest.raises(NoSpace, match="max_spool_bytes"):
            spool.add(film_data(3))
        later(spool)
        run_all(loop_of(spool, peer))
        assert len(peer.reports) == 3
        spool.add(film_data(3))


def test_a_report_is_not_written_over_and_over_while_there_is_no_room(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        written: list[int] = []

        def counted(paths: Sequence[Path], headers: Sequence[DicomHeader]) -> Document:
            written.append(1)
            return stand_in(paths, headers)

        spool.add(film_data(1))
        later(spool)
        loop = loop_of(spool, Kept(), counted)
        with full_disk():
            for _ in range(5):
                loop.step()
        assert len(written) == 1


def test_a_ledger_that_cannot_be_written_after_sending_makes_the_same_report_go_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with spool_in(tmp_path) as spool:
        peer = Kept()
        spool.add(film_data(1))
        later(spool)
        loop = loop_of(spool, peer)

        def full(study: str, number: int, answer: str, reason: str = "") -> None:
            raise sqlite3.OperationalError("database or disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(spool.ledger, "set_answered", full)
            run_all(loop)
        assert list(states(spool).values()) == ["reported"]
        later(spool, SPOOL_WAIT)
        run_all(loop)
        assert len({one.SOPInstanceUID for one in peer.reports}) == 1 < len(peer.reports)
        assert list(states(spool).values()) == ["sent"]


def test_two_processes_do_not_share_a_spool(tmp_path: Path) -> None:
    with spool_in(tmp_path), pytest.raises(InputError, match="another process uses it"):
        Spool(tmp_path / "spool", 2**30)


def test_a_spool_that_cannot_be_made_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"spool .*file"):
        Spool(tmp_path / "file", 2**30)


def test_a_spool_is_its_owners_alone_and_names_no_uid_outside_the_films(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        spool.add(film_data(1))
        assert spool.directory.stat().st_mode & 0o077 == 0
        names = " ".join(str(path) for path in spool.directory.rglob("*"))
        ledger = b"".join(path.read_bytes() for path in spool.directory.glob("ledger*"))
        assert uid(1) not in names
        assert uid(1).encode() not in ledger
        assert b"Muster" not in ledger


def test_what_killed_writers_leave_is_put_right_at_the_next_start(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        key = spool.add(film_data(1))
        other = spool.add(film_data(2))
        spool.ledger.set_film_aside(other, "why")  # killed before its file was moved
        third = spool.add(film_data(3))
        spool.set_film_aside(third, "because")
        (spool.aside / f"{third}.txt").unlink()  # killed before its reason was noted
        for place in (spool.incoming, spool.reports, spool.aside):
            (place / f"{'0' * 32}.dcm.part").write_bytes(b"x")
            (place / f"{'1' * 32}.dcm").write_bytes(b"x")
    with spool_in(tmp_path) as spool:
        assert files(spool.incoming) == [f"{key}.dcm"]
        assert files(spool.aside) == sorted(f"{one}.{kind}" for one in (other, third) for kind in ("dcm", "txt"))
        assert (spool.aside / f"{third}.txt").read_text() == "because\n"
        assert files(spool.reports) == []


@pytest.mark.parametrize(("first", "second"), [("2147483646", "2147483647"), ("+2", "+10"), ("-2147483648", "-1")])
@pytest.mark.parametrize("key", ["SeriesNumber", "InstanceNumber"])
def test_films_come_in_the_order_of_any_number_that_dicom_allows(key: str, first: str, second: str) -> None:
    numbers = ({"SeriesNumber": "1", key: number} for number in (second, first))
    films = [read_header(film_data(1, place, **more), "film") for place, more in enumerate(numbers, 1)]
    assert sorted(films, key=order_of) == films[::-1]


@pytest.mark.parametrize("name", ["scan.dcm", "letter.pdf", "notes.txt", "thesis.part", "a-report.dcm", "order.hl7"])
def test_files_of_others_in_its_directories_stay_and_go_nowhere(name: str, tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        places = [*spool.places, spool.directory]
    for place in places:
        (place / name).write_bytes(film_data(9))
    for number in range(3):
        with spool_in(tmp_path) as spool:
            peer = Kept()
            spool.add(film_data(number))
            later(spool)
            run_all(loop_of(spool, peer))
            assert (peer.studies, spool.messages(), spool.used) == ([uid(number)], [], 0)
        with closing(Claims(tmp_path / "claims")) as claims:
            for place in (claims.films, claims.reports):
                (place / name).write_bytes(film_data(9))
    assert all((place / name).read_bytes() == film_data(9) for place in (*places, claims.films, claims.reports))


def test_a_spool_is_no_directory_of_claims_and_claims_are_no_spool(tmp_path: Path) -> None:
    Spool(tmp_path / "spool", 2**30).close()
    Claims(tmp_path / "claims").close()
    with pytest.raises(InputError, match=r"^claims .* is used as spool: name another"):
        Claims(tmp_path / "spool")
    with pytest.raises(InputError, match=r"^spool .* is used as claims: name another"):
        Spool(tmp_path / "claims", 2**30)


def test_the_loop_ends_after_the_study_that_it_was_reporting(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        stop, peer = threading.Event(), Kept()

        def stopping(paths: Sequence[Path], headers: Sequence[DicomHeader]) -> Document:
            stop.set()
            return stand_in(paths, headers)

        spool.add(film_data(1))
        spool.add(film_data(2))
        later(spool)
        loop_of(spool, peer, stopping).run(stop)
        assert len(peer.reports) == 1
        assert sorted(states(spool).values()) == ["received", "sent"]
        assert "Cardiomegaly." in str(peer.reports[0])


def test_kills_one_after_another_hit_different_studies(tmp_path: Path) -> None:
    """A study that was begun when the program was killed comes after those that were not."""
    for _ in range(MOST_ATTEMPTS + 1):
        with spool_in(tmp_path) as spool:
            for study in (1, 2, 3):
                spool.add(film_data(study))
            later(spool)
            begun = spool.ledger.next_quiet(spool.clock() - QUIET)
            assert begun is not None
            spool.ledger.begin(begun)  # and then a kill
    with spool_in(tmp_path) as spool:
        later(spool)
        peer = Kept()
        run_all(loop_of(spool, peer))
        assert sorted(states(spool).values()) == ["sent", "sent", "sent"]
