"""What the report page calls things, and how it writes texts and numbers into HTML. No tables, no studies."""

import html
from collections.abc import Iterable, Mapping

from r2gengpt.metrics.labels.family import TITLES
from r2gengpt.text.written import named

LABELS: Mapping[str, str] = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr-D",
    "meteor": "METEOR",
    "meteor_exact_stem": "METEOR, exact and stem only",
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
    "texts_shuffled": "the model's texts shuffled",
    "images_shuffled": "the model with images shuffled",
    "clinical": "clinical labels",
    **TITLES,
}
"""Name in scores.json → what the page calls it; names that are not here stand as they are."""
BASELINES = ("constant", "most_frequent", "random_train", "nearest_image", "texts_shuffled", "images_shuffled")
"""Always on the page, in this order: where one was not measured, the reason stands in its place."""


def label(name: str) -> str:
    """What the page calls it."""
    return LABELS.get(name, name)


def text(value: str) -> str:
    """Text that can stand in HTML, also in a quoted attribute; control characters and half surrogates are left out."""
    kept = "".join(c for c in named(value) if (c in "\t\n" or ord(c) >= 32) and not "\ud800" <= c <= "\udfff")
    return html.escape(kept, quote=True)


def definitions(items: Iterable[tuple[str, str]]) -> str:
    """Names and what they mean, as the rows of a definition list."""
    return "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in items)


def number(value: float, signed: bool = False) -> str:
    """Three decimals, a true minus sign."""
    return f"{value:+.3f}".replace("-", "−") if signed else f"{value:.3f}".replace("-", "−")


def percent(share: float) -> str:
    """A share in hundredths, with one decimal."""
    return f"{share * 100:.1f} %"


def interval(ends: Iterable[float] | None, signed: bool = False) -> str:
    """Both ends of an interval; nothing where there is none."""
    return "" if ends is None else " to ".join(number(end, signed) for end in ends)


def head(cells: Iterable[str]) -> str:
    """A heading row."""
    return "<tr>" + "".join(f'<th scope="col">{text(cell)}</th>' for cell in cells) + "</tr>"


def scrolling_table(heads: str, rows: Iterable[str], name: str, kind: str = "") -> str:
    """A table in a region of its own that a keyboard can scroll; `name` is what screen readers call both."""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(name)}"><table class="{kind}">'
        f"<caption>{text(name)}</caption><thead>{heads}</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
