"""8 and 4 bits through bitsandbytes, on a CPU: train LoRA on top, save, load, generate."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import TinySet
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.config import RunConfig
from r2gengpt.data.annotation import read_annotation
from r2gengpt.errors import InputError
from r2gengpt.evaluation.run import Evaluation, predict_studies
from r2gengpt.parts.assemble import build_model
from r2gengpt.settings import PlacementConfig
from r2gengpt.testing import tiny_language_model
from r2gengpt.training.data import make_loaders
from r2gengpt.training.module import R2GenGPTModule
from r2gengpt.training.run import train
from reporters import reporter_of
from training_settings import small_run

bitsandbytes = pytest.importorskip("bitsandbytes")
KINDS = ("int8", "nf4", "fp4")


def run_on(parts: Path, data: TinySet, directory: Path, lm: str = "stablelm") -> RunConfig:
    return small_run(parts, data, directory, model={"lm_model": str(parts / f"lm-{lm}")})


def held_in(kind: str, dtype: str = "auto") -> PlacementConfig:
    return PlacementConfig(quantization=kind, double_quant=kind == "nf4", dtype=dtype)


@pytest.mark.parametrize("lm", ["stablelm", "llama", "gpt_neox"])
@pytest.mark.parametrize("kind", KINDS)
def test_lora_trains_on_quantized_weights_and_gives_the_same_text_after_loading(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, kind: str, lm: str
) -> None:
    settings = run_on(tiny_parts, tiny_set, tmp_path, lm)
    before = build_model(settings.model, held_in(kind), precision="32-true").model.language_model.state_dict()
    train(settings, held_in(kind))
    built, _ = load_checkpoint(tmp_path / "last", where=held_in(kind, "float32"))
    moved = [
        name for name, tensor in built.model.language_model.state_dict().items() if "lora_B" in name and tensor.any()
    ]
    assert moved
    for name, tensor in built.model.language_model.state_dict().items():
        if "lora_" not in name:
            assert torch.equal(tensor, before[name]), f"{name} is frozen and changed"
    studies = read_annotation(tiny_set.annotation, tiny_set.base_dir, ("test",))["test"]
    plan = Evaluation(studies, (), "plain", batch_size=3)
    decode = replace(settings.decode, max_new_tokens=12)
    again, _ = load_checkpoint(tmp_path / "last", where=held_in(kind, "float32"))
    assert [p.text for p in predict_studies(reporter_of(built, decode), plan)] == [
        p.text for p in predict_studies(reporter_of(again, decode), plan)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_language_models_linear_layers_are_quantized(tiny_parts: Path, tiny_set: TinySet, kind: str) -> None:
    built = build_model(run_on(tiny_parts, tiny_set, Path("run")).model, held_in(kind), precision="32-true")
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
    built = build_model(run_on(tiny_parts, tiny_set, Path("run")).model, held_in(kind), precision="32-true")
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


@pytest.fixture
def packing_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """bitsandbytes believes that the processor has AVX512_BF16: evaluations then pack 4-bit weights on any machine."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)


def packed_layers(model: torch.nn.Module) -> list[bool]:
    layers = [module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
    return [getattr(layer.weight.quant_state, "packing_format_for_cpu", False) for layer in layers]


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_training_after_a_validation_sees_the_same_gradients_as_before_it(
    packing_processor: None, tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, kind: str
) -> None:
    wide = tiny_language_model(tmp_path, width=64)  # the widths of other tiny models are never packed
    settings = small_run(tiny_parts, tiny_set, tmp_path, model={"lm_model": str(wide), "lora_dropout": 0.0})
    built = build_model(settings.model, PlacementConfig(quantization=kind), precision="32-true")
    for name, parameter in built.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    module = R2GenGPTModule(built, settings, steps=1)
    splits = read_annotation(tiny_set.annotation, tiny_set.base_dir, ("train", "val"))
    training, validation = make_loaders(built, splits, settings, 0, 1)
    batch = next(iter(training))

    def gradients() -> dict[str, torch.Tensor]:
        module.train()
        module.zero_grad()
        module.model(**batch.inputs(), use_cache=False).loss.backward()
        trained = {name: p.grad for name, p in module.named_parameters() if p.requires_grad}
        return {name: grad.clone() for name, grad in trained.items() if grad is not None}

    before = gradients()
    module.eval()
    with torch.no_grad():
        module.validation_step(next(iter(validation)), 0)
    assert packed_layers(built.model) == [False] * 14
    after = gradients()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(grad.any() for grad in after.values())


def test_weights_that_cannot_be_packed_are_evaluated_as_they_lie(
    packing_processor: None, tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    """A width of 32 holds no block of 64: bitsandbytes' packing ends in an error about shapes."""
    settings = run_on(tiny_parts, tiny_set, tmp_path).model
    model = build_model(settings, held_in("nf4", "bfloat16")).model.eval()
    with torch.no_grad():
        logits = model.language_model(input_ids=torch.arange(8)[None]).logits
    assert torch.isfinite(logits).all()
    fits = [
        module.in_features % 64 == 0 for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)
    ]
    assert packed_layers(model) == fits
    assert True in fits  # the feed-forward layers' down, 64 wide: packing is simulated


def test_products_asked_for_in_float32_are_never_packed_to_bfloat16(
    packing_processor: None, tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    settings = run_on(tiny_parts, tiny_set, tmp_path).model
    model = build_model(settings, held_in("nf4", "float32")).model.eval()
    with torch.no_grad():
        model.language_model(input_ids=torch.arange(8)[None])
    assert not any(packed_layers(model))


def test_low_resource_is_int8_and_contradictions_are_refused() -> None:
    assert PlacementConfig(low_resource=True).quantization == "int8"
    with pytest.raises(InputError, match="low_resource True means int8, but quantization is nf4"):
        PlacementConfig(low_resource=True, quantization="nf4")
    with pytest.raises(InputError, match="double_quant True belongs to nf4 and fp4"):
        PlacementConfig(double_quant=True)
