"""LoRA layers into a ready model, by PEFT. Which layers: found in the module tree. No training."""

import copy
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from r2gengpt.errors import InputError

ROLES: dict[str, tuple[str, ...]] = {
    "q": ("q_proj", "query", "query_key_value", "qkv_proj", "c_attn", "q_lin", "wq"),
    "k": ("k_proj", "key", "query_key_value", "qkv_proj", "c_attn", "k_lin", "wk"),
    "v": ("v_proj", "value", "query_key_value", "qkv_proj", "c_attn", "v_lin", "wv"),
    "o": ("o_proj", "out_proj", "attention.dense", "self_attention.dense", "attn.c_proj", "attention.output.dense"),
    "gate": ("gate_proj", "gate_up_proj"),
    "up": ("up_proj", "gate_up_proj", "dense_h_to_4h", "c_fc", "fc1", "intermediate.dense"),
    "down": ("down_proj", "dense_4h_to_h", "mlp.c_proj", "fc2"),
}
"""What a layer does → its names in one architecture or another (fused layers stand under each of their roles)."""


def linear_names(model: nn.Module) -> list[str]:
    """Full names of all layers that LoRA can wrap."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]


def find_targets(
    model: nn.Module,
    targets: Sequence[str],
    field: str,
    roles: Mapping[str, tuple[str, ...]] = ROLES,
    *,
    some: bool = False,
) -> list[str]:
    """Full names of the layers that have one of the roles, or whose name ends with the given word.

    Args:
        model: the part that gets LoRA.
        targets: roles or endings of module names.
        field: the setting's name, for the error.
        roles: role → names of its layers.
        some: it is enough that one target matches, as for the default roles, of which an architecture may lack some.

    Raises:
        InputError: a target that no layer matches, or that stands there twice; the layer names that exist are listed.
    """
    names = linear_names(model)
    matched = {target: _matches(names, roles.get(target, (target,))) for target in targets}
    missing = [target for target, found in matched.items() if not found]
    if missing and (len(missing) == len(matched) or not some):
        there = sorted({name.rsplit(".", 1)[-1] for name in names})
        known = [*there, *(role for role, endings in roles.items() if _matches(names, endings))]
        near = [close for target in missing for close in difflib.get_close_matches(target.lower(), known, n=1)]
        hint = f" (did you mean {' '.join(near)}?)" if near else ""
        words = " ".join(target or "''" for target in missing)
        raise InputError(f"no layer of this model matches{hint}; it has {', '.join(there)}", field=field, value=words)
    if not some and len(matched) < len(targets):
        twice = next(target for target in targets if targets.count(target) > 1)
        raise InputError(f"names {twice} twice", field=field, value=" ".join(targets))
    wanted = {name for found in matched.values() for name in found}
    return [name for name in names if name in wanted]


def _matches(names: Sequence[str], endings: Sequence[str]) -> list[str]:
    return [name for name in names if any(f".{name}".endswith(f".{ending}") for ending in endings)]


def add_lora(
    model: Any,
    targets: Sequence[str],
    *,
    rank: int,
    alpha: int,
    dropout: float,
    field: str,
    roles: Mapping[str, tuple[str, ...]] = ROLES,
    rslora: bool = False,
    dora: bool = False,
    some: bool = False,
) -> None:
    """Put LoRA beside the targets (`find_targets`), in place; only the LoRA weights of `model` are trained afterwards.

    Source: Hu et al., arXiv 2106.09685; rank-stabilised scale: Kalajdzievski, arXiv 2312.03732; DoRA: Liu et al.,
    arXiv 2402.09353; all by `peft.inject_adapter_in_model`. The LoRA weights are float32.
    """
    from peft import LoraConfig, inject_adapter_in_model

    found = find_targets(model, targets, field, roles, some=some)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=found,
        use_rslora=rslora,
        use_dora=dora,
        fan_in_fan_out=isinstance(model.get_submodule(found[0]), Conv1D),  # GPT-2 stores its matrices transposed
    )
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_" in name:
            parameter.data = parameter.data.float()


def save_adapter(part: Any, trained: Mapping[str, Tensor], directory: Path, base: str) -> bool:
    """Write a part's LoRA in PEFT's own format, so that `PeftModel.from_pretrained(part, directory)` loads it alone.

    Args:
        part: the vision encoder or the language model.
        trained: the part's trained tensors, whole, by their names in it.
        directory: made where the part has LoRA, and only then.
        base: name or directory of the pretrained part, for the adapter's configuration.

    Returns:
        Whether the part has LoRA.
    """
    configs = getattr(part, "peft_config", None)
    if not configs:
        return False
    directory.mkdir(parents=True)
    config = copy.deepcopy(configs["default"])
    config.base_model_name_or_path, config.inference_mode = base, True
    config.save_pretrained(str(directory))
    tensors = {
        f"base_model.model.{name.replace('.default', '')}": tensor
        for name, tensor in trained.items()
        if "lora_" in name
    }
    safetensors.torch.save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    return True


def merge_lora(model: nn.Module) -> None:
    """Fold all LoRA weights into the layers they stand beside, in place: plain layers remain.

    Raises:
        InputError: one stands beside a head whose matrix is the embedding table too, which would change with it.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer) and id(module.get_base_layer().weight) in tables:
            words = f"{name} is the embedding table too, into which LoRA cannot be folded"
            raise InputError(words, field="llm_lora_targets", value=name.rpartition(".")[2])
    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.get_base_layer())
