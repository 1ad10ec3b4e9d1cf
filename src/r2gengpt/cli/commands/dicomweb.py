"""`r2gengpt dicomweb`: one study from a DICOMweb server, its report back to it."""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2gengpt.auditlog.log import AuditFault, log_of
from r2gengpt.auditlog.message import ActiveParticipant
from r2gengpt.cli import bridge
from r2gengpt.cli.choice import ModelFlags, choice_of
from r2gengpt.cli.commands.listen import add_login, check_installed, client_of, tell_of_prior
from r2gengpt.cli.console import return_large_blocks, start_logging
from r2gengpt.config import DecodeConfig, ModelConfig
from r2gengpt.errors import InputError, RunError
from r2gengpt.files import check_writable_file, write_whole
from r2gengpt.locate import locate_writer
from r2gengpt.options import check_fields, option
from r2gengpt.settings import (
    OBJECT_FORMS,
    AuditLogConfig,
    PlacementConfig,
    ReviewConfig,
    WriterConfig,
    check_forms,
)
from r2gengpt.text.written import NOTICE

if TYPE_CHECKING:
    from r2gengpt.clinical.archive.audited import ArchiveAudit
    from r2gengpt.clinical.archive.earlier import EarlierStudies
    from r2gengpt.clinical.archive.loop import DicomObject, Document
    from r2gengpt.films.dicom.header import DicomHeader
    from r2gengpt.reporter import Reporter


@dataclass(frozen=True)
class DicomWebFlags:
    """Which study, and where its report goes."""

    format: tuple[str, ...] = option(
        ("sr",), "forms of the report, an object each; see `generate`", choices=OBJECT_FORMS
    )
    no_push: bool = option(False, "send nothing: belongs to `output`")
    output: str | None = option(None, "file to write the report to as well", unit="FILE")
    max_images: int = option(8, "most films of a study", low=1, unit="FILMS")
    mixed_patients: bool = option(False, "take DICOM of two patients or two studies for the views of one study")
    fetch_prior: bool = option(
        False,
        "of a model trained with `prior_study`: the patient's newest earlier chest study from the same server too",
    )
    max_bytes: int = option(2**30, "most bytes of an answer of the server", low=1, unit="BYTES")

    def __post_init__(self) -> None:
        check_fields(self)
        check_forms(self.format)
        if len(self.format) > 1 and self.output is not None:
            raise InputError("holds one form: name one", field="output", value=self.output)
        if self.no_push and self.output is None:
            raise InputError("then name a file for the report with `output`", field="no_push", value=True)


FLAGS = (
    DicomWebFlags,
    ModelFlags,
    ModelConfig,
    PlacementConfig,
    DecodeConfig,
    WriterConfig,
    ReviewConfig,
    AuditLogConfig,
)
COMMON = ("url", "study", "model", "format", "output", "no_push", "user", "password_file", "ca_file", "accelerator")
"""The flags that most calls need."""


def parser() -> bridge.Parser:
    """Flags of the command."""
    made = bridge.Parser(
        "r2gengpt dicomweb",
        "One study from a DICOMweb server, its report back to it. Prints the UID of the report.",
        common=COMMON,
        example="r2gengpt dicomweb --url http://host:8042/dicom-web --study 1.2.3",
    )
    made.add_argument("--url", required=True, help="DICOMweb service, as http://host:8042/dicom-web")
    made.add_argument("--study", required=True, metavar="UID", help="Study Instance UID")
    add_login(made)
    bridge.add_flags(made, FLAGS)
    return made


