"""Rows beside a model with a finding head: the report of the nearest labels, and its own texts for true hints."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import r2gengpt
from conftest import Outcome, TinySet
from placements import FLOAT32
from r2gengpt.confidence.findings import UNFITTED
from r2gengpt.config import DataConfig
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.evaluation import labelled
from r2gengpt.evaluation.labelled import Lenders, plan_labels
from r2gengpt.films.sources import study_of
from r2gengpt.report import Finding, Report
from r2gengpt.reporter import Reporter
from r2gengpt.settings import HonestyConfig
from r2gengpt.text.observations import (
    ALL_OBSERVATIONS,
    LIKELY,
    NOT_ASSESSED,
    OBSERVATIONS,
    POSSIBLE,
    UNLIKELY,
    verdict_of_label,
)
from r2gengpt.training.run import train
from test_finding_head import ANY, BOTH, head_run, squares

Cli = Callable[[list[str]], Outcome]
__all__ = ["squares"]
EDEMA, FRACTURE = ALL_OBSERVATIONS.index("Edema"), ALL_OBSERVATIONS.index("Fracture")


def lender(name: str, report: str, **labels: float) -> Study:
    return Study(name, (Path("x"),), report, labels=labels)


def seen(name: str, **probabilities: float) -> Report:
    findings = tuple(
        Finding(one, probabilities.get(one, 0.5), (0.0, 1.0), POSSIBLE if one in probabilities else NOT_ASSESSED)
        for one in ALL_OBSERVATIONS
    )
    return Report(name, "", findings=findings)


def assessed(*names: str) -> list[bool]:
    return [name in names for name in ALL_OBSERVATIONS]


def test_the_report_of_the_nearest_labels_is_lent_and_the_commonest_of_equal_ones() -> None:
    train = [
        lender("a", "Wet.", Edema=1, Fracture=0), lender("b", "Wet lungs.", Edema=1, Fracture=0),
        lender("c", "Wet lungs.", Edema=1, Fracture=0), lender("d", "Dry.", Edema=0, Fracture=0),
        lender("e", "Broken.", Edema=0, Fracture=1), lender("f", "No edema."),
    ]  # fmt: skip
    found = Lenders.of(train, assessed("Edema", "Fracture"))
    row = found.row([seen("1", Edema=0.9, Fracture=0.1), seen("2", Edema=0.2, Fracture=0.9), seen("3", Edema=0.2)])
    assert row.texts == {"1": "Wet lungs.", "2": "Broken.", "3": "Dry."}
    assert row.human
    assert "of 6, " in row.about
    assert "by 2 observations" in row.about


def test_what_the_head_does_not_tell_from_chance_does_not_count() -> None:
    train = [lender("a", "Wet.", Edema=1, Fracture=0), lender("b", "Broken.", Edema=0, Fracture=1)]
    row = Lenders.of(train, assessed("Edema")).row([seen("1", Edema=0.8, Fracture=1.0)])
    assert row.texts == {"1": "Wet."}
    with pytest.raises(LookupError, match="nothing that training studies have labels of"):
        Lenders.of(train, assessed("Hernia"))


def test_an_unknown_label_counts_as_the_mean_of_the_known_ones() -> None:
    train = [lender("a", "Wet.", Edema=1), lender("b", "Broken.", Fracture=1), lender("c", "Dry.", Edema=0, Fracture=0)]
    found = Lenders.of(train, assessed("Edema", "Fracture"))
    assert sorted(found.kinds.tolist()) == [[0.0, 0.0], [0.5, 1.0], [1.0, 0.5]]


# ── a trained model ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def reported(squares: TinySet, tmp_path_factory: pytest.TempPathFactory) -> TinySet:
    """The squares with a report for every study."""
    splits = json.loads(squares.annotation.read_text())
    for study in (study for studies in splits.values() for study in studies):
        shown = [name.lower() for name in (ANY, BOTH) if study["labels"][name]]
        study["report"] = f"There is {' and '.join(shown)}." if shown else "The lungs are clear."
    path = tmp_path_factory.mktemp("reported") / "annotation.json"
    path.write_text(json.dumps(splits))
    return replace(squares, annotation=path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_parts: Path, reported: TinySet) -> Path:
    """A head on labels, then reports with hints from it."""
    directory = tmp_path_factory.mktemp("hinted")
    train(head_run(tiny_parts, reported, directory / "head", ema=0.8), FLOAT32)
    run = head_run(tiny_parts, reported, directory / "run", findings_only=False, ckpt_file=str(directory / "head"),
                   max_epochs=1, learning_rate=1e-6)  # fmt: skip
    train(replace(run, model=replace(run.model, findings_hint=True)), FLOAT32)
    return directory / "run"


def reporter_at(directory: Path, **settings: Any) -> Reporter:
    reporter = r2gengpt.load(directory, accelerator="cpu", **settings)
    assert isinstance(reporter, Reporter)
    return reporter


def planned(reporter: Reporter, data: TinySet, **settings: Any) -> labelled.LabelRows:
    read = DataConfig(dataset="plain", annotation=str(data.annotation), base_dir=str(data.base_dir))
    studies = read_annotation(data.annotation, data.base_dir, ("test",))["test"]
    return plan_labels(HonestyConfig(**settings), reporter, read, studies, "test")


def test_both_rows_stand_in_the_scores_and_on_the_page(trained: Path, run_cli: Cli, tmp_path: Path) -> None:
    done = run_cli(["test", "--model", str(trained), "--accelerator", "cpu", "--output", str(tmp_path), "--details"])
    assert done.code == 0, done.stderr
    scores = json.loads((tmp_path / "scores.json").read_text())
    rows = scores["baselines"]
    assert list(rows)[-2:] == ["nearest_labels", "oracle_hint"]
    assert rows["nearest_labels"]["metrics"]["rouge_l"]["value"] > rows["most_frequent"]["metrics"]["rouge_l"]["value"]
    assert "true labels" in rows["oracle_hint"]["text"]
    assert {"nearest_labels", "oracle_hint"} < set(done.stdout.split())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "report of the training study with the nearest labels" in page
    assert "the model with true labels in its hints" in page
    refused = run_cli(["test", "--model", str(trained), "--accelerator", "cpu", "--output", str(tmp_path),
                       "--nearest_labels", "False", "--oracle_hint", "False"])  # fmt: skip
    assert refused.code == 0, refused.stderr
    missing = json.loads((tmp_path / "scores.json").read_text())["not_available"]
    assert (missing["nearest_labels"], missing["oracle_hint"]) == ("--nearest_labels False", "--oracle_hint False")


def test_true_hints_stand_in_the_prompts_in_place_of_the_heads(trained: Path, reported: TinySet) -> None:
    reporter = reporter_at(trained)
    assert reporter.looker is not None
    every = replace(reporter, looker=replace(reporter.looker, scales=UNFITTED))
    hints = planned(every, reported).hints
    studies = read_annotation(reported.annotation, reported.base_dir, ("test",))["test"]
    assert hints[studies[0].id] == "Findings: no finding likely; consolidation unlikely; pleural effusion unlikely."
    some = tuple(replace(scale, assessed=scale.name == "Consolidation") for scale in UNFITTED)
    few = planned(replace(reporter, looker=replace(reporter.looker, scales=some)), reported).hints
    assert few[studies[0].id] == "Findings: consolidation unlikely.", "as the head's own hints would"
    batch = reporter.batch(
        reporter.built.processor.pixels(study_of([str(studies[0].image_paths[0])]).pictures), name=studies[0].id
    )
    prompts = {}
    for words in ("", "Findings: hernia likely."):
        told = {studies[0].id: words} if words else {}
        looked, findings = replace(reporter.looker, hint_overrides=told).look(batch)
        prompts[words] = looked.input_ids.tolist()[0]
        assert findings == reporter.looker.look(batch)[1], "what the head sees does not change"
    row = reporter.built.processor.prompt_row(1, f"Findings: hernia likely. {reporter.built.processor.instruction}")
    assert prompts["Findings: hernia likely."] == list(row)
    assert prompts[""] == reporter.looker.look(batch)[0].input_ids.tolist()[0]


def test_why_a_row_is_not_there_is_said_or_refused_where_it_was_asked_for(
    trained: Path, reported: TinySet, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter, headless = reporter_at(trained), reporter_at(tiny_checkpoint)
    assert planned(headless, reported).missing == {}
    silent = replace(reporter, looker=replace(reporter.looker, hints=False))
    assert planned(silent, reported).missing == {"oracle_hint": "the model was trained without `findings_hint`"}
    monkeypatch.setattr(labelled, "WRITTEN_UNASKED", 3)
    assert "`oracle_hint` True" in planned(reporter, reported).missing["oracle_hint"]
    assert planned(reporter, reported, oracle_hint="True").hints
    for name, model, why in (
        ("nearest_labels", headless, "the model has no finding head"),
        ("oracle_hint", headless, "the model has no finding head"),
        ("oracle_hint", silent, "the model was trained without"),
    ):
        with pytest.raises(InputError, match=f"{name} True: {why}"):
            planned(model, reported, **{name: "True"})


def test_reports_are_read_for_labels_where_they_are_few(
    trained: Path, reported: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = json.loads(reported.annotation.read_text())
    for study in splits["train"]:
        del study["labels"]
    path = tmp_path / "annotation.json"
    path.write_text(json.dumps(splits))
    data, reporter = replace(reported, annotation=path), reporter_at(trained)
    found = planned(reporter, data).lenders
    assert found is not None
    assert found.studies == len(splits["train"])
    assert found.columns.sum() <= len(OBSERVATIONS)
    monkeypatch.setattr(labelled, "READ_UNASKED", 10)
    assert "`nearest_labels` True" in planned(reporter, data).missing["nearest_labels"]


@pytest.mark.parametrize(
    ("label", "verdict"),
    [(1.0, LIKELY), (0.75, LIKELY), (0.74, POSSIBLE), (0.26, POSSIBLE), (0.25, UNLIKELY), (0.0, UNLIKELY)],
)
def test_a_label_stands_for_a_verdict_by_its_quarter(label: float, verdict: str) -> None:
    assert verdict_of_label(label) == verdict
