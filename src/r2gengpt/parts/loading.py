"""Vision encoder, language model and what belongs to each, from a hub's name or a directory. Joins nothing."""

import importlib.util
import json
import logging
import os
import pickle
import re
import textwrap
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    BitsAndBytesConfig,
    GlmForCausalLM,
)

from r2gengpt.config import ModelConfig
from r2gengpt.errors import InputError, installing
from r2gengpt.files import check_part
from r2gengpt.model.processing import pixels_of
from r2gengpt.parts.chatglm.model import glm_config, is_chatglm, load_chatglm
from r2gengpt.parts.chatglm.tokenizer import chatglm_tokenizer
from r2gengpt.parts.embedded.cache import resolve
from r2gengpt.parts.hub import hub_reason
from r2gengpt.parts.placement import check_placed, placement
from r2gengpt.parts.quantization import cast_whole_weights, pack_only_what_fits, settle_quantization, with_compute_type
from r2gengpt.parts.sentencepiece import tell_disagreement
from r2gengpt.settings import PlacementConfig

log = logging.getLogger("r2gengpt.parts")
UNREADABLE = (
    *(OSError, ValueError, LookupError, ImportError, RuntimeError, TypeError, AttributeError, AssertionError, EOFError),
    *(pickle.UnpicklingError, SafetensorError, StrictDataclassError),
)
"""What the library raises on directories that it cannot read."""
SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "vocab_size")
"""What no part can have none of."""
ANY_SIZE = ("dinov2", "dinov2_with_registers")
"""Kinds of encoders that interpolate their positions for views of another size."""
OWN_CODE = "code of its own, which runs only if you trust it: `trust_remote_code` True"
NO_CODE = "code of its own, which never runs: a whole model of this program needs none"


def own_code(field: str) -> str:
    """What to say of code that comes with a part; no flag lets a whole model of ours run any."""
    return OWN_CODE if field in ("vision_model", "lm_model") else NO_CODE


def why_unreadable(error: Exception, field: str, trust_remote_code: bool, words: str = "cannot be loaded") -> str:
    """The library's reason in one short line, or that it asks for code that may not run."""
    if isinstance(error, pickle.UnpicklingError):
        named = re.search(r"GLOBAL (\S+)", str(error))
        names = f": they name {named[1]}, code to run when read" if named else ""
        return f"its pickled weights cannot be read{names}"
    if not trust_remote_code and "trust_remote_code" in str(error):
        return f"needs {own_code(field)}"
    return f"{words}: " + (textwrap.shorten(str(error), 250, placeholder=" …") or type(error).__name__)


def load_part(loader: Any, name: str, field: str, *, trust_remote_code: bool = False, **kwargs: Any) -> Any:
    """`from_pretrained` whose failure is one line that names the flag. No code that comes with the part runs unasked.

    Args:
        loader: one of the library's Auto classes.
        name: hub name or directory.
        field: the setting that named it, for errors.
        trust_remote_code: as `PlacementConfig` has it; always passed on, for the library would ask at the terminal.
        **kwargs: what else `from_pretrained` takes.

    Raises:
        InputError: no such directory or hub name, files that the library cannot read, or code that may not run.
    """
    check_part(name, field)
    try:
        return loader.from_pretrained(name, trust_remote_code=trust_remote_code, **kwargs)
    except UNREADABLE as error:
        reason = None if Path(name).exists() else hub_reason(error, name)
        if reason is not None:
            raise InputError(f"{reason}", field=field, value=name) from error
        raise InputError(f"{why_unreadable(error, field, trust_remote_code)}", field=field, value=name) from error


def load_weights(
    loader: Any, name: str, field: str, optional: tuple[str, ...] = (), *, part: bool = False, **kwargs: Any
) -> Any:
    """`load_part` of a model all of whose weights are there and fit.

    Args:
        loader: as in `load_part`.
        name: likewise.
        field: likewise.
        optional: weights with such a word in their names may be missing.
        part: the files hold more than the model. Otherwise weights that have no place in it are told.
        **kwargs: as in `load_part`.

    Raises:
        InputError: as `load_part`; weights are missing or have another shape (how many, and the first by name).
    """
    model, info = load_part(loader, name, field, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs)
    missing = sorted(key for key in info["missing_keys"] if not any(word in key for word in optional))
    if missing:
        raise InputError(f"{len(missing)} weights are missing, first {missing[0]}", field=field, value=name)
    misshapen = sorted(info["mismatched_keys"])
    if misshapen:
        key, found, wanted = misshapen[0]
        raise InputError(
            f"{len(misshapen)} weights have another shape than config.json says, first {key}: "
            f"{tuple(found)}, must be {tuple(wanted)}",
            field=field,
            value=name,
        )
    if (unused := sorted(info["unexpected_keys"])) and not part:
        words = "%d of its weights have no place in the model of its config.json and are left out, first %s"
        log.warning(f"warning: `%s` %s: {words}", field, name, len(unused), unused[0])
    return model


