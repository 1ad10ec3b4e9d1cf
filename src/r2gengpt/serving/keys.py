"""A file of API keys with roles: names and hashes, never a key; read again when it changes. Answers no request.

A key is 256 random bits, so its SHA-256 needs neither salt nor stretching: nobody can try so many.
"""

import contextlib
import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from r2gengpt.errors import InputError
from r2gengpt.files import open_regular

log = logging.getLogger("r2gengpt.serving")
READ, REPORT, ADMIN = "read", "report", "admin"
ROLES = (READ, REPORT, ADMIN)
"""read: what is there; report: ask for drafts; admin: both, and the operator's routes."""
PREFIX = "r2g_"
MOST_BYTES, MOST_KEYS = 2**20, 1000
SETTLED = 2.0
"""Seconds after a change within which a further one may leave no trace in the file's times: it is read anew then."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MEMBERS = {"name", "roles", "sha256", "created"}


@dataclass(frozen=True)
class KeyEntry:
    """One key: whose it is, what it may do, its SHA-256 in hexadecimal, and the day it was made ("" where unknown)."""

    name: str
    roles: tuple[str, ...]
    sha256: str
    created: str = ""


def digest_of(key: str) -> str:
    """What a file has of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def check_name(name: str) -> None:
    """Refuse a name that could not stand in a file or a log.

    Raises:
        InputError: so it is.
    """
    if not _NAME.fullmatch(name):
        raise InputError("must be 1 to 64 letters, digits, `.`, `_`, `@`, `-`", field="name", value=repr(name[:80]))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a member stands twice")
    return found


def _entry(at: int, value: Any) -> KeyEntry:
    """One entry; errors name its place, never its values, as somebody may have put a key there."""
    where = f"key {at + 1}"
    if not isinstance(value, dict) or not _MEMBERS - {"created"} <= value.keys() <= _MEMBERS:
        raise ValueError(f"{where}: must have name, roles and sha256, and may have created")
    name, roles, sha256, created = value["name"], value["roles"], value["sha256"], value.get("created", "")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{where}: its name must be 1 to 64 letters, digits, . _ @ -")
    if not isinstance(roles, list) or not roles or not all(role in ROLES for role in roles):
        raise ValueError(f"{where}: roles must be a list of {', '.join(ROLES)}")
    if not isinstance(sha256, str) or not _DIGEST.fullmatch(sha256):
        raise ValueError(f"{where}: sha256 must be 64 hexadecimal digits in lower case")
    if not isinstance(created, str) or len(created) > 32 or not created.isprintable():
        raise ValueError(f"{where}: created must be a date")
    return KeyEntry(name, tuple(roles), sha256, created)


def parse_keys(data: bytes) -> tuple[KeyEntry, ...]:
    """The keys of a file's bytes.

    Raises:
        ValueError: one line why they are none; it holds nothing of the file.
    """
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON (line {error.lineno})") from None
    except UnicodeDecodeError:
        raise ValueError("is no UTF-8") from None
    except RecursionError:
        raise ValueError("is no list of keys") from None
    if not isinstance(found, dict) or found.keys() != {"keys"} or not isinstance(found["keys"], list):
        raise ValueError('must be {"keys": [...]}')
    if len(found["keys"]) > MOST_KEYS:
        raise ValueError(f"has {len(found['keys'])} keys: at most {MOST_KEYS}")
    entries = tuple(_entry(at, value) for at, value in enumerate(found["keys"]))
    for what in ("name", "sha256"):
        if len({getattr(one, what) for one in entries}) < len(entries):
            raise ValueError(f"two keys have one {what}")
    return entries


def written_keys(entries: Sequence[KeyEntry]) -> bytes:
    """A file's bytes, one line a key."""
    rows = [
        json.dumps({"name": one.name, "roles": list(one.roles), "sha256": one.sha256, "created": one.created})
        for one in entries
    ]
    return f'{{"keys": [\n{("," + chr(10)).join(rows)}\n]}}\n'.encode()


def read_key_file(path: Path) -> tuple[KeyEntry, ...]:
    """The keys of a file.

    Raises:
        InputError: it cannot be read, everybody may write it, or it is no such file.
    """
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IWOTH:
                raise ValueError("everybody may write it: chmod o-w")
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"has more than {MOST_BYTES} bytes")
        return parse_keys(data)
    except OSError as error:
        raise InputError(error.strerror or "cannot be read", field="api_keys", value=path) from None
    except ValueError as error:
        raise InputError(str(error), field="api_keys", value=path) from None


