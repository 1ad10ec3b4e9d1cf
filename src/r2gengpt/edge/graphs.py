"""What is done to a traced language model's graph: the cache becomes its own state. Nothing of PyTorch."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from r2gengpt.edge.library import openvino

FLAG = "--target openvino"
INPUTS = ("embeds", "positions", "seen")
ROWS = "rows"


def keep_cache(graph: Any, sizes: Sequence[tuple[int, int]]) -> None:
    """Turn the cache inputs and outputs of a traced language model into state, in place.

    A new input `rows` (B,), int32, says which row of the last pass each row continues. Inputs are then `INPUTS` and
    `rows`, the one output is `logits`.

    Args:
        graph: of `LanguageStep`.
        sizes: groups and channels of each tensor of the cache.
    """
    ov = openvino(FLAG)
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
    op = openvino(FLAG).opset13
    embeds = next(port for port in graph.inputs if "embeds" in port.get_names())
    batch = op.gather(op.shape_of(embeds, "i64"), op.constant(np.array([0])), op.constant(np.int64(0)))
    for node in graph.get_ops():
        if node.get_type_name() != "ReadValue":
            continue
        shape = node.get_output_partial_shape(0)
        sizes = [op.constant(np.array([size])) for size in (shape[1].get_length(), 0, shape[3].get_length())]
        empty = op.broadcast(op.constant(np.float32(0)), op.concat([batch, *sizes], 0))
        node.set_arguments([empty.output(0)])
