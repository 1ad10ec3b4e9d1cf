"""Scores as an aligned text table for a terminal. No measuring."""

from collections.abc import Sequence

from r2gengpt.metrics.records import Score, Scores


def score_table(scores: Scores) -> str:
    """A line for each metric with its interval and the baselines beside it, then what a reader must know."""
    heads = ["metric", "predictions", "95% interval", *scores.baselines]
    rows = [
        [name, _number(score), _interval(score), *(_number(row.metrics[name]) for row in scores.baselines.values())]
        for name, score in scores.metrics.items()
    ]
    lines = [f"signature  {scores.signature}", f"studies    {len(scores.ids)}", f"outputs    {_outputs(scores)}"]
    if scores.verbatim_in_train is not None:
        lines.append(f"references {scores.verbatim_in_train:.1%} are in the train split word for word")
    lines += ["", *_align([heads, *rows]), ""]
    for reason in dict.fromkeys(scores.not_available.values()):
        names = [name for name, why in scores.not_available.items() if why == reason]
        lines.append(f"not available: {', '.join(names)}: {reason}")
    lines += [f"note: {note}" for note in scores.notes]
    return "\n".join(lines).rstrip()


def _outputs(scores: Scores) -> str:
    return f"{scores.distinct} distinct; the commonest is {scores.commonest_share:.1%} of all"


def _number(score: Score) -> str:
    return f"{score.value:.4f}"


def _interval(score: Score) -> str:
    return "-" if score.ci95 is None else f"{score.ci95[0]:.4f} to {score.ci95[1]:.4f}"


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
