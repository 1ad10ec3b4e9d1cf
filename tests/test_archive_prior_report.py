"""The text of an earlier study's report: of which structured reports, and which of their texts. Fetches nothing."""

import io
from datetime import datetime
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence as Items

from archive_parts import content_text, film_data, section, study_report, uid
from dicom_files import data_of
from r2gengpt.clinical.archive.earlier_report import MOST_ITEMS, report_of
from r2gengpt.clinical.archive.films import identified
from r2gengpt.clinical.documents.dicom_objects import code, item
from r2gengpt.clinical.documents.draft import draft_of
from r2gengpt.clinical.documents.structured_report import structured_report

NOW = identified(film_data(1, PatientID="P-1", StudyDate="20260301"))
FINDINGS, FINDING = ("59776-5", "LN", "Findings"), ("121071", "DCM", "Finding")
IMPRESSIONS, IMPRESSION = ("19005-8", "LN", "Impressions"), ("121073", "DCM", "Impression")
HISTORY, OTHER = ("11329-0", "LN", "History"), ("X1", "99LOCAL", "Beurteilung")


def report(*content: Dataset, **more: Any) -> bytes:
    return data_of(study_report(3, content, **{"PatientID": "P-1", "StudyDate": "20260101", **more}))


def text_of(*reports: bytes) -> str:
    return report_of(reports, uid(3), [NOW])


def ours(**flags: str) -> bytes:
    """Our draft of the earlier study, with these flags in place of its own."""
    film = identified(film_data(3, PatientID="P-1", StudyDate="20260101"))
    now = datetime(2026, 1, 1).astimezone()
    draft = draft_of("The heart is large.", [film], "m", "ab" * 32, now, review=["look again"])
    made = dcmread(io.BytesIO(structured_report(draft)))
    for name, value in flags.items():
        setattr(made, name, value)
    return data_of(made)


def test_findings_come_first_then_the_impression_and_nothing_else() -> None:
    assert (
        text_of(
            report(
                content_text(("121013", "DCM", "Device Observer Name"), "r", RelationshipType="HAS OBS CONTEXT"),
                section(HISTORY, content_text(("121060", "DCM", "History"), "Cough.")),
                section(IMPRESSIONS, content_text(IMPRESSION, "Effusion.")),
                section(FINDINGS, content_text(OTHER, "Blunted angle."), section(OTHER, content_text(OTHER, "Left."))),
                content_text(FINDING, "Large heart."),
            )
        )
        == "Blunted angle. Left. Large heart. Effusion."
    )


def test_where_no_section_is_known_all_texts_are_the_report() -> None:
    local = report(section(OTHER, content_text(OTHER, "Erguß links.")), SpecificCharacterSet="ISO_IR 192")
    assert text_of(local) == "Erguß links."


def test_a_section_is_known_by_its_name_too() -> None:
    named = ("F", "99LOCAL", "FINDINGS")
    assert text_of(report(section(HISTORY, content_text(OTHER, "Cough.")), content_text(named, "Clear."))) == "Clear."


def test_of_several_the_newest_verified_one_is_read() -> None:
    def one(text: str, date: str, flag: str) -> bytes:
        return report(content_text(FINDING, text), ContentDate=date, VerificationFlag=flag)

    reports = [
        one("Old.", "20260101", "VERIFIED"), one("New.", "20260103", "VERIFIED"),
        one("Later.", "20260105", "UNVERIFIED"),
    ]  # fmt: skip
    assert text_of(*reports) == "New."
    assert text_of(reports[2]) == "Later."


BY_DEVICE = content_text(("121005", "DCM", "Observer Type"), "", ValueType="CODE", RelationshipType="HAS OBS CONTEXT")
BY_DEVICE.ConceptCodeSequence = code("121007", "DCM", "Device")
CLEAR = content_text(FINDING, "Clear.")
UNVERIFIED = {"VerificationFlag": "UNVERIFIED"}


@pytest.mark.parametrize(
    ("reports", "why"),
    [
        ([], "it has no structured report"),
        ([report(CLEAR, CompletionFlag="PARTIAL")], "is not complete"),
        ([report(CLEAR, PreliminaryFlag="PRELIMINARY", **UNVERIFIED)], "is preliminary, and nobody verified it"),
        ([report(BY_DEVICE, CLEAR, **UNVERIFIED)], "is a program's, and nobody verified it"),
        ([report(CLEAR, AuthorObserverSequence=Items([item(ObserverType="DEV")]), **UNVERIFIED)], "is a program's"),
        ([report(CLEAR, Manufacturer="r2gengpt", **UNVERIFIED)], "is a program's"),
        ([ours()], "is not complete"),
        ([ours(CompletionFlag="COMPLETE", PreliminaryFlag="FINAL")], "is a program's, and nobody verified it"),
        ([report(CLEAR, PatientID="P-2")], "is of another patient"),
        ([report(CLEAR, PatientBirthDate="19700101")], "two patients"),
        ([report(CLEAR, StudyInstanceUID=uid(4))], "is of another study"),
        ([report(CLEAR, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.59")], "is of a kind that is not read"),
        ([report(section(FINDINGS))], "has no text"),
        ([b"%PDF-1.7"], "is of a kind that is not read"),
        ([report(CLEAR)[:300]], ""),
    ],
)
def test_a_report_that_nobody_stands_for_or_that_cannot_be_read_is_not_used_and_the_log_says_why(
    reports: list[bytes], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "r2gengpt.clinical.archive")
    assert text_of(*reports) == ""
    (line,) = caplog.messages
    assert line.startswith("the report of the earlier study is not used: ")
    assert why in line
    assert "P-" not in line


def test_our_own_draft_is_read_once_somebody_has_verified_it() -> None:
    verified = ours(CompletionFlag="COMPLETE", VerificationFlag="VERIFIED")
    assert text_of(verified) == "The heart is large."


def test_a_document_of_boxes_in_boxes_has_no_text_and_one_of_many_texts_has_the_first() -> None:
    many = report(*[section(OTHER, CLEAR) for _ in range(1200)])
    assert text_of(many).count("Clear.") == MOST_ITEMS
    within, item_of = b"\x40\x00\x30\xa7SQ\0\0", b"\xfe\xff\x00\xe0"  # ContentSequence, an item of it
    head, unknown = report(CLEAR).partition(within)[0], b"\xff\xff\xff\xff"
    for depth in (400, 5000):
        assert text_of(head + (within + unknown + item_of + unknown) * depth) == ""
