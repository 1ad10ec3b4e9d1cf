"""`r2gengpt plan`: counts and bytes from configurations alone."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING

from placements import FLOAT32
from r2gengpt.cli.commands import plan as command
from r2gengpt.cli.main import run
from r2gengpt.config import ALIGNMENTS, DataConfig, DecodeConfig, ModelConfig, TrainConfig
from r2gengpt.errors import InputError
from r2gengpt.parts.assemble import HERE, build_model, freeze_seeing
from r2gengpt.parts.plan import MemoryPlan, kept_bytes, plan, quantized_bytes
from r2gengpt.settings import PlacementConfig
from r2gengpt.testing import LANGUAGE_MODELS, VISION_MODELS, tiny_language_model, tiny_vision_model

SWIN_B = {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32]}
STABLELM_3B = {
    "hidden_size": 2560,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "intermediate_size": 6912,
    "vocab_size": 50304,
}


def config_only(directory: Path, kind: str, values: dict[str, Any]) -> str:
    """A directory with nothing but config.json; CONFIG_MAPPING's defaults are Llama-2-7B's for llama."""
    CONFIG_MAPPING[kind](**values).save_pretrained(directory / kind)
    return str(directory / kind)


def planned(
    model: ModelConfig,
    where: PlacementConfig = HERE,
    *,
    batch_size: int = 2,
    beams: int = 3,
    checkpointing: bool = False,
) -> MemoryPlan:
    data = DataConfig(dataset="plain", max_length=20, batch_size=batch_size, test_batch_size=2)
    decode, train = DecodeConfig(beam_size=beams), TrainConfig(gradient_checkpointing=checkpointing)
    return plan(model, data, decode, train, where)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    directory = tmp_path_factory.mktemp("parts")
    return ModelConfig(
        lm_model=str(tiny_language_model(directory)), vision_model=str(tiny_vision_model(directory)), llm_use_lora=True
    )


@pytest.mark.parametrize(
    ("kind", "values", "counts"),
    [
        ("llama", {}, (4_206_592, 4_976_640, 90_949_816)),
        ("stablelm", STABLELM_3B, (2_629_120, 3_399_168, 89_372_344)),
    ],
)
def test_trained_parameters_of_the_known_models_are_the_known_counts(
    kind: str, values: dict[str, Any], counts: tuple[int, ...], tmp_path: Path
) -> None:
    parts: dict[str, Any] = {
        "vision_model": config_only(tmp_path, "swin", SWIN_B),
        "lm_model": config_only(tmp_path, kind, values),
    }
    found = [planned(ModelConfig(alignment=alignment, **parts)).trained for alignment in ALIGNMENTS]
    assert tuple(found) == counts


def test_stablelm_3b_has_the_weights_and_the_cache_that_arithmetic_gives(tmp_path: Path) -> None:
    vision, language = config_only(tmp_path, "swin", SWIN_B), config_only(tmp_path, "stablelm", STABLELM_3B)
    result = planned(ModelConfig(vision_model=vision, lm_model=language))
    in_float32, in_bfloat16 = result.modes[:2]
    assert in_float32.weights == 4 * result.parameters
    assert in_float32.weights - in_bfloat16.weights == 2 * 2_795_443_200  # the language model alone, published count
    prompt = 49 + 28  # Swin-B's patches, the default instruction's text
    assert in_bfloat16.kv_cache == 2 * 32 * 2560 * 2 * (prompt + 120) * 3 * 2  # k and v, layers, width, bytes; beams
    assert result.positions == prompt + 20
    assert [mode.scratch for mode in result.modes] == [0, 0, *[2 * 2560 * 6912] * 3]  # one matrix at a time
    assert in_bfloat16.new_logits == (2 + 4 + 4) * 2 * (120 + 1) * 50304  # studies, tokens, words
    assert in_bfloat16.generation == in_bfloat16.weights + in_bfloat16.kv_cache
    assert sorted((mode.weights for mode in result.modes), reverse=True) == [mode.weights for mode in result.modes]


def test_logits_are_counted_where_they_are_computed_only(tiny: ModelConfig) -> None:
    result = planned(tiny)
    assert result.logit_positions == 20 + 1  # the last prompt position predicts the first report token
    assert result.logits_everywhere / result.modes[0].logits == pytest.approx(result.positions / 21)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("alignment", list(ALIGNMENTS))
def test_the_plan_counts_what_a_built_model_has(tiny: ModelConfig, alignment: str, lora: bool) -> None:
    config = ModelConfig(lm_model=tiny.lm_model, vision_model=tiny.vision_model, alignment=alignment, llm_use_lora=lora)
    parameters = list(build_model(config, FLOAT32).model.parameters())
    result = planned(config)
    assert result.parameters == sum(p.numel() for p in parameters)
    assert result.trained == sum(p.numel() for p in parameters if p.requires_grad)
    assert result.modes[0].weights == sum(p.nbytes for p in parameters)


@pytest.mark.parametrize("kind", list(LANGUAGE_MODELS))
def test_every_tiny_language_model_can_be_planned_from_its_configuration(kind: str, tmp_path: Path) -> None:
    values = {"hidden_size": 32, "vocab_size": 300, **LANGUAGE_MODELS[kind]}
    vision = config_only(tmp_path, "swin", VISION_MODELS["swin"])
    result = planned(ModelConfig(lm_model=config_only(tmp_path, kind, values), vision_model=vision))
    grouped = values.get("num_key_value_heads") == 2  # two heads of eight
    heads = 2 * 8 if grouped else 32
    positions = 16 + 28 + 120  # image, text, new tokens
    assert result.modes[0].kv_cache == 2 * 2 * heads * 4 * positions * 3 * 2


@pytest.mark.parametrize("kind", list(VISION_MODELS))
def test_a_frozen_encoder_keeps_nothing_and_a_trained_one_does(kind: str, tiny: ModelConfig, tmp_path: Path) -> None:
    vision = config_only(tmp_path, kind, VISION_MODELS[kind])
    shallow, deep = (
        planned(ModelConfig(lm_model=tiny.lm_model, vision_model=vision, alignment=alignment)).modes[0]
        for alignment in ("shallow", "deep")
    )
    assert shallow.activations < deep.activations
    assert shallow.kv_cache == deep.kv_cache


def test_larger_views_have_more_positions_and_sizes_that_an_encoder_does_not_take_are_refused(
    tiny: ModelConfig, tmp_path: Path
) -> None:
    vision = str(tiny_vision_model(tmp_path, kind="dinov2"))
    small, large = (planned(replace(tiny, vision_model=vision, image_size=side, alignment="deep")) for side in (32, 64))
    assert large.positions - small.positions == 8**2 - 4**2
    assert large.modes[0].activations > small.modes[0].activations
    with pytest.raises(InputError, match=r"^image_size 64: .* takes views of one size only"):
        planned(replace(tiny, image_size=64))


def test_activations_grow_with_the_batch_and_shrink_with_gradient_checkpointing(tiny: ModelConfig) -> None:
    once, twice = (planned(tiny, batch_size=size).modes[0].activations for size in (4, 8))
    assert twice / once == pytest.approx(2, rel=0.01)  # position tables are kept once a batch
    assert planned(tiny, batch_size=4, checkpointing=True).modes[0].activations < once


def test_what_autograd_keeps_is_counted_once_and_without_weights() -> None:
    layer = torch.nn.Linear(8, 4, device="meta")
    rows = torch.empty(3, 8, device="meta", requires_grad=True)
    assert kept_bytes(layer, lambda: layer(rows) + layer(rows)) == 3 * 8 * 4


def test_inputs_of_eight_bit_layers_are_kept_once() -> None:
    one, two = torch.nn.Linear(8, 4, bias=False, device="meta"), torch.nn.Linear(8, 4, bias=False, device="meta")
    one.requires_grad_(False), two.requires_grad_(False)
    rows = torch.empty(3, 8, device="meta", requires_grad=True)
    assert kept_bytes(torch.nn.ModuleList((one, two)), lambda: (one(rows), two(rows)), (one, two)) == 3 * 8 * 4


def test_eight_bits_keep_more_for_the_backward_pass_than_four(tiny: ModelConfig) -> None:
    kept = {mode.name: mode.activations for mode in planned(tiny).modes}
    assert kept["bfloat16"] == kept["nf4"] == kept["nf4 double"] < kept["int8"]


def test_lora_is_float32_beside_bfloat16_weights(tiny: ModelConfig) -> None:
    without = ModelConfig(lm_model=tiny.lm_model, vision_model=tiny.vision_model)
    more = [lora.activations - plain.activations for lora, plain in zip(
        planned(tiny).modes, planned(without).modes, strict=True)]  # fmt: skip
    assert 0.95 < more[1] / more[0] < 1.1  # noise of dropout and inputs in float32 in both


def test_attention_is_kept_as_by_fused_kernels_without_its_weights() -> None:
    query = torch.empty(2, 4, 50, 8, device="meta", requires_grad=True)
    attend = torch.nn.functional.scaled_dot_product_attention
    kept = kept_bytes(torch.nn.Identity(), lambda: attend(query, query, query, is_causal=True))
    assert kept == 2 * 4 * 50 * (2 * 8 + 1) * 4  # query (also key and value), output, one float a row


def test_quantized_layers_take_the_bytes_of_the_papers() -> None:
    assert quantized_bytes(128, 256, "int8") == 128 * 256 + 4 * 128
    assert quantized_bytes(128, 256, "nf4") * 8 / (128 * 256) == 4.5  # 32 bits a block of 64
    assert quantized_bytes(128, 256, "nf4 double") * 8 / (128 * 256) == pytest.approx(4.127, abs=1e-3)  # QLoRA


def test_the_command_prints_json_in_bytes_and_a_table_that_marks_the_flags_row(
    tiny: ModelConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--lm_model", tiny.lm_model, "--vision_model", tiny.vision_model, "--quantization", "nf4"]
    command.main([*words, "--format", "json"])
    result = json.loads(capsys.readouterr().out)
    assert [mode["name"] for mode in result["modes"]] == ["float32", "bfloat16", "int8", "nf4", "nf4 double"]
    first = result["modes"][0]
    summands = ("weights", "gradients", "moments", "activations", "logits", "scratch")
    assert first["training"] == sum(first[name] for name in summands)
    assert first["generation"] == first["weights"] + first["scratch"] + max(first["kv_cache"], first["new_logits"])
    assert result["process"] > 50e6  # Python with torch in it
    command.main(words)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.endswith("<- your flags")] == ["nf4"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--views", "0"], ("--views 0", "at least 1")),
        (["--lm_model", "./nowhere"], ("--lm_model ./nowhere", "no such directory")),
        (["--lm_model", "VISION"], ("--lm_model", "cannot be built from its configuration")),
    ],
)
def test_wrong_input_ends_with_one_line(
    words: list[str], parts: tuple[str, ...], tiny: ModelConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [tiny.vision_model if word == "VISION" else word for word in words]
    assert run("plan", ["--vision_model", tiny.vision_model, *given]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    for part in parts:
        assert part in message


@pytest.mark.parametrize("eyes", [False, True], ids=["text", "with eyes"])
def test_a_language_model_inside_one_that_sees_is_planned_as_it_is_loaded(
    eyes: bool, tiny: ModelConfig, tmp_path: Path
) -> None:
    pytest.importorskip("sentencepiece")
    from tiny_families import write_family

    whole = write_family(tmp_path, "Gemma-3-it")
    config = replace(tiny, lm_model=str(whole if eyes else tmp_path / "lm-gemma3_text"))
    built = build_model(config, FLOAT32)
    assert planned(config).parameters == sum(p.numel() for p in built.model.parameters())
    alone = build_model(replace(config, findings_head=True), FLOAT32, findings_only=True)
    assert alone.processor.template == built.processor.template
    assert alone.processor.end_token_id == built.processor.end_token_id


def in_training(model: ModelConfig, **train: Any) -> MemoryPlan:
    return plan(model, DataConfig(dataset="plain", batch_size=2), DecodeConfig(), TrainConfig(**train), HERE)


def test_a_head_that_is_trained_alone_needs_no_language_model(
    tiny: ModelConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(tiny, findings_head=True, vis_use_lora=True)
    built = build_model(config, FLOAT32, findings_only=True)
    loaded = [p for p in built.model.parameters() if not p.is_meta]
    trained = sum(p.numel() for p in loaded if p.requires_grad)
    alone, beside = in_training(config, findings_only=True), in_training(config)
    (mode,) = alone.modes
    assert (alone.trained, mode.weights) == (trained, sum(p.nbytes for p in loaded))
    assert (mode.gradients, mode.moments) == (4 * trained, 8 * trained)
    assert 0 < mode.activations < beside.modes[0].activations
    assert (mode.logits, mode.kv_cache, mode.new_logits) == (0, 0, 0)
    names = ["--lm_model", tiny.lm_model, "--vision_model", tiny.vision_model]
    command.main([*names, "--findings_head", "True", "--findings_only", "True"])
    words = capsys.readouterr().out
    assert "of a finding head without the language model" in words
    assert "generation  " not in words.splitlines()[-1]
    assert "large enough" in words.splitlines()[-1]


@pytest.mark.parametrize("head", [{"freeze_seeing": True}, {"stage": "reinforce"}], ids=str)
def test_what_sees_is_not_counted_as_trained_where_it_stays(head: dict[str, Any], tiny: ModelConfig) -> None:
    config = replace(tiny, findings_head=True, vis_use_lora=True)
    model = build_model(config, FLOAT32).model
    freeze_seeing(model)
    stays, learns = in_training(config, ckpt_file="head", **head), in_training(config)
    assert stays.trained == sum(p.numel() for p in model.parameters() if p.requires_grad) < learns.trained
    assert stays.modes[0].activations < learns.modes[0].activations


def test_a_quantized_directory_is_planned_in_its_own_form(
    tiny: ModelConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = {"load_in_4bit": True, "quant_method": "bitsandbytes", "bnb_4bit_quant_type": "nf4"}
    directory = shutil.copytree(tiny.lm_model, tmp_path / "small")
    content = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**content, "quantization_config": stored}))
    words = ["--lm_model", str(directory), "--vision_model", tiny.vision_model]
    command.main([*words, "--format", "json"])
    fits = json.loads(capsys.readouterr().out)["fits"]
    assert {use: one["form"] for use, one in fits.items()} == {"training": "nf4", "generation": "nf4"}
    assert run("plan", [*words, "--quantization", "int8"]) == 2
    assert f"--lm_model {directory} holds nf4 weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_hidden_layers", 0),
        ("num_hidden_layers", -1),
        ("hidden_size", 0),
        ("num_attention_heads", 0),
        ("num_key_value_heads", 0),
        ("vocab_size", 0),
    ],
)
def test_a_config_json_without_a_size_is_refused_in_one_line(
    name: str, value: int, tiny: ModelConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = shutil.copytree(tiny.lm_model, tmp_path / "small")
    content = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**content, name: value}))
    assert run("plan", ["--lm_model", str(directory), "--vision_model", tiny.vision_model]) == 2
    words = f"its config.json has {name} {value}, must be at least 1"
    assert capsys.readouterr().err.endswith(f"--lm_model {directory}: {words}\n")


def test_eight_and_four_bits_stand_beside_float32_where_the_flag_says_so(tiny: ModelConfig) -> None:
    half, full = planned(tiny), planned(tiny, where=FLOAT32)
    assert [mode.name for mode in full.modes] == [mode.name for mode in half.modes]
    assert full.modes[:2] == half.modes[:2]
    assert all(a.weights > b.weights for a, b in zip(full.modes[2:], half.modes[2:], strict=True))
