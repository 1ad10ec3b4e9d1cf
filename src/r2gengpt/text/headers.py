"""The names that sections of a radiology report go by: spellings, misspellings, sub-headings. Cuts no text.

The names are those of MIMIC-CXR's reports, as the release's own parser lists them, and their kin in other hospitals.
Differs from that parser: "FINDINGS AND IMPRESSION" is findings; "NDICATION" is an indication; "PFI", a provisional
reading, is no history.
"""

import re
from functools import lru_cache

HEADERS: dict[str, tuple[str, ...]] = {
    "findings": (
        *("findings", "finding", "reference findings", "technique and findings", "results", "result", "report"),
        *("findings and impression", "findings and impressions", "findings and conclusion", "findings and conclusions"),
        *("impression and findings", "finding and impression"),
    ),
    "impression": (
        *("impression", "impressions", "impression and recommendation", "impression and recommendations"),
        *("conclusion", "conclusions", "opinion", "summary"),
    ),
    "indication": (
        *("indication", "indications", "indication for study", "indication for exam", "clinical indication"),
        *("reason", "reason for examination", "reason for exam", "reason for the exam", "reason for study"),
    ),
    "history": (*("history", "patient history", "clinical history", "clinical information", "clinical presentation"),),
    "comparison": (
        *("comparison", "comparisons", "comparison exam", "comparison film", "comparison films", "compared to"),
        *("reference exam", "prior exam", "prior studies"),
    ),
    "technique": ("technique", "procedure"),
    "examination": ("examination", "examinations", "type of examination", "exam", "exams", "study"),
    "recommendation": ("recommendation", "recommendations"),
    "notification": ("notification", "notifications"),
    "provisional": ("pfi", "provisional findings impression", "provisional findings impression (pfi)"),
    "wet_read": (
        *("wet read", "wetread", "wet-read", "wet reading", "wet read version", "resident wet read"),
        *(
            "preliminary report",
            "preliminary read",
            "preliminary reading",
            "preliminary interpretation",
            "prelim report",
        ),
        *("preliminary", "provisional report", "interim report"),
    ),
    "addendum": ("addendum", "addenda", "amendment", "final addendum"),
    "preamble": ("final report", "final read", "final reading", "main report", "original report"),
}
"""Section → its spellings, in lower case and with "and" for "&" and "/". A "preamble" opens the final report."""

