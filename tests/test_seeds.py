"""Several seeds: whole runs in directories of their own, gone on with, and the mean and spread of their scores."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from conftest import Outcome, TinySet
from r2gengpt.config import RunConfig, TrainConfig
from r2gengpt.errors import InputError, Stopped
from r2gengpt.metrics.spread import Spread
from r2gengpt.settings import PlacementConfig
from r2gengpt.training.seeds import SeedRun, runs_of, write_summary
from test_stopped_runs import train_flags
from training_settings import small_run

Run = Callable[[list[str]], Outcome]
CHILD = "r2gengpt.cli.seeding.subprocess.Popen"


def settings(directory: Path, **train: Any) -> RunConfig:
    return RunConfig(train=TrainConfig(savedmodel_path=str(directory), **train))


def finish(run: SeedRun, cider: float, **more: Any) -> None:
    run.directory.mkdir(parents=True)
    end = {"finished": True, "steps": 8, "best": {"val_score": cider, "cider": cider}, "chosen_by": "1 CIDEr", **more}
    (run.directory / "summary.json").write_text(json.dumps(end), encoding="utf-8")


def refusal(directory: Path, seeds: int = 2, **train: Any) -> str:
    with pytest.raises(InputError) as caught:
        runs_of(settings(directory, **train), PlacementConfig(), seeds)
    return str(caught.value)


def test_runs_have_consecutive_seeds_and_directories_of_their_own(tmp_path: Path) -> None:
    runs = runs_of(settings(tmp_path / "run", seed=5), PlacementConfig(), 3)
    assert [run.seed for run in runs] == [5, 6, 7]
    assert [run.directory for run in runs] == [tmp_path / "run" / f"seed-{seed}" for seed in (5, 6, 7)]
    assert [run.settings["seed"] for run in runs] == [5, 6, 7]
    differing = {name for name in runs[0].settings if runs[0].settings[name] != runs[1].settings[name]}
    assert differing == {"seed", "savedmodel_path"}
    assert not (tmp_path / "run").exists()


def test_the_summary_has_mean_and_sd_of_each_score_and_the_best_checkpoint(tmp_path: Path) -> None:
    runs = runs_of(settings(tmp_path, seed=1), PlacementConfig(), 3)
    for run, score in zip(runs, (0.2, 0.5, 0.3), strict=True):
        finish(run, score)
    spreads = write_summary(tmp_path, runs)
    content = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert content["seeds"] == [1, 2, 3]
    assert content["checkpoint"] == "seed-2/best"
    assert content["scores"]["cider"]["mean"] == pytest.approx(1 / 3)
    assert content["scores"]["cider"]["sd"] == pytest.approx(statistics.stdev((0.2, 0.5, 0.3)))
    assert content["scores"]["cider"]["values"] == [0.2, 0.5, 0.3]
    assert [run["checkpoint"] for run in content["runs"]] == ["seed-1/best", "seed-2/best", "seed-3/best"]
    assert str(spreads["cider"]) == "0.333 ± 0.153"


def test_a_run_below_its_floors_is_not_the_best_and_a_score_that_one_lacks_has_no_mean(tmp_path: Path) -> None:
    runs = runs_of(settings(tmp_path, seed=1), PlacementConfig(), 2)
    finish(runs[0], 0.9, below_floors="distinct 0.01 of 0.1")
    finish(runs[1], 0.4, best={"val_score": 0.4})
    assert set(write_summary(tmp_path, runs)) == {"val_score"}
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["checkpoint"] == "seed-2/best"


def test_a_run_without_a_score_is_not_the_best_beside_losses(tmp_path: Path) -> None:
    runs = runs_of(settings(tmp_path, seed=1), PlacementConfig(), 2)
    finish(runs[0], 0.0, best={})
    finish(runs[1], 0.0, best={"val_score": -0.4})
    write_summary(tmp_path, runs)
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["checkpoint"] == "seed-2/best"


def test_one_value_has_no_spread() -> None:
    assert Spread.of([0.5]).to_json() == {"mean": 0.5, "sd": None, "values": [0.5]}


def test_settings_that_contradict_several_runs_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, test=True) == "seeds 2: trains; test and validate score one checkpoint"
    assert refusal(tmp_path, overwrite=True) == (
        "overwrite True: would begin finished runs of seeds anew each time; remove their directories"
    )
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    assert refusal(tmp_path) == f"savedmodel_path {tmp_path}: holds a run of its own; name another directory"


def test_runs_of_other_settings_are_not_gone_on_with(tmp_path: Path) -> None:
    for run in runs_of(settings(tmp_path, seed=1), PlacementConfig(), 2):
        run.write_settings()
    assert refusal(tmp_path, seed=1, max_epochs=9) == (
        f"max_epochs 9: the run in {tmp_path / 'seed-1'} has {RunConfig().train.max_epochs}; go on with that, or name "
        "another savedmodel_path"
    )
    assert len(runs_of(settings(tmp_path, seed=1), PlacementConfig(), 3)) == 3
    (tmp_path / "seed-3").mkdir()
    assert refusal(tmp_path, 3, seed=1) == f"savedmodel_path {tmp_path / 'seed-3'}: is there, and no run of seeds"


def test_a_launcher_that_starts_processes_is_refused(
    run_cli: Run, tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = run_cli([*train_flags(tiny_parts, tiny_set, tmp_path / "run"), "--seeds", "2"])
    assert done.code == 2
    assert "--seeds 2: starts its runs itself, and torchrun has started several processes" in done.stderr


class Child:
    """A run's process that ends at once: writes what a finished run leaves, or ends with a code."""

    started: list[int]
    codes: dict[int, int]

    def __init__(self, command: list[str]) -> None:
        config = json.loads(Path(command[-1]).read_text(encoding="utf-8"))
        self.seed = config["seed"]
        self.started.append(self.seed)
        if not self.codes.get(self.seed):
            finish(SeedRun(self.seed, Path(config["savedmodel_path"]), {}), self.seed / 10)

    def wait(self) -> int:
        return self.codes.get(self.seed, 0)


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> type[Child]:
    monkeypatch.setattr(CHILD, Child)
    monkeypatch.setattr(Child, "started", [], raising=False)
    monkeypatch.setattr(Child, "codes", {}, raising=False)
    return Child


