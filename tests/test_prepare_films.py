"""Films with labels to an annotation file: what each source's labels say, who is held out, what is refused."""

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import Outcome
from r2gengpt.data.annotation import Preparation, read_annotation
from r2gengpt.data.boxes import Marked
from r2gengpt.data.prepare.film_table import age_in, read_films, view_named
from r2gengpt.data.prepare.films import drawn_split, prepare_films, splits_of
from r2gengpt.data.prepare.places import Place, places_in
from r2gengpt.data.prepare.sources import KNOWN_SOURCES, NIH14, film_labels, rule_of
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError

Run = Callable[[list[str]], Outcome]
GENERAL = (
    "image",
    "source",
    "patient",
    "group",
    "split",
    "view",
    "age",
    "sex",
    "labels",
    "text",
    "boxes",
    "width",
    "height",
)
NIH_HEAD = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
)


def table(directory: Path, *rows: dict[str, Any], name: str = "films.csv") -> Path:
    """A general table of rows, each with an image of its own unless it names one."""
    path = directory / name
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, GENERAL, restval="")
        writer.writeheader()
        writer.writerows(
            {"image": f"images/{number}.png", "patient": f"p{number}"} | row for number, row in enumerate(rows)
        )
    return path


def studies(done: Preparation) -> dict[str, Study]:
    read = read_annotation(done.path, done.path.parent)
    return {study.id: study for split in read.values() for study in split}


def prepared(directory: Path, *rows: dict[str, Any], **options: Any) -> list[Study]:
    return list(studies(prepare_films(table(directory, *rows), directory / "a.json", **options)).values())


def labels_of(source: str, *words: str, **facts: Any) -> dict[str, float]:
    return dict(film_labels(words, rule_of(source, KNOWN_SOURCES), "row", **facts))


