"""What the server records of requests, before their answers go out: who asked for what, and how it ended. Answers none.

A request whose record cannot be written gets no answer but 503. Attempts of strangers are recorded up to a number a
minute; the others are counted, and the next record tells how many there were.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

from starlette.requests import HTTPConnection
from starlette.types import Scope

from r2gengpt.auditlog.attempts import Attempts
from r2gengpt.auditlog.codes import RESTRICTED_FUNCTION, USERS_CHANGED, own_code
from r2gengpt.auditlog.events import (
    NOBODY,
    UNKNOWN,
    Subjects,
    accessed,
    alert,
    exported,
    not_authenticated,
    recorded,
    subjects_of,
    subjects_of_draft,
)
from r2gengpt.auditlog.log import AuditFault, AuditLog
from r2gengpt.auditlog.message import MINOR, SERIOUS, SUCCESS, ActiveParticipant, AuditCode, AuditMessage
from r2gengpt.provenance import Source
from r2gengpt.serving.access import ANYBODY, Caller
from r2gengpt.verdicts.record import DraftFacts

log = logging.getLogger("r2gengpt.serving")
VERDICT, PDF = "/v1/verdicts", "/v1/pdf"
KINDS = {
    "/v1/reports": own_code("report", "Draft of a report"),
    "/v1/chat/completions": own_code("chat", "Draft of a report, as a chat"),
    "/v1/evidence": own_code("evidence", "Evidence maps of a text"),
    "/v1/preview": own_code("preview", "Picture of a film"),
    "/v1/documents": own_code("document", "Document of an edited draft"),
    PDF: own_code("pdf", "PDF of a text"),
    VERDICT: own_code("verdict", "Reader's verdict on a draft"),
}
"""Addresses whose requests concern patients (all by POST) → what is recorded of them."""
REFUSED = "refused"
"""In the state of a request that the guard has not let in."""
DOCUMENTS = ("application/pdf", "application/dicom", "application/fhir+json")
"""Answers of these media types are exports."""


class NotRecorded(Exception):
    """A request's record cannot be written: one line why."""


def note_films(request: HTTPConnection, sources: Sequence[Source]) -> None:
    """The films of a request, for its record."""
    found = subjects_of([source.header for source in sources], [source.sha256 for source in sources])
    request.state.subjects = found


def note_draft(request: HTTPConnection, facts: DraftFacts) -> None:
    """The draft that a request is about, for its record."""
    request.state.subjects = subjects_of_draft(facts.id, facts.films, facts.patient)


@dataclass(frozen=True)
class _Answered:
    """A request and the beginning of its answer."""

    scope: Scope
    status: int
    media: str

    @property
    def path(self) -> str:
        return str(self.scope["path"])

    @property
    def caller(self) -> Caller | None:
        found = self.scope.get("state", {}).get("caller")
        return found if isinstance(found, Caller) else None

    @property
    def is_let_in(self) -> bool:
        return not self.scope.get("state", {}).get(REFUSED, False)

    @property
    def subjects(self) -> Subjects:
        found = self.scope.get("state", {}).get("subjects")
        return found if isinstance(found, Subjects) else NOBODY

    @property
    def user(self) -> ActiveParticipant:
        """Who asked, and from where."""
        address = str((self.scope.get("client") or ("",))[0])
        if self.caller is None:
            name = ANYBODY.name if self.is_let_in else UNKNOWN
            return ActiveParticipant(name, is_requestor=True, address=address)
        roles = tuple(own_code(role, f"Role {role}") for role in sorted(self.caller.roles))
        return ActiveParticipant(
            self.caller.name, is_requestor=True, roles=roles, address=address, alternative=self.caller.issuer
        )


def concerns_patients(scope: Scope) -> bool:
    """Whether a request is recorded whatever its answer is."""
    return scope["method"] == "POST" and scope["path"] in KINDS


class Trail:
    """Records requests.

    Args:
        audit: where.
        attempts: limits records that strangers can cause.
    """

    def __init__(self, audit: AuditLog, attempts: Attempts | None = None) -> None:
        self.audit = audit
        self.attempts = attempts or Attempts()
        self._pool = ThreadPoolExecutor(1, "audit")

    async def check(self) -> None:
        """See whether records can be written.

        Raises:
            NotRecorded: they cannot.
        """
        if self.audit.fault:
            await self._do(self.audit.check)

    async def record(self, scope: Scope, status: int, media: str) -> None:
        """Record a request whose answer is about to go out.

        Args:
            scope: of the request.
            status: of the answer.
            media: its media type.

        Raises:
            NotRecorded: it cannot be recorded: its answer must not go out.
        """
        message = self.message_of(_Answered(scope, status, media.partition(";")[0].strip().lower()))
        messages = [*self._told(), *([] if message is None else [message])]
        if messages:
            await self._do(lambda: self.audit.append(*messages))

    def message_of(self, one: _Answered) -> AuditMessage | None:
        """What is recorded of a request; None for those that concern no patient, or are one too many at the door."""
        message = self._message(one)
        who = one.user.address if one.caller is None else one.caller.name
        return message if one.is_let_in or message is None or self.attempts.is_recorded(who) else None

    def _message(self, one: _Answered) -> AuditMessage | None:
        process, user = self.audit.process, one.user
        if one.status == 401:
            return not_authenticated(process, user, "no key or token of this server")
        if one.status == 403 and one.caller is not None:
            what = one.path if one.path in KINDS else "another address"
            return alert(process, RESTRICTED_FUNCTION, MINOR, f"{what}: not with these roles", user)
        if not concerns_patients(one.scope):
            return None
        outcome = SUCCESS if one.status < 400 else MINOR if one.status < 500 else SERIOUS
        words = "" if one.status < 400 else f"HTTP status {one.status}"
        make = recorded if one.path == VERDICT else exported if one.media in DOCUMENTS else accessed
        return make(process, user, one.subjects, KINDS[one.path], outcome, words)

    def keys_changed(self, words: str) -> None:
        """The file of keys was read again: which keys are new, gone, or have other roles."""
        self._pool.submit(self._append_alert, USERS_CHANGED, SUCCESS, words)

    def close(self) -> None:
        """Write what was left out, and end."""
        for message in self._told(at_once=True):
            with suppress(AuditFault):  # the log has a line for it
                self.audit.append(message)
        self._pool.shutdown()

    def _append_alert(self, kind: AuditCode, outcome: str, words: str) -> None:
        with suppress(AuditFault):  # requests are refused from now on, and the next record counts this one
            self.audit.append(alert(self.audit.process, kind, outcome, words))

    def _told(self, *, at_once: bool = False) -> list[AuditMessage]:
        words = self.attempts.left_out(at_once=at_once)
        return [alert(self.audit.process, RESTRICTED_FUNCTION, MINOR, words)] if words else []

    async def _do(self, work: Callable[[], None]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except AuditFault as error:
            raise NotRecorded(f"{error}: requests are refused until it can") from None


@contextmanager
def recording(audit: AuditLog | None) -> Iterator[Trail | None]:
    """What records requests while the block runs; None where nothing is recorded.

    Raises:
        InputError: the start cannot be recorded.
    """
    if audit is None:
        yield None
        return
    with audit.running(), closing(Trail(audit)) as trail:
        yield trail
