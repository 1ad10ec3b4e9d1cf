"""What `make bench BENCH=--quick` tells of the ratios that are kept (benchmarks/bench.py)."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "bench.py"
spec = importlib.util.spec_from_file_location("bench", SCRIPT)
bench: Any = importlib.util.module_from_spec(spec)
sys.modules["bench"] = bench
spec.loader.exec_module(bench)


class Metrics:
    """Runs of `metrics.py` alone, each of which is so many times faster than the other side."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *times: float) -> None:
        self.times, self.file = list(times), folder / "kept.json"
        monkeypatch.setattr(bench, "KEPT", self.file)
        monkeypatch.setattr(bench, "run", self.run)
        monkeypatch.setattr(bench, "PLANS", {"metrics": bench.PLANS["metrics"]})
        monkeypatch.chdir(folder)

    def run(self, name: str, words: list[str]) -> dict[str, Any]:
        one = {"studies": 10, "metrics_s": 0.1, "pycocoevalcap_s": 1.0, "times_faster": self.times.pop(0)}
        return {"results": [one]}

    def call(self, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["bench.py", "--quick", *words])
        bench.main()


def test_what_became_slower_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = Metrics(tmp_path, monkeypatch, 10.0, 8.0, 8.9)
    runs.call(monkeypatch, "--keep")
    assert json.loads(runs.file.read_text())["ratios"]["metrics"]
    runs.call(monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        "slower: BLEU, ROUGE-L and CIDEr of 10 studies, against pycocoevalcap: 8.90, kept 10.00",
        "1 of 1 ratios are lower than the kept ones by more than a tenth",
    ]
    assert not runs.times, "what seems slower is measured twice"


@pytest.mark.parametrize("times", [(10.0, 9.1), (10.0, 8.0, 9.5)])
def test_a_run_within_a_tenth_or_one_slow_moment_is_not_named(
    times: tuple[float, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = Metrics(tmp_path, monkeypatch, *times)
    runs.call(monkeypatch, "--keep")
    runs.call(monkeypatch)
    assert "slower" not in capsys.readouterr().out
    assert not runs.times


def test_another_machine_and_a_line_that_is_gone_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = Metrics(tmp_path, monkeypatch, 10.0)
    other = {"machine": "abacus", "arithmetic": "float32", "cores": 1}
    runs.file.write_text(json.dumps({"machine": other, "ratios": {"metrics": {"a line": 2.0}}}))
    runs.call(monkeypatch)
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert lines[0] == "not in this run: a line"
    assert lines[1].startswith("kept on another machine: {'machine': 'abacus'")
    assert lines[2].startswith("0 of 0 ratios")


def test_a_part_of_the_benchmarks_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = Metrics(tmp_path, monkeypatch)
    with pytest.raises(SystemExit):
        runs.call(monkeypatch, "--keep", "--only", "metrics")
    assert "--keep keeps a whole run of --quick" in capsys.readouterr().err


def test_the_lines_that_are_kept_are_those_of_the_plans() -> None:
    kept = json.loads((SCRIPT.parent / "kept.json").read_text(encoding="utf-8"))
    assert set(kept["ratios"]) == set(bench.PLANS) - set(bench.LONG)
