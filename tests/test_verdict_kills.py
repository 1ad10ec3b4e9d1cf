"""A server that is killed while verdicts come in: what it confirmed is kept, and what is sent again is kept once."""

import http.client
import json
import random
import threading
from dataclasses import replace

import pytest

from r2gengpt.verdicts.address import opened_store
from r2gengpt.verdicts.receipt import seal
from test_verdict_store import FACTS, address, postgres
from verdict_server import running

__all__ = ["address", "postgres"]  # fixtures
READERS = 4
LONG = 60.0


class Server:
    """Which server there is, as the readers know it, and how many verdicts were confirmed."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.port = self.number = self.confirmed = 0
        self.last = False

    def is_at(self, port: int, *, last: bool = False) -> None:
        with self.changed:
            self.port, self.last = port, last
            self.number += 1
            self.changed.notify_all()

    def after(self, number: int) -> tuple[int, int]:
        """Number and port of the server that comes after one."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.number > number, LONG)
            return self.number, self.port

    def confirm(self) -> None:
        with self.changed:
            self.confirmed += 1
            self.changed.notify_all()

    def wait_for(self, more: int) -> None:
        """Wait until so many more are confirmed."""
        with self.changed:
            wanted = self.confirmed + more
            assert self.changed.wait_for(lambda: self.confirmed >= wanted, LONG)


class Reader(threading.Thread):
    """Gives verdicts, each again and again until it is confirmed; after the last server came, only the one at hand."""

    def __init__(self, name: str, key: bytes, server: Server) -> None:
        super().__init__(name=name, daemon=True)
        self.key, self.server = key, server
        self.confirmed: list[str] = []
        self.known, self.port = 0, 0

    def run(self) -> None:
        self.known, self.port = self.server.after(0)
        while True:
            facts = replace(FACTS, id=f"report-{self.name}-{len(self.confirmed)}")
            key = f"key-{self.name}-{len(self.confirmed):012}"
            body = json.dumps({"receipt": seal(facts, self.key), "verdict": "accept", "key": key})
            while not self.is_confirmed(body):
                self.known, self.port = self.server.after(self.known)
            self.confirmed.append(key)
            self.server.confirm()
            if self.server.last:
                return

    def is_confirmed(self, body: str) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG)
        try:
            connection.request("POST", "/v1/verdicts", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        assert answer.status in (200, 201)
        return True


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.drill)])
def test_a_kill_loses_no_verdict_that_was_confirmed_and_doubles_none(address: str, kills: int) -> None:
    store, server, drawn = opened_store(address), Server(), random.Random(0)
    readers = [Reader(f"reader-{number}", store.key, server) for number in range(READERS)]
    for reader in readers:
        reader.start()
    for _ in range(kills):
        with running(address) as (_, port):
            server.is_at(port)
            server.wait_for(drawn.randrange(1, 30))  # then it is killed, with verdicts of other readers on their way
    with running(address) as (_, port):
        server.is_at(port, last=True)
        for reader in readers:
            reader.join(LONG)
    kept = [(one.facts.id, one.judgement.key) for one in store.history()]
    store.close()
    confirmed = [key for reader in readers for key in reader.confirmed]
    assert not any(reader.is_alive() for reader in readers)
    assert sorted(key for _, key in kept) == sorted(confirmed), "each that was confirmed, once"
    assert len(confirmed) > kills
