"""A language model as a GGUF file, which llama.cpp reads. Writes no tokenizer, quantizes nothing, runs nothing.

The file holds what a prompt of embeddings needs: tensors and sizes. Tokens are ours to encode and decode, so its
vocabulary is `none`.

Source: names of tensors and keys are the `gguf` package's; the order of the rows of queries and keys is that of
llama.cpp's `convert_hf_to_gguf.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from r2gengpt.errors import InputError

Array = npt.NDArray[Any]
ASKED = {"field": "target", "value": "gguf"}
"""The setting that asks for such a file, for errors."""


@dataclass(frozen=True)
class GgufFamily:
    """How a family of language models lies in a GGUF file.

    Attributes:
        name: of the architecture there.
        pairs: whether rotary pairs are neighbours there, so that the rows of queries and keys are put in that order.
        parallel: whether the file says that attention and feed-forward layers stand side by side, or not.
    """

    name: str
    pairs: bool = False
    parallel: bool = False


FAMILIES = {
    "llama": GgufFamily("llama", pairs=True),
    "mistral": GgufFamily("llama", pairs=True),
    "qwen2": GgufFamily("qwen2"),
    "stablelm": GgufFamily("stablelm", parallel=True),
}
"""By `model_type`; each is held equal to transformers by tests/test_gguf.py."""
ACTIVATIONS = ("silu", "swish")
"""Names of the one function that llama.cpp computes in feed-forward layers of these families: a file names none."""
TYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}


def check_gguf(config: Any) -> GgufFamily:
    """How a language model of a configuration lies in a GGUF file.

    Raises:
        InputError: we write no such file of it.
    """
    family = FAMILIES.get(config.model_type)
    if family is None:
        words = f"language models of type {config.model_type} are not written as GGUF, only {', '.join(FAMILIES)}"
        raise InputError(words, **ASKED)
    if config.hidden_act not in ACTIVATIONS:
        raise InputError(f"the activation {config.hidden_act} is not written as GGUF", **ASKED)
    kind = rotary(config).get("rope_type", "default")
    if kind != "default":
        raise InputError(f"rotary embeddings of type {kind} are not written as GGUF", **ASKED)
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if window is not None and window < config.max_position_embeddings:
        raise InputError(f"attention in a window of {window} tokens is not written as GGUF", **ASKED)
    if getattr(config, "qk_layernorm", False):
        raise InputError("norms on queries and keys are not written as GGUF", **ASKED)
    return family


def rotary(config: Any) -> dict[str, Any]:
    """The settings of the rotary embedding."""
    return dict(getattr(config, "rope_parameters", None) or {})


def write_gguf(language_model: Any, path: Path) -> None:
    """Write a language model, LoRA merged into it, in the type that its weights are in; what has one axis in float32.

    Args:
        language_model: a causal language model of transformers.
        path: the file, which must not be there.

    Raises:
        InputError: a family that is not written.
    """
    import gguf

    config = language_model.config
    family = check_gguf(config)
    kind = TYPES[language_model.get_input_embeddings().weight.dtype]
    writer = gguf.GGUFWriter(path, family.name)
    _write_sizes(writer, config, family)
    writer.add_file_type(gguf.LlamaFileType[{"F32": "ALL_F32"}.get(kind, f"MOSTLY_{kind}")])
    names = gguf.get_tensor_name_map(_arch(family), config.num_hidden_layers)
    for name, tensor in _tensors(language_model, family):
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if theirs is None:
            raise InputError(f"{name} has no place in a GGUF file of {family.name}", **ASKED)
        one = "F32" if tensor.dim() == 1 else kind
        writer.add_tensor(theirs, _array(tensor, one), raw_dtype=gguf.GGMLQuantizationType[one])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _arch(family: GgufFamily) -> Any:
    """The `gguf` package's name of an architecture."""
    import gguf

    return next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == family.name)


def _write_sizes(writer: Any, config: Any, family: GgufFamily) -> None:
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    turned = rotary(config)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(int(width * turned.get("partial_rotary_factor", 1.0)))
    writer.add_rope_freq_base(float(turned["rope_theta"]))
    if family.parallel:
        writer.add_layer_norm_eps(config.layer_norm_eps)
        writer.add_parallel_residual(config.use_parallel_residual)
    else:
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("none")


def _tensors(language_model: Any, family: GgufFamily) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors as they go into the file; a head that is the embedding table is left out."""
    config = language_model.config
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in language_model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        part = name.split(".")[-2]
        yield name, paired(tensor, heads[part]) if family.pairs and part in heads else tensor


def paired(tensor: Tensor, heads: int) -> Tensor:
    """Rows of queries or keys (heads · 2 · half, …) with each rotary pair as neighbours.

    >>> paired(torch.arange(4), 1).tolist()
    [0, 2, 1, 3]
    """
    half = len(tensor) // heads // 2
    return tensor.reshape(heads, 2, half, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


def _array(tensor: Tensor, kind: str) -> Array:
    """A tensor as the `gguf` package takes it: bfloat16 as bytes."""
    tensor = tensor.detach().cpu().contiguous()
    if kind == "F32":
        return tensor.float().numpy()
    return tensor.view(torch.uint8).numpy() if kind == "BF16" else np.ascontiguousarray(tensor.numpy())
