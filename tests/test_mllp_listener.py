"""Connections of who sends orders: frames, limits, time, places, TLS; and messages that strangers break."""

import logging
import random
import socket
import ssl
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import r2gengpt.clinical.hl7.listener as listener_module
from archive_keys import NEEDS_OPENSSL, Keys
from archive_parts import LONG, wait_until
from mllp_parts import END, START, Sender, code_of, imaging_order, listener_in, order, segments_of
from r2gengpt.cli.commands.listen import warn_of_strangers
from r2gengpt.clinical.archive.ledger import accession_key
from r2gengpt.clinical.archive.tls import prompt_server_context
from r2gengpt.clinical.hl7.listener import OrderListener
from r2gengpt.clinical.hl7.mllp import Frames
from r2gengpt.errors import InputError
from r2gengpt.settings import ListenConfig, MllpConfig

SHORT, LONG_RUN = 200, 2000


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        one.getMessage() for one in caplog.records if one.name.startswith("r2gengpt") and one.levelno > logging.INFO
    ]


def test_orders_over_one_connection_are_answered_in_order(tmp_path: Path) -> None:
    with listener_in(tmp_path) as listener, Sender(listener.port) as sender:
        assert [code_of(sender.send(order(control=str(number)))) for number in range(5)] == [
            f"AA {number}" for number in range(5)
        ]
        sender.socket.sendall(b"".join(START + order(control=f"p{number}") + END for number in range(3)))
        assert [code_of(sender.read()) for _ in range(3)] == ["AA p0", "AA p1", "AA p2"]


def test_a_message_in_pieces_is_put_together(tmp_path: Path) -> None:
    with listener_in(tmp_path) as listener, Sender(listener.port) as sender:
        for piece in START + order() + END:
            sender.socket.sendall(bytes([piece]))
        assert code_of(sender.read()) == "AA 1"
        sender.socket.sendall(b"\r\n")
        assert code_of(sender.send(order(control="2"))) == "AA 2"


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "it sends something else than a frame of MLLP"),
        (START + b"PID|1" + END, "does not begin with MSH and a separator"),
        (START + END, "does not begin with MSH and a separator"),
        (START + b"MSH|^^^^|" + END, "MSH-2 does not name four or five different separators"),
        (START + order()[:40], "it ends within a message"),
    ],
    ids=["HTTP", "no header", "nothing", "wrong separators", "cut off"],
)
def test_what_is_no_message_ends_its_connection_with_one_line(
    sent: bytes, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with listener_in(tmp_path) as listener:
        for _ in range(3):
            with Sender(listener.port) as sender:
                sender.socket.sendall(sent)
                sender.socket.shutdown(socket.SHUT_WR)
                assert sender.read_to_end() == []
        assert lines_of(caplog) == [f"an MLLP connection was ended: {words}"]
        with Sender(listener.port) as sender:
            assert code_of(sender.send(order())) == "AA 1"


def test_a_message_that_is_too_long_is_rejected_and_its_connection_ended(tmp_path: Path) -> None:
    with listener_in(tmp_path, most_bytes=2000) as listener, Sender(listener.port) as sender:
        assert code_of(sender.send(order(control="fits"))) == "AA fits"
        sender.socket.sendall(START + order(control="long") + b"NTE|1||" + b"x" * 2000)
        answer = segments_of(sender.read())
        assert answer["MSA"][1:] == ["AR", "long", "MSH: the message has more than 2000 bytes"]
        assert sender.read() == b""


@pytest.mark.parametrize("text", ["Co\x0bugh", "\x0bCo ugh", "Co\x0b\x0bugh\x0b", "Co \x0bMS\x0b ugh"])
def test_the_sign_of_a_beginning_within_a_text_is_a_blank(text: str, tmp_path: Path) -> None:
    with listener_in(tmp_path) as listener, Sender(listener.port) as sender:
        assert code_of(sender.send(order(reason=text))) == "AA 1"
        found = listener.intake.book.order_of(accession_key("A-1"))
        assert found is not None
        assert found.indication == " ".join(text.replace("\x0b", " ").split())


def test_a_message_that_is_begun_anew_is_read_from_there(tmp_path: Path) -> None:
    with listener_in(tmp_path) as listener, Sender(listener.port) as sender:
        sender.socket.sendall(START + order(control="1")[:70])
        assert code_of(sender.send(order(control="2"))) == "AA 2"
        assert code_of(sender.send(order(control="3"))) == "AA 3"


def test_the_limit_of_a_message_is_exact(tmp_path: Path) -> None:
    for more, code in ((0, "AA 1"), (1, "AR 1")):
        with listener_in(tmp_path, most_bytes=len(order())) as listener, Sender(listener.port) as sender:
            assert code_of(sender.send(order() + b"\r" * more)) == code


@pytest.mark.parametrize("last", [0, 1, 2, 3])
def test_the_limit_of_a_message_is_the_same_however_its_bytes_come(last: int) -> None:
    data = START + order() + END
    pieces = [piece for piece in (data[: len(data) - last], data[len(data) - last :]) if piece]
    connection: Any = SimpleNamespace(settimeout=lambda _: None, recv=lambda _: pieces.pop(0))
    assert Frames(connection, len(order()), LONG).next(None) == order()


def test_a_message_that_does_not_come_in_its_time_ends_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener_module, "MESSAGE_SECONDS", 0.2)
    with listener_in(tmp_path) as listener, Sender(listener.port) as sender:
        sender.socket.sendall(START + order()[:40])
        assert sender.read_to_end() == []
    assert "takes too long" in caplog.text


