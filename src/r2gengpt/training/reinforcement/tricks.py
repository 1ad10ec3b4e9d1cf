"""The ways to earn reward without better reports, measured on validation reports. Rewards nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from r2gengpt.config import ReinforceConfig
from r2gengpt.metrics.labels.observations import Label
from r2gengpt.metrics.labels.reading import label_report
from r2gengpt.report import Report
from r2gengpt.text.observations import CHILDREN, NO_FINDING, OBSERVATIONS
from r2gengpt.training.reinforcement.rewards import THERE, LabelCounts, Target, label_counts, repetition, reward_of
from r2gengpt.training.validation import validation_scores

FINDINGS = tuple(name for name in OBSERVATIONS if name != NO_FINDING)


@dataclass(frozen=True)
class Habits:
    """How texts report.

    Attributes:
        omission: share of the references' findings that the texts do not mention at all, neither to assert nor to deny.
        hedging: share of uncertain labels among those that assert a finding.
        words: mean length.
        repetition: mean share of repeated 4-grams.
        distinct: share of distinct texts.
    """

    omission: float
    hedging: float
    words: float
    repetition: float
    distinct: float


def mentioned(text: str) -> frozenset[str]:
    """The findings that a text names; one that names a kind of a finding has named it."""
    labels = label_report(text)
    named = {name for name in FINDINGS if labels[name] is not Label.BLANK}
    return frozenset(named | {name for name, kinds in CHILDREN.items() if named.intersection(kinds)})


def habits_of(texts: Sequence[str], targets: Sequence[Target]) -> Habits:
    """The habits of texts, each beside its study's target; a share of nothing is 0."""
    wanted = [target.present - {NO_FINDING} for target in targets]
    missed = sum(len(names - mentioned(text)) for names, text in zip(wanted, texts, strict=True))
    said = [label for text in texts for name, label in label_report(text).items() if name in FINDINGS]
    asserted = [label for label in said if label in THERE]
    return Habits(
        omission=missed / max(1, sum(map(len, wanted))),
        hedging=sum(label is Label.UNCERTAIN for label in asserted) / max(1, len(asserted)),
        words=sum(len(text.split()) for text in texts) / len(texts),
        repetition=sum(map(repetition, texts)) / len(texts),
        distinct=len(set(texts)) / len(texts),
    )


def micro_f1(texts: Sequence[str], targets: Sequence[Target]) -> float:
    """F1 of the texts' labels, all studies counted together; of references in words it is `clinical_f1`."""
    counts = [label_counts(text, target) for text, target in zip(texts, targets, strict=True)]
    return LabelCounts(sum(c.hits for c in counts), sum(c.wrong for c in counts), sum(c.missed for c in counts)).f1


def measured(
    reports: Sequence[Report], targets: Mapping[str, Target], weights: ReinforceConfig, dataset: str
) -> dict[str, float]:
    """What validation reports score, by name: reward, clinical F1, BLEU-4 where all have references, and habits."""
    texts, own = [report.text for report in reports], [targets[report.id] for report in reports]
    rewards = [reward_of(text, target, weights).total for text, target in zip(texts, own, strict=True)]
    found = {"reward": sum(rewards) / len(rewards), "clinical_f1": micro_f1(texts, own)}
    if all(target.reference for target in own):
        found["bleu_4"] = validation_scores(list(reports), dataset)["bleu_4"]
    return found | asdict(habits_of(texts, own))
