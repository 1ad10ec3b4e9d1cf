"""Layers of a language model compiled by `torch.compile`, once for all of a kind. Nothing is recorded or decoded here.

A layer knows its number, by which the store of keys and values is told, and the compiler would make each number's code
anew. So inside the block all have the number of the first, and each is handed its part of the store before it runs.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn

from r2gengpt.generation.tree import TreeCache

NUMBER = "layer_idx"
"""The library's name for a layer's number."""
MOST_SHAPES = 64
"""How many shapes and kinds of layers are compiled; the compiler's own limit is 8."""


def layers_of(language_model: Any) -> nn.ModuleList:
    """The decoder layers of a language model of any family."""
    count = language_model.config.num_hidden_layers
    return next(m for m in language_model.modules() if isinstance(m, nn.ModuleList) and len(m) == count)


@cache
def compiled_layer() -> Callable[..., Any]:
    """What runs a layer: compiled at its first call, and again for other shapes."""
    return torch.compile(_run_layer, dynamic=False)


def _run_layer(layer: nn.Module, *words: Any, **named: Any) -> Any:
    return layer._call_impl(*words, **named)  # type: ignore[no-untyped-call]


@contextmanager
def compiled_layers(language_model: Any, store: TreeCache) -> Iterator[None]:
    """Run the layers compiled inside the block; the store must have all its layers, as it has after a prompt."""
    with ExitStack() as stack:
        stack.enter_context(torch._dynamo.config.patch(recompile_limit=MOST_SHAPES))
        for number, layer in enumerate(layers_of(language_model)):
            for part in layer.modules():
                if hasattr(part, NUMBER):
                    stack.callback(setattr, part, NUMBER, getattr(part, NUMBER))
                    setattr(part, NUMBER, 0)

            def run(*words: Any, layer: nn.Module = layer, number: int = number, **named: Any) -> Any:
                store.layer = store.keys[number], store.values[number]
                return compiled_layer()(layer, *words, **named)

            stack.callback(setattr, layer, "_compiled_call_impl", None)
            layer._compiled_call_impl = run
        stack.callback(setattr, store, "layer", None)
        yield
