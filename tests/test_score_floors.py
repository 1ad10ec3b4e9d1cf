"""What chooses the best checkpoint: scores of labels and of a head, and floors below which none is the best."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import TinySet
from r2gengpt.config import ModelConfig, RunConfig, TrainConfig
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError, RunError
from r2gengpt.metrics.measure import choose
from r2gengpt.metrics.protocols import PROTOCOLS
from r2gengpt.metrics.score import score
from r2gengpt.report import Report
from r2gengpt.text.observations import ALL_OBSERVATIONS
from r2gengpt.training.auxiliary import check_measurable
from r2gengpt.training.run import train
from r2gengpt.training.standing import Standing, rule, shortfall
from r2gengpt.training.validation import Validated, check_measured, check_scores, scores_of
from test_documentation import ROOT, parse_with, run_script
from training_settings import small_run

FLOORS = ("Bleu_4=0.05", "distinct=0.1")


def standing(value: float, bleu: float = 0.2, distinct: float = 0.5) -> Standing:
    train = TrainConfig(score_floors=FLOORS)
    return Standing.of({"val_score": value, "bleu_4": bleu, "distinct": distinct}, train)


def test_below_a_floor_no_score_is_as_good_as_the_least_above_all() -> None:
    assert standing(0.9, distinct=0.09) < standing(0.1)
    assert standing(0.9, bleu=0.04) < standing(0.1)
    assert standing(0.9, bleu=0.05, distinct=0.1) > standing(0.1)


def test_below_floors_the_nearest_is_the_best() -> None:
    assert standing(0.1, distinct=0.08) > standing(0.9, distinct=0.05)
    assert standing(0.1, distinct=0.05) > standing(0.9, bleu=0.01, distinct=0.05)
    assert standing(0.2, distinct=0.05) > standing(0.1, distinct=0.05)


def test_what_is_no_number_is_below_all() -> None:
    assert standing(float("nan")) < standing(-9.0, bleu=0.0, distinct=0.0)
    assert not Standing.of({"val_score": float("nan")}, TrainConfig()) > Standing()


def test_without_floors_the_score_alone_decides() -> None:
    one, other = (Standing.of({"val_score": value}, TrainConfig()) for value in (0.25, -0.5))
    assert one > other
    assert one == Standing(0.0, 0.25)


@pytest.mark.parametrize(
    "floors", [("Bleu_5=1",), ("val_loss=1",), ("CIDEr",), ("distinct=x",), ("distinct=0",), ("distinct=1.5",),
               ("distinct=nan",), ("Bleu_4=0.1", "Bleu_4=0.2"), ("=0.1",)]
)  # fmt: skip
def test_floors_that_are_none_are_refused_in_a_line(floors: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="score_floors") as refusal:
        TrainConfig(score_floors=floors)
    assert "\n" not in str(refusal.value)


def test_a_floor_of_texts_is_refused_where_none_are_written() -> None:
    with pytest.raises(InputError, match="distinct"):
        TrainConfig(findings_only=True, score_floors=("distinct=0.1", "findings_auc=0.6"))
    assert TrainConfig(findings_only=True, score_floors=("findings_auc=0.6",)).floors == {"findings_auc": 0.6}


@pytest.mark.parametrize("field", ["scorer_types", "score_floors"])
def test_a_heads_score_needs_a_head(field: str) -> None:
    entry = "findings_auc=0.6" if field == "score_floors" else "findings_auc"
    values: dict[str, Any] = {"scorer_types": ("val_loss",), "weights": (1.0,)} | {field: (entry,)}
    with pytest.raises(InputError, match=f"{field} findings_auc"):
        check_scores(RunConfig(train=TrainConfig(**values)))
    check_scores(RunConfig(ModelConfig(findings_head=True), train=TrainConfig(**values)))


REFERENCES = ("There is a large effusion.", "Mild edema.", "The lungs are clear.")
TEXTS = ("There is a large effusion.", "There is a large effusion.", "The lungs are clear.")


def validated() -> list[Validated]:
    reports = [
        Report(str(n), text, reference) for n, (text, reference) in enumerate(zip(TEXTS, REFERENCES, strict=True))
    ]
    return [Validated(6.0, 3, reports[:2]), Validated(0.0, 3, reports[2:])]


def test_clinical_f1_is_the_micro_f1_that_a_test_reports() -> None:
    config = RunConfig(train=TrainConfig(scorer_types=("clinical_f1", "CIDEr"), score_floors=("distinct=0.9",)))
    scores = scores_of(validated(), config)
    whole = score(
        {str(n): text for n, text in enumerate(TEXTS)},
        {str(n): [text] for n, text in enumerate(REFERENCES)},
        PROTOCOLS["clean"],
        choice=choose(labels=True),
        resamples=0,
    )
    assert scores["clinical_f1"] == whole.metrics["clinical_micro_f1_14_uncertain_as_positive"].value
    assert 0 < scores["clinical_f1"] < 1
    assert scores["distinct"] == pytest.approx(2 / 3)
    assert scores["val_score"] == pytest.approx(0.5 * scores["clinical_f1"] + 0.5 * scores["cider"])
    assert shortfall(scores, config.train) == "distinct 0.6667 of 0.9"


def test_a_run_without_these_has_the_scores_that_it_had() -> None:
    scores = scores_of(validated(), RunConfig())
    assert list(scores) == ["val_loss", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider", "val_score"]


def test_the_heads_score_chooses_beside_the_loss_and_without_text() -> None:
    train = TrainConfig(scorer_types=("findings_auc", "val_loss"), weights=(1.0, 0.1))
    scores = scores_of(validated(), RunConfig(train=train), {"findings_loss": 1.0, "findings_auc": 0.8})
    assert scores == {"val_loss": 1.0, "val_score": pytest.approx(0.7), "findings_loss": 1.0, "findings_auc": 0.8}
    with pytest.raises(RunError, match="limit_val_batches"):
        check_measured(scores_of(validated(), RunConfig(train=train), {"findings_loss": 1.0}), train)


def test_a_split_with_too_few_films_for_the_heads_score_is_refused() -> None:
    config = RunConfig(ModelConfig(findings_head=True), train=TrainConfig(scorer_types=("findings_auc", "CIDEr")))
    labels = torch.full((12, len(ALL_OBSERVATIONS)), float("nan"))
    labels[:, 3] = torch.tensor([1.0] * 6 + [0.0] * 6)
    studies = [Study(str(n), (Path("a"),), source="here" if n % 2 else "there") for n in range(12)]
    with pytest.raises(InputError, match="findings_auc"):
        check_measurable(labels, studies, config)
    check_measurable(labels, [Study(str(n), (Path("a"),)) for n in range(12)], config)


def test_the_rule_is_told_in_words() -> None:
    assert rule(TrainConfig()) == "0.5 Bleu_4 + 0.5 CIDEr"
    assert rule(TrainConfig(findings_only=True)) == "findings_auc"
    chosen = TrainConfig(scorer_types=("clinical_f1", "val_loss"), weights=(1.0, 0.5), score_floors=FLOORS)
    assert rule(chosen) == "1 clinical_f1 - 0.5 val_loss, at least Bleu_4 0.05 and distinct 0.1"


def run_of(parts: Path, data: TinySet, directory: Path, monkeypatch: pytest.MonkeyPatch, distinct: list[float]) -> Any:
    """A run whose validations have these shares of distinct texts, and ever better scores beside."""
    measured = iter(enumerate(distinct, start=1))

    def scores(*_: Any) -> dict[str, float]:
        epoch, share = next(measured)
        return {"val_loss": 1.0, "val_score": float(epoch), "distinct": share}

    monkeypatch.setattr("r2gengpt.training.module.scores_of", scores)
    settings = small_run(
        parts, data, directory, max_epochs=len(distinct), score_floors=("distinct=0.5",), choose_decode=0
    )
    return train(settings)


def test_an_epoch_of_one_text_for_all_is_never_the_best(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = run_of(tiny_parts, tiny_set, tmp_path, monkeypatch, [0.1, 0.75, 0.1])
    assert summary.best["distinct"] == 0.75
    kept = json.loads((tmp_path / "summary.json").read_text())
    assert kept["best"]["epoch"] == 1
    assert kept["chosen_by"] == "-1 val_loss, at least distinct 0.5"
    assert "below_floors" not in kept
    card = (tmp_path / "best" / "README.md").read_text()
    assert "chosen by -1 val_loss, at least distinct 0.5." in card


def test_where_no_epoch_reaches_its_floor_the_nearest_is_kept_and_said_to_be_below(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with caplog.at_level(logging.WARNING, "r2gengpt.training"):
        summary = run_of(tiny_parts, tiny_set, tmp_path, monkeypatch, [0.25, 0.375, 0.125])
    assert summary.best["distinct"] == 0.375
    assert json.loads((tmp_path / "summary.json").read_text())["below_floors"] == "distinct 0.375 of 0.5"
    assert "this one is below: distinct 0.375 of 0.5" in (tmp_path / "best" / "README.md").read_text()
    assert [record.getMessage() for record in caplog.records if "floors" in record.getMessage()][-1].endswith(
        "distinct 0.375 of 0.5"
    )


def test_a_run_with_all_of_them_measures_them(tiny_parts: Path, tiny_set: TinySet, tmp_path: Path) -> None:
    settings = small_run(
        tiny_parts, tiny_set, tmp_path, max_epochs=1, scorer_types=("clinical_f1", "CIDEr"), weights=(1.0, 1.0),
        score_floors=("distinct=1.0", "Bleu_4=0.9"), choose_decode=0,
    )  # fmt: skip
    best = train(settings).best
    assert {"clinical_f1", "distinct", "bleu_4"} <= best.keys()
    assert best["val_score"] == pytest.approx(best["clinical_f1"] + best["cider"])


@pytest.mark.parametrize("dataset", ["iu_xray", "mimic_cxr"])
def test_the_run_script_has_the_three_switches_under_one_name(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain").mkdir()
    (plain,) = run_script(ROOT / "runs" / "train.sh", tmp_path / "plain", DATASET=dataset)
    (words,) = run_script(ROOT / "runs" / "train.sh", tmp_path, DATASET=dataset, FINDINGS="True")
    assert not {"--findings_head", "--score_floors"} & set(plain)
    parse_with(monkeypatch, words)
    more = " ".join(words)
    for flag in ("--findings_head True", "--findings_hint True", "--weigh_findings True"):
        assert flag in more
    assert "--scorer_types clinical_f1 CIDEr --score_floors Bleu_4=0.05 distinct=0.1" in more
