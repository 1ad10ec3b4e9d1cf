"""`r2gengpt listen`: films in by DICOM C-STORE, a report of each study back to the archive, until a signal."""

import importlib.util
import logging
from typing import Any

from r2gengpt.archive.settings import ListenConfig
from r2gengpt.cli import bridge
from r2gengpt.config import CellConfig, DecodeConfig, ModelConfig, PlacementConfig, ReviewConfig
from r2gengpt.errors import InputError
from r2gengpt.text.notice import NOTICE

CONFIGS = (ModelConfig, PlacementConfig, DecodeConfig, ReviewConfig, ListenConfig, CellConfig)
NEEDED = ("pydicom", "pynetdicom", "dicomweb_client")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
log = logging.getLogger("r2gengpt.cli")


def main(argv: list[str]) -> None:
    """Parse and run; prints where it listens."""
    parser = bridge.Parser(prog="r2gengpt listen", allow_abbrev=False, description=__doc__)
    parser.add_argument("--model", "--delta", default="embedded", metavar="DIR",
                        help="trained model, or an original .pth (default: embedded)")  # fmt: skip
    parser.add_argument("--accelerator", default="auto", choices=("auto", "cpu", "gpu", "cuda", "mps"), help="device")
    add_login(parser)
    bridge.add_flags(parser, CONFIGS)
    space = bridge.parse(parser, argv)
    given = bridge.given_values(space, CONFIGS)
    settings, limits = bridge.make(ListenConfig, given), bridge.make(CellConfig, given)
    settings.check_peer()
    given = {name: value for name, value in given.items() if name not in {*vars(settings), *vars(limits)}}
    if bridge.make(DecodeConfig, given).speculate:
        raise InputError("--speculate True: drafts would come from other studies' reports: not in listen")
    check_installed("listen")
    from r2gengpt.data.cell import open_cell

    open_cell(limits).warm()  # what decodes images comes up meanwhile
    from r2gengpt.archive.run import listen, peer_of
    from r2gengpt.cli.console import return_large_blocks, start_logging

    start_logging()
    return_large_blocks()
    from r2gengpt.archive.reporting import writer
    from r2gengpt.cli.models import device_of, locate_model
    from r2gengpt.cli.serve import load

    device = device_of(space.accelerator)
    locate_model(space.model, "--model", given)  # what is wrong with the flags is said before anybody can connect
    send = peer_of(settings, lambda url: stow_peer(url, space))
    if settings.bind not in LOOPBACK and not settings.allowed_aets:
        log.warning("--bind %s: whoever reaches this port may send films; DICOM here has neither keys nor "
                    "encryption, keep it within a trusted network", settings.bind)  # fmt: skip

    def say(port: int) -> None:
        print(f"r2gengpt listens at {settings.bind}:{port} as {settings.ae_title} ({NOTICE})", flush=True)

    listen(settings, send, lambda: writer(load(space.model, device, given), settings.format), say)


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
        raise InputError(f"{command} needs {', '.join(missing)}: pip install 'r2gengpt[pacs]'")


def client_of(url: str, space: Any, most_bytes: int = 2**30, flag: str = "--url") -> Any:
    """A DICOMweb client with the user's login.

    Raises:
        InputError: half a login, or files that are not there.
    """
    import os
    from pathlib import Path

    from r2gengpt.archive.web import connect

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
    return connect(url, space.user, password, space.ca_file, most_bytes, flag)


def stow_peer(url: str, space: Any) -> Any:
    """The DICOMweb server as who gets reports."""
    from r2gengpt.archive.web import stow

    return stow(client_of(url, space, flag="--stow"))
