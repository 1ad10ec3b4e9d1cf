"""Sentences on the report page: differences, confidence, what needs review, evidence maps; none of another text."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r2gengpt.errors import InputError
from r2gengpt.evaluation.page.sentences import (
    LITTLE_WORDS,
    Span,
    cut_spans,
    drawn_levels,
    evidence_of,
    read_evidence,
    word_differences,
)
from r2gengpt.report import Report, Sentence
from report_pages import Page, written


def test_differences_ignore_case_and_punctuation() -> None:
    assert word_differences("The lungs are CLEAR.", "the lungs are clear .") == (
        [Span("The lungs are CLEAR.", True)],
        [Span("the lungs are clear .", True)],
    )


def test_differences_mark_what_only_one_text_has() -> None:
    generated, reference = word_differences("no effusion , large heart .", "no effusion . clear lungs .")
    assert generated == [Span("no effusion ,", True), Span("large heart .", False)]
    assert reference == [Span("no effusion .", True), Span("clear lungs .", False)]


def test_a_lone_little_word_goes_with_its_neighbours() -> None:
    assert "of" in LITTLE_WORDS
    assert "no" not in LITTLE_WORDS
    generated, _ = word_differences("edges of lungs", "base of heart")
    assert generated == [Span("edges of lungs", False)]


def test_no_word_is_lost_between_marks() -> None:
    first, second = "a b c d . e", "x b , c y e z"
    spans = word_differences(first, second)
    assert [" ".join(span.text for span in side) for side in spans] == [first, second]


def record(study: str = "s1", verdict: str = "evidence") -> dict[str, Any]:
    """A line of evidence.jsonl for the first study."""
    sentences = [{"text": "the lungs are clear .", "map": [0.0, 1.0, 0.5, -1.0], "drop_top": 0.4, "drop_random": -0.01}]
    return {"id": study, "method": "occlusion", "grid": [2, 2], "sentences": sentences, "verdict": verdict}


SENTENCES = (
    Sentence("the lungs", tokens=2, logprob=-0.25, agreement=0.5, confidence=0.3, needs_review=True),
    Sentence(" are clear .", tokens=4, logprob=-0.5, confidence=1.0),
)


def of_sentences(sentences: tuple[Sentence, ...] = SENTENCES) -> list[Report]:
    return [Report("s1", "the lungs are clear .", "The lungs are big.", 6, -0.5, sentences=sentences)]


def test_sentences_are_shaded_by_confidence_and_marked_for_review(tmp_path: Path) -> None:
    parsed = Page(written(tmp_path, of_sentences()))
    first, second = [a for a in parsed.every("span") if "tabindex" in a][-2:]
    assert (first["class"], first["data-confidence"], first["data-agreement"]) == ("s q1", "0.3", "0.5")
    assert (second["class"], "data-agreement" in second) == ("s q4", False)
    assert "needs review 1 of 2 sentences" in parsed.text
    assert "the lungs needs review are clear ." in parsed.text
    assert parsed.every("article")[-1]["data-flags"] == "review"
    assert "with sentences that need review (1)" in parsed.text


def test_without_a_calibration_sentences_are_shaded_by_their_token_probability_and_the_page_says_so(
    tmp_path: Path,
) -> None:
    raw = tuple(replace(sentence, confidence=None) for sentence in SENTENCES)
    parsed = Page(written(tmp_path, of_sentences(raw)))
    assert [a["class"] for a in parsed.every("span") if "tabindex" in a][-2:] == ["s q3", "s q3"]  # exp(-.25), exp(-.5)
    assert "Mean token probability of a sentence, not calibrated" in parsed.text


def test_sentences_of_another_text_are_left_out_with_a_note(tmp_path: Path) -> None:
    other = (replace(SENTENCES[0], text="the heart"), SENTENCES[1])
    text = Page(written(tmp_path, of_sentences(other))).text
    assert "1 of 1 studies: confidence or evidence was given for other sentences" in text
    assert "needs review" not in text


def test_sentences_cut_runs_of_words_and_lose_none() -> None:
    spans = [Span("no effusion. clear", True), Span("big lungs.", False)]
    cut = cut_spans(spans, ["no effusion.", "clear big", "lungs."])
    assert cut == [
        (Span("no effusion.", True),),
        (Span("clear", True), Span("big", False)),
        (Span("lungs.", False),),
    ]
    assert cut_spans(spans, ["no effusion."]) is None
    assert cut_spans([], []) is None


def test_evidence_maps_are_in_the_page_as_bytes_with_their_numbers(tmp_path: Path) -> None:
    parsed = Page(written(tmp_path, evidence={"s1": evidence_of(record(verdict="no evidence"))}))
    (sentence,) = [a for a in parsed.every("span") if "data-map" in a][-1:]
    assert list(base64.b64decode(str(sentence["data-map"]))) == [0, 255, 128, 0]
    assert (sentence["data-top"], sentence["data-random"]) == ("+0.400", "−0.010")
    assert [a.get("data-grid") for a in parsed.every("article")][-3:] == ["2 2", None, None]
    assert parsed.every("article")[-3]["data-flags"] == "noevidence"
    assert "evidence map no evidence" in parsed.text


def test_evidence_of_another_run_is_left_out_with_a_note(tmp_path: Path) -> None:
    other = {**record(), "sentences": [{**record()["sentences"][0], "text": "something else"}]}
    page = written(tmp_path, evidence={"s1": evidence_of(other)})
    assert "data-map" not in page.split("<script>")[0]
    assert "1 of 3 studies: confidence or evidence was given for other sentences" in Page(page).text


def test_a_fine_map_is_averaged_and_keeps_its_peak() -> None:
    cells = np.zeros((37, 37))
    cells[30, 4] = 2.0
    levels = drawn_levels([cells.ravel().tolist()], (37, 37))
    assert levels.shape == (1, 16, 16)
    assert np.unravel_index(levels.argmax(), levels.shape) == (0, 30 * 16 // 37, 4 * 16 // 37)
    assert drawn_levels([[-1.0, -2.0]], (1, 2)).tolist() == [[[0, 0]]]


def test_maps_of_several_views_share_a_scale_and_stand_in_their_order() -> None:
    sentence = {"text": "clear", "map": [1.5, 0.0], "maps": [[1.0, 0.0], [2.0, 0.0]], "drop_top": 1.0}
    (found,) = evidence_of({"id": "a", "grid": [1, 2], "sentences": [sentence], "verdict": "evidence"}).sentences
    assert [list(base64.b64decode(view)) for view in found[1].levels] == [[128, 0], [255, 0]]
    assert found[1].drop_random is None


def test_cells_of_a_coarser_map_are_means() -> None:
    levels = drawn_levels([[1.0] * 30 + [2.0, 6.0]], (1, 32))
    assert levels.tolist() == [[[*[round(255 / 4)] * 15, 255]]]


def test_evidence_is_read_by_id_and_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "evidence.jsonl"
    assert read_evidence(path) == {}
    path.write_text(json.dumps(record("a")) + "\n\n" + json.dumps(record("b")) + "\n")
    assert list(read_evidence(path)) == ["a", "b"]
    broken = {**record(), "grid": [3, 2]}
    infinite = {**record(), "grid": [1, 1], "sentences": [{"text": "x", "map": [float("nan")]}]}
    huge = {**record(), "grid": [1, 1], "sentences": [{"text": "x", "map": [10**310]}]}
    for line in ("{", "[]", json.dumps({"id": 1}), *map(json.dumps, (broken, infinite, huge))):
        path.write_text(json.dumps(record("a")) + "\n" + line)
        with pytest.raises(InputError, match=r"evidence\.jsonl: line 2 is no evidence record"):
            read_evidence(path)
