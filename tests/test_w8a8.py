"""Weights and products in 8 bits on a CPU: close to full precision, each row by itself, not for training."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from conftest import Outcome, TinySet
from placements import FLOAT32
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.errors import InputError
from r2gengpt.parts import int8
from r2gengpt.parts.int8 import Int8Linear, to_int8
from r2gengpt.parts.placement import place
from r2gengpt.settings import PlacementConfig
from r2gengpt.testing import noise_image
from r2gengpt.training.run import train
from training_settings import small_run

KERNELS = [int8._FbgemmKernel, int8._OnednnKernel]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bias", [False, True])
def test_only_the_weights_lose_digits(kernel: type, bias: bool) -> None:
    torch.manual_seed(0)
    whole = nn.Linear(96, 64, bias=bias)
    rows = torch.randn(3, 5, 96) * 10.0 ** torch.arange(-2, 3)[:, None]  # rows of very different size
    rows[:, :, 7] *= 30  # a feature that outgrows the others, as language models have them
    scale = int8.row_scales(whole.weight.detach())[:, None]
    wanted = nn.functional.linear(rows, (whole.weight / scale).round() * scale, whole.bias)
    found = Int8Linear(whole.weight, whole.bias, kernel)(rows)
    assert found.shape == wanted.shape
    # two times 7 bits of input: each one is off by up to 1 part in 2 * 126 * 63
    assert ((found - wanted).norm(dim=-1) / wanted.norm(dim=-1)).max() < 5e-4
    exact = whole(rows)
    assert ((found - exact).norm(dim=-1) / exact.norm(dim=-1)).max() < 0.02  # a weight by up to 1 in 254


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_row_does_not_depend_on_its_neighbours(kernel: type) -> None:
    torch.manual_seed(0)
    layer = Int8Linear(torch.randn(40, 32), None, kernel)
    rows = torch.randn(4, 32) * torch.tensor([[0.01], [1.0], [50.0], [1.0]])
    together = layer(rows)
    for number in range(4):
        assert torch.equal(together[number : number + 1], layer(rows[number : number + 1]))


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_sum_of_products_overflows(kernel: type) -> None:
    """Without VNNI two products are added in 16 bits: the largest bytes next to each other must still fit."""
    weight, rows = torch.ones(8, 64), torch.ones(2, 64)
    weight[:, ::2] = -1.0
    rows[1, ::2] = -1.0
    found = Int8Linear(weight, None, kernel)(rows)
    torch.testing.assert_close(found, rows @ weight.T, rtol=0.02, atol=0.7)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_row_of_zeros_gives_zeros(kernel: type) -> None:
    assert torch.equal(Int8Linear(torch.randn(8, 16), None, kernel)(torch.zeros(1, 16)), torch.zeros(1, 8))


@torch.no_grad()
def test_a_placed_checkpoint_has_its_lora_merged_and_writes_with_bytes(tiny_checkpoint: Path) -> None:
    built, _ = load_checkpoint(tiny_checkpoint, where=FLOAT32)
    small, _ = load_checkpoint(tiny_checkpoint, where=PlacementConfig(quantization="w8a8"))
    place(small.model, "cpu", "w8a8")
    kinds = {type(module) for module in small.model.language_model.modules()}
    assert Int8Linear in kinds
    assert nn.Linear not in kinds
    assert not any("lora" in name for name, _ in small.model.language_model.named_modules())
    inputs = built.processor(noise_image(1))
    wanted, found = built.model(**inputs).logits, small.model.eval()(**inputs).logits
    assert 0 < (found - wanted).norm() / wanted.norm() < 0.1


def test_generate_takes_it_and_gives_a_report(
    run_cli: Callable[[list[str]], Outcome], tiny_checkpoint: Path, tiny_set: TinySet
) -> None:
    image = str(tiny_set.base_dir / "test0_0.png")
    found = run_cli(["generate", image, "--model", str(tiny_checkpoint), "--quantization", "w8a8"])
    assert found.code == 0
    assert found.stdout.strip()


def test_it_is_refused_for_training_and_away_from_the_cpu(tiny_parts: Path, tiny_set: TinySet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="quantization w8a8: writes reports, carries no gradients; train with"):
        train(small_run(tiny_parts, tiny_set, tmp_path), PlacementConfig(quantization="w8a8"))
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="quantization w8a8: for CPUs only, this runs on cuda"):
        place(nn.Module(), "cuda", "w8a8")


@pytest.mark.parametrize("kernel", KERNELS)
def test_gpt2s_transposed_layers_become_bytes_too(monkeypatch: pytest.MonkeyPatch, kernel: type) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    monkeypatch.setattr(int8, "choose_kernel", lambda: kernel)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=50, n_positions=32)).eval()
    ids = torch.arange(20)[None]
    with torch.no_grad():
        wanted = model(ids).logits
        to_int8(model)
        assert (model(ids).logits - wanted).norm() / wanted.norm() < 0.1
