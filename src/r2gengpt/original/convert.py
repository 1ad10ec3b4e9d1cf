"""An original checkpoint as a model of ours, loaded or written as a directory. Reading the file is `read`'s."""

import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from r2gengpt.checkpoint import put_tensors, save_checkpoint, write_settings
from r2gengpt.checkpoint_files import DELTA
from r2gengpt.config import DataConfig, ModelConfig, Stored
from r2gengpt.errors import InputError
from r2gengpt.files import check_new_model, whole_directory
from r2gengpt.options import Override
from r2gengpt.original.read import Original, read_original
from r2gengpt.parts.assemble import HERE, Built, build_model
from r2gengpt.settings import PlacementConfig
from r2gengpt.text.written import utf8
from r2gengpt.version import __version__

logger = logging.getLogger(__name__)
Card = Callable[[Stored, Original], str]
"""Settings and the original → the model card's text."""
UNTOLD = ("vision_model", "vis_alpha", "llm_alpha", "global_only")
"""Flags of the original that its tensors do not tell and that make another model of them; our defaults are its own."""
MISFIT = "name the parts it was trained with by `lm_model` and `vision_model`"


def model_settings(original: Original, asked: Override[ModelConfig], source: Path) -> ModelConfig:
    """The model's settings: the file's under the user's, with the trained parts as the tensors tell them.

    Raises:
        InputError: no language model named, or a flag that the tensors contradict.
    """
    plain = Override(ModelConfig, {"template": "plain"})  # the only prompt the original has
    found = plain.under(original.stored.model).under(Override(ModelConfig, original.parts)).under(asked)
    if "lm_model" not in found:
        raise InputError(f"{source}: names no language model: give `lm_model`")
    config = ModelConfig(**found.values)
    for name, found in original.parts.items():
        if getattr(config, name) != found:
            raise InputError(f"{source} was trained with {found}", field=name, value=getattr(config, name))
    return config


def tell_defaults(original: Original, asked: Override[ModelConfig], source: Path) -> None:
    """Say in one line which flags neither the file nor the user names, and the values that stand for them."""
    needless = {f"{part}_alpha" for part in ("vis", "llm") if not original.parts[f"{part}_use_lora"]}
    missing = [name for name in UNTOLD if name not in original.stored.model.under(asked) and name not in needless]
    if missing:
        taken = " ".join(f"`{name}` {ModelConfig.__dataclass_fields__[name].default}" for name in missing)
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


def training_settings(
    source: Path, model: Override[ModelConfig], data: Override[DataConfig]
) -> tuple[ModelConfig, DataConfig]:
    """Settings of a run that starts from an original file: those it was trained with, under the user's.

    Of the data these are the report cleaner and the length learnt, as in `test`; which ones is logged.

    Raises:
        InputError: as `read_original` and `model_settings`, or a value that is refused.
    """
    original = read_original(source)
    taken = original.stored.data
    config = _own_end_symbol(model_settings(original, model, source), model)
    tell_defaults(original, model, source)
    if words := " ".join(f"`{name}` {value}" for name, value in taken.values.items() if name not in data):
        logger.info("%s: data settings of this file are taken: %s", source, words)
    return config, taken.under(data).settled()


def _own_end_symbol(config: ModelConfig, asked: Override[ModelConfig]) -> ModelConfig:
    """Llama's own end token, the original's default, is not written down: other language models have another."""
    return replace(config, end_sym=None) if "end_sym" not in asked and config.end_sym == "</s>" else config


def put_original(model: nn.Module, source: Path) -> None:
    """Put an original file's tensors into a model built from the same settings.

    Raises:
        InputError: as `read_original`; tensors that do not fit.
    """
    put_tensors(model, read_original(source).tensors, str(source), MISFIT)


def load_original(
    source: Path, asked: Override[ModelConfig], where: PlacementConfig = HERE, *, hint: str = ""
) -> tuple[Built, Stored, Original]:
    """The model of an original file with its tensors in it, its settings, and what the file holds.

    Args:
        source: the `.pth` file.
        asked: settings that stand for those in the file.
        where: how the model is held on this machine.
        hint: what else can be done where a part cannot be loaded, for the error.

    Raises:
        InputError: the file is not what it should be, the parts cannot be loaded or do not fit.
    """
    original = read_original(source)
    config = model_settings(original, asked, source)
    from_file = "end_sym" not in asked
    try:
        built = build_model(replace(config, end_sym=None) if from_file else config, where)
    except InputError as error:
        raise InputError(f"{error.line}{hint}") from error
    put_tensors(built.model, original.tensors, str(source), MISFIT)
    tell_defaults(original, asked, source)
    if from_file:
        config = replace(config, end_sym=end_symbol(config.end_sym, built))
        built.processor.end_sym = config.end_sym
    data = Override(DataConfig, {"dataset": DataConfig().dataset}).under(original.stored.data)
    return built, replace(original.stored, model=Override(ModelConfig, asdict(config)), data=data), original


def convert_original(
    source: Path,
    directory: Path,
    asked: Stored,
    where: PlacementConfig = HERE,
    *,
    check: bool,
    card: Card,
) -> None:
    """Write an original checkpoint as one of ours.

    Args:
        source: the `.pth` file.
        directory: must not exist.
        asked: settings that stand for those in the file.
        where: how the model is held while it is checked.
        check: build the model and demand that every tensor fits; without it, only names are checked and the directory
            has no processor and decoding files (loading the checkpoint does not need them).
        card: makes the model card.

    Raises:
        InputError: the directory exists, the file is not what it should be, the parts cannot be loaded or do not fit.
    """
    check_new_model(directory)
    if not check:
        original = read_original(source)
        config = _own_end_symbol(model_settings(original, asked.model, source), asked.model)
        tell_defaults(original, asked.model, source)
        stored = replace(original.stored, model=Override(ModelConfig, asdict(config)))
        _write_unchecked(directory, original, whole_settings(stored, asked), card)
        return
    hint = " (`check` False converts without the model's parts)"
    built, stored, original = load_original(source, asked.model, where, hint=hint)
    stored = whole_settings(stored, asked)
    save_checkpoint(directory, built, stored, card(stored, original))


def whole_settings(stored: Stored, asked: Stored) -> Stored:
    """The file's settings under the user's, open ones by default, as a checkpoint of ours holds them."""
    data, decode = stored.data.under(asked.data).settled(), stored.decode.under(asked.decode).settled()
    return Stored.of({**stored.model.values, **asdict(data), **asdict(decode)})


def _write_unchecked(directory: Path, original: Original, stored: Stored, card: Card) -> None:
    logger.warning("warning: `check` False: tensors are not checked against the model they belong to")
    metadata = {"format": "r2gengpt-delta-1", "r2gengpt": __version__, "torch": torch.__version__}
    with whole_directory(directory) as target:
        safetensors.torch.save_file(original.tensors, target / DELTA, metadata=metadata)
        write_settings(target, stored)
        (target / "README.md").write_bytes(utf8(card(stored, original)))
