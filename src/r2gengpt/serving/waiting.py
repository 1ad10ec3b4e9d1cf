"""A request's way to its report, in the event loop: a place, a deadline, text as it comes, the end. No formats."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from starlette.requests import Request

from r2gengpt.config import ServeConfig
from r2gengpt.errors import InputError
from r2gengpt.serving.failures import ApiError, ClientGone, full, refused, timed_out, unavailable
from r2gengpt.serving.generator import Generator, Served
from r2gengpt.serving.jobs import Answer, Job, Line
from r2gengpt.serving.metrics import Metrics
from r2gengpt.serving.uploads import limited_body

T = TypeVar("T")
Event = str | Answer
"""A piece of text, or the end."""
DECODING_THREADS = 2
"""Images decoded at once: each may take some hundred MB for a moment."""


async def disconnected(request: Request) -> None:
    """Return when the client has closed the connection; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Wait:
    """One job's events, for the request that waits for them.

    Args:
        job: not yet in the line.
        line: where it will wait.
        request: whose body was read.
        deadline: in the event loop's time.
        limit: seconds that the deadline was set to, for the error's words.
    """

    def __init__(self, job: Job, line: Line, request: Request, deadline: float, limit: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.events: asyncio.Queue[Event | BaseException] = asyncio.Queue()
        self.job = job
        self.line = line
        self.request = request
        self.deadline = deadline
        self.limit = limit
        self._watch: asyncio.Task[None] | None = None

    def _tell(self, event: Event | BaseException) -> None:
        """From any thread."""
        with suppress(RuntimeError):  # the loop is closed: the server has stopped, and with it who waited
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)

    def _ended(self, future: Future[Answer]) -> None:
        self._tell(future.exception() or future.result())

    def _left(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._tell(task.exception() or ClientGone())

    def begin(self, *, streaming: bool) -> None:
        """Put the job into the line.

        Raises:
            ApiError: 503, the server stops.
        """
        if streaming:
            self.job.on_text = self._tell
        self.job.future.add_done_callback(self._ended)
        self._watch = asyncio.create_task(disconnected(self.request))
        self._watch.add_done_callback(self._left)
        self.line.put(self.job)

    async def next(self) -> Event:
        """The next event.

        Raises:
            ApiError: 504 at the deadline, 503 where the server stops, 400 where the text is no prompt.
            ClientGone: nobody waits any more.
        """
        try:
            async with asyncio.timeout_at(self.deadline):
                event = await self.events.get()
        except TimeoutError:
            raise timed_out(self.limit) from None
        if isinstance(event, InputError):
            raise refused(event)
        if isinstance(event, BaseException):
            raise event
        return event

    async def answer(self) -> Answer:
        """The end; text before it is passed over."""
        while isinstance(event := await self.next(), str):
            pass
        return event

    def end(self) -> None:
        """Whatever happened: the job is nobody's any more."""
        self.line.drop(self.job)
        if self._watch is not None:
            self._watch.cancel()


class Visit:
    """A request on its way: it reads its body, then it has a place."""

    def __init__(self, desk: "Desk", served: Served) -> None:
        self.desk = desk
        self.served = served
        self.limit = desk.settings.request_timeout
        self.deadline = asyncio.get_running_loop().time() + self.limit
        self.has_place = False
        self.bytes = 0

    def _take_bytes(self, count: int) -> None:
        self.bytes += count
        self.desk.bytes += count
        if self.desk.bytes > self.desk.most_bytes:
            raise full(self.desk.generator.line.places, {"Connection": "close"})

    def pieces(self, request: Request) -> AsyncIterator[bytes]:
        """The pieces of the request's body, within the server's limits."""
        return limited_body(request, self.desk.settings.max_body_mb * 2**20, self._take_bytes)

    def leave(self) -> None:
        """Give back what was taken."""
        self.desk.bytes -= self.bytes
        if self.has_place:
            self.desk.generator.line.free_place()

    async def read(self, work: Coroutine[Any, Any, T]) -> T:
        """What the client sends; when it has come, the request takes a place.

        Raises:
            ApiError: 408, it was too slow; 429 where there is no place any more, 503 where the server stops.
        """
        try:
            async with asyncio.timeout_at(self.deadline):
                found = await work
            self.desk.generator.line.take_place()
            self.has_place = True
            return found
        except TimeoutError:
            raise ApiError(
                408, f"the body took more than {self.limit:g} seconds", None, {"Connection": "close"}
            ) from None

    async def prepare(self, work: Callable[[], T], pool: ThreadPoolExecutor | None = None) -> T:
        """Work that would hold up the event loop, in one of the decoding threads, or of another pool's.

        Raises:
            ApiError: 504 at the deadline, and what the work raises.
        """
        try:
            async with asyncio.timeout_at(self.deadline):
                return await asyncio.get_running_loop().run_in_executor(pool or self.desk.pool, work)
        except TimeoutError:
            raise timed_out(self.limit) from None

    @contextmanager
    def wait(self, job: Job, request: Request) -> Iterator[Wait]:
        """Wait for a job; whatever happens, it is dropped at the end."""
        wait = Wait(job, self.desk.generator.line, request, self.deadline, self.limit)
        try:
            yield wait
        finally:
            wait.end()


class Desk:
    """What the routes of one server share.

    Attributes:
        bytes: of bodies that are being read or whose requests have a place; memory is bounded by `most_bytes` of them.
    """

    def __init__(self, generator: Generator, settings: ServeConfig, metrics: Metrics) -> None:
        self.generator = generator
        self.settings = settings
        self.metrics = metrics
        self.bytes, self.most_bytes = 0, settings.places * settings.max_body_mb * 2**20
        self.pool = ThreadPoolExecutor(DECODING_THREADS, "decoder")
        self.archive = ThreadPoolExecutor(1, "archive")  # forms for archives: what reads labels is one thread's own

    def served(self) -> Served:
        """The model.

        Raises:
            ApiError: 503 while it is not there.
        """
        served = self.generator.served
        if served is None:
            raise unavailable("the model is being loaded")
        return served

    @contextmanager
    def visit(self) -> Iterator[Visit]:
        """A request, until it is answered; it is not let in where it would get no place.

        Raises:
            ApiError: 429 where there is none, 503 while the model is not there or the server stops.
        """
        served = self.served()
        self.generator.line.check_place()
        visit = Visit(self, served)
        try:
            yield visit
        finally:
            visit.leave()
