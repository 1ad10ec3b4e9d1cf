"""Directories and files that only their owner reads, whatever was there before and whatever the umask."""

import errno
import fcntl
import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from r2gengpt.errors import InputError
from r2gengpt.files import sync

DIRECTORY, FILE = 0o700, 0o600
PARTIAL = ".part"
"""What ends the names of files that are being written."""
OWN = re.compile("[0-9a-f]{32}[-.]")
"""How the names of our films and reports begin: with a hash. Files of others are left as they are."""
BASES = {"spool": "ledger.sqlite", "claims": "claims.sqlite"}
"""Setting → the data base of its directory, which no other setting can have: each would remove the other's files."""


def make_directory(path: Path) -> None:
    """Make a directory with those above it that are missing, or close one that is there to others.

    Raises:
        InputError: it is a directory that users share, like /tmp.
        OSError: it cannot be made, or belongs to somebody else.
    """
    if not path.exists() and path != path.parent:
        make_missing(path)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if path.stat().st_mode & stat.S_ISVTX:
        raise InputError(f"{path}: is shared by users (its sticky bit is set): name a directory in it")
    path.chmod(DIRECTORY)


def make_missing(path: Path) -> None:
    """A directory that is not there, and those above it; each is closed to others."""
    if not path.parent.exists():
        make_missing(path.parent)
    path.mkdir(mode=DIRECTORY, exist_ok=True)
    path.chmod(DIRECTORY)  # the umask may have taken from it


def open_new(path: Path) -> BinaryIO:
    """A file to write, empty; not through a link that stands in its place."""
    return os.fdopen(_open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb")


def touch(path: Path) -> None:
    """A file that is there, with what it holds."""
    os.close(_open(path, os.O_RDWR | os.O_CREAT))


def _open(path: Path, flags: int) -> int:
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, FILE)
    os.fchmod(handle, FILE)
    return handle


def write_whole(path: Path, data: bytes) -> None:
    """A whole file, on the disk when this returns; nothing where it raises OSError."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        with open_new(partial) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync(path.parent)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def own(directory: Path, field: str) -> Iterator[BinaryIO]:
    """A directory, made where it is missing, and its lock; the lock is given back where what follows fails.

    Args:
        directory: where a setting's files are kept.
        field: the setting.

    Raises:
        InputError: it cannot be made or written, another process or setting has it, or its data base is damaged.
    """
    try:
        for other, base in BASES.items():
            if other != field and (directory / base).exists():
                raise InputError(f"{directory}: is used as `{other}`: name another directory")
        make_directory(directory)
        owner = lock(directory)
        try:
            yield owner
        except BaseException:  # whatever it was, it is raised again
            owner.close()
            raise
    except InputError as error:
        raise InputError(f"`{field}` {error}") from None
    except (OSError, sqlite3.Error) as error:
        raise InputError(f"{getattr(error, 'strerror', None) or error}", field=field, value=directory) from None


def lock(directory: Path) -> BinaryIO:
    """A directory's lock, which is given back when the file is closed or the process ends.

    Raises:
        InputError: another process has it.
    """
    owner = open_new(directory / "lock")
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner.close()
        raise InputError(f"{directory}: another process uses it") from None
    return owner


def own_files(place: Path, ending: str = "") -> list[Path]:
    """The files of a directory that have names of ours which end so; no links, pipes or directories."""
    return sorted(one for one in _regular(place) if OWN.match(one.name) and one.name.endswith(ending))


def _regular(place: Path) -> Iterator[Path]:
    with os.scandir(place) as found:
        for one in found:
            if one.is_file(follow_symlinks=False):
                yield Path(one.path)


def close_files(place: Path, beginnings: tuple[str, ...] = ("",)) -> None:
    """Close the files of a directory whose names begin so to others."""
    for path in _regular(place):
        if path.name.startswith(beginnings) and path.stat().st_mode & 0o777 != FILE:
            path.chmod(FILE)
