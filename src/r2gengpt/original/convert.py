"""An original checkpoint as a model of ours, loaded or written as a directory. Reading the file is `read`'s."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from r2gengpt import __version__
from r2gengpt.build import HERE, Built, build_model
from r2gengpt.checkpoint import DELTA, flat_settings, put_tensors, save_checkpoint, write_settings
from r2gengpt.config import DataConfig, ModelConfig, PlacementConfig
from r2gengpt.data.files import check_new_model, whole_directory
from r2gengpt.errors import InputError
from r2gengpt.original.read import CONFIGS, SUFFIXES, Original, read_original
from r2gengpt.text.written import utf8

logger = logging.getLogger(__name__)
Card = Callable[[Mapping[str, Any], Original], str]
"""Settings and the original → the model card's text."""
UNTOLD = ("vision_model", "vis_alpha", "llm_alpha", "global_only")
"""Flags of the original that its tensors do not tell and that make another model of them; our defaults are its own."""
MISFIT = "name the parts it was trained with by --lm_model and --vision_model"


def model_settings(original: Original, given: Mapping[str, Any], source: Path) -> ModelConfig:
    """The model's settings: the file's under the user's, with the trained parts as the tensors tell them.

    Raises:
        InputError: no language model named, or a flag that the tensors contradict.
    """
    values = {"template": "plain", **original.settings, **original.parts, **given}  # the only prompt the original has
    if "lm_model" not in values:
        raise InputError(f"{source}: names no language model: give --lm_model")
    config = ModelConfig(**{f.name: values[f.name] for f in fields(ModelConfig) if f.name in values})
    for name, found in original.parts.items():
        if getattr(config, name) != found:
            raise InputError(f"--{name} {getattr(config, name)}: {source} was trained with {found}")
    return config


def tell_defaults(original: Original, given: Mapping[str, Any], source: Path) -> None:
    """Say in one line which flags neither the file nor the user names, and the values that stand for them."""
    needless = {f"{part}_alpha" for part in ("vis", "llm") if not original.parts[f"{part}_use_lora"]}
    missing = [name for name in UNTOLD if name not in {**original.settings, **given}.keys() | needless]
    if missing:
        taken = " ".join(f"--{name} {ModelConfig.__dataclass_fields__[name].default}" for name in missing)
        words = "its settings lack %s, so the original's defaults are taken: %s; give what it was trained with"
        logger.warning(f"warning: %s: {words}", source, ", ".join(missing), taken)


def end_symbol(end_sym: str | None, built: Built) -> str | None:
    """The original's end symbol, or None where it is the tokenizer's own or can be none of this one's."""
    if end_sym is None:
        return None
    ids = list(built.processor.tokenizer(end_sym, add_special_tokens=False).input_ids)
    if len(ids) == 1:
        return None if ids[0] == built.processor.tokenizer.eos_token_id else end_sym
    logger.warning(
        "warning: end symbol %s is %d tokens of this language model (%s), so the tokenizer's own is used: the model "
        "may not have learnt to end a report",
        end_sym,
        len(ids),
        ids,
    )
    return None


def is_original(name: str) -> bool:
    """Whether a flag's value means a file of the original's and no directory of ours."""
    return name.endswith(SUFFIXES) and not Path(name).is_dir()


