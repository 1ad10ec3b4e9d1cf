"""Frames of MLLP on a connection, bounded in bytes and time. Knows no message.

A frame is 0x0B, the message, 0x1C 0x0D. Source: HL7, Transport Specification: MLLP, release 1.
"""

import re
import socket
import time

START, END = b"\x0b", b"\x1c\r"
BEGINNING = re.compile(START + rb"(?=(?:\xef\xbb\xbf)?[\r\n]*MSH)")
"""Of a frame within another one; a START elsewhere belongs to a text."""
PIECE = 2**16


class Unframed(Exception):
    """A peer sends something else than frames: one line why."""


class TooLong(Exception):
    """A message goes beyond its limit.

    Args:
        head: its first bytes.
    """

    def __init__(self, head: bytes) -> None:
        super().__init__("a message is too long")
        self.head = head


def framed(message: bytes) -> bytes:
    """A message as it is sent."""
    return START + message + END


class Frames:
    """The messages that come on a connection.

    Args:
        connection: of the peer.
        most_bytes: of a message.
        seconds: in which a message must be whole once it has begun.
    """

    def __init__(self, connection: socket.socket, most_bytes: int, seconds: float) -> None:
        self.connection, self.most_bytes, self.seconds = connection, most_bytes, seconds
        self._data = bytearray()

    def next(self, patience: float | None) -> bytes | None:
        """The next message; None where the peer has ended between two.

        Args:
            patience: seconds until it must have begun; None: any time.

        Raises:
            TimeoutError: it has not begun, or is not whole, in its time.
            Unframed: something else comes, or the peer ends within it.
            TooLong: so it is.
            OSError: the connection fails.
        """
        end = None if patience is None else time.monotonic() + patience
        while not self._begun():
            if not self._more(end):
                return None
        end, searched = time.monotonic() + self.seconds, 0
        most = len(START) + self.most_bytes + 1  # its end may be half there
        while (found := self._data.find(END, searched)) < 0 and len(self._data) <= most:
            searched = max(0, len(self._data) - 1)
            if not self._more(end):
                raise Unframed("it ends within a message")
        message = bytes(self._data[1 : found if found >= 0 else self.most_bytes])
        if found < 0 or len(message) > self.most_bytes:
            raise TooLong(message)
        del self._data[: found + len(END)]
        return BEGINNING.split(message)[-1]  # a peer that begins anew has given up what it had begun

    def _begun(self) -> bool:
        """Whether a frame has begun. Line ends between two frames are passed over.

        Raises:
            Unframed: something else stands there.
        """
        self._data = self._data.lstrip(b"\r\n")
        if self._data and not self._data.startswith(START):
            raise Unframed("it sends something else than a frame of MLLP")
        return bool(self._data)

    def _more(self, end: float | None) -> bool:
        """Whether more came until then; not: the peer has ended."""
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError("too slow")
        self.connection.settimeout(left)
        piece = self.connection.recv(PIECE)
        self._data += piece
        return bool(piece)
