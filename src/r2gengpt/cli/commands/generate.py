"""`r2gengpt generate IMAGE…`: the report of one study; the images are its views."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from r2gengpt.cli import bridge
from r2gengpt.cli.choice import ContextFlags, FilmFlags, ModelFlags, choice_of, dicom_of
from r2gengpt.cli.console import start_logging
from r2gengpt.clinical.documents.forms import FORMS, check_films, check_form
from r2gengpt.config import DecodeConfig, ModelConfig
from r2gengpt.errors import InputError
from r2gengpt.files import check_writable, check_writable_file, named_directory, write_whole
from r2gengpt.films.film import FilmStudy
from r2gengpt.options import check_fields, option
from r2gengpt.report import film_lines
from r2gengpt.settings import (
    METHODS,
    NO_HASH,
    RUNTIMES,
    CellConfig,
    GuardConfig,
    PlacementConfig,
    ReviewConfig,
    WriterConfig,
)
from r2gengpt.text.context import Context
from r2gengpt.text.written import NOTICE, json_text, noted_json, utf8, with_note, with_notice

if TYPE_CHECKING:
    from r2gengpt.opening import AnyReporter
    from r2gengpt.report import Report
    from r2gengpt.reporter import Reporter


@dataclass(frozen=True)
class GenerateFlags:
    """What is written, and where to."""

    runtime: str = option(
        "auto",
        "what runs the model; auto: what its directory was made for, of embedded the quicker one",
        choices=RUNTIMES,
    )
    format: str = option(
        "text",
        f"of DICOM films too: {', '.join(f'{name} ({form.what})' for name, form in FORMS.items())}",
        choices=("text", "json", *FORMS),
    )
    output: str | None = option(None, "file to write instead of printing", unit="FILE")
    stream: bool = option(False, "print words as they are written (one beam)")
    evidence: str | None = option(
        None,
        "directory: draw what of the images each sentence rests on, a picture for each sentence and view",
        unit="DIR",
    )
    evidence_method: str | None = option(
        None, "how maps are made; None: by the finding head, or without one by occlusion", choices=METHODS
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.evidence_method is not None and self.evidence is None:
            raise InputError(
                "belongs to `evidence` DIR: name that", field="evidence_method", value=self.evidence_method
            )

    @property
    def maps(self) -> bool:
        """Whether maps of the films are asked for, by themselves or in a form."""
        return self.evidence is not None or (self.format in FORMS and FORMS[self.format].regions)


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
    if flags.format in FORMS:
        check_films(flags.format, study)
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


def check_delivery(flags: GenerateFlags, where: PlacementConfig) -> None:
    """Refuse, before minutes of work, what could not be delivered.

    Raises:
        InputError: no file for a binary form, a place that cannot be written, or a form whose package is missing.
    """
    if flags.evidence is not None:
        check_writable(named_directory(flags.evidence, "evidence"), "evidence")
    if flags.output is not None:
        check_writable_file(Path(flags.output), "output")
    if flags.format not in FORMS:
        return
    if FORMS[flags.format].binary and flags.output is None:
        raise InputError("is no text, name a file with `output`", field="format", value=flags.format)
    if where.offload_folder is not None:
        raise InputError(NO_HASH, field="format", value=flags.format)
    check_form(flags.format, field="format", value=flags.format)


def check_evidence(flags: GenerateFlags, *, torch: bool) -> None:
    """Refuse maps of a model that runs without PyTorch.

    Raises:
        InputError: they are asked for.
    """
    if flags.evidence is not None and not torch:
        raise InputError("needs PyTorch: `runtime` openvino has no maps", field="evidence", value=flags.evidence)


def deliver_report(
    reporter: "AnyReporter", study: FilmStudy, flags: GenerateFlags, context: Context, prior: FilmStudy | None = None
) -> None:
    """Write the report of a study, and print it or put it into files, as the flags say.

    Raises:
        InputError: a file cannot be written, or the model cannot do what is asked.
    """
    drawn: Reporter | None = reporter if flags.evidence is not None else None  # type: ignore[assignment]  # see `check_evidence`
    if drawn is not None:
        drawn.maps.check(method_of(drawn, flags))
    live = flags.stream and flags.format == "text" and flags.output is None
    if live and study.note:
        print(f"{study.note}\n", flush=True)
    show = (lambda text: print(text, end="", flush=True)) if live else (lambda text: None)
    (report,) = reporter.write([study], show if flags.stream else None, context, prior)
    if live:
        print()
        if lines := film_lines(report):
            print("", *lines, sep="\n")
    else:
        deliver(content_of(reporter, study, report, flags), flags.output)
    if drawn is not None:  # last: what goes wrong with maps loses no report
        write_evidence(drawn, study, report, flags)


def content_of(reporter: "AnyReporter", study: FilmStudy, report: "Report", flags: GenerateFlags) -> str | bytes:
    """A report in the form that is asked for."""
    from r2gengpt.confidence.review import text_of

    if flags.format == "text":
        text = text_of(report)
        return f"{with_note(text, study.note)}\n" if flags.output is None else with_notice(text, study.note)
    if flags.format == "json":
        return json_text(reporter.record(report), indent=1, ascii_only=True) + "\n"
    return reporter.document(report, flags.format)


def method_of(reporter: "Reporter", flags: GenerateFlags) -> str:
    """How maps are made."""
    return reporter.maps.method(flags.evidence_method, quick=False)


def write_evidence(reporter: "Reporter", study: FilmStudy, report: "Report", flags: GenerateFlags) -> None:
    """Draw the maps of a report's sentences over its films, and write their numbers."""
    from r2gengpt.evaluation.evidence import read_films, write_pictures

    assert flags.evidence is not None
    names = [film.name for film in study.films]
    evidence = reporter.explain(report, method_of(reporter, flags))
    made_from = {**noted_json(study.note), "report": report.text, "images": names}
    films = read_films([Path(name) for name in names], study.choice)
    write_pictures(Path(flags.evidence), evidence, films, reporter.maps.box, made_from)


def deliver(content: str | bytes, output: str | None) -> None:
    """Print a report, or write it whole to a file.

    Raises:
        InputError: the file cannot be written.
    """
    if output is not None:
        write_whole(Path(output), utf8(content) if isinstance(content, str) else content, "output")
    elif isinstance(content, str):
        print(content, end="")
    else:  # a document in an encoding of its own, whatever that of stdout is
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
