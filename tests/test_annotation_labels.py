"""Labels, source, age and sex in the annotation file, and studies that have labels and no report."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2gengpt.config import DataConfig
from r2gengpt.data.annotation import check_reports, read_annotation, write_annotation
from r2gengpt.data.labels import NIH_NAMES, Labels, observation_named
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.evaluation.predictions import read_train_reports
from r2gengpt.text.observations import ALL_OBSERVATIONS, FURTHER, OBSERVATIONS
from r2gengpt.training.begin import fingerprint
from r2gengpt.training.data import read_splits


def record(name: str = "a", **fields: Any) -> dict[str, Any]:
    return {"id": name, "report": "Clear lungs.", "image_path": [f"{name}.png"]} | fields


def label_only(name: str = "a", **fields: Any) -> dict[str, Any]:
    given = {"labels": {"Edema": 1}} | fields
    return {key: value for key, value in record(name, **given).items() if key != "report"}


def save(directory: Path, *train: Any, **others: Any) -> Path:
    path = directory / "annotation.json"
    path.write_text(json.dumps({"train": list(train), "val": [], "test": [], **others}), encoding="utf-8")
    return path


def one(directory: Path, **fields: Any) -> Study:
    return read_annotation(save(directory, record(**fields)), directory)["train"][0]


def refusal(directory: Path, *train: Any, **others: Any) -> str:
    path = save(directory, *train, **others)
    with pytest.raises(InputError) as caught:
        read_annotation(path, directory)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"Edema": 1, "Cardiomegaly": 0}, {"Cardiomegaly": 0, "Edema": 1}),
        ({"Effusion": 1}, {"Pleural Effusion": 1}),
        ({"Infiltration": 0.25}, {"Lung Opacity": 0.25}),
        ({"pleural_thickening": 1, "NO FINDING": 0}, {"No Finding": 0, "Pleural Other": 1}),
        ({"Pleural Thickening": 0, "support-devices": 1}, {"Pleural Other": 0, "Support Devices": 1}),
        ({"emphysema": 1, "Fibrosis": 0, "HERNIA": 0.5}, {"Emphysema": 1, "Fibrosis": 0, "Hernia": 0.5}),
        ({"lateral view": 0, "AP View": 1, "child": 1}, {"Lateral View": 0, "AP View": 1, "Child": 1}),
        ({"Edema": -1, "Fracture": None, "Pneumonia": -1.0}, {}),
        ({}, {}),
        (None, {}),
    ],
)
def test_labels_are_read_under_our_names_and_only_where_they_are_known(
    written: Any, read: dict[str, float], tmp_path: Path
) -> None:
    assert one(tmp_path, labels=written).labels == read


@pytest.mark.parametrize(
    ("written", "lesion"),
    [
        ({"Mass": 1, "Nodule": 0}, 1),
        ({"Nodule": 0.4, "Mass": 0}, 0.4),
        ({"Mass": 0, "Nodule": 0}, 0),
        ({"Mass": 1, "Nodule": -1}, 1),
        ({"Lung Lesion": 0, "Nodule": 1}, 1),
        ({"Mass": 0, "Nodule": None}, None),
        ({"Mass": None, "Nodule": -1}, None),
    ],
)
def test_two_names_of_one_observation_join_and_the_present_one_wins(
    written: Any, lesion: float | None, tmp_path: Path
) -> None:
    assert one(tmp_path, labels=written).labels.get("Lung Lesion") == lesion


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"Effusoin": 1}, "label 'Effusoin' is no observation (did you mean Effusion?)"),
        ({"cardiomegally": 1}, "label 'cardiomegally' is no observation (did you mean Cardiomegaly?)"),
        ({"zzz": 1}, "label 'zzz' is no observation: No Finding, Enlarged"),
        ({"Edema": 1.5}, "label Edema is 1.5, must be from 0 (absent) to 1 (present), -1 (uncertain) or null"),
        ({"Edema": -0.5}, "label Edema is -0.5, must be from 0"),
        ({"Edema": -2}, "label Edema is -2, must be"),
        ({"Edema": 10**400}, "label Edema is 1000"),
        ({"Edema": float("nan")}, "label Edema is NaN, must be"),
        ({"Edema": True}, "label Edema is true, must be"),
        ({"Edema": "1"}, 'label Edema is "1", must be'),
        ({"Edema": [1]}, "label Edema is [1], must be"),
        (["Edema"], 'labels is ["Edema"], must be an object'),
        ("Edema", 'labels is "Edema", must be an object'),
        (1, "labels is 1, must be an object"),
    ],
)
def test_a_wrong_label_is_refused_by_study_name_and_value(labels: Any, words: str, tmp_path: Path) -> None:
    assert f"train study 0 (a): {words}" in refusal(tmp_path, record(labels=labels))


def test_age_sex_and_source_are_read(tmp_path: Path) -> None:
    study = one(tmp_path, age=61, sex="f", source=" nih14 ")
    assert (study.age, study.sex, study.source) == (61, "F", "nih14")
    assert one(tmp_path, age=0.5).age == 0.5
    for empty in ({}, {"age": None, "sex": None, "source": None}, {"sex": " ", "source": ""}):
        study = one(tmp_path, **empty)
        assert (study.age, study.sex, study.source) == (None, "", "")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"age": -1}, "age is -1, must be a number of years from 0 to 130"),
        ({"age": 131}, "age is 131, must be"),
        ({"age": "61"}, 'age is "61", must be'),
        ({"age": True}, "age is true, must be"),
        ({"age": float("nan")}, "age is NaN, must be"),
        ({"sex": "male"}, 'sex is "male", must be M, F or empty'),
        ({"sex": 1}, "sex is 1, must be M, F or empty"),
        ({"source": 3}, "source is 3, must be a text"),
    ],
)
def test_a_wrong_age_sex_or_source_is_refused_in_one_line(fields: Any, words: str, tmp_path: Path) -> None:
    assert f"train study 0 (a): {words}" in refusal(tmp_path, record(**fields))


def test_a_study_with_labels_needs_no_report(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        label_only("a"),
        record("b", report=" ", labels={"Edema": 0}),
        record("c", report=None, labels={"Edema": 1}),
    )
    assert [study.report.strip() for study in read_annotation(path, tmp_path)["train"]] == ["", "", ""]


@pytest.mark.parametrize("labels", [{}, None, {"Edema": -1, "Mass": None}])
def test_unknown_labels_do_not_stand_for_a_report(labels: Any, tmp_path: Path) -> None:
    assert "(a): report is empty" in refusal(tmp_path, record(report="", labels=labels))
    assert "(a) has no report" in refusal(tmp_path, label_only(labels=labels))


def test_a_run_that_learns_reports_refuses_a_study_that_has_labels_only(tmp_path: Path) -> None:
    path = save(tmp_path, record("a"), label_only("b"), val=[record("c")])
    with pytest.raises(InputError) as caught:
        read_splits(DataConfig(annotation=str(path), base_dir=str(tmp_path)))
    assert str(caught.value) == "annotation: train study b has labels and no report to learn from (1 of 2 have none)"
    check_reports(read_annotation(path, tmp_path)["val"])


def test_baselines_are_drawn_from_the_studies_that_have_a_report(tmp_path: Path) -> None:
    assert read_train_reports(
        save(tmp_path, record("a"), label_only("b"), record("c", report="", labels={"Edema": 1}))
    ) == ["Clear lungs."]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    labels = {"Pleural Effusion": 1, "Edema": 0, "Pneumonia": 0.9, "Child": 0}
    study = Study("a", (tmp_path.resolve() / "a.png",), split="train", labels=labels, source="s", age=3.5, sex="M")
    write_annotation(tmp_path / "x.json", {"train": [study]}, tmp_path)
    assert read_annotation(tmp_path / "x.json", tmp_path, ("train",))["train"] == (study,)
    written = json.loads((tmp_path / "x.json").read_text())["train"][0]
    assert written["labels"] == {"Edema": 0, "Pneumonia": 0.9, "Pleural Effusion": 1, "Child": 0}
    assert (written["age"], written["sex"], written["source"]) == (3.5, "M", "s")


def test_a_study_without_labels_is_written_as_it_always_was(tmp_path: Path) -> None:
    write_annotation(tmp_path / "x.json", {"train": [Study("a", (Path("a.png"),), "Clear.", "train")]})
    assert list(json.loads((tmp_path / "x.json").read_text())["train"][0]) == ["id", "report", "image_path", "split"]


def test_a_runs_fingerprint_changes_with_its_labels_and_is_the_old_one_without(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    plain = Study("a", (tmp_path / "a.png",), "Clear.", "train")
    changed = Study("a", (tmp_path / "a.png",), "Clear.", "train", labels={"Edema": 1})
    assert fingerprint({"train": [plain]})["train"]["a"][0] == "85eecaed8ef82b87"
    assert fingerprint({"train": [plain]}) != fingerprint({"train": [changed]})


def test_a_studys_labels_never_change_and_travel_between_processes(tmp_path: Path) -> None:
    given = {"Edema": 1.0}
    study = Study("a", (tmp_path / "a.png",), labels=given)
    given["Edema"] = 0.0
    assert study.labels == {"Edema": 1.0}
    assert not hasattr(study.labels, "__setitem__")
    assert pickle.loads(pickle.dumps(study)) == study
    assert hash(pickle.loads(pickle.dumps(study))) == hash(study)
    with pytest.raises(ValueError, match="no observation: Odema"):
        Labels({"Odema": 1})


def test_every_observation_of_chexpert_and_of_nih_has_a_name() -> None:
    assert (ALL_OBSERVATIONS[: len(OBSERVATIONS)], ALL_OBSERVATIONS[len(OBSERVATIONS) :]) == (OBSERVATIONS, FURTHER)
    assert {observation_named(name, "x") for name in (*ALL_OBSERVATIONS, *NIH_NAMES)} == set(ALL_OBSERVATIONS)


@given(st.dictionaries(st.sampled_from(ALL_OBSERVATIONS), st.floats(0, 1)))
def test_labels_equal_the_mapping_they_were_made_of(values: dict[str, float]) -> None:
    labels = Labels(values)
    assert labels == values
    assert list(labels) == [name for name in ALL_OBSERVATIONS if name in values]