def load_config(name: str, field: str, *, trust_remote_code: bool = False) -> Any:
    """The library's configuration of a part. It may name no kernel of the hub: that is code too, and compiled.

    Raises:
        InputError: as `load_part`, or it names such a kernel, or a size below 1.
    """
    config = load_part(AutoConfig, name, field, trust_remote_code=trust_remote_code)
    parts = [config, *(getattr(config, key, None) for key in getattr(config, "sub_configs", ()))]
    for part in parts:
        kernel = getattr(part, "_attn_implementation", None)
        if not trust_remote_code and "/" in str(kernel):
            raise InputError(f"its config.json asks for {kernel}, {own_code(field)}", field=field, value=name)
        for size in SIZES:
            value = getattr(part, size, None)
            if isinstance(value, int) and value < 1:
                raise InputError(f"its config.json has {size} {value}, must be at least 1", field=field, value=name)
    return config


def processor_image_size(image_processor: Any, name: str) -> int:
    """The side in pixels of the square that the processor makes of a film of any shape; by trial.

    Raises:
        InputError: it makes no such image.
    """
    films = (Image.new("RGB", size) for size in ((96, 64), (64, 96)))
    try:
        shapes = {tuple(pixels_of(image_processor, [film]).shape[1:]) for film in films}
    except UNREADABLE as error:
        words = why_unreadable(error, "vision_model", True, "its image processor takes no film")
        raise InputError(words, field="vision_model", value=name) from error
    (shape, *others) = sorted(shapes)
    if others or len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:
        made = " or ".join(" x ".join(map(str, one)) for one in (shape, *others))
        words = f"its image processor makes {made} of a film, must be a square of 3 channels, whatever the film's shape"
        raise InputError(words, field="vision_model", value=name)
    return int(shape[1])


def load_vision(config: ModelConfig, *, trust_remote_code: bool = False) -> tuple[Any, Any]:
    """The vision encoder in float32 and its image processor.

    Raises:
        InputError: it cannot be loaded, or weights that are needed are missing.
    """
    name, field, remote = resolve(config.vision_model), "vision_model", trust_remote_code
    vision_config = load_config(name, field, trust_remote_code=remote)
    vision_config = getattr(vision_config, "vision_config", None) or vision_config
    unused = ("mask_token",) if config.global_only else ("mask_token", "pooler")
    tower = load_weights(
        AutoModel, name, field, unused, part=True, config=vision_config, dtype=torch.float32, trust_remote_code=remote
    )
    return tower, resized(load_part(AutoImageProcessor, name, field, trust_remote_code=remote), vision_config, config)


def resized(image_processor: Any, vision_config: Any, config: ModelConfig) -> Any:
    """The image processor, making views of `image_size` pixels where that is asked for.

    Raises:
        InputError: an encoder that takes one size only, or no whole number of patches.
    """
    side = config.image_size
    if side is None or side == processor_image_size(image_processor, config.vision_model):
        return image_processor
    if vision_config.model_type not in ANY_SIZE:
        raise InputError(
            f"`vision_model` {config.vision_model} takes views of one size only", field="image_size", value=side
        )
    if side % vision_config.patch_size:
        raise InputError(f"must be a multiple of {vision_config.patch_size}", field="image_size", value=side)
    image_processor.size = {"height": side, "width": side}
    image_processor.do_center_crop = False
    return image_processor


def load_image_processor(vision_model: str, *, trust_remote_code: bool = False, whole: bool = False) -> Any:
    """What makes pixels of films, without any weights.

    Args:
        vision_model: the encoder's name or directory, or a whole model's.
        trust_remote_code: as `PlacementConfig` has it.
        whole: the directory is a whole model of ours, whose processor holds it.

    Raises:
        InputError: it cannot be loaded.
    """
    if whole:
        return load_part(AutoProcessor, vision_model, "delta").image_processor
    name = resolve(vision_model)
    return load_part(AutoImageProcessor, name, "vision_model", trust_remote_code=trust_remote_code)


def quantization_config(where: PlacementConfig, compute: torch.dtype) -> BitsAndBytesConfig:
    """The library's settings for ours. Embedding, norms and head stay as they are; products are taken in `compute`.

    Source: LLM.int8(), arXiv 2208.07339; NF4 and double quantization, QLoRA, arXiv 2305.14314.

    Raises:
        InputError: bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            f"needs bitsandbytes ({installing('quantization')})", field="quantization", value=where.quantization
        )
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it logs every cast of every layer
    if where.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=where.quantization,
        bnb_4bit_use_double_quant=where.double_quant,
        bnb_4bit_compute_dtype=compute,
    )


def text_part(lm_config: Any) -> dict[str, Any]:
    """What `from_pretrained` needs to load only the language model of a checkpoint that sees too (Gemma 3 from 4B on).

    Empty where the checkpoint is nothing but a language model.
    """
    text_config = lm_config.get_text_config()
    if text_config is lm_config:
        return {}
    names = {r"^language_model\.(?=model\.|lm_head\.)": "", r"^model\.language_model\.": "model."}
    return {"config": text_config, "key_mapping": names}


def language_config(lm_model: str, *, trust_remote_code: bool = False) -> Any:
    """The library's configuration of the language model; None for ChatGLM, for which it has no class of its own."""
    name = resolve(lm_model)
    if is_chatglm(Path(name)):
        return None
    return load_config(name, "lm_model", trust_remote_code=trust_remote_code)


