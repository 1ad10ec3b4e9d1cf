"""Work items and answers that a seeded chance has broken: a line for each failure, and the loop goes on."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import r2gengpt.clinical.worklist.service as service_module
from archive_parts import film_data, uid
from r2gengpt.clinical.worklist.claims import Claims
from r2gengpt.clinical.worklist.workitem import read_workitems
from stow_answers import JSON, LOGIN, answer, chunked, packed
from upsrs_parts import (
    FINAL,
    Node,
    WorklistServer,
    element,
    first,
    item_uid,
    performer_of,
    run_on,
    work_item,
    worklist_server,
)

SHORT, LONG_RUN = 60, 2000
JUNK: tuple[Any, ...] = (
    None, 7, -1, 1e308, True, "", "x", "\0", "a\nb", "Muster^Erika", "9" * 9000, [], {}, [[]], [None], {"Value": 3},
    {"vr": "SQ"}, {"vr": "UI", "Value": None}, {"vr": "UI", "Value": [[]]}, element("UI", "../../etc"),
    element("SQ", *({} for _ in range(50))), element("DT", "20269999999999"), element("DT", "0000"),
)  # fmt: skip
"""In place of an element."""


def broken(number: int, chance: random.Random) -> Node:
    """A work item that has been changed in a few places, at any depth."""
    made: Node = json.loads(json.dumps(work_item(number)))
    for _ in range(chance.choice((0, 1, 1, 2, 4))):
        node: Any = made
        for _ in range(chance.randrange(4)):
            inner = first(node, chance.choice(list(node))) if isinstance(node, dict) and node else None
            node = inner if isinstance(inner, dict) else node
        if isinstance(node, dict) and node:
            tag = chance.choice(list(node))
            if chance.random() < 0.3:
                del node[tag]
            else:
                node[tag] = chance.choice(JUNK)
    return made


def wrong_answer(chance: random.Random) -> bytes:
    """What no standard has: or what it has for another moment."""
    status = chance.choice((200, 201, 202, 204, 206, 301, 302, 400, 401, 403, 404, 409, 410, 413, 429, 500, 503, 999))
    listed = json.dumps([work_item(1)]).encode()
    return chance.choice(
        (
            answer(status),
            answer(status, LOGIN, "text/html"),
            answer(409, b"Muster^Erika", None, "Warning: 299 x: Muster^Erika"),
            answer(200, chance.choice((b"{", b"[", b"null", b"7", b'""', b"[7]", b"[[]]", b"[" * 90_000, b"\xff\xfe"))),
            answer(200, listed, "text/plain"),
            answer(200, listed)[: -chance.randrange(1, 400)],
            chunked(listed)[: -chance.randrange(8, 200)],
            packed(bytes(2**22)),
            answer(200, bytes(2**21)),
            answer(200, b"[" + b",".join([b"{}"] * 5000) + b"]"),
            answer(302, b"", JSON, "Location: http://127.0.0.1:9/login"),
            chance.randbytes(chance.randrange(300)),
            b"",
        )
    )


@contextmanager
def fuzzed(chance: random.Random) -> Iterator[WorklistServer]:
    """A server that answers wrongly one time in eight, or does what it is asked and does not say so."""
    with worklist_server() as server:

        def fault(method: str, path: str) -> bytes | None:
            if chance.random() < 0.05:
                server.silent.add(server.count)
            return wrong_answer(chance) if chance.random() < 0.12 else None

        server.fault = fault
        yield server


def run_fuzz(directory: Path, items: int, seed: int, caplog: pytest.LogCaptureFixture) -> Counter[str]:
    """So many broken items by a server that answers wrongly; how they ended by state."""
    chance = random.Random(seed)
    ended: Counter[str] = Counter()
    claims = Claims(directory / "claims", (clock := _clock()))
    assert clock() > 0
    try:
        with fuzzed(chance) as server:
            performer = performer_of(server, claims)
            for start in range(1, items + 1, 20):
                for number in range(start, min(start + 20, items + 1)):
                    made = broken(number, chance)
                    server.items[str(number)] = made
                    if read := read_workitems([made]):
                        server.items[read[0].uid] = server.items.pop(str(number))
                    server.films[uid(number)] = [film_data(1, StudyInstanceUID=uid(number), PatientID=f"P-{number}")]
                run_on(performer, 20_000, 10)
                fault, server.fault = server.fault, lambda method, path: None
                run_on(performer, 20_000, 10)  # a server that has come to itself
                server.fault = fault
                ended += _check(server, claims)
    finally:
        claims.close()
    _check_lines(caplog)
    return ended


def _clock() -> Any:
    from archive_parts import Clock

    return Clock()


def _check(server: WorklistServer, claims: Claims) -> Counter[str]:
    """Whatever was claimed has come to an end; the server's items are taken away."""
    assert {one.stage for one in claims.all()} <= {"aside"}
    ended: Counter[str] = Counter()
    for name, one in server.items.items():
        states = server.states.get(name, [])
        assert states in ([], ["IN PROGRESS"], *(["IN PROGRESS", state] for state in FINAL)), states
        ended[states[-1] if states else "not claimed"] += 1
        if states[-1:] == ["COMPLETED"]:
            assert len(one["00741216"]["Value"][0]["00404033"]["Value"]) == 1
    assert all(count for count in server.stored.values())
    server.items.clear()
    server.states.clear()
    return ended


def _check_lines(caplog: pytest.LogCaptureFixture) -> None:
    """Each failure is one line, which holds nothing of what a server sent."""
    for record in caplog.records:
        line = record.getMessage()
        assert "\n" not in line
        assert len(line) < 400
        assert "Muster" not in line
        assert "fault of the performer" not in line, line


def test_sixty_broken_items_and_answers_end_each_in_a_state_and_the_loop_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service_module, "MOST_ANSWER", 2**20)
    ended = run_fuzz(tmp_path, SHORT, 11, caplog)
    assert ended["COMPLETED"] > 10
    assert ended["CANCELED"] > 1
    assert ended["IN PROGRESS"] == 0, "an item that was claimed was left"


@pytest.mark.drill
def test_two_thousand_broken_items_and_answers_end_each_in_a_state_and_the_loop_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service_module, "MOST_ANSWER", 2**20)
    ended = run_fuzz(tmp_path, LONG_RUN, 12, caplog)
    print(dict(ended))  # for who runs the drill with -s
    assert ended["COMPLETED"] > 300
    assert ended["IN PROGRESS"] == 0, "an item that was claimed was left"


def test_a_server_that_does_not_answer_is_left_after_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(service_module, "WHOLE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent, worklist_server() as server:
        server.url = f"http://127.0.0.1:{silent.getsockname()[1]}/dicom-web"
        claims = Claims(tmp_path / "claims", _clock())
        try:
            assert not performer_of(server, claims).step()
        finally:
            claims.close()


def test_any_json_is_read_as_items_or_none() -> None:
    chance = random.Random(5)
    for number in range(300):
        for item in read_workitems([broken(number, chance)]):
            assert item.uid == item.from_json(item.to_json()).uid
            assert item.from_json(item.to_json()) == item
            assert isinstance(item.problem, str)
    assert read_workitems([None, 7, [], {}, work_item(1)])[0].uid == item_uid(1)
