"""A language model once into 8 or 4 bits, as a directory that loads without its full weights. No vision encoder."""

from pathlib import Path

import torch

from r2gengpt.errors import InputError
from r2gengpt.files import check_new_model, whole_directory
from r2gengpt.parts.loading import language_config, load_language
from r2gengpt.parts.quantization import stored_quantization
from r2gengpt.settings import PlacementConfig

STORED = ("int8", "nf4", "fp4")
"""Forms that a file can hold; w8a8 is made of whole weights whenever a model is loaded."""
SHARD = "500MB"
"""Largest weight file: a reader or writer that holds a whole file in memory then holds little."""


def quantize(lm_model: str, where: PlacementConfig, directory: Path) -> None:
    """Write the language model quantized, with its tokenizer, as the library's `save_pretrained` does, whole or not.

    The library reads and quantizes one matrix after the other, so at no time are all full weights allocated. What is
    not quantized (embedding, norms, head) is written in `where.dtype`, where auto is bfloat16.

    Args:
        lm_model: name or directory.
        where: `quantization`, `double_quant`, `dtype` and `trust_remote_code` of it.
        directory: must not exist.

    Raises:
        InputError: nothing to quantize into, weights that are quantized already, or a model that cannot be loaded.
    """
    check_new_model(directory)
    if where.quantization not in STORED:
        raise InputError(f"choose from {', '.join(STORED)}", field="quantization", value=where.quantization)
    if where.dtype == "float16" and not torch.cuda.is_available():
        raise InputError("`dtype` float16 needs a GPU: on a CPU use bfloat16 or float32")
    source = f"`lm_model` {lm_model}"
    lm_config = language_config(lm_model, trust_remote_code=where.trust_remote_code)
    if (stored := stored_quantization(lm_config, source)) is not None:
        raise InputError(f"{source}: holds {stored[0]} weights already")
    dtype = torch.bfloat16 if where.dtype == "auto" else getattr(torch, where.dtype)
    language_model, tokenizer = load_language(lm_model, where, dtype)
    with whole_directory(directory) as target:
        language_model.save_pretrained(target, max_shard_size=SHARD)
        tokenizer.save_pretrained(target)
