"""A run that was killed and started again ends with the weights of a run that was never killed, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from conftest import TinySet
from r2gengpt.checkpoint_files import RUN
from r2gengpt.config import RunConfig
from r2gengpt.errors import InputError
from r2gengpt.settings import PlacementConfig
from r2gengpt.training.averaging import MovingAverage
from r2gengpt.training.begin import DATA
from r2gengpt.training.module import R2GenGPTModule
from r2gengpt.training.run import train
from training_settings import small_run


class Killed(BaseException):
    """Ends a run in the middle of a step; nothing of ours or Lightning's catches it."""


def resumable(parts: Path, data: TinySet, directory: Path, **train_settings: object) -> RunConfig:
    """A run in which everything that could differ after a resume is switched on: dropout, augmentation, statistics."""
    model = {"vis_use_lora": True, "vis_r": 4, "lora_dropout": 0.3, "feature_norm": "standardize"}
    return small_run(parts, data, directory, model=model, read={"augment": True}, **train_settings)


def run_until(
    settings: RunConfig,
    stop: int | None,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[R2GenGPTModule] = R2GenGPTModule,
) -> int:
    """Train; end the run before its batch number `stop`. Gives the number of batches that were trained.

    Args:
        settings: of the run.
        stop: a batch; None: the run is not ended.
        monkeypatch: counts the batches while this runs.
        kind: what is trained.
    """
    step, count = kind.training_step, 0

    def counted(self: R2GenGPTModule, batch: object, batch_idx: int) -> torch.Tensor:
        nonlocal count
        if count == stop:
            raise Killed
        count += 1
        return step(self, batch, batch_idx)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(kind, "training_step", counted)
        if stop is None:
            train(settings)
        else:
            with pytest.raises(Killed):
                train(settings)
    return count


def assert_same_end(run: Path, whole: Path) -> None:
    for name in ("last", "best"):
        found, wanted = (load_file(path / name / "delta.safetensors") for path in (run, whole))
        assert found.keys() == wanted.keys()
        for key, tensor in wanted.items():
            assert torch.equal(found[key], tensor), f"{name}: {key} differs"
    assert json.loads((run / "summary.json").read_text()) == json.loads((whole / "summary.json").read_text())
    assert not (run / "resume.ckpt").exists()


SCHEDULES = [
    {"every_n_train_steps": 1},
    {"every_n_train_steps": 2, "accumulate_grad_batches": 2},
    {"every_n_train_steps": 0},
    {"every_n_train_steps": 2, "val_check_interval": 0.5},
    {"every_n_train_steps": 1, "limit_train_batches": 3.0},
    {"every_n_train_steps": 3, "max_steps": 5, "max_epochs": 9},
]


