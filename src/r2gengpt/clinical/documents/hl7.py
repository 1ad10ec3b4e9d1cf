"""A draft as an HL7 version 2.5.1 message ORU^R01, as text. Always preliminary; nothing is sent from here.

Segments are made and checked by hl7apy (extra `fhir`), which is imported here. Texts are escaped before they go in.
"""

import re
from dataclasses import dataclass
from typing import Any

from r2gengpt.clinical.documents.draft import FILM_BLOCK, MANUFACTURER, Draft
from r2gengpt.report import Finding
from r2gengpt.text.written import noted

ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
"""Source: HL7 2.5.1, chapter 2.7.1."""
SERVICE = "18748-4^Diagnostic imaging study^LN"
COMMENT = "8251-1^Service comment^LN"
SECTIONS = {"Findings": "59776-5^Procedure findings^LN", "Impression": "19005-8^Imaging study [Impression]^LN"}
NULL = '""'
"""A field of two quotes says that a value is to be deleted. Source: HL7 2.5.1, chapter 2.5.3."""
BREAK, QUOTES = "\x1f", "\x80"
"""Stand for a line break and two quotes until the message is text: hl7apy takes their sequences for plain text."""


@dataclass(frozen=True)
class ObxFields:
    """An OBX: its type, name and value, escaped; a probability in OBX-9 and a comment in an NTE where it has them."""

    kind: str
    name: str
    value: str
    probability: str = ""
    comment: str = ""


def escaped(text: str) -> str:
    r"""A text as it may stand in a field: separators as escape sequences, line breaks as `BREAK`, no other controls.

    Two quotes alone, which would mean an empty value, are `QUOTES`.

    >>> escaped("a|b & c")
    'a\\F\\b \\T\\ c'
    """
    lines = re.split(r"\r\n|[\r\n\v\f\x85\u2028\u2029]", text)
    if text.strip() == NULL:
        return QUOTES
    clean = (re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", line) for line in lines)
    return BREAK.join("".join(ESCAPES.get(sign, sign) for sign in line) for line in clean)


def hl7_message(draft: Draft) -> bytes:
    """The message in UTF-8; each segment ends with a carriage return, and nothing frames it.

    Raises:
        ModuleNotFoundError: hl7apy is not installed.
    """
    from hl7apy.consts import VALIDATION_LEVEL
    from hl7apy.core import Message

    message = Message("ORU_R01", version="2.5.1", validation_level=VALIDATION_LEVEL.TOLERANT)
    created = f"{draft.created:%Y%m%d%H%M%S%z}"
    _fill(
        message.msh,
        msh_3=MANUFACTURER,
        msh_7=created,
        msh_9="ORU^R01^ORU_R01",
        msh_10=draft.uuid("hl7 message").hex[:20],
        msh_11="T",
        msh_18="UNICODE UTF-8",
    )
    result = message.add_group("ORU_R01_PATIENT_RESULT")
    _fill(result.add_group("ORU_R01_PATIENT").add_segment("PID"), **_patient(draft))
    order = result.add_group("ORU_R01_ORDER_OBSERVATION")
    _fill(order.add_segment("OBR"), **_request(draft, created))
    _fill(order.add_segment("NTE"), nte_1="1", nte_3=escaped(draft.origin))
    for number, one in enumerate(_observations(draft), 1):
        group = order.add_group("ORU_R01_OBSERVATION")
        fields = {"obx_2": one.kind, "obx_3": one.name, "obx_5": one.value, "obx_9": one.probability}
        _fill(group.add_segment("OBX"), obx_1=str(number), **fields, obx_11="P", obx_14=created)
        if one.comment:
            _fill(group.add_segment("NTE"), nte_1="1", nte_3=one.comment)
    message.validate()
    text = _sequenced(message.to_er7())
    return text.rstrip("\r").encode() + b"\r"


def addressed(message: bytes, receiver: str) -> bytes:
    """A message of ours to an application and its facility, with `^` between them: MSH-5 and MSH-6."""
    header, end, rest = message.partition(b"\r")
    fields = header.split(b"|")
    application, _, facility = receiver.partition("^")
    fields[4:6] = (_sequenced(escaped(one)).encode() for one in (application, facility))
    return b"|".join(fields) + end + rest


def _sequenced(text: str) -> str:
    """A text of a message with the escape sequences that signs stood for."""
    return text.replace(BREAK, "\\.br\\").replace(QUOTES, "\\X2222\\")


def _fill(segment: Any, **fields: str) -> None:
    """Set the fields that have a value."""
    for name, value in fields.items():
        if value:
            setattr(segment, name, value)


def _patient(draft: Draft) -> dict[str, str]:
    """PID. A DICOM name is family, given, middle, prefix, suffix; one of HL7 has the suffix before the prefix.

    Of a name in several scripts the first goes in.
    """
    patient = draft.patient
    groups = [group.split("^") for group in patient.name.split("=")]  # letters, ideographs, sounds
    named = next((group for group in groups if any(map(str.strip, group))), [""])
    family, given_name, middle, prefix, suffix, *_ = *named, *[""] * 5
    name = "^".join(map(escaped, (family, given_name, middle, suffix, prefix))).rstrip("^")
    number = escaped(patient.patient_id)
    issuer = escaped(patient.issuer)
    return {
        "pid_1": "1",
        "pid_3": f"{number}^^^{issuer}" if issuer else number,
        "pid_5": name or "^^^^^^U",
        "pid_7": patient.birth_date,
        "pid_8": patient.sex,
    }


def _request(draft: Draft, created: str) -> dict[str, str]:
    """OBR, whose status is P: preliminary."""
    patient = draft.patient
    return {
        "obr_1": "1",
        "obr_2": "^".join(map(escaped, draft.placer.split("^"))),
        "obr_3": escaped(patient.accession),
        "obr_4": SERVICE,
        "obr_7": patient.study_date + patient.study_time if patient.study_date else "",
        "obr_22": created,
        "obr_24": "RAD",
        "obr_25": "P",
    }


def _observations(draft: Draft) -> list[ObxFields]:
    """The study, the notice, the sections, what the films show, then what was not assessed and what needs review."""
    return [
        ObxFields("ST", "113014^DICOM Study Instance UID^DCM", escaped(draft.patient.study_uid)),
        ObxFields("TX", COMMENT, escaped(noted(draft.note))),
        *(ObxFields("TX", SECTIONS[name], escaped(text)) for name, text in draft.sections),
        *map(_finding, draft.assessed),
        *(ObxFields("TX", COMMENT, escaped(line)) for line in draft.comments),
    ]


def _finding(finding: Finding) -> ObxFields:
    """What the films show of an observation; its name is a text, as no code system is agreed on."""
    low, high = finding.interval
    words = f"{FILM_BLOCK}. 95 % interval {low:.2f} to {high:.2f}"
    return ObxFields("ST", f"^{escaped(finding.name)}", finding.verdict, f"{finding.probability:.3f}", escaped(words))
