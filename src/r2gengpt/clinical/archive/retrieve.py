"""Studies of an archive by C-FIND, their films and reports by C-GET or C-MOVE. Judges neither. Needs pynetdicom.

C-GET brings them over the same association. C-MOVE sends them to a title and a port of ours, which are open while one
study is fetched, and take objects of that study alone.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from r2gengpt.clinical.archive.bounded import bound_answers
from r2gengpt.clinical.archive.earlier import Candidate, StudyObjects
from r2gengpt.clinical.archive.earlier_report import CLASSES as REPORTS
from r2gengpt.clinical.archive.receive import CLASSES, NO_ROOM, NOT_UNDERSTOOD, OK, file_parts, silence_pynetdicom
from r2gengpt.clinical.archive.send import SECONDS, SYNTAXES
from r2gengpt.clinical.archive.tls import PeerTls
from r2gengpt.errors import InputError, RunError
from r2gengpt.films.dicom.header import DicomHeader, read_header
from r2gengpt.films.dicom.picture import READ

FIND, GET, MOVE = (
    str(one)
    for one in (
        StudyRootQueryRetrieveInformationModelFind,
        StudyRootQueryRetrieveInformationModelGet,
        StudyRootQueryRetrieveInformationModelMove,
    )
)
"""The models that are asked for. Source: PS3.4, C.6."""
NOT_OF_IT = 0xA900
"""Of a film of another study than was asked for. Source: PS3.4, table B.2-1."""
MOST_ANSWER = 2**22
"""Bytes of the answers to C-FIND: thousands of studies, of which the newest may come last."""
TAKEN: dict[str, list[str]] = {one: sorted(READ) for one in CLASSES} | {one: list(SYNTAXES) for one in REPORTS}
"""SOP classes of what is taken, films and reports, each with its transfer syntaxes."""


@dataclass(frozen=True)
class MoveTo:
    """Where C-MOVE sends films: our title there, and the address that it stands for at the archive."""

    title: str
    bind: str
    port: int


@dataclass(frozen=True)
class DimseArchive:
    """An archive of DIMSE.

    Attributes:
        host: its host.
        port: its port.
        called: its AE title.
        calling: ours.
        most_bytes: of the films and reports of one study.
        tls: how it is spoken to; None: in plain text.
        move: where C-MOVE sends films; None: C-GET brings them.
    """

    host: str
    port: int
    called: str
    calling: str
    most_bytes: int
    tls: PeerTls | None = None
    move: MoveTo | None = None

    @property
    def name(self) -> str:
        """Its AE title and its address."""
        return f"{self.called} {self.host}:{self.port}"

    def studies(self, header: DicomHeader) -> list[Candidate]:
        """See `Archive.studies`."""
        query = query_of(header)
        found: list[Candidate] = []
        with self._association([FIND], MOST_ANSWER) as assoc:
            for status, answer in assoc.send_c_find(query, FIND):
                if answer is not None and status.get("Status") in (0xFF00, 0xFF01):
                    found.append(Candidate.of(answer))
                elif status.get("Status") != OK:
                    raise RunError(f"{self.name}: C-FIND: {_words(status)}")
        return found

    def objects(self, study: str) -> StudyObjects:
        """See `Archive.objects`."""
        query = Dataset()
        query.QueryRetrieveLevel = "STUDY"
        query.StudyInstanceUID = study
        taken = Taken(study, self.most_bytes)
        if self.move is None:
            with self._association([GET], self.most_bytes, taken) as assoc:
                _check(self.name, "C-GET", assoc.send_c_get(query, GET))
        else:
            with taken.received(self.move), self._association([MOVE], MOST_ANSWER) as assoc:
                _check(self.name, "C-MOVE", assoc.send_c_move(query, self.move.title, MOVE))
        return StudyObjects(taken.films, taken.reports)

    @contextmanager
    def _association(self, models: list[str], most: int, taken: "Taken | None" = None) -> Iterator[Any]:
        """An association for these models, and for films where they come back over it.

        Raises:
            RunError: there is none.
        """
        silence_pynetdicom()
        ae = AE(ae_title=self.calling)
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = SECONDS
        for model in models:
            ae.add_requested_context(model, SYNTAXES)
        roles = [build_role(one, scp_role=True) for one in TAKEN] if taken else []
        for one, syntaxes in TAKEN.items() if taken else ():
            ae.add_requested_context(one, syntaxes)
        handlers: list[Any] = [(evt.EVT_CONN_OPEN, lambda event: bound_answers(event.assoc, SECONDS, most=most))]
        if taken:
            handlers.append((evt.EVT_C_STORE, taken.store))
        tls = None if self.tls is None else (self.tls.context, self.tls.name)
        assoc = ae.associate(
            self.host, self.port, ae_title=self.called, ext_neg=roles, evt_handlers=handlers, tls_args=tls
        )
        if not assoc.is_established:
            raise RunError(f"{self.name}: no association")
        try:
            yield assoc
        except BaseException:  # whatever it was, it is raised again
            assoc.abort()
            raise
        if assoc.is_established:
            assoc.release()


def query_of(header: DicomHeader) -> Dataset:
    """What is asked of an archive: the studies of a film's patient up to its date."""
    query = Dataset()
    query.SpecificCharacterSet = "ISO_IR 192"
    query.QueryRetrieveLevel = "STUDY"
    query.PatientID = header.patient_id.strip()
    query.StudyDate = f"-{header.study_date}"
    for name in ("StudyTime", "StudyInstanceUID", "IssuerOfPatientID", "ModalitiesInStudy"):
        setattr(query, name, "")
    return query


