"""A card that a reviewer can sign, of what `test` and `audit` measured: parts in words and tables. Writes no HTML.

All figures come from scores.json and audit.json as they lie in one directory; what is not known is said to be so.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2gengpt.data.strict import read_json_object
from r2gengpt.errors import InputError
from r2gengpt.evaluation.audit.measure import WORST
from r2gengpt.evaluation.audit.summary import boxes_line, claims_line, headline, short, sides_line, verdict_words
from r2gengpt.metrics.labels.family import LABEL_F1, observation_name
from r2gengpt.metrics.labels.reading import named_in
from r2gengpt.metrics.measure import HEADLINES
from r2gengpt.text.observations import ALL_OBSERVATIONS

Json = Mapping[str, Any]
FEWEST = 5
"""Positives and negatives that an area needs to be told."""
NOT_TOLD = "not told"
OF_TEST, OF_AUDIT = ("scores.json", "predictions.jsonl"), ("audit.json", "answers.jsonl")
"""What a card rests on, by hash."""
GROUPS = (("by_source", "source"), ("by_age", "age"), ("by_sex", "sex"), ("by_view", "view"))
OF_DATA = ("data", "sources", "studies", "licence", "trained on", "seed")
"""What is known of the data, and not of the model."""
SIGNED = (
    "Reviewed by: ______________________________",
    "Role: ______________________________",
    "Date: ______________________________",
    "Signature: ______________________________",
)
INTENDED = "Research and demonstration only. It is not a medical device. Its findings and texts are unverified drafts."
TO_FILL = "Intended users, patients and setting: not told; whoever answers for the model fills it in before signing."
_LICENCE = re.compile(r"^(?:license:|- licence:)\s*(\S.*)$", re.MULTILINE)


@dataclass(frozen=True)
class CardTable:
    """A table: heads and rows of plain cells."""

    name: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class FailedText:
    """A study whose text fails: what it misses and invents, and the text."""

    study: str
    missed: tuple[str, ...]
    invented: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class CardPart:
    """A part of a card under its title."""

    title: str
    lines: tuple[str, ...] = ()
    tables: tuple[CardTable, ...] = ()
    failures: tuple[FailedText, ...] = ()


def card_parts(directory: Path, about: Mapping[str, str]) -> list[CardPart]:
    """The parts of a card, from what lies in a directory.

    Args:
        directory: with scores.json, audit.json or both.
        about: what is known of the model and the data, by name. What is of other weights than its `model_sha256` is
            left out.
    """
    scores, scores_fault = measured(directory / "scores.json", about)
    audit, audit_fault = measured(directory / "audit.json", about)
    known = {**(audit or {}).get("provenance", {}), **about}
    faults = tuple(fault for fault in (scores_fault, audit_fault) if fault)
    model = [f"{name}: {value}" for name, value in known.items() if name not in OF_DATA]
    data = [f"{name}: {known[name]}" for name in OF_DATA[:3] if name in known]
    failures = gallery(None if scores_fault else directory, audit)
    files = (*(() if scores_fault else OF_TEST), *(() if audit_fault else OF_AUDIT))
    return [
        CardPart("Intended use", (INTENDED, TO_FILL)),
        CardPart("Model", (*(model or [NOT_TOLD]), *faults)),
        CardPart("Data and licences", (*data, f"licence: {known.get('licence', NOT_TOLD)}",
                                       f"what it was trained on: {known.get('trained on', NOT_TOLD)}")),
        findings_part(scores, audit),
        subgroups_part(scores),
        grounding_part(scores, audit),
        calibration_part(scores),
        CardPart("Gallery of failures", () if failures else (NOT_TOLD,), (), failures),
        CardPart("Hashes", tuple(hashes(directory, known, files))),
        CardPart("Signature", ("Not signed.", *SIGNED)),
    ]  # fmt: skip


def measured(path: Path, about: Mapping[str, str]) -> tuple[Json | None, str]:
    """The content of scores.json or audit.json, and why it is left out of a card, or "".

    Args:
        path: of the file; it may not be there.
        about: what is known of the card's model. `model_sha256` tells its weights from others.

    >>> measured(Path("nowhere/audit.json"), {})
    (None, '')
    """
    if not path.is_file():
        return None, ""
    try:
        found = read_json_object(path, path.name)
    except InputError:
        return None, f"{path.name}: left out, cannot be read"
    ours, theirs = (str(of.get("model_sha256", NOT_TOLD)) for of in (about, found.get("provenance", {})))
    if NOT_TOLD not in (ours, theirs) and ours != theirs:
        return None, f"{path.name}: left out, of other weights (model_sha256 {theirs})"
    return found, ""


def findings_part(scores: Json | None, audit: Json | None) -> CardPart:
    """Each finding: F1 of the text, area of the head, and the audit's verdict."""
    head = ((scores or {}).get("findings") or {}).get("head", {}).get("all", {}).get("observations", {})
    metrics = (scores or {}).get("metrics", {})
    verdicts = (audit or {}).get("verdicts", {})
    rows = []
    for name in ALL_OBSERVATIONS:
        f1 = metrics.get(observation_name(name, "uncertain_as_positive"))
        judged = verdicts.get("text", {}).get(name)
        cells = (
            short(f1) if f1 is not None else NOT_TOLD,
            area_in(head[name]) or "too few" if name in head else NOT_TOLD,
            verdict_words(judged) if judged is not None else NOT_TOLD,
        )
        if set(cells) != {NOT_TOLD}:
            rows.append((name, *cells))
    heads = ("finding", "F1 of the text's labels", "head, area under ROC (positive of all)", "audit of the text")
    return CardPart(
        "Findings", () if rows else (NOT_TOLD,), (CardTable("Each finding", heads, tuple(rows)),) if rows else ()
    )


