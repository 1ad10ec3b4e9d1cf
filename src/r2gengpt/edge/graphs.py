"""OpenVINO's graphs as they are made, without PyTorch: a cache as a graph's own state, weights in 8 or 4 bits.

A product with `Constant → Convert → [Subtract zero →] Multiply scale → Reshape` for its weights is taken on the packed
weights themselves (`FullyConnectedCompressed`), so that neither disk nor memory ever holds them whole.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from r2gengpt.edge.runtime import openvino

Floats = npt.NDArray[np.float32]
ASKED = {"field": "target", "value": "openvino"}
"""What asks for the library where graphs are made."""
INPUTS = ("embeds", "positions", "seen")
ROWS = "rows"
FORMS = ("int4", "nf4", "int8", "float32")
"""What `weights` may be."""
GROUPS = {"nf4": 64, "int4": 32}
"""Weights along a row that share a scale: as bitsandbytes' blocks, and as GGUF's, where the width is a multiple."""
ON_STEPS = 0.05
"""How far, in steps, weights may lie from 16 even steps on average and have come from them; bfloat16 moves less."""
NF4 = np.array(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
        -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
        0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ],
    dtype=np.float32,
)  # fmt: skip
"""The 16 levels of NF4. Source: QLoRA, arXiv 2305.14314, appendix E."""


def keep_cache(graph: Any, sizes: Sequence[tuple[int, int]]) -> None:
    """Turn the cache inputs and outputs of a traced language model into state, in place.

    A new input `rows` (B,), int32, says which row of the last pass each row continues. Inputs are then `INPUTS` and
    `rows`, the one output is `logits`.

    Args:
        graph: of `LanguageStep`.
        sizes: groups and channels of each tensor of the cache.
    """
    ov = openvino(**ASKED)
    from openvino._offline_transformations import apply_make_stateful_transformation

    op = ov.opset13
    inputs, outputs = list(graph.inputs), list(graph.outputs)
    for port, name in zip(inputs, INPUTS, strict=False):
        port.get_tensor().set_names({name})
    outputs[0].get_tensor().set_names({"logits"})
    rows = op.parameter([-1], np.int32, name=ROWS)
    rows.output(0).get_tensor().set_names({ROWS})
    graph.add_parameters([rows])
    pairs = {}
    ports = zip(inputs[len(INPUTS) :], outputs[1:], sizes, strict=True)
    for number, (before, after, (groups, channels)) in enumerate(ports):
        before.get_node().set_partial_shape(ov.PartialShape([-1, groups, -1, channels]))
        chosen = op.gather(before, rows, op.constant(np.int64(0)))
        for target in before.get_target_inputs():
            if target.get_node() != chosen:
                target.replace_source_output(chosen.output(0))
        before.get_tensor().set_names({f"past.{number}"})
        after.get_tensor().set_names({f"present.{number}"})
        pairs[f"past.{number}"] = f"present.{number}"
    graph.validate_nodes_and_infer_types()
    apply_make_stateful_transformation(graph, pairs)
    _start_empty(graph)
    graph.validate_nodes_and_infer_types()


def _start_empty(graph: Any) -> None:
    """Let every state begin with no position, for as many rows as come in."""
    op = openvino(**ASKED).opset13
    embeds = next(port for port in graph.inputs if "embeds" in port.get_names())
    batch = op.gather(op.shape_of(embeds, "i64"), op.constant(np.array([0])), op.constant(np.int64(0)))
    for node in graph.get_ops():
        if node.get_type_name() != "ReadValue":
            continue
        shape = node.get_output_partial_shape(0)
        sizes = [op.constant(np.array([size])) for size in (shape[1].get_length(), 0, shape[3].get_length())]
        empty = op.broadcast(op.constant(np.float32(0)), op.concat([batch, *sizes], 0))
        node.set_arguments([empty.output(0)])


@dataclass(frozen=True)
class Packed:
    """A weight (out, in) in groups along its rows: `codes` (out, groups, size), `scale` and `zero` (out, groups, 1).

    A weight is (code - zero) · scale; with NF4 the code's level · scale. `zero` is None where it is 0.
    """

    kind: str
    codes: npt.NDArray[np.uint8] | npt.NDArray[np.int8]
    scale: Floats
    zero: Floats | None = None

    def whole(self) -> Floats:
        """The weight that it stands for, (out, in), float32."""
        levels = NF4[self.codes] if self.kind == "nf4" else self.codes.astype(np.float32)
        if self.zero is not None:
            levels = levels - self.zero
        return (levels * self.scale).reshape(len(self.codes), -1).astype(np.float32)


def group_size(columns: int, most: int) -> int:
    """Weights to a scale in rows of `columns`: `most`, else the largest smaller power of two that fits, else a row.

    >>> group_size(576, 64), group_size(32, 64), group_size(40, 64), group_size(7, 64)
    (64, 32, 40, 7)
    """
    return next((size for size in (64, 32, 16) if size <= most and columns % size == 0), columns)


def _groups(weight: Floats, most: int) -> Floats:
    size = group_size(weight.shape[1], most)
    return weight.reshape(len(weight), -1, size)


def pack_nf4(weight: Floats) -> Packed:
    """Each group's largest absolute value as its scale, each weight the nearest of the 16 levels.

    Where a row's length is a multiple of 64 these are bitsandbytes' own codes and scales.
    """
    groups = _groups(weight, GROUPS["nf4"])
    scale = np.abs(groups).max(-1, keepdims=True)
    unit = groups / np.where(scale == 0, 1, scale)
    return Packed("nf4", np.searchsorted((NF4[1:] + NF4[:-1]) / 2, unit).astype(np.uint8), scale)


def pack_int4(weight: Floats) -> Packed:
    """16 even steps a group: those that the weights lie on already, else from minus the largest weight to near it.

    Weights that were in GGUF's Q4_0 or Q4_1 once lie on such steps, between each group's least and largest; they stay
    as they are. Others get steps of an eighth of the largest weight, as Q4_0 has them, whose products are faster.
    """
    groups = _groups(weight, GROUPS["int4"])
    low, high = groups.min(-1, keepdims=True), groups.max(-1, keepdims=True)
    scale = np.where(high == low, 1, (high - low) / 15).astype(np.float32)
    steps = (groups - low) / scale
    if np.abs(steps - np.round(steps)).mean() < ON_STEPS:
        return Packed("u4", np.round(steps).astype(np.uint8), scale, (-low / scale).astype(np.float32))
    farthest = np.take_along_axis(groups, np.abs(groups).argmax(-1, keepdims=True), -1)
    scale = np.where(farthest == 0, 1, farthest / -8).astype(np.float32)
    return Packed("i4", np.clip(np.round(groups / scale), -8, 7).astype(np.int8), scale)


def pack_int8(weight: Floats) -> Packed:
    """255 even steps a row, zero in the middle."""
    rows = weight[:, None, :]
    largest = np.abs(rows).max(-1, keepdims=True)
    scale = np.where(largest == 0, 1, largest / 127).astype(np.float32)
    return Packed("i8", np.round(rows / scale).astype(np.int8), scale)


PACKERS: dict[str, Callable[[Floats], Packed]] = {"nf4": pack_nf4, "int4": pack_int4, "int8": pack_int8}


def _constant(codes: npt.NDArray[Any], kind: str) -> Any:
    """Codes as a constant of a graph, two to a byte where they have 4 bits (the first in the lower half)."""
    ov = openvino(**ASKED)
    if kind == "i8":
        return ov.opset13.constant(codes)
    flat = codes.reshape(-1).astype(np.uint8) & 15
    flat = np.append(flat, np.zeros(len(flat) % 2, np.uint8))
    tensor = ov.Tensor(getattr(ov.Type, kind), ov.Shape(list(codes.shape)))  # its own memory: numpy's would be freed
    tensor.data[:] = flat[0::2] | (flat[1::2] << 4)
    return ov.opset13.constant(tensor)


def packed_node(packed: Packed) -> Any:
    """The weight (out, in) as nodes of a graph."""
    op = openvino(**ASKED).opset13
    node = op.convert(_constant(packed.codes, packed.kind), "f32")
    if packed.zero is not None:
        node = op.subtract(node, op.constant(packed.zero))
    node = op.multiply(node, op.constant(packed.scale))
    shape = np.array([len(packed.codes), packed.codes[0].size], dtype=np.int64)
    return op.reshape(node, op.constant(shape), False)


def constants_named(graph: Any, names: Collection[str]) -> list[Any]:
    """The constants of these names."""
    return [
        node for node in graph.get_ops() if node.get_type_name() == "Constant" and node.get_friendly_name() in names
    ]


def constants_shaped(graph: Any, shape: tuple[int, ...]) -> list[Any]:
    """The constants of a shape."""
    return [node for node in graph.get_ops() if node.get_type_name() == "Constant" and tuple(node.shape) == shape]


def pack_weights(constants: Sequence[Any], form: str) -> None:
    """Put packed weights in place of constants (out, in) that products read, in place.

    Args:
        constants: of one OpenVINO model.
        form: of `PACKERS`.
    """
    for node in constants:
        source = node.output(0)
        new = packed_node(PACKERS[form](np.ascontiguousarray(node.data, dtype=np.float32)))
        for target in source.get_target_inputs():
            target.replace_source_output(new.output(0))


def halve_weights(constants: Sequence[Any]) -> None:
    """Keep constants in 16 bits, in place. Products stay in 32."""
    op = openvino(**ASKED).opset13
    for node in constants:
        source, half = node.output(0), op.constant(node.data.astype(np.float16))
        for target in source.get_target_inputs():
            target.replace_source_output(op.convert(half, "f32").output(0))