def test_where_all_places_are_taken_the_one_that_was_answered_longest_ago_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "IDLE_SECONDS", 0.0)
    with (
        listener_in(tmp_path, most_peers=2) as listener,
        Sender(listener.port) as first,
        Sender(listener.port) as second,
    ):
        assert code_of(second.send(order(control="s"))) == "AA s"
        assert code_of(first.send(order(control="f"))) == "AA f"
        with Sender(listener.port) as third:
            assert code_of(third.send(order(control="t"))) == "AA t"
            assert second.read() == b""
            assert code_of(first.send(order(control="g"))) == "AA g"


def test_many_silent_peers_leave_a_place_for_a_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "IDLE_SECONDS", 0.0)
    with listener_in(tmp_path, most_peers=4) as listener:
        crowd = [Sender(listener.port) for _ in range(40)]
        with Sender(listener.port) as sender:
            assert code_of(sender.send(order())) == "AA 1"
        for one in crowd:
            one.socket.close()
        wait_until(lambda: not listener._peers)


def test_a_connection_that_gets_no_thread_takes_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "orders of a peer":
            raise RuntimeError("can't start new thread")
        start(thread)

    with listener_in(tmp_path) as listener:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with Sender(listener.port) as sender:
            assert sender.read() == b""
        monkeypatch.undo()
        assert not listener._peers
        with Sender(listener.port) as sender:
            assert code_of(sender.send(order())) == "AA 1"


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with listener_in(tmp_path) as listener, pytest.raises(InputError, match="mllp_port"):
        OrderListener("127.0.0.1", listener.port, listener.intake, 1)


def test_closing_ends_connections_and_their_threads(tmp_path: Path) -> None:
    with listener_in(tmp_path) as listener:
        sender = Sender(listener.port)
        assert code_of(sender.send(order())) == "AA 1"
    with sender:
        assert sender.read() == b""
    assert not listener._peers


def send_by(sender: Sender, context: ssl.SSLContext) -> bytes:
    """An order by TLS; the answer."""
    sender.socket = context.wrap_socket(sender.socket, server_hostname="127.0.0.1")
    return sender.send(order())


@NEEDS_OPENSSL
def test_orders_come_in_by_tls_from_who_has_a_certificate_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = Keys(tmp_path / "keys")
    context = prompt_server_context(ListenConfig(**keys.settings()))
    with listener_in(tmp_path, tls=context) as listener:
        for _ in range(2):
            with Sender(listener.port) as sender:
                assert code_of(send_by(sender, keys.context(keys.client))) == "AA 1"
        with Sender(listener.port) as sender, pytest.raises(ssl.SSLError):
            send_by(sender, keys.context(keys.stranger))
        with Sender(listener.port) as sender:
            assert b"MSA" not in sender.send(order())
        wait_until(lambda: not listener._peers)
    assert lines_of(caplog)[0].startswith("an MLLP connection was ended: TLS: ")


