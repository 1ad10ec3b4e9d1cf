"""Penn Treebank words as regular expressions, each for the words that begin with one kind of character. Cuts no text.

The longest match is the word, and the first rule of two as long. What a rule matches after its group `word` is read
and counted, but belongs to the words that follow.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from r2gengpt.metrics.ptb_characters import DIGITS, LETTERS, MARKS
from r2gengpt.metrics.ptb_words import ENDING, ENDING_CAPITALISED, LEADING, NUMBERING, PARTED, STARTERS, SUFFIXES

Kind = Literal["letter", "digit", "other"]

SOFT = "\u00ad"
"""The soft hyphen: a letter that is not written."""
APOSTROPHE = "(?:['\u2019\x92]|&apos;)"
"""Before an ending and at an elision."""
WITHIN = "(?:['\u2018\u2019\u201b\x91\x92`]|&apos;)"
"""An apostrophe with letters of one word on both sides."""
SPACE = "[ \t\u00a0]"


@dataclass(frozen=True)
class Rule:
    """What one kind of word looks like.

    `run` is what such words are made of, for rules that read far: where one fails, it fails in the whole run.
    """

    pattern: re.Pattern[str]
    run: re.Pattern[str] | None = None


def _any(words: Sequence[str]) -> str:
    return "|".join(word.replace(".", "[.]") for word in sorted(words, key=len, reverse=True))


def _capitalised(words: Sequence[str]) -> str:
    """The words with a capital first and the other letters in any case."""
    return "|".join(f"{word[0].upper()}(?i:{word[1:]})" for word in sorted(words, key=len, reverse=True))


# Words, joined or not
_LD = f"[{LETTERS}{DIGITS}]"
_ACCENTED = "&[aeiouAEIOU](?i:acute|grave|uml);"
_WORD = f"(?:[{LETTERS}{MARKS}{SOFT}]|{_ACCENTED})(?:[{LETTERS}{DIGITS}{MARKS}{SOFT}]|{_ACCENTED})*"
_ELIDED = f"[dloDLO]{WITHIN}{_LD}{{2,}}"
_PART = f"(?:{_ELIDED}|{_LD}+)"
_HYPHENED = rf"{_PART}(?:[-_\u058a\u2010\u2011]{_PART})*"
_DOTTED = rf"{_WORD}(?:\.{_WORD})+"
_INITIALS = r"[A-Za-z](?:\.[A-Za-z])+\."
_POINTS = f"[A-Za-z0-9.,{SOFT}]"
_POINTED = rf"[A-Za-z0-9]{_POINTS}*(?:-(?:{_INITIALS}|[A-Za-z0-9{SOFT}]+))+"
_SLASHED = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}"
_ASKED = rf"{_WORD}(?:\.{_WORD})*(?:[!?]{_WORD}(?:\.{_WORD})*)+"
_LINKED = "[A-Z]+(?:(?:&(?i:amp;)?|[+])[A-Z]+)+"
_STOP = "\\.)[,;:\u3001]"
_STOPPED = rf"(?P<word>(?:{_HYPHENED}|{_WORD}|{_DOTTED}|{_ASKED}|{_LINKED}){_STOP}"

# Endings and abbreviations
_END = "(?:[smdSMD]|(?i:ll|re|ve))"
_CLITIC = rf"(?:'{_END}(?![A-Za-z])|(?:[\u2019\x92]|&apos;){_END})"
_BEFORE_CLITIC = rf"(?P<word>{_WORD}|{_HYPHENED}|{_DOTTED}){APOSTROPHE}{_END}"
_BEFORE_NOT = rf"(?P<word>[A-Za-z{SOFT}]*[A-MO-Za-mo-z])[nN]{WITHIN}[tT]"
_ENDING = f"(?i:{_any(ENDING)}|p?p(?-i:t[ey]s?))|[Pp]Te|{_capitalised(ENDING_CAPITALISED)}"

# Addresses
_PATH = '(?:/[^ \t\n"<>|()]+[^ \t\n"<>|(){}.,!?-])?'
_URL = '(?i:https?)://[^ \t\n"<>|(){}]+[^ \t\n"<>|(){}.,!?-]'
_LABEL = "[^\x00-\"$'-),-/0-@A-Z\\[-`{-}\x7f\u00a0]+"
_SITE = rf"{_LABEL}(?:\.{_LABEL})*\.(?i:com|net|org|edu){_PATH}"
_WWW_LABELS = '(?:[^ \t\n"<>|(){}\u00a0.]+\\.)+'
_WWW = rf"(?i:www\.){_WWW_LABELS}[A-Za-z]{{2,4}}{_PATH}"
_IN_MAIL = '[^ \t\n"<>|(){}\u00a0]'
_MAIL = rf'[A-Za-z0-9]{_IN_MAIL}*@(?:[^ \t\n"<>|(){{}}\u00a0.]+\.)*[^ \t\n"<>|(){{}}\u00a0.]+>?'
_FILE = rf"(?P<word>{_LD}+(?:\.{_LD}+)*\.(?i:{_any(SUFFIXES)}))(?:[ \t\u00a0!,.?]|$)"

# Numbers
_D = f"[{DIGITS}]"
_NUMBER = rf"(?:{_D}*(?:[.,:\u066b\u066c]{SOFT}?{_D}+)+|{_D}+(?:{SOFT}{_D}+)*){SOFT}?"
_FRACTION = rf"(?:{_D}{{1,4}}[- \u00a0])?{_D}{{1,4}}[/\u2044]{_D}{{1,4}}"
_DATE = rf"{_D}{{1,2}}[-/]{_D}{{1,2}}[-/]{_D}{{2,4}}"
_SEPARATOR = "[- \u00a0]"
_AREA = rf"(?:\({_D}{{2,3}}\)[ \u00a0]?|(?:\+\+?)?(?:{_D}{{2,4}}{_SEPARATOR}){{1,2}})"
_PHONE = rf"{_AREA}{_D}{{3,4}}{_SEPARATOR}?{_D}{{3,5}}"

# Signs
_SMILE = r"[<>]?[:;=][-'*o]?[()\[\]{|\\DPpdO@](?![A-Za-z0-9])"
_FACE = r"\([-x<>=^~'][_.]?[-x<>=^~']\)|[-x<>=^~']_[-x<>=^~']"
_NAME = "[A-Za-z][A-Za-z0-9_:.-]*"
_TAG = rf"<(?:{_NAME}(?: +{_NAME}(?: *= *(?:'[^']*'|\"[^\"]*\"))?)* */?|/{_NAME} *|[!?][A-Za-z-][^>]*)>"
_ENTITY = r"&(?i:amp|lt|gt|nbsp|mdash|ndash|quot|apos|ht|lr|md|q[clr]|tl|ur|[co]dq);|&#[0-9]+;"
_QUOTES = "[\u2018-\u201f\u2039\u203a\u00ab\u00bb\x91-\x94`]{2}"

NEXT_IS_ENDING = re.compile(f"{APOSTROPHE}{_END}|[nN]{WITHIN}[tT]")
SITE = re.compile(_SITE)
LINKED = re.compile(_LINKED)
_PLAIN: dict[Kind, tuple[str, ...]] = {
    "letter": (
        rf"(?P<word>[A-Za-z])\.{SPACE}+(?:{_capitalised(STARTERS)}|{_TAG}){SPACE}",
        _BEFORE_NOT,
        rf"[nN]{WITHIN}[tT]",
        f"{SOFT}{_NUMBER}",
        _BEFORE_CLITIC,
        *(rf"(?i:{word})" for word in PARTED),
        _SLASHED,
        _DOTTED,
        _HYPHENED,
        rf"(?P<word>(?:{_ENDING})\.)(?s:.{{0,2}})",
        rf"(?:(?i:{_any(LEADING)})|(?i:m)(?:f|t)(?i:g))\.",
        r"[A-Za-z]\.",
        rf"(?P<word>(?i:{_any(NUMBERING)})\.) ?{_D}",
        _STOPPED,
        _INITIALS,
        rf"[nA-HJ-KM-NP-XZ]{WITHIN}[{LETTERS}]{{2,}}",
        rf"[{LETTERS}]+[aeiouyAEIOUY]{WITHIN}[aeiouA-Z][{LETTERS}]*",
        rf"(?i:c'mon|n?e'er|s'mores|c{APOSTROPHE}est|cap{APOSTROPHE}n)",
        rf"(?:[djlDJL]|(?i:ol)){APOSTROPHE}",
        rf"[yY]{APOSTROPHE}(?=[{LETTERS}])",
        _FILE,
        _WORD,
        r"[A-Z]+\$",
        _LINKED,
        r"[cC]\+\+|[cCfF]#",
        r"(?i:anti|pro)-",
        _ASKED,
        _FACE,
        _URL,
    ),
    "digit": (_SLASHED, _FRACTION, _DATE, _PHONE, _HYPHENED, _STOPPED, _FILE, _NUMBER),
    "other": (
        rf"[-+]?{SOFT}?{_NUMBER}",
        _PHONE,
        _CLITIC,
        rf"{APOSTROPHE}[nN]{APOSTROPHE}",
        rf"{APOSTROPHE}(?i:em|till?|cause)|(?:[\u2019\x92]|&apos;)[nN]|'[nN](?={SPACE}|$)",
        rf"{APOSTROPHE}(?:[2-9]0[sS]|[0-9]{{2}}(?={SPACE}|$))",
        r"(?P<word>'[tT])(?i:is|was)",
        r"-[lrLR][csrCSR][bB]-",
        _SMILE,
        _FACE,
        _ENTITY,
        r"\.{3,}|\. \.(?: \.)+",
        r"[!?]+",
        _QUOTES,
        r"-{2,}|_+|#+|@+|\*+|<{2}|>{2}|(?:\\\*)+|``|''",
        rf"#[{LETTERS}{MARKS}]+",
        r"@[A-Za-z_][A-Za-z0-9_]*",
    ),
}
_FAR: dict[Kind, tuple[tuple[str, str], ...]] = {
    "letter": (
        (_POINTED, f"[A-Za-z0-9]{_POINTS}*"),
        (rf"(?P<word>{_POINTED}{_STOP}", f"[A-Za-z0-9]{_POINTS}*"),
        (_SITE, rf"{_LABEL}(?:\.{_LABEL})*"),
        (_WWW, rf"(?i:www\.){_WWW_LABELS}"),
        (_MAIL, f"[A-Za-z0-9]{_IN_MAIL}*"),
    ),
    "digit": (
        (_POINTED, f"[A-Za-z0-9]{_POINTS}*"),
        (rf"(?P<word>{_POINTED}{_STOP}", f"[A-Za-z0-9]{_POINTS}*"),
        (_MAIL, f"[A-Za-z0-9]{_IN_MAIL}*"),
    ),
    "other": (
        (_TAG, "<[!?][A-Za-z-][^>]*"),
        (_SITE, rf"{_LABEL}(?:\.{_LABEL})*"),
        (f"(?:<|&lt;){_MAIL}", f"(?:<|&lt;){_IN_MAIL}*"),
    ),
}
"""Rules that may read on to the end of a text, each with its run."""


@cache
def rules(kind: Kind) -> tuple[Rule, ...]:
    """The rules for words that begin with a character of the kind."""
    plain = tuple(Rule(re.compile(pattern)) for pattern in _PLAIN[kind])
    return plain + tuple(Rule(re.compile(pattern), re.compile(run)) for pattern, run in _FAR[kind])
