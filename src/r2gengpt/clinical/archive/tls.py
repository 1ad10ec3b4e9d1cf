"""TLS of connections in and out: certificate, key, whom to trust, and handshakes in bounded time. Knows no message.

The profile is BCP 195 (RFC 9325): TLS 1.2 and 1.3 alone, ciphers that authenticate with a key of its own for
each connection, no renegotiation. A peer that offers less is refused, as nothing here falls back to plain text.
"""

import selectors
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from r2gengpt.errors import InputError
from r2gengpt.files import check_file
from r2gengpt.settings import AuditLogConfig, ListenConfig

CIPHERS = "ECDHE+AESGCM:@SECLEVEL=2"
"""Of TLS 1.2; those of TLS 1.3 are all right. The level refuses RSA keys below 2,048 bits and SHA-1."""
SYSLOG_SECONDS = 10.0
"""To connect to a syslog server, and for the handshake."""
EXPIRED, NOT_YET = 10, 9
"""Source: OpenSSL, x509_vfy.h."""


def words_of(error: OSError) -> str:
    """Why a handshake failed, in OpenSSL's fixed words; nothing that a peer sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message).split(",")[0]
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return "too slow" if isinstance(error, TimeoutError) else "the connection ended"


def why_unreached(error: BaseException) -> str:
    """Why an exchange of HTTP had no connection, in OpenSSL's or the system's words; else the error's kind."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLError):
            return f"TLS: {words_of(found)}"
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
        found = found.__cause__ or found.__context__
    return type(error).__name__


def server_context(settings: ListenConfig) -> ssl.SSLContext | None:
    """What who connects to us must fit; None where TLS is not asked for.

    Raises:
        InputError: a file is missing, is no PEM, is locked by a password, or does not fit the others.
    """
    if settings.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context)
    assert settings.tls_key is not None  # see `ListenConfig`
    _load_pair(context, settings.tls_cert, settings.tls_key)
    if settings.tls_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_trusted(context, settings.tls_ca)
    return context


def prompt_server_context(settings: ListenConfig) -> ssl.SSLContext | None:
    """As `server_context`, for connections that shake hands in a thread each.

    Raises:
        InputError: see `server_context`.
    """
    context = server_context(settings)
    if context is not None:
        context.sslsocket_class = PromptSocket
    return context


class PromptSocket(ssl.SSLSocket):
    """A socket whose whole handshake must end within its timeout, however its bytes are spread."""

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands; its context keeps why it failed.

        Raises:
            OSError: it failed, or took too long.
        """
        seconds = self.gettimeout()
        try:
            if seconds is None:
                super().do_handshake(block)
                return
            self.setblocking(False)
            self._within(time.monotonic() + seconds)
            self.settimeout(seconds)
        except OSError as error:
            if isinstance(self.context, ClientContext):
                self.context.failure = f"TLS: {words_of(error)}"
            raise

    def _within(self, end: float) -> None:
        with selectors.DefaultSelector() as selector:
            key = selector.register(self, selectors.EVENT_READ)
            while True:
                try:
                    super().do_handshake()
                    return
                except ssl.SSLWantReadError:
                    key = selector.modify(key.fileobj, selectors.EVENT_READ)
                except ssl.SSLWantWriteError:
                    key = selector.modify(key.fileobj, selectors.EVENT_WRITE)
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise TimeoutError("too slow")


class ClientContext(ssl.SSLContext):
    """A context of connections that we make, one after another.

    Attributes:
        failure: why the last one failed; or "".
    """

    sslsocket_class = PromptSocket
    failure = ""


@dataclass(frozen=True)
class PeerTls:
    """How a peer that we call is spoken to.

    Attributes:
        context: whom we trust, and who we are.
        name: that its certificate must be made out to.
    """

    context: ClientContext = field(repr=False)
    name: str


def peer_tls(settings: ListenConfig, host: str) -> PeerTls | None:
    """How the peer of DICOM at this host is spoken to; None: in plain text, as TLS is not asked for.

    Raises:
        InputError: see `server_context`.
    """
    return client_tls(settings, settings.to_name or host) if settings.to_tls else None


def client_tls(settings: ListenConfig, name: str) -> PeerTls | None:
    """How a peer whose certificate is made out to this name is spoken to; None: in plain text.

    Raises:
        InputError: see `server_context`.
    """
    if settings.tls_cert is None:
        return None
    assert settings.tls_ca is not None  # see `ListenConfig.check_peer`, `MllpConfig.check_with`
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    _restrict(context)
    assert settings.tls_key is not None  # see `ListenConfig`
    _load_pair(context, settings.tls_cert, settings.tls_key)
    _load_trusted(context, settings.tls_ca)
    return PeerTls(context, name)


def _restrict(context: ssl.SSLContext) -> None:
    """Hold a context to the profile."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION


