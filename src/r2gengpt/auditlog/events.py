"""The events that are recorded, each as the message that DICOM has for it. Writes nothing.

Source: DICOM PS3.15, A.5.3. Names of patients are left out: their numbers are enough.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from r2gengpt.auditlog import codes as c
from r2gengpt.auditlog.message import (
    MINOR,
    OF_PATIENT,
    OF_QUERY,
    OF_REPORT,
    OF_SECURITY,
    PERSON,
    SUCCESS,
    SYSTEM,
    ActiveParticipant,
    AuditCode,
    AuditMessage,
    ParticipantObject,
)
from r2gengpt.films.dicom.header import DicomHeader

ALERT = "Alert Description"
UNKNOWN = "unknown"
"""In place of what is not known: a request that was refused before its films were read is of no study."""


@dataclass(frozen=True)
class Subjects:
    """Which studies, and images without one, an event is about, and whose they are."""

    studies: tuple[ParticipantObject, ...] = ()
    patients: tuple[ParticipantObject, ...] = ()

    @property
    def objects(self) -> tuple[ParticipantObject, ...]:
        """At least one study and one patient, as messages of instances must have them."""
        return (self.studies or (_study(UNKNOWN),)) + (self.patients or (_patient(UNKNOWN),))


NOBODY = Subjects()


def _study(uid: str, accessions: Sequence[str] = (), classes: Sequence[tuple[str, int]] = ()) -> ParticipantObject:
    return ParticipantObject(uid, c.STUDY_UID, SYSTEM, OF_REPORT, accessions=tuple(accessions), classes=tuple(classes))


def _patient(number: str, issuer: str = "") -> ParticipantObject:
    details = (("Issuer of Patient ID", issuer),) if issuer else ()
    return ParticipantObject(number, c.PATIENT_NUMBER, PERSON, OF_PATIENT, details=details)


def subjects_of(headers: Iterable[DicomHeader | None], hashes: Iterable[str] = ()) -> Subjects:
    """Studies and patients of DICOM headers; images without one are known by their hashes.

    Args:
        headers: of the films; None where a film has none.
        hashes: SHA-256 of the films, in the same order.
    """
    found = list(headers)
    known = [header for header in found if header is not None]
    studies = []
    for uid in dict.fromkeys(header.study_uid for header in known):
        own = [header for header in known if header.study_uid == uid]
        kinds = [header.class_uid for header in own if header.class_uid]
        accessions = dict.fromkeys(header.accession for header in own if header.accession)
        studies.append(
            _study(uid or UNKNOWN, tuple(accessions), [(kind, kinds.count(kind)) for kind in dict.fromkeys(kinds)])
        )
    for header, digest in zip(found, hashes, strict=False):
        if header is None:
            studies.append(ParticipantObject(digest, c.FILM_HASH, SYSTEM, OF_REPORT))
    owners = dict.fromkeys((header.patient_id, header.issuer) for header in known if header.patient_id)
    return Subjects(tuple(studies), tuple(_patient(number, issuer) for number, issuer in owners))


def subjects_of_study(uid: str) -> Subjects:
    """A study of which nothing else is known."""
    return Subjects((_study(uid),))


def subjects_of_draft(draft: str, films: Iterable[str], pseudonym: str) -> Subjects:
    """The draft that a receipt names, the hashes of its films, and its patient's pseudonym ("" for none)."""
    report = ParticipantObject(draft, c.REPORT_NUMBER, SYSTEM, OF_REPORT)
    hashes = [ParticipantObject(film, c.FILM_HASH, SYSTEM, OF_REPORT) for film in films]
    owner = [ParticipantObject(pseudonym, c.PSEUDONYM, PERSON, OF_PATIENT)] if pseudonym else []
    return Subjects((report, *hashes), tuple(owner))


def this_process(program: str, titles: Sequence[str] = ()) -> ActiveParticipant:
    """The program as a participant: its process number, its AE titles."""
    alternative = f"AETITLES={';'.join(titles)}" if titles else ""
    return ActiveParticipant(str(os.getpid()), alternative=alternative, name=f"r2gengpt {program}")


def in_role(participant: ActiveParticipant, *roles: AuditCode) -> ActiveParticipant:
    """A participant with what it is in an event."""
    return replace(participant, roles=(*roles, *participant.roles))


