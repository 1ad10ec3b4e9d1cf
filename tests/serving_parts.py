"""Parts that the tests of the server share: a served tiny model, applications, films, requests. No test stands here."""

import base64
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from r2gengpt.serving.app import create_app
from r2gengpt.serving.generator import Generator
from r2gengpt.serving.jobs import Job
from r2gengpt.serving.served import ServedModel
from r2gengpt.serving.server import DrainingServer, address_of, listen, server_config
from r2gengpt.settings import ServeConfig
from r2gengpt.testing import noise_image
from r2gengpt.verdicts.store import VerdictStore

LONG = 120.0
"""Seconds after which a test that waits for another thread has failed."""


def film(seed: int = 0, form: str = "PNG", size: int = 48) -> bytes:
    """The bytes of an image file."""
    held = io.BytesIO()
    noise_image(seed, size).save(held, form)
    return held.getvalue()


def data_url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def message(*films: bytes, text: str | None = None) -> list[dict[str, Any]]:
    """A chat of one user message."""
    content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": data_url(one)}} for one in films]
    return [{"role": "user", "content": content + ([{"type": "text", "text": text}] if text else [])}]


def upload(*films: bytes, name: str = "film.png") -> list[tuple[str, tuple[str, bytes, str]]]:
    """The files of a form."""
    return [("images", (name, one, "image/png")) for one in films]


def generator_of(served: ServedModel, settings: ServeConfig) -> Generator:
    """A generator that is ready."""
    ready = threading.Event()
    generator = Generator(settings.slots, settings.places)
    generator.start(lambda: served, ready.set)
    assert ready.wait(LONG)
    return generator


@contextmanager
def client_of(served: ServedModel, **changes: Any) -> Iterator[tuple[TestClient, Generator]]:
    """A client of an application with these settings, and its generator."""
    settings = ServeConfig(**changes)
    generator = generator_of(served, settings)
    with TestClient(create_app(generator, settings), base_url="http://127.0.0.1") as client:
        yield client, generator
    assert generator.stop(LONG)
    assert generator.line.taken == 0, "a request has kept its place"


@contextmanager
def busy(generator: Generator) -> Iterator[threading.Event]:
    """The writing thread stands still within a study of its own until the block ends, or the event is set."""
    served = generator.reporter
    assert served is not None
    begun, go_on = threading.Event(), threading.Event()

    def hold(text: str) -> None:
        begun.set()
        assert go_on.wait(LONG)

    decode = replace(served.decode, beam_size=1, min_new_tokens=8)
    job = Job(np.zeros((1, 3, 32, 32), np.float32), None, decode, hold)
    generator.line.put(job)
    assert begun.wait(LONG)
    try:
        yield go_on
    finally:
        go_on.set()
        job.future.result(LONG)


@contextmanager
def running_server(
    served: ServedModel, generator: Generator | None = None, verdicts: VerdictStore | None = None, **changes: Any
) -> Iterator[tuple[str, Generator]]:
    """A real server on a free port of this machine; its address and its generator, the model's own if none is given."""
    settings = ServeConfig(port=0, **changes)
    generator = generator or generator_of(served, settings)
    listening = listen(settings)
    server = DrainingServer(server_config(create_app(generator, settings, verdicts), settings), generator)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield address_of(listening), generator
    finally:
        server.should_exit = True
        thread.join(LONG)
        listening.close()
        assert generator.stop(LONG)
    assert not thread.is_alive()
    assert generator.line.taken == 0, "a request has kept its place"


def wait_for(truth: Any) -> None:
    """Look until it is so; the other threads work meanwhile."""
    pause = threading.Event()
    for _ in range(int(LONG * 200)):
        if truth():
            return
        pause.wait(0.005)
    raise AssertionError("it did not come to this")
