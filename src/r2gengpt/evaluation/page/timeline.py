"""The plot of shares over time, with intervals and counts. No files, no colours (the page's style has them)."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from r2gengpt.evaluation.page.plots import TENTHS, WIDTH, Frame, bar, grid, nice_step, shape, svg, upright, words

ACCEPTED = "accepted unchanged"
MOST_NAMES = 6
"""Moments that are named below the plot."""


@dataclass(frozen=True)
class Moment:
    """A share at a moment: its name, the share with its interval (None of nothing), and of how many."""

    name: str
    share: float | None
    ends: tuple[float, float]
    count: int


def share_over_time(moments: Sequence[Moment], whole: float, unit: str) -> Markup:
    """A share with its interval at each moment, the share of all as a guide; below, of how many.

    Args:
        moments: in their order, at least one.
        whole: the share of all of them together.
        unit: how long a moment is.
    """
    span, top = len(moments), max(one.count for one in moments) or 1
    frame = Frame(46, 12, WIDTH - 14, 212, span, 1)
    counts = Frame(46, 246, WIDTH - 14, 296, span, top)
    parts = [*grid(frame, TENTHS, ".1f")]
    parts.append(shape("path", "guide", d=f"M{frame.left} {frame.y(whole):.1f}H{frame.right}"))
    known = [(at + 0.5, one) for at, one in enumerate(moments) if one.share is not None]
    line = " ".join(f"{frame.x(x):.1f},{frame.y(one.share or 0):.1f}" for x, one in known)
    for x, one in known:
        ends = [frame.y(end) for end in one.ends]
        parts.append(shape("path", "whisker", d=f"M{frame.x(x):.1f} {ends[0]:.1f}V{ends[1]:.1f}"))
    parts.append(shape("polyline", "line", points=line))
    parts += [shape("circle", "dot", cx=frame.x(x), cy=frame.y(one.share or 0), r=3.5) for x, one in known]
    wide = frame.x(1) - frame.x(0)
    for at, one in enumerate(moments):
        left, width = counts.x(at) + min(1, wide / 4), max(wide - 2, wide / 2)
        if one.count:
            parts.append(bar(left, counts.y(one.count), width, counts.bottom, "c"))
    every = nice_step(span, MOST_NAMES)
    names = [(at, moments[at].name) for at in range(0, span, every)]
    parts += [shape("path", "axis", d=f"M{counts.left} {counts.bottom}H{counts.right}")]
    for at, name in names:
        parts.append(shape("text", "small", name, x=counts.x(at + 0.5), y=counts.bottom + 17, text_anchor="middle"))
    parts += [
        upright(ACCEPTED, frame),
        shape("text", "small", f"{top}", x=counts.left - 6, y=counts.top + 6, text_anchor="end"),
        shape("text", "small", "drafts", x=counts.left, y=counts.top - 7),
        words((frame.left + frame.right) / 2, 334, f"{unit} of the verdict"),
    ]
    return svg(340, f"{ACCEPTED} by {unit}: {len(known)} points with intervals.", parts)
