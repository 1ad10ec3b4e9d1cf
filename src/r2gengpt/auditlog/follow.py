"""Reads a log's records after a known one, as they come, and keeps how far they were sent. Sends nothing.

The log's own files are the queue: what waits to be sent is on the disk, and a few records of it are in memory.
"""

import contextlib
import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path

from r2gengpt.auditlog.chain import NOTHING, ChainRecord, Edited, read_record
from r2gengpt.auditlog.files import find_end, held, log_files
from r2gengpt.files import open_regular

STATE = "syslog.state"
"""The file of a log's directory that has how far it was sent."""
SLOT = 128
"""Bytes of each of its two lines, which are written in turn: one of them is whole whatever ends the program."""
MOST_RECORDS, MOST_BYTES = 256, 2**20
"""That are read at once; a record may be longer, and is then read alone."""
_LINE = re.compile(rb"([0-9]{1,18}) ([0-9]{1,18}) ([0-9a-f]{64}) *\n")


@dataclass(frozen=True)
class Mark:
    """A record that was sent: its number and its hash."""

    number: int
    digest: str


class SentState:
    """How far a log was sent; one process at a time.

    Args:
        directory: of the log.

    Raises:
        BlockingIOError: another process sends this log.
        OSError: the file cannot be made or read.
    """

    def __init__(self, directory: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._handle = os.open(directory / STATE, flags, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = [_LINE.fullmatch(os.pread(self._handle, SLOT, SLOT * slot)) for slot in (0, 1)]
        except OSError:
            os.close(self._handle)
            raise
        marks = [(int(one[1]), Mark(int(one[2]), one[3].decode())) for one in found if one]
        self.mark: Mark | None
        self._turn, self.mark = max(marks, default=(0, None), key=lambda one: one[0])

    def save(self, mark: Mark) -> None:
        """Records up to this one were sent; on the disk when this returns."""
        self._turn += 1
        line = f"{self._turn} {mark.number} {mark.digest}".ljust(SLOT - 1).encode() + b"\n"
        os.pwrite(self._handle, line, SLOT * (self._turn % 2))
        os.fsync(self._handle)
        self.mark = mark

    def close(self) -> None:
        """Let another process send the log."""
        os.close(self._handle)


class LogFollower:
    """The records of a log after a mark.

    Args:
        directory: of the log.
        mark: the record after which it begins; None: the last one that there is.

    Attributes:
        missing: records after the mark that are not in the files any more, once the next ones were looked for.
    """

    def __init__(self, directory: Path, mark: Mark | None) -> None:
        self.directory, self.missing = directory, 0
        if mark is None:
            with held(directory, shared=True):
                end = find_end(directory)
            mark = Mark(end.number, end.digest)
        self.mark = mark
        self._path: Path | None = None
        self._offset = 0

    def _skip_to(self, mark: Mark) -> None:
        """Find the file to begin with: the newest whose first record is not after the mark.

        Files that end before the mark, or have another record of its number, are of another log: all of it is new.
        """
        files = log_files(self.directory)
        firsts = [(path, first) for path in files if (first := _first_number(path)) is not None]
        before = [path for path, first in firsts if first <= mark.number]
        if before and (find_end(self.directory).number < mark.number or _has_another(before[-1], mark)):
            self.mark, before = Mark(0, NOTHING), []
        if before:
            self._path = before[-1]
        elif firsts:
            self._path = firsts[0][0]
            self.missing = firsts[0][1] - self.mark.number - 1

    def next(self) -> list[ChainRecord]:
        """The next records, up to a number of them; none where there are no more now.

        Raises:
            OSError: the files cannot be read.
        """
        found: list[ChainRecord] = []
        while not found:
            if self._path is None:
                self._skip_to(self.mark)
                if self._path is None:
                    return []
            later = [path for path in log_files(self.directory) if path > self._path]  # before: then this one is whole
            found, is_end = self._read(self._path)
            if is_end and not found:
                if not later:
                    return []
                self._path, self._offset = later[0], 0
        return found

    def _read(self, path: Path) -> tuple[list[ChainRecord], bool]:
        """Records of whole lines after the mark, and whether the file has no more of them."""
        found: list[ChainRecord] = []
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size < self._offset:  # files are only added to: it is another one
                self.back_to(self.mark)
                return [], False
            file.seek(self._offset)
            data = file.read(MOST_BYTES)
            if b"\n" not in data:
                data += file.readline()
        *lines, _ = data.split(b"\n")
        for line in lines:
            self._offset += len(line) + 1
            record = _record_in(line)
            if record is not None and record.number > self.mark.number:
                found.append(record)
                self.mark = Mark(record.number, record.digest)
                if len(found) == MOST_RECORDS:
                    break
        return found, not lines

    def back_to(self, mark: Mark) -> None:
        """Begin again after a record that was sent."""
        self.mark, self._path, self._offset = mark, None, 0


def _record_in(line: bytes) -> ChainRecord | None:
    """The record of a line; None where it is none, or was changed, which `verify` finds."""
    with contextlib.suppress(Edited):
        return read_record(line.rstrip(b"\n"))
    return None


def _first_number(path: Path) -> int | None:
    """The number of a file's first record; None where it has none yet."""
    with open_regular(path) as file:
        return next((record.number for line in file if (record := _record_in(line)) is not None), None)


def _has_another(path: Path, mark: Mark) -> bool:
    """Whether a file has a record of the mark's number, and not the mark's."""
    number = f" {mark.number} <".encode()  # spares the hashes of all other lines
    with open_regular(path) as file:
        records = [record for line in file if number in line and (record := _record_in(line)) is not None]
    digests = {record.digest for record in records if record.number == mark.number}
    return bool(digests) and mark.digest not in digests
