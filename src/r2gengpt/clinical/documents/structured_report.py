"""A draft as a DICOM Basic Text structured report of template TID 2000. Always preliminary and unverified.

Modules: SR Document Series (PS3.3, C.17.1), SR Document General (C.17.2), SR Document Content (C.17.3); templates TID
2000, 1204, 1001, 1002, 1004 and 2002 (PS3.16). Needs pydicom (extra `dicom`).
"""

from collections.abc import Iterable, Sequence

from pydicom import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes

from r2gengpt.clinical.documents.dicom_objects import code, device_uid, file_of, item, new_object, reference
from r2gengpt.clinical.documents.draft import MANUFACTURER, Draft
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.text.written import NOTICE

BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
TITLE = ("18748-4", "LN", "Diagnostic Imaging Report")
HEADINGS = {"Findings": ("59776-5", "LN", "Findings"), "Impression": ("19005-8", "LN", "Impressions")}
ELEMENTS = {"Findings": ("121071", "DCM", "Finding"), "Impression": ("121073", "DCM", "Impression")}
"""Section → its heading (CID 7001) and what its text is called (CID 7002)."""
COMPUTER_AIDED = ("111017", "DCM", "CAD Processing and Findings Summary")
"""Heading of what the model's finding head says: a concept of the CAD reports, as CID 7001 (extensible) has none."""
COMMENT = ("121106", "DCM", "Comment")


def structured_report(draft: Draft) -> bytes:
    """The draft as a DICOM file."""
    dataset = new_document(draft, BASIC_TEXT_SR, "SR", 9101)
    _container(dataset, TITLE, _content(draft))
    dataset.ContentTemplateSequence = Items([item(MappingResource="DCMR", TemplateIdentifier="2000")])
    return file_of(dataset)


def new_document(draft: Draft, class_uid: str, part: str, series_number: int) -> Dataset:
    """A structured report of the draft's study, without content.

    Args:
        draft: the draft.
        class_uid: of the kind of report.
        part: of the draft, that its UIDs are made from.
        series_number: of its series.
    """
    dataset = new_object(draft, class_uid, part, "SR", series_number)
    dataset.ReferencedPerformedProcedureStepSequence = Items()
    dataset.CompletionFlag = "PARTIAL"
    dataset.CompletionFlagDescription = NOTICE
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PreliminaryFlag = "PRELIMINARY"
    dataset.PerformedProcedureCodeSequence = Items()
    dataset.AuthorObserverSequence = Items([_author(draft)])
    dataset.ReferencedRequestSequence = Items([_request(draft)])
    dataset.CurrentRequestedProcedureEvidenceSequence = Items(map(evidence, draft.studies.values()))
    return dataset


def _author(draft: Draft) -> Dataset:
    """The device that wrote the document. Source: PS3.3, C.17.2 and table 10-3."""
    return item(
        ObserverType="DEV",
        StationName="R2GENGPT",
        DeviceUID=device_uid(draft),
        Manufacturer=MANUFACTURER,
        ManufacturerModelName=draft.model[:64],
        InstitutionName="",
        InstitutionCodeSequence=Items(),
    )


def _request(draft: Draft) -> Dataset:
    """The request that the study's images fulfil, as far as they name it."""
    return item(
        StudyInstanceUID=draft.patient.study_uid,
        ReferencedStudySequence=Items(),
        AccessionNumber=draft.patient.accession,
        PlacerOrderNumberImagingServiceRequest="",
        FillerOrderNumberImagingServiceRequest="",
        RequestedProcedureID="",
        RequestedProcedureDescription="",
        RequestedProcedureCodeSequence=Items(),
    )


def evidence(images: Sequence[DicomHeader]) -> Dataset:
    """The images of one study by series, each once."""
    series: dict[str, dict[str, DicomHeader]] = {}
    for image in images:
        series.setdefault(image.series_uid, {})[image.instance_uid] = image
    return item(
        StudyInstanceUID=images[0].study_uid,
        ReferencedSeriesSequence=Items(
            item(SeriesInstanceUID=uid, ReferencedSOPSequence=Items(map(reference, members.values())))
            for uid, members in series.items()
        ),
    )


def _content(draft: Draft) -> list[Dataset]:
    """The items of the root container: language, observer, origin, sections."""
    described = codes.cid7001.CurrentProcedureDescriptions
    sections = [
        _container(
            item(RelationshipType="CONTAINS"),
            (described.value, described.scheme_designator, described.meaning),
            [_text(("121065", "DCM", "Procedure Description"), draft.origin)],
        )
    ]
    for number, (name, text) in enumerate(draft.sections):
        sources = draft.images if number == 0 else ()
        sections.append(
            _container(item(RelationshipType="CONTAINS"), HEADINGS[name], [_text(ELEMENTS[name], text, sources)])
        )
    return [_language(), *_observer(draft), *sections, *_film(draft)]


def _film(draft: Draft) -> list[Dataset]:
    """What the films show by the model, and why the draft needs review, in a container; none where there is neither."""
    found = [f"Computer-aided finding: {finding.in_full}" for finding in draft.assessed]
    content = [_text(ELEMENTS["Findings"], words, draft.images) for words in found]
    content += [_text(COMMENT, line) for line in draft.comments]
    return [_container(item(RelationshipType="CONTAINS"), COMPUTER_AIDED, content)] if content else []


def _container(dataset: Dataset, concept: tuple[str, str, str], content: Iterable[Dataset]) -> Dataset:
    dataset.ValueType = "CONTAINER"
    dataset.ConceptNameCodeSequence = code(*concept)
    dataset.ContinuityOfContent = "SEPARATE"
    dataset.ContentSequence = Items(content)
    return dataset


def _text(concept: tuple[str, str, str], text: str, sources: Iterable[DicomHeader] = ()) -> Dataset:
    """A text, and the images that it was inferred from."""
    dataset = item(
        RelationshipType="CONTAINS", ValueType="TEXT", ConceptNameCodeSequence=code(*concept), TextValue=text
    )
    images = [
        item(RelationshipType="INFERRED FROM", ValueType="IMAGE", ReferencedSOPSequence=Items([reference(image)]))
        for image in sources
    ]
    if images:
        dataset.ContentSequence = Items(images)
    return dataset


def _language() -> Dataset:
    """TID 1204."""
    return item(
        RelationshipType="HAS CONCEPT MOD",
        ValueType="CODE",
        ConceptNameCodeSequence=code("121049", "DCM", "Language of Content Item and Descendants"),
        ConceptCodeSequence=code("en", "RFC5646", "English"),
    )


def _observer(draft: Draft) -> list[Dataset]:
    """TID 1002 and 1004."""

    def observed(kind: str, value: str, meaning: str, **content: object) -> Dataset:
        name = code(value, "DCM", meaning)
        return item(RelationshipType="HAS OBS CONTEXT", ValueType=kind, ConceptNameCodeSequence=name, **content)

    return [
        observed("CODE", "121005", "Observer Type", ConceptCodeSequence=code("121007", "DCM", "Device")),
        observed("UIDREF", "121012", "Device Observer UID", UID=device_uid(draft)),
        observed("TEXT", "121013", "Device Observer Name", TextValue=f"{MANUFACTURER} {draft.version}"),
        observed("TEXT", "121014", "Device Observer Manufacturer", TextValue=MANUFACTURER),
        observed("TEXT", "121015", "Device Observer Model Name", TextValue=draft.model),
    ]
