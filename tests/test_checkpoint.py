"""Trained tensors to a directory and back: the same text, or a line that says what does not fit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from placements import FLOAT32
from r2gengpt import checkpoint
from r2gengpt.checkpoint import load_checkpoint, save_checkpoint, trained_names, write_settings
from r2gengpt.checkpoint_files import DELTA, find_checkpoint, read_settings
from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, Stored
from r2gengpt.errors import InputError
from r2gengpt.locate import check_agreement
from r2gengpt.options import Override
from r2gengpt.parts.assemble import Built, build_model
from r2gengpt.testing import noise_image
from reporters import stored_of


def trained(parts: Path, **options: Any) -> tuple[Built, Stored]:
    """A model whose trained tensors are random and none of them zero, and its settings."""
    names = {"vision_model": str(parts / "vision-swin"), "lm_model": str(parts / "lm-stablelm")}
    config = ModelConfig(**names | options)
    torch.manual_seed(0)
    built = build_model(config, FLOAT32)
    state = built.model.state_dict()
    with torch.no_grad():
        for name in trained_names(built.model):
            state[name].copy_(state[name] + 0.1 * torch.randn(state[name].shape))
    built.model.eval()
    return built, stored_of(config, DataConfig(dataset="iu_xray"), DecodeConfig(beam_size=2, max_new_tokens=9))


def write(built: Built) -> list[str]:
    """The text of two studies."""
    inputs = built.processor([[noise_image(1), noise_image(2)], [noise_image(3)]])
    built.model.generation_config.max_new_tokens = 12
    return built.processor.decode_reports(built.model.generate(**inputs))


def refusal(directory: Path, **changes: Any) -> str:
    with pytest.raises(InputError) as error:
        load_checkpoint(directory, "ckpt_file", FLOAT32, **changes)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "options",
    [
        {"alignment": "shallow"},
        {"alignment": "delta", "vis_r": 4},
        {"alignment": "deep"},
        {"llm_use_lora": True, "llm_r": 4, "llm_lora_targets": ("q", "down")},
        {"alignment": "delta", "llm_use_lora": True, "fusion": "concat"},
        {"image_tokens": 4, "feature_norm": "standardize", "instruction": "Describe the film."},
        {"global_only": True},
        {"alignment": "delta", "fusion": "concat", "feature_norm": "position"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_a_saved_checkpoint_comes_back_with_the_same_text(
    options: dict[str, Any], tiny_parts: Path, tmp_path: Path
) -> None:
    built, settings = trained(tiny_parts, **options)
    save_checkpoint(tmp_path / "best", built, settings, "card")
    loaded, found = load_checkpoint(tmp_path / "best", where=FLOAT32)
    assert not loaded.model.training
    assert write(loaded) == write(built)
    assert found == settings
    names = settings.flat()
    untouched = build_model(ModelConfig(**{key: names[key] for key in ("vision_model", "lm_model")}), FLOAT32)
    assert write(Built(untouched.model.eval(), untouched.processor)) != write(built)


def test_the_tensor_file_holds_what_was_trained_and_nothing_else(tiny_parts: Path, tmp_path: Path) -> None:
    built, settings = trained(tiny_parts, llm_use_lora=True, feature_norm="standardize")
    save_checkpoint(tmp_path / "best", built, settings, "card")
    tensors = safetensors.torch.load_file(tmp_path / "best" / DELTA)
    assert {name.split(".")[0] for name in tensors} == {"projector", "language_model"}
    assert all("lora_" in name for name in tensors if name.startswith("language_model"))
    assert {"projector.norm_in.mean", "projector.norm_in.scale", "projector.linear.weight"} <= tensors.keys()
    assert tensors.keys() == {*trained_names(built.model)}
    state = built.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in tensors.items())


def test_a_checkpoint_is_five_files_that_say_what_it_is_and_its_adapters(
    tiny_checkpoint: Path,
) -> None:
    names = {"config.json", DELTA, "processor_config.json", "generation_config.json", "README.md"}
    found = {path.name for path in tiny_checkpoint.iterdir() if not path.name.startswith("results-")}  # of other tests
    assert found == names | {"language_adapter", "vision_adapter"}
    settings = read_settings(tiny_checkpoint, "model")
    assert settings.flat()["dataset"] == "plain"
    decoding = json.loads((tiny_checkpoint / "generation_config.json").read_text())
    assert (decoding["num_beams"], decoding["max_new_tokens"]) == (3, 12)
    assert "not a medical device" in (tiny_checkpoint / "README.md").read_text()


def test_decode_lengths_left_open_are_stored_as_the_data_sets(tiny_parts: Path, tmp_path: Path) -> None:
    built, settings = trained(tiny_parts)
    save_checkpoint(tmp_path / "best", built, settings, "card")
    assert read_settings(tmp_path / "best", "model").flat()["min_new_tokens"] is None
    decoding = json.loads((tmp_path / "best" / "generation_config.json").read_text())
    assert (decoding["min_new_tokens"], decoding["max_new_tokens"]) == (9, 9)


def test_a_save_that_fails_leaves_the_older_checkpoint_whole(
    tiny_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, settings = trained(tiny_parts)
    save_checkpoint(tmp_path / "best", built, settings, "older")
    before = {path.name: path.read_bytes() for path in (tmp_path / "best").iterdir()}

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "generation_config", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path / "best", built, settings, "newer")
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "best").iterdir()} == before


@pytest.fixture
def spoilt(tiny_checkpoint: Path, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], object]], Path]:
    """A copy of the checkpoint whose tensors were changed."""

    def make(edit: Callable[[dict[str, Any]], object]) -> Path:
        directory = tmp_path / "spoilt"
        shutil.copytree(tiny_checkpoint, directory)
        tensors = safetensors.torch.load_file(directory / DELTA)
        edit(tensors)
        safetensors.torch.save_file(tensors, directory / DELTA)
        return directory

    return make


def test_a_missing_tensor_is_named(spoilt: Callable[..., Path]) -> None:
    directory = spoilt(lambda tensors: [tensors.pop("projector.norm.bias"), tensors.pop("projector.norm.weight")])
    assert refusal(directory) == (
        f"ckpt_file {directory}: {DELTA} misses 2 tensors, first projector.norm.bias: it belongs to another model"
    )


def test_an_unexpected_tensor_is_named(spoilt: Callable[..., Path]) -> None:
    directory = spoilt(lambda tensors: tensors.update({"projector.extra": torch.zeros(1)}))
    assert refusal(directory) == (
        f"ckpt_file {directory}: {DELTA} has unexpected 1 tensors, first projector.extra: it belongs to another model"
    )


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_tensor_with_a_value_that_is_no_number_is_named(spoilt: Callable[..., Path], value: float) -> None:
    directory = spoilt(lambda tensors: tensors["projector.norm.bias"][3:4].fill_(value))
    assert refusal(directory) == (
        f"ckpt_file {directory}: {DELTA}: projector.norm.bias holds values that are no finite numbers: "
        "its training has failed"
    )


def test_a_misshapen_tensor_is_named_with_both_shapes(spoilt: Callable[..., Path]) -> None:
    directory = spoilt(lambda tensors: tensors.update({"projector.linear.weight": torch.zeros(32, 8)}))
    assert refusal(directory) == (
        f"ckpt_file {directory}: {DELTA}: projector.linear.weight has shape (32, 8), this model needs (32, 16): "
        "it belongs to another model"
    )


def test_a_checkpoint_of_another_language_model_is_refused(tiny_checkpoint: Path, tiny_parts: Path) -> None:
    message = refusal(tiny_checkpoint, lm_model=str(tiny_parts / "lm-gpt2"))
    assert f"{DELTA} misses 16 tensors, first language_model.transformer.h.0.attn.c_attn.lora_A" in message


def test_a_checkpoint_that_was_trained_otherwise_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_checkpoint, directory := tmp_path / "other")
    stored = read_settings(directory, "ckpt_file")
    write_settings(directory, Stored.of({**stored.flat(), "llm_use_lora": False}))
    assert "has unexpected 28 tensors, first language_model" in refusal(directory)
    write_settings(directory, Stored.of({**stored.flat(), "llm_r": 8}))
    assert "down_proj.lora_A.default.weight has shape (4, 64), this model needs (8, 64)" in refusal(directory)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_tensor_file_that_was_cut_off_is_called_damaged(kept: int, tiny_checkpoint: Path, tmp_path: Path) -> None:
    directory = tmp_path / "cut"
    shutil.copytree(tiny_checkpoint, directory)
    (directory / DELTA).write_bytes((tiny_checkpoint / DELTA).read_bytes()[:kept])
    assert refusal(directory).startswith(f"ckpt_file {directory}: {DELTA} is damaged: ")


def test_a_directory_without_tensors_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    directory = tmp_path / "empty"
    shutil.copytree(tiny_checkpoint, directory, ignore=shutil.ignore_patterns(DELTA))
    assert refusal(directory) == f"ckpt_file {directory}: no {DELTA} there"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "config.json cannot be read"),
        ("[]", "config.json holds no JSON object"),
        ("{}", "config.json is not r2gengpt's: it names no vision_model"),
        ('{"model_type": "llama"}', "it names no vision_model"),
        ('{"vision_model": "v", "lm_model": "l", "llm_r": "16"}', "config.json: llm_r '16': must be of type int"),
        ('{"vision_model": "v", "lm_model": "l", "fusion": "max"}', "config.json: fusion max: choose from"),
    ],
)
def test_settings_that_are_not_ours_are_refused(content: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    message = refusal(tmp_path)
    assert message.startswith(f"ckpt_file {tmp_path}: ")
    assert reason in message


def test_a_checkpoint_is_found_as_itself_or_as_the_best_of_a_run(tiny_checkpoint: Path) -> None:
    assert find_checkpoint(str(tiny_checkpoint), "model") == tiny_checkpoint
    assert find_checkpoint(str(tiny_checkpoint.parent), "model") == tiny_checkpoint


def test_a_path_that_holds_no_checkpoint_is_refused_with_what_it_is(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "old.pth").write_bytes(b"x")
    for path, reason in (
        (tmp_path / "nowhere", "no such directory"),
        (tmp_path, "no config.json there, so no model"),
        (tiny_checkpoint / DELTA, "is a file, must be a checkpoint directory"),
        (tmp_path / "old.pth", "is a file, must be a checkpoint directory; turn an original .pth into one"),
    ):
        with pytest.raises(InputError) as error:
            find_checkpoint(str(path), "ckpt_file")
        assert str(error.value).startswith(f"ckpt_file {path}: {reason}")


def test_a_model_flag_may_not_contradict_what_was_trained() -> None:
    stored = stored_of(ModelConfig(llm_r=4, lm_model="a")).model
    check_agreement(stored, Override(ModelConfig, {"llm_r": 4, "lm_model": "b"}))
    with pytest.raises(InputError, match="llm_r 8: the checkpoint was trained with 4"):
        check_agreement(stored, Override(ModelConfig, {"llm_r": 8}))
