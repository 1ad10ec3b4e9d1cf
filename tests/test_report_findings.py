"""The report page shows what the film shows, why a report needs review, and where a sentence was taken from."""

import re
from dataclasses import replace
from pathlib import Path

from film_parts import FINDINGS, LEFT_OUT, REASON, REPORT
from r2gengpt.report import Doubt, Report
from r2gengpt.text.observations import UNLIKELY
from report_pages import Page, written

STUDY = replace(REPORT, id="s1", reference="No effusion.")


def articles(page: str) -> list[str]:
    return re.findall(r'<article class="study".*?</article>', page, re.S)


def test_a_study_has_a_table_of_findings_with_the_likely_ones_first(tmp_path: Path) -> None:
    parsed = Page(written(tmp_path, [STUDY]))
    assert parsed.tables["Findings that are likely or possible"][1:] == [
        ["Lung Opacity", ".93 |.90 to .96", "likely"],
        ["Pleural Effusion", ".91 |.85 to .95", "likely"],
        ["Edema", ".44 |.31 to .58", "possible"],
    ]
    assert parsed.tables["Findings that are unlikely"][1:] == [["Cardiomegaly", ".03 |.01 to .07", "unlikely"]]
    assert "1 unlikely" in parsed.text
    assert "Not assessed: Fracture" in parsed.text
    (article, *_) = articles(written(tmp_path, [STUDY]))
    assert article.index("<details>") < article.index("Cardiomegaly"), "unlikely ones are folded"
    assert '<rect class="a" width="91.4" height="12"/>' in article


def test_why_a_report_needs_review_stands_beside_it(tmp_path: Path) -> None:
    parsed = Page(written(tmp_path, [STUDY]))
    assert parsed.every("article")[-1]["data-flags"] == "review"
    assert parsed.every("article")[-1]["data-review"] == "2"
    assert f'"No pleural effusion." {REASON}' in parsed.text
    assert LEFT_OUT in parsed.text
    assert "text and film disagree 1" in parsed.text


def test_doubts_about_films_stand_apart_from_what_the_text_leaves_out(tmp_path: Path) -> None:
    doubt = Doubt(1, "inverted", "looks inverted")
    parsed = Page(written(tmp_path, [replace(STUDY, doubts=(doubt,), review=(doubt.line, LEFT_OUT))]))
    assert "film in doubt 1" in parsed.text
    assert "text and film disagree 1" in parsed.text
    assert "film 1 looks inverted" in parsed.text


def test_a_report_whose_sentences_are_fine_may_need_review_as_a_whole(tmp_path: Path) -> None:
    parsed = Page(written(tmp_path, [Report("s1", "Clear.", "Clear.", review=(LEFT_OUT,))]))
    assert parsed.every("article")[-1]["data-flags"] == "review"
    assert LEFT_OUT in parsed.text


def test_a_sentence_tells_why_it_needs_review_and_what_it_was_taken_from(tmp_path: Path) -> None:
    first, second = [a for a in Page(written(tmp_path, [STUDY])).every("span") if "tabindex" in a][-2:]
    assert (second["data-reason"], second["data-source"]) == (REASON, "train-17")
    assert second["title"] == "Taken from the report of study train-17"
    assert {"data-reason", "data-source", "title"}.isdisjoint(first)


def test_where_nothing_is_likely_a_study_says_so(tmp_path: Path) -> None:
    found = tuple(one for one in FINDINGS if one.verdict == UNLIKELY)
    parsed = Page(written(tmp_path, [replace(STUDY, findings=found)]))
    assert "Nothing that is likely or possible." in parsed.text
    assert "Findings that are likely or possible" not in parsed.tables


def test_a_study_without_findings_has_nothing_of_them(tmp_path: Path) -> None:
    sentences = tuple(replace(one, needs_review=False, reason="", source="") for one in STUDY.sentences)
    for article in articles(written(tmp_path, [replace(STUDY, findings=(), review=(), sentences=sentences)])):
        for word in ("film", 'class="why"', "<table", "data-reason", "data-source", "disagree"):
            assert word not in article
        assert article.count("</p></section>") == 2, "not a blank more than it had"


def test_names_and_reasons_are_text_and_nothing_else(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    found = replace(FINDINGS[1], name=hostile)
    sentences = tuple(replace(one, source=hostile, reason=hostile) for one in STUDY.sentences)
    page = written(tmp_path, [replace(STUDY, findings=(found,), review=(hostile,), sentences=sentences)])
    assert page.count("<script>") == 1
