"""Quiet studies to reports, reports to the archive, one at a time. Knows neither the model nor the network.

A peer that cannot be reached is tried again, less and less often, and nothing is lost meanwhile. A study whose report
cannot be written, or that the peer refuses, is put aside with the reason.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2gengpt.archive.films import TWO_PATIENTS, checked_film, order_of, reason_of
from r2gengpt.archive.ledger import NO_FILM, StudyRow
from r2gengpt.archive.spool import NoSpace, Spool
from r2gengpt.data.dicom_header import DicomHeader
from r2gengpt.data.dicom_study import contradiction
from r2gengpt.data.images import read_file
from r2gengpt.errors import InputError, place_of

log = logging.getLogger("r2gengpt.archive")
MOST_ATTEMPTS = 5
"""Begun and never ended, each time with the process: then the study is put aside, as it may be what ended it."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds until the peer is tried again; doubled each time."""
SPOOL_WAIT = 10.0
"""Seconds until a spool without room is tried again: a report is written anew then."""


@dataclass(frozen=True)
class Report:
    """A report as a DICOM file, and its SOP Instance UID."""

    data: bytes
    uid: str


class Refused(Exception):
    """The peer does not take this report, and will not take it later: one line why."""


class NotNow(Exception):
    """The peer does not answer, or has no room: one line why."""


Write = Callable[[Sequence[Path], Sequence[DicomHeader]], Report]
"""The files of a study's films and their headers → its report."""
Send = Callable[[bytes], None]
"""A report, as a DICOM file, to the peer. Raises `Refused` or `NotNow`."""


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
    """

    def __init__(
        self, spool: Spool, write: Write, send: Send, quiet_seconds: float, most_films: int, *, mixed: bool = False
    ) -> None:
        self.spool, self.write, self.send = spool, write, send
        self.quiet_seconds, self.most_films, self.mixed = quiet_seconds, most_films, mixed
        self._send_after, self._wait = 0.0, FIRST_WAIT
        self._work_after = 0.0
        self._begun: set[str] = set()

    def run(self, stop: threading.Event, pause: float = 0.1) -> None:
        """Work until `stop` is set; what was begun is finished."""
        while not stop.is_set():
            if not self.step():
                stop.wait(pause)
        for study in self.spool.ledger.studies("reported"):
            if not self._send(study):
                break

    def step(self) -> bool:
        """One study further, if there is one to work on."""
        now = self.spool.clock()
        if now < self._work_after:
            return False
        try:
            if now >= self._send_after:
                waiting = self.spool.ledger.studies("reported")
                if waiting:
                    return self._send(waiting[0])
            study = self.spool.ledger.next_quiet(now - self.quiet_seconds)
            if study is None:
                return False
            self._report(study)
        except (NoSpace, sqlite3.OperationalError, OSError) as error:
            words = str(error) if isinstance(error, NoSpace) else place_of(error)
            log.error("the spool cannot be written (%s): again in %.0f s", words, SPOOL_WAIT)
            self._work_after = self.spool.clock() + SPOOL_WAIT
            return False
        return True

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
            self._put_aside(study, f"has {len(usable.keys)} films: at most {self.most_films} (--max_images)")
            return
        if not self.mixed and contradiction(usable.headers) is not None:
            self._put_aside(study, TWO_PATIENTS)
            return
        try:
            report = self.write([self.spool.path_of(key) for key in usable.keys], usable.headers)
        except Exception as error:  # of the model, or of what it was given: the next study is another one
            self._put_aside(study, f"its report could not be written: {place_of(error)}")
            return
        if self.spool.keep_report(study, frozenset(usable.keys), report.data, report.uid):
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

    def _send(self, study: StudyRow) -> bool:
        """Whether the peer has answered for the report."""
        try:
            self.send(self.spool.report_path(study.key).read_bytes())
        except Refused as error:
            self._put_aside(study.key, f"the peer refused its report: {error}")
        except NotNow as error:
            log.warning("study %s: not sent (%s): again in %.0f s", study.key[:12], error, self._wait)
            self._send_after = self.spool.clock() + self._wait
            self._wait = min(2 * self._wait, LONGEST_WAIT)
            return False
        else:
            self.spool.set_sent(study.key)
            log.info("study %s: report sent", study.key[:12])
        self._wait = FIRST_WAIT
        return True
