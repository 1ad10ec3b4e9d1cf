"""A DICOM Storage SCP: films of the chest into a spool, and an answer to C-ECHO. Looks at no pixel.

Who connects is held by the `door` until it has asked for an association; what an association reads is bounded below
pynetdicom. Needs pynetdicom (extra `pacs`).
"""

import logging
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom.dsutils import encode_file_meta
from pynetdicom.sop_class import Verification
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from r2gengpt.auditlog.log import AuditFault
from r2gengpt.auditlog.message import ActiveParticipant
from r2gengpt.clinical.archive.audited import ArchiveAudit
from r2gengpt.clinical.archive.bounded import MAX_PDU as MAX_PDU
from r2gengpt.clinical.archive.bounded import SECONDS, BoundedSocket, Seldom
from r2gengpt.clinical.archive.door import Address, Door
from r2gengpt.clinical.archive.spool import KeptFilm, NoSpace, Spool, Unreadable
from r2gengpt.clinical.archive.tls import server_context
from r2gengpt.errors import InputError, place_of
from r2gengpt.films.dicom.picture import READ
from r2gengpt.settings import ListenConfig

CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1": "Computed Radiography Image Storage",
    "1.2.840.10008.5.1.4.1.1.1.1": "Digital X-Ray Image Storage - For Presentation",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "Digital X-Ray Image Storage - For Processing",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image Storage",
}
"""SOP classes that are taken."""
CLOSE_SECONDS = 10.0
"""For associations to end when we do."""
OK, NO_ROOM, NOT_UNDERSTOOD, FAULT = 0x0000, 0xA700, 0xC000, 0xC001


class _Server(ThreadedAssociationServer):  # type: ignore[misc]  # pynetdicom's types are not followed
    """Listens for the door, which accepts in its place."""

    request_queue_size = 512


class _Handler(RequestHandler):  # type: ignore[misc]  # as above
    """Starts an association of a connection whose request was read."""

    def __init__(self, connection: socket.socket, address: Address, server: _Server, head: bytes) -> None:
        self.head = head
        super().__init__(connection, address, server)

    def _create_association(self) -> Any:
        self.assoc = super()._create_association()
        self.assoc.dul.socket = BoundedSocket(self.assoc.dul.socket, self.head, self.server.most_bytes)
        return self.assoc


@dataclass(frozen=True)
class _Guest:
    """An association that was let in."""

    assoc: Any
    socket: BoundedSocket

    def is_there(self) -> bool:
        """Whether its thread runs."""
        return bool(self.assoc.is_alive())

    def idle_seconds(self) -> float:
        """For how long its peer has got no further."""
        return self.socket.idle_seconds()

    def drop(self) -> None:
        """End it."""
        self.socket.drop()


def _begin(event: Any) -> None:
    event.assoc.dul.socket.begin()


def _end(event: Any) -> None:
    if event.assoc.dul.socket is not None:
        event.assoc.dul.socket.end()


def silence_pynetdicom() -> None:
    """Keep pynetdicom's own lines off stderr: they hold UIDs and what peers sent."""
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    _config.LOG_HANDLER_LEVEL = "none"


class Receiver:
    """The SCP, which listens from the start, in threads of its own.

    Args:
        spool: gets the films.
        settings: who may send what.
        audit: records what came, and who was refused; None where nothing is recorded.

    Raises:
        InputError: the address is not this machine's, the port is taken, or a file of TLS cannot be used.
    """

    def __init__(self, spool: Spool, settings: ListenConfig, audit: ArchiveAudit | None = None) -> None:
        tls = server_context(settings)
        silence_pynetdicom()
        self.spool, self.audit = spool, audit
        self._refused, self._fault = Seldom("a film was refused: "), Seldom("a film could not be kept: ")
        ae = AE(ae_title=settings.ae_title)
        for uid in CLASSES:
            ae.add_supported_context(uid, sorted(READ))
        ae.add_supported_context(Verification)
        ae.require_called_aet = True
        ae.require_calling_aet = list(settings.allowed_aets)
        ae.maximum_associations = 2 * settings.max_associations + 16  # the door counts, without those that are ending
        ae.maximum_pdu_size = MAX_PDU
        ae.network_timeout = ae.acse_timeout = ae.dimse_timeout = SECONDS
        handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_DIMSE_RECV, _begin),
            (evt.EVT_DIMSE_SENT, _end),
        ]
        try:
            self.server = ae.make_server(
                (settings.bind, settings.port),
                evt_handlers=handlers,
                server_class=_Server,
            )
        except OSError as error:
            where = f"`bind` {settings.bind} `port` {settings.port}"
            raise InputError(f"{where}: {error.strerror or error}") from None
        self.server.most_bytes = settings.max_instance_bytes + 2**16  # for the handler
        self._door = Door(self.server.socket, self._enter, settings.max_associations, tls, self._unsafe)

    @property
    def port(self) -> int:
        """That it listens on."""
        return int(self.server.server_address[1])

    def _enter(self, connection: socket.socket, address: Address, head: bytes) -> _Guest:
        assoc = _Handler(connection, address, self.server, head).assoc
        return _Guest(assoc, assoc.dul.socket)

    def close(self) -> None:
        """Listen no more, and end all associations; what they are keeping is kept."""
        self._door.close()
        self.server.server_close()
        end = time.monotonic() + CLOSE_SECONDS
        for assoc in self.server.active_associations:
            assoc.join(max(0.0, end - time.monotonic()))

    def _store(self, event: Any) -> int:
        """A film; the answer's status. Source: PS3.4, table B.2-1."""
        try:
            if self.audit is not None:
                self.audit.log.check()
            kept, status = self._kept(event)
            if self.audit is not None:
                self.audit.received(_sender(event), kept, status)
        except AuditFault as error:  # the film may be kept: the sender comes again, and then it is recorded
            self._refused(str(error))
            return NO_ROOM
        return status

    def _kept(self, event: Any) -> tuple[KeptFilm | None, int]:
        """A film that is kept, or None, and the answer's status."""
        try:
            return self.spool.take(file_parts(event)), OK
        except NoSpace as error:
            self._refused(str(error))
            return None, NO_ROOM
        except Unreadable:
            return None, NOT_UNDERSTOOD
        except Exception as error:  # a fault of ours: the sender is told, and the film is not said to be kept
            self._fault(place_of(error))
            return None, FAULT

    def _rejected(self, event: Any) -> None:
        if self.audit is not None:
            self.audit.refused(_sender(event), "its association was rejected")

    def _unsafe(self, address: str, words: str) -> None:
        if self.audit is not None:
            self.audit.unsafe(address, words)


def _sender(event: Any) -> ActiveParticipant:
    """Who called us: the AE title that it gives itself, and its address."""
    title, address = str(event.assoc.requestor.ae_title).strip(), str(event.assoc.requestor.address)
    return ActiveParticipant(title, is_requestor=True, address=address, alternative=f"AETITLES={title}")


def file_parts(event: Any) -> Sequence[bytes]:
    """The film as a file: preamble and file meta, then the elements as they came."""
    return b"\0" * 128 + b"DICM" + encode_file_meta(event.file_meta), event.request.DataSet.getvalue()