def changes_of(before: Sequence[KeyEntry], after: Sequence[KeyEntry]) -> str:
    """Which keys differ, by their names, in one line.

    >>> old = KeyEntry("a", ("read",), "0" * 64)
    >>> changes_of([old], [KeyEntry("a", ("admin",), "0" * 64), KeyEntry("b", ("read",), "1" * 64)])
    'keys added: b; removed: none; changed: a (admin)'
    """
    old, new = {one.name: one for one in before}, {one.name: one for one in after}
    changed = [f"{name} ({', '.join(new[name].roles)})" for name in new if name in old and new[name] != old[name]]
    added, removed = ([name for name in these if name not in those] for these, those in ((new, old), (old, new)))
    lists = {"added": added, "removed": removed, "changed": changed}
    return "keys " + "; ".join(f"{what}: {', '.join(names) or 'none'}" for what, names in lists.items())


class KeyFile:
    """The keys of a file, which is looked at before each request and read again when it has changed.

    A file that cannot be read leaves the keys as they were, and one line of the log says so.

    Attributes:
        on_change: gets the names of keys that are new, gone, or have other roles.

    Raises:
        InputError: it cannot be read at the start, or holds no key then.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self.path, self.now = path, now
        self.on_change: Callable[[str], None] = lambda words: None
        self._seen = self._signature()
        self._entries = read_key_file(path)
        self._read_at, self._fault = now(), ""
        if not self._entries:
            raise InputError("holds no key", field="api_keys", value=path)

    @property
    def entries(self) -> tuple[KeyEntry, ...]:
        """The keys that count now."""
        self._refresh()
        return self._entries

    def find(self, key: str) -> KeyEntry | None:
        """The entry of a key; all are compared, in a time that does not tell how much of it is right."""
        digest, found = digest_of(key), None
        for one in self.entries:
            if hmac.compare_digest(digest, one.sha256):
                found = one
        return found

    def _signature(self) -> tuple[int, int, int, int]:
        """What each change of the file or of its mode changes; a mode changes no `st_mtime`."""
        try:
            found = self.path.stat()
        except OSError:
            return (0, 0, 0, 0)
        return (found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns)

    def _refresh(self) -> None:
        signature = self._signature()
        is_settled = self._read_at - signature[3] / 1e9 > SETTLED
        if signature == self._seen and is_settled:
            return
        self._read_at = self.now()
        try:
            entries, fault = read_key_file(self.path), ""
        except InputError as error:
            entries, fault = self._entries, str(error)
        if fault and (fault, signature) != (self._fault, self._seen):
            log.error("%s: the %d keys that were read before still count", fault, len(entries))
        elif entries != self._entries:
            log.info("api_keys: read again, %d keys", len(entries))
            self.on_change(changes_of(self._entries, entries))
        self._seen, self._entries, self._fault = signature, entries, fault


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[None]:
    """One process at a time changes files of a directory by this."""
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InputError(error.strerror or "cannot be opened", field="api_keys", value=directory) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(path: Path, data: bytes) -> None:
    """Write a whole file in the place of one, with its owner and mode; a new one is its owner's alone."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if path.exists():
                there = path.stat()
                os.fchmod(file.fileno(), stat.S_IMODE(there.st_mode))
                with contextlib.suppress(PermissionError):  # only root gives files away
                    os.fchown(file.fileno(), there.st_uid, there.st_gid)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def add_key(path: Path, name: str, roles: Sequence[str]) -> str:
    """Draw a key, put its hash into the file, which may be new, and give the key: it is nowhere else.

    Raises:
        InputError: the name is taken or no name, or the file cannot be read.
        OSError: it cannot be written.
    """
    check_name(name)
    path = path.resolve()
    with _held(path.parent):
        entries = read_key_file(path) if path.exists() else ()
        if name in [one.name for one in entries]:
            raise InputError("has a key in this file already", field="name", value=name)
        if len(entries) >= MOST_KEYS:
            raise InputError(f"has {len(entries)} keys: no room for more", field="api_keys", value=path)
        key = PREFIX + secrets.token_urlsafe(32)
        today = datetime.now(UTC).date().isoformat()
        _replace(path, written_keys([*entries, KeyEntry(name, tuple(dict.fromkeys(roles)), digest_of(key), today)]))
    return key


def remove_key(path: Path, name: str) -> None:
    """Take a key out of the file.

    Raises:
        InputError: there is none of this name, or the file cannot be read.
        OSError: it cannot be written.
    """
    path = path.resolve()
    with _held(path.parent):
        entries = read_key_file(path)
        kept = [one for one in entries if one.name != name]
        if len(kept) == len(entries):
            raise InputError("has no key in this file", field="name", value=name)
        _replace(path, written_keys(kept))
