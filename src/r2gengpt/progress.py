"""How far a long step is: a bar on a terminal, a line now and then elsewhere. Runs no step."""

import sys
from typing import Any

from tqdm import tqdm

FIRST_AFTER = 2.0
"""Seconds before the first line of a step; a shorter step writes none."""
EVERY = 30.0
"""Seconds between two lines of a step."""


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, with hours where there are any.

    >>> clock(75.4), clock(3675)
    ('1:15', '1:01:15')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Bar(tqdm):  # type: ignore[misc]  # the library is untyped
    """tqdm's bar on stderr; where that is no terminal, whole lines: after 2 seconds, each half minute, at the end.

    >>> sum(Bar([1, 2, 3], desc="short steps are silent"))
    6
    """

    disable: bool
    last: int | None = None
    """How far it was when it wrote its last line."""
    when: float = 0.0
    """When that was, by tqdm's clock. tqdm's own interval must stay as it is: it counts twice where that grows."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.lines = not sys.stderr.isatty()
        if self.lines:
            settings |= {"mininterval": FIRST_AFTER, "maxinterval": EVERY, "miniters": 1}
            settings |= {"delay": FIRST_AFTER}
        super().__init__(*arguments, **settings)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Show the bar, or write its line."""
        if not self.lines:
            return bool(super().display(msg, pos))
        now = self._time()
        if self.last is not None and not self.disable and now - self.when < EVERY:
            return True
        self.last, self.when = self.n, now
        facts = self.format_dict
        done, total, gone = facts["n"] - facts["initial"], facts["total"], facts["elapsed"]
        parts = [f"{self.n} of {total}" if total else f"{self.n}", f"{clock(gone)} gone"]
        if total and done and self.n < total:
            parts.append(f"{clock(gone / done * (total - self.n))} left")
        self.fp.write(f"{self.desc.rstrip(': ')}: {', '.join(parts)}\n")
        self.fp.flush()
        return True

    def close(self) -> None:
        """Take the bar away, or write its last line where it has written one."""
        if not self.lines or self.disable:
            super().close()
            return
        self.disable = True
        self._decr_instances(self)
        if self.last not in (None, self.n):
            self.display()
