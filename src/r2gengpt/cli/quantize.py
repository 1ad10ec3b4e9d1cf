"""`r2gengpt quantize`: a language model once into 8 or 4 bits, as a directory for --lm_model. No training."""

from pathlib import Path

from r2gengpt.cli import bridge
from r2gengpt.config import ModelConfig, PlacementConfig

CONFIGS = (ModelConfig, PlacementConfig)
READ = ("lm_model", "quantization", "double_quant", "low_resource", "dtype", "trust_remote_code")
"""Settings that concern the language model's weights alone."""


def main(argv: list[str]) -> None:
    """Parse and run; prints the directory."""
    parser = bridge.Parser(prog="r2gengpt quantize", allow_abbrev=False, description=__doc__)
    parser.add_argument("--output", required=True, metavar="DIR", help="directory to write; must not exist")
    bridge.add_flags(parser, CONFIGS, only=READ)
    given = bridge.given_values(space := bridge.parse(parser, argv), CONFIGS)
    given = {name: value for name, value in given.items() if name in READ}
    config, where = bridge.make(ModelConfig, given), bridge.make(PlacementConfig, given)
    from r2gengpt.cli.console import start_logging

    start_logging()
    from r2gengpt.build.quantize import quantize

    quantize(config.lm_model, where, Path(space.output))
    print(space.output)
