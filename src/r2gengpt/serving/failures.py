"""What a request is refused with: status and words, in the shape of OpenAI's errors. Not the program's own errors."""

from typing import Any

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
"""Status → OpenAI's word for it; the other 4xx are `invalid_request_error`, 5xx `server_error`."""


class ApiError(Exception):
    """A request that gets no report.

    Args:
        status: the HTTP status.
        message: one line for the client; it holds nothing of what the client sent but names of fields.
        code: OpenAI's word for the case, where it has one.
        headers: of the answer.
    """

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = headers or {}


class ClientGone(Exception):
    """The client has closed the connection: nobody reads an answer."""


def error_body(status: int, message: str, code: str | None = None) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def full(places: int) -> ApiError:
    """All places are taken."""
    return ApiError(429, f"all {places} places are taken: try again later", "queue_full", {"Retry-After": "1"})


def unavailable(reason: str) -> ApiError:
    """Nobody is served now."""
    return ApiError(503, reason, None, {"Retry-After": "5"})


def timed_out(seconds: float) -> ApiError:
    """The report took too long."""
    return ApiError(504, f"no report within {seconds:g} seconds", "timeout")
