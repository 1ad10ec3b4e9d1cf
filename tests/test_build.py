"""Joining parts: which layers get LoRA, what is trained, and parts that do not fit."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    CLIPImageProcessorPil,
    ConvNextImageProcessorPil,
    IJepaConfig,
    Siglip2ImageProcessorPil,
    ViTImageProcessorPil,
)

from conftest import LANGUAGE_KINDS, VISION_KINDS
from placements import built_of
from r2gengpt.checkpoint import load_checkpoint, write_settings
from r2gengpt.checkpoint_files import read_settings
from r2gengpt.config import Stored
from r2gengpt.errors import InputError
from r2gengpt.parts.assemble import Built, device_has_bfloat16, frozen_dtype, load_directory
from r2gengpt.parts.loading import processor_image_size
from r2gengpt.parts.lora import add_lora, find_targets, merge_lora
from r2gengpt.testing import noise_image, tiny_tokenizer


def build(parts: Path, **options: Any) -> Built:
    names = {"vision_model": str(parts / "vision-swin"), "lm_model": str(parts / "lm-stablelm"), "dtype": "float32"}
    torch.manual_seed(0)
    return built_of(**names | options)


def refusal(parts: Path, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        build(parts, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def spoilt(tiny_parts: Path, tmp_path: Path) -> Callable[[str, Callable[[Path], object]], str]:
    """A copy of one tiny part after something was done to it."""

    def make(part: str, edit: Callable[[Path], object]) -> str:
        directory = tmp_path / part
        shutil.copytree(tiny_parts / part, directory)
        edit(directory)
        return str(directory)

    return make


def edit_json(name: str, **values: object) -> Callable[[Path], object]:
    def edit(directory: Path) -> None:
        content = json.loads((directory / name).read_text())
        (directory / name).write_text(json.dumps({**content, **values}))

    return edit


SPLIT = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj"}
GATED = SPLIT | {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
ROLES: dict[str, dict[str, str]] = {
    "lm-stablelm": GATED,
    "lm-llama": GATED,
    "lm-gpt_neox": {
        **dict.fromkeys("qkv", "query_key_value"),
        **{"o": "attention.dense", "up": "dense_h_to_4h", "down": "dense_4h_to_h"},
    },
    "lm-gpt2": {**dict.fromkeys("qkv", "c_attn"), "o": "attn.c_proj", "up": "c_fc", "down": "mlp.c_proj"},
    **{f"vision-{kind}": SPLIT | {"up": "fc1", "down": "fc2"} for kind in VISION_KINDS},
}


@pytest.mark.parametrize(("part", "role"), [(part, role) for part, roles in ROLES.items() for role in roles])
def test_a_role_finds_its_layer_in_every_block_and_nothing_else(part: str, role: str, tiny_parts: Path) -> None:
    loader = AutoModelForCausalLM if part.startswith("lm") else AutoModel
    model = loader.from_pretrained(tiny_parts / part)
    found = find_targets(model, [role], "flag")
    assert len(found) == 2
    assert all(name.endswith(f".{ROLES[part][role]}") for name in found)


def test_layers_are_also_found_by_the_end_of_their_name(tiny_parts: Path) -> None:
    model = build(tiny_parts).model.language_model
    assert find_targets(model, ["1.mlp.up_proj"], "flag") == ["model.layers.1.mlp.up_proj"]
    with pytest.raises(InputError):
        find_targets(model, ["proj"], "flag")


def test_targets_that_match_nothing_are_refused_with_the_names_that_exist(tiny_parts: Path) -> None:
    assert refusal(tiny_parts, llm_use_lora=True, llm_lora_targets=("query", "value")) == (
        "llm_lora_targets query value: no layer of this model matches; "
        "it has down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj"
    )
    assert "vis_lora_targets gate: no layer" in refusal(tiny_parts, vis_use_lora=True, vis_lora_targets=("gate",))


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (("q_proj", "nosuch"), "nosuch: no layer of this model matches; it has down_proj"),
        (("q", "v", "up_prj"), "up_prj: no layer of this model matches (did you mean up_proj?); it has"),
        (("Q", "v"), "Q: no layer of this model matches (did you mean q?); it has"),
        (("nosuch", "q", "other"), "nosuch other: no layer of this model matches; it has"),
        (("q", ""), "'': no layer of this model matches; it has"),
        (("q", "v", "q"), "q v q: names q twice"),
    ],
)
@pytest.mark.parametrize("side", ["llm", "vis"])
def test_each_target_that_matches_nothing_is_refused_by_name(
    side: str, targets: tuple[str, ...], words: str, tiny_parts: Path
) -> None:
    message = refusal(tiny_parts, **{f"{side}_use_lora": True, f"{side}_lora_targets": targets})
    if side == "vis":
        words = words.split(" (did")[0] if "up_prj" in words else words.replace("it has down_proj", "it has")
    assert message.startswith(f"{side}_lora_targets {words}")


def test_a_role_that_an_architecture_lacks_is_passed_over_by_default_and_refused_where_it_is_asked_for(
    tiny_parts: Path,
) -> None:
    neox = {"lm_model": str(tiny_parts / "lm-gpt_neox"), "llm_use_lora": True}
    assert any("dense_h_to_4h.lora_A" in name for name, _ in build(tiny_parts, **neox).model.named_parameters())
    message = refusal(tiny_parts, **neox, llm_lora_targets=("q", "gate"))
    assert message.startswith("llm_lora_targets gate: no layer of this model matches")


def test_a_checkpoint_whose_targets_an_older_version_took_still_loads(tiny_checkpoint: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))
    stored = read_settings(model, "model")
    values = stored.flat()
    write_settings(model, Stored.of({**values, "llm_lora_targets": [*values["llm_lora_targets"], "nosuch", "q"]}))
    assert load_checkpoint(model)[0].model.language_model.peft_config


@pytest.mark.parametrize(
    ("options", "trained"),
    [
        ({"alignment": "shallow"}, set()),
        ({"alignment": "delta"}, {"vision LoRA"}),
        ({"alignment": "deep"}, {"vision"}),
        ({"alignment": "shallow", "llm_use_lora": True}, {"language LoRA"}),
        ({"alignment": "delta", "llm_use_lora": True}, {"vision LoRA", "language LoRA"}),
        ({"alignment": "deep", "llm_use_lora": True}, {"vision", "language LoRA"}),
    ],
)
@pytest.mark.parametrize("vision", VISION_KINDS)
def test_alignment_trains_the_projector_and_just_what_it_names(
    vision: str, options: dict[str, Any], trained: set[str], tiny_parts: Path
) -> None:
    model = build(tiny_parts, vision_model=str(tiny_parts / f"vision-{vision}"), **options).model
    rooms: dict[str, set[bool]] = {}
    for name, parameter in model.named_parameters():
        room = {"vision_tower": "vision", "language_model": "language"}.get(name.split(".")[0], "projector")
        rooms.setdefault(f"{room} LoRA" if "lora_" in name else room, set()).add(parameter.requires_grad)
    assert rooms.pop("projector") == {True}
    assert {room for room, flags in rooms.items() if flags == {True}} == trained
    assert all(flags == {False} for room, flags in rooms.items() if room not in trained)


def test_rank_scale_dropout_and_targets_of_lora_are_those_of_the_flags(tiny_parts: Path) -> None:
    model = build(
        tiny_parts, llm_use_lora=True, llm_r=3, llm_alpha=6, lora_dropout=0.25, llm_lora_targets=("q", "down")
    ).model
    layer = model.language_model.model.layers[0].self_attn.q_proj
    assert layer.lora_A["default"].weight.shape == (3, 32)
    assert layer.scaling["default"] == 2.0
    assert layer.lora_dropout["default"].p == 0.25
    wrapped = {name.split(".lora_A")[0].rsplit(".", 1)[-1] for name, _ in model.named_parameters() if "lora_A" in name}
    assert wrapped == {"q_proj", "down_proj"}


def test_new_lora_changes_nothing_before_it_is_trained(tiny_parts: Path) -> None:
    plain, with_lora = build(tiny_parts).model.eval(), build(tiny_parts, llm_use_lora=True).model.eval()
    ids = torch.arange(8).unsqueeze(0)
    assert torch.equal(plain.language_model(ids).logits, with_lora.language_model(ids).logits)


@torch.no_grad()
@pytest.mark.parametrize("kind", LANGUAGE_KINDS)
def test_merged_lora_gives_the_same_logits_without_a_lora_layer_left(kind: str, tiny_parts: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_parts / f"lm-{kind}").eval()
    plain, ids = copy.deepcopy(model), torch.arange(8).unsqueeze(0)
    add_lora(model, ("q", "o", "down"), rank=4, alpha=8, dropout=0.1, field="targets")
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.eval()
    wanted = model(ids).logits
    merge_lora(model)
    assert not [name for name, _ in model.named_parameters() if "lora" in name or "base_layer" in name]
    # W·x + B·A·x against (W + B·A)·x: float32 rounds them differently
    torch.testing.assert_close(model(ids).logits, wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(plain(ids).logits, wanted, rtol=1e-2, atol=1e-2)
    assert model.state_dict().keys() == plain.state_dict().keys()


def test_a_tokenizer_larger_than_the_embedding_is_refused_with_both_counts(
    tiny_parts: Path, spoilt: Callable[..., str]
) -> None:
    words = tiny_tokenizer("gpt_neox")
    size = len(words) + 20
    words.add_tokens([f"word{index}" for index in range(20)])
    directory = spoilt("lm-stablelm", words.save_pretrained)
    message = refusal(tiny_parts, lm_model=directory)
    assert message == f"lm_model {directory}: its tokenizer has {size} tokens, its embedding only {size - 13} rows"


def cut(directory: Path) -> None:
    whole = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(whole[:1000])


@pytest.mark.parametrize("flag", ["lm_model", "vision_model"])
@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (shutil.rmtree, "no such directory"),
        (lambda path: (path / "config.json").unlink(), "no config.json there"),
        (lambda path: (path / "config.json").write_text("{"), "not a valid JSON file"),
        (lambda path: (path / "config.json").write_text("[]"), "Unrecognized model"),
        (edit_json("config.json", model_type="nonesuch"), "does not recognize this architecture"),
        (lambda path: (path / "model.safetensors").unlink(), "no file named model.safetensors"),
        (lambda path: (path / "model.safetensors").write_bytes(b""), "header too small"),
        (cut, "invalid header length"),
    ],
)
def test_a_directory_that_cannot_be_loaded_is_one_line_that_names_the_flag(
    flag: str, edit: Callable[[Path], object], reason: str, tiny_parts: Path, spoilt: Callable[..., str]
) -> None:
    directory = spoilt("lm-stablelm" if flag == "lm_model" else "vision-swin", edit)
    message = refusal(tiny_parts, **{flag: directory})
    assert message.startswith(f"{flag} {directory}: ")
    assert reason in message


@pytest.mark.parametrize(
    ("part", "edit", "reason"),
    [
        ("lm-stablelm", edit_json("config.json", hidden_size=64), "26 weights have another shape than config.json"),
        ("lm-stablelm", edit_json("config.json", hidden_size="x"), "hidden_size"),
        ("lm-stablelm", edit_json("config.json", num_hidden_layers=3), "11 weights are missing, first model.layers.2."),
        ("lm-stablelm", lambda path: [file.unlink() for file in path.glob("tok*")], "cannot be loaded"),
        ("lm-stablelm", lambda path: (path / "tokenizer.json").write_text("{}"), "cannot be loaded"),
        (
            "vision-swin",
            edit_json("config.json", depths=[1, 2]),
            "17 weights are missing, first encoder.layers.1.blocks.1.",
        ),
        ("vision-swin", lambda path: (path / "preprocessor_config.json").unlink(), "Can't load image processor"),
        ("vision-swin", lambda path: (path / "preprocessor_config.json").write_text("{"), "not a valid JSON file"),
        ("vision-swin", edit_json("preprocessor_config.json", size={"height": 32, "width": 64}), "must be a square"),
    ],
)
def test_a_part_whose_files_disagree_is_refused(
    part: str, edit: Callable[[Path], object], reason: str, tiny_parts: Path, spoilt: Callable[..., str]
) -> None:
    flag = "lm_model" if part.startswith("lm") else "vision_model"
    directory = spoilt(part, edit)
    message = refusal(tiny_parts, **{flag: directory})
    assert message.startswith(f"{flag} {directory}")
    assert reason in message


@pytest.mark.parametrize("flag", ["lm_model", "vision_model"])
def test_a_hub_name_without_a_hub_is_one_line_that_names_the_flag(flag: str, tiny_parts: Path) -> None:
    message = refusal(tiny_parts, **{flag: "nobody/no-such-model"})
    assert message.startswith(f"{flag} nobody/no-such-model: is not in the cache ")


def test_an_encoder_in_place_of_a_language_model_is_refused(tiny_parts: Path) -> None:
    message = refusal(tiny_parts, lm_model=str(tiny_parts / "vision-swin"))
    assert "Unrecognized configuration class" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_tokens": 25}, "image_tokens 25: a view has only 16 patches"),
        ({"end_sym": "</s>"}, "end_sym </s> is 3 tokens"),
    ],
)
def test_settings_that_the_parts_cannot_meet_are_refused(
    options: dict[str, Any], message: str, tiny_parts: Path
) -> None:
    assert refusal(tiny_parts, **options).startswith(message)


def test_eight_bits_without_bitsandbytes_names_what_to_install(
    tiny_parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = refusal(tiny_parts, low_resource=True)
    assert message == "quantization int8: needs bitsandbytes (pip install '.[quantization]' in the clone)"


def test_frozen_weights_are_bfloat16_where_training_or_the_device_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert frozen_dtype("float32", "bf16-mixed") == torch.float32
    assert frozen_dtype("bfloat16", None) == torch.bfloat16
    assert frozen_dtype("auto", "bf16-mixed") == torch.bfloat16
    assert frozen_dtype("auto", "32-true") == torch.float32
    assert frozen_dtype("auto", None) == (torch.bfloat16 if device_has_bfloat16() else torch.float32)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="dtype float16 needs a GPU"):
        frozen_dtype("float16", None)


def test_the_model_ends_and_pads_as_its_processor_says(tiny_parts: Path) -> None:
    built = build(tiny_parts, lm_model=str(tiny_parts / "lm-llama"))
    assert built.model.generation_config.eos_token_id == built.processor.end_token_id == 2
    assert built.model.generation_config.pad_token_id == built.processor.pad_token_id == 2


def test_the_side_of_the_image_is_that_of_the_crop_where_there_is_one(tiny_parts: Path) -> None:
    images = build(tiny_parts).processor.image_processor
    assert processor_image_size(images, "x") == 32
    images.crop_size, images.do_center_crop = {"height": 16, "width": 16}, True
    assert processor_image_size(images, "x") == 16


@pytest.mark.parametrize(
    ("processor", "made"),
    [
        (CLIPImageProcessorPil(size={"shortest_edge": 32}, do_center_crop=False), "3 x 32 x 48 or 3 x 48 x 32"),
        (ViTImageProcessorPil(size={"height": 32, "width": 32}, do_resize=False), "3 x 64 x 96 or 3 x 96 x 64"),
        (ViTImageProcessorPil(size={"height": 32, "width": 48}), "3 x 32 x 48"),
        (Siglip2ImageProcessorPil(), "256 x 768"),
    ],
    ids=["only the shorter side", "no side", "no square", "patches"],
)
def test_an_image_processor_that_makes_no_square_of_every_film_is_refused(processor: Any, made: str) -> None:
    with pytest.raises(InputError, match=f"^vision_model x: its image processor makes {made} of a film, must be a"):
        processor_image_size(processor, "x")


@pytest.mark.parametrize(
    ("processor", "side"),
    [
        (CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}), 32),
        (ConvNextImageProcessorPil(size={"shortest_edge": 64}), 64),
    ],
    ids=["crops", "crops by a share"],
)
def test_the_side_is_that_of_what_the_processor_makes(processor: Any, side: int) -> None:
    assert processor_image_size(processor, "x") == side


def test_weights_that_have_no_place_in_the_language_model_are_told(
    tiny_parts: Path, spoilt: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "r2gengpt.parts"]

    build(tiny_parts)
    assert told() == []
    directory = spoilt("lm-stablelm", edit_json("config.json", num_hidden_layers=1))
    build(tiny_parts, lm_model=directory)
    words = f"warning: `lm_model` {directory}: 11 of its weights have no place in the model of its config.json"
    assert told() == [f"{words} and are left out, first model.layers.1.input_layernorm.bias"]


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")  # PEFT's, of what this is about
def test_lora_beside_a_head_that_is_the_embedding_table_is_not_folded_into_it(tiny_parts: Path) -> None:
    built = build(tiny_parts, lm_model=str(tiny_parts / "lm-gpt2"), llm_use_lora=True, llm_lora_targets=("lm_head",))
    before = built.model.get_input_embeddings().weight.clone()
    with pytest.raises(InputError, match=r"^llm_lora_targets lm_head: language_model\.lm_head is the embedding table"):
        merge_lora(built.model)
    assert torch.equal(built.model.get_input_embeddings().weight, before)


def test_an_encoder_without_a_pooled_feature_is_refused_by_the_setting(tiny_parts: Path, tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    AutoModel.from_config(IJepaConfig(image_size=32, patch_size=8, **sizes)).save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    built = build(tiny_parts, vision_model=str(tmp_path), global_only=True)
    with pytest.raises(InputError, match=r"^global_only True: ijepa gives no pooled feature"):
        built.model.encode_views(torch.zeros(1, 1, 3, 32, 32))


def test_a_whole_saved_model_is_loaded_in_evaluation_mode_and_checked(tiny_parts: Path, tmp_path: Path) -> None:
    built = build(tiny_parts)
    built.model.generation_config.max_new_tokens = 8
    built.model.save_pretrained(tmp_path)
    built.processor.save_pretrained(tmp_path)
    loaded = load_directory(tmp_path, dtype="float32")
    assert not loaded.model.training
    image = noise_image(1)
    wanted = built.model.eval().generate(**built.processor(image))
    assert torch.equal(loaded.model.generate(**loaded.processor(image)), wanted)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"11 weights are missing, first language_model\.model\.layers\.2\."):
        load_directory(tmp_path, dtype="float32")
