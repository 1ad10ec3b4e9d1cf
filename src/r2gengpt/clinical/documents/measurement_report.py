"""A draft as a DICOM Comprehensive SR of template TID 1500: findings as coded observations, evidence as regions.

The form that IHE's AI Results profile has for what an algorithm finds. Templates 1500, 1204, 1001, 1600 and 1410
(PS3.16) are made by highdicom. The drafted text stands with the verdicts, in the container of qualitative evaluations.
Always preliminary and unverified. Needs highdicom (extra `dicom`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from highdicom import sr
from pydicom import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes

from r2gengpt.clinical.documents.codes import SCHEMES, SENTENCE, VERDICTS, Concept, observation, probability_of
from r2gengpt.clinical.documents.dicom_objects import device_uid, file_of, item
from r2gengpt.clinical.documents.draft import MANUFACTURER, Draft
from r2gengpt.clinical.documents.structured_report import COMMENT, ELEMENTS, new_document
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.films.regions import Region
from r2gengpt.report import Finding
from r2gengpt.text.observations import UNLIKELY

COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
PART = "MSR"
"""The part of a draft that the object's UID is made from."""
ENGLISH = sr.CodedConcept("en", "RFC5646", "English")
PROCEDURE = sr.CodedConcept("30745-4", "LN", "XR Chest Views")
SOURCE = sr.CodedConcept("260753009", "SCT", "Source")
QUALITATIVE = sr.CodedConcept("C0034375", "UMLS", "Qualitative Evaluations")
DESCRIPTION = sr.CodedConcept("121065", "DCM", "Procedure Description")
CONTAINS, INFERRED_FROM = sr.RelationshipTypeValues.CONTAINS, sr.RelationshipTypeValues.INFERRED_FROM


def measurement_report(draft: Draft) -> bytes:
    """The draft as a DICOM file."""
    dataset = new_document(draft, COMPREHENSIVE_SR, PART, 9103)
    root = sr.ContainerContentItem(codes.DCM.ImagingMeasurementReport, template_id="1500")
    root.ContentSequence = Items(_content(draft))
    dataset.update(root)
    dataset.CodingSchemeIdentificationSequence = Items(
        item(
            CodingSchemeDesignator=designator,
            CodingSchemeUID=scheme.uid,
            CodingSchemeName=scheme.name,
            CodingSchemeResponsibleOrganization=scheme.by,
        )
        for designator, scheme in SCHEMES.items()
    )
    return file_of(dataset)


def _content(draft: Draft) -> Iterator[Dataset]:
    """The items of the root, in the order of TID 1500."""
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=device_uid(draft),
        name=f"{MANUFACTURER} {draft.version}",
        manufacturer_name=MANUFACTURER,
        model_name=draft.model,
    )
    observer = sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    yield from sr.LanguageOfContentItemAndDescendants(ENGLISH)
    yield from sr.ObservationContext(observer_device_context=observer)
    yield sr.CodeContentItem(codes.DCM.ProcedureReported, PROCEDURE, sr.RelationshipTypeValues.HAS_CONCEPT_MOD)
    images = [
        sr.ImageContentItem(SOURCE, image.class_uid, image.instance_uid, relationship_type=CONTAINS)
        for image in _once(draft)
    ]
    yield _container(codes.DCM.ImageLibrary, [_container(codes.DCM.ImageLibraryGroup, images)])
    if groups := list(_groups(draft)):
        yield _container(codes.DCM.ImagingMeasurements, groups)
    yield _container(QUALITATIVE, _evaluations(draft))


def _container(name: sr.CodedConcept, content: Iterable[Dataset]) -> Dataset:
    container = sr.ContainerContentItem(name, relationship_type=CONTAINS)
    container.ContentSequence = Items(content)
    return container


