"""Free-text radiology reports cut into findings, impression, indication and so on. Not a cleaner: no word is changed.

Reports in MIMIC-CXR's style name their sections in capitals before a colon, in dozens of spellings, over several lines
or within one; some name none. White space is collapsed, everything else stays as it was written.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

HEADERS: dict[str, tuple[str, ...]] = {
    "findings": ("findings and impression", "findings/impression", "findings", "finding"),
    "impression": (
        "impression and recommendation",
        "impressions",
        "impression",
        "conclusions",
        "conclusion",
        "opinion",
    ),
    "indication": (
        "indication for study",
        "indication for exam",
        "indications",
        "indication",
        "clinical indication",
        "clinical information",
        "clinical history",
        "clinical presentation",
        "patient history",
        "history",
        "reason for examination",
        "reason for the exam",
        "reason for exam",
        "reason for study",
        "reason",
    ),
    "comparison": ("comparison exam", "comparisons", "comparison", "compared to", "prior studies"),
    "technique": ("technique", "procedure"),
    "examination": ("type of examination", "examinations", "examination", "exams", "exam", "study"),
    "recommendation": ("recommendations", "recommendation", "recommendation(s)"),
    "notification": ("notifications", "notification", "notification(s)"),
    "wet_read": ("preliminary report", "wet read version", "wet read"),
    "addendum": ("final addendum", "addendum"),
    "preamble": ("final report",),
}
"""Section → its spellings, in lower case."""

_NAMES = {spelling: name for name, spellings in HEADERS.items() for spelling in spellings}
_VIEW_WORDS = re.compile(r"\b(CHEST|VIEWS?|RADIOGRAPHS?|X-?RAYS?|FRONTAL|LATERAL|PORTABLE|UPRIGHT|SUPINE|AP|PA|CXR)\b")


def _alternatives(spellings: Iterable[str]) -> str:
    """A pattern of any of the spellings, longest first, with any number of blanks between words."""
    words = (r"[ \t]+".join(map(re.escape, s.split())) for s in sorted(spellings, key=len, reverse=True))
    return "|".join(words)


_HEADER = re.compile(
    rf"""
    ^[ \t]*(?-i:(?=[A-Z]))(?:
        (?P<line>{_alternatives(_NAMES)})[ \t]*:     # a known name, capital first, opens a line
        | (?P<alone>{_alternatives(_NAMES)})[ \t]*$  # … or has one to itself
    )
    | (?<![\w/])(?P<inside>(?-i:{_alternatives(map(str.upper, _NAMES))}))[ \t]*:  # … or within a line, in capitals
    | ^[ \t]*(?P<other>(?-i:[A-Z](?:[A-Z0-9\ ,/()&.'-]|(?<=\d):(?=\d)){{1,70}}))[ \t]*:  # capitals that open a line
    | ^[ \t]*(?P<rule>_{{10,}})[ \t]*$  # a drawn line
    """,
    re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Section:
    """One section: its name (a key of `HEADERS`, "view" or "other"), its header as written, its text."""

    name: str
    header: str
    text: str


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


def _classify(match: re.Match[str]) -> tuple[str, str]:
    """A header's section and its spelling."""
    if match["rule"]:
        return "preamble", ""
    known = match["line"] or match["alone"] or match["inside"]
    if known:
        return _NAMES[" ".join(known.lower().split())], known.strip()
    other = match["other"].strip()
    return ("view" if _VIEW_WORDS.search(other) else "other"), other


def _pieces(report: str) -> Iterator[Section]:
    """The report from header to header, text before the first one included."""
    name, header, start = "preamble", "", 0
    for match in _HEADER.finditer(report):
        yield Section(name, header, " ".join(report[start : match.start()].split()))
        name, header = _classify(match)
        start = match.end()
    yield Section(name, header, " ".join(report[start:].split()))


def split_sections(report: str) -> tuple[Section, ...]:
    """Cut a report into its sections, in their order.

    An unknown header in capitals within findings or impression ("LUNGS: …") is a sub-heading and stays in their text;
    elsewhere it opens a section "other". One that names the view ("CHEST, PA AND LATERAL:") opens a section "view",
    unless findings run already. Sections without text are left out.
    """
    sections: list[Section] = []
    for piece in _pieces(report.replace("\r\n", "\n").replace("\r", "\n")):
        last = sections[-1] if sections else None
        inside = last is not None and last.name in ("findings", "impression", "view")
        if last is not None and inside and piece.name in ("view", "other"):
            text = " ".join(filter(None, (last.text, f"{piece.header}:", piece.text)))
            sections[-1] = Section(last.name, last.header, text)
        else:
            sections.append(piece)
    return tuple(section for section in sections if section.text)


def parse_sections(report: str) -> ReportSections:
    r"""Gather a report's sections by name; sections of the same name are joined by a blank.

    Where no findings are named, text under a view's name is taken for them, as such reports mean it. "FINDINGS AND
    IMPRESSION" is findings; the impression is then empty. Notes before the final report (wet reads) are left out.

    >>> parse_sections("INDICATION: Cough.\nFINDINGS: Clear lungs.\n No effusion.\nIMPRESSION: Normal.").findings
    'Clear lungs. No effusion.'
    """
    sections = split_sections(report)

    def joined(name: str) -> str:
        return " ".join(section.text for section in sections if section.name == name)

    plain = [s.text for s in sections if s.name == "preamble"]
    return ReportSections(
        findings=joined("findings") or joined("view"),
        impression=joined("impression"),
        indication=joined("indication"),
        comparison=joined("comparison"),
        technique=joined("technique"),
        examination=joined("examination"),
        body=" ".join(plain),
    )
