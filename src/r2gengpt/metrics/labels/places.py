"""Where a report says that its findings lie: side and height of each, by rules. Scores nothing, sees no film.

A word of place belongs to the mention that is nearest to it in its part of the sentence; parts end at commas, "and",
"with" and the like. A part without a mention belongs to the one before it ("effusions, right greater than left"). A
mention without a word of place takes those of the mention before it where these stand in front of both ("left
lower lobe atelectasis and effusion"), and those after it in a list ("atelectasis and effusion at the left base").
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from r2gengpt.metrics.labels.reading import THERE, Mention, mentions, sentences
from r2gengpt.text.observations import NO_FINDING

LEFT, RIGHT = "left", "right"
UPPER, MIDDLE, LOWER, HILAR = "upper", "middle", "lower", "hilar"
WITHOUT_A_PLACE = (NO_FINDING, "Cardiomegaly", "Enlarged Cardiomediastinum")
"""Observations of the middle of the chest: a side beside them is another one's."""
_BOTH = (LEFT, RIGHT)
_NOT_A_SIDE = r"(?! (?:heart failure|ventric\w+|atri\w+|lateral (?:decubitus|films?|views?|radiographs?)))"
"""What follows a side that names a part of the heart, or how the film was taken."""
_NOT_WHERE_TO = "".join(f"(?<!{word} to the )" for word in ("shift", "shifted", "deviation", "deviated", "rotated"))
_NO_MARK = r"(?![.'\d])"
_WORDS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (r"bi-?bas(?:al|ilar|es)", _BOTH, LOWER),
    (r"bi-?apic(?:al|es)", _BOTH, UPPER),
    (r"bilat(?:eral\w*)?|b/l|both|bi-?lobar", _BOTH, ""),
    (rf"{_NOT_WHERE_TO}(?:left(?:ward|-?sided)?|lt|l(?!/){_NO_MARK}){_NOT_A_SIDE}", (LEFT,), ""),
    (rf"{_NOT_WHERE_TO}(?:right(?:ward|-?sided)?|rt|r(?!/){_NO_MARK}){_NOT_A_SIDE}", (RIGHT,), ""),
    (r"lul|luz", (LEFT,), UPPER),
    (r"lll|llz", (LEFT,), LOWER),
    (r"lmz", (LEFT,), MIDDLE),
    (r"lingul\w+", (LEFT,), MIDDLE),
    (r"retro-?cardiac", (LEFT,), LOWER),
    (r"rul|ruz", (RIGHT,), UPPER),
    (r"rml|rmz", (RIGHT,), MIDDLE),
    (r"rll|rlz", (RIGHT,), LOWER),
    (r"upper(?! limits)|uz|ap(?:ex|ices|ical\w*)|supra-?hilar", (), UPPER),
    (r"mz|mid(?:dle)?(?:-? ?lungs?)?", (), MIDDLE),
    (r"lower(?! lung volumes?)|lz|bas(?:es?|al|ilar)|infra-?hilar|costo-?phrenic", (), LOWER),
    (r"(?:peri|para)?-?hil(?:ar|um|a)", (), HILAR),
)
"""Pattern, the sides it names, the height it names."""
_PLACE = re.compile("|".join(rf"\b(?P<w{i}>{pattern})\b" for i, (pattern, _, _) in enumerate(_WORDS)))
_OF_NO_FINDING = re.compile(r"\b(?:clear|normal|unremarkable|rotat\w+|(?:not|none) (?:on|in|at))\b")
"""In a part of a sentence without a mention: its words of place are no finding's."""
_LINK = re.compile(r"[,;:/]|\b(?:and|or|(?<!consistent )(?<!compatible )with|without|but|while|whereas|versus|vs)\b")
_NEAR = 4
"""Mentions on either side of a word that are looked at for the nearest; some share their words."""
_LISTS = ("or", "versus", "vs", "/")
"""After these a mention shares the place of the one before it wherever that stands."""


@dataclass(frozen=True)
class Where:
    """What a report says of where an observation lies: sides, heights, and which height on which side."""

    sides: frozenset[str] = frozenset()
    heights: frozenset[str] = frozenset()
    both: frozenset[tuple[str, str]] = frozenset()

    def __or__(self, other: "Where") -> "Where":
        return Where(self.sides | other.sides, self.heights | other.heights, self.both | other.both)


@dataclass(frozen=True)
class _Word:
    """A word of place: where it stands, what it names."""

    start: int
    stop: int
    sides: tuple[str, ...]
    height: str


@dataclass
class _Group:
    """A mention with the words of place that are its own, and what links its part of the sentence to the one before."""

    mention: Mention
    link: str
    words: list[_Word]

    @property
    def leads(self) -> bool:
        """Whether its words of place stand before it."""
        return bool(self.words) and self.words[0].start < self.mention.start


