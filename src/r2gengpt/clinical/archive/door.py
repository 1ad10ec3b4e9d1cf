"""Lets a connection in once it has asked for an association whole. Knows only that one message of DICOM.

One thread holds all callers, so that those who connect and say nothing, or little, cost a socket each and no place.
A caller that has asked gets a place; where none is free, that of the one who has got no further for longest.
"""

import contextlib
import selectors
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from r2gengpt.clinical.archive.bounded import ABORT, SECONDS, Seldom, end
from r2gengpt.clinical.archive.tls import words_of
from r2gengpt.errors import place_of

ASK_SECONDS = 10.0
"""In which a caller must have asked for an association."""
WAIT_SECONDS = 10.0
"""For which one that has asked waits for a place."""
IDLE_SECONDS = 0.5
"""Of an association that gets no further, after which its place is given away where all are taken."""
MOST_CALLERS, MOST_OF_ADDRESS = 512, 256
"""At once, before they have asked; then the oldest goes. More would be too many for select(), which pynetdicom uses."""
REQUEST, SMALLEST, LARGEST = 1, 68, 128 * 2**10
"""An A-ASSOCIATE-RQ: its type, and its least and most bytes. Source: PS3.8, 9.3.2."""
HEADER = struct.Struct(">BBL")
NO_PLACE = b"\x03\0\0\0\0\x04\0\x02\x03\x02"
"""A-ASSOCIATE-RJ: transient, local limit exceeded. Source: PS3.8, 9.3.4."""
Address = tuple[str, int] | tuple[str, int, int, int]


class Guest(Protocol):
    """An association that was let in."""

    def is_there(self) -> bool:
        """Whether it takes a place still."""

    def idle_seconds(self) -> float:
        """For how long its peer has got no further; 0 while we work for it."""

    def drop(self) -> None:
        """End it."""


Enter = Callable[[socket.socket, Address, bytes], Guest]
"""A connection, its peer's address and its request → its association."""


@dataclass(eq=False)
class _Caller:
    """A connection that is not let in yet."""

    connection: socket.socket
    address: Address
    since: float
    is_greeted: bool
    """Whether its TLS handshake, if it needs one, is done."""
    data: bytearray = field(default_factory=bytearray)

    @property
    def missing(self) -> int:
        """Bytes until its request is whole."""
        size = HEADER.size
        if len(self.data) >= size:
            size += HEADER.unpack_from(self.data)[2]
        return size - len(self.data)

    def is_wrong(self) -> bool:
        """Whether what it sent cannot become a request."""
        if len(self.data) < HEADER.size:
            return False
        kind, _, length = HEADER.unpack_from(self.data)
        return kind != REQUEST or not SMALLEST <= length <= LARGEST


