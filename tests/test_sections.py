"""The section parser on reports written for these tests."""

import pytest

from r2gengpt.text.headers import known_name
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


def test_the_last_of_two_findings_with_text_is_taken() -> None:
    assert parse_sections("FINDINGS: One.\nIMPRESSION: Two.\nFINDINGS: Three.").findings == "Three."
    assert parse_sections("FINDINGS: One.\nIMPRESSION: Two.\nFINDINGS:\n").findings == "One."
    assert parse_sections("IMPRESSION: One.\nIMPRESSION: Two.\nCONCLUSION: Three.").impression == "Three."


def test_other_findings_add_to_the_findings() -> None:
    sections = parse_sections("FINDINGS: Clear. OTHER FINDINGS: Scar.\nADDITIONAL FINDINGS: Old rib fracture.")
    assert sections.findings == "Clear. OTHER FINDINGS: Scar. ADDITIONAL FINDINGS: Old rib fracture."


def test_a_name_that_comes_again_or_adds_to_another_section_is_a_header() -> None:
    assert parse_sections("FINDINGS: One. FINDINGS: Two.").findings == "Two."
    assert parse_sections("FINDINGS: Clear. OTHER HISTORY: Smoker.").indication == "Smoker."


WORDS_FOR_FINDINGS = """findings finding findins findindgs findgings findngs findnings finidngs findigns findoings
fingdings finsings fidings indings ffindings finding(s)"""
FINDINGS_HEADERS = [
    *WORDS_FOR_FINDINGS.split(),
    *("technique and findings", "FINDINGS AND IMRPESSION", "finding(s) and impression(s)", "impression/findings"),
    *("findings & impression", "findings/impression", "findings/ impression", "findings / impression"),
    *("findings and impression", "findings, impression"),
]
WORDS_FOR_IMPRESSION = """impression impressions impresson imprression imoression impressoin imprssion impresion
imperssion mpression impession fimpression iimpression impreson impression(s) conclusion conclusions conlcusion
coclusion summary opinion"""
IMPRESSION_HEADERS = [*WORDS_FOR_IMPRESSION.split(), "corrected impression", "impression & recommendation(s)"]


@pytest.mark.parametrize("header", FINDINGS_HEADERS)
def test_each_spelling_of_findings_opens_them_before_each_mark(header: str) -> None:
    for mark in (":", " :", "\u00a0:", "\ufffd:", "\uff1a", "\u202f\uff1a", ":\n\n", " -", " \u2013", "-", ";"):
        report = f"FINAL REPORT\n INDICATION: Cough.\n {header.upper()}{mark} Clear.\n IMPRESSION: Ok.\n"
        sections = parse_sections(report)
        found = (sections.findings, sections.impression, sections.indication)
        assert found == ("Clear.", "Ok.", "Cough."), report


@pytest.mark.parametrize("header", ["CHEST FINDINGS", "RESULTS", "REPORT"])
def test_a_colon_makes_a_header_of_words_that_sentences_use(header: str) -> None:
    assert parse_sections(f"INDICATION: Cough.\n{header}: Clear.\nIMPRESSION: Ok.").findings == "Clear."
    assert parse_sections(f"INDICATION: Cough.\n{header} - Clear.\nIMPRESSION: Ok.").findings == ""


@pytest.mark.parametrize("header", IMPRESSION_HEADERS)
def test_each_spelling_of_the_impression_ends_the_findings(header: str) -> None:
    for mark in (":", "\u00a0\uff1a", " \ufe55", ":\n"):
        sections = parse_sections(f"FINAL REPORT\n FINDINGS: Clear.\n\n {header.upper()}{mark} Ok.\n")
        assert (sections.findings, sections.impression) == ("Clear.", "Ok."), mark


@pytest.mark.parametrize(
    ("header", "name"),
    [
        *(("idication", "indication"), ("ndication", "indication"), ("reason fore exam", "indication")),
        *(("comparision", "comparison"), ("comparsion", "comparison"), ("comparrison", "comparison")),
        *(("comparisions", "comparison"), ("omparison", "comparison"), ("comparison film", "comparison")),
        *(("reference exam", "comparison"), ("prior exam", "comparison"), ("techique", "technique")),
        *(("clincal history", "history"), ("chest history", "history"), ("recommedations", "recommendation")),
        *(("recommendation(s)", "recommendation"), ("notfications", "notification"), ("pfi", "provisional")),
        *(("findings discussed with dr. ___", "notification"), ("wetread", "wet_read"), ("date", "other")),
        *(("preliminary findings", "wet_read"), ("addendum impression", "addendum"), ("addendm", "addendum")),
    ],
)
def test_each_spelling_of_other_sections_opens_them(header: str, name: str) -> None:
    sections = split_sections(f"FINDINGS: Clear.\n {header.upper()}: Words.\n")
    assert [(s.name, s.text) for s in sections] == [("findings", "Clear."), (name, "Words.")]


