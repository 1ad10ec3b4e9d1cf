"""The files of an audit log: which there are, how they end, how bytes are added. Knows no message.

A file a day, in UTC: `audit-2026-01-02.log`. Where the clock goes back, the newest file goes on. Files are only added
to, so a file system that allows nothing else (`chattr +a`) is enough.
"""

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from r2gengpt.auditlog.chain import NOTHING, ChainRecord, Edited, read_record
from r2gengpt.files import open_regular, sync

NAME = re.compile(r"audit-\d{4}-\d{2}-\d{2}\.log")
PATIENCE = 10.0
"""Seconds that the lock of a directory is waited for; who holds it writes a few lines."""
BLOCK = 2**16
"""Bytes that are read first from a file's end."""


@dataclass(frozen=True)
class LogEnd:
    """How a log ends.

    Attributes:
        path: of the newest file; None where there is none.
        size: of it, in bytes.
        number: of the last record; 0 where there is none.
        digest: its hash.
        torn: lines after it that are no records.
        is_open: the newest file ends within a line.
    """

    path: Path | None
    size: int
    number: int
    digest: str
    torn: tuple[bytes, ...] = ()
    is_open: bool = False


def log_files(directory: Path) -> list[Path]:
    """The files of a log, oldest first."""
    with os.scandir(directory) as found:
        return sorted(Path(one.path) for one in found if NAME.fullmatch(one.name))


def find_end(directory: Path) -> LogEnd:
    """How a log ends, from its files.

    Raises:
        OSError: they cannot be read, or the last record was changed.
    """
    files, torn, record = log_files(directory), list[bytes](), None
    size, is_open = 0, False
    for path in reversed(files):
        record, lines, (length, ends_within) = _tail(path)
        if path == files[-1]:
            size, is_open = length, ends_within
        torn = [*lines, *torn]
        if record is not None:
            break
    number, digest = (0, NOTHING) if record is None else (record.number, record.digest)
    return LogEnd(files[-1] if files else None, size, number, digest, tuple(torn), is_open)


def _tail(path: Path) -> tuple[ChainRecord | None, list[bytes], tuple[int, bool]]:
    """A file's last record, the lines after it, and its size with whether it ends within a line."""
    with open_regular(path) as file:
        size, span = os.fstat(file.fileno()).st_size, BLOCK
        while True:
            start = max(0, size - span)
            file.seek(start)
            data = file.read(size - start)
            end = (size, bool(data) and not data.endswith(b"\n"))
            torn: list[bytes] = []
            for line in reversed(data.split(b"\n")[bool(start) :]):  # the first of them may begin before
                try:
                    record = read_record(line)
                except Edited:
                    raise OSError(errno.EBADMSG, f"the last record of {path.name} was changed") from None
                if record is not None:
                    return record, torn[::-1], end
                torn += [line] if line else []
            if not start:
                return None, torn[::-1], end
            span *= 8


@contextlib.contextmanager
def held(directory: Path, *, shared: bool = False) -> Iterator[None]:
    """One process at a time adds to a log, in this block; those that `shared` it only look.

    Raises:
        OSError: the directory cannot be opened, or another process has held it for `PATIENCE` seconds.
    """
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        kind, give_up = fcntl.LOCK_SH if shared else fcntl.LOCK_EX, time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(handle, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise OSError(errno.ETIMEDOUT, "another process holds its lock") from None
                time.sleep(0.002)
        yield
    finally:
        os.close(handle)


def make_directory(directory: Path) -> None:
    """Make a log's directory, which is its owner's alone, where there is none.

    Raises:
        OSError: it cannot be made.
    """
    if directory.exists():
        return
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    sync(directory.absolute().parent)


def add(path: Path, data: bytes) -> None:
    """Add bytes to a file, which may be new; they are on the disk when this returns.

    Raises:
        OSError: they are not, or not all of them.
    """
    is_new = not path.exists()
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(path, flags, 0o600)
    try:
        left = data
        while left:
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    if is_new:
        sync(path.parent)
