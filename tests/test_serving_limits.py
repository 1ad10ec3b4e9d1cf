"""The server under those who ask too much, too slowly, or leave: 429, 408, 504, freed places, an orderly end."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from r2gengpt.generation.engine import Engine
from r2gengpt.reporter import Reporter
from r2gengpt.serving.generator import Generator
from serving_parts import LONG, busy, client_of, film, message, upload
from test_serving_api import CHAT, REPORTS, wait_for


def test_one_request_more_than_there_are_places_is_told_when_to_come_again(served: Reporter) -> None:
    with client_of(served, slots=1, queue_size=2) as (client, generator), ThreadPoolExecutor(3) as pool:
        with busy(generator):
            waiting = [pool.submit(client.post, REPORTS, files=upload(film(seed))) for seed in range(3)]
            wait_for(lambda: generator.line.taken == 3)
            refused = client.post(REPORTS, files=upload(film()))
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert refused.json()["error"]["type"] == "rate_limit_error"
        assert [one.result(LONG).status_code for one in waiting] == [200] * 3
        assert client.post(REPORTS, files=upload(film())).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_waits_too_long_is_answered_and_its_place_is_free(served: Reporter, stream: bool) -> None:
    with client_of(served, request_timeout=0.3) as (client, generator), busy(generator):
        given = client.post(CHAT, json={"model": "best", "messages": message(film()), "stream": stream})
        assert (given.status_code, given.json()["error"]["message"]) == (504, "no report within 0.3 seconds")
        assert (generator.line.taken, generator.line.waiting) == (0, 0)


def test_a_stream_that_takes_too_long_ends_with_an_error_event(
    served: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine stands still after the first words: the status has been sent, so the error is an event."""
    go_on = threading.Event()
    own, passes = Engine._forward, []

    def slow(self: Engine) -> Any:
        passes.append(1)
        if len(passes) == 6:
            assert go_on.wait(LONG)
        return own(self)

    monkeypatch.setattr(Engine, "_forward", slow)
    with client_of(served, request_timeout=1.0) as (client, _):
        given = client.post(CHAT, json={"model": "best", "messages": message(film(2)), "stream": True})
        go_on.set()
    assert given.status_code == 200
    blocks = given.text.strip().split("\n\n")
    assert "content" in blocks[1]
    assert '"no report within 1 seconds"' in blocks[-1]


def asgi_request(app: Any, body: bytes, leave: Callable[[], Awaitable[Any]], *, whole: bool = True) -> list[Any]:
    """Send a chat to an application, its body whole or not, and close the connection when `leave` returns."""
    sent: list[Any] = []

    async def run() -> None:
        given = iter([{"type": "http.request", "body": body, "more_body": not whole}])

        async def receive() -> dict[str, Any]:
            event = next(given, None)
            if event is not None:
                return event
            await leave()
            return {"type": "http.disconnect"}

        async def send(event: dict[str, Any]) -> None:
            sent.append(event)

        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST",
            "scheme": "http", "path": CHAT, "raw_path": CHAT.encode(), "query_string": b"", "root_path": "",
            "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        await app(scope, receive, send)

    asyncio.run(run())
    return sent


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place_and_its_study_leaves_the_engine(
    served: Reporter, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """It leaves while its study is being written; the engine stops after the pass that is under way."""
    writing, left = threading.Event(), threading.Event()
    own, passes = Engine._forward, []

    def slow(self: Engine) -> Any:
        passes.append(len(self.studies))
        if len(passes) == 2:
            writing.set()
            assert left.wait(LONG)
        return own(self)

    monkeypatch.setattr(Engine, "_forward", slow)
    body = json.dumps({"model": "best", "messages": message(film(2)), "stream": stream}).encode()
    with client_of(served) as (client, generator):

        async def leave() -> None:
            await asyncio.to_thread(writing.wait, LONG)

        drop = generator.line.drop

        def dropped(job: Any) -> None:
            drop(job)
            left.set()

        monkeypatch.setattr(generator.line, "drop", dropped)
        sent = asgi_request(client.app, body, leave)
        assert generator.line.taken == 0
        wait_for(lambda: generator.running == 0)
        assert len(passes) == 2, "the engine went on for nobody"
        assert not [event for event in sent if event.get("status") == 200 and not stream]
        assert client.post(REPORTS, files=upload(film())).status_code == 200


def test_a_body_that_does_not_come_is_not_waited_for(served: Reporter) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    with client_of(served, request_timeout=0.2) as (client, generator):
        sent = asgi_request(client.app, b'{"model": ', never, whole=False)
        assert (sent[0]["status"], generator.line.taken) == (408, 0)


def test_a_client_that_leaves_within_its_body_frees_its_place(served: Reporter) -> None:
    async def at_once() -> None:
        return

    with client_of(served) as (client, generator):
        asgi_request(client.app, b'{"model": ', at_once, whole=False)
        assert generator.line.taken == 0


def test_when_the_server_stops_the_running_study_is_finished_and_waiting_ones_are_refused(served: Reporter) -> None:
    with client_of(served, slots=1) as (client, generator), ThreadPoolExecutor(3) as pool:
        with busy(generator) as go_on:
            waiting = [pool.submit(client.post, REPORTS, files=upload(film(seed))) for seed in range(3)]
            wait_for(lambda: generator.line.waiting == 3)
            generator.drain()
            assert [one.result(LONG).status_code for one in waiting] == [503] * 3
            go_on.set()
        assert client.get("/ready").status_code == 503


def test_a_model_that_cannot_be_loaded_is_remembered_and_requests_are_refused() -> None:
    generator = Generator(1, 1)

    def load() -> Reporter:
        raise RuntimeError("no weights")

    generator.start(load)
    wait_for(lambda: generator.failure is not None)
    assert str(generator.failure) == "no weights"
    assert not generator.ready
