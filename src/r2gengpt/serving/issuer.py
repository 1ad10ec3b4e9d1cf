"""Who signs bearer tokens: an OpenID provider's public keys, found, fetched within bounds, and kept. Judges no token.

Keys are fetched again when they are `FRESH` seconds old, in the background, and when a token names one that is not
known. A provider that is out takes nothing away for `KEPT` seconds, and lets nobody in whose key is not known.
Needs joserfc (extra `oidc`), which is imported where it is used.
"""

import asyncio
import json
import logging
import ssl
import time
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from r2gengpt.errors import InputError, one_line
from r2gengpt.posting import NoRedirect
from r2gengpt.serving.address import is_loopback

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, RSAKey

    PublicKey = RSAKey | ECKey

log = logging.getLogger("r2gengpt.serving")
DISCOVERY = "/.well-known/openid-configuration"
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""What a token may be signed with: no shared secret, and never nothing."""
FRESH, KEPT, PAUSE = 300.0, 3600.0, 10.0
"""Seconds: after which keys are fetched again; for which they count at most; between two fetches at least."""
MOST_BYTES, MOST_KEYS = 2**19, 100
SILENT, WHOLE, PATIENCE = 5.0, 10.0, 30.0
"""Seconds for the next bytes of a provider's answer, for all of it, and for who waits for both its documents."""
SHORTEST_RSA = 2048
PIECE = 2**14
Fetch = Callable[[str], bytes]


class IssuerOut(Exception):
    """The provider's keys cannot be had now: one line why."""


class WrongIssuer(Exception):
    """What is at the address is not this provider: one line why."""


def check_url(url: str) -> None:
    """Refuse an address that keys cannot come from safely.

    Raises:
        ValueError: it is neither https nor this machine's; one line.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username is not None or parts.fragment:
        raise ValueError("must be an address like https://login.example/realms/hospital")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("must begin with https://, unless it is this machine's")


def fetcher(ca_file: str | None) -> Fetch:
    """What fetches a document, whole or not at all.

    Args:
        ca_file: certificates that the provider's must come from, PEM; None: the system's.

    Raises:
        InputError: the file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:
        is_open = isinstance(error, ssl.SSLError | ValueError)
        words = "holds no certificates" if is_open else one_line(str(getattr(error, "strerror", "cannot be read")))
        raise InputError(words, field="oidc_ca_file", value=ca_file) from None
    secure = urllib.request.HTTPSHandler(context=context)
    outside = urllib.request.build_opener(NoRedirect, secure)
    inside = urllib.request.build_opener(NoRedirect, secure, urllib.request.ProxyHandler({}))

    def fetch(url: str) -> bytes:
        end, found = time.monotonic() + WHOLE, bytearray()
        request = urllib.request.Request(url, headers={"Accept": "application/json"})
        opener = inside if is_loopback(urlsplit(url).hostname or "") else outside  # no proxy on the way to ourselves
        try:
            with opener.open(request, timeout=SILENT) as answer:
                while piece := answer.read1(PIECE):
                    found += piece
                    if len(found) > MOST_BYTES:
                        raise IssuerOut(f"it sends more than {MOST_BYTES} bytes")
                    if time.monotonic() > end:
                        raise IssuerOut(f"it takes more than {WHOLE:g} s to answer")
        except HTTPError as error:
            error.close()
            raise IssuerOut(f"it answers with status {error.code}") from None
        except (OSError, ValueError, HTTPException) as error:
            raise IssuerOut(one_line(str(getattr(error, "reason", "")) or type(error).__name__)[:200]) from None
        return bytes(found)

    return fetch


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise IssuerOut(f"its {what} is no JSON") from None
    if not isinstance(found, dict):
        raise IssuerOut(f"its {what} is no JSON object")
    return found


