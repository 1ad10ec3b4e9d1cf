"""CheXpert's 14 observations, what a report can say of each, and how statements join. No text is read here.

Source: Irvin et al. 2019, "CheXpert" (arXiv 1901.07031), section 3: the observations, the four labels, their order of
precedence and the definition of No Finding.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from r2gengpt.text.observations import NO_FINDING, OBSERVATIONS, SUPPORT_DEVICES


class Label(StrEnum):
    """What a report says of an observation; blank: nothing."""

    POSITIVE = "positive"
    UNCERTAIN = "uncertain"
    NEGATIVE = "negative"
    BLANK = "blank"


FIVE = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
"""CheXpert's competition tasks."""

Statement = tuple[str, Label]
"""An observation that a sentence mentions, and what it says of it."""

THERE = (Label.POSITIVE, Label.UNCERTAIN)
"""The labels of what a report asserts or doubts."""
_PRECEDENCE = (Label.POSITIVE, Label.UNCERTAIN, Label.NEGATIVE, Label.BLANK)


def combine(statements: Iterable[Statement]) -> dict[str, Label]:
    """The labels of a report from all its statements: positive over uncertain over negative over blank.

    No Finding is positive where no other observation but Support Devices is positive or uncertain, and else blank; so
    it is positive of an empty text, as in CheXpert. No observation implies another one.
    """
    labels = dict.fromkeys(OBSERVATIONS, Label.BLANK)
    for observation, label in statements:
        labels[observation] = min(labels[observation], label, key=_PRECEDENCE.index)
    labels[NO_FINDING] = Label.BLANK if has_finding(labels) else Label.POSITIVE
    return labels


def has_finding(labels: Mapping[str, Label]) -> bool:
    """Whether any observation but No Finding and Support Devices is positive or uncertain."""
    return any(label in THERE for name, label in labels.items() if name not in (NO_FINDING, SUPPORT_DEVICES))
