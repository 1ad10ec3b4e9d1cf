"""tests/slow.txt: its tests are there, none is lost between `make test` and `make test-slow`, and how it is made."""

import ast
from pathlib import Path

import pytest

from slow import measured, slow_tests

HERE = Path(__file__).parent


def test_each_listed_test_is_there() -> None:
    there = {
        f"{path.name}::{node.name}"
        for path in HERE.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert slow_tests() - there == set()


def test_a_listed_test_is_marked_and_another_one_is_not(request: pytest.FixtureRequest) -> None:
    listed = slow_tests()
    for item in request.session.items:
        name = f"{item.path.name}::{getattr(item, 'originalname', item.name)}"
        assert (item.get_closest_marker("slow") is not None) == (name in listed), name


def test_what_lands_runs_both_halves() -> None:
    lines = (HERE.parent / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert {"make test", "make test-slow"} <= set(lines)


def test_a_tests_seconds_are_those_of_all_its_parameters_with_their_fixtures() -> None:
    text = (
        "1.50s setup    tests/test_a.py::test_one[x]\n0.75s call     tests/test_a.py::test_one[y-1]\n"
        "0.40s call     tests/test_b.py::test_two\n(3 durations < 0.3s hidden.)\n"
    )
    assert measured(text) == {"test_a.py::test_one": 2.25, "test_b.py::test_two": 0.4}
