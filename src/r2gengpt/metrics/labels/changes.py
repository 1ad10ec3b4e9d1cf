"""What a report says has changed since an earlier study, by rules. Does not know whether there was one.

A cue is a word of change ("unchanged", "has increased"). Each observation of a sentence gets the cue nearest to it in
its part of the sentence. "Increased markings" and "low lung volumes" describe one film, and are no change.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from r2gengpt.metrics.labels.reading import SENTENCES_KEPT, lowered, mentions, sentences

VERSION = 3
"""Rises when a cue or a rule changes, so that old labels are not mixed with new ones."""


class Change(StrEnum):
    """What has become of something since the study before."""

    NEW = "new"
    WORSENED = "worsened"
    UNCHANGED = "unchanged"
    IMPROVED = "improved"
    RESOLVED = "resolved"


_THAN = "than(?! (?:on |in )?(?:the )?(?:left|right|other))"
_SINCE = f"(?:since|from|compared|{_THAN}|relative to|in (?:the )?interval|in size|in extent|in severity)"
_MORE = "(?:prominent|extensive|conspicuous|confluent|dense|pronounced|marked|apparent|severe)"
_NOW = f"(?:{'|'.join(f'(?<={word} )' for word in ('is', 'are', 'now', 'slightly', 'markedly', 'no', 'not'))})"
_ENDS = r"(?= ?(?:[.,;]|$))"
_HAS = r"(?:has|have)(?:n't)? (?:\w+ ){0,2}?"
_PARTLY = (
    r"(?:almost|nearly|near|largely|mostly|partial(?:ly)?|partly|incomplete(?:ly)?)[ -](?:complete(?:ly)? |entirely )?"
)
CUES: dict[Change, tuple[str, ...]] = {
    Change.UNCHANGED: (
        r"unchanged|unaltered|stable|stability|redemonstrated|persist(?:s|ed|ent|ing|ence)",
        r"(?:no|without|not|little) (?:\w+ ){0,3}?(?:change|changes|changed)",
        r"again (?:seen|noted|demonstrated|identified|visuali[sz]ed)",
        r"(?:similar|same|identical) (?:\w+ ){0,2}?(?:to|as) (?:the )?(?:prior|previous|before)",
    ),
    Change.RESOLVED: (
        rf"resolution|resolved|{_HAS}cleared|interval clearing|no longer",
        r"interval removal|(?:has|have) been removed",
    ),
    Change.NEW: (
        r"new|newly|interval (?:development|placement|appearance|insertion)",
        rf"{_HAS}(?:developed|appeared)|not (?:seen )?previously",
    ),
    Change.IMPROVED: (
        r"improv(?:ed|es|ing|ement)|resolving|regress(?:ed|ion|ing)|receding|diminishing|decreasing",
        rf"{_HAS}(?:decreased|diminished|lessened)|interval (?:\w+ )?(?:decrease|reduction)",
        rf"(?:(?:has|have) )?{_PARTLY}(?:resolution|resolved|cleared|clearing)",
        rf"(?:decrease[sd]?|diminished|smaller|less {_MORE}) {_SINCE}",
        rf"{_NOW}(?:smaller|less {_MORE}){_ENDS}",
    ),
    Change.WORSENED: (
        r"wors(?:e|ened|ening|ens)|progress(?:ed|ion|ive|ively|ing)|enlarging|increasing|growing",
        rf"{_HAS}(?:increased|enlarged|grown)|interval (?:\w+ )?(?:increase|enlargement|growth)",
        rf"(?:increase[sd]?|larger|more {_MORE}) {_SINCE}",
        rf"{_NOW}(?:larger|more {_MORE}){_ENDS}",
    ),
}
"""Change → its cues. Where two overlap, the one that begins first counts, of these the longest."""
COMPARED = (
    r"compar(?:ed|ison) (?:to|with|is made)|previously",
    r"(?:prior|previous|earlier) (?:\w+ ){0,2}?(?:study|examination|exam|films?|radiographs?|x-?rays?|ct)",
)
"""Other words of an earlier study."""
_DENIED = re.compile(r"(?:\b(?:no|without|not|nor|never)|n't)\s(?:\w+\s){0,3}$")
_NEAR = 64
"""Characters before a cue in which a denial of it is sought."""
_HAS_NOT = re.compile(r"(?:has|have)(?:n't| (?:not|never))\b")
"""How a cue begins that holds its own denial."""
_PLAN = re.compile(r"\b(?:recommend\w*|follow[- ]?up|ensure|advised?|suggest(?:ed)? (?:repeat|further))\b")
"""Sentences of what shall be done: no change is told in them."""
_PART = re.compile(r";|\bbut\b|\bwhile\b|\bwhereas\b|\b(?:al)?though\b|, (?=(?:no|without)\b)")

Pair = tuple[str, Change]
"""An observation, "" where the words name none of CheXpert's, and what has become of it."""


