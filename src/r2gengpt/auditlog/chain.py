"""One line of an audit log: a record that names the hash of the one before. Opens no file.

    HASH PREVIOUS NUMBER <AuditMessage …>…</AuditMessage>

HASH is the SHA-256 of all that follows it and its blank, in UTF-8 and without the line's end. PREVIOUS is the hash
of the record before. The first record has number 1 and names `NOTHING`.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

NOTHING = "0" * 64
"""What the first record of a chain names."""
_LINE = re.compile(rb"([0-9a-f]{64}) (([0-9a-f]{64}) ([0-9]{1,18}) (<AuditMessage.*</AuditMessage>))", re.DOTALL)
_CHANGED = re.compile(rb"[0-9a-f]{64} [^\0]*</AuditMessage>[^\0]*")
"""A line that has a beginning and an end, as no torn one has, and is no record."""
_TORN = re.compile(r"torn lines: (\d+), bytes: (\d+), SHA-256: ([0-9a-f]{64})")


@dataclass(frozen=True)
class ChainRecord:
    """A record: its hash, that of the one before, its number from 1, its message as XML."""

    digest: str
    previous: str
    number: int
    message: str

    @property
    def line(self) -> bytes:
        """As it stands in a file, with the line's end."""
        return f"{self.digest} {self.previous} {self.number} {self.message}\n".encode()


class Edited(ValueError):
    """A line has the beginning and the end of a record, and another form, or another hash than its own text."""


def record_after(previous: str, number: int, message: str) -> ChainRecord:
    """The record that follows the one with this hash and number."""
    rest = f"{previous} {number + 1} {message}"
    return ChainRecord(hashlib.sha256(rest.encode()).hexdigest(), previous, number + 1, message)


def read_record(line: bytes) -> ChainRecord | None:
    """The record of a line without its end; None where the line has not the form of one, as when it is torn.

    Raises:
        Edited: so it is.
    """
    found = _LINE.fullmatch(line)
    if found is None:
        if _CHANGED.fullmatch(line):
            raise Edited
        return None
    digest, rest, previous, number, message = found.groups()
    if hashlib.sha256(rest).hexdigest() != digest.decode():
        raise Edited
    return ChainRecord(digest.decode(), previous.decode(), int(number), message.decode("utf-8", "replace"))


@dataclass(frozen=True)
class TornLines:
    """What a process that was killed, or a full disk, has left of records: lines, bytes, and their hash."""

    lines: int
    size: int
    digest: str

    @property
    def words(self) -> str:
        """As the next record tells of them."""
        return f"torn lines: {self.lines}, bytes: {self.size}, SHA-256: {self.digest}"


def torn_lines(lines: Sequence[bytes]) -> TornLines:
    """The figures of lines without their ends."""
    return TornLines(len(lines), sum(map(len, lines)), hashlib.sha256(b"\n".join(lines)).hexdigest())


def torn_in(words: str) -> TornLines | None:
    """The figures that words tell of."""
    found = _TORN.search(words)
    return None if found is None else TornLines(int(found[1]), int(found[2]), found[3])