def _evaluations(draft: Draft) -> Iterator[Dataset]:
    """The verdict on each observation that was assessed, then texts: origin, sections, why it needs review."""
    for finding in draft.assessed:
        evaluation = sr.CodeContentItem(_coded(observation(finding.name)), _coded(VERDICTS[finding.verdict]), CONTAINS)
        probability = _probability(finding)[0]
        probability.RelationshipType = sr.RelationshipTypeValues.HAS_PROPERTIES.value
        sources = [
            sr.ImageContentItem(SOURCE, image.class_uid, image.instance_uid, relationship_type=INFERRED_FROM)
            for image in _once(draft)
        ]
        evaluation.ContentSequence = Items([probability, *sources])
        yield evaluation
    yield sr.TextContentItem(DESCRIPTION, draft.origin, CONTAINS)
    for name, text in draft.sections:
        yield sr.TextContentItem(sr.CodedConcept(*ELEMENTS[name]), text, CONTAINS)
    for line in draft.comments:
        yield sr.TextContentItem(sr.CodedConcept(*COMMENT), line, CONTAINS)


def _groups(draft: Draft) -> Iterator[Dataset]:
    """A measurement group for each region. TID 1410.

    There is none without: OHIF 3.13 fails on a group that has no coordinates (TID 1501).
    """
    findings = {finding.name: finding for finding in draft.assessed}
    counts: Counter[str] = Counter()
    for region in draft.regions:
        outline = _outline(region, draft.images[region.view])
        finding = findings.get(region.finding)
        if outline is None or (finding is not None and finding.verdict == UNLIKELY):
            continue
        name = region.sentence if finding is None else finding.name
        counts[name] += 1
        label = f"{name}, region {counts[name]}" if counts[name] > 1 else name
        tracked = label if finding is None else f"{label}: {finding.verdict}"
        yield from sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(draft.uid(f"tracking {label}", study_only=True), tracked),
            referenced_region=outline,
            finding_type=_coded(SENTENCE if finding is None else observation(name)),
            algorithm_id=sr.AlgorithmIdentification(
                name=draft.model,
                version=draft.version,
                parameters=[f"SHA-256 of the weights: {draft.digest}"],
                family=codes.DCM.ArtificialIntelligence,
            ),
            measurements=None if finding is None else [_shown(finding)],
            qualitative_evaluations=None if finding is None else [_certainty(finding.verdict)],
        )


def _outline(region: Region, image: DicomHeader) -> sr.ImageRegion | None:
    """The area as a closed POLYLINE on its film; None on a film of a class that the standard does not have."""
    frames = None if region.frame is None else [region.frame]
    source = sr.SourceImageForRegion(image.class_uid, image.instance_uid, frames)
    try:
        return sr.ImageRegion(sr.GraphicTypeValues.POLYLINE, np.array(region.outline, dtype=float), source)
    except KeyError:
        return None


def _probability(finding: Finding) -> sr.Measurement:
    """The calibrated probability; the ends of its 95 % interval as its uncertainty, below and above. TID 300, 310."""
    low, high = finding.interval
    properties = sr.MeasurementProperties(
        upper_measurement_uncertainty=_digits(max(0.0, high - finding.probability)),
        lower_measurement_uncertainty=_digits(max(0.0, finding.probability - low)),
    )
    return sr.Measurement(
        codes.DCM.Probability, _digits(finding.probability), codes.UCUM.NoUnits, properties=properties
    )


def _shown(finding: Finding) -> sr.Measurement:
    """The probability in percent as a viewer writes it beside a region: under a name that says what it is of."""
    return sr.Measurement(_coded(probability_of(finding.name)), round(100 * finding.probability, 2), codes.UCUM.Percent)


def _digits(share: float) -> float:
    return round(share, 4)


def _certainty(verdict: str) -> sr.QualitativeEvaluation:
    return sr.QualitativeEvaluation(codes.DCM.CertaintyOfFinding, _coded(VERDICTS[verdict]))


def _coded(concept: Concept) -> sr.CodedConcept:
    return sr.CodedConcept(concept.value, concept.scheme, concept.meaning)


def _once(draft: Draft) -> list[DicomHeader]:
    """Each image of the draft, once."""
    return list({image.instance_uid: image for image in draft.images}.values())
