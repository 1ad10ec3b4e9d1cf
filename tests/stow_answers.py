"""A DICOMweb server that answers as it is told: whole answers, broken ones, and those of a seeded chance.

No test stands here.
"""

import gzip
import json
import random
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

FAILED, STORED, REFERENCED, REASON = "00081198", "00081199", "00081155", "00081197"
JSON, XML = "application/dicom+json", "application/dicom+xml"
LOGIN = b"<!DOCTYPE html><html><body><form action='/login'>Please log in</form></body></html>"


def answer(status: int, body: bytes = b"", kind: str | None = JSON, *headers: str) -> bytes:
    """An HTTP answer as it goes over the network."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close", *headers]
    if kind is not None:
        lines.append(f"Content-Type: {kind}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def item(uid: str, reason: object = None) -> dict[str, object]:
    made: dict[str, object] = {REFERENCED: {"vr": "UI", "Value": [uid]}}
    return made if reason is None else {**made, REASON: {"vr": "US", "Value": [reason]}}


def body_of(stored: list[dict[str, object]], failed: list[dict[str, object]]) -> bytes:
    return json.dumps({FAILED: {"vr": "SQ", "Value": failed}, STORED: {"vr": "SQ", "Value": stored}}).encode()


def xml_of(uid: str, tag: str = STORED) -> bytes:
    """The standard's XML model, with one item in a sequence."""
    value = f'<DicomAttribute tag="{REFERENCED}" vr="UI"><Value number="1">{uid}</Value></DicomAttribute>'
    return (
        '<?xml version="1.0" encoding="utf-8"?><NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">'
        f'<DicomAttribute tag="{tag}" vr="SQ"><Item number="1">{value}</Item></DicomAttribute></NativeDicomModel>'
    ).encode()


Post = Callable[[str], bytes]
"""UID of the report → the answer to its STOW-RS."""
Find = Callable[[str], bytes]
"""The address that is asked for (QIDO-RS) → the answer."""


def finds_nothing(_: str) -> bytes:
    return answer(204, b"", None)


class Server:
    """One thread; each connection is one exchange."""

    def __init__(self, post: Post, find: Find = finds_nothing) -> None:
        self.post, self.find = post, find
        self.posted: list[str] = []
        self.paths: list[str] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/dicom-web"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(10)
                connection.sendall(self._answer(connection))

    def _answer(self, connection: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(2**16)
            if not piece:
                return b""
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        path = head.split(b" ")[1].decode()
        self.paths.append(path)
        if head.startswith(b"GET"):
            return self.find(path)
        length = int(re.findall(rb"(?i)content-length: (\d+)", head)[0])
        while len(body) < length:
            body += connection.recv(2**16)
        uid = uid_in(body)
        self.posted.append(uid)
        return self.post(uid)

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


def uid_in(body: bytes) -> str:
    """The SOP Instance UID of the one object in a request, which is explicit little endian."""
    at = body.index(b"\x08\x00\x18\x00UI", body.index(b"\x08\x00\x16\x00UI"))
    length = int.from_bytes(body[at + 6 : at + 8], "little")
    return body[at + 8 : at + 8 + length].decode().rstrip("\0")


@contextmanager
def stow_server(post: Post, find: Find = finds_nothing) -> Iterator[Server]:
    made = Server(post, find)
    try:
        yield made
    finally:
        made.close()


def found(uid: str) -> bytes:
    """QIDO-RS: the server has this instance."""
    return answer(200, json.dumps([{"00080018": {"vr": "UI", "Value": [uid]}}]).encode())


def chunked(body: bytes, kind: str = JSON) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n"
    return head.encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def packed(data: bytes) -> bytes:
    return answer(200, gzip.compress(data), JSON, "Content-Encoding: gzip")


def drawn(uid: str, chance: random.Random) -> tuple[bytes, bool]:
    """An answer to the STOW-RS of this instance, and whether it names it as stored by the standard's rules."""
    good = body_of([item(uid)], [])
    other = f"{uid[:-1]}{(int(uid[-1]) + 1) % 10}"
    status = chance.choice((200, 200, 202, 204, 301, 302, 307, 400, 401, 404, 409, 413, 500, 503, 999))
    forms: list[Callable[[], tuple[bytes, bool]]] = [
        lambda: (answer(200, good), True),
        lambda: (chunked(good), True),
        lambda: (packed(good), True),
        lambda: (answer(200, xml_of(uid), XML), True),
        lambda: (answer(status, good), status in (200, 202)),
        lambda: (answer(status, b""), False),
        lambda: (answer(status, LOGIN, "text/html"), False),
        lambda: (answer(status, b"", JSON, "Location: http://127.0.0.1:9/login"), False),
        lambda: (answer(200, body_of([item(other)], [])), False),
        lambda: (answer(200, body_of([], [])), False),
        lambda: (answer(200, body_of([item(uid)], [item(uid, 0x0110)])), False),
        lambda: (answer(409, body_of([], [item(uid, chance.choice((0xA700, 0x0110, "x", None, 0xA701)))])), False),
        lambda: (answer(200, chance.choice((b"{}", b"[]", b"null", b"1", b'""', b"[" * 9000, b'{"a":' * 9000))), False),
        lambda: (answer(200, good, chance.choice(("text/html", "text/plain", "image/png", "", "x" * 999))), False),
        lambda: (answer(200, chance.randbytes(chance.randrange(500)), chance.choice((JSON, XML))), False),
        lambda: (packed(bytes(2**22)), False),
        lambda: (answer(200, gzip.compress(good)[:-9], JSON, "Content-Encoding: gzip"), False),
        lambda: (answer(200, good, JSON, "Content-Encoding: br"), False),
        lambda: (answer(200, bytes(2**21)), False),
        lambda: (answer(200, good)[: -chance.randrange(1, len(good))], False),
        lambda: (chunked(good)[: -chance.randrange(8, len(good))], False),
        lambda: (chance.randbytes(chance.randrange(300)), False),
        lambda: (b"", False),
        lambda: (answer(200, good.replace(b'"Value"', b'"value"')), False),
        lambda: (answer(200, good.replace(STORED.encode(), FAILED.encode()[:-1] + b"7")), False),
        lambda: (answer(200, b'{"00081199": {"Value": %b}}' % chance.choice((b"3", b"{}", b"[1]", b"[[]]"))), False),
        lambda: (answer(200, b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + xml_of(uid), XML), False),
        lambda: (answer(200, xml_of(uid, FAILED), XML), False),
        lambda: (answer(200, b"<a>" * 20_000, XML), False),
    ]
    return chance.choice(forms)()
