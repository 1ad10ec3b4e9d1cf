"""Quiet studies to reports, reports to the archive, one at a time. Knows neither the model nor the network.

Two waits, each doubled up to a limit. A report's own grows with its failures. The wait between any two tries grows
with the number of *different* reports that failed since one was sent: so a peer that is away is tried less and less
often, while one report that always fails only makes itself wait.

A report that the peer does not certainly have is sent again, less and less often, and holds up no other; nothing is
lost meanwhile. A study whose report cannot be written, or that the peer refuses, is put aside with the reason.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2gengpt.auditlog.log import AuditFault
from r2gengpt.clinical.archive.films import TWO_PATIENTS, checked_film, order_of, reason_of, why_unwritten
from r2gengpt.clinical.archive.ledger import NO_FILM
from r2gengpt.clinical.archive.spool import NoSpace, Spool
from r2gengpt.errors import InputError, place_of
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.films.film import contradiction
from r2gengpt.films.reader import read_file

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds until the peer is tried again; doubled each time."""
LONGEST_ALONE = 3600.0
"""Seconds at most for a report that fails while others are sent."""


@dataclass
class _Failed:
    """A report that was not sent: how long it waits, until when, and whether others were sent between its tries."""

    wait: float
    due: float
    sent_before: int
    alone: bool = False


class Waits:
    """The waits of the reports that are not sent yet.

    Args:
        clock: seconds; it never goes back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._failed: dict[str, _Failed] = {}  # the one that was tried longest ago first
        self._since_sent: set[str] = set()
        self._sent = 0
        self._next = clock()

    def choose(self, waiting: Sequence[str]) -> str | None:
        """The report to try now: one that was never tried, or else the one that was tried longest ago."""
        now = self.clock()
        for gone in self._failed.keys() - set(waiting):
            del self._failed[gone]
        if now < self._next:
            return None
        for one in waiting:
            if one not in self._failed:
                return one
        return next((one for one, failed in self._failed.items() if failed.due <= now), None)

    def failed(self, one: str) -> float:
        """This report was not sent; seconds until it is due again."""
        now = self.clock()
        self._since_sent.add(one)
        self._next = now + min(FIRST_WAIT * 2 ** min(len(self._since_sent) - 1, 30), LONGEST_WAIT)
        before = self._failed.pop(one, None)
        wait, alone = FIRST_WAIT, False
        if before is not None:
            alone = before.alone or self._sent > before.sent_before
            wait = min(2 * before.wait, LONGEST_ALONE if alone else LONGEST_WAIT)
        self._failed[one] = _Failed(wait, now + wait, self._sent, alone)
        return wait

    def answered(self, one: str) -> None:
        """The peer took or refused this report: it is there, so what waited for it alone is due."""
        now = self.clock()
        self._failed.pop(one, None)
        for other in self._failed.values():
            if not other.alone and other.sent_before == self._sent:
                other.due = now
        self._sent += 1
        self._since_sent.clear()
        self._next = now


log = logging.getLogger("r2gengpt.clinical.archive")
MOST_ATTEMPTS = 5
"""Begun and never ended, each time with the process: then the study is put aside, as it may be what ended it."""
SPOOL_WAIT = 10.0
"""Seconds until a spool without room is tried again: a report is written anew then."""


@dataclass(frozen=True)
class DicomObject:
    """A report as a DICOM file, and its SOP Instance UID."""

    data: bytes
    uid: str


@dataclass(frozen=True)
class Document:
    """A report: as a DICOM file with its SOP Instance UID, in further forms, and as an HL7 message where one goes."""

    data: bytes
    uid: str
    message: bytes = b""
    further: tuple[DicomObject, ...] = ()

    @property
    def objects(self) -> tuple[DicomObject, ...]:
        """Every form, the first one first."""
        return (DicomObject(self.data, self.uid), *self.further)


class Refused(Exception):
    """The peer does not take this report, and will not take it later: one line why."""


class NotNow(Exception):
    """The peer does not answer, has no room, or does not say that it has the report: one line why."""


Write = Callable[[Sequence[Path], Sequence[DicomHeader]], Document]
"""The files of a study's films and their headers → its report."""
Send = Callable[[bytes], None]
"""A report, as a DICOM file or a message, to the peer. Raises `Refused` or `NotNow`."""
Urgent = Callable[[], Mapping[str, int]]
"""The key of an accession number → how urgent its study is, for those that are."""


@dataclass(frozen=True)
class _Usable:
    """Films that make a report, in the order of their series and numbers."""

    keys: tuple[str, ...]
    headers: tuple[DicomHeader, ...]


