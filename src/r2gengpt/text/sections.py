"""Free-text radiology reports cut into findings, impression, indication and so on. Not a cleaner: no word is changed.

Reports in MIMIC-CXR's style name their sections in capitals before a colon, in dozens of spellings, over several lines
or within one; some name none. White space is collapsed, everything else stays as it was written.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from r2gengpt.text.headers import adds_to, exact_name, header_name, known_name, name_within

Part = Literal["final", "wet_read", "addendum"]
"""What of a report file a section belongs to; a preliminary report is a wet read."""

_BREAKS = dict.fromkeys(map(ord, "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), "\n")
_UNSEEN = dict.fromkeys(map(ord, "\ufeff\u200b\u200c\u200d\u200e\u200f\u2060\u00ad"))
_COLON = "[:\uff1a\ufe55\ufe13\u2236\ua789]"
_GAP = "[\\s\ufffd]*"
"""Between a name and its mark: blanks, or one that was no UTF-8."""
_RULE = re.compile(r"\s*(?:_{10,}|-{10,}|={10,})\s*")
_NAMED = re.compile(
    rf"""\s*(?P<words>[A-Z][A-Za-z&/+,() -]{{2,60}}?){_GAP}
    (?:(?P<colon>{_COLON})|(?P<dash>;|(?<=\s)[-\u2013\u2014]+|[-\u2013\u2014]+(?=\s|$))|$)""",
    re.VERBOSE,
)
"""A name that opens a line, before a colon, a semicolon or a dash, or with the line to itself."""
_CAPITALS = re.compile(rf"\s*(?P<words>[A-Z](?:[A-Z0-9 ,/()&.'+_#*-]|(?<=\d):(?=\d)){{1,70}}){_GAP}{_COLON}")
"""Capitals that open a line."""
_WITHIN = re.compile(rf"(?<![\w/])(?P<words>[A-Z][A-Z&/+,() -]{{1,60}}){_GAP}{_COLON}")
"""Capitals before a colon within a line."""
_ITEM = re.compile(r"\s*\d+[.)]\s*")
"""The number of an item of a list, as impressions are."""
_EARLY = "PRELIMINARY|PRELIM|PROVISIONAL|INTERIM|RESIDENT"
_PART = re.compile(
    rf"""\s*(?:
    (?P<preamble>FINAL\ +(?:REPORT|READ(?:ING)?))
    | (?P<addendum>(?:(?:FINAL|REVISED)\ +)?(?:ADDENDUM|ADDENDA|AMENDMENT))
    | (?P<wet_read>(?:(?:{_EARLY})\ +)*WET[ -]?READ(?:ING)?|(?:{_EARLY})\ +(?:REPORT|READ(?:ING)?|INTERPRETATION))
    )\b""",
    re.VERBOSE,
)
"""Words in capitals that open a part of the file, whatever follows them on the line."""
_CONCLUDING = ("findings", "impression", "view")


@dataclass(frozen=True)
class Section:
    """One section: its name (a key of `HEADERS`, "view" or "other"), its header as written, its text, its part."""

    name: str
    header: str
    text: str
    part: Part = "final"


@dataclass(frozen=True)
class ReportSections:
    """The sections that the program uses, each empty where the report has none.

    `body` is what stands under no header at all: all of a plain report.
    """

    findings: str = ""
    impression: str = ""
    indication: str = ""
    comparison: str = ""
    technique: str = ""
    examination: str = ""
    body: str = ""


@dataclass(frozen=True)
class _Header:
    """A header in a line: where it starts, where its text starts, its section, its words (none in a drawn line)."""

    start: int
    end: int
    name: str
    words: str = ""


def _named(line: str) -> _Header | None:
    """The name of the table that opens the line."""
    match = _NAMED.match(line)
    if match is None:
        return None
    words = match["words"]
    name = known_name(words) if match["colon"] else name_within(words) if words.isupper() else exact_name(words)
    if name is None or (match["dash"] and not words.isupper() and name not in _CONCLUDING):
        return None
    return _Header(match.start("words"), match.end(), name, words)


def _opening(line: str, inside: str) -> _Header | None:
    """The header that opens the line; none where the line opens with text or a sub-heading."""
    if _RULE.fullmatch(line):
        return _Header(0, len(line), "preamble")
    named = _named(line)
    if named:
        return named
    capitals, part = _CAPITALS.match(line), _PART.match(line)
    if part and part.lastgroup:
        end = max(found.end() for found in (part, capitals) if found)
        return _Header(part.start(part.lastgroup), end, part.lastgroup, part[part.lastgroup])
    if capitals is None or name_within(capitals["words"].rpartition(". ")[2]):
        return None
    name = header_name(capitals["words"], inside)
    return _Header(capitals.start("words"), capitals.end(), name, capitals["words"]) if name else None


def _within(line: str, start: int, inside: str) -> Iterator[_Header]:
    """The names of the table that stand in capitals before a colon within the line."""
    for match in _WITHIN.finditer(line, start):
        if inside == "impression" and _ITEM.fullmatch(line, 0, match.start()):
            continue
        for word in re.finditer(r"(?<![\w/])[A-Z]", match["words"]):
            words = match["words"][word.start() :].strip()
            name = name_within(words)
            if name:
                if not adds_to(match["words"], name, inside):
                    yield _Header(match.start() + word.start(), match.end(), name, words)
                    inside = name
                break


def _headers(line: str, inside: str) -> Iterator[_Header]:
    """The headers of a line, from left to right."""
    opening = _opening(line, inside)
    if opening:
        yield opening
        yield from _within(line, opening.end, opening.name)
    else:
        yield from _within(line, 0, inside)


def _part_after(header: _Header, part: Part, has_text: bool) -> Part:
    """The part of the file that a header's text belongs to, given the part before it."""
    if header.name == "wet_read":
        return "wet_read"
    if header.name == "addendum":
        return "addendum"
    if not header.words:  # a drawn line ends a part that has text
        return "final" if has_text else part
    return "final" if header.name == "preamble" or "FINAL" in header.words.split() else part


