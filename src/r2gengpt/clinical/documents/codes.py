"""Codes of observations and verdicts, and where each is from. Makes no document.

SNOMED CT codes are those that PS3.16 has, free to use in DICOM objects. RadLex codes are of RadLex 4.3, RSNA, free to
use by its licence. What neither has under the same meaning is in a scheme of our own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from r2gengpt.report import plain_name
from r2gengpt.text.observations import ALL_OBSERVATIONS, LIKELY, NOT_ASSESSED, POSSIBLE, UNLIKELY

LONGEST = 16
"""Characters of a Code Value."""
SNOMED, RADLEX, OWN = "SCT", "RADLEX", "99R2GENGPT"


@dataclass(frozen=True)
class Concept:
    """A code: its value, its scheme's designator as PS3.16, chapter 8 has it, and its meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Scheme:
    """A scheme of codes: its unique identifier, its name and who is responsible for it."""

    uid: str
    name: str
    by: str


SCHEMES: Mapping[str, Scheme] = {
    RADLEX: Scheme("2.16.840.1.113883.6.256", "RadLex", "RSNA"),
    OWN: Scheme("2.25.61063364867404180117325041613148430061", "r2gengpt's own codes", "r2gengpt"),
}
"""Designator → the scheme, of those that a reader may not know."""
PUBLIC: Mapping[str, Concept] = {
    "Cardiomegaly": Concept("287272002", SNOMED, "Cardiomegaly"),
    "Edema": Concept("19242006", SNOMED, "Pulmonary edema"),
    "Pleural Effusion": Concept("60046008", SNOMED, "Pleural effusion"),
    "Pneumothorax": Concept("36118008", SNOMED, "Pneumothorax"),
    "Atelectasis": Concept("RID28493", RADLEX, "Atelectasis"),
    "Consolidation": Concept("RID43255", RADLEX, "Consolidation"),
    "Emphysema": Concept("RID4799", RADLEX, "Pulmonary emphysema"),
    "Fracture": Concept("RID4650", RADLEX, "Fracture"),
    "Pneumonia": Concept("RID5350", RADLEX, "Pneumonia"),
}
"""Observation → the code of others that means the same."""
_OURS = {name: Concept(name.upper().replace(" ", "_")[:LONGEST], OWN, name) for name in ALL_OBSERVATIONS}
OBSERVATIONS: Mapping[str, Concept] = {**_OURS, **PUBLIC}
"""Observation → its code."""
VERDICTS: Mapping[str, Concept] = {
    verdict: Concept(verdict.upper().replace(" ", "_"), OWN, verdict.capitalize())
    for verdict in (LIKELY, POSSIBLE, UNLIKELY, NOT_ASSESSED)
}
"""Verdict → its code."""
SENTENCE = Concept("SENTENCE", OWN, "Sentence of a drafted report")
"""What an area is of where a sentence was mapped, and no finding."""


def probability_of(name: str) -> Concept:
    """What the probability of an observation is called beside a region: short, as it stands on the film in a viewer.

    >>> probability_of("Pleural Effusion").meaning
    'AI draft, pleural effusion'
    """
    value = f"P_{name.upper().replace(' ', '_')}"[:LONGEST]
    return Concept(value, OWN, f"AI draft, {plain_name(name)}"[:64])


def observation(name: str) -> Concept:
    """An observation's code; one that is none of ours has its name alone."""
    return OBSERVATIONS.get(name, Concept("OTHER", OWN, name[:64]))
