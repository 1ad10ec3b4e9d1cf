"""One study of the report page: its films, the two texts with their differences, what is known of each sentence."""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from r2gengpt.data.containers import DicomChoice
from r2gengpt.data.images import PLAIN
from r2gengpt.evaluation.differences import Span, word_differences
from r2gengpt.evaluation.report_images import Thumbnail
from r2gengpt.evaluation.report_names import number, text
from r2gengpt.evaluation.report_sentences import Evidence, Sentence, same_sentences, sentences_of
from r2gengpt.generation.prediction import Prediction

LABEL_F1 = "clinical_example_f1_14_uncertain_as_positive"
CARD_METRICS = {"cider": "CIDEr-D", "rouge_l": "ROUGE-L", "bleu_1": "BLEU-1", LABEL_F1: "label F1"}
"""Shown with each study. BLEU-4 is not: on one text it is 0 as soon as no four words in a row match."""
SHADES = 5
"""Steps of the confidence shading."""


@dataclass(frozen=True)
class StudyRow:
    """One study of the page: its images (files), what was generated, its scores by metric, its evidence if measured."""

    id: str
    image_paths: tuple[Path, ...]
    prediction: Prediction
    scores: Mapping[str, float]
    evidence: Evidence | None = None
    dicom: DicomChoice = PLAIN


@dataclass(frozen=True)
class Card:
    """A study made ready to show: both texts in runs of words, the sentences (empty: none known)."""

    study: StudyRow
    generated: tuple[Span, ...]
    reference: tuple[Span, ...]
    sentences: tuple[Sentence, ...]
    stale: bool
    """Confidence or evidence was given, but for other sentences than the text has."""


def make_card(study: StudyRow) -> Card:
    """Find the differences and bring texts, confidence and evidence together.

    Evidence for other sentences than those of the text (a file of an earlier run) is left out, and so is confidence.
    """
    generated, reference = word_differences(study.prediction.prediction, study.prediction.reference)
    record: Sequence[Mapping[str, Any]] = study.prediction.to_json().get("sentences") or ()
    evidence = study.evidence
    if record and evidence is not None and not same_sentences([str(s["text"]) for s in record], evidence.sentences):
        evidence = None
    sentences = sentences_of(generated, record, evidence)
    given = bool(record) + (study.evidence is not None)
    stale = bool(generated) and (evidence is not study.evidence or bool(given and not sentences))
    return Card(study, tuple(generated), tuple(reference), sentences, stale)


@functools.cache
def _template() -> Template:
    return Template(resources.files("r2gengpt.evaluation").joinpath("report_study.html").read_text(encoding="utf-8"))


def study_card(card: Card, anchor: str, films: Mapping[Path, Thumbnail], heading: str = "") -> str:
    """The study as an `article` element.

    Args:
        card: the study.
        anchor: its id in the page.
        films: file → thumbnail.
        heading: words before its id, for instance "Best".
    """
    study = card.study
    mapped = any(sentence.map for sentence in card.sentences)
    count = len(study.image_paths)
    return _template().substitute(
        anchor=anchor,
        heading=f'<span class="rank">{text(heading)}</span> ' if heading else "",
        id=text(study.id),
        data="".join(f' data-{name}="{value:.6g}"' for name, value in sort_values(card).items()),
        flags=" ".join(flags(card)),
        grid=f' data-grid="{study.evidence.grid[0]} {study.evidence.grid[1]}"' if study.evidence and mapped else "",
        facts="".join(_facts(card)),
        images="".join(
            _film(films[path], f"Chest X-ray of study {study.id}, view {view} of {count}")
            for view, path in enumerate(study.image_paths, start=1)
        ),
        generated=_generated(card, f"{anchor}-told"),
        told=_told(card, f"{anchor}-told"),
        reference=_marked(card.reference, "del", "no reference"),
    )


def sort_values(card: Card) -> dict[str, float]:
    """What studies can be sorted by, and its values."""
    values = {_key(name): card.study.scores[name] for name in CARD_METRICS if name in card.study.scores}
    probability = math.exp(card.study.prediction.logprob) if card.study.prediction.tokens else 0.0
    return values | {"probability": probability, "review": float(sum(s.needs_review for s in card.sentences))}


def _key(metric: str) -> str:
    return "labels" if metric == LABEL_F1 else metric.replace("_", "")


SORT_NAMES = {**{_key(name): title for name, title in CARD_METRICS.items()}, "probability": "token probability"}
"""What a study's data attribute holds → its words in the sort menu."""
FLAGS = {
    "review": "with sentences that need review",
    "noevidence": "whose verdict is “no evidence”",
    "cut": "cut at the maximum length",
    "empty": "without a generated text",
}
"""Kinds of studies that can be shown alone."""


