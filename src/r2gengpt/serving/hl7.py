"""A draft as an HL7 version 2.5.1 message ORU^R01, as text. Always preliminary; nothing is sent from here.

Segments are made and checked by hl7apy (extra `fhir`), which is imported here. Texts are escaped before they go in.
"""

import re
from typing import Any

from r2gengpt.serving.draft import MANUFACTURER, Draft
from r2gengpt.text.notice import noted

ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
"""Source: HL7 2.5.1, chapter 2.7.1."""
SERVICE = "18748-4^Diagnostic imaging study^LN"
COMMENT = "8251-1^Service comment^LN"
SECTIONS = {"Findings": "59776-5^Procedure findings^LN", "Impression": "19005-8^Imaging study [Impression]^LN"}
BREAK = "\ue000"
"""Stands for a line break until the message is text: hl7apy takes the sequence for one for plain backslashes."""


def escaped(text: str) -> str:
    r"""A text as it may stand in a field: separators as escape sequences, line breaks as `BREAK`, no other controls.

    >>> escaped("a|b & c")
    'a\\F\\b \\T\\ c'
    """
    lines = re.split(r"\r\n|[\r\n\v\f\x85\u2028\u2029]", text.replace(BREAK, " "))
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
    for number, (kind, name, value) in enumerate(_observations(draft), 1):
        segment = order.add_group("ORU_R01_OBSERVATION").add_segment("OBX")
        _fill(segment, obx_1=str(number), obx_2=kind, obx_3=name, obx_5=value, obx_11="P", obx_14=created)
    message.validate()
    text: str = message.to_er7().replace(BREAK, "\\.br\\")
    return text.rstrip("\r").encode() + b"\r"


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
    family, given, middle, prefix, suffix, *_ = *named, *[""] * 5
    name = "^".join(map(escaped, (family, given, middle, suffix, prefix))).rstrip("^")
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
        "obr_3": escaped(patient.accession),
        "obr_4": SERVICE,
        "obr_7": patient.study_date + patient.study_time if patient.study_date else "",
        "obr_22": created,
        "obr_24": "RAD",
        "obr_25": "P",
    }


def _observations(draft: Draft) -> list[tuple[str, str, str]]:
    """Type, name and value of each OBX: the study, the notice, then the sections."""
    texts = [("TX", SECTIONS[name], escaped(text)) for name, text in draft.sections]
    study = ("ST", "113014^DICOM Study Instance UID^DCM", escaped(draft.patient.study_uid))
    return [study, ("TX", COMMENT, escaped(noted(draft.note))), *texts]
