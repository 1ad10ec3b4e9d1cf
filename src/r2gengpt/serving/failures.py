"""What a request is refused with, and what the log says of it. Not the program's own errors."""

import logging
import time
from collections.abc import Callable
from typing import Any

from r2gengpt.errors import InputError, place_of, spelt

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
"""Status → OpenAI's word for it; the other 4xx are `invalid_request_error`, 5xx `server_error`."""


class ApiError(Exception):
    """A request that gets no report.

    Args:
        status: the HTTP status.
        message: one line for the client; it holds nothing of what the client sent but names of fields.
        code: OpenAI's word for the case, where it has one.
        headers: of the answer.
        param: the field of the request that is refused, where it is one.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        headers: dict[str, str] | None = None,
        *,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = headers or {}
        self.param = param

    def body(self) -> dict[str, Any]:
        """The error as OpenAI's clients read it."""
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class ClientGone(Exception):
    """The client has closed the connection: nobody reads an answer."""


INVALID, UNSUPPORTED = "invalid_value", "unsupported_value"
"""OpenAI's codes of values that no server takes, and of those that this one does not serve."""


FORCE = "force_needed"
"""The code of a refusal that `force` would undo."""


def refused(
    error: InputError, status: int = 400, code: str = INVALID, *, param: str | None = None, instruction: str = ""
) -> ApiError:
    """What the program refuses, in the request's words.

    `param` is what is wrong where the error names no field, `instruction` the field that brings a prompt's instruction.
    """
    names = {"instruction": instruction} if instruction else {}
    field = error.field or param or ""
    line = spelt(error.line, lambda name: names.get(name, name))
    return ApiError(status, line, FORCE if field == "force" else code, param=names.get(field, field) or None)


def full(places: int, headers: dict[str, str] | None = None) -> ApiError:
    """All places are taken, or all memory for bodies that waits for one."""
    words = f"all {places} places are taken: try again later"
    return ApiError(429, words, "queue_full", {"Retry-After": "1", **(headers or {})})


def unavailable(reason: str) -> ApiError:
    """Nobody is served now."""
    return ApiError(503, reason, None, {"Retry-After": "5"})


def timed_out(seconds: float) -> ApiError:
    """The report took too long."""
    return ApiError(504, f"no report within {seconds:g} seconds", "timeout")


def failed() -> ApiError:
    """Something is wrong here, and not with the request."""
    return ApiError(500, "the server failed at this request")


def no_model(own: str) -> ApiError:
    """Another model than this server's is asked for."""
    return ApiError(404, f"model: this server has {own} only", "model_not_found", param="model")


EACH_SECOND, AT_ONCE = 50.0, 200.0
"""Lines a second in the long run, and after a pause."""
LIBRARIES = ("uvicorn", "asyncio")
"""Loggers of the libraries that serve; their lines go where the program's own go, as single lines."""


class LineLimit(logging.Filter):
    """Lets lines through as they come, and of a flood so many a second; the next line counts those left out.

    Args:
        each_second: lines in the long run.
        at_once: lines after a pause.
        now: a clock in seconds.
    """

    def __init__(
        self,
        each_second: float = EACH_SECOND,
        at_once: float = AT_ONCE,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.each_second = each_second
        self.at_once = at_once
        self.now = now
        self.left = at_once
        self.since = now()
        self.dropped = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is shown."""
        now = self.now()
        self.left = min(self.at_once, self.left + (now - self.since) * self.each_second)
        self.since = now
        if self.left < 1:
            self.dropped += 1
            return False
        self.left -= 1
        if record.name.split(".")[0] in LIBRARIES:
            record.msg, record.args = _line_of(record), ()
            record.exc_info = record.exc_text = record.stack_info = None
        if self.dropped:
            record.msg, record.args = f"{record.getMessage()} ({self.dropped} lines before it were left out)", ()
            self.dropped = 0
        return True


def _line_of(record: logging.LogRecord) -> str:
    """A library's line: its first, with the kind and place of the error instead of a traceback."""
    first = record.getMessage().strip().partition("\n")[0]
    error = record.exc_info[1] if record.exc_info else None
    return first if error is None else f"{first}: {place_of(error)}"


def limit_lines() -> None:
    """Limit what the program's handlers show, and show what the libraries that serve have to say by the same."""
    handlers = logging.getLogger("r2gengpt").handlers
    limit = LineLimit()
    for handler in handlers:
        handler.addFilter(limit)
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        logger.handlers[:] = handlers
        logger.propagate = False
