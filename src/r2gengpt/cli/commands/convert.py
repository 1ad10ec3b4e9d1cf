"""`r2gengpt convert FILE.pth`: a checkpoint of the original R2GenGPT as one of ours. It runs nothing of the file's."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from r2gengpt.cli import bridge
from r2gengpt.cli.console import start_logging
from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, Stored, TrainConfig
from r2gengpt.files import check_new_model, check_readable
from r2gengpt.options import Checked, Override, option
from r2gengpt.settings import PlacementConfig

if TYPE_CHECKING:
    from r2gengpt.original.read import Original


@dataclass(frozen=True)
class ConvertFlags(Checked):
    """How the file is converted."""

    check: bool = option(True, "build the model and see that every tensor fits; False where its parts are not at hand")


FLAGS = (ConvertFlags, ModelConfig, PlacementConfig, DataConfig, DecodeConfig)
COMMON = ("output", "check", "vision_model", "lm_model", "dataset", "trust_remote_code")
"""The flags that most calls need."""


def parser() -> bridge.Parser:
    """Flags of the command."""
    made = bridge.Parser(
        "r2gengpt convert",
        "A checkpoint of the original R2GenGPT as one of ours. Nothing in the file is run.",
        common=COMMON,
        example="r2gengpt convert checkpoint.pth --output converted",
    )
    made.add_argument("file", metavar="FILE.pth", help="the original's checkpoint")
    made.add_argument("--output", required=True, metavar="DIR", help="checkpoint directory to write")
    bridge.add_flags(made, FLAGS)
    return made


def main(argv: list[str]) -> None:
    """Parse and run; prints the checkpoint directory."""
    parsed = bridge.parsed(parser(), argv, FLAGS)
    asked = Stored(
        model=parsed.override(ModelConfig),
        data=parsed.override(DataConfig),
        decode=parsed.decode,
        train=Override(TrainConfig),
    )
    check_new_model(Path(parsed.space.output))
    check_readable(Path(parsed.space.file), parsed.space.file)  # before anything large is loaded
    start_logging()
    from r2gengpt.original.convert import convert_original

    source, output, where = Path(parsed.space.file), Path(parsed.space.output), parsed.settled(PlacementConfig)
    check = parsed.settled(ConvertFlags).check
    convert_original(source, output, asked, where, check=check, card=lambda *of: card(source, *of))
    print(parsed.space.output)


def card(source: Path, stored: Stored, original: "Original") -> str:
    """The card of a converted model."""
    from r2gengpt.training.callbacks import model_card

    text = model_card(stored.model.settled(), stored.dataset, {})
    trained = f"(epoch {original.epoch}, step {original.step})"
    return f"{text}\nnot measured: converted from `{source.name}` of the original R2GenGPT {trained}.\n"
