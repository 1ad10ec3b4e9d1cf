"""ChatGLM2 and ChatGLM3 checkpoints into transformers' own Glm classes, on load. None of a checkpoint's code runs.

The two are one architecture under two layouts: RMSNorm before each half of a block, grouped key and value heads, rotary
embedding of interleaved pairs on the first half of each head, SwiGLU with gate and up fused in this order.
"""

import json
import os
import pickle
import textwrap
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import GlmConfig, GlmForCausalLM

from r2gengpt.errors import InputError
from r2gengpt.parts.chatglm.tokenizer import chatglm_tokenizer

FIXED: dict[str, object] = {
    "multi_query_attention": True,
    "rmsnorm": True,
    "post_layer_norm": True,
    "original_rope": True,
    "add_bias_linear": False,
    "apply_residual_connection_post_layernorm": False,
    "quantization_bit": 0,
    "pre_seq_len": None,
}
"""Switches of the layout and the one value of each that Glm computes, which is that of every released checkpoint."""

OUTER = {
    "transformer.embedding.word_embeddings.weight": "model.embed_tokens.weight",
    "transformer.encoder.final_layernorm.weight": "model.norm.weight",
    "transformer.output_layer.weight": "lm_head.weight",
}
INNER = {
    "input_layernorm": ("input_layernorm",),
    "self_attention.query_key_value": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention.dense": ("self_attn.o_proj",),
    "post_attention_layernorm": ("post_attention_layernorm",),
    "mlp.dense_h_to_4h": ("mlp.gate_up_proj",),
    "mlp.dense_4h_to_h": ("mlp.down_proj",),
}
"""Names in a block → names in a Glm block; a fused matrix is cut along its rows, in this order."""

MOST = 1_000_000
"""Of a ratio or share in `config.json`: no released one is above 500."""
LAYERS = "transformer.encoder.layers."
COMPUTED = "rotary_pos_emb.inv_freq"


def is_chatglm(directory: Path) -> bool:
    """True where `config.json` says so. A broken file is False: the library's own loader then says what is wrong."""
    file = directory / "config.json"
    if not file.is_file():
        return False
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(raw, dict) and raw.get("model_type") == "chatglm"


def glm_config(raw: dict[str, Any], source: str) -> GlmConfig:
    """The settings of a ChatGLM `config.json` in Glm's words.

    Args:
        raw: the parsed file.
        source: flag and directory, for the error.

    Raises:
        InputError: a size is not there (ChatGLM-6B, the first of the name, is another architecture), or a switch of
            `FIXED` has another value.
    """
    for key, value in FIXED.items():
        if (found := raw.get(key, value)) != value:
            raise InputError(f"{source}: config.json has {key} {found}, must be {value}")

    def size(key: str) -> int:
        if type(value := raw.get(key)) is not int or value < 1:
            raise InputError(
                f"{source}: config.json has {key} {value}, must be a positive number (ChatGLM2 or ChatGLM3)"
            )
        return value

    def number(key: str, default: float) -> float:
        if type(value := raw.get(key, default)) not in (int, float) or not 0 <= value <= MOST:
            raise InputError(f"{source}: config.json has {key} {value}, must be a number from 0 to {MOST}")
        return float(value)

    heads, groups = size("num_attention_heads"), size("multi_query_group_num")
    if heads % groups:
        raise InputError(
            f"{source}: config.json has num_attention_heads {heads}, must be a multiple of {groups} groups"
        )
    return GlmConfig(
        vocab_size=size("padded_vocab_size"),
        hidden_size=size("hidden_size"),
        intermediate_size=size("ffn_hidden_size"),
        num_hidden_layers=size("num_layers"),
        num_attention_heads=heads,
        num_key_value_heads=groups,
        head_dim=size("kv_channels"),
        max_position_embeddings=size("seq_length"),
        attention_bias=bool(raw.get("add_qkv_bias", False)),
        attention_dropout=number("attention_dropout", 0.0),
        rms_norm_eps=number("layernorm_epsilon", 1e-5),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0 * number("rope_ratio", 1),  # the 32k variant stretches the base
            "partial_rotary_factor": 0.5,
        },
        tie_word_embeddings=bool(raw.get("tie_word_embeddings", False)),
        eos_token_id=2,
        pad_token_id=0,
    )


