"""No model directory has code of its own run, or a setting of the machine taken, unless the user says so by a flag."""

import argparse
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Outcome, TinySet
from hostile_parts import LANGUAGE, VISION, WHOLE, edit, spoilt
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.checkpoint_files import read_settings
from r2gengpt.config import KEPT, DataConfig, DecodeConfig, ModelConfig, TrainConfig
from r2gengpt.errors import InputError
from r2gengpt.settings import PlacementConfig
from r2gengpt.testing import noise_image

Cli = Callable[[list[str]], Outcome]
TRUST = "code of its own, which runs only if you trust it: --trust_remote_code True"
OWN = VISION["an architecture of its own"]


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What code that runs would make."""
    return tmp_path / "ran"


@pytest.fixture(scope="module")
def whole(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint as one plain directory."""
    from r2gengpt.cli.main import run

    directory = tmp_path_factory.mktemp("whole") / "model"
    assert run("export", ["--model", str(tiny_checkpoint), "--output", str(directory)]) == 0
    return directory


def asking(checkpoint: Path, directory: Path, **parts: Path) -> Path:
    """A copy of the checkpoint whose config.json names these parts and claims that their code is trusted."""
    copy = Path(shutil.copytree(checkpoint, directory))
    edit(copy / "config.json", trust_remote_code=True, **{name: str(path) for name, path in parts.items()})
    return copy


def film(directory: Path) -> str:
    noise_image(1).save(directory / "film.png")
    return str(directory / "film.png")


def harmless(done: Outcome, marker: Path) -> None:
    """The command wrote a report, or one line that says why not; nothing ran."""
    assert not marker.exists()
    assert "Traceback" not in done.stderr
    assert done.code == 0 or (done.code, done.stderr.count("\n")) == (2, 1), done.stderr


FOLDERS = {
    **{f"vision_model: {name}": ("vision-swin", spoil) for name, spoil in VISION.items()},
    **{f"lm_model: {name}": ("lm-stablelm", spoil) for name, spoil in LANGUAGE.items()},
}


@pytest.mark.parametrize("name", FOLDERS)
def test_no_folder_that_a_checkpoint_names_runs_its_code(
    name: str, tiny_checkpoint: Path, tiny_parts: Path, tmp_path: Path, marker: Path, run_cli: Cli
) -> None:
    (source, spoil), part = FOLDERS[name], name.split(":")[0]
    evil = spoilt(tiny_parts / source, tmp_path / "evil", marker, spoil)
    model = asking(tiny_checkpoint, tmp_path / "model", **{part: evil})
    done = run_cli(["generate", film(tmp_path), "--model", str(model), "--max_new_tokens", "3"])
    harmless(done, marker)
    if "of its own" in done.stderr:
        assert f"--{part} {evil}: " in done.stderr
        assert TRUST in done.stderr


@pytest.mark.parametrize("name", WHOLE)
def test_no_whole_model_runs_code(name: str, whole: Path, tmp_path: Path, marker: Path, run_cli: Cli) -> None:
    model = spoilt(whole, tmp_path / "model", marker, WHOLE[name])
    harmless(run_cli(["generate", film(tmp_path), "--model", str(model), "--max_new_tokens", "3"]), marker)
    for flag, value in (("--trust_remote_code", "True"), ("--device_map", "auto")):
        done = run_cli(["generate", film(tmp_path), "--model", str(whole), flag, value])
        assert (done.code, done.stderr.count("\n")) == (2, 1)
        assert "is a whole model" in done.stderr


