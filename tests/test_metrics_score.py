"""Scores carry intervals, baselines and words of warning, and refuse texts that don't belong together."""

import json
from dataclasses import replace

import numpy as np
import pytest

from metrics_corpus import HYPOTHESES, REFERENCES
from r2gengpt.errors import InputError
from r2gengpt.metrics import baselines
from r2gengpt.metrics.compare import Comparison
from r2gengpt.metrics.measure import METRICS, measure, scores_of
from r2gengpt.metrics.paired import Difference
from r2gengpt.metrics.protocols import PROTOCOLS
from r2gengpt.metrics.records import Scores, Signature
from r2gengpt.metrics.score import check_ids, score
from r2gengpt.metrics.summary import short_table
from r2gengpt.metrics.table import comparison_table, score_table

IDS = [f"study {i}" for i in range(len(REFERENCES))]
WANTED = dict(zip(IDS, REFERENCES, strict=True))
TRAIN = ["the lungs are clear .", "the lungs are clear .", "small effusion ."]


def scored(name: str = "rotated", **given: object) -> Scores:
    texts = dict(zip(IDS, HYPOTHESES[name], strict=True))
    return score(texts, WANTED, PROTOCOLS["raw"], **given)  # type: ignore[arg-type]


def test_scores_are_those_of_the_metrics_on_the_protocols_texts() -> None:
    measured = measure(HYPOTHESES["rotated"], REFERENCES)
    expected = scores_of(measured.sum(axis=0), len(IDS))
    scores = scored()
    np.testing.assert_array_equal([scores.metrics[name].value for name in METRICS], expected)
    each = np.stack([scores.per_study[name] for name in METRICS], axis=1)
    np.testing.assert_array_equal(each, scores_of(measured, 1))
    np.testing.assert_array_equal(scores.columns, measured)


def test_the_order_of_predictions_does_not_matter() -> None:
    backwards = dict(reversed(list(zip(IDS, HYPOTHESES["rotated"], strict=True))))
    assert score(backwards, WANTED, PROTOCOLS["raw"]).metrics == scored().metrics


def test_each_interval_holds_its_value_and_the_same_seed_gives_the_same() -> None:
    scores = scored(seed=4)
    for name in ("bleu_1", "rouge_l", "cider"):
        interval = scores.metrics[name].ci95
        assert interval is not None
        assert interval[0] < scores.metrics[name].value < interval[1]
    assert scores.metrics == scored(seed=4).metrics != scored(seed=5).metrics


def test_without_resamples_there_are_no_intervals() -> None:
    assert all(s.ci95 is None for s in scored(resamples=0).metrics.values())


def test_baselines_stand_beside_the_model_with_their_texts() -> None:
    rows = scored(train=TRAIN).baselines
    assert list(rows) == ["constant", "most_frequent", "random_train", "texts_shuffled"]
    assert rows["most_frequent"].text == "the lungs are clear ."
    texts = dict.fromkeys(IDS, "the lungs are clear .")
    assert rows["most_frequent"].metrics == score(texts, WANTED, PROTOCOLS["raw"]).metrics
    assert rows["constant"].text == baselines.CONSTANT_REPORT


def test_baselines_that_need_the_train_split_are_named_where_it_is_missing() -> None:
    scores = scored()
    assert {"most_frequent", "random_train", "meteor"} <= set(scores.not_available)
    assert scores.verbatim_in_train is None


def test_outputs_and_references_are_counted() -> None:
    scores = scored("constant", train=[*TRAIN, "ok"])
    assert (scores.distinct, scores.commonest_share, scores.verbatim_in_train) == (1, 1.0, 2 / 8)


def test_shuffling_moves_every_text_and_loses_none() -> None:
    for studies in (2, 3, 50):
        moved = baselines.derangement(studies, seed=studies)
        assert sorted(moved) == list(range(studies))
        assert all(place != study for study, place in enumerate(moved))
    assert baselines.derangement(50, 0) == baselines.derangement(50, 0) != baselines.derangement(50, 1)


@pytest.mark.parametrize(
    ("studies", "distinct", "are"),
    [(41, 2, True), (40, 2, False), (60, 3, False), (61, 3, True), (2, 1, True), (1, 1, False)],
)
def test_fewer_than_five_percent_of_distinct_texts_are_a_collapse(studies: int, distinct: int, are: bool) -> None:
    assert baselines.is_collapsed([f"Text {number % distinct}." for number in range(studies)]) is are


