"""The scores of the report page: tiles, the model among its baselines, grounding gap, notes. Computes no number.

All is read from the content of scores.json, so that page and file cannot differ.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from r2gengpt.evaluation.report_names import (
    BASELINES,
    definitions,
    head,
    interval,
    label,
    number,
    percent,
    scrolling_table,
    text,
)

Json = Mapping[str, Any]
CLINICAL = "clinical_"
"""What the names of the clinical labels' scores begin with."""
TILES = ("cider", "rouge_l", "bleu_4", "clinical_macro_f1_14_uncertain_as_positive")


def text_metrics(content: Json) -> list[str]:
    """The metrics of the main table: all but those of the clinical labels, which have their own."""
    return [name for name in content["metrics"] if not name.startswith(CLINICAL)]


def tiles(content: Json) -> str:
    """The first numbers a reader looks for, each beside the best baseline that never wrote for the image."""
    known = [name for name in TILES if name in content["metrics"]]
    return f'<div class="tiles">{"".join(_tile(content, name) for name in known)}{_variety(content)}</div>'


def _tile(content: Json, name: str) -> str:
    score = content["metrics"][name]
    rivals = {row: found["metrics"][name]["value"] for row, found in content["baselines"].items()}
    title = "label F1, macro of 14" if name.startswith(CLINICAL) else label(name)
    lines = [f'<span class="big">{number(score["value"])}</span>']
    if "ci95" in score:
        lines.append(f'<span class="range">{interval(score["ci95"])}</span>')
    if rivals:
        best = max(rivals, key=lambda row: rivals[row])
        mark = _UP if rivals[best] >= score["value"] else ""
        lines.append(f'<span class="beside">best baseline {mark}{number(rivals[best])}<br>{text(label(best))}</span>')
    return f'<div class="tile"><span class="name">{text(title)}</span>{"".join(lines)}</div>'


def _variety(content: Json) -> str:
    """The tile that says how different the outputs are."""
    outputs = content["outputs"]
    return (
        f'<div class="tile"><span class="name">distinct outputs</span><span class="big">{outputs["distinct"]}</span>'
        f'<span class="range">of {content["n"]} studies</span>'
        f'<span class="beside">the commonest is<br>{percent(outputs["commonest_share"])} of all</span></div>'
    )


_UP = '<span class="up" role="img" aria-label="not below the model">▲</span> '


def caption(content: Json) -> str:
    """How to read the tables, in one paragraph."""
    bootstrap, parts = content["bootstrap"], ["All scores are from 0 to 1, but CIDEr-D, which is from 0 to 10."]
    if any("ci95" in score for score in content["metrics"].values()):
        unit = f"{bootstrap['patients']} patients" if bootstrap["by"] == "patient" else "studies"
        parts.append(
            f"Under a score, its 95 % interval: {bootstrap['resamples']} bootstrap resamples of the {unit}, "
            f"seed {bootstrap['seed']}."
        )
    parts.append(
        "▲ marks a baseline that scores at least as high as the model. No baseline writes a word for the study's "
        "images: the nearest training image's report is looked up by them."
    )
    return " ".join(parts)


def systems_table(content: Json, names: Sequence[str], heads: Sequence[str], title: str) -> str:
    """A row for the model and each baseline, a column for each metric; a baseline that is missing says why."""
    rows = [_system("model", content["metrics"], None, names)]
    extra = [row for row in content["baselines"] if row not in BASELINES]
    for row in (*BASELINES, *extra):
        if row in content["baselines"]:
            rows.append(_system(row, content["baselines"][row]["metrics"], content["metrics"], names))
        else:
            reason = text(content["not_available"].get(row, "not measured"))
            cell = f'<td class="none" colspan="{len(names)}">not available: {reason}</td>'
            rows.append(f'<tr><th scope="row">{text(label(row))}</th>{cell}</tr>')
    return scrolling_table(head(["", *heads]), rows, title, "systems")


def _system(row: str, metrics: Json, model: Json | None, names: Iterable[str]) -> str:
    cells = "".join(_cell(metrics[name], None if model is None else model[name]) for name in names)
    kind = ' class="model"' if model is None else ""
    return f'<tr{kind}><th scope="row">{text(label(row))}</th>{cells}</tr>'


def _cell(score: Json, model: Json | None) -> str:
    mark = _UP if model is not None and score["value"] >= model["value"] else ""
    return f"<td>{mark}{number(score['value'])}<small>{interval(score.get('ci95'))}</small></td>"


def gap_table(content: Json, names: Sequence[str]) -> str:
    """The grounding gap of these metrics, or why there is none."""
    what = "Grounding gap: the score with the true images minus the score with images shuffled between studies. "
    gaps = content["grounding_gap"]
    if gaps is None:
        reason = content["not_available"].get("images_shuffled", "not measured")
        return f'<p class="plain"><b>Grounding gap:</b> not available: {text(reason)}.</p>'
    chances = (("p_bootstrap", "p, bootstrap"), ("p_randomisation", "p, randomisation"))
    rows = []
    for name in names:
        gap = gaps[name]
        cells = "".join(f"<td>{number(gap[key]) if key in gap else ''}</td>" for key, _ in chances)
        rows.append(
            f'<tr><th scope="row">{text(label(name))}</th><td><b>{number(gap["value"], signed=True)}</b></td>'
            f"<td>{interval(gap.get('ci95'), signed=True)}</td>{cells}</tr>"
        )
    heads = head(["metric", "gap", "95 % interval", *(title for _, title in chances)])
    about = f'<p class="plain">{what}It is what the images give: near 0, the texts hardly depend on them.</p>'
    return about + scrolling_table(heads, rows, "Grounding gap", "gap")


def collapse(content: Json) -> str:
    """Whether the model collapsed, in words; a warning if so."""
    outputs, studies = content["outputs"], content["n"]
    found = f"{outputs['distinct']} distinct output(s) for {studies} studies"
    if outputs["collapsed"]:
        return (
            f'<p class="alert" role="note"><b>Collapsed.</b> {found}, fewer than 5 % of them: the model writes '
            "nearly the same whatever the images show.</p>"
        )
    return (
        f'<p class="plain">Not collapsed: {found}; the commonest is {percent(outputs["commonest_share"])} of all.</p>'
    )


def notes(content: Json, more: Iterable[str] = ()) -> str:
    """What a reader must know beside the tables: notes, references seen in training, what was not measured."""
    lines = [f"<li>{text(note)}</li>" for note in (*content["notes"], *more)]
    if (seen := content["references_verbatim_in_train"]) is not None:
        lines.append(f"<li>{percent(seen)} of the references are in the train split word for word.</li>")
    reasons = content["not_available"]
    for reason in dict.fromkeys(reasons.values()):
        names = ", ".join(label(name) for name, why in reasons.items() if why == reason)
        lines.append(f"<li>Not available: {text(names)}: {text(reason)}.</li>")
    return f'<ul class="notes">{"".join(lines)}</ul>' if lines else ""


def baseline_texts(content: Json) -> str:
    """What each baseline wrote, or how it was made."""
    return definitions((label(name), row["text"]) for name, row in content["baselines"].items())
