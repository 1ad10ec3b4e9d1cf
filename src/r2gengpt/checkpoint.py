"""Trained tensors to a directory and back. No optimizer state (that is the trainer's), no pretrained weights."""

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from r2gengpt import __version__
from r2gengpt.build import HERE, Built, build_model
from r2gengpt.build.lora import save_adapter
from r2gengpt.config import DecodeConfig, ModelConfig, PlacementConfig, kept_names
from r2gengpt.data.files import whole_directory, whole_file
from r2gengpt.data.json_files import parsed_json
from r2gengpt.errors import InputError
from r2gengpt.generation.decoding import ChosenDecoding, decodings, write_chosen
from r2gengpt.generation.settings import generation_config
from r2gengpt.generation.suffixes import SPECULATION, SuffixIndex, save_index
from r2gengpt.text.written import utf8

log = logging.getLogger("r2gengpt.checkpoint")
DELTA, CONFIG = "delta.safetensors", "config.json"
RUN = "run.json"
"""The record that a training run keeps beside its checkpoints, on the machine that it ran on."""
EMBEDDED = Path(__file__).parent / "embedded"
"""The checkpoint that ships with the program; its two base models come by `r2gengpt pull embedded`."""


def trained_names(model: nn.Module) -> list[str]:
    """Names of what training changes: parameters with a gradient, and the feature statistics."""
    parameters = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
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


def flat_settings(*configs: Any) -> dict[str, Any]:
    """Settings as one flat mapping, ready for JSON."""
    return {name: value for config in configs for name, value in dataclasses.asdict(config).items()}