def test_a_model_that_says_the_same_of_all_is_called_collapsed() -> None:
    references = {str(i): [f"word{i} lungs"] for i in range(60)}
    scores = score(dict.fromkeys(references, "lungs"), references, PROTOCOLS["raw"], resamples=0)
    assert any(note.startswith("collapsed: 1 distinct output(s) for 60 studies") for note in scores.notes)
    table = short_table(replace(scores, notes=(*scores.notes, "another note")))
    assert "another note" in table
    assert table.count("collapsed") == short_table(replace(scores, notes=())).count("collapsed")
    few = score(dict.fromkeys(list("abc"), "lungs"), {study: ["word"] for study in "abc"}, PROTOCOLS["raw"])
    assert any(note.startswith("collapsed") for note in few.notes)
    varied = score({study: study for study in references}, references, PROTOCOLS["raw"], resamples=0)
    assert not varied.notes


def test_empty_outputs_score_zero_and_are_counted_in_words() -> None:
    scores = scored("some_empty", resamples=0)
    assert "empty outputs, which score 0: 3 of 8" in scores.notes
    assert scores.per_study["bleu_1"][0] == 0


def test_one_study_is_scored_and_its_cider_explained() -> None:
    scores = score({"a": "lungs clear"}, {"a": ["lungs clear"]}, PROTOCOLS["raw"])
    assert scores.metrics["rouge_l"].value == 1.0
    assert scores.metrics["rouge_l"].ci95 is None
    assert scores.metrics["cider"].value == 0.0
    assert "cider is 0 by its definition" in scores.notes[0]
    assert "texts_shuffled" in scores.not_available


def test_outputs_that_r2gengpt_takes_uncleaned_are_counted() -> None:
    given = {"truncate": str, "dataset": "iu_xray", "resamples": 0}
    raw = score({"a": "Lungs CLEAR."}, {"a": ["x"]}, PROTOCOLS["r2gengpt"], **given)  # type: ignore[arg-type]
    assert "1 of 1 outputs are not in the cleaned form that references have" in raw.notes
    clean = score({"a": "lungs clear ."}, {"a": ["x"]}, PROTOCOLS["r2gengpt"], **given)  # type: ignore[arg-type]
    assert not any("cleaned form" in note for note in clean.notes)


def test_missing_and_extra_ids_are_counted_and_the_first_of_each_named() -> None:
    with pytest.raises(InputError) as caught:
        score({"a": "x", "d": "x"}, {"a": ["x"], "b": ["x"], "c": ["x"]}, PROTOCOLS["raw"], names=("P", "R"))
    assert str(caught.value) == (
        "2 of 3 studies in R have no text in P (b, c); 1 of 2 studies in P have no text in R (d)"
    )


@pytest.mark.parametrize(("lacking", "listed"), [("abcde", "a, b, c, d, e"), ("abcdef", "a, b, c, d, e, …")])
def test_five_ids_are_listed_and_further_ones_left_out(lacking: str, listed: str) -> None:
    references = {study: ["x"] for study in [*lacking, "z"]}
    whole = f"{len(lacking)} of {len(lacking) + 1} studies in R have no text in P ({listed})"
    with pytest.raises(InputError) as caught:
        check_ids({"z": "x"}, references, ("P", "R"))
    assert str(caught.value) == whole


@pytest.mark.parametrize(("resamples", "too_few"), [(0, False), (1, True), (19, True), (20, False)])
def test_twenty_resamples_are_enough_for_a_p_below_five_percent(resamples: int, too_few: bool) -> None:
    notes = scored(resamples=resamples).notes
    assert any("too few for a verdict" in note for note in notes) == too_few


@pytest.mark.parametrize(("patients", "drawn"), [("xxx", False), ("xxy", True)])
def test_an_interval_needs_two_patients(patients: str, drawn: bool) -> None:
    texts = {"a": "lungs clear", "b": "heart normal", "c": "no mass"}
    references = {study: [f"{text} ."] for study, text in texts.items()}
    of = dict(zip(texts, patients, strict=True))
    scores = score(texts, references, PROTOCOLS["raw"], patients=of, resamples=20)
    assert all((value.ci95 is not None) == drawn for value in scores.metrics.values())
    assert not any("name no patient" in note for note in scores.notes)


def test_two_studies_have_intervals_and_shuffled_texts_and_no_note_of_one() -> None:
    scores = score({"a": "lungs clear", "b": "no mass"}, {"a": ["lungs"], "b": ["a mass"]}, PROTOCOLS["raw"])
    assert scores.metrics["rouge_l"].ci95 is not None
    assert "texts_shuffled" in scores.baselines
    assert "texts_shuffled" not in scores.not_available
    assert not any(note.startswith("one study") for note in scores.notes)


