"""A DICOM Storage SCP: films of the chest into a spool, and an answer to C-ECHO. Looks at no pixel.

What a peer can make us hold in memory is bounded: pynetdicom would read as many bytes as a peer's header claims, so
the bytes of an association are counted below it. Needs pynetdicom (extra `pacs`).
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom.dsutils import encode_file_meta
from pynetdicom.sop_class import Verification
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from r2gengpt.archive.settings import ListenConfig
from r2gengpt.archive.spool import NoSpace, Spool, Unreadable
from r2gengpt.data.dicom import READ
from r2gengpt.errors import InputError, place_of

log = logging.getLogger("r2gengpt.archive")
CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1": "Computed Radiography Image Storage",
    "1.2.840.10008.5.1.4.1.1.1.1": "Digital X-Ray Image Storage - For Presentation",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "Digital X-Ray Image Storage - For Processing",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image Storage",
}
"""SOP classes that are taken."""
MAX_PDU = 256 * 2**10
"""Bytes of a PDU that peers are asked to keep to; four times as many, or the association's end."""
OK, NO_ROOM, NOT_UNDERSTOOD, FAULT = 0x0000, 0xA700, 0xC000, 0xC001
SECONDS = 60.0
"""A peer that is silent for so long within an association is left."""


class Bounded:
    """Reads of one association's socket: no more than a film and its commands between two answers.

    Args:
        read: pynetdicom's own, of as many bytes as it is told.
        most: bytes.
    """

    def __init__(self, read: Callable[[int], bytearray], most: int) -> None:
        self.read, self.most = read, most
        self.since_answer = 0
        self.waiting = False

    def __call__(self, count: int) -> bytearray:
        """Read; as of a closed connection where it would be too much."""
        self.since_answer += count
        if count > 4 * MAX_PDU or self.since_answer > self.most:
            log.warning("a sender goes beyond --max_instance_bytes: its association is ended")
            raise OSError("more than may be")
        return self.read(count)

    def begin(self) -> None:
        """A whole message is in; one more before it is answered would only fill the memory, and is the last one."""
        if self.waiting:
            self.most = 0
        self.waiting = True

    def end(self) -> None:
        """A message is answered."""
        self.waiting, self.since_answer = False, 0


class BoundedHandler(RequestHandler):  # type: ignore[misc]  # pynetdicom's types are not followed
    """Bounds what each association reads."""

    def _create_association(self) -> Any:
        assoc = super()._create_association()
        assoc.dul.socket.recv = Bounded(assoc.dul.socket.recv, self.server.most_bytes)
        return assoc


def _begin(event: Any) -> None:
    event.assoc.dul.socket.recv.begin()


def _end(event: Any) -> None:
    if event.assoc.dul.socket is not None:
        event.assoc.dul.socket.recv.end()


def silence_pynetdicom() -> None:
    """Keep pynetdicom's own lines off stderr: they hold UIDs and what peers sent."""
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    _config.LOG_HANDLER_LEVEL = "none"


class Receiver:
    """The SCP, which listens from the start, in threads of its own.

    Args:
        spool: gets the films.
        settings: who may send what.

    Raises:
        InputError: the address is not this machine's, or the port is taken.
    """

    def __init__(self, spool: Spool, settings: ListenConfig) -> None:
        silence_pynetdicom()
        self.spool = spool
        ae = AE(ae_title=settings.ae_title)
        for uid in CLASSES:
            ae.add_supported_context(uid, sorted(READ))
        ae.add_supported_context(Verification)
        ae.require_called_aet = True
        ae.require_calling_aet = list(settings.allowed_aets)
        ae.maximum_associations = settings.max_associations
        ae.maximum_pdu_size = MAX_PDU
        ae.network_timeout = ae.acse_timeout = ae.dimse_timeout = SECONDS
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_DIMSE_RECV, _begin), (evt.EVT_DIMSE_SENT, _end)]
        try:
            self.server = ae.make_server(
                (settings.bind, settings.port),
                evt_handlers=handlers,
                server_class=ThreadedAssociationServer,
                request_handler=BoundedHandler,
            )
        except OSError as error:
            where = f"--bind {settings.bind} --port {settings.port}"
            raise InputError(f"{where}: {error.strerror or error}") from None
        self.server.most_bytes = settings.max_instance_bytes + 2**16  # for the handler
        ae._servers.append(self.server)  # which it expects of servers that are closed
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.1,), name="receiver", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """That it listens on."""
        return int(self.server.server_address[1])

    def close(self) -> None:
        """End all associations, and listen no more."""
        self.server.shutdown()
        for assoc in self.server.active_associations:
            assoc.abort()
        self.server.server_close()
        self._thread.join()

    def _store(self, event: Any) -> int:
        """A film; the answer's status. Source: PS3.4, table B.2-1."""
        try:
            self.spool.add(_parts(event))
        except NoSpace as error:
            log.error("a film was refused: %s", error)
            return NO_ROOM
        except Unreadable:
            return NOT_UNDERSTOOD
        except Exception as error:  # a fault of ours: the sender is told, and the film is not said to be kept
            log.error("a film could not be kept: %s", place_of(error))
            return FAULT
        return OK


def _parts(event: Any) -> Sequence[bytes]:
    """The film as a file: preamble and file meta, then the elements as they came."""
    return b"\0" * 128 + b"DICM" + encode_file_meta(event.file_meta), event.request.DataSet.getvalue()
