"""Studies of the report page: what each shows of itself, how they are sorted, chosen and ranked. No HTML."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from r2gengpt.evaluation.page.sentences import (
    ShownEvidence,
    ShownSentence,
    Span,
    same_sentences,
    sentences_of,
    word_differences,
)
from r2gengpt.films.containers import DicomChoice
from r2gengpt.films.reader import PLAIN
from r2gengpt.report import Report, review_lines

EXAMPLE_F1 = "clinical_example_f1_14_uncertain_as_positive"
CARD_METRICS = {"cider": "CIDEr-D", "rouge_l": "ROUGE-L", "bleu_1": "BLEU-1", EXAMPLE_F1: "label F1"}
"""Shown with each study. BLEU-4 is not: on one text it is 0 as soon as no four words in a row match."""
EXAMPLE_METRIC = "cider"
NEIGHBOURS = 4
"""Further studies that are linked beside each example."""


@dataclass(frozen=True)
class StudyRow:
    """One study of the page: its images (files), what was generated, its scores by metric, its evidence if measured."""

    id: str
    image_paths: tuple[Path, ...]
    report: Report
    scores: Mapping[str, float]
    evidence: ShownEvidence | None = None
    dicom: DicomChoice = PLAIN


@dataclass(frozen=True)
class Fact:
    """Something known of a study: its name, its value, what it is (shown on pointing), whether it warns."""

    name: str
    value: str
    about: str = ""
    warn: bool = False


@dataclass(frozen=True)
class Card:
    """A study made ready to show: both texts in runs of words, the sentences (empty: none known)."""

    study: StudyRow
    generated: tuple[Span, ...]
    reference: tuple[Span, ...]
    sentences: tuple[ShownSentence, ...]
    stale: bool
    """Confidence or evidence was given, but for other sentences than the text has."""

    @cached_property
    def review(self) -> int:
        """How many sentences need review."""
        return sum(sentence.needs_review for sentence in self.sentences)

    @cached_property
    def reasons(self) -> tuple[str, ...]:
        """Why it needs review, a line each; a mark of little confidence alone has none."""
        return review_lines(self.study.report)

    @property
    def to_check(self) -> int:
        """How many sentences, and how much of the report as a whole, need review."""
        return self.review + len(self.study.report.review)

    @cached_property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the sentences' maps; None: no sentence has one."""
        evidence = self.study.evidence
        return evidence.grid if evidence and any(sentence.map for sentence in self.sentences) else None

    @cached_property
    def sort_values(self) -> dict[str, float]:
        """What studies can be sorted by, and its values."""
        report, scores = self.study.report, self.study.scores
        values = {_key(name): scores[name] for name in CARD_METRICS if name in scores}
        probability = math.exp(report.logprob) if report.tokens else 0.0
        return values | {"probability": probability, "review": float(self.to_check)}

    @cached_property
    def flags(self) -> list[str]:
        """Which of `FLAGS` the study has."""
        evidence, report = self.study.evidence, self.study.report
        is_so = {
            "review": bool(self.to_check),
            "noevidence": evidence is not None and evidence.verdict.strip().lower() == "no evidence",
            "cut": report.finish == "length",
            "empty": not report.text.strip(),
        }
        return [name for name, value in is_so.items() if value]

    @cached_property
    def facts(self) -> list[Fact]:
        """What stands beside the study's id."""
        report, evidence, scores = self.study.report, self.study.evidence, self.study.scores
        found = [Fact(title, f"{scores[name]:.2f}") for name, title in CARD_METRICS.items() if name in scores]
        if report.tokens:
            about = f"geometric mean of the probabilities of {report.tokens} tokens"
            found.append(Fact("token probability", f"{math.exp(report.logprob):.2f}", about))
        words = " / ".join(str(len(text.split())) for text in (report.text, report.reference))
        found.append(Fact("words", words, "in the generated text / in the reference"))
        if evidence is not None and evidence.verdict:
            found.append(Fact("evidence map", evidence.verdict))
        if self.review:
            found.append(Fact("needs review", f"{self.review} of {len(self.sentences)} sentences", warn=True))
        doubts = [doubt.line for doubt in report.doubts]
        apart = [line for line in report.review if line not in doubts]
        for title, lines in (("film in doubt", doubts), ("text and film disagree", apart)):
            if lines:
                found.append(Fact(title, str(len(lines)), "\n".join(lines), warn=True))
        if report.finish == "length":
            found.append(Fact("end", "cut at the maximum length", warn=True))
        return found


def _key(metric: str) -> str:
    return "labels" if metric == EXAMPLE_F1 else metric.replace("_", "")


SORT_NAMES = {**{_key(name): title for name, title in CARD_METRICS.items()}, "probability": "token probability"}
"""What a study's data attribute holds → its words in the sort menu."""
FLAGS = {
    "review": "with sentences that need review",
    "noevidence": "whose verdict is “no evidence”",
    "cut": "cut at the maximum length",
    "empty": "without a generated text",
}
"""Kinds of studies that can be shown alone."""


def make_card(study: StudyRow) -> Card:
    """Find the differences and bring texts, confidence and evidence together.

    Evidence for other sentences than those of the text (a file of an earlier run) is left out, and so is confidence.
    """
    report, evidence = study.report, study.evidence
    generated, reference = word_differences(report.text, report.reference)
    if report.sentences and evidence and not same_sentences([s.text for s in report.sentences], evidence.sentences):
        evidence = None
    sentences = sentences_of(generated, report.sentences, evidence)
    has_confidence = bool(report.sentences) or study.evidence is not None
    stale = bool(generated) and (evidence is not study.evidence or (has_confidence and not sentences))
    return Card(study, tuple(generated), tuple(reference), sentences, stale)


def sort_orders(cards: Sequence[Card]) -> list[tuple[str, str]]:
    """Value and words of each way to sort these studies."""
    orders = [("file", "order of the file"), ("id up", "id")]
    known = {key for card in cards for key in card.sort_values}
    for key, name in ((key, name) for key, name in SORT_NAMES.items() if key in known):
        orders += [(f"{key} up", f"{name}, lowest first"), (f"{key} down", f"{name}, highest first")]
    if any(card.to_check for card in cards):
        orders.append(("review down", "sentences to review, most first"))
    return orders


def kinds_of_studies(cards: Sequence[Card]) -> list[tuple[str, str]]:
    """Value and words of each kind that these studies have, with how many there are."""
    there = [flag for card in cards for flag in card.flags]
    return [("", "all"), *((flag, f"{words} ({there.count(flag)})") for flag, words in FLAGS.items() if flag in there)]


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


@dataclass(frozen=True)
class ShownExample:
    """A chosen study: what it is (Best), its card, and the places of those next to it by score."""

    name: str
    card: Card
    near: tuple[int, ...]


def examples(cards: Sequence[Card]) -> list[ShownExample]:
    """The best, median and worst study, each with the next ones."""
    studies = [card.study for card in cards]
    order, found = ranked(studies), []
    for name, place in example_places(studies).items():
        start = max(0, min(order.index(place) - NEIGHBOURS // 2, len(order) - NEIGHBOURS - 1))
        near = tuple(other for other in order[start : start + NEIGHBOURS + 1] if other != place)
        found.append(ShownExample(name, cards[place], near))
    return found
