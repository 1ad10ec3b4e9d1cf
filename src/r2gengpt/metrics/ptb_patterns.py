"""What a token of the Penn Treebank tokenizer can look like: patterns (see `ptb` for where from). No code.

A pattern with a group means: the group is the token, the rest must follow it; all of it counts when the longest match
is chosen. `_LETTER` and the marks follow Unicode 6 in Latin, Greek, Cyrillic, Hebrew and CJK. Repetitions that could
run over a whole text at each of its characters end after 200.
"""

import functools
import re
from collections.abc import Iterable

from r2gengpt.metrics.ptb_lists import (
    ABBREVIATIONS,
    BEFORE_NUMBERS,
    ELISIONS,
    FILES,
    NAMES,
    NOT_IN_CAPITALS,
    SPELLINGS,
    STARTERS,
)

BLANKS = re.compile("(?:[ \t\u00a0\u2000-\u200a\u3000]|&nbsp;)+")
_SYMBOLS = (
    "\u00a1\u00a5-\u00a9\u00ac\u00ae-\u00b4\u00b6-\u00b9\u00bf\u00d7\u00f7\u037e\u0387\u0589\u05be\u05c0\u05c3\u05c6"
    "\u05f3\u05f4\u0600-\u0603\u0606-\u060c\u0614\u061b\u061e\u061f\u066a\u066d\u06d4\u0700-\u070d\u07f6-\u07f8\u0964"
    "\u0965\u0e3f\u0e4f\u1fbd\u2016\u2017\u201a\u201e-\u2023\u2030-\u2038\u203b\u203e-\u2042\u2044\u2070\u2074-\u207e"
    "\u2080-\u208e\u20a4\u2100\u2101\u2103-\u2106\u2108\u2109\u2114\u2116-\u2118\u211e-\u2123\u2125\u2127\u2129\u212e"
    "\u213a\u213b\u2140-\u2144\u214a-\u214d\u214f\u2155-\u215e\u2190-\u2bff\u3001\u3002\u3012\u30fb\uff01-\uff0f"
    "\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0\uffe1\uffe5\uffe6"
)
KEPT = re.compile(f"[!-/:-@\\[-`{{-~{_SYMBOLS}{re.escape(''.join(mark for mark in SPELLINGS if len(mark) == 1))}]")
"""A character that is a token where no pattern matches; any other one is dropped."""

_LETTER = (
    "(?:[^\\W\\d_\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u2094\u2150-\u218b\u2460-\u24ff\u2776-\u2793\u3007]"
    "|[\u00ad\u02c2-\u02c5\u02d2-\u02df\u02e5-\u036f\u0375\u0384\u0385\u0483-\u0487\u0591-\u05bd]"
    "|&[aeiouAEIOU](?:acute|grave|uml);)"
)
_MARK = f"(?:{_LETTER}|\\d)"
_QUOTE = "(?:['\u2019\x92]|&apos;)"
_CURLY = "(?:[\u2019\x92]|&apos;)"
_CURVED = "[\u2018-\u201f\u00ab\u00bb\u2039\u203a\x91-\x94]"
_ANY_QUOTE = f"(?:{_QUOTE}|[`\u2018\u201b\x91])"
_NOT_LATIN = "(?=[^A-Za-z]|$)"
_BLANK_NEXT = "(?=[ \t\u00a0]|$)"

_WORD = f"{_LETTER}{_MARK}*(?:[.!?]{_LETTER}{_MARK}*)*"
_ELIDED = f"(?:[dDlLoO]{_QUOTE}(?={_LETTER}{_MARK}|\\d[A-Za-z])|[qQ]u{_QUOTE}(?=[A-Za-z]))"
_THING = f"{_ELIDED}?{_MARK}+(?:[-_\u2010\u2011\u058a]{_MARK}+)*"
_INITIALS = "(?:[A-Za-z]\\.){2,}"
_NUMBER = "\\d*(?:[.:,\u00ad]?\\d+)+"
_ENDING = f"{_QUOTE}(?i:[msd]|re|ve|ll)"
_PART = "[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
_FACE = "[-^x=~<>']_[-^x=~<>']"
_MOUTH = "[()DPdpO\\\\{@|\\[\\]]"
_ADDRESS = '[^ \t\r\n\f"<>|().\u00a0]+'
_MAIL = f'[A-Za-z0-9][^ \t\r\n\f"<>|()\u00a0]{{0,200}}@(?:{_ADDRESS}\\.)*{_ADDRESS}'
_PATH = '[^ \t\r\n\f"<>|()\u00a0]+[^ \t\r\n\f"<>|.!?(){},\\-\u00a0]'
_SITE = 'www\\.(?:[^ \t\r\n\f"<>|.!?(){},\u00a0]+\\.)+[A-Za-z]{2,4}'
_HOST = f"(?:{_SITE}|(?:{_LETTER}{_MARK}*\\.)+(?:com|net|org|edu))"
_ATTRIBUTE = "[A-Za-z][A-Za-z0-9_:.-]*(?:\\s*=\\s*(?:\"[^\"]{0,200}\"|'[^']{0,200}'))?"

_TAG = f"(?:</?[A-Za-z][A-Za-z0-9_:.-]*(?:\\s+{_ATTRIBUTE}){{0,20}}\\s*/?>|<[!?][A-Za-z-][^>\r\n]{{0,200}}>)"


def _any(words: Iterable[str]) -> str:
    return f"(?:{'|'.join(sorted(words, key=lambda word: (-len(word), word)))})"


