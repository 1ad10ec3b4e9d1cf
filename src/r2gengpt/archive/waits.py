"""Which report is to be tried next, and when: none that fails holds up the others. Sends nothing, keeps nothing.

Two waits, each doubled up to a limit. A report's own grows with its failures. The wait between any two tries grows
with the number of *different* reports that failed since one was sent: so a peer that is away is tried less and less
often, while one report that always fails only makes itself wait.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds until the peer is tried again; doubled each time."""
LONGEST_ALONE = 3600.0
"""Seconds at most for a report that fails while others are sent."""


@dataclass
class _Failed:
    """A report that was not sent: how long it waits, until when, and whether others were sent between its tries."""

    wait: float
    due: float
    sent_before: int
    alone: bool = False


class Waits:
    """The waits of the reports that are not sent yet.

    Args:
        clock: seconds; it never goes back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._failed: dict[str, _Failed] = {}  # the one that was tried longest ago first
        self._since_sent: set[str] = set()
        self._sent = 0
        self._next = clock()

    def choose(self, waiting: Sequence[str]) -> str | None:
        """The report to try now: one that was never tried, or else the one that was tried longest ago."""
        now = self.clock()
        for gone in self._failed.keys() - set(waiting):
            del self._failed[gone]
        if now < self._next:
            return None
        for one in waiting:
            if one not in self._failed:
                return one
        return next((one for one, failed in self._failed.items() if failed.due <= now), None)

    def failed(self, one: str) -> float:
        """This report was not sent; seconds until it is due again."""
        now = self.clock()
        self._since_sent.add(one)
        self._next = now + min(FIRST_WAIT * 2 ** min(len(self._since_sent) - 1, 30), LONGEST_WAIT)
        before = self._failed.pop(one, None)
        wait, alone = FIRST_WAIT, False
        if before is not None:
            alone = before.alone or self._sent > before.sent_before
            wait = min(2 * before.wait, LONGEST_ALONE if alone else LONGEST_WAIT)
        self._failed[one] = _Failed(wait, now + wait, self._sent, alone)
        return wait

    def answered(self, one: str) -> None:
        """The peer took or refused this report: it is there, so what waited for it alone is due."""
        now = self.clock()
        self._failed.pop(one, None)
        for other in self._failed.values():
            if not other.alone and other.sent_before == self._sent:
                other.due = now
        self._sent += 1
        self._since_sent.clear()
        self._next = now
