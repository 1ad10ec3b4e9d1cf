"""Linear layers of bytes for inference on a CPU: weights by row ahead of time, inputs by row on the fly. No training.

An input is taken as the sum of two bytes: what one byte leaves over, 100 times as small, is a row of its own in the
same product. The weights, which take the time, are read once for both, and the inputs' error all but vanishes.
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
    """FBGEMM's dynamic linear: the fastest where there is no VNNI. Inputs have 128 steps.

    It takes one range for all rows of a batch. Two more columns, of its ends, with weights of 0 fix it.
    """

    steps, zero, lowest, highest = 63.5, 64, 0, 127

    def __init__(self, weight: Tensor) -> None:
        scale = row_scales(weight)
        wide = nn.functional.pad(weight, (0, 2))
        zeros = torch.zeros(len(weight), dtype=torch.long)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*quantized tensor creation functions.*")
            quantized = torch.quantize_per_channel(wide, scale.double(), zeros, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(quantized, None)
        self.ends = torch.tensor([[self.lowest - self.zero, self.highest - self.zero]]) / self.steps

    def __call__(self, rows: Tensor) -> Tensor:
        product: Tensor = torch.ops.quantized.linear_dynamic(
            torch.cat([rows, self.ends.expand(len(rows), 2)], 1), self.packed, True
        )
        return product


class _OnednnKernel:
    """oneDNN's linear of bytes, as `torch.compile` uses it: the fastest with VNNI. Inputs have 255 steps with it.

    Without VNNI they have 127: the sum of two products must fit into 16 bits.
    """

    def __init__(self, weight: Tensor) -> None:
        self.scale = row_scales(weight)
        self.zeros = torch.zeros(len(weight), dtype=torch.long)
        whole = (weight / self.scale[:, None]).round().clamp(-127, 127).to(torch.int8)
        self.packed = torch.ops.onednn.qlinear_prepack(whole, None)
        self.steps = 127.0 if has_vnni() else 63.0
        self.zero = 128 if has_vnni() else 64
        self.lowest, self.highest = self.zero - int(self.steps), self.zero + int(self.steps)

    def __call__(self, rows: Tensor) -> Tensor:
        whole = (rows * self.steps).round_().clamp_(-self.steps, self.steps).add_(self.zero).to(torch.uint8)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            whole, 1 / self.steps, self.zero, self.packed, self.scale, self.zeros, None,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return product


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
        kernel: makes the product of rows (R, in), float32, -1 to 1, with the weights. It rounds them to 1 / `steps`:
            to whole numbers from `lowest` to `highest` less `zero`.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, kernel: type[Any] | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.multiply = (kernel or choose_kernel())(weight.detach().float().contiguous())  # oneDNN overlooks strides
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """The product in the inputs' type."""
        rows = inputs.reshape(-1, self.in_features).float()
        output = self._product(rows).to(inputs.dtype)
        if self.bias is not None:
            output = output + self.bias
        return output.view(*inputs.shape[:-1], self.out_features)

    def _product(self, rows: Tensor) -> Tensor:
        kernel, count = self.multiply, len(rows)
        largest = torch.linalg.vector_norm(rows, float("inf"), 1, True).clamp_min_(torch.finfo(torch.float32).tiny)
        unit = rows / largest
        first = torch.fake_quantize_per_tensor_affine(
            unit, 1 / kernel.steps, kernel.zero, kernel.lowest, kernel.highest
        )
        finer = 2 * (kernel.highest - kernel.zero)  # half a step at most is left over
        products = kernel(torch.cat([first, (unit - first).mul_(finer)]))
        return torch.add(products[:count], products[count:], alpha=1 / finer).mul_(largest)


def to_int8(language_model: nn.Module) -> None:
    """Put `Int8Linear` in place of every linear layer, the head included, one after the other; embeddings stay."""
    for name, module in list(language_model.named_modules()):
        if not isinstance(module, nn.Linear | Conv1D):
            continue
        weight = module.weight.T if isinstance(module, Conv1D) else module.weight
        parent, _, child = name.rpartition(".")
        setattr(language_model.get_submodule(parent), child, Int8Linear(weight, module.bias))
