"""Stored DICOM pixel values to 8-bit greys, as one table over all stored values. Reads no DICOM element.

The chain is the standard's: Modality LUT or rescale → VOI LUT or window → inversion. As a detector stores at most 16
bits, it is computed once for each possible value, at most 65,536 of them, and then looked up for each pixel.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from r2gengpt.data.images import DEPTHS

Values = npt.NDArray[np.float64]
LOW_SHARE, HIGH_SHARE = 0.005, 0.995
"""Shares of the pixels that are black and not yet white where no window is usable: markers and edges do not count."""


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

    @property
    def top(self) -> int:
        """The entry that is white: of the smallest detector depth that holds the entries, at most that of `bits`.

        Files declare 16 bits and use 12 of them; taken at their word they would come out black.
        """
        highest = max(self.entries)
        depth = next((bits for bits in DEPTHS if highest < 2**bits), DEPTHS[-1])
        return max(1, highest, (1 << min(depth, self.bits)) - 1)


@dataclass(frozen=True)
class Window:
    """A window of values (after the modality step), and its function: LINEAR, LINEAR_EXACT or SIGMOID."""

    center: float
    width: float
    function: str = "LINEAR"

    def at(self, values: Values) -> Values:
        """Values to 0 … 1. Source: PS3.3, C.11.2.1.2.1 to C.11.2.1.3."""
        if self.function == "SIGMOID":
            return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - self.center) / self.width, -700, 700))))
        if self.function == "LINEAR_EXACT":
            return np.clip((values - self.center) / self.width + 0.5, 0.0, 1.0)
        if self.width == 1:
            return (values > self.center - 0.5).astype(np.float64)
        return np.clip((values - (self.center - 0.5)) / (self.width - 1) + 0.5, 0.0, 1.0)

    def is_usable(self, low: float, high: float) -> bool:
        """Whether the window is one, and meets pixel values of `low` to `high`."""
        if not np.isfinite([self.center, self.width]).all():
            return False
        if self.width < 1 and (self.function == "LINEAR" or self.width <= 0):
            return False
        return self.center - self.width / 2 < high and self.center + self.width / 2 > low


@dataclass(frozen=True)
class Greys:
    """How stored values become greys.

    Attributes:
        bits: stored, 1 to 16.
        signed: stored values are in two's complement.
        slope: of the rescale, not 0.
        intercept: of the rescale.
        modality: in place of slope and intercept, or None.
        voi: in place of the window, or None.
        window: or None.
        inverted: the lowest value is white (MONOCHROME1).
        padding: first and last stored value that is no picture (black), or None.
    """

    bits: int
    signed: bool = False
    slope: float = 1.0
    intercept: float = 0.0
    modality: Curve | None = None
    voi: Curve | None = None
    window: Window | None = None
    inverted: bool = False
    padding: tuple[int, int] | None = None

    def stored(self) -> npt.NDArray[np.int64]:
        """The stored value of each pattern of bits, (2**bits,)."""
        patterns = np.arange(2**self.bits)
        return patterns - np.where(patterns >= 2 ** (self.bits - 1), 2**self.bits, 0) if self.signed else patterns

    def table(self, patterns: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
        """The grey of each pattern of bits, for a picture of these patterns (H, W): (2**bits,)."""
        stored = self.stored()
        values = stored.astype(np.float64)
        values = self.modality.at(values) if self.modality else values * self.slope + self.intercept
        counts = np.bincount(patterns.ravel(), minlength=len(stored))
        empty = np.zeros(len(stored), dtype=bool)
        if self.padding is not None:
            empty = (stored >= self.padding[0]) & (stored <= self.padding[1])
        seen = np.where(empty, 0, counts)
        shares = self._shares(values, seen if seen.any() else counts)
        levels = (1.0 - shares) if self.inverted else shares
        greys = (levels * 255 + 0.5).astype(np.uint8)
        greys[empty] = 0
        return greys

    def _shares(self, values: Values, counts: npt.NDArray[np.int64]) -> Values:
        """Each value's place between black, 0, and white, 1, before inversion."""
        if self.voi is not None:
            return np.clip(self.voi.at(values) / self.voi.top, 0.0, 1.0)
        there = values[counts > 0]
        if self.window is not None and self.window.is_usable(float(there.min()), float(there.max())):
            return self.window.at(values)
        low, high = _between(values, counts)
        return np.clip((values - low) / (high - low), 0.0, 1.0) if high > low else (values > low).astype(np.float64)


def _between(values: Values, counts: npt.NDArray[np.int64]) -> tuple[float, float]:
    """The values below which `LOW_SHARE` and `HIGH_SHARE` of the pixels lie."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(counts[order])
    low, high = (int(np.searchsorted(below, share * below[-1], side="right")) for share in (LOW_SHARE, HIGH_SHARE))
    return float(values[order[low]]), float(values[order[min(high, len(order) - 1)]])


def grey_pixels(patterns: npt.NDArray[np.uint16], greys: Greys) -> npt.NDArray[np.uint8]:
    """A picture's bit patterns (H, W), below 2**bits, as greys: (H, W) uint8."""
    return np.take(greys.table(patterns), patterns)
