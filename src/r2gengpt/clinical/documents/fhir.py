"""A draft as a FHIR R4 transaction bundle, whose resources are put under fixed ids. Always preliminary.

A server that takes the bundle twice holds each resource once. The patient is referred to by the identifier in the
images; no Patient is written. Checked by the classes of fhir.resources (extra `fhir`), which are imported here.
"""

import base64
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from r2gengpt.clinical.documents import codes
from r2gengpt.clinical.documents.draft import MANUFACTURER, REVIEW_BLOCK, Draft, patient_of, uuid_of
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.report import Finding
from r2gengpt.text.html import templates
from r2gengpt.text.written import NOTICE, noted, with_notice

Resource = dict[str, Any]
LOINC, DCM = "http://loinc.org", "http://dicom.nema.org/resources/ontology/DCM"
TERMS = "http://terminology.hl7.org/CodeSystem/"
SYSTEMS = {codes.SNOMED: "http://snomed.info/sct", codes.RADLEX: "http://www.radlex.org"}
"""DICOM's designator of a scheme → FHIR's name of it."""
CODES: dict[str, Resource] = {
    name: {"system": SYSTEMS[one.scheme], "code": one.value, "display": one.meaning}
    for name, one in codes.PUBLIC.items()
}
"""Observation → the code of SNOMED CT or RadLex that means the same."""
UID_SYSTEM, URI_SYSTEM = "urn:dicom:uid", "urn:ietf:rfc:3986"


def fhir_bundle(draft: Draft) -> bytes:
    """The draft as JSON: DiagnosticReport, ImagingStudy, Device, Provenance and an Observation for each label.

    Raises:
        ModuleNotFoundError: fhir.resources is not installed.
    """
    from fhir.resources.R4B.bundle import Bundle

    device = _device(draft)
    studies = [_imaging_study(draft, uid, images) for uid, images in draft.studies.items()]
    observations = [_label(draft, name, label, studies, device) for name, label in draft.labels.items()]
    observations += [_finding(draft, finding, studies, device) for finding in draft.assessed]
    report = _report(draft, studies, observations)
    provenance = _provenance(draft, [report, *observations], studies, device)
    resources = [device, *studies, *observations, report, provenance]
    bundle = Bundle.model_validate(
        {
            "resourceType": "Bundle",
            "id": str(draft.uuid("fhir bundle")),
            "type": "transaction",
            "timestamp": _instant(draft.created),
            "entry": [
                {
                    "fullUrl": f"urn:uuid:{resource['id']}",
                    "resource": resource,
                    "request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"},
                }
                for resource in resources
            ],
        }
    )
    text: str = bundle.model_dump_json(indent=1)
    return text.encode() + b"\n"


