"""Beside a tested model: the report of the nearest training film, and its own texts for shuffled images."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Outcome, TinySet
from placements import FLOAT32
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.confidence.maps import Evidence
from r2gengpt.config import DataConfig, DecodeConfig
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.evaluation import nearest
from r2gengpt.evaluation.honesty import nearest_row, plan_honesty, with_shuffled_images, with_shuffled_row
from r2gengpt.evaluation.run import BaselineRows, Evaluation, predict_studies, write_evaluation
from r2gengpt.metrics.baselines import derangement
from r2gengpt.metrics.records import Scores
from r2gengpt.parts.assemble import Built
from r2gengpt.processes import Share
from r2gengpt.report import Report
from r2gengpt.settings import HonestyConfig
from reporters import reporter_of

Cli = Callable[[list[str]], Outcome]
ALONE = Share(0, 1, torch.device("cpu"))
DECODE = DecodeConfig(beam_size=1, min_new_tokens=0, max_new_tokens=8)


def result_of(run_cli: Cli, checkpoint: Path, output: Path, *flags: str) -> tuple[dict[str, Any], str]:
    """scores.json and the printed table of a test."""
    outcome = run_cli(["test", "--ckpt_file", str(checkpoint), "--output", str(output), *flags])
    assert outcome.code == 0, outcome.stderr
    return json.loads((output / "scores.json").read_text(encoding="utf-8")), outcome.stdout


def changed(tiny_set: TinySet, path: Path, change: Callable[[dict[str, Any]], object]) -> str:
    """The tiny set's annotation file with something changed."""
    content = json.loads(tiny_set.annotation.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def test_the_nearest_training_films_report_stands_in_table_file_and_page(
    run_cli: Cli, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    scores, table = result_of(run_cli, tiny_checkpoint, tmp_path, "--details")
    row = scores["baselines"]["nearest_image"]
    assert "training study, of 8," in row["text"]
    assert row["metrics"].keys() == scores["metrics"].keys()
    assert "nearest_image" in next(line.split() for line in table.splitlines() if line.startswith("metric"))
    assert " ".join(table.split()).startswith(scores["verdict"]["sentence"])
    assert "report of the nearest training image" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "--shuffle_images True" in scores["not_available"]["images_shuffled"]
    assert scores["grounding_gap"] is None


@pytest.mark.parametrize("cached", [False, True])
def test_a_film_that_is_in_train_finds_its_own_report(
    cached: bool, run_cli: Cli, tiny_checkpoint: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(tiny_set.base_dir, images)

    def copy_studies(content: dict[str, Any]) -> None:
        for study, source in zip(content["test"], (content["train"][i] for i in (2, 5, 6)), strict=True):
            study["report"] = source["report"]
            study["image_path"] = [f"copy_{name}" for name in source["image_path"]]
            for name in source["image_path"]:
                shutil.copy(images / name, images / f"copy_{name}")

    annotation = changed(tiny_set, tmp_path / "annotation.json", copy_studies)
    flags = ["--annotation", annotation, "--base_dir", str(images)]
    flags += ["--feature_cache", str(tmp_path / "cache")] if cached else []
    scores, _ = result_of(run_cli, tiny_checkpoint, tmp_path / "out", *flags)
    assert scores["baselines"]["nearest_image"]["metrics"]["rouge_l"]["value"] == 1.0


def test_the_nearest_is_by_angle_from_the_middle_of_the_training_films() -> None:
    train = torch.tensor([[11.0, 10.0], [10.0, 11.0], [9.0, 10.0], [10.0, 9.0]])
    studies = torch.tensor([[90.0, 12.0], [9.9, 10.3], [10.1, -5.0]])
    assert nearest.nearest_places(train, studies) == [0, 1, 3]  # not centred, all would be nearest to one


def test_the_features_of_views_are_averaged() -> None:
    of = {"a": torch.tensor([[[0.0, 2.0], [2.0, 2.0]], [[4.0, 0.0], [2.0, 0.0]]])}
    vectors = nearest.pooled([Study("a", (Path("x"), Path("y")))], lambda study: of[study.id])
    assert vectors.tolist() == [[2.0, 1.0]]


def no_train(content: dict[str, Any]) -> None:
    del content["train"]


def no_images(content: dict[str, Any]) -> None:
    del content["train"][3]["image_path"]


def missing_image(content: dict[str, Any]) -> None:
    content["train"][3]["image_path"] = ["gone.png"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (no_train, "the annotation file has no train split"),
        (no_images, "studies of the train split name no image"),
        (missing_image, "1 of 11 training images are not there"),
    ],
)
def test_why_there_is_no_nearest_film_is_said_or_refused_where_it_was_asked_for(
    change: Callable[[dict[str, Any]], None], reason: str, tiny_set: TinySet, tmp_path: Path
) -> None:
    annotation = changed(tiny_set, tmp_path / "annotation.json", change)
    data = DataConfig(dataset="plain", annotation=annotation, base_dir=str(tiny_set.base_dir))
    studies = read_annotation(annotation, tiny_set.base_dir, ("test",))["test"]
    honesty = plan_honesty(HonestyConfig(), data, studies, "test")
    assert (honesty.train, honesty.missing) == ((), {"nearest_image": reason})
    with pytest.raises(InputError, match=f"nearest_image True: {reason}"):
        plan_honesty(HonestyConfig(nearest_image="True"), data, studies, "test")


def test_the_nearest_film_is_left_out_where_it_means_nothing_or_costs_much(
    run_cli: Cli, tiny_checkpoint: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, table = result_of(run_cli, tiny_checkpoint, tmp_path / "train", "--split", "train")
    assert scores["not_available"]["nearest_image"] == "the train split itself is scored"
    assert "not available: nearest_image: the train split itself is scored" in table
    scores, _ = result_of(run_cli, tiny_checkpoint, tmp_path / "no", "--nearest_image", "False")
    assert scores["not_available"]["nearest_image"] == "--nearest_image False"
    monkeypatch.setattr(nearest, "READ_UNASKED", 10)
    data = DataConfig(annotation=str(tiny_set.annotation), base_dir=str(tiny_set.base_dir))
    assert "`nearest_image` True" in plan_honesty(HonestyConfig(), data, (), "test").missing["nearest_image"]
    assert len(plan_honesty(HonestyConfig(nearest_image="True"), data, (), "test").train) == 8
    assert len(plan_honesty(HonestyConfig(), replace(data, feature_cache="cache"), (), "test").train) == 8


def test_every_study_gets_all_images_of_another_one() -> None:
    studies = [Study(f"s{i}", (Path(f"{i}a"), Path(f"{i}b"))[: 1 + i % 2], f"report {i}") for i in range(20)]
    moved = with_shuffled_images(studies, seed=3)
    assert [(s.id, s.report) for s in moved] == [(s.id, s.report) for s in studies]
    assert sorted(s.image_paths for s in moved) == sorted(s.image_paths for s in studies)
    assert all(after.image_paths != before.image_paths for after, before in zip(moved, studies, strict=True))


def test_earlier_studies_get_the_images_of_other_earlier_studies() -> None:
    def studies(count: int) -> list[Study]:
        before = [Study(f"e{i}", (Path(f"before{i}"),), f"was {i}") if i < count else None for i in range(6)]
        return [Study(f"s{i}", (Path(f"{i}"),), earlier=one) for i, one in enumerate(before)]

    moved = with_shuffled_images(studies(4), seed=3)
    kept = [study.earlier for study in moved if study.earlier is not None]
    assert [(one.id, one.report) for one in kept] == [(f"e{i}", f"was {i}") for i in range(4)]
    assert sorted(one.image_paths for one in kept) == [(Path(f"before{i}"),) for i in range(4)]
    assert all(one.image_paths != (Path(f"before{i}"),) for i, one in enumerate(kept))
    alone = with_shuffled_images(studies(1), seed=3)
    assert alone[0].earlier == studies(1)[0].earlier


def test_one_study_cannot_be_shuffled(run_cli: Cli, tiny_checkpoint: Path, tmp_path: Path) -> None:
    argv = ["test", "--ckpt_file", str(tiny_checkpoint), "--output", str(tmp_path), "--shuffle_images"]
    outcome = run_cli([*argv, "--limit_test_batches", "0.1"])
    assert (outcome.code, outcome.stdout) == (2, "")
    assert "--shuffle_images True: needs two studies, there is 1" in outcome.stderr


def test_a_model_that_reads_the_images_alone_writes_its_own_texts_moved_when_they_are_shuffled(
    run_cli: Cli, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    scores, table = result_of(run_cli, tiny_checkpoint, tmp_path, "--split", "train", "--shuffle_images", "True")

    def texts(name: str) -> list[str]:
        lines = (tmp_path / name).read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["prediction"] for line in lines]

    true, shuffled = texts("predictions.jsonl"), texts("predictions-images-shuffled.jsonl")
    assert shuffled == [true[place] for place in derangement(8, 0)]
    assert len(set(true)) > 1
    rows = scores["baselines"]
    assert rows["images_shuffled"]["metrics"] == rows["texts_shuffled"]["metrics"]
    for name, gap in scores["grounding_gap"].items():
        expected = scores["metrics"][name]["value"] - rows["images_shuffled"]["metrics"][name]["value"]
        assert gap["value"] == pytest.approx(expected, abs=1e-15)
        assert gap["ci95"][0] <= gap["value"] <= gap["ci95"][1]
        assert 0 < gap["p_randomisation"] <= 1
    assert "grounding gap" in table
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Grounding gap" in page
    assert "the model with images shuffled" in page


def test_texts_for_shuffled_images_of_an_earlier_test_are_removed(tiny_set: TinySet, tmp_path: Path) -> None:
    studies = read_annotation(tiny_set.annotation, tiny_set.base_dir, ("train",))["train"]
    reports = [Report(study.id, "Clear lungs.", study.report) for study in studies]
    plan, path = Evaluation(studies, (), "plain", batch_size=4), tmp_path / "predictions-images-shuffled.jsonl"
    write_evaluation(reports, plan, tmp_path, {}, BaselineRows({}, reports))
    assert path.exists()
    write_evaluation(reports, plan, tmp_path, {})
    assert not path.exists()
    assert (tmp_path / "predictions.jsonl").exists()


def test_a_test_that_ends_early_leaves_no_scores_beside_other_predictions(tiny_set: TinySet, tmp_path: Path) -> None:
    studies = read_annotation(tiny_set.annotation, tiny_set.base_dir, ("train",))["train"]
    plan = Evaluation(studies, (), "plain", batch_size=4)
    write_evaluation([Report(study.id, "Clear lungs.", study.report) for study in studies], plan, tmp_path, {})
    assert {path.name for path in tmp_path.iterdir()} == {"predictions.jsonl", "scores.json", "report.html"}

    def ends(_: Scores) -> list[Evidence]:
        raise KeyboardInterrupt

    others = [Report(study.id, "An effusion.", study.report) for study in studies]
    with pytest.raises(KeyboardInterrupt):
        write_evaluation(others, plan, tmp_path, {}, maps=ends)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.jsonl"]


def test_rows_of_the_train_split_say_what_the_annotation_lacks(tiny_set: TinySet, tmp_path: Path) -> None:
    studies = read_annotation(tiny_set.annotation, tiny_set.base_dir, ("test",))["test"]
    reports = [Report(study.id, "Clear lungs.", study.report) for study in studies]
    scores = write_evaluation(reports, Evaluation(studies, (), "plain", batch_size=4), tmp_path, {})
    for name in ("most_frequent", "random_train"):
        assert scores.not_available[name] == "the annotation file has no reports of a train split"


def evaluated(built: Built, tiny_set: TinySet, directory: Path) -> Scores:
    """Scores of a model on the train split's studies, with shuffled images beside."""
    studies = read_annotation(tiny_set.annotation, tiny_set.base_dir, ("train",))["train"]
    data = DataConfig(dataset="plain", annotation=str(tiny_set.annotation), base_dir=str(tiny_set.base_dir))
    reporter = reporter_of(built, DECODE)
    plan = Evaluation(studies, (), "plain", batch_size=4)
    honesty = plan_honesty(HonestyConfig(shuffle_images=True), data, studies, "train")
    rows = with_shuffled_row(nearest_row(reporter, plan, honesty, ALONE), reporter, plan, honesty, ALONE)
    return write_evaluation(predict_studies(reporter, plan), plan, directory, {}, rows, honesty.missing)


def test_the_grounding_gap_of_a_model_that_ignores_its_images_is_zero(
    tiny_checkpoint: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    built, _ = load_checkpoint(tiny_checkpoint, where=FLOAT32)
    built.model.eval()
    with torch.no_grad():
        built.model.projector.norm.weight.zero_()  # image tokens become the same for all images
    scores = evaluated(built, tiny_set, tmp_path)
    assert scores.grounding_gap is not None
    for gap in scores.grounding_gap.values():
        assert (gap.value, gap.ci95, gap.p_bootstrap, gap.p_randomisation) == (0.0, (0.0, 0.0), 1.0, 1.0)
    assert scores.collapsed
    assert any(note.startswith("collapsed: 1 distinct") for note in scores.notes)


def test_patients_of_the_annotation_are_resampled_and_written(
    run_cli: Cli, tiny_checkpoint: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    def name_patients(content: dict[str, Any]) -> None:
        for study, patient in zip(content["test"], ("x", "y", "x"), strict=True):
            study["subject_id"] = patient

    annotation = changed(tiny_set, tmp_path / "annotation.json", name_patients)
    scores, table = result_of(run_cli, tiny_checkpoint, tmp_path / "out", "--annotation", annotation)
    assert (scores["bootstrap"]["by"], scores["bootstrap"]["patients"]) == ("patient", 2)
    assert "3, resampled by patient: 2 patients" in table
    assert "resamples of the 2 patients" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    outcome = run_cli(["compare", *[str(tmp_path / "out")] * 2, "--format", "json"])
    assert json.loads(outcome.stdout)["bootstrap"]["patients"] == 2
