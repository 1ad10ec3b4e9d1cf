"""`r2gengpt listen`: films in by DICOM C-STORE, a report of each study back to the archive, until a signal."""

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r2gengpt.auditlog.log import log_of
from r2gengpt.cli import bridge
from r2gengpt.cli.choice import ModelFlags, choice_of
from r2gengpt.cli.console import return_large_blocks, start_logging
from r2gengpt.config import PRIOR, DecodeConfig, ModelConfig
from r2gengpt.errors import InputError, installing
from r2gengpt.opening import found_writer, opened
from r2gengpt.serving.address import bound
from r2gengpt.settings import (
    AuditLogConfig,
    CellConfig,
    ListenConfig,
    MllpConfig,
    PlacementConfig,
    PriorConfig,
    ReviewConfig,
    WriterConfig,
)
from r2gengpt.text.written import NOTICE

READING = (ModelFlags, ModelConfig, PlacementConfig, DecodeConfig, WriterConfig, ReviewConfig)
FLAGS = (*READING, ListenConfig, PriorConfig, MllpConfig, AuditLogConfig, CellConfig)
NEEDED = ("pydicom", "pynetdicom", "dicomweb_client")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
log = logging.getLogger("r2gengpt.cli")
COMMON = (
    "model",
    "bind",
    "port",
    "ae_title",
    "spool",
    "to_host",
    "to_port",
    "to_ae",
    "stow",
    "mllp_port",
    "mllp",
)
"""The flags that most calls need."""


def parser() -> bridge.Parser:
    """Flags of the command."""
    made = bridge.Parser(
        "r2gengpt listen",
        "Films in by DICOM C-STORE, a report of each study back to the archive, until a signal.",
        common=COMMON,
        example="r2gengpt listen --to_host pacs --to_port 104 --to_ae PACS",
    )
    add_login(made)
    bridge.add_flags(made, FLAGS)
    return made


def main(argv: list[str]) -> None:
    """Parse and run; prints where it listens."""
    parsed = bridge.parsed(parser(), argv, FLAGS)
    settings, choice = parsed.settled(ListenConfig), choice_of(parsed, no_drafts_in="listen", unattended=True)
    mllp, prior = parsed.settled(MllpConfig), parsed.settled(PriorConfig)
    check_peers(settings, mllp)
    from r2gengpt.clinical.archive.tls import doubts_of_keys, syslog_connection
    from r2gengpt.films.cell.pool import open_cell

    audit = log_of(parsed.settled(AuditLogConfig), "listen", [settings.ae_title], connect=syslog_connection)
    doubts = doubts_of_keys(settings)
    located = found_writer(choice)  # what is wrong with the flags is said before anybody can connect
    for field, port in {"port": settings.port, "mllp_port": mllp.mllp_port or 0}.items():
        bound(settings.bind, port, "bind", field).close()  # and before anything large is loaded
    open_cell(parsed.settled(CellConfig)).warm()  # what decodes images comes up meanwhile
    start_logging(libraries=located is not None)
    return_large_blocks()
    from r2gengpt.clinical.archive.loop import Write
    from r2gengpt.clinical.archive.run import FindOrder, earlier_of, listen, peer_of, writer

    for doubt in doubts:
        log.warning(doubt)
    send = peer_of(settings, lambda url: client_of(url, parsed.space, field="stow"))
    earlier = earlier_of(settings, prior, lambda url: client_of(url, parsed.space, field="prior_url"))
    warn_of_strangers(settings, mllp)

    def say(port: int, orders: int | None) -> None:
        where = "" if orders is None else f", for orders at {settings.bind}:{orders}"
        print(f"r2gengpt listens at {settings.bind}:{port} as {settings.ae_title}{where} ({NOTICE})", flush=True)

    def load(find: FindOrder) -> Write:
        reporter = opened(choice, located, frugal=False).named(Path(choice.name).absolute().name)
        message_to = None if mllp.mllp is None else mllp.mllp_receiver
        tell_of_prior(bool(prior.prior_host or prior.prior_url), reporter.context_fields)
        form, *further = settings.format
        return writer(reporter, form, find, further=further, message_to=message_to, earlier=earlier)

    listen(settings, send, load, say, mllp, audit, earlier)


def tell_of_prior(is_asked: bool, fields: Sequence[str]) -> None:
    """Say where earlier studies are asked for and the model was trained without."""
    if is_asked and PRIOR not in fields:
        log.warning("no earlier study is fetched: the model was trained without --prior_study")


def check_peers(settings: ListenConfig, mllp: MllpConfig) -> None:
    """Refuse peers that do not fit each other, and those that need what is not installed.

    Raises:
        InputError: so it is.
    """
    settings.check_peer()
    mllp.check_with(settings)
    check_installed("listen")
    if mllp.mllp is not None:
        from r2gengpt.clinical.documents.forms import check_form

        check_form("hl7", field="mllp", value=mllp.mllp)


def warn_of_strangers(settings: ListenConfig, mllp: MllpConfig) -> None:
    """Say where whoever reaches a port may send."""
    if settings.bind in LOOPBACK:
        return
    if not settings.allowed_aets and settings.tls_ca is None:
        log.warning("--bind %s: whoever reaches this port may send films; give --tls_cert, --tls_key and --tls_ca, "
                    "or keep it within a trusted network", settings.bind)  # fmt: skip
    if mllp.mllp_port is not None and not (settings.tls_ca is not None and mllp.mllp_tls):
        log.warning("--bind %s --mllp_port %s: whoever reaches this port may send orders; give --tls_cert, --tls_key "
                    "and --tls_ca, or keep it within a trusted network", settings.bind, mllp.mllp_port)  # fmt: skip


def add_login(parser: bridge.Parser) -> None:
    """Flags of who we are to a DICOMweb server."""
    parser.add_argument("--user", metavar="NAME", help="DICOMweb: our name")
    parser.add_argument("--password_file", "--password-file", metavar="FILE",
                        help="DICOMweb: file of the password; without it R2GENGPT_DICOMWEB_PASSWORD")  # fmt: skip
    parser.add_argument("--ca_file", "--ca-file", metavar="FILE", help="DICOMweb: certificates to trust, PEM")


def check_installed(command: str) -> None:
    """Refuse to go on without the extra.

    Raises:
        InputError: a package is missing.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise InputError(f"{command} needs {', '.join(missing)}: {installing('pacs')}")


def client_of(url: str, space: Any, most_bytes: int = 2**30, field: str = "url") -> Any:
    """A DICOMweb client with the user's login.

    Raises:
        InputError: half a login, or files that are not there.
    """
    import os

    from r2gengpt.clinical.archive.web import connect

    password = os.environ.get("R2GENGPT_DICOMWEB_PASSWORD")
    if space.password_file is not None:
        try:
            password = Path(space.password_file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            raise InputError(
                f"--password_file {space.password_file}: {getattr(error, 'strerror', 'no text')}"
            ) from None
    if (space.user is None and space.password_file is not None) or (space.user is not None and password is None):
        raise InputError("--user and a password (--password_file or R2GENGPT_DICOMWEB_PASSWORD) belong together")
    return connect(url, space.user, password, space.ca_file, most_bytes, field)
