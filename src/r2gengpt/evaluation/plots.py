"""Plots of the report page: numbers in, an SVG element as text out. No files, no colours (the page's style has them).

Prediction and reference differ by form, not only by colour: bars of predictions are filled, those of references are
outlines. Every plot says in its label what it shows; its numbers stand in a table of the page.
"""

import html
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH = 460
MOST_BINS = 24


@dataclass(frozen=True)
class Frame:
    """The part of a drawing that holds data, in drawing units, and the values at its right and upper ends."""

    left: float
    top: float
    right: float
    bottom: float
    x_high: float
    y_high: float

    def x(self, value: float) -> float:
        """Where a value lies across; 0 is at the left."""
        return self.left + (self.right - self.left) * value / self.x_high

    def y(self, value: float) -> float:
        """Where a value lies in height; 0 is at the bottom."""
        return self.bottom - (self.bottom - self.top) * value / self.y_high


def nice_step(top: float, most: int) -> int:
    """The smallest of 1, 2, 5, 10, … whose multiples reach `top` in at most this many steps.

    >>> nice_step(83, 5)
    20
    """
    step, following = 1, itertools.cycle((2.0, 2.5, 2.0))
    while step * most < top:
        step = round(step * next(following))
    return step


def length_histogram(predicted: Sequence[int], reference: Sequence[int]) -> str:
    """How many texts have how many words: filled bars for predictions, an outline for references.

    Args:
        predicted: words of each generated text, at least one text.
        reference: words of each reference, at least one text.
    """
    longest = max(*predicted, *reference, 1)
    width = nice_step(longest + 1, MOST_BINS)
    count = longest // width + 1
    ours, theirs = (_counted(lengths, width, count) for lengths in (predicted, reference))
    high = max(*ours, *theirs)
    step = nice_step(high, 5)
    frame = Frame(46, 12, WIDTH - 14, 232, count * width, math.ceil(high / step) * step)
    every = nice_step(count * width, 6)
    parts = [
        _grid(frame, _multiples(step, frame.y_high), [f"{v:g}" for v in _multiples(step, frame.y_high)]),
        _below(frame, _multiples(every, frame.x_high), [f"{v:g}" for v in _multiples(every, frame.x_high)]),
        *(
            _bar(frame.x(i * width) + 1, frame.y(n), frame.x(width) - frame.left - 2, frame.bottom)
            for i, n in enumerate(ours)
        ),
        _outline(frame, theirs, width),
        _words((frame.left + frame.right) / 2, 270, f"words in a text, {width} a bar", "middle"),
        _upright("studies", frame),
    ]
    about = f"Words in a text: {len(predicted)} predictions, {len(reference)} references, in bars of {width} words."
    return _svg(276, about, parts)


