"""The directory that films wait in until their report is sent: whole files only, bounded in size. Sends nothing.

    incoming/  films of studies without a sent report       aside/    films of no use, each with its reason as text
    reports/   reports that the peer does not have yet      ledger.sqlite, lock

A file is on the disk before the ledger speaks of it, and is moved or removed only after the ledger has said so. So
whatever kills the program leaves nothing that `recover` cannot put right. Files are named by hashes of UIDs.
"""

import errno
import fcntl
import hashlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from r2gengpt.archive.films import NAME, reason_of
from r2gengpt.archive.ledger import Ledger, key_of
from r2gengpt.data.dicom_header import DicomHeader, read_header
from r2gengpt.errors import InputError
from r2gengpt.serving.draft import images_to_send

log = logging.getLogger("r2gengpt.archive")
PARTIAL = ".part"
MOST_UNREADABLE = 1000
"""Files without identifiers that are kept; the next ones are refused without being kept."""


class NoSpace(Exception):
    """The disk or the spool is full: nothing of the film was kept."""


class Unreadable(Exception):
    """A film without identifiers, which was put aside."""


class Spool:
    """A spool; one process at a time.

    Args:
        directory: made if it is not there, readable by its owner only.
        most_bytes: of all its files together.
        clock: seconds.

    Raises:
        InputError: it cannot be made or written, or another process has it.
    """

    def __init__(self, directory: Path, most_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self.directory, self.most_bytes, self.clock = directory, most_bytes, clock
        self.incoming, self.aside, self.reports = (directory / name for name in ("incoming", "aside", "reports"))
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            for place in (self.incoming, self.aside, self.reports):
                place.mkdir(exist_ok=True, mode=0o700)
            self._owner = _owned(directory)
            self.ledger = Ledger(directory / "ledger.sqlite")
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"--spool {directory}: {getattr(error, 'strerror', None) or error}") from None
        self._lock = threading.Lock()
        self.recover()
        self.used = sum(file.stat().st_size for place in self._places for file in place.iterdir())

    @property
    def _places(self) -> tuple[Path, Path, Path]:
        return self.incoming, self.aside, self.reports

    def close(self) -> None:
        """Let another process have it."""
        self.ledger.close()
        self._owner.close()

    def recover(self) -> None:
        """Put right what a killed process has left: the ledger is the truth, files follow it."""
        for place in self._places:
            for left in place.glob(f"*{PARTIAL}"):
                left.unlink()
        films = {film.key: film for film in self.ledger.films()}
        sent = {study.key for study in self.ledger.studies("sent")}
        for path in self.incoming.iterdir():
            film = films.get(path.stem)
            if film is None:  # came in whole, was not answered for: its sender will send it again
                path.unlink()
            elif film.state == "aside":
                self._move_aside(film.key, film.reason)
            elif film.study in sent:
                path.unlink()
        reported = {study.key for study in self.ledger.studies("reported")}
        for path in self.reports.iterdir():
            if path.stem not in reported:
                path.unlink()
        for path in self.aside.glob("*.dcm"):
            if path.stem not in films or (self.incoming / path.name).exists():
                path.unlink()
        for path in self.aside.glob("*.txt"):
            if not path.with_suffix(".dcm").exists():
                path.unlink()
        for path in self.aside.glob("*.dcm"):
            if not path.with_suffix(".txt").exists():
                self._note(path.stem, films[path.stem].reason)

    def add(self, data: bytes | Sequence[bytes]) -> str:
        """Keep a film, on the disk when this returns; gives its key. A film that is here already is not kept twice.

        Raises:
            NoSpace: there is no room. Nothing is kept then.
            Unreadable: it names no study or no instance; it was put aside.
        """
        parts = [data] if isinstance(data, bytes) else list(data)
        whole = b"".join(parts)
        digest = hashlib.sha256(whole).hexdigest()
        try:
            header = read_header(whole, NAME)
            images_to_send([Path(NAME)], [header], "image")
        except InputError as error:
            self._keep_unreadable(whole, digest, reason_of(error))
            raise Unreadable(reason_of(error)) from None
        return self._keep(whole, digest, header)

    def _keep(self, whole: bytes, digest: str, header: DicomHeader) -> str:
        study = key_of(header.study_uid)
        key = key_of(f"{header.study_uid} {header.instance_uid}")
        with self._lock:
            if self.ledger.is_known(key, digest):
                return key
            path = self.incoming / f"{key}.dcm"
            self._write(path, whole)
            try:
                reason = self.ledger.add(key, study, digest, self.clock())
            except sqlite3.Error as error:
                self._remove(path)
                raise _full(error) from error
            self._remove(self.aside / f"{key}.dcm")  # an earlier, broken copy
            (self.aside / f"{key}.txt").unlink(missing_ok=True)
            if reason:
                self._move_aside(key, reason)
                log.warning("study %s: a film was put aside: %s", study[:12], reason)
        return key

    def _keep_unreadable(self, whole: bytes, digest: str, reason: str) -> None:
        key = digest[:32]
        with self._lock:
            if self.ledger.is_known(key, digest):
                return
            if len(self.ledger.films("")) >= MOST_UNREADABLE:
                log.warning("a film without identifiers is refused: %d of them are aside", MOST_UNREADABLE)
                return
            self._write(self.aside / f"{key}.dcm", whole)
            try:
                self.ledger.add_aside(key, digest, reason)
            except sqlite3.Error as error:
                self._remove(self.aside / f"{key}.dcm")
                raise _full(error) from error
            self._note(key, reason)
            log.warning("a film was put aside: %s", reason)

    def _write(self, path: Path, data: bytes) -> None:
        """A whole file, on the disk when this returns.

        Raises:
            NoSpace: there is no room. Nothing is left then.
        """
        if self.used + len(data) > self.most_bytes:
            raise NoSpace(f"the spool holds {self.used} of at most {self.most_bytes} bytes (--max_spool_bytes)")
        partial = path.with_name(path.name + PARTIAL)
        old = path.stat().st_size if path.exists() else 0
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            _sync(path.parent)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise _full(error) from error
        self.used += len(data) - old

    def _remove(self, path: Path) -> None:
        if path.exists():
            self.used -= path.stat().st_size
            path.unlink()

    def _move_aside(self, key: str, reason: str) -> None:
        """After the ledger has said so."""
        (self.incoming / f"{key}.dcm").replace(self.aside / f"{key}.dcm")
        self._note(key, reason)

    def _note(self, key: str, reason: str) -> None:
        """The reason beside a file that is aside, for people; the ledger has it too."""
        (self.aside / f"{key}.txt").write_text(f"{reason}\n", encoding="utf-8")

    def set_film_aside(self, key: str, reason: str) -> None:
        """A film is of no use to its study."""
        with self._lock:
            self.ledger.set_film_aside(key, reason)
            self._move_aside(key, reason)

    def set_study_aside(self, study: str, reason: str) -> None:
        """There will be no report of this study, or its report is not taken."""
        with self._lock:
            self.ledger.set_study_aside(study, reason)
            for film in self.ledger.films(study):
                if (self.incoming / f"{film.key}.dcm").exists():
                    self._move_aside(film.key, reason)
            self._remove(self.report_path(study))

    def keep_report(self, study: str, films: frozenset[str], report: bytes, uid: str) -> bool:
        """Keep a study's report until it is sent. False where films have come meanwhile: it must be written again.

        Raises:
            NoSpace: there is no room.
        """
        with self._lock:
            self._write(self.report_path(study), report)
            try:
                if self.ledger.set_reported(study, films, uid):
                    return True
            except sqlite3.Error as error:
                raise _full(error) from error
            self._remove(self.report_path(study))
            return False

    def set_sent(self, study: str) -> None:
        """The peer has the report: neither it nor the films are needed here any more."""
        with self._lock:
            self.ledger.set_sent(study)
            for film in self.ledger.films(study):
                self._remove(self.incoming / f"{film.key}.dcm")
            self._remove(self.report_path(study))

    def report_path(self, study: str) -> Path:
        """Where a report is that was not sent."""
        return self.reports / f"{study}.dcm"

    def path_of(self, key: str) -> Path:
        """Where a received film is."""
        return self.incoming / f"{key}.dcm"


def _owned(directory: Path) -> TextIO:
    """The spool's lock, which is given back when the file is closed or the process ends.

    Raises:
        InputError: another process has it.
    """
    owner = (directory / "lock").open("w")
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner.close()
        raise InputError(f"--spool {directory}: another process uses it") from None
    return owner


def _full(error: Exception) -> Exception:
    """`NoSpace` for what says that a disk is full, else the error itself."""
    words = str(error).lower()
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return NoSpace("the disk is full") if full or "disk is full" in words else error


def _sync(directory: Path) -> None:
    """Bring names of files to the disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
