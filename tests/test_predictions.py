"""Files of predictions and references: each format reads the same, and what is wrong is named with its place."""

import csv
import json
from pathlib import Path

import pytest

from r2gengpt.errors import InputError
from r2gengpt.evaluation.predictions import (
    read_predictions,
    read_reference_file,
    read_references,
    read_train_reports,
    write_predictions,
)
from r2gengpt.report import Report

TEXTS = {"s1": 'Clear, "normal" lungs.', "s2": "Small effusion.\nNo pneumothorax. 肺"}
ANNOTATION = {
    "train": [{"id": "t", "report": "Train report."}],
    "val": [],
    "test": [{"id": study, "report": text} for study, text in TEXTS.items()],
}
CSV = 'Study ID,report\r\ns1,"Clear, ""normal"" lungs."\r\ns2,"Small effusion.\nNo pneumothorax. 肺"\r\n'
FORMS = {
    "lines.jsonl": "\n".join(json.dumps({"id": k, "prediction": v, "reference": v}) for k, v in TEXTS.items()) + "\n\n",
    "one_list.json": json.dumps([{"id": k, "report": v} for k, v in TEXTS.items()]),
    "original.json": json.dumps({k: [v] for k, v in TEXTS.items()}, ensure_ascii=False),
    "plain.json": json.dumps(TEXTS, indent=2),
    "table.csv": CSV,
    "with_bom.csv": "\ufeff" + CSV.replace("Study ID", "id"),
}


def put(folder: Path, text: str, name: str = "file") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("name", FORMS)
def test_every_format_reads_as_the_same_texts(name: str, tmp_path: Path) -> None:
    path = put(tmp_path, FORMS[name], name)
    assert read_predictions(path) == TEXTS
    assert read_references(path) == {study: (text,) for study, text in TEXTS.items()}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "predictions.jsonl"
    write_predictions(path, [Report(k, v, f"reference of {k}", 5, -0.5) for k, v in TEXTS.items()])
    assert read_predictions(path) == TEXTS
    assert read_references(path) == {"s1": ("reference of s1",), "s2": ("reference of s2",)}
    assert [p.name for p in path.parent.iterdir()] == ["predictions.jsonl"]


@pytest.mark.parametrize("bad", [[Report("a", "x"), Report("a", "y")], [Report("a", "x", logprob=float("nan"))]])
def test_a_failed_write_leaves_the_old_file(bad: list[Report], tmp_path: Path) -> None:
    path = put(tmp_path, "old")
    with pytest.raises(ValueError):
        write_predictions(path, bad)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    put(tmp_path, "a file")
    with pytest.raises(InputError, match=r"file/predictions\.jsonl"):
        write_predictions(tmp_path / "file" / "predictions.jsonl", [Report("a", "x")])


def test_a_split_of_an_annotation_is_its_references(tmp_path: Path) -> None:
    path = put(tmp_path, json.dumps(ANNOTATION))
    assert read_references(path) == {study: (text,) for study, text in TEXTS.items()}
    assert read_references(path, "train") == {"t": ("Train report.",)}
    assert read_train_reports(path) == ["Train report."]


def test_several_references_of_a_study_are_all_read(tmp_path: Path) -> None:
    assert read_references(put(tmp_path, '{"a": ["x", "y"]}')) == {"a": ("x", "y")}


def test_ids_that_are_numbers_are_read_as_texts(tmp_path: Path) -> None:
    assert read_predictions(put(tmp_path, '{"study_id": 7, "report": "x"}')) == {"7": "x"}


def test_the_prediction_column_wins_over_a_report_column(tmp_path: Path) -> None:
    path = put(tmp_path, "id,report,prediction\na,human,machine\n")
    assert read_predictions(path) == {"a": "machine"}
    assert read_references(path) == {"a": ("human",)}


@pytest.mark.parametrize("ids", [("A-1", "a_1"), ("s1", "S1"), ("id ", "ID")])
def test_texts_by_study_keep_ids_apart_that_columns_would_not(ids: tuple[str, str], tmp_path: Path) -> None:
    texts = {study: [f"text of {study}"] for study in ids}
    assert read_predictions(put(tmp_path, json.dumps(texts))) == {study.strip(): texts[study][0] for study in ids}


def test_a_split_that_is_null_is_as_one_that_is_not_there(tmp_path: Path) -> None:
    path = put(tmp_path, json.dumps({**ANNOTATION, "val": None}))
    assert read_train_reports(path) == ["Train report."]
    assert read_references(path).keys() == TEXTS.keys()
    with pytest.raises(InputError, match=r"no studies in split val; it has train \(1\), test \(2\)$"):
        read_references(path, "val")
    with pytest.raises(InputError, match="no studies in split train"):
        read_train_reports(put(tmp_path, json.dumps({**ANNOTATION, "train": None})))


def test_an_empty_prediction_is_a_prediction(tmp_path: Path) -> None:
    assert read_predictions(put(tmp_path, '{"a": ""}')) == {"a": ""}


