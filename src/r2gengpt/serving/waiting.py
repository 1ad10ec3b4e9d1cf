"""A request's way to its report, in the event loop: a place, a deadline, text as it comes, the end. No formats."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from r2gengpt.errors import InputError, place_of
from r2gengpt.serving.failures import ApiError, ClientGone, failed, full, refused, timed_out, unavailable
from r2gengpt.serving.generator import Generator
from r2gengpt.serving.jobs import Answer, Job, Queue
from r2gengpt.serving.metrics import Metrics
from r2gengpt.serving.paired import PairedModel
from r2gengpt.serving.served import ServedModel
from r2gengpt.serving.uploads import limited_body
from r2gengpt.settings import ServeConfig

if TYPE_CHECKING:
    from r2gengpt.verdicts.store import VerdictStore

log = logging.getLogger("r2gengpt.serving")


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
                    except ClientGone:
                        raise
                    except Exception as error:
                        if not isinstance(error, ApiError):
                            log.error("500: %s", place_of(error))
                        last = error if isinstance(error, ApiError) else failed()
                        await put(f"data: {json.dumps(last.body())}\n\n")
                    self.held.close()  # before the end: a client that reads it may ask again at once
                    await put("", more=False)
            except (TimeoutError, ClientGone):
                return  # nobody reads, and the status has been sent


T = TypeVar("T")
Event = str | Answer
"""A piece of text, or the end."""


@dataclass(frozen=True)
class JobEvent:
    """An event of one of a request's jobs, by the job's number."""

    job: int
    event: Event


DECODING_THREADS = 2
"""Images decoded at once: each may take some hundred MB for a moment."""


async def disconnected(request: Request) -> None:
    """Return when the client has closed the connection; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Wait:
    """The events of a request's jobs, for the request that waits for them.

    Args:
        jobs: not yet in the line.
        line: where it will wait.
        request: whose body was read.
        deadline: in the event loop's time.
        limit: seconds that the deadline was set to, for the error's words.
    """

    def __init__(self, jobs: Sequence[Job], line: Queue, request: Request, deadline: float, limit: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.events: asyncio.Queue[JobEvent | BaseException] = asyncio.Queue()
        self.jobs = jobs
        self.line = line
        self.request = request
        self.deadline = deadline
        self.limit = limit
        self._watch: asyncio.Task[None] | None = None

    def _tell(self, event: JobEvent | BaseException) -> None:
        """From any thread."""
        with suppress(RuntimeError):  # the loop is closed: the server has stopped, and with it who waited
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)

    def _tell_text(self, job: int, text: str) -> None:
        self._tell(JobEvent(job, text))

    def _ended(self, job: int, future: Future[Answer]) -> None:
        self._tell(future.exception() or JobEvent(job, future.result()))

    def _left(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._tell(task.exception() or ClientGone())

    def begin(self, *, streaming: bool) -> None:
        """Put the jobs into the line.

        Raises:
            ApiError: 503, the server stops.
        """
        for number, job in enumerate(self.jobs):
            if streaming:
                job.on_text = partial(self._tell_text, number)
            job.future.add_done_callback(partial(self._ended, number))
        self._watch = asyncio.create_task(disconnected(self.request))
        self._watch.add_done_callback(self._left)
        for job in self.jobs:
            self.line.put(job)

    async def next(self) -> Event:
        """The next event of the only job; raises as `next_of_any`."""
        return (await self.next_of_any()).event

    async def next_of_any(self) -> JobEvent:
        """The next event of any job.

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
            raise refused(event, instruction=self.jobs[0].asked_in)
        if isinstance(event, BaseException):
            raise event
        return event

    async def answer(self) -> Answer:
        """The end of the only job; text before it is passed over."""
        return (await self.answers())[0]

    async def answers(self) -> list[Answer]:
        """The ends of all jobs, in their order."""
        found: dict[int, Answer] = {}
        while len(found) < len(self.jobs):
            next_one = await self.next_of_any()
            if isinstance(next_one.event, Answer):
                found[next_one.job] = next_one.event
        return [found[number] for number in range(len(self.jobs))]

    def end(self) -> None:
        """Whatever happened: the jobs are nobody's any more."""
        for job in self.jobs:
            self.line.drop(job)
        if self._watch is not None:
            self._watch.cancel()


class RequestContext:
    """A request on its way: it reads its body, then it has a place."""

    def __init__(self, server: "ServerContext", reporter: ServedModel) -> None:
        self.server = server
        self.reporter = reporter
        self.limit = server.settings.request_timeout
        self.deadline = asyncio.get_running_loop().time() + self.limit
        self.places = 0
        self.bytes = 0

    def _take_bytes(self, count: int) -> None:
        self.bytes += count
        self.server.take_bytes(count)

    def pieces(self, request: Request) -> AsyncIterator[bytes]:
        """The pieces of the request's body, within the server's limits."""
        return limited_body(request, self.server.settings.max_body_mb * 2**20, self._take_bytes)

    def leave(self) -> None:
        """Give back what was taken."""
        self.server.bytes -= self.bytes
        self.server.generator.line.free_place(self.places)

    async def read(self, work: Coroutine[Any, Any, T]) -> T:
        """What the client sends; when it has come, the request takes a place.

        Raises:
            ApiError: 408, it was too slow; 429 where there is no place any more, 503 where the server stops.
        """
        try:
            async with asyncio.timeout_at(self.deadline):
                found = await work
            self.take_places(1)
            return found
        except TimeoutError:
            raise ApiError(
                408, f"the body took more than {self.limit:g} seconds", None, {"Connection": "close"}
            ) from None

    def take_places(self, count: int) -> None:
        """Take so many places, until the request is answered.

        Raises:
            ApiError: 429 where they are not free, 503 where the server stops.
        """
        self.server.generator.line.take_place(count)
        self.places += count

    async def prepare(self, work: Callable[[], T], pool: ThreadPoolExecutor | None = None) -> T:
        """Work that would hold up the event loop, in one of the decoding threads, or of another pool's.

        Raises:
            ApiError: 504 at the deadline, and what the work raises.
        """
        try:
            async with asyncio.timeout_at(self.deadline):
                return await asyncio.get_running_loop().run_in_executor(pool or self.server.pool, work)
        except TimeoutError:
            raise timed_out(self.limit) from None

    async def settle(self, *jobs: Job) -> None:
        """Settle which runtime writes each job, where the model has both; wait for PyTorch where one needs it.

        Raises:
            ApiError: as `torch`.
        """
        if not isinstance(self.reporter, PairedModel):
            return
        for job in jobs:
            job.by_graphs = self.reporter.drafts(job)
        if any(job.needs_model or not job.by_graphs for job in jobs):
            await self.torch()

    async def torch(self) -> None:
        """Wait until the model is there in PyTorch, where it has it.

        Raises:
            ApiError: 503 where it cannot be loaded, 504 at the deadline.
        """
        if not isinstance(self.reporter, PairedModel):
            return
        try:
            async with asyncio.timeout_at(self.deadline):
                await asyncio.wrap_future(self.reporter.torch())
        except TimeoutError:
            raise timed_out(self.limit) from None

    @contextmanager
    def wait(self, jobs: Sequence[Job], request: Request) -> Iterator[Wait]:
        """Wait for jobs; whatever happens, they are dropped at the end."""
        wait = Wait(jobs, self.server.generator.line, request, self.deadline, self.limit)
        try:
            yield wait
        finally:
            wait.end()


class ServerContext:
    """What the routes of one server share.

    Attributes:
        bytes: of bodies that are being read or whose requests wait for their answer; `most_bytes` of them bound memory.
        tickets: caller and the name that it gave a job → the job, as long as the caller waits for it.
        verdicts: where readers' verdicts are kept; None where they are not.
    """

    def __init__(
        self, generator: Generator, settings: ServeConfig, metrics: Metrics, verdicts: "VerdictStore | None" = None
    ) -> None:
        self.generator = generator
        self.settings = settings
        self.metrics = metrics
        self.bytes, self.most_bytes = 0, settings.places * settings.max_body_mb * 2**20
        self.pool = ThreadPoolExecutor(DECODING_THREADS, "decoder")
        self.tickets: dict[tuple[str, str], Job] = {}
        self.verdicts = verdicts
        self.archive = ThreadPoolExecutor(1, "archive")  # forms for archives: what reads labels is one thread's own

    def reporter(self) -> ServedModel:
        """The model.

        Raises:
            ApiError: 503 while it is not there.
        """
        reporter = self.generator.reporter
        if reporter is None:
            raise unavailable("the model is being loaded")
        return reporter

    def take_bytes(self, count: int) -> None:
        """Count bytes that have come; who counts them gives them back, refused or not.

        Raises:
            ApiError: 429, the bodies of all requests are too large together.
        """
        self.bytes += count
        if self.bytes > self.most_bytes:
            raise full(self.generator.line.places, {"Connection": "close"})

    @contextmanager
    def body_without_place(self, request: Request, limit: int) -> Iterator[AsyncIterator[bytes]]:
        """The pieces of a body whose request takes no place; its bytes count among those of all until the end."""
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            taken += count
            self.take_bytes(count)

        try:
            yield limited_body(request, limit, take)
        finally:
            self.bytes -= taken

    @contextmanager
    def ticket(self, caller: str, name: str, job: Job) -> Iterator[None]:
        """Let a caller ask by this name where its job is; "" for none."""
        if name:
            self.tickets[caller, name] = job
        try:
            yield
        finally:
            if self.tickets.get((caller, name)) is job:
                del self.tickets[caller, name]

    @contextmanager
    def admit(self) -> Iterator[RequestContext]:
        """A request, until it is answered; it is not let in where it would get no place.

        Raises:
            ApiError: 429 where there is none, 503 while the model is not there or the server stops.
        """
        reporter = self.reporter()
        self.generator.line.check_place()
        admitted = RequestContext(self, reporter)
        try:
            yield admitted
        finally:
            admitted.leave()
