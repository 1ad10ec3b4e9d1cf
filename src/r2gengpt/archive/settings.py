"""The settings of `listen`, checked when made. No network."""

import re
from dataclasses import dataclass

from r2gengpt.config import check_fields, option
from r2gengpt.errors import InputError

GIB = 2**30


@dataclass(frozen=True)
class ListenConfig:
    """Who may send films, where they wait, and who gets the reports."""

    bind: str = option("127.0.0.1", "address to listen on; 0.0.0.0 is every one that this machine has")
    port: int = option(11112, "port; 0: a free one, which is printed", low=0, high=65535)
    ae_title: str = option("R2GENGPT", "our AE title: peers must call it")
    allowed_aets: tuple[str, ...] = option((), "AE titles that may send; none named: all (a title proves nothing)")
    spool: str = option("spool", "directory that films wait in; holds patient data")
    quiet_seconds: float = option(30.0, "a study is complete when no film of it has come for so long", low=0.0)
    keep_sent_seconds: float = option(
        86400.0, "films and report of a study stay in --spool for so long after it was sent, or until room is needed",
        low=0.0,
    )  # fmt: skip
    max_images: int = option(8, "most films of a study", low=1, high=64)
    mixed_patients: bool = option(False, "report studies whose films name two patients too, with a note in the report")
    max_instance_bytes: int = option(128 * 2**20, "largest film; a larger one ends its association", low=1024, high=GIB)
    max_spool_bytes: int = option(20 * GIB, "most bytes in --spool; then films are refused: out of resources", low=1024)
    max_associations: int = option(8, "senders at once", low=1, high=256)
    to_host: str | None = option(None, "reports go by C-STORE to this host")
    to_port: int | None = option(None, "its port", low=1, high=65535)
    to_ae: str | None = option(None, "its AE title")
    stow: str | None = option(None, "reports go by DICOMweb STOW-RS to this URL, as http://host:8042/dicom-web")
    format: str = option("sr", "reports as structured reports, or as encapsulated PDF", choices=("sr", "pdf"))

    def __post_init__(self) -> None:
        check_fields(self)
        names = [("ae_title", self.ae_title), *(("allowed_aets", name) for name in self.allowed_aets)]
        if self.to_ae is not None:
            names.append(("to_ae", self.to_ae))
        for flag, name in names:
            if not re.fullmatch(r"(?! )[ -\[\]-~]{1,16}(?<! )", name):
                raise InputError(f"--{flag} {name!r}: must be 1 to 16 printable ASCII signs without \\")
        for flag in ("bind", "spool"):
            if not getattr(self, flag).strip():
                raise InputError(f"--{flag} is empty")
        if self.max_spool_bytes < self.max_instance_bytes:
            raise InputError(
                f"--max_spool_bytes {self.max_spool_bytes} is less than --max_instance_bytes {self.max_instance_bytes}"
            )

    def check_peer(self) -> None:
        """Refuse no peer, half a peer, and two.

        Raises:
            InputError: so it is.
        """
        parts = {"to_host": self.to_host, "to_port": self.to_port, "to_ae": self.to_ae}
        missing = [f"--{name}" for name, value in parts.items() if value is None]
        if self.stow is not None and len(missing) < len(parts):
            raise InputError("--stow and --to_host name two peers for reports: give one")
        if self.stow is None and missing:
            raise InputError(f"who gets the reports? {', '.join(missing)} missing (or give --stow URL)")
