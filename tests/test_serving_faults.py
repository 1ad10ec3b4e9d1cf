"""The server where something fails that nobody expected: who asked for it hears so at once, and nobody else does."""

import itertools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from r2gengpt.config import DecodeConfig
from r2gengpt.generation import turns
from r2gengpt.generation.engine import Engine
from r2gengpt.report import Report
from r2gengpt.reporter import Reporter
from r2gengpt.serving.generator import write_by_openvino
from r2gengpt.serving.jobs import Job
from serving_parts import LONG, busy, client_of, film, message, upload, wait_for
from test_serving_api import CHAT, REPORTS

FAILED = "the server failed at this request"


def failing_at(place: int, own: Callable[..., Any], when: Callable[..., bool] = lambda *_: True) -> Callable[..., Any]:
    """What fails at this one of the calls that are meant, and else does as it always did."""
    calls = itertools.count(1)

    def call(*args: Any, **kwargs: Any) -> Any:
        if when(*args) and next(calls) == place:
            raise RuntimeError("a fault of the program")
        return own(*args, **kwargs)

    return call


def has_facts(*args: Any) -> bool:
    return len(args) > 2 and bool(args[2])


@pytest.mark.parametrize(
    ("room", "name", "when"),
    [
        (Reporter, "look", lambda *_: True),
        (Reporter, "judged", has_facts),
        (Reporter, "likeliest", lambda *_: True),
    ],
)
def test_a_study_that_fails_takes_none_of_its_run_along(
    served: Reporter, monkeypatch: pytest.MonkeyPatch, room: Any, name: str, when: Callable[..., bool]
) -> None:
    asked = {"model": "best", "logprobs": True, "top_logprobs": 2}
    with client_of(served) as (client, generator), ThreadPoolExecutor(3) as pool:
        with busy(generator):
            monkeypatch.setattr(room, name, failing_at(2, getattr(room, name), when))
            bodies = [{**asked, "messages": message(film(seed))} for seed in range(3)]
            waiting = [pool.submit(client.post, CHAT, json=body) for body in bodies]
            wait_for(lambda: generator.line.waiting == 3)
        given = [one.result(LONG) for one in waiting]
    assert sorted(one.status_code for one in given) == [200, 200, 500]
    assert [one.json()["error"]["message"] for one in given if one.status_code == 500] == [FAILED]


def test_a_run_that_cannot_begin_is_told_at_once_and_the_next_one_is_written(
    served: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "Engine", failing_at(1, Engine))
    with client_of(served, request_timeout=30.0) as (client, _):
        assert [client.post(REPORTS, files=upload(film())).status_code for _ in range(2)] == [500, 200]


def test_a_stream_that_fails_ends_with_an_error_event(served: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reporter, "judged", failing_at(1, Reporter.judged))
    with client_of(served) as (client, _):
        given = client.post(CHAT, json={"model": "best", "messages": message(film(2)), "stream": True})
    assert given.status_code == 200
    last = given.text.strip().split("\n\n")[-1].removeprefix("data: ")
    assert json.loads(last)["error"]["message"] == FAILED


def test_a_fault_after_the_graphs_have_written_is_told() -> None:
    def judged(*_: Any) -> Report:
        raise RuntimeError("a fault of the program")

    def drafted(*_: Any) -> tuple[Report, int]:
        return Report("study", "The heart is large."), 1

    job = Job(np.zeros((1, 3, 4, 4), np.float32), None, DecodeConfig(beam_size=3, max_new_tokens=9))
    write_by_openvino(cast(Any, SimpleNamespace(stopped=lambda report, _: report, draft=drafted, judged=judged)), job)
    assert isinstance(job.future.exception(0), RuntimeError)
