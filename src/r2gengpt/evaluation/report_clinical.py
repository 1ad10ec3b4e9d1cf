"""The clinical labels of the report page: averages beside the baselines, each observation. Labels no text."""

from collections.abc import Iterable

from r2gengpt.evaluation.plots import paired_bars
from r2gengpt.evaluation.report_names import interval, number, scrolling_table, text
from r2gengpt.evaluation.report_scores import Json, gap_table, systems_table
from r2gengpt.metrics.labels.agreement import AVERAGES, MEASURES, POLICIES, SETS
from r2gengpt.metrics.labels.family import average_name, observation_name

KEY_A, KEY_B = (f'<span class="key {kind}"></span>' for kind in "ab")
AS = {policy: policy.replace("_", " ") for policy in POLICIES}


def clinical_section(content: Json) -> str:
    """The whole section, empty where the labels were not measured (the notes then say why)."""
    if "clinical" not in content:
        return ""
    details = content["clinical"]
    about = (
        f"Labels are <b>{text(details['labeler'])}</b> (version {text(str(details['version']))}): figures made "
        "with them are not comparable with published CheXbert F1. 14: all observations; 5: atelectasis, cardiomegaly, "
        "consolidation, edema, pleural effusion. 0/0 counts as 0. A doubt counts as present, "
        "or as absent, on both sides."
    )
    tables = "".join(_policy(content, policy) for policy in POLICIES)
    gap = (
        ""
        if content["grounding_gap"] is None
        else _fold("Grounding gap of the labels", gap_table(content, _f1_names()))
    )
    return (
        '<section aria-labelledby="clinical"><h2 id="clinical">Clinical labels</h2>'
        f'<div class="panel"><p class="plain">{about}</p>{tables}{_precision(content)}{gap}</div>'
        f'<div class="panel">{_observations(content)}</div></section>'
    )


def _f1_names(policies: Iterable[str] = tuple(POLICIES)) -> list[str]:
    return [average_name(average, "f1", size, policy) for policy in policies for size in SETS for average in AVERAGES]


def _policy(content: Json, policy: str) -> str:
    heads = [f"{average} F1 of {size}" for size in SETS for average in AVERAGES]
    return systems_table(content, _f1_names([policy]), heads, f"F1, {AS[policy]}")


def _fold(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>{content}</details>"


def _precision(content: Json) -> str:
    """Precision and recall behind each F1, folded."""
    rows = []
    for policy in POLICIES:
        for size in SETS:
            for average in AVERAGES:
                scores = [content["metrics"][average_name(average, measure, size, policy)] for measure in MEASURES]
                cells = "".join(
                    f"<td>{number(s['value'])}<small>{interval(s.get('ci95'))}</small></td>" for s in scores
                )
                rows.append(f'<tr><th scope="row">{average} of {size}, {AS[policy]}</th>{cells}</tr>')
    heads = (
        "<tr><td></td>"
        + "".join(f'<th scope="col">{measure.replace("f1", "F1")}</th>' for measure in MEASURES)
        + "</tr>"
    )
    return _fold(
        "Precision and recall", scrolling_table(heads, rows, "Precision, recall and F1 of the model", "systems")
    )


def label_bars(content: Json) -> str:
    """The label plot, empty where the labels were not measured."""
    if "clinical" not in content:
        return ""
    found = content["clinical"]["uncertain_as_positive"]
    sides = ([row[side] for row in found.values()] for side in ("predicted", "reference"))
    return (
        f"<figure>{paired_bars(list(found), *sides)}<figcaption><b>Clinical labels</b> by rules, uncertain as "
        f"positive: how many of {content['n']} studies have each. {KEY_A} predictions, "
        f"{KEY_B} references.</figcaption></figure>"
    )


def _observations(content: Json) -> str:
    """Each observation's counts, precision, recall and F1 under both policies."""
    groups = "".join(f'<th scope="colgroup" colspan="5">{AS[policy]}</th>' for policy in POLICIES)
    heads = "".join(
        f'<th scope="col">{name}</th>'
        for _ in POLICIES
        for name in ("predicted", "reference", "precision", "recall", "F1")
    )
    rows = []
    for name in content["clinical"]["uncertain_as_positive"]:
        cells = "".join(_observation(content, name, policy) for policy in POLICIES)
        rows.append(f'<tr><th scope="row">{text(name)}</th>{cells}</tr>')
    both = f'<tr><td rowspan="2"></td>{groups}</tr><tr>{heads}</tr>'
    return scrolling_table(both, rows, "Each observation: studies, precision, recall, F1", "observations")


def _observation(content: Json, name: str, policy: str) -> str:
    row = content["clinical"][policy][name]
    spread = interval(content["metrics"][observation_name(name, policy)].get("ci95"))
    counts = f"<td>{row['predicted']}</td><td>{row['reference']}</td>"
    return (
        f"{counts}<td>{number(row['precision'])}</td><td>{number(row['recall'])}</td>"
        f"<td><b>{number(row['f1'])}</b><small>{spread}</small></td>"
    )
