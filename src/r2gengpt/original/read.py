"""The original R2GenGPT's files: names, settings, tensors in our form. No model is built, nothing is written.

Its `.pth` is `torch.save` of `{"model": trained parameters, "config": its flags, "epoch", "step"}`, its `.ckpt` is what
Lightning saves beside that: all parameters, frozen ones too, and the flags as `hyper_parameters`.
Source: wang-zhanyu/R2GenGPT, models/R2GenGPT.py, save_checkpoint; lightning_tools/callbacks.py.
"""

import argparse
import re
import typing
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, Stored
from r2gengpt.errors import InputError
from r2gengpt.files import check_readable
from r2gengpt.parts.lora import ROLES

CONFIGS = (ModelConfig, DataConfig, DecodeConfig)

PREFIXES = (
    ("visual_encoder.base_model.model.", "vision_tower."),
    ("visual_encoder.", "vision_tower."),
    ("llama_model.base_model.model.", "language_model."),
    ("llama_model.", "language_model."),
    ("llama_proj.", "projector.linear."),
    ("lm_model.base_model.model.", "language_model."),
    ("lm_model.", "language_model."),
    ("lm_proj.", "projector.linear."),
    ("layer_norm.", "projector.norm."),
)
"""The original's module → ours. The longer forms are PEFT's, which wraps the part it puts LoRA into; `lm_` stands for
`llama_` where the original was carried over to another language model."""

PROJECTOR = ("linear.weight", "linear.bias", "norm.weight", "norm.bias")
"""The tensors of a projector: (D, E), then (D,) each."""

READABLE: list[Any] = [
    argparse.Namespace,
    *(
        (OrderedDict, f"{module}.AttributeDict")
        for module in (
            "lightning.pytorch.utilities.parsing",
            "lightning.fabric.utilities.data",
            "pytorch_lightning.utilities.parsing",
            "lightning_fabric.utilities.data",
        )
    ),
]
"""What an original file may hold besides tensors and plain values. Lightning's dict of flags is read as a plain one."""

TAKEN = (
    *("vision_model", "lm_model", "vis_alpha", "llm_alpha", "lora_dropout", "global_only", "end_sym"),
    *("dataset", "max_length"),
    *("beam_size", "do_sample", "min_new_tokens", "max_new_tokens", "repetition_penalty", "length_penalty"),
)
"""Flags of the original that act there. Not taken: what it parses and never uses (`no_repeat_ngram_size` and others),
`temperature` (it never samples by default), and what belongs to the machine or its user (paths, devices, batch sizes,
`low_resource`, `num_workers`)."""


@dataclass(frozen=True)
class Original:
    """What an original file holds, in our names.

    `tensors` are float32; `stored` are those of its flags that act; `parts` is what the tensors themselves say of
    how the model was trained (it outweighs the flags, of which some have no effect there).
    """

    tensors: dict[str, Tensor]
    stored: Stored
    parts: dict[str, Any]
    epoch: int | None
    step: int | None


def unpickle(path: Path) -> dict[str, Any]:
    """The file's content, read without running anything it names.

    Raises:
        InputError: no such file, not an original checkpoint, or it names code (which).
    """
    check_readable(path, str(path))
    try:
        with torch.serialization.safe_globals(READABLE):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # whatever a damaged or hostile file does to the reader is the file's fault
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named:
            raise InputError(f"{path}: refused: it names code to run when read ({named[1]})") from None
        raise InputError(f"{path}: not a PyTorch checkpoint, or damaged ({type(error).__name__})") from None
    if isinstance(content, dict) and all(
        isinstance(content.get(name), dict) for name in ("state_dict", "hyper_parameters")
    ):
        return of_lightning(content, path)
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict) or not content["model"]:
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise InputError(f"{path}: not an original checkpoint: no tensors under 'model' (it holds {found[:80]})")
    return content