def commands(model: Path, evil: Path, good: Path, data: TinySet, out: Path) -> dict[str, list[str]]:
    """Each command on a checkpoint whose vision encoder has code, or on that encoder."""
    studies = ["--annotation", str(data.annotation), "--base_dir", str(data.base_dir), "--dataset", "plain"]
    image, output = film(out), ["--output", str(out / "out")]
    return {
        "generate": ["generate", image, "--model", str(model)],
        "generate in a stream": ["generate", image, "--model", str(model), "--stream"],
        "test": ["test", "--ckpt_file", str(model), *studies, *output],
        "test delta": ["test", "--delta_file", str(model), *studies, *output],
        "train to test": ["train", "--test", "True", "--ckpt_file", str(model), *studies],
        "train to validate": ["train", "--validate", "True", "--delta_file", str(model), *studies],
        "train": [
            *("train", "--ckpt_file", str(model), *studies, "--savedmodel_path", str(out / "run")),
            *("--vision_model", str(evil), "--lm_model", str(good)),
        ],
        "export": ["export", "--model", str(model), *output],
        "export to edge": ["export", "--model", str(model), "--target", "openvino", *output],
        "plan": ["plan", "--vision_model", str(evil), "--lm_model", str(good)],
        "quantize": ["quantize", "--lm_model", str(evil), "--quantization", "nf4", *output],
    }


COMMANDS = (
    *("generate", "generate in a stream", "test", "test delta", "train to test", "train to validate", "train"),
    *("export", "export to edge", "plan", "quantize"),
)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_names_the_flag_and_runs_nothing(
    name: str, tiny_checkpoint: Path, tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, marker: Path, run_cli: Cli
) -> None:
    evil = spoilt(tiny_parts / "vision-swin", tmp_path / "evil", marker, OWN)
    model = asking(tiny_checkpoint, tmp_path / "model", vision_model=evil)
    argv = commands(model, evil, tiny_parts / "lm-stablelm", tiny_set, tmp_path)[name]
    done = run_cli(argv)
    assert (done.code, done.stderr.count("\n")) == (2, 1), done.stderr
    assert TRUST in done.stderr
    assert not marker.exists()
    assert not any((tmp_path / name).exists() for name in ("out", "run"))


def test_what_the_server_the_listener_and_a_bulk_run_load_runs_nothing(
    tiny_checkpoint: Path, tiny_parts: Path, tmp_path: Path, marker: Path
) -> None:
    from r2gengpt.batch.model import BulkModel, load_writer
    from r2gengpt.locate import ModelChoice, locate
    from r2gengpt.reporter import Reporter
    from r2gengpt.settings import BatchConfig

    evil = spoilt(tiny_parts / "vision-swin", tmp_path / "evil", marker, VISION["an image processor of its own"])
    model = str(asking(tiny_checkpoint, tmp_path / "model", vision_model=evil))
    film(tmp_path)
    choice = ModelChoice(model, accelerator="cpu")
    bulk = BatchConfig(input=str(tmp_path), output=str(tmp_path / "out"))
    for start in (
        lambda: Reporter.load(choice),
        lambda: BulkModel(locate(choice), bulk).work(),
        lambda: load_writer(locate(choice), 1, False, lambda: None),
    ):
        with pytest.raises(InputError) as refusal:
            start()
        assert TRUST.replace("--", "") in str(refusal.value)
        assert not marker.exists()


def original_file(path: Path, evil: Path, language: Path) -> Path:
    """A file of the original's whose flags ask for trust and name a folder with code."""
    names = {"vision_model": str(evil), "llama_model": str(language)}
    flags = argparse.Namespace(**names, trust_remote_code=True, dataset="plain", global_only=False)
    model = {"llama_proj.weight": torch.ones(32, 16), "llama_proj.bias": torch.ones(32)}
    norm = {"layer_norm.weight": torch.ones(32), "layer_norm.bias": torch.ones(32)}
    torch.save({"model": {**model, **norm}, "config": flags, "epoch": 1, "step": 1}, path)
    return path


