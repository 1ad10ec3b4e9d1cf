"""The claimed work items that are not finished, with their transaction UIDs, in SQLite; their reports beside it.

    claims.sqlite, lock    reports/  drafts that are written and not all stored    films/  those of the item in work

A claim is on the disk before the server is asked for it, so that a killed process takes it up again under the same
transaction UID. Each method is one transaction, on the disk when it returns. A finished item leaves nothing behind,
unless it is aside: then its row stays, with the reason.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from r2gengpt.clinical.archive import private
from r2gengpt.clinical.archive.ledger import key_of
from r2gengpt.clinical.archive.loop import DicomObject
from r2gengpt.clinical.worklist.changes import OutputInstance
from r2gengpt.clinical.worklist.workitem import WorkItem

CLAIMING, CLAIMED, REPORTED, STORED, CANCELING, ASIDE = (
    *("claiming", "claimed", "reported", "stored", "canceling", "aside"),
)
"""Stages, in their order; the last two are instead of the others."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS claims (
    uid TEXT PRIMARY KEY, transaction_uid TEXT NOT NULL, stage TEXT NOT NULL, item TEXT NOT NULL, started TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, conflicts INTEGER NOT NULL DEFAULT 0,
    reports INTEGER NOT NULL DEFAULT 0, outputs TEXT NOT NULL DEFAULT '[]', reason TEXT NOT NULL DEFAULT '',
    code TEXT NOT NULL DEFAULT ''
);
"""
COUNTS = ("attempts", "conflicts")


@dataclass(frozen=True)
class Claim:
    """A claimed item.

    Attributes:
        item: as it was when it was claimed.
        transaction: the UID that locks it.
        stage: one of those above.
        started: when it was claimed.
        attempts: how often its claim, then its draft, was begun.
        conflicts: how often the server refused a change of it.
        reports: how many reports it has.
        outputs: those that are stored.
        reason: why it is canceled or aside; or "".
        code: of that reason.
    """

    item: WorkItem
    transaction: str
    stage: str
    started: datetime
    attempts: int
    conflicts: int
    reports: int
    outputs: tuple[OutputInstance, ...]
    reason: str
    code: str

    @property
    def uid(self) -> str:
        """The item's."""
        return self.item.uid

    @property
    def name(self) -> str:
        """What stands for it in the log: no UID, which may name a patient's study."""
        return key_of(self.item.uid)[:12]


