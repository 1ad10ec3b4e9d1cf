"""Which families of metrics a score has, and why others are missing. Measures nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

from r2gengpt.metrics.families import Family
from r2gengpt.metrics.measure import FAMILIES


@dataclass(frozen=True)
class Choice:
    """Families to measure, and name → reason for each metric that cannot be measured here."""

    families: tuple[Family, ...]
    not_available: Mapping[str, str]


def choose() -> Choice:
    """All that can be measured here. One that needs something more is added here, or named with why not."""
    return Choice(FAMILIES, {"meteor": "this version does not run the METEOR 1.5 jar"})
