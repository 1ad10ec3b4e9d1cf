"""Penn Treebank words as coco-caption finds them, without Java. No sentence splitting, no cleaning, no metric.

Meant to equal CoreNLP 3.4.1's `PTBTokenizer -preserveLines -lowerCase` followed by coco-caption's removal of
punctuation (`pycocoevalcap/tokenizer/ptbtokenizer.py`). It was written from the published Penn Treebank rules (split
contractions, keep abbreviations' periods, rename brackets and quotes) and from the output of the jar in pycocoevalcap's
wheel, as a black box: its source and its lexer were not read. Compared were the 2,955 reports of IU X-ray and all other
notes at hand (2,488 different texts, all equal), 20,000 lines of report-like pieces (all equal), 20,000 reports with
drawn misprints (all equal), and 120,000 lines of drawn characters, web addresses, dates, quotes and signs
(docs/metrics.md has the number that differ, benchmarks/ptb.py counts again).

Two consequences of coco-caption's order of steps are kept: brackets stay as the words "-lrb-", "-rrb-" (lowered before
they are looked up), and a phone number or fraction with blanks is one word with no-break spaces.

Differs: a line break of any kind is a blank here, where coco-caption loses step with its lines and lets the next text
decide whether a last letter is an initial. Letters that entered Unicode after version 6 are dropped there and here.
"""

import re
from collections.abc import Iterator

from r2gengpt.metrics.ptb_characters import DIGITS, LETTERS, MARKS, SYMBOLS
from r2gengpt.metrics.ptb_rules import LINKED, NEXT_IS_ENDING, SITE, SOFT, WITHIN, Kind, Rule, rules
from r2gengpt.metrics.ptb_words import ENDING, ENDING_CAPITALISED, LEADING, NUMBERING, PARTED, UNCAPITALISED

_COMMON = re.compile("([A-Za-z]{2,})[.,]?(?= |$)")
_CLOSING = re.compile("[.,;](?= |$)")
_SPECIAL = {*ENDING, *ENDING_CAPITALISED, *LEADING, *NUMBERING, *PARTED, *UNCAPITALISED}
_BREAKS = re.compile("[\n\r\v\f\x85\u2028\u2029]")
_SEEN = re.compile(f"[!-~{LETTERS}{DIGITS}{MARKS}{SYMBOLS}{SOFT}]")
_LETTER = re.compile(f"[{LETTERS}{MARKS}{SOFT}]|&[aeiouAEIOU](?i:acute|grave|uml);")
_DIGIT = re.compile(f"[{DIGITS}]")
_PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""What coco-caption removes. Its "-LRB-", "-RRB-", "-LCB-" and "-RCB-" are never met, as words are lowered before."""

_QUOTE = {
    **dict.fromkeys("\u2018\u201b\u2039\x91`", "`"),
    **dict.fromkeys("\u2019\u203a\x92'", "'"),
    **dict.fromkeys("\u201c\u00ab\x93", "``"),
    **dict.fromkeys('\u201d\u00bb\x94"', "''"),
}
_QUOTES = re.compile(f"[{re.escape(''.join(_QUOTE))}]+")
_DASH_OR_DOTS = re.compile(r"-{2,4}|[\u2013-\u2015\x96\x97\u2026]|\.[ .]*\.")
_ENDING = re.compile(f"n{WITHIN}t|(?:['\u2019\x92]|&apos;)(?:[smd]|re|ve|ll)")
_RENAMED = {
    **{"\u00a3": "#", "\u00a2": "cents", **dict.fromkeys("\u20ac\x80\u00a4\u20a0", "$")},
    **{"\u00bc": "1/4", "\u00bd": "1/2", "\u00be": "3/4", "\u2153": "1/3", "\u2154": "2/3"},
    **{"[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-", SOFT: "-"},
    **{
        "&lt;": "<",
        "&gt;": ">",
        "&nbsp;": "",
        "&mdash;": "--",
        "&ndash;": "--",
        "&md;": "--",
        "&quot;": "''",
        "&apos;": "'",
    },
}
_INSIDE = ((SOFT, ""), (" ", "\u00a0"), ("\t", "\u00a0"), ("(", "-lrb-"), (")", "-rrb-"))


def ptb(text: str) -> str:
    """The words of a text in lower case, separated by blanks, without punctuation.

    >>> ptb("The heart isn't enlarged (2 views).")
    "the heart is n't enlarged -lrb- 2 views -rrb-"
    """
    return " ".join(words(text))


def words(text: str) -> Iterator[str]:
    """The words of a text in lower case, without punctuation."""
    text = _BREAKS.sub(" ", text)
    failed: dict[Rule, int] = {}
    place = 0
    while place < len(text):
        common = _COMMON.match(text, place)
        if common and (lowered := common[1].lower()) not in _SPECIAL:
            yield lowered
            place = common.end()
            continue
        end = None if _CLOSING.match(text, place) else _end(text, place, failed)
        if end is None:
            place += 1
            continue
        yield from (word for word in _spelt(text, place, end) if word and word not in _PUNCTUATION)
        place = end


def _end(text: str, place: int, failed: dict[Rule, int]) -> int | None:
    """Where the word ends that begins here; none begins at a blank or at a character that is dropped.

    `failed` holds the place up to which a rule is known to fail.
    """
    if text[place].isspace():
        return None
    if not _SEEN.match(text, place):
        site = SITE.match(text, place)
        return site.end() if site else None
    kind: Kind = "letter" if _LETTER.match(text, place) else "digit" if _DIGIT.match(text, place) else "other"
    longest, end = 0, place + 1
    for rule in rules(kind):
        if failed.get(rule, 0) > place:
            continue
        match = rule.pattern.match(text, place)
        if match is None and rule.run is not None:
            run = rule.run.match(text, place)
            failed[rule] = run.end() if run else 0
        if match and match.end() > longest:
            longest = match.end()
            end = match.end("word") if "word" in rule.pattern.groupindex else longest
    return end


def _spelt(text: str, place: int, end: int) -> tuple[str, ...]:
    """The word from `place` to `end` as it is written out: two words for "cannot"."""
    word, lowered = text[place:end], text[place:end].lower()
    if lowered in PARTED and not NEXT_IS_ENDING.match(text, end):
        return lowered[: PARTED[lowered]], lowered[PARTED[lowered] :]
    if _QUOTES.fullmatch(word):
        return ("".join(_QUOTE[mark] for mark in word),)
    if _DASH_OR_DOTS.fullmatch(word):
        return ()
    if lowered in _RENAMED and word not in ("&QUOT;", "&APOS;"):
        return (_RENAMED[lowered],)
    if _ENDING.fullmatch(lowered):
        return (re.sub("[\u2018\u201b\x91]", "`", re.sub("[\u2019\x92]|&apos;", "'", lowered)),)
    if lowered == "&amp;" or LINKED.fullmatch(word):
        lowered = lowered.replace("&amp;", "&")
    for old, new in _INSIDE if "@" not in word else ():
        lowered = lowered.replace(old, new)
    return (lowered,)