def of_lightning(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What Lightning saves in the form of the original's own file: trained parameters only, as its flags tell them.

    Raises:
        InputError: a flag that tells what was trained is missing.
    """
    flags = content["hyper_parameters"]
    for name in ("freeze_vm", "vis_use_lora"):
        if not isinstance(flags.get(name), bool):
            raise InputError(f"{path}: a Lightning checkpoint whose hyper_parameters do not say {name}: not readable")
    whole_encoder = not flags["freeze_vm"] and not flags["vis_use_lora"]

    def trained(name: str) -> bool:
        ours = our_name(name) or ""
        return ours.startswith("projector.") or ".lora_" in ours or (whole_encoder and ours.startswith("vision_tower."))

    model = {name: value for name, value in content["state_dict"].items() if trained(str(name))}
    return {"model": model, "config": flags, "epoch": content.get("epoch"), "step": content.get("global_step")}


def our_name(name: str) -> str | None:
    """Our name of one of the original's parameters, or None where it has none.

    The vision encoder's layers are renamed as transformers renames them when it loads an old Swin checkpoint; LoRA
    names get the adapter's name, which older PEFT left out. `module.` of DataParallel before a name is dropped.

    >>> our_name("llama_proj.weight")
    'projector.linear.weight'
    >>> our_name("llama_model.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight")
    'language_model.model.layers.0.self_attn.q_proj.lora_A.default.weight'
    """
    name = re.sub(r"^(module\.)+", "", name)
    for old, new in PREFIXES:
        if name.startswith(old):
            rest = name.removeprefix(old)
            if new == "vision_tower.":
                for renaming in get_checkpoint_conversion_mapping("swin") or ():
                    rest, _ = renaming.rename_source_key(rest)
            return new + re.sub(r"\.lora_([AB])\.weight$", r".lora_\1.default.weight", rest)
    return None


def our_tensors(model: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """The trained tensors in our names, float32.

    Raises:
        InputError: unknown names (the first few are given), values that are no tensors, or no projector.
    """
    kept = {name: value for name, value in model.items() if not str(name).endswith("relative_position_index")}
    unknown = [name for name in kept if not isinstance(name, str) or our_name(name) is None]
    if unknown:
        raise InputError(f"{path}: {len(unknown)} unknown tensors: {', '.join(map(str, unknown[:3]))}")
    tensors = {}
    for name, value in kept.items():
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.layout != torch.strided:
            raise InputError(f"{path}: {name} is no tensor of floating-point numbers")
        if (ours := str(our_name(name))) in tensors:
            raise InputError(f"{path}: {name} stands there twice, once with `module.` before it")
        if value.is_meta:
            raise InputError(f"{path}: {name} has a shape and no values")
        tensors[ours] = value.detach().to(torch.float32, copy=True).contiguous()  # the file itself is only mapped
        if not tensors[ours].isfinite().all():
            raise InputError(f"{path}: {name} holds values that are no finite numbers: its training has failed")
    for needed in PROJECTOR:
        if f"projector.{needed}" not in tensors:
            raise InputError(f"{path}: no tensor for projector.{needed}: not a whole original checkpoint")
    weight, *others = (list(tensors[f"projector.{name}"].shape) for name in PROJECTOR)
    if len(weight) != 2 or any(shape != weight[:1] for shape in others):
        raise InputError(
            f"{path}: its projector's tensors {', '.join(PROJECTOR)} are {[weight, *others]}: must be one's"
        )
    _check_lora(tensors, path)
    return tensors


def _check_lora(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse LoRA whose tensors are no pairs of matrices (r, in) and (out, r), r the same in all layers of a part."""
    ranks: dict[str, int] = {}
    for name in (name for name in tensors if ".lora_A." in name or ".lora_B." in name):
        pair = [tensors.get(re.sub(r"\.lora_[AB]\.", f".lora_{one}.", name)) for one in "AB"]
        shapes = [[] if one is None else list(one.shape) for one in pair]
        part = name.partition(".")[0]
        rank = shapes[0][0] if shapes[0] else 0
        if [len(shape) for shape in shapes] != [2, 2] or {rank, shapes[1][1]} != {ranks.setdefault(part, rank)}:
            raise InputError(f"{path}: {name} is no LoRA: A and B are {shapes}, must be (r, in) and (out, r), one r")


def lora_targets(names: list[str]) -> tuple[str, ...]:
    """The roles (or module names) of the layers that have LoRA.

    >>> lora_targets(["a.0.q_proj.lora_A.default.weight", "a.0.v_proj.lora_A.default.weight"])
    ('q', 'v')
    """
    leaves = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in names}
    roles = {role: leaves & set(endings) for role, endings in ROLES.items() if leaves & set(endings)}
    return (*roles, *sorted(leaves - set().union(*roles.values())))


def trained_parts(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Which parts were trained, and the LoRA ranks and targets, as `ModelConfig` names them."""
    found: dict[str, Any] = {
        "freeze_vm": not any(name.startswith("vision_tower.") and ".lora_" not in name for name in tensors)
    }
    for prefix, part in (("vision_tower.", "vis"), ("language_model.", "llm")):
        lora = [name for name in tensors if name.startswith(prefix) and ".lora_A." in name]
        found[f"{part}_use_lora"] = bool(lora)
        if lora:
            found[f"{part}_r"] = tensors[lora[0]].shape[0]
            found[f"{part}_lora_targets"] = lora_targets(lora)
    return found


def our_settings(config: Any, path: Path) -> Stored:
    """Those of the original's flags that act, in our names.

    Raises:
        InputError: a value of another type than the flag's.
    """
    flags = dict(vars(config) if isinstance(config, argparse.Namespace) else config)
    flags.setdefault("lm_model", flags.get("llama_model"))
    settings = {}
    hints = {name: hint for part in CONFIGS for name, hint in typing.get_type_hints(part).items()}
    for name in TAKEN:
        value = flags.get(name)
        if value is None:
            continue
        if hints[name] is float and type(value) is int:
            value = float(value)
        if type(value) not in (hints[name], *typing.get_args(hints[name])):
            raise InputError(f"{path}: its setting {name} is {value!r}: a {type(value).__name__} is not what it takes")
        settings[name] = value
    return Stored.of(settings)


def read_original(path: Path) -> Original:
    """Read an original checkpoint.

    Raises:
        InputError: as `unpickle`, `our_tensors` and `our_settings`.
    """
    content = unpickle(path)
    config = content.get("config", {})
    if not isinstance(config, dict | argparse.Namespace):
        raise InputError(f"{path}: its 'config' is a {type(config).__name__}, must be a set of flags")
    tensors = our_tensors(content["model"], path)
    counts = [value if type(value := content.get(name)) is int else None for name in ("epoch", "step")]
    return Original(tensors, our_settings(config, path), trained_parts(tensors), *counts)
