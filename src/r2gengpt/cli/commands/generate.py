"""`r2gengpt generate IMAGE…`: the report of one study; the images are its views."""

import sys
from pathlib import Path

from r2gengpt.cli import bridge
from r2gengpt.cli.choice import ContextFlags, FilmFlags, ModelFlags, choice_of, dicom_of
from r2gengpt.cli.console import start_logging
from r2gengpt.cli.delivery import GenerateFlags, check_delivery, check_evidence, check_referred, deliver_report
from r2gengpt.config import DecodeConfig, ModelConfig
from r2gengpt.errors import InputError
from r2gengpt.settings import CellConfig, GuardConfig, PlacementConfig, ReviewConfig, WriterConfig
from r2gengpt.text.written import NOTICE

FLAGS = (
    ModelFlags,
    GenerateFlags,
    FilmFlags,
    ContextFlags,
    ModelConfig,
    PlacementConfig,
    DecodeConfig,
    WriterConfig,
    ReviewConfig,
    GuardConfig,
    CellConfig,
)
COMMON = (
    "model", "format", "output", "stream", "evidence",
    "accelerator", "beam_size", "quantization", "runtime", "abstain_below",
)  # fmt: skip
"""The flags that most calls need."""


def parser() -> bridge.Parser:
    """Flags of the command."""
    made = bridge.Parser(
        "r2gengpt generate",
        "Write the report of one study; the images are its views. A draft for research, not for diagnosis.",
        common=COMMON,
        example="r2gengpt generate frontal.png lateral.png --format json",
    )
    made.add_argument("images", nargs="+", metavar="IMAGE", help="PNG, JPEG or DICOM files: the views of ONE study")
    bridge.add_flags(made, FLAGS)
    return made


def main(argv: list[str]) -> None:
    """Parse and run; prints the report, or JSON with its provenance."""
    parsed = bridge.parsed(parser(), argv, FLAGS)
    flags, choice = parsed.settled(GenerateFlags), choice_of(parsed)
    check_stream(flags, parsed)
    parsed.check_output(flags.output, "images", "prior", "prior_report", "model")

    from r2gengpt.films.cell.pool import open_cell
    from r2gengpt.films.sources import prior_of, study_of
    from r2gengpt.opening import found_writer, opened, quickest, side_of

    open_cell(parsed.settled(CellConfig), workers=1).warm()  # what decodes images comes up meanwhile
    check_delivery(flags, parsed.settled(PlacementConfig))
    beside = parsed.settled(ContextFlags)
    context = beside.context
    choice = quickest(choice, torch=bool(flags.maps or context or beside.prior))
    located = found_writer(choice)
    check_evidence(flags, torch=located is not None)
    films = [Path(name) for name in parsed.space.images]
    side = side_of(choice, located)
    study = study_of(films, dicom_of(parsed), side)  # a bad image is named before a long load
    before = prior_of([Path(name) for name in beside.prior], dicom_of(parsed), side)
    check_referred(flags, study)
    start_logging(libraries=located is not None)
    reporter = opened(choice, located)
    deliver_report(reporter, study, flags, context, before)
    print(NOTICE, file=sys.stderr)


def check_stream(flags: GenerateFlags, parsed: bridge.Parsed) -> None:
    """Refuse a stream of what is known at the end only.

    Raises:
        InputError: marks for review, or several beams.
    """
    threshold, beams = parsed.settled(ReviewConfig).abstain_below, parsed.values.get("beam_size", 1)
    if flags.stream and flags.format == "text" and threshold is not None:
        words = "what needs review is known at the end; leave out `stream`"
        raise InputError(words, field="abstain_below", value=threshold)
    if flags.stream and beams != 1:
        raise InputError("a stream needs `beam_size` 1", field="beam_size", value=beams)
