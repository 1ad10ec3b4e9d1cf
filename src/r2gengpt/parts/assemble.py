"""Load the parts, check that they fit, join them. The parts' code is Hugging Face's; no file is written."""

import math
import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
)

from r2gengpt.config import ModelConfig
from r2gengpt.errors import InputError
from r2gengpt.model import R2GenGPTConfig, R2GenGPTForConditionalGeneration, R2GenGPTProcessor
from r2gengpt.model.configuration import patch_grid
from r2gengpt.parts.families import choose_prompt, family_of
from r2gengpt.parts.loading import (
    load_config,
    load_language,
    load_part,
    load_tokenizer,
    load_vision,
    load_weights,
    meta_language,
    processor_image_size,
)
from r2gengpt.parts.lora import add_lora
from r2gengpt.parts.placement import check_runs_here, place_adapters
from r2gengpt.settings import PlacementConfig
from r2gengpt.text.observations import ALL_OBSERVATIONS

HERE = PlacementConfig()
"""Whole weights on one device, in the type that suits it; no code but the library's."""


@dataclass(frozen=True)
class Built:
    """A model and the processor that makes its inputs."""

    model: R2GenGPTForConditionalGeneration
    processor: R2GenGPTProcessor


def device_has_bfloat16() -> bool:
    """True where bfloat16 matrix products are native: they then beat float32, otherwise they lose."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    has_avx512 = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(has_avx512 and has_avx512())


def native_precision(precision: str) -> str:
    """The trainer's arithmetic for `TrainConfig.precision`; bfloat16 that is only emulated is taken with a warning.

    Emulated bfloat16 products run tens of times slower than float32 (docs/log.md).

    Raises:
        InputError: float16 on a CPU.
    """
    if precision == "auto":
        return "bf16-mixed" if device_has_bfloat16() else "32-true"
    precision = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true"}.get(precision, precision)
    if precision == "16-mixed" and not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        raise InputError("`precision` 16-mixed needs a GPU: on a CPU use bf16-mixed or 32-true")
    if precision.startswith("bf16") and not device_has_bfloat16():
        warnings.warn(
            f"`precision` {precision}: this processor has no bfloat16 arithmetic and emulates it very slowly; "
            "`precision` 32-true is faster here",
            stacklevel=2,
        )
    return precision


def frozen_dtype(dtype: str, precision: str | None) -> torch.dtype:
    """In which type frozen language-model weights are kept.

    Args:
        dtype: `PlacementConfig.dtype`.
        precision: the trainer's, or None outside training.

    Raises:
        InputError: float16 without a GPU (its matrix products are hundreds of times slower there).
    """
    if dtype == "float16" and not torch.cuda.is_available():
        raise InputError("`dtype` float16 needs a GPU: on a CPU use bfloat16 or float32")
    if dtype != "auto":
        named: torch.dtype = getattr(torch, dtype)
        return named
    half = precision.startswith("bf16") if precision is not None else device_has_bfloat16()
    return torch.bfloat16 if half else torch.float32


def _freeze(part: Any, frozen: bool) -> None:
    for parameter in part.parameters():
        parameter.requires_grad_(not frozen)


def freeze_seeing(model: R2GenGPTForConditionalGeneration) -> None:
    """Leave the encoder and the finding head as they are."""
    for part in (model.vision_tower, model.finding_head):
        if part is not None:
            part.requires_grad_(False)


def _default(name: str) -> Any:
    return ModelConfig.__dataclass_fields__[name].default


def mark_trained(config: ModelConfig, tower: Any, language_model: Any, *, trained: bool = False) -> None:
    """Freeze both parts, or put LoRA into them, in place, as the settings say.

    Args:
        config: what is trained.
        tower: the vision encoder.
        language_model: the language model.
        trained: the settings are a checkpoint's, which tells by its tensors which layers have LoRA: versions before
            this one took targets that matched nothing.
    """
    _freeze(tower, config.freeze_vm)
    _freeze(language_model, True)
    add = partial(add_lora, dropout=config.lora_dropout, rslora=config.use_rslora, dora=config.use_dora)
    if config.vis_use_lora:
        add(
            tower,
            config.vis_lora_targets,
            rank=config.vis_r,
            alpha=config.vis_alpha,
            field="vis_lora_targets",
            some=trained or config.vis_lora_targets == _default("vis_lora_targets"),
        )
    if config.llm_use_lora:
        add(
            language_model,
            config.llm_lora_targets,
            rank=config.llm_r,
            alpha=config.llm_alpha,
            field="llm_lora_targets",
            roles=family_of(language_model).layers,
            some=trained or config.llm_lora_targets == _default("llm_lora_targets"),
        )


def joined_config(config: ModelConfig, tower: Any, language_model: Any, image_size: int) -> R2GenGPTConfig:
    """The configuration of the model that joins both parts."""
    return R2GenGPTConfig(
        vision_config=tower.config,
        text_config=language_model.config,
        image_size=image_size,
        global_only=config.global_only,
        fusion=config.fusion,
        pooled_side=pooled_side(config, tower.config, image_size),
        feature_norm=config.feature_norm,
        observations=len(ALL_OBSERVATIONS) if config.findings_head else 0,
        findings_hint=config.findings_hint,
        prior_study=config.prior_study,
    )


def build_model(
    config: ModelConfig,
    where: PlacementConfig = HERE,
    *,
    precision: str | None = None,
    trained: bool = False,
    findings_only: bool = False,
) -> Built:
    """The whole model, parts pretrained, projector and LoRA new (seeded by the caller), frozen as the settings say.

    Args:
        config: the parts, and what of them is trained.
        where: how they are held on this machine, and whether their own code may run.
        precision: the trainer's, or None outside training.
        trained: the settings are a checkpoint's (`mark_trained`).
        findings_only: the model is to tell findings and write nothing: its language model has no weights (they are
            on the meta device), and neither it nor the projector is trained.

    Raises:
        InputError: a part cannot be loaded or does not fit the settings.
    """
    check_runs_here(where)
    tower, image_processor = load_vision(config, trust_remote_code=where.trust_remote_code)
    if findings_only:
        config = replace(config, llm_use_lora=False)
        language_model = meta_language(config.lm_model, trust_remote_code=where.trust_remote_code)
        tokenizer = load_tokenizer(config.lm_model, where)
    else:
        language_model, tokenizer = load_language(config.lm_model, where, frozen_dtype(where.dtype, precision))
    image_size = processor_image_size(image_processor, config.vision_model)
    prompt = choose_prompt(config, family_of(language_model), tokenizer)
    model_config = joined_config(config, tower, language_model, image_size)
    processor = R2GenGPTProcessor(
        image_processor,
        tokenizer,
        tokens_per_view=model_config.tokens_per_view,
        fusion=config.fusion,
        instruction=config.instruction,
        template=prompt.template,
        add_bos=prompt.add_bos,
        end_sym=prompt.end_sym,
        context_fields=config.prompt_fields,
    )
    model_config.image_token_id = processor.image_token_id
    mark_trained(config, tower, language_model, trained=trained)
    if where.device_map != "none":
        place_adapters(language_model)
    model = R2GenGPTForConditionalGeneration(model_config, tower, language_model)
    _freeze(model.projector, findings_only)
    if model.time_marks is not None:
        _freeze(model.time_marks, findings_only)
    model.generation_config.eos_token_id = processor.end_token_id
    model.generation_config.pad_token_id = processor.pad_token_id
    return Built(model, processor)


def pooled_side(config: ModelConfig, vision_config: Any, image_size: int) -> int | None:
    """Side of the pooled grid that `image_tokens` asks for; None without it.

    Raises:
        InputError: a view has fewer patches than that.
    """
    if config.image_tokens is None:
        return None
    side, grid = math.isqrt(config.image_tokens), patch_grid(vision_config, image_size)
    if side > grid:
        raise InputError(f"a view has only {grid * grid} patches", field="image_tokens", value=config.image_tokens)
    return side


def load_directory(directory: Path, *, dtype: str = "auto") -> Built:
    """A plain Hugging Face directory of ours (`save_pretrained`, `r2gengpt export`).

    Where another program runs the language model, all is in float32: what it gets is then rounded there alone.

    Raises:
        InputError: the library cannot read it.
    """
    served = bool(getattr(load_config(str(directory), "model"), "served", False))
    kind = torch.float32 if served else frozen_dtype(dtype, None)
    model = load_weights(AutoModelForImageTextToText, str(directory), "model", dtype=kind)
    processor = load_part(AutoProcessor, str(directory), "model")
    return Built(model.eval(), processor)
