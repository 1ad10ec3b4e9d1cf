"""A spool whose ledger was lost or damaged, whose files are gone or open to others; and how long sent ones are kept."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from archive_parts import Clock, Kept, files, film_data, later, run_all, stand_in, states, uid
from r2gengpt.clinical.archive.ledger import LATE, key_of
from r2gengpt.clinical.archive.loop import SPOOL_WAIT, Loop, NotNow
from r2gengpt.clinical.archive.spool import NoSpace, Spool, Unreadable
from r2gengpt.errors import InputError

DAY = 86400.0


def opened(directory: Path, keep: float = DAY, most: int = 2**30) -> Spool:
    return Spool(directory / "spool", most, Clock(), keep)


def loop_of(spool: Spool, peer: Callable[[bytes], None]) -> Loop:
    return Loop(spool, stand_in, peer, 0, 8)


def lose(spool: Path) -> None:
    for path in spool.glob("ledger.sqlite*"):
        path.unlink()


def spoil(spool: Path) -> None:
    (spool / "ledger.sqlite").write_bytes(b"no data base at all " * 99)


def cut(spool: Path) -> None:
    data = (spool / "ledger.sqlite").read_bytes()
    (spool / "ledger.sqlite").write_bytes(data[: len(data) // 2] + bytes(50))


def empty(spool: Path) -> None:
    (spool / "ledger.sqlite").write_bytes(b"")


def put_another(spool: Path) -> None:
    (spool / "ledger.sqlite").unlink()
    base = sqlite3.connect(spool / "ledger.sqlite")
    base.execute("CREATE TABLE studies (name TEXT)")
    base.close()


HARMS = (lose, spoil, cut, empty, put_another)


@pytest.mark.parametrize("harm", HARMS)
def test_the_films_of_a_lost_ledger_are_taken_in_again(harm: Callable[[Path], None], tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for study, number in ((1, 1), (1, 2), (2, 1)):
        spool.add(film_data(study, number))
    spool.close()
    harm(tmp_path / "spool")
    spool, peer = opened(tmp_path), Kept()
    spool.add(film_data(1, 2))  # sent again by who was not answered
    run_all(loop_of(spool, peer))
    assert peer.studies == [uid(1), uid(2)]
    series = peer.reports[0].CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert len(series) == 2
    spool.close()


@pytest.mark.parametrize("harm", HARMS)
def test_a_lost_ledger_makes_no_second_report_of_what_was_sent(harm: Callable[[Path], None], tmp_path: Path) -> None:
    """Study 1 is sent, study 2 has a report that waits, study 3 none yet."""
    spool, peer = opened(tmp_path), Kept()
    spool.add(film_data(1))
    run_all(loop_of(spool, peer))
    spool.add(film_data(2))
    peer.raising = [NotNow("away")]
    run_all(loop_of(spool, peer))
    waiting = (spool.reports / f"{key_of(uid(2))}.dcm").read_bytes()
    spool.add(film_data(3))
    spool.close()
    harm(tmp_path / "spool")
    spool = opened(tmp_path)
    assert states(spool) == {key_of(uid(1)): "sent", key_of(uid(2)): "reported", key_of(uid(3)): "received"}
    assert (spool.reports / f"{key_of(uid(2))}.dcm").read_bytes() == waiting
    spool.add(film_data(1))
    spool.add(film_data(2))
    run_all(loop_of(spool, peer))
    assert peer.studies == [uid(1), uid(2), uid(3)]
    assert len(files(spool.sent)) == 6
    spool.close()


@pytest.mark.parametrize("harm", HARMS)
def test_a_lost_ledger_loses_no_film_that_is_aside(harm: Callable[[Path], None], tmp_path: Path) -> None:
    spool, peer = opened(tmp_path), Kept()
    spool.add(film_data(1))
    spool.add(film_data(1, 2, BodyPartExamined="HAND"))
    with pytest.raises(Unreadable):
        spool.add(b"no film")
    for number in range(1, 10):
        spool.add(film_data(2, number))
    run_all(loop_of(spool, peer))
    spool.add(film_data(1, 3))  # late
    before = {path.name: path.read_bytes() for path in spool.aside.iterdir()}
    assert len(before) == 2 * 12
    spool.close()
    harm(tmp_path / "spool")
    spool = opened(tmp_path)
    assert {path.name: path.read_bytes() for path in spool.aside.iterdir()} == before
    spool.add(film_data(2, 10))  # of a study that was put aside as a whole, with nine films
    run_all(loop_of(spool, peer))
    assert peer.studies == [uid(1)]
    assert sorted(film.reason for film in spool.ledger.films() if film.state == "aside")[0] == LATE
    spool.close()


def test_a_damaged_ledger_is_put_away_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(tmp_path).close()
    spoil(tmp_path / "spool")
    opened(tmp_path).close()
    assert "the ledger is damaged (file is not a database): it was put away as ledger.sqlite.damaged" in caplog.text
    assert (tmp_path / "spool" / "ledger.sqlite.damaged").read_bytes().startswith(b"no data base")


def test_a_ledger_that_breaks_while_in_use_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool, peer = opened(tmp_path), Kept()
    spool.add(film_data(1))
    loop = loop_of(spool, peer)

    def broken(*_: object) -> str:
        raise sqlite3.DatabaseError("database disk image is malformed")

    with monkeypatch.context() as patch:
        patch.setattr(spool.ledger, "next_quiet", broken)
        spoil(tmp_path / "spool")
        assert not loop.step()
    later(spool, SPOOL_WAIT)
    run_all(loop)
    assert peer.studies == [uid(1)]
    spool.close()


def test_a_ledger_of_the_version_before_is_read(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.add(film_data(1))
    spool.close()
    base = sqlite3.connect(tmp_path / "spool" / "ledger.sqlite")
    base.execute("DROP INDEX studies_kept")
    base.execute("ALTER TABLE studies DROP COLUMN keep")
    base.execute("UPDATE studies SET changed = 1.7e9")
    base.commit()
    base.close()
    spool, peer = opened(tmp_path), Kept()
    run_all(loop_of(spool, peer))
    assert peer.studies == [uid(1)]
    spool.close()


def test_a_film_whose_file_is_gone_is_taken_when_it_is_sent_again(tmp_path: Path) -> None:
    spool, peer = opened(tmp_path), Kept()
    keys = [spool.add(film_data(study)) for study in (1, 2)]
    spool.path_of(keys[0]).unlink()  # while it runs
    run_all(loop_of(spool, peer))
    assert peer.studies == [uid(2)]
    keys.append(spool.add(film_data(3)))
    spool.path_of(keys[2]).unlink()
    spool.close()
    spool = opened(tmp_path)  # before it starts
    for study in (1, 3):
        spool.add(film_data(study))
    run_all(loop_of(spool, peer))
    assert peer.studies == [uid(1), uid(2), uid(3)]
    spool.close()


def test_a_report_whose_file_is_gone_is_written_again_and_holds_up_no_other(tmp_path: Path) -> None:
    spool, peer = opened(tmp_path), Kept()
    for study in (1, 2):
        spool.add(film_data(study))
    peer.raising = [NotNow("away")]
    loop = loop_of(spool, peer)
    run_all(loop)
    for path in spool.reports.iterdir():
        path.unlink()
    later(spool, 60)
    run_all(loop)
    assert peer.studies == [uid(1), uid(2)]
    spool.close()


def test_sent_studies_are_kept_for_their_time_and_not_longer(tmp_path: Path) -> None:
    spool, peer = opened(tmp_path, keep=1000), Kept()
    loop = loop_of(spool, peer)
    film = film_data(1)
    spool.add(film)
    run_all(loop)
    name = f"{key_of(f'{uid(1)} {uid(1, 1)}')}.dcm"
    report = f"{key_of(uid(1))}-report.dcm"
    assert files(spool.sent) == sorted([name, report])
    assert (spool.sent / name).read_bytes() == film
    assert dcmread(spool.sent / report).SOPInstanceUID == peer.reports[0].SOPInstanceUID
    assert spool.used == sum(path.stat().st_size for path in spool.sent.iterdir())
    later(spool, 999)
    loop.step()
    assert len(files(spool.sent)) == 2
    later(spool, 61)
    loop.step()
    assert (files(spool.sent), spool.used) == ([], 0)
    spool.add(film)
    run_all(loop)
    assert len(peer.reports) == 1
    spool.close()


def test_the_time_of_sent_studies_goes_on_after_a_restart(tmp_path: Path) -> None:
    spool = opened(tmp_path, keep=1000)
    spool.add(film_data(1))
    run_all(loop_of(spool, Kept()))
    later(spool, 900)
    spool.sweep()
    spool.close()
    spool = opened(tmp_path, keep=1000)
    later(spool, 60)
    spool.sweep()
    assert len(files(spool.sent)) == 2
    later(spool, 60)
    spool.sweep()
    assert files(spool.sent) == []
    spool.close()


def test_a_shorter_time_holds_for_what_was_sent_before(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.add(film_data(1))
    run_all(loop_of(spool, Kept()))
    spool.close()
    spool = opened(tmp_path, keep=0)
    assert (files(spool.sent), spool.used) == ([], 0)
    spool.close()


def test_sent_studies_make_room_for_films(tmp_path: Path) -> None:
    size = len(film_data(1))
    spool, peer = opened(tmp_path, most=3 * size + 30_000), Kept()
    loop = loop_of(spool, peer)
    for study in range(20):
        spool.add(film_data(study))
        run_all(loop)
        assert spool.used <= spool.most_bytes
    assert len(peer.reports) == 20
    with pytest.raises(NoSpace):
        spool.add(film_data(21, PixelData=bytes(4 * size + 30_000)))
    assert files(spool.sent) == []
    spool.close()


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    try:
        yield request.param
    finally:
        os.umask(before)


def modes(spool: Path) -> set[tuple[bool, int]]:
    found = [spool, *spool.rglob("*")]
    return {(path.is_dir(), path.stat().st_mode & 0o777) for path in found}


PRIVATE = {(True, 0o700), (False, 0o600)}


def test_a_spool_is_its_owners_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    spool = Spool(tmp_path / "a" / "b" / "spool", 2**30, Clock(), DAY)
    loop = loop_of(spool, Kept())
    for study in (1, 2):
        spool.add(film_data(study))
        spool.add(film_data(study, 2, BodyPartExamined="HAND"))
        run_all(loop)
    spool.add(film_data(3))
    assert modes(spool.directory) == PRIVATE
    spool.close()
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_spool_that_was_open_is_closed_at_the_start(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.add(film_data(1))
    spool.add(film_data(1, 2, BodyPartExamined="HAND"))
    run_all(loop_of(spool, Kept()))
    spool.add(film_data(2))
    spool.close()
    for path in [spool.directory, *spool.directory.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    spool = opened(tmp_path)
    assert modes(spool.directory) == PRIVATE
    spool.close()


def test_files_that_are_none_of_the_spools_stay_as_they_are(tmp_path: Path) -> None:
    tool = tmp_path / "spool" / "tool.sh"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    opened(tmp_path).close()
    assert tool.stat().st_mode & 0o777 == 0o755
    with pytest.raises(InputError, match="Not a directory"):
        Spool(tool, 2**30)
    assert tool.stat().st_mode & 0o777 == 0o755


def test_a_directory_that_users_share_is_no_spool(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(0o1777)
    with pytest.raises(InputError, match=r"spool .*/spool: is shared by users"):
        opened(tmp_path)


def test_links_and_pipes_in_a_spool_are_not_followed(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.close()
    outside = tmp_path / "outside"
    outside.write_bytes(film_data(9))
    outside.chmod(0o644)
    for place in spool.places:
        (place / "link.dcm").symlink_to(outside)
        os.mkfifo(place / "pipe.dcm")
    lose(spool.directory)
    key = key_of(f"{uid(1)} {uid(1, 1)}")
    (spool.incoming / f"{key}.dcm.part").symlink_to(outside)
    spool = opened(tmp_path)
    assert states(spool) == {}
    with pytest.raises(OSError, match="symbolic links"):
        spool.add(film_data(1))
    assert outside.read_bytes() == film_data(9)
    assert outside.stat().st_mode & 0o777 == 0o644
    spool.close()