@pytest.mark.parametrize("command", ["generate", "test", "train", "convert"])
def test_an_original_file_cannot_ask_for_trust(
    command: str, tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, marker: Path, run_cli: Cli
) -> None:
    evil = spoilt(tiny_parts / "vision-swin", tmp_path / "evil", marker, OWN)
    source = str(original_file(tmp_path / "o.pth", evil, tiny_parts / "lm-stablelm"))
    data = ["--annotation", str(tiny_set.annotation), "--base_dir", str(tiny_set.base_dir)]
    argv = {
        "generate": ["generate", film(tmp_path), "--model", source],
        "test": ["test", "--delta_file", source, *data],
        "train": ["train", "--delta_file", source, *data, "--savedmodel_path", str(tmp_path / "run")],
        "convert": ["convert", source, "--output", str(tmp_path / "out")],
    }[command]
    done = run_cli(argv)
    assert (done.code, done.stderr.splitlines()[-1].count(TRUST)) == (2, 1), done.stderr
    assert not marker.exists()


def test_with_the_flag_the_code_runs(tiny_parts: Path, tmp_path: Path, marker: Path, run_cli: Cli) -> None:
    """The same folder, so that the tests above would see a marker."""
    evil = spoilt(tiny_parts / "vision-swin", tmp_path / "evil", marker, OWN)
    language = ["--lm_model", str(tiny_parts / "lm-stablelm")]
    done = run_cli(["plan", "--vision_model", str(evil), *language, "--trust_remote_code", "True"])
    assert marker.exists()
    assert "Traceback" not in done.stderr


def test_a_chat_template_runs_in_a_sandbox(tiny_parts: Path, tmp_path: Path, marker: Path) -> None:
    from r2gengpt.config import ModelConfig
    from r2gengpt.parts.assemble import build_model

    evil = spoilt(tiny_parts / "lm-stablelm", tmp_path / "evil", marker, LANGUAGE["a chat template"])
    config = ModelConfig(lm_model=str(evil), vision_model=str(tiny_parts / "vision-swin"), template="chat")
    with pytest.raises(InputError, match=r"template chat: the chat template of .* cannot be filled"):
        build_model(config)
    assert not marker.exists()


def hostile_settings(out: Path) -> dict[str, Any]:
    """A value for each setting of the machine or its user that would change a run, or end it."""
    return {
        "quantization": "nf4",
        "double_quant": True,
        "low_resource": True,
        "dtype": "float16",
        "device_map": "auto",
        "offload_folder": str(out / "made"),
        "max_memory": ["cpu=1KB"],
        "trust_remote_code": True,
        "lm_endpoint": "http://127.0.0.1:9/v1",
        "annotation": str(out / "made.json"),
        "base_dir": str(out),
        "val_batch_size": 10**9,
        "test_batch_size": 10**9,
        "num_workers": 10**6,
        "prefetch_factor": 10**6,
        "frame": 7,
        "force": True,
        "mixed_patients": True,
        "feature_cache": str(out / "made"),
        "feature_cache_dtype": "int8",
        "savedmodel_path": str(out / "made"),
        "ckpt_file": str(out / "made"),
        "delta_file": str(out / "made"),
        "resume": False,
        "overwrite": True,
        "test": True,
        "validate": True,
        "gradient_checkpointing": True,
        "keep_sentences": True,
        "devices": "7",
        "num_nodes": 7,
        "accelerator": "cuda",
        "strategy": "nosuch",
        "limit_test_batches": 0.01,
        "num_sanity_val_steps": 10**6,
        "choose_decode": -1,
        "loggers": ["wandb", "mlflow"],
        "log_samples": 10**6,
        "every_n_train_steps": 10**6,
    }


def test_each_setting_of_the_machine_has_a_hostile_value_here(tmp_path: Path) -> None:
    names = {
        f.name
        for config in (ModelConfig, DataConfig, DecodeConfig, TrainConfig, PlacementConfig)
        for f in fields(config)
    }
    assert hostile_settings(tmp_path).keys() == names - KEPT
    assert not KEPT & {f.name for f in fields(PlacementConfig)}