@dataclass(frozen=True)
class ChangeCue:
    """Words of change in a sentence, by their characters."""

    change: Change
    start: int
    stop: int


def changes(text: str) -> frozenset[Pair]:
    """All that a report says has changed, or has not.

    >>> sorted(changes("The right effusion has increased. No new consolidation."))
    [('Consolidation', <Change.UNCHANGED: 'unchanged'>), ('Pleural Effusion', <Change.WORSENED: 'worsened'>)]
    """
    return frozenset(pair for sentence in sentences(text) for pair in changes_in(sentence))


@functools.lru_cache(maxsize=SENTENCES_KEPT)
def changes_in(sentence: str) -> tuple[Pair, ...]:
    """What one lower-case sentence says of change, each pair once."""
    return tuple(dict.fromkeys(_pairs(sentence)))


def tells_of_change(sentence: str) -> bool:
    """Whether a sentence cannot be known from one study: it tells of a change, or of an earlier study.

    >>> tells_of_change("Unchanged cardiomegaly."), tells_of_change("Increased interstitial markings.")
    (True, False)
    """
    lower = " ".join(lowered(sentence).split())
    return bool(changes_in(lower)) or (not _PLAN.search(lower) and any(one.search(lower) for one in _compared()))


def _pairs(sentence: str) -> Iterator[Pair]:
    if _PLAN.search(sentence):
        return
    start = 0
    for end in (*(match.start() for match in _PART.finditer(sentence)), len(sentence)):
        part, start = sentence[start:end], end
        found = cues(part)
        if not found:
            continue
        named = [(one.observation, _nearest(found, one.start, one.stop).change) for one in mentions(part)]
        yield from named or [("", cue.change) for cue in found]


def cues(part: str) -> Sequence[ChangeCue]:
    """The words of change in a part of a sentence, in order, none over another. A denied change is none."""
    places = [
        (match.start(), -match.end(), change) for change, patterns in _patterns().items() for pattern in patterns
        for match in pattern.finditer(part)
    ]  # fmt: skip
    found: list[ChangeCue] = []
    for start, end, change in sorted(places):
        if not found or start >= found[-1].stop:
            denied = change is not Change.UNCHANGED and (
                _DENIED.search(part, max(0, start - _NEAR), start) or _HAS_NOT.match(part, start)
            )
            found.append(ChangeCue(Change.UNCHANGED if denied else change, start, -end))
    return found


def _nearest(found: Sequence[ChangeCue], start: int, stop: int) -> ChangeCue:
    """The cue with the fewest characters between it and a mention; of two the first."""
    return min(found, key=lambda cue: max(cue.start - stop, start - cue.stop, 0))


@functools.cache
def _patterns() -> dict[Change, tuple[re.Pattern[str], ...]]:
    return {change: tuple(re.compile(rf"\b(?:{one})\b") for one in several) for change, several in CUES.items()}


@functools.cache
def _compared() -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(rf"\b(?:{one})\b") for one in COMPARED)
