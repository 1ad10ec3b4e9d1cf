"""The directory that films wait in until their report is sent: whole files only, bounded in size. Sends nothing.

    incoming/  films of studies without a sent report       aside/    films of no use, each with its reason as text
    reports/   reports that the peer does not have yet      sent/     films and reports that were sent, for a while
    ledger.sqlite, lock, and orders.sqlite of the room `hl7`

A message of a report (HL7) lies in `reports` too, until its own peer has it or refuses it: the file is all that is
known of that.

A file is on the disk before the ledger speaks of it, and is moved or removed only after the ledger has said so. So
whatever kills the program leaves nothing that `recover` cannot put right. Files are named by hashes of UIDs.
"""

import errno
import hashlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2gengpt.clinical.archive import private
from r2gengpt.clinical.archive.bounded import Seldom
from r2gengpt.clinical.archive.films import identified, keys_of, reason_of
from r2gengpt.clinical.archive.ledger import REFUSED, STORED, WAITS, Damaged, Ledger, accession_key
from r2gengpt.clinical.archive.recover import MESSAGE, REPORT, WHOLE_STUDY, object_name, recover
from r2gengpt.errors import InputError
from r2gengpt.files import sync
from r2gengpt.films.dicom.header import DicomHeader

log = logging.getLogger("r2gengpt.clinical.archive")
MOST_UNREADABLE = 1000
"""Files without identifiers that are kept; the next ones are refused without being kept."""
OURS = ("ledger.sqlite", "orders.sqlite", "lock")
"""How the names of a spool's own files begin."""
SWEEP = 60.0
"""Seconds between two looks at what was kept long enough."""


class NoSpace(Exception):
    """The disk or the spool is full: nothing of the film was kept."""


class Unreadable(Exception):
    """A film without identifiers, which was put aside."""


@dataclass(frozen=True)
class KeptFilm:
    """A film that is kept: its key, what it says of itself, and whether it was not here before."""

    key: str
    header: DicomHeader
    is_new: bool


@dataclass(frozen=True)
class ReportObject:
    """An object of a report: which form it is, from 0 (below 0: none is left), and its bytes."""

    number: int
    data: bytes


