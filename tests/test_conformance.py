"""The DICOM conformance statement of docs/clinical.md against the program. Judges no prose."""

import io
import re
from pathlib import Path

import pynetdicom
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import UID

from r2gengpt.clinical.archive.receive import CLASSES, MAX_PDU
from r2gengpt.clinical.archive.send import SYNTAXES
from r2gengpt.clinical.documents.forms import bytes_of
from r2gengpt.films.dicom.picture import READ
from r2gengpt.settings import OBJECT_FORMS, ListenConfig
from test_clinical_forms import draft, with_film

PAGE = (Path(__file__).parents[1] / "docs" / "clinical.md").read_text(encoding="utf-8")
STATEMENT = PAGE[PAGE.index("## DICOM conformance statement") : PAGE.index("## Audit trail")]
COLUMNS = {"sr": 5, "measurement-sr": 6, "pdf": 7, "secondary-capture": 8}
"""Form → its column of the table of attributes."""


def section(number: str) -> str:
    """The text below a heading, to the next one."""
    found = re.search(rf"^#+ {re.escape(number)} .*?\n(.*?)(?=^#)", STATEMENT + "\n#", re.MULTILINE | re.DOTALL)
    assert found is not None, number
    return found.group(1)


def rows(number: str) -> list[list[str]]:
    """The rows of a section's tables, cell by cell, without what rules them off."""
    lines = [line for line in section(number).splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def objects(form: str) -> list[Dataset]:
    """Drafts of one form, with all that they may have and with the least."""
    made = [with_film(issuer="H", study_description="Thorax"), draft("Clear."), draft("≥ 3 cm")]
    return [dcmread(io.BytesIO(bytes_of(one, form))) for one in made]


def test_the_statement_has_the_parts_of_ps3_2_in_their_order() -> None:
    titles = re.findall(r"^### (\d \w.*)$", STATEMENT, re.MULTILINE)
    wanted = ["Overview", "Introduction", "Networking", "Media interchange", "Character sets", "Security", "Annexes"]
    assert titles == [f"{number} {title}" for number, title in enumerate(wanted, 1)]


def test_the_sop_classes_are_those_that_are_taken_and_sent() -> None:
    named = {(role, uid) for role, _, uid in rows("3.2.1")[1:]}
    sent = {str(made.SOPClassUID) for form in OBJECT_FORMS for made in objects(form)}
    verification = ("SCP", "1.2.840.10008.1.1")
    assert named == {verification, *(("SCP", uid) for uid in CLASSES), *(("SCU", uid) for uid in sent)}
    for _, name, uid in rows("3.2.1")[1:]:
        assert UID(uid).name.removesuffix(" SOP Class") == name.partition(" (")[0]


def test_the_transfer_syntaxes_are_those_that_are_taken_and_proposed() -> None:
    assert set(re.findall(r"\| (1\.2\.840\.10008\.1\.2[\d.]*) \|", section("3.2.4"))) == set(READ)
    assert set(re.findall(r"1\.2\.840\.10008\.1\.2[\d.]*", section("3.2.3"))) == set(SYNTAXES)


def test_the_implementation_is_named_as_it_names_itself() -> None:
    policies = section("3.2.2")
    assert f"{pynetdicom.PYNETDICOM_IMPLEMENTATION_UID}, {pynetdicom.PYNETDICOM_IMPLEMENTATION_VERSION}" in policies
    meta = objects("sr")[0].file_meta
    assert f"{meta.ImplementationClassUID}, {meta.ImplementationVersionName}" in policies
    assert f"up to {MAX_PDU // 1024} KiB" in policies


def test_the_parameters_have_the_defaults_of_the_flags() -> None:
    told = {flag: row[2] for row in rows("3.5")[1:] for flag in re.findall(r"`--(\w+)`", row[1])}
    defaults = ListenConfig()
    assert told["ae_title"] == defaults.ae_title
    assert told["bind"] == told["port"] == f"{defaults.bind}, {defaults.port}"
    assert told["quiet_seconds"] == f"{defaults.quiet_seconds:g} s"
    assert told["max_associations"] == str(defaults.max_associations)
    sizes = (defaults.max_images, defaults.max_instance_bytes // 2**20, defaults.max_spool_bytes // 2**30)
    assert told["max_images"] == "{}, {} MiB, {} GiB".format(*sizes)
    for name in ("to_host", "stow", "tls_cert"):
        assert (told[name], getattr(defaults, name)) == ("none", None)
    assert told["format"].strip("`") == defaults.format


@pytest.mark.parametrize("form", OBJECT_FORMS)
def test_an_object_has_the_attributes_of_its_column_and_no_others(form: str) -> None:
    table = {row[2]: row for row in rows("7.1") if row[2].startswith("(")}
    wanted = {tag for tag, row in table.items() if row[COLUMNS[form]] == "x"}
    always = {tag for tag in wanted if table[tag][3] != "N"}
    for made in objects(form):
        found = {f"({element.tag.group:04X},{element.tag.element:04X})" for element in made}
        assert found <= wanted, sorted(found - wanted)
        assert always <= found, sorted(always - found)
        for element in made:
            row = table[f"({element.tag.group:04X},{element.tag.element:04X})"]
            assert row[1] == element.name
            assert not element.is_empty or row[3] == "E", element.name


def test_forms_stand_in_the_series_that_the_statement_names() -> None:
    table = {row[0].strip("`"): row[2] for row in rows("7.1") if row[0].startswith("`")}
    for form in OBJECT_FORMS:
        made = objects(form)[0]
        assert table[form] == f"{made.Modality}, {made.SeriesNumber}"
