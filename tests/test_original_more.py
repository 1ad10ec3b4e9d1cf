"""Original checkpoints in other forms: Lightning's, DataParallel's, with flags left out; what of them a run takes."""

import argparse
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Outcome, TinySet
from original_model import KINDS, OLD_SWIN, OriginalModel, original_flags, save_original
from r2gengpt.checkpoint_files import read_settings
from r2gengpt.errors import InputError
from r2gengpt.original.read import read_original
from r2gengpt.parts.sentencepiece import pieces_of
from r2gengpt.testing import noise_image

Cli = Callable[[list[str]], Outcome]
Parts = tuple[str, str]
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT's own wrapper
SHORT = ["--min_new_tokens", "0", "--max_new_tokens", "4", "--dtype", "float32", "--accelerator", "cpu"]


@pytest.fixture
def parts(tiny_parts: Path) -> Parts:
    return str(tiny_parts / "vision-swin"), str(tiny_parts / "lm-llama")


def film(directory: Path) -> str:
    noise_image(1).save(directory / "film.png")
    return str(directory / "film.png")


def old_name(name: str) -> str:
    for new, old in OLD_SWIN if name.startswith("visual_encoder") else ():
        name = name.replace(new, old)
    return name


def save_lightning(path: Path, model: OriginalModel, **changes: Any) -> Path:
    """What Lightning's ModelCheckpoint writes: all parameters and buffers, the flags, its own records."""
    state = {old_name(name): value for name, value in model.state_dict().items()}
    content = {"epoch": 2, "global_step": 345, "pytorch-lightning_version": "2.0.5", "state_dict": state}
    records = {"loops": {}, "callbacks": {"ModelCheckpoint": {"best_model_path": ""}}, "optimizer_states": [{}]}
    torch.save({**content, **records, "hparams_name": "args", "hyper_parameters": vars(model.flags), **changes}, path)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_lightnings_checkpoint_is_read_as_the_originals_own_file(kind: str, parts: Parts, tmp_path: Path) -> None:
    model = OriginalModel(original_flags(parts, **KINDS[kind]))
    own = read_original(save_original(tmp_path / "o.pth", model))
    other = read_original(save_lightning(tmp_path / "epoch=2-step=345.ckpt", model))
    assert other.tensors.keys() == own.tensors.keys()
    assert all(torch.equal(tensor, own.tensors[name]) for name, tensor in other.tensors.items())
    assert (other.stored, other.parts, other.epoch, other.step) == (own.stored, own.parts, own.epoch, own.step)


def test_lightnings_checkpoint_is_used_as_it_is(parts: Parts, tmp_path: Path, run_cli: Cli) -> None:
    model = OriginalModel(original_flags(parts, vis_use_lora=True))
    files = save_original(tmp_path / "o.pth", model), save_lightning(tmp_path / "o.ckpt", model)
    texts = [run_cli(["generate", film(tmp_path), "--model", str(file), *SHORT]) for file in files]
    assert texts[0].code == texts[1].code == 0, texts[1].stderr
    assert texts[0].stdout == texts[1].stdout
    for changes, message in (
        ({"hyper_parameters": {"vis_use_lora": False}}, "hyper_parameters do not say freeze_vm"),
        (
            {"hyper_parameters": None},
            "not an original checkpoint: no tensors under 'model' (it holds epoch",
        ),
    ):
        broken = save_lightning(tmp_path / "broken.ckpt", model, **changes)
        done = run_cli(["generate", film(tmp_path), "--model", str(broken), *SHORT])
        assert (done.code, done.stderr.count("\n")) == (2, 1)
        assert message in done.stderr


def test_names_of_data_parallel_are_the_same_tensors(parts: Parts, tmp_path: Path) -> None:
    model = OriginalModel(original_flags(parts, vis_use_lora=True, llm_use_lora=True))
    plain = read_original(save_original(tmp_path / "o.pth", model))
    for prefix in ("module.", "module.module."):
        wrapped = {prefix + name: value for name, value in model.trained().items()}
        found = read_original(save_original(tmp_path / "w.pth", model, wrapped))
        assert found.tensors.keys() == plain.tensors.keys()
        assert found.parts == plain.parts
    both = {**model.trained(), "module.llama_proj.bias": torch.ones(32)}
    with pytest.raises(InputError, match=r"module\.llama_proj\.bias stands there twice"):
        read_original(save_original(tmp_path / "both.pth", model, both))


def without(flags: argparse.Namespace, *names: str) -> argparse.Namespace:
    return argparse.Namespace(**{name: value for name, value in vars(flags).items() if name not in names})


