"""Our decode settings in the library's form. No model."""

import warnings
from typing import Any

from transformers import GenerationConfig

from r2gengpt.config import DecodeConfig


def early_stopping(decode: DecodeConfig) -> bool | str:
    """The setting in the library's words: a truth value, or "never"."""
    return decode.early_stopping if decode.early_stopping == "never" else decode.early_stopping == "True"


def generation_config(decode: DecodeConfig, processor: Any) -> GenerationConfig:
    """The library's settings for ours; the lengths must be resolved (`DecodeConfig.for_dataset`).

    A temperature without sampling has no effect and says so once; the original passed both on.
    """
    if decode.max_new_tokens is None or decode.min_new_tokens is None:
        raise ValueError("decode lengths are open: call for_dataset first")
    if decode.temperature and not decode.do_sample:
        warnings.warn(f"--temperature {decode.temperature} has no effect without --do_sample True", stacklevel=2)
    settings: dict[str, Any] = {
        "num_beams": decode.beam_size,
        "do_sample": decode.do_sample,
        "min_new_tokens": decode.min_new_tokens,
        "max_new_tokens": decode.max_new_tokens,
        "repetition_penalty": decode.repetition_penalty or 1.0,
        "no_repeat_ngram_size": decode.no_repeat_ngram_size or 0,
        "eos_token_id": processor.end_token_id,
        "pad_token_id": processor.pad_token_id,
    }
    if decode.beam_size > 1:
        settings["length_penalty"] = decode.length_penalty
        settings["early_stopping"] = early_stopping(decode)
    if decode.do_sample:
        settings.update(temperature=decode.temperature or 1.0, top_p=decode.top_p, top_k=decode.top_k)
    return GenerationConfig(**settings)
