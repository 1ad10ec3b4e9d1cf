"""Studies that wait for their report: a bounded line that is fair between settings. No HTTP, no model."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cached_property

from torch import Tensor

from r2gengpt.config import DecodeConfig
from r2gengpt.generation.evidence_record import Evidence
from r2gengpt.generation.prediction import Prediction
from r2gengpt.serving.failures import full, unavailable


@dataclass(frozen=True)
class Answer:
    """A finished report, how many tokens its prompt had, and its evidence maps where they were asked for."""

    prediction: Prediction
    prompt_tokens: int
    evidence: Evidence | None = None


def _new_future() -> Future[Answer]:
    """A future that its reader cannot cancel: who waits no longer says so by `Job.cancel`."""
    future: Future[Answer] = Future()
    future.set_running_or_notify_cancel()
    return future


@dataclass(eq=False)
class Job:
    """One study: its pixels (V, 3, H, W), float32, on the CPU; what is asked; how to decode.

    `on_text` gets the text as it is written (one beam); `evidence` asks for maps of the report, or of the text `told`,
    and then nothing is written. `future` gets the `Answer`, or why there is none.
    """

    pixels: Tensor
    instruction: str | None
    decode: DecodeConfig
    on_text: Callable[[str], None] | None = None
    evidence: bool = False
    told: str | None = None
    future: Future[Answer] = field(default_factory=_new_future)
    unwanted: bool = False

    @cached_property
    def settings(self) -> DecodeConfig:
        """What studies of one run of the engine share: all but the seed."""
        return replace(self.decode, decode_seed=0)

    @property
    def kind(self) -> tuple[DecodeConfig, bool, bool]:
        """What studies that are written together share."""
        return self.settings, self.evidence, self.told is not None

    def fail(self, error: BaseException) -> None:
        """Tell who waits that there is no report."""
        if not self.future.done():
            self.future.set_exception(error)


class Line:
    """Places for requests, and the jobs that wait.

    A place is taken when a request's body has come, so slow clients take none, and given back when it is answered.
    Jobs of equal settings are written together. While jobs of other settings wait, a run takes no
    more than `share` jobs in all: then it is the turn of the longest waiting job's settings.

    Args:
        places: requests in work or waiting.
        share: jobs of a run while others wait for its end.
    """

    def __init__(self, places: int, share: int) -> None:
        self.places = places
        self.share = share
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

    def take_place(self) -> None:
        """Take one.

        Raises:
            ApiError: 503 where the line is closed, 429 where no place is free.
        """
        with self._changed:
            if self._closed is not None:
                raise unavailable(self._closed)
            if self._taken >= self.places:
                raise full(self.places)
            self._taken += 1

    def free_place(self) -> None:
        """Give one back."""
        with self._changed:
            self._taken -= 1

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
            while not self._jobs and self._closed is None:
                self._changed.wait()
            return self._jobs.pop(0) if self._jobs else None

    def next_of(self, first: Job, so_far: int) -> Job | None:
        """The next job that may join the run of `so_far` jobs that `first` began; None where there is none now."""
        with self._changed:
            same = [job for job in self._jobs if job.kind == first.kind]
            if not same or (so_far >= self.share and len(same) < len(self._jobs)):
                return None
            self._jobs.remove(same[0])
            return same[0]
