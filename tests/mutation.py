"""Small faults put into the source, one at a time, to see whether the tests find them. Started by a drill, or by hand.

    .venv/bin/python tests/mutation.py --count 300 --seed 0 [--only films]

Each mutant is one change of one expression: another comparison, `and` for `or`, a number by one, a truth value, a
condition the other way round. First all quick tests run once, and coverage.py keeps which of them came by which line.
Those that came by a mutant's lines run on a copy of the source; one that fails kills it. Where none did, as for what is
run at import or in another process, the tests that import its module do.
"""

import argparse
import ast
import contextlib
import functools
import itertools
import math
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from xml.etree import ElementTree

import coverage
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "r2gengpt"
ROOMS = ("text", "metrics", "films", "config")
"""What is mutated: the pure rooms, whose tests are quick."""
ALL_TESTS = ("tests",)
CONTEXTS = ROOT / "tests" / "contexts.py"
FORKS = multiprocessing.get_context("forkserver")
PRELOADED = ("PIL.Image", "torch", "transformers", "peft", "lightning", "pydicom", "highdicom", "sqlalchemy")
"""What tests import: loaded once, in the process that theirs are forked from. Starts no thread."""
SECONDS = 90
"""Most that a mutant's tests may take; what they have not found by then they do not find."""
QUICK = 15.0
"""Seconds of tests that run first. Where these do not end within `SECONDS`, the mutant runs for ever: it is killed."""
ENDLESS = "running for ever"
OF_ALL = "tests/test_documentation.py"
"""Reads what stands in modules: settings with their limits."""
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
}  # fmt: skip


Tests = dict[str, float]
"""Tests as pytest names them → the seconds that they take, the quickest first."""
ByLine = dict[tuple[Path, int], Tests]
"""Where a line stands, file and number → the tests that come by it."""


@dataclass(frozen=True)
class Mutant:
    """One change: the expression at a place of a file, and what stands there instead; whether it runs at the import."""

    path: Path
    line: int
    column: int
    end_line: int
    end_column: int
    new: str
    at_import: bool = False

    @property
    def module(self) -> str:
        return ".".join(self.path.relative_to(PACKAGE.parent).with_suffix("").parts)

    def applied(self) -> str:
        """The file's text with the change."""
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        first, last = lines[self.line - 1].encode(), lines[self.end_line - 1].encode()
        joined = first[: self.column] + self.new.encode() + last[self.end_column :]
        return "".join([*lines[: self.line - 1], joined.decode(), *lines[self.end_line :]])

    def __str__(self) -> str:
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return f"{self.path.relative_to(ROOT)}:{self.line}: {lines[self.line - 1].strip()}  →  {self.new}"


def changes(node: ast.expr) -> Iterator[ast.expr]:
    """What an expression is changed to."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        yield ast.Compare(node.left, [COMPARISONS[type(node.ops[0])]()], node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif (
        isinstance(node, ast.BinOp)
        and type(node.op) in ARITHMETIC
        and not isinstance(node.left, ast.Constant | ast.JoinedStr)
    ):
        yield ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)


def expressions(tree: ast.AST) -> Iterator[ast.expr]:
    """The expressions that may be changed: none of an annotation, a decorator, a formatted text or an import guard.

    Nor what `zip` has for `strict`, an assertion that never fails, and `field` for `repr`, which a debugger shows.
    """
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr):
                continue
            if isinstance(child, ast.keyword) and child.arg in ("strict", "repr"):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.expr):
                yield child
            yield from expressions(child)


def mutants(only: str = "") -> list[Mutant]:
    """Every mutant of the rooms, in a fixed order."""
    found = []
    for room in ROOMS:
        place = PACKAGE / room
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            if only and only not in str(path.relative_to(PACKAGE)):
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
            called = in_functions(tree)
            for node in expressions(tree):
                for new in changes(node):
                    text = f"({ast.unparse(ast.fix_missing_locations(new))})"
                    end = node.end_lineno or node.lineno, node.end_col_offset or 0
                    found.append(Mutant(path, node.lineno, node.col_offset, *end, text, node not in called))
    return found


def in_functions(tree: ast.AST) -> set[ast.AST]:
    """What runs when a function is called, and not when its module is imported."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            for part in node.body if isinstance(node.body, list) else [node.body]:
                found |= set(ast.walk(part))
    return found


