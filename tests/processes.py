"""Runs of the command in several real processes on this machine (gloo, CPU), and what must hold of them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from conftest import Outcome, TinySet

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
from r2gengpt.cli.main import main
main(["train", *sys.argv[1:]])
"""
"""The program, whose process END_PROCESS=RANK:STEP (-1: each) kills itself before that step."""


def flags(parts: Path, data: TinySet, run: Path, processes: int, **given: object) -> list[str]:
    """Two epochs of two steps of four studies, over one or two processes."""
    settings = {
        "lm_model": parts / "lm-stablelm", "vision_model": parts / "vision-vit", "annotation": data.annotation,
        "base_dir": data.base_dir, "savedmodel_path": run, "dataset": "plain", "batch_size": 4 // processes,
        "val_batch_size": 1, "accelerator": "cpu", "devices": processes, "precision": "32-true", "max_epochs": 2,
        "strategy": "ddp" if processes > 1 else "auto", "lora_dropout": 0.0, "llm_use_lora": True, "llm_r": 4,
        "vis_r": 4, "alignment": "delta", "learning_rate": 5e-4, "beam_size": 1, "min_new_tokens": 0,
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


def complaints(outcome: Outcome) -> list[str]:
    """Lines of stderr that warn of something; bars and what the run says of itself are none."""
    lines = outcome.stderr.replace("\r", "\n").splitlines()
    return [
        line for line in lines if any(word in line.lower() for word in ("warn", "deprecat", "recommended", "error"))
    ]


def logged(directory: Path, name: str) -> list[float]:
    (metrics,) = (directory / "logs" / "csv").glob("*/metrics.csv")
    rows = csv.DictReader(metrics.read_text().splitlines())
    return [float(row[name]) for row in rows if row.get(name)]


def largest_difference(one: Path, two: Path) -> float:
    a, b = (load_file(path / "last" / "delta.safetensors") for path in (one, two))
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def check_two_are_one(
    parts: Path, data: TinySet, one: Path, two: Path, *, script: Path = ENTRY, strategy: str = "ddp"
) -> Outcome:
    """Two processes end with the weights and scores of one with twice the batch, and warn of nothing; gives the two's.

    Three validation studies: one process writes two reports, the other one, none is counted twice.
    """
    single = run(ENTRY, flags(parts, data, one, 1))
    double = run(script, flags(parts, data, two, 2, strategy=strategy))
    assert (single.code, double.code) == (0, 0), single.stderr + double.stderr
    assert double.stdout.splitlines() == [str(two / "best")]  # said once
    assert complaints(double) == complaints(single) == []
    assert largest_difference(one, two) < 1e-6  # float32 sums in another order
    for name in ("bleu_1", "bleu_4", "rouge_l", "cider"):
        assert logged(two, name) == logged(one, name)
    assert logged(two, "val_loss") == pytest.approx(logged(one, "val_loss"), rel=1e-6)
    assert logged(two, "loss") == pytest.approx(logged(one, "loss"), rel=1e-6)  # sums over tokens, float32
    assert not (two / "resume.ckpt").exists()
    return double


def killing(directory: Path) -> Path:
    """The script of KILLING."""
    script = directory / "killing.py"
    script.write_text(KILLING, encoding="utf-8")
    return script


def check_same_after_a_kill(parts: Path, data: TinySet, directory: Path, **given: object) -> None:
    """Two killed processes that are started again end with the weights of an undisturbed run."""
    given = {"lora_dropout": 0.3, "every_n_train_steps": 1, **given}
    whole = run(ENTRY, flags(parts, data, directory / "whole", 2, **given))
    assert whole.code == 0, whole.stderr
    argv = flags(parts, data, directory / "run", 2, **given)
    ended = run(killing(directory), argv, END_PROCESS="-1:3")
    assert ended.code != 0  # the slower one may hear of the other's end before its own
    assert (directory / "run" / "resume.ckpt").exists()
    again = run(ENTRY, argv)
    assert again.code == 0, again.stderr
    assert again.stderr.count("resuming from") == 1
    assert largest_difference(directory / "whole", directory / "run") == 0.0
    summaries = [json.loads((directory / name / "summary.json").read_text()) for name in ("whole", "run")]
    assert summaries[0] == summaries[1]


def check_that_the_other_ends(parts: Path, data: TinySet, directory: Path, victim: int, strategy: str = "ddp") -> None:
    """When one process is killed, the other ends within a minute and says why."""
    begun = time.monotonic()
    argv = flags(parts, data, directory / "run", 2, strategy=strategy)
    done = run(killing(directory), argv, END_PROCESS=f"{victim}:1")
    assert time.monotonic() - begun < 60  # start of both processes included; `run` waits for both to end
    assert done.code != 0
    assert f"r2gengpt train: process {1 - victim} of 2 lost another one" in done.stderr
    assert not (directory / "run" / "summary.json").exists()


def check_refused(done: Outcome, directory: Path, *parts: str) -> None:
    """In one line that has these parts, before a run is begun."""
    assert (done.code, done.stdout) == (2, "")
    for part in parts:
        assert part in done.stderr.splitlines()[-1]
    assert done.stderr.count("r2gengpt train: ") == 1
    assert not (directory / "run.json").exists()
