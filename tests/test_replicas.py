"""Two servers behind nginx: none of a hundred studies is lost when one of them is killed."""

import hashlib
import json
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2
import pytest

from deploy_parts import NGINX, nginx

if NGINX is None:
    pytest.skip("needs nginx", allow_module_level=True)
if find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)

from edge_parts import trained_checkpoint
from r2gengpt.cli.main import run
from serving_parts import LONG, film, upload, wait_for
from serving_process import Process

STUDIES, TRIES = 100, 10
LATER = (429, 502, 503, 504)
"""Statuses that mean: ask again."""
LONGER = ("--min_new_tokens", "60", "--max_new_tokens", "60")
TICKET = "0123456789abcdef-ticket"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An edge directory, which starts soonest."""
    directory = tmp_path_factory.mktemp("replicas")
    checkpoint = trained_checkpoint(directory, "Llama-2")
    words = ["--target", "openvino", "--model", str(checkpoint), "--output", str(directory / "edge")]
    assert run("export", words) == 0
    return directory / "edge"


@pytest.fixture
def replicas(model: Path) -> Iterator[list[tuple[Process, str]]]:
    """Two servers of the model, each with its address."""
    with ExitStack() as stack:
        started = [stack.enter_context(closing(Process("--model", str(model), *LONGER))) for _ in range(2)]
        found = [(one, one.address) for one in started]
        for one in started:
            assert one.ready.wait(LONG), one.stderr
        yield found


class Client:
    """A client that asks again: after a moment that grows, where there is no answer, half of one, or a busy one."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.again = 0
        self.pause = threading.Event()

    def report(self, seed: int) -> str:
        """The digest of the film that the answer to a study names; odd ones are asked for as streams."""
        for number in range(TRIES):
            if number:
                self.again += 1
                self.pause.wait(0.05 * 2**number)
            try:
                found = self.ask(seed)
            except httpx2.TransportError:
                continue
            if found is not None:
                return found
        raise AssertionError(f"study {seed} is lost")

    def ask(self, seed: int) -> str | None:
        """One try; None where it must be tried again."""
        headers = {"Accept": "text/event-stream"} if seed % 2 else {}
        answer = httpx2.post(f"{self.address}/v1/reports", files=upload(film(seed)), headers=headers, timeout=LONG)
        if answer.status_code in LATER:
            return None
        assert answer.status_code == 200, answer.text
        record = answer.json() if not seed % 2 else self.last(answer.text)
        return None if record is None else record["provenance"]["inputs"][0]["sha256"]

    @staticmethod
    def last(text: str) -> Any:
        """The record of a stream that came to its end; None of one that did not."""
        blocks = [block.removeprefix("data: ") for block in text.strip().split("\n\n")]
        return json.loads(blocks[-2]) if blocks[-1] == "[DONE]" else None


def answered(address: str) -> int:
    """How many studies a replica has reported, by its metrics."""
    text = httpx2.get(f"{address}/metrics", timeout=LONG).text
    name = 'r2gengpt_requests_total{code="200",route="/v1/reports"} '
    return sum(int(float(line.removeprefix(name))) for line in text.splitlines() if line.startswith(name))


def test_a_hundred_studies_are_all_answered_though_one_of_two_servers_is_killed(
    replicas: list[tuple[Process, str]], tmp_path: Path
) -> None:
    """SIGKILL comes half-way, while the one that it hits is writing."""
    (victim, its_address), (_, other) = replicas
    with nginx(tmp_path, [its_address, other]) as address, ThreadPoolExecutor(6) as pool:
        client = Client(address)
        asked = {pool.submit(client.report, seed): seed for seed in range(STUDIES)}
        found: dict[int, str] = {}
        for one in as_completed(asked, timeout=LONG):
            found[asked[one]] = one.result()
            if len(found) == STUDIES // 2:
                assert answered(its_address) > 0
                wait_for(lambda: "r2gengpt_running 1.0" in httpx2.get(f"{its_address}/metrics", timeout=LONG).text)
                victim.process.send_signal(signal.SIGKILL)
        assert found == {seed: hashlib.sha256(film(seed)).hexdigest() for seed in range(STUDIES)}
        assert victim.process.wait(LONG) == -signal.SIGKILL
        assert answered(other) >= STUDIES // 2


def test_who_asks_where_a_study_is_reaches_the_server_that_has_it(
    replicas: list[tuple[Process, str]], tmp_path: Path
) -> None:
    """By its ticket, whichever server that is; without one the less busy server is asked."""
    addresses = [address for _, address in replicas]
    with nginx(tmp_path, addresses) as address, ThreadPoolExecutor(1) as pool:
        for number in range(6):
            ticket = f"{TICKET}-{number}"
            places: set[int | None] = set()
            for attempt in range(20):  # a report may be written between two questions; its ticket leads to one server
                asked = pool.submit(
                    httpx2.post,
                    f"{address}/v1/reports",
                    files=upload(film(20 * number + attempt)),
                    headers={"X-Ticket": ticket},
                    timeout=LONG,
                )
                while not asked.done():
                    places.add(standing(address, ticket))
                assert asked.result().status_code == 200
                if 0 in places:
                    break
            assert 0 in places, "0: it is being written"
        assert httpx2.get(f"{address}/metrics").status_code == 404


def standing(address: str, ticket: str) -> int | None:
    """The place in the queue of what was sent with a ticket."""
    found: int | None = httpx2.get(f"{address}/v1/queue/{ticket}", timeout=LONG).json()["place"]
    return found
