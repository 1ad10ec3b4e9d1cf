"""What to try where memory is at an end: three things by command, in order, none that is set already. Frees nothing."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from r2gengpt.cli import bridge
from r2gengpt.config import KEPT, LENGTHS, DataConfig, DecodeConfig, ModelConfig, TrainConfig
from r2gengpt.errors import InputError
from r2gengpt.settings import PlacementConfig

CONFIGS = (ModelConfig, PlacementConfig, DataConfig, DecodeConfig, TrainConfig)
WHOLE = "whole"
"""Key of the settings that says that the model is one plain directory, whose parts are settled."""
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Remedy:
    """Flags that save memory, and whether they would change anything in a run of these settings."""

    advice: Callable[[Settings], str]
    helps: Callable[[Settings], bool]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, PyTorch's CPU allocator or a GPU said that memory is at an end; told by name and words."""
    words = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(phrase in words for phrase in ("out of memory", "not enough memory", "can't allocate memory"))
    )


def _says(text: str) -> Callable[[Settings], str]:
    return lambda settings: text


def _same_step(settings: Settings) -> str:
    batches = settings["batch_size"] * settings["accumulate_grad_batches"]
    return f"--batch_size 1 --accumulate_grad_batches {batches} (the same step, less at once)"


def _is_quantized(settings: Settings) -> bool:
    return settings["quantization"] not in ("auto", "none") or bool(settings["low_resource"])


def _learnt(settings: Settings) -> int:
    return int(settings["max_length"] or LENGTHS[settings["dataset"]][0])


ONE_BEAM = Remedy(_says("--beam_size 1 (one beam's cache)"), lambda s: s["beam_size"] > 1)
HALF = Remedy(
    _says("--dtype bfloat16 (language model in half the memory)"),
    lambda s: s["dtype"] in ("auto", "float32") and not _is_quantized(s),
)
FOUR_BITS = Remedy(
    _says("--quantization nf4 (language model in 4 bits)"),
    lambda s: s["quantization"] not in ("nf4", "fp4") and not s["low_resource"] and not s[WHOLE],
)
SMALLER = Remedy(_says("a smaller language model (`r2gengpt plan` says what one needs)"), lambda s: True)
REMEDIES = {
    "train": (
        Remedy(_same_step, lambda s: s["batch_size"] > 1),
        Remedy(
            _says("--gradient_checkpointing True (less kept, more computed)"), lambda s: not s["gradient_checkpointing"]
        ),
        FOUR_BITS,
        HALF,
        Remedy(_says("--val_batch_size 1 (in validation)"), lambda s: s["val_batch_size"] > 1),
        Remedy(_says("--beam_size 1 (in validation)"), lambda s: s["beam_size"] > 1),
        Remedy(_says("--max_length 40 (shorter reports learnt)"), lambda s: _learnt(s) > 40),
        SMALLER,
    ),
    "test": (
        Remedy(_says("--test_batch_size 1"), lambda s: s["test_batch_size"] > 1),
        ONE_BEAM,
        HALF,
        FOUR_BITS,
        SMALLER,
    ),
    "generate": (ONE_BEAM, HALF, FOUR_BITS, SMALLER),
    "export": (HALF, SMALLER),
}
"""What saves memory, the mildest first, by command; others have only the last."""


def _values(argv: Sequence[str]) -> tuple[dict[str, Any], str | None]:
    """What the words of a command set, and the model that they name."""
    parser = bridge.Parser(add_help=False)
    bridge.add_flags(parser, CONFIGS)
    parser.add_argument("--model")
    parser.add_argument("--stream", nargs="?", const=True, default=False, type=bridge.parse_bool)
    space, _ = parser.parse_known_args(list(argv))
    values = bridge.given_values(space, CONFIGS)
    if space.stream:
        values.setdefault("beam_size", 1)
    return values, space.model or values.get("ckpt_file") or values.get("delta_file")


def _stored(name: str) -> dict[str, Any]:
    """A JSON object beside the weights that a name means; nothing where there is none."""
    for path in (Path(name), Path(name) / "best", Path(name) / "last"):
        if (path / "config.json").is_file():
            value = json.loads((path / "config.json").read_text(encoding="utf-8"))
            return value if isinstance(value, dict) else {}
    return {}


def settings_of(command: str, argv: Sequence[str]) -> dict[str, Any]:
    """The settings that a command ran with: the defaults, under those stored with its model, under those given."""
    values, model = _values(argv)
    defaults = {f.name: f.default for config in CONFIGS for f in fields(config)}
    evaluates = command != "train" or values.get("test") or values.get("validate")
    stored = _stored(model) if model is not None and evaluates else {}
    kept = {name: value for name, value in stored.items() if name in KEPT}
    settings = {**defaults, **kept, **values, WHOLE: stored.get("model_type") == "r2gengpt"}
    if "quantization_config" in _stored(str(settings["lm_model"])) and settings["quantization"] == "auto":
        settings["quantization"] = "nf4"  # the directory holds quantized weights, of whichever form
    return settings


def what_to_try(command: str, argv: Sequence[str]) -> str:
    """The next three things to try, in order, with their flags."""
    try:
        settings = settings_of(command, argv)
    except (InputError, argparse.ArgumentError, OSError, ValueError):
        return "a machine with more memory"
    if settings["test"] or settings["validate"]:
        command = "test"
    found = [r.advice(settings) for r in REMEDIES.get(command, (SMALLER,)) if r.helps(settings)]
    return ", ".join(found[:3])
