"""What is told of the films against what is known of them, as tables. Computes no number, writes no HTML.

All is read from scores.json, as in `scores`.
"""

from r2gengpt.evaluation.page.scores import Json, ShownCell, ShownRow, ShownTable, score_cell
from r2gengpt.metrics.table import by_part
from r2gengpt.text.observations import NO_FINDING

GROUPS = (("by_source", "source"), ("by_age", "age"), ("by_sex", "sex"), ("by_view", "view"))
MEASURES = {
    "auc": "area under ROC",
    "average_precision": "average precision",
    "sensitivity_likely": "sensitivity, likely",
    "specificity_likely": "specificity, likely",
    "sensitivity_possible": "sensitivity, possible or likely",
    "specificity_possible": "specificity, possible or likely",
}
TOO_FEW = ShownCell("too few")


def observation_tables(head: Json) -> list[tuple[ShownTable, ShownTable]]:
    """Each observation over all studies, then within each source where there are several: those of any film, others."""
    groups = {"all studies": head["all"]}
    if len(head["by_source"]) > 1:
        groups |= {f"source {name}": group for name, group in head["by_source"].items()}
    return [_observations(name, group, head["not_assessed"]) for name, group in groups.items()]


def _observations(title: str, group: Json, not_assessed: list[str]) -> tuple[ShownTable, ShownTable]:
    heads = ("", "with", "without", *MEASURES.values())
    rows: dict[bool, list[ShownRow]] = {True: [], False: []}
    for name, found in group["observations"].items():
        cells = tuple(_scored(found, measure) for measure in MEASURES)
        counts = (ShownCell(str(found["positive"])), ShownCell(str(found["negative"])))
        called = f"{name} (not assessed)" if name in not_assessed else name
        rows[found["positive"] > 0].append(ShownRow(called, (*counts, *cells)))
    return (
        ShownTable(f"Each observation, {title}", heads, tuple(rows[True])),
        ShownTable(f"Observations of no film, {title}", heads, tuple(rows[False])),
    )


def _scored(found: Json, name: str, *more: str) -> ShownCell:
    """A score with its interval, or that there are too few; small lines below."""
    if name not in found:
        return ShownCell("" if "auc" in found else TOO_FEW.text, more)
    return score_cell(found[name], *more)


def group_areas(head: Json) -> ShownTable:
    """No Finding and the mean over assessed observations: by source, age, sex and view."""
    rows = [_group("all studies", head["all"])]
    rows += [_group(f"{title} {name}", group) for part, title in GROUPS for name, group in head[part].items()]
    heads = ("", "studies", "No Finding", "mean of assessed")
    return ShownTable("Area under the ROC curve by source, age, sex and view", heads, tuple(rows))


def _group(name: str, group: Json) -> ShownRow:
    area = _scored(group["observations"][NO_FINDING], "auc")
    mean = {"auc": group["mean_auc"]} if "value" in group["mean_auc"] else {}
    over = f"over {len(group['mean_auc']['over'])} observations"
    return ShownRow(name, (ShownCell(str(group["n"])), area, _scored(mean, "auc", over)))


def normal_table(found: Json) -> ShownTable:
    """Normal told from abnormal by text and by head, over all studies and within each source."""
    heads = ("", "normal called normal", "abnormal called abnormal", "balanced accuracy", "moved within source")
    rows = []
    for name, row in by_part(found, "all studies"):
        counts = (ShownCell(f"{row[kind]['called_so']} of {row[kind]['n']}") for kind in ("normal", "abnormal"))
        scores = (_scored(row, measure) for measure in ("balanced_accuracy", "moved"))
        rows.append(ShownRow(name, (*counts, *scores)))
    return ShownTable("Normal or abnormal", heads, tuple(rows))


def box_table(boxes: Json) -> ShownTable:
    """How much of evidence maps lies in boxes, by observation."""
    columns = {"mass": "share of the map", "peak": "peak", "chance": "share of the film: chance"}
    rows = [
        ShownRow(name, (ShownCell(str(found["n"])), *(_scored(found, column) for column in columns)))
        for name, found in ({"all": boxes} | boxes["by_observation"]).items()
    ]
    return ShownTable("Evidence maps in the boxes", ("", "maps", *columns.values()), tuple(rows))
