"""What a request is refused with: status and words, in the shape of OpenAI's errors. Not the program's own errors."""

from typing import Any

from r2gengpt.errors import InputError

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


def refused(error: InputError, status: int = 400, code: str = INVALID) -> ApiError:
    """What the program refuses, in the request's words: its fields instead of flags."""
    return ApiError(status, error.in_fields(), code, param=error.field)


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


def no_model(own: str) -> ApiError:
    """Another model than this server's is asked for."""
    return ApiError(404, f"model: this server has {own} only", "model_not_found", param="model")