def refusal(directory: Path, *rows: dict[str, Any], **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        prepare_films(table(directory, *rows), directory / "a.json", **options)
    assert "\n" not in str(caught.value)
    assert not (directory / "a.json").exists()
    return str(caught.value)


def test_nih_labels_all_fourteen_and_no_finding() -> None:
    found = labels_of("nih14", "Effusion", "Infiltration", "Nodule")
    assert found.keys() == set(NIH14)
    assert {name for name, value in found.items() if value} == {"Pleural Effusion", "Lung Opacity", "Lung Lesion"}
    normal = labels_of("nih14", "No Finding")
    assert {name for name, value in normal.items() if value} == {"No Finding"}
    assert len(NIH14) == 14


@pytest.mark.parametrize(
    ("source", "word", "note", "known"),
    [
        ("kermany", "normal", "", {"No Finding": 1, "Pneumonia": 0, "Child": 1}),
        ("kermany", "bacterial pneumonia", "", {"No Finding": 0, "Pneumonia": 1, "Child": 1}),
        ("kermany", "viral pneumonia", "", {"No Finding": 0, "Pneumonia": 1, "Child": 1}),
        ("hannover", "COVID-19", "", {"No Finding": 0.1, "Pneumonia": 0.9}),
        ("covid_clean", "Legionella", "Dense consolidation.", {"No Finding": 0.1, "Pneumonia": 0.9}),
        ("covid_clean", "COVID-19", "Normal appearances.", {}),
        ("covid_clean", "COVID-19", "Lungs clear.", {}),
        ("covid_clean", "COVID-19", "The opacities have resolved.", {}),
        ("covid_clean", "COVID-19", "Opacities, as on high-resolution CT.", {"No Finding": 0.1, "Pneumonia": 0.9}),
        ("covid_clean", "No Finding", "CXR: Normal", {"No Finding": 1, "Pneumonia": 0}),
        ("covid_clean", "ARDS", "", {"Lung Opacity": 1, "No Finding": 0}),
        ("covid_clean", "COVID-19, ARDS", "", {"Lung Opacity": 1, "No Finding": 0}),
        ("covid_clean", "todo", "Opacities.", {}),
        ("", "Edema", "", {"Edema": 1, "No Finding": 0}),
        ("elsewhere", "No Finding", "", {"No Finding": 1}),
    ],
)
def test_each_source_says_what_its_rule_says_and_nothing_else(
    source: str, word: str, note: str, known: dict[str, float]
) -> None:
    assert labels_of(source, word, note=note) == known


@pytest.mark.parametrize(
    ("view", "known"),
    [("PA", (0, 0)), ("AP", (0, 1)), ("LATERAL", (1, None)), ("", (None, None))],
)
def test_the_view_is_a_label_where_it_is_known(view: str, known: tuple[float | None, float | None]) -> None:
    found = labels_of("nih14", "No Finding", view=view)
    assert (found.get("Lateral View"), found.get("AP View")) == known


def test_kermanys_view_is_unknown_since_all_its_films_are_ap() -> None:
    assert "AP View" not in labels_of("kermany", "normal", view="AP")


@pytest.mark.parametrize(("age", "child"), [(3.0, 1), (15.9, 1), (16.0, 0), (80.0, 0), (None, None)])
def test_who_is_younger_than_sixteen_is_a_child(age: float | None, child: float | None) -> None:
    assert labels_of("nih14", "No Finding", age=age).get("Child") == child


@pytest.mark.parametrize(
    ("cell", "view"),
    [
        ("pa", "PA"),
        ("AP Supine", "AP"),
        ("ap erect", "AP"),
        ("L", "LATERAL"),
        ("lateral", "LATERAL"),
        ("?", ""),
        ("", ""),
    ],
)
def test_views_are_known_by_their_usual_names(cell: str, view: str) -> None:
    assert view_named(cell) == view


@pytest.mark.parametrize(
    ("cell", "age"),
    [
        ("058Y", 58),
        ("61", 61),
        ("0.5", 0.5),
        ("006M", 0.5),
        ("073D", 0.2),
        ("026W", 0.5),
        ("411", None),
        ("1-5 y", None),
        ("", None),
        ("x", None),
    ],
)
def test_ages_are_years_and_impossible_ones_are_unknown(cell: str, age: float | None) -> None:
    assert age_in(cell) == age


def test_a_general_table_becomes_an_annotation(tmp_path: Path) -> None:
    row = {"image": "images/nih/1_0.jpg", "source": "nih14", "patient": "nih_1", "group": "g1", "split": "val",
           "view": "pa", "age": "61", "sex": "f", "labels": "Edema|Effusion"}  # fmt: skip
    (study,) = prepared(tmp_path, row)
    assert (study.id, study.split, study.patient, study.source) == ("nih_1_0", "val", "nih_1", "nih14")
    assert (study.age, study.sex, study.views, study.report) == (61, "F", ("PA",), "")
    assert study.image_paths == (tmp_path.resolve() / "images/nih/1_0.jpg",)
    assert {name for name, value in study.labels.items() if value} == {"Edema", "Pleural Effusion"}


def write_nih(directory: Path, text: str = "") -> Path:
    path = directory / "Data_Entry_2017.csv"
    path.write_text(
        text
        or NIH_HEAD
        + "00000001_000.png,Cardiomegaly|Emphysema,000,1,058Y,M,PA,2682,2749,0.143,0.143,\n"
        "00000001_001.png,No Finding,001,1,059Y,M,AP,2682,2749,0.143,0.143,\n"
        "00000002_000.png,Hernia,000,2,414Y,F,PA,2682,2749,0.143,0.143,\n",
        encoding="utf-8",
    )
    return path


def test_nihs_own_table_is_read(tmp_path: Path) -> None:
    found = studies(prepare_films(write_nih(tmp_path), tmp_path / "a.json"))
    first, last = found["00000001_000"], found["00000002_000"]
    assert (first.patient, first.source, first.age, first.sex, first.views) == ("1", "nih14", 58, "M", ("PA",))
    assert (last.age, last.sex, last.labels["Hernia"], last.labels["No Finding"]) == (None, "F", 1, 0)
    assert first.labels["Cardiomegaly"] == first.labels["Emphysema"] == 1
    assert first.split == found["00000001_001"].split


def test_a_film_of_nih_has_the_patients_film_before_it_as_its_prior_study(tmp_path: Path) -> None:
    films = ("1_010", "1_002", "1_009", "2_003", "3_x")
    found = prepared(
        tmp_path,
        *({"image": f"nih/{name}.png", "source": "nih14", "patient": name[0], "labels": "Edema"} for name in films),
        {"image": "k/1_001.png", "source": "kermany", "patient": "1", "labels": "normal"},
        {"image": "k/1_002.png", "source": "kermany", "patient": "1", "labels": "normal"},
    )
    priors = {study.id: study.prior for study in found if study.prior}
    assert priors == {"nih_1_009": "nih_1_002", "nih_1_010": "nih_1_009"}
    assert all(study.prior_days is None for study in found)


def test_nihs_newer_table_is_read_too(tmp_path: Path) -> None:
    head = NIH_HEAD.replace("Gender", "Sex").replace(",\n", "\n")
    path = write_nih(tmp_path, head + "00000001_000.png,Mass,0,1,57,M,PA,2682,2749,0.143,0.143\n")
    (study,) = studies(prepare_films(path, tmp_path / "a.json")).values()
    assert (study.age, study.sex, study.labels["Lung Lesion"]) == (57, "M", 1)


def test_nihs_official_lists_hold_their_test_films_out(tmp_path: Path) -> None:
    (tmp_path / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png\n")
    (tmp_path / "test_list.txt").write_text("00000002_000.png\n")
    done = prepare_films(write_nih(tmp_path), tmp_path / "a.json", splits=tmp_path)
    found = studies(done)
    assert found["00000002_000"].split == "test"
    assert {found["00000001_000"].split, found["00000001_001"].split} <= {"train", "val"}
    (tmp_path / "train_val_list.txt").write_text("")
    assert prepare_films(write_nih(tmp_path), tmp_path / "a.json", splits=tmp_path).skipped == {
        "in no list of `splits`": 2
    }
    (tmp_path / "train_val_list.txt").write_text("00000002_000.png")
    with pytest.raises(InputError, match=r"00000002_000\.png is in both lists"):
        prepare_films(write_nih(tmp_path), tmp_path / "a.json", splits=tmp_path)
    with pytest.raises(InputError, match=r"splits .*train_val_list\.txt: No such file"):
        prepare_films(write_nih(tmp_path), tmp_path / "a.json", splits=tmp_path / "none")


def test_films_of_nih_lie_in_the_folders_that_its_archives_unpack_to(tmp_path: Path) -> None:
    for number, name in (("001", "00000001_000"), ("002", "00000002_000")):
        (tmp_path / f"images_{number}/images").mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / f"images_{number}/images/{name}.png")
    done = prepare_films(write_nih(tmp_path), tmp_path / "a.json", images=tmp_path)
    assert done.skipped == {"no image file": 1}
    paths = {path.relative_to(tmp_path.resolve()).as_posix() for s in studies(done).values() for path in s.image_paths}
    assert paths == {"images_001/images/00000001_000.png", "images_002/images/00000002_000.png"}


def test_a_film_of_the_name_that_is_asked_for_comes_before_one_of_another_ending(tmp_path: Path) -> None:
    for name in ("00000001_000.jpg", "images_002/images/00000001_000.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (32, 32)).save(tmp_path / name)
    row = {"image": "00000001_000.png", "labels": "Edema"}
    (study,) = prepared(tmp_path, row, images=tmp_path)
    assert study.image_paths == (tmp_path.resolve() / name,)


def test_each_folder_of_the_twelve_archives_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 13):
        film = tmp_path / "nih" / f"images_{number:03}" / "images" / f"{number:08}_000.png"
        film.parent.mkdir(parents=True)
        Image.new("L", (32, 32)).save(film)
    listed: list[Path] = []
    listing = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: listed.append(path) or listing(path))
    rows = [{"image": f"{number:08}_000.jpg", "labels": "Edema"} for number in range(1, 13)]
    assert (
        sum(prepare_films(table(tmp_path, *rows), tmp_path / "a.json", images=tmp_path / "nih").studies.values()) == 12
    )
    assert len(listed) == len(set(listed)) > 0


