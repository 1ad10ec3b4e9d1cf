"""Signs of a person in a report's text: dates, numbers, names, telephones, addresses. Removes nothing, and is no proof.

Rules look for what HIPAA's list of 18 identifiers (45 CFR 164.514(b)(2)) names, as far as texts of chest films have it.
They are wide: a text that is kept back can be looked at, one that goes out cannot be taken back. A name that is typed
in small letters, without a title, and that no film carries is not found.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable
from enum import StrEnum

from r2gengpt.text.ordinary_words import EPONYMS, ORDINARY

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_YEAR, _AGE = r"(?:19|20)\d{2}", r"(?:9\d|1[0-2]\d)"
LONGEST_NUMBER = 4
"""Digits of a number that may be a measure or a year; one more makes it an identifier."""


class Sign(StrEnum):
    """What a text holds that may name a person."""

    OWN = "the patient's own name or number"
    DATE = "a date or time"
    PHONE = "a telephone number"
    NUMBER = "a number of a person"
    NAME = "a name"
    ADDRESS = "an address"
    AGE = "an age above 89"


_RULES: tuple[tuple[Sign, re.Pattern[str]], ...] = (
    (
        Sign.DATE,
        re.compile(
            r"(?<![\w.])(?:\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}/\d{1,4})(?![\w/])"
            rf"|(?<![\w.])(?:{_YEAR}[-/.]\d{{1,2}}|\d{{1,2}}[-.]{_YEAR}|\d{{1,2}}\s\d{{1,2}}\s{_YEAR})(?![\w/])"
            rf"|\b{_MONTH}\.?,?\s+(?:the\s+)?\d{{1,4}}(?:st|nd|rd|th)?\b|\b{_DAY}\.?\s*(?:of\s+)?{_MONTH}\b"
            r"|(?<!\d)\d{1,2}:\d{2}(?!\d)|\b\d{1,2}\s?[ap]\.?m\b|(?<!\d)(?:19|20)\d{6}(?!\d)"
            r"|\b(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b",
            re.IGNORECASE,
        ),
    ),
    (
        Sign.PHONE,
        re.compile(
            r"\b(?:phone|telephone|tel|pager|paged|fax|ext|extension|beeper|mobile|cell)\b\.?\s*(?:no\.?|number|at|:|#)?"
            r"\s*\+?[\d(]|(?<![\w.])\+?\(?\d{2,4}\)?[\s./-]\d{3,4}[\s./-]?\d{3,4}(?!\w)"
            r"|(?<![\w.-])\d{3}[-.]\d{4}(?![\w-])|\+\d[\d\s().-]{6,}\d",
            re.IGNORECASE,
        ),
    ),
    (
        Sign.NUMBER,
        re.compile(
            r"\b(?:mrn|medical record|accession|acc(?:ession)?\s*(?:no|number|#)|patient\s*(?:id|number|no)\b|ssn|dob"
            r"|date of birth|social security|insurance|account\s*(?:no|number|#)|case\s*(?:no|number|#))"
            rf"|\d{{{LONGEST_NUMBER + 1},}}|(?<![\w.])\d{{1,3}}(?:[ ,.]\d{{3}}){{2,}}(?!\d)"
            r"|(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)|\b[a-z]{1,3}-?\d{4,}\b"
            r"|\b\d+(?:\.\d+){4,}\b",
            re.IGNORECASE,
        ),
    ),
    (
        Sign.NAME,
        re.compile(
            r"\b(?:dr|drs|doctor|mr|mrs|ms|miss|mister|prof|professor|herr|frau|nurse|sister)\b\.?\s+[^\W\d_]"
            r"|,\s*(?:m\.?d|d\.?o|r\.?n|ph\.?d|pa-c|np)\b\.?"
            r"|\b(?:signed|dictated|transcribed|reported|interpreted|reviewed|verified|approved|read)\s+by\b"
            r"|\b(?:discussed|communicated|conveyed|relayed|telephoned|spoken)\s+(?:\w+\s+){0,3}?(?:with|to)\b"
            r"|\b(?:patient|name)\s*(?:name|named|is called)?\s*:\s*[^\W\d_]|\bnamed\s+[^\W\d_]",
            re.IGNORECASE,
        ),
    ),
    (
        Sign.ADDRESS,
        re.compile(
            r"\S@\S|\bhttps?:|\bwww\.|\b\d+\s+(?:[^\W\d_]+\s+){1,3}(?:street|avenue|road|lane|drive|boulevard)\b"
            r"|\b(?:street|avenue|boulevard|hospital|clinic)\s+of\s+[A-Z]|(?<!\d)(?:\d{1,3}\.){3}\d{1,3}(?!\d)",
            re.IGNORECASE,
        ),
    ),
    (
        Sign.AGE,
        re.compile(
            rf"\b{_AGE}[-\s]*(?:y(?:ear|rs?\b|[/.]?\s?o\b)|[mf]\b)|\bage[d:]?\s*{_AGE}\b|\b(?:9|1[0-2])0s\b"
            r"|\bninet(?:y|ies)\b|\bhundred[-\s]+years?\b|\b(?:nonagen|centen)arian",
            re.IGNORECASE,
        ),
    ),
)
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


def signs_in(
    text: str, names: Iterable[str] = (), numbers: Iterable[str] = (), known: Collection[str] = ()
) -> tuple[Sign, ...]:
    """What a text holds that may name a person, each kind once.

    Args:
        text: the report.
        names: of the patient and others, as films carry them (Family^Given).
        numbers: patient's ids and accession numbers.
        known: words in lower case that are no names, beside `ORDINARY`.

    >>> [str(sign) for sign in signs_in("Seen by Mr. Muster on 3/14: effusion.", ["Muster^Erika"])]
    ["the patient's own name or number", 'a date or time', 'a name']
    >>> signs_in("The heart is enlarged. No effusion at L1/2 or T12. Nodule of 12 mm.")
    ()
    """
    found = {sign for sign, rule in _RULES if rule.search(text)}
    if _own_name(text, names) or _own_number(text, numbers):
        found.add(Sign.OWN)
    if any(part not in ORDINARY and part not in known for part in _capitalised(EPONYMS.sub(" ", text))):
        found.add(Sign.NAME)
    if any(not _is_latin(word) and word not in known for word in words_of(text)):
        found.add(Sign.NAME)
    return tuple(sign for sign in Sign if sign in found)


def folded(text: str) -> str:
    """Lower case without accents.

    >>> folded("Müller-ÉLODIE")
    'muller-elodie'
    """
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(sign for sign in apart if not unicodedata.combining(sign))


def words_of(text: str) -> set[str]:
    """The words of a text in lower case, those of a compound apart."""
    return {part for word in _WORD.findall(text) for part in re.split(r"['’-]", word.lower())}


def _capitalised(text: str) -> set[str]:
    """Words that begin with a capital letter, in lower case; single letters are none."""
    parts = {part for word in _WORD.findall(text) for part in re.split(r"['’-]", word)}
    return {part.lower() for part in parts if len(part) > 1 and part[0].isupper()}


def _is_latin(word: str) -> bool:
    """Whether all letters are Latin ones: other alphabets may have no capitals by which a name shows."""
    return all(unicodedata.name(sign, "").startswith(("LATIN ", "MICRO ")) for sign in word)


def _own_name(text: str, names: Iterable[str]) -> bool:
    """Whether a part of a name, of two letters or more, is a word of the text."""
    ours = set(re.findall(r"[^\W\d_]+", folded(text)))
    return any(part in ours for name in names for part in re.findall(r"[^\W\d_]{2,}", folded(name)))


def _own_number(text: str, numbers: Iterable[str]) -> bool:
    """Whether a number stands in the text, however its parts are set apart."""
    plain = folded(text)
    for number in numbers:
        signs = re.findall(r"[^\W_]", folded(number))
        spelt = r"[\W_]*".join(map(re.escape, signs))
        if signs and re.search(rf"(?<![^\W_]){spelt}(?![^\W_])", plain):
            return True
    return False