def _pieces(report: str) -> Iterator[Section]:
    """The report from header to header, text before the first one included."""
    text = report.replace("\r\n", "\n").translate(_UNSEEN).translate(_BREAKS)
    piece, words = Section("preamble", "", ""), list[str]()
    for line in text.split("\n"):
        end = 0
        for header in _headers(line, piece.name):
            words += line[end : header.start].split()
            yield replace(piece, text=" ".join(words))
            part = _part_after(header, piece.part, bool(words))
            piece, words, end = Section(header.name, header.words, "", part), [], header.end
        words += line[end:].split()
    yield replace(piece, text=" ".join(words))


def _before_the_final_report(pieces: Sequence[Section]) -> int:
    """How many pieces stand before the words "FINAL REPORT" with findings or an impression after them, 0 if none."""
    for place, piece in enumerate(pieces):
        if piece.name == "preamble" and piece.header:
            after = pieces[place:]
            return place if any(p.text and p.name in _CONCLUDING and p.part == "final" for p in after) else 0
    return 0


def split_sections(report: str) -> tuple[Section, ...]:
    """Cut a report into its sections, in their order; those without text are left out.

    A header in capitals that names an organ, a device or a view within findings or impression ("LUNGS: …") is a
    sub-heading and stays in their text. An unknown one ends them and opens a section "other". One that names the view
    ("CHEST, PA AND LATERAL:") opens a section "view" elsewhere. A wet read or an addendum runs to a drawn line or to
    the words "FINAL REPORT", its own sections included; findings before those words are a wet read's.
    """
    pieces = list(_pieces(report))
    early = _before_the_final_report(pieces)
    return tuple(
        replace(piece, part="wet_read") if i < early and piece.name in _CONCLUDING and piece.part == "final" else piece
        for i, piece in enumerate(pieces)
        if piece.text
    )


def parse_sections(report: str) -> ReportSections:
    r"""Gather the final report's sections by name. The last of a name is taken, as MIMIC-CXR's own parser does.

    Where no findings are named, text under a view's name is taken for them, as such reports mean it. "FINDINGS AND
    IMPRESSION" is findings; the impression is then empty. An indication and a history are joined. Sections of a wet
    read, a preliminary report or an addendum are left out.

    >>> parse_sections("INDICATION: Cough.\nFINDINGS: Clear lungs.\n No effusion.\nIMPRESSION: Normal.").findings
    'Clear lungs. No effusion.'
    """
    final = [section for section in split_sections(report) if section.part == "final"]
    last = {section.name: section.text for section in final}
    why = {section.name: section.text for section in final if section.name in ("indication", "history")}
    return ReportSections(
        findings=last.get("findings") or last.get("view", ""),
        impression=last.get("impression", ""),
        indication=" ".join(why.values()),
        comparison=last.get("comparison", ""),
        technique=last.get("technique", ""),
        examination=last.get("examination", ""),
        body=" ".join(section.text for section in final if section.name == "preamble"),
    )
