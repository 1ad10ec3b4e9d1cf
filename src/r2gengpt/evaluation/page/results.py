"""Collected scores as one self-contained HTML file, and as lines of text. Compares nothing itself."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from r2gengpt.evaluation.collected import Collected, Group, SetApart
from r2gengpt.evaluation.page.frame import rendered
from r2gengpt.evaluation.page.scores import LABELS, ShownCell, ShownRow, ShownTable
from r2gengpt.evaluation.published import Published
from r2gengpt.files import write_whole
from r2gengpt.metrics.labels.family import LABEL_F1
from r2gengpt.metrics.table import align
from r2gengpt.version import __version__

TITLE = "Scores side by side"
NO_FIGURE = "–"
SHORT = {LABEL_F1: "label F1"}
"""What a column is called, where the report page's name is long."""


def title_of(name: str) -> str:
    """What a score is called; those that are not ours, by their own names.

    >>> title_of("bleu_4"), title_of("rexrank_radgraph")
    ('BLEU-4', 'rexrank radgraph')
    """
    return SHORT.get(name) or LABELS.get(name, name.replace("_", " "))


def group_table(group: Group) -> ShownTable:
    """The systems of a group, ours first; of several seeds mean ± sd."""
    rows = [
        ShownRow(
            one.name if one.seeds == 1 else f"{one.name} ({one.seeds} seeds, mean ± sd)",
            tuple(ShownCell(str(one.metrics[name]) if name in one.metrics else NO_FIGURE) for name in group.columns),
            "model",
        )
        for one in group.ours
    ]
    rows += [ShownRow(f"{one.name}, published", _figures(one, group.columns)) for one in group.published]
    return ShownTable(f"{group.n} studies, {group.signature}", ("system", *map(title_of, group.columns)), tuple(rows))


def apart_tables(apart: tuple[SetApart, ...]) -> list[ShownTable]:
    """Figures that stand apart, a table for each data set and reason."""
    found: dict[tuple[str, str], list[SetApart]] = {}
    for one in apart:
        found.setdefault((one.figure.dataset, one.reason), []).append(one)
    tables = []
    for (dataset, reason), several in found.items():
        names = list(dict.fromkeys(name for one in several for name in one.figure.metrics))
        rows = tuple(ShownRow(one.figure.name, _figures(one.figure, names)) for one in several)
        tables.append(ShownTable(f"{dataset}: {reason}", ("system", *map(title_of, names)), rows))
    return tables


def _figures(one: Published, names: Sequence[str]) -> tuple[ShownCell, ...]:
    return tuple(ShownCell(f"{one.metrics[name]:.3f}" if name in one.metrics else NO_FIGURE) for name in names)


def sources(found: Collected) -> list[tuple[str, str]]:
    """Split → the systems measured on it with their publishers, and where the figures were read."""
    figures = [one for group in found.groups for one in group.published] + [one.figure for one in found.apart]
    together: dict[tuple[str, str, str, int | None], list[Published]] = {}
    for one in figures:
        together.setdefault((one.dataset, one.split, one.read_from, one.n), []).append(one)
    return [
        (
            f"{dataset}, {split}",
            f"{'studies not told' if n is None else f'{n} studies'}; read in: {read_from}. "
            + "; ".join(f"{one.name}: {one.source}" for one in several),
        )
        for (dataset, split, read_from, n), several in together.items()
    ]


def result_lines(found: Collected) -> list[str]:
    """The groups as text, and how many published figures stand apart for which reason."""
    lines: list[str] = []
    for group in found.groups:
        table = group_table(group)
        heads = ["", *map(title_of, group.columns)]
        rows = ([row.name, *(cell.text for cell in row.cells)] for row in table.rows)
        lines += [table.name, *align([heads, *rows]), ""]
    reasons: dict[str, int] = {}
    for one in found.apart:
        reasons[one.reason] = reasons.get(one.reason, 0) + 1
    lines += [f"{count} published figures apart: {reason}" for reason, count in reasons.items()]
    return lines


def write_results_page(path: Path, found: Collected) -> None:
    """Write the page, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    page = rendered(
        "results.html",
        title=TITLE,
        groups=[group_table(group) for group in found.groups],
        apart=apart_tables(found.apart),
        sources=sources(found),
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, r2gengpt {__version__}",
    )
    write_whole(path, page, "output")