def save_checkpoint(
    directory: Path,
    built: Built,
    settings: Mapping[str, Any],
    card: str,
    index: SuffixIndex | None = None,
    tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint directory whole: settings, trained tensors, processor, decoding and a model card.

    Of the settings it holds how the model was made; what belongs to this machine or its user is left out.
    LoRA stands in it twice: in our delta, and by itself in PEFT's format. An index of the training reports goes with it
    where one is given. `tensors` are the model's `trained_tensors`, where several processes had to gather them before
    one writes.
    """
    model, processor = built.model, built.processor
    tensors = trained_tensors(model) if tensors is None else tensors
    decode = _part(DecodeConfig, settings).for_dataset(settings["dataset"])
    with whole_directory(directory) as target:
        metadata = {"format": "r2gengpt-delta-1", "r2gengpt": __version__, "torch": torch.__version__}
        safetensors.torch.save_file(dict(tensors), target / DELTA, metadata=metadata)
        write_settings(target, settings)
        for part, name, base in (
            ("vision_tower", "vision", "vision_model"),
            ("language_model", "language", "lm_model"),
        ):
            own = {
                key.removeprefix(f"{part}."): tensor for key, tensor in tensors.items() if key.startswith(f"{part}.")
            }
            save_adapter(getattr(model, part), own, target / f"{name}_adapter", settings[base])
        processor.to_json_file(target / "processor_config.json")
        generation_config(decode, processor).save_pretrained(target)
        if index is not None:
            save_index(index, target / SPECULATION)
        (target / "README.md").write_bytes(utf8(card))


def write_settings(directory: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings that a checkpoint holds (`config.kept_names`) to its `config.json`."""
    kept = {name: value for name, value in settings.items() if name in kept_names()}
    (directory / CONFIG).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def add_decoding(directory: Path, built: Built, settings: Mapping[str, Any], chosen: ChosenDecoding) -> None:
    """Put the choice of penalties beside weights that stand already; the library's own file follows it."""
    write_chosen(directory, chosen)
    whole = decodings(settings, {}, directory).whole
    with whole_file(directory / "generation_config.json") as path:
        generation_config(whole, built.processor).to_json_file(path)


def find_checkpoint(path: str, flag: str) -> Path:
    """The checkpoint directory that a path means: itself, or the best (else the last) of a run directory.

    Raises:
        InputError: no such directory, a file instead, or a directory that holds no model.
    """
    directory = Path(path)
    if directory.is_file():
        hint = (
            f"; turn an original {directory.suffix} into one with `r2gengpt convert`"
            if directory.suffix in (".pth", ".pt", ".ckpt")
            else ""
        )
        raise InputError(f"{flag} {path}: is a file, must be a checkpoint directory{hint}")
    if not directory.is_dir():
        raise InputError(f"{flag} {path}: no such directory")
    for candidate in (directory, directory / "best", directory / "last"):
        if (candidate / "config.json").is_file():
            return candidate
    raise InputError(f"{flag} {path}: no config.json there, so no model")


def _read_object(path: Path, flag: str) -> dict[str, Any]:
    """A JSON object beside the weights, lists as tuples.

    Raises:
        InputError: the file holds none.
    """
    try:
        value = parsed_json(path.read_text(encoding="utf-8"), path.name)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{flag} {path.parent}: {path.name} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{flag} {path.parent}: {path.name} holds no JSON object")
    return {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}


def is_whole_model(directory: Path, flag: str) -> bool:
    """Whether a directory holds a model whole, as `r2gengpt export` writes it, and no checkpoint.

    Raises:
        InputError: config.json is not a JSON object.
    """
    return _read_object(directory / CONFIG, flag).get("model_type") == "r2gengpt"


def read_settings(directory: Path, flag: str) -> dict[str, Any]:
    """A checkpoint's flat settings: how the model was made.

    Settings of the machine or its user (`PlacementConfig`, paths, devices), which older checkpoints hold, are left out.

    Raises:
        InputError: config.json is not a JSON object.
    """
    return {name: value for name, value in _read_object(directory / CONFIG, flag).items() if name in kept_names()}


def data_of_run(directory: Path, flag: str) -> dict[str, Any]:
    """Where the data of the run that wrote a checkpoint are and how they are read, by the run's own record.

    Empty for a checkpoint that lies in no run's directory: a checkpoint itself names no path.

    Raises:
        InputError: the record is not a JSON object.
    """
    record = directory.parent / RUN
    if directory.name not in ("best", "last") or not record.is_file():
        return {}
    stored = _read_object(record, flag)
    return {
        name: stored[name] for name in ("annotation", "base_dir", "frame", "force", "mixed_patients") if name in stored
    }


def tell_ignored(directory: Path, flag: str, used: Mapping[str, Any]) -> None:
    """Log the settings that an older checkpoint holds, that differ from those used, and that are not read from it.

    Args:
        directory: of the checkpoint.
        flag: the flag that named it.
        used: settings of the machine or its user, as this command runs.
    """
    stored = _read_object(directory / CONFIG, flag)
    settled = {"quantization": ("none", used.get("quantization"))}  # auto was written down as what it came to
    names = [name for name, value in used.items() if name in stored and stored[name] not in settled.get(name, (value,))]
    if names:
        words = "not read from its config.json, as this machine or its user settles it by a flag"
        log.info("%s %s: %s: %s", flag, directory, words, ", ".join(names))


def _part(config: type[Any], settings: Mapping[str, Any]) -> Any:
    return config(**{f.name: settings[f.name] for f in dataclasses.fields(config) if f.name in settings})


def put_tensors(model: nn.Module, tensors: Mapping[str, Tensor], source: str, hint: str) -> None:
    """Put trained tensors into the model they belong to, all of them or none.

    Args:
        model: a model whose trained parts are marked.
        tensors: by `trained_names`.
        source: where they come from, for errors.
        hint: what a misfit means there, for errors.

    Raises:
        InputError: missing, unexpected or misshapen tensors (how many, and the first by name).
    """
    trained = set(trained_names(model))
    state = {name: tensor for name, tensor in model.state_dict().items() if name in trained}
    for words, names in (("misses", state.keys() - tensors.keys()), ("has unexpected", tensors.keys() - state.keys())):
        if names:
            raise InputError(f"{source} {words} {len(names)} tensors, first {sorted(names)[0]}: {hint}")
    for name, tensor in tensors.items():
        if tensor.shape != state[name].shape:
            shapes = f"has shape {tuple(tensor.shape)}, this model needs {tuple(state[name].shape)}"
            raise InputError(f"{source}: {name} {shapes}: {hint}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            state[name].copy_(tensor)


def load_delta(model: nn.Module, directory: Path, flag: str) -> None:
    """Put a checkpoint's tensors into a model built from the same settings.

    Raises:
        InputError: no or a damaged file; missing, unexpected or misshapen tensors (counts, and the first by name).
    """
    path = directory / DELTA
    try:
        tensors = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise InputError(f"{flag} {directory}: no {DELTA} there") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{flag} {directory}: {DELTA} is damaged: {error}") from None
    put_tensors(model, tensors, f"{flag} {directory}: {DELTA}", "it belongs to another model")


def _stored_prompt(directory: Path, flag: str) -> dict[str, Any]:
    """The prompt that the model was trained with, as it was resolved then: a tokenizer's chat template may change."""
    path = directory / "processor_config.json"
    if not path.is_file():
        return {}
    stored = _read_object(path, flag)
    return {name: stored[name] for name in ("template", "add_bos", "end_sym") if name in stored}


def load_checkpoint(
    directory: Path,
    flag: str = "--model",
    where: PlacementConfig = HERE,
    *,
    vision_model: str | None = None,
    lm_model: str | None = None,
) -> tuple[Built, dict[str, Any]]:
    """The model of a checkpoint directory, in eval mode, and its settings.

    Args:
        directory: as `find_checkpoint` gives it.
        flag: the flag that named it, for errors.
        where: how the model is held on this machine.
        vision_model: its new name where it lies elsewhere now.
        lm_model: likewise.

    Raises:
        InputError: parts cannot be loaded or tensors do not fit.
    """
    settings = read_settings(directory, flag)
    for name, moved in (("vision_model", vision_model), ("lm_model", lm_model)):
        if moved is not None:
            settings[name] = moved
        if name not in settings:
            raise InputError(f"{flag} {directory}: config.json is not r2gengpt's: it names no {name}")
    prompt = _stored_prompt(directory, flag)
    try:
        parts = dataclasses.replace(_part(ModelConfig, settings), **prompt)
    except InputError as error:
        raise InputError(f"{flag} {directory}: {CONFIG}: {error}") from None
    built = build_model(parts, where, trained=True)
    load_delta(built.model, directory, flag)
    built.model.eval()
    return built, settings