def located(text: str) -> dict[str, Where]:
    """Each observation that a report asserts or doubts → where, as far as it says; those of the heart left out.

    >>> located("Opacity in the left lower lobe.")["Lung Opacity"].both == {("left", "lower")}
    True
    """
    found: dict[str, Where] = {}
    for sentence in sentences(text):
        for name, place in _of_sentence(sentence):
            found[name] = found.get(name, Where()) | place
    return found


def _of_sentence(sentence: str) -> Iterator[tuple[str, Where]]:
    ends = [match.start() for match in _LINK.finditer(sentence)]
    groups = _groups(sentence, ends)
    for group, words in zip(groups, _shared(groups), strict=True):
        mention = group.mention
        if mention.label in THERE and mention.observation not in WITHOUT_A_PLACE:
            yield mention.observation, _place(words, ends)


def _words(sentence: str) -> list[_Word]:
    found = []
    for match in _PLACE.finditer(sentence):
        _, sides, height = _WORDS[int(str(match.lastgroup)[1:])]
        found.append(_Word(match.start(), match.end(), sides, height))
    return found


def _groups(sentence: str, ends: Sequence[int]) -> list[_Group]:
    """The sentence's mentions in order, each with its own words of place."""
    named = sorted(set(mentions(sentence)), key=lambda one: (one.start, one.stop, one.observation))
    groups = [_Group(mention, _link(sentence, named, i), []) for i, mention in enumerate(named)]
    parts = [_part(group.mention.start, ends) for group in groups]
    for word in _words(sentence) if groups else ():
        if (owner := _owner(sentence, word, groups, parts, ends)) is not None:
            owner.words.append(word)
    return groups


def _link(sentence: str, named: Sequence[Mention], place: int) -> str:
    """The last link between a mention and the one before it; empty: none."""
    if not place:
        return ""
    links = _LINK.findall(sentence, named[place - 1].stop, max(named[place - 1].stop, named[place].start))
    return links[-1] if links else ""


def _owner(
    sentence: str, word: _Word, groups: Sequence[_Group], parts: Sequence[int], ends: Sequence[int]
) -> _Group | None:
    """The group of a word: the nearest in its part of the sentence, else the one before, else the first.

    None where its part says that something is normal, or that there is nothing. `parts`: of each group, in order.
    """

    def distance(group: _Group) -> int:
        return max(word.start - group.mention.stop, group.mention.start - word.stop)

    mine = _part(word.start, ends)
    first, last = bisect_left(parts, mine), bisect_right(parts, mine)
    if first < last:
        place = bisect_left(groups, word.start, first, last, key=lambda group: group.mention.start)
        return min(groups[max(first, place - _NEAR) : min(last, place + _NEAR)], key=distance)
    if _OF_NO_FINDING.search(sentence, *_bounds(mine, ends, len(sentence))):
        return None
    return groups[max(0, first - 1)]


def _shared(groups: Sequence[_Group]) -> list[list[_Word]]:
    """Each group's words of place, or those that it shares with a neighbour."""
    found = [list(group.words) for group in groups]
    lends = [group.leads for group in groups]
    for i in range(1, len(groups)):
        if not found[i] and (lends[i - 1] or not groups[i].link or groups[i].link in _LISTS):
            found[i], lends[i] = found[i - 1], lends[i - 1]
    for i in range(len(groups) - 2, -1, -1):
        following = groups[i + 1]
        if not found[i] and following.link in ("", "and", *_LISTS, ",") and not following.leads:
            found[i] = found[i + 1]
    return found


def _place(words: Sequence[_Word], ends: Sequence[int]) -> Where:
    """Sides, heights, and each height on the side that is named with it."""
    sides = frozenset(side for word in words for side in word.sides)
    heights = frozenset(word.height for word in words if word.height)
    named = [word for word in words if word.sides and not word.height]
    both = {(side, word.height) for word in words if word.height for side in word.sides or _side(word, named, ends)}
    return Where(sides, heights, frozenset(both))


def _side(height: _Word, named: Sequence[_Word], ends: Sequence[int]) -> tuple[str, ...]:
    """The sides of the nearest word in the same part of the sentence, else before, else after, that names no height."""
    place = bisect_left(named, height.start, key=lambda word: word.start)
    mine = _part(height.start, ends)

    def away(word: _Word) -> tuple[bool, bool, int]:
        apart = _part(word.start, ends) != mine
        return apart, apart and word.start > height.start, abs(word.start - height.start)

    return min(named[max(0, place - 1) : place + 1], key=away).sides if named else ()


def _bounds(part: int, ends: Sequence[int], length: int) -> tuple[int, int]:
    """Where a part of a sentence begins and ends."""
    return (0, *ends)[part], (*ends, length)[part]


def _part(place: int, ends: Sequence[int]) -> int:
    """The number of the part of a sentence that a character lies in."""
    return bisect_left(ends, place)