class Claims:
    """The claims of a directory; one process at a time.

    Args:
        directory: made if it is not there; it and all in it are its owner's only.
        clock: seconds; it never goes back.

    Raises:
        InputError: it cannot be made or written, another process has it, or its data base is damaged.
    """

    def __init__(self, directory: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.directory, self.clock = directory, clock
        self.reports, self.films = directory / "reports", directory / "films"
        with private.own(directory, "claims") as self._owner:
            self._open()

    def _open(self) -> None:
        for place in (self.reports, self.films):
            private.make_directory(place)
            private.close_files(place)
        path = self.directory / "claims.sqlite"
        private.touch(path)  # SQLite gives its other files the same mode
        self._base = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
        try:
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=FULL")
            self._base.executescript(SCHEMA)
            self._sweep()
        except BaseException:  # whatever it was, it is raised again
            self._base.close()
            raise

    def _sweep(self) -> None:
        """Remove what a killed process left: films, halves of files, reports that no claim has."""
        keys = {key_of(one.uid) for one in self.all() if one.stage in (REPORTED, STORED, CANCELING)}
        for path in private.own_files(self.films):
            path.unlink()
        for path in private.own_files(self.reports):
            if path.name.endswith(private.PARTIAL) or path.name[:32] not in keys:
                path.unlink()

    def close(self) -> None:
        """Let another process have it."""
        self._base.close()
        self._owner.close()

    def all(self) -> list[Claim]:
        """Every claim, the oldest first."""
        rows = self._base.execute(
            "SELECT item, transaction_uid, stage, started, attempts, conflicts, reports, outputs, reason, "
            "code FROM claims ORDER BY rowid"
        )
        return [_claim(row) for row in rows.fetchall()]

    def open(self) -> list[Claim]:
        """Those that are to be worked on."""
        return [one for one in self.all() if one.stage != ASIDE]

    def add(self, item: WorkItem, transaction: str, now: datetime) -> None:
        """An item is about to be claimed under this UID; one that was aside is begun anew."""
        self._base.execute(
            "INSERT OR REPLACE INTO claims (uid, transaction_uid, stage, item, started) VALUES (?, ?, ?, ?, ?)",
            (item.uid, transaction, CLAIMING, item.to_json(), now.astimezone(UTC).isoformat()),
        )

    def set_claimed(self, uid: str) -> None:
        """The server has given us the item; what was counted begins anew."""
        self._base.execute("UPDATE claims SET stage = ?, attempts = 0, conflicts = 0 WHERE uid = ?", (CLAIMED, uid))

    def count(self, uid: str, what: str) -> int:
        """One more of `COUNTS`: how many there are now."""
        assert what in COUNTS
        self._base.execute(f"UPDATE claims SET {what} = {what} + 1 WHERE uid = ?", (uid,))
        return int(self._base.execute(f"SELECT {what} FROM claims WHERE uid = ?", (uid,)).fetchone()[0])

    def keep_reports(self, uid: str, reports: Sequence[DicomObject]) -> None:
        """The item's reports are written.

        Raises:
            OSError: there is no room; nothing is known of them then.
        """
        for number, report in enumerate(reports):
            private.write_whole(self.report_path(uid, number), report.data)
        values = (REPORTED, len(reports), uid)
        self._base.execute("UPDATE claims SET stage = ?, reports = ?, outputs = '[]' WHERE uid = ?", values)

    def read_report(self, uid: str, number: int) -> bytes | None:
        """A report that is kept; None where its file is gone: then the item is drafted again."""
        try:
            return self.report_path(uid, number).read_bytes()
        except FileNotFoundError:
            self.set_claimed(uid)
            return None

    def set_stored(self, uid: str, outputs: Sequence[OutputInstance], *, is_last: bool) -> None:
        """The archive has these reports of the item; `is_last`: all of them."""
        stage = STORED if is_last else REPORTED
        kept = json.dumps([one.to_dict() for one in outputs])
        self._base.execute("UPDATE claims SET stage = ?, outputs = ? WHERE uid = ?", (stage, kept, uid))

    def set_canceling(self, uid: str, reason: str, code: str) -> None:
        """The item cannot be performed, and the server is to be told why."""
        values = (CANCELING, reason, code, uid)
        self._base.execute("UPDATE claims SET stage = ?, reason = ?, code = ?, conflicts = 0 WHERE uid = ?", values)

    def set_aside(self, uid: str, reason: str) -> None:
        """The server takes neither completion nor cancellation: people must look."""
        self._base.execute("UPDATE claims SET stage = ?, reason = ? WHERE uid = ?", (ASIDE, reason, uid))
        self._remove_reports(uid)

    def end(self, uid: str) -> None:
        """The item is finished, or is not ours."""
        self._base.execute("DELETE FROM claims WHERE uid = ?", (uid,))
        self._remove_reports(uid)

    def report_path(self, uid: str, number: int) -> Path:
        """Where a report is that is not known to be stored."""
        return self.reports / f"{key_of(uid)}-{number + 1}.dcm"

    def film_path(self, uid: str, number: int) -> Path:
        """Where a film is while its item is drafted."""
        return self.films / f"{key_of(uid)}-{number}.dcm"

    def _remove_reports(self, uid: str) -> None:
        for path in private.own_files(self.reports):
            if path.name.startswith(key_of(uid)):
                with suppress(FileNotFoundError):
                    path.unlink()


def _claim(row: tuple[str, str, str, str, int, int, int, str, str, str]) -> Claim:
    item, transaction, stage, started, attempts, conflicts, reports, outputs, reason, code = row
    return Claim(
        item=WorkItem.from_json(item),
        transaction=transaction,
        stage=stage,
        started=datetime.fromisoformat(started),
        attempts=attempts,
        conflicts=conflicts,
        reports=reports,
        outputs=tuple(OutputInstance(**one) for one in json.loads(outputs)),
        reason=reason,
        code=code,
    )
