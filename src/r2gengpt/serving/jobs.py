"""Studies that wait for their report: a bounded line that is fair between settings. No HTTP, no model."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from r2gengpt.confidence.findings import Check, check_shows_chest
from r2gengpt.confidence.maps import Evidence
from r2gengpt.config import DecodeConfig
from r2gengpt.errors import InputError, place_of
from r2gengpt.films.facts import FilmFacts
from r2gengpt.films.film import Pixels
from r2gengpt.generation.sentences import PlaceInText
from r2gengpt.provenance import Source
from r2gengpt.report import Report
from r2gengpt.serving.failures import full, unavailable
from r2gengpt.serving.pace import Pace, QueueProgress
from r2gengpt.text.context import NO_CONTEXT, Context

log = logging.getLogger("r2gengpt.serving")


@dataclass(frozen=True)
class Answer:
    """A finished report, and how many tokens its prompt had; its maps and its places where they were asked for."""

    report: Report
    prompt_tokens: int
    evidence: Evidence | None = None
    places: tuple[PlaceInText, ...] = ()


class Left(Exception):
    """Nobody waits for a report any more."""


def new_future() -> Future[Answer]:
    """A future that its reader cannot cancel: who waits no longer says so by `Job.cancel`."""
    future: Future[Answer] = Future()
    future.set_running_or_notify_cancel()
    return future


@dataclass(eq=False)
class Job:
    """One study: its pixels (V, 3, H, W), float32; what is asked; how to decode.

    `on_text` gets the text as it is written (one beam); `evidence` asks for maps of the report, or of `report_text`,
    and then nothing is written. The text ends before the first string of `stop`; `likeliest` asks for so many of the
    likeliest tokens at each place. `earlier` are the pixels of an earlier study's films, `earlier_sources` what these
    were; `context` tells of it.
    `asked_in` is the request's field that the instruction came with.
    `facts` are of its films; `force` writes of what shows no chest too.
    `by_graphs`: of a model with both runtimes, the graphs write it; it is settled before the job waits.
    `future` gets the `Answer`, or why there is none. `begun` is when its turn came, by the queue's clock.
    """

    pixels: Pixels
    instruction: str | None
    decode: DecodeConfig
    on_text: Callable[[str], None] | None = None
    evidence: bool = False
    report_text: str | None = None
    stop: tuple[str, ...] = ()
    likeliest: int = 0
    future: Future[Answer] = field(default_factory=new_future)
    unwanted: bool = False
    begun: float | None = None
    earlier: Pixels | None = None
    earlier_sources: Sequence[Source] = ()
    context: Context = NO_CONTEXT
    by_graphs: bool = False
    facts: Sequence[FilmFacts] = ()
    force: bool = False
    asked_in: str = "indication"

    @property
    def check(self) -> Check | None:
        """What refuses its films by the doubts about them; None: nothing does."""
        return None if self.force else partial(check_shows_chest, facts=self.facts)

    @cached_property
    def settings(self) -> DecodeConfig:
        """What studies of one run of the engine share: all but the seed."""
        return replace(self.decode, decode_seed=0)

    @property
    def kind(self) -> tuple[DecodeConfig, bool, bool, bool, bool]:
        """What studies that are written together share."""
        return self.settings, self.evidence, self.report_text is not None, self.likeliest > 0, self.by_graphs

    @property
    def needs_model(self) -> bool:
        """Whether the model has more to tell once the report is written."""
        return self.evidence or self.likeliest > 0

    @property
    def is_heard(self) -> bool:
        """Whether its words matter before its end; of several beams no word is final until then."""
        return self.decode.beam_size == 1 and (self.on_text is not None or bool(self.stop))

    @property
    def effort(self) -> tuple[int, bool, bool, bool]:
        """What studies share that take about as long."""
        return self.decode.beam_size, self.evidence, self.report_text is not None, self.by_graphs

    def check_wanted(self) -> None:
        """Look whether somebody waits.

        Raises:
            Left: nobody does.
        """
        if self.unwanted:
            raise Left

    def fail(self, error: BaseException) -> None:
        """Tell who waits that there is no report."""
        if not self.future.done():
            self.future.set_exception(error)

    @contextmanager
    def failing_alone(self) -> Iterator[None]:
        """What goes wrong within is told to who waits for this job, and ends no other; what is no refusal is logged."""
        try:
            yield
        except Left:
            return
        except Exception as error:
            self.fail(error)
            if not isinstance(error, InputError):
                log.error("a study failed with %s", place_of(error))


class Queue:
    """Places for requests, and the jobs that wait.

    A place is taken when a request's body has come, so slow clients take none, and given back when it is answered. A
    request of several reports takes a place for each.
    Jobs of equal settings are written together. While jobs of other settings wait, a run takes no
    more than `share` jobs in all: then it is the turn of the longest waiting job's settings. So does a run whose jobs
    get maps or likeliest tokens, which are made at its end: who is through would wait for all who come.

    Args:
        places: requests in work or waiting.
        share: jobs of a run while others wait for its end.
        now: a clock in seconds.
    """

    def __init__(self, places: int, share: int, now: Callable[[], float] = time.monotonic) -> None:
        self.places = places
        self.share = share
        self.now = now
        self._pace = Pace()
        self._begun: list[Job] = []
        self._taken = 0
        self._jobs: list[Job] = []
        self._closed: str | None = None
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._jobs)

    @property
    def taken(self) -> int:
        """How many places are taken."""
        return self._taken

    def check_place(self) -> None:
        """See whether one could be taken now; raises as `take_place`."""
        self.take_place()
        self.free_place()

    def take_place(self, count: int = 1) -> None:
        """Take one, or some at once.

        Raises:
            ApiError: 503 where the line is closed, 429 where no place is free.
        """
        with self._changed:
            if self._closed is not None:
                raise unavailable(self._closed)
            if self._taken + count > self.places:
                raise full(self.places)
            self._taken += count

    def free_place(self, count: int = 1) -> None:
        """Give one back, or some."""
        with self._changed:
            self._taken -= count

    def put(self, job: Job) -> None:
        """Let a job wait; its request has a place.

        Raises:
            ApiError: 503, the line was closed meanwhile.
        """
        with self._changed:
            if self._closed is not None:
                raise unavailable(self._closed)
            self._jobs.append(job)
            self._changed.notify()

    def drop(self, job: Job) -> None:
        """Nobody waits for this job any more, whether it is in the line or being written."""
        with self._changed:
            job.unwanted = True
            if job in self._jobs:
                self._jobs.remove(job)

    def close(self, reason: str) -> None:
        """Take nobody any more; who waits hears the reason, as 503."""
        with self._changed:
            self._closed = reason
            jobs, self._jobs = self._jobs, []
            self._changed.notify_all()
        for job in jobs:
            job.fail(unavailable(reason))

    def first(self) -> Job | None:
        """The longest waiting job, as soon as there is one; None when the line is closed."""
        with self._changed:
            self._begun.clear()  # who asks writes nothing
            while not self._jobs and self._closed is None:
                self._changed.wait()
            return self._begin(self._jobs[0]) if self._jobs else None

    def next_of(self, first: Job, so_far: int) -> Job | None:
        """The next job that may join the run of `so_far` jobs that `first` began; None where there is none now."""
        with self._changed:
            self._begun = [job for job in self._begun if job.evidence or not job.unwanted]  # maps are made to their end
            same = [job for job in self._jobs if job.kind == first.kind]
            if not same or (so_far >= self.share and (first.needs_model or len(same) < len(self._jobs))):
                return None
            return self._begin(same[0])

    def _begin(self, job: Job) -> Job:
        """It is the turn of a job that waits; the lock is held."""
        self._jobs.remove(job)
        self._begun.append(job)
        job.begun = self.now()
        job.future.add_done_callback(lambda future: self._end(job, failed=future.exception() is not None))
        return job

    def _end(self, job: Job, *, failed: bool) -> None:
        """A job has its answer, or will have none."""
        with self._changed:
            if job in self._begun:
                self._begun.remove(job)
            if not failed and job.begun is not None:
                self._pace.ended(job.effort, job.begun, self.now())

    def standing(self, job: Job) -> QueueProgress:
        """Where a job is: its place, and about how long it takes until its end."""
        with self._changed:
            now = self.now()
            if job.unwanted:
                return QueueProgress(None, None)
            if job in self._begun and job.begun is not None:
                return QueueProgress(0, self._pace.rest(job.effort, now - job.begun))
            if job not in self._jobs:
                return QueueProgress(None, None)
            place = self._jobs.index(job) + 1
            ahead = [*self._begun, *self._jobs[: place - 1]]
            since = min((one.begun for one in self._begun if one.begun is not None), default=now)
            return QueueProgress(place, self._pace.wait([one.effort for one in ahead], job.effort, now, since))
