"""Training in two processes that hold a part of every weight each (FSDP2, gloo, CPU) against one process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from conftest import Outcome, TinySet
from processes import (
    ENTRY,
    check_refused,
    check_same_after_a_kill,
    check_that_the_other_ends,
    check_two_are_one,
    complaints,
    flags,
    largest_difference,
    logged,
    run,
)
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.config import TrainConfig
from r2gengpt.errors import InputError
from r2gengpt.settings import PlacementConfig
from r2gengpt.testing import tiny_language_model
from r2gengpt.training.distributed.processes import check_sharded

DELTAS = ("best/delta.safetensors", "last/delta.safetensors", "best/language_adapter/adapter_model.safetensors")

TELLING = """
import sys
from r2gengpt.training.module import R2GenGPTModule
def told(self):
    self.train()
    parts = [(p.to_local().numel(), p.numel()) for p in self.model.parameters()]
    own, whole = (sum(numbers) for numbers in zip(*parts))
    print(f"process {self.global_rank} holds {own / whole:.2f}", file=sys.stderr)
R2GenGPTModule.on_train_start = told
from r2gengpt.cli.main import main
main(["train", *sys.argv[1:]])
"""
"""The program, whose processes say which share of all weights is theirs."""


def test_two_processes_of_parts_end_with_the_weights_and_scores_of_one_whole_with_twice_the_batch(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    """Three validation studies: one process writes two reports, the other one."""
    one, two = tmp_path / "one", tmp_path / "two"
    script = tmp_path / "telling.py"
    script.write_text(TELLING, encoding="utf-8")
    double = check_two_are_one(tiny_parts, tiny_set, one, two, script=script, strategy="fsdp")
    for rank in (0, 1):
        assert f"process {rank} holds 0.50" in double.stderr
    for name in DELTAS:
        mine, theirs = load_file(two / name), load_file(one / name)
        assert {key: value.shape for key, value in mine.items()} == {key: value.shape for key, value in theirs.items()}
    load_checkpoint(two / "best")


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"strategy": "fsdp", "quantization": "int8"}, ("--strategy fsdp: not with --quantization int8", "choose ddp")),
        ({"strategy": "fsdp", "precision": "16-mixed"}, ("--precision 16-mixed needs a GPU",)),
        ({"strategy": "fsdp_cpu_offload"}, ("--strategy fsdp_cpu_offload: ", "choose fsdp")),
    ],
    ids=str,
)
def test_what_cannot_be_trained_in_parts_is_refused_in_one_line(
    tiny_parts: Path,
    tiny_set: TinySet,
    tmp_path: Path,
    run_cli: Callable[[list[str]], Outcome],
    given: dict[str, Any],
    parts: tuple[str, ...],
) -> None:
    done = run_cli(["train", *flags(tiny_parts, tiny_set, tmp_path / "run", 2, **given)])
    check_refused(done, tmp_path / "run", *parts)


def test_float16_in_parts_was_not_tried_and_is_refused() -> None:
    with pytest.raises(InputError, match=r"strategy fsdp: not with precision 16-mixed \(not tried\)"):
        check_sharded(TrainConfig(strategy="fsdp", precision="16-mixed"), PlacementConfig(quantization="none"))


@pytest.mark.drill
@pytest.mark.parametrize(
    "given",
    [
        {"scorer_types": "val_loss", "weights": 1.0},
        {"scorer_types": "val_loss", "weights": 1.0, "num_sanity_val_steps": 2, "val_check_interval": 1},
        {"num_sanity_val_steps": 2, "val_check_interval": 1, "engine": "hf"},
        {"alignment": "deep", "gradient_checkpointing": True},
        {"alignment": "shallow", "llm_use_lora": False, "feature_norm": "standardize"},
        {"use_dora": True, "batch_size": None, "accumulate_grad_batches": 2},
        {"lm_model": "lm-gemma3_text"},
        {"dtype": "bfloat16", "lm_model": "lm-llama", "llm_r": 1},
        {"precision": "bf16-mixed", "gradient_clip_val": 1.0, "dtype": "bfloat16"},
    ],
    ids=str,
)
def test_every_kind_of_run_is_the_same_in_parts(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, given: dict[str, Any]
) -> None:
    """With val_loss alone weights stay in parts while processes have unequal numbers of validation batches."""
    if given.get("lm_model") == "lm-gemma3_text":  # its loss is taken by `forward`, since it bounds its logits
        soft = tiny_language_model(tmp_path, "gemma3_text", tokenizer="llama")
        settings = json.loads((soft / "config.json").read_text()) | {"final_logit_softcapping": 2.0}
        (soft / "config.json").write_text(json.dumps(settings))
        given |= {"lm_model": soft}
    given |= {name: tiny_parts / str(given[name]) for name in ("lm_model", "vision_model") if name in given}
    for name, processes in (("one", 1), ("two", 2)):
        batch = {"batch_size": 2 // processes} if "batch_size" in given else {}
        parts = {"strategy": "fsdp"} if processes == 2 else {}
        done = run(ENTRY, flags(tiny_parts, tiny_set, tmp_path / name, processes, **{**given, **batch, **parts}))
        assert done.code == 0, done.stderr
        assert complaints(done) == []
    close = 1e-5 if "dtype" not in given else 2e-2  # bfloat16 has 8 bits
    for metric in ("loss", "val_loss"):
        found, wanted = (logged(tmp_path / name, metric) for name in ("two", "one"))
        assert found == pytest.approx(wanted, abs=close)
        assert len(found) > 1
    # AdamW takes a full step along gradients that are zero but for rounding (a key's bias)
    if given.get("alignment") != "deep" and "dtype" not in given:
        assert largest_difference(tmp_path / "one", tmp_path / "two") < 1e-6


@pytest.mark.drill
@pytest.mark.parametrize(("clip", "close"), [(None, 0.0), (0.5, 1e-7)])
def test_weights_in_parts_are_those_of_ddp_and_gradients_are_cut_by_the_norm_of_all_parts(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, clip: float | None, close: float
) -> None:
    """A norm is summed in another order; each process's own norm moved weights by 1.2e-4 at twice this rate."""
    for name in ("ddp", "fsdp"):
        given = {"strategy": name, "gradient_clip_val": clip, "scorer_types": "val_loss", "weights": 1.0}
        done = run(ENTRY, flags(tiny_parts, tiny_set, tmp_path / name, 2, **given))
        assert done.code == 0, done.stderr
    assert largest_difference(tmp_path / "ddp", tmp_path / "fsdp") <= close


@pytest.mark.drill
@pytest.mark.parametrize("scorer", ["CIDEr", "val_loss"])
def test_two_killed_processes_of_parts_started_again_end_with_the_same_weights(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, scorer: str
) -> None:
    given = {"alignment": "deep", "weights": 1.0, "scorer_types": scorer}
    check_same_after_a_kill(tiny_parts, tiny_set, tmp_path, strategy="fsdp", **given)


@pytest.mark.drill
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_process_of_parts_is_killed_the_other_ends_within_a_minute_and_says_why(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, victim: int
) -> None:
    check_that_the_other_ends(tiny_parts, tiny_set, tmp_path, victim, strategy="fsdp")