@pytest.mark.parametrize(
    ("kind", "names", "told"),
    [
        ({"vis_use_lora": True}, ("vis_alpha", "global_only"), "--vis_alpha 16 --global_only False;"),
        ({"llm_use_lora": True}, ("llm_alpha", "vis_alpha"), "--llm_alpha 16;"),
        ({}, ("global_only", "llm_alpha"), "--global_only False;"),
        ({}, ("vision_model",), "--vision_model microsoft/swin-base-patch4-window7-224;"),
    ],
    ids=str,
)
@pytest.mark.parametrize("command", ["generate", "test", "train", "convert"])
def test_what_a_file_does_not_say_is_told_with_the_default_that_is_taken(
    command: str, kind: dict[str, bool], names: tuple[str, ...], told: str,
    parts: Parts, tiny_set: TinySet, tmp_path: Path, run_cli: Cli,
) -> None:  # fmt: skip
    model = OriginalModel(original_flags(parts, **kind))
    model.flags = without(model.flags, *names)
    source = str(save_original(tmp_path / "o.pth", model))
    data = ["--annotation", str(tiny_set.annotation), "--base_dir", str(tiny_set.base_dir)]
    argv = {
        "generate": ["generate", film(tmp_path), "--model", source, *SHORT],
        "test": ["test", "--delta_file", source, *data, "--output", str(tmp_path / "out"), *SHORT, "--meteor", "none"],
        "train": ["train", "--delta_file", source, *data, "--savedmodel_path", str(tmp_path / "run"), *TRAIN],
        "convert": ["convert", source, "--output", str(tmp_path / "ours"), "--check", "False"],
    }[command]
    if "vision_model" in names and command != "convert":
        assert run_cli(argv).code == 2  # that model is not here
        return
    done = run_cli(argv)
    assert done.code == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "settings lack" in line]
    assert told in line
    if "vision_model" not in names:
        values = {"vis_alpha": "8", "llm_alpha": "3", "global_only": "False"}
        flags = [word for name in names for word in (f"--{name}", values[name])]
        for directory in ("ours", "run"):
            shutil.rmtree(tmp_path / directory, ignore_errors=True)
        assert "settings lack" not in run_cli([*argv, *flags]).stderr


TRAIN = ["--max_steps", "1", "--precision", "32-true", "--limit_val_batches", "0", *SHORT]


def test_training_takes_the_files_data_settings_and_says_so(
    parts: Parts, tiny_set: TinySet, tmp_path: Path, run_cli: Cli
) -> None:
    source = str(save_original(tmp_path / "o.pth", OriginalModel(original_flags(parts))))
    data = ["--annotation", str(tiny_set.annotation), "--base_dir", str(tiny_set.base_dir)]
    both = "--dataset iu_xray --max_length 60"
    for flags, dataset, told in (([], "iu_xray", both), (["--dataset", "plain"], "plain", "--max_length 60")):
        run = tmp_path / dataset
        done = run_cli(["train", "--delta_file", source, *data, *flags, "--savedmodel_path", str(run), *TRAIN])
        assert done.code == 0, done.stderr
        settings = read_settings(run / "last", "model")
        assert (settings.flat()["dataset"], settings.flat()["max_length"]) == (dataset, 60)
        assert f"data settings of this file are taken: {told}\n" in done.stderr


def test_tries_of_a_hub_out_of_reach_are_not_told_one_by_one() -> None:
    from r2gengpt.cli.console import start_logging

    start_logging()
    assert not logging.getLogger("huggingface_hub.utils._http").isEnabledFor(logging.WARNING)


def sentencepiece_model(file: Path, pieces: list[str]) -> None:
    """A SentencePiece model of these pieces: its protocol buffer, other fields around them."""

    def field(number: int, data: bytes) -> bytes:
        size, head = len(data), b""
        while size > 127:
            head, size = head + bytes([size % 128 + 128]), size // 128
        return bytes([number << 3 | 2]) + head + bytes([size]) + data

    body = b"".join(field(1, field(1, piece.encode()) + b"\x15\x00\x00\x80\xbf\x18\x01") for piece in pieces)
    file.write_bytes(body + field(2, b"\x18\x02" + field(4, b"trainer")))


def test_two_tokenizers_of_one_model_that_disagree_are_named(
    tiny_checkpoint: Path, tiny_parts: Path, tmp_path: Path, run_cli: Cli
) -> None:
    language = Path(shutil.copytree(tiny_parts / "lm-stablelm", tmp_path / "lm"))
    ids = json.loads((language / "tokenizer.json").read_text())["model"]["vocab"]
    pieces = sorted(ids, key=ids.__getitem__)
    argv = ["generate", film(tmp_path), "--model", str(tiny_checkpoint), "--lm_model", str(language), *SHORT]
    plain = run_cli(argv)
    assert (plain.code, "tokenizer.model" in plain.stderr) == (0, False)
    for changed, told in (
        (pieces, None),
        ([*pieces[:5], pieces[6], pieces[5], *pieces[7:]], f"gives 2 of its {len(pieces)} tokens another id, first 5 "),
        ([*pieces, "new"], f"gives 1 of its {len(pieces) + 1} tokens another id, first {len(pieces)} "),
    ):
        sentencepiece_model(language / "tokenizer.model", changed)
        assert pieces_of(language / "tokenizer.model") == changed
        done = run_cli(argv)
        assert (done.code, done.stdout) == (0, plain.stdout)
        assert ("tokenizer.json is used; tokenizer.model" in done.stderr) == (told is not None)
        assert told is None or told in done.stderr
    for other in (b"", b"IQ== 0\nIg== 1\n", b"\xff" * 40, b"\x0a\xff\x01"):
        (language / "tokenizer.model").write_bytes(other)
        assert "tokenizer.model" not in run_cli(argv).stderr
