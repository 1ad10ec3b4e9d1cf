"""`r2gengpt worklist`: work items of a DICOM worklist (UPS-RS), performed until a signal."""

from pathlib import Path

from r2gengpt.auditlog.log import log_of
from r2gengpt.cli import bridge
from r2gengpt.cli.choice import ModelFlags, choice_of
from r2gengpt.cli.commands.listen import add_login, check_installed, client_of, tell_of_prior
from r2gengpt.cli.console import return_large_blocks, start_logging
from r2gengpt.config import DecodeConfig, ModelConfig
from r2gengpt.opening import found_writer, opened
from r2gengpt.settings import (
    AuditLogConfig,
    CellConfig,
    PlacementConfig,
    ReviewConfig,
    WorklistConfig,
    WriterConfig,
)
from r2gengpt.text.written import NOTICE

READING = (ModelFlags, ModelConfig, PlacementConfig, DecodeConfig, WriterConfig, ReviewConfig)
FLAGS = (*READING, WorklistConfig, AuditLogConfig, CellConfig)
COMMON = ("model", "worklist", "archive", "station", "procedures", "claims", "format", "user", "password_file")
"""The flags that most calls need."""


def parser() -> bridge.Parser:
    """Flags of the command."""
    made = bridge.Parser(
        "r2gengpt worklist",
        "Work items of a DICOM worklist (UPS-RS): claims those of a station, drafts their films, stores the reports "
        "and completes the items, until a signal.",
        common=COMMON,
        example="r2gengpt worklist --worklist http://host:8042/dicom-web --station R2GENGPT",
    )
    add_login(made)
    bridge.add_flags(made, FLAGS)
    return made


def main(argv: list[str]) -> None:
    """Parse and run; prints whose work it does."""
    parsed = bridge.parsed(parser(), argv, FLAGS)
    settings, choice = parsed.settled(WorklistConfig), choice_of(parsed, no_drafts_in="worklist", unattended=True)
    check_installed("worklist")
    from r2gengpt.clinical.archive.tls import syslog_connection

    audit = log_of(parsed.settled(AuditLogConfig), "worklist", connect=syslog_connection)
    located = found_writer(choice)
    from r2gengpt.films.cell.pool import open_cell

    open_cell(parsed.settled(CellConfig)).warm()
    start_logging(libraries=located is not None)
    return_large_blocks()
    worklist = client_of(settings.worklist, parsed.space, field="worklist")
    archive = client_of(settings.archive or settings.worklist, parsed.space, settings.max_bytes, field="archive")
    from r2gengpt.clinical.archive.earlier import EarlierStudies
    from r2gengpt.clinical.archive.earlier_web import WebArchive
    from r2gengpt.clinical.archive.loop import Write
    from r2gengpt.clinical.archive.run import writer
    from r2gengpt.clinical.worklist.run import perform

    earlier = EarlierStudies(WebArchive(archive), settings.max_images) if settings.fetch_prior else None
    print(f"r2gengpt performs work items of {worklist.base_url} as {settings.station} ({NOTICE})", flush=True)

    def load() -> Write:
        reporter = opened(choice, located, frugal=False).named(Path(choice.name).absolute().name)
        tell_of_prior(settings.fetch_prior, reporter.context_fields)
        form, *further = settings.format
        return writer(reporter, form, further=further, earlier=earlier)

    perform(settings, worklist, archive, load, audit, earlier)
