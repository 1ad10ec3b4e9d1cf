"""What a program reaches that never looks at an image, and how varied a model's outputs are. Texts only, no metric."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

CONSTANT_REPORT = (
    "The heart size is normal. The mediastinal contours are normal. The lungs are clear. "
    "There is no pleural effusion or pneumothorax. There is no acute bony abnormality."
)
"""A normal report in the phrases that most chest X-ray reports share, written for this program."""

COLLAPSED_SHARE = 0.05


def most_frequent(reports: Sequence[str]) -> str:
    """The report that occurs most often, the first one of several.

    Raises:
        ValueError: no reports.
    """
    return max(Counter(reports).items(), key=lambda item: item[1])[0]


def random_places(reports: int, studies: int, seed: int) -> list[int]:
    """The place of a report for each study, drawn with replacement."""
    return [int(i) for i in np.random.default_rng(seed).integers(0, reports, size=studies)]


def derangement(studies: int, seed: int) -> list[int]:
    """For each study the place of another one, each place once: how texts or images are shuffled between studies.

    One cycle through all studies in a random order, so no study keeps its own.
    A model that reads nothing but the images and decodes without chance writes the same texts, shuffled, when its
    images are shuffled so.

    Raises:
        ValueError: fewer than two studies.
    """
    if studies < 2:
        raise ValueError(f"{studies} studies cannot be shuffled")
    order = np.random.default_rng(seed).permutation(studies)
    moved = np.empty(studies, dtype=np.int64)
    moved[order] = np.roll(order, 1)
    return moved.tolist()


def commonest_share(texts: Sequence[str]) -> float:
    """The share of texts that equal the commonest one."""
    return max(Counter(texts).values()) / len(texts)


def is_collapsed(texts: Sequence[str]) -> bool:
    """Whether fewer than 5 % of the texts are distinct, or just one is: the mark of a model that ignores its images."""
    distinct = len(set(texts))
    return distinct < COLLAPSED_SHARE * len(texts) or distinct == 1 < len(texts)


def share_found(references: Sequence[Sequence[str]], reports: Sequence[str]) -> float:
    """The share of studies of which a reference occurs word for word among the reports."""
    known = set(reports)
    return sum(any(text in known for text in several) for several in references) / len(references)
