"""Orders in an HL7 v2 message (ORM^O01, OMI^O23): which study is meant, why, how soon. Keeps nothing."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

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
    are_separators,
)
from r2gengpt.errors import one_line
from r2gengpt.films.context import date_in
from r2gengpt.text.context import MOST_YEARS, Context, plain, shortened

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
LONGEST_PLACER = 427
"""Characters of a placer's number with its components. Source: HL7 2.5.1, chapter 2A, EI."""


@dataclass(frozen=True)
class Order:
    """One order.

    Attributes:
        accession: the key of its accession number (see `key_of`); "" where only its placer's number is known.
        placer: its number by who placed it, as ORC-2 has it.
        patients: keys of the identifiers of its patient (see `patient_keys`); none where a cancellation has none.
        indication: why it is placed; in one line.
        technique: the procedure that is asked for.
        age: the patient's in years, when the message was sent.
        sex: M, F or empty.
        priority: `STAT`, `SOON` or `ROUTINE`.
        is_withdrawn: it is not to be followed any more.
    """

    accession: str
    placer: str = field(default="", repr=False)
    patients: frozenset[str] = frozenset()
    indication: str = field(default="", repr=False)
    priority: int = ROUTINE
    is_withdrawn: bool = False
    technique: str = field(default="", repr=False)
    age: float | None = field(default=None, repr=False)
    sex: str = field(default="", repr=False)

    @property
    def context(self) -> Context:
        """What it tells of the study beside its films, as a prompt may have it."""
        return Context(plain(self.indication), plain(self.technique), age=self.age, sex=self.sex)


NO_ORDER = Order("")
"""Asks for nothing."""


def patient_keys(number: str, authority: str = "") -> frozenset[str]:
    """What stands for a patient's identifier.

    Args:
        number: as films or PID-3 have it.
        authority: who gave it, a name or an HD (`name&universal id&type`): a key for each of both; "": not known.
    """
    name = key_of(f"patient {number.strip()}")
    words = {one.strip().casefold() for one in (authority, *authority.split("&")[:2]) if one.strip()}
    return frozenset(f"{name}:{key_of(f'authority {word}')}" for word in words) or frozenset([name])


def may_be_one(ones: frozenset[str], others: frozenset[str]) -> bool:
    """Whether two patients' keys share a number whose authorities do not contradict each other."""

    def authorities(keys: frozenset[str], number: str) -> set[str]:
        return {authority for key in keys for name, _, authority in [key.partition(":")] if name == number}

    numbers = {key.partition(":")[0] for key in ones}
    pairs = [(authorities(ones, number), authorities(others, number)) for number in numbers]
    return any(mine and theirs and (mine & theirs or "" in mine | theirs) for mine, theirs in pairs)


def check_header(header: Header) -> None:
    """Refuse what is no order, is of another major version, is for no purpose that is known, or has no separators.

    Raises:
        MessageError: so it is.
    """
    if not are_separators(header.separators.field, header.raw(2)):
        raise MessageError("MSH-2", "does not name four or five different separators", VALUE)
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
        MessageError: a segment is missing or out of place, a control is not known, or no accession number or patient
            is there.
    """
    patients: frozenset[str] | None = None
    age, sex = None, ""
    groups: list[_OrderGroup] = []
    for segment in message.segments:
        if segment.name == "PID":
            if patients is not None or groups:
                raise MessageError("PID", "stands twice, or after an order", SEQUENCE, 2)
            patients = _patients(segment)
            age, sex = _age(segment, message.header), _sex(segment)
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
    orders = [order for group in groups for order in _orders(group, patients or frozenset())]
    if not patients and not all(order.is_withdrawn for order in orders):
        raise MessageError("PID-3", "is missing: the order names no patient", MISSING)
    return tuple(order if order.is_withdrawn else replace(order, age=age, sex=sex) for order in orders)


def _patients(segment: Segment) -> frozenset[str]:
    """The patient's identifiers, of PID-3 and of the old PID-2, with their assigning authorities."""
    parts = [*segment.repetitions(3), *segment.repetitions(2)]
    sign = segment.separators.subcomponent
    return frozenset(
        key
        for part in parts
        if (number := segment.part(part, 1))
        for key in patient_keys(number, segment.part(part, 4).replace(sign, "&"))
    )


def _age(segment: Segment, header: Header) -> float | None:
    """The patient's age in years by PID-7 and the message's own time, MSH-7; None where one of them is no date."""
    born, now = date_in(segment.text(7)[:8]), date_in(header.words(7)[0][:8])
    years = -1.0 if born is None or now is None else (now - born).days / 365.25
    return years if 0 <= years <= MOST_YEARS else None


def _sex(segment: Segment) -> str:
    """PID-8 where it is M or F. Source: HL7 table 0001."""
    word = segment.text(8).upper()
    return word if word in ("M", "F") else ""


def _technique(group: _OrderGroup) -> str:
    """The words of the procedure that is asked for, OBR-4.2 or OBR-4.5."""
    request = group.request
    found = "" if request is None else request.text(4, 2) or request.text(4, 5)
    return shortened(one_line(found))


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
        technique = "" if is_withdrawn else _technique(group)
        yield Order(accession_key(number), placer, patients, indication, priority, is_withdrawn, technique)


def _placer(group: _OrderGroup) -> str:
    """The order's number by who placed it: its components as text, with `^` between them.

    Raises:
        MessageError: it is too long to be one.
    """
    for segment in filter(None, (group.control, group.request)):
        found = [one_line(segment.text(2, number)).replace("^", " ") for number in range(1, 5)]
        whole = "^".join(found).rstrip("^")
        if len(whole) > LONGEST_PLACER:
            words = f"its number has more than {LONGEST_PLACER} characters"
            raise MessageError(f"{segment.name}-2", words, TYPE, group.number)
        if found[0]:
            return whole
    return ""


def _accessions(group: _OrderGroup) -> list[str]:
    """The first of these that there is: IPC-1 (of each IPC), OBR-18, OBR-3, ORC-3.

    Raises:
        MessageError: it is no accession number for its length.
    """
    found = [("IPC-1", number) for one in group.named("IPC") if (number := one.text(1))]
    if not found:
        fields = [*((group.request, number) for number in (18, 3)), (group.control, 3)]
        read = ((f"{one.name}-{field}", one.text(field)) for one, field in fields if one is not None)
        found = [(place, number) for place, number in read if number][:1]
    for place, number in found:
        if len(number) > LONGEST_NUMBER:
            words = f"its accession number has more than {LONGEST_NUMBER} characters"
            raise MessageError(place, words, TYPE, group.number)
    return list(dict.fromkeys(number for _, number in found))


def _indication(group: _OrderGroup) -> str:
    """Why the order is placed: its reasons (OBR-31), relevant information (OBR-13), and diagnoses (DG1)."""
    texts: list[str] = []
    if group.request is not None:
        request = group.request
        reasons = [*request.repetitions(31), *request.repetitions(13)]  # OBR-13 is a code with words since version 2.8
        texts += [request.part(one, 2) or request.part(one, 1) for one in reasons]
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
