"""A log line that strangers can cause: at most one a minute, with how often it would have been."""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("r2gengpt.archive")
EVERY = 60.0
"""Seconds."""


class Seldom:
    """A warning.

    Args:
        words: the line.
        clock: seconds; it never goes back.
    """

    def __init__(self, words: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.words, self.clock = words, clock
        self._lock = threading.Lock()
        self._since, self._next = 0, clock()

    def __call__(self, detail: str = "") -> None:
        """It happened; `detail` is the last one's, where a line is written."""
        with self._lock:
            self._since += 1
            if self.clock() < self._next:
                return
            count, self._since, self._next = self._since, 0, self.clock() + EVERY
        log.warning("%s%s%s", self.words, detail, f" ({count} times)" if count > 1 else "")
