"""A DICOMweb server: its address, our login, the bounds and the parts of its answers. Asks nothing itself."""

import logging
import re
from email.message import Message

from dicomweb_client.web import DICOMwebClient

from r2gengpt.clinical.archive.exchange import BoundedSession
from r2gengpt.errors import InputError
from r2gengpt.files import check_file
from r2gengpt.films.dicom.header import silence_pydicom


class NotMultipart(Exception):
    """The answer is none of the standard's, or is cut off: one line."""


def parts_of(body: bytes, content_type: str) -> list[bytes]:
    """The bytes of each part. An answer that is one DICOM file by itself is taken as well, as some servers send it.

    Raises:
        NotMultipart: so it is.
    """
    said = Message()
    said["Content-Type"] = content_type
    if said.get_content_type() == "application/dicom":
        return [body]
    boundary = said.get_boundary()
    if said.get_content_type() != "multipart/related" or not boundary:
        raise NotMultipart("its answer is not multipart/related")
    mark = b"--" + boundary.encode("latin-1", "replace")
    _, *pieces = (b"\r\n" + body).split(b"\r\n" + mark)
    if not pieces or not pieces[-1].startswith(b"--"):
        raise NotMultipart("its answer is cut off")
    return [_content(piece) for piece in pieces[:-1]]


def _content(piece: bytes) -> bytes:
    """What follows a part's headers."""
    _, end, content = piece.partition(b"\r\n\r\n")
    if not end:
        raise NotMultipart("a part of its answer has no end of its headers")
    return content


MOST_BYTES, MOST_SECONDS = 2**30, 1800.0
"""Of one answer: the films of a series."""
SECONDS = (10.0, 60.0)
"""To connect, and to wait for the next bytes."""


class Server(DICOMwebClient):  # type: ignore[misc]  # its types are not followed
    """A client whose session is known."""

    def __init__(self, url: str, session: BoundedSession) -> None:
        super().__init__(url, session=session, timeout=SECONDS)
        self.session = session
        self.set_http_retry_params(retry=False)

    def session_for(self, most_bytes: int, most_seconds: float) -> BoundedSession:
        """Another session with the same login, for answers of this size and time."""
        session = BoundedSession(most_bytes, most_seconds)
        session.auth, session.verify = self.session.auth, self.session.verify
        return session


def connect(
    url: str,
    user: str | None = None,
    password: str | None = None,
    ca_file: str | None = None,
    most_bytes: int = MOST_BYTES,
    field: str = "url",
    most_seconds: float = MOST_SECONDS,
) -> Server:
    """A client; nothing is asked yet.

    Args:
        url: of the DICOMweb service, as http://host:8042/dicom-web.
        user: its name for us, or None.
        password: with it.
        ca_file: certificates that the server's must come from; None: those that requests knows.
        most_bytes: of one answer.
        field: what errors call the address.
        most_seconds: of one answer, from the connection to the last byte.

    Raises:
        InputError: no such file, no address, or one that holds a login, which is not shown.
    """
    if re.match("[a-z]+://[^/?#]*@", url, re.IGNORECASE):
        words = "holds a name or a password, which logs and answers would show: give `user` and `password_file`"
        raise InputError(f"`{field}` {words}", field=field)
    session = BoundedSession(most_bytes, most_seconds)
    if user is not None:
        session.auth = (user, password or "")
    if ca_file is not None:
        check_file(ca_file, "ca_file")
        session.verify = ca_file
    for noisy in ("dicomweb_client", "retrying"):  # their lines hold UIDs, and tracebacks
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    silence_pydicom()
    try:
        return Server(url.rstrip("/"), session)
    except (ValueError, TypeError) as error:
        raise InputError(f"must be like http://host:8042/dicom-web ({error})", field=field, value=url) from None
