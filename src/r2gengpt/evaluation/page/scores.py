"""The content of scores.json as the report page's tables and tiles. Computes no number, writes no HTML.

All is read from scores.json, so that page and file cannot differ.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r2gengpt.metrics.labels.agreement import AVERAGES, MEASURES, POLICIES, SETS
from r2gengpt.metrics.labels.family import LABEL_F1, TITLES, average_name, observation_name
from r2gengpt.metrics.labels.location import KINDS, LOCATION_NAMES, LOCATION_TITLES
from r2gengpt.metrics.labels.temporal import TEMPORAL_NAMES, TEMPORAL_TITLES
from r2gengpt.metrics.verdict import CEILINGS
from r2gengpt.text.written import json_text

Json = Mapping[str, Any]
CLINICAL = "clinical_"
"""What the names of the clinical labels' scores begin with."""
TILES = (LABEL_F1, "cider", "rouge_l", "bleu_4")
LABELS: Mapping[str, str] = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr-D",
    "meteor": "METEOR",
    "bertscore": "BERTScore",
    "radeval_bertscore": "BERTScore, radiology model",
    "radgraph_simple": "RadGraph F1, simple",
    "radgraph_partial": "RadGraph F1, partial",
    "radgraph_complete": "RadGraph F1, complete",
    "green": "GREEN",
    "ratescore": "RaTEScore",
    "constant": "constant report",
    "most_frequent": "most frequent training report",
    "random_train": "random training report",
    "nearest_image": "report of the nearest training image",
    "nearest_labels": "report of the training study with the nearest labels",
    "oracle_hint": "the model with true labels in its hints",
    "texts_shuffled": "the model's texts shuffled",
    "images_shuffled": "the model with images shuffled",
    "text_only": "the model without films, from the context alone",
    "clinical": "clinical labels",
    "findings": "findings of the film",
    "location": "side and place of findings",
    "temporal": "what has changed",
    **TITLES,
    **LOCATION_TITLES,
    **TEMPORAL_TITLES,
}
"""Name in scores.json → what the page calls it; names that are not here stand as they are."""
WITH_A_HEAD = ("nearest_labels", "oracle_hint")
"""On the page after those where the model has a finding head, with the reason where one was not measured."""
BASELINES = ("constant", "most_frequent", "random_train", "nearest_image", "texts_shuffled", "images_shuffled")
"""Always on the page, in this order: where one was not measured, the reason stands in its place."""
CHANCES = {"p_bootstrap": "p, bootstrap", "p_randomisation": "p, randomisation"}
BESIDE = ("metrics", "baselines", "grounding_gap")
"""Parts of scores.json that have a table of all their numbers."""


@dataclass(frozen=True)
class ShownCell:
    """A cell of a table: its text, small lines below it, and how it stands."""

    text: str
    small: tuple[str, ...] = ()
    strong: bool = False
    not_below: bool = False
    """A baseline that scores at least as high as the model."""
    kind: str = ""
    span: int = 1


@dataclass(frozen=True)
class ShownRow:
    """A row of a table under its name."""

    name: str
    cells: tuple[ShownCell, ...]
    kind: str = ""


@dataclass(frozen=True)
class ShownTable:
    """A table: its heads, the first of which stands over the rows' names; groups of heads with the columns of each."""

    name: str
    heads: tuple[str, ...]
    rows: tuple[ShownRow, ...]
    kind: str = "systems"
    groups: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Tile:
    """A number that a reader looks for first, its interval, and the best baseline with its score."""

    name: str
    value: str
    interval: str
    best: str = ""
    best_value: str = ""
    not_below: bool = False


def label(name: str) -> str:
    """What the page calls it."""
    return LABELS.get(name, name)


def number(value: float, signed: bool = False) -> str:
    """Three decimals, a true minus sign."""
    return f"{value:+.3f}".replace("-", "−") if signed else f"{value:.3f}".replace("-", "−")


def percent(share: float) -> str:
    """A share in hundredths, with one decimal."""
    return f"{share * 100:.1f} %"


def interval(ends: Iterable[float] | None, signed: bool = False) -> str:
    """Both ends of an interval; nothing where there is none."""
    return "" if ends is None else " to ".join(number(end, signed) for end in ends)


def measured(value: Json | float | None) -> str:
    """A number, or one with its interval, as a caption says it."""
    if isinstance(value, Mapping):
        spread = f" [{interval(value['ci95'])}]" if "ci95" in value else ""
        return f"{number(value['value'])}{spread}"
    return "not known" if value is None else number(value)


