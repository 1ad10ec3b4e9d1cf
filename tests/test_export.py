"""An exported model is one plain Hugging Face directory that writes the same text as the checkpoint it came from."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

import r2gengpt
from placements import FLOAT32
from r2gengpt.checkpoint import load_checkpoint, save_checkpoint
from r2gengpt.cli.main import run
from r2gengpt.config import DEFAULT_INSTRUCTION, DataConfig, DecodeConfig, ModelConfig
from r2gengpt.data.batches import Example, prompt_batch
from r2gengpt.errors import InputError
from r2gengpt.exporting import export
from r2gengpt.generation.beams import ChosenDecoding, Penalties, write_chosen
from r2gengpt.generation.decode import predict
from r2gengpt.locate import ModelChoice
from r2gengpt.model import R2GenGPTForConditionalGeneration
from r2gengpt.options import Override
from r2gengpt.parts.assemble import Built, build_model, load_directory
from r2gengpt.reporter import Reporter
from r2gengpt.settings import PlacementConfig
from r2gengpt.testing import noise_image, tiny_language_model, tiny_vision_model
from reporters import stored_of

DECODE = DecodeConfig(beam_size=2, min_new_tokens=5, max_new_tokens=24)
VIEWS = [noise_image(1), noise_image(2)]


def trained_checkpoint(directory: Path, language: str, vision: str, **changes: Any) -> Path:
    """A checkpoint whose trained tensors are random, LoRA on both parts unless changed."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {"vis_use_lora": True, "llm_use_lora": True, **changes}
    lm_model, vision_model = tiny_language_model(directory, language), tiny_vision_model(directory, vision)
    config = ModelConfig(lm_model=str(lm_model), vision_model=str(vision_model), **settings)
    built = build_model(config, FLOAT32)
    with torch.no_grad():
        for parameter in built.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    save_checkpoint(directory / "ours", built, stored_of(config, DataConfig(), DECODE), "# Card\n")
    return directory / "ours"