class Spool:
    """A spool; one process at a time.

    Args:
        directory: made if it is not there; it and all in it are its owner's only.
        most_bytes: of all its files together; then no film is taken, and reports of the films that are here still are.
        clock: seconds; it never goes back.
        keep_seconds: for which a study's films and report stay in `sent` while the program runs.

    Raises:
        InputError: it cannot be made or written, or another process has it.
    """

    def __init__(
        self,
        directory: Path,
        most_bytes: int,
        clock: Callable[[], float] = time.monotonic,
        keep_seconds: float = 0.0,
    ) -> None:
        self.directory, self.most_bytes, self.clock, self.keep_seconds = directory, most_bytes, clock, keep_seconds
        self.incoming, self.aside, self.reports, self.sent = self.places = tuple(
            directory / name for name in ("incoming", "aside", "reports", "sent")
        )
        self._lock = threading.RLock()
        self._unkept = Seldom(f"a film without identifiers is refused: {MOST_UNREADABLE} of them are aside")
        with private.own(directory, "spool") as self._owner:
            private.close_files(directory, OURS)  # it may hold others that are none of ours
            for place in self.places:
                private.make_directory(place)
                private.close_files(place)
            self._open_ledger()
        self._swept = clock()

    def _open_ledger(self) -> None:
        """Open the ledger, and let the files follow it or, where it is new, make it up from them."""
        self.ledger, self.used = self._opened_ledger(), 0
        recover(self)
        self.used = sum(path.stat().st_size for place in self.places for path in private.own_files(place))

    def _opened_ledger(self) -> Ledger:
        """The ledger; a damaged one is put away, and a new one takes its place."""
        path = self.directory / "ledger.sqlite"
        private.touch(path)  # SQLite gives its other files the same mode
        try:
            return Ledger(path, self.keep_seconds)
        except Damaged as error:
            log.error("the ledger is damaged (%s): it was put away as %s.damaged", error, path.name)
        path.replace(path.with_name(f"{path.name}.damaged"))
        for rest in ("-wal", "-shm"):
            path.with_name(path.name + rest).unlink(missing_ok=True)
        private.touch(path)
        return Ledger(path, self.keep_seconds)

    def renew_ledger(self) -> None:
        """Open the ledger again after an error of the data base; what it has lost is made up from the files."""
        with self._lock:
            self.ledger.close()
            self._open_ledger()

    def close(self) -> None:
        """Let another process have it."""
        self.ledger.close()
        self._owner.close()

    def add(self, data: bytes | Sequence[bytes]) -> str:
        """Keep a film as `take`; gives its key."""
        return self.take(data).key

    def take(self, data: bytes | Sequence[bytes]) -> KeptFilm:
        """Keep a film, on the disk when this returns. A film that is here already is not kept twice.

        Raises:
            NoSpace: there is no room. Nothing is kept then.
            Unreadable: it names no study or no instance; it was put aside.
        """
        parts = [data] if isinstance(data, bytes) else list(data)
        whole = b"".join(parts)
        digest = hashlib.sha256(whole).hexdigest()
        try:
            header = identified(whole)
        except InputError as error:
            self._keep_unreadable(whole, digest, reason_of(error))
            raise Unreadable(reason_of(error)) from None
        return self._keep(whole, digest, header)

    def _keep(self, whole: bytes, digest: str, header: DicomHeader) -> KeptFilm:
        study, key = keys_of(header)
        with self._lock:
            if self.ledger.is_known(key, digest):
                return KeptFilm(key, header, is_new=False)
            path = self.incoming / f"{key}.dcm"
            self._write_film(path, whole)
            try:
                reason = self.ledger.add(key, study, digest, self.clock(), accession_key(header.accession))
            except sqlite3.Error as error:
                self.remove(path)
                raise _full(error) from error
            self.remove(self.aside / f"{key}.dcm")  # an earlier, broken copy
            (self.aside / f"{key}.txt").unlink(missing_ok=True)
            if reason:
                self.move_aside(key, reason)
                log.warning("study %s: a film was put aside: %s", study[:12], reason)
        return KeptFilm(key, header, is_new=True)

    def _keep_unreadable(self, whole: bytes, digest: str, reason: str) -> None:
        key = digest[:32]
        with self._lock:
            if self.ledger.is_known(key, digest):
                return
            if len(self.ledger.films("")) >= MOST_UNREADABLE:
                self._unkept()
                return
            self._write_film(self.aside / f"{key}.dcm", whole)
            try:
                self.ledger.add_aside(key, digest, reason)
            except sqlite3.Error as error:
                self.remove(self.aside / f"{key}.dcm")
                raise _full(error) from error
            self.note(key, reason)
            log.warning("a film was put aside: %s", reason)

    def _write_film(self, path: Path, data: bytes) -> None:
        """As `_write`, within `most_bytes`."""
        self._make_room(len(data))
        if self.used + len(data) > self.most_bytes:
            raise NoSpace(f"the spool holds {self.used} of at most {self.most_bytes} bytes (`max_spool_bytes`)")
        self._write(path, data)

    def _write(self, path: Path, data: bytes) -> None:
        """A whole file, on the disk when this returns. A report has no bound: without it its films would never go.

        Raises:
            NoSpace: there is no room. Nothing is left then.
        """
        self._make_room(len(data))
        old = path.stat().st_size if path.exists() else 0
        try:
            private.write_whole(path, data)
        except OSError as error:
            raise _full(error) from error
        self.used += len(data) - old

    def _make_room(self, size: int) -> None:
        """What was sent goes first where there is no room."""
        while self.used + size > self.most_bytes and (study := self.ledger.first_kept()) is not None:
            log.warning("study %s: its sent files are removed early, for room (`max_spool_bytes`)", study[:12])
            self._drop_sent(study)

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there."""
        if path.exists():
            self.used -= path.stat().st_size
            path.unlink()

    def _move(self, path: Path, target: Path) -> None:
        """Bring a file to another place, if it is there."""
        if path.exists():
            self.used -= target.stat().st_size if target.exists() else 0
            path.replace(target)

    def move_aside(self, key: str, reason: str, *, whole_study: bool = False) -> None:
        """After the ledger has said so."""
        self._move(self.incoming / f"{key}.dcm", self.aside / f"{key}.dcm")
        self.note(key, reason, whole_study=whole_study)

    def note(self, key: str, reason: str, *, whole_study: bool = False) -> None:
        """The reason beside a file that is aside, for people; the ledger has it too."""
        with private.open_new(self.aside / f"{key}.txt") as file:
            file.write("".join(f"{line}\n" for line in (reason, WHOLE_STUDY)[: 1 + whole_study]).encode())

    def set_film_aside(self, key: str, reason: str) -> None:
        """A film is of no use to its study. One whose file is gone is forgotten, so that it can be sent again."""
        with self._lock:
            if self.path_of(key).exists():
                self.ledger.set_film_aside(key, reason)
                self.move_aside(key, reason)
            else:
                self.ledger.forget_film(key)

    def set_study_aside(self, study: str, reason: str) -> None:
        """There will be no report of this study, or its report is not taken."""
        with self._lock:
            self.ledger.set_study_aside(study, reason)
            for film in self.ledger.films(study):
                if (self.incoming / f"{film.key}.dcm").exists():
                    self.move_aside(film.key, reason, whole_study=True)
            self._remove_reports(study)

    def keep_report(
        self,
        study: str,
        films: frozenset[str],
        report: bytes,
        uid: str,
        message: bytes = b"",
        further: Sequence[bytes] = (),
    ) -> bool:
        """Keep a study's report, its further forms, and its message if it has one, until they are sent.

        The first form is written last: where it is, all are. False where films have come meanwhile: the report must be
        written again.

        Raises:
            NoSpace: the disk is full.
        """
        with self._lock:
            done = False
            try:
                self.remove(self.message_path(study))  # of a report that was lost
                if message:
                    self._write(self.message_path(study), message)
                for number, one in reversed(list(enumerate((report, *further)))):
                    self._write(self.report_path(study, number), one)
                done = self.ledger.set_reported(study, films, uid, 1 + len(further))
            except sqlite3.Error as error:
                raise _full(error) from error
            finally:
                if not done:  # whoever sends messages asks nobody whether one is due
                    self.remove(self.message_path(study))
                    for number in range(1 + len(further)):
                        self.remove(self.report_path(study, number))
            return done

    def messages(self) -> list[str]:
        """The studies whose messages are to be sent."""
        with self._lock:
            return [path.stem for path in private.own_files(self.reports, MESSAGE)]

    def read_message(self, study: str) -> bytes | None:
        """A message that was not sent; None where it has gone meanwhile."""
        with self._lock:
            try:
                return self.message_path(study).read_bytes()
            except FileNotFoundError:
                return None

    def set_message_sent(self, study: str, message: bytes) -> None:
        """The peer has this message; one that was written meanwhile stays."""
        with self._lock:
            if self.read_message(study) == message:
                self.remove(self.message_path(study))
                sync(self.reports)

    def set_message_aside(self, study: str, message: bytes, reason: str) -> None:
        """The peer will not take this message; one that was written meanwhile stays."""
        with self._lock:
            if self.read_message(study) == message:
                self.note(study, reason)
                self._move(self.message_path(study), self.aside / f"{study}{MESSAGE}")

    def next_object(self, study: str) -> ReportObject | None:
        """The next object of a report that was not answered for; None where its file is gone.

        Then the study is received again.
        """
        with self._lock:
            objects = self.ledger.objects(study)
            number = objects.find(WAITS)
            if number < 0:  # it was killed before its end was kept
                return ReportObject(number, b"")
            try:
                return ReportObject(number, self.report_path(study, number).read_bytes())
            except FileNotFoundError:
                self.remove(self.message_path(study))  # it is written again with its report
                self._remove_reports(study)
                self.ledger.set_received(study, self.clock())
                return None

    def set_answered(self, study: str, number: int, refusal: str = "") -> str:
        """The peer has an object of a report, or refuses it with a reason; gives the study's state now."""
        with self._lock:
            if number >= 0:
                self.ledger.set_answered(study, number, REFUSED if refusal else STORED, refusal)
            objects = self.ledger.objects(study)
            if WAITS in objects:
                return "reported"
            if REFUSED not in objects:
                self.set_sent(study)
                return "sent"
            stored = f" (it has taken {objects.count(STORED)} of {len(objects)} forms)" if STORED in objects else ""
            self.set_study_aside(study, f"{self.ledger.reason_of(study)}{stored}")
            return "aside"

    def set_sent(self, study: str) -> None:
        """The peer has the report: it and the films are kept for a while, or not at all."""
        with self._lock:
            self.ledger.set_sent(study)
            self.follow_sent(study)

    def follow_sent(self, study: str) -> None:
        """Bring the files of a sent study to where the ledger has them."""
        if not self.ledger.is_kept(study):
            self._remove_study(study)
            return
        for number in range(len(self.ledger.objects(study))):
            self._move(self.report_path(study, number), self.sent_report(study, number))
        for film in self.ledger.films(study):
            self._move(self.path_of(film.key), self.sent / f"{film.key}.dcm")

    def sweep(self) -> None:
        """Remove what was sent and kept long enough."""
        now = self.clock()
        elapsed = now - self._swept
        if not self.keep_seconds or elapsed < min(SWEEP, self.keep_seconds):
            return
        self._swept = now
        with self._lock:
            for study in self.ledger.age(elapsed):
                self._remove_study(study)

    def _drop_sent(self, study: str) -> None:
        self.ledger.end_keeping(study)
        self._remove_study(study)

    def _remove_study(self, study: str) -> None:
        """The files of a sent study, wherever they are."""
        for film in self.ledger.films(study):
            self.remove(self.path_of(film.key))
            self.remove(self.sent / f"{film.key}.dcm")
        self._remove_reports(study)
        for number in range(len(self.ledger.objects(study))):
            self.remove(self.sent_report(study, number))

    def _remove_reports(self, study: str) -> None:
        for number in range(len(self.ledger.objects(study))):
            self.remove(self.report_path(study, number))

    def report_path(self, study: str, number: int = 0) -> Path:
        """Where an object of a report is that was not sent; `number` is 0 for the first form."""
        return self.reports / f"{object_name(study, number)}.dcm"

    def message_path(self, study: str) -> Path:
        """Where a message is that was not sent."""
        return self.reports / f"{study}{MESSAGE}"

    def sent_report(self, study: str, number: int = 0) -> Path:
        """Where an object of a report is that was sent."""
        return self.sent / f"{object_name(study, number)}{REPORT}"

    def path_of(self, key: str) -> Path:
        """Where a received film is."""
        return self.incoming / f"{key}.dcm"


def _full(error: Exception) -> Exception:
    """`NoSpace` for what says that a disk is full, else the error itself."""
    words = str(error).lower()
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return NoSpace("the disk is full") if full or "disk is full" in words else error
