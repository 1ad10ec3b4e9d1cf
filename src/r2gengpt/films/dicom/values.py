"""Values of DICOM elements as texts, dates and times: whole, in the right characters, or empty. Reads no file.

Needs pydicom (extra `dicom`), which is imported where it is used.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom import Dataset

TEXT_KINDS = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UN", "UR", "UT")
)
"""Value representations whose bytes are a text; an element of implicit VR names none."""
DELIMITERS = frozenset(b"\\^=\r\n\t\f")
"""Signs that end what an escape sequence has switched on. Source: PS3.5, 6.1.2.5.3."""
_ESCAPE = re.compile(rb"\x1b(?:\$[()].|\$B|[()-].)", re.DOTALL)
_CHINESE = "\x1b$)A"
"""Switches on GB 2312. pydicom leaves it to Python's codec, which takes it for text."""
_NUMBER = re.compile(r"[+-]?(?:[0-9]+[.,]?[0-9]*|[.,][0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_DATE = re.compile(r"([1-9][0-9]{3})(\.?)([0-9]{2})\2([0-9]{2})")
_TIME = re.compile(r"([0-9]{2})(?:(:?)([0-9]{2})(?:\2([0-9]{2})(?:\.[0-9]+)?)?)?")


def charsets_of(dataset: "Dataset") -> tuple[str, ...]:
    """What Specific Character Set names, as Python's encodings; ASCII where it names none that is known.

    Spellings of the kind of `ISO-IR 100` are known too.
    """
    from pydicom.charset import python_encoding

    named = _parts(value_of(dataset, "SpecificCharacterSet"))
    spelt = (re.sub(r"^ISO.IR", "ISO_IR", re.sub(r"^ISO.2022.IR.", "ISO 2022 IR ", name)) for name in named)
    known = [python_encoding[name] for name in spelt if name in python_encoding]
    return tuple("ascii" if name == "iso8859" else name for name in known) or ("ascii",)


def text_of(dataset: "Dataset", key: str, charsets: Sequence[str]) -> str:
    """The whole text of an element, with the backslashes that DICOM takes for separators; "" where there is none."""
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(key)
    found = None if tag is None else dataset.get_item(tag)
    if found is None:
        return ""
    value = found.value
    if isinstance(value, bytes) and (found.VR is None or found.VR in TEXT_KINDS):
        return cleaned(decoded(value, charsets))
    return cleaned("\\".join(_parts(value_of(dataset, key))))


def value_of(dataset: "Dataset", key: str) -> Any:
    """An element as pydicom reads it; None where there is none or it cannot be read, which is nobody else's trouble."""
    try:
        return dataset.get(key)
    except MemoryError:
        raise
    except Exception:  # a parser over bytes of strangers: anything may come
        return None


def items_of(dataset: "Dataset", key: str) -> "list[Dataset]":
    """The items of a sequence; none where there is no sequence, or none that can be read."""
    from pydicom import Dataset
    from pydicom.sequence import Sequence as Items

    found = value_of(dataset, key)
    return [item for item in found if isinstance(item, Dataset)] if isinstance(found, Items) else []


def numbers_of(dataset: "Dataset", key: str) -> list[float]:
    """The numbers of an element, also of texts with a decimal comma or a needless point; nan for what is none."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(key)
    found = None if tag is None else dataset.get_item(tag)
    if tag is None or found is None:
        return []
    written = (dictionary_VR(tag) if found.VR in (None, "UN") else found.VR) in TEXT_KINDS
    if isinstance(found.value, bytes) and written:
        return [_number(part) for part in found.value.decode("latin-1").split("\\")]
    value = value_of(dataset, key)
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    several = isinstance(value, Sequence) and not isinstance(value, str)
    return [_number(str(one)) for one in (value if several else [value]) if one is not None]


def _number(text: str) -> float:
    """A number as manufacturers write it.

    >>> _number(" 2048,5 "), _number("1."), _number("AUTO")
    (2048.5, 1.0, nan)
    """
    found = _NUMBER.fullmatch(text.strip(" \0"))
    return float(found[0].replace(",", ".")) if found else math.nan


def _parts(value: object) -> list[str]:
    """The values of an element that pydicom has read, as texts."""
    if value is None:
        return []
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    several = isinstance(value, Sequence) and not isinstance(value, str)
    return [str(one).strip() for one in value] if several else [str(value).strip()]  # type: ignore[attr-defined]  # it is a sequence


def decoded(data: bytes, charsets: Sequence[str]) -> str:
    """Bytes as text: in the first declared character set, else UTF-8, a further declared one, Windows-1252 or Latin-1.

    A character set is the wrong one where it has no sign for a byte, or a control character above 127 for it.
    """
    for found in _readings(data, charsets):
        if not re.search("[\x80-\x9f]", found):
            return found
    return data.decode("latin-1")


def _readings(data: bytes, charsets: Sequence[str]) -> Iterator[str]:
    """The text by each character set that may be meant, the likeliest first."""
    if _ESCAPE.search(data) and "\ufffd" not in (found := _switched(data, charsets[0])):
        yield found
    for name in (charsets[0], "utf-8", *charsets[1:], "cp1252"):
        try:
            yield data.decode(name)
        except UnicodeError:
            continue


def _switched(data: bytes, first: str) -> str:
    """The text of bytes with escape sequences, each of which is followed whether or not it was declared."""
    from pydicom.charset import CODES_TO_ENCODINGS, decode_bytes

    found: str = decode_bytes(data, [first, *sorted(set(CODES_TO_ENCODINGS.values()))], set(DELIMITERS))
    return found.replace(_CHINESE, "")


def cleaned(text: str) -> str:
    """A text without control characters, line ends, and the sign of what could not be read.

    >>> cleaned(" a\\tb\\x00 ")
    'a b'
    """
    signs = (
        " " if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") else sign for sign in text.replace("\ufffd", "?")
    )
    return "".join(signs).strip()


def date_of(text: str) -> str:
    """A day since the year 1000 as YYYYMMDD, also of the old form YYYY.MM.DD; "" of anything else.

    >>> date_of("20240229"), date_of("2024.02.29"), date_of("20230229"), date_of("00000000"), date_of("00010101")
    ('20240229', '20240229', '', '', '')
    """
    found = _DATE.fullmatch(text)
    if found is None:
        return ""
    year, _, month, day = found.groups()
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return ""
    return year + month + day


def time_of(text: str) -> str:
    """A time of the day as HH, HHMM or HHMMSS, also of the old form HH:MM:SS, without fractions; "" of anything else.

    >>> time_of("101112.5"), time_of("10:11:12"), time_of("1011"), time_of("246199"), time_of("101160")
    ('101112', '101112', '1011', '', '')
    """
    found = _TIME.fullmatch(text)
    if found is None:
        return ""
    hour, _, minute, second = found.groups()
    if int(hour) > 23 or int(minute or 0) > 59 or int(second or 0) > 59:
        return ""
    return "".join(part for part in (hour, minute, second) if part)
