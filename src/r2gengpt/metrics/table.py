"""Scores as an aligned text table for a terminal. No measuring."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from r2gengpt.metrics.compare import Comparison
from r2gengpt.metrics.paired import Difference
from r2gengpt.metrics.records import Score, Scores


def score_table(scores: Scores) -> str:
    """A line for each metric with its interval and the baselines beside it, then what a reader must know."""
    heads = ["metric", "predictions", "95% interval", *scores.baselines]
    rows = [
        [name, number(score), interval_words(score), *(number(row.metrics[name]) for row in scores.baselines.values())]
        for name, score in ((name, scores.metrics[name]) for name in scores.shown)
    ]
    lines = [f"signature  {scores.signature}", f"studies    {studies_words(scores)}", f"outputs    {_outputs(scores)}"]
    if scores.verbatim_in_train is not None:
        lines.append(f"references {scores.verbatim_in_train:.1%} are in the train split word for word")
    lines += ["", *align([heads, *rows]), ""]
    if scores.grounding_gap is not None:
        lines += ["grounding gap: with the true images, minus with images shuffled between studies", ""]
        lines += [*align(difference_rows(scores.grounding_gap, scores.shown)), ""]
    if scores.confidence is not None:
        lines += [*_confidence(scores.confidence), ""]
    if scores.findings is not None:
        lines += _findings(scores.findings)
    lines += reasons(scores.not_available)
    lines += [f"note: {note}" for note in scores.notes]
    return "\n".join(lines).rstrip()


def comparison_table(comparison: Comparison, systems: tuple[str, str]) -> str:
    """A line for each metric: both systems' scores, the difference with its interval, and both p."""
    unit = "study" if comparison.patients is None else f"patient: {comparison.patients} patients"
    about = [
        f"signature  {comparison.signature}",
        f"studies    {comparison.studies}, resampled and swapped by {unit}",
        f"first      {systems[0]}",
        f"second     {systems[1]}",
    ]
    heads, *rows = difference_rows(comparison.differences, comparison.shown)
    scores = [[f"{values[name]:.4f}" for values in (comparison.first, comparison.second)] for name, *_ in rows]
    table = [[name, *pair, *rest] for (name, *rest), pair in zip(rows, scores, strict=True)]
    lines = [*about, "", *align([[heads[0], "first", "second", *heads[1:]], *table]), ""]
    lines.append(f"difference: second minus first; {comparison.resamples} resamples, {comparison.swaps} swaps")
    lines += [*reasons(comparison.not_available), *(f"note: {note}" for note in comparison.notes)]
    return "\n".join(lines)


def _confidence(found: Mapping[str, Any]) -> list[str]:
    """How many sentences were judged, how far their confidence is off, and the area under risk and coverage."""
    fitted = "not calibrated" if found["temperature"] is None else "calibrated"
    ece, before = (Score(found[name]["value"], found[name].get("ci95")) for name in ("ece", "ece_uncalibrated"))
    error = f"calibration error {ece.value:.3f} ({interval_words(ece)})"
    if found["temperature"] is not None:
        error += f", uncalibrated {before.value:.3f} ({interval_words(before)})"
    judged = (
        f"{found['n_sentences']} sentences with an observation, {found['supported']:.1%} supported by the reference"
    )
    return [f"confidence {fitted}: {judged}", f"           {error}; area under risk and coverage {found['aurc']:.3f}"]


def _findings(found: Mapping[str, Any]) -> list[str]:
    """Normal against abnormal by text and by head, then what the head tells of each observation."""
    head = found.get("head")
    rows = [["normal or abnormal", "studies", "balanced accuracy", "moved within source"]]
    for name, row in by_part(found, "all"):
        studies = str(row["normal"]["n"] + row["abnormal"]["n"])
        rows.append([name, studies, in_words(row, "balanced_accuracy"), in_words(row, "moved")])
    lines = [*align(rows), ""] if len(rows) > 1 else []
    if (boxes := found.get("boxes")) is not None:
        shares = ", ".join(f"{name} {in_words(boxes, name)}" for name in ("mass", "peak", "chance"))
        lines += [f"evidence maps in the boxes of what their sentences assert, {boxes['n']} maps: {shares}", ""]
    return [*lines, *(_head_findings(head) if head else ())]


