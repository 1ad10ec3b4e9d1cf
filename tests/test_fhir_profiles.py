"""The FHIR profiles of docs/fhir: our resources follow them, wrong ones are refused. Checked by @medplum/core 5.2.13.

`npm ci --prefix tests/fhir` fetches the validator, with the definitions of R4; without it those tests are skipped.
"""

import copy
import dataclasses
import importlib.util
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.structuredefinition import StructureDefinition

from r2gengpt.clinical.documents.draft import Draft
from r2gengpt.clinical.documents.fhir import fhir_bundle

ROOT = Path(__file__).parents[1]
FOLDER, CHECK = ROOT / "docs" / "fhir", ROOT / "tests" / "fhir" / "check.mjs"
NODE = shutil.which("node")
needs_validator = pytest.mark.skipif(
    NODE is None or not (CHECK.parent / "node_modules").is_dir(), reason="needs node, and npm ci --prefix tests/fhir"
)
Resource = dict[str, Any]
Change = Callable[[Resource], object]


def writer() -> ModuleType:
    """docs/fhir/write.py."""
    spec = importlib.util.spec_from_file_location("write_fhir", FOLDER / "write.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WRITER = writer()


def resources_of(draft: Draft) -> list[Resource]:
    return [entry["resource"] for entry in json.loads(fhir_bundle(draft))["entry"]]


def one(profile: str) -> Resource:
    """The example of a profile."""
    return next(it for it in resources_of(WRITER.example()) if WRITER.profile_of(it) == profile)


def faults(asked: list[tuple[str, Resource]]) -> list[list[str]]:
    """What the validator finds wrong with each resource, by R4 and by the profile of that name."""
    assert NODE is not None
    words = [NODE, str(CHECK), *sorted(map(str, FOLDER.glob("StructureDefinition-*.json")))]
    given = json.dumps([{"profile": profile, "resource": resource} for profile, resource in asked])
    done = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    return found


def test_profiles_and_example_are_what_their_writer_writes() -> None:
    written = dict(WRITER.files())
    assert set(written) == {path.name for path in FOLDER.glob("*.json")}
    for name, text in written.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, "python docs/fhir/write.py"


def test_profiles_and_example_are_resources_of_fhir() -> None:
    for path in FOLDER.glob("*.json"):
        kind = StructureDefinition if path.name.startswith("Structure") else Bundle
        kind.model_validate_json(path.read_text(encoding="utf-8"))


def drafts() -> list[Draft]:
    """Drafts that differ in what they have."""
    full: Draft = WRITER.example()
    stranger = tuple(dataclasses.replace(image, patient_id="", issuer="") for image in full.images)
    mixed = (full.images[0], dataclasses.replace(full.images[1], patient_id="EXAMPLE-2", study_uid="2.25.9"))
    return [
        full,
        dataclasses.replace(full, film=(), labels={}, review=()),
        dataclasses.replace(full, images=stranger),
        dataclasses.replace(full, images=mixed),
        dataclasses.replace(full, impression="", edited=True),
        dataclasses.replace(full, images=tuple(dataclasses.replace(it, study_date="") for it in full.images)),
    ]


@needs_validator
def test_every_resource_of_a_draft_follows_its_profile() -> None:
    asked = [(WRITER.profile_of(it), it) for draft in drafts() for it in resources_of(draft)]
    assert {profile for profile, _ in asked} == {path.stem.partition("-")[2] for path in FOLDER.glob("Struct*.json")}
    assert [(profile, found) for (profile, _), found in zip(asked, faults(asked), strict=True) if found] == []


def put(path: str, value: object) -> Change:
    """Set an element by its names and numbers; None removes it."""

    def change(resource: Resource) -> None:
        *above, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        place: Any = resource
        for part in above:
            place = place[part]
        if value is None:
            del place[last]
        else:
            place[last] = value

    return change


WRONG: list[tuple[str, str, object, str]] = [
    ("draft-report", "status", "final", "status"),
    ("draft-report", "conclusion", "Cardiomegaly.", "r2g-conclusion"),
    ("draft-report", "performer", [{"display": "a reader"}], "performer"),
    ("draft-report", "identifier.0.system", "http://example.org", "identifier"),
    ("draft-report", "category.0.coding.0.code", "LAB", "category"),
    ("draft-report", "code.coding.0.code", "11502-2", "code"),
    ("draft-report", "presentedForm.0.title", "Report", "presentedForm"),
    ("draft-report", "imagingStudy", None, "imagingStudy"),
    ("draft-report", "subject", {"reference": "Patient/1"}, "r2g-subject"),
    ("draft-report", "conclusionn", "x", "conclusionn"),
    ("text-label", "status", "final", "status"),
    ("text-label", "valueString", "present", "r2g-label"),
    ("text-label", "code.coding", [{"system": "http://snomed.info/sct", "code": "8186001"}], "r2g-name"),
    ("text-label", "note.0.text", "Read by rules.", "r2g-notice"),
    ("text-label", "method", {"text": "eye"}, "method"),
    ("text-label", "device", None, "device"),
    ("text-label", "valueString", None, "r2g-label"),
    ("film-finding", "status", "amended", "status"),
    ("film-finding", "valueCodeableConcept.text", "sure", "r2g-verdict"),
    ("film-finding", "component.0.valueQuantity.value", 1.5, "r2g-share"),
    ("film-finding", "component.0.code.coding.0.code", "122158", "component"),
    ("film-finding", "component.1", None, "component"),
    ("film-finding", "method", None, "method"),
    ("drafting-device", "identifier.0.value", "sha256:1", "r2g-hash"),
    ("drafting-device", "manufacturer", "another", "manufacturer"),
    ("drafting-device", "note", None, "note"),
    ("drafted-study", "identifier.0.value", None, "identifier"),
    ("drafted-study", "series.0.instance", None, "instance"),
    ("drafted-study", "numberOfSeries", None, "numberOfSeries"),
    ("drafted-study", "status", "registered", "status"),
    ("draft-provenance", "agent.0.who.type", "Practitioner", "r2g-device"),
    ("draft-provenance", "agent.0.type.coding.0.code", "verifier", "agent.type"),
    ("draft-provenance", "entity.0.role", "derivation", "entity.role"),
    ("draft-provenance", "text", None, "text"),
]
"""Profile, element, its wrong value (None: it is missing), and what the fault names."""


@needs_validator
def test_a_wrong_resource_is_refused_for_what_is_wrong_with_it() -> None:
    asked = []
    for profile, path, value, _ in WRONG:
        resource = copy.deepcopy(one(profile))
        put(path, value)(resource)
        asked.append((profile, resource))
    for (profile, path, value, named), found in zip(WRONG, faults(asked), strict=True):
        assert any(named in fault for fault in found), (profile, path, value, found)
