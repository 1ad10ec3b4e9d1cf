"""The section parser on reports written for these tests."""

import pytest

from r2gengpt.text.sections import parse_sections, split_sections

REPORT = """\
                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___-year-old with cough and
 fever  // infiltrate?

 TECHNIQUE:  Two views.

 COMPARISON:  Film of ___.

 FINDINGS:

 The left lung is clear.  The right lung base
 is hazy.

 IMPRESSION:

 Haze at the right base, perhaps infection.

 NOTIFICATION:  Told to the ward at 10:15.
"""


def test_each_section_of_a_usual_report_is_found() -> None:
    sections = parse_sections(REPORT)
    assert sections.findings == "The left lung is clear. The right lung base is hazy."
    assert sections.impression == "Haze at the right base, perhaps infection."
    assert sections.indication == "___-year-old with cough and fever // infiltrate?"
    assert sections.comparison == "Film of ___."
    assert sections.technique == "Two views."
    assert sections.examination == "CHEST (PA AND LAT)"
    assert sections.body == ""


def test_the_last_section_runs_to_the_end() -> None:
    sections = parse_sections("FINDINGS: Clear.\nIMPRESSION: Normal film.\n\n Nothing else to say.")
    assert sections.impression == "Normal film. Nothing else to say."


def test_windows_line_ends_make_no_difference() -> None:
    assert split_sections(REPORT.replace("\n", "\r\n")) == split_sections(REPORT)


@pytest.mark.parametrize(
    "header",
    ["HISTORY", "CLINICAL HISTORY", "Indication", "REASON FOR EXAM", "REASON FOR THE EXAM", "CLINICAL  INFORMATION"],
)
def test_spellings_of_the_indication(header: str) -> None:
    assert parse_sections(f" {header} :  Cough.\n FINDINGS: Clear.").indication == "Cough."


@pytest.mark.parametrize("header", ["CONCLUSION", "Impression", "IMPRESSIONS", "OPINION"])
def test_spellings_of_the_impression(header: str) -> None:
    sections = parse_sections(f"FINDINGS: Clear.\n{header}: Normal.")
    assert (sections.findings, sections.impression) == ("Clear.", "Normal.")


def test_headers_within_a_line_in_capitals_cut_it() -> None:
    sections = parse_sections("HISTORY: Fall. COMPARISON: None. FINDINGS: No fracture. IMPRESSION: Normal.")
    assert (sections.indication, sections.comparison) == ("Fall.", "None.")
    assert (sections.findings, sections.impression) == ("No fracture.", "Normal.")


def test_the_same_words_within_a_sentence_do_not_cut_it() -> None:
    sections = parse_sections(
        "FINDINGS: The clinical history: unknown. There is a\nfinding: a nodule, as in the\nstudy."
    )
    assert sections.findings == "The clinical history: unknown. There is a finding: a nodule, as in the study."


def test_a_header_alone_on_its_line_needs_no_colon() -> None:
    sections = parse_sections("FINDINGS\n Clear lungs.\nIMPRESSION\n Normal.")
    assert (sections.findings, sections.impression) == ("Clear lungs.", "Normal.")


def test_findings_and_impression_under_one_header_are_findings() -> None:
    sections = parse_sections("FINDINGS AND IMPRESSION: Small effusion.")
    assert (sections.findings, sections.impression) == ("Small effusion.", "")


def test_subheadings_stay_in_the_findings() -> None:
    sections = parse_sections("FINDINGS:\nLUNGS: Clear.\nHEART: Normal.\nAP VIEW: Rotated.\nIMPRESSION: Normal.")
    assert sections.findings == "LUNGS: Clear. HEART: Normal. AP VIEW: Rotated."


def test_an_unknown_header_ends_the_indication() -> None:
    sections = parse_sections("INDICATION: Cough.\nREFERRED BY: Ward 3.\nFINDINGS: Clear.")
    assert sections.indication == "Cough."
    assert [s.name for s in split_sections("INDICATION: Cough.\nREFERRED BY: Ward 3.")] == ["indication", "other"]


def test_text_under_a_view_stands_in_for_findings() -> None:
    sections = parse_sections(
        "REASON FOR EXAM: Pain.\n\nCHEST, PA AND LATERAL, 10:30 AM: Clear lungs.\n\nIMPRESSION: Ok."
    )
    assert (sections.findings, sections.impression) == ("Clear lungs.", "Ok.")


def test_named_findings_win_over_a_view() -> None:
    sections = parse_sections("PORTABLE CHEST: One view.\nFINDINGS: Clear.")
    assert sections.findings == "Clear."


def test_a_report_without_headers_is_body() -> None:
    sections = parse_sections("The lungs are clear.\n The heart is normal.")
    assert sections.body == "The lungs are clear. The heart is normal."
    assert sections.findings == ""


def test_a_wet_read_before_the_report_is_left_out() -> None:
    text = "WET READ: ___ 1:00 AM\n no pneumothorax\n" + "_" * 70 + "\n FINAL REPORT\n FINDINGS: Line in place."
    sections = parse_sections(text)
    assert (sections.findings, sections.body) == ("Line in place.", "")
    assert [s.name for s in split_sections(text)] == ["wet_read", "findings"]


def test_findings_named_twice_are_joined() -> None:
    assert parse_sections("FINDINGS: One.\nIMPRESSION: Two.\nFINDINGS: Three.").findings == "One. Three."


def test_empty_sections_and_empty_reports_give_empty_texts() -> None:
    assert parse_sections("FINDINGS:\n\nIMPRESSION: Normal.").findings == ""
    assert split_sections("") == ()
