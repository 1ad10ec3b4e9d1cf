"""Penn Treebank words as regular expressions, each for the words that begin with one kind of character. Cuts no text.

Each was found by trying: CoreNLP 3.4.1 was given every combination of up to four letters and 500,000 longer words, in
lower case, capitalised and in capitals, and its output read.

The longest match is the word, and the first rule of two as long. What a rule matches after its group `word` is read
and counted, but belongs to the words that follow.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from r2gengpt.metrics.ptb.characters import DIGITS, LETTERS, MARKS


def _split(words: str) -> tuple[str, ...]:
    return tuple(words.split())


ENDING = _split(
    "al ala apr ariz assn aug bhd bldg blvd bros calif co colo conn corp cos ct dak dec esq est etc ext feb fla fri ga"
    " inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb nev nov oct okla penn plc rd rt sep"
    " sept seq sq sr sys tel tenn thu thurs tue tues univ va vt wed wis wisc wyo ed.d ph.d"
)
"""Abbreviations that keep their period and may end a sentence."""
ENDING_CAPITALISED = _split("ark az del ill la mass miss ore pa tex wash")
"""As `ENDING`, if they begin with a capital: words without."""
LEADING = _split(
    "adj adm adv alex assoc asst atty ave brig capt cf cie cmdr col comdr cpl dept det dr drs elec ens ft gen gov govs"
    " hon insp invt jos lieut lt maj mlle mme mr mrs ms msgr mt natl pfc ph pres prof profs pvt rep reps rev sen sens"
    " sfc sgt spc st ste supt treas vs wm"
)
"""Abbreviations that keep their period and stand before another word."""
UNCAPITALISED = _split("pte ptes pty ptys ppte ppty mfg mtg")
"""Abbreviations that keep their period, but not all in capitals."""
NUMBERING = _split("art ca fig figs no nos op pp prop")
"""Abbreviations that keep their period before a number: words elsewhere."""
STARTERS = _split(
    "A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More Now Once One"
    " Other Our She Since So Some Such That The Their Then There These They This We What When While Yet You"
)
"""Words that begin a sentence: a single letter before one is no initial."""
PARTED = {"cannot": 3, "gimme": 3, "gonna": 3, "gotta": 3, "lemme": 3, "wanna": 3}
"""Word → the letters of the first of the two words that it stands for."""
SUFFIXES = _split(
    "bat bmp c cgi class cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov pdf php pl png ppt ps py sql tar"
    " txt wav x xml zip"
)
"""What a file's name ends with, after a period."""


Kind = Literal["letter", "digit", "other", "dropped"]

SOFT = "\u00ad"
"""The soft hyphen: a letter that is not written."""
APOSTROPHE = "(?:['\u2019\x92]|(?i:&apos;))"
"""Before an ending and at an elision."""
WITHIN = "(?:['\u2018\u2019\u201b\x91\x92`]|(?i:&apos;))"
"""An apostrophe with letters of one word on both sides."""
SPACE = "[ \t\u00a0]"


@dataclass(frozen=True)
class Rule:
    """What one kind of word looks like.

    `run` is what such words are made of, for rules that read far: where one fails, it fails in the whole run.
    `kept`: the word keeps its brackets and soft hyphens.
    """

    pattern: re.Pattern[str]
    run: re.Pattern[str] | None
    kept: bool


def _any(words: Sequence[str]) -> str:
    return "|".join(word.replace(".", "[.]") for word in words)


def _capitalised(words: Sequence[str]) -> str:
    """The words with a capital first and the other letters in any case."""
    return "|".join(f"{word[0].upper()}(?i:{word[1:]})" for word in words)


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
_POINTED_STOPPED = rf"(?P<word>{_POINTED}{_STOP}"
_STOPPED = rf"(?P<word>(?:{_HYPHENED}|{_WORD}|{_DOTTED}|{_ASKED}|{_LINKED}){_STOP}"