def read_weights(directory: Path, source: str) -> dict[str, Tensor]:
    """All tensors of the checkpoint by their names, mapped from the files, not copied; pickles hold tensors only.

    Raises:
        InputError: no weights there, a file of the index is missing, or a file cannot be read.
    """
    for whole in ("model.safetensors", "pytorch_model.bin"):
        index = directory / f"{whole}.index.json"
        if index.is_file():
            names = _index_files(index, source)
        elif (directory / whole).is_file():
            names = [whole]
        else:
            continue
        tensors: dict[str, Tensor] = {}
        for name in names:
            tensors.update(_read_file(directory / name, source))
        return tensors
    raise InputError(f"{source}: no weights there (model.safetensors, pytorch_model.bin or the index of either)")


def _index_files(index: Path, source: str) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{source}: {index.name} is no index of weights") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not os.path.isfile(index.parent / name):  # noqa: PTH113
            raise InputError(f"{source}: {index.name} names {name}, which is not there")
    return names


def _read_file(file: Path, source: str) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            loaded = safetensors.torch.load_file(file)
        else:
            loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        reason = textwrap.shorten(str(error), 250, placeholder=" …") or type(error).__name__
        raise InputError(f"{source}: {file.name} cannot be read: {reason}") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise InputError(f"{source}: {file.name} holds something else than tensors by name")
    return loaded


def glm_names(name: str) -> tuple[str, ...]:
    """What a ChatGLM tensor is called in Glm: one name, three where it is fused, none where it has no place there.

    >>> glm_names("transformer.encoder.layers.3.mlp.dense_4h_to_h.weight")
    ('model.layers.3.mlp.down_proj.weight',)
    """
    if name in OUTER:
        return (OUTER[name],)
    layer, _, rest = name.removeprefix(LAYERS).partition(".")
    inner, _, kind = rest.rpartition(".")
    if not name.startswith(LAYERS) or inner not in INNER:
        return ()
    return tuple(f"model.layers.{layer}.{target}.{kind}" for target in INNER[inner])


def glm_weights(tensors: dict[str, Tensor], config: GlmConfig, source: str) -> dict[str, Tensor]:
    """The tensors under Glm's names, fused query, key and value cut apart (views of the same memory).

    Raises:
        InputError: weights are missing, have no place in the architecture, or have another shape than the settings say.
    """
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in GlmForCausalLM(config).state_dict().items()}
    if config.tie_word_embeddings:
        del shapes["lm_head.weight"]
        tensors = {name: tensor for name, tensor in tensors.items() if glm_names(name) != ("lm_head.weight",)}
    converted: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in tensors.items():
        targets = glm_names(name)
        if not targets or not shapes.keys() >= set(targets):
            unknown.extend([] if name.endswith(COMPUTED) else [name])
            continue
        rows = [shapes[target][0] for target in targets]
        wanted = (sum(rows), *shapes[targets[0]][1:])
        if tuple(tensor.shape) != wanted:
            raise InputError(f"{source}: {name} has shape {tuple(tensor.shape)}, must be {wanted} by config.json")
        converted.update(zip(targets, torch.split(tensor, rows), strict=True))
    if missing := sorted(shapes.keys() - converted.keys()):
        raise InputError(f"{source}: {len(missing)} weights are missing, first {missing[0]}")
    if unknown:
        raise InputError(f"{source}: {len(unknown)} weights have no place in ChatGLM3, first {unknown[0]}")
    return converted


def load_chatglm(directory: Path, field: str, dtype: torch.dtype, **options: Any) -> tuple[Any, Any]:
    """A ChatGLM2 or ChatGLM3 directory as `GlmForCausalLM` and a fast tokenizer.

    Args:
        directory: `config.json`, the weights and `tokenizer.model`.
        field: the setting that named it, for errors.
        dtype: of the weights.
        **options: what else `from_pretrained` takes, such as `quantization_config`.

    Raises:
        InputError: something of it is missing or does not fit.
    """
    source = f"`{field}` {directory}"
    raw = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    config = glm_config(raw, source)
    tokenizer = chatglm_tokenizer(directory / "tokenizer.model", source)
    weights = glm_weights(read_weights(directory, source), config, source)
    model = GlmForCausalLM.from_pretrained(None, config=config, state_dict=weights, dtype=dtype, **options)
    return model, tokenizer
