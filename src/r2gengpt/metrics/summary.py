"""Scores for a terminal of 100 columns, the verdict first. No measuring; the table of all rows is `table`'s."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from r2gengpt.metrics.labels.family import LABEL_F1, TITLES
from r2gengpt.metrics.records import Scores
from r2gengpt.metrics.table import align, by_part, in_words, interval_words, number, reasons, score_table, studies_words
from r2gengpt.metrics.verdict import CEILINGS, TEXT_ONLY, Verdict, p_in_words

COLUMNS = 100
LABELS = (LABEL_F1, LABEL_F1.replace("micro", "macro"))
"""Of the clinical labels' averages those that are shown."""


def wrapped(line: str, indent: str = "  ") -> list[str]:
    """A line in as many as it needs, none wider than a terminal."""
    return textwrap.wrap(line, COLUMNS, subsequent_indent=indent) or [""]


def verdict_lines(verdict: Verdict) -> list[str]:
    """The verdict, why it is no better one, and what a reader must not miss."""
    why = (verdict.why,) if verdict.why else ()
    return [line for text in (verdict.sentence, *why, *_marked(verdict.warnings)) for line in wrapped(text)]


def terminal_text(scores: Scores, *, details: bool = False) -> str:
    """The verdict and the short table, or with details the verdict and every row, which may be wider."""
    return "\n".join([*verdict_lines(scores.verdict), "", score_table(scores)]) if details else short_table(scores)


def short_table(scores: Scores) -> str:
    """The verdict, each main score beside the best baseline, and what was measured otherwise, a line each."""
    about = [f"signature  {scores.signature}", f"studies    {studies_words(scores)}"]
    about.append(f"outputs    {_outputs(scores)}")
    blind = [TEXT_ONLY] if TEXT_ONLY in scores.baselines else []
    rows = [["metric", "predictions", "95% interval", "best baseline", *blind], *_rows(scores)]
    remarks = [*_gap(scores), *_confidence(scores.confidence), *_findings(scores.findings)]
    remarks += [*reasons(scores.not_available), *(f"note: {note}" for note in _notes(scores))]
    lines = [*verdict_lines(scores.verdict), "", *(line for text in about for line in wrapped(text, " " * 11)), ""]
    return "\n".join([*lines, *align(rows), "", *(line for text in remarks for line in wrapped(text))]).rstrip()


def _marked(warnings: Iterable[str]) -> Iterator[str]:
    return (f"! {warning}" for warning in warnings)


def _outputs(scores: Scores) -> str:
    words = f"{scores.distinct} distinct; the commonest is {scores.commonest_share:.1%} of all"
    if (seen := scores.verbatim_in_train) is None:
        return words
    return f"{words}; {seen:.1%} of the references are in the train split word for word"


def _rows(scores: Scores) -> Iterator[list[str]]:
    """A row for each score that is shown: its interval, the highest of the baselines, and that without films."""
    rivals = {name: row.metrics for name, row in scores.baselines.items() if name not in CEILINGS}
    for name in scores.shown:
        if name in TITLES and name not in LABELS:
            continue
        best = max(rivals, key=lambda row: rivals[row][name].value)
        score = scores.metrics[name]
        blind = [number(rivals[TEXT_ONLY][name])] if TEXT_ONLY in rivals else []
        yield [name, number(score), interval_words(score), f"{number(rivals[best][name])} {best}", *blind]


def _notes(scores: Scores) -> Iterator[str]:
    """The notes, but that of the collapse, which stands at the top."""
    return (note for note in scores.notes if not note.startswith("collapsed"))


def _gap(scores: Scores) -> Iterator[str]:
    """The grounding gap of the verdict's metric."""
    if scores.grounding_gap is None:
        return
    gap, name = scores.grounding_gap[scores.verdict.metric], scores.verdict.metric
    spread = "" if gap.ci95 is None else f" ({gap.ci95[0]:+.4f} to {gap.ci95[1]:+.4f})"
    chance = "" if gap.p_randomisation is None else f", {p_in_words(gap.p_randomisation)}"
    yield f"grounding gap {gap.value:+.4f}{spread}{chance}: {name}, true minus shuffled images"


def _confidence(found: Mapping[str, Any] | None) -> Iterator[str]:
    if found is not None:
        fitted = "not calibrated" if found["temperature"] is None else "calibrated"
        yield f"confidence {fitted}: calibration error {in_words(found, 'ece')}, {found['n_sentences']} sentences"


def _findings(found: Mapping[str, Any] | None) -> Iterator[str]:
    """Normal or abnormal by text and head over all studies and by source, the mean area, the maps in boxes."""
    if found is None:
        return
    for name, row in by_part(found, "all"):
        yield f"normal or abnormal by {name}: balanced accuracy {in_words(row, 'balanced_accuracy')}"
    if (head := found.get("head")) and "value" in head["all"]["mean_auc"]:
        mean, over = in_words(head["all"], "mean_auc"), head["all"]["mean_auc"]["over"]
        yield f"finding head: mean area under ROC {mean} over {len(over)} observations"
    if "boxes" in found:
        shares = ", ".join(f"{name} {in_words(found['boxes'], name)}" for name in ("mass", "chance"))
        yield f"evidence maps in the boxes, {found['boxes']['n']} maps: {shares}"
