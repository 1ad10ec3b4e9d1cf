"""How far a bulk run is, on stderr, and its summary page at the end, in one small HTML file. No report text."""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from r2gengpt.batch.folders import LeftOut
from r2gengpt.batch.listing import by_kind
from r2gengpt.batch.plan import LEFT_OUT
from r2gengpt.batch.shards import MANIFEST, ShardSummary, Totals, write_whole
from r2gengpt.text.html import templates
from r2gengpt.text.written import NOTICE, json_text

log = logging.getLogger("r2gengpt.batch")
SUMMARY = "summary.html"
EVERY = 5.0
"""Seconds between two lines."""


def clock_time(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> clock_time(3725.2)
    '1:02:05'
    """
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def per_second(rate: float) -> str:
    """A rate with two digits that count.

    >>> per_second(0.4567), per_second(12.3)
    ('0.46 a second', '12 a second')
    """
    return f"{rate:.2g} a second" if rate < 10 else f"{rate:.0f} a second"


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
        self.writers = 1
        self.writing = 0.0

    @property
    def written(self) -> int:
        """Studies of this start."""
        return self.totals.rows - self.before

    @property
    def rate(self) -> float:
        """Studies a second: as fast as the models write, or as shards have come since the first, where that is slower.

        What comes before the first shard, Ray's start and the model's, does not come again. Models that wait for films
        are slower than they write. The first shards of several models come together and tell no speed.
        """
        if not self.writing:
            return 0.0
        rate = self.written * self.writers / self.writing
        spent = 0.0 if self.first is None else (self.started or 0.0) + self.seconds - self.first
        return rate if spent < EVERY else min(rate, (self.written - self.first_rows) / spent)

    def begin(self) -> None:
        """The work begins."""
        self.started = self.shown = self.clock()
        done = f", {self.before} of them written before" if self.before else ""
        log.info("%d studies%s: starting Ray", self.studies, done)

    def joined(self, writers: int, first: int) -> None:
        """Ray is there; so many models are being loaded, and the first shard has so many studies."""
        self.writers = writers
        models = "the model" if writers == 1 else f"{writers} models"
        log.info("Ray is there: loading %s, then the first %d studies are written together", models, first)

    def add(self, shard: ShardSummary, seconds: float) -> None:
        """A shard is written, which took one model so many seconds."""
        now = self.clock()
        self.writing += seconds
        self.totals.add(shard)
        self.seconds = now - (self.started if self.started is not None else now)
        if self.first is None:
            self.first, self.first_rows = now, self.written
        if now - self.shown >= EVERY and self.totals.rows < self.studies:
            self.shown = now
            log.info(self.line())

    @property
    def left(self) -> float | None:
        """Seconds until the end, about; None where nothing tells."""
        return (self.studies - self.totals.rows) / self.rate if self.rate else None

    def line(self) -> str:
        """Where the run stands."""
        eta = "unknown time" if self.left is None else clock_time(self.left)
        done = f"{self.totals.rows} of {self.studies} studies"
        return f"{done}, {per_second(self.rate)}, {eta} left{self.failures()}"

    def failures(self) -> str:
        """Failures by kind, or nothing."""
        return f", failed: {in_words(self.totals.failed)}" if self.totals.failed else ""

    def end(self) -> None:
        """All is written."""
        timed = f"{self.written} in {clock_time(self.seconds)}, {per_second(self.rate)}"
        rate = timed if self.written else "nothing was left"
        log.info("%d studies written (this start: %s)%s", self.totals.rows, rate, self.failures())


def in_words(counts: Counter[str]) -> str:
    """Counts by kind, the most frequent first.

    >>> in_words(Counter({"image": 2, "file": 3}))
    'file 3, image 2'
    """
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def summary_page(totals: Totals, progress: Progress, manifest: Mapping[str, Any], others: Sequence[LeftOut]) -> str:
    """The page; `others` is what of the input was left out."""
    failed = sum(totals.failed.values())
    return (
        templates("r2gengpt.batch")
        .get_template(SUMMARY)
        .render(
            totals=totals,
            failed=failed,
            share=100 * (totals.rows - failed) / totals.rows,
            shards=len(manifest["shards"]),
            others=by_kind(others) if others else "",
            left_out=LEFT_OUT,
            progress=progress,
            time=clock_time(progress.seconds),
            settings={name: json_text(value) for name, value in manifest["settings"].items()},
            notice=NOTICE,
        )
    )


def write_summary(output: Path, totals: Totals, progress: Progress) -> None:
    """Write summary.html beside the manifest."""
    manifest = json.loads((output / MANIFEST).read_text(encoding="utf-8"))
    path, others = output / LEFT_OUT, list[LeftOut]()
    if path.exists():
        others += [LeftOut(**json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    write_whole(output / SUMMARY, [summary_page(totals, progress, manifest, others).encode()])
