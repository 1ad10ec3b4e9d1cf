"""`r2gengpt serve`: the model behind HTTP, for OpenAI's clients and for forms, until a signal."""

import importlib.util
import logging
import os
from pathlib import Path
from typing import Any

from r2gengpt.cli import bridge
from r2gengpt.config import CellConfig, DecodeConfig, ModelConfig, PlacementConfig, ReviewConfig, ServeConfig
from r2gengpt.errors import InputError
from r2gengpt.text.notice import NOTICE

CONFIGS = (ModelConfig, PlacementConfig, DecodeConfig, ReviewConfig, ServeConfig, CellConfig)
NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
log = logging.getLogger("r2gengpt.cli")


def main(argv: list[str]) -> None:
    """Parse and run; prints the address, then serves."""
    parser = bridge.Parser(prog="r2gengpt serve", allow_abbrev=False, description=__doc__)
    parser.add_argument(
        "--model", default="embedded", metavar="DIR", help="trained model, or an original .pth (default: embedded)"
    )
    parser.add_argument("--accelerator", default="auto", choices=("auto", "cpu", "gpu", "cuda", "mps"), help="device")
    bridge.add_flags(parser, CONFIGS)
    space = bridge.parse(parser, argv)
    given = bridge.given_values(space, CONFIGS)
    settings, limits = bridge.make(ServeConfig, given), bridge.make(CellConfig, given)
    given = {name: value for name, value in given.items() if name not in {*vars(settings), *vars(limits)}}
    if bridge.make(DecodeConfig, given).speculate:
        raise InputError("--speculate True: drafts would come from other studies' reports: not in serve")
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise InputError(f"serve needs {', '.join(missing)}: pip install 'r2gengpt[serve]'")
    from r2gengpt.data.cell import close_cell, open_cell

    open_cell(limits).warm()  # what decodes images comes up meanwhile
    try:
        start(space.model, space.accelerator, given, settings)
    finally:
        close_cell()


def start(model: str, accelerator: str, given: dict[str, Any], settings: ServeConfig) -> None:
    """Listen, load and serve.

    Raises:
        InputError: no such model, keys or address.
    """
    from r2gengpt.cli.console import return_large_blocks, start_logging

    start_logging()
    return_large_blocks()
    from r2gengpt.cli.models import device_of, locate_model
    from r2gengpt.serving.app import create_app
    from r2gengpt.serving.generator import Generator
    from r2gengpt.serving.log_lines import limit_lines
    from r2gengpt.serving.server import address_of, listen, serve, warn_if_open

    device = device_of(accelerator)
    locate_model(model, "--model", given)  # what is wrong with the flags is said before anybody can connect
    generator = Generator(settings.slots, settings.places)
    app = create_app(generator, settings)
    listening = listen(settings)
    limit_lines()
    warn_if_open(settings)
    print(f"r2gengpt serves at {address_of(listening)} ({NOTICE})", flush=True)
    generator.start(lambda: load(model, device, given), lambda: log.info("ready"))
    if not serve(app, generator, settings, listening):
        os._exit(0)  # the thread is within a pass for nobody: taking the interpreter down under it may crash


def load(model: str, device: str, given: dict[str, Any]) -> Any:
    """The model of the flag as the server uses it, with its hashes.

    Raises:
        InputError: parts that cannot be loaded, or an engine that cannot serve them.
    """
    from r2gengpt.build import place
    from r2gengpt.cli.models import load_model
    from r2gengpt.generation.confidence import calibration_beside
    from r2gengpt.generation.decode import use_engine
    from r2gengpt.generation.decoding import decodings
    from r2gengpt.serving.generator import Served
    from r2gengpt.serving.provenance import origin_of

    below = bridge.make(ReviewConfig, given).abstain_below
    given = {name: value for name, value in given.items() if name != "abstain_below"}
    built, settings, directory = load_model(model, "--model", given)
    decode = decodings({**settings, "speculate": False}, given, directory)
    calibration = calibration_beside(directory, decode.whole, below)
    place(built.model, device, settings.get("quantization", "none"))
    use_engine(built.model, decode.whole)
    origin = origin_of(built.model, settings, directory)
    return Served(Path(model).absolute().name, built, decode.whole, decode.streamed, origin, calibration, below)
