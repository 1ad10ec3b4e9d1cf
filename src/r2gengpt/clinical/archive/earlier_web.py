"""Earlier studies of a DICOMweb server: by QIDO-RS, their films by WADO-RS. Judges no film."""

from dataclasses import dataclass

from pydicom import Dataset

from r2gengpt.clinical.archive.earlier import MOST_FOUND, Candidate
from r2gengpt.clinical.archive.server import Server
from r2gengpt.clinical.archive.web import explained, is_uid, pull
from r2gengpt.films.dicom.header import DicomHeader

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
        try:
            found = self.server.search_for_studies(search_filters=filters, fields=list(FIELDS), limit=MOST_FOUND)
            candidates = [Candidate.of(Dataset.from_json(dict(answer))) for answer in found]
        except Exception as error:  # of a library, from what the server sent
            raise explained(error, self.name, header.study_uid) from None
        return [one for one in candidates if is_uid(one.uid)]

    def films(self, study: str) -> list[bytes]:
        """See `Archive.films`."""
        return pull(self.server, study)