def settled(lm_model: str, where: PlacementConfig) -> PlacementConfig:
    """How the language model's weights will be held: `quantization` is never auto.

    Raises:
        InputError: no such language model, or its directory holds weights of another form than the flag says.
    """
    lm_config = language_config(lm_model, trust_remote_code=where.trust_remote_code)
    return settle_quantization(where, lm_config, f"`lm_model` {lm_model}")


def own_device() -> int:
    """Number of this process's GPU: its place among those that Lightning, torchrun or SLURM started on this machine."""
    return int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)


def load_language(lm_model: str, where: PlacementConfig, dtype: Any) -> tuple[Any, Any]:
    """The language model and its tokenizer, held as the settings say, what is not quantized in `dtype`.

    Raises:
        InputError: it cannot be loaded, weights are missing, or the tokenizer has more tokens than the embedding.
    """
    name, field, remote = resolve(lm_model), "lm_model", where.trust_remote_code
    lm_config = language_config(lm_model, trust_remote_code=remote)
    where = settle_quantization(where, lm_config, f"`{field}` {lm_model}")
    options = placement(where)
    lies_quantized = getattr(lm_config, "quantization_config", None) is not None
    if where.quantization == "w8a8":  # made of whole weights by `place`; as they lie in the file they are only mapped
        dtype = dtype if is_chatglm(Path(name)) else "auto"
    elif where.quantization != "none":
        wanted = quantization_config(where, dtype)
        own = {"config": with_compute_type(lm_config, dtype)} if lies_quantized else {}
        options |= own or {"quantization_config": wanted}
        if torch.cuda.is_available() and "device_map" not in options:  # quantized weights cannot be moved later
            options["device_map"] = {"": own_device()}
    if is_chatglm(Path(name)):  # the Auto classes would ask for the checkpoint's own code
        language_model, tokenizer = load_chatglm(Path(name), field, dtype, **options)
    else:
        part = text_part(lm_config)
        language_model = load_weights(
            AutoModelForCausalLM, name, field, part=bool(part), dtype=dtype, trust_remote_code=remote, **options, **part
        )
        if lies_quantized:
            cast_whole_weights(language_model, dtype)
        tokenizer = load_part(AutoTokenizer, name, field, trust_remote_code=remote)
        tell_disagreement(Path(name), tokenizer, f"`{field}` {lm_model}")
    pack_only_what_fits(language_model, dtype)
    check_placed(language_model, where)
    rows = language_model.get_input_embeddings().weight.shape[0]
    words = max(tokenizer.get_vocab().values()) + 1
    if words > rows:
        raise InputError(
            f"its tokenizer has {words} tokens, its embedding only {rows} rows", field=field, value=lm_model
        )
    return language_model, tokenizer


def from_config(loader: Any, part: Any, name: str, field: str, *, trust_remote_code: bool) -> Any:
    """`from_config` on the meta device whose failure is one line that names the flag.

    Raises:
        InputError: no such architecture, or sizes that it refuses.
    """
    try:
        with torch.device("meta"):
            return loader.from_config(part, dtype=torch.float32, trust_remote_code=trust_remote_code)
    except UNREADABLE as error:
        reason = why_unreadable(error, field, trust_remote_code, "cannot be built from its configuration")
        raise InputError(f"{reason}", field=field, value=name) from error


def meta_language(lm_model: str, *, trust_remote_code: bool = False) -> Any:
    """The language model in float32 on the meta device.

    Raises:
        InputError: no configuration there, or not of a causal language model.
    """
    name, field, remote = resolve(lm_model), "lm_model", trust_remote_code
    if is_chatglm(Path(name)):
        raw = json.loads((Path(name) / "config.json").read_text(encoding="utf-8"))
        with torch.device("meta"):
            return GlmForCausalLM(glm_config(raw, f"`{field}` {name}"))
    lm_config = load_config(name, field, trust_remote_code=remote)
    part = text_part(lm_config).get("config", lm_config)
    return from_config(AutoModelForCausalLM, part, name, field, trust_remote_code=remote)


def load_tokenizer(lm_model: str, where: PlacementConfig) -> Any:
    """The language model's tokenizer alone.

    Raises:
        InputError: it cannot be loaded.
    """
    name = resolve(lm_model)
    if is_chatglm(Path(name)):
        return chatglm_tokenizer(Path(name) / "tokenizer.model", f"`lm_model` {lm_model}")
    return load_part(AutoTokenizer, name, "lm_model", trust_remote_code=where.trust_remote_code)