def _counted(lengths: Sequence[int], width: int, count: int) -> list[int]:
    """How many lengths fall in each bar."""
    bars = [0] * count
    for length in lengths:
        bars[length // width] += 1
    return bars


def _outline(frame: Frame, counts: Sequence[int], width: float) -> str:
    """The upper edge of a histogram as one line."""
    steps = [f"V{frame.y(n):.1f}H{frame.x((i + 1) * width):.1f}" for i, n in enumerate(counts)]
    return f'<path class="b" d="M{frame.left} {frame.bottom}{"".join(steps)}V{frame.bottom}"/>'


def paired_bars(names: Sequence[str], predicted: Sequence[int], reference: Sequence[int]) -> str:
    """Two lying bars for each name, the upper one for predictions, with their counts at the ends."""
    row, top = 27, 6
    high = max(*predicted, *reference, 1)
    frame = Frame(204, top, WIDTH - 38, top + row * len(names), high, 1)
    parts = [f'<path class="axis" d="M{frame.left} {frame.top}V{frame.bottom}"/>']
    for number, (name, ours, theirs) in enumerate(zip(names, predicted, reference, strict=True)):
        y = top + row * number
        parts.append(_words(frame.left - 8, y + 17, name, "end"))
        for count, kind, at in ((ours, "a", y + 3), (theirs, "b", y + 14)):
            length = frame.x(count) - frame.left
            parts.append(f'<rect class="{kind}" x="{frame.left}" y="{at}" width="{length:.1f}" height="9"/>')
            parts.append(f'<text class="small" x="{frame.left + length + 5:.1f}" y="{at + 8.5}">{count}</text>')
    return _svg(frame.bottom + 6, "Studies with each observation, in predictions and in references.", parts)


def reliability_diagram(bins: Sequence[Mapping[str, float]]) -> str:
    """Accuracy over confidence with the diagonal of a calibrated model; below it how many sentences a bin has.

    Args:
        bins: `low`, `high`, `count`, `confidence` and `accuracy` of each, from 0 to 1.
    """
    frame = Frame(46, 12, WIDTH - 14, 232, 1, 1)
    most = max((bin["count"] for bin in bins), default=0) or 1
    counts = Frame(46, 262, WIDTH - 14, 306, 1, most)
    parts = [
        _grid(frame, _TENTHS, [f"{v:.1f}" for v in _TENTHS]),
        _below(counts, _TENTHS, [f"{v:.1f}" for v in _TENTHS]),
    ]
    filled = [bin for bin in bins if bin["count"]]
    for bin in filled:
        left, width = frame.x(bin["low"]) + 1, frame.x(bin["high"]) - frame.x(bin["low"]) - 2
        parts.append(_bar(left, frame.y(bin["accuracy"]), width, frame.bottom))
        parts.append(_bar(left, counts.y(bin["count"]), width, counts.bottom, "c"))
    parts.append(f'<path class="guide" d="M{frame.x(0)} {frame.y(0)}L{frame.x(1)} {frame.y(1)}"/>')
    parts += [
        f'<circle class="b" cx="{frame.x(b["confidence"]):.1f}" cy="{frame.y(b["accuracy"]):.1f}" r="3.5"/>'
        for b in filled
    ]
    parts += [
        _upright("accuracy", frame),
        f'<text class="small" x="{counts.left - 6}" y="{counts.top + 6}" text-anchor="end">{most:g}</text>',
        f'<text class="small" x="{counts.left}" y="{counts.top - 6}">sentences</text>',
        _words((frame.left + frame.right) / 2, 344, "confidence", "middle"),
    ]
    return _svg(350, f"Reliability: accuracy over confidence in {len(filled)} bins that hold sentences.", parts)


def risk_coverage_curve(points: Sequence[Mapping[str, float]]) -> str:
    """The share of wrong sentences among those kept, over the share that is kept, most confident first.

    Args:
        points: `coverage` and `risk`, from 0 to 1.
    """
    ordered = sorted(points, key=lambda point: point["coverage"])
    worst = max((point["risk"] for point in ordered), default=1.0)
    high = next((top for top in (0.1, 0.25, 0.5) if top >= worst), 1.0)
    frame = Frame(46, 12, WIDTH - 14, 306, 1, high)
    heights = [high * fifth for fifth in _TENTHS]
    line = " ".join(f"{frame.x(point['coverage']):.1f},{frame.y(point['risk']):.1f}" for point in ordered)
    parts = [
        _grid(frame, heights, [f"{v:.2f}" for v in heights]),
        _below(frame, _TENTHS, [f"{v:.1f}" for v in _TENTHS]),
        f'<polyline class="line" points="{line}"/>',
        _upright("risk", frame),
        _words((frame.left + frame.right) / 2, 344, "coverage", "middle"),
    ]
    ends = f": {ordered[0]['risk']:.3f} at the least coverage, {ordered[-1]['risk']:.3f} at full" if ordered else ""
    return _svg(350, f"Risk over coverage{ends}.", parts)


_TENTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def _multiples(step: float, high: float) -> list[float]:
    return [step * i for i in range(int(high / step + 1e-9) + 1)]


def _svg(height: float, about: str, parts: Sequence[str]) -> str:
    label = html.escape(about, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _bar(x: float, y: float, width: float, bottom: float, kind: str = "a") -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{bottom - y:.1f}"/>'


def _words(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _upright(text: str, frame: Frame) -> str:
    """The name of the axis at the left, read from below."""
    y = (frame.top + frame.bottom) / 2
    return f'<text x="12" y="{y:g}" text-anchor="middle" transform="rotate(-90 12 {y:g})">{html.escape(text)}</text>'


def _grid(frame: Frame, values: Sequence[float], names: Sequence[str]) -> str:
    """Lines across with their values at the left."""
    return "".join(
        f'<path class="{"axis" if not value else "grid"}" d="M{frame.left} {frame.y(value):.1f}H{frame.right}"/>'
        f'<text class="small" x="{frame.left - 6}" y="{frame.y(value) + 4:.1f}" text-anchor="end">{name}</text>'
        for value, name in zip(values, names, strict=True)
    )


def _below(frame: Frame, values: Sequence[float], names: Sequence[str]) -> str:
    """Ticks and values under the lower axis."""
    return "".join(
        f'<path class="axis" d="M{frame.x(value):.1f} {frame.bottom}v4"/>'
        f'<text class="small" x="{frame.x(value):.1f}" y="{frame.bottom + 17}" text-anchor="middle">{name}</text>'
        for value, name in zip(values, names, strict=True)
    )
