"""Who sends orders, over MLLP: connections, their places, their time. Knows no message (see `intake`).

Each connection has a thread, which answers one message after another. A connection stays as long as its peer likes,
as those of interface engines do. Where all places are taken, the one that was answered longest ago goes for the next.
"""

import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from r2gengpt.clinical.archive.bounded import Seldom
from r2gengpt.clinical.archive.tls import words_of
from r2gengpt.clinical.hl7.er7 import NotAMessage
from r2gengpt.clinical.hl7.intake import OrderIntake
from r2gengpt.clinical.hl7.mllp import Frames, TooLong, Unframed, framed
from r2gengpt.errors import InputError, place_of

log = logging.getLogger("r2gengpt.clinical.hl7")
GREET_SECONDS = 10.0
"""For a whole TLS handshake."""
MESSAGE_SECONDS = 60.0
"""For a whole message, and to take an answer."""
IDLE_SECONDS = 0.5
"""Since its last answer, after which a connection may be ended for the next one."""
CLOSE_SECONDS = 10.0


@dataclass(eq=False)
class _Peer:
    """A connection; `since` is when it came or was last answered; busy is one whose message is worked on."""

    connection: socket.socket
    address: str = ""
    since: float = field(default_factory=time.monotonic)
    is_busy: bool = False
    thread: threading.Thread | None = None

    def drop(self) -> None:
        """End it, from any thread; its own thread closes it."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.connection, socket.SHUT_RDWR)  # that of TLS would go on in plain text


class OrderListener:
    """Listens for orders from the start, in threads of its own.

    Args:
        bind: the address.
        port: 0: a free one.
        intake: answers messages.
        most_peers: connections at once.
        tls: what peers must fit; None: they speak in plain text.
        on_unsafe: gets the address of a peer whose handshake failed, and why.

    Raises:
        InputError: the address is not this machine's, or the port is taken.
    """

    def __init__(
        self,
        bind: str,
        port: int,
        intake: OrderIntake,
        most_peers: int,
        tls: ssl.SSLContext | None = None,
        on_unsafe: Callable[[str, str], None] = lambda address, words: None,
    ) -> None:
        self.intake, self.most_peers, self.tls, self.on_unsafe = intake, most_peers, tls, on_unsafe
        self._peers: set[_Peer] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._ended = Seldom("an MLLP connection was ended: ")
        self._crowded = Seldom("an MLLP connection was ended for another, as all places were taken")
        family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        self._listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listening.bind((bind, port))
            self._listening.listen(128)
        except OSError as error:
            self._listening.close()
            raise InputError(f"`bind` {bind} `mllp_port` {port}: {error.strerror or error}") from None
        self._listening.settimeout(0.1)
        self._thread = threading.Thread(target=self._run, name="orders", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """That it listens on."""
        return int(self._listening.getsockname()[1])

    def close(self) -> None:
        """Listen no more and end all connections; what is answered as taken is kept."""
        self._stop.set()
        self._thread.join()
        self._listening.close()
        with self._lock:
            peers = list(self._peers)
        end = time.monotonic() + CLOSE_SECONDS
        for peer in peers:
            peer.drop()
        for peer in peers:
            if peer.thread is not None:
                peer.thread.join(max(0.0, end - time.monotonic()))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                connection, address = self._listening.accept()
            except TimeoutError:
                continue
            except OSError as error:  # of who has gone again; or there are no handles left
                self._ended(error.strerror or place_of(error))
                self._stop.wait(0.05)
                continue
            try:
                self._admit(connection, str(address[0]))
            except Exception as error:  # there are no threads left; or a fault of ours, which must not shut the door
                self._ended(place_of(error))
                connection.close()

    def _admit(self, connection: socket.socket, address: str) -> None:
        """Give a connection a place and a thread, or end it where none is free."""
        with self._lock:
            if len(self._peers) >= self.most_peers:
                now = time.monotonic()
                idle = [one for one in self._peers if not one.is_busy and now - one.since >= IDLE_SECONDS]
                if not idle:
                    self._ended(f"all {self.most_peers} places are taken (`max_mllp_peers`)")
                    connection.close()
                    return
                gone = min(idle, key=lambda one: one.since)
                self._peers.discard(gone)
                gone.drop()
                self._crowded()
            connection.settimeout(GREET_SECONDS)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            peer = _Peer(connection, address)
            peer.thread = threading.Thread(target=self._serve, args=(peer,), name="orders of a peer", daemon=True)
            peer.thread.start()  # or raises, as where there are no threads left: then it takes no place
            self._peers.add(peer)

    def _serve(self, peer: _Peer) -> None:
        """Answer a peer until it or its place is gone. One line of the log tells why it was ended, if not by itself."""
        try:
            self._greet(peer)
            self._answer_all(peer)
        except (Unframed, NotAMessage) as error:
            self._ended(str(error))
        except TooLong:
            self._ended("it sends a message that is too long")
        except TimeoutError:
            self._ended("a message, or taking its answer, takes too long")
        except ssl.SSLError as error:
            self._ended(f"TLS: {words_of(error)}")
        except OSError as error:  # it is gone, or its place was given away
            log.debug("an MLLP connection is gone: %s", place_of(error))
        except Exception as error:  # a fault of ours
            self._ended(place_of(error))
        finally:
            with self._lock:
                self._peers.discard(peer)
            peer.drop()
            with contextlib.suppress(OSError):
                peer.connection.close()

    def _greet(self, peer: _Peer) -> None:
        """The handshake of TLS, in its time.

        Raises:
            OSError: it failed.
        """
        if self.tls is None:
            return
        secured = self.tls.wrap_socket(peer.connection, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            peer.connection = secured
            is_dropped = peer not in self._peers or self._stop.is_set()
        if is_dropped:  # that was of the plain socket, which is no more
            raise OSError("dropped")
        secured.settimeout(GREET_SECONDS)
        try:
            secured.do_handshake()
        except OSError as error:
            with self._lock:
                is_dropped = peer not in self._peers or self._stop.is_set()
            if not is_dropped:  # its place was not given away meanwhile
                self.on_unsafe(peer.address, words_of(error))
            raise

    def _answer_all(self, peer: _Peer) -> None:
        frames = Frames(peer.connection, self.intake.most_bytes, MESSAGE_SECONDS)
        while not self._stop.is_set():
            try:
                message = frames.next(None)
            except TooLong as error:
                self._send(peer, self.intake.refuse_long(error.head, peer.address))
                raise
            if message is None:
                return
            peer.is_busy = True
            self._send(peer, self.intake.answer(message, peer.address))
            peer.since, peer.is_busy = time.monotonic(), False

    def _send(self, peer: _Peer, answers: list[bytes]) -> None:
        """Answers in order; their peer takes them in its time.

        Raises:
            OSError: it does not.
        """
        peer.connection.settimeout(MESSAGE_SECONDS)
        for one in answers:
            peer.connection.sendall(framed(one))
