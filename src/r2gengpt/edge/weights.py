"""A graph's weights into 8 or 4 bits, in the form that OpenVINO multiplies without unpacking. No model is traced here.

A product with `Constant → Convert → [Subtract zero →] Multiply scale → Reshape` for its weights is taken on the packed
weights themselves (`FullyConnectedCompressed`), so that neither disk nor memory ever holds them whole.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from r2gengpt.edge.library import openvino

FORMS = ("nf4", "int4", "int8", "float32")
"""What `--weights` may be."""
GROUP = 64
"""Weights along a row that share a scale: as bitsandbytes' blocks, where the width is a multiple of it."""
NF4 = np.array(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
        -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
        0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ],
    dtype=np.float32,
)  # fmt: skip
"""The 16 levels of NF4. Source: QLoRA, arXiv 2305.14314, appendix E."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Packed:
    """A weight (out, in) in groups along its rows: `codes` (out, groups, size), `scale` and `zero` (out, groups, 1).

    A weight is (code - zero) · scale; with NF4 the code's level · scale. `zero` is None where it is 0.
    """

    kind: str
    codes: npt.NDArray[np.uint8] | npt.NDArray[np.int8]
    scale: Floats
    zero: npt.NDArray[np.uint8] | None = None

    def whole(self) -> Floats:
        """The weight that it stands for, (out, in), float32."""
        levels = NF4[self.codes] if self.kind == "nf4" else self.codes.astype(np.float32)
        if self.zero is not None:
            levels = levels - self.zero.astype(np.float32)
        return (levels * self.scale).reshape(len(self.codes), -1).astype(np.float32)


def group_size(columns: int) -> int:
    """Weights to a scale in rows of `columns`: 64, else the largest smaller power of two that divides it, else a row.

    >>> group_size(576), group_size(32), group_size(40), group_size(7)
    (64, 32, 40, 7)
    """
    return next((size for size in (GROUP, 32, 16) if columns % size == 0), columns)


def _groups(weight: Floats) -> Floats:
    size = group_size(weight.shape[1])
    return weight.reshape(len(weight), -1, size)


def pack_nf4(weight: Floats) -> Packed:
    """Each group's largest absolute value as its scale, each weight the nearest of the 16 levels.

    Where a row's length is a multiple of 64 these are bitsandbytes' own codes and scales.
    """
    groups = _groups(weight)
    scale = np.abs(groups).max(-1, keepdims=True)
    unit = groups / np.where(scale == 0, 1, scale)
    return Packed("nf4", np.searchsorted((NF4[1:] + NF4[:-1]) / 2, unit).astype(np.uint8), scale)


def pack_int4(weight: Floats) -> Packed:
    """16 even steps from each group's least to its largest weight, zero among them."""
    groups = _groups(weight)
    low = np.minimum(groups.min(-1, keepdims=True), 0)
    high = np.maximum(groups.max(-1, keepdims=True), 0)
    scale = np.where(high == low, 1, (high - low) / 15).astype(np.float32)
    zero = np.clip(np.round(-low / scale), 0, 15)
    codes = np.clip(np.round(groups / scale) + zero, 0, 15)
    return Packed("u4", codes.astype(np.uint8), scale, zero.astype(np.uint8))


def pack_int8(weight: Floats) -> Packed:
    """255 even steps a row, zero in the middle."""
    rows = weight[:, None, :]
    largest = np.abs(rows).max(-1, keepdims=True)
    scale = np.where(largest == 0, 1, largest / 127).astype(np.float32)
    return Packed("i8", np.round(rows / scale).astype(np.int8), scale)


PACKERS: dict[str, Callable[[Floats], Packed]] = {"nf4": pack_nf4, "int4": pack_int4, "int8": pack_int8}


def _constant(codes: npt.NDArray[Any], kind: str) -> Any:
    """Codes as a constant of a graph, two to a byte where they have 4 bits (the first in the lower half)."""
    ov = openvino("--weights")
    if kind == "i8":
        return ov.opset13.constant(codes)
    flat = codes.reshape(-1)
    flat = np.append(flat, np.zeros(len(flat) % 2, np.uint8))
    tensor = ov.Tensor(getattr(ov.Type, kind), ov.Shape(list(codes.shape)))  # its own memory: numpy's would be freed
    tensor.data[:] = flat[0::2] | (flat[1::2] << 4)
    return ov.opset13.constant(tensor)


def packed_node(packed: Packed) -> Any:
    """The weight (out, in) as nodes of a graph."""
    op = openvino("--weights").opset13
    node = op.convert(_constant(packed.codes, packed.kind), "f32")
    if packed.zero is not None:
        node = op.subtract(node, op.convert(_constant(packed.zero, packed.kind), "f32"))
    node = op.multiply(node, op.constant(packed.scale))
    shape = np.array([len(packed.codes), packed.codes[0].size], dtype=np.int64)
    return op.reshape(node, op.constant(shape), False)


def pack_weights(graph: Any, names: Collection[str], form: str) -> int:
    """Put packed weights in place of the constants of these names, in place; gives how many.

    Args:
        graph: an OpenVINO model.
        names: of constants (out, in) that products read.
        form: of `FORMS`; float32 changes nothing.
    """
    if form == "float32":
        return 0
    found = [
        node for node in graph.get_ops() if node.get_type_name() == "Constant" and node.get_friendly_name() in names
    ]
    for node in found:
        source = node.output(0)
        new = packed_node(PACKERS[form](np.ascontiguousarray(node.data, dtype=np.float32)))
        for target in source.get_target_inputs():
            target.replace_source_output(new.output(0))
    return len(found)


def halve_weights(graph: Any, shape: tuple[int, ...]) -> int:
    """Keep constants of a shape in 16 bits, in place; gives how many. Products stay in 32."""
    op = openvino("--weights").opset13
    found = [node for node in graph.get_ops() if node.get_type_name() == "Constant" and tuple(node.shape) == shape]
    for node in found:
        source, half = node.output(0), op.constant(node.data.astype(np.float16))
        for target in source.get_target_inputs():
            target.replace_source_output(op.convert(half, "f32").output(0))
    return len(found)