def test_a_film_that_comes_under_another_ending_between_two_runs_is_found(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("0.png", "1.jpg"):
        Image.new("L", (32, 32)).save(tmp_path / "images" / name)
        made = prepare_films(
            table(tmp_path, {"labels": "Edema"}, {"labels": "Edema"}), tmp_path / "a.json", images=tmp_path
        )
        assert made.skipped.get("no image file", 0) == int(name == "0.png")


def test_the_drawn_split_is_the_committed_hash() -> None:
    groups = [f"g{number:05d}" for number in range(4000)]
    for group in groups[:300]:
        number = int(hashlib.sha256(group.encode()).hexdigest(), 16) % 100
        assert drawn_split(group) == ("test" if number < 20 else "val" if number < 30 else "train")
    shares = [sum(drawn_split(group) == split for group in groups) / 4000 for split in ("train", "val", "test")]
    assert shares == [pytest.approx(0.7, abs=0.02), pytest.approx(0.1, abs=0.02), pytest.approx(0.2, abs=0.02)]
    assert [drawn_split(name) for name in ("g00000", "g00013", "g00020")] == ["train", "test", "val"]


def test_films_that_are_marked_train_and_drawn_elsewhere_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"labels": "Edema", "split": "train"}] * 40
    found = studies(prepare_films(table(tmp_path, *rows), tmp_path / "a.json"))
    elsewhere = sorted((int(name) for name, study in found.items() if study.split != "train"))
    words = f"marked train, and in val or test by their group: {len(elsewhere)} films, first images/{elsewhere[0]}.png"
    assert [line.endswith(words) for line in caplog.messages] == [True]
    caplog.clear()
    prepare_films(table(tmp_path, *(row | {"split": ""} for row in rows)), tmp_path / "a.json")
    assert caplog.messages == []


