"""One claimed work item a stage further: claimed, drafted, stored, completed or canceled. Chooses no item.

Each stage is on the disk before the next one begins, and each can be done twice: a claim under the same transaction
UID, a draft of the same UIDs, a store of the same object, a completion. So a kill loses nothing and doubles nothing.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from r2gengpt.auditlog.log import AuditFault
from r2gengpt.clinical.archive import private
from r2gengpt.clinical.archive.films import why_unwritten
from r2gengpt.clinical.archive.loop import MOST_ATTEMPTS, Document, NotNow, Refused, Send, Write
from r2gengpt.clinical.worklist.changes import (
    DISCONTINUATIONS,
    UNSPECIFIED,
    WRONG_OBJECTS,
    Discontinuation,
    OutputInstance,
    Performance,
    cancellation_of,
    completion_of,
    progress_of,
)
from r2gengpt.clinical.worklist.claims import CANCELING, CLAIMED, CLAIMING, REPORTED, STORED, Claim, Claims
from r2gengpt.clinical.worklist.films import Fetch, Unusable
from r2gengpt.clinical.worklist.service import Conflict, Worklist
from r2gengpt.clinical.worklist.workitem import CANCELED, COMPLETED, FINAL, IN_PROGRESS
from r2gengpt.errors import place_of
from r2gengpt.films.dicom.header import DicomHeader

log = logging.getLogger("r2gengpt.clinical.worklist")
MOST_CONFLICTS = 5
"""Answers that an item's end is refused, or that there is no such item, before that counts."""
Now = Callable[[], datetime]
OutputOf = Callable[[bytes], OutputInstance]
Note = Callable[[Claim, str], None]
"""Records a change of an item's state: the claim, and what became of it. Raises `AuditFault`."""


class Lost(Exception):
    """The item is not ours, or not any more: one line why."""


@dataclass(frozen=True)
class Assignment:
    """Which items are claimed, and how many.

    Attributes:
        station: code value that they are scheduled for.
        procedures: code values of what is to be done; none: any.
        poll_seconds: between two searches.
        most_claimed: items that are claimed and not finished.
        fetch_seconds: since the claim, after which an item whose films do not come is canceled.
    """

    station: str
    procedures: tuple[str, ...] = ()
    poll_seconds: float = 10.0
    most_claimed: int = 4
    fetch_seconds: float = 3600.0


@dataclass(frozen=True)
class Means:
    """What an item is performed with.

    Attributes:
        fetch: its films.
        write: makes reports of films.
        send: stores a report in the archive.
        output_of: a report's identifiers.
        url: of the archive, as outputs name it.
        note: records changes of state.
    """

    fetch: Fetch
    write: Write
    send: Send
    output_of: OutputOf
    url: str
    note: Note = lambda claim, outcome: None


