"""`r2gengpt test`: predictions, scores and page of a split; the model is loaded after the data were looked at."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Outcome, TinySet
from r2gengpt.settings import METEOR_NAMES


def test_a_split_gives_predictions_scores_and_a_self_contained_page(
    run_cli: Callable[[list[str]], Outcome], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    outcome = run_cli(["test", "--ckpt_file", str(tiny_checkpoint), "--output", str(tmp_path / "out")])
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout.splitlines()[-1] == str(tmp_path / "out" / "report.html")
    lines = (tmp_path / "out" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["test0", "test1", "test2"]
    scores = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))
    assert scores["n"] == 3
    assert {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider"} <= scores["metrics"].keys()
    assert scores["clinical"]["labeler"] == "rule-based, not CheXbert"
    assert scores["clinical"]["uncertain_as_positive"]["Cardiomegaly"]["reference"] == 1
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    verdict = scores["verdict"]
    assert " ".join(outcome.stdout.split()).startswith(verdict["sentence"])
    assert max(map(len, outcome.stdout.splitlines()[:-1])) <= 100
    run = f"{tiny_checkpoint.parent.name}/{tiny_checkpoint.name}"
    assert re.search(rf"<title>Chest X-ray reports: {run} on \S+, test split</title>", page)
    assert verdict["sentence"].split(": ")[1] in page
    assert "micro F1 of 14" in page
    assert "F1, uncertain as positive" in page
    assert "for other sentences" not in page
    assert '<span class="s q' in page
    assert "rule-based, not CheXbert" in page
    assert page.count('src="data:image/') >= 3
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_meteor_is_measured_or_named_with_what_is_missing(
    run_cli: Callable[[list[str]], Outcome], tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r2gengpt.metrics.meteor.python.find", lambda: "the METEOR jar is missing")
    monkeypatch.setattr("r2gengpt.metrics.meteor.jar.find", lambda: "Java is missing")
    found = {}
    for kind in METEOR_NAMES:
        argv = ["test", "--ckpt_file", str(tiny_checkpoint), "--output", str(tmp_path / kind), "--meteor", kind]
        assert run_cli(argv).code == 0
        found[kind] = json.loads((tmp_path / kind / "scores.json").read_text())["not_available"]["meteor"]
    assert found == {
        "python": "the METEOR jar is missing",
        "jar": "Java is missing",
        "none": "not asked for (--meteor python)",
    }


def test_patients_that_a_rule_finds_in_the_ids_are_resampled(
    run_cli: Callable[[list[str]], Outcome], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    argv = ["test", "--ckpt_file", str(tiny_checkpoint), "--output", str(tmp_path / "out"), "--patient_of"]
    assert run_cli([*argv, "[0-9]$"]).code == 0
    bootstrap = json.loads((tmp_path / "out" / "scores.json").read_text())["bootstrap"]
    assert (bootstrap["by"], bootstrap["patients"]) == ("patient", 3)
    refused = run_cli([*argv, "[02]$"])
    assert (refused.code, refused.stdout) == (2, "")
    assert "--patient_of [02]$: finds nothing in the study id test1" in refused.stderr


def test_data_that_are_missing_are_named_before_the_model_is_loaded(
    run_cli: Callable[[list[str]], Outcome], tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("r2gengpt.reporter.loaded", load)
    outcome = run_cli(["test", "--ckpt_file", str(tiny_checkpoint), "--annotation", "nowhere.json"])
    assert (outcome.code, outcome.stdout) == (2, "")
    assert "--annotation nowhere.json" in outcome.stderr


def test_results_go_beside_the_model_that_was_named(
    run_cli: Callable[[list[str]], Outcome], tiny_checkpoint: Path, tiny_set: TinySet
) -> None:
    outcome = run_cli(["test", "--ckpt_file", str(tiny_checkpoint.parent), "--split", "val"])
    assert outcome.code == 0, outcome.stderr
    assert (tiny_checkpoint.parent / "results-val" / "scores.json").is_file()
