"""`GET /v1/queue/TICKET`: where a study is on its way, for who waits for it. Writes nothing."""

import re
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request

from r2gengpt.serving.access import caller_of
from r2gengpt.serving.failures import INVALID, ApiError
from r2gengpt.serving.pace import QueueProgress
from r2gengpt.serving.waiting import ServerContext

TICKET = "X-Ticket"
"""The header of a request for a report."""
_FORM = re.compile(r"[A-Za-z0-9-]{16,64}")


def ticket_of(text: str) -> str:
    """A client's name for its request, drawn by itself; "" for none.

    Raises:
        ApiError: 400, it could be guessed, or is no such name.
    """
    if text and not _FORM.fullmatch(text):
        raise ApiError(400, f"{TICKET}: must be 16 to 64 letters, digits and hyphens", INVALID, param=TICKET)
    return text


def queue_routes(server: ServerContext) -> APIRouter:
    """`GET /v1/queue/TICKET`."""
    router = APIRouter()

    @router.get("/v1/queue/{ticket}")
    async def queue(request: Request, ticket: str) -> dict[str, Any]:
        """The place of the study that its caller sent with this ticket, and about how long it takes; null: unknown."""
        job = server.tickets.get((caller_of(request).id, ticket_of(ticket)))
        standing = QueueProgress(None, None) if job is None else server.generator.line.standing(job)
        left = standing.seconds_left
        return {**asdict(standing), "seconds_left": None if left is None else round(left, 1)}

    return router
