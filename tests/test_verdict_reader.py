"""A store of SQLite that is read where nothing can be written, and beside who writes it: unchanged, and whole."""

import shutil
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from namespace_parts import may_make
from r2gengpt.errors import InputError
from r2gengpt.settings import VerdictsConfig
from r2gengpt.verdicts.address import opened_store
from r2gengpt.verdicts.review.review import stored_review
from test_verdict_store import EDITED, FACTS

READ_ONLY = """
set -eu
mount --bind "$1" "$1"
mount -o remount,ro,bind "$1"
shift
exec "$@"
"""
"""Runs a program to whom a directory is read-only, whoever runs it."""


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A file with one verdict, closed by its server."""
    path = tmp_path / "kept" / "verdicts.db"
    with closing(opened_store(str(path))) as store:
        store.keep(FACTS, EDITED)
    return path


def drafts(path: Path) -> int:
    """How many drafts a review of the file is of."""
    return int(stored_review(VerdictsConfig(verdicts=str(path))).to_json()["drafts"])


def reviewed_read_only(path: Path) -> subprocess.CompletedProcess[str]:
    """`review` of a file in a directory that is read-only to it."""
    code = "from r2gengpt.cli.main import main; main()"
    command = [sys.executable, "-c", code, "review", "--verdicts", str(path), "--output", "None", "--format", "json"]
    words = ["unshare", "--mount", "--propagation", "private", "bash", "-c", READ_ONLY, "-", str(path.parent)]
    return subprocess.run([*words, *command], capture_output=True, text=True, check=False, timeout=120)


NEEDS_MOUNTS = pytest.mark.skipif(not may_make(), reason="needs root and unshare")


@NEEDS_MOUNTS
def test_a_review_reads_a_file_in_a_directory_that_is_read_only(kept: Path) -> None:
    done = reviewed_read_only(kept)
    assert done.returncode == 0, done.stderr
    assert '"drafts": 1' in done.stdout
    assert [path.name for path in kept.parent.iterdir()] == ["verdicts.db"]


@NEEDS_MOUNTS
def test_changes_that_a_killed_server_left_beside_a_file_that_is_read_only_are_named(kept: Path) -> None:
    copy = kept.parent.parent / "copy" / "verdicts.db"
    copy.parent.mkdir()
    with closing(opened_store(str(kept))) as store:
        store.keep(FACTS, EDITED)
        store.keep(replace(FACTS, id="report-2"), EDITED)
        for name in ("verdicts.db", "verdicts.db-wal"):
            shutil.copy(kept.with_name(name), copy.with_name(name))
    done = reviewed_read_only(copy)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith("changes in verdicts.db-wal cannot be taken in where nothing can be written: copy both "
                         "files elsewhere")  # fmt: skip
    assert drafts(copy) == 2, "where it can be written, they are taken in"


def test_a_review_changes_no_byte_of_a_file_and_sees_what_a_server_keeps_meanwhile(kept: Path) -> None:
    before = kept.read_bytes()
    assert drafts(kept) == 1
    assert kept.read_bytes() == before
    with closing(opened_store(str(kept))) as store:
        store.keep(replace(FACTS, id="report-2"), EDITED)
        assert drafts(kept) == 2


def test_tables_of_an_earlier_version_are_read_and_stay_as_they_are(kept: Path) -> None:
    with closing(opened_store(str(kept))) as store, store.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE verdicts DROP COLUMN needs_review"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))
    before = kept.read_bytes()
    assert drafts(kept) == 1
    assert kept.read_bytes() == before


@pytest.mark.parametrize(("data", "words"), [(None, "no such file"), (b"no data base" * 99, "file is not a database")])
def test_what_cannot_be_read_is_refused_in_one_line(data: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "verdicts.db"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError) as error:
        drafts(path)
    assert str(error.value) == f"verdicts {path}: {words}"