@pytest.mark.parametrize(
    "word", ["NOTE", "PLEASE NOTE", "DICTATED BY", "ELECTRONICALLY SIGNED", "XYZZY", "CPT CODE 71020"]
)
def test_an_unknown_header_ends_the_findings_and_swallows_nothing(word: str) -> None:
    sections = parse_sections(f"FINDINGS: Clear.\n {word}: Words.\n IMPRESSION: Ok.\n {word}: More.\n")
    assert (sections.findings, sections.impression) == ("Clear.", "Ok.")
    sections = parse_sections(f"{word}: Words.\n FINDINGS: Clear. \n {word}: IMPRESSION: Ok.")
    assert (sections.findings, sections.impression) == ("Clear.", "Ok.")
    assert parse_sections(f"{word}. FINDINGS: Clear.").findings == "Clear."


@pytest.mark.parametrize("word", ["COMPRESSION", "CONTUSION", "CONCUSSION", "INDURATION", "COMPANION", "DEPRESSION"])
def test_words_near_a_name_are_not_taken_for_it(word: str) -> None:
    assert [s.name for s in split_sections(f"FINDINGS: Clear.\n{word}: None.")] == ["findings", "other"]


@pytest.mark.parametrize(
    "word",
    [
        "HISTORY", "HISTORYS", "HISTORYXX", "HISTRY", "HISTARY", "HISTOYR", "CLINICAL HISTRY",
    ],
)  # fmt: skip
def test_a_name_is_read_with_one_letter_wrong_two_swapped_or_up_to_two_lost_or_added(word: str) -> None:
    assert known_name(word) == "history"


@pytest.mark.parametrize(
    "word",
    [
        "HISTORYXXX",  # three added
        "HISTY",  # too short
        "HASTARY",  # two wrong
        "HIXXORY",  # neighbours, both wrong
        "HITXORY",  # half a swap
        "HIXSORY",
        "HIYTORS",  # swapped, no neighbours
        "IMPRSSN",  # three lost
        "TSRHIOY",  # other letters' order
    ],
)
def test_a_name_with_more_faults_is_none(word: str) -> None:
    assert known_name(word) is None


def test_six_letters_may_be_two_less_than_a_name() -> None:
    assert known_name("FNDNGS") == "findings"
    assert known_name("FNDNG") is None


def test_before_a_dash_small_letters_name_only_what_concludes() -> None:
    sections = parse_sections("INDICATION: Cough.\nComparison - none.\nFindings - Clear.\nImpression - Ok.")
    assert (sections.indication, sections.comparison) == ("Cough. Comparison - none.", "")
    assert (sections.findings, sections.impression) == ("Clear.", "Ok.")
    assert parse_sections("INDICATION: Cough.\nCOMPARISON - None.").comparison == "None."
    assert parse_sections("INDICATION: Cough.\nSummary - ok.").impression == "", "a word of sentences"
    assert parse_sections("INDICATION: Cough.\nOpinion - ok.").impression == "ok."


def test_a_drawn_line_is_no_text() -> None:
    for mark in "_-=":
        sections = split_sections(f"FINDINGS: Clear.\n{mark * 10}\nLater.")
        assert [section.text for section in sections] == ["Clear.", "Later."]
        assert [s.text for s in split_sections(f"FINDINGS: Clear.\n{mark * 9}")] == [f"Clear. {mark * 9}"]


def test_a_numbered_item_of_an_impression_is_no_header() -> None:
    sections = parse_sections("IMPRESSION:\n 1. Clear lungs.\n 2. FINDINGS: as above.")
    assert (sections.findings, sections.impression) == ("", "1. Clear lungs. 2. FINDINGS: as above.")
    assert parse_sections("IMPRESSION:\n1. Clear.\n2. FINDINGS: as above.").findings == ""


def test_a_name_within_an_impression_or_behind_a_number_elsewhere_is_a_header() -> None:
    assert parse_sections("IMPRESSION: Ok. FINDINGS: Clear.").findings == "Clear."
    sections = parse_sections("COMPARISON: None.\n1. FINDINGS: Clear.")
    assert (sections.comparison, sections.findings) == ("None. 1.", "Clear.")


def test_capitals_before_a_name_within_a_line_stay_with_what_they_end() -> None:
    sections = parse_sections("INDICATION: Cough. SEEN BELOW FINDINGS: Clear.")
    assert (sections.indication, sections.findings) == ("Cough. SEEN BELOW", "Clear.")


