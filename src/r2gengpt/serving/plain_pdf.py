"""A report as a plain PDF of A4 pages in Courier. No pictures, no styles, no compression.

Small enough to need no library. The base font has the characters of Windows-1252; others are printed as "?".
"""

import textwrap
from collections.abc import Sequence

from r2gengpt.text.notice import NOTICE

COLUMNS, LINES = 80, 58
"""Characters of a line and lines of a page: Courier of 10 points is 6 wide, on 595x842 points with margins of 57."""


def report_pdf(origin: str, sections: Sequence[tuple[str, str]]) -> bytes:
    """The page of a draft: who wrote it, and its sections (name, text). It names no patient."""
    lines = [origin]
    for name, text in sections:
        lines += ["", name.upper(), "", text]
    return pdf_of(lines, NOTICE, NOTICE.upper())


def pdf_of(lines: Sequence[str], title: str, header: str) -> bytes:
    """Paragraphs as pages, each under the same header. Source: PDF 1.4 reference, section 3.4 and chapter 5."""
    body = [part for line in lines for part in (textwrap.wrap(line, COLUMNS) or [""])]
    pages = [body[at : at + LINES] for at in range(0, len(body), LINES)] or [[]]
    kids = " ".join(f"{5 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Courier /Encoding /WinAnsiEncoding >>",
        b"<< /Title " + _string(title) + b" >>",
    ]
    for number, page in enumerate(pages):
        words = [header, f"Page {number + 1} of {len(pages)}", "", *page]
        stream = b"BT /F1 10 Tf 12 TL 57 780 Td\n" + b"".join(_string(word) + b" Tj T*\n" for word in words) + b"ET"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {6 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n".encode() + stream + b"\nendstream")
    return _file(objects)


def _string(text: str) -> bytes:
    """A text as a PDF string."""
    plain = text.encode("cp1252", "replace")
    return b"(" + plain.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)") + b")"


def _file(objects: Sequence[bytes]) -> bytes:
    """The objects, numbered from 1, with their table of places."""
    out, places = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"), []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n".encode() + content + b"\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{place:010d} 00000 n \n".encode() for place in places)
    out += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info 4 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)
