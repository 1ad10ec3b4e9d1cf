"""`r2gengpt plan`: what a model costs, from its configuration alone. Takes the flags of `train`; loads no weights."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from r2gengpt.cli import bridge
from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, PlacementConfig, TrainConfig
from r2gengpt.errors import InputError
from r2gengpt.text.written import json_text

if TYPE_CHECKING:
    from r2gengpt.build.plan import Plan

CONFIGS = (ModelConfig, PlacementConfig, DataConfig, DecodeConfig, TrainConfig)
COLUMNS = (
    *("weights", "gradients", "moments", "activations", "logits", "scratch", "training"),
    *("kv_cache", "new_logits", "generation"),
)


def main(argv: list[str]) -> None:
    """Parse and run; prints a table in GB (10⁹ bytes), or JSON in bytes."""
    parser = bridge.Parser(prog="r2gengpt plan", allow_abbrev=False, description=__doc__)
    parser.add_argument("--format", default="text", choices=("text", "json"), help="what is printed")
    parser.add_argument("--views", default=1, type=int, metavar="N", help="images a study (default: 1)")
    bridge.add_flags(parser, CONFIGS)
    space = bridge.parse(parser, argv)
    given = bridge.given_values(space, CONFIGS)
    config, data = bridge.make(ModelConfig, given), bridge.make(DataConfig, given)
    decode, train = bridge.make(DecodeConfig, given), bridge.make(TrainConfig, given)
    where = bridge.make(PlacementConfig, given)
    if space.views < 1:
        raise InputError(f"--views {space.views}: must be at least 1")
    from r2gengpt.cli.console import start_logging

    start_logging()
    from r2gengpt.build.plan import plan

    planned = plan(config, data, decode, train, where, views=space.views)
    if space.format == "json":
        print(json_text(as_json(planned), indent=1, ascii_only=True))
    else:
        print(as_text(planned, data, decode, where))


def as_json(planned: "Plan") -> dict[str, Any]:
    """The plan in bytes, with its sums."""
    modes = [{**asdict(m), "training": m.training, "generation": m.generation} for m in planned.modes]
    return {**asdict(planned), "modes": modes}


def asked_for(config: PlacementConfig) -> str | None:
    """The row that the flags name, None where they leave it open (fp4 has nf4's size, float16 bfloat16's)."""
    if config.quantization in ("nf4", "fp4"):
        return "nf4 double" if config.double_quant else "nf4"
    if config.quantization == "int8":
        return "int8"
    return {"float32": "float32", "bfloat16": "bfloat16", "float16": "bfloat16"}.get(config.dtype)


def as_text(planned: "Plan", data: DataConfig, decode: DecodeConfig, where: PlacementConfig) -> str:
    """A row for each mode, GB; the row that the flags name is marked."""
    chosen, rows = asked_for(where), [["GB", *(name.replace("_", " ") for name in COLUMNS), ""]]
    for mode in planned.modes:
        sizes = [f"{getattr(mode, name) / 1e9:.2f}" for name in COLUMNS]
        rows.append([mode.name, *sizes, "<- your flags" if mode.name == chosen else ""])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:-1], widths[1:-1]), row[-1]]) for row in rows]
    saved = (planned.logits_everywhere - planned.modes[0].logits) / 1e9
    lines = [
        f"parameters  {planned.parameters:,}, trained {planned.trained:,}",
        f"training    batch {data.batch_size}, {planned.positions} positions a study, logits on "
        f"{planned.logit_positions} of them (on all: {saved:.2f} GB more)",
        f"generation  batch {data.test_batch_size}, {decode.beam_size} beams",
        "",
        *(line.rstrip() for line in table),
        "",
        "Computed from the configuration. Not counted: what single operations need and free, the allocator,",
        f"and what Python and libraries hold of main memory: {planned.process / 1e9:.2f} GB.",
    ]
    return "\n".join(lines)