def area_in(found: Json) -> str:
    """An area with its interval and how many films it rests on; empty where they are too few.

    >>> area_in({"positive": 6, "negative": 14, "auc": {"value": 0.9, "ci95": [0.8, 1.0]}})
    '0.90 [0.80, 1.00] (6 of 20)'
    """
    if min(found["positive"], found["negative"]) < FEWEST or "auc" not in found:
        return ""
    return f"{short(found['auc'])} ({found['positive']} of {found['positive'] + found['negative']})"


def areas(name: str, group: Mapping[str, Json]) -> CardTable:
    """Areas under the ROC curve by observation, a column a source, age, sex or view."""
    rows = []
    for observation in next(iter(group.values()))["observations"]:
        cells = [area_in(one["observations"][observation]) for one in group.values()]
        if any(cells):
            rows.append((observation, *cells))
    return CardTable(name, ("observation", *(f"{one}, {group[one]['n']} films" for one in group)), tuple(rows))


def subgroups_part(scores: Json | None) -> CardPart:
    """The head's areas by source, age, sex and view; devices are in no annotation."""
    head = ((scores or {}).get("findings") or {}).get("head", {})
    tables = tuple(areas(f"By {title}", head[name]) for name, title in GROUPS if head.get(name))
    missing = [f"by {title}: {NOT_TOLD}" for name, title in GROUPS if not head.get(name)]
    return CardPart("Subgroups", (*missing, f"by device: {NOT_TOLD}"), tables)


def grounding_part(scores: Json | None, audit: Json | None) -> CardPart:
    """What films add to the scores, and the audit's headlines."""
    gaps = (scores or {}).get("grounding_gap") or {}
    metrics = [name for name in (LABEL_F1, "cider", "rouge_l") if name in gaps]
    lines = [f"{HEADLINES[name]}, true films less shuffled ones: {short(gaps[name])}" for name in metrics]
    if not metrics:
        lines.append(f"score with true films less that with shuffled ones: {NOT_TOLD}")
    if audit is not None:
        lines += [headline(audit, who) for who in audit["verdicts"]]
        lines += [sides_line(audit), claims_line(audit), boxes_line(audit)]
    else:
        lines.append(f"audit: {NOT_TOLD}")
    return CardPart("Grounding", tuple(lines))