def test_a_group_is_never_in_two_splits(tmp_path: Path) -> None:
    rows = [{"group": f"g{number % 40}", "patient": f"p{number % 40}", "labels": "Edema"} for number in range(160)]
    rows[3]["split"] = "val"
    rows[7]["split"] = "test"
    found: dict[str, set[str]] = {}
    for study in prepared(tmp_path, *rows):
        found.setdefault(study.patient, set()).add(study.split)
    assert all(len(splits) == 1 for splits in found.values())
    assert (found["p3"], found["p7"]) == ({"val"}, {"test"})


def test_rows_without_a_group_stay_together_by_patient_and_a_film_of_nobody_is_by_itself(tmp_path: Path) -> None:
    rows = read_films(
        table(
            tmp_path,
            {"patient": "a", "labels": "Edema"},
            {"patient": "a", "labels": "Edema"},
            {"patient": "", "labels": "Edema"},
        )
    )
    assert len(splits_of(rows)) == 2


def test_films_that_are_not_there_are_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "images/0.png")
    done = prepare_films(
        table(tmp_path, {"labels": "Edema"}, {"labels": "Edema"}), tmp_path / "a.json", images=tmp_path
    )
    assert (done.skipped, sum(done.studies.values())) == ({"no image file": 1}, 1)


def test_a_film_of_which_nothing_is_known_is_left_out(tmp_path: Path) -> None:
    done = prepare_films(
        table(tmp_path, {"labels": "Edema"}, {"labels": "todo", "source": "covid_clean"}), tmp_path / "a.json"
    )
    assert done.skipped == {"no known label": 1}


