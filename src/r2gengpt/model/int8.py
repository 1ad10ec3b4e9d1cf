"""Linear layers in 8 bits for inference on a CPU: weights by row ahead of time, inputs by row on the fly. No training.

Both kernels multiply unsigned by signed bytes and give float32; which one is taken goes by the processor (docs/log.md).
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


def has_vnni() -> bool:
    """Whether the processor multiplies bytes into 32-bit sums without an overflow in between."""
    probe = getattr(torch.cpu, "_is_vnni_supported", None)
    return bool(probe and probe())


class _FbgemmKernel:
    """FBGEMM's dynamic linear: the fastest where there is no VNNI.

    It takes one range for all rows of a batch, so that a row's result would depend on its neighbours. Each row is
    therefore scaled to a largest value of 1, and two more columns, of 1 and of -1, with weights of 0 fix the range.
    """

    def __init__(self, weight: Tensor) -> None:
        scale = row_scales(weight)
        wide = nn.functional.pad(weight, (0, 2))
        zeros = torch.zeros(len(weight), dtype=torch.long)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*quantized tensor creation functions.*")
            quantized = torch.quantize_per_channel(wide, scale.double(), zeros, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(quantized, None)

    def __call__(self, rows: Tensor) -> Tensor:
        largest = rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        ends = rows.new_tensor([1.0, -1.0]).expand(len(rows), 2)
        product: Tensor = torch.ops.quantized.linear_dynamic(torch.cat([rows / largest, ends], 1), self.packed, True)
        return product * largest


class _OnednnKernel:
    """oneDNN's linear of bytes, as `torch.compile` uses it: the fastest with VNNI."""

    def __init__(self, weight: Tensor) -> None:
        self.scale = row_scales(weight)
        self.zeros = torch.zeros(len(weight), dtype=torch.long)
        whole = (weight / self.scale[:, None]).round().clamp(-127, 127).to(torch.int8)
        self.packed = torch.ops.onednn.qlinear_prepack(whole, None)
        self.largest = 127 if has_vnni() else 63  # without VNNI the sum of two products must fit into 16 bits

    def __call__(self, rows: Tensor) -> Tensor:
        step = rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / self.largest
        middle = self.largest + 1
        whole = (rows / step).round().add(middle).to(torch.uint8)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            whole, 1.0, middle, self.packed, self.scale, self.zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return product * step


def row_scales(weight: Tensor) -> Tensor:
    """What one step of 8 bits is worth in each row of a weight (out, in): (out,), float32."""
    return weight.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127


def choose_kernel() -> type[Any]:
    """The faster kernel of those that this build of PyTorch has."""
    if not has_vnni() and "fbgemm" in torch.backends.quantized.supported_engines:
        return _FbgemmKernel
    return _OnednnKernel


class Int8Linear(nn.Module):
    """A linear layer (…, in) → (…, out) whose weights are bytes; each row is computed as it would be alone.

    Args:
        weight: (out, in), any float type.
        bias: (out,) or None.
        kernel: makes the product of rows (R, in), float32, with the weights.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, kernel: type[Any] | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.multiply = (kernel or choose_kernel())(weight.detach().float())
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """The product in the inputs' type."""
        rows = inputs.reshape(-1, self.in_features).float()
        output: Tensor = self.multiply(rows).to(inputs.dtype)
        if self.bias is not None:
            output = output + self.bias
        return output.view(*inputs.shape[:-1], self.out_features)


def to_int8(language_model: nn.Module) -> None:
    """Put `Int8Linear` in place of every linear layer, the head included, one after the other; embeddings stay."""
    for name, module in list(language_model.named_modules()):
        if not isinstance(module, nn.Linear | Conv1D):
            continue
        weight = module.weight.T if isinstance(module, Conv1D) else module.weight
        parent, _, child = name.rpartition(".")
        setattr(language_model.get_submodule(parent), child, Int8Linear(weight, module.bias))
