"""A store of SQLite that is read alone, wherever it lies. Changes nothing.

SQLite reads a file of this kind (a write-ahead log) beside who writes it, by two files next to it. Where these are
missing and cannot be made, it reads the file as one that nobody changes.
"""

import sqlite3
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from r2gengpt.verdicts.steps import is_older

PATIENCE = 10
"""Seconds that a lock is waited for."""


def sqlite_reader(url: sa.URL) -> sa.Engine:
    """An engine that reads a file and cannot change it; tables of an earlier version are copied into memory first.

    Where its directory can be written, SQLite reads it beside who writes it. Elsewhere it must be whole by itself: the
    changes of a server that was killed lie in a file beside it, which SQLite cannot take in there.

    Raises:
        OperationalError: it cannot be read, or is not whole by itself.
    """
    source = _opened_to_read(Path(str(url.database)).absolute())
    try:
        if _is_older(source):
            copy = sqlite3.connect(":memory:", check_same_thread=False)
            source.backup(copy)
            source.close()
            source = copy
    except sqlite3.Error as error:
        source.close()
        raise OperationalError("", None, error) from None
    return sa.create_engine("sqlite://", creator=lambda: source, poolclass=sa.pool.StaticPool)


def _opened_to_read(path: Path) -> sqlite3.Connection:
    """A connection that has read the file once.

    Raises:
        OperationalError: see `sqlite_reader`.
    """
    changes = path.with_name(f"{path.name}-wal")
    is_whole = not changes.exists() or not changes.stat().st_size
    failed: sqlite3.Error = sqlite3.OperationalError("")
    for options in ("mode=ro", "mode=ro&immutable=1")[: 1 + is_whole]:
        made = sqlite3.connect(f"{path.as_uri()}?{options}", uri=True, timeout=PATIENCE, check_same_thread=False)
        try:
            made.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return made
        except sqlite3.Error as error:
            made.close()
            failed = error
    words = f"changes in {changes.name} cannot be taken in where nothing can be written: copy both files elsewhere"
    raise OperationalError("", None, failed if is_whole else sqlite3.OperationalError(words))


def _is_older(base: sqlite3.Connection) -> bool:
    """Whether the tables are of an earlier version."""
    try:
        row = base.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError:
        return True
    return is_older(row[0] if row else "")