@NEEDS_OPENSSL
def test_a_handshake_that_is_not_done_in_its_time_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "GREET_SECONDS", 0.2)
    keys = Keys(tmp_path / "keys")
    context = prompt_server_context(ListenConfig(**keys.settings()))
    with listener_in(tmp_path, tls=context) as listener, Sender(listener.port) as sender:
        assert sender.read() == b""


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A message with one to four faults of the kinds that engines, networks and enemies make."""
    body = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(body)) if chance.random() < 0.5 else chance.randrange(min(len(body), 90))
        kind = chance.randrange(8)
        if kind == 0:
            body[at] = chance.randrange(256)
        elif kind == 1:
            body[at:at] = chance.choice(
                (b"|", b"^", b"~", b"\\", b"&", b"\r", b"\n", START, END, b"\0", b"\xff", b'""')
            )
        elif kind == 2:
            del body[at : at + chance.randint(1, 40)]
        elif kind == 3:
            body[at:at] = chance.randbytes(chance.randint(1, 40))
        elif kind == 4:
            body[at:at] = body[at : at + 200]
        elif kind == 5:
            body[at:at] = chance.choice((b"|" * 400, b"\r" * 400, b"~" * 400, b"\\X" * 400, b"\\X00" * 400, b"9" * 400))
        elif kind == 6:
            lines = bytes(body).split(b"\r")
            chance.shuffle(lines)
            body = bytearray(b"\r".join(lines))
        elif at > 20:
            del body[at:]
        body = body or bytearray(b"M")
    return bytes(body)


def fuzz(directory: Path, count: int, seed: int, caplog: pytest.LogCaptureFixture) -> Counter[str]:
    """Broken messages, a connection each: every one is answered, asks for no answer, or has its connection ended."""
    chance, found = random.Random(seed), Counter[str]()
    seeds = [order(), imaging_order(), order(version="2.5.1", more="AL|AL"), order(action="CA", control="2")]
    with listener_in(directory, most_bytes=5000) as listener:
        for number in range(count):
            data = mutated(seeds[number % len(seeds)], chance)
            with Sender(listener.port) as sender:
                sender.socket.sendall(START + data + (END if chance.random() < 0.95 else b""))
                sender.socket.shutdown(socket.SHUT_WR)
                answers = sender.read_to_end()
            assert len(answers) <= 2 * (1 + data.count(END)), data
            for answer in answers:
                code = segments_of(answer)["MSA"][1]
                assert code in ("AA", "AE", "AR", "CA", "CE", "CR"), data
            found[segments_of(answers[0])["MSA"][1] if answers else "ended"] += 1
            if number % 20 == 0:
                with Sender(listener.port) as good:
                    assert code_of(good.send(order(control="good"))) == "AA good"
        assert listener._thread.is_alive()
    faults = [line for line in lines_of(caplog) if "Error at" in line or "could not be kept" in line]
    assert faults == []
    assert not [line for line in lines_of(caplog) if "\n" in line or "DOE" in line or "Cough" in line]
    return found


def test_broken_messages_are_answered_or_their_connection_is_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = fuzz(tmp_path, SHORT, 3, caplog)
    assert min(found[code] for code in ("AA", "AE", "AR", "ended")) > 5, found


@pytest.mark.drill
def test_two_thousand_broken_messages_are_answered_or_their_connection_is_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    print(fuzz(tmp_path, LONG_RUN, 4, caplog))  # for who runs the drill with -s


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mllp": "ris"}, "must be like ris.example:2575"), ({"mllp": "ris:0"}, "must be like"),
        ({"mllp": "ris:70000"}, "must be like"), ({"mllp": ":1"}, "must be like"), ({"mllp_port": -1}, "at least 0"),
        ({"mllp": "http://ris:1"}, "must be like"), ({"keep_orders_seconds": 0.0}, "above"),
        ({"max_orders": 0}, "least"),
        ({"max_message_bytes": 1}, "at least"), ({"mllp_tls": False}, "has an effect"),
        ({"mllp_receiver": "A|B"}, "APPLICATION"), ({"mllp_receiver": "A^B^C"}, "APPLICATION"),
        ({"mllp_receiver": "A&B"}, "APPLICATION"), ({"mllp_receiver": "\u00e4"}, "APPLICATION"),
        ({"mllp_receiver": "A^B"}, "has an effect with"), ({"mllp_port": 11112}, "is the port of films too"),
    ],
)  # fmt: skip
def test_settings_of_mllp_that_cannot_be_meant_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        MllpConfig(**changes).check_with(ListenConfig())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("listen", "mllp", "words"),
    [
        ({}, {"mllp_port": 1}, ""),
        ({"bind": "0.0.0.0"}, {"mllp_port": 1}, "send orders"),
        ({"bind": "0.0.0.0", "tls_cert": "c", "tls_key": "k"}, {"mllp_port": 1}, "send orders"),
        ({"bind": "0.0.0.0", "tls_cert": "c", "tls_key": "k", "tls_ca": "a"}, {"mllp_port": 1}, ""),
        ({"bind": "0.0.0.0", "tls_cert": "c", "tls_key": "k", "tls_ca": "a"}, {"mllp_port": 1, "mllp_tls": False},
         "send orders"),
        ({"bind": "0.0.0.0", "allowed_aets": ("A",)}, {}, ""),
    ],
)  # fmt: skip
def test_a_port_of_orders_that_strangers_reach_is_warned_of(
    listen: dict[str, Any], mllp: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_strangers(ListenConfig(allowed_aets=listen.pop("allowed_aets", ("A",)), **listen), MllpConfig(**mllp))
    assert (words in caplog.text) if words else caplog.text == ""


def test_a_peer_of_tls_needs_an_authority() -> None:
    settings = ListenConfig(tls_cert="c", tls_key="k")
    with pytest.raises(InputError, match="tls_ca is missing"):
        MllpConfig(mllp="ris:2575").check_with(settings)
    MllpConfig(mllp="ris:2575", mllp_tls=False).check_with(settings)
    MllpConfig(mllp_port=2575).check_with(settings)
    assert MllpConfig(mllp="[::1]:2575").peer == ("::1", 2575)
    assert LONG > listener_module.MESSAGE_SECONDS
