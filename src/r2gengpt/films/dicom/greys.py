"""Stored DICOM pixel values to 8-bit greys, as one table over all stored values. Reads no DICOM element.

The chain is the standard's: Modality LUT or rescale → VOI LUT or window → inversion. As a detector stores at most 16
bits, it is computed once for each possible value, at most 65,536 of them, and then looked up for each pixel.

A table or window that shows nearly nothing of a film is not believed: the next one is, and in the end the film itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from r2gengpt.films.depth import check_shows_something, depth_of

Values = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
LOW_SHARE, HIGH_SHARE = 0.005, 0.995
"""Shares of the pixels that are black and not yet white where no window is usable: markers and edges do not count."""
MIDDLE = (0.025, 0.975)
"""Shares of the pixels below the lowest and the highest grey of those that a table or window must tell apart."""
LEAST_SPREAD = 16 / 255
"""Between these two greys at least, of 1: a sixteenth of what a picture can show; below, it looks black, or white."""
LEAST_SEEN = 0.02
"""Of the pixels: where padding leaves less, it is none."""
OWN_RANGE = "the 0.5 and 99.5 % points of its pixels are used"


@dataclass(frozen=True)
class Curve:
    """A lookup table of a DICOM file: `first` is the value that its first entry belongs to; `bits` of its entries."""

    first: int
    entries: tuple[int, ...]
    bits: int

    def at(self, values: Values) -> Values:
        """The entries of the values; below and above the table its ends. Source: PS3.3, C.11.1.1.1."""
        entries: Values = np.asarray(self.entries, dtype=np.float64)
        index = np.clip(np.rint(values) - self.first, 0, len(entries) - 1).astype(np.int64)
        return np.asarray(entries[index])

    def levels(self, values: Values) -> Values:
        """Values to 0 … 1."""
        return np.clip(self.at(values) / self.top, 0.0, 1.0)

    def share_of(self, values: Values, counts: Counts) -> float:
        """The share of the pixels that have an entry of their own."""
        within = (values >= self.first - 0.5) & (values < self.first + len(self.entries) - 0.5)
        return float(counts[within].sum() / counts.sum())

    def meeting(self, values: Values, counts: Counts) -> "Curve":
        """The table as it meets most pixels, its first value taken as signed or as unsigned.

        Which of the two it is depends in implicit VR on the pixels' own sign, which the rescale may have changed.
        """
        shifts = (0, -65536 if self.first > 32767 else 65536 if self.first < 0 else 0)
        readings = [replace(self, first=self.first + shift) for shift in shifts]
        return max(readings, key=lambda reading: reading.share_of(values, counts))

    @property
    def top(self) -> int:
        """The entry that is white: of the smallest detector depth that holds the entries, at most that of `bits`.

        Files declare 16 bits and use 12 of them; taken at their word they would come out black.
        """
        highest = max(self.entries)
        return max(highest, (1 << min(depth_of(highest), self.bits)) - 1)


@dataclass(frozen=True)
class Window:
    """A window of values (after the modality step), and its function: LINEAR, LINEAR_EXACT or SIGMOID."""

    center: float
    width: float
    function: str = "LINEAR"

    def levels(self, values: Values) -> Values:
        """Values to 0 … 1. Source: PS3.3, C.11.2.1.2.1 to C.11.2.1.3."""
        if self.function == "SIGMOID":
            return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - self.center) / self.width, -700, 700))))
        if self.function == "LINEAR_EXACT":
            return np.clip((values - self.center) / self.width + 0.5, 0.0, 1.0)
        if self.width == 1:
            return (values > self.center - 0.5).astype(np.float64)
        return np.clip((values - (self.center - 0.5)) / (self.width - 1) + 0.5, 0.0, 1.0)

    @property
    def is_one(self) -> bool:
        """Whether it has a width that its function can have."""
        return self.width >= 1 or (self.width > 0 and self.function != "LINEAR")


@dataclass(frozen=True)
class Greys:
    """How stored values become greys.

    Attributes:
        bits: stored, 1 to 16.
        signed: stored values are in two's complement.
        slope: of the rescale, not 0.
        intercept: of the rescale.
        modality: in place of slope and intercept, or None.
        choices: tables and windows, the one that is meant first.
        inverted: the lowest value is white (MONOCHROME1).
        padding: first and last stored value that is no picture (black), or None.
    """

    bits: int
    signed: bool = False
    slope: float = 1.0
    intercept: float = 0.0
    modality: Curve | None = None
    choices: tuple[Curve | Window, ...] = ()
    inverted: bool = False
    padding: tuple[int, int] | None = None

    def stored(self) -> Counts:
        """The stored value of each pattern of bits, (2**bits,)."""
        patterns = np.arange(2**self.bits)
        return patterns - np.where(patterns >= 2 ** (self.bits - 1), 2**self.bits, 0) if self.signed else patterns

    def seen(self, counts: Counts) -> Counts:
        """The number of pixels of each pattern that are no padding; of all, where that leaves next to nothing."""
        if self.padding is None:
            return counts
        stored = self.stored()
        seen = np.where((stored >= self.padding[0]) & (stored <= self.padding[1]), 0, counts)
        return seen if seen.sum() >= LEAST_SEEN * counts.sum() else counts


@dataclass
class Chain:
    """The steps from the stored values of one film to its greys; `notes` says what had to be left out.

    Attributes:
        greys: what the file says.
        counts: the number of the film's pixels of each pattern of bits, (2**bits,).
    """

    greys: Greys
    counts: Counts
    notes: list[str] = field(default_factory=list)

    def table(self) -> npt.NDArray[np.uint8]:
        """The grey of each pattern of bits, (2**bits,).

        Raises:
            ContainerError: the film is of one grey.
        """
        seen = self.greys.seen(self.counts)
        levels = self._levels(self.greys.stored().astype(np.float64), seen)
        levels = (1.0 - levels) if self.greys.inverted else levels
        table = (levels * 255 + 0.5).astype(np.uint8)
        check_shows_something(np.bincount(table, weights=seen, minlength=256).astype(np.int64)[None])
        if seen is not self.counts:
            table[seen == 0] = 0
        elif self.greys.padding is not None:
            self.notes.append("has a padding value that takes nearly all of its pixels: it is left out")
        return table

    def _levels(self, stored: Values, seen: Counts) -> Values:
        """Each pattern's place between black, 0, and white, 1, before inversion."""
        values = self._values(stored, seen)
        if values is None:
            return stretched(stored, seen)
        own = stretched(values, seen)
        left: list[str] = []
        for what, levels in self._choices(stored, values, seen):
            if levels is not None and is_usable(levels, own, seen):
                self._note(left, f"its {what} is used")
                return levels
            left.append(what)
        self._note(left, OWN_RANGE)
        return own

    def _note(self, left: list[str], instead: str) -> None:
        if left:
            self.notes.append(f"has a {' and a '.join(left)} that leaves nearly one grey: {instead}")

    def _values(self, stored: Values, seen: Counts) -> Values | None:
        """The values after the modality step; None where its table leaves one, as then nothing after it fits."""
        modality = self.greys.modality
        if modality is None:
            return stored * self.greys.slope + self.greys.intercept
        values = modality.meeting(stored, seen).at(stored)
        if spread(values, seen) > 0 or spread(stored, seen) == 0:
            return values
        self.notes.append(f"has a modality table that leaves nearly one value: {OWN_RANGE}")
        return None

    def _choices(self, stored: Values, values: Values, seen: Counts) -> Iterator[tuple[str, Values | None]]:
        """What each table or window is, and what it makes of the values; None where it is none."""
        for choice in self.greys.choices:
            if isinstance(choice, Curve):
                yield "VOI table", self._curved(choice, stored, values, seen)
            else:
                what = f"window of center {choice.center:g} and width {choice.width:g}"
                yield what, choice.levels(values) if choice.is_one else None

    def _curved(self, curve: Curve, stored: Values, values: Values, seen: Counts) -> Values:
        """A table's levels; of the stored values where those meet it, and the rescaled ones do not."""
        met = curve.meeting(values, seen)
        plain = curve.meeting(stored, seen)
        if met.share_of(values, seen) < 0.5 and plain.share_of(stored, seen) >= 0.95:
            self.notes.append("has a VOI table that fits its pixels only without their rescale: so it is used")
            return plain.levels(stored)
        return met.levels(values)