def test_composed_reports_stand_in_the_annotation_and_are_the_same_each_time(tmp_path: Path) -> None:
    rows = [{"source": "kermany", "labels": word} for word in ("normal", "viral pneumonia")]
    first = [study.report for study in prepared(tmp_path, *rows, compose=True)]
    assert all(first)
    assert first == [study.report for study in prepared(tmp_path, *rows, compose=True)]
    others = [[study.report for study in prepared(tmp_path, *rows, compose=True, seed=seed)] for seed in range(1, 4)]
    assert any(other != first for other in others)


def test_a_note_keeps_its_own_sentences(tmp_path: Path) -> None:
    note = "Fever for 3 days. Chest X-ray shows opacities in both lungs. The patient was intubated."
    row = {"source": "covid_clean", "labels": "COVID-19", "text": note}
    (study,) = prepared(tmp_path, row, compose=True)
    assert study.report == "Opacities in both lungs."
    (study,) = prepared(tmp_path, row | {"text": "Fever for 3 days."}, compose=True)
    assert "pneumonia" in study.report.lower()


def test_a_film_with_nothing_to_report_is_left_out_of_composed_annotations(tmp_path: Path) -> None:
    rows = table(tmp_path, {"labels": "Edema"}, {"labels": "todo", "source": "covid_clean", "age": "40"})
    assert prepare_films(rows, tmp_path / "a.json", compose=True).skipped == {"nothing to report": 1}


def boxed(directory: Path, boxes: Any, **fields: Any) -> dict[str, Place]:
    row = {"view": "PA", "source": "nih14", "labels": "Pneumonia", "boxes": json.dumps(boxes)} | fields
    (film,) = read_films(table(directory, row))
    return dict(places_in(film, KNOWN_SOURCES["nih14"].box_size if film.source == "nih14" else None))


@pytest.mark.parametrize(
    ("boxes", "place"),
    [
        ([["Pneumonia", 100, 600, 200, 200]], Place("right", "lower")),
        ([["Pneumonia", 600, 100, 200, 200]], Place("left", "upper")),
        ([["Pneumonia", 600, 400, 200, 150]], Place("left", "mid")),
        ([["Pneumonia", 100, 200, 200, 600]], Place("right")),
        ([["Pneumonia", 100, 600, 200, 200], ["Pneumonia", 600, 600, 200, 200]], Place("both", "lower")),
        ([["Pneumonia", 100, 600, 200, 200], ["Pneumonia", 600, 100, 200, 200]], Place("both")),
        ([["Pneumonia", 400, 600, 200, 200]], None),
        ([["Pneumonia", 2000, 600, 200, 200]], None),
        ([["Pneumonia", -5, 600, 200, 200]], None),
    ],
)
def test_the_side_of_a_box_is_the_patients(boxes: Any, place: Place | None, tmp_path: Path) -> None:
    assert boxed(tmp_path, boxes).get("Pneumonia") == place


def test_a_box_tells_a_place_on_frontal_films_of_known_size_only(tmp_path: Path) -> None:
    box = [["Infiltrate", 100, 600, 200, 200]]
    assert boxed(tmp_path, box) == {"Lung Opacity": Place("right", "lower")}
    assert boxed(tmp_path, box, view="L") == boxed(tmp_path, box, view="") == {}
    assert boxed(tmp_path, box, source="mine") == {}
    assert boxed(tmp_path, [["Edema", 60, 10, 20, 20]], source="mine", width="100", height="100") == {
        "Edema": Place("left", "upper")
    }