def main(argv: list[str]) -> None:
    """Parse and run; prints the UIDs of the report's objects."""
    parsed = bridge.parsed(parser(), argv, FLAGS)
    flags, space = parsed.settled(DicomWebFlags), parsed.space
    choice = choice_of(parsed, no_drafts_in="dicomweb", unattended=True)
    check_installed("dicomweb")
    if flags.output is not None:
        check_writable_file(Path(flags.output), "output")
    parsed.check_output(flags.output, "password_file", "ca_file", "model")
    from r2gengpt.clinical.archive.tls import syslog_connection

    audit = log_of(parsed.settled(AuditLogConfig), "dicomweb", connect=syslog_connection)
    located = locate_writer(choice)
    start_logging()
    return_large_blocks()
    from r2gengpt.clinical.archive.audited import recording
    from r2gengpt.reporter import Reporter

    client = client_of(space.url, space, flags.max_bytes)
    with recording(audit) as recorder:
        films = pulled(client, space, flags, recorder)
        reporter = Reporter.of(located).named(Path(choice.name).absolute().name)
        tell_of_prior(flags.fetch_prior, reporter.context_fields)
        earlier = earlier_at(client, flags, recorder) if flags.fetch_prior else None
        report = written(reporter, films, flags.format, recorder, earlier)
        if flags.output is not None:
            write_whole(Path(flags.output), report.data, "output")
        if flags.no_push:
            print(*(one.uid for one in report.objects), sep="\n")
        else:
            push(report.objects, client, space.url, recorder)
    print(NOTICE, file=sys.stderr)


def pulled(
    client: Any, space: Any, flags: DicomWebFlags, recorder: "ArchiveAudit | None"
) -> "list[tuple[bytes, DicomHeader]]":
    """The films of the study.

    Raises:
        InputError, RunError: see `pull` and `chest_films`; or it cannot be recorded.
    """
    from r2gengpt.clinical.archive.web import chest_films, pull

    def films() -> "list[tuple[bytes, DicomHeader]]":
        return chest_films(pull(client, space.study), space.study, flags.max_images, mixed=flags.mixed_patients)

    if recorder is None:
        return films()
    return recorder.pulling(films, space.url, space.study)


def earlier_at(client: Any, flags: DicomWebFlags, recorder: "ArchiveAudit | None") -> "EarlierStudies":
    """What finds earlier studies on the server."""
    from r2gengpt.clinical.archive.earlier import EarlierStudies
    from r2gengpt.clinical.archive.earlier_web import WebArchive

    return EarlierStudies(WebArchive(client), flags.max_images, recorder)


def written(
    reporter: "Reporter",
    films: "Sequence[tuple[bytes, DicomHeader]]",
    forms: Sequence[str],
    recorder: "ArchiveAudit | None",
    earlier: "EarlierStudies | None" = None,
) -> "Document":
    """The report of a study's films, as a DICOM file of each form; the films lie in files of their own meanwhile.

    Raises:
        RunError: that they are used cannot be recorded.
    """
    from r2gengpt.clinical.archive.run import writer

    with tempfile.TemporaryDirectory(prefix="r2gengpt-") as directory:
        paths = [Path(directory) / f"{number}.dcm" for number in range(len(films))]
        for path, (data, _) in zip(paths, films, strict=True):
            path.write_bytes(data)
        form, *further = forms
        write = writer(reporter, form, further=further, earlier=earlier)
        headers = [header for _, header in films]
        try:
            return (write if recorder is None else recorder.writing(write))(paths, headers)
        except AuditFault as error:
            raise RunError(str(error)) from None


def push(objects: "Sequence[DicomObject]", client: Any, url: str, recorder: "ArchiveAudit | None") -> None:
    """Store a report's objects on the server; prints the UID of each that is stored.

    Raises:
        RunError: one was not stored; those before it were.
    """
    from r2gengpt.clinical.archive.loop import NotNow, Refused
    from r2gengpt.clinical.archive.web import stow

    send = stow(client)
    send = send if recorder is None else recorder.sending(send, ActiveParticipant(url, address=url))
    for number, one in enumerate(objects, 1):
        what = "the report" if len(objects) == 1 else f"form {number} of {len(objects)} of the report"
        try:
            send(one.data)
        except (Refused, NotNow) as error:
            raise RunError(f"--url {url}: {what} was not stored: {error}") from None
        print(one.uid, flush=True)