def sentence_legend(cards: Iterable[Card]) -> str:
    """How to read shading and maps, as far as these studies have them."""
    sentences = [sentence for card in cards for sentence in card.sentences]
    parts = []
    if any(sentence.sureness is not None for sentence in sentences):
        calibrated = any(sentence.confidence is not None for sentence in sentences)
        what = "Confidence of a sentence" if calibrated else "Mean token probability of a sentence, not calibrated"
        names = ("below .2", ".2 to .4", ".4 to .6", ".6 to .8", "above .8")
        shades = " ".join(f'<span class="s q{step}">{names[step]}</span>' for step in reversed(range(SHADES)))
        parts.append(f"{what}: {shades}.")
    if any(sentence.map for sentence in sentences):
        parts.append(
            "Pointing at a sentence, or going to it with Tab, draws its evidence map over the films: brightest where "
            "it depends on the image most, the strongest cell framed. Each sentence has its own scale. Where the "
            "verdict is “no evidence” the map is pale and has no frame: it is not better than chance. Escape takes a "
            "map away."
        )
    return f"<p>{' '.join(parts)}</p>" if parts else ""


def flags(card: Card) -> list[str]:
    """Which of `FLAGS` the study has."""
    evidence = card.study.evidence
    is_so = {
        "review": any(sentence.needs_review for sentence in card.sentences),
        "noevidence": evidence is not None and evidence.verdict.strip().lower() == "no evidence",
        "cut": card.study.prediction.finish == "length",
        "empty": not card.study.prediction.prediction.strip(),
    }
    return [name for name, value in is_so.items() if value]


def _facts(card: Card) -> list[str]:
    study, prediction = card.study, card.study.prediction
    facts = [_fact(title, f"{study.scores[name]:.2f}") for name, title in CARD_METRICS.items() if name in study.scores]
    if prediction.tokens:
        about = f"geometric mean of the probabilities of {prediction.tokens} tokens"
        facts.append(_fact("token probability", f"{math.exp(prediction.logprob):.2f}", about))
    words = (str(len(words.split())) for words in (prediction.prediction, prediction.reference))
    facts.append(_fact("words", " / ".join(words), "in the generated text / in the reference"))
    if study.evidence is not None and study.evidence.verdict:
        facts.append(_fact("evidence map", study.evidence.verdict))
    if count := sum(sentence.needs_review for sentence in card.sentences):
        facts.append(_fact("needs review", f"{count} of {len(card.sentences)} sentences", warn=True))
    if prediction.finish == "length":
        facts.append(_fact("end", "cut at the maximum length", warn=True))
    return facts


def _fact(name: str, value: str, about: str = "", warn: bool = False) -> str:
    attributes = (f' title="{about}"' if about else "") + (' class="warn"' if warn else "")
    return f"<div{attributes}><dt>{name}</dt><dd>{text(value)}</dd></div>"


def _generated(card: Card, told: str) -> str:
    if not card.sentences:
        return _marked(card.generated, "ins", "no text was generated")
    return " ".join(_sentence(sentence, told) for sentence in card.sentences)


def _sentence(sentence: Sentence, told: str) -> str:
    """A sentence that can be reached by keyboard, with its numbers for the script."""
    known = {"tokens": sentence.tokens or None, "logprob": sentence.logprob, "agreement": sentence.agreement}
    known |= {"confidence": sentence.confidence}
    data = {name: f"{value:.4g}" for name, value in known.items() if value is not None}
    if (drawn := sentence.map) is not None:
        drops = {"top": drawn.drop_top, "random": drawn.drop_random}
        data |= {"map": " ".join(drawn.levels), "verdict": text(drawn.verdict)}
        data |= {name: number(value, signed=True) for name, value in drops.items() if value is not None}
    attributes = "".join(f' data-{name}="{value}"' for name, value in data.items())
    sure = sentence.sureness
    shade = "" if sure is None else f" q{min(SHADES - 1, int(max(0.0, sure) * SHADES))}"
    mark = ' <span class="flag">needs review</span>' if sentence.needs_review else ""
    words = _marked(sentence.spans, "ins", "")
    return f'<span class="s{shade}" tabindex="0" aria-describedby="{told}"{attributes}>{words}{mark}</span>'


def _told(card: Card, anchor: str) -> str:
    """Where the script says what is known of the sentence pointed at."""
    if not card.sentences:
        return ""
    return f'<p class="told" id="{anchor}" aria-live="polite">Point at a sentence, or go to it with Tab.</p>'


def _marked(spans: Sequence[Span], tag: str, empty: str) -> str:
    """Runs of words as HTML, unshared ones inside the tag."""
    if not spans:
        return f'<span class="none">{empty}</span>'
    return " ".join(text(span.text) if span.shared else f"<{tag}>{text(span.text)}</{tag}>" for span in spans)


def _film(film: Thumbnail, description: str) -> str:
    return (
        f'<span class="view"><img src="data:image/jpeg;base64,{film.data}" width="{film.width}" height="{film.height}" '
        f'loading="lazy" decoding="async" alt="{text(description)}"></span>'
    )
