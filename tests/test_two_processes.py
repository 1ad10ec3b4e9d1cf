"""Training in two processes on this machine (gloo, CPU) against the same training in one; real processes throughout."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import Outcome, TinySet
from r2gengpt.build import model as build_room
from r2gengpt.config import ModelConfig

ENTRY = Path(__file__).parents[1] / "train.py"
KILLING = """
import os, signal, sys
from r2gengpt.training.module import R2GenGPTModule
step = R2GenGPTModule.training_step
def ended(self, batch, index):
    victim, at = (int(word) for word in os.environ["END_PROCESS"].split(":"))
    if self.current_epoch * 2 + index == at and victim in (self.global_rank, -1):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, index)
R2GenGPTModule.training_step = ended
from r2gengpt.cli import main
main(["train", *sys.argv[1:]])
"""
"""The program, whose process END_PROCESS=RANK:STEP (-1: each) kills itself before that step."""
POISONED = """
import sys
from r2gengpt.training.module import R2GenGPTModule
step = R2GenGPTModule.training_step
def poisoned(self, batch, index):
    if index == 1 and self.global_rank == 1:
        batch.pixel_values.fill_(float("nan"))
    return step(self, batch, index)
R2GenGPTModule.training_step = poisoned
from r2gengpt.cli import main
main(["train", *sys.argv[1:]])
"""
"""The program, whose second process reads broken pixels in its second batch."""


def flags(parts: Path, data: TinySet, run: Path, processes: int, **given: object) -> list[str]:
    """Two epochs of two steps of four studies, over one or two processes."""
    settings = {
        "lm_model": parts / "lm-stablelm", "vision_model": parts / "vision-vit", "annotation": data.annotation,
        "base_dir": data.base_dir, "savedmodel_path": run, "dataset": "plain", "batch_size": 4 // processes,
        "val_batch_size": 1, "accelerator": "cpu", "devices": processes, "precision": "32-true", "max_epochs": 2,
        "strategy": "ddp" if processes > 1 else "auto", "lora_dropout": 0.0, "llm_use_lora": True, "llm_r": 4,
        "vis_r": 4, "alignment": "delta", "learning_rate": 1e-3, "beam_size": 1, "min_new_tokens": 0,
        "max_new_tokens": 8, "repetition_penalty": 1.0, "num_sanity_val_steps": 0, "scorer_types": "CIDEr val_loss",
        "weights": "1.0 1.0", **given,
    }  # fmt: skip
    return [word for name, value in settings.items() for word in (f"--{name}", *str(value).split(" "))]


def run(script: Path, argv: list[str], **environment: str) -> Outcome:
    """Run a script as a process, in a group of its own; it ends when all processes that it starts have ended."""
    process = subprocess.Popen(
        [sys.executable, str(script), *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **environment}, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return Outcome(process.returncode, out, err)


def logged(directory: Path, name: str) -> list[float]:
    (metrics,) = (directory / "logs" / "csv").glob("*/metrics.csv")
    rows = csv.DictReader(metrics.read_text().splitlines())
    return [float(row[name]) for row in rows if row.get(name)]


def largest_difference(one: Path, two: Path) -> float:
    a, b = (load_file(path / "last" / "delta.safetensors") for path in (one, two))
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_two_processes_end_with_the_weights_and_scores_of_one_with_twice_the_batch(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    """Three validation studies over two processes: one has two, the other one, none is counted twice."""
    one, two = tmp_path / "one", tmp_path / "two"
    single = run(ENTRY, flags(tiny_parts, tiny_set, one, 1))
    double = run(ENTRY, flags(tiny_parts, tiny_set, two, 2))
    assert (single.code, double.code) == (0, 0), single.stderr + double.stderr
    assert double.stdout.splitlines() == [str(two / "best")]  # said once
    assert largest_difference(one, two) < 1e-6  # float32 sums in another order
    for name in ("bleu_1", "bleu_4", "rouge_l", "cider"):
        assert logged(two, name) == logged(one, name)
    assert logged(two, "val_loss") == pytest.approx(logged(one, "val_loss"), abs=1e-6)
    assert logged(two, "loss") == pytest.approx(logged(one, "loss"), abs=1e-6)
    names = [sorted(str(p.relative_to(d)) for p in d.rglob("*") if "events" not in p.name) for d in (one, two)]
    assert names[0] == names[1]
    assert len(list((two / "logs" / "tensorboard").glob("*/events*"))) == 1


@pytest.mark.drill
@pytest.mark.parametrize(
    "given",
    [
        {"alignment": "shallow", "llm_use_lora": False},
        {"alignment": "shallow", "batch_size": None, "accumulate_grad_batches": 2},
        {"alignment": "deep", "gradient_checkpointing": True},
        {"alignment": "deep", "strategy": "auto"},
    ],
    ids=str,
)
def test_every_alignment_trains_the_same_in_two_processes(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, given: dict[str, object]
) -> None:
    """Deep alignment of a ViT has a pooler and a mask token that get no gradient."""
    accumulated = "accumulate_grad_batches" in given
    for name, processes in (("one", 1), ("two", 2)):
        batch = {"batch_size": 2 // processes} if accumulated else {}
        done = run(ENTRY, flags(tiny_parts, tiny_set, tmp_path / name, processes, **{**given, **batch}))
        assert done.code == 0, done.stderr
    loss = [logged(tmp_path / name, "loss") for name in ("one", "two")]
    assert loss[1] == pytest.approx(loss[0], abs=1e-5)
    # AdamW takes a full step along gradients that are zero but for rounding (a key's bias): weights of deep alignment
    if given["alignment"] != "deep":
        assert largest_difference(tmp_path / "one", tmp_path / "two") < 1e-6


@pytest.mark.drill
def test_two_killed_processes_started_again_end_with_the_same_weights(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    script = tmp_path / "killing.py"
    script.write_text(KILLING, encoding="utf-8")
    given = {"lora_dropout": 0.3, "every_n_train_steps": 1}
    whole = run(ENTRY, flags(tiny_parts, tiny_set, tmp_path / "whole", 2, **given))
    assert whole.code == 0, whole.stderr
    argv = flags(tiny_parts, tiny_set, tmp_path / "run", 2, **given)
    assert run(script, argv, END_PROCESS="-1:3").code == -signal.SIGKILL
    assert (tmp_path / "run" / "resume.ckpt").exists()
    again = run(ENTRY, argv)
    assert again.code == 0, again.stderr
    assert again.stderr.count("resuming from") == 1
    assert largest_difference(tmp_path / "whole", tmp_path / "run") == 0.0
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "run")]
    assert summaries[0] == summaries[1]


@pytest.mark.drill
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_process_is_killed_the_other_ends_within_a_minute_and_says_why(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, victim: int
) -> None:
    script = tmp_path / "killing.py"
    script.write_text(KILLING, encoding="utf-8")
    begun = time.monotonic()
    done = run(script, flags(tiny_parts, tiny_set, tmp_path / "run", 2), END_PROCESS=f"{victim}:1")
    assert time.monotonic() - begun < 60  # start of both processes included; `run` waits for both to end
    assert done.code != 0
    assert f"r2gengpt train: process {1 - victim} of 2 lost another one" in done.stderr
    assert not (tmp_path / "run" / "summary.json").exists()


def test_more_processes_than_studies_are_refused_before_any_is_started(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, run_cli_process: object
) -> None:
    argv = flags(tiny_parts, tiny_set, tmp_path / "run", 4, batch_size=1)
    done = run_cli_process(["train", *argv])  # type: ignore[operator]
    assert done.code == 2
    assert done.stderr.splitlines()[-1] == "r2gengpt train: --devices: 4 processes, but split val has only 3 studies"


@pytest.mark.parametrize("rank", [0, 1])
def test_a_quantized_model_is_loaded_whole_onto_the_device_of_its_own_process(
    tiny_parts: Path, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    """Without a GPU here, only what is asked of the loader can be looked at."""

    class AskedFor(Exception):
        pass

    def loader(*_: object, **options: object) -> None:
        raise AskedFor(options["device_map"])

    monkeypatch.setenv("LOCAL_RANK", str(rank))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(build_room, "quantization_config", lambda *_: None)
    monkeypatch.setattr(build_room, "_load_weights", loader)
    with pytest.raises(AskedFor) as asked:
        build_room.load_language(ModelConfig(lm_model=str(tiny_parts / "lm-llama"), quantization="nf4"), torch.float32)
    assert asked.value.args == ({"": rank},)


@pytest.mark.drill
def test_a_loss_that_is_not_finite_in_one_process_stops_both_and_names_its_studies(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    script = tmp_path / "poisoned.py"
    script.write_text(POISONED, encoding="utf-8")
    done = run(script, flags(tiny_parts, tiny_set, tmp_path / "run", 2))
    assert done.code != 0
    assert "loss is nan (process 1: nan) at epoch 0, batch 1, studies train" in done.stderr
    assert "Traceback" not in done.stderr
