"""Attempts that strangers can make without end: so many a minute are recorded, others are counted. Writes nothing."""

import threading
import time
from collections import Counter
from collections.abc import Callable

EACH, ALL = 10, 60
"""Attempts a minute that are recorded: of one caller, and of all together."""
MINUTE = 60.0


class Attempts:
    """How many attempts are recorded; used by several threads.

    Args:
        now: a clock in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self._lock = threading.Lock()
        self._until = now() + MINUTE
        self._counts: Counter[str] = Counter()
        self._left_out = self._to_tell = 0

    def is_recorded(self, who: str) -> bool:
        """Count one more; whether it has a record of its own."""
        with self._lock:
            self._begin_minute()
            if self._counts[who] >= EACH or self._counts.total() >= ALL:
                self._left_out += 1
                return False
            self._counts[who] += 1
            return True

    def left_out(self, *, at_once: bool = False) -> str:
        """What is to be recorded of the others, once their minute is over; "" where there is nothing."""
        with self._lock:
            self._begin_minute()
            count, self._to_tell = self._to_tell, 0
            if at_once:
                count, self._left_out = count + self._left_out, 0
        return f"{count} more refused attempts have no record of their own" if count else ""

    def _begin_minute(self) -> None:
        """Where the last minute is over; the lock is held."""
        if self.now() >= self._until:
            self._until = self.now() + MINUTE
            self._counts.clear()
            self._to_tell, self._left_out = self._to_tell + self._left_out, 0
