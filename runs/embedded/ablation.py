"""Prints the table of ablation.sh: rows over their seeds, and what each part changes, paired by patient. Runs no model.

A difference is of all seeds' texts at once; patients are resampled, with the texts of every seed.

python runs/embedded/ablation.py OUT
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2gengpt.evaluation.audit.summary import short
from r2gengpt.evaluation.card import CardTable, table_lines
from r2gengpt.metrics.compare import Comparison
from r2gengpt.metrics.labels.family import LABEL_F1
from r2gengpt.metrics.spread import Spread
from r2gengpt.scoring import compare

BEFORE = {
    "plain": None,
    "head": "plain",
    "hint": "head",
    "weights": "head",
    "context": "head",
    "prior": "context",
    "opening": "head",
    "retrieve": "head",
    "reinforced": "head",
}
"""A row → the row without its part."""
HEAD = (
    *("row", "label F1", "texts moved", "without films", "normal or abnormal", "CIDEr-D", "BLEU-4", "distinct"),
    *("label F1 above", "p"),
)


@dataclass(frozen=True)
class Row:
    """Scores and predictions of one row, of each seed by its number."""

    name: str
    scores: Mapping[str, dict[str, Any]]
    written: Mapping[str, Sequence[dict[str, Any]]]

    def spread(self, *path: str) -> Spread | None:
        """A figure of scores.json over the seeds; None where one has none."""
        found: list[float] = []
        for one in self.scores.values():
            value: Any = one
            for step in path:
                value = value.get(step) if isinstance(value, dict) else None
            if value is None:
                return None
            found.append(float(value))
        return Spread.of(found)


def read_row(out: Path, name: str) -> Row | None:
    """The tests of a row's seeds, None where there are none."""
    scores, written = {}, {}
    for file in sorted(out.glob(f"{name}/seed-*/results-test/scores.json")):
        seed = file.parent.parent.name
        scores[seed] = json.loads(file.read_text(encoding="utf-8"))
        lines = file.with_name("predictions.jsonl").read_text(encoding="utf-8").splitlines()
        written[seed] = [json.loads(line) for line in lines]
    return Row(name, scores, written) if scores else None


def pooled(row: Row, seeds: Sequence[str], key: str) -> dict[str, str]:
    """One field of the seeds' predictions, under `seed study`."""
    return {f"{seed} {one['id']}": one[key] for seed in seeds for one in row.written[seed]}


def change(row: Row, before: Row) -> Comparison:
    """A row against the row without its part, over the seeds that both have."""
    seeds = [seed for seed in row.scores if seed in before.scores]
    without, written = (pooled(one, seeds, "prediction") for one in (before, row))
    references, patients = (pooled(row, seeds, key) for key in ("reference", "patient"))
    return compare(without, written, references, labels=True, patients=patients)


def line(row: Row, before: Row | None) -> tuple[str, ...]:
    """A row of the table; empty cells are of what was not measured."""
    paths = (
        ("metrics", LABEL_F1),
        ("baselines", "texts_shuffled", "metrics", LABEL_F1),
        ("baselines", "text_only", "metrics", LABEL_F1),
        ("findings", "text", "all", "balanced_accuracy"),
        ("metrics", "cider"),
        ("metrics", "bleu_4"),
    )
    cells = [str(row.spread(*path, "value") or "") for path in paths]
    distinct = row.spread("outputs", "distinct")
    cells.append(f"{distinct.mean:.0f}" if distinct else "")
    if before is None:
        return row.name, *cells, "", ""
    found = change(row, before).differences[LABEL_F1]
    return row.name, *cells, f"{before.name}: {short(found.to_json())}", f"{found.p_randomisation:.3f}"


def main() -> None:
    """Read what is there, print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("out", type=Path, help="directory of ablation.sh")
    out = parser.parse_args().out
    rows = {name: row for name in BEFORE if (row := read_row(out, name))}
    lines = tuple(line(row, rows.get(BEFORE[name] or "")) for name, row in rows.items())
    print("\n".join(table_lines(CardTable("", HEAD, lines))))


if __name__ == "__main__":
    main()
