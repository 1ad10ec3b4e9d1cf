"""Who may ask the server, what is recorded and kept of it. Serves nothing."""

import re
from dataclasses import dataclass

from r2gengpt.errors import InputError
from r2gengpt.options import check_fields, option
from r2gengpt.settings.placement import RUNTIMES


@dataclass(frozen=True)
class VerdictsConfig:
    """Which verdicts are reviewed, and which drafts others are compared with."""

    verdicts: str = option("", "where they are kept: a file of SQLite, or postgresql://USER@HOST/NAME", unit="FILE|URL")
    output: str | None = option("review.html", "page to write; None: no page", unit="FILE")
    format: str = option("text", "what is printed", choices=("text", "json"))
    reference: tuple[str, ...] = option(
        (), "first and last day of the reference period, as 2026-01-01 2026-01-31; none: the first drafts", unit="DAY"
    )
    reference_drafts: int = option(
        100, "drafts of the reference period where no days are named", low=1, high=1_000_000, unit="DRAFTS"
    )
    recent_drafts: int = option(
        100, "latest drafts that are compared with the reference period", low=1, high=1_000_000, unit="DRAFTS"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.verdicts.strip():
            raise InputError("`verdicts` is missing: name a file, or the URL of a PostgreSQL server")
        if self.output is not None and not self.output.strip():
            raise InputError("`output` is empty: must name a file")


@dataclass(frozen=True)
class ServeConfig:
    """Who may ask the server, and for how much."""

    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0 is every one that this machine has", unit="ADDRESS")
    port: int = option(8000, "port; 0: a free one, which is printed", low=0, high=65535, unit="PORT")
    runtime: str = option(
        "auto",
        "what runs the model; auto: what its directory was made for, for embedded its graphs where they are pulled, "
        "and PyTorch, loaded when first needed, for what they have not; openvino: without PyTorch and maps",
        choices=RUNTIMES,
    )
    slots: int = option(8, "studies written at once", low=1, unit="STUDIES")
    queue_size: int = option(
        32, "requests that may wait besides; one more is answered with 429", low=0, unit="REQUESTS"
    )
    request_timeout: float = option(
        300.0, "seconds for one request, waiting included; then 504", above=0.0, unit="SECONDS"
    )
    drain_timeout: float = option(
        25.0, "SIGTERM: seconds that running requests have to finish", above=0.0, unit="SECONDS"
    )
    max_body_mb: int = option(32, "largest request in MiB", low=1, high=1024, unit="MIB")
    max_megapixels: int = option(
        40, "largest image in megapixels, looked at before it is decoded", low=1, high=80, unit="MEGAPIXELS"
    )
    max_images: int = option(8, "most images of a study", low=1, high=64, unit="FILMS")
    max_connections: int = option(
        512,
        "open connections; beyond, the one that has kept the server waiting longest is closed",
        low=8,
        unit="CONNECTIONS",
    )
    max_connections_each: int = option(
        128, "the same of one address; behind a reverse proxy all have the proxy's", low=4, unit="CONNECTIONS"
    )
    api_key_file: str | None = option(
        None,
        "file of API keys, one a line; without it R2GENGPT_API_KEYS; without both no key is asked for",
        unit="FILE",
    )
    api_keys: str | None = option(
        None,
        "file of API keys with roles, which `r2gengpt keys` writes; it is read again when it changes",
        unit="FILE",
    )
    oidc_issuer: str | None = option(
        None,
        "OpenID provider whose tokens (JWT) let callers in, as https://login.example/realms/hospital",
        unit="URL",
        here=True,
    )
    oidc_audience: str | None = option(None, "what tokens must be for (`aud`): this server's name there", unit="NAME")
    oidc_role_claim: str = option(
        "roles", "claim of a token that holds its roles (read, report, admin), as realm_access.roles", unit="NAME"
    )
    oidc_ca_file: str | None = option(
        None, "certificates that the provider's must come from, PEM; without it the system's", unit="FILE", here=True
    )
    cors_origin: tuple[str, ...] = option((), "web origins that may read answers, as https://host:port", unit="ORIGIN")
    verdicts: str | None = option(
        None,
        "where readers' verdicts are kept: a file of SQLite, or postgresql://USER@HOST/NAME; holds texts of patients",
        unit="FILE|URL",
        here=True,
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.host.strip():
            raise InputError("`host` is empty: must be an address, as 127.0.0.1")
        if (self.oidc_issuer is None) != (self.oidc_audience is None):
            raise InputError("`oidc_issuer` and `oidc_audience` belong together")
        if self.oidc_issuer is None and self.oidc_ca_file is not None:
            raise InputError("`oidc_ca_file` has an effect with `oidc_issuer` only")
        if self.oidc_audience is not None and not self.oidc_audience.strip():
            raise InputError("`oidc_audience` is empty: tokens for anybody would count")
        for origin in self.cors_origin:
            if not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+", origin):
                raise InputError("must be like https://host or http://host:port", field="cors_origin", value=origin)

    @property
    def places(self) -> int:
        """Requests that are in work or wait, at most."""
        return self.slots + self.queue_size


@dataclass(frozen=True)
class AuditLogConfig:
    """Where it is recorded who did what with whose films."""

    audit_log: str | None = option(
        None,
        "directory of an audit log: DICOM audit messages, chained by hashes; what cannot be recorded is refused",
        unit="DIR",
        here=True,
    )
    audit_syslog: str | None = option(
        None,
        "syslog server that the records of `audit_log` go to as well, by TLS, as log.example:6514",
        unit="HOST:PORT",
        here=True,
    )
    audit_syslog_ca: str | None = option(
        None, "certificates that the syslog server's must come from, PEM", unit="FILE", here=True
    )
    audit_syslog_cert: str | None = option(None, "our certificate for the syslog server, PEM", unit="FILE", here=True)
    audit_syslog_key: str | None = option(None, "its private key, PEM, without a password", unit="FILE", here=True)

    def __post_init__(self) -> None:
        check_fields(self)
        parts = (self.audit_syslog_ca, self.audit_syslog_cert, self.audit_syslog_key)
        if self.audit_syslog is None:
            if parts != (None, None, None):
                raise InputError("`audit_syslog_ca`, `audit_syslog_cert` and `audit_syslog_key` need `audit_syslog`")
            return
        self.syslog  # noqa: B018  # refuses what is no address
        if self.audit_log is None:
            raise InputError("`audit_syslog` needs `audit_log`: its files are what is sent")
        if self.audit_syslog_ca is None:
            raise InputError("`audit_syslog_ca` is missing: by whom is the certificate of `audit_syslog`?")
        if (self.audit_syslog_cert is None) != (self.audit_syslog_key is None):
            raise InputError("`audit_syslog_cert` and `audit_syslog_key` belong together")

    @property
    def syslog(self) -> tuple[str, int]:
        """Host and port of `audit_syslog`.

        Raises:
            InputError: it is no such address.
        """
        return host_and_port(self.audit_syslog or "", "audit_syslog", "log.example:6514")


def host_and_port(text: str, field: str, example: str) -> tuple[str, int]:
    """The host and the port of an address; an IPv6 address stands in brackets.

    Raises:
        InputError: it is no such address.
    """
    host, _, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    is_port = re.fullmatch("[0-9]{1,5}", port) and 1 <= int(port) <= 65535
    if not re.fullmatch(r"[^\s/@\[\]]+", host) or not is_port:
        raise InputError(f"must be like {example}, or [::1]:{example.rpartition(':')[2]}", field=field, value=text)
    return host, int(port)
