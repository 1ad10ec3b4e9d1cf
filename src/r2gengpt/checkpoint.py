"""Trained tensors to a directory and back. No optimizer state (that is the trainer's), no pretrained weights."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from r2gengpt.checkpoint_files import CONFIG, DELTA, read_settings, stored_prompt, tells_findings_only
from r2gengpt.config import ModelConfig, Stored
from r2gengpt.errors import InputError
from r2gengpt.files import whole_directory, whole_file
from r2gengpt.generation.beams import NOTHING, ChosenDecoding, decodings, write_chosen
from r2gengpt.generation.library import generation_config
from r2gengpt.generation.suffixes import SPECULATION, SuffixIndex, save_index
from r2gengpt.options import Override
from r2gengpt.parts.assemble import HERE, Built, build_model
from r2gengpt.parts.lora import save_adapter
from r2gengpt.settings import PlacementConfig
from r2gengpt.text.written import utf8
from r2gengpt.version import __version__

log = logging.getLogger("r2gengpt.checkpoint")


def trained_names(model: nn.Module) -> list[str]:
    """Names of what training changes, or changed before: parameters with a gradient, LoRA, head, feature statistics."""
    parameters = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad or ".lora_" in name or name.startswith("finding_head.")
    ]
    return parameters + [name for name, _ in model.named_buffers() if ".norm_in." in f".{name}"]


def whole_tensor(tensor: Tensor) -> Tensor:
    """Detached, contiguous, on the CPU; where processes hold a part each, all must call this, and get the whole."""
    gather = getattr(tensor, "full_tensor", None)
    if tensor.numel() != getattr(tensor, "ds_numel", tensor.numel()):  # a part, by DeepSpeed's ZeRO-3
        from deepspeed.runtime.zero import GatheredParameters

        with GatheredParameters([tensor]):
            return tensor.detach().cpu().clone()
    return (tensor if gather is None else gather()).detach().cpu().contiguous()


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of `trained_names` as `whole_tensor` gives them."""
    state = model.state_dict(keep_vars=True)
    return {name: whole_tensor(state[name]) for name in trained_names(model)}


def save_checkpoint(
    directory: Path,
    built: Built,
    stored: Stored,
    card: str,
    index: SuffixIndex | None = None,
    tensors: Mapping[str, Tensor] | None = None,
    beside: Callable[[Path], None] | None = None,
) -> None:
    """Write a checkpoint directory whole: settings, trained tensors, processor, decoding and a model card.

    LoRA stands in it twice: in our delta, and by itself in PEFT's format. An index of the training reports goes with it
    where one is given. `tensors` are the model's `trained_tensors`, where several processes had to gather them before
    one writes. `beside` puts more files into the directory.
    """
    model, processor = built.model, built.processor
    tensors = trained_tensors(model) if tensors is None else tensors
    decode = stored.decode.settled().for_dataset(stored.dataset)
    with whole_directory(directory) as target:
        metadata = {"format": "r2gengpt-delta-1", "r2gengpt": __version__, "torch": torch.__version__}
        safetensors.torch.save_file(dict(tensors), target / DELTA, metadata=metadata)
        write_settings(target, stored)
        for part, name, base in (
            ("vision_tower", "vision", "vision_model"),
            ("language_model", "language", "lm_model"),
        ):
            own = {
                key.removeprefix(f"{part}."): tensor for key, tensor in tensors.items() if key.startswith(f"{part}.")
            }
            save_adapter(getattr(model, part), own, target / f"{name}_adapter", stored.model.values[base])
        processor.to_json_file(target / "processor_config.json")
        generation_config(decode, processor).save_pretrained(target)
        if index is not None:
            save_index(index, target / SPECULATION)
        if beside is not None:
            beside(target)
        (target / "README.md").write_bytes(utf8(card))


def write_settings(directory: Path, stored: Stored) -> None:
    """Write the settings that a checkpoint holds to its `config.json`."""
    (directory / CONFIG).write_text(json.dumps(stored.flat(), indent=1) + "\n", encoding="utf-8")


def add_decoding(directory: Path, built: Built, stored: Stored, chosen: ChosenDecoding) -> None:
    """Put the choice of penalties beside weights that stand already; the library's own file follows it."""
    write_chosen(directory, chosen)
    whole = decodings(stored.decode, NOTHING, None, dataset=stored.dataset, directory=directory).whole
    with whole_file(directory / "generation_config.json") as path:
        generation_config(whole, built.processor).to_json_file(path)