def usable_keys(document: Mapping[str, Any]) -> "dict[str, PublicKey]":
    """The keys of a JWKS document that signatures are checked with, by their `kid`; one without has the name "".

    Others are left out: shared secrets, keys for encryption, short ones, and those that cannot be read.

    Raises:
        IssuerOut: it is no such document, or holds none.
    """
    from joserfc.jwk import ECKey, RSAKey

    listed = document.get("keys")
    if not isinstance(listed, list):
        raise IssuerOut("its document of keys has no list of keys")
    kinds: dict[str, type[RSAKey] | type[ECKey]] = {"RSA": RSAKey, "EC": ECKey}
    found: dict[str, PublicKey] = {}
    for one in listed[:MOST_KEYS]:
        if (
            not isinstance(one, dict)
            or one.get("use", "sig") != "sig"
            or one.get("alg", ALGORITHMS[0]) not in ALGORITHMS
        ):
            continue
        kind = kinds.get(str(one.get("kty")))
        if kind is None or (kind is RSAKey and len(str(one.get("n"))) * 6 < SHORTEST_RSA):  # base64: six bits a sign
            continue
        try:
            key = kind.import_key({name: value for name, value in one.items() if name in PUBLIC})
        except Exception:  # a parser over what somebody else has made: the other keys may be good
            continue
        if key.raw_value.key_size >= SHORTEST_RSA or isinstance(key, ECKey):
            found[str(one.get("kid", ""))] = key
    if not found:
        raise IssuerOut("it lists no key that tokens can be checked with")
    return found


PUBLIC = ("kty", "kid", "use", "alg", "n", "e", "crv", "x", "y")
"""The members of a key that are read; `key_ops` and certificates are not needed, and private parts not wanted."""


@dataclass(frozen=True)
class _Fetched:
    """Keys, and when they came."""

    keys: "Mapping[str, PublicKey]"
    at: float


class Issuer:
    """The keys of one provider; used in the event loop, fetched in a thread.

    Args:
        url: the issuer's name, as tokens have it.
        fetch: gets a document.
        now: a clock in seconds.
    """

    def __init__(self, url: str, fetch: Fetch, now: Callable[[], float] = time.monotonic) -> None:
        self.url, self.fetch, self.now = url, fetch, now
        self.fault = "its keys were not fetched yet"
        self._found: _Fetched | None = None
        self._tried: float | None = None
        self._pool = ThreadPoolExecutor(1, "issuer")

    async def key(self, kid: str | None) -> "PublicKey | None":
        """The key of this name; for a token that names none, the only one that there is. None where there is none.

        Raises:
            IssuerOut: no keys can be had.
        """
        if self._known(kid) is None and self._is_due():
            try:
                async with asyncio.timeout(PATIENCE):
                    await asyncio.get_running_loop().run_in_executor(self._pool, self._fetch_again)
            except TimeoutError:
                raise IssuerOut(f"it takes more than {PATIENCE:g} s to answer") from None
        elif self._found is not None and self.now() - self._found.at > FRESH and self._is_due():
            self._pool.submit(self._fetch_again)
        if self._keys() is None:
            raise IssuerOut(self.fault)
        return self._known(kid)

    def fetch_keys(self) -> None:
        """Fetch the keys now.

        Raises:
            WrongIssuer: another one is there, or its document names no place of keys.
            IssuerOut: it cannot be reached, or has no keys that can be used.
        """
        document = _object(self.fetch(self.url.rstrip("/") + DISCOVERY), "configuration")
        if document.get("issuer") != self.url:
            named = one_line(str(document.get("issuer")))[:200]
            raise WrongIssuer(f"its configuration names the issuer {named}")
        place = document.get("jwks_uri")
        try:
            check_url(place if isinstance(place, str) else "")
        except ValueError as error:
            raise WrongIssuer(f"the address of its keys (jwks_uri) {error}") from None
        self._found = _Fetched(usable_keys(_object(self.fetch(str(place)), "document of keys")), self.now())

    def _keys(self) -> "Mapping[str, PublicKey] | None":
        """The keys that count now; None where there are none."""
        if self._found is None or self.now() - self._found.at > KEPT:
            return None
        return self._found.keys

    def _known(self, kid: str | None) -> "PublicKey | None":
        keys = self._keys()
        if keys is None:
            return None
        return keys.get(kid) if kid is not None else next(iter(keys.values())) if len(keys) == 1 else None

    def _is_due(self) -> bool:
        return self._tried is None or self.now() - self._tried >= PAUSE

    def _fetch_again(self) -> None:
        """In the pool's thread: fetch, unless somebody has just done so."""
        if not self._is_due():
            return
        try:
            self.fetch_keys()
            fault = ""
        except (IssuerOut, WrongIssuer) as error:
            fault = str(error)
        if fault and fault != self.fault:
            log.warning("oidc_issuer %s: its keys cannot be fetched: %s", self.url, fault)
        self.fault, self._tried = fault, self.now()
