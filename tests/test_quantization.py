"""8 and 4 bits through bitsandbytes, on a CPU: train LoRA on top, save, load, generate."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import TinySet
from r2gengpt.build import build_model
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.config import ModelConfig
from r2gengpt.data.annotation import read_annotation
from r2gengpt.errors import InputError
from r2gengpt.evaluation.run import Evaluation, predict_studies
from r2gengpt.training.run import train
from training_settings import small_run

bitsandbytes = pytest.importorskip("bitsandbytes")
KINDS = ("int8", "nf4", "fp4")


def quantized(parts: Path, data: TinySet, directory: Path, kind: str, lm: str = "stablelm") -> tuple[object, ...]:
    model = {"quantization": kind, "double_quant": kind == "nf4", "lm_model": str(parts / f"lm-{lm}")}
    return small_run(parts, data, directory, model=model)


@pytest.mark.parametrize("lm", ["stablelm", "llama", "gpt_neox"])
@pytest.mark.parametrize("kind", KINDS)
def test_lora_trains_on_quantized_weights_and_gives_the_same_text_after_loading(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, kind: str, lm: str
) -> None:
    settings = quantized(tiny_parts, tiny_set, tmp_path, kind, lm)
    before = build_model(settings[0], precision="32-true").model.language_model.state_dict()
    train(settings)
    built, _ = load_checkpoint(tmp_path / "last", dtype="float32")
    moved = [
        name for name, tensor in built.model.language_model.state_dict().items() if "lora_B" in name and tensor.any()
    ]
    assert moved
    for name, tensor in built.model.language_model.state_dict().items():
        if "lora_" not in name:
            assert torch.equal(tensor, before[name]), f"{name} is frozen and changed"
    studies = read_annotation(tiny_set.annotation, tiny_set.base_dir, ("test",))["test"]
    plan = Evaluation(studies, (), "plain", replace(settings[2], max_new_tokens=12), batch_size=3)
    again, _ = load_checkpoint(tmp_path / "last", dtype="float32")
    assert [p.prediction for p in predict_studies(built, plan)] == [p.prediction for p in predict_studies(again, plan)]


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_language_models_linear_layers_are_quantized(tiny_parts: Path, tiny_set: TinySet, kind: str) -> None:
    built = build_model(quantized(tiny_parts, tiny_set, Path("run"), kind)[0], precision="32-true")
    kinds = (bitsandbytes.nn.Linear8bitLt, bitsandbytes.nn.Linear4bit)
    small = [name for name, module in built.model.named_modules() if isinstance(module, kinds)]
    assert len(small) == 2 * 7  # two layers of q, k, v, o, gate, up and down
    assert all(name.startswith("language_model.model.layers.") for name in small)
    assert built.model.get_output_embeddings().weight.dtype == torch.float32
    assert built.model.projector.linear.weight.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in built.model.vision_tower.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_image_tokens_also_after_an_evaluation(
    tiny_parts: Path, tiny_set: TinySet, kind: str
) -> None:
    built = build_model(quantized(tiny_parts, tiny_set, Path("run"), kind)[0], precision="32-true")
    language = built.model.language_model
    ids = torch.arange(16).reshape(2, 8)
    embeds = built.model.get_input_embeddings()(ids).detach().requires_grad_()
    sums = []
    for _ in range(2):
        language.train()
        embeds.grad = None
        language(inputs_embeds=embeds, labels=ids).loss.backward()
        sums.append(float(embeds.grad.abs().sum()))
        language.eval()
        with torch.no_grad():
            language(inputs_embeds=embeds)
    assert sums[0] > 0
    assert sums[1] > 0


def test_low_resource_is_int8_and_contradictions_are_refused() -> None:
    assert ModelConfig(low_resource=True).quantization == "int8"
    with pytest.raises(InputError, match="--low_resource True means int8, but --quantization is nf4"):
        ModelConfig(low_resource=True, quantization="nf4")
    with pytest.raises(InputError, match="--double_quant True belongs to nf4 and fp4"):
        ModelConfig(double_quant=True)
