"""Peers that connect to `listen` and then say nothing, a byte a second, a half, or too much. No test stands here."""

import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from pynetdicom import AE

from archive_parts import association, study_film
from r2gengpt.clinical.archive.receive import silence_pynetdicom

KINDS = ("silent", "trickle", "half", "huge", "web", "bytes after half")


@cache
def request() -> bytes:
    """An A-ASSOCIATE-RQ as pynetdicom sends it."""
    silence_pynetdicom()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ae = AE(ae_title="SLOW")
        ae.acse_timeout = ae.connection_timeout = 10
        ae.add_requested_context("1.2.840.10008.1.1", "1.2.840.10008.1.2")
        port = listening.getsockname()[1]
        caller = threading.Thread(target=lambda: ae.associate("127.0.0.1", port, ae_title="R2GENGPT"))
        caller.start()
        with listening.accept()[0] as connection:
            data = connection.recv(6)
            (length,) = struct.unpack(">L", data[2:])
            while len(data) < 6 + length:
                data += connection.recv(2**16)
        caller.join()
    return data


def first_words(kind: str) -> bytes:
    """What a peer of this kind sends as it connects."""
    whole = request()
    return {
        "silent": b"", "trickle": whole[:1], "half": whole[: len(whole) // 2], "web": b"GET / HTTP/1.1\r\n\r\n",
        "huge": b"\x01\0\xff\xff\xff\xff" + whole[6:60], "bytes after half": whole[: len(whole) // 2],
        "idle": whole, "idle trickle": whole, "idle huge": whole,
    }[kind]  # fmt: skip


class Peer:
    """One slow peer; it connects again when it is sent away."""

    def __init__(self, port: int, kind: str) -> None:
        self.port, self.kind = port, kind
        self.sent = 0
        self.connection: socket.socket | None = None
        self.connect()

    def connect(self) -> None:
        self.close()
        self.connection = socket.create_connection(("127.0.0.1", self.port), 10)
        first = first_words(self.kind)
        self.sent = len(first)
        self.connection.settimeout(1)
        with suppress(OSError):  # the web is not waited for
            self.connection.sendall(first)
        if self.kind.startswith("idle"):
            with suppress(OSError):
                self.connection.recv(4096)
                self.connection.sendall({"idle huge": b"\x04\0\xff\xff\xff\xf0ab"}.get(self.kind, b""))
        self.connection.setblocking(False)

    def go_on(self) -> None:
        """A second has passed."""
        assert self.connection is not None
        with suppress(OSError):
            if self.kind in ("trickle", "bytes after half"):
                self.sent += self.connection.send(request()[self.sent : self.sent + 1])
            elif self.kind == "idle trickle":
                self.connection.send(b"\x04\0\0\0\x50\0\0\0\0\x4c\1\3"[self.sent % 12 : self.sent % 12 + 1])
                self.sent += 1

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()


class Peers:
    """Many of them, in one thread."""

    def __init__(self, port: int, count: int, kinds: tuple[str, ...]) -> None:
        self.peers = [Peer(port, kinds[number % len(kinds)]) for number in range(count)]
        self.again = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        ticked = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for peer in self.peers:
                assert peer.connection is not None
                selector.register(peer.connection, selectors.EVENT_READ, peer)
            while not self._stop.is_set():
                for key, _ in selector.select(0.1):
                    self._answer(selector, key.data)
                if time.monotonic() - ticked > 1:
                    ticked = time.monotonic()
                    for peer in self.peers:
                        peer.go_on()

    def _answer(self, selector: selectors.BaseSelector, peer: Peer) -> None:
        assert peer.connection is not None
        try:
            data = peer.connection.recv(4096)
        except OSError:
            data = b""
        if data:
            return
        selector.unregister(peer.connection)
        self.again += 1
        self._stop.wait(0.002)  # nobody can come back more often than some hundred times a second
        try:
            peer.connect()
        except ConnectionError:  # refused: the listener has ended; reset: it ended with this peer in its backlog
            return
        selector.register(peer.connection, selectors.EVENT_READ, peer)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for peer in self.peers:
            peer.close()


@contextmanager
def slow_peers(port: int, count: int, kinds: tuple[str, ...] = KINDS) -> Iterator[Peers]:
    peers = Peers(port, count, kinds)
    try:
        yield peers
    finally:
        peers.close()


def seconds_of_a_good_one(port: int, number: int) -> float:
    """How long a sender takes from its connection until its film is stored."""
    film = study_film(number)
    begun = time.monotonic()
    with association(port, film, patience=30.0) as assoc:
        assert assoc.is_established, "was not let in"
        assert assoc.send_c_store(film).Status == 0
        return time.monotonic() - begun


def log_of(directory: Path) -> str:
    return (directory / "listen.log").read_text()
