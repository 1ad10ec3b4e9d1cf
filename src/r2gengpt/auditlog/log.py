"""An audit log that is added to: a record is on the disk, and follows the last one, when its call returns. No events.

Processes share a log: each record is added under the lock of its directory, after a look at how the log ends. So there
is one chain, whoever writes. What a kill or a full disk left of a record stays, and the next record tells of it.
"""

import contextlib
import logging
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from r2gengpt.auditlog.chain import ChainRecord, record_after, torn_lines
from r2gengpt.auditlog.codes import RECORDING_STARTED
from r2gengpt.auditlog.events import activity, alert, this_process
from r2gengpt.auditlog.files import LogEnd, add, find_end, held, log_files, make_directory
from r2gengpt.auditlog.message import MINOR, AuditMessage, xml_of
from r2gengpt.auditlog.syslog import Connect, SyslogSender
from r2gengpt.errors import InputError, one_line
from r2gengpt.settings import AuditLogConfig

log = logging.getLogger("r2gengpt.auditlog")


class AuditFault(OSError):
    """A record cannot be written: one line why. What was to be recorded must not happen."""


class AuditLog:
    """The log of a directory, for one program.

    Args:
        directory: of the files; it is there.
        program: what writes, as `serve`.
        titles: its AE titles.
        clock: says which day's file it is.

    Attributes:
        process: the program as a participant.
        fault: why the last record was not written; "" where it was.
        forward: sends the records on while the program runs; None: they stay here.
    """

    def __init__(
        self,
        directory: Path,
        program: str,
        titles: Sequence[str] = (),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.directory, self.clock = directory, clock
        self.forward: SyslogSender | None = None
        self.process = this_process(program, titles)
        self.source = f"r2gengpt@{socket.gethostname()}"
        self.fault = ""
        self._unwritten = 0
        self._end: LogEnd | None = None
        self._mutex = threading.Lock()

    def append(self, *messages: AuditMessage) -> None:
        """Add records, all or none of them being acknowledged.

        Raises:
            AuditFault: they are not all on the disk.
        """
        with self._mutex:
            try:
                with held(self.directory):
                    self._append(messages)
            except OSError as error:
                self._end, self._unwritten = None, self._unwritten + len(messages)
                words = one_line(error.strerror or str(error))
                if words != self.fault:
                    log.error("audit_log %s: cannot be written: %s", self.directory, words)
                self.fault = words
                raise AuditFault(f"the audit log cannot be written ({words})") from None

    def check(self) -> None:
        """After a fault, try whether the log can be written again.

        Raises:
            AuditFault: it cannot.
        """
        if self.fault:
            self.append()

    @contextlib.contextmanager
    def running(self) -> Iterator["AuditLog"]:
        """The program runs within the block: its start and its stop are recorded.

        Raises:
            InputError: the start cannot be recorded.
        """
        with self.forward or contextlib.nullcontext():
            try:
                self.append(activity(self.process, is_start=True))
            except AuditFault as error:
                raise InputError(str(error), field="audit_log", value=self.directory) from None
            self._tell()
            try:
                yield self
            finally:
                with contextlib.suppress(AuditFault):  # the log has a line for it
                    self.append(activity(self.process, is_start=False))
                    self._tell()

    def _tell(self) -> None:
        """The last hash in the ordinary log, where whoever changes the files may not reach it."""
        if self._end is not None:
            log.info("audit log: record %d has the hash %s", self._end.number, self._end.digest)

    def _append(self, messages: Sequence[AuditMessage]) -> None:
        end = self._current_end()
        resumed = [self._resumed(end)] if end.torn or self.fault else []
        records: list[ChainRecord] = []
        digest, number = end.digest, end.number
        for message in [*resumed, *messages]:
            records.append(record_after(digest, number, xml_of(message, self.source)))
            digest, number = records[-1].digest, records[-1].number
        path = self._path_after(end)
        goes_on = path == end.path
        data = (b"\n" if goes_on and end.is_open else b"") + b"".join(record.line for record in records)
        add(path, data)
        self._end = LogEnd(path, (end.size if goes_on else 0) + len(data), number, digest)
        if not goes_on and end.path is not None:
            self._tell()
        self.fault, self._unwritten = "", 0

    def _current_end(self) -> LogEnd:
        """How the log ends; the files are read again only where somebody else has added to them."""
        known = self._end
        if known is not None and known.path is not None:
            files = log_files(self.directory)
            if files and files[-1] == known.path and files[-1].stat().st_size == known.size:
                return known
        return find_end(self.directory)

    def _path_after(self, end: LogEnd) -> Path:
        today = self.directory / f"audit-{self.clock().astimezone(UTC).date().isoformat()}.log"
        return today if end.path is None or end.path.name < today.name else end.path

    def _resumed(self, end: LogEnd) -> AuditMessage:
        """What is said first after records that were not written."""
        words = [torn_lines(end.torn).words] if end.torn else []
        if self.fault:
            words.append(f"records that this process could not write: {self._unwritten} ({self.fault})")
        uri = self.directory.absolute().as_uri()
        return alert(self.process, RECORDING_STARTED, MINOR, "; ".join(words), about=uri)


def opened_log(directory: str, program: str, titles: Sequence[str] = ()) -> AuditLog:
    """The log of a directory, which is made where there is none.

    Raises:
        InputError: it cannot be made, read or written, everybody may write it, or its last record was changed.
    """
    if not directory.strip():
        raise InputError("`audit_log` is empty: must name a directory")
    path = Path(directory)
    try:
        make_directory(path)
        if not path.is_dir():
            raise InputError("is no directory", field="audit_log", value=directory)
        if path.stat().st_mode & stat.S_IWOTH:
            raise InputError("everybody may write it: chmod o-w", field="audit_log", value=directory)
        if not os.access(path, os.W_OK | os.X_OK):
            raise InputError("may not be written to", field="audit_log", value=directory)
        with held(path):
            find_end(path)
    except OSError as error:
        raise InputError(one_line(error.strerror or str(error)), field="audit_log", value=directory) from None
    return AuditLog(path, program, titles)


def log_of(
    config: AuditLogConfig,
    program: str,
    titles: Sequence[str] = (),
    *,
    connect: Callable[[AuditLogConfig], Connect],
) -> AuditLog | None:
    """The log that settings ask for, sent on by syslog where they say so; None where they name no directory.

    Args:
        config: the settings.
        program: what writes.
        titles: its AE titles.
        connect: makes what opens connections to the syslog server.

    Raises:
        InputError: see `opened_log`; or a file of TLS cannot be used.
    """
    if config.audit_log is None:
        return None
    made = opened_log(config.audit_log, program, titles)
    if config.audit_syslog is not None:
        made.forward = SyslogSender(made.directory, connect(config), config.audit_syslog)
    return made
