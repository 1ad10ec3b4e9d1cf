"""`r2gengpt quantize`: a language model written once in 8 or 4 bits, loaded without its full weights."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from conftest import Outcome, TinySet
from placements import FLOAT32, taken_apart
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.config import ModelConfig, RunConfig
from r2gengpt.data.batches import Example, prompt_batch
from r2gengpt.errors import InputError
from r2gengpt.generation.decode import predict
from r2gengpt.model import R2GenGPTForConditionalGeneration
from r2gengpt.parts.assemble import Built, build_model
from r2gengpt.parts.loading import settled
from r2gengpt.settings import PlacementConfig
from r2gengpt.testing import noise_image
from r2gengpt.training.run import train
from tiny_families import write_chatglm
from training_settings import small_run

pytest.importorskip("bitsandbytes")
FORMS = [("int8", False), ("nf4", False), ("nf4", True), ("fp4", False)]


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory, tiny_parts: Path) -> Path:
    """Directories int8-False, nf4-False, nf4-True, fp4-False of the tiny StableLM, float32 where not quantized."""
    from r2gengpt.parts.quantize import quantize

    directory = tmp_path_factory.mktemp("forms")
    for form, double in FORMS:
        where = PlacementConfig(quantization=form, double_quant=double, dtype="float32")
        quantize(str(tiny_parts / "lm-stablelm"), where, directory / f"{form}-{double}")
    return directory


Config = tuple[ModelConfig, PlacementConfig]


def config_of(parts: Path, lm: Path, **values: Any) -> Config:
    return taken_apart({"lm_model": str(lm), "vision_model": str(parts / "vision-swin"), **values})


def seeded(config: Config) -> Built:
    torch.manual_seed(0)  # the projector is new
    return build_model(*config)


def text_of(built: Built, config: RunConfig) -> str:
    batch = prompt_batch([Example("a", built.processor.pixels([noise_image(1)]), "", "")], built.processor)
    (prediction,) = predict(built.model.eval(), built.processor, [batch], replace(config.decode, max_new_tokens=16))
    return prediction.text


@pytest.mark.parametrize(("form", "double"), FORMS)
def test_the_directory_holds_what_quantizing_while_loading_gives_and_writes_the_same_text(
    form: str, double: bool, forms: Path, tiny_parts: Path, tiny_set: TinySet
) -> None:
    whole = config_of(tiny_parts, tiny_parts / "lm-stablelm", quantization=form, double_quant=double)
    ready = config_of(tiny_parts, forms / f"{form}-{double}")
    before, after = seeded(whole), seeded(ready)
    tensors = after.model.language_model.state_dict()
    for name, tensor in before.model.language_model.state_dict().items():
        assert torch.equal(tensor, tensors[name]), name
    decode = small_run(tiny_parts, tiny_set, Path("run"))
    assert text_of(before, decode) == text_of(after, decode) != ""
    assert settled(ready[0].lm_model, ready[1]) == settled(whole[0].lm_model, whole[1])


@pytest.mark.parametrize(("form", "double"), FORMS)
def test_no_full_matrix_of_a_layer_is_on_the_disk(form: str, double: bool, forms: Path) -> None:
    with safe_open(forms / f"{form}-{double}" / "model.safetensors", framework="pt") as file:
        kinds = {name: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118 - no mapping
    layers = {name: dtype for name, dtype in kinds.items() if name.endswith("_proj.weight")}
    assert len(layers) == 2 * 7
    assert set(layers.values()) == {torch.int8 if form == "int8" else torch.uint8}
    assert kinds["lm_head.weight"] == kinds["model.embed_tokens.weight"] == torch.float32


@pytest.mark.parametrize(("form", "double"), FORMS)
def test_lora_trains_on_it_and_the_run_says_in_which_form_it_was_trained(
    form: str, double: bool, forms: Path, tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    directory = forms / f"{form}-{double}"
    settings = small_run(tiny_parts, tiny_set, tmp_path, model={"lm_model": str(directory)})
    train(settings)
    stored = json.loads((tmp_path / "run.json").read_text())
    assert (stored["quantization"], stored["double_quant"]) == (form, double)
    assert f"in training: {form}\n" in (tmp_path / "last" / "README.md").read_text()
    first, _ = load_checkpoint(tmp_path / "last", where=FLOAT32)
    whole = str(tiny_parts / "lm-stablelm")  # the same form, quantized while it is loaded
    where = PlacementConfig(quantization=form, double_quant=double, dtype="float32")
    again, _ = load_checkpoint(tmp_path / "last", where=where, lm_model=whole)
    moved = [name for name, tensor in first.model.state_dict().items() if "lora_B" in name and tensor.any()]
    assert moved
    assert text_of(first, settings) == text_of(again, settings)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_head_and_products_take_the_type_asked_for_when_loading(
    dtype: torch.dtype, forms: Path, tiny_parts: Path
) -> None:
    name = str(dtype).removeprefix("torch.")
    language = build_model(*config_of(tiny_parts, forms / "nf4-True", dtype=name)).model.language_model
    assert {p.dtype for p in language.parameters()} == {dtype, torch.uint8}
    assert language.model.layers[0].self_attn.q_proj.compute_dtype == dtype


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"quantization": "int8"}, ("quantization int8", "holds nf4 weights")),
        ({"quantization": "none"}, ("quantization none", "holds nf4 weights")),
        ({"low_resource": True}, ("quantization int8", "holds nf4 weights")),
        ({"quantization": "nf4", "double_quant": True}, ("double_quant True", "holds nf4 weights without it")),
    ],
)
def test_a_contradicting_flag_is_refused_with_both_values(
    values: dict[str, Any], parts: tuple[str, ...], forms: Path, tiny_parts: Path
) -> None:
    with pytest.raises(InputError) as error:
        build_model(*config_of(tiny_parts, forms / "nf4-False", **values))
    for part in (*parts, str(forms / "nf4-False")):
        assert part in str(error.value)


def test_the_command_writes_a_directory_that_generate_reads(
    tiny_checkpoint: Path, tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, run_cli: Callable[[list[str]], Outcome]
) -> None:
    output = tmp_path / "nf4"
    words = ["--lm_model", str(tiny_parts / "lm-stablelm"), "--quantization", "nf4", "--output", str(output)]
    done = run_cli(["quantize", *words])
    assert (done.code, done.stdout) == (0, f"{output}\n")
    image = str(next(tiny_set.base_dir.iterdir()))
    written = run_cli(["generate", image, "--model", str(tiny_checkpoint), "--lm_model", str(output)])
    assert (written.code, written.stdout.strip() != "") == (0, True)
    plain = ["--model", str(tiny_checkpoint), "--lm_model", str(output), "--output", str(tmp_path / "plain")]
    refused = run_cli(["export", *plain])
    assert refused.code == 2
    assert "holds nf4 weights, which LoRA cannot be merged into" in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nf4"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "--quantization auto: choose from int8, nf4, fp4"),
        (["--quantization", "none"], "--quantization none: choose from int8, nf4, fp4"),
        (["--quantization", "w8a8"], "--quantization w8a8: choose from int8, nf4, fp4"),
        (["--quantization", "nf4", "--lm_model", "READY"], "holds nf4 weights already"),
        (["--quantization", "nf4", "--lm_model", "./nowhere"], "--lm_model ./nowhere: no such directory"),
        (["--quantization", "int8", "--output", "PARTS"], "exists already"),
        (["--quantization", "int8", "--llm_r", "4"], "unknown flag --llm_r"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(
    words: list[str],
    part: str,
    forms: Path,
    tiny_parts: Path,
    tmp_path: Path,
    run_cli: Callable[[list[str]], Outcome],
) -> None:
    names = {"READY": str(forms / "nf4-False"), "PARTS": str(tiny_parts)}
    given = [names.get(word, word) for word in words]
    start = ["quantize", "--lm_model", str(tiny_parts / "lm-stablelm"), "--output", str(tmp_path / "out")]
    done = run_cli([*start, *given])
    assert (done.code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert part in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_weights_quantized_by_another_method_are_refused_by_its_name(tiny_parts: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_parts / "lm-stablelm", tmp_path / "lm")
    file = tmp_path / "lm" / "config.json"
    other = {**json.loads(file.read_text()), "quantization_config": {"quant_method": "gptq", "bits": 4}}
    file.write_text(json.dumps(other))
    with pytest.raises(InputError, match="quantized by gptq"):
        build_model(*config_of(tiny_parts, tmp_path / "lm"))


def test_a_chatglm_directory_becomes_a_quantized_one_with_its_prompt(tiny_parts: Path, tmp_path: Path) -> None:
    from r2gengpt.parts.quantize import quantize

    (tmp_path / "chatglm").mkdir()
    write_chatglm(tmp_path / "chatglm")
    config = config_of(tiny_parts, tmp_path / "chatglm", quantization="nf4")
    quantize(config[0].lm_model, config[1], tmp_path / "nf4")
    before, after = seeded(config), seeded(config_of(tiny_parts, tmp_path / "nf4"))
    assert before.processor.prompt_ids() == after.processor.prompt_ids()
    tensors = after.model.language_model.state_dict()
    assert all(torch.equal(value, tensors[key]) for key, value in before.model.language_model.state_dict().items())
    assert isinstance(after.model, R2GenGPTForConditionalGeneration)


@pytest.mark.parametrize("form", ["int8", "nf4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lora_on_quantized_weights_leaves_norms_and_embedding_in_their_type_and_no_cast_is_logged(
    dtype: torch.dtype, form: str, tiny_parts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = str(dtype).removeprefix("torch.")
    config = config_of(tiny_parts, tiny_parts / "lm-stablelm", quantization=form, dtype=name, llm_use_lora=True)
    language = build_model(*config).model.language_model.train()
    whole = {p.dtype for key, p in language.named_parameters() if p.is_floating_point() and "lora_" not in key}
    assert whole == {dtype}  # PEFT's preparation for k bits would make them float32
    language(torch.arange(8).reshape(1, 8)).logits.float().sum().backward()
    assert all(p.grad is not None for key, p in language.named_parameters() if "lora_B" in key)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("bitsandbytes")] == []


def test_torchao_is_not_among_the_pinned_packages() -> None:
    pinned = (Path(__file__).parents[1] / "constraints.txt").read_text().lower()
    assert "bitsandbytes==" in pinned
    assert "torchao" not in pinned  # an installed one prints load errors on every import