@pytest.mark.parametrize("size", ["1024", "1024.0"])
def test_a_box_is_kept_whichever_way_its_films_size_is_written(size: str, tmp_path: Path) -> None:
    box = json.dumps([["Pneumonia", 512, 256, 256, 128]])
    (study,) = prepared(tmp_path, {"labels": "Pneumonia", "boxes": box, "width": size, "height": size})
    assert study.boxes == (Marked("Pneumonia", 0.5, 0.25, 0.25, 0.125),)


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ([100, 100, 50, 50], ""),
        ([100, 100, 50, 50], "0"),
        ([1000, 100, 50, 50], "1024"),
        ([100, 100, 0.001, 50], "1024"),
        ([100, 100, 50, 0.004], "1024"),
    ],
)
def test_boxes_that_are_left_out_are_told_and_never_spoil_the_file(
    box: list[float], size: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept, lost = json.dumps([["Edema", 0, 0, 9, 9]]), json.dumps([["Edema", 0, 0, 9, 9], ["Edema", *box]])
    rows = [{"boxes": kept, "width": "90", "height": "90"}, {"boxes": lost, "width": size, "height": size}]
    made = prepare_films(table(tmp_path, *({"labels": "Edema"} | row for row in rows)), tmp_path / "a.json")
    assert {name: len(study.boxes) for name, study in studies(made).items()} == {"0": 1, "1": int(size == "1024")}
    assert caplog.messages[-1].endswith(
        "left out: boxes of 1 films, which reach off the film or whose film's size is unknown, first of images/1.png"
    )


def test_a_composed_report_tells_the_side_of_the_box(tmp_path: Path) -> None:
    row = {"source": "nih14", "view": "PA", "labels": "Pneumonia", "boxes": '[["Pneumonia", 100, 600, 200, 200]]'}
    (study,) = prepared(tmp_path, row, compose=True)
    assert "in the right lower lung" in study.report


def test_further_sources_have_rules_of_their_own(tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    ours = {"known": ["Edema", "Effusion"], "meanings": {"wet": {"Edema": 1}}, "always": {"Child": 1}}
    rules.write_text(json.dumps({"ours": ours | {"never": ["AP View"]}}))
    (study,) = prepared(tmp_path, {"source": "ours", "view": "AP", "labels": "wet"}, rules=rules)
    assert study.labels == {"Edema": 1, "Pleural Effusion": 0, "Child": 1, "Lateral View": 0}


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ('{"ours": {"knwon": []}}', "ours: no part of a rule is called knwon (did you mean known?)"),
        ('{"ours": {"known": ["Edemma"]}}', "ours: label 'Edemma' is no observation (did you mean Edema?)"),
        ('{"ours": {"known": "Edema"}}', "ours: known must be a list of observations"),
        ('{"ours": {"meanings": {"wet": {"Edema": 2}}}}', "ours: wet: label Edema is 2, must be"),
        ('{"ours": {"meanings": []}}', "ours: meanings must be an object"),
        ('{"ours": {"box_size": 0}}', "ours: box_size is 0, must be"),
        ('{"ours": {"box_size": 1e999}}', "ours: box_size is inf, must be"),
        ('{"ours": []}', "ours must be an object"),
        ("[]", "must hold a JSON object"),
        ("{", "not JSON"),
    ],
)
def test_a_wrong_rule_is_refused(rules: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    path.write_text(rules)
    assert words in refusal(tmp_path, {"labels": "Edema"}, rules=path)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"labels": "Edemma"}, "line 2: label 'Edemma' is no observation (did you mean Edema?)"),
        (
            {"labels": "vial pneumonia", "source": "kermany"},
            "label 'vial pneumonia' is no observation (did you mean viral",
        ),
        ({"labels": "Edema", "split": "dev"}, "line 2: split is 'dev': must be train, val, test or empty"),
        ({"labels": "Edema", "image": "../a.png"}, "line 2: image is '../a.png': must be a path below images"),
        ({"labels": "Edema", "image": "/etc/a.png"}, "line 2: image is '/etc/a.png'"),
        ({"labels": "Edema", "image": ""}, "line 2: image is ''"),
        ({"labels": "Edema", "boxes": "[1"}, "line 2: boxes is [1: must be a list of [label, left"),
        ({"labels": "Edema", "boxes": '[["Edema", 1, 2, 3]]'}, "line 2: boxes is"),
        ({"labels": "Edema", "boxes": '[["Edema", 1, 2, 3, "x"]]'}, "line 2: boxes is"),
        ({"labels": "Edema", "boxes": '[["Edemma", 1, 2, 3, 4]]', "view": "PA", "source": "nih14"}, "label 'Edemma'"),
        ({"labels": ""}, "no study is left of 1 films: {'no known label': 1}"),
    ],
)
def test_a_wrong_row_is_refused_by_line_and_value(row: dict[str, str], words: str, tmp_path: Path) -> None:
    assert words in refusal(tmp_path, row, compose=True)


