"""ReXGradient's and PadChest's files to annotation files, on small made-up ones of the same layout."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import Outcome
from r2gengpt.data.annotation import Preparation, read_annotation
from r2gengpt.data.prepare.padchest import COLUMNS, age_at, prepare_padchest, words_in
from r2gengpt.data.prepare.padchest_labels import DOUBTFUL, PRESENT, labels_of
from r2gengpt.data.prepare.release import Output
from r2gengpt.data.prepare.rexgradient import prepare_rexgradient
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.text.observations import ALL_OBSERVATIONS, NO_FINDING, OF_THE_FILM

Run = Callable[[list[str]], Outcome]


def studies(done: Preparation) -> dict[str, Study]:
    read = read_annotation(done.path, done.path.parent)
    return {study.id: study for split in read.values() for study in split}


def films_of(study: Study, directory: Path) -> list[str]:
    return [path.relative_to(directory).as_posix() for path in study.image_paths]


# --- ReXGradient ------------------------------------------------------------------------------------------------------


def record(patient: str = "P1", name: str = "a", **changes: Any) -> dict[str, Any]:
    return {
        "PatientID": patient,
        "StudyInstanceUid": "1.2.3",
        "PatientSex": "F",
        "PatientAge": "058Y",
        "StudyDate": "20190704",
        "Indication": "Cough.",
        "Comparison": "None",
        "Findings": "Clear lungs.",
        "Impression": "Normal.",
        "ImagePath": [f"../deid_png/{patient}/{name}-1.png", f"../deid_png/{patient}/{name}-2.png"],
        "ImageViewPosition": ["LL", "ANTERO_POSTERIOR"],
        **changes,
    }


def rexgradient(directory: Path, **splits: dict[str, Any]) -> Path:
    (directory / "metadata").mkdir(exist_ok=True)
    for split, records in splits.items():
        path = directory / "metadata" / f"{split}_metadata_view_position.json"
        path.write_text(json.dumps(records), encoding="utf-8")
    return directory


def test_a_study_of_rexgradient_keeps_what_the_release_knows_frontal_film_first(tmp_path: Path) -> None:
    release = rexgradient(tmp_path, test={"s1": record()}, valid={"s2": record("P2")}, train={"s3": record("P3")})
    done = prepare_rexgradient(release, Output(tmp_path / "a.json"))
    found = studies(done)
    assert {name: study.split for name, study in found.items()} == {"s3": "train", "s2": "val", "s1": "test"}
    study = found["s1"]
    assert films_of(study, tmp_path) == ["deid_png/P1/a-2.png", "deid_png/P1/a-1.png"]
    assert (study.views, study.age, study.sex, study.patient) == (("AP", "LATERAL"), 58, "F", "P1")
    assert (study.report, study.impression, study.indication) == ("Clear lungs.", "Normal.", "Cough.")
    assert study.comparison == ""


def test_a_later_study_of_rexgradient_names_the_one_before_it(tmp_path: Path) -> None:
    later = record(name="b", StudyDate="20200101")
    undated = record(name="c", StudyDate=None)
    done = prepare_rexgradient(
        rexgradient(tmp_path, train={"s2": later, "s1": record(), "s3": undated}), Output(tmp_path / "a.json")
    )
    assert {name: study.prior for name, study in studies(done).items()} == {"s2": "s1", "s1": "", "s3": ""}


def test_a_study_without_the_section_is_left_out_and_counted(tmp_path: Path) -> None:
    release = rexgradient(tmp_path, test={"s1": record(), "s2": record(name="b", Findings=None)})
    assert prepare_rexgradient(release, Output(tmp_path / "a.json")).skipped == {"no findings": 1}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ImagePath": []}, "ImagePath is []: must be a list of at least one path"),
        ({"ImagePath": ["../../x.png"], "ImageViewPosition": ["PA"]}, "ImagePath '../../x.png': must be a path below"),
        ({"ImageViewPosition": ["PA"]}, "ImageViewPosition is a list of 1: must name a view for each of 2 images"),
        ({"PatientID": None}, "PatientID is 'None': must be a text or a whole number"),
        ({"Findings": 5}, "Findings is 5: must be a text, NaN or null"),
    ],
)
def test_a_wrong_record_of_rexgradient_is_refused_by_study_and_field(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    release = rexgradient(tmp_path, test={"s1": record(), "s2": record("P2", **changes)})
    with pytest.raises(InputError) as caught:
        prepare_rexgradient(release, Output(tmp_path / "a.json"))
    path = tmp_path / "metadata" / "test_metadata_view_position.json"
    assert str(caught.value).startswith(f"release {path}: study s2: {said}")


def test_a_patient_of_rexgradient_in_two_splits_is_refused(tmp_path: Path) -> None:
    release = rexgradient(tmp_path, test={"s1": record()}, train={"s2": record(name="b")})
    with pytest.raises(InputError, match="patient P1 is in two splits, train"):
        prepare_rexgradient(release, Output(tmp_path / "a.json"))


def test_a_directory_without_metadata_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no train_, valid_ or test_metadata_view_position"):
        prepare_rexgradient(tmp_path, Output(tmp_path / "a.json"))


# --- PadChest: labels -------------------------------------------------------------------------------------------------


def test_a_normal_film_has_no_finding_and_none_of_the_observations() -> None:
    labels = labels_of(["normal"])
    assert labels[NO_FINDING] == 1
    assert {name for name, value in labels.items() if value == 0} == set(PRESENT)


def test_a_label_says_its_observation_and_that_the_rest_is_absent() -> None:
    labels = labels_of(["laminar atelectasis", "NSG tube"])
    assert {name for name, value in labels.items() if value} == {"Atelectasis", "Support Devices"}
    assert labels[NO_FINDING] == 0
    assert labels["Pneumothorax"] == 0


def test_a_consolidation_is_an_opacity_and_both_parts_of_a_hydropneumothorax_are_there() -> None:
    assert labels_of(["consolidation"])["Lung Opacity"] == 1
    labels = labels_of(["hydropneumothorax"])
    assert (labels["Pneumothorax"], labels["Pleural Effusion"]) == (1, 1)


@pytest.mark.parametrize(("name", "word"), [(name, word) for name, words in DOUBTFUL.items() for word in words])
def test_a_label_that_leaves_an_observation_open_makes_it_unknown_unless_another_says_it(name: str, word: str) -> None:
    assert word not in PRESENT[name]
    assert name not in labels_of([word])
    assert labels_of([word, PRESENT[name][0]])[name] == 1


@pytest.mark.parametrize("word", ["unchanged", "suboptimal study"])
def test_a_report_that_does_not_tell_all_leaves_the_rest_unknown(word: str) -> None:
    assert dict(labels_of([word])) == {}
    assert dict(labels_of([word, "pleural effusion"])) == {"Pleural Effusion": 1, NO_FINDING: 0}


def test_a_film_with_devices_alone_is_neither_normal_nor_abnormal() -> None:
    assert NO_FINDING not in labels_of(["pacemaker"])
    assert NO_FINDING not in labels_of(["normal", "pacemaker"])


def test_nothing_is_known_of_a_film_without_labels_or_one_to_exclude() -> None:
    assert dict(labels_of([])) == dict(labels_of([""])) == dict(labels_of(["exclude", "nodule"])) == {}


def test_the_labels_speak_of_each_observation_but_the_films_own() -> None:
    assert set(PRESENT) == set(ALL_OBSERVATIONS) - {NO_FINDING, *OF_THE_FILM}
    assert all(word == word.lower() for words in (*PRESENT.values(), *DOUBTFUL.values()) for word in words)


# --- PadChest: the table ----------------------------------------------------------------------------------------------


def row(study: str, patient: str = "1", **cells: Any) -> dict[str, Any]:
    return {
        "ImageID": f"{study}.png",
        "ImageDir": "3",
        "StudyDate_DICOM": "20140327",
        "StudyID": study,
        "PatientID": patient,
        "PatientBirth": "1950.0",
        "PatientSex_DICOM": "F",
        "Projection": "PA",
        "Report": " marcapas tricameral . cambi pulmonar cronic . ",
        "MethodLabel": "Physician",
        "Labels": "['pacemaker', 'chronic changes']",
        **cells,
    }


def table(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """As the release has it: a first column without a name numbers the rows."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["", *COLUMNS])
        writer.writeheader()
        writer.writerows({"": number, **one} for number, one in enumerate(rows))
    return path


