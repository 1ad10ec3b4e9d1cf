"""Kills of a performer at any moment: each item is ended once, under one lock, with one report. Judges no report."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from archive_parts import LONG, uid, wait_until
from audit_parts import said_in
from r2gengpt.auditlog.verify import verify
from r2gengpt.clinical.worklist.claims import Claims
from test_worklist import draft_uid
from upsrs_parts import WorklistServer, claims_in, item_uid, performer_of, run_on, worklist_server
from worklist_child import CHANGES, counted

OPERATIONS = 80
"""More durable operations than the items below take; the test says so if it is not."""


class Killed(BaseException):
    """In place of a signal."""


def schedule(server: WorklistServer) -> None:
    """An item that can be done and one that cannot."""
    server.schedule(1, 2)
    server.schedule(2, 1, t00404021=None)


def check(server: WorklistServer, number: object) -> None:
    """Both items have come to their ends."""
    assert server.states[item_uid(1)] == ["IN PROGRESS", "COMPLETED"], number
    assert server.states[item_uid(2)] == ["IN PROGRESS", "CANCELED"], number
    assert server.outputs(1) == list(server.stored) == [draft_uid(1, 1, 2)], number


def run_killed(directory: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A performer that ends before its durable operation `number`, and another one after it; whether it was ended."""
    left = [number]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    with worklist_server() as server:
        schedule(server)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", counted(os.fsync, count))
            for name in ("replace", "unlink"):
                patch.setattr(Path, name, counted(getattr(Path, name), count))
            for name in CHANGES:
                patch.setattr(Claims, name, counted(getattr(Claims, name), count))
            try:
                with claims_in(directory) as claims:
                    run_on(performer_of(server, claims))
            except Killed:
                pass
        with claims_in(directory) as claims:
            run_on(performer_of(server, claims))
            assert claims.all() == []
            assert list(claims.reports.iterdir()) == list(claims.films.iterdir()) == []
        check(server, number)
    return left[0] <= 0


@pytest.mark.parametrize("number", [1, 2, 5, 13, 26])
def test_an_end_before_a_durable_operation_loses_nothing_and_doubles_nothing(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_killed(tmp_path, number, monkeypatch)


@pytest.mark.drill
def test_an_end_before_each_durable_operation_loses_nothing_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = range(1, OPERATIONS)
    ended = [run_killed(tmp_path / str(number), number, monkeypatch) for number in numbers]
    assert not ended[-1], "there are more operations"
    assert ended.index(False) > 15


class Performing:
    """`worklist_child.py` at a server, in a directory of its own."""

    def __init__(self, server: WorklistServer, directory: Path, *more: str) -> None:
        directory.mkdir(exist_ok=True)
        command = [sys.executable, str(Path(__file__).with_name("worklist_child.py")), server.url, str(directory)]
        with (directory / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def end(self, number: int = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        code = self.process.wait(LONG)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.mark.parametrize("number", [4, 12])
def test_a_killed_process_takes_its_item_up_again_under_the_same_lock(number: int, tmp_path: Path) -> None:
    with worklist_server() as server:
        schedule(server)
        first = Performing(server, tmp_path, str(number))
        assert first.process.wait(LONG) == -signal.SIGKILL
        first.end()
        locks = dict(server.locks)
        second = Performing(server, tmp_path)
        try:
            wait_until(lambda: all(server.state(one) in ("COMPLETED", "CANCELED") for one in (1, 2)))
        finally:
            assert second.end(signal.SIGTERM) == 0
        check(server, number)
        assert locks.items() <= server.locks.items()
    assert verify(tmp_path / "audit").records
    said = [(one.event, one.details) for one in said_in(tmp_path / "audit") if one.event == "Procedure Record"]
    assert ("Procedure Record", ("COMPLETED",)) in said
    assert ("Procedure Record", ("CANCELED",)) in said
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log
    assert uid(1) not in log


def kills(directory: Path, items: int, many: int, seed: int) -> None:
    """Items that come one after another to a performer that is killed at random moments."""
    chance = random.Random(seed)
    moments = sorted(chance.randrange(items) for _ in range(many))
    with worklist_server() as server:
        one: Any = Performing(server, directory)
        try:
            for number in range(1, items + 1):
                server.schedule(number, chance.choice((1, 2)))
                for _ in range(moments.count(number - 1)):
                    reached = server.count + chance.randrange(1, 15)
                    wait_until(lambda reached=reached: server.count >= reached)  # type: ignore[misc]  # its own
                    one.end()
                    one = Performing(server, directory)
            wait_until(lambda: all(server.state(number) == "COMPLETED" for number in range(1, items + 1)))
        finally:
            assert one.end(signal.SIGTERM) == 0
        assert {tuple(states) for states in server.states.values()} == {("IN PROGRESS", "COMPLETED")}
        assert len(server.stored) == items
        assert {len(server.outputs(number)) for number in range(1, items + 1)} == {1}
    assert verify(directory / "audit").records
    assert "Traceback" not in (directory / "log").read_text()


def test_two_kills_at_random_moments_leave_each_item_done_once(tmp_path: Path) -> None:
    kills(tmp_path, 3, 2, seed=1)


@pytest.mark.drill
def test_twenty_kills_at_random_moments_leave_each_item_done_once(tmp_path: Path) -> None:
    kills(tmp_path, 30, 20, seed=2)