def test_what_is_finished_is_not_run_again(
    run_cli: Run, tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, children: type[Child]
) -> None:
    words = [*train_flags(tiny_parts, tiny_set, tmp_path / "run"), "--seed", "1", "--seeds"]
    assert run_cli([*words, "2"]).code == 0
    done = run_cli([*words, "3"])
    assert done.code == 0, done.stderr
    assert children.started == [1, 2, 3]
    assert done.stdout.splitlines() == [
        "val_score 0.200 ± 0.100",
        "cider 0.200 ± 0.100",
        str(tmp_path / "run" / "summary.json"),
    ]


def test_a_run_that_fails_ends_the_command_with_its_code_and_without_a_summary(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, children: type[Child]
) -> None:
    from r2gengpt.cli.seeding import train_seeds

    config = small_run(tiny_parts, tiny_set, tmp_path / "run", seed=1)
    children.codes[2] = 2
    with pytest.raises(SystemExit) as ended:
        train_seeds(config, PlacementConfig(), 3)
    assert ended.value.code == 2
    children.codes[2] = 130
    with pytest.raises(Stopped, match="stopped in the run of seed 2; the same command goes on with it"):
        train_seeds(config, PlacementConfig(), 3)
    assert children.started == [1, 2, 2]
    assert not (tmp_path / "run" / "summary.json").exists()


def test_two_seeds_are_trained_to_two_checkpoints_as_single_runs_train_them(
    run_cli: Run, tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    words = train_flags(tiny_parts, tiny_set, tmp_path / "run")
    done = run_cli([*words, "--seed", "3", "--seeds", "2", "--max_epochs", "1"])
    assert done.code == 0, done.stderr
    content = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert content["seeds"] == [3, 4]
    weights = [load_file(tmp_path / "run" / run["checkpoint"] / "delta.safetensors") for run in content["runs"]]
    assert any(not torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())
    single = train_flags(tiny_parts, tiny_set, tmp_path / "single")
    assert run_cli([*single, "--seed", "4", "--max_epochs", "1"]).code == 0
    alone = load_file(tmp_path / "single" / "best" / "delta.safetensors")
    assert alone.keys() == weights[1].keys()
    assert all(torch.equal(alone[name], tensor) for name, tensor in weights[1].items())


def test_two_runs_have_a_deviation_and_one_has_none() -> None:
    assert Spread.of([0.25, 0.75]).sd == pytest.approx(statistics.stdev([0.25, 0.75]))
    assert Spread.of([0.5]).sd is None
