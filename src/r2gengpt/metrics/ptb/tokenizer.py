"""Penn Treebank words as coco-caption finds them, without Java. No sentence splitting, no cleaning, no metric.

Meant to equal CoreNLP 3.4.1's `PTBTokenizer -preserveLines -lowerCase` followed by coco-caption's removal of
punctuation (`pycocoevalcap/tokenizer/ptbtokenizer.py`). It was written from the published Penn Treebank rules (split
contractions, keep abbreviations' periods, rename brackets and quotes) and from the output of the jar in pycocoevalcap's
wheel, as a black box: neither its source nor its lexer was read. Compared by `benchmarks/ptb.py`:

- 2,409 different reports (all of IU X-ray's 2,955, and 143 case notes): none differs.
- 560,000 drawn lines (`--lines 40000`, seeds 11 and 12): one differs. They are report-like pieces, characters,
  mixtures, glued pieces, pieces with a character changed, characters of all scripts, and misprinted reports.
- 2,533,086 lines without chance (`--all_forms True`: short elisions, entities, endings, signs, phone numbers and
  addresses): none differs.

Not found by these, and different: single longer words that keep an apostrophe there, such as "nor'easter".

Two consequences of coco-caption's order of steps are kept: brackets stay as the words "-lrb-", "-rrb-" (lowered before
they are looked up), and a phone number or fraction with blanks is one word with no-break spaces.

Differs: a line break of any kind is a blank here, where coco-caption loses step with its lines and lets the next text
decide whether a last letter is an initial. Letters that entered Unicode after version 6 are dropped there and here.
"""

import re
from collections.abc import Iterator

from r2gengpt.metrics.ptb.characters import DIGITS, LETTERS, MARKS, SYMBOLS
from r2gengpt.metrics.ptb.rules import (
    APOSTROPHE,
    ENDING,
    ENDING_CAPITALISED,
    LEADING,
    LINKED,
    NEXT_IS_ENDING,
    NUMBERING,
    PARTED,
    SOFT,
    UNCAPITALISED,
    WITHIN,
    Kind,
    Rule,
    rules,
)

_COMMON = re.compile("(?: *[A-Za-z]{2,}[.,]?(?= |$)){1,32}")
"""Most of a report: words of letters, each alone or before a full stop or a comma. A match is short, as it may be read
again from its second word."""
_CLOSING = re.compile("[.,;](?= (?![.])|$)")
_SPECIAL = {
    *(f"{word}." for word in (*ENDING, *ENDING_CAPITALISED, *LEADING, *NUMBERING, *UNCAPITALISED)),
    *(word + mark for word in PARTED for mark in ("", ".", ",")),
}
"""Words of letters, with what follows, that are not just themselves."""
_BREAKS = re.compile("[\n\r\v\f\x85\u2028\u2029]")
_BLANKS = re.compile("[ \t\n][ \t\u00a0\u2000-\u200a\u3000]*")
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
_QUOTES = re.compile(f"[{re.escape(''.join(_QUOTE))}\u201a\u201e\u201f]+")
_DASH_OR_DOTS = re.compile(r"-{2,4}|[\u2013-\u2015\x96\x97\u2026]|\.[ .]*\.")
_ENDING = re.compile(f"n{WITHIN}t|{APOSTROPHE}(?:[smd]|re|ve|ll)")
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
    text = _BREAKS.sub(" ", text) + "\n"
    failed: dict[Rule, int] = {}
    place = 0
    while place < len(text):
        if common := _COMMON.match(text, place):
            for word in common[0].lower().split(" "):
                if word in _SPECIAL:
                    break
                if word:
                    yield word.rstrip(".,")
                place += len(word) + 1
            else:
                place = common.end()
                continue
        if blanks := _BLANKS.match(text, place):
            place = blanks.end()
            continue
        end, kept = (None, False) if _CLOSING.match(text, place) else _end(text, place, failed)
        if end is None:
            place += 1
            continue
        spelt = (text[place:end].lower().replace(" ", "\u00a0"),) if kept else _spelt(text, place, end)
        yield from (word for word in spelt if word and word not in _PUNCTUATION)
        place = end


def _end(text: str, place: int, failed: dict[Rule, int]) -> tuple[int | None, bool]:
    """Where the word ends that begins here, and whether it is kept; none begins at a character that is dropped.

    `failed` holds the place up to which a rule is known to fail.
    """
    kind = _kind(text, place)
    longest, end, kept = 0, None if kind == "dropped" else place + 1, False
    for rule in rules(kind, text.isascii()):
        if failed.get(rule, 0) > place:
            continue
        match = rule.pattern.match(text, place)
        if match is None and rule.run is not None and (run := rule.run.match(text, place)):
            failed[rule] = run.end()
        if match and match.end() > longest:
            longest, kept = match.end(), rule.kept
            end = match.end("word") if "word" in rule.pattern.groupindex else longest
    return end, kept


def _kind(text: str, place: int) -> Kind:
    """What the character at a place can begin: nothing but a site's name, if it is dropped."""
    if not _SEEN.match(text, place):
        return "dropped"
    return "letter" if _LETTER.match(text, place) else "digit" if _DIGIT.match(text, place) else "other"


def _spelt(text: str, place: int, end: int) -> tuple[str, ...]:
    """The word from `place` to `end` as it is written out: two words for "cannot"."""
    word, lowered = text[place:end], text[place:end].lower()
    if lowered in PARTED and not NEXT_IS_ENDING.match(text, end):
        return lowered[: PARTED[lowered]], lowered[PARTED[lowered] :]
    if _QUOTES.fullmatch(word):
        return ("".join(_QUOTE.get(mark, mark) for mark in word),)
    if _DASH_OR_DOTS.fullmatch(word):
        return ()
    if lowered in _RENAMED and (word == lowered or lowered not in ("&quot;", "&apos;")):
        return (_RENAMED[lowered],)
    if _ENDING.fullmatch(lowered):
        return (re.sub("[\u2018\u201b\x91]", "`", re.sub("[\u2019\x92]|&apos;", "'", word)).lower(),)
    if lowered == "&amp;" or LINKED.fullmatch(word):
        lowered = lowered.replace("&amp;", "&")
    for old, new in _INSIDE:
        lowered = lowered.replace(old, new)
    return (lowered,)