class Loop:
    """The work of a spool.

    Args:
        spool: where films come in.
        write: makes reports.
        send: brings them to the peer.
        quiet_seconds: no film of a study for so long, and it is complete.
        most_films: of a study.
        mixed: films of a study that name two patients are reported too.
        urgent: which studies go first.
    """

    def __init__(
        self,
        spool: Spool,
        write: Write,
        send: Send,
        quiet_seconds: float,
        most_films: int,
        *,
        mixed: bool = False,
        urgent: Urgent = dict,
    ) -> None:
        self.spool, self.write, self.send = spool, write, send
        self.quiet_seconds, self.most_films, self.mixed, self.urgent = quiet_seconds, most_films, mixed, urgent
        self._waits = Waits(spool.clock)
        self._work_after = spool.clock()
        self._begun: set[str] = set()

    def run(self, stop: threading.Event, pause: float = 0.1) -> None:
        """Work until `stop` is set; what was begun is finished."""
        while not stop.is_set():
            if not self.step():
                stop.wait(pause)
        try:
            while self._send_next():
                pass
        except (NoSpace, sqlite3.Error, OSError) as error:
            self._wait_for_spool(error)

    def step(self) -> bool:
        """One study further, if there is one to work on."""
        if self.spool.clock() < self._work_after:
            return False
        try:
            self.spool.sweep()
            if self._send_next():
                return True
            study = self.spool.ledger.next_quiet(self.spool.clock() - self.quiet_seconds, self.urgent())
            if study is None:
                return False
            self._work_on(study)
        except (NoSpace, sqlite3.Error, OSError) as error:
            self._wait_for_spool(error)
            return False
        return True

    def _wait_for_spool(self, error: Exception) -> None:
        """Spool or audit log are of no use for now; a data base that is damaged is made anew from the files."""
        if isinstance(error, AuditFault):
            log.error("%s: again in %.0f s", error, SPOOL_WAIT)
        else:
            words = str(error) if isinstance(error, NoSpace) else place_of(error)
            log.error("the spool cannot be written (%s): again in %.0f s", words, SPOOL_WAIT)
        self._work_after = self.spool.clock() + SPOOL_WAIT
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            try:
                self.spool.renew_ledger()
            except (sqlite3.Error, OSError) as again:  # tried again with the next step
                log.error("the ledger cannot be made anew (%s)", place_of(again))

    def _work_on(self, study: str) -> None:
        """Document a study; a fault of ours in between puts it aside, as the next study is another one."""
        try:
            self._report(study)
        except (NoSpace, sqlite3.Error, OSError):
            raise
        except Exception as error:
            self._put_aside(study, f"its films could not be worked on: {place_of(error)}")

    def _report(self, study: str) -> None:
        """Write a study's report and keep it, or put the study aside."""
        if study not in self._begun:  # by this process: what it begins again it has ended
            if self.spool.ledger.begin(study) > MOST_ATTEMPTS:
                self._put_aside(study, f"its report was begun {MOST_ATTEMPTS} times, and the program ended each time")
                return
            self._begun.add(study)
        usable = self._usable(study)
        if not usable.keys:
            self._put_aside(study, NO_FILM)
            return
        if len(usable.keys) > self.most_films:
            self._put_aside(study, f"has {len(usable.keys)} films: at most {self.most_films} (`max_images`)")
            return
        if not self.mixed and contradiction(usable.headers) is not None:
            self._put_aside(study, TWO_PATIENTS)
            return
        try:
            report = self.write([self.spool.path_of(key) for key in usable.keys], usable.headers)
        except AuditFault:  # nothing is written that is not recorded: the study waits
            raise
        except Exception as error:  # of the model, or of what it was given: the next study is another one
            self._put_aside(study, f"its report could not be written: {why_unwritten(error)}")
            return
        further = [one.data for one in report.further]
        films = frozenset(usable.keys)
        kept = self.spool.keep_report(study, films, report.data, report.uid, report.message, further)
        if kept:
            log.info("study %s: report of %d films written", study[:12], len(usable.keys))

    def _usable(self, study: str) -> _Usable:
        """The study's films that are chest films and can be decoded; the others are put aside."""
        found: list[tuple[tuple[int, int, str], str, DicomHeader]] = []
        for film in self.spool.ledger.films(study):
            if film.state != "received":
                continue
            try:
                header = checked_film(read_file(self.spool.path_of(film.key)))
            except InputError as error:
                log.warning("study %s: a film was put aside: %s", study[:12], reason_of(error))
                self.spool.set_film_aside(film.key, reason_of(error))
                continue
            found.append((order_of(header), film.key, header))
        found.sort(key=lambda one: one[0])
        return _Usable(tuple(key for _, key, _ in found), tuple(header for _, _, header in found))

    def _put_aside(self, study: str, reason: str) -> None:
        log.warning("study %s was put aside: %s", study[:12], reason)
        self.spool.set_study_aside(study, reason)

    def _send_next(self) -> bool:
        """Whether the peer has answered for a report."""
        study = self._waits.choose([one.key for one in self.spool.ledger.studies("reported")])
        if study is None:
            return False
        report = self.spool.next_object(study)
        if report is None:
            log.warning("study %s: its report is gone, and is written again", study[:12])
            return True
        try:
            if report.data:
                self.send(report.data)
        except Refused as error:
            self._answered(study, report.number, f"the peer refused its report: {error}")
        except NotNow as error:
            return self._is_for_later(study, str(error))
        except Exception as error:  # of a library, from what a peer sent: the report was not answered for
            return self._is_for_later(study, place_of(error))
        else:
            self._answered(study, report.number)
        self._waits.answered(study)
        return True

    def _answered(self, study: str, number: int, refusal: str = "") -> None:
        """Keep the peer's answer for an object of a report; the last one decides what becomes of the study."""
        state = self.spool.set_answered(study, number, refusal)
        if state == "sent":
            log.info("study %s: report sent", study[:12])
        elif state == "aside":
            log.warning("study %s was put aside: %s", study[:12], self.spool.ledger.reason_of(study))
        elif refusal:
            log.warning("study %s: form %d: %s", study[:12], number + 1, refusal)

    def _is_for_later(self, study: str, why: str) -> bool:
        log.warning("study %s: not sent (%s): again in %.0f s", study[:12], why, self._waits.failed(study))
        return False