def test_a_line_of_ten_megabytes_is_read(tmp_path: Path) -> None:
    long = "word " * 2_000_000
    assert read_predictions(put(tmp_path, json.dumps({"id": "a", "prediction": long}))) == {"a": long}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "predictions .*file: is empty"),
        (" \n", "is empty"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", r"\[0\]: must be an object, is 1"),
        ("[]", "holds no studies"),
        ("{}", "holds no studies"),
        ("id,report\n", "holds no studies"),
        ("1234", "holds no studies"),
        ("id,words\na,b\n", "line 2: needs one of prediction, hypothesis, .*; it has id, words"),
        ("name,report\na,b\n", "line 2: needs one of id, study_id, .*; it has name, report"),
        ("id,report\na\n", "line 2 is cut off: has 1 of 2 fields"),
        ("id,report\na,one, two\n", "line 2: has more fields than the header"),
        ('id,report\na,"x\n', "not CSV after line 1"),
        ("id,report\na,x\nb,y\na,z\n", "line 4: study a is given twice"),
        ('{"a": "x", "a": "y"}', "a is given twice"),
        ('{"id": "a", "prediction": "x"}\n{"id": "a", "prediction": "y"}', "line 2: study a is given twice"),
        ('{"id": "a", "prediction": "x"}\nnonsense', "line 2: not JSON"),
        ('{"id": "a", "report": "x"}\n{"id": "b", "report": "y", "report": ""}', "line 2: report is given twice"),
        ('{"id": "a", "prediction": NaN}', "study a: must be a text, is NaN"),
        ('{"id": "a", "prediction": 5}', "study a: must be a text, is 5"),
        ('{"a": ["x", "y"]}', "study a has 2 predictions, must have one"),
        ('{"a": []}', "study a has 0 predictions, must have one"),
        ('{"a": [["x"]]}', "study a: must be a text"),
        ('{"a": "\\ud800"}', "half a surrogate pair"),
        ('{"\\ud800": "x"}', "half a surrogate pair"),
        ('{"id": "\\udfff", "prediction": "x"}', "half a surrogate pair"),
        (json.dumps(ANNOTATION), "is an annotation file"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line_that_says_where(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_predictions(put(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_text_of_a_csv_file_may_be_as_long_as_one_of_json(tmp_path: Path) -> None:
    long = "word " * 200_000
    limit = csv.field_size_limit()
    assert read_predictions(put(tmp_path, f'id,report\na,"{long}"\n')) == {"a": long}
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
@pytest.mark.parametrize("name", ["lines.jsonl", "table.csv"])
def test_a_file_in_another_encoding_is_refused(encoding: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(FORMS[name].replace("肺", "é").replace("\\u80ba", "é").encode(encoding))
    with pytest.raises(InputError, match=r"not UTF-8|not JSON|not CSV|NUL"):
        read_predictions(path)


@pytest.mark.parametrize("name", ["lines.jsonl", "one_list.json", "original.json", "plain.json", "table.csv"])
def test_a_file_that_was_cut_is_refused_wherever_it_ends_inside_a_text(name: str, tmp_path: Path) -> None:
    whole = FORMS[name].rstrip()
    for end in range(whole.index("Small") + 1, whole.index("thorax")):
        with pytest.raises(InputError):
            read_predictions(put(tmp_path, whole[:end], name))


def test_patients_are_read_with_references(tmp_path: Path) -> None:
    forms = {
        "a.csv": "id,report,Subject ID\ns1,x,7\ns2,y,8\n",
        "a.jsonl": '{"id": "s1", "report": "x", "patient": 7}\n{"id": "s2", "report": "y", "patient": "8"}',
        "a.json": '{"test": [{"id": "s1", "report": "x", "subject_id": 7}, {"id": "s2", "report": "y", "patient": 8}]}',
    }
    for name, text in forms.items():
        found = read_reference_file(put(tmp_path, text, name))
        assert (found.patients, list(found.texts)) == ({"s1": "7", "s2": "8"}, ["s1", "s2"])
    blank = read_reference_file(put(tmp_path, "id,report,patient,subject_id\ns1,x,,\ns2,y, ,3\n"))
    assert blank.patients == {"s2": "3"}


@pytest.mark.parametrize(
    "text",
    [
        "id,report,pateint_id\ns1,x,7\n",
        "id,report,Patient-ids\ns1,x,7\n",
        '{"s1": {"report": "x", "subjectid": 7}}',
        '{"test": [{"id": "s1", "report": "x", "patients": 7}]}',
    ],
)
def test_a_patient_under_a_misspelt_name_is_told(text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_reference_file(put(tmp_path, text)).patients == {}
    assert "of 1 studies is not read (did you mean " in caplog.text


def test_other_facts_of_a_patient_are_no_misspelt_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_reference_file(put(tmp_path, "id,report,patient_age,Patient-Sex,part\ns1,x,7,F,a\n"))
    read_reference_file(put(tmp_path, "id,report,patient,subject\ns1,x,7,F\n"))
    assert not caplog.messages


@pytest.mark.parametrize("value", ["NaN", "1.5", "true", "[1]"])
def test_a_patient_that_is_no_text_is_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="study a: patient must be a text"):
        read_reference_file(put(tmp_path, f'{{"id": "a", "report": "x", "patient": {value}}}'))


def test_a_patient_is_written_where_it_is_known(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write_predictions(path, [Report("a", "x", "y", patient="7"), Report("b", "x", "y")])
    assert [json.loads(line).get("patient") for line in path.read_text().splitlines()] == ["7", None]
    assert read_reference_file(path).patients == {"a": "7"}


def test_a_missing_file_a_directory_and_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"id,report\n\xff\xfe")
    for path, message in ((tmp_path / "none", "No such file"), (tmp_path, "directory"), (binary, "not UTF-8")):
        with pytest.raises(InputError, match=message):
            read_predictions(path)


def test_a_split_that_is_missing_or_empty_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    path = put(tmp_path, json.dumps(ANNOTATION))
    with pytest.raises(InputError, match=r"no studies in split val; it has train \(1\), val \(0\), test \(2\)"):
        read_references(path, "val")


def test_an_annotation_record_without_a_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"test\[0\] has no report"):
        read_references(put(tmp_path, '{"test": [{"id": "a"}]}'))


def test_the_train_file_must_be_an_annotation(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train .*must be an annotation file"):
        read_train_reports(put(tmp_path, '{"a": "x"}'))
