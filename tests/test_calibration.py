"""Confidence of sentences: what is fitted is recovered, errors are those of a hand computation, curves are curves."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Outcome, TinySet
from r2gengpt.confidence.review import (
    Calibration,
    calibration_beside,
    marked_text,
    read_calibration,
    with_confidence,
    write_calibration,
)
from r2gengpt.config import DecodeConfig
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.evaluation import calibrate as calibrate_room
from r2gengpt.evaluation import run as run_room
from r2gengpt.evaluation.calibrate import calibrate
from r2gengpt.evaluation.confidence import judged_sentences, measured_confidence
from r2gengpt.evaluation.predictions import read_predictions, write_predictions
from r2gengpt.metrics.calibration import (
    Judged,
    area_under_risk,
    calibration_error,
    calibration_score,
    fit,
    logistic,
    probability,
    reliability,
    risk_coverage,
    risks,
)
from r2gengpt.metrics.labels.reading import is_supported, label_report
from r2gengpt.report import Finding, Report, Sentence
from r2gengpt.settings import ReviewConfig
from r2gengpt.text.observations import LIKELY, opening_sentences

Cli = Callable[[list[str]], Outcome]
DECODE = DecodeConfig(max_new_tokens=12, min_new_tokens=0)
FITTED = Calibration(2.0, 1.0, 40, 20, "val", 0.6, {"beam_size": 3}, "as the documents say")


def test_the_fit_recovers_a_known_temperature_and_bias() -> None:
    generator = np.random.default_rng(0)
    logprobs = -generator.gamma(2.0, 0.5, 40_000)
    correct = (generator.random(40_000) < probability(logprobs, 1.7, -0.5)).astype(float)
    temperature, bias = fit(logprobs, correct)
    assert (temperature, bias) == pytest.approx((1.7, -0.5), abs=0.1)  # three standard errors
    judged = Judged(logprobs, correct, np.arange(40_000), 40_000)
    before = calibration_score(np.exp(logprobs), judged, 0, 0).value
    assert calibration_score(probability(logprobs, temperature, bias), judged, 0, 0).value < 0.01 < 0.1 < before


@pytest.mark.parametrize("correct", [[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
@pytest.mark.parametrize("logprobs", [[-0.1, -0.2, -1.0, -2.0], [-0.5] * 4, [-1e-9, -1e-8, -500.0, -900.0]])
def test_the_fit_is_finite_and_sure_of_nothing_where_few_sentences_tell_all(
    logprobs: list[float], correct: list[float]
) -> None:
    temperature, bias = fit(np.array(logprobs), np.array(correct, dtype=float))
    assert math.isfinite(temperature)
    assert math.isfinite(bias)
    found = probability(np.array(logprobs), temperature, bias)
    assert ((found > 0) & (found < 1)).all()
    if sum(correct) in (0, 4):
        assert found == pytest.approx([(sum(correct) + 1) / 6] * 4, abs=1e-6), "Platt's target, whatever the logprob"


def test_where_likelier_sentences_are_not_more_often_right_all_get_the_same_confidence() -> None:
    logprobs, correct = np.array([-0.1, -0.2, -1.0, -2.0, -3.0]), np.array([0.0, 0.0, 1.0, 1.0, 1.0])
    temperature, bias = fit(logprobs, correct)
    assert temperature == 0
    # Platt's targets: 4/5 for the three right ones, 1/4 for the two wrong ones
    assert probability(logprobs, temperature, bias) == pytest.approx([(3 * 4 / 5 + 2 / 4) / 5] * 5)


def test_the_fit_of_two_levels_goes_through_the_targets_of_each() -> None:
    """12 of 20 sentences right at one level, 8 of 20 at the other: Platt's targets are 21/22 and 1/22, in the mean
    260/440 and 180/440, whose log-odds are the log of 13/9 and its negative."""
    correct = np.array([1.0] * 12 + [0.0] * 8 + [1.0] * 8 + [0.0] * 12)
    level = math.log(13 / 9)
    assert fit(np.repeat([-1.0, -2.0], 20), correct) == pytest.approx((2 * level, 3 * level), abs=1e-6)


def test_a_logistic_ends_where_data_and_prior_pull_alike() -> None:
    generator = np.random.default_rng(4)
    columns, targets = generator.normal((0.0, 1.0, 2.0), size=(60, 3)), generator.random(60)
    prior, ridge = np.array([0.5, -1.0, 2.0]), np.array([0.1, 3.0, 30.0])
    weights, curve = logistic(columns, targets, prior, ridge)
    found = 1 / (1 + np.exp(-columns @ weights))
    assert columns.T @ (targets - found) == pytest.approx(ridge * (weights - prior), abs=1e-6)
    assert curve == pytest.approx(columns.T @ np.diag(found * (1 - found)) @ columns + np.diag(ridge), abs=1e-6)


def test_a_step_of_a_logistic_that_goes_too_far_is_halved() -> None:
    """From 10, where nearly all curvature is gone, a whole step would go to about -11,000."""
    weights, _ = logistic(np.ones((4, 1)), np.full(4, 0.5), np.array([10.0]), np.array([1e-9]))
    assert weights == pytest.approx([0.0], abs=1e-6)


def test_calibration_error_is_that_of_a_hand_computation() -> None:
    confidence = np.array([0.05, 0.95, 0.9, 0.55, 0.51, 1.0])
    correct = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    judged = Judged(np.log(confidence), correct, np.arange(6), 6)
    # bins: .0-.1 one, .05 for 0; .5-.6 two, 1.06 for 1; .9-1 three, 2.85 for 2
    by_hand = (abs(0.05 - 0) + abs(1.06 - 1) + abs(2.85 - 2)) / 6
    score = calibration_score(confidence, judged, 200, 0)
    assert score.value == pytest.approx(by_hand, abs=1e-12)
    assert score.ci95 is not None
    assert 0 <= score.ci95[0] < score.ci95[1] <= 1
    bins = reliability(confidence, correct)
    assert [one["count"] for one in bins] == [1, 0, 0, 0, 0, 2, 0, 0, 0, 3]
    assert bins[5] == {
        "low": 0.5, "high": 0.6, "count": 2, "confidence": pytest.approx(0.53), "accuracy": pytest.approx(0.5)
    }  # fmt: skip
    assert (bins[1]["confidence"], bins[1]["accuracy"]) == (None, None)
    assert calibration_error(np.zeros(30)) == 0


def test_the_interval_resamples_whole_studies() -> None:
    """Ten sentences of each of two studies say no more than two studies do."""
    correct = np.repeat([1.0, 0.0], 10)
    confidence = np.full(20, 0.5)
    by_study = calibration_score(confidence, Judged(confidence, correct, np.repeat([0, 1], 10), 2), 400, 0)
    alone = calibration_score(confidence, Judged(confidence, correct, np.arange(20), 20), 400, 0)
    assert by_study.ci95 == (0.0, 0.5)
    assert alone.ci95 is not None
    assert alone.ci95[1] < 0.35
    one = Judged(confidence, correct, np.zeros(20, dtype=np.int64), 1)
    assert calibration_score(confidence, one, 400, 0).ci95 is None
    assert calibration_score(confidence, Judged(confidence, correct, np.arange(20), 20), 0, 0).ci95 is None


@settings(max_examples=100, derandomize=True)
@given(rows=st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9]), st.booleans()), min_size=1, max_size=30))
def test_coverage_rises_to_one_and_the_last_risk_is_the_share_of_wrong_sentences(
    rows: list[tuple[float, bool]],
) -> None:
    confidence, correct = np.array([c for c, _ in rows]), np.array([float(r) for _, r in rows])
    coverage, risk = risks(confidence, correct)
    assert (np.diff(coverage) > 0).all()
    assert coverage[-1] == 1
    assert risk[-1] == pytest.approx(1 - correct.mean())
    kept = [confidence >= level for level in sorted(set(confidence.tolist()), reverse=True)]
    assert coverage == pytest.approx([rows.mean() for rows in kept])
    assert risk == pytest.approx([1 - correct[rows].mean() for rows in kept])


def test_the_area_under_risk_is_computed_from_all_sentences_and_the_curve_is_short() -> None:
    assert area_under_risk(np.array([0.9, 0.8, 0.7, 0.6]), np.array([1.0, 0.0, 1.0, 0.0])) == pytest.approx(
        (0 + 1 / 2 + 1 / 3 + 2 / 4) / 4
    )
    assert area_under_risk(np.array([0.5, 0.5]), np.array([1.0, 0.0])) == 0.5
    generator = np.random.default_rng(0)
    curve = risk_coverage(generator.random(5000), (generator.random(5000) < 0.5).astype(float))
    assert len(curve) == 100
    assert curve[0]["coverage"] == 1 / 5000
    assert curve[-1]["coverage"] == 1
    assert [one["coverage"] for one in curve] == sorted({one["coverage"] for one in curve})


@pytest.mark.parametrize(
    ("sentence", "supported"),
    [
        ("There is a small left pleural effusion.", True),
        ("The heart is enlarged.", False),  # the reference denies it
        ("There is a pneumothorax.", False),  # the reference says nothing of it
        ("No pneumothorax.", True),  # silence is absence
        ("No effusion.", False),
        ("Effusion, and the heart is enlarged.", False),
        ("No fracture. ", True),
        ("Pneumonia is present.", False),  # the reference doubts it
        ("There is no pneumonia.", False),
        ("Possible fracture.", None),
        ("Comparison with an earlier film.", None),
        ("No acute abnormality.", None),
    ],
)
def test_a_reference_supports_a_sentence_where_all_that_it_asserts_agrees(
    sentence: str, supported: bool | None
) -> None:
    reference = label_report("The heart is normal in size. Small left pleural effusion. Possible pneumonia.")
    assert is_supported(sentence, reference) is supported


def told(number: int, *sentences: tuple[str, float]) -> Report:
    parts = tuple(Sentence(text, 4, logprob) for text, logprob in sentences)
    return Report(f"study{number}", " ".join(part.text for part in parts), "", sentences=parts)


STUDIES = [Study(f"study{n}", (Path("x.png"),), "Small pleural effusion.", patient=f"p{n // 2}") for n in range(12)]
PREDICTIONS = [
    told(n, ("There is an effusion.", -0.1 - n / 50), ("The heart is enlarged.", -1.0 - n / 50), ("Two views.", -9.0))
    for n in range(12)
]


def test_sentences_are_judged_by_their_own_studys_reference_and_grouped_by_patient() -> None:
    judged, by_head = judged_sentences(PREDICTIONS, STUDIES)
    assert np.isnan(by_head).all(), "the language model chose all words"
    assert judged.correct.tolist() == [1, 0] * 12
    assert judged.groups.tolist() == [n // 4 for n in range(24)]
    assert judged.count == 6
    alone, _ = judged_sentences(PREDICTIONS, [replace(study, patient="") for study in STUDIES])
    assert alone.groups.tolist() == [n // 2 for n in range(24)]


def test_a_calibration_is_fitted_and_measured_with_the_keys_of_the_page() -> None:
    fitted = calibrate(PREDICTIONS, STUDIES, "val", DECODE)
    assert (fitted.n_sentences, fitted.n_studies, fitted.split, fitted.supported) == (24, 12, "val", 0.5)
    assert fitted.confidence(-0.2) > 0.8 > 0.2 > fitted.confidence(-1.2)
    found = measured_confidence(PREDICTIONS, STUDIES, fitted)
    assert not isinstance(found, str)
    assert {
        "n_sentences", "ece", "ece_uncalibrated", "reliability", "risk_coverage", "aurc", "temperature", "bias",
        "definition",
    } <= found.keys()  # fmt: skip
    assert found["ece"]["value"] < found["ece_uncalibrated"]["value"]
    assert found["ece"]["ci95"][0] <= found["ece"]["value"]
    assert found["aurc"] == pytest.approx(sum(max(0, k - 12) / k for k in range(1, 25)) / 24)
    assert "not CheXbert" in found["definition"]
    json.dumps(found, allow_nan=False)
    plain = measured_confidence(PREDICTIONS, STUDIES, None)
    assert not isinstance(plain, str)
    assert plain["ece"] == plain["ece_uncalibrated"] == found["ece_uncalibrated"]
    assert (plain["temperature"], plain["bias"]) == (None, None)


def test_a_sentence_that_the_head_opens_with_is_measured_by_its_probability_and_fits_nothing() -> None:
    seen = (Finding("Pleural Effusion", 0.9, (0.8, 1.0), LIKELY),)
    (words,) = opening_sentences(seen)
    opened = [replace(one, findings=seen, sentences=(Sentence(words, 4, -8.0), *one.sentences)) for one in PREDICTIONS]
    fitted = calibrate(opened, STUDIES, "val", DECODE)
    assert fitted == calibrate(PREDICTIONS, STUDIES, "val", DECODE), "its words were not chosen by their likelihood"
    for calibration in (fitted, None):
        found = measured_confidence(opened, STUDIES, calibration)
        told_of = [with_confidence(report, calibration) for report in opened]
        shown = [
            math.exp(sentence.logprob) if sentence.confidence is None else sentence.confidence
            for report in told_of
            for sentence in report.sentences
            if is_supported(sentence.text, label_report("Small pleural effusion.")) is not None
        ]
        assert not isinstance(found, str)
        assert found["n_sentences"] == len(shown) == 36
        bins = [bin["count"] for bin in found["reliability"]]
        assert bins == np.histogram(shown, 10, (0, 1))[0].tolist(), "what a reader sees is what is measured"


def test_what_cannot_be_measured_is_named() -> None:
    silent = [told(n, ("Two views.", -1.0)) for n in range(12)]
    assert "no sentence asserts" in str(measured_confidence(silent, STUDIES, None))
    with pytest.raises(InputError, match=r"calibrate True: split val is too small: 0 sentences .* at least 10"):
        calibrate(silent, STUDIES, "val", DECODE)


def test_a_calibration_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_calibration(tmp_path) is None
    assert read_calibration(tmp_path / "original.pth") is None
    write_calibration(tmp_path, FITTED)
    assert read_calibration(tmp_path) == FITTED
    assert [path.name for path in tmp_path.iterdir()] == ["calibration.json"], "no temporary file is left"


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "3", "null", "{}", "[" * 100_000,
        '{"format": "r2gengpt-calibration-2"}',
        json.dumps({"format": "r2gengpt-calibration-1", "temperature": 1.0}),
        json.dumps({"format": "r2gengpt-calibration-1", **{**vars(FITTED), "temperature": "hot"}}),
        json.dumps({"format": "r2gengpt-calibration-1", **{**vars(FITTED), "bias": float("nan")}}),
        json.dumps({"format": "r2gengpt-calibration-1", **{**vars(FITTED), "bias": True}}),
        json.dumps({"format": "r2gengpt-calibration-1", **{**vars(FITTED), "bias": 10**310}}),
        json.dumps({"format": "r2gengpt-calibration-1", **{**vars(FITTED), "decoding": []}}),
    ],
)  # fmt: skip
def test_a_damaged_calibration_file_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"calibration\.json is damaged") as error:
        read_calibration(tmp_path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_other_decode_settings_than_those_that_were_fitted_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_calibration(tmp_path, replace(calibrate(PREDICTIONS, STUDIES, "val", DECODE), split="val"))
    with caplog.at_level("INFO", logger="r2gengpt"):
        caplog.clear()
        calibration_beside(tmp_path, replace(DECODE, engine="hf", decode_seed=3), 0.5)
        assert not caplog.records
        calibration_beside(tmp_path, replace(DECODE, beam_size=1), None)
    assert "fitted on reports written with beam_size 3" in caplog.text


def test_sentences_below_the_limit_are_marked_in_record_and_text() -> None:
    text = "1. Clear lungs.\n2. Large heart? Effusion."
    parts = (Sentence("1. Clear lungs.", 3, -0.1), Sentence("2. Large heart?", 3, -1.5), Sentence("Effusion.", 2, -3.0))
    plain = Report("1", text, sentences=parts)
    calibrated = with_confidence(plain, FITTED, 0.5)
    assert [one.confidence for one in calibrated.sentences] == pytest.approx(
        [1 / (1 + math.exp(-(2 * x + 1))) for x in (-0.1, -1.5, -3.0)]
    )
    assert [one.needs_review for one in calibrated.sentences] == [False, True, True]
    assert marked_text(calibrated) == "1. Clear lungs.\n[needs review] 2. Large heart? [needs review] Effusion."
    assert calibrated.to_prediction()["sentences"][2] == {
        "text": "Effusion.", "tokens": 2, "logprob": -3.0, "agreement": None, "needs_review": True,
        "confidence": pytest.approx(0.0067, abs=1e-4),
    }  # fmt: skip
    uncalibrated = with_confidence(plain, None, math.exp(-1.5))
    assert [one.confidence for one in uncalibrated.sentences] == [None] * 3
    assert [one.needs_review for one in uncalibrated.sentences] == [False, False, True], "below, not at"
    for none in (with_confidence(plain, None, None), with_confidence(plain, FITTED, 0.0)):
        assert marked_text(none) == text


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_a_limit_is_a_probability(value: float) -> None:
    with pytest.raises(InputError, match=r"^abstain_below .*: must be"):
        ReviewConfig(abstain_below=value)


def test_predictions_files_with_and_without_sentences_are_read(tmp_path: Path) -> None:
    write_predictions(tmp_path / "new.jsonl", [with_confidence(PREDICTIONS[0], FITTED, 0.5)])
    assert json.loads((tmp_path / "new.jsonl").read_text(encoding="utf-8"))["sentences"][1]["needs_review"] is True
    old = {"id": "study0", "prediction": PREDICTIONS[0].text, "reference": "", "tokens": 3, "logprob": -0.1}
    (tmp_path / "old.jsonl").write_text(json.dumps(old) + "\n", encoding="utf-8")
    assert read_predictions(tmp_path / "new.jsonl") == read_predictions(tmp_path / "old.jsonl")


@pytest.fixture
def model(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))


def scripted(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Let the model write plain sentences; gives the ids of the studies of each pass."""
    passes: list[list[str]] = []

    def predict_studies(built: Any, plan: Any, *_: Any, **__: Any) -> list[Report]:
        passes.append([study.id for study in plan.studies])
        told = [
            (f"{words}{part}.", -0.2 - number / 2 - len(part) / 20)
            for number, words in enumerate(("No fracture", "No pneumothorax", "Fracture", "Pneumothorax"))
            for part in ("", " on film 2")
        ]
        parts = tuple(Sentence(text, 4, logprob) for text, logprob in told)
        text = " ".join(part.text for part in parts)
        return [Report(study.id, text, study.report, 32, -0.5, sentences=parts) for study in plan.studies]

    monkeypatch.setattr(run_room, "predict_studies", predict_studies)
    monkeypatch.setattr(calibrate_room, "predict_studies", predict_studies)
    return passes


