"""Writes this folder's profiles and example: `python docs/fhir/write.py`. The example is of the program's own code.

A profile holds what differs from FHIR R4 (its differential); tools make the snapshot. Its address is a name: there is
no such server.
"""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from r2gengpt.clinical.documents.draft import MANUFACTURER, Draft, draft_of
from r2gengpt.clinical.documents.fhir import DCM, LOINC, TERMS, UID_SYSTEM, fhir_bundle
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.report import Finding
from r2gengpt.text.observations import LIKELY, POSSIBLE, UNLIKELY
from r2gengpt.text.written import NOTICE

HERE = Path(__file__).parent
CANONICAL = "http://r2gengpt.example/fhir/StructureDefinition/"
Element = dict[str, Any]


def element(path: str, least: int | None = None, most: str | None = None, **more: Any) -> Element:
    """What a profile asks of an element; `path:slice` names a slice, `path[x]` a choice."""
    parts = path.split(".")
    bare = ".".join(part.partition(":")[0] for part in parts)
    sliced = {"sliceName": parts[-1].partition(":")[2]} if ":" in parts[-1] else {}
    bounds = {"min": least, "max": most}
    return {"id": path, "path": bare, **sliced, **{k: v for k, v in bounds.items() if v is not None}, **more}


def rule(key: str, human: str, expression: str) -> Element:
    """A constraint in FHIRPath."""
    return {"key": key, "severity": "error", "human": human, "expression": expression}


def concept(code: str, system: str) -> Element:
    """A pattern of a coded concept."""
    return {"coding": [{"system": system, "code": code}]}


def kinds(*codes: str) -> list[Element]:
    """The types that a choice may have."""
    return [{"code": code} for code in codes]


def coded(path: str, code: str, system: str) -> list[Element]:
    """One concept with one code, of an element that may repeat."""
    coding = f"{path}.coding"
    return [
        element(path, 1, "1"),
        element(coding, 1, "1"),
        element(f"{coding}.system", 1, patternUri=system),
        element(f"{coding}.code", 1, patternCode=code),
    ]


def identified(path: str) -> list[Element]:
    """One UID of DICOM."""
    return [element(path, 1, "1"), element(f"{path}.system", 1, patternUri=UID_SYSTEM), element(f"{path}.value", 1)]


def profile(name: str, kind: str, title: str, elements: list[Element]) -> Element:
    """A StructureDefinition of R4 that constrains a resource."""
    return {
        "resourceType": "StructureDefinition",
        "id": name,
        "url": f"{CANONICAL}{name}",
        "name": "".join(part.capitalize() for part in name.split("-")),
        "title": title,
        "status": "draft",
        "experimental": True,
        "description": f"{title}. {NOTICE}.",
        "fhirVersion": "4.0.1",
        "kind": "resource",
        "abstract": False,
        "type": kind,
        "baseDefinition": f"http://hl7.org/fhir/StructureDefinition/{kind}",
        "derivation": "constraint",
        "differential": {"element": elements},
    }


SUBJECT = rule("r2g-subject", "The patient is named by identifier, or said to be unknown",
               "subject.reference.empty() and (subject.identifier.value | subject.display).exists()")  # fmt: skip
NOTED = rule("r2g-notice", "The note begins with the notice", f"note.first().text.startsWith('{NOTICE}')")


def report() -> Element:
    """The draft itself."""
    kind = "DiagnosticReport"
    notice = rule("r2g-conclusion", "The conclusion begins with the notice", f"conclusion.startsWith('{NOTICE}')")
    form = f"{kind}.presentedForm"
    return profile("draft-report", kind, "Draft of a radiology report by a model", [
        element(kind, constraint=[SUBJECT, notice]),
        element(f"{kind}.text", 1),
        *identified(f"{kind}.identifier"),
        element(f"{kind}.status", patternCode="preliminary"),
        *coded(f"{kind}.category", "RAD", f"{TERMS}v2-0074"),
        element(f"{kind}.code", patternCodeableConcept=concept("18748-4", LOINC)),
        element(f"{kind}.subject", 1),
        element(f"{kind}.effective[x]", type=kinds("dateTime")),
        element(f"{kind}.issued", 1),
        element(f"{kind}.performer", most="0"),
        element(f"{kind}.resultsInterpreter", most="0"),
        element(f"{kind}.imagingStudy", 1),
        element(f"{kind}.conclusion", 1),
        element(form, 1, "1"),
        element(f"{form}.contentType", 1, patternCode="text/plain; charset=utf-8"),
        element(f"{form}.data", 1),
        element(f"{form}.title", 1, patternString=NOTICE),
    ])  # fmt: skip


def observed(name: str, title: str, elements: list[Element], rules: list[Element]) -> Element:
    """What both kinds of Observation share, and what one has besides."""
    kind = "Observation"
    return profile(name, kind, title, [
        element(kind, constraint=[SUBJECT, NOTED, *rules]),
        element(f"{kind}.status", patternCode="preliminary"),
        *coded(f"{kind}.category", "imaging", f"{TERMS}observation-category"),
        element(f"{kind}.subject", 1),
        element(f"{kind}.effective[x]", type=kinds("dateTime")),
        element(f"{kind}.performer", most="0"),
        *elements[:1],
        element(f"{kind}.note", 1, "1"),
        *elements[1:2],
        element(f"{kind}.device", 1),
        element(f"{kind}.derivedFrom", 1),
        *elements[2:],
    ])  # fmt: skip


def label() -> Element:
    """What the drafted text says of an observation."""
    words = rule("r2g-label", "positive, uncertain or negative", "value in ('positive' | 'uncertain' | 'negative')")
    named = rule("r2g-name", "The observation is named in words", "code.text.exists() and code.coding.empty()")
    value = element("Observation.value[x]", 1, type=kinds("string"))
    method, component = (element(f"Observation.{name}", most="0") for name in ("method", "component"))
    return observed(
        "text-label", "What a drafted text says of an observation", [value, method, component], [words, named]
    )


