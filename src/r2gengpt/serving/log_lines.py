"""Log lines of a server: no more than somebody can read, and no traceback, which may hold what a client sent."""

import logging
import time
from collections.abc import Callable

from r2gengpt.errors import place_of

EACH_SECOND, AT_ONCE = 50.0, 200.0
"""Lines a second in the long run, and after a pause."""
LIBRARIES = ("uvicorn", "asyncio")
"""Loggers of the libraries that serve; their lines go where the program's own go, as single lines."""


class LineLimit(logging.Filter):
    """Lets lines through as they come, and of a flood so many a second; the next line counts those left out.

    Args:
        each_second: lines in the long run.
        at_once: lines after a pause.
        now: a clock in seconds.
    """

    def __init__(
        self,
        each_second: float = EACH_SECOND,
        at_once: float = AT_ONCE,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.each_second = each_second
        self.at_once = at_once
        self.now = now
        self.left = at_once
        self.since = now()
        self.dropped = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is shown."""
        now = self.now()
        self.left = min(self.at_once, self.left + (now - self.since) * self.each_second)
        self.since = now
        if self.left < 1:
            self.dropped += 1
            return False
        self.left -= 1
        if record.name.split(".")[0] in LIBRARIES:
            record.msg, record.args = _line_of(record), ()
            record.exc_info = record.exc_text = record.stack_info = None
        if self.dropped:
            record.msg, record.args = f"{record.getMessage()} ({self.dropped} lines before it were left out)", ()
            self.dropped = 0
        return True


def _line_of(record: logging.LogRecord) -> str:
    """A library's line: its first, with the kind and place of the error instead of a traceback."""
    first = record.getMessage().strip().partition("\n")[0]
    error = record.exc_info[1] if record.exc_info else None
    return first if error is None else f"{first}: {place_of(error)}"


def limit_lines() -> None:
    """Limit what the program's handlers show, and show what the libraries that serve have to say by the same."""
    handlers = logging.getLogger("r2gengpt").handlers
    limit = LineLimit()
    for handler in handlers:
        handler.addFilter(limit)
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        logger.handlers[:] = handlers
        logger.propagate = False
