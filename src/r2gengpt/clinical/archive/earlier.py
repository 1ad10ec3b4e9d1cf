"""The patient's newest earlier chest study in an archive: which it is, its films, its report. Speaks no protocol.

Nothing that goes wrong here holds up a report: it is then written without an earlier study, with a line in the log.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from r2gengpt.clinical.archive.audited import ArchiveAudit
from r2gengpt.clinical.archive.earlier_report import report_of
from r2gengpt.clinical.archive.films import checked_film, order_of, reason_of, words_for_log
from r2gengpt.clinical.documents.draft import patient_of
from r2gengpt.errors import InputError, RunError, place_of
from r2gengpt.films.context import check_prior
from r2gengpt.films.dicom.header import MODALITIES, DicomHeader
from r2gengpt.films.dicom.values import date_of, time_of

if TYPE_CHECKING:
    from pydicom import Dataset

log = logging.getLogger("r2gengpt.clinical.archive")
MOST_TRIED = 3
"""Studies that are fetched until one has films of the chest."""
WILD = frozenset("*?\\")
"""Signs that would ask for other patients too. Source: PS3.4, C.2.2.2.4."""
PriorFilm = tuple[bytes, DicomHeader]


@dataclass(frozen=True)
class Candidate:
    """A study that an archive names. Texts are empty where it does not tell."""

    uid: str
    date: str
    time: str = ""
    patient_id: str = field(default="", repr=False)
    issuer: str = field(default="", repr=False)
    modalities: tuple[str, ...] = ()

    @classmethod
    def of(cls, answer: "Dataset") -> "Candidate":
        """A study as C-FIND and QIDO-RS answer with it."""
        modalities = answer.get("ModalitiesInStudy") or []
        several = [modalities] if isinstance(modalities, str) else list(modalities)
        return cls(
            uid=str(answer.get("StudyInstanceUID") or ""),
            date=date_of(str(answer.get("StudyDate") or "")),
            time=time_of(str(answer.get("StudyTime") or "")),
            patient_id=str(answer.get("PatientID") or ""),
            issuer=str(answer.get("IssuerOfPatientID") or ""),
            modalities=tuple(map(str, several)),
        )


@dataclass(frozen=True)
class StudyObjects:
    """The objects of a study that an archive gives, as DICOM files: films, and structured reports."""

    films: list[bytes]
    reports: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class EarlierStudy:
    """An earlier study's films in their order, and the text of its report, or "". Without films there is none."""

    films: tuple[PriorFilm, ...] = ()
    report: str = field(default="", repr=False)


NO_STUDY = EarlierStudy()
"""Where there is none to be had."""


class Archive(Protocol):
    """Who has earlier studies."""

    @property
    def name(self) -> str:
        """As the log and the audit log call it."""

    def studies(self, header: DicomHeader) -> Iterable[Candidate]:
        """The studies of a film's patient up to its date.

        Raises:
            InputError, RunError: it cannot be asked, or its answer cannot be used.
        """

    def objects(self, study: str) -> StudyObjects:
        """The films of a study, and its structured reports as far as they can be had.

        Raises:
            InputError, RunError: its films cannot be had.
        """


@dataclass
class EarlierStudies:
    """What finds the earlier study of a study's films.

    Attributes:
        archive: who is asked.
        most: films of a study at most.
        recorder: of the audit log; None: nothing is recorded.
    """

    archive: Archive
    most: int
    recorder: ArchiveAudit | None = None

    def of(self, headers: Sequence[DicomHeader]) -> EarlierStudy:
        """The patient's newest earlier chest study; without films where there is none to be had."""
        header = patient_of(headers)
        number = header.patient_id.strip()
        if not number or not header.study_date or WILD & set(number):
            log.info("no earlier study is asked for: the films name no patient, no date, or a number with wild cards")
            return NO_STUDY
        try:
            found = earlier_than(header, self.archive.studies(header))
            for candidate in found[:MOST_TRIED]:
                study = self._fetched(candidate, headers)
                if study.films:
                    return study
        except (InputError, RunError) as error:
            log.warning("the earlier study cannot be had, the report is written without: %s", words_for_log(error))
        except Exception as error:  # of libraries, from what the archive sent
            log.warning("the earlier study cannot be had, the report is written without (%s)", place_of(error))
        return NO_STUDY

    def _fetched(self, candidate: Candidate, headers: Sequence[DicomHeader]) -> EarlierStudy:
        """What of a study can be used."""
        reports: list[bytes] = []

        def films() -> list[PriorFilm]:
            objects = self.archive.objects(candidate.uid)
            reports.extend(objects.reports)
            return usable(objects.films, candidate, headers)[: self.most]

        recorder, name = self.recorder, self.archive.name
        found = films() if recorder is None else recorder.pulling(films, name, candidate.uid)
        return EarlierStudy(tuple(found), report_of(reports, candidate.uid, headers) if found else "")


def earlier_than(header: DicomHeader, studies: Iterable[Candidate]) -> list[Candidate]:
    """Those of the patient that are earlier than a film's study and may hold chest films, the newest first."""
    moment = header.study_date, header.study_time.ljust(6, "0")
    found = [
        one
        for one in studies
        if one.uid != header.study_uid
        and one.patient_id.strip() == header.patient_id.strip()
        and (not one.issuer or not header.issuer or one.issuer.strip() == header.issuer.strip())
        and (not one.modalities or set(one.modalities) & set(MODALITIES))
        and one.date
        and (one.date, one.time.ljust(6, "0" if one.time else "9")) < moment
    ]
    return sorted(found, key=lambda one: (one.date, one.time), reverse=True)


def usable(films: Sequence[bytes], candidate: Candidate, headers: Sequence[DicomHeader]) -> list[PriorFilm]:
    """The chest films of this study that contradict none of the later films, in the order of series and numbers."""
    found: list[PriorFilm] = []
    for data in films:
        try:
            one = checked_film(data)
            check_prior(headers, [one])
        except InputError as error:
            log.info("a film of the earlier study is left out: %s", reason_of(error))
            continue
        if one.study_uid == candidate.uid:
            found.append((data, one))
    return sorted(found, key=lambda film: order_of(film[1]))
