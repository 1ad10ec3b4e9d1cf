"""How far a bulk run is, on stderr: studies a second, time left, failures by kind. Decides nothing."""

import logging
import time
from collections.abc import Callable

from r2gengpt.batch.listing import in_words
from r2gengpt.batch.rows import Told
from r2gengpt.batch.shards import Totals

log = logging.getLogger("r2gengpt.batch")
EVERY = 5.0
"""Seconds between two lines."""


def clock_time(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> clock_time(3725.2)
    '1:02:05'
    """
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


class Progress:
    """Counts studies of this start against those before it.

    Args:
        studies: of the whole run.
        before: what earlier starts have written.
        clock: seconds, monotonic.
    """

    def __init__(self, studies: int, before: Totals, clock: Callable[[], float] = time.monotonic) -> None:
        self.studies = studies
        self.before = before.rows
        self.totals = before
        self.clock = clock
        self.started: float | None = None
        self.shown = 0.0
        self.seconds = 0.0
        self.first: float | None = None
        self.first_rows = 0

    @property
    def written(self) -> int:
        """Studies of this start."""
        return self.totals.rows - self.before

    @property
    def rate(self) -> float:
        """Studies a second: since the first shard came, or since the start where that was only just now."""
        spent = 0.0 if self.first is None else (self.started or 0.0) + self.seconds - self.first
        if spent >= EVERY:
            return (self.written - self.first_rows) / spent
        return self.written / self.seconds if self.seconds else 0.0

    def begin(self) -> None:
        """The work begins."""
        self.started = self.shown = self.clock()
        done = f", {self.before} of them written before" if self.before else ""
        log.info("%d studies%s", self.studies, done)

    def add(self, told: Told) -> None:
        """A shard is written."""
        now = self.clock()
        self.totals.add(told)
        self.seconds = now - (self.started if self.started is not None else now)
        if self.first is None:
            self.first, self.first_rows = now, self.written
        if now - self.shown >= EVERY:
            self.shown = now
            log.info(self.line())

    def line(self) -> str:
        """Where the run stands."""
        left = self.studies - self.totals.rows
        eta = clock_time(left / self.rate) if self.rate else "unknown"
        return f"{self.totals.rows} of {self.studies} studies, {self.rate:.1f} a second, {eta} left{self.failures()}"

    def failures(self) -> str:
        """Failures by kind, or nothing."""
        return f", failed: {in_words(self.totals.failed)}" if self.totals.failed else ""

    def end(self) -> None:
        """All is written."""
        timed = f"{self.written} in {clock_time(self.seconds)}, {self.rate:.1f} a second"
        rate = timed if self.written else "nothing was left"
        log.info("%d studies written (this start: %s)%s", self.totals.rows, rate, self.failures())
