"""The records of an audit log to a syslog server, in a thread of its own. Changes no record, and holds up no program.

Messages are those of RFC 5424, framed as RFC 5425 has it; DICOM PS3.15, A.6 sets priority and message id. Whoever
sends knows that the server's machine has acknowledged the bytes, as syslog has no other answer: records whose bytes
were not acknowledged when a connection ended go again, so that a server may get some of them twice.
"""

import contextlib
import fcntl
import logging
import os
import re
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from r2gengpt.auditlog.chain import ChainRecord
from r2gengpt.auditlog.follow import LogFollower, Mark, SentState
from r2gengpt.auditlog.message import SUCCESS
from r2gengpt.errors import one_line, place_of

log = logging.getLogger("r2gengpt.auditlog")
SECONDS = 30.0
"""To send records, and for their bytes to be acknowledged."""
REFUSAL_SECONDS = 1.0
"""For a server that has our certificate to refuse it; tickets, which most servers send, end the wait."""
CLOSE_SECONDS = 5.0
"""For what is left when the program stops."""
PAUSE = 0.2
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds until the server is tried again; doubled each time."""
NOTICE, WARNING = 10 * 8 + 5, 10 * 8 + 4
"""Priorities: facility 10 (security), severity 5, or 4 where an event did not succeed."""
UNSENT = 0x5411
"""Linux's SIOCOUTQ: bytes that the other side has not acknowledged."""
BOM = b"\xef\xbb\xbf"
_EVENT = re.compile(r'EventDateTime="([0-9T:.+-]{19,40})" EventOutcomeIndicator="([0-9]+)"')
"""In a message's first element; in the others there may be the same words, as texts of strangers."""
_NO_NAME = re.compile(r"[^!-~]")
Connect = Callable[[], ssl.SSLSocket]
"""Opens a connection to the server, its handshake done. Raises `OSError`."""


def syslog_message(record: ChainRecord, host: str, process: str) -> bytes:
    """A record as RFC 5424 has it.

    Args:
        record: of the log.
        host: name of this machine.
        process: number of the process that sends.
    """
    found = _EVENT.search(record.message)
    when = found[1] if found else "-"
    priority = NOTICE if found and found[2] == SUCCESS else WARNING
    name = _NO_NAME.sub("_", host)[:255] or "-"
    head = f"<{priority}>1 {when} {name} r2gengpt {process} DICOM+RFC3881 - "
    return head.encode("ascii") + BOM + record.message.encode()


def framed(message: bytes) -> bytes:
    """A message with its length before it. Source: RFC 5425, 4.3."""
    return b"%d %b" % (len(message), message)


class SyslogSender:
    """Sends what a log gets, while its block runs.

    Args:
        directory: of the log.
        connect: opens connections.
        name: of the server, for the log.
        clock: seconds; it never goes back.
    """

    def __init__(
        self, directory: Path, connect: Connect, name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.directory, self.connect, self.name, self.clock = directory, connect, name, clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="syslog", daemon=True)
        self._state: SentState | None = None
        self._follower: LogFollower | None = None
        self._connection: ssl.SSLSocket | None = None
        self._wait, self._fault, self._end = 0.0, "", float("inf")
        self._missing = 0
        self._host, self._process = socket.gethostname(), str(os.getpid())

    def __enter__(self) -> "SyslogSender":
        self._begin()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end = self.clock() + CLOSE_SECONDS
        self._stop.set()
        self._thread.join(2 * CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._stop.wait(self._wait or PAUSE)
            self._step()
        while self.clock() < self._end and not self._wait and self._step():
            pass
        self._close()
        if self._state is not None:
            self._state.close()

    def _step(self) -> bool:
        """Send the next records; whether there were some. A server that is away is tried again later."""
        try:
            if not self._begin():
                self._wait = FIRST_WAIT
                return False
            assert self._follower is not None
            self._is_open()
            records = self._follower.next()
            self._tell_missing(self._follower.missing)
            if records:
                self._send(records)
                self._fault = ""
            self._wait = 0.0
            return bool(records)
        except OSError as error:
            self._later(_words(error))
        except Exception as error:  # a fault of ours: the log goes on without its copy
            self._later(place_of(error))
        return False

    def _tell_missing(self, count: int) -> None:
        if count > self._missing:
            log.warning("%d audit records were put away before they were sent by syslog", count)
            self._missing = count

    def _later(self, words: str) -> None:
        self._close()
        if self._follower is not None and self._state is not None and self._state.mark is not None:
            self._follower.back_to(self._state.mark)
        self._wait = min(max(2 * self._wait, FIRST_WAIT), LONGEST_WAIT)
        if words != self._fault:
            log.warning("audit records do not reach the syslog server %s (%s): they are sent later", self.name, words)
        self._fault = words

    def _begin(self) -> bool:
        """Whether this process is the one that sends; another one of the same log may be."""
        if self._follower is not None:
            return True
        try:
            self._state = self._state or SentState(self.directory)
            follower = LogFollower(self.directory, self._state.mark)
            if self._state.mark is None:
                self._state.save(follower.mark)
        except BlockingIOError:
            return False
        except OSError as error:
            self._later(_words(error))
            return False
        self._follower = follower
        return True

    def _is_open(self) -> bool:
        """Whether there is a connection that the server has not ended; it sends nothing else.

        Raises:
            OSError: it refuses us.
        """
        connection = self._connection
        if connection is None or not select.select([connection], [], [], 0)[0]:
            return connection is not None
        connection.setblocking(False)
        with contextlib.suppress(ssl.SSLWantReadError):  # tickets of TLS 1.3, which are no data
            if not connection.recv(4096):
                self._close()
        return self._connection is not None

    def _send(self, records: list[ChainRecord]) -> None:
        """Send records, and keep that they were.

        Raises:
            OSError: their bytes are not all acknowledged.
        """
        if self._connection is None:
            self._connection = self.connect()
            if self._connection.version() == "TLSv1.3":  # whose server looks at our certificate after the handshake
                select.select([self._connection], [], [], REFUSAL_SECONDS)
            if not self._is_open():
                raise ConnectionResetError
        connection, end = self._connection, self.clock() + SECONDS
        connection.settimeout(SECONDS)
        data = b"".join(framed(syslog_message(one, self._host, self._process)) for one in records)
        connection.sendall(data)
        while self._is_open() and _unacknowledged(connection):
            if self.clock() > end:
                raise TimeoutError
            select.select([connection], [], [], 0.005)
        if not self._is_open():
            raise ConnectionResetError
        assert self._state is not None
        self._state.save(Mark(records[-1].number, records[-1].digest))

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.settimeout(1.0)
                connection.unwrap()
            with contextlib.suppress(OSError):
                connection.close()


def _unacknowledged(connection: socket.socket) -> int:
    """Bytes that the other side has not acknowledged; 0 where the system does not tell."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(connection.fileno(), UNSENT, b"\0" * 4))[0])
    except OSError:
        return 0


def _words(error: OSError) -> str:
    """Why, in the system's fixed words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {str(error.verify_message).split(',')[0]}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'the connection ended').lower().replace('_', ' ')}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return one_line(error.strerror or "the connection ended")
