"""Parts that the tests of MLLP share: orders, a sender of them, a intake of results. No test stands here."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from archive_parts import LONG
from r2gengpt.auditlog.log import AuditLog
from r2gengpt.clinical.hl7.book import OrderBook
from r2gengpt.clinical.hl7.intake import OrderIntake
from r2gengpt.clinical.hl7.listener import OrderListener

START, END = b"\x0b", b"\x1c\r"


def msh(control: str = "1", kind: str = "ORM^O01", version: str = "2.3.1", charset: str = "", more: str = "") -> str:
    """MSH; `more` is MSH-15 and MSH-16 with a separator between them."""
    return (
        f"MSH|^~\\&|RIS|HOSPITAL|AI|RADIOLOGY|20260301120000||{kind}|{control}|P|{version}|||{more or '|'}||{charset}"
    )


def order(
    accession: str = "A-1", *, control: str = "1", action: str = "NW", priority: str = "R", reason: str = "Cough",
    patient: str = "P-1", placer: str = "PL-1", kind: str = "ORM^O01", **more: str
) -> bytes:  # fmt: skip
    """An ORM whose accession number is in OBR-18."""
    reasons = f"|||||||||^^^^^{priority}||||^{reason}"
    segments = [
        msh(control, kind, **more),
        f"PID|1||{patient}^^^HOSPITAL||DOE^JANE||19700101|F",
        f"ORC|{action}|{placer}^RIS|F-{accession}^AI||||^^^^^{priority}",
        f"OBR|1|{placer}^RIS|F-{accession}^AI|71046^Chest|||||||||||||| {accession} {reasons}",
    ]
    return "".join(f"{one}\r" for one in segments).encode()


def imaging_order(accession: str = "A-1", *, control: str = "1", priority: str = "S", reason: str = "Cough") -> bytes:
    """An OMI whose accession number is in IPC-1."""
    segments = [
        msh(control, "OMI^O23^OMI_O23", "2.5.1", "UNICODE UTF-8"),
        "PID|1||P-1^^^HOSPITAL||DOE^JANE||19700101|F",
        "ORC|NW|PL-1^RIS",
        f"TQ1|1||||||||{priority}^x^HL70485",
        f"OBR|1|PL-1^RIS||71046^Chest|||||||||||||||||||||||||||I20^{reason}^I10",
        f"IPC|{accession}^RIS|RP-1^RIS|1.2.3|SPS-1^RIS",
    ]
    return "".join(f"{one}\r" for one in segments).encode()


def segments_of(answer: bytes) -> dict[str, list[str]]:
    """The segments of an answer by name, as fields; index 1 is field 1, but of MSH field 2."""
    return {line.split("|")[0]: line.split("|") for line in answer.decode("latin-1").split("\r") if line}


def code_of(answer: bytes) -> str:
    """MSA-1 and MSA-2."""
    return " ".join(segments_of(answer)["MSA"][1:3])


@contextmanager
def book_in(
    directory: Path, most: int = 1000, keep: float = 1000.0, clock: Callable[[], float] | None = None
) -> Iterator[OrderBook]:
    book = OrderBook(directory / "orders.sqlite", most, keep, clock or (lambda: 5000.0))
    try:
        yield book
    finally:
        book.close()


@contextmanager
def intake_in(directory: Path, most_bytes: int = 2**16, audit: AuditLog | None = None) -> Iterator[OrderIntake]:
    with book_in(directory) as book:
        yield OrderIntake(book, most_bytes, audit)


@contextmanager
def listener_in(
    directory: Path, most_peers: int = 4, most_bytes: int = 2**16, tls: object = None
) -> Iterator[OrderListener]:
    with intake_in(directory, most_bytes) as intake:
        listener = OrderListener("127.0.0.1", 0, intake, most_peers, tls)  # type: ignore[arg-type]
        try:
            yield listener
        finally:
            listener.close()


class Sender:
    """Who sends orders to a port, over one connection."""

    def __init__(self, port: int | None) -> None:
        assert port
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), LONG)
        self.rest = b""

    def __enter__(self) -> "Sender":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, message: bytes) -> bytes:
        """Send a message; the next answer."""
        self.socket.sendall(START + message + END)
        return self.read()

    def read(self) -> bytes:
        """The next answer; empty where the connection ends before."""
        while END not in self.rest:
            piece = self.read_some()
            if not piece:
                return b""
            self.rest += piece
        answer, _, self.rest = self.rest.partition(END)
        assert answer.startswith(START)
        return answer[1:]

    def read_some(self) -> bytes:
        try:
            return self.socket.recv(2**16)
        except ConnectionError:
            return b""

    def read_to_end(self) -> list[bytes]:
        """All answers until the connection ends."""
        answers = []
        while answer := self.read():
            answers.append(answer)
        return answers


def acknowledged(message: bytes, code: str = "AA", number: str = "") -> bytes:
    """An answer to a message."""
    control = message.split(b"|")[9].decode()
    error = f"ERR|||{number}|E\r" if number else ""
    return f"MSH|^~\\&|RIS||r2gengpt||20260301||ACK^R01^ACK|X|T|2.5.1\rMSA|{code}|{control}\r{error}".encode()


Answer = Callable[[bytes], bytes | None]
"""A message → what is sent back, unframed; None: the connection is ended without an answer."""


class ResultReceiver:
    """Who gets results: each message is kept, then answered; `hold` keeps answers back until it is set."""

    def __init__(self, answer: Answer = acknowledged) -> None:
        self.answer = answer
        self.messages: list[bytes] = []
        self.hold = threading.Event()
        self.hold.set()
        self._stop = False
        self._context: ssl.SSLContext | None = None
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._listening.getsockname()[1])

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _run(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            with connection:
                if self._stop:
                    return
                connection.settimeout(LONG)
                self._serve(connection)

    def secure(self, cert: Path, key: Path, ca: Path) -> None:
        """Speak TLS from now on, with peers of this authority."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(cert, key)
        self._context.load_verify_locations(ca)
        self._context.verify_mode = ssl.CERT_REQUIRED

    def _serve(self, connection: socket.socket) -> None:
        data = b""
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            while not data.endswith(END):
                piece = connection.recv(2**16)
                if not piece:
                    return
                data += piece
            message = data[1 : -len(END)]
            self.messages.append(message)
            self.hold.wait(LONG)
            answer = self.answer(message)
            if answer is not None:
                connection.sendall(START + answer + END)
        except OSError:
            return
        finally:
            with suppress(OSError):
                connection.close()

    def close(self) -> None:
        self._stop = True
        self.hold.set()
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join(LONG)
        self._listening.close()


@contextmanager
def result_receiver(answer: Answer = acknowledged) -> Iterator[ResultReceiver]:
    one = ResultReceiver(answer)
    try:
        yield one
    finally:
        one.close()
