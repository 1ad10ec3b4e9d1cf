"""--gradient_checkpointing True: the same loss and gradients from fewer kept activations."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import LANGUAGE_KINDS, TinySet
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.batches import Batch, training_batch
from r2gengpt.data.loading import StudyDataset
from r2gengpt.errors import InputError
from r2gengpt.parts.assemble import build_model
from r2gengpt.training.module import R2GenGPTModule
from r2gengpt.training.optimizer import checkpoint_layers
from r2gengpt.training.run import train
from training_settings import small_run


def one_step(
    parts: Path, data: TinySet, directory: Path, checkpointing: bool, model: dict[str, Any]
) -> tuple[Tensor, dict[str, Tensor], list[int]]:
    """Loss, gradients, and how often each decoder layer ran, of one training step with dropout seeded."""
    settings = small_run(parts, data, directory, model=model, gradient_checkpointing=checkpointing)
    torch.manual_seed(0)
    built = build_model(settings.model)
    for name, parameter in built.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    module = R2GenGPTModule(built, settings, steps=1)
    module.train()
    studies = read_annotation(data.annotation, data.base_dir, ("train",))["train"]
    dataset = StudyDataset(studies, built.processor, "plain")
    batch: Batch = training_batch([dataset[(0, index)] for index in range(4)], built.processor, 60)
    layers = [
        m for name, m in built.model.language_model.named_modules() if name.split(".")[-2:-1] in (["layers"], ["h"])
    ]
    runs = [0] * len(layers)

    def counter(index: int) -> Any:
        def count(*_: Any) -> None:
            runs[index] += 1

        return count

    for index, layer in enumerate(layers):  # a hook of the layer's part: the layer's own hooks stay out of it
        next(layer.children()).register_forward_pre_hook(counter(index))
    torch.manual_seed(1)
    loss: Tensor = built.model(**batch.inputs(), use_cache=False).loss
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in built.model.named_parameters() if p.grad is not None}, runs


@pytest.mark.parametrize("kind", LANGUAGE_KINDS)
@pytest.mark.parametrize(
    "model",
    [{"alignment": "shallow", "llm_use_lora": False}, {"alignment": "delta", "vis_r": 4, "lora_dropout": 0.3}],
    ids=["projector only", "LoRA with dropout on both"],
)
def test_loss_and_gradients_stay_the_same_and_each_layer_runs_a_second_time(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, kind: str, model: dict[str, Any]
) -> None:
    """With the projector alone the language model is in eval mode, where the library itself would not checkpoint."""
    model = {"lm_model": str(tiny_parts / f"lm-{kind}"), **model}
    loss, gradients, runs = one_step(tiny_parts, tiny_set, tmp_path, False, model)
    saved_loss, saved_gradients, saved_runs = one_step(tiny_parts, tiny_set, tmp_path, True, model)
    assert runs == [1, 1]
    assert saved_runs == [2, 2]
    assert float(saved_loss) == pytest.approx(float(loss), abs=1e-6)
    assert saved_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(saved_gradients[name], gradient, atol=1e-6), name


def test_a_run_with_checkpointing_ends_with_the_same_weights(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    for name, on in (("plain", False), ("saving", True)):
        train(small_run(tiny_parts, tiny_set, tmp_path / name, model={"lora_dropout": 0.3}, gradient_checkpointing=on))
    plain, saving = (load_file(tmp_path / name / "last" / "delta.safetensors") for name in ("plain", "saving"))
    for name, tensor in plain.items():
        assert torch.allclose(saving[name], tensor, atol=1e-6), name


def test_an_architecture_without_it_is_refused_with_the_flag() -> None:
    from transformers import PreTrainedModel

    class Plain(PreTrainedModel):  # type: ignore[misc]
        supports_gradient_checkpointing = False

        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

    with pytest.raises(InputError, match="gradient_checkpointing True: Plain does not support"):
        checkpoint_layers(Plain())
