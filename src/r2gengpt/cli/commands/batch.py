"""`r2gengpt batch`: reports of many studies, on this machine or a cluster; started again, it goes on where it was."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from r2gengpt.cli import bridge
from r2gengpt.cli.choice import ModelFlags, choice_of
from r2gengpt.cli.console import quiet_libraries, return_large_blocks, start_logging
from r2gengpt.config import DecodeConfig, ModelConfig
from r2gengpt.locate import locate_writer
from r2gengpt.settings import BatchConfig, CellConfig, PlacementConfig, ReviewConfig, WriterConfig

if TYPE_CHECKING:
    from r2gengpt.batch.driver import BulkWork
    from r2gengpt.batch.model import BulkModel

FLAGS = (BatchConfig, ModelFlags, ModelConfig, PlacementConfig, DecodeConfig, WriterConfig, ReviewConfig, CellConfig)
COMMON = ("input", "output", "model", "base_dir", "split", "format", "batch_size", "actors", "threads", "address")
"""The flags that most calls need."""


def parser() -> bridge.Parser:
    """Flags of the command."""
    made = bridge.Parser(
        "r2gengpt batch",
        "Write the reports of many studies, on this machine or a Ray cluster. Started again, it goes on where "
        "it was. Prints the path of the manifest.",
        common=COMMON,
        example="r2gengpt batch --input annotation.json --output run",
    )
    bridge.add_flags(made, FLAGS)
    return made


def main(argv: list[str]) -> None:
    """Parse and run; prints the path of the manifest."""
    parsed = bridge.parsed(parser(), argv, FLAGS)
    config, cell = parsed.settled(BatchConfig), parsed.settled(CellConfig)
    choice = choice_of(parsed, field="delta", no_drafts_in="batch")
    name = choice.name if choice.name == "embedded" else str(Path(choice.name).absolute())
    located = locate_writer(replace(choice, name=name))  # before anything large is loaded
    from r2gengpt.batch.driver import check_installed, run_batch

    check_installed()
    from r2gengpt.batch.listing import read_listing
    from r2gengpt.batch.model import BulkModel

    start_logging(libraries=False)  # how many studies there are is told before PyTorch is loaded
    model = BulkModel(located, config, cell, begin)
    source = Path(config.input)
    listing = lambda: read_listing(source, config.base_dir, config.split)  # noqa: E731  # read once nobody else writes
    print(run_batch(Path(config.output), listing, model.settings, lambda: work_of(model)))


def work_of(model: "BulkModel") -> "BulkWork":
    """What the run's workers do, the libraries quiet."""
    quiet_libraries()
    return model.work()


def begin() -> None:
    """What each process of the run does first."""
    start_logging()
    return_large_blocks()
