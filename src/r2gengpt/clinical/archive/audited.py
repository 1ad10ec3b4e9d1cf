"""What `listen` and `dicomweb` record of films that come, reports that go, and callers that are refused.

Nothing is used or sent that is not recorded. A transfer is recorded before it begins and when it has ended; where the
second record cannot be written, the report goes out again later, as the same object.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from r2gengpt.auditlog.attempts import Attempts
from r2gengpt.auditlog.codes import NODE_AUTHENTICATION, own_code
from r2gengpt.auditlog.events import (
    NOBODY,
    Subjects,
    accessed,
    alert,
    exported,
    queried,
    subjects_of,
    subjects_of_study,
    transferred,
)
from r2gengpt.auditlog.log import AuditFault, AuditLog
from r2gengpt.auditlog.message import MINOR, SERIOUS, SUCCESS, ActiveParticipant, AuditMessage
from r2gengpt.clinical.archive.loop import Document, NotNow, Refused, Send, Write
from r2gengpt.clinical.archive.spool import KeptFilm
from r2gengpt.errors import RunError, place_of
from r2gengpt.films.dicom.header import DicomHeader, read_header
from r2gengpt.settings import ListenConfig

log = logging.getLogger("r2gengpt.clinical.archive")
Film = tuple[bytes, DicomHeader]
REPORT = own_code("report", "Draft of a report")
RESULT = own_code("result", "Draft of a report as an HL7 message")
STORED = 0x0000


def report_peer(settings: ListenConfig) -> ActiveParticipant:
    """Who gets the reports."""
    if settings.stow is not None:
        return ActiveParticipant(settings.stow, address=settings.stow)
    title = str(settings.to_ae)
    return ActiveParticipant(title, address=str(settings.to_host), alternative=f"AETITLES={title}")


class ArchiveAudit:
    """Records of one program that films come to and reports go out of.

    Args:
        log: where.
    """

    def __init__(self, log: AuditLog) -> None:
        self.log = log
        self._attempts = Attempts()

    def received(self, sender: ActiveParticipant, kept: KeptFilm | None, status: int) -> None:
        """A film came by C-STORE: it is kept, or refused with a status.

        Raises:
            AuditFault: it cannot be recorded.
        """
        subjects = NOBODY if kept is None else subjects_of([kept.header])
        outcome, words = (SUCCESS, "") if status == STORED else (MINOR, f"status 0x{status:04X}")
        is_new = kept is not None and kept.is_new
        self._append(transferred(sender, self.log.process, subjects, is_new=is_new, outcome=outcome, words=words))

    def refused(self, caller: ActiveParticipant, words: str) -> None:
        """A caller was not let in. That this cannot be recorded keeps nobody out who was let in."""
        if self._attempts.is_recorded(caller.address):
            with suppress(AuditFault):
                self._append(alert(self.log.process, NODE_AUTHENTICATION, MINOR, words, caller))

    def unsafe(self, address: str, words: str) -> None:
        """A handshake of TLS failed."""
        self.refused(ActiveParticipant(address, is_requestor=True, address=address), f"TLS: {words}")

    def writing(self, write: Write) -> Write:
        """What writes reports of films whose use is recorded before."""

        def recorded_write(paths: Sequence[Path], headers: Sequence[DicomHeader]) -> Document:
            self._append(accessed(self.log.process, None, subjects_of(headers), REPORT))  # or AuditFault
            return write(paths, headers)

        return recorded_write

    def sending(self, send: Send, peer: ActiveParticipant) -> Send:
        """What sends reports whose way is recorded."""
        ours = self.log.process

        def begin(report: bytes) -> AuditMessage:
            return transferred(ours, peer, subjects_of_report(report), is_begin=True)

        def end(report: bytes, outcome: str, words: str) -> AuditMessage:
            return transferred(ours, peer, subjects_of_report(report), outcome=outcome, words=words)

        return self._recorded(send, begin, end)

    def exporting(self, send: Send, address: tuple[str, int], subjects: Callable[[bytes], Subjects]) -> Send:
        """What sends messages of reports, each of which is recorded as an export; `subjects` reads a message."""
        peer = ActiveParticipant(f"{address[0]}:{address[1]}", address=address[0])

        def end(message: bytes, outcome: str, words: str) -> AuditMessage:
            return exported(self.log.process, peer, subjects(message), RESULT, outcome, words)

        return self._recorded(send, None, end)

    def pulling(self, films: Callable[[], list[Film]], url: str, study: str) -> list[Film]:
        """The films of a study from a DICOMweb server, asked for and recorded; as `films` gives them.

        Raises:
            RunError: it cannot be recorded.
        """
        ours, server = self.log.process, ActiveParticipant(url, address=url)
        try:
            self._append(queried(ours, server, study))
            found, subjects, words = list[Film](), subjects_of_study(study), "no film came that can be used"
            try:
                found = films()
                subjects, words = subjects_of([header for _, header in found]) if found else subjects, ""
            finally:
                outcome = SERIOUS if words else SUCCESS
                self._append(transferred(server, ours, subjects, is_new=True, outcome=outcome, words=words))
        except AuditFault as error:
            raise RunError(str(error)) from None
        return found

    def close(self) -> None:
        """Record how many attempts had no record of their own."""
        with suppress(AuditFault):
            self._tell(at_once=True)

    def _recorded(
        self, send: Send, begin: Callable[[bytes], AuditMessage] | None, end: Callable[[bytes, str, str], AuditMessage]
    ) -> Send:
        def recorded_send(data: bytes) -> None:
            try:
                self.log.check()
                if begin is not None:
                    self._append(begin(data))
            except AuditFault as error:
                raise NotNow(str(error)) from None
            outcome, words = SERIOUS, ""
            try:
                send(data)
                outcome = SUCCESS
            except (Refused, NotNow) as error:
                outcome, words = (MINOR if isinstance(error, NotNow) else SERIOUS), str(error)
                raise
            except Exception as error:
                words = place_of(error)
                raise
            finally:
                self._end(end(data, outcome, words))

        return recorded_send

    def _end(self, message: AuditMessage) -> None:
        try:
            self._append(message)
        except AuditFault as error:
            raise NotNow(f"{error}: it goes out again") from None

    def _append(self, *messages: AuditMessage) -> None:
        self._tell()
        self.log.append(*messages)

    def _tell(self, *, at_once: bool = False) -> None:
        if words := self._attempts.left_out(at_once=at_once):
            self.log.append(alert(self.log.process, NODE_AUTHENTICATION, MINOR, words))


def subjects_of_report(report: bytes) -> Subjects:
    """Study and patient of a report as a DICOM file; nobody where it cannot be read, which whoever sends it notices."""
    try:
        return subjects_of([read_header(report, "report")])
    except Exception as error:  # a parser over bytes
        log.error("a report cannot be read for the audit log (%s)", place_of(error))
        return NOBODY


@contextmanager
def recording(log: AuditLog | None) -> Iterator[ArchiveAudit | None]:
    """Records of a program that runs within the block, its start and its stop; None where there is no log.

    Raises:
        InputError: the start cannot be recorded.
    """
    if log is None:
        yield None
        return
    with log.running(), closing(ArchiveAudit(log)) as made:
        yield made
