"""A text as a grey picture: light letters on black, the warning above and below. No DICOM, no patient, no film.

Its font is the one that Pillow has within itself, so every machine draws the same pixels. It has ASCII alone: other
letters lose their marks, and what has no like becomes "?".
"""

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import ceil

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from r2gengpt.errors import InputError
from r2gengpt.text.written import NOTICE

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
WIDTH, SHORTEST, MARGIN = 1024, 1280, 56
"""Pixels: of the page, of its height at least, and beside its lines."""
TALLEST = 65_535
"""Rows of a DICOM image at most."""
BLACK, SOFT, LIGHT, WHITE = 0, 176, 232, 255
BAR = 64
"""Height of the bars that the warning stands in."""
LIKE = {
    "ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "Æ": "AE", "Œ": "OE", "Ø": "O", "Ł": "L", "Đ": "D",
    "–": "-", "—": "-", "‘": "'", "’": "'", "‚": ",", "“": '"', "”": '"', "„": '"', "•": "-", "·": "-", "⁄": "/",
    "≥": ">=", "≤": "<=", "±": "+/-", "×": "x", "÷": "/", "→": "->", "←": "<-", "µ": "u", "μ": "u", "°": " deg ",
    "−": "-",
}  # fmt: skip
"""Letters that have no base letter, and what is drawn for them."""
BEHIND_DIGIT = {"<fraction": " ", "<super": "^"}
"""Unicode's kind of a letter → what parts it from a digit before it, whose number it would change."""


@dataclass(frozen=True)
class Style:
    """How a paragraph is drawn: the letters' size and the height of a line in pixels, grey, and boldness in pixels."""

    size: int
    height: int
    grey: int
    bold: int = 0


HEADING, BODY, SMALL = Style(26, 52, WHITE, 1), Style(26, 38, LIGHT), Style(20, 30, SOFT)


def report_picture(
    origin: str, sections: Sequence[tuple[str, str]], blocks: Sequence[tuple[str, Sequence[str]]] = ()
) -> npt.NDArray[np.uint8]:
    """The picture of a draft. It names no patient.

    Args:
        origin: who wrote it.
        sections: name and text of each.
        blocks: what stands below them: name and lines of each.

    Returns:
        (rows, columns), 0 is black.

    Raises:
        InputError: it would be taller than an image may be.
    """
    paragraphs = [(SMALL, origin)]
    for name, lines in (*((name, text.splitlines()) for name, text in sections), *blocks):
        paragraphs += [(HEADING, name.upper()), *((BODY, line) for line in lines)]
    drawn = [(style, line) for style, text in paragraphs for line in _wrapped(in_ascii(text), style)]
    height = max(SHORTEST, 2 * BAR + 2 * MARGIN + sum(style.height for style, _ in drawn))
    if height > TALLEST:
        raise InputError(f"the text is too long for a picture, which would have {height} rows: at most {TALLEST}")
    page = Image.new("L", (WIDTH, height), BLACK)
    pen = ImageDraw.Draw(page)
    for top in (0, height - BAR):
        pen.rectangle((0, top, WIDTH, top + BAR - 1), fill=WHITE)
        pen.text((WIDTH / 2, top + BAR / 2), NOTICE.upper(), BLACK, _font(30), anchor="mm", stroke_width=0.5)
    top = BAR + MARGIN // 2
    for style, line in drawn:
        top += style.height
        pen.text((MARGIN, top), line, style.grey, _font(style.size), "ls", stroke_width=style.bold / 2)
    return np.asarray(page)


@cache
def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def in_ascii(text: str) -> str:
    """A text in the letters that the font has.

    >>> in_ascii("Größe ≥ 3 cm², élevé: 心, 2½, 10³")
    'Grosse >= 3 cm2, eleve: ?, 2 1/2, 10^3'
    """
    text = "".join(_parted(before, letter) for before, letter in pairwise(f" {text}"))
    plain = "".join(LIKE.get(letter, letter) for letter in text.expandtabs(4))
    apart = unicodedata.normalize("NFKD", plain)
    kept = (LIKE.get(letter, letter) for letter in apart if not unicodedata.combining(letter))
    return "".join(letter if " " <= letter <= "~" else "?" for letter in "".join(kept))


def _parted(before: str, letter: str) -> str:
    """A letter, and before it what parts it from a digit."""
    kind = unicodedata.decomposition(letter).partition(">")[0]
    return (BEHIND_DIGIT.get(kind, "") if before.isdecimal() else "") + letter


def _wrapped(paragraph: str, style: Style) -> Iterator[str]:
    """The paragraph in lines that fit; a word that is wider than a line is cut."""
    font, room = _font(style.size), WIDTH - 2 * MARGIN
    line = ""
    for word in paragraph.split():
        longer = f"{line} {word}" if line else word
        if font.getlength(longer) <= room:
            line = longer
            continue
        if line:
            yield line
        *full, line = _pieces(word, font, room)
        yield from full
    if line:
        yield line


def _pieces(word: str, font: Font, room: int) -> list[str]:
    """The word cut where a line is full."""
    pieces = []
    while word:
        ends = range(1, min(len(word), room) + 1)
        fits = max(1, bisect_right(ends, room, key=lambda end: ceil(font.getlength(word[:end]))))
        pieces.append(word[:fits])
        word = word[fits:]
    return pieces
