"""Texts as they are written: JSON, UTF-8, signs that an encoding has not, the notice. Opens no file.

A name of a file need not be UTF-8: Python then holds its odd bytes as lone surrogates, which no UTF-8 text, Parquet
column or strict reader of JSON takes. What is written shows such a byte as `\xfc`; the file is opened by its own name.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

NOTICE = "AI draft, not verified, research only"


def with_notice(report: str, note: str = "") -> str:
    """The report as plain text whose first line is the notice, and the next one the note where there is one."""
    return f"{NOTICE}\n{note}\n\n{report}\n" if note else f"{NOTICE}\n\n{report}\n"


def noted(note: str) -> str:
    """The notice, and the note where there is one, in a line."""
    return f"{NOTICE}. {note}" if note else NOTICE


def noted_json(note: str) -> dict[str, str]:
    """The notice as a part of a record, and beside it the note where there is one."""
    return {"notice": NOTICE, "note": note} if note else {"notice": NOTICE}


def with_note(report: str, note: str) -> str:
    """The report under the note on its images; as it is where there is none."""
    return f"{note}\n\n{report}" if note else report


_LONE = re.compile("[\ud800-\udfff]")
_BEYOND_ASCII = re.compile("[^\\x00-\\x7f]")
_BYTE_OF_A_NAME = re.compile("[\udc80-\udcff]")
"""PEP 383."""


def sign(character: str) -> str:
    r"""A character that cannot be written as it is: `\xfc` for a byte of a name, else its number.

    >>> print(sign("\udcfc"), sign("\u2265"), sign("\U0001f600"))
    \xfc \u2265 \U0001f600
    """
    number = ord(character)
    if _BYTE_OF_A_NAME.match(character):
        return f"\\x{number - 0xDC00:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def shown(text: str) -> str:
    r"""The text without lone surrogates: what is none of UTF-8 stands as its `sign`.

    >>> print(shown("M\udcfcller.png"))
    M\xfcller.png
    """
    return _LONE.sub(lambda found: sign(found[0]), text)


_UNWRITABLE = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufffe\uffff]")
"""Signs that DICOM, XML or HL7 forbids, but for white space."""


def writable(text: str) -> str:
    """The text as any document may hold it: a blank for each control character that is no white space.

    >>> writable("clear\\x00 lungs\\n")
    'clear  lungs\\n'
    """
    return _UNWRITABLE.sub(" ", shown(text))


def named(text: str) -> str:
    r"""The text with the bytes of names as their `sign`, and other lone surrogates as they are.

    >>> print(ascii(named("M\udcfcller \ud800")))
    'M\\xfcller \ud800'
    """
    return _BYTE_OF_A_NAME.sub(lambda found: sign(found[0]), text)


def in_short(names: Sequence[str], most: int = 5) -> str:
    """The first of many names, and how many more there are.

    >>> in_short(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def utf8(text: str) -> bytes:
    """The text in UTF-8, as `shown`."""
    return shown(text).encode()


def json_text(value: Any, *, indent: int | None = None, ascii_only: bool = False, sort_keys: bool = False) -> str:
    r"""JSON that every reader takes: no lone surrogate, no NaN.

    Args:
        value: what `json.dumps` takes.
        indent: as there.
        ascii_only: with JSON's escapes for all other letters, for a stream of unknown encoding.
        sort_keys: as there.

    Raises:
        ValueError: a number is not finite.

    >>> print(json_text({"image": "M\udcfcller \u2265 1"}), json_text("\u00fc \U0001f600", ascii_only=True))
    {"image": "M\\xfcller ≥ 1"} "\u00fc \ud83d\ude00"
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, sort_keys=sort_keys)
    text = _LONE.sub(lambda found: "\\" + sign(found[0]), text)
    return _BEYOND_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text) if ascii_only else text


def as_written(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value as it reads back from a file of `json_text`: lists for tuples, names as shown."""
    read: dict[str, Any] = json.loads(json_text(value))
    return read
