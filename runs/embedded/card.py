"""The figures in the card of the shipped model: tables and the calibration plot, from scores that `test` wrote.

    python runs/embedded/card.py --scores OUT/test/scores.json --before OLD/scores.json --card runs/embedded/CARD.md

`--before` is another model on the same studies, as the one that was shipped before; `--called` names it.
The card holds a mark for each table and keeps it.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r2gengpt.evaluation.audit.summary import short
from r2gengpt.evaluation.card import CardTable, areas, table_lines

LABEL_F1 = "clinical_micro_f1_14_uncertain_as_positive"
ROWS = (
    ("the model", None),
    ("its texts moved between studies", "texts_shuffled"),
    ("its films moved between studies", "images_shuffled"),
    ("training study with the nearest image", "nearest_image"),
    ("training study with the nearest labels, as the head reads them", "nearest_labels"),
    ("most frequent training report", "most_frequent"),
    ("one constant report", "constant"),
    ("true labels as hints", "oracle_hint"),
)
"""Rows of the table of texts → their names in scores.json."""
SIDE, RIM = 360, 56
"""Of the plot, in pixels."""

Scores = dict[str, Any]


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table of Markdown."""
    return "\n".join(table_lines(CardTable("", head, tuple(rows))))


def told(measure: Scores | None) -> str:
    """A value with its interval; empty where there is none."""
    return "" if measure is None or measure.get("value") is None else short(measure)


def normal_or_abnormal(scores: Scores, before: Scores | None, called: str) -> str:
    """Balanced accuracy of text and head by source, beside what texts moved between films of that source reach."""
    rows = []
    for who, found in (("text", scores), ("head", scores), (f"text of {called}", before)):
        if found is None:
            continue
        part = found["findings"]["text"] if who != "head" else found["findings"]["head"]["normal_or_abnormal"]
        for source, one in part["by_source"].items():
            counts = [f"{one[kind]['called_so']} of {one[kind]['n']}" for kind in ("normal", "abnormal")]
            rows.append((who, source, *counts, told(one.get("balanced_accuracy")), told(one.get("moved"))))
    head = ("what", "source", "normal called so", "abnormal called so", "balanced accuracy", "moved between films")
    return table(head, rows)


def texts(scores: Scores, before: Scores | None, called: str) -> str:
    """Label F1 and CIDEr-D of the model, its baselines and the other model."""
    rows = []
    for words, name in ROWS:
        row = scores if name is None else scores["baselines"].get(name)
        if row is not None:
            rows.append((words, told(row["metrics"].get(LABEL_F1)), told(row["metrics"].get("cider"))))
    if before is not None:
        moved = before["baselines"]["texts_shuffled"]["metrics"]
        for words, metrics in ((called, before["metrics"]), (f"{called}, texts moved", moved)):
            rows.append((words, told(metrics.get(LABEL_F1)), told(metrics.get("cider"))))
    return table(("texts", "label F1, micro of 14", "CIDEr-D"), rows)


def plot(reliability: list[Scores]) -> str:
    """Chance told against share that was so, a dot a tenth whose area is its count, as SVG."""
    inner, middle = SIDE - 2 * RIM, SIDE / 2
    most = max(one["count"] for one in reliability)

    def at(x: float, y: float) -> str:
        return f"{RIM + x * inner:.1f} {SIDE - RIM - y * inner:.1f}"

    dots = [
        f'<circle cx="{at(one["confidence"], one["accuracy"]).split()[0]}" '
        f'cy="{at(one["confidence"], one["accuracy"]).split()[1]}" r="{3 + 9 * (one["count"] / most) ** 0.5:.1f}" '
        f'fill="#2563eb" fill-opacity="0.75"><title>{one["count"]} findings</title></circle>'
        for one in reliability
        if one["count"]
    ]
    ticks = [
        f'<text x="{RIM + share * inner:.0f}" y="{SIDE - RIM + 16}" text-anchor="middle">{share:g}</text>'
        f'<text x="{RIM - 6}" y="{SIDE - RIM - share * inner + 4:.0f}" text-anchor="end">{share:g}</text>'
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}" width="{SIDE}" height="{SIDE}" '
        'font-family="sans-serif" font-size="11" role="img" aria-label="Calibration of the findings">',
        f'<rect width="{SIDE}" height="{SIDE}" fill="#fff"/>',
        f'<path d="M{at(0, 0)}L{at(1, 0)}L{at(1, 1)}L{at(0, 1)}Z" fill="none" stroke="#9ca3af"/>',
        f'<path d="M{at(0, 0)}L{at(1, 1)}" stroke="#9ca3af" stroke-dasharray="4 4"/>',
        *ticks,
        *dots,
        f'<text x="{middle:.0f}" y="{SIDE - 8}" text-anchor="middle">chance that the head tells</text>',
        f'<text transform="translate(14 {middle:.0f}) rotate(-90)" text-anchor="middle">share that labels have</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def filled(card: str, tables: dict[str, str]) -> str:
    """The card with each table behind its mark, `<!-- NAME -->` to `<!-- /NAME -->`."""
    for name, content in tables.items():
        before, mark, rest = card.partition(f"<!-- {name} -->\n")
        end = f"<!-- /{name} -->"
        assert mark, name
        assert end in rest, name
        card = f"{before}{mark}{content}\n{end}{rest.partition(end)[2]}"
    return card


def main() -> None:
    """Write the card and the plot anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=Path, required=True)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--called", default="the model before", help="what the other model is called in the tables")
    parser.add_argument("--card", type=Path, required=True)
    asked = parser.parse_args()
    scores = json.loads(asked.scores.read_text(encoding="utf-8"))
    before = json.loads(asked.before.read_text(encoding="utf-8")) if asked.before else None
    head = scores["findings"]["head"]
    tables = {name: "\n".join(table_lines(areas(name, head[name]))) for name in ("by_source", "by_age", "by_sex")}
    tables |= {
        "normal": normal_or_abnormal(scores, before, asked.called),
        "texts": texts(scores, before, asked.called),
    }
    asked.card.write_text(filled(asked.card.read_text(encoding="utf-8"), tables), encoding="utf-8")
    asked.card.with_name("calibration.svg").write_text(plot(head["calibration"]["reliability"]), encoding="utf-8")


if __name__ == "__main__":
    main()
