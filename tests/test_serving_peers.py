"""The server among peers that are idle, slow, or too many: good requests go on, and the log stays readable."""

import json
import logging
import random
import re
import select
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from r2gengpt.errors import InputError
from r2gengpt.reporter import Reporter
from r2gengpt.serving import connections, uploads
from r2gengpt.serving.connections import network_of
from r2gengpt.serving.failures import LineLimit
from r2gengpt.serving.server import peers_of
from r2gengpt.settings import ServeConfig
from r2gengpt.verdicts.address import opened_store
from serving_parts import LONG, busy, film, running_server, upload, wait_for

REPORTS = "/v1/reports"
HEAD = b"POST /v1/reports HTTP/1.1\r\nHost: 127.0.0.1\r\n"
BODY = HEAD + b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000000\r\n\r\n--x\r\n"
CHUNKED = HEAD + b"Content-Type: multipart/form-data; boundary=x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n--x\r\n\r\n"
KINDS = {
    "idle": b"",
    "half a head": HEAD,
    "half a body": BODY,
    "half a chunked body": CHUNKED,
    "a page that is not read": b"GET /page/page.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 20,
    "a body that nobody reads": b"PUT /health HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\nabc",
    "no HTTP": b"\x16\x03\x01\x02\x00",
}


def connect(address: str) -> socket.socket:
    where = urlsplit(address)
    found = socket.create_connection((where.hostname, where.port), LONG)
    return found


def read_to_end(connection: socket.socket) -> bytes:
    """What the server sends until it closes the connection."""
    held = b""
    try:
        while piece := connection.recv(65536):
            held += piece
    except ConnectionResetError:
        pass
    return held


