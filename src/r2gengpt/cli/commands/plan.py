"""`r2gengpt plan`: what a model costs, from its configuration alone. Takes the flags of `train`; loads no weights."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from r2gengpt.cli import bridge
from r2gengpt.cli.console import flag
from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, TrainConfig
from r2gengpt.errors import InputError, spelt
from r2gengpt.locate import check_parts
from r2gengpt.settings import PlacementConfig
from r2gengpt.text.written import json_text

if TYPE_CHECKING:
    from r2gengpt.parts.fitting import Fit
    from r2gengpt.parts.machine import Machine
    from r2gengpt.parts.plan import MemoryPlan

FLAGS = (ModelConfig, PlacementConfig, DataConfig, DecodeConfig, TrainConfig)
COLUMNS = (
    *("weights", "gradients", "moments", "activations", "logits", "scratch", "training"),
    *("kv_cache", "new_logits", "generation"),
)
COMMON = (
    "lm_model", "vision_model", "llm_use_lora", "quantization", "dtype",
    "batch_size", "gradient_checkpointing", "beam_size", "views", "format",
)  # fmt: skip
"""The flags that most calls need."""


def parser() -> bridge.Parser:
    """Flags of the command."""
    made = bridge.Parser(
        "r2gengpt plan",
        "Parameters and memory of a model, from its configuration alone; whether this machine is large "
        "enough, and which setting would make it so. Loads no weights.",
        common=COMMON,
        example="r2gengpt plan --lm_model NAME --quantization nf4",
    )
    made.add_argument("--format", default="text", choices=("text", "json"), help="what is printed")
    made.add_argument("--views", default=1, type=int, metavar="IMAGES", help="images a study (default: 1)")
    bridge.add_flags(made, FLAGS)
    return made


def main(argv: list[str]) -> None:
    """Parse and run; prints a table in GB (10⁹ bytes), or JSON in bytes."""
    parsed = bridge.parsed(parser(), argv, FLAGS)
    config, data, where = parsed.settled(ModelConfig), parsed.settled(DataConfig), parsed.settled(PlacementConfig)
    decode, train, space = parsed.settled(DecodeConfig), parsed.settled(TrainConfig), parsed.space
    if space.views < 1:
        raise InputError(f"--views {space.views}: must be at least 1")
    check_parts(vars(config))
    from r2gengpt.cli.console import start_logging

    start_logging()
    from r2gengpt.parts.fitting import Settings, fit
    from r2gengpt.parts.loading import settled
    from r2gengpt.parts.machine import this_machine

    where, plain = settled(config.lm_model, where), PlacementConfig(trust_remote_code=where.trust_remote_code)
    stored = settled(config.lm_model, plain).quantization != "none"
    settings, machine = Settings(config, data, decode, train, where, space.views, stored), this_machine()
    planned = settings.plan
    fits = [fit(settings, use, machine) for use in settings.uses]
    if space.format == "json":
        print(json_text({**as_json(planned), **machine_json(machine, fits)}, indent=1, ascii_only=True))
    else:
        print(as_text(planned, data, decode, where), "", *fit_lines(machine, fits), sep="\n")


def as_json(planned: "MemoryPlan") -> dict[str, Any]:
    """The plan in bytes, with its sums."""
    modes = [{**asdict(m), "training": m.training, "generation": m.generation} for m in planned.modes]
    return {**asdict(planned), "modes": modes}


def machine_json(machine: "Machine", fits: "Sequence[Fit]") -> dict[str, Any]:
    """The machine and what fits it, sizes in bytes, settings as flags."""
    rows = {
        one.use: {**asdict(one), "fits": one.fits, "can_fit": one.can_fit, "remedies": [*map(spelt_flag, one.remedies)]}
        for one in fits
    }
    return {"machine": asdict(machine), "fits": rows}


def spelt_flag(words: str) -> str:
    """Settings between backticks as flags."""
    return spelt(words, flag)


def fit_lines(machine: "Machine", fits: "Sequence[Fit]") -> Iterator[str]:
    """Whether this machine is large enough, and which settings would make it so."""
    yield f"This machine has {machine.words}."
    for one in fits:
        need = f"{one.use:<11} {one.form} needs {one.needs / 1e9:.2f} GB, {one.free / 1e9:.2f} are free"
        flags = " ".join(map(spelt_flag, one.remedies))
        slow = (
            " (slow: this processor emulates bfloat16)" if "--dtype bfloat16" in flags and not machine.bfloat16 else ""
        )
        if one.fits:
            yield f"{need}: large enough."
        elif one.can_fit:
            yield f"{need}: too small. Large enough with {flags}{slow}: {one.then / 1e9:.2f} GB."
        else:
            least = f"The least is {one.then / 1e9:.2f} GB, with {flags}. " if flags else ""
            yield f"{need}: too small. {least}Take a smaller language model{LAST[one.use]}."


LAST = {"training": "", "generation": ", or --device_map auto, which spreads layers over memory and disk and is slow"}
"""What is left where nothing makes a use fit."""


def asked_for(config: PlacementConfig) -> str | None:
    """The row that the flags name, None where they leave it open."""
    from r2gengpt.parts.fitting import form_of

    open_type = config.dtype == "auto" and config.quantization in ("auto", "none")
    return None if open_type else form_of(config, half=False)


def as_text(planned: "MemoryPlan", data: DataConfig, decode: DecodeConfig, where: PlacementConfig) -> str:
    """A row for each mode, GB; the row that the flags name is marked."""
    chosen, rows = asked_for(where), [["GB", *(name.replace("_", " ") for name in COLUMNS), ""]]
    for mode in planned.modes:
        sizes = [f"{getattr(mode, name) / 1e9:.2f}" for name in COLUMNS]
        rows.append([mode.name, *sizes, "<- your flags" if mode.name == chosen else ""])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:-1], widths[1:-1]), row[-1]]) for row in rows]
    saved = (planned.logits_everywhere - planned.modes[0].logits) / 1e9
    uses = [
        f"training    batch {data.batch_size}, {planned.positions} positions a study, logits on "
        f"{planned.logit_positions} of them (on all: {saved:.2f} GB more)",
        f"generation  batch {data.test_batch_size}, {decode.beam_size} beams",
    ]
    if not planned.positions:
        uses = [f"training    batch {data.batch_size}, of a finding head without the language model"]
    lines = [
        f"parameters  {planned.parameters:,}, trained {planned.trained:,}",
        *uses,
        "",
        *(line.rstrip() for line in table),
        "",
        "Computed from the configuration. Not counted: what single operations need and free, the allocator,",
        f"and what Python and libraries hold of main memory: {planned.process / 1e9:.2f} GB.",
    ]
    return "\n".join(lines)
