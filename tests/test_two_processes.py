"""Training and testing in two processes on this machine (gloo, CPU) against one; real processes throughout."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Outcome, TinySet
from processes import (
    ENTRY,
    check_same_after_a_kill,
    check_that_the_other_ends,
    check_two_are_one,
    complaints,
    flags,
    largest_difference,
    logged,
    run,
)
from r2gengpt.config import ModelConfig
from r2gengpt.parts import loading as build_room
from r2gengpt.parts.assemble import build_model
from r2gengpt.processes import in_batch_order
from r2gengpt.settings import PlacementConfig
from r2gengpt.training.distributed.processes import gets_no_gradient

TEST_ENTRY = ENTRY.with_name("test.py")
KILLED_TEST = """
import os, signal, sys
from r2gengpt.reporter import Reporter
predict = Reporter.predict
def ended(self, *args, **kwargs):
    found = list(predict(self, *args, **kwargs))
    if os.environ.get("LOCAL_RANK") == os.environ["END_PROCESS"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return iter(found)
Reporter.predict = ended
from r2gengpt.cli.main import main
main(["test", *sys.argv[1:]])
"""
"""`r2gengpt test`, whose process END_PROCESS kills itself after its first batch."""
POISONED = """
import sys
from r2gengpt.training.module import R2GenGPTModule
step = R2GenGPTModule.training_step
def poisoned(self, batch, index):
    if index == 1 and self.global_rank == 1:
        batch.pixel_values.fill_(float("nan"))
    return step(self, batch, index)
R2GenGPTModule.training_step = poisoned
from r2gengpt.cli.main import main
main(["train", *sys.argv[1:]])
"""
"""The program, whose second process reads broken pixels in its second batch."""


def test_two_processes_end_with_the_weights_and_scores_of_one_with_twice_the_batch(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    """Three validation studies over two processes: one has two, the other one, none is counted twice."""
    one, two = tmp_path / "one", tmp_path / "two"
    check_two_are_one(tiny_parts, tiny_set, one, two)
    names = [sorted(str(p.relative_to(d)) for p in d.rglob("*") if "events" not in p.name) for d in (one, two)]
    assert names[0] == names[1]
    assert len(list((two / "logs" / "tensorboard").glob("*/events*"))) == 1


def without_drop_path(encoder: Path, target: Path) -> Path:
    """A copy whose layers are never left out: two processes leave out others than one."""
    shutil.copytree(encoder, target)
    config = json.loads((target / "config.json").read_text())
    assert config["drop_path_rate"] > 0
    (target / "config.json").write_text(json.dumps({**config, "drop_path_rate": 0.0}))
    return target


@pytest.mark.drill
@pytest.mark.parametrize(
    "given",
    [
        {"alignment": "shallow", "llm_use_lora": False},
        {"alignment": "shallow", "batch_size": None, "accumulate_grad_batches": 2},
        {"alignment": "deep", "gradient_checkpointing": True},
        {"alignment": "deep", "strategy": "auto"},
        {"alignment": "deep", "vision_model": "vision-swin"},
    ],
    ids=str,
)
def test_every_alignment_trains_the_same_in_two_processes(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, given: dict[str, Any]
) -> None:
    """Deep alignment of a ViT has a pooler and a mask token that get no gradient."""
    accumulated = "accumulate_grad_batches" in given
    if "vision_model" in given:
        given = {
            **given,
            "vision_model": without_drop_path(tiny_parts / str(given["vision_model"]), tmp_path / "vision"),
        }
    for name, processes in (("one", 1), ("two", 2)):
        batch = {"batch_size": 2 // processes} if accumulated else {}
        done = run(ENTRY, flags(tiny_parts, tiny_set, tmp_path / name, processes, **{**given, **batch}))
        assert done.code == 0, done.stderr
        assert complaints(done) == []
    loss = [logged(tmp_path / name, "loss") for name in ("one", "two")]
    assert loss[1] == pytest.approx(loss[0], abs=1e-5)
    # AdamW takes a full step along gradients that are zero but for rounding (a key's bias): weights of deep alignment
    if given["alignment"] != "deep":
        assert largest_difference(tmp_path / "one", tmp_path / "two") < 1e-6


@pytest.mark.drill
def test_two_killed_processes_started_again_end_with_the_same_weights(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    check_same_after_a_kill(tiny_parts, tiny_set, tmp_path)


@pytest.mark.drill
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_process_is_killed_the_other_ends_within_a_minute_and_says_why(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, victim: int
) -> None:
    check_that_the_other_ends(tiny_parts, tiny_set, tmp_path, victim)


def test_more_processes_than_studies_are_refused_before_any_is_started(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, run_cli: Callable[[list[str]], Outcome]
) -> None:
    done = run_cli(["train", *flags(tiny_parts, tiny_set, tmp_path / "run", 4, batch_size=1)])
    assert done.code == 2
    assert done.stderr.splitlines()[-1] == "r2gengpt train: --devices: 4 processes, but split val has only 3 studies"


@pytest.mark.parametrize("variable", ["LOCAL_RANK", "SLURM_LOCALID"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_quantized_model_is_loaded_whole_onto_the_device_of_its_own_process(
    tiny_parts: Path, monkeypatch: pytest.MonkeyPatch, rank: int, variable: str
) -> None:
    """Without a GPU here, only what is asked of the loader can be looked at."""

    class AskedFor(Exception):
        pass

    def loader(*_: object, **options: object) -> None:
        raise AskedFor(options["device_map"])

    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv(variable, str(rank))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(build_room, "quantization_config", lambda *_: None)
    monkeypatch.setattr(build_room, "load_weights", loader)
    where = PlacementConfig(quantization="nf4")
    with pytest.raises(AskedFor) as asked:
        build_room.load_language(str(tiny_parts / "lm-llama"), where, torch.float32)
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


@pytest.mark.parametrize(
    ("kind", "names"),
    [("swin", set()), ("vit", {"pooler.dense.weight", "pooler.dense.bias"}), ("dinov2", {"embeddings.mask_token"})],
)
def test_vision_parameters_that_get_no_gradient_are_found_by_trial(
    tiny_parts: Path, kind: str, names: set[str]
) -> None:
    """Lightning is told of them only where there are any, so nothing is looked for, and warned of, in vain."""
    model = ModelConfig(
        vision_model=str(tiny_parts / f"vision-{kind}"), lm_model=str(tiny_parts / "lm-llama"), alignment="deep"
    )
    built = build_model(model)
    assert set(gets_no_gradient(built)) == names
    assert all(parameter.grad is None for parameter in built.model.parameters())


def test_shards_of_unequal_length_come_back_in_the_order_of_one_process() -> None:
    assert in_batch_order([[[0], [3], [6]], [[1], [4]], [[2], [5]]]) == [[index] for index in range(7)]
    assert in_batch_order([[], []]) == []


def scoring(checkpoint: Path, output: Path, **given: object) -> list[str]:
    """A test command whose last round has a batch for one process only: batches of 2 and 1 studies of split test."""
    fixed = {"ckpt_file": checkpoint, "output": output, "accelerator": "cpu", "meteor": "none"}
    settings = {**fixed, "test_batch_size": 2, **given}
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


RESULTS = ("predictions.jsonl", "scores.json", "report.html")


def test_two_processes_write_the_files_of_one_byte_for_byte(
    tiny_checkpoint: Path, tmp_path: Path, run_cli: Callable[[list[str]], Outcome]
) -> None:
    """Eight studies in batches of three over two processes: one has two batches, the other one."""
    argv = {n: scoring(tiny_checkpoint, tmp_path / str(n), devices=n, split="train", test_batch_size=3) for n in (1, 2)}
    outcomes = {1: run_cli(["test", *argv[1]]), 2: run(TEST_ENTRY, argv[2])}
    for outcome in outcomes.values():
        assert outcome.code == 0, outcome.stderr
        assert complaints(outcome) == []
    assert outcomes[2].stdout.replace(str(tmp_path / "2"), str(tmp_path / "1")) == outcomes[1].stdout
    assert sorted(path.name for path in (tmp_path / "2").iterdir()) == sorted([*RESULTS, "card"])
    for name in (*RESULTS, "card/README.md", "card/index.html"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    ids = [json.loads(line)["id"] for line in (tmp_path / "2" / RESULTS[0]).read_text().splitlines()]
    assert ids == [f"train{index}" for index in range(8)]


@pytest.mark.drill
@pytest.mark.parametrize("processes", [2, 3])
def test_sampled_texts_do_not_depend_on_the_number_of_processes(
    tiny_checkpoint: Path, tmp_path: Path, processes: int
) -> None:
    given = {"do_sample": True, "temperature": 1.5, "beam_size": 1, "split": "train", "test_batch_size": 1}
    for n in (1, processes):
        done = run(TEST_ENTRY, scoring(tiny_checkpoint, tmp_path / str(n), devices=n, **given))
        assert done.code == 0, done.stderr
    for name in RESULTS:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / str(processes) / name).read_bytes()


@pytest.mark.drill
def test_more_processes_than_batches_leave_the_others_idle(tiny_checkpoint: Path, tmp_path: Path) -> None:
    done = run(TEST_ENTRY, scoring(tiny_checkpoint, tmp_path / "out", devices=3, test_batch_size=16))
    assert done.code == 0, done.stderr
    assert len((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()) == 3


@pytest.mark.drill
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_process_of_a_test_is_killed_the_other_ends_within_a_minute_and_writes_nothing(
    tiny_checkpoint: Path, tmp_path: Path, victim: int
) -> None:
    script = tmp_path / "killing.py"
    script.write_text(KILLED_TEST, encoding="utf-8")
    begun = time.monotonic()
    argv = scoring(tiny_checkpoint, tmp_path / "out", devices=2)
    done = run(script, argv, END_PROCESS=str(victim))
    assert time.monotonic() - begun < 60  # start of both processes included; `run` waits for both to end
    assert done.code != 0
    assert f"r2gengpt test: process {1 - victim} of 2 lost another one" in done.stderr
    assert "the same command begins the evaluation anew" in done.stderr
    assert not (tmp_path / "out").exists()
    again = run(TEST_ENTRY, argv)
    assert again.code == 0, again.stderr


@pytest.mark.drill
def test_an_image_that_the_second_process_cannot_read_is_one_line_and_no_file(
    tiny_checkpoint: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    """Study test2 is alone in the second batch, so the second process meets it."""
    images = tmp_path / "images"
    shutil.copytree(tiny_set.base_dir, images)
    (images / "test2_0.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = run(TEST_ENTRY, scoring(tiny_checkpoint, tmp_path / "out", devices=2, base_dir=images))
    assert (done.code, done.stdout) == (2, "")
    said = [line for line in done.stderr.replace("\r", "\n").splitlines() if line.startswith("r2gengpt")]
    assert len(said) == 1
    assert said[0].startswith(f"r2gengpt test: image {images / 'test2_0.png'}: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.drill
@pytest.mark.parametrize("command", ["train", "test"])
def test_processes_that_torchrun_started_are_joined(
    tiny_parts: Path, tiny_set: TinySet, tiny_checkpoint: Path, tmp_path: Path, command: str
) -> None:
    argv = {
        "train": flags(tiny_parts, tiny_set, tmp_path / "run", 2),
        "test": scoring(tiny_checkpoint, tmp_path / "run", devices=2),
    }[command]
    launcher = tmp_path / "launcher.py"
    launcher.write_text("from torch.distributed.run import main; main()", encoding="utf-8")
    words = ["--standalone", "--nproc-per-node", "2", str(ENTRY.with_name(f"{command}.py"))]
    done = run(launcher, [*words, *argv])
    assert done.code == 0, done.stderr
    assert done.stdout.count("best" if command == "train" else "report.html") == 1
    assert (tmp_path / "run" / ("summary.json" if command == "train" else "scores.json")).is_file()


def test_two_processes_train_lora_on_eight_bit_weights_as_one_does(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, run_cli: Callable[[list[str]], Outcome]
) -> None:
    pytest.importorskip("bitsandbytes")
    given = {
        "quantization": "int8", "alignment": "shallow", "max_epochs": 1, "scorer_types": "val_loss", "weights": 1.0
    }  # fmt: skip
    single = run_cli(["train", *flags(tiny_parts, tiny_set, tmp_path / "one", 1, **given)])
    double = run(ENTRY, flags(tiny_parts, tiny_set, tmp_path / "two", 2, **given))
    for done in (single, double):
        assert done.code == 0, done.stderr
        assert complaints(done) == []
    assert logged(tmp_path / "two", "loss") == pytest.approx(logged(tmp_path / "one", "loss"), abs=1e-5)
    assert largest_difference(tmp_path / "one", tmp_path / "two") < 1e-5


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"strategy": "fsdp_cpu_offload"}, ("--strategy fsdp_cpu_offload: not tried here", "choose fsdp")),
        ({"strategy": "ddp_spawn"}, ("--strategy ddp_spawn: ", "choose ddp")),
        ({"strategy": "nonsense"}, ("--strategy nonsense: choose from auto, single_device, ddp, ",)),
        ({"strategy": "single_tpu"}, ("--strategy single_tpu: choose from auto, ",)),
        ({"num_nodes": 2}, ("--num_nodes 2: MASTER_ADDR, MASTER_PORT, NODE_RANK not set",)),
    ],
    ids=str,
)
def test_what_cannot_start_is_refused_in_one_line(
    tiny_parts: Path,
    tiny_set: TinySet,
    tmp_path: Path,
    run_cli: Callable[[list[str]], Outcome],
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, Any],
    parts: tuple[str, ...],
) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    done = run_cli(["train", *flags(tiny_parts, tiny_set, tmp_path / "run", 2, **given)])
    assert (done.code, done.stdout) == (2, "")
    for part in parts:
        assert part in done.stderr.splitlines()[-1]
    assert done.stderr.count("r2gengpt train: ") == 1


def test_another_number_of_processes_than_slurm_started_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, run_cli: Callable[[list[str]], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = {
        "NTASKS": 2,
        "NTASKS_PER_NODE": 2,
        "JOB_ID": 1,
        "JOB_NAME": "test",
        "PROCID": 0,
        "LOCALID": 0,
        "NODEID": 0,
    }
    for name, value in started.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    done = run_cli(["test", *scoring(tiny_checkpoint, tmp_path / "out")])
    assert (done.code, done.stdout) == (2, "")
    assert "--devices auto: " in done.stderr
    assert "SLURM" in done.stderr
