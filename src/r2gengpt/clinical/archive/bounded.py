"""Reads of a DICOM association, bounded in bytes and time, and their log lines. Below pynetdicom, which bounds neither.

pynetdicom reads as many bytes as a peer's header claims, and waits for the next byte only, however slowly they come.
"""

import contextlib
import logging
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from pynetdicom.transport import AssociationSocket

log = logging.getLogger("r2gengpt.clinical.archive")
FRAMES = 2**20
"""Bytes that PDUs and commands may take beside what they carry."""
EVERY = 60.0
"""Seconds."""


class Seldom:
    """A warning, or what else strangers can cause: at most one line a minute.

    Args:
        words: the line.
        clock: seconds; it never goes back.
        level: of `logging`.
    """

    def __init__(self, words: str, clock: Callable[[], float] = time.monotonic, level: int = logging.WARNING) -> None:
        self.words, self.clock, self.level = words, clock, level
        self._lock = threading.Lock()
        self._since, self._next = 0, clock()

    def __call__(self, detail: str = "") -> None:
        """It happened; `detail` is the last one's, where a line is written."""
        with self._lock:
            self._since += 1
            if self.clock() < self._next:
                return
            count, self._since, self._next = self._since, 0, self.clock() + EVERY
        log.log(self.level, "%s%s%s", self.words, detail, f" ({count} times)" if count > 1 else "")


MAX_PDU = 256 * 2**10
"""Bytes of a PDU that peers are asked to keep to; four times as many, or the association's end."""
SECONDS = 60.0
"""For a whole PDU; and a peer that gets no further for so long is left."""
PROGRESS = 2**14
"""Bytes that count as getting further."""
PIECE = 2**16
ABORT = b"\x07\0\0\0\0\x04\0\0\x02\0"
"""A-ABORT by the service provider. Source: PS3.8, 9.3.8."""
_too_large = Seldom("a sender goes beyond `max_instance_bytes`: its association is ended")


def read_within(
    connection: socket.socket, count: int, seconds: float, on_bytes: Callable[[int], None] = lambda _: None
) -> bytearray:
    """So many bytes, or fewer where the peer ends before.

    Raises:
        TimeoutError: they did not come in time.
    """
    end, data = time.monotonic() + seconds, bytearray()
    try:
        while len(data) < count:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("too slow")
            connection.settimeout(left)
            piece = connection.recv(min(count - len(data), PIECE))
            if not piece:
                break
            data += piece
            on_bytes(len(piece))
    finally:
        with contextlib.suppress(OSError):  # it was closed
            connection.settimeout(seconds)
    return data


class BoundedSocket(AssociationSocket):  # type: ignore[misc]  # pynetdicom's types are not followed
    """The socket of an association that a peer asked for.

    Args:
        plain: pynetdicom's own, which this one takes the place of.
        head: what was read from it already.
        most: bytes that are read between two answers.
    """

    def __init__(self, plain: AssociationSocket, head: bytes, most: int) -> None:
        self.__dict__.update(plain.__dict__)  # its own start would tell the association of a second connection
        self.connection: socket.socket = plain.socket
        self.connection.settimeout(SECONDS)
        self._head, self._most = bytearray(head), most
        self._since_answer = self._since_progress = 0
        self._busy_since: float | None = None
        self._progress_at = time.monotonic()

    @property
    def ready(self) -> bool:
        """Whether there is something to read."""
        return bool(self._head) or bool(super().ready)

    def recv(self, nr_bytes: int) -> bytearray:
        """Read; an error, as of a closed connection, where it would be too much or takes too long."""
        self._since_answer += nr_bytes
        if nr_bytes > 4 * MAX_PDU or self._since_answer > self._most:
            _too_large()
            raise OSError("more than may be")
        data, self._head = self._head[:nr_bytes], self._head[nr_bytes:]
        return data + read_within(self.connection, nr_bytes - len(data), SECONDS, self._count)

    def _count(self, read: int) -> None:
        self._since_progress += read
        if self._since_progress >= PROGRESS:
            self._progress()

    def _progress(self) -> None:
        self._since_progress, self._progress_at = 0, time.monotonic()

    def begin(self) -> None:
        """A whole message is in; one more before it is answered would only fill the memory, and is the last one."""
        if self._busy_since is not None:
            self._most = 0
        self._busy_since = time.monotonic()

    def end(self) -> None:
        """A message is answered."""
        self._busy_since, self._since_answer = None, 0
        self._progress()

    def idle_seconds(self) -> float:
        """For how long the peer has got no further; 0 while we work for it, as far as that can be believed.

        Some messages get no answer, a C-CANCEL for one.
        """
        now = time.monotonic()
        busy = self._busy_since is not None and now - self._busy_since < SECONDS
        return 0.0 if busy else now - self._progress_at

    def drop(self) -> None:
        """End the connection, from any thread; its own threads see to the rest."""
        end(self.connection, ABORT)


def end(connection: socket.socket, last: bytes) -> None:
    """Say a last word, if it can be said at once, and end a connection. It is not closed yet.

    One of TLS that waits belongs to its association's thread, which may be within it: it ends without a word.
    """
    with contextlib.suppress(OSError):
        if not isinstance(connection, ssl.SSLSocket):
            connection.send(last, socket.MSG_DONTWAIT)
        elif connection.gettimeout() == 0:
            connection.send(last)
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # that of TLS would go on in plain text


def bound_answers(
    assoc: Any, seconds: float, on_error: Callable[[OSError], None] = lambda _: None, most: int | None = None
) -> None:
    """Bound what is read from a peer that we called: small answers, each in its time, and at most so many bytes."""
    wrapped = assoc.dul.socket
    left = math.inf if most is None else float(most + FRAMES)

    def recv(nr_bytes: int) -> bytearray:
        nonlocal left
        left -= nr_bytes
        if nr_bytes > MAX_PDU or left < 0:
            raise OSError("more than may be")
        try:
            return read_within(wrapped.socket, nr_bytes, seconds)
        except OSError as error:
            on_error(error)
            raise

    wrapped.recv = recv
