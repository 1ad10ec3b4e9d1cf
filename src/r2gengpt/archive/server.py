"""A DICOMweb server: its address, our login, and how much and how long an answer may be. Asks nothing itself."""

import logging
from pathlib import Path

from dicomweb_client.web import DICOMwebClient

from r2gengpt.archive.exchange import BoundedSession
from r2gengpt.data.dicom_header import silence_pydicom
from r2gengpt.errors import InputError

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
    flag: str = "--url",
    most_seconds: float = MOST_SECONDS,
) -> Server:
    """A client; nothing is asked yet.

    Args:
        url: of the DICOMweb service, as http://host:8042/dicom-web.
        user: its name for us, or None.
        password: with it.
        ca_file: certificates that the server's must come from; None: those that requests knows.
        most_bytes: of one answer.
        flag: what errors call the address.
        most_seconds: of one answer, from the connection to the last byte.

    Raises:
        InputError: no such file, or no address.
    """
    session = BoundedSession(most_bytes, most_seconds)
    if user is not None:
        session.auth = (user, password or "")
    if ca_file is not None:
        if not Path(ca_file).is_file():
            raise InputError(f"--ca_file {ca_file}: no such file")
        session.verify = ca_file
    for noisy in ("dicomweb_client", "retrying"):  # their lines hold UIDs, and tracebacks
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    silence_pydicom()
    try:
        return Server(url.rstrip("/"), session)
    except (ValueError, TypeError) as error:
        raise InputError(f"{flag} {url}: must be like http://host:8042/dicom-web ({error})") from None
