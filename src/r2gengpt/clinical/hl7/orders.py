"""Orders in an HL7 v2 message (ORM^O01, OMI^O23): which study is meant, why, how soon. Keeps nothing."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from r2gengpt.clinical.archive.ledger import accession_key, key_of
from r2gengpt.clinical.hl7.er7 import (
    EVENT,
    KIND,
    MISSING,
    PROCESSING,
    SEQUENCE,
    TYPE,
    VALUE,
    VERSION,
    Er7Message,
    Header,
    MessageError,
    Segment,
)
from r2gengpt.errors import one_line

TYPES = {"ORM": "O01", "OMI": "O23"}
KEEPING = ("NW", "XO", "XX", "RP", "RO", "SN", "NA")
"""Order controls that make an order or replace it."""
WITHDRAWING = ("CA", "DC", "OC", "OD")
WITHOUT_EFFECT = ("SC", "SR", "OK", "UA", "HD", "RL", "OH", "OR")
"""Those that tell of an order's progress."""
STAT, SOON, ROUTINE = 2, 1, 0
MOST_INDICATION = 1000
"""Characters."""
LONGEST_NUMBER = 64
"""Characters of an accession number; DICOM has 16."""


@dataclass(frozen=True)
class Order:
    """One order.

    Attributes:
        accession: the key of its accession number (see `key_of`); "" where only its placer's number is known.
        placer: its number by who placed it, as ORC-2 has it.
        patients: keys of the identifiers of its patient.
        indication: why it is placed; in one line.
        priority: `STAT`, `SOON` or `ROUTINE`.
        is_withdrawn: it is not to be followed any more.
    """

    accession: str
    placer: str = field(default="", repr=False)
    patients: frozenset[str] = frozenset()
    indication: str = field(default="", repr=False)
    priority: int = ROUTINE
    is_withdrawn: bool = False


NO_ORDER = Order("")
"""Asks for nothing."""


def patient_key(number: str) -> str:
    """What stands for a patient's identifier."""
    return key_of(f"patient {number.strip()}")


def check_header(header: Header) -> None:
    """Refuse what is no order, is of another major version, or is for no purpose that is known.

    Raises:
        MessageError: so it is.
    """
    kind, event = (*header.words(9), "", "")[:2]
    if kind not in TYPES:
        raise MessageError("MSH-9", "only orders are taken, ORM^O01 and OMI^O23", KIND)
    if event != TYPES[kind] and not (kind == "ORM" and not event):
        raise MessageError("MSH-9", f"of {kind} only the event {TYPES[kind]} is taken", EVENT)
    if header.words(11)[0] not in ("P", "T", "D", ""):
        raise MessageError("MSH-11", "must be P, T or D", PROCESSING)
    if not re.fullmatch(r"2(\.[0-9]{1,2}){0,2}", header.words(12)[0]):
        raise MessageError("MSH-12", "only versions 2 are taken", VERSION)
    if not header.raw(10).strip():
        raise MessageError("MSH-10", "is missing: the message has no control id", MISSING)


@dataclass
class _OrderGroup:
    """ORC and what follows it; `number` is which ORC it is, from 1."""

    number: int
    control: Segment
    request: Segment | None = None
    others: list[Segment] = field(default_factory=list)

    def named(self, name: str) -> Iterator[Segment]:
        return (one for one in self.others if one.name == name)


def orders_of(message: Er7Message) -> tuple[Order, ...]:
    """The orders of a message whose header was checked, one for each accession number.

    Raises:
        MessageError: a segment is missing or out of place, a control is not known, or no accession number is there.
    """
    patients: frozenset[str] | None = None
    groups: list[_OrderGroup] = []
    for segment in message.segments:
        if segment.name == "PID":
            if patients is not None or groups:
                raise MessageError("PID", "stands twice, or after an order", SEQUENCE, 2)
            patients = _patients(segment)
        elif segment.name == "ORC":
            groups.append(_OrderGroup(len(groups) + 1, segment))
        elif segment.name == "OBR":
            if not groups:
                raise MessageError("ORC", "is missing before OBR", SEQUENCE)
            if groups[-1].request is not None:
                raise MessageError("OBR", "stands twice after one ORC", SEQUENCE, len(groups) + 1)
            groups[-1].request = segment
        elif groups:
            groups[-1].others.append(segment)
    if not groups:
        raise MessageError("ORC", "is missing: the message holds no order", SEQUENCE)
    return tuple(order for group in groups for order in _orders(group, patients or frozenset()))


