"""Sections of the report page made of plots and of chosen studies: lengths, confidence, best, median and worst."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from r2gengpt.evaluation import plots
from r2gengpt.evaluation.report_images import Thumbnail
from r2gengpt.evaluation.report_names import head, interval, label, number, percent, scrolling_table, text
from r2gengpt.evaluation.report_scores import Json
from r2gengpt.evaluation.report_study import Card, StudyRow, study_card

EXAMPLE_METRIC = "cider"
NEIGHBOURS = 4
"""Further studies that are linked beside each example."""


def ranked(studies: Sequence[StudyRow]) -> list[int]:
    """Places of the studies by their own CIDEr-D, best first; equal ones in the order of the page."""
    known = [place for place, study in enumerate(studies) if EXAMPLE_METRIC in study.scores]
    return sorted(known, key=lambda place: -studies[place].scores[EXAMPLE_METRIC])


def example_places(studies: Sequence[StudyRow]) -> dict[str, int]:
    """Best, median and worst study → its place; each study once."""
    order = ranked(studies)
    places = {"Best": 0, "Median": (len(order) - 1) // 2, "Worst": len(order) - 1}
    found: dict[str, int] = {}
    for name in ("Best", "Worst", "Median"):
        if order and order[places[name]] not in found.values():
            found[name] = order[places[name]]
    return {name: found[name] for name in places if name in found}


def examples(cards: Sequence[Card], films: Mapping[Path, Thumbnail]) -> str:
    """The best, median and worst study as cards, each with links to the next ones."""
    studies = [card.study for card in cards]
    chosen, order = example_places(studies), ranked(studies)
    if not chosen:
        return ""
    blocks = []
    for name, place in chosen.items():
        rank = order.index(place)
        start = max(0, min(rank - NEIGHBOURS // 2, len(order) - NEIGHBOURS - 1))
        near = [other for other in order[start : start + NEIGHBOURS + 1] if other != place]
        links = ", ".join(
            f'<a href="#study-{other}">{text(studies[other].id)}</a> {studies[other].scores[EXAMPLE_METRIC]:.2f}'
            for other in near
        )
        more = f'<p class="near">Near it by {label(EXAMPLE_METRIC)}: {links}</p>' if near else ""
        blocks.append(study_card(cards[place], f"example-{name.lower()}", films, name) + more)
    return (
        '<section aria-labelledby="examples"><h2 id="examples">Best, median and worst study</h2>'
        f'<p class="legend">By the study’s own {label(EXAMPLE_METRIC)}; equal ones in the order of the file.</p>'
        f"{''.join(blocks)}</section>"
    )


def lengths(studies: Sequence[StudyRow]) -> str:
    """The length plot, with medians in its caption."""
    if not studies:
        return ""
    sides = [
        [len(words.split()) for words in texts]
        for texts in zip(*((s.prediction.prediction, s.prediction.reference) for s in studies), strict=True)
    ]
    ours, theirs = (f"median {statistics.median(side):g} words, {min(side)} to {max(side)}" for side in sides)
    return (
        f"<figure>{plots.length_histogram(*sides)}<figcaption><b>Length of the texts.</b> "
        f'<span class="key a"></span> predictions: {ours}. <span class="key b"></span> references: {theirs}.'
        "</figcaption></figure>"
    )


def confidence(scores: Json) -> str:
    """Reliability diagram, risk–coverage curve and their numbers; why not, where confidence was not measured."""
    if not (found := scores.get("confidence")):
        reason = scores["not_available"].get("confidence", "not measured for these predictions")
        return f'<p class="plain">Confidence of sentences: {text(reason)}.</p>'
    about = f'<p class="plain wide">{text(str(found["definition"]))}</p>' if found.get("definition") else ""
    return f"{_reliability(found)}{_risk(found)}{about}{_bins(found)}"


def _reliability(found: Json) -> str:
    fitted = (("temperature", found.get("temperature")), ("bias", found.get("bias")))
    scaling = ", ".join(f"{name} {number(value)}" for name, value in fitted if value is not None)
    share = f", {percent(found['supported'])} of them supported" if "supported" in found else ""
    return (
        f"<figure>{plots.reliability_diagram(found['reliability'])}<figcaption><b>Reliability</b> of "
        f"{found['n_sentences']} sentences{share}. On the diagonal, confidence is accuracy. Expected calibration error "
        f"{_measured(found['ece'])}, uncalibrated {_measured(found.get('ece_uncalibrated'))}"
        f"{scaling and f' ({scaling})'}.</figcaption></figure>"
    )


def _risk(found: Json) -> str:
    return (
        f"<figure>{plots.risk_coverage_curve(found['risk_coverage'])}<figcaption><b>Risk and coverage.</b> The "
        "wrong share of the sentences kept when the least confident are left out; area under the curve "
        f"{_measured(found.get('aurc'))}.</figcaption></figure>"
    )


def _measured(value: Json | float | None) -> str:
    """A number, or one with its interval, as a figure's caption says it."""
    if isinstance(value, Mapping):
        spread = f" [{interval(value['ci95'])}]" if "ci95" in value else ""
        return f"{number(value['value'])}{spread}"
    return _maybe(value)


def _maybe(value: float | None) -> str:
    return "not known" if value is None else number(value)


def _bins(found: Json) -> str:
    """The numbers of the reliability diagram, folded."""
    rows = [
        f'<tr><th scope="row">{bin["low"]:.2f} to {bin["high"]:.2f}</th><td>{bin["count"]}</td>'
        f"<td>{_maybe(bin['confidence'] if bin['count'] else None)}</td>"
        f"<td>{_maybe(bin['accuracy'] if bin['count'] else None)}</td></tr>"
        for bin in found["reliability"]
    ]
    heads = head(["confidence", "sentences", "mean confidence", "accuracy"])
    table = scrolling_table(heads, rows, "Reliability, bin by bin", "gap")
    return f'<details class="wide"><summary>Reliability in numbers</summary>{table}</details>'
