"""An audit message as records, and as the XML that DICOM has for it. Decides nothing of what is recorded.

Source: DICOM PS3.15, A.5.1 (schema) and A.5.2 (conventions). An XML text here is one line of printable signs.
"""

import base64
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement, tostring

from r2gengpt.errors import one_line

LONGEST = 1024
"""Signs of a value; what is longer is cut off."""
MOST_OBJECTS = 256
"""Objects and details of a message: as many as 64 films and 64 prior ones have that are of 128 patients."""
SUCCESS, MINOR, SERIOUS = "0", "4", "8"
"""Outcomes: it was done; it was not, and may be tried again; it was not."""
PERSON, SYSTEM = "1", "2"
"""Kinds of objects."""
OF_PATIENT, OF_REPORT, OF_SECURITY, OF_QUERY = "1", "3", "13", "24"
"""Roles of objects; a study's is that of a report."""
URI = "5"


@dataclass(frozen=True)
class AuditCode:
    """A coded value: its value, the system that it is of, its meaning."""

    value: str
    system: str
    meaning: str


@dataclass(frozen=True)
class ActiveParticipant:
    """A person or a process that takes part in an event.

    Attributes:
        user: name of a key, subject of a token, process number, AE title or address.
        is_requestor: it began the event; at most one participant of a message did.
        roles: what it is in the event, or what it may do.
        address: of its machine; "" where it is not known.
        alternative: another identifier, as `AETITLES=…`.
        name: for people.
        media: what data goes to.
    """

    user: str
    is_requestor: bool = False
    roles: tuple[AuditCode, ...] = ()
    address: str = ""
    alternative: str = ""
    name: str = ""
    media: AuditCode | None = None


@dataclass(frozen=True)
class ParticipantObject:
    """What an event is about.

    Attributes:
        id: of the object.
        id_type: what that identifies.
        kind: `PERSON` or `SYSTEM`.
        role: one of those above.
        name: for people; the id where it is empty.
        query: what was asked, in place of the name.
        details: type and value.
        accessions: accession numbers.
        classes: SOP Class UID and number of its instances.
    """

    id: str
    id_type: AuditCode
    kind: str
    role: str
    name: str = ""
    query: bytes = b""
    details: tuple[tuple[str, str], ...] = ()
    accessions: tuple[str, ...] = ()
    classes: tuple[tuple[str, int], ...] = ()


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class AuditMessage:
    """An event: which, how it ended, who took part, what it was about.

    Attributes:
        event: its code.
        action: C, R, U, D or E: create, read, update, delete, execute.
        outcome: `SUCCESS`, `MINOR` or `SERIOUS`.
        types: which kind of this event.
        participants: at least one.
        objects: what it was about.
        description: why it did not succeed.
        when: it happened.
    """

    event: AuditCode
    action: str
    outcome: str
    participants: tuple[ActiveParticipant, ...]
    types: tuple[AuditCode, ...] = ()
    objects: tuple[ParticipantObject, ...] = ()
    description: str = ""
    when: datetime = field(default_factory=_now)


def value_of(text: str) -> str:
    """A text as it may stand in a message: one line of printable signs, not too long."""
    return one_line(text)[:LONGEST]


def address_type(address: str) -> str:
    """The code of an address: 1 a name, 2 an IP address, 5 a URI."""
    if "://" in address:
        return URI
    try:
        ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "1"
    return "2"


def _code(parent: Element, name: str, code: AuditCode) -> None:
    values = {"csd-code": code.value, "codeSystemName": code.system, "originalText": code.meaning}
    SubElement(parent, name, {key: value_of(value) for key, value in values.items()})


def _participant(root: Element, one: ActiveParticipant) -> None:
    values = {
        "UserID": one.user or "unknown",
        "AlternativeUserID": one.alternative,
        "UserName": one.name,
        "UserIsRequestor": "true" if one.is_requestor else "false",
        "NetworkAccessPointID": one.address,
        "NetworkAccessPointTypeCode": address_type(one.address) if one.address else "",
    }
    made = SubElement(root, "ActiveParticipant", {key: value_of(value) for key, value in values.items() if value})
    for role in one.roles:
        _code(made, "RoleIDCode", role)
    if one.media is not None:
        _code(SubElement(made, "MediaIdentifier"), "MediaType", one.media)


def _object(root: Element, one: ParticipantObject) -> None:
    values = {
        "ParticipantObjectID": value_of(one.id) or "unknown",
        "ParticipantObjectTypeCode": one.kind,
        "ParticipantObjectTypeCodeRole": one.role,
    }
    made = SubElement(root, "ParticipantObjectIdentification", values)
    _code(made, "ParticipantObjectIDTypeCode", one.id_type)
    if one.query:
        SubElement(made, "ParticipantObjectQuery").text = base64.b64encode(one.query[:LONGEST]).decode()
    else:
        SubElement(made, "ParticipantObjectName").text = value_of(one.name or one.id) or "unknown"
    for kind, value in one.details[:MOST_OBJECTS]:
        text = base64.b64encode(value_of(value).encode()).decode()
        SubElement(made, "ParticipantObjectDetail", {"type": value_of(kind), "value": text})
    if one.accessions or one.classes:
        described = SubElement(made, "ParticipantObjectDescription")
        for number in one.accessions[:MOST_OBJECTS]:
            SubElement(described, "Accession", {"Number": value_of(number)})
        for uid, count in one.classes[:MOST_OBJECTS]:
            SubElement(described, "SOPClass", {"UID": value_of(uid), "NumberOfInstances": str(count)})


def xml_of(message: AuditMessage, source: str) -> str:
    """A message as one line.

    Args:
        message: which.
        source: the system that reports it.
    """
    root = Element("AuditMessage")
    values = {
        "EventActionCode": message.action,
        "EventDateTime": message.when.astimezone(UTC).isoformat(timespec="milliseconds"),
        "EventOutcomeIndicator": message.outcome,
    }
    event = SubElement(root, "EventIdentification", values)
    _code(event, "EventID", message.event)
    for kind in message.types:
        _code(event, "EventTypeCode", kind)
    if message.description:
        SubElement(event, "EventOutcomeDescription").text = value_of(message.description)
    for participant in message.participants:
        _participant(root, participant)
    reporter = SubElement(root, "AuditSourceIdentification", {"AuditSourceID": value_of(source)})
    SubElement(reporter, "AuditSourceTypeCode", {"csd-code": "4"})  # an application server process
    for one in message.objects[:MOST_OBJECTS]:
        _object(root, one)
    return tostring(root, encoding="unicode")


def codes(system: str, meanings: Sequence[tuple[str, str]]) -> tuple[AuditCode, ...]:
    """Codes of one system, each by its value and its meaning."""
    return tuple(AuditCode(value, system, meaning) for value, meaning in meanings)
