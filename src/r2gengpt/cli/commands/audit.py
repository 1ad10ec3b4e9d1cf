"""`r2gengpt audit`: a model, or an endpoint, asked about changed films → a verdict per finding."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from r2gengpt.cli import bridge
from r2gengpt.cli.choice import FilmFlags, ModelFlags, choice_of, dicom_of
from r2gengpt.cli.console import as_flag, start_logging
from r2gengpt.config import DecodeConfig, ModelConfig
from r2gengpt.errors import InputError, spelt
from r2gengpt.files import check_readable, check_writable
from r2gengpt.settings import AuditConfig, PlacementConfig, ReviewConfig, WriterConfig

if TYPE_CHECKING:
    from r2gengpt.evaluation.audit.subjects import Subject

FLAGS = (AuditConfig, ModelFlags, FilmFlags, ModelConfig, PlacementConfig, DecodeConfig, WriterConfig, ReviewConfig)
COMMON = (
    "model", "annotation", "base_dir", "output", "studies", "sources",
    "split", "endpoint", "endpoint_model", "accelerator",
)  # fmt: skip
"""The flags that most calls need."""


def parser() -> bridge.Parser:
    """Flags of the command."""
    made = bridge.Parser(
        "r2gengpt audit",
        "Whether a model reads the film: what it answers to true, blank, exchanged, flipped and covered films and to "
        "contradicting words. A verdict per finding here, audit.json and audit.html in the output.",
        common=COMMON,
        example="r2gengpt audit --model save/iu/v1 --annotation annotation.json --base_dir images --output audit",
    )
    bridge.add_flags(made, FLAGS)
    return made


def main(argv: list[str]) -> None:
    """Parse and run; prints the verdicts and the path of the page."""
    parsed = bridge.parsed(parser(), argv, FLAGS)
    config = parsed.settled(AuditConfig)
    output = Path(config.output)
    check_writable(output, "output")
    check_readable(Path(config.annotation), f"`annotation` {config.annotation}")  # before anything large is loaded
    start_logging(libraries=config.endpoint is None)
    from r2gengpt.data.annotation import check_images, read_annotation
    from r2gengpt.evaluation.audit.audit import run_audit
    from r2gengpt.evaluation.audit.summary import terminal_lines

    splits = read_annotation(config.annotation, config.base_dir, (config.split,), dicom=dicom_of(parsed))
    studies = splits[config.split]
    check_images(studies)
    subject = endpoint_of(config, parsed) if config.endpoint is not None else model_of(parsed)
    audit = run_audit(subject, studies, config, output)
    print(*(spelt(line, as_flag) for line in terminal_lines(audit)), sep="\n")
    print(output / "audit.html")


def endpoint_of(config: AuditConfig, parsed: bridge.Parsed) -> "Subject":
    """The server that is asked.

    Raises:
        InputError: a model is named too, or its address is none.
    """
    from r2gengpt.evaluation.audit.endpoint import Endpoint

    if "model" in parsed.values:
        raise InputError(
            "`endpoint` is asked in place of a model: give one", field="model", value=parsed.values["model"]
        )
    key = os.environ.get(config.endpoint_key, "")
    return Endpoint(
        str(config.endpoint), str(config.endpoint_model), config.endpoint_prompt, key, config.endpoint_timeout
    )


def model_of(parsed: bridge.Parsed) -> "Subject":
    """The model that is asked, loaded.

    Raises:
        InputError: no model there, or one that writes no reports.
    """
    from r2gengpt.evaluation.audit.subjects import ModelSubject
    from r2gengpt.opening import found_writer, opened

    choice = choice_of(parsed, no_drafts_in="audit")
    return ModelSubject(opened(choice, found_writer(choice)))