def test_intervals_of_baselines_are_those_of_scoring_their_texts_with_the_same_seed() -> None:
    row = scored(resamples=30, seed=2).baselines["constant"]
    alone = score(dict.fromkeys(IDS, baselines.CONSTANT_REPORT), WANTED, PROTOCOLS["raw"], resamples=30, seed=2)
    for name in METRICS:
        assert row.metrics[name].value == pytest.approx(alone.metrics[name].value)
        assert row.metrics[name].ci95 == pytest.approx(alone.metrics[name].ci95)


def moved(name: str) -> baselines.Baseline:
    return baselines.Baseline("texts of another system", dict(zip(IDS, HYPOTHESES[name], strict=True)), human=False)


def test_the_grounding_gap_is_the_score_less_that_with_shuffled_images() -> None:
    scores = scored("identical", beside={"images_shuffled": moved("rotated")}, resamples=0)
    assert scores.grounding_gap is not None
    shuffled = scores.baselines["images_shuffled"].metrics
    for name in METRICS:
        gap = scores.metrics[name].value - shuffled[name].value
        assert scores.grounding_gap[name].value == pytest.approx(gap) != 0
    assert scored(resamples=0).grounding_gap is None


def test_rows_that_the_caller_brings_are_there_and_the_others_say_why_not() -> None:
    given = scored(beside={"images_shuffled": moved("rotated")}, missing={"nearest_image": "no images"}, resamples=0)
    assert given.not_available["nearest_image"] == "no images"
    assert "images_shuffled" not in given.not_available
    assert {"nearest_image", "images_shuffled"} <= set(scored(resamples=0).not_available)


def test_the_verdict_holds_the_model_against_every_row_but_those_that_know_the_answer() -> None:
    scores = scored("rotated", beside={"oracle_hint": moved("identical"), "text_only": moved("reversed")}, resamples=9)
    against = scores.verdict.against
    assert set(against) == {"constant", "texts_shuffled", "text_only"}
    for name, difference in against.items():
        rival = scores.baselines[name].metrics[scores.verdict.metric].value
        assert difference.value == pytest.approx(scores.metrics[scores.verdict.metric].value - rival)


def test_a_study_without_any_reference_is_refused() -> None:
    with pytest.raises(InputError, match="R: the reference of study b is empty"):
        score({"a": "x", "b": "x"}, {"a": ["x"], "b": []}, PROTOCOLS["raw"], names=("P", "R"))


def test_a_study_with_one_empty_reference_of_two_is_refused() -> None:
    with pytest.raises(InputError, match="R: the reference of study a is empty"):
        score({"a": "x"}, {"a": ["x", ""]}, PROTOCOLS["raw"], names=("P", "R"))


@pytest.mark.parametrize("text", ["", " \n"])
@pytest.mark.parametrize("protocol", ["raw", "clean"])
def test_an_empty_reference_is_refused(text: str, protocol: str) -> None:
    with pytest.raises(InputError, match="R: the reference of study b is empty"):
        score(
            {"a": "x", "b": "x"},
            {"a": ["x"], "b": [text]},
            PROTOCOLS[protocol],
            dataset="iu_xray",
            names=("P", "R"),
        )


def test_no_studies_are_refused() -> None:
    with pytest.raises(InputError, match="R: holds no studies"):
        score({}, {}, PROTOCOLS["raw"], names=("P", "R"))


def test_scores_json_has_the_documented_shape() -> None:
    content = json.loads(json.dumps(scored(train=TRAIN).to_json(), allow_nan=False))
    assert content["signature"] == "raw|ds:none|tok:ws|cut:none|unk:none|v1"
    assert content["n"] == 8
    assert set(content["metrics"]) == set(METRICS)
    assert set(content["metrics"]["bleu_4"]) == {"value", "ci95"}
    assert len(content["metrics"]["bleu_4"]["ci95"]) == 2
    assert set(content["baselines"]["constant"]) == {"text", "metrics"}
    assert "meteor" in content["not_available"]
    assert "meteor" not in content["metrics"]


def test_the_table_is_aligned_and_names_what_is_missing() -> None:
    lines = score_table(scored()).splitlines()
    rows = lines[lines.index("") + 1 :][:7]
    assert len({len(row) for row in rows}) == 1
    assert rows[0].split() == ["metric", "predictions", "95%", "interval", "constant", "texts_shuffled"]
    assert "not available: most_frequent, random_train: needs the reports of the train split (`train`)" in lines


