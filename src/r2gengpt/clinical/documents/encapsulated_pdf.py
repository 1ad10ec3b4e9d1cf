"""A draft as a DICOM encapsulated PDF, for viewers that show no structured reports. Always unverified.

Modules: Encapsulated Document Series (PS3.3, C.24.1), SC Equipment (C.8.6.1), Encapsulated Document (C.24.2). The page
names no patient: who it is of stands in the object's own elements. Needs pydicom (extra `dicom`).
"""

from pydicom.sequence import Sequence as Items

from r2gengpt.clinical.documents.dicom_objects import code, file_of, new_object, reference
from r2gengpt.clinical.documents.draft import Draft
from r2gengpt.clinical.documents.plain_pdf import report_pdf
from r2gengpt.clinical.documents.structured_report import TITLE
from r2gengpt.text.written import NOTICE

ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"


def encapsulated_pdf(draft: Draft) -> bytes:
    """The draft as a DICOM file."""
    page = report_pdf(draft.origin, draft.sections, draft.blocks)
    dataset = new_object(draft, ENCAPSULATED_PDF, "PDF", "DOC", 9102)
    dataset.ConversionType = "WSD"
    dataset.AcquisitionDateTime = ""
    dataset.BurnedInAnnotation = "NO"
    dataset.SourceInstanceSequence = Items(
        reference(image) for image in {image.instance_uid: image for image in draft.images}.values()
    )
    dataset.DocumentTitle = f"Draft of a chest X-ray report: {NOTICE}"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.ConceptNameCodeSequence = code(*TITLE)
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocumentLength = len(page)
    dataset.EncapsulatedDocument = page + bytes(len(page) % 2)
    return file_of(dataset)
