"""Server-sent events as a response that gives back what its request holds, whatever happens. No contents."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from r2gengpt.serving.failures import ApiError, ClientGone


class EventStream(Response):
    """The events' data one by one; an error on the way is the last event, as the status has been sent.

    Args:
        events: the data of each event, without line breaks.
        held: closed at the end: the request's place and its wait.
        deadline: in the event loop's time; a client that reads too slowly loses its place then.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], held: ExitStack, deadline: float) -> None:
        self.events = events
        self.held = held
        self.deadline = deadline
        self.status_code = 200
        self.background = None
        self.init_headers({"X-Accel-Buffering": "no"})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them all."""

        async def put(text: str, *, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": more})

        with self.held:
            try:
                async with asyncio.timeout_at(self.deadline + 1.0):  # `events` itself says so at the deadline
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    try:
                        async for data in self.events:
                            await put(f"data: {data}\n\n")
                    except ApiError as error:
                        await put(f"data: {json.dumps(error.body())}\n\n")
                    self.held.close()  # before the end: a client that reads it may ask again at once
                    await put("", more=False)
            except (TimeoutError, ClientGone):
                return  # nobody reads, and the status has been sent
