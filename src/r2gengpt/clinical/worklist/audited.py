"""What a performer records: items that are claimed and ended, films that come, reports that go. Asks nobody."""

from r2gengpt.auditlog import codes as c
from r2gengpt.auditlog.events import in_role, subjects_of_study
from r2gengpt.auditlog.message import (
    MINOR,
    OF_REPORT,
    SUCCESS,
    SYSTEM,
    ActiveParticipant,
    AuditCode,
    AuditMessage,
    ParticipantObject,
)
from r2gengpt.clinical.archive.audited import ArchiveAudit
from r2gengpt.clinical.archive.loop import NotNow
from r2gengpt.clinical.worklist.claims import Claim
from r2gengpt.clinical.worklist.films import Fetch, Film
from r2gengpt.clinical.worklist.stages import Note
from r2gengpt.clinical.worklist.workitem import CANCELED, WorkItem
from r2gengpt.errors import RunError

WORK_ITEM = AuditCode("121726", c.DCM, "Procedure Step SOP Instance UID")
EVENT = c.own_code("work-item", "State of a work item (UPS)")


def recorded_fetch(fetch: Fetch, audit: ArchiveAudit, url: str) -> Fetch:
    """What fetches films, asked for and recorded.

    Raises (when it fetches):
        NotNow: it cannot be recorded; and see `Fetch`.
    """

    def fetched(item: WorkItem) -> list[Film]:
        if item.problem:
            return fetch(item)
        try:
            return audit.pulling(lambda: fetch(item), url, item.studies[0])
        except RunError as error:
            raise NotNow(str(error)) from None

    return fetched


def recorded_changes(audit: ArchiveAudit, url: str) -> Note:
    """What records that an item was claimed, completed or canceled on the worklist server of this URL."""
    server = ActiveParticipant(url, address=url)

    def note(claim: Claim, state: str) -> None:
        audit.log.append(state_message(audit.log.process, server, claim, state))

    return note


def state_message(process: ActiveParticipant, server: ActiveParticipant, claim: Claim, state: str) -> AuditMessage:
    """A Procedure Record: an item has this state now. Source: PS3.15, A.5.3.9."""
    item = ParticipantObject(claim.uid, WORK_ITEM, SYSTEM, OF_REPORT, details=(("Procedure Step State", state),))
    outcome, words = (MINOR, claim.reason) if state == CANCELED else (SUCCESS, "")
    subjects = subjects_of_study(claim.item.studies[0] if claim.item.studies else "unknown")
    who = (process, in_role(server, c.DESTINATION))
    return AuditMessage(c.PROCEDURE_RECORD, "U", outcome, who, (EVENT,), (item, *subjects.objects), words)
