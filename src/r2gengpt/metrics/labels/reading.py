"""A report's text → CheXpert's observations, by rules. No scores, and not CheXbert: no model is loaded or fetched.

`phrases` finds mentions; NegEx tells what is denied and what is doubted, once with each set of cues.

Source: Irvin et al. 2019, "CheXpert" (arXiv 1901.07031), section 3: the observations, the four labels, their order of
precedence and the definition of No Finding.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from r2gengpt.metrics.labels import phrases
from r2gengpt.metrics.labels.negation import ASKS, NegEx, Words
from r2gengpt.text.observations import NO_FINDING, OBSERVATIONS, SUPPORT_DEVICES
from r2gengpt.text.sentences import has_words, sentence_spans


class Label(StrEnum):
    """What a report says of an observation; blank: nothing."""

    POSITIVE = "positive"
    UNCERTAIN = "uncertain"
    NEGATIVE = "negative"
    BLANK = "blank"


FIVE = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
"""CheXpert's competition tasks."""

Statement = tuple[str, Label]
"""An observation that a sentence mentions, and what it says of it."""

THERE = (Label.POSITIVE, Label.UNCERTAIN)
"""The labels of what a report asserts or doubts."""
_PRECEDENCE = (Label.POSITIVE, Label.UNCERTAIN, Label.NEGATIVE, Label.BLANK)


def combine(statements: Iterable[Statement]) -> dict[str, Label]:
    """The labels of a report from all its statements: positive over uncertain over negative over blank.

    No Finding is positive where no other observation but Support Devices is positive or uncertain, and else blank; so
    it is positive of an empty text, as in CheXpert. No observation implies another one.
    """
    labels = dict.fromkeys(OBSERVATIONS, Label.BLANK)
    for observation, label in statements:
        labels[observation] = min(labels[observation], label, key=_PRECEDENCE.index)
    labels[NO_FINDING] = Label.BLANK if has_finding(labels) else Label.POSITIVE
    return labels


def has_finding(labels: Mapping[str, Label]) -> bool:
    """Whether any observation but No Finding and Support Devices is positive or uncertain."""
    return any(label in THERE for name, label in labels.items() if name not in (NO_FINDING, SUPPORT_DEVICES))


SENTENCES_KEPT = 65_536
VERSION = 5
"""Rises when a phrase, a cue or a rule changes, so that old labels are not mixed with new ones."""
AGREES: Mapping[Label, tuple[Label, ...]] = {
    Label.POSITIVE: (Label.POSITIVE,),
    Label.NEGATIVE: (Label.NEGATIVE, Label.BLANK),
}
"""What a sentence asserts → the labels of the reference that agree with it; of what is absent reports may be silent."""
DEFINITION = (
    "A sentence is supported where each observation that it asserts (CheXpert's, No Finding left out; labels by rules, "
    "not CheXbert) has a label of the reference that agrees: positive with positive, negative with negative or with "
    "nothing said. A doubt agrees with neither. Sentences that assert no observation are left out."
)
_LIST_NUMBER = re.compile(r"^[^\w?]*+(?:\d{1,2}[.)]\s*)?")


@dataclass(frozen=True)
class Mention:
    """An observation that a sentence names, what it says of it, and the characters that name it."""

    observation: str
    label: Label
    start: int
    stop: int


def label_report(text: str) -> Mapping[str, Label]:
    """What a report says of each of the 14 observations, in CheXpert's order.

    Rule-based, not CheXbert. The order of sentences does not matter. Give it findings and impression only: an
    indication ("rule out pneumonia") is read like any other sentence.
    """
    return MappingProxyType(combine(statement for part in sentences(text) for statement in statements(part)))


def sentences(text: str) -> Iterator[str]:
    """The sentences of a report in lower case, white space collapsed, without list numbers; none is empty."""
    text = _plain(text)
    for first, last in sentence_spans(text):
        if sentence := _LIST_NUMBER.sub("", " ".join(text[first:last].lower().split())):
            yield sentence


def lowered(text: str) -> str:
    """A text in lower case, with plain letters for ligatures and plain apostrophes."""
    return _plain(text).lower()


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).replace("\u2019", "'")


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
        if not sentence.endswith("non-", 0, match.start())
    ]
    if not places:
        return ()
    words = Words(_blanked(sentence))
    spans = [words.covering(*place) for place, _ in places]
    denied, doubted = (negex.reached(words, spans) for negex in _cues())
    return tuple(
        Mention(observation, _label(denied[at], doubted[at]), *words.characters(spans[at]))
        for at, (_, observation) in enumerate(places)
    )


def named_in(text: str) -> list[str]:
    """The observations that a text asserts or doubts, in CheXpert's order."""
    return [name for name, label in label_report(text).items() if label in THERE]


def asserted(text: str) -> dict[str, str]:
    """What a text says of CheXpert's observations, without those that it does not mention.

    A text without words says nothing; as a report that is scored it would be one of No Finding.
    """
    if not has_words(text):
        return {}
    return {name: label.value for name, label in label_report(text).items() if label != Label.BLANK}


def claims(sentence: str) -> dict[str, Label]:
    """The observations that a sentence says are there, or are not there."""
    return {name: label for name, label in label_report(sentence).items() if name != NO_FINDING and label in AGREES}


def is_supported(sentence: str, reference: Mapping[str, Label]) -> bool | None:
    """Whether the labels of a reference agree with all that a sentence asserts; None where it asserts nothing."""
    claimed = claims(sentence)
    return all(reference[name] in AGREES[label] for name, label in claimed.items()) if claimed else None


def _blanked(sentence: str) -> str:
    """The sentence, as long as it was, without what only looks like a denial or an end."""
    for mark, instead in (
        (phrases.HEADING, " "),
        (phrases.LISTED, ","),
        (phrases.OWN_CLAUSE, ";"),
        (phrases.ASKED, ASKS),
    ):
        sentence = mark.sub(instead, sentence)
    sentence = phrases.NO_CHANGE.sub(lambda found: ";".ljust(len(found[0])), sentence)
    sentence = phrases.ELSEWHERE.sub(lambda found: (found[1] or "").ljust(len(found[0])), sentence)
    return sentence


def _label(denied: bool, doubted: bool) -> Label:
    if denied:
        return Label.NEGATIVE
    return Label.UNCERTAIN if doubted else Label.POSITIVE


@functools.cache
def _patterns() -> Mapping[str, tuple[tuple[str, re.Pattern[str]], ...]]:
    return {
        "present": phrases.compiled(phrases.PRESENT),
        "equivocal": phrases.compiled(phrases.EQUIVOCAL),
        "absent": phrases.compiled(phrases.ABSENT, phrases.GAP_TO_NORMAL),
    }


@functools.cache
def _cues() -> tuple[NegEx, NegEx]:
    """What finds denials, and what finds doubts."""
    return NegEx(phrases.DENIAL), NegEx(phrases.DOUBT)