@functools.cache
def tests_of(module: str) -> list[Path]:
    """The test files that import a module; those that import its package where none does."""
    names = [module, module.rpartition(".")[0]]
    texts = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").glob("test_*.py"))}
    for name in names:
        found = [path for path, text in texts.items() if re.search(rf"\b{re.escape(name)}\b", text)]
        if found:
            return found
    return []


def covered_lines(folder: Path, tests: Sequence[str] = ALL_TESTS) -> ByLine:
    """The tests that come by each line of the rooms, as pytest names them; parameters are not told apart.

    A test that fails without a fault is named, and left out: it would kill every mutant.

    Args:
        folder: for what coverage.py keeps; where it holds that already, no test is run.
        tests: files or directories.
    """
    data, settings, failing, report = (folder / name for name in ("coverage", "coveragerc", "failing", "report.xml"))
    if not failing.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rooms = "".join(f"\n  {PACKAGE / room}/*" for room in ROOMS)
        settings.write_text(f"[run]\ndata_file = {data}\ninclude ={rooms}\n", encoding="utf-8")
        command = [sys.executable, "-m", "coverage", "run", f"--rcfile={settings}", str(CONTEXTS), "-q", "-rfE"]
        command += ["-p", "no:cacheprovider", "-m", "not drill and not slow", f"--junitxml={report}", *tests]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        failing.write_text("\n".join(failures(done.stdout)), encoding="utf-8")
    left_out = set(failing.read_text(encoding="utf-8").split())
    for name in sorted(left_out):
        print("fails without a fault, left out:", name, flush=True)
    seen = coverage.CoverageData(str(data))
    seen.read()
    seconds = seconds_of(report)
    found: ByLine = {}
    for file in seen.measured_files():
        for line, contexts in seen.contexts_by_lineno(file).items():
            tests_here = set(filter(None, contexts)) - left_out
            found[Path(file), line] = by_time({name: seconds.get(name, 0.0) for name in tests_here})
    return found


def by_time(tests: Tests) -> Tests:
    """The quickest first."""
    return dict(sorted(tests.items(), key=lambda one: (one[1], one[0])))


