"""LoRA's switches, and adapters in PEFT's own format beside our delta."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModel, AutoModelForCausalLM

from conftest import TinySet
from placements import FLOAT32
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.parts.assemble import build_model
from r2gengpt.parts.lora import merge_lora
from r2gengpt.training.run import train
from training_settings import small_run


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT asks for it
@pytest.mark.parametrize("switches", [{}, {"use_rslora": True}, {"use_dora": True}], ids=["lora", "rslora", "dora"])
def test_peft_loads_the_adapters_of_a_trained_checkpoint_by_themselves(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, switches: dict[str, bool]
) -> None:
    model = {"vis_use_lora": True, "vis_r": 4, **switches}
    train(small_run(tiny_parts, tiny_set, tmp_path, model=model, max_epochs=1), FLOAT32)
    built, settings = load_checkpoint(tmp_path / "best", where=FLOAT32)
    language = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(settings.flat()["lm_model"]), tmp_path / "best" / "language_adapter"
    )
    vision = PeftModel.from_pretrained(
        AutoModel.from_pretrained(settings.flat()["vision_model"]), tmp_path / "best" / "vision_adapter"
    )
    ids, pixels = torch.arange(12).reshape(1, 12), torch.randn(1, 3, 32, 32, generator=torch.manual_seed(0))
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(settings.flat()["lm_model"])(ids).logits
        ours, theirs = built.model.language_model(ids).logits, language.eval()(input_ids=ids).logits
        assert torch.equal(ours, theirs)
        assert not torch.allclose(ours, plain)
        assert torch.equal(
            built.model.vision_tower(pixels).last_hidden_state, vision.eval()(pixel_values=pixels).last_hidden_state
        )
    card = json.loads((tmp_path / "best" / "language_adapter" / "adapter_config.json").read_text())
    assert card["base_model_name_or_path"] == settings.flat()["lm_model"]


def test_the_rank_stabilised_scale_is_alpha_over_the_root_of_the_rank(tiny_parts: Path) -> None:
    scales = []
    for rslora in (False, True):
        model = small_run(
            tiny_parts, TinySet(Path(), Path()), Path("run"), model={"use_rslora": rslora, "llm_r": 4}
        ).model
        language = build_model(model).model.language_model
        layer = next(module for name, module in language.named_modules() if name.endswith("q_proj"))
        scales.append(layer.scaling["default"])
    assert scales == [16 / 4, 16 / 2]


def test_merged_dora_gives_the_same_logits(tiny_parts: Path) -> None:
    model = small_run(tiny_parts, TinySet(Path(), Path()), Path("run"), model={"use_dora": True}).model
    built = build_model(model, FLOAT32)
    language = built.model.language_model.eval()
    with torch.no_grad():
        for name, parameter in language.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
        ids = torch.arange(8).reshape(1, 8)
        before = language(ids).logits
        merge_lora(language)
        assert torch.allclose(language(ids).logits, before, atol=1e-4)  # float32 products in another order


def test_a_checkpoint_without_lora_has_no_adapters(tiny_parts: Path, tiny_set: TinySet, tmp_path: Path) -> None:
    train(small_run(tiny_parts, tiny_set, tmp_path, model={"llm_use_lora": False}, max_epochs=1))
    assert not list((tmp_path / "best").glob("*_adapter"))
