"""How a model's reports are decoded, by several beams and by one: chosen when training ends, kept beside the weights.

No tensors. A stream has one beam, which needs other penalties than several do.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from r2gengpt.config import DECODE_PRESETS, DecodeConfig
from r2gengpt.errors import InputError
from r2gengpt.files import write_whole
from r2gengpt.options import Override

DECODING = "decoding.json"
NOTHING = Override(DecodeConfig)
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
    write_whole(directory / DECODING, json.dumps(asdict(chosen), indent=1) + "\n")


def carry_chosen(source: Path, target: Path, streamed: DecodeConfig) -> None:
    """Write what training chose beside an export; of one beam with the export's own penalties, so that its flags stand.

    Args:
        source: directory of the checkpoint; without decoding.json nothing is written.
        target: the export's directory.
        streamed: how the export's model streams, with all resolved.

    Raises:
        InputError: the file is damaged.
    """
    if (chosen := read_chosen(source)) is not None:
        own = Penalties(**{f.name: getattr(streamed, f.name) for f in fields(Penalties)})
        write_chosen(target, replace(chosen, one_beam=own))


def decodings(
    stored: Override[DecodeConfig], asked: Override[DecodeConfig], preset: str | None, *, dataset: str, directory: Path
) -> Decodings:
    """The decode settings of a model: the user's, over what training chose, over what it was trained with.

    Args:
        stored: with the model.
        asked: by the user.
        preset: one of `DECODE_PRESETS`, which the user's own values overrule.
        dataset: whose lengths stand where they were left open.
        directory: of the checkpoint, or an original file.

    Raises:
        InputError: a value is refused, or decoding.json is damaged.
    """
    chosen = read_chosen(directory)
    wanted = stored.under(Override(DecodeConfig, DECODE_PRESETS[preset]) if preset else NOTHING).under(asked)
    several = {} if chosen is None else asdict(chosen.beams)
    own, off = wanted.values, asdict(Penalties())
    one = _one_beam(chosen, stored, asked)
    streamed = DecodeConfig(**{**own, **off, **one, "beam_size": 1}).for_dataset(dataset)
    whole = DecodeConfig(**{**own, **off, **several, **_penalties(wanted)}).for_dataset(dataset)
    return Decodings(streamed if whole.beam_size == 1 else whole, streamed)


def _penalties(override: Override[DecodeConfig]) -> dict[str, Any]:
    """Those that are set."""
    return {f.name: value for f in fields(Penalties) if (value := override.values.get(f.name)) is not None}


def _one_beam(
    chosen: ChosenDecoding | None, stored: Override[DecodeConfig], asked: Override[DecodeConfig]
) -> dict[str, Any]:
    """The penalties of one beam: never those that a checkpoint holds for several, but the user's own stand."""
    penalties = _penalties(stored.under(asked))
    if chosen is not None:
        penalties = asdict(chosen.one_beam)
    elif (
        stored.under(asked).values.get("beam_size", 3) != 1
        or "beam_size" in asked
        or penalties.get("repetition_penalty") == OLD_PENALTY
    ):
        penalties["repetition_penalty"] = 1.0
    return {**penalties, **_penalties(asked)}