def text_of(built: Built, **changes: Any) -> str:
    batch = prompt_batch([Example("a", built.processor.pixels(VIEWS), "", "")], built.processor)
    (prediction,) = predict(built.model, built.processor, [batch], replace(DECODE, **changes))
    return prediction.text


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint and its export."""
    directory = tmp_path_factory.mktemp("exported")
    checkpoint = trained_checkpoint(directory, "llama", "swin")
    assert run("export", ["--model", str(checkpoint), "--output", str(directory / "plain"), "--dtype", "float32"]) == 0
    return checkpoint, directory / "plain"


@pytest.mark.parametrize(
    ("language", "vision", "changes"),
    [
        ("llama", "swin", {}),
        ("stablelm", "vit", {"feature_norm": "standardize", "image_tokens": 4}),
        ("gpt_neox", "dinov2", {"fusion": "concat", "feature_norm": "position"}),
        ("stablelm", "swin", {"freeze_vm": False, "vis_use_lora": False, "llm_use_lora": False}),
    ],
)
def test_text_is_the_same_before_and_after(language: str, vision: str, changes: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = trained_checkpoint(tmp_path, language, vision, **changes)
    before = text_of(load_checkpoint(checkpoint, where=FLOAT32)[0])
    placed = Override(PlacementConfig, {"dtype": "float32"})
    export(Reporter.load(ModelChoice(str(checkpoint), placement=placed)), tmp_path / "plain")
    assert before
    assert text_of(load_directory(tmp_path / "plain", dtype="float32")) == before


def test_auto_classes_load_it_and_no_lora_is_left(exported: tuple[Path, Path]) -> None:
    checkpoint, plain = exported
    model, info = AutoModelForImageTextToText.from_pretrained(plain, output_loading_info=True)
    assert isinstance(model, R2GenGPTForConditionalGeneration)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not [name for name in load_file(plain / "model.safetensors") if "lora" in name or "base_layer" in name]
    built, _ = load_checkpoint(checkpoint, where=FLOAT32)
    inputs = AutoProcessor.from_pretrained(plain)(images=VIEWS)
    with torch.no_grad():
        # Merging adds B·A to the weight before it meets the input instead of after: float32 rounding of sums of 32.
        torch.testing.assert_close(model(**inputs).logits, built.model(**inputs).logits, rtol=0, atol=1e-4)


def test_pipeline_writes_our_text_with_the_checkpoints_own_decoding(exported: tuple[Path, Path]) -> None:
    checkpoint, plain = exported
    writer = pipeline("image-text-to-text", model=str(plain), dtype=torch.float32)
    (answer,) = writer(images=VIEWS, text=DEFAULT_INSTRUCTION, return_full_text=False)
    assert answer["generated_text"] == text_of(load_checkpoint(checkpoint, where=FLOAT32)[0])


def test_generate_writes_the_same_from_both(
    exported: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    VIEWS[0].save(tmp_path / "view.png")
    texts = []
    for model in exported:
        flags = ["--beam_size", "2", "--min_new_tokens", "5", "--max_new_tokens", "24", "--dtype", "float32"]
        assert run("generate", [str(tmp_path / "view.png"), "--model", str(model), *flags]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != "\n"


def test_decoding_settings_and_card_go_along(exported: tuple[Path, Path]) -> None:
    settings = json.loads((exported[1] / "generation_config.json").read_text())
    assert (settings["num_beams"], settings["min_new_tokens"], settings["max_new_tokens"]) == (2, 5, 24)
    card = (exported[1] / "README.md").read_text()
    assert card.startswith("# Card\n")
    assert "r2gengpt export" in card


@pytest.mark.parametrize("target", ["huggingface", "openvino"])
@pytest.mark.parametrize("beams", [1, 2])
def test_penalties_that_an_export_is_given_stand_in_it(
    target: str, beams: int, exported: tuple[Path, Path], tmp_path: Path
) -> None:
    checkpoint = Path(shutil.copytree(exported[0], tmp_path / "chosen"))
    write_chosen(checkpoint, ChosenDecoding(Penalties(1.2, 3), Penalties(1.0, 4), studies=32))
    flags = ["--target", target, "--beam_size", str(beams), "--repetition_penalty", "1.7"]
    assert run("export", ["--model", str(checkpoint), "--output", str(tmp_path / "out"), *flags]) == 0
    reporter = r2gengpt.load(str(tmp_path / "out"))
    given = [
        (one.beam_size, one.repetition_penalty, one.no_repeat_ngram_size)
        for one in (reporter.decode, reporter.streamed)
    ]
    assert given == [(beams, 1.7, 4 if beams == 1 else 3), (1, 1.7, 4)]


def test_an_export_is_made_in_main_memory_where_there_is_a_gpu(
    exported: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    arguments = ["--model", str(exported[0]), "--output", str(tmp_path / "plain"), "--dtype", "float32"]
    assert run("export", arguments) == 0
    assert (tmp_path / "plain" / "model.safetensors").read_bytes() == (exported[1] / "model.safetensors").read_bytes()


def test_lora_that_must_not_be_merged_is_refused(
    exported: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", str(exported[0]), "--output", str(tmp_path / "plain"), "--merge", "False"]
    assert run("export", arguments) == 2
    assert "--merge False" in capsys.readouterr().err
    assert not (tmp_path / "plain").exists()


def test_an_existing_output_is_refused_and_untouched(
    exported: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    assert run("export", ["--model", str(exported[0]), "--output", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_a_plain_directory_can_be_exported_again(exported: tuple[Path, Path], tmp_path: Path) -> None:
    assert run("export", ["--model", str(exported[1]), "--output", str(tmp_path / "again"), "--dtype", "float32"]) == 0
    first, again = (text_of(load_directory(path, dtype="float32")) for path in (exported[1], tmp_path / "again"))
    assert first == again


@pytest.mark.parametrize("stored", [{"quantization": "int8"}, {"low_resource": True}], ids=str)
def test_a_checkpoint_trained_in_eight_bits_is_written_in_full(
    stored: dict[str, Any], exported: tuple[Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(exported[0], tmp_path / "ours")
    settings = json.loads((tmp_path / "ours" / "config.json").read_text())
    (tmp_path / "ours" / "config.json").write_text(json.dumps({**settings, **stored}))
    assert run("export", ["--model", str(tmp_path / "ours"), "--output", str(tmp_path / "plain")]) == 0
    assert load_file(tmp_path / "plain" / "model.safetensors")["projector.linear.weight"].dtype == torch.float32


def test_an_output_below_a_file_is_refused_before_anything_is_loaded(
    exported: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for arguments in (["export", "--model", str(exported[0])], ["convert", "nothing.pth"]):
        assert run(arguments[0], [*arguments[1:], "--output", str(tmp_path / "file" / "out")]) == 2
        assert "--output" in capsys.readouterr().err


def test_eight_bit_weights_are_refused(exported: tuple[Path, Path], tmp_path: Path) -> None:
    from r2gengpt.cli.commands.export import main

    with pytest.raises(InputError, match="low_resource True"):
        main(["--model", str(exported[0]), "--output", str(tmp_path / "plain"), "--low_resource", "True"])


def test_an_export_that_fails_midway_leaves_nothing(
    exported: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = Reporter.load(ModelChoice(str(exported[0])))

    def full(directory: Path) -> None:
        assert (directory / "model.safetensors").is_file()
        raise OSError("No space left on device")

    monkeypatch.setattr(reporter.built.processor, "save_pretrained", full)
    with pytest.raises(OSError, match="No space"):
        export(reporter, tmp_path / "plain")
    assert list(tmp_path.iterdir()) == []