def calibration_part(scores: Json | None) -> CardPart:
    """Errors of the head's probabilities and of the sentences' confidence."""
    head = ((scores or {}).get("findings") or {}).get("head", {}).get("calibration")
    sentences = (scores or {}).get("confidence")
    lines = [f"finding head: {NOT_TOLD}"]
    if head:
        lines = [f"finding head: expected calibration error {short(head['ece'])}, Brier {short(head['brier'])}, "
                 f"{head['n']} pairs of study and finding"]  # fmt: skip
    confidence = (
        f"expected calibration error {short(sentences['ece'])}" if sentences and "ece" in sentences else NOT_TOLD
    )
    return CardPart("Calibration", (*lines, f"confidence of sentences: {confidence}"))


def gallery(directory: Path | None, audit: Json | None) -> tuple[FailedText, ...]:
    """The texts that miss and invent the most findings: of a test by references, else of an audit by labels.

    Args:
        directory: of the test; None where it is left out.
        audit: the content of audit.json.
    """
    if directory is not None and (path := directory / "predictions.jsonl").is_file():
        lines = path.read_text(encoding="utf-8").split("\n")
        found = [failure_of(json.loads(line)) for line in lines if line.strip()]
        found.sort(key=lambda one: -len(one.missed) - len(one.invented))
        return tuple(one for one in found[:WORST] if one.missed or one.invented)
    rows = (audit or {}).get("failures", ())
    return tuple(FailedText(one["study"], tuple(one["missed"]), tuple(one["invented"]), one["text"]) for one in rows)


def failure_of(record: Json) -> FailedText:
    """What a prediction misses and invents against its reference, by the rule labeller."""
    ours, theirs = (named_in(str(record[side])) for side in ("prediction", "reference"))
    missed, invented = (
        tuple(name for name in one if name not in other) for one, other in ((theirs, ours), (ours, theirs))
    )
    return FailedText(str(record["id"]), missed, invented, str(record["prediction"]))


def hashes(directory: Path, known: Mapping[str, str], files: Sequence[str]) -> Iterator[str]:
    """SHA-256 of the weights and of those of the files that are there."""
    yield f"model: {known.get('model_sha256', NOT_TOLD)}"
    for name in files:
        if (directory / name).is_file():
            yield f"{name}: {hashlib.sha256((directory / name).read_bytes()).hexdigest()}"


def licence_in(card: str) -> str:
    """The licence that a checkpoint's own card names.

    >>> licence_in("- licence: that of the parts"), licence_in("# A model")
    ('that of the parts', 'not told')
    """
    found = _LICENCE.search(card)
    return found[1].strip() if found else NOT_TOLD


def markdown_of(title: str, parts: Sequence[CardPart]) -> str:
    """The card as Markdown."""
    lines = [f"# {escaped_cell(title)}", ""]
    for part in parts:
        lines += [f"## {part.title}", ""]
        lines += [f"- {escaped_cell(line)}" for line in part.lines]
        for table in part.tables:
            lines += ["", f"**{table.name}**", "", *table_lines(table)]
        for failure in part.failures:
            missed, invented = (", ".join(names) or "none" for names in (failure.missed, failure.invented))
            told_so = f"**{escaped_cell(failure.study)}** missed: {missed}; invented: {invented}"
            lines.append(f"- {told_so}. {escaped_cell(failure.text)}")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def table_lines(table: CardTable) -> list[str]:
    """A table of Markdown."""
    rows = [table.heads, tuple("---" for _ in table.heads), *table.rows]
    return [f"| {' | '.join(map(escaped_cell, row))} |" for row in rows]


def escaped_cell(text: str) -> str:
    """A text as it can stand in a line or a cell of Markdown: one line, no element, image or link of its own.

    >>> print(escaped_cell("a|b <i> ![c](http://d)"))
    a\\|b &lt;i&gt; ![c]\\(http://d)
    """
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return line.replace("|", "\\|").replace("](", "]\\(")
