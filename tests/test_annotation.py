"""The annotation file: what is read, what is refused with which words, what is written."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2gengpt.data.annotation import check_images, missing_images, read_annotation, write_annotation
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError


def record(name: str = "a", **changes: Any) -> dict[str, Any]:
    return {"id": name, "report": "Clear lungs.", "image_path": [f"{name}/0.png"], "split": "train", **changes}


def save(directory: Path, content: Any) -> Path:
    path = directory / "annotation.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def splits(*train: Any, **others: Any) -> dict[str, Any]:
    return {"train": list(train), "val": [], "test": [], **others}


def message(directory: Path, content: Any, **arguments: Any) -> str:
    path = save(directory, content)
    with pytest.raises(InputError) as caught:
        read_annotation(path, directory / "images", **arguments)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_studies_are_read_split_by_split(tmp_path: Path) -> None:
    first = record("a", indication="Cough.", findings="F.", impression="I.", views=["PA"], extra=1)
    path = save(tmp_path, splits(first, record("b"), val=[record("c", image_path=["c/0.png", "./c//1.png"])]))
    studies = read_annotation(path, tmp_path)
    base = tmp_path.resolve()
    assert studies["train"][0] == Study(
        "a", (base / "a/0.png",), "Clear lungs.", "train", "Cough.", "F.", "I.", ("PA",)
    )
    assert [s.id for s in studies["train"]] == ["a", "b"]
    assert studies["val"][0].image_paths == (base / "c/0.png", base / "c/1.png")
    assert studies["val"][0].split == "val"
    assert studies["test"] == ()


@pytest.mark.parametrize(
    ("fields", "patient"),
    [
        ({"patient": "P7"}, "P7"),
        ({"subject_id": 10000032}, "10000032"),
        ({"patient": " ", "subject_id": 5}, "5"),
        ({"patient": None}, ""),
        ({}, ""),
    ],
)
def test_a_study_knows_its_patient_where_the_file_does(fields: dict[str, Any], patient: str, tmp_path: Path) -> None:
    studies = read_annotation(save(tmp_path, splits(record(**fields))), tmp_path)
    assert studies["train"][0].patient == patient


@pytest.mark.parametrize(("name", "prior"), [(1, 1), (1, "1"), ("1", 1), (" 1", "1 "), (0, 0)])
def test_a_prior_is_a_text_or_a_whole_number_as_ids_are(
    name: Any, prior: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path, splits(record("b", prior=prior), test=[record() | {"id": name}]))
    (study,) = read_annotation(path, tmp_path)["train"]
    assert study.earlier is not None
    assert study.earlier.id == study.prior == str(name).strip()
    assert caplog.messages == []


@pytest.mark.parametrize("value", [1.5, True, ["P7"]])
@pytest.mark.parametrize("key", ["patient", "prior"])
def test_a_patient_or_prior_that_is_no_text_or_whole_number_is_refused(key: str, value: Any, tmp_path: Path) -> None:
    assert f"{key} is" in message(tmp_path, splits(record(**{key: value})))


def test_only_the_splits_asked_for_are_needed_and_returned(tmp_path: Path) -> None:
    path = save(tmp_path, {"test": [record("a", report="")]})
    assert list(read_annotation(path, tmp_path, ("test",))) == ["test"]


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "annotation.json"
    path.write_text(json.dumps(splits(record())), encoding="utf-8-sig")
    assert read_annotation(path, tmp_path)["train"][0].id == "a"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([], "must hold a JSON object, holds a list"),
        ({"train": [], "val": []}, "has no split test, only train, val"),
        ({}, "has no split train, only nothing"),
        (splits(val={}), "val is {}, must be a list"),
        (splits(record(), 7), "train study 1 is 7, must be an object"),
        (splits({"report": "x", "image_path": ["a.png"]}), "train study 0 has no id"),
        (splits({"id": "a", "image_path": ["a.png"]}), "train study 0 (a) has no report"),
        (splits({"id": "a", "report": "x"}), "train study 0 (a) has no image_path"),
        (splits(record(id=3.5)), "train study 0: id is 3.5, must be a text"),
        (splits(record(id=True)), "train study 0: id is true, must be a text"),
        (splits(record(id=3), record(id="3")), "id 3 occurs twice (in train and train)"),
        (splits(record(id=" ")), "train study 0: id is empty"),
        (splits(record(report=None)), "(a): report is null, must be a text"),
        (splits(record(report="  ")), "(a): report is empty"),
        (splits(val=[record(report="")]), "val study 0 (a): report is empty"),
        (splits(record(image_path="a.png")), '(a): image_path is "a.png", must be a list'),
        (splits(record(image_path=[])), "(a): image_path is an empty list"),
        (splits(record(image_path=["x.png", None])), "image_path item is null, must be a text"),
        (splits(record(image_path=[""])), "image path '' names no file"),
        (splits(record(image_path=["./"])), "image path './' names no file"),
        (splits(record(image_path=["a\0.png"])), "names no file"),
        (splits(record(image_path=["/etc/passwd"])), "/etc/passwd is absolute"),
        (splits(record(image_path=["../a.png"])), "../a.png holds '..'"),
        (splits(record(image_path=["a/../b.png"])), "a/../b.png holds '..'"),
        (splits(record(image_path=["..\\a.png"])), "..\\a.png holds '..'"),
        (splits(record(views=[1])), "views item is 1, must be a text"),
        (splits(record(views=["PA", "AP"])), "(a): views has 2 items, must have one for each image (1) or none"),
        (splits(record(prior_days=10**400)), "prior_days is 1000"),
        (splits(record(prior_days=50_001)), "(a): prior_days is 50001, must be a number from 0 to 50000"),
        (splits(record(labels={"Edema": 10**400})), "label Edema is 1000"),
        (splits(record(boxes=[["Edema", 10**400, 0, 1, 1]])), "must be [observation, left, top, width"),
        (splits(record(patient=7.0)), "(a): patient is 7.0, must be a text or a whole number"),
        (splits(record(findings=[])), "findings is [], must be a text"),
        (splits(record(report="half \ud83d pair")), "report holds half a surrogate pair"),
        (splits(record("a"), record("a")), "id a occurs twice (in train and train)"),
        (splits(record("a"), test=[record("b"), record("a")]), "id a occurs twice (in train and test)"),
    ],
)
def test_a_wrong_annotation_is_refused_in_one_line(tmp_path: Path, content: Any, words: str) -> None:
    assert words in message(tmp_path, content)


def test_a_wrong_prior_of_a_split_not_asked_for_is_named_by_its_own_place(tmp_path: Path) -> None:
    content = splits(record(prior="c"), test=[record("b"), record("c", report=5)])
    assert "prior c: test study 1 (c): report is 5" in message(tmp_path, content, splits=("train",))


def test_an_id_that_is_also_in_a_split_not_asked_for_is_refused(tmp_path: Path) -> None:
    text = message(tmp_path, splits(record("a"), test=[record("a")]), splits=("test",))
    assert "id a occurs twice (in test and train)" in text


def test_a_missing_file_is_refused_by_name_and_flag(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^split_from .*nowhere.json: No such file"):
        read_annotation(tmp_path / "nowhere.json", tmp_path, field="split_from")


def test_a_directory_is_no_annotation(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is a directory"):
        read_annotation(tmp_path, tmp_path)


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "annotation.json"
    path.write_bytes(b'{"train": "\xff"}')
    with pytest.raises(InputError, match="not UTF-8 text"):
        read_annotation(path, tmp_path)


@pytest.mark.parametrize("link", ["images/a/0.png", "images/a"])
def test_a_symbolic_link_out_of_the_base_directory_is_refused(tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "0.png").touch()
    (tmp_path / link).parent.mkdir(parents=True)
    (tmp_path / link).symlink_to(outside if link.endswith("a") else outside / "0.png")
    text = message(tmp_path, splits(record("a")))
    assert "a/0.png leads through a symbolic link outside base_dir" in text


def test_a_directory_whose_name_begins_like_the_base_is_outside(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images2").mkdir()
    (tmp_path / "images2" / "0.png").touch()
    (tmp_path / "images" / "0.png").symlink_to(tmp_path / "images2" / "0.png")
    assert "symbolic link" in message(tmp_path, splits(record("a", image_path=["0.png"])))


def test_links_inside_and_a_linked_base_directory_are_fine(tmp_path: Path) -> None:
    (tmp_path / "real" / "a").mkdir(parents=True)
    (tmp_path / "real" / "b").symlink_to(tmp_path / "real" / "a")
    (tmp_path / "images").symlink_to(tmp_path / "real")
    studies = read_annotation(save(tmp_path, splits(record("b"))), tmp_path / "images")
    assert studies["train"][0].image_paths == ((tmp_path / "real/a/0.png").resolve(),)


def test_a_path_of_as_many_folders_as_systems_allow_is_read(tmp_path: Path) -> None:
    path = "a/" * 1900 + "0.png"
    (study,) = read_annotation(save(tmp_path, splits(record(image_path=[path]))), tmp_path)["train"]
    assert study.image_paths == (tmp_path.resolve() / path,)


def test_missing_images_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").touch()
    studies = read_annotation(save(tmp_path, splits(record("a"), record("b"), record("c"))), tmp_path)["train"]
    assert [path.parent.name for path in missing_images(studies)] == ["b", "c"]
    with pytest.raises(InputError, match=r"^base_dir: no image file .*b/0.png \(2 of 3 are missing\)"):
        check_images(studies)
    check_images(studies[:1])


def test_what_is_written_reads_back_equal(tmp_path: Path) -> None:
    base = (tmp_path / "images").resolve()
    study = Study(
        "a", (base / "a/0.png", base / "a/1.png"), "Clear – é.", "train", "Cough.", "F.", "", ("PA", "LL"), "P7"
    )
    path = tmp_path / "deep" / "annotation.json"
    write_annotation(path, {"train": [study], "val": [], "test": []}, base)
    assert read_annotation(path, base)["train"] == (study,)
    stored = json.loads(path.read_text(encoding="utf-8"))["train"][0]
    assert stored["image_path"] == ["a/0.png", "a/1.png"]
    assert "impression" not in stored


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "annotation.json"
    path.write_text("old")
    good, bad = (Study(name, (Path("a.png"),), text) for name, text in (("a", "Clear." * 9999), ("b", "\ud83d")))
    with pytest.raises(InputError, match=r"^train study b holds half a surrogate pair"):  # deep in the file
        write_annotation(path, {"train": [good, bad]})
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["annotation.json"]


def test_a_target_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^output .*annotation\.json: "):
        write_annotation(tmp_path / "file" / "annotation.json", {"train": []})
    (tmp_path / "annotation.json").mkdir()
    with pytest.raises(InputError, match=r"^output .*annotation\.json: "):
        write_annotation(tmp_path / "annotation.json", {"train": []})
    assert sorted(os.listdir(tmp_path)) == ["annotation.json", "file"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "report", "image_path", "train", "val", "test", "views"]), inner)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_any_json_is_read_or_refused_with_an_input_error(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = save(tmp_path_factory.getbasetemp(), value)
    try:
        studies = read_annotation(path, path.parent)
    except InputError:
        return
    assert set(studies) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (splits(record(lables={"Edema": 1})), "lables of 1 studies is not read (did you mean labels?)"),
        (splits(record(), record("b", Views=["PA"])), "Views of 1 studies is not read (did you mean views?)"),
        (splits(record(indicaton="Cough"), val=[record("b", indicaton="Cough")]), "indicaton of 2 studies is not read"),
        (splits(record(pateint="7")), "pateint of 1 studies is not read (did you mean patient?)"),
        (splits(record(prior="gone")), "has no such study: prior of 1 studies, first gone of a"),
        (
            splits(record(patient="p"), record("b", patient="p"), test=[record("c", patient="p")]),
            "1 patients or films are in two splits, which makes scores too good: first patient p in test and train",
        ),
        (splits(record(subject_id=7), val=[record("b", patient="7")]), "first patient 7 in train and val"),
        (splits(record(), val=[record("b", image_path=["a/0.png"])]), "first film a/0.png in train and val"),
    ],
)
def test_what_is_hardly_meant_is_told_once(
    tmp_path: Path, content: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path, content)
    for wanted in ("train", "val"):  # as a command that reads both
        read_annotation(path, tmp_path, (wanted,))
    (line,) = caplog.messages
    assert line.startswith(f"`annotation` {path}: ")
    assert said in line


def test_an_annotation_as_others_write_it_is_read_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    r2gen = record("a", study_id=5, subject_id=7, dicom_id="x")
    ours = record("b", views=["PA"], patient="8", prior="c", age=6, sex="F", note="", site="x")
    read_annotation(save(tmp_path, splits(r2gen, ours, record("c", patient="8"))), tmp_path)
    assert caplog.messages == []
