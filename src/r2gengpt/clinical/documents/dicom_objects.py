"""What all DICOM objects that we write have in common: patient, study, series, equipment. Not their content.

Modules are those of PS3.3, annex C: Patient (C.7.1.1), General Study (C.7.2.1), General Equipment (C.7.5.1), SOP
Common (C.12.1). Needs pydicom (extra `dicom`).
"""

import io
from typing import Any

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import PersonName

from r2gengpt.clinical.documents.draft import MANUFACTURER, Draft, uuid_of
from r2gengpt.text.written import NOTICE


def item(**values: Any) -> Dataset:
    """A dataset of these elements."""
    dataset = Dataset()
    for key, value in values.items():
        setattr(dataset, key, value)
    return dataset


def code(value: str, scheme: str, meaning: str) -> Sequence:
    """A code sequence of one item."""
    return Sequence([item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)])


def new_object(draft: Draft, class_uid: str, kind: str, modality: str, series_number: int) -> Dataset:
    """An object of the draft's study, without content."""
    patient = draft.patient
    dataset = item(
        InstanceCreationDate=f"{draft.created:%Y%m%d}",
        InstanceCreationTime=f"{draft.created:%H%M%S}",
        SOPClassUID=class_uid,
        SOPInstanceUID=draft.uid(kind),
        StudyDate=patient.study_date,
        StudyTime=patient.study_time,
        ContentDate=f"{draft.created:%Y%m%d}",
        ContentTime=f"{draft.created:%H%M%S}",
        AccessionNumber=patient.accession,
        Modality=modality,
        Manufacturer=MANUFACTURER,
        ManufacturerModelName=draft.model[:64],
        SoftwareVersions=draft.version,
        ReferringPhysicianName=patient.referring,
        SeriesDescription=NOTICE,
        PatientName=patient.name,
        PatientID=patient.patient_id,
        PatientBirthDate=patient.birth_date,
        PatientSex=patient.sex,
        StudyInstanceUID=patient.study_uid,
        SeriesInstanceUID=draft.uid(f"{kind} series", study_only=True),
        StudyID=patient.study_id,
        SeriesNumber=series_number,
        InstanceNumber=1,
        ContributingEquipmentSequence=Sequence([equipment(draft)]),
    )
    if patient.study_description:
        dataset.StudyDescription = patient.study_description
    if patient.issuer:
        dataset.IssuerOfPatientID = patient.issuer
    return dataset


def device_uid(draft: Draft) -> str:
    """The identifier of the program with these very weights, made from their hash; the same for all studies."""
    return f"2.25.{uuid_of('device', draft.version, draft.digest).int}"


def equipment(draft: Draft) -> Dataset:
    """The program and its weights as equipment that contributed. Source: PS3.3, C.12.1; PS3.16, CID 7005."""
    return item(
        PurposeOfReferenceCodeSequence=code("109102", "DCM", "Processing Equipment"),
        Manufacturer=MANUFACTURER,
        ManufacturerModelName=draft.model[:64],
        SoftwareVersions=draft.version,
        DeviceUID=device_uid(draft),
        ContributionDateTime=f"{draft.created:%Y%m%d%H%M%S%z}",
        ContributionDescription=f"{NOTICE}. SHA-256 of the weights: {draft.digest}",
    )


def reference(image: Any) -> Dataset:
    """A reference to an image."""
    return item(ReferencedSOPClassUID=image.class_uid, ReferencedSOPInstanceUID=image.instance_uid)


def charset_of(dataset: Dataset) -> str | None:
    """The smallest character set that holds all texts: none for ASCII, Latin-1, or UTF-8, which older readers lack."""
    texts = "".join(_text_in(element.value) for element in dataset.iterall())
    if texts.isascii():
        return None
    return "ISO_IR 100" if all(ord(sign) < 256 for sign in texts) else "ISO_IR 192"


def _text_in(value: object) -> str:
    """The text of an element's value, also of one that a backslash has cut into several."""
    if isinstance(value, str | PersonName):
        return str(value)
    return "".join(map(_text_in, value)) if isinstance(value, MultiValue) else ""


def file_of(dataset: Dataset) -> bytes:
    """The object as a DICOM file, explicit little endian."""
    if charset := charset_of(dataset):
        dataset.SpecificCharacterSet = charset
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.ImplementationClassUID = "2.25.302184517734930463371318862017530131411"
    meta.ImplementationVersionName = "R2GENGPT"
    dataset.file_meta = meta
    out = io.BytesIO()
    dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()
