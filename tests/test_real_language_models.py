"""Real language models of other families: loaded, trained by LoRA, quantized, writing. `r2gengpt pull` gets them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import REPORTS
from r2gengpt.config import DecodeConfig, ModelConfig
from r2gengpt.data.batches import Example, prompt_batch, training_batch
from r2gengpt.generation.decode import predict
from r2gengpt.parts.assemble import Built, build_model
from r2gengpt.parts.embedded.cache import part_dir
from r2gengpt.parts.embedded.catalogue import OTHERS
from r2gengpt.parts.int8 import to_int8
from r2gengpt.parts.loading import load_language
from r2gengpt.settings import PlacementConfig
from r2gengpt.testing import noise_image, tiny_vision_model

pytestmark = pytest.mark.drill
KINDS = {"gemma3-270m": "gemma3_text", "qwen2.5-coder-1.5b": "qwen2"}
STEPS = 6


@pytest.fixture(scope="module", params=OTHERS, ids=lambda part: part.name)
def name(request: pytest.FixtureRequest) -> str:
    if not part_dir(request.param).is_dir():
        pytest.skip(f"needs `r2gengpt pull {request.param.name}`")
    return str(request.param.name)


def build(name: str, directory: Path, **settings: Any) -> Built:
    torch.manual_seed(0)
    vision = str(tiny_vision_model(directory, "dinov2"))
    config = ModelConfig(lm_model=f"embedded:{name}", vision_model=vision, llm_use_lora=True, **settings)
    return build_model(config, PlacementConfig())


def examples(built: Built) -> list[Example]:
    pixels = [built.processor.pixels([noise_image(number)]) for number in range(2)]
    return [Example(report, pixel, report, "") for pixel, report in zip(pixels, REPORTS, strict=False)]


def test_lora_trains_it_and_it_writes(name: str, tmp_path: Path) -> None:
    built = build(name, tmp_path)
    assert built.model.config.text_config.model_type == KINDS[name]
    batch = training_batch(examples(built), built.processor, max_length=40)
    optimizer = torch.optim.AdamW([p for p in built.model.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(STEPS):
        loss = built.model.loss(**batch.inputs())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0], losses
    built.model.eval()
    (report,) = predict(
        built.model, built.processor, [prompt_batch(examples(built)[:1], built.processor)],
        DecodeConfig(beam_size=1, min_new_tokens=0, max_new_tokens=12),
    )  # fmt: skip
    assert report.tokens > 3
    assert report.text.isascii(), "the words of a report, and no noise"


@torch.no_grad()
def loss_of(name: str, quantization: str) -> float:
    where = PlacementConfig(quantization=quantization, dtype="float32")
    model, tokenizer = load_language(f"embedded:{name}", where, torch.float32)
    if quantization == "w8a8":
        to_int8(model)
        model.float()
    total, count = 0.0, 0
    for report in REPORTS:
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(report, add_special_tokens=False).input_ids]])
        total += model(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    return total / count


def test_eight_bits_cost_at_most_one_per_cent_of_the_loss(name: str) -> None:
    whole = loss_of(name, "none")
    assert {kind: loss for kind in ("w8a8", "int8") if (loss := loss_of(name, kind)) > 1.01 * whole} == {}
