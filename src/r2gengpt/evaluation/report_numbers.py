"""Every number of scores.json as tables, and the file itself as a link. Chooses nothing, rounds nothing away."""

import base64
from collections.abc import Iterator
from typing import Any

from r2gengpt.evaluation.report_names import head, label, scrolling_table, text
from r2gengpt.evaluation.report_scores import Json
from r2gengpt.text.written import json_text


def scores_file(content: Json) -> str:
    """The text of scores.json."""
    return json_text(content, indent=1, ascii_only=True) + "\n"


def every_number(content: Json) -> str:
    """Two folded tables of all numbers, and a link that saves scores.json."""
    data = base64.b64encode(scores_file(content).encode()).decode()
    link = f'<a download="scores.json" href="data:application/json;base64,{data}">scores.json</a>'
    return (
        "<details><summary>Every number of scores.json</summary>"
        f'<p class="plain">Unrounded: save {link}.</p>{_metrics(content)}{_others(content)}</details>'
    )


def _metrics(content: Json) -> str:
    """A row for each metric, a column for the model, each baseline and the grounding gap."""
    columns: dict[str, Json] = {"model": content["metrics"]}
    columns |= {label(name): row["metrics"] for name, row in content["baselines"].items()}
    if content["grounding_gap"] is not None:
        columns["grounding gap"] = content["grounding_gap"]
    rows = [
        f'<tr><th scope="row">{text(name)}</th>{"".join(_cell(column[name]) for column in columns.values())}</tr>'
        for name in content["metrics"]
    ]
    return scrolling_table(head(["metric", *columns]), rows, "Scores with 95 % intervals", "systems")


def _cell(score: Json) -> str:
    """Value, interval and p of a score."""
    more = [" to ".join(exact(end) for end in score["ci95"])] if "ci95" in score else []
    more += [f"{name} {exact(score[name])}" for name in ("p_bootstrap", "p_randomisation") if name in score]
    return f"<td>{exact(score['value'])}<small>{'<br>'.join(more)}</small></td>"


def exact(value: Any) -> str:
    """A number with six digits that count, or a word."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _others(content: Json) -> str:
    shown = {name: value for name, value in content.items() if name not in ("metrics", "baselines", "grounding_gap")}
    rows = [
        f'<tr><th scope="row">{text(path)}</th><td class="words">{text(exact(value))}</td></tr>'
        for path, value in leaves(shown)
    ]
    return scrolling_table(head(["name", "value"]), rows, "All else", "systems")


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