@pytest.mark.parametrize("end", ["FINAL IMPRESSION: Late.", "MAIN REPORT\n IMPRESSION: Late.", "FINAL READ: Late."])
def test_the_final_words_end_a_wet_read(end: str) -> None:
    sections = parse_sections(f"WET READ: Early.\n IMPRESSION: Early.\n{end}")
    assert sections.impression + sections.body == "Late."


def test_findings_before_the_words_final_report_are_the_only_ones_where_none_follow() -> None:
    assert parse_sections("FINDINGS: Early.\nFINAL REPORT\nCOMPARISON: None.").findings == "Early."
    assert parse_sections("FINDINGS: Early.\nFINAL REPORT\nIMPRESSION:\n").findings == "Early."
    assert parse_sections("FINDINGS: Early.\nFINAL REPORT\nADDENDUM: x.\nIMPRESSION: y.").findings == "Early."


LINE = "_" * 78


@pytest.mark.parametrize(
    "early",
    [
        "WET READ: Mon 8 AM\n FINDINGS: Early.",
        "WET READ VERSION #1 8:15 AM\n FINDINGS: Early.\n IMPRESSION: Early.",
        "Wet read:\n Findings: Early.",
        "RESIDENT WET READ by ___\n IMPRESSION: Early.",
        "PRELIMINARY REPORT\n FINDINGS: Early.\n IMPRESSION: Early.",
        f"PRELIMINARY REPORT\n{LINE}\n FINDINGS: Early.",
        "PRELIMINARY FINDINGS: Early.\n IMPRESSION: Early.",
        "FINAL ADDENDUM\n ADDENDUM: corrected side.\n FINDINGS: Early.\n IMPRESSION: Early.",
        "ADDENDUM #2\n COMPARISON: Early.\n IMPRESSION: Early.",
        "AMENDMENT: corrected.\n FINDINGS: Early.",
        "FINDINGS: Early.\n IMPRESSION: Early.",
        "CHEST, TWO VIEWS: Early.",
    ],
)
@pytest.mark.parametrize("end", [f"{LINE}\n", ""])
def test_what_stands_before_the_final_report_is_kept_apart(early: str, end: str) -> None:
    sections = parse_sections(f" {early}\n{end}          FINAL REPORT\n FINDINGS: Late.\n")
    assert (sections.findings, sections.impression, sections.body) == ("Late.", "", "")
    assert "Early." in " ".join(s.text for s in split_sections(f" {early}\n{end} FINAL REPORT\n FINDINGS: Late."))


@pytest.mark.parametrize("late", ["ADDENDUM: side.", "ADDENDUM BY DR. ___ ON ___", "WET READ: none.", "Addendum:"])
def test_an_addendum_after_the_report_is_kept_apart(late: str) -> None:
    sections = parse_sections(f"FINAL REPORT\n FINDINGS: Right.\n IMPRESSION: Right.\n {late}\n IMPRESSION: Left.\n")
    assert (sections.findings, sections.impression) == ("Right.", "Right.")


def test_a_drawn_line_ends_a_wet_read_without_the_words_final_report() -> None:
    assert parse_sections(f"WET READ: Early.\n{LINE}\n FINDINGS: Late.").findings == "Late."


@pytest.mark.parametrize("mark", ["\ufeff", "\u200b", "\u3000", "\u2003"])
def test_marks_that_nobody_sees_hide_no_header(mark: str) -> None:
    assert parse_sections(f"{mark}FINDINGS{mark}: Clear.\u2028{mark}IMPRESSION: Ok.").impression == "Ok."
    assert parse_sections(f"{mark}FINDINGS{mark}: Clear.\u2028{mark}IMPRESSION: Ok.").findings == "Clear."


def test_indication_and_history_are_joined_and_the_last_of_each_is_taken() -> None:
    sections = parse_sections("HISTORY: Old.\nHISTORY: Smoker.\nREASON FOR EXAM: Cough.\nFINDINGS: Clear.")
    assert sections.indication == "Smoker. Cough."


@pytest.mark.parametrize(
    "piece", ["A ", "FINDINGS ", "FINDINGS: ", "A: ", "AB, ", "_", " ", "FINDNGS-", "WET READ ", "\n"]
)
def test_a_long_report_takes_time_in_proportion(piece: str) -> None:
    assert len(split_sections(piece * 20_000)) <= 20_000


def test_empty_sections_and_empty_reports_give_empty_texts() -> None:
    assert parse_sections("FINDINGS:\n\nIMPRESSION: Normal.").findings == ""
    assert split_sections("") == ()
