"""Plots of the report page: numbers in, an SVG element out. No files, no colours (the page's style has them).

Report and reference differ by form, not only by colour: bars of predictions are filled, those of references are
outlines. Every plot says in its label what it shows; its numbers stand in a table of the page.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, tostring

from markupsafe import Markup

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


def length_histogram(predicted: Sequence[int], reference: Sequence[int]) -> Markup:
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
        *grid(frame, _multiples(step, frame.y_high), "g"),
        *lower_ticks(frame, _multiples(every, frame.x_high), "g"),
        *(
            bar(frame.x(i * width) + 1, frame.y(n), frame.x(width) - frame.left - 2, frame.bottom)
            for i, n in enumerate(ours)
        ),
        _outline(frame, theirs, width),
        words((frame.left + frame.right) / 2, 270, f"words in a text, {width} a bar"),
        upright("studies", frame),
    ]
    about = f"Words in a text: {len(predicted)} predictions, {len(reference)} references, in bars of {width} words."
    return svg(276, about, parts)


def _counted(lengths: Sequence[int], width: int, count: int) -> list[int]:
    """How many lengths fall in each bar."""
    bars = [0] * count
    for length in lengths:
        bars[length // width] += 1
    return bars


def _outline(frame: Frame, counts: Sequence[int], width: float) -> Element:
    """The upper edge of a histogram as one line."""
    steps = [f"V{frame.y(n):.1f}H{frame.x((i + 1) * width):.1f}" for i, n in enumerate(counts)]
    return shape("path", "b", d=f"M{frame.left} {frame.bottom}{''.join(steps)}V{frame.bottom}")


def paired_bars(names: Sequence[str], predicted: Sequence[int], reference: Sequence[int]) -> Markup:
    """Two lying bars for each name, the upper one for predictions, with their counts at the ends."""
    row, top = 27, 6
    high = max(*predicted, *reference, 1)
    frame = Frame(204, top, WIDTH - 38, top + row * len(names), high, 1)
    parts = [shape("path", "axis", d=f"M{frame.left} {frame.top}V{frame.bottom}")]
    for number, (name, ours, theirs) in enumerate(zip(names, predicted, reference, strict=True)):
        y = top + row * number
        parts.append(words(frame.left - 8, y + 17, name, "end"))
        for count, kind, at in ((ours, "a", y + 3), (theirs, "b", y + 14)):
            length = frame.x(count) - frame.left
            parts.append(shape("rect", kind, x=frame.left, y=at, width=length, height=9))
            parts.append(shape("text", "small", str(count), x=frame.left + length + 5, y=at + 8.5))
    return svg(frame.bottom + 6, "Studies with each observation, in predictions and in references.", parts)


def reliability_diagram(
    bins: Sequence[Mapping[str, float]],
    share: str = "accuracy",
    confidence: str = "confidence",
    things: str = "sentences",
) -> Markup:
    """Accuracy over confidence with the diagonal of a calibrated model; below it how many sentences a bin has.

    Args:
        bins: `low`, `high`, `count`, `confidence` and `accuracy` of each, from 0 to 1.
        share: what the plot calls the accuracy.
        confidence: what it calls the confidence.
        things: what it calls what lies in the bins.
    """
    frame = Frame(46, 12, WIDTH - 14, 232, 1, 1)
    most = max((bin["count"] for bin in bins), default=0) or 1
    counts = Frame(46, 262, WIDTH - 14, 306, 1, most)
    filled = [bin for bin in bins if bin["count"]]
    parts = [*grid(frame, TENTHS, ".1f"), *lower_ticks(counts, TENTHS, ".1f")]
    for bin in filled:
        left, width = frame.x(bin["low"]) + 1, frame.x(bin["high"]) - frame.x(bin["low"]) - 2
        parts.append(bar(left, frame.y(bin["accuracy"]), width, frame.bottom))
        parts.append(bar(left, counts.y(bin["count"]), width, counts.bottom, "c"))
    parts.append(shape("path", "guide", d=f"M{frame.x(0)} {frame.y(0)}L{frame.x(1)} {frame.y(1)}"))
    parts += [shape("circle", "b", cx=frame.x(bin["confidence"]), cy=frame.y(bin["accuracy"]), r=3.5) for bin in filled]
    parts += [
        upright(share, frame),
        shape("text", "small", f"{most:g}", x=counts.left - 6, y=counts.top + 6, text_anchor="end"),
        shape("text", "small", things, x=counts.left, y=counts.top - 6),
        words((frame.left + frame.right) / 2, 344, confidence),
    ]
    return svg(350, f"Reliability: {share} over {confidence} in {len(filled)} bins that hold {things}.", parts)


def risk_coverage_curve(points: Sequence[Mapping[str, float]]) -> Markup:
    """The share of wrong sentences among those kept, over the share that is kept, most confident first.

    Args:
        points: `coverage` and `risk`, from 0 to 1.
    """
    ordered = sorted(points, key=lambda point: point["coverage"])
    worst = max((point["risk"] for point in ordered), default=1.0)
    high = next((top for top in (0.1, 0.25, 0.5) if top >= worst), 1.0)
    frame = Frame(46, 12, WIDTH - 14, 306, 1, high)
    line = " ".join(f"{frame.x(point['coverage']):.1f},{frame.y(point['risk']):.1f}" for point in ordered)
    parts = [
        *grid(frame, [high * fifth for fifth in TENTHS], ".2f"),
        *lower_ticks(frame, TENTHS, ".1f"),
        shape("polyline", "line", points=line),
        upright("risk", frame),
        words((frame.left + frame.right) / 2, 344, "coverage"),
    ]
    ends = f": {ordered[0]['risk']:.3f} at the least coverage, {ordered[-1]['risk']:.3f} at full" if ordered else ""
    return svg(350, f"Risk over coverage{ends}.", parts)


TENTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def _multiples(step: float, high: float) -> list[float]:
    return [step * i for i in range(int(high / step + 1e-9) + 1)]


def shape(tag: str, kind: str, words: str = "", **attributes: float | str) -> Element:
    """An element of a class (empty: of none); numbers are written with one decimal."""
    made = Element(tag, {"class": kind} if kind else {})
    for name, value in attributes.items():
        made.set(name.replace("_", "-"), value if isinstance(value, str) else f"{value:.1f}")
    made.text = words or None
    return made


def svg(height: float, about: str, parts: Sequence[Element]) -> Markup:
    """The whole drawing, with what it shows in words."""
    root = Element("svg", {"viewBox": f"0 0 {WIDTH} {height:g}", "role": "img", "aria-label": about})
    root.extend(parts)
    return Markup(tostring(root, encoding="unicode"))


def bar(x: float, y: float, width: float, bottom: float, kind: str = "a") -> Element:
    """A standing bar."""
    return shape("rect", kind, x=x, y=y, width=max(width, 1), height=bottom - y)


def words(x: float, y: float, text: str, anchor: str = "middle") -> Element:
    """A text of the axes' size."""
    return shape("text", "", text, x=x, y=y, text_anchor=anchor)


def upright(text: str, frame: Frame) -> Element:
    """The name of the axis at the left, read from below."""
    y = (frame.top + frame.bottom) / 2
    return shape("text", "", text, x=12, y=y, text_anchor="middle", transform=f"rotate(-90 12 {y:g})")


def grid(frame: Frame, values: Sequence[float], form: str) -> Iterator[Element]:
    """Lines across with their values at the left."""
    for value in values:
        y = frame.y(value)
        yield shape("path", "grid" if value else "axis", d=f"M{frame.left} {y:.1f}H{frame.right}")
        yield shape("text", "small", format(value, form), x=frame.left - 6, y=y + 4, text_anchor="end")


def lower_ticks(frame: Frame, values: Sequence[float], form: str) -> Iterator[Element]:
    """Ticks and values under the lower axis."""
    for value in values:
        x = frame.x(value)
        yield shape("path", "axis", d=f"M{x:.1f} {frame.bottom}v4")
        yield shape("text", "small", format(value, form), x=x, y=frame.bottom + 17, text_anchor="middle")
