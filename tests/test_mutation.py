"""Small faults in the pure rooms are found by their tests; the whole sample is a drill."""

import ast
import random
from pathlib import Path

import pytest

import mutation
from mutation import PACKAGE, Mutant, changes, covered_lines, mutants, survivors

KILLED = 0.9
"""Share of mutants that the tests must find; some change nothing that anybody could see."""


@pytest.mark.parametrize(
    ("code", "changed"),
    [("a < b", "a <= b"), ("a and b", "a or b"), ("not a", "a"), ("a + b", "a - b"), ("True", "False"), ("3", "4")],
)
def test_a_mutant_is_one_small_change(code: str, changed: str) -> None:
    assert [ast.unparse(new) for new in changes(ast.parse(code, mode="eval").body)] == [changed]


@pytest.mark.parametrize("code", ["zip(a, b, strict=True)", "x = field(repr=False)"])
def test_what_no_test_could_or_need_see_is_left_as_it_is(code: str) -> None:
    tree = ast.parse(code)
    assert not [node for node in mutation.expressions(tree) if list(changes(node))]


def test_each_mutant_can_be_compiled_and_differs() -> None:
    every = mutants()
    assert len(every) > 1000
    for mutant in random.Random(1).sample(every, 40):
        assert ast.dump(ast.parse(mutant.applied())) != ast.dump(ast.parse(mutant.path.read_text(encoding="utf-8")))


def test_each_mutated_module_has_tests_that_name_it() -> None:
    assert all(map(mutation.tests_of, {mutant.module for mutant in mutants()}))


def test_a_fault_that_tests_know_is_found_and_one_that_changes_nothing_is_not() -> None:
    path = PACKAGE / "metrics" / "rouge.py"
    lines = path.read_text(encoding="utf-8").splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.startswith("def "))
    broken = Mutant(
        path, line, 0, line, len(lines[line - 1].encode()), lines[line - 1].replace("def ", "def _gone_", 1)
    )
    same = Mutant(path, 1, 0, 1, len(lines[0].encode()), lines[0])
    assert survivors([broken, same], {}, workers=1) == [same]


def test_a_file_without_quick_tests_kills_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    path = PACKAGE / "metrics" / "rouge.py"
    lines = path.read_text(encoding="utf-8").splitlines()
    same = Mutant(path, 1, 0, 1, len(lines[0].encode()), lines[0])
    monkeypatch.setattr(mutation, "tests_for", lambda *_: {"tests/test_ohif.py": 0.0})
    assert survivors([same], {}, workers=1) == [same]


def test_a_mutant_is_tried_by_the_tests_that_come_by_its_line_and_else_by_those_of_its_module(tmp_path: Path) -> None:
    by_line = covered_lines(tmp_path, ["tests/test_sentences.py"])
    known = {name.partition("::")[2] for tests in by_line.values() for name in tests}
    assert "test_sentences_cover_all_of_the_text_but_white_space_between_them" in known  # Hypothesis wraps it
    path = PACKAGE / "text" / "sentences.py"
    lines = path.read_text(encoding="utf-8").splitlines()
    inside = next(number for number, text in enumerate(lines, 1) if text.startswith("    return"))
    found, near = (mutation.tests_for(Mutant(path, line, 0, line, 1, "x"), by_line) for line in (inside, 1))
    assert found
    assert all("::test_" in name for name in found)
    assert list(found.values()) == sorted(found.values())
    at_import = mutation.tests_for(Mutant(path, inside, 0, inside, 1, "x", at_import=True), by_line)
    for files in (near, at_import):
        assert "tests/test_sentences.py" in files
        assert not any("::" in name for name in files)


def test_what_runs_at_the_import_is_told_from_what_runs_in_a_call() -> None:
    tree = ast.parse(
        "SIDES = 1\nclass Film:\n    side: int = 2\n    def wide(self, more=3):\n        return more + 4\n"
    )
    called = mutation.in_functions(tree)
    numbers = {node.value: node in called for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert numbers == {1: False, 2: False, 3: False, 4: True}


@pytest.mark.drill
def test_nine_of_ten_mutants_of_the_pure_rooms_are_killed(tmp_path: Path) -> None:
    chosen = random.Random(0).sample(mutants(), 300)
    alive = survivors(chosen, covered_lines(tmp_path))
    assert len(alive) <= (1 - KILLED) * len(chosen), "\n".join(map(str, alive))