@pytest.mark.parametrize("kind", ["valid", "of no type"])
def test_no_setting_of_the_machine_is_read_from_a_checkpoint(
    kind: str, tiny_checkpoint: Path, tiny_set: TinySet, tmp_path: Path, run_cli: Cli
) -> None:
    values = hostile_settings(tmp_path)
    values = values if kind == "valid" else {name: {"an": "object"} for name in values}
    model = Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))
    edit(model / "config.json", **values)
    studies = ["--annotation", str(tiny_set.annotation), "--base_dir", str(tiny_set.base_dir), "--meteor", "none"]
    image = film(tmp_path)
    for argv in (
        ["generate", image, "--model", "MODEL"],
        ["test", "--model", "MODEL", *studies, "--nearest_image", "False", "--output", str(tmp_path / "OUT")],
        ["export", "--model", "MODEL", "--output", str(tmp_path / "OUT-export")],
    ):
        for name, source in (("one", model), ("two", tiny_checkpoint)):
            done = run_cli([word.replace("MODEL", str(source)).replace("OUT", name) for word in argv])
            assert done.code == 0, done.stderr
            (tmp_path / f"{name}.txt").write_text(done.stdout if argv[0] == "generate" else "")
        assert (tmp_path / "one.txt").read_text() == (tmp_path / "two.txt").read_text()
    assert (tmp_path / "one" / "predictions.jsonl").read_text() == (tmp_path / "two" / "predictions.jsonl").read_text()
    exported = [(tmp_path / f"{name}-export" / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert exported[0] == exported[1]
    assert not (tmp_path / "made").exists()
    assert read_settings(model, "--model") == read_settings(tiny_checkpoint, "model")


def test_what_an_older_checkpoint_holds_and_is_not_read_is_one_line(
    tiny_checkpoint: Path, tmp_path: Path, run_cli: Cli
) -> None:
    model = Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))
    edit(
        model / "config.json",
        trust_remote_code=True,
        quantization="nf4",
        dtype="auto",
        max_memory=[],
        device_map="none",
    )
    argv = ["generate", film(tmp_path), "--model", str(model)]
    told = [line for line in run_cli(argv).stderr.splitlines() if "not read" in line]
    assert len(told) == 1
    assert told[0].endswith("settles it: quantization, trust_remote_code")
    edit(model / "config.json", trust_remote_code=False, quantization="none")
    assert "not read" not in run_cli(argv).stderr


def test_a_checkpoint_names_no_path_but_those_of_its_parts(tiny_checkpoint: Path, tiny_parts: Path) -> None:
    for file in tiny_checkpoint.rglob("*"):
        if file.suffix in (".json", ".md"):
            text = (
                file.read_text()
                .replace(str(tiny_parts / "vision-swin"), "")
                .replace(str(tiny_parts / "lm-stablelm"), "")
            )
            assert str(tiny_parts.parent) not in text, file


@pytest.mark.parametrize("content", ["[]", "{", "null", '{"template": 5}', '{"add_bos": "yes"}', '{"end_sym": [1]}'])
def test_a_wrong_processor_config_is_one_line(content: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))
    (model / "processor_config.json").write_text(content)
    with pytest.raises(InputError) as refusal:
        load_checkpoint(model)
    assert "\n" not in str(refusal.value)
    assert str(model) in str(refusal.value)


@pytest.mark.parametrize("content", ["[]", "{", "null", '{"model_type": 5}', '{"model_type": "swin", "depths": "x"}'])
@pytest.mark.parametrize("part", ["vision_model", "lm_model"])
def test_a_wrong_config_of_a_part_is_one_line(
    content: str, part: str, tiny_checkpoint: Path, tiny_parts: Path, tmp_path: Path
) -> None:
    source = tiny_parts / {"vision_model": "vision-swin", "lm_model": "lm-stablelm"}[part]
    broken = Path(shutil.copytree(source, tmp_path / "part"))
    (broken / "config.json").write_text(content)
    with pytest.raises(InputError, match=f"{part} ") as refusal:
        load_checkpoint(tiny_checkpoint, **{part: str(broken)})  # type: ignore[arg-type]  # one of the two names
    assert "\n" not in str(refusal.value)