@pytest.mark.parametrize("one", ["kermany", ""])
def test_patients_whom_two_sources_number_alike_are_two(
    one: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {"source": source, "patient": patient, "split": split, "labels": "Edema"}
        for source, split in ((one, "val"), ("hannover", "test"))
        for patient in ("1", "1", f"{split} alone")
    ]
    found = prepared(tmp_path, *rows)
    names = [study.patient for study in found if study.source == "hannover"]
    assert names == ["hannover 1", "hannover 1", "test alone"]
    assert len({study.patient for study in found}) == 4
    assert "two splits" not in caplog.text


def test_a_patient_of_two_sources_whose_films_are_one_group_is_one(tmp_path: Path) -> None:
    rows = [{"source": source, "patient": "1", "group": "g", "labels": "Edema"} for source in ("kermany", "hannover")]
    assert {study.patient for study in prepared(tmp_path, *rows)} == {"1"}


def test_a_film_twice_a_group_in_two_splits_and_a_patient_in_two_groups_are_refused(tmp_path: Path) -> None:
    one = {"labels": "Edema", "group": "g", "patient": "p"}
    assert "line 3: a/0.jpg stands there twice, as a/0.png too" in refusal(
        tmp_path, one | {"image": "a/0.png"}, one | {"image": "a/0.jpg"}
    )
    assert "line 3: group g is in two splits, val and test" in refusal(
        tmp_path, one | {"split": "val"}, one | {"split": "test"}
    )
    assert "line 3: a patient's films are in two groups, g and h" in refusal(tmp_path, one, one | {"group": "h"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,label\n", "has no column labels (did you mean label?)"),
        ("a,b\n", "has no column image: needs image and labels, or ChestX-ray14's Image Index"),
        ("", "is empty"),
        ("image,labels\na.png\n", "line 2 is cut off"),
        ("image,labels,Labels\n", "labels is given twice"),
        ("image,labels\n\xff", None),
    ],
)
def test_a_table_of_another_form_is_refused(text: str, words: str | None, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError) as caught:
        prepare_films(path, tmp_path / "a.json")
    assert (words or "cannot be read") in str(caught.value)
    assert str(path) in str(caught.value)


def test_the_command_prints_counts_and_refuses_in_one_line(run_cli: Run, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "images/0.png")
    path = table(tmp_path, {"labels": "Edema", "split": "val", "source": "ours"}, {"labels": "Edema"})
    words = [
        "prepare",
        "films",
        str(path),
        "--images",
        str(tmp_path),
        "--output",
        str(tmp_path / "a.json"),
        "--compose",
        "True",
    ]
    done = run_cli(words)
    assert done.code == 0, done.stderr
    assert done.stdout == f"0 train, 1 val, 0 test; left out: 1 no image file; ours 1: {tmp_path / 'a.json'}\n"
    assert "edema" in json.loads((tmp_path / "a.json").read_text())["val"][0]["report"].lower()
    for wrong, message in (
        (["--splits", str(tmp_path)], "--splits"),
        (["--images", str(tmp_path / "none")], "--images"),
        (["--seed", "x"], "--seed"),
    ):
        refused = run_cli([*words, *wrong])
        assert (refused.code, refused.stdout) == (2, "")
        assert message in refused.stderr
        assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("column", ["patient", "patient_id", "Subject-ID", "Patient ID"])
