"""The grammar of DICOM's audit messages, and what a log says, for tests. No test stands here.

Source: DICOM PS3.15, A.5.1: each element's attributes, and its children in their order with how often they come.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

from r2gengpt.auditlog.chain import read_record
from r2gengpt.auditlog.files import log_files

CODED = {"csd-code": r".+", "codeSystemName": r".+", "originalText": r".+"}
UID = r"[0-2](\.(0|[1-9][0-9]*))+"
BASE64 = r"[A-Za-z0-9+/]*={0,2}"


@dataclass(frozen=True)
class Rule:
    """What an element may hold: needed and allowed attributes, children as a pattern of names, a text."""

    needed: Mapping[str, str]
    allowed: Mapping[str, str]
    children: str = ""
    text: str = ""


CODE = Rule(CODED, {})
GRAMMAR = {
    "AuditMessage": Rule(
        {},
        {},
        "EventIdentification (ActiveParticipant )+AuditSourceIdentification (ParticipantObjectIdentification )*",
    ),
    "EventIdentification": Rule(
        {"EventDateTime": r".+", "EventOutcomeIndicator": "0|4|8|12"},
        {"EventActionCode": "[CRUDE]"},
        "EventID (EventTypeCode )*(EventOutcomeDescription )?",
    ),
    "EventOutcomeDescription": Rule({}, {}, text=".+"),
    "ActiveParticipant": Rule(
        {"UserID": ".+", "UserIsRequestor": "true|false"},
        {
            "AlternativeUserID": ".+",
            "UserName": ".+",
            "NetworkAccessPointID": ".+",
            "NetworkAccessPointTypeCode": "[1-5]",
        },
        "(RoleIDCode )*(MediaIdentifier )?",
    ),
    "MediaIdentifier": Rule({}, {}, "MediaType "),
    "AuditSourceIdentification": Rule({"AuditSourceID": ".+"}, {}, "(AuditSourceTypeCode )*"),
    "AuditSourceTypeCode": Rule({"csd-code": "[1-9]"}, {}),
    "ParticipantObjectIdentification": Rule(
        {"ParticipantObjectID": ".+"},
        {"ParticipantObjectTypeCode": "[1-4]", "ParticipantObjectTypeCodeRole": "[1-9]|1[0-9]|2[0-6]"},
        "ParticipantObjectIDTypeCode (ParticipantObjectName |ParticipantObjectQuery )(ParticipantObjectDetail )*"
        "(ParticipantObjectDescription )*",
    ),
    "ParticipantObjectName": Rule({}, {}, text=".+"),
    "ParticipantObjectQuery": Rule({}, {}, text=BASE64),
    "ParticipantObjectDetail": Rule({"type": ".+", "value": BASE64}, {}),
    "ParticipantObjectDescription": Rule({}, {}, "(Accession )*(SOPClass )*"),
    "Accession": Rule({"Number": ".+"}, {}),
    "SOPClass": Rule({"NumberOfInstances": "[0-9]+"}, {"UID": UID}),
    **dict.fromkeys(("EventID", "EventTypeCode", "RoleIDCode", "MediaType", "ParticipantObjectIDTypeCode"), CODE),
}
INSTANCES = ("110102", "110103", "110104")
"""Events of instances: they are of at least one study and one patient."""
OF_ROLES = {
    "110102": "110153 110152",
    "110104": "110153 110152",
    "110106": "110152 110153 110154",
    "110112": "110153 110152",
}
"""Event → roles that its participants must have."""


def check_element(one: Element) -> None:
    """An element and all in it fit the grammar."""
    rule = GRAMMAR[one.tag]
    assert set(rule.needed) <= set(one.attrib) <= {*rule.needed, *rule.allowed}, one.attrib
    for name, value in one.attrib.items():
        pattern = rule.needed.get(name) or rule.allowed[name]
        assert re.fullmatch(pattern, value), (one.tag, name, value)
        assert value.isprintable()
    assert re.fullmatch(rule.children, "".join(f"{child.tag} " for child in one)), (one.tag, [it.tag for it in one])
    assert re.fullmatch(rule.text, one.text or ""), (one.tag, one.text)
    for child in one:
        check_element(child)


def check_message(xml: str) -> Element:
    """A message fits the grammar, and what the standard says of its event."""
    root = fromstring(xml)
    check_element(root)
    event = root.find("EventIdentification/EventID")
    assert event is not None
    assert datetime.fromisoformat(root[0].attrib["EventDateTime"]).tzinfo is not None
    requestors = [it for it in root.findall("ActiveParticipant") if it.attrib["UserIsRequestor"] == "true"]
    assert len(requestors) <= 1
    roles = {it.attrib["csd-code"] for it in root.findall("ActiveParticipant/RoleIDCode")}
    assert set(OF_ROLES.get(event.attrib["csd-code"], "").split()) <= roles
    if event.attrib["csd-code"] in INSTANCES:
        kinds = {
            (it.attrib["ParticipantObjectTypeCode"], it.attrib["ParticipantObjectTypeCodeRole"])
            for it in root.findall("ParticipantObjectIdentification")
        }
        assert {("1", "1"), ("2", "3")} <= kinds
    return root


@dataclass(frozen=True)
class Said:
    """What a record says, in short: event, kind, action, outcome, who began it, what it is about."""

    event: str
    kind: str
    action: str
    outcome: str
    user: str
    address: str
    objects: tuple[str, ...]
    details: tuple[str, ...]
    xml: str


def said_in(directory: Path) -> list[Said]:
    """What a log says; each message fits the standard."""
    found = []
    for line in [line for path in log_files(directory) for line in path.read_bytes().splitlines()]:
        record = read_record(line)
        if record is None:
            continue
        root = check_message(record.message)
        event, kind = root.find("EventIdentification/EventID"), root.find("EventIdentification/EventTypeCode")
        assert event is not None
        began = next((it for it in root.findall("ActiveParticipant") if it.attrib["UserIsRequestor"] == "true"), None)
        details = [base64.b64decode(it.attrib["value"]).decode() for it in root.iter("ParticipantObjectDetail")]
        found.append(
            Said(
                event.attrib["originalText"],
                "" if kind is None else kind.attrib["csd-code"],
                root[0].attrib["EventActionCode"],
                root[0].attrib["EventOutcomeIndicator"],
                "" if began is None else began.attrib["UserID"],
                "" if began is None else began.attrib.get("NetworkAccessPointID", ""),
                tuple(it.attrib["ParticipantObjectID"] for it in root.findall("ParticipantObjectIdentification")),
                tuple(details),
                record.message,
            )
        )
    return found
