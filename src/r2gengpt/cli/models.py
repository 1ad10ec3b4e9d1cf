"""Which model a flag means: checkpoint, run, plain directory, original file, or the embedded default. For commands."""

import importlib.util
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from r2gengpt.build import Built, load_directory
from r2gengpt.checkpoint import EMBEDDED, find_checkpoint, is_whole_model, load_checkpoint, read_settings, tell_ignored
from r2gengpt.cli import bridge
from r2gengpt.cli.test import MOVABLE, merge_settings
from r2gengpt.config import DecodeConfig, ModelConfig, PlacementConfig, TrainConfig
from r2gengpt.errors import InputError
from r2gengpt.generation.gather import Share
from r2gengpt.generation.speculate import reports_index
from r2gengpt.generation.suffixes import SPECULATION, SuffixIndex, load_index, save_index
from r2gengpt.original.convert import all_settings, is_original, load_original
from r2gengpt.original.read import read_original

log = logging.getLogger("r2gengpt.cli")


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
        raise InputError(f"--accelerator {accelerator}: no {device.upper()} device here")
    return device


def shares(options: TrainConfig) -> AbstractContextManager[Share]:
    """The processes of an evaluation: this one alone, or those for several devices, by Lightning as in training.

    Raises:
        InputError: the device is not there, or Lightning is not installed where several are asked for.
    """
    device, has_lightning = device_of(options.accelerator), importlib.util.find_spec("lightning") is not None
    outside = any(os.environ.get(name, "1") != "1" for name in ("WORLD_SIZE", "SLURM_NTASKS"))
    more_here = options.devices == "auto" and device == "cuda" and torch.cuda.device_count() > 1 and has_lightning
    if options.devices in ("auto", "1") and options.num_nodes == 1 and not outside and not more_here:
        return nullcontext(Share(0, 1, torch.device(device)))
    if not has_lightning:
        raise InputError(
            f"--devices {options.devices}: needs lightning (pip install 'r2gengpt[train]'), or --devices 1"
        )
    from r2gengpt.training.processes import joined

    return joined(options)


def stored_decoding(built: Built) -> dict[str, Any]:
    """The decode settings in a whole model's generation_config.json, under our names; those it leaves open are out."""
    names = {"num_beams": "beam_size", **{f.name: f.name for f in fields(DecodeConfig)}}
    stored = built.model.generation_config.to_diff_dict()
    found = {ours: stored[theirs] for theirs, ours in names.items() if stored.get(theirs) is not None}
    if "early_stopping" in found:  # the library's is a truth value or "never"
        found["early_stopping"] = str(found["early_stopping"])
    return found


def locate_model(name: str, flag: str, given: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The model's directory (or original file), and the settings it was trained with under those given.

    No model is built.

    Raises:
        InputError: no model there, or flags that contradict it.
    """
    if is_original(name):
        return Path(name), {**given, **all_settings(read_original(Path(name)), given, Path(name))}
    directory = EMBEDDED if name == "embedded" else find_checkpoint(name, flag)
    if not is_whole_model(directory, flag):
        return directory, merge_settings(read_settings(directory, flag), given)
    for f in (*fields(ModelConfig), *fields(PlacementConfig)):
        if f.name in given and f.name != "dtype" and (f.name, given[f.name]) != ("quantization", "w8a8"):
            raise InputError(f"--{f.name} {given[f.name]}: {flag} {name} is a whole model, its parts are settled")
    return directory, {"vision_model": name, "lm_model": name, "model_type": "r2gengpt", **given}


def load_model(name: str, flag: str, given: Mapping[str, Any]) -> tuple[Built, dict[str, Any], Path]:
    """The model in eval mode, its settings under those given, and its directory (or original file).

    How it is held on this machine, and whether its parts' own code may run, is what was given, whatever it holds.

    Raises:
        InputError: as `locate_model`, or parts that cannot be loaded.
    """
    where = bridge.make(PlacementConfig, given)
    if is_original(name):
        built, settings, _ = load_original(Path(name), given, where)
        built.model.eval()
        return built, {**given, **settings}, Path(name)
    directory, settings = locate_model(name, flag, given)
    if settings.get("model_type") == "r2gengpt":
        built = load_directory(directory, dtype=where.dtype)
        return built, {**stored_decoding(built), **settings}, directory
    built, _ = load_checkpoint(directory, flag, where, **{key: given.get(key) for key in MOVABLE})
    tell_ignored(directory, flag, vars(where))
    return built, settings, directory


def stored_index(built: Built, directory: Path) -> SuffixIndex:
    """The index of the training reports that lies beside the trained weights.

    Raises:
        InputError: there is none, or it is damaged.
    """
    return load_index(directory / SPECULATION, len(built.model.language_model.get_input_embeddings().weight))


def index_for(built: Built, directory: Path, reports: Sequence[str], dataset: str, *, keep: bool) -> SuffixIndex:
    """The index beside the weights; where there is none it is made from the reports, and kept there if it may be.

    Args:
        built: the model.
        directory: of its checkpoint (or an original file, beside which nothing is kept).
        reports: of the train split.
        dataset: whose cleaner to use.
        keep: False in all but one of several processes.

    Raises:
        InputError: there are no reports to make it from, or the one that is there is damaged.
    """
    path = directory / SPECULATION
    if path.exists():
        return stored_index(built, directory)
    if not reports:
        raise InputError(f"--speculate True: {path} is not there, and --annotation has no train split to make it from")
    index = reports_index(reports, built.processor, dataset)
    if keep and directory.is_dir() and directory != EMBEDDED and os.access(directory, os.W_OK):
        save_index(index, path)
        log.info("%s: holds the %d training reports, for later runs with --speculate True", path, len(reports))
    return index