def finding() -> Element:
    """What the films show of an observation."""
    words = rule("r2g-verdict", "likely, possible or unlikely", "value.text in ('likely' | 'possible' | 'unlikely')")
    share = rule("r2g-share", "A probability lies between 0 and 1",
                 "component.value.ofType(Quantity).all(value >= 0 and value <= 1)")  # fmt: skip
    parts = "Observation.component"
    slicing = {"discriminator": [{"type": "value", "path": "code"}], "rules": "closed"}
    return observed("film-finding", "What a model finds on the films", [
        element("Observation.value[x]", 1, type=kinds("CodeableConcept")),
        element("Observation.method", 1, patternCodeableConcept={"text": "finding head of an image model"}),
        element(parts, 2, "2", slicing=slicing),
        element(f"{parts}:probability", 1, "1"),
        element(f"{parts}:probability.code", patternCodeableConcept=concept("122157", DCM)),
        element(f"{parts}:probability.value[x]", 1, type=kinds("Quantity")),
        element(f"{parts}:interval", 1, "1"),
        element(f"{parts}:interval.code", patternCodeableConcept={"text": "95 % interval of the probability"}),
        element(f"{parts}:interval.value[x]", 1, type=kinds("Range")),
    ], [words, share])  # fmt: skip


def device() -> Element:
    """Program and model."""
    hashed = rule("r2g-hash", "The identifier is the SHA-256 of the weights",
                  "identifier.value.matches('^sha256:[0-9a-f]{64}$')")  # fmt: skip
    return profile("drafting-device", "Device", "Program and model that draft reports", [
        element("Device", constraint=[hashed, NOTED]),
        element("Device.identifier", 1, "1"),
        element("Device.status", 1, patternCode="active"),
        element("Device.manufacturer", 1, patternString=MANUFACTURER),
        element("Device.deviceName", 1, "1"),
        element("Device.version", 1, "1"),
        element("Device.note", 1, "1"),
    ])  # fmt: skip


def study() -> Element:
    """The films."""
    kind = "ImagingStudy"
    return profile("drafted-study", kind, "Films that a draft was written from", [
        element(kind, constraint=[SUBJECT]),
        *identified(f"{kind}.identifier"),
        element(f"{kind}.status", patternCode="available"),
        element(f"{kind}.numberOfSeries", 1),
        element(f"{kind}.numberOfInstances", 1),
        element(f"{kind}.series", 1),
        element(f"{kind}.series.numberOfInstances", 1),
        element(f"{kind}.series.instance", 1),
    ])  # fmt: skip


def provenance() -> Element:
    """Who wrote it, from what."""
    kind = "Provenance"
    agent = concept("author", f"{TERMS}provenance-participant-type")
    by = rule("r2g-device", "A device is the author, on behalf of nobody",
              "agent.all(who.type = 'Device' and onBehalfOf.empty())")  # fmt: skip
    return profile("draft-provenance", kind, "That a device wrote a draft, from these films", [
        element(kind, constraint=[by]),
        element(f"{kind}.text", 1),
        element(f"{kind}.agent", 1, "1"),
        element(f"{kind}.agent.type", 1, patternCodeableConcept=agent),
        element(f"{kind}.entity", 1),
        element(f"{kind}.entity.role", patternCode="source"),
        element(f"{kind}.signature", most="0"),
    ])  # fmt: skip


def example() -> Draft:
    """A draft of two films of nobody, with labels, findings and a line for review."""
    shared: dict[str, Any] = {
        "study_uid": "2.25.1", "class_uid": "1.2.840.10008.5.1.4.1.1.1.1", "patient_id": "EXAMPLE-1",
        "issuer": "EXAMPLE", "modality": "DX", "study_date": "20260102",
    }  # fmt: skip
    films = [
        DicomHeader(**shared, series_uid=f"2.25.2{at}", instance_uid=f"2.25.3{at}", view=view)
        for at, view in enumerate(("PA", "LATERAL"), 1)
    ]
    shown = (
        Finding("Cardiomegaly", 0.93, (0.88, 0.96), LIKELY),
        Finding("Lung Opacity", 0.41, (0.3, 0.55), POSSIBLE),
        Finding("Pneumothorax", 0.02, (0.0, 0.05), UNLIKELY),
    )
    labels = {"Cardiomegaly": "positive", "Pneumothorax": "negative"}
    text = "FINDINGS: The heart is large. No pneumothorax.\nIMPRESSION: Cardiomegaly."
    moment = datetime(2026, 1, 2, 10, 11, 12, tzinfo=UTC)
    doubts = ["left out: lung opacity, possible (.41) on the film"]
    return draft_of(text, films, "example", "ab" * 32, moment, labels, film=shown, review=doubts)


def profile_of(resource: Element) -> str:
    """The name of the profile that a resource of ours follows."""
    names = {
        "DiagnosticReport": "draft-report", "Device": "drafting-device", "ImagingStudy": "drafted-study",
        "Provenance": "draft-provenance", "Observation": "film-finding" if "method" in resource else "text-label",
    }  # fmt: skip
    return names[resource["resourceType"]]


def files() -> Iterator[tuple[str, str]]:
    """Name and text of each file."""
    for one in (report(), label(), finding(), device(), study(), provenance()):
        yield f"StructureDefinition-{one['id']}.json", json.dumps(one, indent=1, ensure_ascii=False) + "\n"
    bundle = json.loads(fhir_bundle(example()))
    yield "example-bundle.json", json.dumps(bundle, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write them all, beside this file or in a folder that is named."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for name, text in files():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
