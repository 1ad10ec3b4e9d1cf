"""Around every request: who may ask, headers of every answer, one log line, every error answered. No route's work."""

import asyncio
import logging
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from r2gengpt.errors import place_of
from r2gengpt.serving.access import Caller, wanted
from r2gengpt.serving.address import is_loopback, listens_inside
from r2gengpt.serving.failures import ApiError, failed, unavailable
from r2gengpt.serving.identity import CLOSE, Identity, is_operator, not_allowed
from r2gengpt.serving.metrics import Metrics
from r2gengpt.serving.trail import REFUSED, NotRecorded, Trail, concerns_patients
from r2gengpt.settings import ServeConfig
from r2gengpt.text.written import NOTICE

log = logging.getLogger("r2gengpt.serving")
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
TOLD = ("X-Notice", "X-Warning", "X-View", "X-Frames", "X-Replaced", "Retry-After", "WWW-Authenticate")
"""Headers of answers that tell something; pages of the origins that settings name may read them."""


class Guard:
    """ASGI middleware around all routes.

    Args:
        app: what it stands around.
        settings: who may ask from where.
        identity: who may ask for what.
        metrics: counts answers.
        words: status → the words and OpenAI's code of an address that is none, or not by this method.
        trail: records requests; None where nothing is recorded.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ServeConfig,
        identity: Identity,
        metrics: Metrics,
        words: Mapping[int, tuple[str, str]],
        trail: Trail | None = None,
    ) -> None:
        self.app = app
        self.settings = settings
        self.identity = identity
        self.metrics = metrics
        self.words = words
        self.trail = trail
        self.inside = listens_inside(settings.host)
        self.names = (settings.host.lower(), *(urlsplit(origin).hostname for origin in settings.cors_origin))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.monotonic(), 0
        origin = Headers(scope=scope).get("origin", "")

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if self.trail is not None and not is_unrecorded:
                    await self.trail.record(scope, message["status"], headers.get("content-type", ""))
                status = message["status"]
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if origin in self.settings.cors_origin:  # refusals too, which no other middleware sees
                    headers.setdefault("Access-Control-Allow-Origin", origin)
                    headers.setdefault("Access-Control-Expose-Headers", ", ".join(TOLD))
                    headers.add_vary_header("Origin")
            await send(message)

        is_unrecorded = False
        try:
            refusal = self.refusal(scope) or await self.identify(scope)
            if self.trail is not None and refusal is None and concerns_patients(scope):
                await self.trail.check()
            if refusal is None:
                await self.app(scope, receive, sending)
            else:
                scope.setdefault("state", {})[REFUSED] = True
                await answer(refusal)(scope, receive, sending)
        except NotRecorded as error:
            is_unrecorded = True
            await answer(unavailable(str(error)))(scope, receive, sending)
        except asyncio.CancelledError:  # the server ends, and this request has had its --drain_timeout
            if not status:
                await answer(unavailable("the server is shutting down"))(scope, receive, sending)
        except Exception as error:  # no server may tell a client, or its log, what was in a request
            log.error("500: %s", place_of(error))
            if not status:
                await answer(failed())(scope, receive, sending)
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in METHODS else "other"
        seconds = time.monotonic() - start
        self.metrics.count(route, status, seconds)
        level = logging.DEBUG if route in PROBES else logging.INFO
        log.log(level, "%s %s %d %.3f s", method, route, status, seconds)

    def refusal(self, scope: Scope) -> ApiError | None:
        """Why this request may not come in, whoever asks: another name than this machine's, a foreign page."""
        headers = Headers(scope=scope)
        try:
            host = urlsplit(f"//{headers.get('host', '')}")
            name = host.hostname or ""
        except ValueError:
            return ApiError(400, "Host: cannot be read", None, CLOSE)
        if self.inside and not is_loopback(name) and name not in self.names:
            words = "Host: this server is reached as 127.0.0.1 or localhost, and by the names that it was started with"
            return ApiError(400, words, None, CLOSE)
        origin = headers.get("origin")
        if origin is not None and origin not in self.settings.cors_origin and origin.split("://")[-1] != host.netloc:
            return ApiError(403, "Origin: pages of other origins may not ask", None, CLOSE)
        return None

    async def identify(self, scope: Scope) -> ApiError | None:
        """Note who asks in the request's state; or why they may not: no key, no such role, no such address.

        An address that the table of roles has not is an admin's alone: others get what an address that is none gets.
        """
        path = scope["path"]
        needs = wanted(scope["method"], path)
        if scope["method"] == "OPTIONS" or self.identity.needs_nobody(needs, path):
            return None
        found = await self.identity.caller(Headers(scope=scope).get("authorization", ""))
        caller = found if isinstance(found, Caller) else None
        scope.setdefault("state", {})["caller"] = caller
        if isinstance(found, ApiError) and (needs.roles is not None or path.startswith("/v1/")):
            return found
        if needs.roles is None and not is_operator(caller):
            status = 405 if needs.is_address else 404
            return ApiError(status, *self.words[status])
        if caller is not None and needs.roles is not None and not caller.roles & needs.roles:
            return not_allowed(caller, needs.roles)
        return None


def answer(error: ApiError) -> JSONResponse:
    """A refusal as a response."""
    return JSONResponse(error.body(), error.status, error.headers)
