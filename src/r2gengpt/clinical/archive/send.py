"""Reports to a peer by C-STORE. Keeps nothing, and tries once. Needs pynetdicom (extra `pacs`)."""

import io
import ssl
from typing import Any

from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt

from r2gengpt.clinical.archive.bounded import bound_answers
from r2gengpt.clinical.archive.loop import NotNow, Refused, Send
from r2gengpt.clinical.archive.receive import silence_pynetdicom
from r2gengpt.clinical.archive.tls import PeerTls, words_of

SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
SECONDS = 30.0
"""For the peer's answer to each request."""


def c_store(host: str, port: int, called: str, calling: str, tls: PeerTls | None = None) -> Send:
    """What sends reports to this peer.

    Args:
        host: the peer's.
        port: the peer's.
        called: its AE title.
        calling: ours.
        tls: how it is spoken to; None: in plain text.
    """
    silence_pynetdicom()

    def note(error: OSError) -> None:
        if tls is not None and isinstance(error, ssl.SSLError):  # TLS 1.3 refuses us where we read first
            tls.context.failure = f"TLS: {words_of(error)}"

    def send(report: bytes) -> None:
        dataset = dcmread(io.BytesIO(report))
        ae = AE(ae_title=calling)
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = SECONDS
        ae.add_requested_context(dataset.SOPClassUID, SYNTAXES)
        bound = (evt.EVT_CONN_OPEN, lambda event: bound_answers(event.assoc, SECONDS, note))
        if tls is not None:
            tls.context.failure = ""
        tls_args = None if tls is None else (tls.context, tls.name)
        assoc = ae.associate(host, port, ae_title=called, evt_handlers=[bound], tls_args=tls_args)
        if not assoc.is_established:
            failure = tls.context.failure if tls is not None else ""
            raise NotNow(f"{called} {_why_not(assoc)}{failure and f' ({failure})'}")
        try:
            with disable_value_validation():
                status = assoc.send_c_store(dataset)
        finally:
            if assoc.is_established:
                assoc.release()
        judge(status.get("Status"))

    return send


def _why_not(assoc: Any) -> str:
    """Why there is no association."""
    if assoc.is_rejected:
        return f"rejects us as {assoc.requestor.ae_title}"
    return "is not reached" if assoc.acceptor.primitive is None else "takes no such reports"


def judge(status: int | None) -> None:
    """What an answer's status means. Source: PS3.4, table B.2-1; a warning means that the object was stored.

    Raises:
        NotNow: no answer, or no room.
        Refused: another failure.
    """
    if status is None:
        raise NotNow("no answer")
    if status == 0x0000 or status & 0xF000 == 0xB000:
        return
    words = f"status 0x{status:04X}"
    raise NotNow(words) if status & 0xFF00 == 0xA700 or status == 0x0122 else Refused(words)