# Endings and abbreviations
_END = "(?:[smdSMD]|(?i:ll|re|ve))"
_CLITIC = rf"(?:'{_END}(?![A-Za-z])|(?:[\u2019\x92]|(?i:&apos;)){_END})"
_BEFORE_CLITIC = rf"(?P<word>{_WORD}|{_HYPHENED}|{_DOTTED}){APOSTROPHE}{_END}"
_BEFORE_NOT = rf"(?P<word>[A-Za-z{SOFT}]*[A-MO-Za-mo-z]{SOFT}*)[nN]{WITHIN}[tT]"
_ENDING = f"(?i:{_any(ENDING)}|p?p(?-i:t[ey]s?))|[Pp]Te|{_capitalised(ENDING_CAPITALISED)}"

# Addresses
_PATH = '(?:/[^ \t\n"<>|()]+[^ \t\n"<>|(){}.,!?-])?'
_URL = '(?i:https?)://[^ \t\n"<>|(){}]+[^ \t\n"<>|(){}.,!?-]'
_LABEL = "[^\x00\t-\r -\"$'-),-/0-@A-Z\\[-`{-}]+"
_SITE_RUN = rf"{_LABEL}(?:\.{_LABEL})*"
_SITE = rf"{_SITE_RUN}\.(?i:com|net|org|edu){_PATH}"
_WWW_LABELS = '(?:[^ \t\n"<>|(){}.,!?]+\\.)+'
_WWW = rf"(?i:www\.){_WWW_LABELS}[A-Za-z]{{2,4}}{_PATH}"
_IN_MAIL = '[^ \t\n"<>|(){}\u00a0]'
_MAIL = rf'[A-Za-z0-9]{_IN_MAIL}*@(?:[^ \t\n"<>|(){{}}\u00a0.]+\.)*[^ \t\n"<>|(){{}}\u00a0.]+>?'
_BRACKETED_MAIL = f"(?:<|&lt;){_MAIL}"
_STEM = f"[{LETTERS}{DIGITS}{MARKS}{SOFT}]+"
_FILE = rf"(?P<word>{_STEM}(?:\.{_STEM})*\.(?i:{_any(SUFFIXES)}))[ \t\n\u00a0!,.?]"

# Numbers
_D = f"[{DIGITS}]"
_NUMBER = rf"(?:{_D}*(?:[.,:\u066b\u066c{SOFT}]{_D}+)+|{_D}+)"
_FRACTION = rf"(?:{_D}{{1,4}}[- \u00a0])?{_D}{{1,4}}(?:\\?/|\u2044){_D}{{1,4}}"
_DATE = rf"{_D}{{1,2}}[-/]{_D}{{1,2}}[-/]{_D}{{2,4}}"
_SEPARATOR = "[- \u00a0]"
_AREA = rf"(?:\([0-9]{{2,3}}\)[ \u00a0]?|(?:\+\+?)?(?:[0-9]{{2,4}}{_SEPARATOR}){{1,2}})"
_PHONE = rf"{_AREA}[0-9]{{3,4}}{_SEPARATOR}?[0-9]{{3,5}}"

# Signs
_SMILE = r"[<>]?[:;=][-'*o]?[()\[\]{|\\DPpdO@](?![A-Za-z0-9])"
_FACE = r"\([-x<>=^~'][-_.]?[-x<>=^~']\)|[-x<>=^~']_[-x<>=^~']"
_NAME = "[A-Za-z][A-Za-z0-9_:.-]*"
_TAG = rf"<(?:{_NAME}(?: +{_NAME}(?: *= *(?:'[^']*'|\"[^\"]*\"))?)* */? *|/{_NAME} *|[!?][A-Za-z-][^>]*)>"
_ENTITY = r"&(?i:amp|lt|gt|nbsp|mdash|ndash|quot|apos|ht|lr|md|q[clr]|tl|ur|[co]dq);|&#[0-9]+;"
_RAISED = "[\u207a\u207b\u208a\u208b]?(?:[\u00b9\u00b2\u00b3\u2070\u2074-\u2079]+|[\u2080-\u2089]+)"
_HASHTAG = f"#[{LETTERS}{MARKS}{SOFT}]+"
_QUOTES = "[\u2018-\u201f\u2039\u203a\u00ab\u00bb\x91-\x94`]{2}"