def padchest(directory: Path, *rows: dict[str, Any], physicians_only: bool = False, **output: Any) -> Preparation:
    source = table(directory / "t.csv", rows)
    return prepare_padchest(source, Output(directory / "a.json", **output), physicians_only=physicians_only)


def test_a_study_of_padchest_keeps_its_spanish_text_its_labels_and_the_release_facts(tmp_path: Path) -> None:
    lateral = row("S1", ImageID="S1_b.png", Projection="L")
    (study,) = studies(padchest(tmp_path, lateral, row("S1"))).values()
    assert study.report == "marcapas tricameral . cambi pulmonar cronic ."
    assert films_of(study, tmp_path) == ["3/S1.png", "3/S1_b.png"]
    assert (study.views, study.age, study.sex, study.patient) == (("PA", "LATERAL"), 64, "F", "1")
    assert (study.labels["Support Devices"], study.labels["Child"], study.source) == (1, 0, "padchest")
    assert "AP View" not in study.labels


def test_the_view_of_a_study_of_one_film_is_a_label(tmp_path: Path) -> None:
    (study,) = studies(padchest(tmp_path, row("S1", Projection="AP_horizontal"))).values()
    assert (study.views, study.labels["AP View"], study.labels["Lateral View"]) == (("AP",), 1, 0)


