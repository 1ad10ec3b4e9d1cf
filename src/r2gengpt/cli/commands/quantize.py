"""`r2gengpt quantize`: a language model once into 8 or 4 bits, as a directory for --lm_model. No training."""

from pathlib import Path

from r2gengpt.cli import bridge
from r2gengpt.config import ModelConfig
from r2gengpt.files import check_new_model, check_part
from r2gengpt.parts.embedded.cache import resolve
from r2gengpt.settings import PlacementConfig

FLAGS = (ModelConfig, PlacementConfig)
READ = ("lm_model", "quantization", "double_quant", "low_resource", "dtype", "trust_remote_code")
"""Settings that concern the language model's weights alone."""
COMMON = ("lm_model", "output", "quantization", "double_quant", "dtype")
"""The flags that most calls need."""


def parser() -> bridge.Parser:
    """Flags of the command."""
    made = bridge.Parser(
        "r2gengpt quantize",
        "A language model once into 8 or 4 bits, as a directory for --lm_model.",
        common=COMMON,
        example="r2gengpt quantize --lm_model NAME --quantization nf4 --output small",
    )
    made.add_argument("--output", required=True, metavar="DIR", help="directory to write; must not exist")
    bridge.add_flags(made, FLAGS, only=READ)
    return made


def main(argv: list[str]) -> None:
    """Parse and run; prints the directory."""
    parsed = bridge.parsed(parser(), argv, FLAGS, only=READ)
    config, where = parsed.settled(ModelConfig), parsed.settled(PlacementConfig)
    check_new_model(Path(parsed.space.output))
    check_part(resolve(config.lm_model), "lm_model")
    from r2gengpt.cli.console import start_logging

    start_logging()
    from r2gengpt.parts.quantize import quantize

    quantize(config.lm_model, where, Path(parsed.space.output))
    print(parsed.space.output)