def all_settings(original: Original, given: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """Settings of model, data and decoding: the file's under the user's.

    `end_sym` is the file's, even where it is none of this language model's tokens (`load_original` sees to that).

    Raises:
        InputError: as `model_settings`, or a value that is refused.
    """
    values = {**original.settings, **given}
    others = [config(**{f.name: values[f.name] for f in fields(config) if f.name in values}) for config in CONFIGS[1:]]
    return flat_settings(model_settings(original, given, source), *others)


def training_settings(source: Path, given: Mapping[str, Any]) -> tuple[ModelConfig, DataConfig]:
    """Settings of a run that starts from an original file: those it was trained with, under the user's.

    Of the data these are the report cleaner and the length learnt, as in `test`; which ones is logged.

    Raises:
        InputError: as `read_original` and `model_settings`, or a value that is refused.
    """
    original = read_original(source)
    taken = {f.name: original.settings[f.name] for f in fields(DataConfig) if f.name in original.settings}
    values = {**taken, **given}
    data = DataConfig(**{f.name: values[f.name] for f in fields(DataConfig) if f.name in values})
    model = _own_end_symbol(model_settings(original, given, source), given)
    tell_defaults(original, given, source)
    if words := " ".join(f"--{name} {value}" for name, value in taken.items() if name not in given):
        logger.info("%s: data settings of this file are taken: %s", source, words)
    return model, data


def _own_end_symbol(config: ModelConfig, given: Mapping[str, Any]) -> ModelConfig:
    """Llama's own end token, the original's default, is not written down: other language models have another."""
    return replace(config, end_sym=None) if "end_sym" not in given and config.end_sym == "</s>" else config


def put_original(model: nn.Module, source: Path) -> None:
    """Put an original file's tensors into a model built from the same settings.

    Raises:
        InputError: as `read_original`; tensors that do not fit.
    """
    put_tensors(model, read_original(source).tensors, str(source), MISFIT)


def load_original(
    source: Path, given: Mapping[str, Any], where: PlacementConfig = HERE, *, hint: str = ""
) -> tuple[Built, dict[str, Any], Original]:
    """The model of an original file with its tensors in it, its settings, and what the file holds.

    Args:
        source: the `.pth` file.
        given: settings that stand for those in the file.
        where: how the model is held on this machine.
        hint: what else can be done where a part cannot be loaded, for the error.

    Raises:
        InputError: the file is not what it should be, the parts cannot be loaded or do not fit.
    """
    original = read_original(source)
    settings = all_settings(original, given, source)
    config = ModelConfig(**{f.name: settings[f.name] for f in fields(ModelConfig)})
    from_file = "end_sym" not in given
    try:
        built = build_model(replace(config, end_sym=None) if from_file else config, where)
    except InputError as error:
        raise InputError(f"{error}{hint}") from error
    put_tensors(built.model, original.tensors, str(source), MISFIT)
    tell_defaults(original, given, source)
    if from_file:
        config = replace(config, end_sym=end_symbol(config.end_sym, built))
        built.processor.end_sym = config.end_sym
    return built, {**settings, **flat_settings(config)}, original


def convert_original(
    source: Path,
    directory: Path,
    given: Mapping[str, Any],
    where: PlacementConfig = HERE,
    *,
    check: bool,
    card: Card,
) -> dict[str, Any]:
    """Write an original checkpoint as one of ours and give its settings.

    Args:
        source: the `.pth` file.
        directory: must not exist.
        given: settings that stand for those in the file.
        where: how the model is held while it is checked.
        check: build the model and demand that every tensor fits; without it, only names are checked and the directory
            has no processor and decoding files (loading the checkpoint does not need them).
        card: makes the model card.

    Raises:
        InputError: the directory exists, the file is not what it should be, the parts cannot be loaded or do not fit.
    """
    check_new_model(directory, "--output")
    if not check:
        original = read_original(source)
        config = _own_end_symbol(model_settings(original, given, source), given)
        settings = {**all_settings(original, given, source), **flat_settings(config)}
        tell_defaults(original, given, source)
        _write_unchecked(directory, original, settings, card)
        return settings
    hint = " (--check False converts without the model's parts)"
    built, settings, original = load_original(source, given, where, hint=hint)
    save_checkpoint(directory, built, settings, card(settings, original))
    return settings


def _write_unchecked(directory: Path, original: Original, settings: dict[str, Any], card: Card) -> None:
    logger.warning("warning: --check False: tensors are not checked against the model they belong to")
    metadata = {"format": "r2gengpt-delta-1", "r2gengpt": __version__, "torch": torch.__version__}
    with whole_directory(directory) as target:
        safetensors.torch.save_file(original.tensors, target / DELTA, metadata=metadata)
        write_settings(target, settings)
        (target / "README.md").write_bytes(utf8(card(settings, original)))