def test_the_studies_of_a_patient_stay_together_and_know_the_one_before(tmp_path: Path) -> None:
    rows = [row(f"S{n}", patient=str(n % 40), StudyDate_DICOM=f"20{10 + n // 40}0101") for n in range(120)]
    found = studies(padchest(tmp_path, *rows))
    splits = {study.patient: study.split for study in found.values()}
    assert set(splits.values()) == {"train", "val", "test"}
    assert all(study.split == splits[study.patient] for study in found.values())
    assert (found["S80"].prior, found["S40"].prior, found["S0"].prior) == ("S40", "S0", "")


def test_what_shows_no_chest_is_excluded_or_has_no_report_is_left_out_and_counted(tmp_path: Path) -> None:
    done = padchest(
        tmp_path,
        row("S1"),
        row("S2", Projection="COSTAL"),
        row("S3", Labels="['exclude']"),
        row("S4", Report=" "),
        row("S5", Projection="EXCLUDE"),
    )
    assert set(studies(done)) == {"S1"}
    assert done.skipped == {"no frontal or lateral film": 2, "labelled exclude": 1, "no report": 1}
    assert done.notes[0] == "2 films of other projections left out"


def test_labels_of_a_program_are_left_away_where_physicians_are_asked_for(tmp_path: Path) -> None:
    rows = row("S1"), row("S2", MethodLabel="RNN_model"), row("S3", Labels="")
    assert {name: bool(study.labels) for name, study in studies(padchest(tmp_path, *rows)).items()} == {
        **{"S1": True, "S2": True, "S3": False},
    }
    found = studies(padchest(tmp_path, *rows, physicians_only=True))
    assert [bool(found[name].labels) for name in ("S1", "S2", "S3")] == [True, False, False]


def test_a_film_is_found_in_its_folder_or_beside_all_others(tmp_path: Path) -> None:
    for name, grey in (("films/3/S1.png", 1), ("films/S2.png", 2)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), grey).save(tmp_path / name)
    found = studies(padchest(tmp_path, row("S1"), row("S2", "2"), row("S9", "9"), images_dir=tmp_path / "films"))
    assert {name: films_of(study, tmp_path) for name, study in found.items()} == {"S1": ["3/S1.png"], "S2": ["S2.png"]}


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"ImageID": "../a.png"}, "ImageID is '../a.png', which is no id"),
        ({"ImageDir": "a/b"}, "ImageDir is 'a/b': must be the number of a folder"),
        ({"Labels": "nodule"}, "Labels is nodule: must be a list of texts"),
        ({"Labels": "[1]"}, "Labels is [1]: must be a list of texts"),
        ({"StudyID": "S1", "PatientID": "7"}, "study S1 is of two patients"),
    ],
)
def test_a_wrong_row_of_padchest_is_refused_by_its_line(tmp_path: Path, cells: dict[str, str], said: str) -> None:
    with pytest.raises(InputError) as caught:
        padchest(tmp_path, row("S1"), row("S2", **cells))
    assert str(caught.value) == f"table {tmp_path / 't.csv'}: line 3: {said}"


