"""Training in two processes under DeepSpeed's ZeRO (gloo, CPU) against one process, and against ddp."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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

pytest.importorskip("deepspeed")
if shutil.which("g++") is None:
    pytest.skip("DeepSpeed builds its operations for CPUs by g++", allow_module_level=True)

STAGES = ("deepspeed_stage_2", "deepspeed_stage_3")


@pytest.mark.parametrize("strategy", [pytest.param("deepspeed_stage_1", marks=pytest.mark.drill), *STAGES])
def test_two_processes_end_with_the_weights_and_scores_of_one_with_twice_the_batch(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, strategy: str
) -> None:
    two = tmp_path / "two"
    check_two_are_one(tiny_parts, tiny_set, tmp_path / "one", two, strategy=strategy)
    load_checkpoint(two / "best")


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"strategy": "deepspeed_stage_3", "quantization": "int8"}, ("_3: not with --quantization int8", "choose ddp")),
        ({"strategy": "deepspeed_stage_2", "precision": "bf16-true"}, ("_2: not with --precision bf16-true",)),
        ({"strategy": "deepspeed_stage_3_offload"}, ("--strategy deepspeed_stage_3_offload: not tried", "choose fsdp")),
    ],
    ids=str,
)
def test_what_was_not_tried_is_refused_in_one_line(
    tiny_parts: Path,
    tiny_set: TinySet,
    tmp_path: Path,
    run_cli: Callable[[list[str]], Outcome],
    given: dict[str, Any],
    parts: tuple[str, ...],
) -> None:
    done = run_cli(["train", *flags(tiny_parts, tiny_set, tmp_path / "run", 2, **given)])
    check_refused(done, tmp_path / "run", *parts)


@pytest.mark.drill
@pytest.mark.parametrize("strategy", STAGES)
@pytest.mark.parametrize(
    "given",
    [
        {"scorer_types": "val_loss", "weights": 1.0, "num_sanity_val_steps": 2, "val_check_interval": 1},
        {"num_sanity_val_steps": 2, "val_check_interval": 1, "engine": "hf"},
        {"alignment": "deep", "gradient_checkpointing": True, "gradient_clip_val": 0.5},
        {"alignment": "shallow", "llm_use_lora": False, "feature_norm": "standardize"},
        {"use_dora": True, "batch_size": 1, "accumulate_grad_batches": 2},
        {"precision": "bf16-mixed", "dtype": "bfloat16", "lm_model": "lm-llama", "gradient_clip_val": 1.0},
    ],
    ids=str,
)
def test_every_kind_of_run_is_that_of_ddp(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, strategy: str, given: dict[str, Any]
) -> None:
    """With val_loss alone ZeRO-3's weights stay in parts while processes have unequal numbers of validation batches."""
    given = given | {name: tiny_parts / str(given[name]) for name in ("lm_model",) if name in given}
    for name in ("ddp", strategy):
        done = run(ENTRY, flags(tiny_parts, tiny_set, tmp_path / name, 2, **given, strategy=name))
        assert done.code == 0, done.stderr
        assert complaints(done) == []
    low = "dtype" in given  # bfloat16 has 8 bits
    for metric in ("loss", "val_loss"):
        found, wanted = (logged(tmp_path / name, metric) for name in (strategy, "ddp"))
        assert found == pytest.approx(wanted, abs=2e-2 if low else 1e-5)
        assert len(found) > 1
    # AdamW takes a full step along gradients that are zero but for rounding (a key's bias)
    if given.get("alignment") != "deep" and not low:
        assert largest_difference(tmp_path / "ddp", tmp_path / strategy) < 1e-6


@pytest.mark.drill
def test_zero_2_trains_beside_packed_weights(tiny_parts: Path, tiny_set: TinySet, tmp_path: Path) -> None:
    for name in ("ddp", "deepspeed_stage_2"):
        given = {"strategy": name, "quantization": "nf4", "scorer_types": "val_loss", "weights": 1.0}
        done = run(ENTRY, flags(tiny_parts, tiny_set, tmp_path / name, 2, **given))
        assert done.code == 0, done.stderr
    assert largest_difference(tmp_path / "ddp", tmp_path / "deepspeed_stage_2") < 1e-6


@pytest.mark.drill
@pytest.mark.parametrize("strategy", STAGES)
@pytest.mark.parametrize("scorer", ["CIDEr", "val_loss"])
def test_killed_processes_started_again_end_with_the_same_weights(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, strategy: str, scorer: str
) -> None:
    given = {"strategy": strategy, "alignment": "deep", "weights": 1.0, "scorer_types": scorer}
    check_same_after_a_kill(tiny_parts, tiny_set, tmp_path, **given)


@pytest.mark.drill
@pytest.mark.parametrize("strategy", STAGES)
def test_when_one_process_is_killed_the_other_ends_within_a_minute_and_says_why(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, strategy: str
) -> None:
    check_that_the_other_ends(tiny_parts, tiny_set, tmp_path, 1, strategy)
