"""Earlier studies of a DICOMweb server: by QIDO-RS, their films and reports by WADO-RS. Judges neither."""

import logging
from dataclasses import dataclass

from pydicom import Dataset

from r2gengpt.clinical.archive.dicom_json import is_uid
from r2gengpt.clinical.archive.earlier import Candidate, StudyObjects
from r2gengpt.clinical.archive.films import words_for_log
from r2gengpt.clinical.archive.server import Server
from r2gengpt.clinical.archive.web import explained, pull, pull_reports
from r2gengpt.errors import InputError, RunError
from r2gengpt.films.dicom.header import DicomHeader

log = logging.getLogger("r2gengpt.clinical.archive")
MOST_FOUND, MOST_PAGES = 200, 20
"""Studies of a patient that are asked for at once, and how many times: the newest may come last."""
FIELDS = ("ModalitiesInStudy", "IssuerOfPatientID", "PatientID", "StudyDate", "StudyTime")


@dataclass(frozen=True)
class WebArchive:
    """A DICOMweb server."""

    server: Server

    @property
    def name(self) -> str:
        """Its address."""
        return str(self.server.base_url)

    def studies(self, header: DicomHeader) -> list[Candidate]:
        """See `Archive.studies`."""
        filters = {"PatientID": header.patient_id.strip(), "StudyDate": f"-{header.study_date}"}
        found: dict[str, Candidate] = {}
        try:
            for page in range(MOST_PAGES):
                answers = self.server.search_for_studies(
                    search_filters=filters, fields=list(FIELDS), limit=MOST_FOUND, offset=page * MOST_FOUND or None
                )
                before = len(found)
                found |= {one.uid: one for one in (Candidate.of(Dataset.from_json(dict(each))) for each in answers)}
                if len(answers) < MOST_FOUND or len(found) == before:
                    break
        except Exception as error:  # of a library, from what the server sent
            raise explained(error, self.name, header.study_uid) from None
        return [one for one in found.values() if is_uid(one.uid)]

    def objects(self, study: str) -> StudyObjects:
        """See `Archive.objects`."""
        films = pull(self.server, study)
        try:
            return StudyObjects(films, pull_reports(self.server, study))
        except (InputError, RunError) as error:
            log.warning("the reports of the earlier study cannot be had: %s", words_for_log(error))
            return StudyObjects(films)
