"""A split's studies, texts and scores as one self-contained HTML file. Scores nothing and opens no network."""

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template

from r2gengpt.data.files import whole_file
from r2gengpt.data.images import PLAIN
from r2gengpt.errors import InputError
from r2gengpt.evaluation import report_scores, report_sections
from r2gengpt.evaluation.report_clinical import clinical_section, label_bars
from r2gengpt.evaluation.report_images import Thumbnail, thumbnails
from r2gengpt.evaluation.report_names import definitions, label, text
from r2gengpt.evaluation.report_numbers import every_number
from r2gengpt.evaluation.report_scores import Json
from r2gengpt.evaluation.report_study import (
    FLAGS,
    SORT_NAMES,
    Card,
    StudyRow,
    flags,
    make_card,
    sentence_legend,
    sort_values,
    study_card,
)

__all__ = ["StudyRow", "write_report_page"]

PAGE_BYTES = 29_000_000
"""The whole page, whatever the split: thumbnails take what the rest leaves."""


def write_report_page(
    path: Path,
    *,
    title: str,
    studies: Sequence[StudyRow],
    scores: Json,
    provenance: Mapping[str, str],
) -> None:
    """Write report.html, whole or not at all.

    Args:
        path: the file.
        title: heading of the page.
        studies: in the order of the page.
        scores: the content of scores.json for the same predictions.
        provenance: what the page says of its making: model, data, command, versions.

    Raises:
        InputError: an image can't be read, or the file can't be written.
    """
    page = report_page(title, studies, scores, provenance)
    try:
        with whole_file(path) as temporary:
            temporary.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise InputError(f"output {path}: {error.strerror or error}") from None


def report_page(title: str, studies: Sequence[StudyRow], scores: Json, provenance: Mapping[str, str]) -> str:
    """The page as text; see `write_report_page`."""
    cards = [make_card(study) for study in studies]
    parts = _frame(title, scores, provenance) | _scores(scores, cards) | _menus(cards)
    nothing = {file: Thumbnail("", 0, 0) for study in studies for file in study.image_paths}
    taken = sum(len(part.encode()) for part in (parts | _studies(cards, nothing)).values())
    again = [studies[place] for place in report_sections.example_places(studies).values()]
    paths = [file for study in (*studies, *again) for file in study.image_paths]
    dicom = studies[0].dicom if studies else PLAIN  # of one command, and so of all
    films = thumbnails(paths, PAGE_BYTES - taken - len(_part("report_page.html")), dicom)
    return Template(_part("report_page.html")).substitute(parts | _studies(cards, films))


def _studies(cards: Sequence[Card], films: Mapping[Path, Thumbnail]) -> dict[str, str]:
    """The examples and all studies."""
    return {
        "examples": report_sections.examples(cards, films),
        "studies": "\n".join(study_card(card, f"study-{place}", films) for place, card in enumerate(cards)),
    }


def _frame(title: str, scores: Json, provenance: Mapping[str, str]) -> dict[str, str]:
    """Head, style, script with the hashes by which the page allows them and nothing else, and how it was made."""
    style, script = _part("report_page.css"), _part("report_page.js")
    return {
        "title": text(title),
        "style": style,
        "script": script,
        "style_hash": _digest(style),
        "script_hash": _digest(script),
        "lead": f"{scores['n']} studies, scored as <code>{text(scores['signature'])}</code>",
        "provenance": definitions(provenance.items()),
        "numbers": every_number(scores),
    }


def _scores(scores: Json, cards: Sequence[Card]) -> dict[str, str]:
    """What is said of all studies together."""
    names = report_scores.text_metrics(scores)
    return {
        "tiles": report_scores.tiles(scores),
        "collapse": report_scores.collapse(scores),
        "caption": report_scores.caption(scores),
        "systems": report_scores.systems_table(scores, names, [label(name) for name in names], "Model and baselines"),
        "gap": report_scores.gap_table(scores, names),
        "notes": report_scores.notes(scores, _stale(cards)),
        "baselines": report_scores.baseline_texts(scores),
        "clinical": clinical_section(scores),
        "clinical_link": '<a href="#clinical">Clinical labels</a>' if "clinical" in scores else "",
        "lengths": report_sections.lengths([card.study for card in cards]),
        "bars": label_bars(scores),
        "confidence": report_sections.confidence(scores),
    }


def _stale(cards: Sequence[Card]) -> list[str]:
    """A note where sentences of predictions.jsonl or evidence.jsonl were not those of the texts."""
    count = sum(card.stale for card in cards)
    what = "confidence or evidence was given for other sentences than the text has, and is not shown"
    return [f"{count} of {len(cards)} studies: {what}"] if count else []


def _menus(cards: Sequence[Card]) -> dict[str, str]:
    """The choices of the menus for sorting and for kinds of studies; only those that the studies have."""
    orders = [("file", "order of the file"), ("id up", "id")]
    known = {key for card in cards for key in sort_values(card)}
    for key, name in ((key, name) for key, name in SORT_NAMES.items() if key in known):
        orders += [(f"{key} up", f"{name}, lowest first"), (f"{key} down", f"{name}, highest first")]
    there = [flag for card in cards for flag in flags(card)]
    if "review" in there:
        orders.append(("review down", "sentences to review, most first"))
    kinds = [("", "all"), *((flag, f"{words} ({there.count(flag)})") for flag, words in FLAGS.items() if flag in there)]
    return {"orders": _options(orders), "kinds": _options(kinds), "sentence_legend": sentence_legend(cards)}


def _options(choices: Sequence[tuple[str, str]]) -> str:
    return "".join(f'<option value="{value}">{text(words)}</option>' for value, words in choices)


@functools.cache
def _part(name: str) -> str:
    return resources.files("r2gengpt.evaluation").joinpath(name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    """The source by which a content security policy allows this very text of a style or script element."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