def quantiles(values: Values, counts: Counts, shares: tuple[float, float]) -> tuple[float, float]:
    """The values below which two shares of the pixels lie."""
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(counts[order])
    low, high = (int(np.searchsorted(cumulative, share * cumulative[-1], side="right")) for share in shares)
    return float(values[order[low]]), float(values[order[high]])


def spread(values: Values, counts: Counts) -> float:
    """Between which values the middle of the pixels lies."""
    low, high = quantiles(values, counts, MIDDLE)
    return high - low


def stretched(values: Values, counts: Counts) -> Values:
    """Values to 0 … 1 by the film's own range."""
    low, high = quantiles(values, counts, (LOW_SHARE, HIGH_SHARE))
    return np.clip((values - low) / (high - low), 0.0, 1.0) if high > low else (values > low).astype(np.float64)


def is_usable(levels: Values, own: Values, counts: Counts) -> bool:
    """Whether levels tell the film's greys apart, or do so of its few pixels where its own range does no better."""
    if spread(levels, counts) >= LEAST_SPREAD:
        return True
    there = levels[counts > 0]
    return spread(own, counts) < LEAST_SPREAD and bool(there.max() - there.min() >= LEAST_SPREAD)


def grey_pixels(patterns: npt.NDArray[np.uint16], greys: Greys) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """A picture's bit patterns (H, W), below 2**bits, as greys: (H, W) uint8; and what had to be left out.

    Raises:
        ContainerError: the film is of one grey.
    """
    chain = Chain(greys, np.bincount(patterns.ravel(), minlength=2**greys.bits))
    table = chain.table()
    return np.take(table, patterns), tuple(chain.notes)
