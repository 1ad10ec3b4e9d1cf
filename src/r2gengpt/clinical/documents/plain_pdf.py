"""A text as a plain PDF: A4, Helvetica, wrapped lines, head and foot on each page. No pictures, no compression.

Small enough to need no library. The base font has the characters of Windows-1252; others are printed as "?".
"""

import unicodedata
from collections.abc import Iterator, Sequence

from r2gengpt.text.written import NOTICE

PAGE_WIDTH, PAGE_HEIGHT, MARGIN, SIZE, LEADING = 595, 842, 64, 11, 16
TOP = PAGE_HEIGHT - MARGIN
BREADTH = (PAGE_WIDTH - 2 * MARGIN) * 1000 / SIZE
"""Of a line, in thousandths of the font's size."""
LINES = (PAGE_HEIGHT - 2 * MARGIN - 24) // LEADING
"""Of a page."""
_METRICS = (
    "278 278 355 556 556 889 667 191 333 333 389 584 278 333 278 278 556 556 556 556 556 556 556 556 556 556 278 278 "
    "584 584 584 556 1015 667 667 722 722 667 611 778 722 278 500 667 556 833 722 778 667 778 722 667 611 722 667 944 "
    "667 667 611 278 278 278 469 556 333 556 556 500 556 556 278 556 556 222 222 500 222 833 556 556 556 556 333 500 "
    "278 556 500 722 500 500 500 334 260 334 584"
)
WIDTHS = tuple(map(int, _METRICS.split()))
"""Adobe's metrics of Helvetica for the characters 32 to 126; each other one counts as `WIDEST`."""
WIDEST = 1000


def report_pdf(
    origin: str, sections: Sequence[tuple[str, str]], blocks: Sequence[tuple[str, Sequence[str]]] = ()
) -> bytes:
    """The page of a draft. It names no patient.

    Args:
        origin: who wrote it.
        sections: name and text of each.
        blocks: what stands below them: name and lines of each.
    """
    parts = [*sections, *((name, "\n".join(lines)) for name, lines in blocks)]
    return pdf_of("\n\n".join([origin, *(f"{name.upper()}\n\n{text}" for name, text in parts)]), NOTICE)


def pdf_of(text: str, head: str, foot: str = "") -> bytes:
    """The text's paragraphs as pages under the same head. Source: PDF 1.4 reference, section 3.4 and chapter 5.

    Args:
        text: each of its lines is a paragraph.
        head: of each page, and the title.
        foot: of each page, before its number.
    """
    lines = [line for part in text.expandtabs(4).splitlines() or [""] for line in _wrapped(_in_font(part))]
    pages = [lines[at : at + LINES] for at in range(0, len(lines), LINES)]
    kids = " ".join(f"{6 + 2 * number} 0 R" for number in range(len(pages)))
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /{} /Encoding /WinAnsiEncoding >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /Lang (en) >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] /MediaBox [0 0 {PAGE_WIDTH} {PAGE_HEIGHT}]"
        " /Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> >>".encode(),
        font.format("Helvetica").encode(),
        font.format("Helvetica-Bold").encode(),
        b"<< /Title " + _string(head) + b" /Producer (r2gengpt) >>",
    ]
    for number, page in enumerate(pages):
        stream = _page(page, head, f"{foot}   Page {number + 1} of {len(pages)}".strip())
        objects.append(f"<< /Type /Page /Parent 2 0 R /Contents {7 + 2 * number} 0 R >>".encode())
        objects.append(b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream))
    return _file(objects)


def not_in_font(text: str) -> str:
    """The letters that are printed as "?", each once, in their order.

    >>> not_in_font("Grösse ≥ 3 cm → 心 ≥")
    '≥→心'
    """
    letters = unicodedata.normalize("NFC", "".join(text.expandtabs(4).splitlines()))
    return "".join(letter for letter in dict.fromkeys(letters) if not _has(letter))


def _has(letter: str) -> bool:
    """Whether the font has it: no control character, and in Windows-1252."""
    return " " <= letter != "\x7f" and letter.encode("cp1252", "ignore") != b""


def _in_font(text: str) -> str:
    return "".join(letter if _has(letter) else "?" for letter in unicodedata.normalize("NFC", text))


def _breadth(text: str) -> int:
    return sum(WIDTHS[ord(letter) - 32] if letter < "\x7f" else WIDEST for letter in text)


def _wrapped(paragraph: str) -> Iterator[str]:
    """The paragraph in lines that fit; a word that is wider than a line is cut."""
    line = None
    for word in paragraph.split(" "):
        first, *rest = _pieces(word)
        if line is not None and _breadth(f"{line} {first}") > BREADTH:
            yield line
            line = None
        line = first if line is None else f"{line} {first}"
        for piece in rest:
            yield line
            line = piece
    yield line or ""


def _pieces(word: str) -> list[str]:
    """The word cut where a line is full."""
    pieces, used = [""], 0
    for letter in word:
        used += _breadth(letter)
        if used > BREADTH:
            pieces.append("")
            used = _breadth(letter)
        pieces[-1] += letter
    return pieces


def _string(text: str) -> bytes:
    """A text as a PDF string."""
    plain = _in_font(text).encode("cp1252")
    return b"(" + plain.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)") + b")"


def _page(lines: Sequence[str], head: str, foot: str) -> bytes:
    """What draws a page: the head in bold over a rule, the lines, the foot in small letters."""
    return b"\n".join(
        [
            b"BT /F2 %d Tf %d %d Td %b Tj ET" % (SIZE, MARGIN, TOP + 10, _string(head)),
            b"0.6 w %d %d m %d %d l S" % (MARGIN, TOP + 2, PAGE_WIDTH - MARGIN, TOP + 2),
            b"BT /F1 %d Tf %d TL %d %d Td" % (SIZE, LEADING, MARGIN, TOP - 24),
            *(_string(line) + b" Tj T*" for line in lines),
            b"ET",
            b"BT /F1 8 Tf %d %d Td %b Tj ET" % (MARGIN, MARGIN - 24, _string(foot)),
        ]
    )


def _file(objects: Sequence[bytes]) -> bytes:
    """The objects, numbered from 1, with their table of places."""
    out, places = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"), []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n".encode() + content + b"\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{place:010d} 00000 n \n".encode() for place in places)
    out += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info 5 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)