def test_odd_cells_hold_no_labels_and_no_age() -> None:
    assert words_in("nan", "") == words_in("", "") == words_in("[]", "") == ()
    assert age_at("20140101", "") is age_at("2014", "1950") is age_at("20140101", "2020") is None


def test_the_command_line_prepares_rexgradient_and_padchest(tmp_path: Path, run_cli: Run) -> None:
    release = rexgradient(tmp_path, test={"s1": record()})
    done = run_cli(["prepare", "rexgradient", "--release", str(release), "--output", str(tmp_path / "r.json")])
    assert (done.code, done.stdout) == (0, f"0 train, 0 val, 1 test; left out: none: {tmp_path / 'r.json'}\n")
    source = table(tmp_path / "t.csv", [row("S1", "3")])
    done = run_cli(["prepare", "padchest", "--table", str(source), "--output", str(tmp_path / "p.json")])
    assert done.code == 0
    assert done.stdout.endswith(
        f"0 films of other projections left out; 1 of 1 studies with labels: {tmp_path / 'p.json'}\n"
    )


def test_a_film_in_two_rows_of_padchest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 3: ImageID a\.png is given twice"):
        padchest(tmp_path, row("s1", ImageID="a.png"), row("s2", ImageID="a.png"))


@pytest.mark.parametrize(
    ("column", "value"), [("Report", "otro ."), ("PatientBirth", "1960"), ("Labels", "['normal']")]
)
def test_rows_of_one_study_of_padchest_that_differ_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, column: str, value: str
) -> None:
    padchest(tmp_path, row("s", ImageID="a.png"), row("s", ImageID="b.png", **{column: value}), row("t"))
    (line,) = caplog.messages
    assert line.endswith(f"rows of one study differ in {column}, and the first one counts: 1 studies, first s")


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"PatientBirth": "old"}, "unknown: PatientBirth of 1 studies, first 'old' in study s"),
        ({"StudyDate_DICOM": "2014"}, "unknown: StudyDate_DICOM of 1 studies, first '2014' in study s"),
        ({"PatientSex_DICOM": "x"}, "unknown: PatientSex_DICOM of 1 studies, first 'x' in study s"),
        ({"PatientBirth": "nan", "PatientSex_DICOM": "", "StudyDate_DICOM": "None"}, ""),
    ],
)
def test_what_is_not_read_of_a_study_of_padchest_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, cells: dict[str, str], said: str
) -> None:
    padchest(tmp_path, row("s", **cells), row("t"))
    assert [line.partition("t.csv: ")[2] for line in caplog.messages] == ([said] if said else [])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"PatientAge": "old"}, "unknown: PatientAge of 1 studies, first 'old' in study a"),
        ({"PatientSex": "O"}, "unknown: PatientSex of 1 studies, first 'O' in study a"),
        ({"StudyDate": "July"}, "unknown: StudyDate of 1 studies, first 'July' in study a"),
        ({"PatientAge": None, "PatientSex": float("nan")}, ""),
    ],
)
def test_what_is_not_read_of_a_record_of_rexgradient_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], said: str
) -> None:
    prepare_rexgradient(rexgradient(tmp_path, train={"a": record(**changes)}), Output(tmp_path / "a.json"))
    assert [line.partition(".json: ")[2] for line in caplog.messages] == ([said] if said else [])


def test_a_misspelt_key_of_rexgradient_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = record() | {"Indicaton": "Cough."}
    del one["Indication"]
    prepare_rexgradient(rexgradient(tmp_path, train={"a": one, "b": record("P2", "b")}), Output(tmp_path / "a.json"))
    (line,) = caplog.messages
    assert line.endswith("Indicaton of 1 studies is not read (did you mean Indication?)")
