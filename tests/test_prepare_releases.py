"""ReXrank's and CheXpert Plus's files to annotation files, on small made-up ones of the same layout."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import Outcome
from r2gengpt.data.annotation import Preparation, read_annotation
from r2gengpt.data.prepare.chexpert_plus import COLUMNS, prepare_chexpert_plus, read_label_lines, split_of
from r2gengpt.data.prepare.release import SHARED_WORDS, Output
from r2gengpt.data.prepare.rexrank import prepare_rexrank, read_context
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError

Run = Callable[[list[str]], Outcome]
LONG = "the heart is of normal size and the lungs are clear without any focal opacity"
assert len(LONG.split()) >= SHARED_WORDS


def studies(done: Preparation) -> dict[str, Study]:
    read = read_annotation(done.path, done.path.parent)
    return {study.id: study for split in read.values() for study in split}


def films_of(study: Study, directory: Path) -> list[str]:
    return [path.relative_to(directory).as_posix() for path in study.image_paths]


def film(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), grey).save(path)


# --- ReXrank ----------------------------------------------------------------------------------------------------------


def record(**changes: Any) -> dict[str, Any]:
    """A study as ReXrank has one of MIMIC-CXR."""
    return {
        "image_path": ["/p10/p10000001/s5/b.jpg", "/p10/p10000001/s5/a.jpg"],
        "key_image_path": "/p10/p10000001/s5/a.jpg",
        "section_findings": "Clear\nlungs.",
        "section_impression": float("nan"),
        "frontal_lateral": ["lateral", "postero-anterior"],
        "context": "Age:50-60.Gender:M.Indication: Cough. Comparison: None.",
        **changes,
    }


def rexrank_file(path: Path, **records: Any) -> Path:
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def prepared(directory: Path, **records: Any) -> dict[str, Study]:
    return studies(prepare_rexrank(rexrank_file(directory / "in.json", **records), Output(directory / "a.json")))


def refusal(directory: Path, **records: Any) -> str:
    with pytest.raises(InputError) as caught:
        prepared(directory, **records)
    assert "\n" not in str(caught.value)
    assert not (directory / "a.json").exists()
    return str(caught.value)


def test_a_study_of_rexrank_keeps_what_the_file_knows_frontal_film_first(tmp_path: Path) -> None:
    study = prepared(tmp_path, **{"50": record(split="test", subject_id=10000001)})["50"]
    assert films_of(study, tmp_path) == ["p10/p10000001/s5/a.jpg", "p10/p10000001/s5/b.jpg"]
    assert study.views == ("PA", "LATERAL")
    assert (study.split, study.patient, study.sex, study.age) == ("test", "10000001", "M", None)
    assert (study.report, study.findings, study.impression) == ("Clear lungs.", "Clear lungs.", "")
    assert (study.indication, study.comparison) == ("Cough.", "None.")


def test_age_sex_and_the_view_of_chexpert_plus_are_read(tmp_path: Path) -> None:
    path = "valid/patient7/study1/view1_frontal.png"
    facts = {"image_path": [path], "key_image_path": path, "frontal_lateral": ["Frontal"], "ap_pa": ["AP"]}
    context = "Age:77.0.Gender:U.Indication:nanComparison: None."
    study = prepared(tmp_path, a=record(**facts, age=77.0, sex="Female", context=context))["a"]
    assert (study.age, study.sex, study.views, study.patient) == (77.0, "F", ("AP",), "patient7")
    assert (study.indication, study.comparison) == ("", "None.")


def test_a_contexts_parts_are_read_where_they_are_there() -> None:
    found = read_context("Indication: Chest pain: 3 days. Comparison: PA dated XXXX.")
    assert (found.age, found.sex, found.indication, found.comparison) == (
        *(None, "", "Chest pain: 3 days.", "PA dated XXXX."),
    )
    assert read_context("").indication == ""
    spaced = read_context("Age: 77. Gender: F. Indication: Cough.")
    assert (spaced.age, spaced.sex, spaced.indication) == (77.0, "F", "Cough.")


def test_views_are_unknown_where_the_file_lists_another_number(tmp_path: Path) -> None:
    assert prepared(tmp_path, a=record(frontal_lateral=["Frontal"]))["a"].views == ()


@pytest.mark.parametrize(("section", "report"), [("findings", "F."), ("impression", "I."), ("both", "F. I.")])
def test_the_section_that_is_asked_for_becomes_the_report(tmp_path: Path, section: Any, report: str) -> None:
    source = rexrank_file(
        tmp_path / "in.json", a=record(section_findings="F.", section_impression="I."), b=record(section_findings=None,
        image_path=["c.png"], key_image_path="c.png")
    )  # fmt: skip
    done = prepare_rexrank(source, Output(tmp_path / "a.json"), section=section)
    assert studies(done)["a"].report == report
    assert done.studies["test"] == 1
    assert done.skipped == {f"no {'text' if section == 'both' else section}": 1}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_path": []}, "study a: image_path is []: must be a list of at least one path"),
        ({"section_findings": 3}, "study a: section_findings is 3: must be a text, NaN or null"),
        ({"key_image_path": "x.png"}, "study a: key_image_path x.png is none of image_path"),
        ({"split": "train"}, "study a: split is 'train': must be test, as the file was given as test"),
        ({"context": 7}, "study a: context is 7: must be a text"),
        (
            {"image_path": ["../a.png"], "key_image_path": "../a.png", "frontal_lateral": ["Frontal"]},
            "study a: image_path '../a.png': must be a path below the image directory",
        ),
    ],
)
def test_a_wrong_record_of_rexrank_is_refused_by_study_and_field(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    assert refusal(tmp_path, a=record(**changes)) == f"test {tmp_path / 'in.json'}: {said}"


def test_a_patient_in_the_test_and_the_validation_file_is_refused(tmp_path: Path) -> None:
    test = rexrank_file(tmp_path / "t.json", a=record(subject_id=1))
    val = rexrank_file(tmp_path / "v.json", b=record(subject_id=1, image_path=["b.png"], key_image_path="b.png"))
    with pytest.raises(InputError, match=r"patient 1 is in two splits, val \(b\) and test \(a\)"):
        prepare_rexrank(test, Output(tmp_path / "a.json"), val=val)


def test_a_long_text_of_a_test_study_leaves_the_other_splits_and_a_short_one_stays(tmp_path: Path) -> None:
    def one(name: str, text: str) -> dict[str, Any]:
        return record(image_path=[name], key_image_path=name, section_findings=text)

    test = rexrank_file(tmp_path / "t.json", a=one("a.png", LONG), b=one("b.png", "Clear."))
    val = rexrank_file(tmp_path / "v.json", c=one("c.png", LONG.upper()), d=one("d.png", "Clear."))
    done = prepare_rexrank(test, Output(tmp_path / "a.json"), val=val)
    assert set(studies(done)) == {"a", "b", "d"}
    assert done.skipped == {"text of a held-out study": 1}
    kept = prepare_rexrank(test, Output(tmp_path / "a.json", keep_shared_texts=True), val=val)
    assert set(studies(kept)) == {"a", "b", "c", "d"}


# --- CheXpert Plus ----------------------------------------------------------------------------------------------------


def row(folder: str, patient: int, study: int, view: str = "view1_frontal", /, **cells: Any) -> dict[str, Any]:
    return {
        "path_to_image": f"{folder}/patient{patient}/study{study}/{view}.jpg",
        "frontal_lateral": "Lateral" if "lateral" in view else "Frontal",
        "ap_pa": "" if "lateral" in view else "PA",
        "deid_patient_id": f"patient{patient}",
        "patient_report_date_order": str(study),
        "section_findings": f"Film {patient} {study}.",
        "age": "61.0",
        "sex": "Female",
        "split": folder,
        **cells,
    }


def chexpert_table(path: Path, *rows: dict[str, Any], numbered: bool = False) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["", *COLUMNS] if numbered else list(COLUMNS), restval="")
        writer.writeheader()
        writer.writerows({"": number, **one} if numbered else one for number, one in enumerate(rows))
    return path


def chexpert(directory: Path, *rows: dict[str, Any], labels: Path | None = None, **output: Any) -> Preparation:
    table = chexpert_table(directory / "t.csv", *rows)
    return prepare_chexpert_plus(table, Output(directory / "a.json", **output), labels=labels)


def test_films_of_one_study_come_together_frontal_first_with_the_release_facts(tmp_path: Path) -> None:
    facts = {
        "section_findings": "\nClear\nlungs.\n",
        "section_impression": "Normal.",
        "section_clinical_history": "Cough.",
        "section_comparison": "Film of 2010.",
    }
    done = chexpert(
        tmp_path, row("valid", 3, 1, "view2_lateral", **facts), row("valid", 3, 1, **facts), image_ext="png"
    )
    (study,) = studies(done).values()
    assert (study.id, study.patient, study.split, study.source) == (
        *("patient3_study1", "patient3", "test", "chexpert_plus"),
    )
    names = [f"valid/patient3/study1/{name}.png" for name in ("view1_frontal", "view2_lateral")]
    assert films_of(study, tmp_path) == names
    assert (study.views, study.age, study.sex) == (("PA", "LATERAL"), 61, "F")
    assert (study.report, study.findings, study.impression) == ("Clear lungs.", "Clear lungs.", "Normal.")
    assert (study.indication, study.comparison) == ("Cough.", "Film of 2010.")


def test_a_study_knows_its_patients_study_before_by_the_release_order(tmp_path: Path) -> None:
    rows = [row("train", 1, study, patient_report_date_order=str(order)) for study, order in ((1, 2), (2, 1), (3, 5))]
    found = studies(chexpert(tmp_path, *rows, row("train", 9, 1)))
    assert {name: study.prior for name, study in found.items()} == {
        "patient1_study1": "patient1_study2",
        "patient1_study2": "",
        "patient1_study3": "patient1_study1",
        "patient9_study1": "",
    }


def test_two_in_a_hundred_training_patients_are_val_and_valid_is_test() -> None:
    drawn = [split_of("train", f"patient{number}") for number in range(5000)]
    assert set(drawn) == {"train", "val"}
    assert 0.015 < drawn.count("val") / len(drawn) < 0.025
    assert split_of("valid", "patient5") == "test"


def test_the_labels_of_a_study_are_those_of_its_films_and_a_doubt_is_unknown(tmp_path: Path) -> None:
    labels = tmp_path / "impression_fixed.json"
    line = {"path_to_image": "valid/patient3/study1/view1_frontal.jpg", "Edema": 1.0, "Fracture": 0.0}
    labels.write_text(json.dumps(line | {"Pneumonia": -1.0, "No Finding": None}) + "\n", encoding="utf-8")
    done = chexpert(tmp_path, row("valid", 3, 1), row("valid", 4, 1), labels=labels)
    found = studies(done)
    assert dict(found["patient3_study1"].labels) == {"Edema": 1.0, "Fracture": 0.0}
    assert not found["patient4_study1"].labels
    assert done.notes == ("1 of 2 studies with labels",)


def test_a_wrong_line_of_labels_is_refused_by_its_number(tmp_path: Path) -> None:
    good = json.dumps({"path_to_image": "valid/patient3/study1/a.jpg", "Edema": 1})
    path = tmp_path / "l.json"
    for bad, said in (
        *((text, "line 2: must be an object with path_to_image") for text in ("[]", "7", '{"path_to_image": "."}')),
        ('{"path_to_image": "b.jpg", "Edema": 7}', "line 2: label Edema is 7, must be from 0"),
        ('{"path_to_image": "b.jpg", "Oedema": 1}', "line 2: label 'Oedema' is no observation"),
        (good, "line 2: path_to_image valid/patient3/study1/a is given twice"),
        ("{", "line 2: not JSON"),
    ):
        path.write_text(f"{good}\n{bad}\n", encoding="utf-8")
        with pytest.raises(InputError) as caught:
            read_label_lines(path)
        assert str(caught.value).startswith(f"labels {path}: {said}")


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"path_to_image": "a.jpg"}, "path_to_image is 'a.jpg': must be train|valid/patientN/studyN/FILE"),
        (
            {"path_to_image": "train/patient2/study1/../x.jpg"},
            "path_to_image is 'train/patient2/study1/../x.jpg': must",
        ),
        ({"deid_patient_id": "patient8"}, "deid_patient_id is 'patient8', and path_to_image says patient2"),
        ({"split": "valid"}, "split is 'valid', and path_to_image says train"),
        ({"frontal_lateral": "Oblique"}, "frontal_lateral is 'Oblique': must be Frontal or Lateral"),
    ],
)
def test_a_wrong_row_of_chexpert_plus_is_refused_by_its_line(tmp_path: Path, cells: dict[str, str], said: str) -> None:
    with pytest.raises(InputError) as caught:
        chexpert(tmp_path, row("train", 1, 1), row("train", 2, 1, **cells))
    assert str(caught.value).startswith(f"table {tmp_path / 't.csv'}: line 3: {said}")
    assert not (tmp_path / "a.json").exists()


def test_a_table_without_a_column_is_refused_by_the_columns_name(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("path_to_image,split\n", encoding="utf-8")
    with pytest.raises(InputError, match="has no column frontal_lateral"):
        prepare_chexpert_plus(path, Output(tmp_path / "a.json"))


def test_a_first_column_that_numbers_the_rows_is_passed_over(tmp_path: Path) -> None:
    table = chexpert_table(tmp_path / "t.csv", row("valid", 1, 1), numbered=True)
    assert prepare_chexpert_plus(table, Output(tmp_path / "a.json")).studies["test"] == 1


def test_one_film_given_to_two_patients_stays_in_the_held_out_split_alone(tmp_path: Path) -> None:
    rows = [row("train", 1, 1), row("valid", 2, 1), row("train", 3, 1)]
    for one, grey in zip(rows, (7, 7, 200), strict=True):
        film(tmp_path / "png" / Path(one["path_to_image"]).with_suffix(".png"), grey)
    done = chexpert(tmp_path, *rows, images_dir=tmp_path / "png")
    assert set(studies(done)) == {"patient2_study1", "patient3_study1"}
    assert done.skipped == {"film of a held-out study": 1}


def test_missing_films_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [row("valid", 1, 1), row("valid", 1, 1, "view2_lateral"), row("valid", 2, 1)]
    film(tmp_path / "png/valid/patient1/study1/view2_lateral.png", 5)
    done = chexpert(tmp_path, *rows, images_dir=tmp_path / "png")
    (study,) = studies(done).values()
    assert study.views == ("LATERAL",)
    assert done.skipped == {"no image file": 1}
    assert done.notes == (f"2 image files missing in {tmp_path / 'png'}",)


def test_the_command_line_prepares_rexrank_and_chexpert_plus(tmp_path: Path, run_cli: Run) -> None:
    source = rexrank_file(tmp_path / "in.json", a=record())
    done = run_cli(["prepare", "rexrank", "--test", str(source), "--output", str(tmp_path / "r.json")])
    assert (done.code, done.stdout) == (0, f"0 train, 0 val, 1 test; left out: none: {tmp_path / 'r.json'}\n")
    table = chexpert_table(tmp_path / "t.csv", row("valid", 1, 1, section_findings="", section_impression="Normal."))
    words = ["prepare", "chexpert-plus", "--table", str(table), "--output", str(tmp_path / "c.json")]
    assert run_cli(words).code == 2
    done = run_cli([*words, "--section", "impression"])
    assert (done.code, done.stdout) == (0, f"0 train, 0 val, 1 test; left out: none: {tmp_path / 'c.json'}\n")
    refused = run_cli([*words, "--images_dir", str(tmp_path / "none")])
    assert (refused.code, refused.stderr) == (
        2,
        f"r2gengpt prepare: --images_dir {tmp_path / 'none'}: is no directory\n",
    )


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["", "b"], "the id of the study of 0.png is empty"),
        (["a", " a"], "study a is given twice"),
        (["a", "\ud800"], "holds half a surrogate pair, which is no character"),
    ],
)
def test_ids_that_an_annotation_cannot_hold_are_refused(tmp_path: Path, names: list[str], words: str) -> None:
    films = [{"image_path": [f"{place}.png"], "key_image_path": f"{place}.png"} for place in range(2)]
    records = {name: record(**one) for name, one in zip(names, films, strict=True)}
    assert words in refusal(tmp_path, **records)


@pytest.mark.parametrize(
    ("subject", "patient"), [(7, "7"), (7.0, "7"), (" 7", "7"), (float("nan"), "10000001"), ("", "10000001")]
)
def test_a_patient_of_rexrank_is_a_text_or_a_whole_number(tmp_path: Path, subject: object, patient: str) -> None:
    assert prepared(tmp_path, a=record(subject_id=subject))["a"].patient == patient


@pytest.mark.parametrize("subject", [True, 7.5, [7], {}])
def test_any_other_patient_of_rexrank_is_refused(tmp_path: Path, subject: object) -> None:
    assert "study a: subject_id is " in refusal(tmp_path, a=record(subject_id=subject))


def test_a_refusal_of_no_study_counts_those_that_were_there(tmp_path: Path) -> None:
    assert "no study is left of 1: {'no text': 1}" in refusal(tmp_path, a=record(section_findings=None))


def test_a_film_in_two_rows_of_chexpert_plus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 3: path_to_image train/patient1/study1/\S+ is given twice"):
        chexpert(tmp_path, row("train", 1, 1), row("train", 1, 1))


@pytest.mark.parametrize("column", ["section_findings", "age", "patient_report_date_order"])
def test_rows_of_one_study_of_chexpert_plus_that_differ_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, column: str
) -> None:
    films = row("train", 1, 1), row("train", 1, 1, "view2_lateral", **{column: "9"}), row("train", 2, 1)
    chexpert(tmp_path, *films)
    (line,) = caplog.messages
    assert line.endswith(
        f"rows of one study differ in {column}, and the first one counts: 1 studies, first patient1_study1"
    )


@pytest.mark.parametrize(
    ("column", "cell"), [("age", "old"), ("sex", "Unknown"), ("patient_report_date_order", "first"), ("age", "nan")]
)
def test_what_is_not_read_of_a_study_of_chexpert_plus_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, column: str, cell: str
) -> None:
    chexpert(tmp_path, row("train", 1, 1, **{column: cell}), row("train", 2, 1))
    said = f"unknown: {column} of 1 studies, first {cell!r} in study patient1_study1"
    assert [line.partition("t.csv: ")[2] for line in caplog.messages] == ([] if cell == "nan" else [said])


def test_a_misspelt_key_and_an_unread_age_of_rexrank_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = record(age="old", context="", contxt="Age:3.")
    del one["context"]
    prepared(tmp_path, a=one, b=record(image_path=["/b.jpg"], key_image_path="/b.jpg", frontal_lateral=["lateral"]))
    assert [line.partition(".json: ")[2] for line in caplog.messages] == [
        "unknown: age of 1 studies, first 'old' in study a",
        "contxt of 1 studies is not read (did you mean context?)",
    ]


@pytest.mark.parametrize(
    ("context", "told"),
    [("History: Cough.", True), ("Gender:F.Age:60.", True), ("", False), (" ", False), ("Indication: Cough.", False)],
)
def test_a_context_of_another_form_is_told(
    context: str, told: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepared(tmp_path, a=record(context=context))
    said = f"unknown: context of 1 studies, first {context!r} in study a"
    assert [line.partition(".json: ")[2] for line in caplog.messages] == [said] * told


@pytest.mark.parametrize("text", ["___", " ___ . ", "XXXX. XXXX", "-", "nan"])
def test_a_text_of_nothing_but_what_was_taken_out_is_none(tmp_path: Path, text: str) -> None:
    bare = record(section_findings=text, section_impression=text, image_path=["/c.jpg"], key_image_path="/c.jpg")
    done = prepare_rexrank(rexrank_file(tmp_path / "t.json", a=record(), c=bare), Output(tmp_path / "a.json"))
    assert (set(studies(done)), done.skipped) == ({"a"}, {"no text": 1})
