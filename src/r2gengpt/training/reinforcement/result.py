"""What a reinforcement stage did to validation reports: scores and habits before and after, as table and file.

Habits are the ways to earn reward without better reports. Rewards nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from r2gengpt.config import ReinforceConfig
from r2gengpt.files import write_whole
from r2gengpt.metrics.compare import compare
from r2gengpt.metrics.labels.family import LABEL_F1, LABELS
from r2gengpt.metrics.labels.reading import THERE, Label, label_report
from r2gengpt.metrics.measure import FAMILIES, MetricChoice
from r2gengpt.metrics.paired import Difference
from r2gengpt.metrics.protocols import PROTOCOLS, bind
from r2gengpt.report import Report
from r2gengpt.text.observations import CHILDREN, NO_FINDING, OBSERVATIONS
from r2gengpt.training.reinforcement.rewards import LabelCounts, Target, label_counts, repetition, reward_of
from r2gengpt.training.validation import validation_scores

RESULT = "reinforcement.json"
"""The table, in the directory of the run."""
ROWS: Mapping[str, str] = {
    "clinical_f1": "clinical F1 (micro of 14)",
    "bleu_4": "BLEU-4",
    "reward": "reward",
    "omission": "omission: findings not mentioned",
    "hedging": "hedging: uncertain of asserted",
    "words": "length in words",
    "repetition": "repetition: 4-grams again",
    "distinct": "distinct texts",
}
"""Score → what the table calls it, in its order."""
TESTED: Mapping[str, str] = {"clinical_f1": LABEL_F1, "bleu_4": "bleu_4"}
"""Score whose difference is tested → its name among the metrics."""
FINDINGS = tuple(name for name in OBSERVATIONS if name != NO_FINDING)


@dataclass(frozen=True)
class StageResult:
    """Validation scores of the supervised model and of the reinforced one, and the habits of the references.

    Attributes:
        studies: that were validated.
        supervised: before the first step.
        reinforced: of the best checkpoint, which these same studies chose.
        references: empty where there are none.
        differences: reinforced minus supervised, in pairs; empty without references.
    """

    studies: int
    supervised: Mapping[str, float]
    reinforced: Mapping[str, float]
    references: Mapping[str, float]
    differences: Mapping[str, Difference] = field(default_factory=dict)

    def table(self) -> str:
        """The table in plain text."""
        width = max(map(len, ROWS.values()))
        titles = ("supervised", "reinforced", "references", "difference [95 %]")
        lines = ["  ".join([f"{f'{self.studies} validation studies':{width}}", *titles])]
        for name in self.supervised:
            scores = (self.supervised, self.reinforced, self.references)
            cells = [f"{part[name]:10.3f}" if name in part else " " * 10 for part in scores]
            found = self.differences.get(name)
            lines.append("  ".join([f"{ROWS[name]:{width}}", *cells, "" if found is None else _shown(found)]).rstrip())
        return "\n".join(lines)

    def write(self, directory: Path) -> None:
        """Write reinforcement.json, whole."""
        write_whole(directory / RESULT, json.dumps(asdict(self), indent=1) + "\n")


def _shown(found: Difference) -> str:
    limits = "" if found.ci95 is None else " [{:+.3f}, {:+.3f}]".format(*found.ci95)
    return f"{found.value:+.3f}{limits}"


@dataclass(frozen=True)
class ModelTexts:
    """What a model wrote for validation studies, and its scores there by name."""

    texts: Mapping[str, str]
    scores: Mapping[str, float]


def stage_result(before: ModelTexts, after: ModelTexts, targets: Mapping[str, Target], dataset: str) -> StageResult:
    """The result of two validations of the same studies; scores that stand in no row are left out."""
    own = [targets[name] for name in before.texts]
    texts = [target.reference for target in own]
    habits = asdict(habits_of(texts, own)) if all(texts) else {}
    kept = [{name: part[name] for name in ROWS if name in part} for part in (before.scores, after.scores, habits)]
    return StageResult(
        len(own),
        supervised=kept[0],
        reinforced=kept[1],
        references=kept[2],
        differences=_differences(before, after, targets, dataset) if all(texts) else {},
    )


def _differences(
    before: ModelTexts, after: ModelTexts, targets: Mapping[str, Target], dataset: str
) -> dict[str, Difference]:
    """Reinforced minus supervised of what is tested, over patients where all are known."""
    found = compare(
        before.texts,
        after.texts,
        {name: [targets[name].reference] for name in before.texts},
        bind(PROTOCOLS["clean"], dataset),
        choice=MetricChoice((*(one for one in FAMILIES if "bleu_4" in one.metrics), LABELS), {}),
        patients={name: patient for name in before.texts if (patient := targets[name].patient)},
    )
    return {name: found.differences[metric] for name, metric in TESTED.items()}


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
