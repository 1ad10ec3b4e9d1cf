"""An audit as one self-contained HTML file, in the style of the report page. Measures nothing, opens no network."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from r2gengpt.evaluation.audit.plan import ABOUT, Condition, Question
from r2gengpt.evaluation.audit.run import Key, key_of
from r2gengpt.evaluation.audit.subjects import Answered
from r2gengpt.evaluation.audit.summary import (
    boxes_line,
    claims_line,
    headline,
    ordered,
    short,
    sides_line,
    verdict_words,
)
from r2gengpt.evaluation.page.frame import rendered
from r2gengpt.evaluation.page.scores import Json, ShownCell, ShownRow, ShownTable, score_cell
from r2gengpt.files import write_whole

SHOWN = 6
"""Studies whose texts stand on the page under each condition."""
CHANGES = {
    "findings_changed": "findings changed",
    "texts_changed": "texts changed",
    "sides_changed": "sides changed",
    "head_changed": "head's probabilities moved",
    "agreement": "agreement with labels",
    "agreement_gap": "true film above it",
}


def verdict_table(audit: Json, who: str) -> ShownTable:
    """Each finding with its verdict and what it rests on."""
    heads = ("", "verdict", "patients with", "without", "named", "agreement", "above other films", "above blank")
    rows = []
    for name, found in ordered(audit["verdicts"][who]):
        above = found.get("above", {})
        scores = (found.get("agreement"), above.get("other_labels"), above.get("blank"))
        counts = (str(found["with"]), str(found["without"]), f"{found['named']} of {found['of']}")
        cells = (ShownCell(verdict_words(found), strong=True), *map(ShownCell, counts), *map(_cell, scores))
        rows.append(ShownRow(name, cells))
    return ShownTable(f"Verdict of each finding, {who}", heads, tuple(rows))


def condition_table(audit: Json) -> ShownTable:
    """What each condition changes."""
    rows = []
    for name, found in audit["conditions"].items():
        if "missing" in found:
            cells: tuple[ShownCell, ...] = (ShownCell(f"not available: {found['missing']}", span=7, kind="none"),)
        else:
            refused = (f"{found['refused']} refused",) if found["refused"] else ()
            cells = (ShownCell(str(found["n"]), refused), *(_cell(found.get(key)) for key in CHANGES))
        rows.append(ShownRow(f"{name.replace('_', ' ')}: {ABOUT[Condition(name)]}", cells))
    return ShownTable("Changes by condition", ("", "studies", *CHANGES.values()), tuple(rows))


def _cell(score: Json | None) -> ShownCell:
    return ShownCell("") if score is None else score_cell(score)


def text_tables(questions: Sequence[Question], answers: Mapping[Key, Answered]) -> list[ShownTable]:
    """The texts of the first studies under each condition."""
    found: dict[str, list[ShownRow]] = {}
    for question in questions:
        answer = answers[key_of(question)]
        words = f"told: {question.context}" if question.context else ""
        told_labels = f"labels: {', '.join(sorted(n for n, v in question.study.labels.items() if v >= 0.5)) or 'none'}"
        small = told_labels if question.condition == Condition.TRUE else words
        text = f"refused: {answer.refused}" if answer.refused else answer.text
        row = ShownRow(question.condition.replace("_", " "), (ShownCell(text, (small,) if small else ()),))
        if question.study.id in found or len(found) < SHOWN:
            found.setdefault(question.study.id, []).append(row)
    return [ShownTable(f"Study {name}", ("", "text"), tuple(rows), "observations") for name, rows in found.items()]


def write_audit_page(
    path: Path,
    *,
    title: str,
    audit: Json,
    questions: Sequence[Question],
    answers: Mapping[Key, Answered],
    provenance: Mapping[str, str],
) -> None:
    """Write audit.html, whole or not at all.

    Args:
        path: the file.
        title: heading of the page.
        audit: the content of audit.json.
        questions: what was asked.
        answers: what came back.
        provenance: what the page says of its making.
    """
    page = rendered(
        "audit.html",
        title=title,
        headlines=[headline(audit, who) for who in audit["verdicts"]],
        lines=[sides_line(audit), claims_line(audit), boxes_line(audit)],
        verdicts=[verdict_table(audit, who) for who in audit["verdicts"]],
        conditions=condition_table(audit),
        texts=text_tables(questions, answers),
        audit=audit,
        provenance=provenance,
        short=short,
    )
    write_whole(path, page, "output")
