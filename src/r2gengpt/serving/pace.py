"""How long studies take, by the last ones, and how long one has still to wait. Knows no queue and no clock."""

from collections import defaultdict, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import median

KEPT = 15
"""Studies of one effort that are remembered."""


@dataclass(frozen=True)
class QueueProgress:
    """Where a study is on its way.

    Attributes:
        place: 1 is the next, 0 is being written; None: neither waits nor is written.
        seconds_left: about, until its end; None where no like study has ended yet.
    """

    place: int | None
    seconds_left: float | None


class Pace:
    """The seconds that studies took, and those between their ends while there was no pause, by their effort.

    The second are shorter where several are written at once: they tell how fast a queue moves.
    """

    def __init__(self) -> None:
        self._took: dict[Hashable, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))
        self._apart: dict[Hashable, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))
        self._last_end = float("-inf")

    def ended(self, effort: Hashable, begun: float, now: float) -> None:
        """A study that was begun then has ended now."""
        self._took[effort].append(now - begun)
        self._apart[effort].append(now - max(begun, self._last_end))
        self._last_end = now

    def rest(self, effort: Hashable, elapsed: float) -> float | None:
        """Seconds left of a study that is being written for so long."""
        return max(0.0, median(self._took[effort]) - elapsed) if self._took.get(effort) else None

    def wait(self, ahead: Sequence[Hashable], own: Hashable, now: float, since: float) -> float | None:
        """Seconds until the end of a study that waits.

        Args:
            ahead: the efforts of those before it, those that are being written included.
            own: its own effort.
            now: the time.
            since: when the first of those that are being written was begun.
        """
        if not all(self._apart.get(effort) for effort in (*ahead, own)):
            return None
        gone = now - max(since, self._last_end) if ahead else 0.0
        before = max(0.0, sum(median(self._apart[effort]) for effort in ahead) - gone)
        return before + median(self._took[own])
