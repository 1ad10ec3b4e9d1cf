"""Around every request: who may ask, headers of every answer, one log line, every error answered. No route's work."""

import asyncio
import hmac
import ipaddress
import logging
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from r2gengpt.errors import InputError, place_of
from r2gengpt.serving.failures import ApiError, unavailable
from r2gengpt.serving.metrics import Metrics
from r2gengpt.settings import ServeConfig
from r2gengpt.text.written import NOTICE

log = logging.getLogger("r2gengpt.serving")
KEYS_VARIABLE = "R2GENGPT_API_KEYS"
SHORTEST_KEY = 16
METHODS = ("GET", "POST", "HEAD", "OPTIONS")
PROBES = ("/health", "/ready", "/metrics", "/v1/queue/{ticket}")
"""Asked every few seconds by machines and by the page that waits: no log line for each."""
HEADERS = {
    "X-Notice": NOTICE,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Headers of every answer; a route that has set one of them itself keeps its own."""


def read_keys(settings: ServeConfig) -> tuple[bytes, ...]:
    """The API keys of `api_key_file`, else of the environment; none where neither is set.

    Raises:
        InputError: no such file, no key in it, or a key that is too short to be one.
    """
    if settings.api_key_file is not None:
        source = f"`api_key_file` {settings.api_key_file}"
        try:
            lines = Path(settings.api_key_file).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise InputError(f"{source}: {getattr(error, 'strerror', None) or 'is no text'}") from None
    else:
        source, lines = KEYS_VARIABLE, os.environ.get(KEYS_VARIABLE, "").replace(",", "\n").split()
        if KEYS_VARIABLE not in os.environ:
            return ()
    keys = tuple(line.strip().encode() for line in lines if line.strip() and not line.startswith("#"))
    if not keys:
        raise InputError(f"{source}: holds no key")
    if (shortest := min(map(len, keys))) < SHORTEST_KEY:
        raise InputError(f"{source}: a key has {shortest} characters: at least {SHORTEST_KEY}")
    return keys


def key_is_known(given: str, keys: Sequence[bytes]) -> bool:
    """Whether an Authorization header holds one of the keys, in a time that does not tell how much of it is right."""
    scheme, _, key = given.partition(" ")
    found = [hmac.compare_digest(key.strip().encode(), known) for known in keys]
    return scheme.lower() == "bearer" and any(found)


def is_loopback(name: str) -> bool:
    """Whether a client's name for a server means the client's own machine: 127.0.0.0/8, ::1 however written, localhost.

    >>> [is_loopback(name) for name in ("127.9.9.9", "0:0::1", "::ffff:127.0.0.1", "localhost", "127.0.0.1.example")]
    [True, True, True, True, False]
    """
    name = name.lower().removesuffix(".")
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def listens_inside(host: str) -> bool:
    """Whether a server that listens on this address can be reached from its own machine only."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # no such name: nothing listens
        return is_loopback(host)
    return all(is_loopback(str(address[0]).partition("%")[0]) for *_, address in found)


class Guard:
    """ASGI middleware around all routes."""

    def __init__(self, app: ASGIApp, settings: ServeConfig, keys: tuple[bytes, ...], metrics: Metrics) -> None:
        self.app = app
        self.settings = settings
        self.keys = keys
        self.metrics = metrics
        self.inside = listens_inside(settings.host)
        self.names = (settings.host.lower(), *(urlsplit(origin).hostname for origin in settings.cors_origin))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.monotonic(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            refusal = self.refusal(scope)
            if refusal is None:
                await self.app(scope, receive, sending)
            else:
                await answer(refusal)(scope, receive, sending)
        except asyncio.CancelledError:  # the server ends, and this request has had its --drain_timeout
            if not status:
                await answer(unavailable("the server is shutting down"))(scope, receive, sending)
        except Exception as error:  # no server may tell a client, or its log, what was in a request
            log.error("500: %s", place_of(error))
            if not status:
                await answer(ApiError(500, "the server failed at this request"))(scope, receive, sending)
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in METHODS else "other"
        seconds = time.monotonic() - start
        self.metrics.count(route, status, seconds)
        level = logging.DEBUG if route in PROBES else logging.INFO
        log.log(level, "%s %s %d %.3f s", method, route, status, seconds)

    def refusal(self, scope: Scope) -> ApiError | None:
        """Why this request may not come in: another name than this machine's, a foreign page, no key."""
        headers = Headers(scope=scope)
        close = {"Connection": "close"}
        try:
            host = urlsplit(f"//{headers.get('host', '')}")
            name = host.hostname or ""
        except ValueError:
            return ApiError(400, "Host: cannot be read", None, close)
        if self.inside and not is_loopback(name) and name not in self.names:
            words = "Host: this server is reached as 127.0.0.1 or localhost, and by the names that it was started with"
            return ApiError(400, words, None, close)
        origin = headers.get("origin")
        if origin is not None and origin not in self.settings.cors_origin and origin.split("://")[-1] != host.netloc:
            return ApiError(403, "Origin: pages of other origins may not ask", None, close)
        asks = scope["path"].startswith("/v1/") and scope["method"] != "OPTIONS"
        if self.keys and asks and not key_is_known(headers.get("authorization", ""), self.keys):
            close["WWW-Authenticate"] = "Bearer"
            return ApiError(401, "Authorization: needs one of this server's keys", "invalid_api_key", close)
        return None


def answer(error: ApiError) -> JSONResponse:
    """A refusal as a response."""
    return JSONResponse(error.body(), error.status, error.headers)
