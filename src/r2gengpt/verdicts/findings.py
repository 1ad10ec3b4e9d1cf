"""What a draft and a final text say of each observation, by the rule labeller, and what changed. Keeps nothing."""

from collections.abc import Mapping

from r2gengpt.metrics.labels.family import LABELER
from r2gengpt.metrics.labels.reading import VERSION

SAID = ("positive", "uncertain")
"""Labels by which a text says that there may be something."""


def labeler_name() -> str:
    """Which rules read texts here."""
    return f"{LABELER}, version {VERSION}"


def present(labels: Mapping[str, str]) -> set[str]:
    """The observations that a text says are there, or may be."""
    return {name for name, label in labels.items() if label in SAID}


def added(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    """Those that the reader put in."""
    return present(after) - present(before)


def removed(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    """Those that the reader took out."""
    return present(before) - present(after)
