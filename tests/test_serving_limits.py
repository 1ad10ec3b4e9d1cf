"""The server under those who ask too much, too slowly, or leave: 429, 408, 504, freed places, an orderly end."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

from r2gengpt.generation.engine import Engine
from r2gengpt.reporter import Reporter
from r2gengpt.serving.generator import Generator
from r2gengpt.serving.jobs import Job
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


class Leaving:
    """A client that leaves at the second pass that writes its study; the pass ends when the server knows of it."""

    def __init__(self, generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passes = 0
        self.writing, self.left, drop = threading.Event(), threading.Event(), generator.line.drop

        def dropped(job: Job) -> None:
            drop(job)
            self.left.set()

        monkeypatch.setattr(generator.line, "drop", dropped)

    def look(self) -> None:
        """A pass."""
        self.passes += 1
        if self.passes == 2:
            self.writing.set()
            assert self.left.wait(LONG)

    def ask(self, app: Any, stream: bool) -> list[Any]:
        """Ask, and leave; what was sent."""
        body = json.dumps({"model": "best", "messages": message(film(2)), "stream": stream}).encode()
        return asgi_request(app, body, lambda: asyncio.to_thread(self.writing.wait, LONG))


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place_and_its_study_leaves_the_engine(
    served: Reporter, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """It leaves while its study is being written; the engine stops after the pass that is under way."""
    own = Engine._forward
    with client_of(served) as (client, generator):
        leaving = Leaving(generator, monkeypatch)

        def slow(self: Engine) -> Any:
            leaving.look()
            return own(self)

        monkeypatch.setattr(Engine, "_forward", slow)
        sent = leaving.ask(client.app, stream)
        assert generator.line.taken == 0
        wait_for(lambda: generator.running == 0)
        assert leaving.passes == 2, "the engine went on for nobody"
        assert not [event for event in sent if event.get("status") == 200 and not stream]
        assert client.post(REPORTS, files=upload(film())).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("beams", [1, 3])
def test_the_study_of_a_client_that_leaves_ends_without_the_engine_too(
    served: Reporter, monkeypatch: pytest.MonkeyPatch, stream: bool, beams: int
) -> None:
    """transformers' `generate` would write all 40 tokens."""
    whole = replace(served.decode, engine="hf", beam_size=beams, min_new_tokens=40, max_new_tokens=40)
    served = replace(served, decode=whole, streamed=replace(whole, beam_size=1))
    with client_of(served) as (client, generator):
        leaving = Leaving(generator, monkeypatch)

        def slow(module: Any, given: tuple[Tensor]) -> None:
            if given[0].shape[-1] == 1:  # a token more of each text; else the prompt
                leaving.look()

        handle = served.built.model.get_input_embeddings().register_forward_pre_hook(slow)
        leaving.ask(client.app, stream)
        wait_for(lambda: generator.running == 0)
        handle.remove()
        assert leaving.passes < 20, "it was written for nobody"
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