def test_the_patient_stands_under_any_of_its_names(tmp_path: Path, column: str) -> None:
    path = tmp_path / "films.csv"
    path.write_text(f"image,labels,{column}\n" + "".join(f"{number}.png,Edema,p1\n" for number in range(20)))
    done = prepare_films(path, tmp_path / "a.json")
    assert sorted(done.studies.values()) == [0, 0, 20]
    assert {study.patient for study in studies(done).values()} == {"p1"}


def test_columns_and_cells_that_are_not_read_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "films.csv"
    path.write_text(
        "image,labels,pateint,note,age,sex,view\n1.png,Edema,p,x,old,U,?\n2.png,Edema,p,x,,F,PA\n3.png,Edema,p,x,411,,\n"
    )
    prepare_films(path, tmp_path / "a.json")
    assert [line.partition("films.csv: ")[2] for line in caplog.messages] == [
        "column pateint is not read (did you mean patient?)",
        "unknown: view of 1 films, first '?' in line 2",
        "unknown: age of 2 films, first 'old' in line 2",
        "unknown: sex of 1 films, first 'U' in line 2",
    ]


@pytest.mark.parametrize("word", ["Child", "AP View", "Lateral View", "Support Devices"])
def test_a_view_a_child_or_a_device_is_no_finding(word: str) -> None:
    assert labels_of("ours", word) == {word: 1}
    assert labels_of("ours", word, "No Finding") == {word: 1, "No Finding": 1}
    assert labels_of("ours", word, "No Finding", "Edema")["No Finding"] == 0


@pytest.mark.parametrize("source", ["nih14", "ours"])
def test_a_film_with_a_finding_is_not_without_one_whatever_its_row_says(source: str) -> None:
    assert labels_of(source, "No Finding", "Edema")["No Finding"] == 0


def test_an_argument_without_a_flag_stands_in_messages_as_a_plain_word(
    run_cli_process: Callable[[list[str]], Outcome], tmp_path: Path
) -> None:
    for words, said in (
        (
            ["prepare", "films", "gone.csv", "--images", str(tmp_path), "--output", str(tmp_path / "a")],
            "table gone.csv: ",
        ),
        (["results", "gone", "--output", "None"], "results gone: "),
        (["compare", "gone", "gone"], "A gone: "),
    ):
        outcome = run_cli_process(words)
        assert outcome.code == 2
        assert outcome.stderr.startswith(f"r2gengpt {words[0]}: {said}")


def test_sources_that_look_like_one_with_a_rule_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "films.csv"
    path.write_text("image,labels,source\n1.png,Edema,NIH14\n2.png,Edema,nih14\n3.png,Edema,ours\n4.png,Edema,NIH14\n")
    prepare_films(path, tmp_path / "a.json")
    (line,) = caplog.messages
    assert line.endswith("films.csv: source NIH14 of 2 films has no rule (did you mean nih14?)")
    caplog.clear()
    (tmp_path / "rules.json").write_text('{"NIH14": {}}')
    prepare_films(path, tmp_path / "a.json", rules=tmp_path / "rules.json")
    assert not caplog.messages


@pytest.mark.parametrize(
    ("more", "line"), [(["--seed", "7"], "--seed 7: no effect without --compose\n"), (["--seed", "7", "--compose"], "")]
)
def test_a_seed_without_composed_reports_is_told(run_cli: Run, tmp_path: Path, more: list[str], line: str) -> None:
    (tmp_path / "films.csv").write_text("image,labels\n1.png,Edema\n")
    (tmp_path / "1.png").touch()
    argv = ["prepare", "films", str(tmp_path / "films.csv"), "--images", str(tmp_path), "--output"]
    done = run_cli([*argv, str(tmp_path / "a.json"), *more])
    assert (done.code, done.stderr.endswith(line), "no effect" in done.stderr) == (0, True, bool(line))
