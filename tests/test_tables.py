"""CSV and JSON that users give are read whole or refused: no cell, column or key is lost in silence."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from batch_parts import archive
from conftest import Outcome
from r2gengpt.batch.listing import read_listing
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.strict import read_table
from r2gengpt.errors import InputError
from r2gengpt.evaluation.predictions import read_predictions, read_references

SURPLUS, MISSING = "has more fields than the header", "is cut off: has 1 of 2 fields"
BAD_TABLES = {
    "surplus cell": ("id,image\n1,a.png,b.png\n", f"line 2: {SURPLUS}"),
    "surplus cell in the last row": ("id,image\n1,a.png\n2,b.png\n3,a.png,b.png", f"line 4: {SURPLUS}"),
    "missing cell": ("id,image\n1,a.png\n2\n", f"line 3 {MISSING}"),
    "missing cell after empty lines": ("\nid,image\n\n\n2\n", f"line 5 {MISSING}"),
    "surplus empty cell": ("id,image\n1,a.png,\n", f"line 2: {SURPLUS}"),
    "surplus cell after a cell of two lines": ('id,image\n"1\n",a.png\n2,a.png,b.png\n', f"line 4: {SURPLUS}"),
    "cell under no column": ("id,image,\n1,a.png,b.png\n", "line 2: a field that holds something stands under no"),
    "column twice": ("id,image,image\n1,a.png,b.png\n", "line 1: column image is given twice"),
    "quote without end": ('id,image\n1,a.png\n2,"b.png\n', "not CSV after line 2"),
    "semicolons": ("id;image\n1;a.png\n", "line 1: its columns are separated by semicolons, must be by commas"),
    "tabs": ("id\timage\n1\ta.png,b.png\n", "line 1: its columns are separated by tabs"),
    "nothing": ("\n\n", "is empty"),
}


@pytest.mark.parametrize("kind", BAD_TABLES)
def test_a_table_that_would_lose_a_cell_is_refused_by_its_line(kind: str) -> None:
    text, message = BAD_TABLES[kind]
    with pytest.raises(InputError) as refusal:
        list(read_table(text.splitlines(keepends=True), "input list.csv").rows)
    assert message in str(refusal.value)
    assert str(refusal.value).startswith("input list.csv")


def test_columns_without_a_name_may_be_empty() -> None:
    table = read_table(["id,image,,\n", "1,a.png,, \n"], "t")
    assert [row.cells for row in table.rows] == [{"id": "1", "image": "a.png"}]


@pytest.mark.parametrize("kind", BAD_TABLES)
def test_batch_refuses_each_such_list_of_films(kind: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(BAD_TABLES[kind][0])
    with pytest.raises(InputError, match=r"^input .*list\.csv"):
        read_listing(tmp_path / "list.csv", None, "all")


def test_batch_reads_csv_and_json_by_their_bytes_packed_or_not(tmp_path: Path) -> None:
    archive(tmp_path, 1)
    (tmp_path / "list.txt").write_text("ID, Image Path\n7,study00000/0.png\n")
    (tmp_path / "packed.csv").write_bytes(gzip.compress(b"study_id,images\n7,study00000/0.png\n"))
    study = {"id": 7, "report": "", "image_path": ["study00000/0.png"]}
    (tmp_path / "annotation.csv").write_text(json.dumps({"test": [study]}))
    for name in ("list.txt", "packed.csv", "annotation.csv"):
        (found,) = read_listing(tmp_path / name, str(tmp_path), "all").studies
        assert (found.id, [image.path for image in found.images]) == ("7", ["study00000/0.png"])


@pytest.mark.parametrize("header", ["id,image_path,image", "id,images,image_path", "id,study_id,image", "id,ID,image"])
def test_batch_refuses_two_columns_of_one_meaning(header: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"{header}\n1,a.png,b.png\n")
    with pytest.raises(InputError, match=r"line 1: .*leave one out"):
        read_listing(tmp_path / "list.csv", None, "all")


@pytest.mark.parametrize("name", ["image2", "Image Path 2", "images_1", "image-path-1"])
def test_batch_refuses_a_column_of_further_images(name: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"id,image_path,{name}\n1,a.png,b.png\n")
    with pytest.raises(InputError, match="is not read: a study's images stand in one column, with ; between"):
        read_listing(tmp_path / "list.csv", None, "all")


def test_batch_names_splits_of_an_annotation_that_it_does_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = {"report": "x", "image_path": ["a.png"]}
    content = {"test": [{"id": 1, **study}], "validate": [{"id": 2, **study}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with caplog.at_level("INFO", logger="r2gengpt.batch"):
        assert [study.id for study in read_listing(tmp_path / "a.json", None, "all").studies] == ["1"]
    assert "splits that are not read: validate" in caplog.text


def test_score_names_the_flag_that_was_given(run_cli: Callable[[list[str]], Outcome], tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("id,prediction\na,x\n")
    (tmp_path / "empty").write_text("")
    for argv in (["--predictions", "empty"], ["--predictions", "p.csv", "--references", "empty"]):
        words = [word if word.startswith("--") else str(tmp_path / word) for word in argv]
        outcome = run_cli(["score", *words])
        assert (outcome.code, outcome.stderr) == (2, f"r2gengpt score: {argv[-2]} {tmp_path / 'empty'}: is empty\n")


SAME_MEANING = [
    ("prediction", "generated"),
    ("hypothesis", "generated_report"),
    ("Prediction", "prediction "),
    ("report", "text"),
    ("caption", "text"),
]


@pytest.mark.parametrize("names", SAME_MEANING)
@pytest.mark.parametrize("form", ["csv", "jsonl", "json"])
def test_predictions_with_two_texts_are_refused(names: tuple[str, str], form: str, tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_text(two_values(("id", *names), ("a", "Clear.", "Effusion."), form))
    with pytest.raises(InputError, match=r"leave one out|given twice"):
        read_predictions(path)


@pytest.mark.parametrize("names", [("reference", "ground_truth"), ("report", "caption"), ("Reference", "reference")])
@pytest.mark.parametrize("form", ["csv", "jsonl", "json"])
def test_references_with_two_texts_are_refused(names: tuple[str, str], form: str, tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text(two_values(("id", *names), ("a", "Clear.", "Effusion."), form))
    with pytest.raises(InputError, match=r"leave one out|given twice"):
        read_references(path)


@pytest.mark.parametrize("names", [("id", "study_id"), ("uid", "study_id"), ("image_id", "dicom_id"), ("id", "ID")])
@pytest.mark.parametrize("form", ["csv", "jsonl", "json"])
def test_two_ids_of_one_study_are_refused(names: tuple[str, str], form: str, tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_text(two_values((*names, "prediction"), ("a", "b", "Clear."), form))
    with pytest.raises(InputError, match=r"leave one out|given twice"):
        read_predictions(path)


def two_values(names: tuple[str, ...], values: tuple[str, ...], form: str) -> str:
    """A file of one study with these columns or keys."""
    if form == "csv":
        return f"{','.join(names)}\n{','.join(values)}\n"
    record = json.dumps(dict(zip(names, values, strict=True)))
    return record if form == "jsonl" else f"[{record}]"


def test_a_study_that_names_two_patients_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("id,report,patient,subject_id\na,Clear.,7,8\n")
    with pytest.raises(InputError, match="name different patients"):
        read_references(tmp_path / "r.csv")
    study = {"id": 1, "report": "x", "image_path": ["a.png"], "patient": 7}
    (tmp_path / "a.json").write_text(json.dumps({"test": [{**study, "subject_id": "7"}]}))
    assert read_annotation(tmp_path / "a.json", tmp_path, ("test",))["test"][0].patient == "7"
    (tmp_path / "a.json").write_text(json.dumps({"test": [{**study, "subject_id": 8}]}))
    with pytest.raises(InputError, match="patient and subject_id name different patients"):
        read_annotation(tmp_path / "a.json", tmp_path, ("test",))


ID_VALUES = {"7": "7", '"7"': "7", '" 7 "': "7", "7.0": None, "true": None, "null": None, "[7]": None, '" "': None}


@pytest.mark.parametrize("value", ID_VALUES)
def test_an_id_is_a_text_or_a_whole_number_for_every_reader(value: str, tmp_path: Path) -> None:
    """`train`, `test` and `batch` read annotations; `score` and `compare` read them too, and other forms."""
    record = f'{{"id": {value}, "report": "Clear.", "image_path": ["a.png"]}}'
    (tmp_path / "annotation.json").write_text(f'{{"test": [{record}]}}')
    (tmp_path / "lines.jsonl").write_text(record)
    readers: list[Callable[[], list[str]]] = [
        lambda: [study.id for study in read_annotation(tmp_path / "annotation.json", tmp_path, ("test",))["test"]],
        lambda: [study.id for study in read_listing(tmp_path / "annotation.json", str(tmp_path), "all").studies],
        lambda: list(read_references(tmp_path / "annotation.json")),
        lambda: list(read_predictions(tmp_path / "lines.jsonl")),
    ]
    for read in readers:
        if (wanted := ID_VALUES[value]) is not None:
            assert read() == [wanted]
        else:
            with pytest.raises(InputError, match=r"\bid\b"):
                read()


def test_ids_that_are_one_as_texts_are_refused(tmp_path: Path) -> None:
    study = {"report": "Clear.", "image_path": ["a.png"]}
    (tmp_path / "a.json").write_text(json.dumps({"test": [{"id": 7, **study}, {"id": "7", **study}]}))
    with pytest.raises(InputError, match="id 7 occurs twice"):
        read_annotation(tmp_path / "a.json", tmp_path, ("test",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"test": [], "test": []}', "test is given twice"),
        ('{"test": [{"id": "a", "report": "x", "report": "y", "image_path": ["a.png"]}]}', "report is given twice"),
    ],
)
def test_an_annotation_that_gives_a_key_twice_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    for read in (lambda path: read_annotation(path, tmp_path, ("test",)), lambda path: read_listing(path, None, "all")):
        with pytest.raises(InputError, match=message):
            read(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"bootstrap": 0, "bootstrap": 1}', "bootstrap is given twice"),
        ('{"max_length": 1, "max-length": 2}', "max_length and max-length are one setting"),
    ],
)
def test_a_config_file_that_gives_a_setting_twice_is_refused(
    text: str, message: str, run_cli: Callable[[list[str]], Outcome], tmp_path: Path
) -> None:
    (tmp_path / "c.json").write_text(text)
    outcome = run_cli(["score", "--config", str(tmp_path / "c.json")])
    assert (outcome.code, outcome.stdout) == (2, "")
    assert message in outcome.stderr
