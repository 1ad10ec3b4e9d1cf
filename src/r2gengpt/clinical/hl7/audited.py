"""What is recorded of HL7 messages: orders that came, results that go. Sends and keeps nothing."""

from collections.abc import Sequence

from r2gengpt.auditlog import codes as c
from r2gengpt.auditlog.events import UNKNOWN, Subjects
from r2gengpt.auditlog.message import (
    MINOR,
    OF_PATIENT,
    OF_REPORT,
    PERSON,
    SUCCESS,
    SYSTEM,
    ActiveParticipant,
    AuditMessage,
    ParticipantObject,
)
from r2gengpt.clinical.hl7.er7 import Header, Segment, header_of, read_message
from r2gengpt.clinical.hl7.orders import Order

STUDY = "113014"
"""The code of the OBX that holds the Study Instance UID."""
ACCESSION = c.own_code("accession-key", "Hash of an accession number, as the spool has it")


def patient_in(segments: Sequence[Segment]) -> str:
    """The patient's number (PID-3); "" where there is none."""
    return next((one.text(3) for one in segments if one.name == "PID"), "")


def subjects_of_result(message: bytes) -> Subjects:
    """Study and patient of a message of ours."""
    segments = read_message(message, header_of(message)).segments
    study = next((one.text(5) for one in segments if one.name == "OBX" and one.text(3) == STUDY), "")
    accession = next((number for one in segments if one.name == "OBR" and (number := one.text(3))), "")
    found = ParticipantObject(
        study or UNKNOWN, c.STUDY_UID, SYSTEM, OF_REPORT, accessions=(accession,) if accession else ()
    )
    owner = ParticipantObject(patient_in(segments) or UNKNOWN, c.PATIENT_NUMBER, PERSON, OF_PATIENT)
    return Subjects((found,), (owner,))


def order_message(
    process: ActiveParticipant, header: Header, address: str, patient: str, orders: Sequence[Order], words: str
) -> AuditMessage:
    """A message of orders came.

    Args:
        process: ours.
        header: of the message: who sends it.
        address: of the sender.
        patient: number; "" where it is not known.
        orders: that were taken.
        words: why they were not; "" where they were.
    """
    name = "^".join(filter(None, (header.raw(3).strip(), header.raw(4).strip()))) or UNKNOWN
    sender = ActiveParticipant(name, is_requestor=True, address=address)
    action = "D" if orders and all(order.is_withdrawn for order in orders) else "C"
    objects = [ParticipantObject(patient or UNKNOWN, c.PATIENT_NUMBER, PERSON, OF_PATIENT)]
    objects += [ParticipantObject(order.accession, ACCESSION, SYSTEM, OF_REPORT) for order in orders if order.accession]
    outcome = MINOR if words else SUCCESS
    return AuditMessage(c.ORDER_RECORD, action, outcome, (sender, process), (), tuple(objects), words)