def _instant(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _concept(code: str, system: str, display: str) -> Resource:
    return {"coding": [{"system": system, "code": code, "display": display}]}


def _to(resource: Resource) -> Resource:
    """A reference to a resource of the bundle."""
    return {"reference": f"urn:uuid:{resource['id']}", "type": resource["resourceType"]}


def _subject(patient: DicomHeader) -> Resource:
    """The patient, by the identifier that the images have; without one, only that it is a patient."""
    number, issuer = patient.patient_id, patient.issuer
    if not number:
        return {"type": "Patient", "display": "patient of the images, without identifier"}
    return {"type": "Patient", "identifier": {"value": number, **({"assigner": {"display": issuer}} if issuer else {})}}


def _oid(uid: str) -> Resource:
    return {"system": UID_SYSTEM, "value": f"urn:oid:{uid}"}


def _study_date(image: DicomHeader) -> str | None:
    """The study's day: its hour has no time zone and is left out."""
    day = image.study_date
    return f"{day[:4]}-{day[4:6]}-{day[6:]}" if day else None


def _with(resource: Resource, **maybe: Any) -> Resource:
    """The resource with those of the elements that have a value."""
    return {**resource, **{key: value for key, value in maybe.items() if value}}


def _device(draft: Draft) -> Resource:
    return {
        "resourceType": "Device",
        "id": str(uuid_of("fhir device", draft.version, draft.digest)),
        "identifier": [{"value": f"sha256:{draft.digest}"}],
        "status": "active",
        "manufacturer": MANUFACTURER,
        "deviceName": [{"name": f"{MANUFACTURER}, model {draft.model}", "type": "user-friendly-name"}],
        "version": [{"value": draft.version}],
        "note": [{"text": NOTICE}],
    }


def _modality(image: DicomHeader) -> str:
    """Its code, as far as it is one; else that of others."""
    return image.modality if re.fullmatch("[A-Z0-9_]+( [A-Z0-9_]+)*", image.modality) else "OT"


def _imaging_study(draft: Draft, uid: str, images: Sequence[DicomHeader]) -> Resource:
    """The images of one study, as far as they are known here."""
    patient = patient_of(images)
    series: dict[str, dict[str, DicomHeader]] = {}
    for image in images:
        series.setdefault(image.series_uid, {})[image.instance_uid] = image
    study = {
        "resourceType": "ImagingStudy",
        "id": str(uuid_of("fhir study", uid)),
        "identifier": [_oid(uid)],
        "status": "available",
        "subject": _subject(patient),
        "numberOfSeries": len(series),
        "numberOfInstances": sum(map(len, series.values())),
        "series": [
            {
                "uid": number,
                "modality": {"system": DCM, "code": _modality(next(iter(members.values())))},
                "numberOfInstances": len(members),
                "instance": [
                    _with(
                        {
                            "uid": image.instance_uid,
                            "sopClass": {"system": URI_SYSTEM, "code": f"urn:oid:{image.class_uid}"},
                        },
                        title=image.view_name,
                    )
                    for image in members.values()
                ],
            }
            for number, members in series.items()
        ],
    }
    return _with(study, started=_study_date(patient), note=[{"text": draft.note}] if draft.note else None)


def _observation(
    draft: Draft, kind: str, code: Resource, words: str, studies: Sequence[Resource], device: Resource, **own: Any
) -> Resource:
    """What is said of one observation: `kind` tells its id, `words` where it is from, `own` has its value."""
    observation = {
        "resourceType": "Observation",
        "id": str(draft.uuid(f"fhir {kind}")),
        "status": "preliminary",
        "category": [_concept("imaging", f"{TERMS}observation-category", "Imaging")],
        "code": code,
        "subject": _subject(draft.patient),
        "note": [{"text": f"{noted(draft.note)}. {words}"}],
        "derivedFrom": [_to(study) for study in studies],
        "device": _to(device),
        **own,
    }
    return _with(observation, effectiveDateTime=_study_date(draft.patient))


def _label(draft: Draft, name: str, label: str, studies: Sequence[Resource], device: Resource) -> Resource:
    """What the text says of one of CheXpert's observations."""
    words = "Read from the drafted text by rules."
    return _observation(draft, f"observation {name}", {"text": name}, words, studies, device, valueString=label)


def _finding(draft: Draft, finding: Finding, studies: Sequence[Resource], device: Resource) -> Resource:
    """What the films show of an observation: a verdict, its probability and the 95 % interval of that."""
    low, high = (_share(bound) for bound in finding.interval)
    code = {"coding": [CODES[finding.name]]} if finding.name in CODES else {}
    probability = {**_concept("122157", DCM, "Probability"), "text": "Probability"}
    return _observation(
        draft,
        f"finding {finding.name}",
        {**code, "text": finding.name},
        "Found on the films by the model, not read from the drafted text.",
        studies,
        device,
        valueCodeableConcept={"text": finding.verdict},
        method={"text": "finding head of an image model"},
        component=[
            {"code": probability, "valueQuantity": _share(finding.probability)},
            {"code": {"text": "95 % interval of the probability"}, "valueRange": {"low": low, "high": high}},
        ],
    )


def _share(probability: float) -> Resource:
    """A number between 0 and 1 as a quantity without a unit."""
    return {"value": round(probability, 4), "unit": "1", "system": "http://unitsofmeasure.org", "code": "1"}


def _narrative(origin: str, sections: Sequence[tuple[str, str]] = ()) -> Resource:
    """What a reader is shown of a resource, as XHTML."""
    template = templates("r2gengpt.clinical.documents").get_template("narrative.html")
    return {"status": "generated", "div": template.render(origin=origin, sections=sections)}


def _report(draft: Draft, studies: Sequence[Resource], observations: list[Resource]) -> Resource:
    sections = (*draft.sections, *((name, "; ".join(lines)) for name, lines in draft.blocks))
    text = "\n\n".join(f"{name}: {words}" for name, words in sections)
    doubts = f" {REVIEW_BLOCK}: {'; '.join(draft.review)}" if draft.review else ""
    report = {
        "resourceType": "DiagnosticReport",
        "id": str(draft.uuid("fhir report")),
        "text": _narrative(draft.origin, sections),
        "identifier": [_oid(draft.uid("SR"))],
        "status": "preliminary",
        "category": [_concept("RAD", f"{TERMS}v2-0074", "Radiology")],
        "code": _concept("18748-4", LOINC, "Diagnostic imaging study"),
        "subject": _subject(draft.patient),
        "issued": _instant(draft.created),
        "imagingStudy": [_to(study) for study in studies],
        "conclusion": f"{noted(draft.note)}. {draft.impression or draft.findings}{doubts}",
        "presentedForm": [
            {
                "contentType": "text/plain; charset=utf-8",
                "data": base64.b64encode(with_notice(text, draft.note).encode()).decode(),
                "title": NOTICE,
            }
        ],
    }
    return _with(report, effectiveDateTime=_study_date(draft.patient), result=[_to(one) for one in observations])


def _provenance(draft: Draft, targets: list[Resource], studies: Sequence[Resource], device: Resource) -> Resource:
    return {
        "resourceType": "Provenance",
        "id": str(draft.uuid("fhir provenance")),
        "target": [_to(target) for target in targets],
        "recorded": _instant(draft.created),
        "agent": [
            {"type": _concept("author", f"{TERMS}provenance-participant-type", "Author"), "who": _to(device)},
        ],
        "entity": [{"role": "source", "what": _to(study)} for study in studies],
        "text": _narrative(draft.origin),
    }
