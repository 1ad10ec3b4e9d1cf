"""Texts that stand beside a model's: those of programs that see less than it. No metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from r2gengpt.metrics import baselines
from r2gengpt.metrics.protocols import Rules


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
    def of(cls, reports: Sequence[str], rules: Rules) -> "Reports":
        """The reports with what a protocol makes of them, as if they had been generated."""
        written = tuple(report for report in reports if report.strip())
        return cls(tuple(rules.report(report) for report in written), written)

    def system(self, places: Sequence[int], about: str) -> System:
        """The reports at the places."""
        return System(about, [self.texts[i] for i in places], [self.written[i] for i in places])


@dataclass(frozen=True)
class Beside:
    """A system that only the caller can know: a text for each study id, and how they were chosen.

    `human` texts are reports of people, which a protocol reads as such; others were generated like the predictions.
    """

    about: str
    texts: Mapping[str, str]
    human: bool

    def system(self, ids: Sequence[str], rules: Rules) -> System:
        """The texts of the studies under a protocol."""
        edit = rules.report if self.human else rules.hypothesis
        return System(self.about, [edit(self.texts[study]) for study in ids], [self.texts[study] for study in ids])


def blind_systems(
    texts: Sequence[str], written: Sequence[str], train: Reports, rules: Rules, seed: int
) -> dict[str, System]:
    """The baselines that need no image, by name.

    Args:
        texts: the outputs being scored, in the protocol's form.
        written: the same as they were given.
        train: reports of the train split; without any, two baselines are left out.
        rules: of the protocol.
        seed: of the random ones.
    """
    studies, constant = len(texts), rules.report(baselines.CONSTANT_REPORT)
    systems = {"constant": System(constant, [constant] * studies, [baselines.CONSTANT_REPORT] * studies)}
    if train.texts:
        commonest = baselines.most_frequent(train.texts)
        systems["most_frequent"] = train.system([train.texts.index(commonest)] * studies, commonest)
        drawn = baselines.random_places(len(train.texts), studies, seed)
        systems["random_train"] = train.system(
            drawn, f"one report of the train split for each study, drawn with seed {seed}"
        )
    if studies > 1:
        places = baselines.derangement(studies, seed)
        systems["texts_shuffled"] = System(
            f"the predictions moved between studies, seed {seed}",
            [texts[i] for i in places],
            [written[i] for i in places],
        )
    return systems