def by_part(found: Mapping[str, Any], everyone: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The results by text, then by head: of all studies, whose name is `everyone`, and of each source."""
    parts = {"text": found.get("text"), "head": (found.get("head") or {}).get("normal_or_abnormal")}
    for part, result in parts.items():
        groups = {everyone: result["all"]} | result["by_source"] if result else {}
        yield from ((f"{part}, {name}", row) for name, row in groups.items())


def _head_findings(head: Mapping[str, Any]) -> list[str]:
    """The area of each assessed observation, over all studies and within each source, and the calibration."""
    columns = {"all": head["all"]} | (head["by_source"] if len(head["by_source"]) > 1 else {})
    rows = [["area under ROC, by the head", *columns]]
    for name in head["all"]["observations"]:
        if name not in head["not_assessed"]:
            rows.append([name, *(in_words(group["observations"][name], "auc") for group in columns.values())])
    means = ({"auc": group["mean_auc"]} if group["mean_auc"]["over"] else {} for group in columns.values())
    lines = align([*rows, ["mean", *(in_words(mean, "auc") for mean in means)]])
    lines.append(f"known of the films: {head['truth']}")
    if head["not_assessed"]:
        lines.append(f"not assessed: {', '.join(head['not_assessed'])}")
    if (known := head["calibration"]) is not None:
        errors = f"calibration error {in_words(known, 'ece')}, Brier score {in_words(known, 'brier')}"
        lines.append(f"{errors}: {known['n']} pairs of study and assessed observation")
    return [*lines, ""]


def in_words(found: Mapping[str, Any], name: str) -> str:
    """A score with its interval, or that there are too few."""
    if name not in found:
        return "too few"
    score = Score(found[name]["value"], found[name].get("ci95"))
    return f"{score.value:.3f}" + ("" if score.ci95 is None else f" ({score.ci95[0]:.3f} to {score.ci95[1]:.3f})")


def reasons(not_available: Mapping[str, str]) -> list[str]:
    """A line for each reason, with all names that it keeps out."""
    return [
        f"not available: {', '.join(name for name, why in not_available.items() if why == reason)}: {reason}"
        for reason in dict.fromkeys(not_available.values())
    ]


def difference_rows(differences: Mapping[str, Difference], shown: Sequence[str]) -> list[list[str]]:
    """A heading, then a row for each shown metric: the difference, its interval, and both p."""
    heads = ["metric", "difference", "95% interval", "p bootstrap", "p randomisation"]
    rows = [
        [
            name,
            f"{difference.value:+.4f}",
            "-" if difference.ci95 is None else f"{difference.ci95[0]:+.4f} to {difference.ci95[1]:+.4f}",
            _p(difference.p_bootstrap),
            _p(difference.p_randomisation),
        ]
        for name, difference in ((name, differences[name]) for name in shown)
    ]
    return [heads, *rows]


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def studies_words(scores: Scores) -> str:
    """How many, and what the intervals were resampled by."""
    if scores.patients is None:
        return str(len(scores.ids))
    return f"{len(scores.ids)}, resampled by patient: {scores.patients} patients"


def _outputs(scores: Scores) -> str:
    return f"{scores.distinct} distinct; the commonest is {scores.commonest_share:.1%} of all"


def number(score: Score) -> str:
    """A score with four decimals."""
    return f"{score.value:.4f}"


def interval_words(score: Score) -> str:
    """Both ends of its interval, or a dash."""
    return "-" if score.ci95 is None else f"{score.ci95[0]:.4f} to {score.ci95[1]:.4f}"


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
