"""The work of one station: which work item is searched for, claimed and worked on, and what becomes of a failure.

A server that does not answer is tried again, less and less often. What can never be done is canceled with the reason.
Knows neither the model nor HTTP; what a stage does stands in `stages`.
"""

import logging
import sqlite3
import threading
import uuid
from collections.abc import Iterable
from datetime import datetime

from r2gengpt.auditlog.log import AuditFault
from r2gengpt.clinical.archive.loop import LONGEST_WAIT, SPOOL_WAIT, NotNow, Refused, Waits
from r2gengpt.clinical.worklist.changes import UNSPECIFIED
from r2gengpt.clinical.worklist.claims import CANCELING, Claim, Claims
from r2gengpt.clinical.worklist.films import Unusable
from r2gengpt.clinical.worklist.service import Gone, Worklist, first_for
from r2gengpt.clinical.worklist.stages import MOST_CONFLICTS, Assignment, Lost, Means, Now, Stages
from r2gengpt.clinical.worklist.workitem import WorkItem
from r2gengpt.errors import place_of

log = logging.getLogger("r2gengpt.clinical.worklist")
IGNORED = 60.0
"""Seconds for which an item is left alone after another performer got it."""


class Performer:
    """The work of one station.

    Args:
        worklist: the server of work items.
        claims: where they are kept.
        assignment: which are ours.
        means: what they are performed with.
        now: the time of day.
    """

    def __init__(
        self,
        worklist: Worklist,
        claims: Claims,
        assignment: Assignment,
        means: Means,
        now: Now = lambda: datetime.now().astimezone(),
    ) -> None:
        self.worklist, self.claims, self.assignment, self.now = worklist, claims, assignment, now
        self._stages = Stages(worklist, claims, assignment, means, now)
        self._waits = Waits(claims.clock)
        self._ignored: dict[str, float] = {}
        self._poll_at = self._work_after = claims.clock()
        self._poll_wait = 0.0

    def run(self, stop: threading.Event, pause: float = 0.2) -> None:
        """Work until `stop` is set; the stage that was begun is finished."""
        while not stop.is_set():
            if not self.step():
                stop.wait(pause)

    def step(self) -> bool:
        """One item further, or one search; False where there is nothing to do now."""
        if self.claims.clock() < self._work_after:
            return False
        try:
            claim = self._next()
            if claim is not None:
                self._work_on(claim)
                return True
            return self._look()
        except (AuditFault, sqlite3.Error, OSError) as error:
            words = str(error) if isinstance(error, AuditFault) else place_of(error)
            log.error("claims cannot be kept (%s): again in %.0f s", words, SPOOL_WAIT)
            self._work_after = self.claims.clock() + SPOOL_WAIT
        except Exception as error:  # a fault of ours, which must not end the loop
            log.error("a fault of the performer: %s: again in %.0f s", place_of(error), SPOOL_WAIT)
            self._work_after = self.claims.clock() + SPOOL_WAIT
        return False

    def _next(self) -> Claim | None:
        """The claim to work on now: as the waits have it."""
        claims = {one.uid: one for one in self.claims.open()}
        chosen = self._waits.choose(list(claims))
        return None if chosen is None else claims[chosen]

    def _look(self) -> bool:
        """Search for items, and keep a claim of the first one that is ours; whether there was one."""
        now = self.claims.clock()
        if now < self._poll_at or len(self.claims.open()) >= self.assignment.most_claimed:
            return False
        try:
            found = self.worklist.search(self.assignment.station)
        except NotNow as error:
            self._poll_wait = min(max(2 * self._poll_wait, self.assignment.poll_seconds, 1.0), LONGEST_WAIT)
            self._poll_at = now + self._poll_wait
            log.warning("no work items: %s: again in %.0f s", error, self._poll_wait)
            return False
        self._poll_wait, self._poll_at = 0.0, now + self.assignment.poll_seconds
        item = next(iter(self._ours(found)), None)
        if item is None:
            return False
        self._poll_at = now  # there may be more
        self.claims.add(item, f"2.25.{uuid.uuid4().int}", self.now())
        return True

    def _ours(self, found: Iterable[WorkItem]) -> list[WorkItem]:
        """The items that can be claimed here, in their order."""
        clock, now = self.claims.clock(), self.now()
        self._ignored = {uid: until for uid, until in self._ignored.items() if until > clock}
        taken = {one.uid for one in self.claims.open()} | self._ignored.keys()
        wanted = [one for one in found if one.is_for(self.assignment.station, self.assignment.procedures, now)]
        return first_for([one for one in wanted if one.uid not in taken])

    def _work_on(self, claim: Claim) -> None:
        """Bring an item as far as it goes; what does not answer waits."""
        try:
            self._stages.advance(claim)
        except NotNow as error:
            wait = self._waits.failed(claim.uid)
            log.warning("work item %s: %s: again in %.0f s", claim.name, error, wait)
            return
        except Unusable as error:
            log.warning("work item %s is canceled: %s", claim.name, error)
            self.claims.set_canceling(claim.uid, str(error), error.code.value)
        except Refused as error:
            log.warning("work item %s is canceled: the archive refused its report: %s", claim.name, error)
            reason = f"the archive refused the report: {error}"
            self.claims.set_canceling(claim.uid, reason, UNSPECIFIED.value)
        except Lost as error:
            self._leave(claim, str(error))
        except Gone as error:
            if (
                self.claims.count(claim.uid, "conflicts") < MOST_CONFLICTS
            ):  # a proxy may say so while the server is away
                wait = self._waits.failed(claim.uid)
                log.warning("work item %s: %s: again in %.0f s", claim.name, error, wait)
                return
            self._leave(claim, str(error))
        except (AuditFault, sqlite3.Error, OSError):
            raise
        except Exception as error:  # a fault of ours, which must not hold up other items
            self._give_up(claim, place_of(error))
        self._waits.answered(claim.uid)

    def _leave(self, claim: Claim, why: str) -> None:
        """The item is not ours, or not any more."""
        log.warning("work item %s is left: %s", claim.name, why)
        self._ignored[claim.uid] = self.claims.clock() + IGNORED
        self.claims.end(claim.uid)

    def _give_up(self, claim: Claim, why: str) -> None:
        """End an item after a fault of ours: canceled, or put aside where that is what failed."""
        log.error("work item %s: a fault of the performer: %s", claim.name, why)
        if claim.stage == CANCELING:
            self.claims.set_aside(claim.uid, f"a fault of the performer: {why}")
        else:
            self.claims.set_canceling(claim.uid, f"a fault of the performer: {why}", UNSPECIFIED.value)