def _file(name: str, field: str, mark: bytes, what: str) -> Path:
    """A PEM file that has what it must have."""
    path = Path(name)
    check_file(name, field)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(error.strerror or "cannot be read", field=field, value=name) from None
    if mark not in data:
        raise InputError(f"has no {what} (PEM)", field=field, value=name)
    return path


class _Locked(Exception):
    """A key asks for a password."""


def _no_password() -> str:
    raise _Locked


def _load_pair(context: ssl.SSLContext, cert: str, key: str, fields: tuple[str, str] = ("tls_cert", "tls_key")) -> None:
    """Our certificate and its key; `fields` is how they are called."""
    certificate = _file(cert, fields[0], b"-----BEGIN CERTIFICATE-----", "certificate")
    private = _file(key, fields[1], b" PRIVATE KEY-----", "private key")
    try:
        context.load_cert_chain(certificate, private, _no_password)
    except _Locked:
        words = "is locked by a password, which nobody can type here: store it unlocked, readable by its owner only"
        raise InputError(words, field=fields[1], value=key) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            words = f"does not belong to the certificate `{fields[0]}` {cert}"
            raise InputError(words, field=fields[1], value=key) from None
        words = f"cannot be used with `{fields[1]}` {key} ({words_of(error)})"
        raise InputError(words, field=fields[0], value=cert) from None


def _load_trusted(context: ssl.SSLContext, name: str, field: str = "tls_ca") -> None:
    """Whom to trust: what the certificates of this file have signed, and these themselves; nobody else."""
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(_file(name, field, b"-----BEGIN CERTIFICATE-----", "certificate"))
    except ssl.SSLError as error:
        raise InputError(f"cannot be used ({words_of(error)})", field=field, value=name) from None


def syslog_connection(config: AuditLogConfig) -> Callable[[], ssl.SSLSocket]:
    """What opens connections to the syslog server of these settings.

    Raises:
        InputError: a file cannot be used.
        OSError (when it connects): the server is not reached, or does not fit.
    """
    assert config.audit_syslog_ca is not None  # see `AuditLogConfig`
    host, port = config.syslog
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    _restrict(context)
    _load_trusted(context, config.audit_syslog_ca, "audit_syslog_ca")
    if config.audit_syslog_cert is not None and config.audit_syslog_key is not None:
        fields = ("audit_syslog_cert", "audit_syslog_key")
        _load_pair(context, config.audit_syslog_cert, config.audit_syslog_key, fields)

    def connect() -> ssl.SSLSocket:
        plain = socket.create_connection((host, port), SYSLOG_SECONDS)
        try:
            return context.wrap_socket(plain, server_hostname=host)
        except BaseException:  # whatever it was, it is raised again
            plain.close()
            raise

    return connect


def doubts_of_keys(settings: ListenConfig) -> list[str]:
    """A line each: a certificate that peers will refuse by its dates, a key that others may read.

    Raises:
        InputError: see `server_context`.
    """
    context, doubts = server_context(settings), []
    if context is None:
        return []
    assert settings.tls_cert is not None
    assert settings.tls_key is not None
    code = _verify_code(context, settings.tls_cert)
    if code in (EXPIRED, NOT_YET):
        when = "has expired" if code == EXPIRED else "is not valid yet"
        doubts.append(f"`tls_cert` {settings.tls_cert} {when}: peers that verify it will refuse us")
    if Path(settings.tls_key).stat().st_mode & 0o077:
        doubts.append(f"`tls_key` {settings.tls_key} can be read by others: chmod 600")
    return doubts


def _verify_code(context: ssl.SSLContext, certificate: str) -> int:
    """What a peer that trusts this very certificate finds wrong with it (OpenSSL's number); 0: nothing.

    Both sides shake hands in memory, as the library reads no dates of a certificate otherwise.
    """
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trusting.load_verify_locations(certificate)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return int(error.verify_code)
            except ssl.SSLError:  # the server wants a certificate of the client, which comes after its own
                return 0
    return 0
