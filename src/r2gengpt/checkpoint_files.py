"""A checkpoint's directory without its tensors: where it lies, and what its files say of how it was made. No torch."""

import logging
from pathlib import Path
from typing import Any

from r2gengpt.config import DataConfig, Stored
from r2gengpt.data.strict import parsed_json
from r2gengpt.errors import InputError
from r2gengpt.options import Override
from r2gengpt.settings import PlacementConfig

log = logging.getLogger("r2gengpt.checkpoint")
DELTA, CONFIG = "delta.safetensors", "config.json"
SENTENCES = "sentences.safetensors"
"""Sentences of the training reports, where a run kept them beside its weights."""
RUN = "run.json"
"""The record that a training run keeps beside its checkpoints, on the machine that it ran on."""
EMBEDDED = Path(__file__).parent / "embedded"
"""The checkpoint that ships with the program; its two base models come by `r2gengpt pull embedded`."""


SUFFIXES = (".pth", ".pt", ".ckpt")
"""Endings of the original's files."""


def is_original(name: str) -> bool:
    """Whether a name means a file of the original's and no directory of ours."""
    return name.endswith(SUFFIXES) and not Path(name).is_dir()


def find_checkpoint(path: str, field: str) -> Path:
    """The checkpoint directory that a path means: itself, or the best (else the last) of a run directory.

    Raises:
        InputError: no such directory, a file instead, or a directory that holds no model.
    """
    directory = Path(path)
    if directory.is_file():
        hint = (
            f"; turn an original {directory.suffix} into one with `r2gengpt convert`"
            if directory.suffix in SUFFIXES
            else ""
        )
        raise InputError(f"is a file, must be a checkpoint directory{hint}", field=field, value=path)
    if not directory.is_dir():
        raise InputError("no such directory", field=field, value=path)
    for candidate in (directory, directory / "best", directory / "last"):
        if (candidate / "config.json").is_file():
            return candidate
    raise InputError("no config.json there, so no model", field=field, value=path)


def _read_object(path: Path, field: str) -> dict[str, Any]:
    """A JSON object beside the weights, lists as tuples.

    Raises:
        InputError: the file holds none.
    """
    try:
        value = parsed_json(path.read_text(encoding="utf-8"), path.name)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path.name} cannot be read: {error}", field=field, value=path.parent) from None
    if not isinstance(value, dict):
        raise InputError(f"{path.name} holds no JSON object", field=field, value=path.parent)
    return {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}


def is_whole_model(directory: Path, field: str) -> bool:
    """Whether a directory holds a model whole, as `r2gengpt export` writes it, and no checkpoint.

    Raises:
        InputError: config.json is not a JSON object.
    """
    return _read_object(directory / CONFIG, field).get("model_type") == "r2gengpt"


def read_settings(directory: Path, field: str) -> Stored:
    """A checkpoint's settings: how the model was made.

    Settings of the machine or its user (`PlacementConfig`, paths, devices), which older checkpoints hold, are left out.

    Raises:
        InputError: config.json is not a JSON object, or names no encoder or language model.
    """
    stored = Stored.of(_read_object(directory / CONFIG, field))
    for part in ("vision_model", "lm_model"):
        if part not in stored.model:
            raise InputError(f"{CONFIG} is not r2gengpt's: it names no {part}", field=field, value=directory)
    return stored


def tells_findings_only(stored: Stored) -> bool:
    """Whether a checkpoint is of a finding head alone, and writes no reports."""
    return bool(stored.train.values.get("findings_only", False))


def check_writes(stored: Stored, name: str, field: str) -> None:
    """Refuse a model that writes no report, as its finding head was trained alone.

    Args:
        stored: its settings.
        name: of the model.
        field: the setting that named it.

    Raises:
        InputError: it writes none.
    """
    if tells_findings_only(stored):
        words = "was trained for findings alone and writes no report: train reports from it by `ckpt_file`"
        raise InputError(words, field=field, value=name)


def data_of_run(directory: Path, field: str) -> Override[DataConfig]:
    """Where the data of the run that wrote a checkpoint are and how they are read, by the run's own record.

    Empty for a checkpoint that lies in no run's directory: a checkpoint itself names no path.

    Raises:
        InputError: the record is not a JSON object.
    """
    record = directory.parent / RUN
    if directory.name not in ("best", "last") or not record.is_file():
        return Override(DataConfig)
    found = _read_object(record, field)
    names = ("annotation", "base_dir", "frame", "force", "mixed_patients")
    return Override(DataConfig, {name: found[name] for name in names if name in found})


def tell_ignored(directory: Path, field: str, used: PlacementConfig) -> None:
    """Log the settings that an older checkpoint holds, that differ from those used, and that are not read from it.

    Args:
        directory: of the checkpoint.
        field: the setting that named it.
        used: settings of the machine or its user, as this command runs.
    """
    stored = _read_object(directory / CONFIG, field)
    settled = {"quantization": ("none", used.quantization)}  # auto was written down as what it came to
    values = vars(used).items()
    names = [name for name, value in values if name in stored and stored[name] not in settled.get(name, (value,))]
    if names:
        words = "not read from its config.json, as this machine or its user settles it"
        log.info("`%s` %s: %s: %s", field, directory, words, ", ".join(names))


def stored_prompt(directory: Path, field: str) -> dict[str, Any]:
    """The prompt that the model was trained with, as it was resolved then: a tokenizer's chat template may change."""
    path = directory / "processor_config.json"
    if not path.is_file():
        return {}
    stored = _read_object(path, field)
    return {name: stored[name] for name in ("template", "add_bos", "end_sym") if name in stored}
