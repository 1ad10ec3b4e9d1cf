"""A located model in memory: its parts, its finding head at work, what it composes of. Writes no report."""

import logging
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.checkpoint_files import EMBEDDED, SENTENCES, is_original, tell_ignored
from r2gengpt.confidence.film_guard import read_guard
from r2gengpt.confidence.findings import read_scales
from r2gengpt.confidence.looking import Looker
from r2gengpt.config import DecodeConfig, Stored
from r2gengpt.engines.attach import attach
from r2gengpt.errors import InputError
from r2gengpt.generation.composition import Composer
from r2gengpt.generation.retrieval import load_sentences
from r2gengpt.generation.speculate import reports_index
from r2gengpt.generation.suffixes import SPECULATION, SuffixIndex, load_index, save_index
from r2gengpt.locate import MOVABLE, Located, ModelChoice, TrainTexts
from r2gengpt.options import Override
from r2gengpt.original.convert import load_original
from r2gengpt.parts.assemble import Built, load_directory
from r2gengpt.report import NO_HEAD

log = logging.getLogger("r2gengpt.generation")


def loaded(located: Located) -> tuple[Built, Stored]:
    """The model in eval mode, and how it was made, under what the user gave.

    How it is held on this machine, and whether its parts' own code may run, is what was chosen, whatever it holds.

    Raises:
        InputError: parts that cannot be loaded.
    """
    choice, stored = located.choice, located.stored
    if is_original(choice.name):
        built, found, _ = load_original(Path(choice.name), choice.model, choice.where)
        built.model.eval()
        return built, replace(found, data=found.data.under(choice.data))
    if located.whole:
        built = load_directory(located.directory, dtype=choice.where.dtype)
        attach(built.model.language_model, located.directory, choice.where)
        return built, replace(stored, decode=Override(DecodeConfig, decoding_of(built)))
    moved = {name: choice.model.values.get(name) for name in MOVABLE}
    built, _ = load_checkpoint(located.directory, choice.field, choice.where, **moved)
    tell_ignored(located.directory, choice.field, choice.where)
    return built, stored


def looker_of(built: Built, located: Located) -> Looker | None:
    """The finding head of a model at work; None where it has none.

    Raises:
        InputError: nothing says how its logits are read.
    """
    if built.model.finding_head is None:
        return None
    scales = read_scales(located.directory, located.choice.field)
    guard = read_guard(located.directory, located.choice.field)
    return Looker(built.model, built.processor, scales, hints=built.model.config.findings_hint, guard=guard)


def composer_of(looker: Looker | None, directory: Path) -> Composer:
    """What writes by retrieval.

    Raises:
        InputError: no head, or the sentences are damaged.
    """
    if looker is None:
        raise InputError(NO_HEAD, field="model", value=directory)
    index = load_sentences(directory / SENTENCES)
    assessed = [at for at, scale in enumerate(looker.scales) if scale.assessed]
    return Composer(index, tuple(assessed))


def tell_unused(choice: ModelChoice) -> None:
    """Log which settings of decoding have no effect on retrieval."""
    names = [*choice.decode.values, *(["decode_preset"] if choice.preset else [])]
    if names:
        log.info("%s: no effect, `writer` retrieve decodes nothing", ", ".join(f"`{name}`" for name in names))


def decoding_of(built: Built) -> dict[str, Any]:
    """The decode settings in a whole model's generation_config.json, under our names; those it leaves open are out."""
    names = {"num_beams": "beam_size", **{f.name: f.name for f in fields(DecodeConfig)}}
    stored = built.model.generation_config.to_diff_dict()
    found = {ours: stored[theirs] for theirs, ours in names.items() if stored.get(theirs) is not None}
    if "early_stopping" in found:  # the library's is a truth value or "never"
        found["early_stopping"] = str(found["early_stopping"])
    return found


def index_of(built: Built, directory: Path, texts: TrainTexts | None) -> SuffixIndex:
    """The index beside the weights; where there is none it is made of the texts, and kept there if it may be.

    Args:
        built: the model.
        directory: of its checkpoint (or an original file, beside which nothing is kept).
        texts: of the train split; None: the index must be there.

    Raises:
        InputError: there are no reports to make it from, or the one that is there is damaged.
    """
    path = directory / SPECULATION
    if texts is None or path.exists():
        return stored_index(built, directory)
    if not texts.reports:
        words = f"{path} is not there, and `annotation` has no train split to make it from"
        raise InputError(words, field="speculate", value=True)
    index = reports_index(texts.reports, built.processor, texts.dataset)
    if texts.keep and directory.is_dir() and directory != EMBEDDED and os.access(directory, os.W_OK):
        save_index(index, path)
        log.info("%s: holds the %d training reports, for later runs with `speculate` True", path, len(texts.reports))
    return index


def stored_index(built: Built, directory: Path) -> SuffixIndex:
    """The index of the training reports that lies beside the trained weights.

    Raises:
        InputError: there is none, or it is damaged.
    """
    return load_index(directory / SPECULATION, len(built.model.language_model.get_input_embeddings().weight))
