"""Verdicts in a database, the same in SQLite and in a real PostgreSQL: once, for good, by several servers at once."""

import multiprocessing
import os
import random
import signal
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from postgres_parts import PASSWORD, QUOTED, Server, may_start, running_postgres
from r2gengpt.errors import InputError
from r2gengpt.verdicts.address import opened_store, shown_address
from r2gengpt.verdicts.record import DraftFacts, ReaderVerdict
from r2gengpt.verdicts.store import OtherVerdict, VerdictStore
from r2gengpt.verdicts.tables import METADATA

TEXT = "The heart is normal in size. There is no pleural effusion. Lungs are clear."
NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
FACTS = DraftFacts(
    id="report-1",
    created=int(NOW.timestamp()) - 90,
    text=TEXT,
    model="ours",
    model_sha256="a" * 64,
    delta_sha256=None,
    version="0.1.0",
    films=("b" * 64, "c" * 64),
    patient="d" * 32,
    age="18 to 39",
    sex="F",
    view="PA",
    device="Maker One",
    features={"brightness": 0.25},
)
EDITED = ReaderVerdict("edit", "key-0000000000000001", "The heart is enlarged. Lungs are clear.", note="größer")
spawn = multiprocessing.get_context("spawn")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    if not may_start():
        pytest.skip("no PostgreSQL of Debian's in /usr/lib/postgresql")
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty place for verdicts."""
    if request.param == "sqlite":
        return str(tmp_path / "kept" / "verdicts.db")
    server: Server = request.getfixturevalue("postgres")
    return server.database(f"own{random.SystemRandom().randrange(10**12)}")


@pytest.fixture
def store(address: str) -> Iterator[VerdictStore]:
    opened = opened_store(address)
    yield opened
    opened.close()


def numbered(number: int) -> ReaderVerdict:
    return ReaderVerdict("accept", f"key-{number:016}")


# ------------------------------------------------------------------ kept


def test_a_verdict_comes_back_as_it_was_kept(store: VerdictStore) -> None:
    kept, new = store.keep(FACTS, EDITED, NOW)
    assert new
    assert list(store.history()) == [kept]
    assert (kept.facts, kept.judgement, kept.decided, kept.seconds) == (FACTS, EDITED, NOW, pytest.approx(90.678))
    assert [edit.kind for edit in kept.edits] == ["changed", "removed", "kept"]
    assert kept.before is not None
    assert kept.after is not None
    assert (kept.before["Cardiomegaly"], kept.after["Cardiomegaly"]) == ("negative", "positive")


def test_the_same_verdict_sent_twice_is_one_row_and_another_under_its_key_is_refused(store: VerdictStore) -> None:
    first, _ = store.keep(FACTS, EDITED, NOW)
    again, new = store.keep(FACTS, EDITED)
    assert (again, new) == (first, False)
    with pytest.raises(OtherVerdict):
        store.keep(FACTS, replace(EDITED, text="Another text."))
    with pytest.raises(OtherVerdict):
        store.keep(FACTS, replace(EDITED, verdict="reject"))
    assert len(list(store.history())) == 1
    assert store.keep(replace(FACTS, id="report-2"), EDITED)[1], "another draft's keys are its own"


def test_a_change_of_mind_is_kept_beside_what_was_there_and_the_newest_counts(store: VerdictStore) -> None:
    said = [numbered(9), EDITED, ReaderVerdict("reject", "key-2", reason="missed"), ReaderVerdict("withdraw", "key-3")]
    for one in said:
        store.keep(FACTS, one)
        newest = [kept.judgement.verdict for kept in store.latest()]
        assert newest == ([] if one.verdict == "withdraw" else [one.verdict])
    assert [kept.judgement.verdict for kept in store.history()] == ["accept", "edit", "reject", "withdraw"]


def test_an_accepted_text_is_the_drafts_own_and_a_rejected_one_has_none(store: VerdictStore) -> None:
    accepted, _ = store.keep(FACTS, numbered(1))
    rejected, _ = store.keep(FACTS, ReaderVerdict("reject", "key-2"))
    assert (accepted.judgement.text, accepted.sentences_changed, accepted.after) == (TEXT, 0, accepted.before)
    assert (rejected.judgement.text, rejected.edits, rejected.after) == ("", (), None)
    assert rejected.before == accepted.before


def test_a_clock_that_is_behind_the_drafts_gives_no_time_below_zero(store: VerdictStore) -> None:
    assert store.keep(replace(FACTS, created=FACTS.created + 500), EDITED, NOW)[0].seconds == 0


def test_text_of_every_alphabet_comes_back(store: VerdictStore) -> None:
    odd = replace(EDITED, text="Grüße 心臓 \U0001f600 'quoted' \"so\"; -- %s \\ end.\r\nNext\tline.")
    store.keep(FACTS, odd)
    assert next(store.history()).judgement == odd


# ------------------------------------------------------------------ tables


def test_the_migrations_make_the_tables_that_the_program_reads(store: VerdictStore) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_opening_again_changes_nothing_and_gives_the_same_key(store: VerdictStore, address: str) -> None:
    store.keep(FACTS, EDITED)
    again = opened_store(address)
    assert again.key == store.key
    assert len(list(again.history())) == 1
    again.close()


def test_verdicts_of_the_first_tables_are_kept_as_the_tables_grow(store: VerdictStore, address: str) -> None:
    store.keep(FACTS, EDITED, NOW)
    with store.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE verdicts DROP COLUMN needs_review"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))
    again = opened_store(address)
    again.keep(replace(FACTS, id="report-2", needs_review=True), EDITED, NOW)
    assert [kept.facts for kept in again.history()] == [FACTS, replace(FACTS, id="report-2", needs_review=True)]
    again.close()


def test_tables_of_a_newer_version_are_refused_in_one_line(store: VerdictStore, address: str) -> None:
    with store.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(InputError) as refusal:
        opened_store(address)
    shown = shown_address(address)
    words = "was written by a newer r2gengpt (its tables are at step 9999): install that version"
    assert str(refusal.value) == f"verdicts {shown}: {words}"


def test_a_file_of_sqlite_and_what_lies_beside_it_are_their_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = opened_store(str(tmp_path / "verdicts.db"))
        store.keep(FACTS, EDITED)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert set(modes) == {"verdicts.db", "verdicts.db-wal", "verdicts.db-shm"}
    assert set(modes.values()) == {0o600}
    store.close()


# ------------------------------------------------------------------ refused


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mysql://me:secret@host/db", "verdicts mysql://me:***@host/db: begins with mysql: choose from "),
        ("postgresql://me:se@cret@host/db", "verdicts postgresql://me:***@host/db: has two @: "),
        ("postgresql://me:secret@host:port/db", "verdicts postgresql://me:***@host:port/db: cannot be read as a URL"),
        ("postgresql://me:se/cret@host/db", "verdicts postgresql://me:***@host/db: "),
        ("postgresql://me:secret@127.0.0.1:1/db", "verdicts postgresql://me:***@127.0.0.1:1/db: connection failed: "),
        ("postgresql://127.0.0.1:1/db?password=secret", "verdicts postgresql://127.0.0.1:1/db?***: connection failed"),
        ("postgresql://127.0.0.1:1/db?PASSWORD=secret", "verdicts postgresql://127.0.0.1:1/db?***: "),
        ("postgresql://me@127.0.0.1:1/db?sslpassword=se@cret", "verdicts postgresql://***: has two @: "),
        ("postgresql://127.0.0.1/db?password=se@cret&port=1", "verdicts postgresql://***: "),
        ("postgresql:/me:secret@host/db", "verdicts postgresql:***: cannot be read as a URL"),
        ("sqlite://", "verdicts sqlite://: names no file"),
        ("", "verdicts is empty: must name a file"),
        ("/", "verdicts /: is a directory"),
    ],
)
def test_a_wrong_address_is_refused_in_one_line_that_names_it_without_its_password(text: str, words: str) -> None:
    with pytest.raises(InputError) as refusal:
        opened_store(text)
    line = str(refusal.value)
    assert line.startswith(words)
    assert not {"secret", "cret@", "se@cret", "\n"} & {
        part for part in ("secret", "cret@", "se@cret", "\n") if part in line
    }


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("no database, and long enough to be looked at" * 50)
    with pytest.raises(InputError, match=r"a\.db: file is not a database"):
        opened_store(str(tmp_path / "a.db"))


def test_a_file_that_must_be_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        opened_store(str(tmp_path / "a.db"), is_read=True)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_password_is_refused_and_not_told(postgres: Server) -> None:
    with pytest.raises(InputError, match=r"reader:\*\*\*@127.0.0.1:\d+/postgres: connection failed") as refusal:
        opened_store(postgres.url(password="another-one"))
    assert "another-one" not in str(refusal.value)
    assert PASSWORD not in str(refusal.value)
    assert QUOTED not in str(refusal.value)


def test_a_missing_package_is_named_with_how_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs sqlalchemy, alembic: pip install '\.\[verdicts\]'"):
        opened_store("verdicts.db")


# ------------------------------------------------------------------ several at once


def write_some(address: str, writer: int, count: int, told: Any) -> None:
    """A server's share: the first half of the keys is its own, the second half everybody's."""
    store = opened_store(address)
    drawn = random.Random(writer)
    mine = [numbered(1000 * (writer + 1) + at) for at in range(count)]
    work = [(replace(FACTS, id=f"report-{one.key}"), one) for one in mine]
    work += [(replace(FACTS, id=f"report-shared-{at}"), numbered(at)) for at in range(count)]
    drawn.shuffle(work)
    told.put(sum(store.keep(facts, given)[1] for facts, given in work))
    store.close()


def test_servers_that_open_and_write_one_store_at_once_keep_each_verdict_once(address: str) -> None:
    writers, count, told = 3, 12, spawn.Queue()
    children = [spawn.Process(target=write_some, args=(address, writer, count, told)) for writer in range(writers)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * writers
    assert sum(told.get() for _ in children) == writers * count + count, "each is new to one server alone"
    store = opened_store(address)
    kept = list(store.history())
    assert len(kept) == len({(one.facts.id, one.judgement.key) for one in kept}) == writers * count + count
    store.close()


def write_until_killed(address: str, first: int, told: Any) -> None:
    store = opened_store(address)
    for number in range(first, first + 10_000):
        store.keep(replace(FACTS, id=f"report-{number}"), numbered(number))
        told.send(number)


def killed_after(address: str, first: int, count: int) -> int:
    """The number after the last verdict that a writer said was kept before it was killed, and which may be there."""
    ours, theirs = spawn.Pipe(duplex=False)
    child = spawn.Process(target=write_until_killed, args=(address, first, theirs))
    child.start()
    theirs.close()
    last = first - 1
    for _ in range(count):
        last = ours.recv()
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    try:
        while True:
            last = ours.recv()
    except EOFError:
        return last + 1


@pytest.mark.parametrize("rounds", [2, pytest.param(25, marks=pytest.mark.drill)])
def test_what_was_kept_outlives_the_kill_of_who_kept_it(address: str, rounds: int) -> None:
    opened_store(address).close()
    drawn, number, promised = random.Random(0), 0, set[int]()
    for _ in range(rounds):
        after = killed_after(address, number, drawn.randrange(1, 8))
        promised |= set(range(number, after))
        number = after + 1  # the one after may or may not be there
    store = opened_store(address)
    there = [int(kept.judgement.key.removeprefix("key-")) for kept in store.history()]
    assert len(there) == len(set(there))
    assert promised <= set(there)
    assert len(there) <= len(promised) + rounds
    store.close()


def test_a_server_that_crashed_and_came_back_is_used_again(postgres: Server) -> None:
    store = opened_store(postgres.database("crashed"))
    store.keep(FACTS, numbered(1))
    postgres.kill()
    with pytest.raises(sa.exc.DBAPIError):
        store.keep(FACTS, numbered(2))
    postgres.restart()
    assert store.keep(FACTS, numbered(2))[1]
    assert [kept.judgement.key for kept in store.history()] == [numbered(1).key, numbered(2).key]
    store.close()
