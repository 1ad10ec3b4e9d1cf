"""Which families of metrics a score has, and why others are missing. Measures nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

from r2gengpt.metrics.families import Family
from r2gengpt.metrics.labels.family import LABELS, NOT_ASKED, NOT_INSTALLED
from r2gengpt.metrics.labels.reading import is_available
from r2gengpt.metrics.measure import FAMILIES


@dataclass(frozen=True)
class Choice:
    """Families to measure, and name → reason for each metric that cannot be measured here."""

    families: tuple[Family, ...]
    not_available: Mapping[str, str]


def choose(*, labels: bool = False) -> Choice:
    """What can be measured here. One that needs something more is added here, or named with why not.

    Args:
        labels: clinical labels too; the first text takes seconds, because spaCy is imported.
    """
    families, missing = list(FAMILIES), {"meteor": "this version does not run the METEOR 1.5 jar"}
    if labels and is_available():
        families.append(LABELS)
    else:
        missing["clinical"] = NOT_INSTALLED if labels else NOT_ASKED
    return Choice(tuple(families), missing)
