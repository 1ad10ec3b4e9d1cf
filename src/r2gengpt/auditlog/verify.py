"""Whether the chain of an audit log holds, and which record breaks it first. Writes nothing."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from r2gengpt.auditlog.chain import NOTHING, Edited, TornLines, read_record, torn_in, torn_lines
from r2gengpt.auditlog.codes import RECORDING_STARTED
from r2gengpt.auditlog.events import ALERT
from r2gengpt.auditlog.files import held, log_files
from r2gengpt.errors import InputError, RunError
from r2gengpt.files import open_regular


@dataclass(frozen=True)
class ChainSummary:
    """A chain that holds.

    Attributes:
        records: how many.
        files: their names.
        digest: the last record's hash.
        torn: places where lines were torn, and the next record tells of it.
        open_end: lines after the last record that no record tells of yet.
        known_at: number of the record with the hash that was known; None where none was asked for.
    """

    records: int
    files: tuple[str, ...]
    digest: str
    torn: int
    open_end: int
    known_at: int | None


@dataclass(frozen=True)
class _Line:
    text: bytes
    file: str
    number: int

    @property
    def place(self) -> str:
        return f"{self.file}, line {self.number}"


def verify(directory: Path, after: str = NOTHING, known: str | None = None) -> ChainSummary:
    """Follow a chain from its first record to its last.

    Args:
        directory: of the log.
        after: hash of the record before the first one here, where older files were put away.
        known: hash that a record must have: without it nobody sees that the end was cut off.

    Raises:
        InputError: there is no such directory, no file of a log in it, or one that cannot be read.
        RunError: the chain does not hold, and the first record that breaks it is named; or no record is left.
    """
    try:
        with held(directory, shared=True):  # only while sizes are looked at: nobody waits for us
            files = [(path, path.stat().st_size) for path in log_files(directory)]
        if not files:
            raise InputError(f"{directory}: holds no audit log: its files are named audit-YYYY-MM-DD.log")
        walk = _Walk(after, known)
        for path, size in files:
            for line in _lines(path, size):
                walk.take(line)
    except OSError as error:
        raise InputError(f"{error.filename or directory}: {error.strerror or 'cannot be read'}") from None
    if known is not None and walk.known_at is None:
        raise RunError(
            f"no record has the hash {known}: the end was cut off, or the chain was made anew from a record on"
        )
    names = tuple(path.name for path, _ in files)
    if not walk.records:
        raise RunError(f"{', '.join(names)}: no record is left, and {len(walk.left)} lines that are none")
    return ChainSummary(walk.records, names, walk.digest, walk.torn, len(walk.left), walk.known_at)


def _lines(path: Path, size: int) -> Iterator[_Line]:
    with open_regular(path) as file:
        number = 0
        while size > 0 and (text := file.readline(size)):
            number, size = number + 1, size - len(text)
            if text := text.rstrip(b"\n"):
                yield _Line(text, path.name, number)


class _Walk:
    """A way along a chain, a line at a time."""

    def __init__(self, after: str, known: str | None) -> None:
        self.digest, self.known = after, known
        self.known_at: int | None = 0 if known == after else None
        self.number: int | None = 0 if after == NOTHING else None
        self.records = self.torn = 0
        self.left: list[_Line] = []

    def take(self, line: _Line) -> None:
        """The next line.

        Raises:
            RunError: it breaks the chain.
        """
        try:
            record = read_record(line.text)
        except Edited:
            name = "the first record" if self.number is None else f"record {self.number + 1}"
            raise RunError(f"{name} ({line.place}): its text or its hash was changed") from None
        if record is None:
            self.left.append(line)
            return
        where = f"record {record.number} ({line.place})"
        noted = _torn_lines_noted(record.message)
        if self.left and noted != torn_lines([one.text for one in self.left]):
            raise RunError(f"{self.left[0].place}: is no record, and {where} does not tell of it")
        if noted is not None and not self.left and self.number is not None:
            raise RunError(f"{where}: tells of torn lines that are not there any more")
        self.left, self.torn = [], self.torn + bool(self.left)
        follows = record.previous == self.digest and (self.number is None or record.number == self.number + 1)
        if not follows:
            raise RunError(f"{where}: does not follow {self._last()}: a record was removed, added, changed or moved")
        self.digest, self.number, self.records = record.digest, record.number, self.records + 1
        if record.digest == self.known:
            self.known_at = record.number

    def _last(self) -> str:
        if self.records:
            return f"record {self.number}"
        return "the beginning of a chain" if self.digest == NOTHING else f"a record with the hash {self.digest}"


def _torn_lines_noted(message: str) -> TornLines | None:
    """The torn lines that a message tells of."""
    if RECORDING_STARTED.value not in message:
        return None
    try:
        for detail in ElementTree.fromstring(message).iter("ParticipantObjectDetail"):
            if detail.get("type") == ALERT:
                return torn_in(base64.b64decode(detail.get("value", "")).decode("utf-8", "replace"))
    except (ElementTree.ParseError, ValueError):  # no program of ours has written it
        return None
    return None