class Stages:
    """What is done to the items of one station.

    Args:
        worklist: the server of work items.
        claims: where they are kept.
        assignment: which are ours.
        means: what they are performed with.
        now: the time of day.
    """

    def __init__(self, worklist: Worklist, claims: Claims, assignment: Assignment, means: Means, now: Now) -> None:
        self.worklist, self.claims, self.assignment, self.means, self.now = worklist, claims, assignment, means, now
        self._begun: set[str] = set()

    def advance(self, claim: Claim) -> None:
        """Do the stage that an item is at.

        Raises:
            Unusable, Refused: it can never be done.
            NotNow: it cannot be done now.
            Lost, Gone: the item is not ours, or not there.
        """
        if claim.stage == CLAIMING:
            self._claim(claim)
        elif claim.stage == CLAIMED:
            self._draft(claim)
        elif claim.stage == REPORTED:
            self._store(claim)
        elif claim.stage == STORED:
            self._finish(claim, COMPLETED)
        elif claim.stage == CANCELING:
            self._finish(claim, CANCELED)

    def _claim(self, claim: Claim) -> None:
        """Ask for an item.

        Raises:
            Lost, Gone: somebody else has it.
            NotNow: nobody knows.
        """
        is_first = self.claims.count(claim.uid, "attempts") == 1
        try:
            self.worklist.change_state(claim.uid, claim.transaction, IN_PROGRESS)
        except Conflict as error:
            if not self._holds(claim):
                if not is_first and self.claims.count(claim.uid, "conflicts") < MOST_CONFLICTS:
                    raise NotNow(f"an earlier claim of it may have been taken: {error}") from None
                raise Lost(f"another performer has it ({error})") from None
        self.means.note(claim, IN_PROGRESS)
        self.claims.set_claimed(claim.uid)
        log.info("work item %s: claimed", claim.name)

    def _holds(self, claim: Claim) -> bool:
        """Whether an item that cannot be claimed is claimed by us, as where an answer was lost: our lock fits it."""
        if self.worklist.retrieve(claim.uid).state != IN_PROGRESS:
            return False
        try:
            self.worklist.update(claim.uid, claim.transaction, progress_of(0, "Claimed"))
        except Conflict:
            return False
        return True

    def _draft(self, claim: Claim) -> None:
        """Fetch the films, write their reports and keep them.

        Raises:
            Unusable: it cannot be done.
            NotNow: it cannot be done now.
        """
        self._tell(claim, 10, "The films are fetched")
        try:
            films = self.means.fetch(claim.item)
        except NotNow as error:
            patience = self.assignment.fetch_seconds
            if (self.now() - claim.started).total_seconds() >= patience:
                raise Unusable(f"its films could not be fetched within {patience:.0f} s", UNSPECIFIED) from None
            raise NotNow(f"its films cannot be fetched: {error}") from None
        if claim.uid not in self._begun:  # by this process: what it begins again it has ended
            if self.claims.count(claim.uid, "attempts") > MOST_ATTEMPTS:
                words = f"its draft was begun {MOST_ATTEMPTS} times, and the program ended each time"
                raise Unusable(words, UNSPECIFIED)
            self._begun.add(claim.uid)
        self._tell(claim, 30, "The draft is written")
        paths = [self.claims.film_path(claim.uid, number) for number in range(len(films))]
        try:
            for path, (data, _) in zip(paths, films, strict=True):
                private.write_whole(path, data)
            document = self._written(paths, [header for _, header in films])
        finally:
            for path in paths:
                path.unlink(missing_ok=True)
        self.claims.keep_reports(claim.uid, document.objects)
        self._begun.discard(claim.uid)
        log.info("work item %s: draft of %d films written", claim.name, len(films))

    def _written(self, paths: Sequence[Path], headers: Sequence[DicomHeader]) -> Document:
        """The reports of an item's films.

        Raises:
            Unusable: they could not be written.
        """
        try:
            return self.means.write(paths, headers)
        except AuditFault:  # nothing is written that is not recorded: the item waits
            raise
        except Exception as error:  # of the model, or of what it was given: the next item is another one
            raise Unusable(f"its draft could not be written: {why_unwritten(error)}", WRONG_OBJECTS) from None

    def _store(self, claim: Claim) -> None:
        """Store the reports that are not stored yet.

        Raises:
            Refused, NotNow: see `Send`.
        """
        self._tell(claim, 80, "The draft is stored")
        outputs = list(claim.outputs)
        for number in range(len(outputs), claim.reports):
            report = self.claims.read_report(claim.uid, number)
            if report is None:
                log.warning("work item %s: its report is gone, and is written again", claim.name)
                return
            self._send(report)
            outputs.append(self.means.output_of(report))
            self.claims.set_stored(claim.uid, outputs, is_last=number + 1 == claim.reports)

    def _send(self, report: bytes) -> None:
        try:
            self.means.send(report)
        except (Refused, NotNow, AuditFault):
            raise
        except Exception as error:  # of a library, from what a peer sent: the report was not answered for
            raise NotNow(place_of(error)) from None

    def _finish(self, claim: Claim, state: str) -> None:
        """Complete or cancel an item, with all that the state needs.

        Raises:
            Gone, NotNow: it is not done.
        """
        try:
            self.worklist.update(claim.uid, claim.transaction, self._result(claim, state))
            self.worklist.change_state(claim.uid, claim.transaction, state)
        except Conflict as error:
            reached = self.worklist.retrieve(claim.uid).state
            if reached not in FINAL:
                self._resist(claim, state, error)
                return
            if reached != state:
                log.warning("work item %s: is %s already", claim.name, reached)
            state = reached
        self.means.note(claim, state)
        self.claims.end(claim.uid)
        log.info("work item %s: %s", claim.name, state.lower())

    def _result(self, claim: Claim, state: str) -> dict[str, object]:
        done = Performance(
            station=self.assignment.station,
            codes=claim.item.codes,
            started=claim.started,
            ended=self.now(),
            outputs=claim.outputs,
            url=self.means.url,
        )
        if state == COMPLETED:
            return dict(completion_of(done))
        return dict(cancellation_of(claim.reason, self._code(claim), done))

    @staticmethod
    def _code(claim: Claim) -> Discontinuation:
        return DISCONTINUATIONS.get(claim.code, UNSPECIFIED)

    def _resist(self, claim: Claim, state: str, error: Conflict) -> None:
        """The server refuses a final state: try again, then cancel, then leave it to people.

        Raises:
            NotNow: it is tried again.
        """
        if self.claims.count(claim.uid, "conflicts") < MOST_CONFLICTS:
            raise NotNow(f"it does not become {state}: {error}")
        if state == COMPLETED:
            log.warning("work item %s is canceled: it does not become %s: %s", claim.name, state, error)
            reason = "the worklist refused its completion; its draft is stored"
            self.claims.set_canceling(claim.uid, reason, UNSPECIFIED.value)
            return
        log.error("work item %s is put aside: it becomes neither %s nor %s", claim.name, COMPLETED, CANCELED)
        self.claims.set_aside(claim.uid, f"it does not become {CANCELED}")

    def _tell(self, claim: Claim, percent: int, words: str) -> None:
        """Report progress, where the server takes it; an item that it does not have any more is left.

        Raises:
            Lost, Gone: the item has been ended, or is somebody else's.
        """
        try:
            self.worklist.update(claim.uid, claim.transaction, progress_of(percent, words))
        except Conflict as error:
            reached = self.worklist.retrieve(claim.uid).state
            if reached in FINAL:
                raise Lost(f"it is {reached} already") from None
            log.warning("work item %s: its progress is not taken: %s", claim.name, error)
        except NotNow as error:
            log.warning("work item %s: its progress is not reported: %s", claim.name, error)
