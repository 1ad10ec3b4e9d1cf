"""Which form a checkpoint's weights are in, what `quantization` then means, their layout. Quantizes nothing itself."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from r2gengpt.errors import InputError
from r2gengpt.settings import PlacementConfig


def stored_quantization(lm_config: Any, source: str) -> tuple[str, bool] | None:
    """The form of a checkpoint's weights and whether their constants are quantized too; None where they are whole.

    Args:
        lm_config: the library's configuration of the checkpoint.
        source: flag and name, for the error.

    Raises:
        InputError: the weights were quantized by something else than bitsandbytes.
    """
    stored = getattr(lm_config, "quantization_config", None)
    if stored is None:
        return None
    values: dict[str, Any] = stored if isinstance(stored, dict) else stored.to_dict()
    if values.get("load_in_8bit"):
        return "int8", False
    if values.get("load_in_4bit"):
        return str(values.get("bnb_4bit_quant_type", "fp4")), bool(values.get("bnb_4bit_use_double_quant"))
    method = values.get("quant_method")
    raise InputError(f"{source}: its weights are quantized by {method}; only bitsandbytes' int8, nf4 and fp4 are read")


def settle_quantization(where: PlacementConfig, lm_config: Any, source: str) -> PlacementConfig:
    """The settings with `quantization` and `double_quant` as the weights will be in memory: never auto.

    Args:
        where: auto stands for what the language model's directory holds.
        lm_config: the library's configuration of the language model, None where it has none (ChatGLM).
        source: flag and name of the language model, for the error.

    Raises:
        InputError: the directory holds quantized weights of another form than the flag says.
    """
    stored = stored_quantization(lm_config, source)
    if stored is None:
        return replace(where, quantization="none") if where.quantization == "auto" else where
    form, double = stored
    if where.quantization not in ("auto", form):
        raise InputError(f"{source} holds {form} weights", field="quantization", value=where.quantization)
    if where.double_quant and not double:
        raise InputError(f"{source} holds {form} weights without it", field="double_quant", value=True)
    return replace(where, quantization=form, double_quant=double)


def with_compute_type(lm_config: Any, compute: torch.dtype) -> Any:
    """The configuration of a checkpoint of 4-bit weights whose products are taken in `compute`; changed in place."""
    if lm_config.quantization_config.get("load_in_4bit"):
        lm_config.quantization_config["bnb_4bit_compute_dtype"] = str(compute).removeprefix("torch.")
    return lm_config


def cast_whole_weights(language_model: Any, dtype: torch.dtype) -> None:
    """What is not quantized into `dtype`, in place: the library leaves norms as they lie in a quantized checkpoint.

    Weights that have the type already stay the mapped file's.
    """
    for parameter in language_model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


PACKED_ROWS = 32
"""Rows of a weight that bitsandbytes' packed CPU layout takes together; others it cannot pack."""


def _four_bit_layers(model: nn.Module) -> Iterator[Any]:
    """bitsandbytes' 4-bit layers, known by the mark that this is about."""
    return (module for module in model.modules() if hasattr(module, "support_avx512bf16_for_cpu"))


def keep_layout(model: nn.Module) -> None:
    """Let no evaluation change how 4-bit weights lie in memory; for models that are trained, in place.

    On processors with AVX512_BF16 bitsandbytes (0.50) packs a layer's weights anew in the first forward in eval mode,
    for good. No gradient passes the packed product (PyTorch only warns), and unpacking does not give the constants
    back exactly. An evaluation of a kept layout takes the products that training takes.
    """
    for layer in _four_bit_layers(model):
        layer.support_avx512bf16_for_cpu = False


def pack_only_what_fits(model: nn.Module, compute: torch.dtype) -> None:
    """Keep the layout of those 4-bit layers whose packing would fail or be less exact than asked for, in place.

    Args:
        compute: the type that products are asked for in. bitsandbytes' packed product rounds inputs, constants and
            results to bfloat16, whatever their type is.
    """
    for layer in _four_bit_layers(model):
        state = layer.weight.quant_state
        rows, columns = layer.out_features, layer.in_features
        if compute != torch.bfloat16 or state is None or rows % PACKED_ROWS or columns % state.blocksize:
            layer.support_avx512bf16_for_cpu = False
