"""Where films come from and where reports go. Opens no port."""

import re
from dataclasses import dataclass

from r2gengpt.errors import InputError
from r2gengpt.options import check_fields, option
from r2gengpt.settings.serve import host_and_port

AE_TITLE = re.compile(r"(?! )[ -\[\]-~]{1,16}(?<! )")
OBJECT_FORMS = ("sr", "measurement-sr", "pdf", "secondary-capture")
"""Forms of a report that are DICOM objects; `clinical.documents.forms` has what each is, and a test compares them."""


def check_forms(forms: tuple[str, ...]) -> None:
    """Refuse no form, and one that is named twice.

    Raises:
        InputError: so it is.
    """
    if not forms:
        raise InputError("`format` is empty: must name a form")
    if len(set(forms)) < len(forms):
        raise InputError("names a form twice", field="format", value=" ".join(forms))


GIB = 2**30


@dataclass(frozen=True)
class PriorConfig:
    """Where `listen` looks for the patient's study before."""

    prior_host: str | None = option(
        None, "of a model trained with `prior_study`: the patient's newest earlier chest study comes from this host by "
        "C-FIND and C-GET, or C-MOVE with `prior_move_port`", unit="HOST",
    )  # fmt: skip
    prior_port: int | None = option(None, "its port", low=1, high=65535, unit="PORT")
    prior_ae: str | None = option(None, "its AE title", unit="TITLE")
    prior_move_port: int | None = option(
        None, "films come by C-MOVE to this port of `bind`, which is open while a study is fetched",
        low=1, high=65535, unit="PORT",
    )  # fmt: skip
    prior_move_ae: str = option("R2GENGPT_PRIOR", "the title that the archive knows that port by", unit="TITLE")
    prior_url: str | None = option(
        None, "or by DICOMweb from this URL (QIDO-RS, WADO-RS), as http://host:8042/dicom-web", unit="URL"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        dimse = [self.prior_host, self.prior_port, self.prior_ae]
        if any(one is not None for one in dimse) and None in dimse:
            raise InputError("`prior_host`, `prior_port` and `prior_ae` belong together")
        if self.prior_host is not None and self.prior_url is not None:
            raise InputError("`prior_host` and `prior_url` both name who has earlier studies: give one")
        if self.prior_move_port is not None and self.prior_host is None:
            raise InputError("belongs to `prior_host`", field="prior_move_port", value=self.prior_move_port)
        for field in ("prior_ae", "prior_move_ae"):
            title = getattr(self, field)
            if title is not None and not AE_TITLE.fullmatch(title):
                raise InputError("must be 1 to 16 printable ASCII signs without \\", field=field, value=repr(title))


@dataclass(frozen=True)
class ListenConfig:
    """Who may send films, where they wait, and who gets the reports."""

    bind: str = option("127.0.0.1", "address to listen on; 0.0.0.0 is every one that this machine has", unit="ADDRESS")
    port: int = option(11112, "port; 0: a free one, which is printed", low=0, high=65535, unit="PORT")
    ae_title: str = option("R2GENGPT", "our AE title: peers must call it", unit="TITLE")
    allowed_aets: tuple[str, ...] = option(
        (), "AE titles that may send; none named: all (a title proves nothing)", unit="TITLE"
    )
    spool: str = option("spool", "directory that films wait in; holds patient data", unit="DIR")
    quiet_seconds: float = option(
        30.0, "a study is complete when no film of it has come for so long", low=0.0, unit="SECONDS"
    )
    keep_sent_seconds: float = option(
        86400.0, "films and report of a study stay in `spool` for so long after it was sent, or until room is needed",
        low=0.0, unit="SECONDS",
    )  # fmt: skip
    max_images: int = option(8, "most films of a study", low=1, high=64, unit="FILMS")
    mixed_patients: bool = option(False, "report studies whose films name two patients too, with a note in the report")
    max_instance_bytes: int = option(
        128 * 2**20, "largest film; a larger one ends its association", low=1024, high=GIB, unit="BYTES"
    )
    max_spool_bytes: int = option(
        20 * GIB, "most bytes in `spool`; then films are refused: out of resources", low=1024, unit="BYTES"
    )
    max_associations: int = option(8, "senders at once", low=1, high=256, unit="SENDERS")
    to_host: str | None = option(None, "reports go by C-STORE to this host", unit="HOST")
    to_port: int | None = option(None, "its port", low=1, high=65535, unit="PORT")
    to_ae: str | None = option(None, "its AE title", unit="TITLE")
    stow: str | None = option(
        None, "reports go by DICOMweb STOW-RS to this URL, as http://host:8042/dicom-web", unit="URL"
    )
    format: tuple[str, ...] = option(
        ("sr",), "forms of the reports, an object each; see `generate`", choices=OBJECT_FORMS
    )
    tls_cert: str | None = option(
        None, "TLS at `port` and in C-STORE of reports: our certificate and those above it, PEM", unit="FILE"
    )
    tls_key: str | None = option(None, "its private key, PEM, without a password", unit="FILE")
    tls_ca: str | None = option(
        None, "whose certificates peers must have, in and out, PEM; without it senders need none", unit="FILE"
    )
    to_tls: bool = option(True, "with `tls_cert`: C-STORE of reports by TLS too; False: in plain text")
    to_name: str | None = option(None, "name in the certificate of `to_host`, where it is another one", unit="NAME")

    def __post_init__(self) -> None:
        check_fields(self)
        check_forms(self.format)
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InputError("`tls_cert` and `tls_key` belong together")
        if self.tls_ca is not None and self.tls_cert is None:
            raise InputError("`tls_ca` needs `tls_cert` and `tls_key`")
        names = [("ae_title", self.ae_title), *(("allowed_aets", name) for name in self.allowed_aets)]
        if self.to_ae is not None:
            names.append(("to_ae", self.to_ae))
        for field, name in names:
            if not AE_TITLE.fullmatch(name):
                raise InputError("must be 1 to 16 printable ASCII signs without \\", field=field, value=repr(name))
        for field in ("bind", "spool"):
            if not getattr(self, field).strip():
                raise InputError(f"`{field}` is empty", field=field)
        if self.max_spool_bytes < self.max_instance_bytes:
            raise InputError(
                f"`max_spool_bytes` {self.max_spool_bytes} is less than `max_instance_bytes` {self.max_instance_bytes}"
            )

    def check_peer(self) -> None:
        """Refuse no peer, half a peer, and two.

        Raises:
            InputError: so it is.
        """
        parts = {"to_host": self.to_host, "to_port": self.to_port, "to_ae": self.to_ae}
        missing = [f"`{name}`" for name, value in parts.items() if value is None]
        if self.stow is not None and len(missing) < len(parts):
            raise InputError("`stow` and `to_host` name two peers for reports: give one")
        if self.stow is None and missing:
            raise InputError(f"who gets the reports? {', '.join(missing)} missing (or give `stow` URL)")
        self._check_peer_tls()

    def _check_peer_tls(self) -> None:
        """Refuse half of what TLS to the peer needs."""
        is_tls = self.tls_cert is not None and self.to_host is not None
        if is_tls and self.to_tls and self.tls_ca is None:
            raise InputError("`tls_ca` is missing: by whom is the certificate of `to_host` (or `to_tls` False)?")
        if not self.to_tls and not is_tls:
            raise InputError("`to_tls` False has an effect with `tls_cert` and `to_host` only")
        if self.to_name is not None and not (is_tls and self.to_tls):
            raise InputError("`to_name` has an effect with `tls_cert` and `to_host` only, without `to_tls` False")


@dataclass(frozen=True)
class MllpConfig:
    """HL7 v2 over MLLP beside DICOM: where orders come in, and who gets results."""

    mllp_port: int | None = option(
        None, "orders come in by HL7 over MLLP at this port of `bind`; 0: a free one, which is printed",
        low=0, high=65535, unit="PORT",
    )  # fmt: skip
    mllp: str | None = option(
        None, "results go by HL7 over MLLP to this address too, as ris.example:2575", unit="HOST:PORT"
    )
    mllp_receiver: str = option(
        "", "receiving application and facility of results (MSH-5, MSH-6), as RIS^HOSPITAL", unit="NAME"
    )
    mllp_tls: bool = option(True, "with `tls_cert`: MLLP by TLS too, in and out; False: in plain text")
    max_message_bytes: int = option(
        2**20, "largest message; a larger one is rejected and ends its connection", low=1024, high=64 * 2**20,
        unit="BYTES",
    )  # fmt: skip
    max_mllp_peers: int = option(
        16,
        "senders of orders at once; then the one that was answered longest ago goes",
        low=1,
        high=256,
        unit="SENDERS",
    )
    max_orders: int = option(
        100_000, "most orders that are kept; then the oldest go", low=1, high=10_000_000, unit="ORDERS"
    )
    keep_orders_seconds: float = option(
        2_592_000.0, "an order is kept for so long after it came", above=0.0, unit="SECONDS"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        part = r"[ -%'-\[\]_-{}]{0,180}"
        if not re.fullmatch(rf"{part}\^?{part}", self.mllp_receiver):
            words = "must be APPLICATION^FACILITY, of printable ASCII signs without | ~ & \\"
            raise InputError(words, field="mllp_receiver", value=repr(self.mllp_receiver))
        if self.mllp is not None:
            self.peer  # noqa: B018  # refuses what is no address

    @property
    def peer(self) -> tuple[str, int]:
        """Host and port of `mllp`.

        Raises:
            InputError: it is no such address.
        """
        return host_and_port(self.mllp or "", "mllp", "ris.example:2575")

    def check_with(self, listen: ListenConfig) -> None:
        """Refuse what does not fit the other settings of the command.

        Raises:
            InputError: so it is.
        """
        is_used = self.mllp is not None or self.mllp_port is not None
        if self.mllp_receiver and self.mllp is None:
            raise InputError("`mllp_receiver` has an effect with `mllp` only")
        if not self.mllp_tls and not (is_used and listen.tls_cert is not None):
            raise InputError("`mllp_tls` False has an effect with `tls_cert` and `mllp` or `mllp_port` only")
        if self.mllp is not None and self.mllp_tls and listen.tls_cert is not None and listen.tls_ca is None:
            raise InputError("`tls_ca` is missing: by whom is the certificate of `mllp` (or `mllp_tls` False)?")
        if self.mllp_port and self.mllp_port == listen.port:
            raise InputError("is the port of films too", field="mllp_port", value=self.mllp_port)


@dataclass(frozen=True)
class WorklistConfig:
    """Which work items of a worklist server (UPS-RS) are performed, where claims are kept, and how much."""

    worklist: str = option("", "DICOMweb service that has the work items, as http://host:8042/dicom-web", unit="URL")
    archive: str | None = option(
        None, "DICOMweb service that has the films and gets the reports; None: that of `worklist`", unit="URL"
    )
    station: str = option(
        "R2GENGPT", "code value of the Scheduled Station Name: items that are scheduled for it are claimed", unit="CODE"
    )
    procedures: tuple[str, ...] = option(
        (), "code values of the Scheduled Workitem Code that are performed; none named: all", unit="CODE"
    )
    claims: str = option("claims", "directory of the claimed work items; holds patient data", unit="DIR")
    poll_seconds: float = option(
        10.0, "time between two searches for work items", low=0.0, high=86400.0, unit="SECONDS"
    )
    fetch_seconds: float = option(
        3600.0, "a work item whose films do not come for so long after its claim is canceled", low=0.0, unit="SECONDS"
    )
    max_claimed: int = option(4, "most work items that are claimed and not finished", low=1, high=100, unit="ITEMS")
    format: tuple[str, ...] = option(
        ("sr",), "forms of the reports, an object each; see `generate`", choices=OBJECT_FORMS
    )
    max_images: int = option(8, "most films of a work item", low=1, high=64, unit="FILMS")
    mixed_patients: bool = option(False, "report films that name two patients, or another one than the item, too")
    fetch_prior: bool = option(
        False, "of a model trained with `prior_study`: the patient's newest earlier chest study from `archive` too"
    )
    max_bytes: int = option(2**30, "most bytes of an answer with films", low=1, unit="BYTES")

    def __post_init__(self) -> None:
        check_fields(self)
        check_forms(self.format)
        if not self.worklist.strip():
            raise InputError("`worklist` is missing: name the URL of a DICOMweb service with work items")
        if not self.claims.strip():
            raise InputError("`claims` is empty: must name a directory")
        for field, codes in (("station", (self.station,)), ("procedures", self.procedures)):
            for code in codes:
                if not re.fullmatch(r"(?! )[ -\[\]-~]{1,16}(?<! )", code):
                    raise InputError("must be 1 to 16 printable ASCII signs without \\", field=field, value=repr(code))
