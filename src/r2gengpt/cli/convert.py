"""`r2gengpt convert FILE.pth`: a checkpoint of the original R2GenGPT as one of ours. It runs nothing of the file's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r2gengpt.cli import bridge
from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, PlacementConfig

CONFIGS = (ModelConfig, PlacementConfig, DataConfig, DecodeConfig)


def main(argv: list[str]) -> None:
    """Parse and run; prints the checkpoint directory."""
    parser = bridge.Parser(prog="r2gengpt convert", allow_abbrev=False, description=__doc__)
    parser.add_argument("file", metavar="FILE.pth", help="the original's checkpoint")
    parser.add_argument("--output", required=True, metavar="DIR", help="checkpoint directory to write")
    parser.add_argument("--check", nargs="?", const=True, default=True, type=bridge.parse_bool, metavar="BOOL",
                        help="build the model and see that every tensor fits; False where its parts are not at hand "
                        "(default: True)")  # fmt: skip
    bridge.add_flags(parser, CONFIGS)
    space = bridge.parse(parser, argv)
    given = bridge.with_preset(bridge.given_values(space, CONFIGS))
    from r2gengpt.cli.console import start_logging

    start_logging()
    from r2gengpt.original.convert import convert_original

    source = Path(space.file)

    def card(settings: Mapping[str, Any], original: Any) -> str:
        from r2gengpt.training.card import model_card

        return (
            f"{model_card(settings, {})}\nnot measured: converted from `{source.name}` of the original R2GenGPT "
            f"(epoch {original.epoch}, step {original.step}).\n"
        )

    where = bridge.make(PlacementConfig, given)
    convert_original(source, Path(space.output), given, where, check=space.check, card=card)
    print(space.output)