def _patients(segment: Segment) -> frozenset[str]:
    """The patient's identifiers, of PID-3 and of the old PID-2."""
    parts = [*segment.repetitions(3), *segment.repetitions(2)]
    return frozenset(patient_key(number) for part in parts if (number := segment.part(part, 1)))


def _orders(group: _OrderGroup, patients: frozenset[str]) -> Iterator[Order]:
    """The orders of one ORC.

    Raises:
        MessageError: see `orders_of`.
    """
    control = group.control.text(1).upper()
    if not control:
        raise MessageError("ORC-1", "is missing: the order has no control code", MISSING, group.number)
    if control not in KEEPING + WITHDRAWING + WITHOUT_EFFECT:
        raise MessageError("ORC-1", "its control code is not supported", VALUE, group.number)
    if control in WITHOUT_EFFECT:
        return
    is_withdrawn = control in WITHDRAWING
    if group.request is None and not is_withdrawn:
        raise MessageError("OBR", "is missing after ORC", SEQUENCE, group.number)
    placer = _placer(group)
    accessions = _accessions(group)
    if not accessions and not (is_withdrawn and placer):
        raise MessageError("OBR-18", "no accession number, nor in IPC-1, OBR-3 and ORC-3", MISSING, group.number)
    indication, priority = ("", ROUTINE) if is_withdrawn else (_indication(group), _priority(group))
    for number in accessions or [""]:
        yield Order(accession_key(number), placer, patients, indication, priority, is_withdrawn)


def _placer(group: _OrderGroup) -> str:
    """The order's number by who placed it: its components as text, with `^` between them."""
    for segment in filter(None, (group.control, group.request)):
        found = [one_line(segment.text(2, number)).replace("^", " ") for number in range(1, 5)]
        if found[0]:
            return "^".join(found).rstrip("^")[:LONGEST_NUMBER]
    return ""


def _accessions(group: _OrderGroup) -> list[str]:
    """The first of these that there is: IPC-1 (of each IPC), OBR-18, OBR-3, ORC-3.

    Raises:
        MessageError: it is no accession number for its length.
    """
    request = group.request
    found = list(dict.fromkeys(number for one in group.named("IPC") if (number := one.text(1))))
    found = (
        found
        or [
            number
            for number in (request and request.text(18), request and request.text(3), group.control.text(3))
            if number
        ][:1]
    )
    if any(len(number) > LONGEST_NUMBER for number in found):
        raise MessageError(
            "OBR-18", f"its accession number has more than {LONGEST_NUMBER} characters", TYPE, group.number
        )
    return found


def _indication(group: _OrderGroup) -> str:
    """Why the order is placed: its reasons (OBR-31), relevant information (OBR-13), and diagnoses (DG1)."""
    texts: list[str] = []
    if group.request is not None:
        request = group.request
        texts += [request.part(one, 2) or request.part(one, 1) for one in request.repetitions(31)]
        texts += [request.text(13)]
    texts += [one.text(4) or one.text(3, 2) for one in group.named("DG1")]
    whole = "; ".join(dict.fromkeys(filter(None, map(one_line, texts))))
    return (
        whole
        if len(whole) <= MOST_INDICATION
        else whole[:MOST_INDICATION].rpartition(" ")[0] or whole[:MOST_INDICATION]
    )


def _priority(group: _OrderGroup) -> int:
    """How soon: the first of TQ1-9, OBR-27.6, ORC-7.6 and OBR-5 that holds something. Source: HL7 table 0485."""
    request = group.request
    places: Sequence[str] = [
        *(one.text(9) for one in group.named("TQ1")),
        *((request.text(27, 6),) if request is not None else ()),
        group.control.text(7, 6),
        *((request.text(5),) if request is not None else ()),
    ]
    word = next(filter(None, places), "").upper()
    if word in ("S", "STAT"):
        return STAT
    return SOON if word in ("A", "ASAP", "P", "C") or re.fullmatch("T[SMHDWL]?[0-9]*", word) else ROUTINE