@contextmanager
def bad_peers(address: str, count: int, seed: int) -> Iterator[None]:
    """Peers of all kinds that send a byte now and then, and come again when they are closed."""
    rng, ended = random.Random(seed), threading.Event()
    kinds = [KINDS[rng.choice(list(KINDS))] for _ in range(count)]
    open_ones = [(connect(address), kind) for kind in kinds]

    def trickle() -> None:
        while not ended.wait(0.05):
            for at in rng.sample(range(count), max(count // 20, 1)):
                peer, kind = open_ones[at]
                try:
                    peer.sendall(b"a" if kind else b"")
                except OSError:
                    peer.close()
                    open_ones[at] = (connect(address), kind)
                    open_ones[at][0].sendall(kind)

    for peer, kind in open_ones:
        try:
            peer.sendall(kind)
        except OSError:
            continue  # it had to make room already
    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(LONG)
        for peer, _ in open_ones:
            peer.close()


def seconds_of(address: str, count: int) -> list[float]:
    """Seconds of good requests, one after another, each on a connection of its own."""
    times = []
    for seed in range(count):
        began = time.perf_counter()
        answer = httpx2.post(f"{address}{REPORTS}", files=upload(film(seed)), timeout=LONG)
        times.append(time.perf_counter() - began)
        assert answer.status_code == 200, answer.text
    return times


def check_good_requests_go_on(address: str, count: int, requests: int, seed: int) -> None:
    seconds_of(address, 3)
    quiet = statistics.median(seconds_of(address, requests))
    with bad_peers(address, count, seed):
        crowded = seconds_of(address, requests)
        assert httpx2.get(f"{address}/health", timeout=LONG).status_code == 200
    assert statistics.median(crowded) < 2 * quiet + 0.02, (quiet, crowded)


def test_good_requests_go_on_among_idle_and_slow_peers(served: Reporter) -> None:
    with running_server(served, max_connections_each=24, slots=2, queue_size=2) as (address, _):
        check_good_requests_go_on(address, 60, 8, seed=0)


@pytest.mark.drill
def test_good_requests_go_on_among_five_hundred_idle_and_slow_peers(tiny_checkpoint: Path) -> None:
    code = "from r2gengpt.cli.main import main; main()"
    command = [sys.executable, "-c", code, "serve", "--port", "0", "--model", str(tiny_checkpoint)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            address = re.findall(r"http://\S+", process.stdout.readline())[0]
            for line in process.stderr:
                if line == "ready\n":
                    break
            check_good_requests_go_on(address, 500, 40, seed=1)
            process.terminate()
            lines = process.stderr.read()
            assert process.wait(60) == 0
            assert len(lines) < 200_000
            assert "Traceback" not in lines
        finally:
            process.kill()


@pytest.mark.parametrize("kind", ["idle", "half a head", "a body that nobody reads"])
def test_a_peer_that_sends_no_whole_request_in_time_is_closed(
    served: Reporter, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    with running_server(served) as (address, _), closing(connect(address)) as peer:
        peer.sendall(KINDS[kind])
        answer = read_to_end(peer)
    assert answer.startswith(b"HTTP/1.1 405") if kind.startswith("a body") else answer == b""


REST = 40 * 2**16
"""Bytes of a body that nobody reads."""


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("POST /v1/reports HTTP/1.1\r\nContent-Type: text/plain\r\n", b"415"),
        ("POST /v1/reports HTTP/1.1\r\nOrigin: http://elsewhere.example\r\n", b"403"),
        ("POST /v1/reports HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=x\r\n", b"413"),
        ("PUT /health HTTP/1.1\r\n", b"405"),
        ("PUT /health HTTP/1.1\r\nConnection: close\r\n", b"405"),
    ],
)
def test_a_client_that_sends_all_before_it_reads_has_an_early_refusal_however_slow_it_is(
    served: Reporter, monkeypatch: pytest.MonkeyPatch, head: str, status: bytes
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.4)
    with running_server(served, max_body_mb=1) as (address, _), closing(connect(address)) as peer:
        peer.sendall(f"{head}Host: 127.0.0.1\r\nContent-Length: {REST}\r\n\r\n".encode())
        for _ in range(40):
            peer.sendall(b"a" * 2**16)
            time.sleep(0.02)
        assert peer.recv(65536).split()[1] == status


def send_until_it_is_closed(peer: socket.socket, piece: bytes) -> None:
    for _ in range(int(LONG / 0.01)):
        try:
            peer.sendall(piece)
        except ConnectionError:
            return
        time.sleep(0.01)
    raise AssertionError("the server takes what nobody reads")


@pytest.mark.parametrize("head", ["PUT /health HTTP/1.1\r\n", "PUT /health HTTP/1.1\r\nConnection: close\r\n"])
def test_what_comes_after_a_refusal_may_not_trickle(
    served: Reporter, monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    with running_server(served) as (address, _), closing(connect(address)) as peer:
        peer.sendall(f"{head}Host: 127.0.0.1\r\nContent-Length: {REST}\r\n\r\n".encode())
        send_until_it_is_closed(peer, b"a")
        wait_for(lambda: httpx2.get(f"{address}/health", timeout=LONG).status_code == 200)


def test_what_comes_after_a_refusal_ends_in_time_however_fast_it_comes(
    served: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REST_SECONDS", 0.3)
    with running_server(served) as (address, _), closing(connect(address)) as peer:
        peer.sendall(b"PUT /health HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000000\r\n\r\n")
        send_until_it_is_closed(peer, b"a" * 2**14)


def test_a_server_that_ends_waits_for_no_rest_of_a_refused_body(served: Reporter) -> None:
    with closing(socket.socket()) as peer:
        with running_server(served) as (address, _):
            where = urlsplit(address)
            peer.connect((where.hostname, where.port))
            peer.sendall(b"PUT /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 9\r\n\r\n")
            assert read_to_end(peer).startswith(b"HTTP/1.1 405")
            began = time.perf_counter()
        assert time.perf_counter() - began < connections.HEAD_SECONDS / 2


def test_a_head_that_trickles_is_no_reason_to_wait_longer(served: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    with running_server(served) as (address, _), closing(connect(address)) as peer:
        peer.settimeout(0.02)
        for _ in range(int(LONG / 0.02)):
            try:
                peer.sendall(b"T")
                if not peer.recv(10):
                    return
            except TimeoutError:
                continue
            except OSError:
                return
    raise AssertionError("the server waits for a head that trickles")


@pytest.mark.parametrize("kind", ["half a body", "half a chunked body"])
def test_a_body_that_comes_too_slowly_is_refused_and_takes_no_place(
    served: Reporter, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(uploads, "BODY_GRACE", 0.3)
    with running_server(served) as (address, generator), closing(connect(address)) as peer:
        peer.sendall(KINDS[kind])
        answer = read_to_end(peer)
        assert generator.line.taken == 0
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"the body comes too slowly" in answer


def test_bodies_under_way_take_no_places_and_no_more_memory_than_there_is(served: Reporter) -> None:
    """There is room for one body of 1 MiB; of two that are larger than half of it, one is told to come again."""
    with running_server(served, slots=1, queue_size=0, max_body_mb=1) as (address, generator), ExitStack() as stack:
        peers = [stack.enter_context(closing(connect(address))) for _ in range(6)]
        for peer in peers:
            peer.sendall(BODY.replace(b"reports", b"chat/completions"))
        assert seconds_of(address, 1)
        assert generator.line.taken == 0
        for peer in peers[:2]:
            peer.sendall(b"a" * 600_000)
        (refused, *_), _, _ = select.select(peers, [], [], LONG)
        assert refused in peers[:2]
        assert read_to_end(refused).startswith(b"HTTP/1.1 429")
        for peer in peers:
            peer.close()
        wait_for(lambda: httpx2.post(f"{address}{REPORTS}", files=upload(film()), timeout=LONG).status_code == 200)


@pytest.mark.parametrize("route", ["pdf", "verdicts"])
def test_bodies_that_take_no_place_count_among_all_bodies(served: Reporter, tmp_path: Path, route: str) -> None:
    """There is room for 1 MiB in all; of three bodies of 400 kB the last is told to come again."""
    with ExitStack() as stack:
        store = stack.enter_context(closing(opened_store(str(tmp_path / "verdicts.db"))))
        limits: dict[str, Any] = {"slots": 1, "queue_size": 0, "max_body_mb": 1}
        address, _ = stack.enter_context(running_server(served, verdicts=store, **limits))
        peers = [stack.enter_context(closing(connect(address))) for _ in range(3)]
        for peer in peers:
            peer.sendall(BODY.replace(b"reports", route.encode()).replace(b"1000000", b"500000") + b"a" * 400_000)
        (refused, *_), _, _ = select.select(peers, [], [], LONG)
        assert read_to_end(refused).startswith(b"HTTP/1.1 429")
        for peer in peers:
            peer.close()
        wait_for(lambda: httpx2.post(f"{address}/v1/pdf", json={"report": "x"}, timeout=LONG).status_code == 200)


def test_a_peer_that_does_not_read_is_closed(served: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WRITE_SECONDS", 0.3)
    with running_server(served) as (address, _), closing(socket.socket()) as peer:
        where = urlsplit(address)
        peer.settimeout(LONG)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # before it connects: no window shrinks
        peer.connect((where.hostname, where.port))
        try:
            for _ in range(400_000):
                peer.sendall(b"GET /page/page.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        except ConnectionError:
            return  # the server has closed it
    raise AssertionError("the server waits for a peer that does not read")


def test_where_all_connections_are_at_work_another_is_told_to_come_again(served: Reporter) -> None:
    with (
        running_server(served, max_connections_each=4) as (address, generator),
        ThreadPoolExecutor(4) as pool,
        busy(generator),
    ):
        waiting = [
            pool.submit(httpx2.post, f"{address}{REPORTS}", files=upload(film(seed)), timeout=LONG) for seed in range(4)
        ]
        wait_for(lambda: generator.line.waiting == 4)
        with closing(connect(address)) as peer:
            answer = read_to_end(peer)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503")
        assert b"Retry-After: 1" in head
        assert json.loads(body)["error"]["code"] == "too_many_connections"
    assert [one.result(LONG).status_code for one in waiting] == [200] * 4


def test_the_peer_that_has_waited_longest_makes_room(served: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_COMES", 0.0)
    with running_server(served, max_connections_each=4) as (address, _), ExitStack() as stack:
        peers = [stack.enter_context(closing(connect(address))) for _ in range(4)]
        peers[0].sendall(BODY)  # a body that is under way stays longer than an idle peer
        for peer in peers[2:]:
            peer.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert peer.recv(65536)
        stack.enter_context(closing(connect(address)))
        assert read_to_end(peers[1]) == b""
        for peer in peers[2:]:
            peer.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert peer.recv(65536)


def test_a_new_peer_stays_where_all_others_send_slow_bodies(served: Reporter) -> None:
    """Its head has had no time to come yet, so it is no idle one: the oldest body makes room for the next."""
    with running_server(served, max_connections_each=4) as (address, _), ExitStack() as stack:
        peers = [stack.enter_context(closing(connect(address))) for _ in range(3)]
        for peer in peers:
            peer.sendall(CHUNKED)
        wait_for(lambda: httpx2.get(f"{address}/health", timeout=LONG).status_code == 200)
        new = stack.enter_context(closing(connect(address)))
        stack.enter_context(closing(connect(address)))
        assert read_to_end(peers[0]) == b""
        new.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert new.recv(65536).startswith(b"HTTP/1.1 200")


NO_HTTP = (
    b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/9\r\n\r\n",
    b"a" * 70_000,
)


@pytest.mark.parametrize("sent", NO_HTTP)
def test_what_is_no_http_is_refused_in_the_shape_of_other_refusals(served: Reporter, sent: bytes) -> None:
    with running_server(served) as (address, _), closing(connect(address)) as peer:
        peer.sendall(sent)
        head, _, body = read_to_end(peer).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    assert b"X-Notice" in head


def test_what_is_no_http_behind_an_answer_under_way_ends_the_connection(served: Reporter) -> None:
    with running_server(served) as (address, _), closing(connect(address)) as peer:
        peer.sendall(CHUNKED.replace(b"POST /v1/reports", b"PUT /health") + b"zz\r\n")
        assert read_to_end(peer).startswith((b"HTTP/1.1 405", b"HTTP/1.1 400"))
        assert httpx2.get(f"{address}/health").status_code == 200


@pytest.mark.parametrize(
    ("peername", "network"),
    [
        (("10.0.0.1", 5), "10.0.0.1"),
        (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1"),
        (("2001:db8::1:2:3:4", 5, 0, 0), "2001:db8::/64"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::/64"),
        (None, "other"),
        ("/run/socket", "other"),
    ],
)
def test_addresses_of_one_owner_count_as_one_peer(peername: object, network: str) -> None:
    assert network_of(peername) == network


def test_a_flood_of_log_lines_is_cut_and_counted() -> None:
    now = [0.0]
    limit = LineLimit(each_second=10, at_once=20, now=lambda: now[0])

    def shown(text: str) -> str | None:
        record = logging.LogRecord("r2gengpt.serving", logging.INFO, "", 0, "%s", (text,), None)
        return record.getMessage() if limit.filter(record) else None

    assert [shown("a") for _ in range(100)] == ["a"] * 20 + [None] * 80
    now[0] = 1.0
    lines = [shown("b") for _ in range(100)]
    assert lines[0] == "b (80 lines before it were left out)"
    assert lines[1:] == ["b"] * 9 + [None] * 90


def test_a_librarys_line_is_one_line_without_what_an_error_holds() -> None:
    try:
        raise InputError("Doe^Jane")
    except InputError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("asyncio", logging.ERROR, "", 0, "Fatal error\nprotocol: %s", ("x",), info)
    assert LineLimit().filter(record)
    text = logging.Formatter("%(message)s").format(record)
    assert re.fullmatch(r"Fatal error: InputError at test_serving_peers.py:\d+", text)


def test_a_server_shows_libraries_lines_by_its_own_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    from r2gengpt.cli.console import start_logging
    from r2gengpt.serving.failures import limit_lines

    lines: list[str] = []
    start_logging(libraries=False)
    limit_lines()
    (handler,) = logging.getLogger("r2gengpt").handlers
    monkeypatch.setattr(handler, "emit", lambda record: lines.append(record.getMessage()))
    for _ in range(1000):
        logging.getLogger("asyncio").error("socket.accept() out of system resource")
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    assert 200 <= len(lines) < 300


def wire(rng: random.Random) -> bytes:
    """A request as bytes, broken somewhere: bytes changed, cut out, doubled, or two requests in one."""
    whole = rng.choice([kind for kind in KINDS.values() if kind]) + rng.choice(
        [b"", b"\r\n\r\n", b"0\r\n\r\n", KINDS["idle"]]
    )
    changed = bytearray(whole * rng.choice((1, 1, 2)))
    for _ in range(rng.randint(0, 6)):
        at = rng.randrange(len(changed))
        kind = rng.randrange(3)
        if kind == 0:
            changed[at] = rng.randrange(256)
        elif kind == 1:
            del changed[at : at + rng.randint(1, 9)]
            changed += b"\n"
        else:
            changed[at:at] = rng.choice(
                [b"\r\n", b"\0", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n", b"%ff", b"\xff"]
            )
    return bytes(changed)


def check_fuzz(address: str, caplog: pytest.LogCaptureFixture, seed: int, count: int) -> None:
    rng = random.Random(seed)
    for _ in range(count):
        with closing(connect(address)) as peer:
            peer.sendall(wire(rng))
            peer.shutdown(socket.SHUT_WR)
            answer = read_to_end(peer)
        assert answer[:9] in (b"", b"HTTP/1.1 ")
        assert not answer.startswith(b"HTTP/1.1 5")
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR] == []
    assert seconds_of(address, 1)


def test_broken_requests_are_refused_and_nothing_fails(served: Reporter, caplog: pytest.LogCaptureFixture) -> None:
    with running_server(served) as (address, _):
        check_fuzz(address, caplog, seed=0, count=150)


@pytest.mark.drill
def test_many_broken_requests_are_refused_and_nothing_fails(served: Reporter, caplog: pytest.LogCaptureFixture) -> None:
    with running_server(served) as (address, _):
        check_fuzz(address, caplog, seed=1, count=3000)


def test_connections_are_at_most_half_of_the_files_that_the_process_may_open(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (200, 200))
    peers = peers_of(ServeConfig())
    assert (peers.most, peers.most_each) == (100, 100)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (100_000, 100_000))
    peers = peers_of(ServeConfig(max_connections=600, max_connections_each=50))
    assert (peers.most, peers.most_each) == (600, 50)
