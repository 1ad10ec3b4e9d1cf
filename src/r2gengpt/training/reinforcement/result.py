"""The supervised model beside the reinforced one on the validation split: table and file. Measures no text itself."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from r2gengpt.files import whole_file
from r2gengpt.metrics.compare import compare
from r2gengpt.metrics.labels.family import LABEL_F1, LABELS
from r2gengpt.metrics.measure import FAMILIES, MetricChoice
from r2gengpt.metrics.paired import Difference
from r2gengpt.metrics.protocols import PROTOCOLS, bind
from r2gengpt.training.reinforcement.rewards import Target
from r2gengpt.training.reinforcement.tricks import habits_of

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
        with whole_file(directory / RESULT) as path:
            path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


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