_NAMES = {spelling: name for name, spellings in HEADERS.items() for spelling in spellings}
_SPELT = (
    *("findings", "finding", "impression", "impressions", "conclusion", "conclusions", "indication", "indications"),
    *("comparison", "comparisons", "history", "technique", "examination", "recommendation", "recommendations"),
    *("notification", "notifications", "addendum", "preliminary"),
)
"""The words whose misspellings are read."""
_MIN_MISSPELT = 6
_COMMON = frozenset({"report", "result", "results", "summary", "preliminary", "amendment"})
"""Names that are words of sentences too: headers only where they open a line and a colon follows."""
_TELLING: tuple[tuple[str, frozenset[str]], ...] = (
    ("addendum", frozenset({"addendum", "addenda", "amendment"})),
    ("wet_read", frozenset({"preliminary", "prelim", "provisional", "interim", "wet", "wetread"})),
    ("notification", frozenset({"discussed", "communicated", "relayed", "notified", "dr", "notification"})),
    ("findings", frozenset({"findings", "finding"})),
    ("impression", frozenset({"impression", "impressions", "conclusion", "conclusions"})),
    ("history", frozenset({"history"})),
    ("comparison", frozenset({"comparison", "comparisons", "comparative"})),
    ("indication", frozenset({"indication", "indications", "reason"})),
    ("recommendation", frozenset({"recommendation", "recommendations"})),
)
"""Section → the words of which one decides a header that is in no table, the first line first."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_VIEWS = _words(
    "chest view views radiograph radiographs xray xrays ray rays frontal lateral portable upright supine ap pa cxr lat"
)
_ADDED = _words("other additional incidental further miscellaneous")
_SUBHEADINGS = _ADDED | _words(
    "lung lungs pulmonary parenchyma lobe lobes apex apices base bases pleura pleural pleurae heart cardiac"
    " cardiomediastinal cardiomediastinum cardiovascular cardiopulmonary silhouette mediastinum mediastinal hilum hila"
    " hilar airway airways trachea aorta aortic vascular vasculature vessels bone bones bony osseous skeleton skeletal"
    " musculoskeletal rib ribs spine clavicle clavicles shoulder shoulders sternum vertebrae thorax thoracic wall neck"
    " diaphragm diaphragms hemidiaphragm hemidiaphragms abdomen abdominal stomach bowel pelvis tissue tissues line"
    " lines tube tubes catheter catheters device devices support hardware pacemaker icd ett et ngt ng ogt og picc cvc"
    " port drain drains wires left right bilateral effusion effusions pneumothorax pneumothoraces consolidation opacity"
    " opacities edema nodule nodules mass masses infiltrate infiltrates fracture fractures atelectasis cardiomegaly"
    " quality inspiration size position change film films"
)
"""Words of a heading that belongs to the section around it: organs, devices, sides, what is seen."""


def _is_within(short: str, long: str) -> bool:
    """Whether `long` has the letters of `short` in their order."""
    letters = iter(long)
    return all(letter in letters for letter in short)


def _misspells(word: str, name: str) -> bool:
    """Whether one letter is wrong, two neighbours are swapped, or one or two letters are lost or added."""
    if len(word) != len(name):
        short, long = sorted((word, name), key=len)
        return len(long) - len(short) <= 2 and _is_within(short, long)
    wrong = [i for i, (a, b) in enumerate(zip(word, name, strict=True)) if a != b]
    swapped = len(wrong) == 2 and wrong[1] == wrong[0] + 1 and word[wrong[0]] == name[wrong[1]]
    return len(wrong) == 1 or (swapped and word[wrong[1]] == name[wrong[0]])


@lru_cache(maxsize=4096)
def correct(word: str) -> str:
    """The word of a header that this one means, in lower case; itself where it is near none.

    >>> correct("impresson"), correct("compression"), correct("contusion")
    ('impression', 'compression', 'contusion')
    """
    if word in _SPELT or len(word) < _MIN_MISSPELT:
        return word
    return next((name for name in _SPELT if _misspells(word, name)), word)


def _spelling(words: str) -> str:
    """A header as the table has it, less misspellings."""
    joined = re.sub(r"(?:\s*(?:[&/+,]|\band\b)\s*)+", " and ", words.lower().replace("(s)", "s"))
    return " ".join(joined.split())


def exact_name(words: str) -> str | None:
    """The section that the table has under these words as they are spelt, unless sentences use them too."""
    spelling = _spelling(words)
    return None if spelling in _COMMON else _NAMES.get(spelling)


def known_name(words: str) -> str | None:
    """The section that the table has under these words, misspelt or not.

    >>> known_name("FINDINGS / IMPRESSON"), known_name("LUNGS")
    ('findings', None)
    """
    spelling = _spelling(words)
    return _NAMES.get(spelling) or _NAMES.get(re.sub(r"[a-z]+", lambda match: correct(match[0]), spelling))


def name_within(words: str) -> str | None:
    """As `known_name`, for words within a line: not those that sentences use too."""
    return None if _spelling(words) in _COMMON else known_name(words)


def adds_to(words: str, name: str, inside: str) -> bool:
    """Whether a header adds to the section of its own name that runs ("OTHER FINDINGS" within findings)."""
    return name == inside and not _ADDED.isdisjoint(words.lower().split())


def header_name(words: str, inside: str) -> str | None:
    """The section that a header in capitals opens, or None for a sub-heading of the section `inside`.

    A header in no table goes by its telling word ("CHEST FINDINGS"), then by a view ("CHEST, PA AND LATERAL"). Views
    and organs are sub-headings where findings or an impression run. Any other header opens a section "other".
    """
    name = known_name(words)
    if name:
        return name
    spelt = {correct(word) for word in re.findall(r"[a-z]+", words.lower().replace("(s)", "s"))}
    name = next((name for name, telling in _TELLING if telling & spelt), None)
    if name:
        return None if adds_to(words, name, inside) else name
    if inside in ("findings", "impression", "view") and spelt & (_VIEWS | _SUBHEADINGS):
        return None
    return "view" if spelt & _VIEWS else "other"