@pytest.mark.parametrize(
    ("patients", "unit"), [(None, "swapped by study"), (3, "swapped by patient: 3 patients")], ids=["study", "patient"]
)
def test_a_comparison_has_both_systems_beside_their_difference(patients: int | None, unit: str) -> None:
    found = {"a": Difference(0.25, (0.1, 0.4), 0.002, 0.001), "b": Difference(-0.5)}
    comparison = Comparison(
        Signature("raw", "none", "ws", "none", "none", 1), 8, {"a": 0.5, "b": 0.75}, {"a": 0.75, "b": 0.25}, found,
        ("a", "b"), patients, {"x": "why", "y": "why"}, ("told",), 1000, 900, 0,
    )  # fmt: skip
    lines = comparison_table(comparison, ("one.jsonl", "two.jsonl")).splitlines()
    assert lines[:5] == [
        "signature  raw|ds:none|tok:ws|cut:none|unk:none|v1", f"studies    8, resampled and {unit}",
        "first      one.jsonl", "second     two.jsonl", "",
    ]  # fmt: skip
    assert [line.split() for line in lines[5:8]] == [
        ["metric", "first", "second", "difference", "95%", "interval", "p", "bootstrap", "p", "randomisation"],
        ["a", "0.5000", "0.7500", "+0.2500", "+0.1000", "to", "+0.4000", "0.0020", "0.0010"],
        ["b", "0.7500", "0.2500", "-0.5000", "-", "-", "-"],
    ]
    assert lines[8:] == [
        "", "difference: second minus first; 1000 resamples, 900 swaps", "not available: x, y: why", "note: told"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("temperature", "head", "more"), [(None, "not calibrated", ""), (1.5, "calibrated", ", uncalibrated 0.200 (-)")]
)
def test_the_table_tells_how_far_confidence_is_off(temperature: float | None, head: str, more: str) -> None:
    found = {
        "temperature": temperature, "n_sentences": 40, "supported": 0.5, "aurc": 0.25,
        "ece": {"value": 0.1, "ci95": [0.05, 0.15]}, "ece_uncalibrated": {"value": 0.2},
    }  # fmt: skip
    lines = score_table(replace(scored(), confidence=found)).splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("confidence "))
    assert lines[place : place + 3] == [
        f"confidence {head}: 40 sentences with an observation, 50.0% supported by the reference",
        f"           calibration error 0.100 (0.0500 to 0.1500){more}; area under risk and coverage 0.250",
        "",
    ]
    assert "confidence" not in score_table(scored())


def test_the_table_has_the_gap_of_each_metric_where_images_were_shuffled() -> None:
    gap = dict.fromkeys(METRICS, Difference(0.25, (0.1, 0.4), 0.002, 0.001))
    text = score_table(replace(scored(), grounding_gap=gap, verbatim_in_train=0.125))
    below = text.partition("grounding gap: ")[2].splitlines()
    assert [line.split()[0] for line in below[2 : 3 + len(METRICS)]] == ["metric", *METRICS]
    assert below[3].split()[1:] == ["+0.2500", "+0.1000", "to", "+0.4000", "0.0020", "0.0010"]
    assert "references 12.5% are in the train split word for word" in text.splitlines()
    assert "grounding gap" not in score_table(scored())
    assert "train split word" not in score_table(scored())


def test_the_table_says_by_what_its_intervals_were_resampled() -> None:
    assert "studies    8" in score_table(scored()).splitlines()
    by_patient = scored(patients={study: study[-1] for study in IDS} | {IDS[0]: "1"})
    assert "studies    8, resampled by patient: 7 patients" in score_table(by_patient).splitlines()


def test_normal_or_abnormal_has_a_heading_where_there_is_a_row() -> None:
    row = {"normal": {"n": 3}, "abnormal": {"n": 4}, "balanced_accuracy": {"value": 0.5, "ci95": [0.25, 0.75]}}
    table = score_table(replace(scored(), findings={"text": {"all": row, "by_source": {}}})).splitlines()
    place = next(number for number, line in enumerate(table) if line.startswith("normal or abnormal"))
    assert table[place + 1].split() == ["text,", "all", "7", "0.500", "(0.250", "to", "0.750)", "too", "few"]
    share = {"value": 0.5}
    boxes = {"n": 3, "mass": share, "peak": share, "chance": share}
    text = score_table(replace(scored(), findings={"boxes": boxes}))
    assert "boxes of what their sentences assert, 3 maps: mass 0.500, peak 0.500, chance 0.500" in text
    assert "normal or abnormal" not in text
