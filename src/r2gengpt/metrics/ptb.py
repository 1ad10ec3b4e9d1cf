"""Penn Treebank words as coco-caption finds them, without Java. No sentence splitting, no cleaning, no metric.

Equal to CoreNLP 3.4.1's `PTBTokenizer -preserveLines -lowerCase` followed by coco-caption's removal of punctuation
(`pycocoevalcap/tokenizer/ptbtokenizer.py`). Its source was not open while this was written: patterns come from trying
that program, some (phone numbers, addresses, elisions) first from memory of its lexer (GPL). The tests compare both.
Two consequences of coco-caption's order of steps are kept: brackets stay as the words "-lrb-", "-rrb-" (lowered
before they are looked up), and a phone number or fraction with blanks is one word with no-break spaces.

Differs: a line break of any kind is a blank here, where coco-caption loses step with its lines; scripts whose letters
entered Unicode after version 6 are dropped there. The rules are in `ptb_lists` and `ptb_patterns`.
"""

import functools
import re
from collections.abc import Iterator

from r2gengpt.metrics.ptb_lists import ABBREVIATIONS, BEFORE_NUMBERS, CONTRACTIONS, NAMES, PUNCTUATION, SPELLINGS
from r2gengpt.metrics.ptb_patterns import BLANKS, KEPT, rules

_PLAIN = re.compile("([A-Za-z]{2,})[.,]?")
_NEVER_PLAIN = {*ABBREVIATIONS, *BEFORE_NUMBERS, *CONTRACTIONS, *(name.lower() for name in NAMES)}
_BREAKS = re.compile("[\n\r\v\f\u2028\u2029]")
_DOTS_OR_DASHES = re.compile("-{2,4}|\\.[ \u00a0.]*")
_QUOTE = re.compile("[\u2018-\u201f\u00ab\u00bb\u2039\u203a\x91-\x94]|&apos;")
_CURVED = re.compile("[\u2018-\u201f\u00ab\u00bb\u2039\u203a\x91-\x94]{2}")
_ENDING = re.compile(f"(?i:n?(?:{_QUOTE.pattern})(?:[mstd]|re|ve|ll))")
_INSIDE = (("\u00ad", ""), (" ", "\u00a0"), ("\t", "\u00a0"), ("(", "-lrb-"), (")", "-rrb-"), ("&amp;", "&"))


def ptb(text: str) -> str:
    """The words of a text in lower case, joined by single spaces, punctuation removed.

    >>> ptb('The heart isn\\'t enlarged (T1/T2), 3.5 cm "mass" vs. x-ray.')
    "the heart is n't enlarged -lrb- t1/t2 -rrb- 3.5 cm mass vs. x-ray"
    """
    return " ".join(word for word in words(text) if word not in PUNCTUATION)


def words(text: str) -> Iterator[str]:
    """The tokens in lower case, in order; of those that coco-caption removes some are left out."""
    text = _BREAKS.sub(" ", text)
    place = 0
    while place < len(text):
        end = text.find(" ", place)
        end = len(text) if end < 0 else end
        if (word := _plain(text[place:end])) is not None:
            yield word
            place = end + 1
        elif end == place or (end == place + 1 and text[place] in ".," and text[end + 1 : end + 2].isalpha()):
            place = end + 1
        elif blanks := BLANKS.match(text, place):
            place = blanks.end()
        else:
            place, found = _next(text, place)
            yield from found


@functools.lru_cache(maxsize=1 << 15)
def _plain(piece: str) -> str | None:
    """The word of a piece between blanks that no neighbour can change, with at most a full stop or comma; else None."""
    if (found := _PLAIN.fullmatch(piece)) is None:
        return None
    word = found[1].lower()
    return None if word in _NEVER_PLAIN else word


def _next(text: str, place: int) -> tuple[int, list[str]]:
    """Where the token that begins at `place` ends, and what it becomes (nothing, or two words of a contraction).

    The longest match wins, what a pattern looks ahead at included; of equally long ones the first.
    """
    longest, taken = place, place
    for rule in rules(text[place]):
        found = rule.match(text, place)
        if found is not None and found.end() > longest:
            longest, taken = found.end(), found.end(1) if rule.groups else found.end()
    token = text[place : max(taken, place + 1)]
    if longest == place and not KEPT.match(token):
        return place + 1, []
    if taken == longest and (split := CONTRACTIONS.get(token.lower())) is not None:
        return taken, [token[:split].lower(), token[split:].lower()]
    return place + len(token), [_spelt(token)]


def _spelt(token: str) -> str:
    """A token as CoreNLP writes it, in lower case."""
    if (spelling := SPELLINGS.get(token)) is not None:
        return spelling
    if _DOTS_OR_DASHES.fullmatch(token):
        return token[0] * 2 if token[0] == "-" else "..."
    if _ENDING.fullmatch(token) or _CURVED.fullmatch(token):
        token = _QUOTE.sub(lambda mark: SPELLINGS.get(mark.group(), mark.group()), token)
    for old, new in _INSIDE:
        token = token.replace(old, new)
    return token.lower()