def exact(value: Any) -> str:
    """A number with six digits that count, or a word."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def tiles(content: Json) -> list[Tile]:
    """The first numbers a reader looks for, each beside the best baseline that never wrote for the image."""
    return [_tile(content, name) for name in TILES if name in content["metrics"]]


def _tile(content: Json, name: str) -> Tile:
    score = content["metrics"][name]
    title = "label F1, micro of 14" if name == LABEL_F1 else label(name)
    shown = Tile(title, number(score["value"]), interval(score.get("ci95")))
    rows = {row: found for row, found in content["baselines"].items() if row not in CEILINGS}
    rivals = {row: found["metrics"][name]["value"] for row, found in rows.items()}
    if not rivals:
        return shown
    best = max(rivals, key=lambda row: rivals[row])
    top = rivals[best]
    return Tile(shown.name, shown.value, shown.interval, label(best), number(top), top >= score["value"])


def text_metrics(content: Json) -> list[str]:
    """The metrics of the main table: all but those of the clinical labels, which have their own,
    and of the findings' places."""
    return [
        name
        for name in content["metrics"]
        if not name.startswith(CLINICAL) and name not in (*LOCATION_NAMES, *TEMPORAL_NAMES)
    ]


def main_table(content: Json) -> ShownTable:
    """The model among its baselines."""
    names = text_metrics(content)
    return systems_table(content, names, [label(name) for name in names], "Model and baselines")


def systems_table(content: Json, names: Sequence[str], heads: Sequence[str], title: str) -> ShownTable:
    """A row for the model and each baseline, a column for each metric; a baseline that is missing says why."""
    model, baselines = content["metrics"], content["baselines"]
    rows = [ShownRow("model", tuple(score_cell(model[name]) for name in names), "model")]
    known = (*BASELINES, *(name for name in WITH_A_HEAD if name in baselines or name in content["not_available"]))
    for system in (*known, *(name for name in baselines if name not in known)):
        if system in baselines:
            found, rival = baselines[system]["metrics"], system not in CEILINGS
            not_below = {name: rival and found[name]["value"] >= model[name]["value"] for name in names}
            cells = tuple(score_cell(found[name], not_below=not_below[name]) for name in names)
        else:
            reason = content["not_available"].get(system, "not measured")
            cells = (ShownCell(f"not available: {reason}", kind="none", span=len(names)),)
        rows.append(ShownRow(label(system), cells))
    return ShownTable(title, ("", *heads), tuple(rows))


def score_cell(score: Json, *more: str, strong: bool = False, not_below: bool = False) -> ShownCell:
    """A score over its interval and more small lines."""
    spread = interval(score.get("ci95"))
    return ShownCell(number(score["value"]), (*((spread,) if spread else ()), *more), strong, not_below)


def gap_table(content: Json, names: Sequence[str]) -> ShownTable | None:
    """The grounding gap of these metrics; None where it was not measured."""
    gaps = content["grounding_gap"]
    if gaps is None:
        return None
    rows = []
    for name in names:
        gap = gaps[name]
        value, spread = number(gap["value"], signed=True), interval(gap.get("ci95"), signed=True)
        chances = (ShownCell(number(gap[key]) if key in gap else "") for key in CHANCES)
        rows.append(ShownRow(label(name), (ShownCell(value, strong=True), ShownCell(spread), *chances)))
    return ShownTable("Grounding gap", ("metric", "gap", "95 % interval", *CHANCES.values()), tuple(rows), "gap")


def notes(content: Json) -> list[str]:
    """What a reader must know beside the tables: notes, references seen in training, what was not measured."""
    found = list(content["notes"])
    if (seen := content["references_verbatim_in_train"]) is not None:
        found.append(f"{percent(seen)} of the references are in the train split word for word.")
    reasons = content["not_available"]
    for reason in dict.fromkeys(reasons.values()):
        names = ", ".join(label(name) for name, why in reasons.items() if why == reason)
        found.append(f"Not available: {names}: {reason}.")
    return found


AS = {policy: policy.replace("_", " ") for policy in POLICIES}


def _f1_names(policies: Iterable[str]) -> list[str]:
    return [average_name(average, "f1", size, policy) for policy in policies for size in SETS for average in AVERAGES]


def label_tables(content: Json) -> list[ShownTable]:
    """F1 of the clinical labels under each policy, the model among its baselines."""
    heads = [f"{average} F1 of {size}" for size in SETS for average in AVERAGES]
    return [systems_table(content, _f1_names([policy]), heads, f"F1, {AS[policy]}") for policy in POLICIES]


def label_gap(content: Json) -> ShownTable | None:
    """The grounding gap of the clinical labels; None where it was not measured."""
    return gap_table(content, _f1_names(POLICIES))


def label_precision(content: Json) -> ShownTable:
    """Precision and recall behind each F1."""
    rows = []
    for policy in POLICIES:
        for size in SETS:
            for average in AVERAGES:
                names = [average_name(average, measure, size, policy) for measure in MEASURES]
                cells = tuple(score_cell(content["metrics"][name]) for name in names)
                rows.append(ShownRow(f"{average} of {size}, {AS[policy]}", cells))
    heads = ("", *(measure.replace("f1", "F1") for measure in MEASURES))
    return ShownTable("Precision, recall and F1 of the model", heads, tuple(rows))