def activity(process: ActiveParticipant, *, is_start: bool) -> AuditMessage:
    """The program starts or stops."""
    kind = c.APPLICATION_START if is_start else c.APPLICATION_STOP
    return AuditMessage(c.APPLICATION_ACTIVITY, "E", SUCCESS, (in_role(process, c.APPLICATION),), (kind,))


def alert(
    process: ActiveParticipant,
    kind: AuditCode,
    outcome: str,
    words: str,
    *others: ActiveParticipant,
    about: str = "",
) -> AuditMessage:
    """Something that whoever watches over safety should know.

    Args:
        process: what reports it.
        kind: of alert.
        outcome: `SUCCESS`: to be known; `MINOR`: an attempt that did not succeed.
        words: what has happened.
        others: who did it.
        about: a URI of what it is about.
    """
    kind_of_id = c.URI_ID if about else c.NODE_ID
    subject = ParticipantObject(
        about or process.user, kind_of_id, SYSTEM, OF_SECURITY, name="r2gengpt", details=((ALERT, words),)
    )
    return AuditMessage(c.SECURITY_ALERT, "E", outcome, (process, *others), (kind,), (subject,))


def not_authenticated(process: ActiveParticipant, user: ActiveParticipant, words: str) -> AuditMessage:
    """Somebody is not who may ask."""
    return AuditMessage(c.USER_AUTHENTICATION, "E", MINOR, (user, process), (c.LOGIN,), description=words)


def accessed(
    process: ActiveParticipant,
    user: ActiveParticipant | None,
    subjects: Subjects,
    kind: AuditCode,
    outcome: str = SUCCESS,
    words: str = "",
) -> AuditMessage:
    """Films were used, by the program itself or for somebody."""
    who = (process,) if user is None else (user, process)
    return AuditMessage(c.INSTANCES_ACCESSED, "R", outcome, who, (kind,), subjects.objects, words)


def exported(
    process: ActiveParticipant,
    user: ActiveParticipant,
    subjects: Subjects,
    kind: AuditCode,
    outcome: str = SUCCESS,
    words: str = "",
) -> AuditMessage:
    """A document of a study was given to somebody."""
    media = ActiveParticipant(user.address or UNKNOWN, False, (c.DESTINATION_MEDIA,), user.address, media=c.URI_MEDIA)
    who = (in_role(user, c.DESTINATION), in_role(process, c.SOURCE), media)
    return AuditMessage(c.EXPORT, "R", outcome, who, (kind,), subjects.objects, words)


def recorded(
    process: ActiveParticipant,
    user: ActiveParticipant,
    subjects: Subjects,
    kind: AuditCode,
    outcome: str = SUCCESS,
    words: str = "",
) -> AuditMessage:
    """Somebody's verdict on a draft was kept."""
    return AuditMessage(c.PROCEDURE_RECORD, "C", outcome, (user, process), (kind,), subjects.objects, words)


def transferred(
    source: ActiveParticipant,
    destination: ActiveParticipant,
    subjects: Subjects,
    *,
    is_begin: bool = False,
    is_new: bool = False,
    outcome: str = SUCCESS,
    words: str = "",
) -> AuditMessage:
    """Instances go, or have gone, from one node to another; `is_new`: the receiver did not have them."""
    who = (in_role(source, c.SOURCE), in_role(destination, c.DESTINATION))
    if is_begin:
        return AuditMessage(c.BEGIN_TRANSFER, "E", outcome, who, (), subjects.objects, words)
    return AuditMessage(c.INSTANCES_TRANSFERRED, "C" if is_new else "R", outcome, who, (), subjects.objects, words)


def queried(source: ActiveParticipant, destination: ActiveParticipant, study: str) -> AuditMessage:
    """A server was asked for the series of a study (QIDO-RS)."""
    asked = ParticipantObject(
        "1.2.840.10008.5.1.4.1.2.2.1",  # Study Root Query/Retrieve Information Model: what QIDO-RS asks in
        AuditCode("110181", c.DCM, "SOP Class UID"),
        SYSTEM,
        OF_QUERY,
        query=f"StudyInstanceUID={study}".encode(),
    )
    who = (in_role(source, c.SOURCE), in_role(destination, c.DESTINATION))
    return AuditMessage(c.QUERY, "E", SUCCESS, who, (), (asked,))
