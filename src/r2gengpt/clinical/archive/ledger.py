"""What is known of every film and study that came in, in SQLite: the truth that the spool's files follow. No files.

A film is `received` or `aside`; a study is `received`, then `reported`, then `sent`, or `aside`. Keys are hashes of
UIDs (see `key_of`), so that no patient is named here. Each method is one transaction, on the disk when it returns.

Times are a monotonic clock's, which means nothing to the next process: what was received before waits anew.
"""

import hashlib
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS studies (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, changed REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '', report TEXT NOT NULL DEFAULT '', keep REAL NOT NULL DEFAULT 0,
    accession TEXT NOT NULL DEFAULT '', objects TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS films (
    key TEXT PRIMARY KEY, study TEXT NOT NULL, digest TEXT NOT NULL, state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS films_of_study ON films (study);
CREATE INDEX IF NOT EXISTS studies_of_state ON studies (state, changed);
CREATE INDEX IF NOT EXISTS studies_kept ON studies (keep) WHERE keep > 0;
"""
LACKING = {
    "keep": "ALTER TABLE studies ADD COLUMN keep REAL NOT NULL DEFAULT 0",
    "accession": "ALTER TABLE studies ADD COLUMN accession TEXT NOT NULL DEFAULT ''",
    "objects": "ALTER TABLE studies ADD COLUMN objects TEXT NOT NULL DEFAULT ''",
}
"""Columns that the ledger of an earlier version has not."""
COLUMNS = {
    "studies": {"key", "state", "changed", "attempts", "reason", "report"},
    "films": {"key", "study", "digest", "state", "reason"},
}
DONE = ("reported", "sent")
WAITS, STORED, REFUSED = "w", "s", "r"
"""Of an object of a report: a letter each in `objects`, in the order of the forms."""
LATE = "came after the report of its study was written"
NO_FILM = "none of its films can be used"
"""Why a study is aside that a further film opens again."""


@dataclass(frozen=True)
class LedgerFilm:
    """One instance: its key, its study's, its state, and why it is aside."""

    key: str
    study: str
    state: str
    reason: str


@dataclass(frozen=True)
class LedgerStudy:
    """One study: its key, its state, why it is aside, its report's UID."""

    key: str
    state: str
    reason: str
    report: str


def key_of(uid: str) -> str:
    """What stands for a UID in names of files, in the ledger and in logs: 32 hexadecimal digits."""
    return hashlib.sha256(uid.encode()).hexdigest()[:32]


def accession_key(number: str) -> str:
    """What stands for an accession number; "" where there is none."""
    return key_of(f"accession {number.strip()}") if number.strip() else ""


class Damaged(Exception):
    """The file is no ledger, or cannot be read to its end."""


class Ledger:
    """The data base of a spool; used by several threads.

    Args:
        path: of the file.
        keep_seconds: for which a study's files stay after its report was sent.

    Attributes:
        is_new: nothing was known before: the file was not there, or empty.

    Raises:
        Damaged: so it is.
        sqlite3.OperationalError: it cannot be opened.
    """

    def __init__(self, path: Path, keep_seconds: float = 0.0) -> None:
        self._lock = threading.RLock()
        self._keep_seconds = keep_seconds
        self._base = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
        try:
            self.is_new = self._open()
        except BaseException as error:  # whatever it was, it is raised again
            self._base.close()
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                raise Damaged(str(error)) from None
            raise

    def _open(self) -> bool:
        """Check the file and bring its tables up to date; whether it held none."""
        if self._rows("PRAGMA quick_check(1)") != [("ok",)]:
            raise Damaged("its pages do not fit together")
        self._base.execute("PRAGMA journal_mode=WAL")
        self._base.execute("PRAGMA synchronous=FULL")  # a film is answered for only when its row is on the disk
        there = {name: self._columns(name) for (name,) in self._rows("SELECT name FROM sqlite_master")}
        if any(not columns <= there.get(table, columns) for table, columns in COLUMNS.items()):
            raise Damaged("its tables are not a ledger's")
        is_new = "studies" not in there
        for column, change in LACKING.items():
            if not is_new and column not in there["studies"]:
                self._base.execute(change)
        self._base.executescript(SCHEMA)
        self._base.execute("UPDATE studies SET keep = min(keep, ?)", (self._keep_seconds,))
        return is_new

    def _columns(self, table: str) -> set[str]:
        return {row[1] for row in self._rows(f"PRAGMA table_info({table})")}

    def close(self) -> None:
        """Close the data base."""
        with self._lock:
            self._base.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield self._base
                self._base.execute("COMMIT")
            except BaseException:  # whatever it was, it is raised again
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise

    def _rows(self, query: str, *values: object) -> list[tuple[str, ...]]:
        """What a query finds; texts, unless it asks for numbers."""
        with self._lock:
            return self._base.execute(query, values).fetchall()

    def is_known(self, key: str, digest: str) -> bool:
        """Whether a film need not be kept: it is here, or these very bytes are aside."""
        rows = self._rows("SELECT digest, state FROM films WHERE key = ?", key)
        return bool(rows) and (rows[0][0] == digest or rows[0][1] == "received")

    def add(self, key: str, study: str, digest: str, now: float, accession: str = "") -> str:
        """A film whose file is on the disk; gives "", or why it is aside at once: its study is done with.

        `accession` is the key of its accession number; "" where it has none.
        """
        with self._transaction() as base:
            found = base.execute("SELECT state, reason FROM studies WHERE key = ?", (study,)).fetchone()
            reason = ""
            if found is not None and found[0] in DONE:
                reason = LATE
            elif found is not None and found[0] == "aside" and found[1] != NO_FILM:
                reason = str(found[1])
            state = "aside" if reason else "received"
            base.execute("INSERT OR REPLACE INTO films VALUES (?, ?, ?, ?, ?)", (key, study, digest, state, reason))
            if not reason:
                base.execute(
                    "INSERT INTO studies (key, state, changed, accession) VALUES (?, 'received', ?, ?) "
                    "ON CONFLICT (key) DO UPDATE SET state = 'received', changed = excluded.changed, reason = '', "
                    "attempts = 0, accession = coalesce(nullif(excluded.accession, ''), accession)",
                    (study, now, accession),
                )
        return reason

    def add_aside(self, key: str, digest: str, reason: str) -> None:
        """A film that belongs to no study, as its identifiers cannot be read."""
        with self._transaction() as base:
            base.execute("INSERT OR REPLACE INTO films VALUES (?, '', ?, 'aside', ?)", (key, digest, reason))

    def set_film_aside(self, key: str, reason: str) -> None:
        """A film is of no use to its study."""
        with self._transaction() as base:
            base.execute("UPDATE films SET state = 'aside', reason = ? WHERE key = ?", (reason, key))

    def begin(self, study: str) -> int:
        """The report of a study is begun: which attempt this is, from 1."""
        with self._transaction() as base:
            base.execute("UPDATE studies SET attempts = attempts + 1 WHERE key = ?", (study,))
            return int(base.execute("SELECT attempts FROM studies WHERE key = ?", (study,)).fetchone()[0])

    def set_reported(self, study: str, films: frozenset[str], report: str, objects: int = 1) -> bool:
        """The report's files, so many, are on the disk.

        False, and nothing done, where other films than these are received now.
        """
        with self._transaction() as base:
            rows = base.execute("SELECT key FROM films WHERE study = ? AND state = 'received'", (study,))
            if frozenset(key for (key,) in rows) != films:
                return False
            values = (report, WAITS * objects, study)
            base.execute("UPDATE studies SET state = 'reported', report = ?, objects = ? WHERE key = ?", values)
            return True

    def objects(self, study: str) -> str:
        """Where each object of a study's report stands; `WAITS` alone where an earlier version wrote it."""
        rows = self._rows("SELECT objects FROM studies WHERE key = ?", study)
        return (rows[0][0] if rows else "") or WAITS

    def set_answered(self, study: str, number: int, answer: str, reason: str = "") -> None:
        """The peer has answered for an object of a report: `STORED`, or `REFUSED` with the reason."""
        with self._transaction() as base:
            row = base.execute("SELECT objects FROM studies WHERE key = ?", (study,)).fetchone()
            known = (row[0] if row else "") or WAITS
            now = known[:number] + answer + known[number + 1 :]
            base.execute("UPDATE studies SET objects = ? WHERE key = ?", (now, study))
            if reason:
                base.execute("UPDATE studies SET reason = ? WHERE key = ?", (reason, study))

    def reason_of(self, study: str) -> str:
        """Why a study is aside, or an object of its report was refused; or ""."""
        rows = self._rows("SELECT reason FROM studies WHERE key = ?", study)
        return rows[0][0] if rows else ""

    def set_sent(self, study: str) -> None:
        """The peer has the report; the study's files are kept for a while."""
        with self._transaction() as base:
            values = (self._keep_seconds, study)
            base.execute("UPDATE studies SET state = 'sent', keep = ? WHERE key = ?", values)

    def set_received(self, study: str, now: float) -> None:
        """The report is not there: it must be written again."""
        with self._transaction() as base:
            base.execute("UPDATE studies SET state = 'received', changed = ? WHERE key = ?", (now, study))

    def begin_anew(self, now: float) -> None:
        """What was received by an earlier process waits from now on, by this one's clock."""
        with self._transaction() as base:
            base.execute("UPDATE studies SET changed = ? WHERE state = 'received'", (now,))

    def forget_film(self, key: str) -> None:
        """A film's file is gone: when it is sent again it is a new one."""
        with self._transaction() as base:
            base.execute("DELETE FROM films WHERE key = ?", (key,))

    def age(self, seconds: float) -> list[str]:
        """So much time has passed for the sent studies; gives those whose files need not be kept any longer."""
        over = [study for (study,) in self._rows("SELECT key FROM studies WHERE keep > 0 AND keep <= ?", seconds)]
        if self.first_kept() is not None:
            with self._transaction() as base:
                base.execute("UPDATE studies SET keep = max(0, keep - ?) WHERE keep > 0", (seconds,))
        return over

    def first_kept(self) -> str | None:
        """The sent study whose files are kept for the shortest time from now."""
        rows = self._rows("SELECT key FROM studies WHERE keep > 0 ORDER BY keep, rowid LIMIT 1")
        return rows[0][0] if rows else None

    def is_kept(self, study: str) -> bool:
        """Whether the files of a sent study are kept."""
        return bool(self._rows("SELECT key FROM studies WHERE key = ? AND keep > 0", study))

    def state_of(self, study: str) -> str:
        """A study's state; "" where it is not known."""
        rows = self._rows("SELECT state FROM studies WHERE key = ?", study)
        return rows[0][0] if rows else ""

    def end_keeping(self, study: str) -> None:
        """The files of a sent study are not needed any more."""
        with self._transaction() as base:
            base.execute("UPDATE studies SET keep = 0 WHERE key = ?", (study,))

    def restore_film(self, key: str, study: str, digest: str, reason: str) -> None:
        """A film whose file was found, aside where there is a reason."""
        state = "aside" if reason else "received"
        with self._transaction() as base:
            base.execute("INSERT OR REPLACE INTO films VALUES (?, ?, ?, ?, ?)", (key, study, digest, state, reason))

    def restore_study(
        self,
        study: str,
        state: str,
        now: float,
        reason: str = "",
        accession: str = "",
        objects: int = 0,
    ) -> None:
        """A study of which files were found, `objects` of its report; what is known is further on, and stays."""
        keep = self._keep_seconds if state == "sent" else 0.0
        with self._transaction() as base:
            base.execute(
                "INSERT INTO studies (key, state, changed, reason, keep, accession, objects) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
                (study, state, now, reason, keep, accession, STORED * objects),
            )

    def set_study_aside(self, study: str, reason: str) -> None:
        """No report of this study, or none that the peer takes; its films are aside with it."""
        with self._transaction() as base:
            base.execute("UPDATE studies SET state = 'aside', reason = ? WHERE key = ?", (reason, study))
            base.execute(
                "UPDATE films SET state = 'aside', reason = ? WHERE study = ? AND state = 'received'", (reason, study)
            )

    def films(self, study: str | None = None) -> list[LedgerFilm]:
        """All films, or a study's, by key."""
        where, values = ("", ()) if study is None else (" WHERE study = ?", (study,))
        query = f"SELECT key, study, state, reason FROM films{where} ORDER BY key"
        return [LedgerFilm(*row) for row in self._rows(query, *values)]

    def studies(self, state: str | None = None) -> list[LedgerStudy]:
        """All studies, or those of a state, the longest unchanged first."""
        where, values = ("", ()) if state is None else (" WHERE state = ?", (state,))
        query = f"SELECT key, state, reason, report FROM studies{where} ORDER BY changed, rowid"
        return [LedgerStudy(*row) for row in self._rows(query, *values)]

    def next_quiet(self, before: float, urgent: Mapping[str, int] | None = None) -> str | None:
        """The received study that has been quiet longest, if since `before`; those that were begun before come last.

        So kills that come one after another hit different studies, and only one that ends the program itself is begun
        again and again. Urgent ones come first, until they were begun twice.

        Args:
            before: on the clock of `changed`.
            urgent: accession number's key → how urgent its study is; others are 0.
        """
        rows = self._rows(
            "SELECT key, accession, attempts FROM studies WHERE state = 'received' AND changed <= ? "
            f"ORDER BY attempts, changed, rowid{'' if urgent else ' LIMIT 1'}",
            before,
        )
        if not rows:
            return None
        ranks = urgent or {}
        return min(rows, key=lambda row: (int(row[2]) > 1, -ranks.get(row[1], 0)))[0]
