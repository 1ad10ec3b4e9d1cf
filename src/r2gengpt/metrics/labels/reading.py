"""A report's text → CheXpert's observations, by rules. No scores, and not CheXbert: no model is loaded or fetched.

Mentions are found by `phrases`; what is denied and what is doubted by negspacy's NegEx on a blank spaCy pipeline, once
with each set of cues. spaCy is imported when the first mention is met; where PyTorch is installed, spaCy imports it.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING

from r2gengpt.errors import InputError, installing
from r2gengpt.metrics.labels import phrases
from r2gengpt.metrics.labels.observations import Label, Statement, combine
from r2gengpt.text.sentences import sentence_spans

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Span

MENTIONS = "observations"
DENIED, DOUBTED = "r2gengpt_denied", "r2gengpt_doubted"
SENTENCES_KEPT = 1 << 16
VERSION = 2
"""Rises when a phrase, a cue or a rule changes, so that old labels are not mixed with new ones."""
_LIST_NUMBER = re.compile(r"^\W*(?:\d{1,2}[.)]\s*)?")


@dataclass(frozen=True)
class Mention:
    """An observation that a sentence names, what it says of it, and the characters that name it."""

    observation: str
    label: Label
    start: int
    stop: int


def is_available() -> bool:
    """Whether the extra `labels` is installed."""
    return find_spec("spacy") is not None and find_spec("negspacy") is not None


def label_report(text: str) -> Mapping[str, Label]:
    """What a report says of each of the 14 observations, in CheXpert's order.

    Rule-based, not CheXbert. The order of sentences does not matter. Give it findings and impression only: an
    indication ("rule out pneumonia") is read like any other sentence.

    Raises:
        ModuleNotFoundError: the extra `labels` is not installed (`is_available`).
    """
    return MappingProxyType(combine(statement for part in sentences(text) for statement in statements(part)))


def sentences(text: str) -> Iterator[str]:
    """The sentences of a report in lower case, white space collapsed, without list numbers; none is empty."""
    text = text.lower()
    for first, last in sentence_spans(text):
        if sentence := _LIST_NUMBER.sub("", " ".join(text[first:last].split()), count=1):
            yield sentence


@functools.lru_cache(maxsize=SENTENCES_KEPT)
def statements(sentence: str) -> tuple[Statement, ...]:
    """What one lower-case sentence says, each statement once. Kept: reports repeat their sentences."""
    found = {
        (observation, label)
        for label, patterns in ((Label.NEGATIVE, _patterns()["absent"]), (Label.UNCERTAIN, _patterns()["equivocal"]))
        for observation, pattern in patterns
        if pattern.search(sentence)
    }
    return tuple(sorted(found | {(one.observation, one.label) for one in mentions(sentence)}))


@functools.lru_cache(maxsize=SENTENCES_KEPT)
def mentions(sentence: str) -> tuple[Mention, ...]:
    """What NegEx decides of one lower-case sentence: each mention, as often as it is there."""
    places = [
        (match.span(match.lastindex or 0), observation)
        for observation, pattern in _patterns()["present"]
        for match in pattern.finditer(sentence)
    ]
    if not places:
        return ()
    pipeline = _pipeline()
    doc = pipeline.make_doc(sentence)
    spans = (doc.char_span(*place, label=observation, alignment_mode="expand") for place, observation in places)
    doc.spans[MENTIONS] = [span for span in spans if span is not None]  # of the sentence itself, so none is None
    found = pipeline(doc).spans[MENTIONS]
    return tuple(Mention(span.label_, _label(span), span.start_char, span.end_char) for span in found)


def asserted(text: str) -> dict[str, str]:
    """What a text says of CheXpert's observations, without those that it does not mention.

    Raises:
        InputError: the labeller's packages are not installed.
    """
    if not is_available():
        raise InputError(f"what a report asserts needs spaCy and negspacy: {installing('labels')}")
    return {name: label.value for name, label in label_report(text).items() if label != Label.BLANK}


def _label(span: "Span") -> Label:
    if span._.get(DENIED):
        return Label.NEGATIVE
    return Label.UNCERTAIN if span._.get(DOUBTED) else Label.POSITIVE


@functools.cache
def _patterns() -> Mapping[str, tuple[tuple[str, re.Pattern[str]], ...]]:
    return {
        "present": phrases.compiled(phrases.PRESENT),
        "equivocal": phrases.compiled(phrases.EQUIVOCAL),
        "absent": phrases.compiled(phrases.ABSENT),
    }


@functools.cache
def _pipeline() -> "Language":
    """A blank English pipeline with NegEx twice: for denial and for doubt."""
    import spacy
    from negspacy import negation  # noqa: F401  # registers the component "negex"

    pipeline = spacy.blank("en")
    pipeline.add_pipe("sentencizer")
    for extension, terms in ((DENIED, phrases.DENIAL), (DOUBTED, phrases.DOUBT)):
        settings = {
            "neg_termset": {kind: list(words) for kind, words in terms.items()},
            "extension_name": extension,
            "span_keys": [MENTIONS],
        }
        pipeline.add_pipe("negex", name=extension, config=settings)
    return pipeline