_KEEP_STOP = {form for word in ABBREVIATIONS for form in (word, word.capitalize(), word.upper())} - NOT_IN_CAPITALS
_STOPPED = _any(_KEEP_STOP | {form for word in NAMES for form in (word, word.upper())})
_START = _any({form for word in STARTERS for form in (word, word.upper())})

_LETTERS_FIRST = (
    f"(?i:{'|'.join(ELISIONS)})".replace("'", _QUOTE),
    f"({_WORD}|{_THING}){_ENDING}",
    f"([A-Za-z]*[A-MO-Za-mo-z])[nN]{_ANY_QUOTE}[tT]",
    f"[nN]{_ANY_QUOTE}[tT]",
    f"[A-HJ-XZn]{_QUOTE}{_LETTER}{{2,}}",
    f"{_LETTER}+[aeiouyAEIOUY]{_QUOTE}[aeiouA-Z]{_LETTER}*",
    _WORD,
    f"[dDlLjJ]{_QUOTE}",
    f"([yY]{_QUOTE}){_LETTER}",
    _THING,
    f"(?:{_WORD}|{_THING})\\.(?=[,;:\u3001])",
    f"{_STOPPED}\\.",
    f"((?i:{_any(BEFORE_NUMBERS)})\\.)[ \u00a0]?\\d",
    f"([A-Za-z])\\.[ \t\u00a0]+{_START}[ \t\u00a0]",  # its full stop is the next token
    f"([A-Za-z])\\.[ \t\u00a0]{_TAG}(?=[ \t\u00a0]|$)",
    "[A-Za-z]\\.",
    _INITIALS,
    "(?i:ph)\\.[Dd]\\.",
    "[A-Z]+(?:(?:&|&amp;|\\+)[A-Z]+)+",
    "[A-Z]+\\$",
    _FACE,
    f"{_HOST}(?:/{_PATH})?",
    f"(?i:https?)://{_PATH}",
)
_DIGITS_FIRST = (
    _THING,
    f"({_THING}){_ENDING}",
    f"{_THING}\\.(?=[,;:\u3001])",
)
_BOTH_FIRST = (
    f"{_MARK}{{1,200}}(?:\\.{_MARK}+){{0,20}}\\.(?i:{'|'.join(FILES)})(?=[ \t\u00a0.?!,]|$)",
    f"[A-Za-z0-9][A-Za-z0-9.,\u00ad]{{0,200}}(?:-(?:{_INITIALS}|[A-Za-z0-9\u00ad]+))+(?:\\.(?=[,;:\u3001]))?",
    f"{_PART}(?:\\\\?/{_PART}){{1,2}}",
    f"{_MAIL}>?",
)
_NUMBERS = (
    f"[-+]?{_NUMBER}",
    "(?:\\d{1,4}[- \u00a0])?\\d{1,4}(?:\\\\?/|\u2044)\\d{1,4}",
    "\\d{1,2}[-/]\\d{1,2}[-/]\\d{2,4}",
    "(?:\\(\\d{2,3}\\)[ \u00a0]?|(?:\\+\\+?)?(?:\\d{2,4}[- \u00a0])?\\d{2,4}[- \u00a0])\\d{3,4}[- \u00a0]?\\d{3,5}",
    "[\u207a\u207b\u208a\u208b]?(?:[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+|[\u2080-\u2089]+)",
)
_MARKS_FIRST = (
    _TAG,
    f"(?:<|&lt;){_MAIL}(?:>|&gt;)?",
    "&(?i:ht|tl|ur|lr|qc|ql|qr|odq|cdq|#[0-9]+);",
    "&(?:amp|lt|gt|quot|apos|mdash|ndash|MD);",
    f"{_LETTER}+",
    f"{_ENDING}{_NOT_LATIN}",
    f"{_CURLY}(?i:[msdn]|re|ve|ll)",
    f"{_CURVED}{{2}}",
    f"[nN]{_ANY_QUOTE}[tT]",
    "('[tT])(?i:is|was)",
    f"(?i:{_QUOTE}(?:n{_QUOTE}|em|till?|cause|\\d0s))",
    f"(?i:{_QUOTE}(?:n|\\d\\d)){_BLANK_NEXT}",
    f"([<>]?[:;=][-o*']?{_MOUTH})(?:[^A-Za-z0-9]|$)",
    _FACE,
    "\\([-^x=~<>'][_.][-^x=~<>']\\)",
    "-(?i:[lr][rcs]b)-",
    "@[A-Za-z_][A-Za-z0-9_]*",
    f"#(?:{_LETTER})+",
    "-{5,}|-{2,4}|[?!]+|_+|\\*+|@+|#+|<<|>>|(?:\\\\\\*)+|''|``|\\.{3,5}|\\.(?:[ \u00a0]\\.){2,4}",
)


@functools.cache
def _compiled(kind: str) -> tuple[re.Pattern[str], ...]:
    """Compiled at first use: this takes some 50 ms."""
    patterns = {
        "letter": (*_LETTERS_FIRST, *_BOTH_FIRST),
        "digit": (*_DIGITS_FIRST, *_BOTH_FIRST, *_NUMBERS),
        "mark": (*_NUMBERS, *_MARKS_FIRST),
    }
    return tuple(re.compile(pattern) for pattern in patterns[kind])


def rules(character: str) -> tuple[re.Pattern[str], ...]:
    """The patterns that can match where a token begins with this character."""
    if character.isdecimal():
        return _compiled("digit")
    return _compiled("letter" if character.isalpha() else "mark")