def put_tensors(
    model: nn.Module, tensors: Mapping[str, Tensor], source: str, hint: str, *, partly: bool = False
) -> None:
    """Put trained tensors into the model they belong to, all of them or none.

    Args:
        model: a model whose trained parts are marked.
        tensors: by `trained_names`.
        source: where they come from, for errors.
        hint: what a misfit means there, for errors.
        partly: the model may have trained tensors that are not among these, which stay as they are.

    Raises:
        InputError: missing, unexpected or misshapen tensors (how many, and the first by name), or no finite values.
    """
    trained = set(trained_names(model))
    state = {name: tensor for name, tensor in model.state_dict().items() if name in trained}
    missing = set() if partly else state.keys() - tensors.keys()
    for words, names in (("misses", missing), ("has unexpected", tensors.keys() - state.keys())):
        if names:
            raise InputError(f"{source} {words} {len(names)} tensors, first {sorted(names)[0]}: {hint}")
    for name, tensor in tensors.items():
        if tensor.shape != state[name].shape:
            shapes = f"has shape {tuple(tensor.shape)}, this model needs {tuple(state[name].shape)}"
            raise InputError(f"{source}: {name} {shapes}: {hint}")
        if not bool(tensor.isfinite().all()):
            raise InputError(f"{source}: {name} holds values that are no finite numbers: its training has failed")
    with torch.no_grad():
        for name, tensor in tensors.items():
            state[name].copy_(tensor)


SHAPING = (
    *("freeze_vm", "vis_use_lora", "vis_r", "vis_lora_targets", "use_dora", "feature_norm", "global_only"),
    *("image_size", "findings_head", "llm_use_lora", "llm_r", "llm_lora_targets", "prior_study"),
)
"""Settings that say which tensors are trained, and their shapes; the last four do not count for a head alone."""


def misfit(stored: Mapping[str, object], config: ModelConfig | None, names: Sequence[str]) -> str:
    """Why a checkpoint's tensors may not fit a model, in words.

    Args:
        stored: the checkpoint's settings.
        config: the model's; None: the same.
        names: of the settings that count.
    """
    pairs = [(name, stored[name], getattr(config, name)) for name in names if config is not None and name in stored]
    others = [f"`{name}` {_shown(one)}, not {_shown(other)}" for name, one, other in pairs if one != other]
    return f"it was trained with {'; '.join(others)}" if others else "it belongs to another model"


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def load_delta(model: nn.Module, directory: Path, field: str, config: ModelConfig | None = None) -> None:
    """Put a checkpoint's tensors into a model built from the same settings.

    A checkpoint of a finding head alone goes into a model that has more besides.

    Args:
        model: its trained parts are marked.
        directory: of the checkpoint.
        field: the setting that named it, for errors.
        config: the model's settings, where they may be others than the checkpoint's.

    Raises:
        InputError: no or a damaged file; missing, unexpected or misshapen tensors (counts, and the first by name).
    """
    path = directory / DELTA
    try:
        tensors = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise InputError(f"no {DELTA} there", field=field, value=directory) from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{DELTA} is damaged: {error}", field=field, value=directory) from None
    stored = read_settings(directory, field)
    alone = tells_findings_only(stored)
    hint = misfit(stored.model.values, config, SHAPING[: -4 if alone else None])
    put_tensors(model, tensors, f"`{field}` {directory}: {DELTA}", hint, partly=alone)


def load_checkpoint(
    directory: Path,
    field: str = "model",
    where: PlacementConfig = HERE,
    *,
    vision_model: str | None = None,
    lm_model: str | None = None,
) -> tuple[Built, Stored]:
    """The model of a checkpoint directory, in eval mode, and its settings.

    Args:
        directory: as `find_checkpoint` gives it.
        field: the setting that named it, for errors.
        where: how the model is held on this machine.
        vision_model: its new name where it lies elsewhere now.
        lm_model: likewise.

    Raises:
        InputError: parts cannot be loaded or tensors do not fit.
    """
    stored = read_settings(directory, field)
    moved = {"vision_model": vision_model, "lm_model": lm_model}
    moved = {name: value for name, value in moved.items() if value is not None}
    stored = replace(stored, model=stored.model.under(Override(ModelConfig, moved)))
    prompt = Override(ModelConfig, stored_prompt(directory, field))
    try:
        config = stored.model.under(prompt).settled()
    except InputError as error:
        raise InputError(f"{CONFIG}: {error}", field=field, value=directory) from None
    built = build_model(config, where, trained=True, findings_only=tells_findings_only(stored))
    load_delta(built.model, directory, field)
    built.model.eval()
    return built, stored