def observations(content: Json) -> ShownTable:
    """Counts, precision, recall and F1 under both policies of each observation that predictions or references have."""
    return _observations(content, "Each observation: studies, precision, recall, F1", there=True)


def absent_observations(content: Json) -> ShownTable:
    """The same of those that neither has."""
    return _observations(content, "Observations that no text has", there=False)


def present(rows: Json) -> dict[str, Any]:
    """Those observations of a policy that predictions or references have."""
    return {name: row for name, row in rows.items() if row["predicted"] or row["reference"]}


def _observations(content: Json, title: str, *, there: bool) -> ShownTable:
    heads = ("predicted", "reference", "precision", "recall", "F1")
    known = {name for policy in POLICIES for name in present(content["clinical"][policy])}
    rows = (
        ShownRow(name, tuple(cell for policy in POLICIES for cell in _observation(content, name, policy)))
        for name in content["clinical"]["uncertain_as_positive"]
        if (name in known) == there
    )
    groups = tuple((AS[policy], len(heads)) for policy in POLICIES)
    return ShownTable(title, ("", *heads * len(POLICIES)), tuple(rows), "observations", groups)


def _observation(content: Json, name: str, policy: str) -> Iterator[ShownCell]:
    row = content["clinical"][policy][name]
    yield from (ShownCell(str(row[side])) for side in ("predicted", "reference"))
    yield from (ShownCell(number(row[measure])) for measure in ("precision", "recall"))
    yield score_cell(content["metrics"][observation_name(name, policy)], strong=True)


def location_table(content: Json) -> ShownTable:
    """Whether what report and reference both name lies where the reference has it: counts, precision, recall, F1."""
    rows = []
    for kind in KINDS:
        counts = (ShownCell(str(content["location"][kind][name])) for name in ("predicted", "reference", "agreed"))
        cells = (score_cell(content["metrics"][f"{kind}_{measure}"]) for measure in MEASURES)
        rows.append(ShownRow(kind.replace("_", " "), (*counts, *cells)))
    heads = ("", "predicted", "reference", "agreed", *(measure.replace("f1", "F1") for measure in MEASURES))
    return ShownTable("Side and place of findings that both name", heads, tuple(rows))


def reliability_bins(
    confidence: Json, things: str = "sentences", name: str = "confidence", share: str = "accuracy"
) -> ShownTable:
    """The numbers of the reliability diagram, under the names that it has."""
    rows = []
    for bin in confidence["reliability"]:
        cells = [ShownCell(str(bin["count"]))]
        cells += [ShownCell(measured(bin[key] if bin["count"] else None)) for key in ("confidence", "accuracy")]
        rows.append(ShownRow(f"{bin['low']:.2f} to {bin['high']:.2f}", tuple(cells)))
    heads = (name, things, f"mean {name}", share)
    return ShownTable("Reliability, bin by bin", heads, tuple(rows), "gap")


def scores_file(content: Json) -> str:
    """The text of scores.json."""
    return json_text(content, indent=1, ascii_only=True) + "\n"


def every_score(content: Json) -> ShownTable:
    """A row for each metric, a column for the model, each baseline and the grounding gap; nothing rounded away."""
    columns: dict[str, Json] = {"model": content["metrics"]}
    columns |= {label(name): row["metrics"] for name, row in content["baselines"].items()}
    if content["grounding_gap"] is not None:
        columns["grounding gap"] = content["grounding_gap"]
    rows = (ShownRow(name, tuple(_exact(column[name]) for column in columns.values())) for name in content["metrics"])
    return ShownTable("Scores with 95 % intervals", ("metric", *columns), tuple(rows))


def _exact(score: Json) -> ShownCell:
    """Value, interval and p of a score."""
    more = [" to ".join(exact(end) for end in score["ci95"])] if "ci95" in score else []
    more += [f"{name} {exact(score[name])}" for name in CHANCES if name in score]
    return ShownCell(exact(score["value"]), tuple(more))


def every_other_number(content: Json) -> ShownTable:
    """All else in scores.json."""
    shown = {name: value for name, value in content.items() if name not in BESIDE}
    rows = (ShownRow(path, (ShownCell(exact(value), kind="words"),)) for path, value in leaves(shown))
    return ShownTable("All else", ("name", "value"), tuple(rows))


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and word of a JSON value with its path: `clinical.uncertain_as_positive.Edema.f1`."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from leaves(part, f"{path}.{name}" if path else name)
    elif isinstance(value, list | tuple):
        for place, part in enumerate(value):
            yield from leaves(part, f"{path}[{place}]")
    else:
        yield path, value
