"""`r2gengpt label`: files of labels in CheXpert's form."""

import csv
import json
from pathlib import Path

import pytest

from r2gengpt.cli.commands.label import LabelConfig
from r2gengpt.cli.main import run
from r2gengpt.evaluation import label_file
from r2gengpt.metrics import clinical_models
from r2gengpt.text.observations import OBSERVATIONS

REPORTS = {"1": "Small left pleural effusion. No pneumothorax.", "2": "Possible pneumonia.", "3, b": ""}


def predictions(folder: Path) -> Path:
    path = folder / "predictions.jsonl"
    path.write_text("\n".join(json.dumps({"id": study, "prediction": text}) for study, text in REPORTS.items()))
    return path


def read(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row.pop("id"): row for row in csv.DictReader(file)}


def test_each_report_becomes_a_row_of_present_absent_uncertain_and_blank(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "labels.csv"
    assert run("label", ["--predictions", str(predictions(tmp_path)), "--output", str(output)]) == 0
    assert capsys.readouterr().out.strip() == str(output)
    found = read(output)
    assert list(found) == list(REPORTS)
    assert list(found["1"]) == list(OBSERVATIONS)
    assert {name: value for name, value in found["1"].items() if value} == {
        "Pneumothorax": "0",
        "Pleural Effusion": "1",
    }
    assert {name: value for name, value in found["2"].items() if value} == {"Pneumonia": "-1"}
    assert {name: value for name, value in found["3, b"].items() if value} == {"No Finding": "1"}


def test_references_of_a_split_are_labelled_and_several_of_a_study_are_one_report(tmp_path: Path) -> None:
    source, output = tmp_path / "annotation.json", tmp_path / "labels.csv"
    study = {"id": "a", "report": "Cardiomegaly."}
    source.write_text(json.dumps({"train": [], "val": [study], "test": []}))
    assert run("label", ["--references", str(source), "--split", "val", "--output", str(output)]) == 0
    assert read(output)["a"]["Cardiomegaly"] == "1"
    source.write_text(json.dumps({"a": ["Cardiomegaly.", "Edema."]}))
    assert run("label", ["--references", str(source), "--output", str(output)]) == 0
    assert (read(output)["a"]["Cardiomegaly"], read(output)["a"]["Edema"]) == ("1", "1")


@pytest.mark.parametrize("name", ["predictions", "references"])
def test_a_split_of_a_file_without_splits_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "a.csv").write_text("id,report\n1,Edema.\n")
    argv = [f"--{name}", str(tmp_path / "a.csv"), "--split", "test", "--output", str(tmp_path / "l.csv")]
    assert run("label", argv) == 2
    assert f"--split test: has no effect: --{name} " in capsys.readouterr().err
    assert not (tmp_path / "l.csv").exists()


@pytest.mark.parametrize("flags", [[], ["--predictions", "a.jsonl", "--references", "b.json"]])
def test_neither_file_and_both_are_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("label", flags) == 2
    assert "name --predictions or --references, one of them" in capsys.readouterr().err


def test_what_cannot_be_read_leaves_the_labels_of_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "labels.csv"
    output.write_text("before")
    assert run("label", ["--predictions", str(tmp_path / "none.jsonl"), "--output", str(output)]) == 2
    assert "none.jsonl" in capsys.readouterr().err
    assert output.read_text() == "before"


def test_the_file_of_reports_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = predictions(tmp_path)
    before = path.read_bytes()
    assert run("label", ["--predictions", str(path), "--output", str(path)]) == 2
    assert "--output" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_chexberts_zero_is_blank_since_it_may_mean_not_mentioned(monkeypatch: pytest.MonkeyPatch) -> None:
    row = dict.fromkeys(OBSERVATIONS, 0) | {"Edema": 1, "Fracture": -1}
    monkeypatch.setattr(clinical_models, "chexbert_labels", lambda reports: [row])
    found = label_file.labels_of({"1": "Edema, fracture?"}, LabelConfig(labeler="chexbert").labeler)
    assert {name: value for name, value in found["1"].items() if value} == {"Edema": "1", "Fracture": "-1"}
