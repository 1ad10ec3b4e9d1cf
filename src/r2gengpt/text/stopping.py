"""Where a text ends before a stop string, whole or while it comes in pieces. Knows no tokens."""

from collections.abc import Callable, Sequence


def stop_place(text: str, stops: Sequence[str]) -> int | None:
    """Where the first of some strings begins in a text; None where it holds none.

    >>> stop_place("The heart. The lungs.", ["lungs", "."]), stop_place("The heart", ["."])
    (9, None)
    """
    return min((at for stop in stops if (at := text.find(stop)) >= 0), default=None)


class StopWatch:
    """Hands on a text that comes in pieces, up to the first stop string.

    What may be the beginning of a stop string is held back until it is one, or cannot become one.

    Args:
        stops: the strings, none empty; without any all is handed on at once.
        on_text: gets the text.
    """

    def __init__(self, stops: Sequence[str], on_text: Callable[[str], None]) -> None:
        self.stops = stops
        self.on_text = on_text
        self.held = ""
        self.stopped = False

    def take(self, piece: str) -> None:
        """More of the text; after a stop string it is passed over."""
        if self.stopped:
            return
        self.held += piece
        place, undecided = stop_place(self.held, self.stops), self._undecided()
        self.stopped = place is not None and place <= undecided
        self._hand_on(place if place is not None and self.stopped else undecided)

    def end(self) -> None:
        """The text is over: what was held back is handed on, as far as no stop string stands in it."""
        if not self.stopped:
            place = stop_place(self.held, self.stops)
            self._hand_on(len(self.held) if place is None else place)

    def _undecided(self) -> int:
        """The first place from which on all that is held may become a stop string."""
        longest = max(map(len, self.stops), default=1)
        for place in range(max(0, len(self.held) - longest + 1), len(self.held)):
            rest = self.held[place:]
            if any(stop.startswith(rest) and stop != rest for stop in self.stops):
                return place
        return len(self.held)

    def _hand_on(self, length: int) -> None:
        text, self.held = self.held[:length], self.held[length:]
        if text:
            self.on_text(text)