class Door:
    """A listening socket and what comes of it, in a thread of its own from the start.

    Args:
        listening: a socket that listens.
        enter: lets a caller in.
        places: associations at once.
        tls: what callers must fit; None: they speak in plain text.
        on_unsafe: gets the address of a caller whose handshake failed, or was not done in its time, and why.
    """

    def __init__(
        self,
        listening: socket.socket,
        enter: Enter,
        places: int,
        tls: ssl.SSLContext | None = None,
        on_unsafe: Callable[[str, str], None] = lambda address, words: None,
    ) -> None:
        self.listening, self.enter, self.places, self.tls = listening, enter, places, tls
        self.on_unsafe = on_unsafe
        self._asking: dict[_Caller, None] = {}  # oldest first
        self._waiting: list[_Caller] = []
        self._guests: list[tuple[str, Guest]] = []
        self._silent = Seldom(
            "a connection was ended that had not asked for an association in its time, or asked wrongly"
        )
        self._unsafe = Seldom("a connection was refused by TLS: ")
        self._crowded = Seldom("an association that got no further was ended, as its place was needed")
        self._fault = Seldom("a connection could not be let in: ")
        self._stop = threading.Event()
        self._selector = selectors.DefaultSelector()
        listening.setblocking(False)
        self._selector.register(listening, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="door", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let nobody in any more, and end all who are in."""
        self._stop.set()
        self._thread.join()
        for caller in [*self._asking, *self._waiting]:
            self._end(caller, ABORT)
        for _, guest in self._guests:
            guest.drop()
        self._selector.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._turn()
            except Exception as error:  # a fault of ours, which must not shut the door
                self._fault(place_of(error))
                self._stop.wait(0.1)

    def _turn(self) -> None:
        for key, _ in self._selector.select(0.02 if self._waiting else 0.1):
            if key.data is None:
                self._accept()
            elif key.data in self._asking:
                self._read(key.data)
        self._admit()
        self._look_at_clock()

    def _accept(self) -> None:
        try:
            for _ in range(MOST_CALLERS):
                connection, address = self.listening.accept()
                connection.setblocking(False)
                secured = self._secured(connection)
                if secured is None:
                    continue
                connection = secured
                caller = _Caller(connection, address, time.monotonic(), is_greeted=self.tls is None)
                self._asking[caller] = None
                self._selector.register(connection, selectors.EVENT_READ, caller)
                self._make_room(address[0])
        except BlockingIOError:
            return
        except OSError:  # of who has gone again; or there are no handles left
            if self._asking:
                self._end_asking(next(iter(self._asking)))
            self._stop.wait(0.01)

    def _secured(self, connection: socket.socket) -> socket.socket | None:
        """The connection as TLS has it, before its handshake; None where it has gone again."""
        if self.tls is None:
            return connection
        try:
            return self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        except OSError:
            connection.close()
            return None

    def _greet(self, caller: _Caller) -> bool:
        """Go on with a handshake as far as the caller's bytes go; whether it is done."""
        connection, events = caller.connection, selectors.EVENT_READ
        assert isinstance(connection, ssl.SSLSocket)
        try:
            connection.do_handshake()
            caller.is_greeted = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLWantWriteError:
            events = selectors.EVENT_WRITE
        except OSError as error:
            self._unsafe(words_of(error))
            self._forget(caller)
            self._end(caller, b"")
            self.on_unsafe(caller.address[0], words_of(error))
            return False
        self._selector.modify(connection, events, caller)
        return caller.is_greeted

    def _make_room(self, host: str) -> None:
        """The oldest goes where there are too many: who means it asks at once."""
        hosts = Counter(caller.address[0] for caller in self._asking)
        if hosts[host] <= MOST_OF_ADDRESS and len(self._asking) <= MOST_CALLERS:
            return
        crowd = host if hosts[host] > MOST_OF_ADDRESS else hosts.most_common(1)[0][0]
        self._end_asking(next(caller for caller in self._asking if caller.address[0] == crowd))

    def _read(self, caller: _Caller) -> None:
        if not caller.is_greeted and not self._greet(caller):
            return
        try:
            while caller.missing and not caller.is_wrong() and (piece := caller.connection.recv(caller.missing)):
                caller.data += piece  # until nothing is left, as TLS may hold some that no selector sees
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            pass
        if caller.missing or caller.is_wrong():
            self._end_asking(caller)
            return
        self._forget(caller)
        caller.since = time.monotonic()
        self._waiting.append(caller)

    def _admit(self) -> None:
        """Give places: first to addresses with few of them, and there to who came last, as that one waits still."""
        while self._waiting:
            self._guests = [(host, guest) for host, guest in self._guests if guest.is_there()]
            if len(self._guests) >= self.places and not self._drop_idlest():
                return
            held = Counter(host for host, _ in self._guests)
            caller = min(self._waiting, key=lambda one: (held[one.address[0]], -one.since))
            self._waiting.remove(caller)
            caller.connection.setblocking(True)
            try:
                guest = self.enter(caller.connection, caller.address, bytes(caller.data))
            except Exception as error:  # it has gone again; there are no threads left; or a library's
                self._fault(place_of(error))
                self._end(caller, ABORT)
                continue
            self._guests.append((caller.address[0], guest))

    def _drop_idlest(self) -> bool:
        """Whether a place was made."""
        held = Counter(host for host, _ in self._guests)
        idle = [one for one in self._guests if one[1].idle_seconds() >= IDLE_SECONDS]
        if not idle:
            return False
        gone = max(idle, key=lambda one: (held[one[0]], one[1].idle_seconds()))
        self._guests.remove(gone)
        gone[1].drop()
        self._crowded()
        return True

    def _look_at_clock(self) -> None:
        """End who has had its time."""
        now = time.monotonic()
        while self._asking and now - (caller := next(iter(self._asking))).since > ASK_SECONDS:
            self._end_asking(caller)
        for caller in [one for one in self._waiting if now - one.since > WAIT_SECONDS]:
            self._waiting.remove(caller)
            self._end(caller, NO_PLACE)
        for _, guest in self._guests:
            if guest.idle_seconds() > SECONDS and guest.is_there():
                guest.drop()

    def _forget(self, caller: _Caller) -> None:
        del self._asking[caller]
        self._selector.unregister(caller.connection)

    def _end_asking(self, caller: _Caller) -> None:
        if not caller.is_greeted:
            self.on_unsafe(caller.address[0], "the handshake was not done in its time")
        self._forget(caller)
        self._end(caller, ABORT)
        self._silent()

    def _end(self, caller: _Caller, last: bytes) -> None:
        end(caller.connection, last)
        with contextlib.suppress(OSError):
            caller.connection.close()
