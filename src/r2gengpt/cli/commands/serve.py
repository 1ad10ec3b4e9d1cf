"""`r2gengpt serve`: the model behind HTTP, for OpenAI's clients and for forms, until a signal."""

import importlib.util
import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from r2gengpt.auditlog.log import AuditLog, log_of
from r2gengpt.cli import bridge
from r2gengpt.cli.choice import ModelFlags, choice_of
from r2gengpt.cli.console import quiet_libraries, return_large_blocks, start_logging
from r2gengpt.config import DecodeConfig, ModelConfig
from r2gengpt.errors import InputError, installing
from r2gengpt.locate import Located
from r2gengpt.serving.address import address_of, bound, opened
from r2gengpt.settings import (
    AuditLogConfig,
    CellConfig,
    GuardConfig,
    PlacementConfig,
    ReviewConfig,
    ServeConfig,
    WriterConfig,
)
from r2gengpt.text.written import NOTICE
from r2gengpt.verdicts.address import opened_store

if TYPE_CHECKING:
    from r2gengpt.opening import Served
    from r2gengpt.reporter import Reporter
    from r2gengpt.serving.served import ServedModel
    from r2gengpt.verdicts.store import VerdictStore

FLAGS = (
    ModelFlags,
    ModelConfig,
    PlacementConfig,
    DecodeConfig,
    WriterConfig,
    ReviewConfig,
    GuardConfig,
    ServeConfig,
    AuditLogConfig,
    CellConfig,
)
NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
log = logging.getLogger("r2gengpt.cli")
COMMON = (
    "model", "host", "port", "api_key_file", "slots",
    "queue_size", "accelerator", "quantization", "beam_size", "cors_origin",
)  # fmt: skip
"""The flags that most calls need."""


def parser() -> bridge.Parser:
    """Flags of the command."""
    made = bridge.Parser(
        "r2gengpt serve",
        "The model behind HTTP until a signal: OpenAI's chat completions, reports of uploaded studies, a web page.",
        common=COMMON,
        example="r2gengpt serve --model save/mimic/v1 --port 8000",
    )
    bridge.add_flags(made, FLAGS)
    return made


def main(argv: list[str]) -> None:
    """Parse and run; prints the address, then serves."""
    parsed = bridge.parsed(parser(), argv, FLAGS)
    settings, choice = parsed.settled(ServeConfig), choice_of(parsed, no_drafts_in="serve")
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise InputError(f"serve needs {', '.join(missing)}: {installing('serve')}")
    from r2gengpt.clinical.archive.tls import syslog_connection
    from r2gengpt.films.cell.pool import close_cell, open_cell
    from r2gengpt.opening import Served

    audit = log_of(parsed.settled(AuditLogConfig), "serve", connect=syslog_connection)
    verdicts = None if settings.verdicts is None else opened_store(settings.verdicts)
    wanted = Served.of(choice)
    with bound(settings.host, settings.port) as address:  # before anything large is loaded
        open_cell(parsed.settled(CellConfig)).warm()  # what decodes images comes up meanwhile
        try:
            start(wanted, settings, address, verdicts, audit)
        finally:
            close_cell()
            if verdicts is not None:
                verdicts.close()


def start(
    wanted: "Served",
    settings: ServeConfig,
    address: socket.socket,
    verdicts: "VerdictStore | None",
    audit: AuditLog | None,
) -> None:
    """Listen, load and serve.

    Raises:
        InputError: no such device or keys, the address is taken meanwhile, or nothing can be recorded.
    """
    start_logging(libraries=wanted.located is not None)
    return_large_blocks()
    from r2gengpt.serving.app import create_app
    from r2gengpt.serving.failures import limit_lines
    from r2gengpt.serving.generator import Generator
    from r2gengpt.serving.server import serve, warn_if_open
    from r2gengpt.serving.trail import recording

    if wanted.located is not None:
        wanted.choice.device()  # what is wrong with the flags is said before anybody can connect
    generator = Generator(settings.slots, settings.places)
    with recording(audit) as trail:
        app = create_app(generator, settings, verdicts, trail)
        warn_if_open(settings, app.state.identity)
        listening = opened(address)
        limit_lines()
        print(f"r2gengpt serves at {address_of(listening)} ({NOTICE})", flush=True)
        generator.start(lambda: served(wanted), lambda: log.info("ready"))
        has_ended = serve(app, generator, settings, listening)
    if not has_ended:
        os._exit(0)  # the thread is within a pass for nobody: taking the interpreter down under it may crash


def served(wanted: "Served") -> "ServedModel":
    """The model under the name that clients know it by: its directory's, or embedded.

    Raises:
        InputError: it cannot be loaded.
    """
    from r2gengpt.edge.reporter import EdgeReporter
    from r2gengpt.opening import opened
    from r2gengpt.serving.paired import PairedModel

    choice, rest = wanted.choice, wanted.rest
    name = choice.alias or Path(choice.name).absolute().name
    model = opened(choice, wanted.located, frugal=False).named(name)
    if rest is None or not isinstance(model, EdgeReporter):
        return model
    instruction = rest.stored.model.settled().instruction
    return PairedModel(model, lambda: in_torch(rest, name), rest.directory, instruction)


def in_torch(located: Located, name: str) -> "Reporter":
    """The same model in PyTorch, which the graphs have been serving without.

    Raises:
        InputError: it cannot be loaded.
    """
    quiet_libraries()
    from r2gengpt.reporter import Reporter

    return Reporter.of(located).named(name)
