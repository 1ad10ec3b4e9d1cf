"""How a model's reports are decoded, by several beams and by one: chosen when training ends, kept beside the weights.

No tensors. A stream has one beam, which needs other penalties than several do.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from r2gengpt.config import DECODE_PRESETS, DecodeConfig
from r2gengpt.data.files import whole_file
from r2gengpt.errors import InputError

DECODING = "decoding.json"
OLD_PENALTY = 2.0
"""The repetition penalty that checkpoints hold from when it was the default; with one beam it ruins every text."""


@dataclass(frozen=True)
class Penalties:
    """What keeps a text from repeating itself."""

    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0

    def __str__(self) -> str:
        return f"repetition_penalty {self.repetition_penalty}, no_repeat_ngram_size {self.no_repeat_ngram_size}"


@dataclass(frozen=True)
class ChosenDecoding:
    """The penalties that scored best on the validation split; `trials` has the score of each that was tried."""

    beams: Penalties
    one_beam: Penalties
    studies: int
    trials: tuple[Mapping[str, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As it stands in decoding.json."""
        return asdict(self)


@dataclass(frozen=True)
class Decodings:
    """The settings of one model, lengths and penalties resolved: of a whole report, and of one that is streamed."""

    whole: DecodeConfig
    streamed: DecodeConfig


def read_chosen(directory: Path) -> ChosenDecoding | None:
    """What training chose, or None where it chose nothing (an older checkpoint, an original file).

    Raises:
        InputError: the file is damaged.
    """
    path = directory / DECODING
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        parts = {name: Penalties(**content[name]) for name in ("beams", "one_beam")}
        for part in parts.values():
            DecodeConfig(**asdict(part))  # in range
        return ChosenDecoding(**parts, studies=int(content["studies"]), trials=tuple(content["trials"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}: {error}): train again, or remove it") from None


def write_chosen(directory: Path, chosen: ChosenDecoding) -> None:
    """Write decoding.json, whole."""
    with whole_file(directory / DECODING) as path:
        path.write_text(json.dumps(chosen.to_json(), indent=1) + "\n", encoding="utf-8")


def decodings(settings: Mapping[str, Any], given: Mapping[str, Any], directory: Path) -> Decodings:
    """The decode settings of a model: the user's, over what training chose, over what it was trained with.

    Args:
        settings: stored with the model, the user's on top of them.
        given: the user's alone, with the name of a preset where one was set.
        directory: of the checkpoint, or an original file.

    Raises:
        InputError: a value is refused, or decoding.json is damaged.
    """
    chosen, dataset = read_chosen(directory), settings.get("dataset", "plain")
    one = _one_beam(chosen, settings, given)
    settings = {**settings, **DECODE_PRESETS.get(given.get("decode_preset", ""), {}), **given}
    fixed = {f.name: settings[f.name] for f in fields(Penalties) if settings.get(f.name) is not None}
    own = {f.name: settings[f.name] for f in fields(DecodeConfig) if f.name in settings}
    several = {} if chosen is None else asdict(chosen.beams)
    off = asdict(Penalties())
    streamed = DecodeConfig(**{**own, **off, **one, "beam_size": 1}).for_dataset(dataset)
    whole = DecodeConfig(**{**own, **off, **several, **fixed}).for_dataset(dataset)
    return Decodings(streamed if whole.beam_size == 1 else whole, streamed)


def _one_beam(chosen: ChosenDecoding | None, settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The penalties of one beam: never those that a checkpoint holds for several, but the user's own stand."""
    stored = {f.name: settings[f.name] for f in fields(Penalties) if settings.get(f.name) is not None}
    if chosen is not None:
        stored = asdict(chosen.one_beam)
    elif settings.get("beam_size", 3) != 1 or "beam_size" in given or stored.get("repetition_penalty") == OLD_PENALTY:
        stored["repetition_penalty"] = 1.0
    return {**stored, **{f.name: given[f.name] for f in fields(Penalties) if f.name in given}}