@pytest.mark.parametrize("schedule", SCHEDULES[:4], ids=str)
def test_a_run_ended_at_a_random_step_and_started_again_has_the_same_weights(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, schedule: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = run_until(resumable(tiny_parts, tiny_set, tmp_path / "whole", **schedule), None, monkeypatch)
    stop = random.Random(str(schedule)).randrange(1, batches)
    settings = resumable(tiny_parts, tiny_set, tmp_path / "run", **schedule)
    run_until(settings, stop, monkeypatch)
    run_until(settings, None, monkeypatch)
    assert_same_end(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize(
    ("schedule", "stops"),
    [
        ({"every_n_train_steps": 0, "accumulate_grad_batches": 3, "val_check_interval": 0.5}, [3]),
        ({"every_n_train_steps": 1, "accumulate_grad_batches": 2}, [2, 1]),
    ],
    ids=str,
)
def test_a_state_is_never_saved_between_the_batches_of_one_step(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, schedule: dict[str, float], stops: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run_until(resumable(tiny_parts, tiny_set, tmp_path / "whole", **schedule), None, monkeypatch)
    settings = resumable(tiny_parts, tiny_set, tmp_path / "run", **schedule)
    for stop in (*stops, None):
        run_until(settings, stop, monkeypatch)
    assert_same_end(tmp_path / "run", tmp_path / "whole")


def killed_at_its_end(settings: RunConfig, where: PlacementConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train; end the run after its last step, before it has written what it leaves; and start it again."""

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("r2gengpt.training.run.write_end", killed)
        with pytest.raises(Killed):
            train(settings, where)
    train(settings, where)


@pytest.mark.parametrize(
    "schedule",
    [{"max_epochs": 1}, {"ema": 0.5}, {"patience": 1, "max_epochs": 6}, {"max_epochs": 1, "max_steps": 3}],
    ids=str,
)
def test_a_run_ended_after_its_last_step_leaves_what_it_would_have_left(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, schedule: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("whole", "run")
    whole, run = (resumable(tiny_parts, tiny_set, tmp_path / name, choose_decode=0, **schedule) for name in names)
    train(whole)
    killed_at_its_end(run, PlacementConfig(), monkeypatch)
    if (tmp_path / "whole" / "best").exists():
        assert_same_end(tmp_path / "run", tmp_path / "whole")
    found, wanted = (load_file(tmp_path / name / "last" / "delta.safetensors") for name in ("run", "whole"))
    assert all(torch.equal(found[key], tensor) for key, tensor in wanted.items())
    cards = [(tmp_path / name / "last" / "README.md").read_text() for name in ("run", "whole")]
    assert cards[0] == cards[1], "it tells the scores of the last validation"


def test_an_average_that_comes_from_a_state_follows_its_weights_to_their_device() -> None:
    average, module = MovingAverage(0.9), torch.nn.Linear(2, 2, device="meta")
    weights = {name: torch.zeros(value.shape) for name, value in module.named_parameters()}
    average.load_state_dict({"average": weights, "steps": 3})
    average.on_train_batch_end(SimpleNamespace(global_step=4), module, None, None, 0)  # type: ignore[arg-type]
    assert {value.device.type for value in average.average.values()} == {"meta"}


@pytest.mark.drill
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_run_ended_at_any_step_has_the_same_weights(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, schedule: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = run_until(resumable(tiny_parts, tiny_set, tmp_path / "whole", **schedule), None, monkeypatch)
    for stop in range(batches):
        settings = resumable(tiny_parts, tiny_set, tmp_path / f"run{stop}", **schedule)
        run_until(settings, stop, monkeypatch)
        run_until(settings, None, monkeypatch)
        assert_same_end(tmp_path / f"run{stop}", tmp_path / "whole")


@pytest.mark.drill
def test_a_process_killed_by_sigkill_at_five_random_steps_ends_with_the_same_weights(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child kills itself before a random step, several times over in the same run directory."""
    schedule = {"every_n_train_steps": 2, "max_epochs": 4}
    batches = run_until(resumable(tiny_parts, tiny_set, tmp_path / "whole", **schedule), None, monkeypatch)
    child = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import os, signal\nfrom pathlib import Path\n"
        "from conftest import TinySet\nfrom test_resume import resumable\n"
        "from r2gengpt.training.module import R2GenGPTModule\nfrom r2gengpt.training.run import train\n"
        "parts, annotation, images, run, stop = (*map(Path, sys.argv[2:6]), int(sys.argv[6]))\n"
        "step = R2GenGPTModule.training_step\n"
        "def kill_at(self, batch, i):\n"
        "    if self.current_epoch * 4 + i == stop:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return step(self, batch, i)\n"
        "R2GenGPTModule.training_step = kill_at\n"
        "train(resumable(parts, TinySet(annotation, images), run, every_n_train_steps=2, max_epochs=4))\n"
    )
    assert batches == 16
    stops = sorted(random.Random(5).sample(range(1, batches), 5))
    for stop in [*stops, -1]:
        paths = (tiny_parts, tiny_set.annotation, tiny_set.base_dir, tmp_path / "run")
        command = [sys.executable, "-c", child, str(Path(__file__).parent), *map(str, paths), str(stop)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
        assert done.returncode == (0 if stop == -1 else -signal.SIGKILL), done.stderr
    assert_same_end(tmp_path / "run", tmp_path / "whole")


def test_an_unfinished_run_is_not_continued_with_other_settings(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_until(resumable(tiny_parts, tiny_set, tmp_path, every_n_train_steps=1), 2, monkeypatch)
    with pytest.raises(InputError, match=r"learning_rate 0\.5: the unfinished run .* has 0\.01"):
        train(resumable(tiny_parts, tiny_set, tmp_path, every_n_train_steps=1, learning_rate=0.5))
    with pytest.raises(InputError, match="resume False"):
        train(resumable(tiny_parts, tiny_set, tmp_path, every_n_train_steps=1, resume=False))


@pytest.mark.parametrize("content", ["", "3", "[1]", None])
@pytest.mark.parametrize("name", [RUN, DATA])
def test_an_unfinished_run_whose_own_files_are_damaged_is_refused_in_one_line(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str | None
) -> None:
    run_until(resumable(tiny_parts, tiny_set, tmp_path, every_n_train_steps=1), 2, monkeypatch)
    (tmp_path / name).unlink()
    if content is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=f"^savedmodel_path .*: holds an unfinished run whose {name} cannot be read"):
        train(resumable(tiny_parts, tiny_set, tmp_path, every_n_train_steps=1))


def test_what_a_killed_writer_left_is_swept_away(tiny_parts: Path, tiny_set: TinySet, tmp_path: Path) -> None:
    (tmp_path / ".best.half").mkdir(parents=True)
    (tmp_path / ".best.half" / "delta.safetensors").write_bytes(b"half")
    train(small_run(tiny_parts, tiny_set, tmp_path, max_epochs=1))
    assert not list(tmp_path.glob(".best.*"))
