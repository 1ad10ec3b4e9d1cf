"""Scores of clinical labels: averages by hand, intervals, and names."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r2gengpt.cli.main import run
from r2gengpt.metrics.labels import agreement as ag
from r2gengpt.metrics.labels import reading
from r2gengpt.metrics.labels.family import LABELS, average_name, observation_name
from r2gengpt.metrics.labels.reading import FIVE, Label, label_report
from r2gengpt.metrics.measure import choose
from r2gengpt.metrics.protocols import PROTOCOLS
from r2gengpt.metrics.records import Scores
from r2gengpt.metrics.score import score
from r2gengpt.metrics.table import score_table
from r2gengpt.text.observations import NO_FINDING, OBSERVATIONS

WANTED = {
    "a": ["Mild cardiomegaly and edema."],
    "b": ["Possible edema. Left effusion."],
    "c": ["The heart is normal. No effusion."],
    "d": ["Rib fracture."],
}
GIVEN = {
    "a": "Cardiomegaly. Left effusion.",
    "b": "Edema. Left effusion.",
    "c": "Nothing is wrong.",
    "d": "Possible cardiomegaly.",
}


def scored(given: dict[str, str] = GIVEN, **more: Any) -> Scores:
    return score(given, WANTED, PROTOCOLS["raw"], choice=choose(labels=True), **more)


def value(scores: Scores, average: str, measure: str, size: str = "14", policy: str = "uncertain_as_positive") -> float:
    return scores.metrics[average_name(average, measure, size, policy)].value


def test_micro_averages_are_over_all_decisions() -> None:
    # there by prediction: a 2, b 2, c No Finding, d cardiomegaly (in doubt) = 6; by reference: 2 + 2 + 1 + 1 = 6
    # agreed: a cardiomegaly, b edema and effusion, c No Finding = 4
    scores = scored()
    assert [value(scores, "micro", m) for m in ag.MEASURES] == pytest.approx([4 / 6, 4 / 6, 4 / 6])
    # doubts as absence: d's cardiomegaly and b's edema of the reference are gone; agreed 3 of 5 given, of 5 wanted
    strict = [value(scores, "micro", m, policy="uncertain_as_negative") for m in ag.MEASURES]
    assert strict == pytest.approx([3 / 5, 3 / 5, 3 / 5])
    # of the five: cardiomegaly a; edema b, missed in a; effusion b, wrong in a; cardiomegaly wrong in d
    assert [value(scores, "micro", m, "5") for m in ag.MEASURES] == pytest.approx([3 / 5, 3 / 4, 6 / 9])


def test_macro_averages_are_means_over_observations_and_one_that_nobody_has_is_0() -> None:
    scores = scored()
    # F1: cardiomegaly 2/3, edema 2/3, effusion 2/3, No Finding 1, fracture 0, nine others 0
    assert value(scores, "macro", "f1") == pytest.approx(3 / 14)
    assert value(scores, "macro", "precision") == pytest.approx((1 / 2 + 1 + 1 / 2 + 1) / 14)
    assert value(scores, "macro", "recall") == pytest.approx((1 + 1 / 2 + 1 + 1) / 14)
    assert value(scores, "macro", "f1", "5") == pytest.approx(2 / 5)


def test_example_based_averages_are_means_over_studies_and_one_with_nothing_to_find_is_0() -> None:
    scores = scored()
    assert value(scores, "example", "f1") == pytest.approx((1 / 2 + 1 + 1 + 0) / 4)
    assert value(scores, "example", "precision") == pytest.approx((1 / 2 + 1 + 1 + 0) / 4)
    assert value(scores, "example", "f1", "5") == pytest.approx((1 / 2 + 1 + 0 + 0) / 4)


def test_each_observation_has_its_own_f1() -> None:
    scores = scored()
    found = {
        name: scores.metrics[observation_name(name, "uncertain_as_positive")].value
        for name in ("Cardiomegaly", "Edema", "Pleural Effusion", "No Finding", "Fracture")
    }
    wanted = {"Cardiomegaly": 2 / 3, "Edema": 2 / 3, "Pleural Effusion": 2 / 3, "No Finding": 1.0, "Fracture": 0.0}
    assert found == pytest.approx(wanted)


def test_f1_is_the_harmonic_mean_and_any_averages_match_loops_on_random_labels() -> None:
    generator = np.random.default_rng(5)
    found, wanted = (generator.random((40, 14)) < share for share in (0.3, 0.4))
    statistics = ag.statistics(found.astype(float), wanted.astype(float))
    averages = ag.averages(statistics.sum(axis=0), np.array([40.0]))
    for row, names in enumerate((OBSERVATIONS, FIVE)):
        places = [OBSERVATIONS.index(name) for name in names]
        f, w = found[:, places], wanted[:, places]
        assert averages[row, 0] == pytest.approx(by_loops(f.ravel(), w.ravel()))
        assert averages[row, 1] == pytest.approx(np.mean([by_loops(*c) for c in zip(f.T, w.T, strict=True)], axis=0))
        assert averages[row, 2] == pytest.approx(np.mean([by_loops(*c) for c in zip(f, w, strict=True)], axis=0))


def by_loops(found: np.ndarray, wanted: np.ndarray) -> list[float]:
    hits = sum(1 for f, w in zip(found, wanted, strict=True) if f and w)
    precision = hits / sum(found) if sum(found) else 0.0
    recall = hits / sum(wanted) if sum(wanted) else 0.0
    return [precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0]


def test_equal_texts_agree_in_all_and_unlike_ones_in_nothing() -> None:
    same = scored({study: texts[0] for study, texts in WANTED.items()})
    assert {value(same, average, "f1") for average in ("micro", "example")} == {1.0}
    apart = scored(dict.fromkeys(WANTED, "Atelectasis."))
    assert {value(apart, average, measure) for average in ag.AVERAGES for measure in ag.MEASURES} == {0.0}


def test_intervals_hold_their_values_and_baselines_stand_beside_them() -> None:
    scores = scored()
    name = average_name("micro", "f1", "14", "uncertain_as_positive")
    low, high = scores.metrics[name].ci95 or (2.0, -1.0)
    assert 0 <= low < scores.metrics[name].value < high <= 1
    # the constant report denies all: its No Finding is right once in four, of six to find
    assert scores.baselines["constant"].metrics[name].value == pytest.approx(2 * 1 / (4 + 6))


def test_texts_are_read_as_they_were_written_under_any_protocol() -> None:
    texts = {"a": "No pneumothorax: small effusion.", "b": "Clear."}
    wanted = {study: [text] for study, text in texts.items()}
    for protocol, dataset in (("raw", "plain"), ("clean", "iu_xray"), ("clean", "mimic_cxr")):
        scores = score(texts, wanted, PROTOCOLS[protocol], dataset=dataset, choice=choose(labels=True), resamples=0)
        assert value(scores, "micro", "f1") == 1.0
        assert scores.to_json()["clinical"]["uncertain_as_positive"]["Pleural Effusion"]["reference"] == 1


def test_several_references_are_read_as_one_report() -> None:
    scores = score(
        {"a": "Edema. Effusion."}, {"a": ["Edema.", "Effusion."]}, PROTOCOLS["raw"], choice=choose(labels=True)
    )
    assert value(scores, "micro", "f1") == 1.0


def test_scores_json_names_each_average_and_counts_each_observation() -> None:
    content = json.loads(json.dumps(scored().to_json(), allow_nan=False))
    names = [n for n in content["metrics"] if n.startswith("clinical_")]
    assert len(names) == 2 * (2 * 3 * 3 + 14)
    assert content["clinical"]["labeler"] == "rule-based, not CheXbert"
    assert content["clinical"]["version"] == reading.VERSION
    edema = content["clinical"]["uncertain_as_positive"]["Edema"]
    assert edema == {"predicted": 1, "reference": 2, "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)}
    heart = content["clinical"]["uncertain_as_positive"]["Cardiomegaly"]
    assert (heart["predicted"], heart["reference"]) == (2, 1)
    assert set(content["clinical"]["uncertain_as_negative"]) == set(OBSERVATIONS)
    assert content["metrics"][observation_name("Pleural Effusion", "uncertain_as_positive")]["ci95"]


def test_a_table_shows_each_f1_and_says_whose_labels_they_are() -> None:
    text = score_table(scored())
    assert "note: clinical labels are rule-based, not CheXbert" in text
    shown = [line.split()[0] for line in text.splitlines() if line.startswith("clinical_")]
    assert set(shown) == {n for n in LABELS.metrics if "_f1_14_" in n or "_f1_5_" in n}
    assert len(shown) == 12


def test_what_was_not_asked_for_is_named() -> None:
    assert choose().not_available["clinical"] == "not asked for (`labels` True)"
    assert "clinical" not in choose(labels=True).not_available


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Flags that name predictions and references."""
    lines = [json.dumps({"id": k, "prediction": v, "reference": WANTED[k][0]}) for k, v in GIVEN.items()]
    (tmp_path / "predictions.jsonl").write_text("\n".join(lines))
    return ["--predictions", str(tmp_path / "predictions.jsonl")]


def test_the_command_reports_them_where_it_is_asked_to(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("score", [*files, "--labels", "True", "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    name = average_name("micro", "f1", "14", "uncertain_as_positive")
    assert content["metrics"][name]["value"] == pytest.approx(4 / 6)
    assert run("score", [*files, "--format", "json"]) == 0
    assert "clinical" in json.loads(capsys.readouterr().out)["not_available"]


def test_compare_compares_them_too(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = files[1]
    assert run("compare", [path, path, "--labels", "True"]) == 0
    shown = capsys.readouterr().out
    assert "clinical_micro_f1_14_uncertain_as_positive" in shown
    assert "rule-based, not CheXbert" in shown


def test_the_command_never_imports_torch(files: list[str]) -> None:
    code = (
        f"import sys; from r2gengpt.cli.main import run; run('score', {[*files, '--labels', 'True']!r}); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_a_label_is_a_word_that_other_formats_can_hold() -> None:
    assert json.dumps(dict(label_report("Edema."))).count('"positive"') == 1
    assert label_report("Edema.")[NO_FINDING] == "blank" == Label.BLANK