NEXT_IS_ENDING = re.compile(f"{APOSTROPHE}{_END}|[nN]{WITHIN}[tT]")
LINKED = re.compile(_LINKED)
_PATTERNS: dict[Kind, tuple[str, ...]] = {
    "letter": (
        rf"(?P<word>[A-Za-z])\.{SPACE}+(?:{_capitalised(STARTERS)}|M(?i:[rs])\.|{_TAG})[ \t\n\u00a0]",
        _BEFORE_NOT,
        rf"[nN]{WITHIN}[tT]",
        _NUMBER,
        _BEFORE_CLITIC,
        *(rf"(?i:{word})" for word in PARTED),
        _SLASHED,
        _DOTTED,
        _HYPHENED,
        _MAIL,
        rf"(?P<word>(?:{_ENDING})\.)(?s:.{{0,2}})",
        rf"(?:(?i:{_any(LEADING)})|(?i:m)(?:f|t)(?i:g))\.",
        r"[A-Za-z]\.",
        rf"(?P<word>(?i:{_any(NUMBERING)})\.){SPACE}?{_D}",
        _STOPPED,
        _INITIALS,
        rf"[nA-HJ-KM-NP-XZ]{WITHIN}[{LETTERS}]{{2,}}",
        rf"[{LETTERS}]+[aeiouyAEIOUY]{WITHIN}[aeiouA-Z][{LETTERS}]*",
        "(?i:c'mon|ev'ry|li'l|n?e'er|nat'l|s'mores)",
        rf"(?i:c{APOSTROPHE}est|cap{APOSTROPHE}n|o{WITHIN}o|somethin{APOSTROPHE})",
        rf"(?:[djlDJL]|(?i:ol)){APOSTROPHE}",
        rf"[yY]{APOSTROPHE}(?=[{LETTERS}])",
        _WORD,
        r"[A-Z]+\$",
        _LINKED,
        r"[cC]\+\+|[cCfF]#",
        r"(?i:anti|pro)-",
        _ASKED,
        _FACE,
        _URL,
        _POINTED,
        _POINTED_STOPPED,
        _SITE,
        _WWW,
        _FILE,
    ),
    "digit": (
        *(_SLASHED, _FRACTION, _DATE, _PHONE, _HYPHENED, _STOPPED, _FILE, _NUMBER),
        *(_POINTED, _POINTED_STOPPED, _SITE, _MAIL),
    ),
    "other": (
        f"[-+]?{_NUMBER}",
        _PHONE,
        _CLITIC,
        rf"{APOSTROPHE}[nN]{APOSTROPHE}",
        rf"{APOSTROPHE}(?i:em|till?|cause)|(?:[\u2019\x92]|(?i:&apos;))[nN]|'[nN](?={SPACE}|$)",
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
        _HASHTAG,
        r"@[A-Za-z_][A-Za-z0-9_]*",
        _RAISED,
        _TAG,
        _SITE,
        _BRACKETED_MAIL,
    ),
    "dropped": (_SITE,),
}
_RUNS = {
    **dict.fromkeys([_POINTED, _POINTED_STOPPED], f"[A-Za-z0-9]{_POINTS}*"),
    _SITE: _SITE_RUN,
    _WWW: rf"(?i:www\.){_WWW_LABELS}",
    _MAIL: f"[A-Za-z0-9]{_IN_MAIL}*",
    _BRACKETED_MAIL: f"(?:<|&lt;){_IN_MAIL}*",
    _TAG: "<[!?][A-Za-z-][^>]*",
}
"""Patterns that may read on to the end of a text, each with its run."""
_KEPT = frozenset([_URL, _SITE, _WWW, _MAIL, _BRACKETED_MAIL, _FILE, _TAG, _HASHTAG])


@cache
def rules(kind: Kind, ascii_only: bool) -> tuple[Rule, ...]:
    """The rules for words that begin with a character of the kind.

    For texts of ASCII alone the tables of characters are short, and the rules ready in a tenth of the time.
    """
    return tuple(_rule(pattern, ascii_only) for pattern in _PATTERNS[kind])


def _rule(pattern: str, ascii_only: bool) -> Rule:
    run = _RUNS.get(pattern)
    return Rule(_compiled(pattern, ascii_only), _compiled(run, ascii_only) if run else None, pattern in _KEPT)


def _compiled(pattern: str, ascii_only: bool) -> re.Pattern[str]:
    if ascii_only:
        pattern = pattern.replace(LETTERS, "A-Za-z").replace(DIGITS, "0-9").replace(MARKS, "")
    return re.compile(pattern)
