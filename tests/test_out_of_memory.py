"""Memory at its end is answered with what to try, in order, each with its flag, and nothing that is set already."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from conftest import Outcome, TinySet
from r2gengpt.cli import bridge
from r2gengpt.cli.commands import export, generate, train
from r2gengpt.cli.memory import CONFIGS, REMEDIES, is_out_of_memory, settings_of, what_to_try
from r2gengpt.model import R2GenGPTForConditionalGeneration
from r2gengpt.options import Override

Run = Callable[[list[str]], Outcome]


def allocate_too_much() -> torch.Tensor:
    return torch.empty(2**60, dtype=torch.uint8)


def test_pytorchs_own_refusal_on_a_cpu_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        allocate_too_much()
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes differ"))


def test_a_training_run_out_of_memory_ends_in_one_line_with_three_remedies(
    run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "main", lambda argv: allocate_too_much())
    outcome = run_cli(["train"])
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr == (
        "r2gengpt train: out of memory; try in this order: --batch_size 1 --accumulate_grad_batches 6 (the same step, "
        "less at once), --gradient_checkpointing True (less kept, more computed), --quantization nf4 (language model "
        "in 4 bits)\n"
    )


def test_another_runtime_error_keeps_its_traceback(run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(argv: list[str]) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(train, "main", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        run_cli(["train"])


@pytest.mark.parametrize("command", ["test", "generate"])
def test_memory_that_ends_in_the_middle_of_an_evaluation_is_one_line_and_no_file(
    command: str,
    run_cli: Run,
    tiny_checkpoint: Path,
    tiny_set: TinySet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def embed_too_much(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(R2GenGPTForConditionalGeneration, "embed", embed_too_much)
    words = {
        "test": ["--ckpt_file", str(tiny_checkpoint), "--output", str(tmp_path / "out"), "--beam_size", "1"],
        "generate": [str(tiny_set.base_dir / "val0_0.png"), "--model", str(tiny_checkpoint)],
    }[command]
    outcome = run_cli([command, *words])
    assert (outcome.code, outcome.stdout) == (1, "")
    last = outcome.stderr.splitlines()[-1]
    first = {"test": "--test_batch_size 1", "generate": "--beam_size 1"}[command]
    assert last.startswith(f"r2gengpt {command}: out of memory; try in this order: {first}")
    assert ("--beam_size 1" in last) == (command == "generate")
    assert not (tmp_path / "out").exists()


APPLIED = {
    "train": (
        ("--batch_size 1", "--batch_size"),
        ("--gradient_checkpointing True", "--gradient_checkpointing"),
        ("--quantization fp4", "--quantization"),
        ("--low_resource True", "--dtype"),
        ("--val_batch_size 1", "--val_batch_size"),
        ("--beam_size 1", "--beam_size"),
        ("--max_length 30", "--max_length"),
    ),
    "test": (
        ("--test_batch_size 1", "--test_batch_size"),
        ("--beam_size 1", "--beam_size"),
        ("--dtype bfloat16", "--dtype"),
        ("--quantization nf4", "--quantization"),
    ),
}


@pytest.mark.parametrize("command", APPLIED)
def test_what_is_set_already_is_not_advised_and_the_next_thing_comes_instead(command: str) -> None:
    words: list[str] = []
    for flags, absent in APPLIED[command]:
        before = what_to_try(command, words)
        words += flags.split()
        after = what_to_try(command, words)
        assert absent not in after
        assert after != before or absent not in before
    assert what_to_try(command, words) == "a smaller language model (`r2gengpt plan` says what one needs)"


def test_accumulation_that_is_on_already_is_kept() -> None:
    advice = what_to_try("train", ["--batch_size", "4", "--accumulate_grad_batches", "3"])
    assert advice.startswith("--batch_size 1 --accumulate_grad_batches 12 ")


def test_the_settings_that_lie_with_the_model_count_as_set(tiny_checkpoint: Path, tmp_path: Path) -> None:
    stored = json.loads((tiny_checkpoint / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**stored, "dtype": "bfloat16", "beam_size": 1}))
    advice = what_to_try("generate", ["film.png", "--model", str(tmp_path)])
    assert "--beam_size" not in advice
    assert advice.startswith("--dtype bfloat16")  # how weights are held is never read from there
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "r2gengpt"}))
    assert "--quantization" not in what_to_try("test", ["--model", str(tmp_path)])  # refused for a whole model
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"load_in_8bit": True}}))
    assert "--quantization" not in what_to_try("train", ["--lm_model", str(tmp_path)])


def test_a_training_command_that_tests_gets_the_advice_for_testing() -> None:
    assert what_to_try("train", ["--test"]) == what_to_try("test", [])


def test_a_stream_has_one_beam_already() -> None:
    assert "--beam_size" not in what_to_try("generate", ["film.png", "--stream"])


@pytest.mark.parametrize("command", REMEDIES)
def test_every_remedy_is_a_flag_of_that_command_with_a_value_that_is_accepted(command: str) -> None:
    configs = {"generate": generate.FLAGS, "export": export.FLAGS}.get(command, CONFIGS)
    parser = bridge.Parser()
    bridge.add_flags(parser, configs)
    settings = settings_of(command, [])
    words = " ".join(" ".join(re.findall(r"--\w+ \w+", remedy.advice(settings))) for remedy in REMEDIES[command])
    given = bridge.given_values(bridge.parse(parser, words.split()), configs)
    assert given or command == "export"
    for config in configs:
        Override.of(config, given).settled()