def scoring(model: Path, data: TinySet) -> list[str]:
    return ["test", "--model", str(model), "--annotation", str(data.annotation), "--base_dir", str(data.base_dir)]


def outcome_of(
    run_cli: Cli, model: Path, data: TinySet, output: Path, *flags: str
) -> tuple[dict[str, Any], list[Any], Outcome]:
    """scores.json, the sentences of predictions.jsonl, and how `r2gengpt test` ended."""
    outcome = run_cli([*scoring(model, data), "--output", str(output), "--nearest_image", "False", *flags])
    assert outcome.code == 0, outcome.stderr
    lines = (output / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    sentences = [sentence for line in lines for sentence in json.loads(line)["sentences"]]
    return json.loads((output / "scores.json").read_text(encoding="utf-8")), sentences, outcome


def test_calibrating_reads_val_keeps_the_fit_beside_the_weights_and_later_tests_use_it(
    run_cli: Cli, model: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = scripted(monkeypatch)
    scores, sentences, outcome = outcome_of(run_cli, model, tiny_set, tmp_path / "a")
    assert scores["confidence"]["temperature"] is None
    assert {one["confidence"] for one in sentences} == {None}
    assert "confidence not calibrated" in outcome.stdout
    assert not (model / "calibration.json").exists()

    scores, sentences, outcome = outcome_of(
        run_cli, model, tiny_set, tmp_path / "b", "--calibrate", "True", "--abstain_below", "0.5"
    )
    assert passes[1:] == [["test0", "test1", "test2"], ["val0", "val1", "val2"]]
    kept = read_calibration(model)
    assert kept is not None
    assert kept.split == "val"
    assert scores["confidence"]["temperature"] == kept.temperature
    assert f"--calibrate True: temperature {kept.temperature:.3f}" in outcome.stderr
    assert "confidence calibrated" in outcome.stdout
    assert all(one["confidence"] == pytest.approx(kept.confidence(one["logprob"])) for one in sentences)
    assert [one["needs_review"] for one in sentences] == [one["confidence"] < 0.5 for one in sentences]
    assert {one["needs_review"] for one in sentences} == {False, True}

    again, same, outcome = outcome_of(run_cli, model, tiny_set, tmp_path / "c", "--abstain_below", "0.5")
    assert (again["confidence"], same) == (scores["confidence"], sentences)
    assert "calibrat" not in outcome.stderr
    outcome_of(run_cli, model, tiny_set, tmp_path / "d", "--calibrate", "True", "--split", "val")
    assert passes[4:] == [["val0", "val1", "val2"]], "the split is not written twice"


def test_what_prevents_a_calibration_is_said_before_the_model_is_loaded(
    run_cli: Cli, model: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    content = json.loads(tiny_set.annotation.read_text(encoding="utf-8"))
    del content["val"]
    (tmp_path / "no-val.json").write_text(json.dumps(content), encoding="utf-8")
    refused = run_cli(
        ["test", "--model", str(model), "--calibrate", "True", "--annotation", str(tmp_path / "no-val.json")]
    )
    assert (refused.code, refused.stderr.count("\n")) == (2, 1)
    assert "has no split val" in refused.stderr


def test_a_test_of_the_random_model_says_why_it_cannot_calibrate(run_cli: Cli, model: Path, tiny_set: TinySet) -> None:
    refused = run_cli([*scoring(model, tiny_set), "--calibrate", "True", "--nearest_image", "False"])
    assert refused.code == 2
    assert refused.stderr.splitlines()[-1].startswith("r2gengpt test: --calibrate True: split val is too small")
    assert not (model / "calibration.json").exists()


def generated(run_cli: Cli, model: Path, tiny_set: TinySet, *flags: str) -> Outcome:
    image = str(tiny_set.base_dir / "val0_0.png")
    return run_cli(["generate", image, "--model", str(model), "--accelerator", "cpu", *flags])


def test_generate_marks_sentences_by_the_calibration_beside_the_model(
    run_cli: Cli, model: Path, tiny_set: TinySet
) -> None:
    plain = generated(run_cli, model, tiny_set)
    marked = generated(run_cli, model, tiny_set, "--abstain_below", "1")
    assert marked.stdout == "[needs review] " + plain.stdout, "one sentence, no full stop, and no certainty"
    assert marked.stderr.count("the model is not calibrated") == 1
    assert "calibrated" not in plain.stderr
    write_calibration(model, FITTED)
    record = json.loads(generated(run_cli, model, tiny_set, "--format", "json", "--abstain_below", "0.99").stdout)
    (sentence,) = record["sentences"]
    assert sentence["text"] == record["report"] == plain.stdout.strip()
    assert sentence["confidence"] == pytest.approx(FITTED.confidence(sentence["logprob"]))
    assert 0 < sentence["agreement"] <= 1
    assert sentence["needs_review"] is True
    assert generated(run_cli, model, tiny_set, "--abstain_below", "0").stdout == plain.stdout


def test_generate_refuses_limits_streams_and_damaged_files_in_one_line(
    run_cli: Cli, model: Path, tiny_set: TinySet
) -> None:
    for flags, words in (
        (["--abstain_below", "1.2"], "--abstain_below 1.2: must be at most 1.0"),
        (["--abstain_below", "-1"], "--abstain_below -1.0: must be at least 0.0"),
        (["--abstain_below", "much"], "--abstain-below: much: must be a number"),
        (["--abstain_below", "0.5", "--stream"], "--abstain_below 0.5: what needs review is known at the end"),
    ):
        refused = generated(run_cli, model, tiny_set, *flags)
        assert (refused.code, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
        assert words in refused.stderr
    (model / "calibration.json").write_text("{", encoding="utf-8")
    refused = generated(run_cli, model, tiny_set)
    assert (refused.code, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert "calibration.json is damaged" in refused.stderr