class Taken:
    """The films and reports of one study as they come, up to a number of bytes.

    Args:
        study: its UID; objects of another one are refused.
        most_bytes: of all.
    """

    def __init__(self, study: str, most_bytes: int) -> None:
        self.study, self.left = study, most_bytes
        self.films: list[bytes] = []
        self.reports: list[bytes] = []
        self._lock = threading.Lock()

    def store(self, event: Any) -> int:
        """A film or a report; the answer's status."""
        data = b"".join(file_parts(event))
        try:
            header = read_header(data, "film")
        except InputError:
            return NOT_UNDERSTOOD
        with self._lock:
            if header.study_uid != self.study:
                return NOT_OF_IT
            if len(data) > self.left:
                return NO_ROOM
            self.left -= len(data)
            (self.reports if header.class_uid in REPORTS else self.films).append(data)
        return OK

    @contextmanager
    def received(self, move: MoveTo) -> Iterator[None]:
        """Take films at a port while the block runs.

        Raises:
            RunError: the port cannot be had.
        """
        ae = AE(ae_title=move.title)
        ae.require_called_aet = True
        for one, syntaxes in TAKEN.items():
            ae.add_supported_context(one, syntaxes)
        most = self.left
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self.store),
            (evt.EVT_CONN_OPEN, lambda event: bound_answers(event.assoc, SECONDS, most=most)),
        ]
        try:
            server = ae.start_server((move.bind, move.port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise RunError(f"`prior_move_port` {move.port}: {error.strerror or error}") from None
        try:
            yield
        finally:
            server.shutdown()


def _check(name: str, what: str, answers: Any) -> None:
    """Wait for the last answer.

    Raises:
        RunError: a failure; a warning means that some objects did not come, which may be no films.
    """
    last = None
    for status, _ in answers:
        last = status
    code = None if last is None else last.get("Status")
    if code != OK and (code is None or code & 0xF000 != 0xB000):
        raise RunError(f"{name}: {what}: {_words(last)}")


def _words(status: Any) -> str:
    code = None if status is None else status.get("Status")
    return "no answer" if code is None else f"status 0x{code:04X}"