def seconds_of(report: Path) -> dict[str, float]:
    """How long each test took with all its parameters, of pytest's JUnit report."""
    found: dict[str, float] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name'].partition('[')[0]}"
        found[name] = found.get(name, 0.0) + float(case.attrib["time"])
    return found


def failures(output: str) -> list[str]:
    """The tests that pytest's summary (`-rfE`) names, each without its parameters."""
    return sorted(set(re.findall(r"^(?:FAILED|ERROR) ([^\s\[]+)", output, re.MULTILINE)))


def tests_for(mutant: Mutant, by_line: ByLine) -> Tests:
    """The tests that come by a mutant's lines; of what runs at the import, and where none does, those of its module.

    What runs at the import is seen by the test alone that imports the module first.
    """
    lines = range(mutant.line, mutant.end_line + 1)
    found = by_time({name: time for line in lines for name, time in by_line.get((mutant.path, line), {}).items()})
    if found and not mutant.at_import:
        return found
    files = [OF_ALL, *(f"tests/{path.name}" for path in tests_of(mutant.module))]
    times = times_of(by_line)
    return by_time({file: sum(times.get(file, [math.inf])) for file in files})


def times_of(by_line: ByLine) -> dict[str, list[float]]:
    """The files of tests → the seconds of each test in them that comes by a line of the rooms."""
    found: dict[str, list[float]] = {}
    for name, time in {name: time for tests in by_line.values() for name, time in tests.items()}.items():
        found.setdefault(name.partition("::")[0], []).append(time)
    return found


def run_tests(tests: Sequence[str], home: Path, output: Path) -> None:
    """Run tests on the copy of the source at `home`, until one fails; ends this process with pytest's exit code."""
    os.setsid()
    multiprocessing.set_start_method(None, force=True)  # this process was told to fork from a server
    with output.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ |= {"PYTHONPATH": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    os.chdir(ROOT)
    sys.path.insert(0, str(home))
    imported = "ignore::pytest.PytestAssertRewriteWarning"  # plugins that `PRELOADED` imports
    chosen = ["-m", "not drill and not slow", "-p", "no:cacheprovider", "-W", imported]
    code = pytest.main(["-x", "-q", "-rfE", *chosen, *tests])
    sys.stdout.flush()
    os._exit(int(code))  # threads that tests left do not hold it up


def killer(tests: Sequence[str], home: Path, seconds: float = SECONDS) -> str | None:
    """The first of the tests that fails on the copy of the source at `home`; None where none does.

    Raises:
        TimeoutError: they have not ended in that many seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        process = FORKS.Process(target=run_tests, args=(tests, home, output))
        process.start()
        process.join(seconds)
        ended = process.exitcode is not None
        with contextlib.suppress(ProcessLookupError):  # servers and cells that tests left go too
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
        if not ended:
            raise TimeoutError
        if process.exitcode in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):  # a file of drills alone
            return None
        return next(iter(failures(output.read_text(encoding="utf-8", errors="replace"))), tests[0])


def killed_by(mutant: Mutant, tests: Tests, home: Path) -> str | None:
    """A test that fails on a copy of the source, at `home`, that has the fault, or `ENDLESS`."""
    sums = itertools.accumulate(tests.values())
    quick = [name for name, time in zip(tests, sums, strict=True) if time <= QUICK]
    rest = list(tests)[len(quick) :]
    copy = home / mutant.path.relative_to(PACKAGE.parent)
    whole = copy.read_text(encoding="utf-8")
    copy.write_text(mutant.applied(), encoding="utf-8")
    try:
        found = killer(quick, home) if quick else None
    except TimeoutError:
        return ENDLESS
    else:
        with contextlib.suppress(TimeoutError):
            found = found or (killer(rest, home) if rest else None)
        return found
    finally:
        copy.write_text(whole, encoding="utf-8")


def survivors(chosen: Sequence[Mutant], by_line: ByLine, workers: int = 2) -> list[Mutant]:
    """Those of the mutants that no test kills.

    Raises:
        SystemExit: tests that killed a mutant fail on a copy without a fault, too: nothing was killed by them.
    """
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    FORKS.set_forkserver_preload(list(PRELOADED))
    with tempfile.TemporaryDirectory() as folder:
        homes: SimpleQueue[Path] = SimpleQueue()
        for number in range(workers):
            home = Path(folder) / str(number)
            shutil.copytree(PACKAGE, home / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
            homes.put(home)

        def judged(mutant: Mutant) -> str | None:
            home = homes.get()
            try:
                test = killed_by(mutant, tests_for(mutant, by_line), home)
            finally:
                homes.put(home)
            print("SURVIVES " if test is None else f"killed by {test}: ", mutant, sep="", flush=True)
            return test

        with ThreadPoolExecutor(workers) as pool:
            killers = list(pool.map(judged, chosen))
        tests = sorted({test for test in killers if test not in (None, ENDLESS)})
        if tests and (test := killer(tests, homes.get(), SECONDS * len(tests))):
            sys.exit(f"{test}: fails without a fault, too: no verdict")
    return [mutant for mutant, test in zip(chosen, killers, strict=True) if test is None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of a path below src/r2gengpt")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--coverage", type=Path, help="directory that keeps which test came by which line")
    asked = parser.parse_args()
    every = mutants(asked.only)
    chosen = random.Random(asked.seed).sample(every, min(asked.count, len(every)))
    with tempfile.TemporaryDirectory() as folder:
        by_line = covered_lines(asked.coverage or Path(folder))
    alive = survivors(chosen, by_line, asked.workers)
    print(f"{len(chosen) - len(alive)} of {len(chosen)} killed; {len(every)} mutants in all")


if __name__ == "__main__":
    main()
