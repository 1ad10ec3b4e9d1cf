"""The DICOM conformance statement of docs/clinical.md against the program. Judges no prose."""

import io
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pynetdicom
import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_description
from pydicom.sr.codedict import codes as codes_of_pydicom
from pydicom.sr.coding import Code
from pydicom.uid import UID

from dicom_files import data_of, film
from r2gengpt.clinical.archive import earlier_web
from r2gengpt.clinical.archive.earlier_report import CLASSES as REPORTS
from r2gengpt.clinical.archive.receive import CLASSES, MAX_PDU
from r2gengpt.clinical.archive.retrieve import FIND, GET, MOST_ANSWER, MOVE, query_of
from r2gengpt.clinical.archive.send import SYNTAXES
from r2gengpt.clinical.documents.forms import bytes_of
from r2gengpt.clinical.worklist import changes, service
from r2gengpt.clinical.worklist.stages import MOST_CONFLICTS
from r2gengpt.films.dicom.header import read_header
from r2gengpt.films.dicom.picture import READ
from r2gengpt.settings import OBJECT_FORMS, ListenConfig, PriorConfig, WorklistConfig
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
    asked = {("SCU", uid) for uid in (FIND, GET, MOVE)}
    assert named == {
        verification,
        *(("SCP", uid) for uid in (*CLASSES, *REPORTS)),
        *(("SCU", uid) for uid in sent),
        *asked,
    }
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


def test_the_keys_of_c_find_are_those_that_are_asked_for() -> None:
    query = query_of(read_header(data_of(film(PatientID=" P-1 ")), "film"))
    told = set(re.findall(r"\([0-9A-F]{4},[0-9A-F]{4}\)", section("3.2.3")))
    beside = {"(0008,0005)", "(0008,0052)"}  # the character set and the level, which are told in words
    assert {f"({one.tag.group:04X},{one.tag.element:04X})" for one in query} - beside == told
    assert (query.PatientID, query.StudyDate, query.QueryRetrieveLevel) == ("P-1", "-20260102", "STUDY")


def test_the_parameters_have_the_defaults_of_the_flags() -> None:
    told = {flag: row[2] for row in rows("3.5")[1:] for flag in re.findall(r"`--(\w+)`", row[1])}
    defaults, prior = ListenConfig(), PriorConfig()
    assert told["ae_title"] == defaults.ae_title
    assert told["bind"] == told["port"] == f"{defaults.bind}, {defaults.port}"
    assert told["quiet_seconds"] == f"{defaults.quiet_seconds:g} s"
    assert told["max_associations"] == str(defaults.max_associations)
    sizes = (defaults.max_images, defaults.max_instance_bytes // 2**20, defaults.max_spool_bytes // 2**30)
    assert told["max_images"] == "{}, {} MiB, {} GiB".format(*sizes)
    for name in ("to_host", "stow", "tls_cert"):
        assert (told[name], getattr(defaults, name)) == ("none", None)
    for name in ("prior_host", "prior_url", "prior_move_port"):
        assert (told[name].partition(",")[0], getattr(prior, name)) == ("none", None)
    assert told["prior_move_ae"].partition(", ")[2] == prior.prior_move_ae
    assert (told["format"].strip("`"),) == defaults.format


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


def depths(node: object, depth: int = 0) -> Iterator[tuple[str, int]]:
    """The tags of a dataset in DICOM's JSON, each with how deep it stands."""
    assert isinstance(node, Mapping)
    for tag, element in node.items():
        yield tag, depth
        for value in element.get("Value", []):
            if isinstance(value, Mapping):
                yield from depths(value, depth + 1)


def test_the_attributes_of_a_work_item_that_are_set_are_those_that_the_statement_lists() -> None:
    listed = {row[1]: row[0] for row in rows("3.3.1") if row[1].startswith("(")}
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    output = changes.OutputInstance("1.2", "1.2.3", "1.2.3.4", "1.2.5")
    done = changes.Performance("R2GENGPT", (), moment, moment, (output,), "http://h")
    sent = [
        changes.state_change("COMPLETED", "2.25.1"),
        changes.completion_of(done),
        changes.cancellation_of("why", changes.UNSPECIFIED, done),
    ]
    found: dict[str, set[int]] = {}
    for node in sent:
        for tag, depth in depths(node):
            found.setdefault(f"({tag[:4]},{tag[4:]})", set()).add(depth)
    assert set(listed) == set(found)
    for tag, name in listed.items():
        group, element = (int(part, 16) for part in tag.strip("()").split(","))
        assert name.lstrip(">").removeprefix("codes: ") == dictionary_description((group << 16) + element)
        if not name.startswith("codes: "):
            assert found[tag] == {len(name) - len(name.lstrip(">"))}, name


def test_as_much_is_read_of_earlier_studies_as_the_statement_says() -> None:
    most = earlier_web.MOST_FOUND * earlier_web.MOST_PAGES
    assert f"C-FIND's answers may have {MOST_ANSWER // 2**20} MiB in all." in section("3.2.3")
    assert f"asked for {earlier_web.MOST_FOUND} studies at a time, up to {most:,}." in section("3.2.3")


def test_the_work_items_that_are_searched_for_and_canceled_are_those_of_the_statement() -> None:
    table = {row[1]: row[2] for row in rows("3.3.1") if re.fullmatch(r"[\dA-F.]{8,}", row[1])}
    station = f"{service.STATION}.{service.CODE_VALUE}"
    assert table == {service.STATE: "SCHEDULED", service.READINESS: "READY", station: "`--station` (R2GENGPT)"}
    assert WorklistConfig(worklist="http://h").station == "R2GENGPT"
    assert f"`limit={service.MOST_FOUND}`" in section("3.3.1")
    assert f"up to {service.MOST_FOUND * service.MOST_PAGES:,} items" in section("3.3.1")
    codes = {row[1] for row in rows("3.3.1") if re.fullmatch(r"\d{6}", row[1])}
    assert codes == set(changes.DISCONTINUATIONS)
    known = {concept.value: concept.meaning for concept in concepts_of_9300()}
    assert {one.value: one.meaning for one in changes.DISCONTINUATIONS.values()}.items() <= known.items()


def concepts_of_9300() -> Iterator[Code]:
    """The codes of pydicom's own CID 9300."""
    group = codes_of_pydicom.cid9300
    return (getattr(group, name) for name in group.dir())


def test_the_times_of_a_worklist_are_those_of_the_flags() -> None:
    text, defaults = section("3.3.1"), WorklistConfig(worklist="http://h")
    assert f"each `--poll_seconds` ({defaults.poll_seconds:g} s)" in text
    assert f"`--max_claimed` ({defaults.max_claimed})" in text
    assert f"`--fetch_seconds` ({defaults.fetch_seconds:,.0f} s)" in text
    assert f"more than {service.MOST_ANSWER // 2**20} MiB or {service.WHOLE:g} s" in text
    assert f"tried {MOST_CONFLICTS} times" in text
