"""Where the language model's layers lie: on one device, or spread over devices, memory and disk. Loads nothing.

The library and accelerate do the spreading (`device_map="auto"`): a layer that lies elsewhere is brought in for
its own forward pass and dropped after it.
"""

import logging
import os
from pathlib import Path
from typing import Any

import torch

from r2gengpt.errors import InputError
from r2gengpt.files import check_writable
from r2gengpt.parts.int8 import to_int8
from r2gengpt.parts.lora import merge_lora
from r2gengpt.settings import PlacementConfig

log = logging.getLogger("r2gengpt.parts")


def placement(config: PlacementConfig) -> dict[str, Any]:
    """What `from_pretrained` needs to spread the layers; empty where they all go to one device.

    Raises:
        InputError: several processes, whose maps would share devices; a GPU that is not here; a folder that cannot be
            written to.
    """
    if config.device_map == "none":
        return {}
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError(
            f"needs one process, this run has {os.environ['WORLD_SIZE']}", field="device_map", value="auto"
        )
    options: dict[str, Any] = {"device_map": "auto"}
    if config.max_memory:
        options["max_memory"] = limits = config.memory_limits
        there = torch.cuda.device_count()
        for gpu in [device for device in limits if isinstance(device, int) and device >= there]:
            words = f"this machine has {there or 'no'} GPU{'' if there == 1 else 's'}"
            raise InputError(f"{words}, counted from 0", field="max_memory", value=f"{gpu}={limits[gpu]}")
    if config.offload_folder is not None:
        check_writable(Path(config.offload_folder), "offload_folder")
        options["offload_folder"] = config.offload_folder
    logging.getLogger("accelerate.big_modeling").setLevel(logging.ERROR)  # we say it ourselves
    return options


def check_placed(language_model: Any, config: PlacementConfig) -> None:
    """Say what lies on disk; that needs `offload_folder`, because each token then reads those layers anew.

    Raises:
        InputError: some layers fit nowhere but on disk, and no folder is named.
    """
    where = getattr(language_model, "hf_device_map", {})
    on_disk = [name or "the whole model" for name, place in where.items() if place == "disk"]
    if not on_disk:
        return
    first = f"{on_disk[0]} and {len(on_disk) - 1} more" if len(on_disk) > 1 else on_disk[0]
    if config.offload_folder is None:
        limits = f" within `max_memory` {' '.join(config.max_memory)}" if config.max_memory else ""
        raise InputError(
            f"{first} do not fit into memory{limits}: name an `offload_folder`", field="device_map", value="auto"
        )
    log.info("on disk, read anew for each token: %s", first)


def place_adapters(language_model: Any) -> None:
    """LoRA beside layers that lie on disk to the device that computes them, new: PEFT leaves it where no memory is.

    Raises:
        InputError: DoRA, which needs the layer's own weights outside its forward pass.
    """
    from peft.tuners.lora import LoraLayer

    for name, layer in language_model.named_modules():
        if not isinstance(layer, LoraLayer) or not any(p.is_meta for p in layer.lora_A.parameters()):
            continue
        if any(layer.use_dora.values()):
            raise InputError(f"{name} lies on disk, and DoRA needs its weights in memory", field="use_dora", value=True)
        device = layer.get_base_layer()._hf_hook.execution_device
        for adapter in layer.lora_A:
            layer.lora_A[adapter].to_empty(device=device)
            layer.lora_B[adapter].to_empty(device=device)
            layer.reset_lora_parameters(adapter, init_lora_weights=True)


def device_of(accelerator: str) -> str:
    """The torch device of a Lightning accelerator word.

    Raises:
        InputError: the device is not there.
    """
    if accelerator == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    device = {"gpu": "cuda"}.get(accelerator, accelerator)
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there[device]:
        raise InputError(f"no {device.upper()} device here", field="accelerator", value=accelerator)
    return device


def place(model: Any, device: torch.device | str, quantization: str = "none") -> None:
    """The whole model, ready to write reports, to a device; where its language model is spread, the rest to its start.

    With `quantization` w8a8 the language model is made of 8-bit layers first, LoRA merged into them.

    Raises:
        InputError: w8a8 elsewhere than on a CPU.
    """
    if quantization == "w8a8":
        if torch.device(device).type != "cpu":
            raise InputError(
                f"for CPUs only, this runs on {device}; take int8 or nf4", field="quantization", value="w8a8"
            )
        merge_lora(model.language_model)
        to_int8(model.language_model)
        model.language_model.float()
    where = getattr(model.language_model, "hf_device_map", None)
    if where is None:
        model.to(device)
        return
    hook = getattr(model.get_input_embeddings(), "_hf_hook", None)
    first = getattr(hook, "execution_device", None)
    first = model.get_input_embeddings().weight.device if first is None else torch.device(first)
    for part in (model.vision_tower, model.projector, model.finding_head, model.time_marks):
        if part is not None:
            part.to(first)


def check_runs_here(where: PlacementConfig) -> None:
    """Refuse the address of a language model that runs here.

    Raises:
        InputError: there is one.
    """
    if where.lm_endpoint is not None:
        words = "belongs to a directory of `export` with `target` vllm"
        raise InputError(words, field="lm_endpoint", value=where.lm_endpoint)
