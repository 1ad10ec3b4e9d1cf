"""The parts of a multipart/related answer, or an error: nothing of one that is cut off. No network, no DICOM."""

from email.message import Message


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
