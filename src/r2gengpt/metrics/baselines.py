"""Texts that stand beside a model's: those of programs that see less than it. No metric."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from r2gengpt.metrics.protocols import BoundProtocol

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


@dataclass(frozen=True)
class System:
    """A text for each study.

    `about` is that text where all are the same, or how they were chosen; `texts` are in the protocol's form,
    `written` as they were before its cleaning.
    """

    about: str
    texts: Sequence[str]
    written: Sequence[str]


@dataclass(frozen=True)
class Reports:
    """The reports of a train split that are not empty: in the protocol's form, and as they were given."""

    texts: tuple[str, ...]
    written: tuple[str, ...]

    @classmethod
    def of(cls, reports: Sequence[str], rules: BoundProtocol) -> "Reports":
        """The reports with what a protocol makes of them, as if they had been generated."""
        written = tuple(report for report in reports if report.strip())
        return cls(tuple(rules.report(report) for report in written), written)

    def system(self, places: Sequence[int], about: str) -> System:
        """The reports at the places."""
        return System(about, [self.texts[i] for i in places], [self.written[i] for i in places])


@dataclass(frozen=True)
class Baseline:
    """A system that only the caller can know: a text for each study id, and how they were chosen.

    `human` texts are reports of people, which a protocol reads as such; others were generated like the predictions.
    """

    about: str
    texts: Mapping[str, str]
    human: bool

    def system(self, ids: Sequence[str], rules: BoundProtocol) -> System:
        """The texts of the studies under a protocol."""
        edit = rules.report if self.human else rules.hypothesis
        return System(self.about, [edit(self.texts[study]) for study in ids], [self.texts[study] for study in ids])


def blind_systems(
    texts: Sequence[str], written: Sequence[str], train: Reports, rules: BoundProtocol, seed: int
) -> dict[str, System]:
    """The baselines that need no image, by name.

    Args:
        texts: the outputs being scored, in the protocol's form.
        written: the same as they were given.
        train: reports of the train split; without any, two baselines are left out.
        rules: of the protocol.
        seed: of the random ones.
    """
    studies, constant = len(texts), rules.report(CONSTANT_REPORT)
    systems = {"constant": System(constant, [constant] * studies, [CONSTANT_REPORT] * studies)}
    if train.texts:
        commonest = most_frequent(train.texts)
        systems["most_frequent"] = train.system([train.texts.index(commonest)] * studies, commonest)
        drawn = random_places(len(train.texts), studies, seed)
        systems["random_train"] = train.system(
            drawn, f"one report of the train split for each study, drawn with seed {seed}"
        )
    if studies > 1:
        places = derangement(studies, seed)
        systems["texts_shuffled"] = System(
            f"the predictions moved between studies, seed {seed}",
            [texts[i] for i in places],
            [written[i] for i in places],
        )
    return systems
