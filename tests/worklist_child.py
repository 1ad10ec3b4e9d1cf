"""`worklist` as a process without a model, for tests that kill it. Run as a program; no test stands here.

Usage: worklist_child.py URL DIRECTORY [N]: with N it kills itself just before its N-th durable operation (a file
brought to the disk, renamed or removed, a change of the claims), or never, where there are fewer.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from archive_parts import stand_in
from r2gengpt.auditlog.log import opened_log
from r2gengpt.clinical.archive.loop import Write
from r2gengpt.clinical.archive.web import connect
from r2gengpt.clinical.worklist.claims import Claims
from r2gengpt.clinical.worklist.run import perform
from r2gengpt.settings import WorklistConfig
from upsrs_parts import STATION

CHANGES = ("add", "set_claimed", "count", "keep_reports", "set_stored", "set_canceling", "set_aside", "end")
"""Methods of claims that change something."""


def counted(operation: Callable[..., Any], before: Callable[[], None]) -> Callable[..., Any]:
    """An operation that something happens before."""

    def made(*args: Any, **kwargs: Any) -> Any:
        before()
        return operation(*args, **kwargs)

    return made


def kill_before(last: int) -> None:
    """Make every durable operation of this process count, and the last one not happen."""
    done = [0]

    def count() -> None:
        done[0] += 1
        if done[0] == last:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = counted(os.fsync, count)
    for name in ("replace", "unlink"):
        setattr(Path, name, counted(getattr(Path, name), count))
    for name in CHANGES:
        setattr(Claims, name, counted(getattr(Claims, name), count))


def main() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("r2gengpt").setLevel(logging.INFO)
    url, directory = sys.argv[1], Path(sys.argv[2])
    if len(sys.argv) > 3:
        kill_before(int(sys.argv[3]))
    settings = WorklistConfig(
        worklist=url, station=STATION, claims=str(directory / "claims"), poll_seconds=0.1, max_claimed=2
    )

    def load() -> Write:
        print("ready", flush=True)
        return stand_in

    perform(settings, connect(url), connect(url), load, opened_log(str(directory / "audit"), "worklist"))


if __name__ == "__main__":
    main()
