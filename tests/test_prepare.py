"""Raw releases to annotation files, on small releases and reports written for these tests."""

import csv
import gzip
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from r2gengpt.cli.commands.prepare import main
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.prepare.iu_xray import parse_report, prepare_iu_xray, read_reports
from r2gengpt.data.prepare.mimic_cxr import prepare_mimic_cxr
from r2gengpt.errors import InputError
from r2gengpt.testing import noise_image

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="{uid}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText>
<AbstractText Label="INDICATION">{indication}</AbstractText>
<AbstractText Label="FINDINGS">{findings}</AbstractText>
<AbstractText Label="IMPRESSION">Normal.</AbstractText>
</Abstract></Article></MedlineCitation>{images}</eCitation>"""


def xml(number: int, findings: str = "Clear lungs.", views: int = 2, indication: str = "Cough") -> bytes:
    names = [f"CXR{number}_IM-{number:04d}-{1001 + i}" for i in range(views)]
    images = "".join(f'<parentImage id="{name}"><caption>PA</caption></parentImage>' for name in names)
    return REPORT.format(uid=f"CXR{number}", findings=findings, images=images, indication=indication).encode()


def archive(path: Path, *reports: bytes, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        directory = tarfile.TarInfo("reports")
        directory.type = tarfile.DIRTYPE
        tar.addfile(directory)
        for number, content in enumerate(reports):
            member = tarfile.TarInfo(f"reports/{number}.xml")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def stored(path: Path) -> dict[str, list[dict[str, Any]]]:
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


# --- IU X-ray ---------------------------------------------------------------------------------------------------------


def test_an_iu_xray_report_is_taken_apart() -> None:
    raw = parse_report(xml(7, "Heart &lt; 15 cm.\n Clear lungs.", 3), "7.xml")
    assert (raw.uid, raw.findings, raw.impression) == ("CXR7", "Heart < 15 cm.\n Clear lungs.", "Normal.")
    assert raw.indication == "Cough"
    assert raw.images == ("CXR7_IM-0007-1001", "CXR7_IM-0007-1002", "CXR7_IM-0007-1003")
    assert raw.study_id == "CXR7_IM-0007"


@pytest.mark.parametrize(
    "label", ["FINDNGS", "findings ", "Finding(s)", "FINDINGS\u00a0:", "FINDINGS &amp; IMPRESSION"]
)
def test_an_iu_xray_section_is_known_by_a_misspelt_label(label: str) -> None:
    content = xml(7, "Clear lungs.").decode().replace('"FINDINGS"', f'"{label}"').replace("INDICATION", "IDICATION")
    raw = parse_report(content.encode(), "7.xml")
    assert (raw.findings, raw.impression, raw.indication) == ("Clear lungs.", "Normal.", "Cough")


def test_studies_without_findings_or_images_are_left_out_and_counted(tmp_path: Path) -> None:
    reports = archive(tmp_path / "r.tgz", xml(1), xml(2, findings=" "), xml(3, views=0), xml(4, views=1))
    done = prepare_iu_xray(reports, tmp_path / "a.json", min_views=2)
    assert done.skipped == {"no findings": 1, "no images": 1, "too few images": 1}
    assert sum(done.studies.values()) == 1
    (study,) = [s for split in stored(tmp_path / "a.json").values() for s in split]
    assert study["id"] == "CXR1_IM-0001"
    assert study["image_path"] == ["CXR1_IM-0001-1001.png", "CXR1_IM-0001-1002.png"]
    assert (study["report"], study["findings"], study["impression"]) == ("Clear lungs.", "Clear lungs.", "Normal.")
    assert study["indication"] == "Cough"


def test_the_random_split_is_70_10_20_and_does_not_depend_on_the_order(tmp_path: Path) -> None:
    reports = [xml(i) for i in range(1, 101)]
    one = prepare_iu_xray(archive(tmp_path / "1.tgz", *reports), tmp_path / "1.json", seed=5)
    prepare_iu_xray(archive(tmp_path / "2.tgz", *reversed(reports)), tmp_path / "2.json", seed=5)
    prepare_iu_xray(tmp_path / "1.tgz", tmp_path / "3.json", seed=6)
    assert one.studies == {"train": 70, "val": 10, "test": 20}

    def ids_of_test(name: str) -> set[str]:
        return {study["id"] for study in stored(tmp_path / name)["test"]}

    assert ids_of_test("1.json") == ids_of_test("2.json")
    assert ids_of_test("1.json") != ids_of_test("3.json")


def official(path: Path) -> Path:
    def entry(number: int, split: str, report: str = "Clear lungs.") -> dict[str, Any]:
        name = f"CXR{number}_IM-{number:04d}"
        return {"id": name, "report": report, "image_path": [f"{name}/0.png", f"{name}/1.png"], "split": split}

    path.write_text(
        json.dumps({"train": [entry(1, "train")], "val": [entry(2, "val", "Old.")], "test": [entry(9, "test")]})
    )
    return path


@pytest.mark.parametrize("layout", ["release", "r2gen"])
def test_the_official_split_is_taken_and_its_agreement_told(tmp_path: Path, layout: Any) -> None:
    reports = archive(tmp_path / "r.tgz", xml(1), xml(2), xml(3))
    output = tmp_path / "a.json"
    done = prepare_iu_xray(reports, output, split_from=official(tmp_path / "o.json"), layout=layout)
    assert done.studies == {"train": 1, "val": 1, "test": 0}
    assert done.skipped == {"not in `split_from`": 1}
    assert done.notes == ("2 of 3 ids of `split_from` found, 1 reports equal",)
    path = stored(output)["train"][0]["image_path"][0]
    assert path == ("CXR1_IM-0001/0.png" if layout == "r2gen" else "CXR1_IM-0001-1001.png")


def test_links_in_the_working_directory_change_no_path_of_the_official_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("CXR1_IM-0001").symlink_to("elsewhere")
    Path("CXR2_IM-0002").symlink_to("/")
    reports = archive(tmp_path / "r.tgz", xml(1), xml(2))
    prepare_iu_xray(reports, tmp_path / "a.json", split_from=official(tmp_path / "o.json"), layout="r2gen")
    made = stored(tmp_path / "a.json")
    assert [made[split][0]["image_path"][0] for split in ("train", "val")] == [
        "CXR1_IM-0001/0.png",
        "CXR2_IM-0002/0.png",
    ]


def test_views_whose_files_are_missing_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "CXR1_IM-0001-1002.png").touch()
    reports = archive(tmp_path / "r.tgz", xml(1), xml(2))
    done = prepare_iu_xray(reports, tmp_path / "a.json", images_dir=tmp_path)
    assert done.skipped == {"too few images": 1}
    assert done.notes == (f"3 image files missing in {tmp_path}",)
    (study,) = [s for split in stored(tmp_path / "a.json").values() for s in split]
    assert study["image_path"] == ["CXR1_IM-0001-1002.png"]


def test_iu_images_of_another_ending_are_found_and_those_missing_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    noise_image(1).save(tmp_path / "CXR1_IM-0001-1001.jpeg", "JPEG")
    noise_image(2).save(tmp_path / "CXR1_IM-0001-1002", "PNG")
    reports = archive(tmp_path / "r.tgz", xml(1), xml(2))
    done = prepare_iu_xray(reports, tmp_path / "a.json", images_dir=tmp_path)
    (study,) = [s for split in stored(tmp_path / "a.json").values() for s in split]
    assert study["image_path"] == ["CXR1_IM-0001-1001.jpeg", "CXR1_IM-0001-1002"]
    assert done.notes == (f"2 image files missing in {tmp_path}",)
    assert "CXR2_IM-0002-1001.png, CXR2_IM-0002-1002.png" in caplog.text


def test_reports_are_known_by_their_bytes_and_other_members_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tarfile.open(tmp_path / "r.tar", "w") as tar:
        for name, content in (("1.XML", xml(1)), ("2", xml(2)), ("README", b"text"), ("big", b"x" * (2**20 + 1))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    assert [raw.uid for raw in read_reports(tmp_path / "r.tar")] == ["CXR1", "CXR2"]
    assert "left out, as no reports: 2 members" in caplog.text
    assert "(README, big)" in caplog.text


@pytest.mark.parametrize("ending", [".png", "../x", "p ng", "", "p\udcfcg"])
def test_an_ending_is_letters_and_digits(ending: str, release: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be 1 to 16 letters and digits"):
        prepare_iu_xray(archive(tmp_path / "r.tgz", xml(1)), tmp_path / "a.json", image_ext=ending)
    with pytest.raises(InputError, match="must be 1 to 16 letters and digits"):
        prepare_mimic_cxr(release, tmp_path / "a.json", image_ext=ending)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no xml", "not an XML report"),
        (b"\xff\xfe", "not an XML report"),
        (b'<!DOCTYPE x [<!ENTITY a "aaaa">]><eCitation/>', "declares a document type"),
        (xml(1).decode().replace("utf-8", "utf-16").encode("utf-16"), "not an XML report"),
        (b"<eCitation/>", "id '' must be letters"),
        (xml(1).replace(b"CXR1_IM-0001-1001", b"../../x"), "id '../../x' must be letters"),
        (b" " * (2**20 + 1), "is 1048577 bytes large: at most 1048576"),
    ],
)
def test_a_wrong_report_is_refused_by_its_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = archive(tmp_path / "r.tgz", xml(5), content)
    with pytest.raises(InputError) as caught:
        list(read_reports(path))
    assert str(caught.value).startswith(f"reports {path}: reports/1.xml")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"text", gzip.compress(b"text" * 999), gzip.compress(b"x" * 9999)[:-9]],
    ids=["empty", "text", "text compressed", "cut off"],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.tgz").write_bytes(content)
    with pytest.raises(InputError, match=r"^reports .*r\.tgz: not a whole tar archive"):
        list(read_reports(tmp_path / "r.tgz"))


def test_a_cut_archive_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    path = archive(tmp_path / "r.tgz", *[xml(i, findings=f"{i * 7919}" * 50) for i in range(200)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="not a whole tar archive"):
        prepare_iu_xray(path, tmp_path / "a.json")
    assert [p.name for p in tmp_path.iterdir()] == ["r.tgz"]


def test_a_plain_tar_and_a_missing_one(tmp_path: Path) -> None:
    assert len(list(read_reports(archive(tmp_path / "r.tar", xml(1), mode="w")))) == 1
    with pytest.raises(InputError, match="No such file"):
        list(read_reports(tmp_path / "none.tgz"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layout": "r2gen"}, "layout r2gen takes image paths from split_from"),
        ({"min_views": 0}, "min_views 0: must be at least 1"),
        ({"min_views": 5}, "no study is left of 1 reports: {'too few images': 1}"),
    ],
)
def test_wrong_iu_xray_options_are_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        prepare_iu_xray(archive(tmp_path / "r.tgz", xml(1)), tmp_path / "a.json", **options)
    assert words in str(caught.value)
    assert not (tmp_path / "a.json").exists()


# --- MIMIC-CXR --------------------------------------------------------------------------------------------------------

IMAGES = [  # dicom, study, subject, split, view
    ("b-lat", "501", "10000001", "train", "LATERAL"),
    ("c-pa", "501", "10000001", "train", "PA"),
    ("d-odd", "501", "10000001", "train", ""),
    ("e-ap", "502", "10000001", "train", "AP"),
    ("f-pa", "601", "11000002", "validate", "PA"),
    ("g-pa", "701", "12000003", "test", "PA"),
    ("h-pa", "702", "12000003", "test", "PA"),
]
REPORTS = {
    "files/p10/p10000001/s501.txt": "FINAL REPORT\nINDICATION: Cough.\nFINDINGS:\n Small\n effusion.\nIMPRESSION: Wet.",
    "files/p10/p10000001/s502.txt": "IMPRESSION: No change.",
    "files/p11/p11000002/s601.txt": "FINDINGS: Clear.",
    "files/p12/p12000003/s701.txt": "FINDINGS: Nodule.\n IMPRESSION: Follow up.",
}


def table(path: Path, columns: list[str], rows: list[list[str]]) -> None:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


@pytest.fixture(params=["csv.gz", "csv"])
def release(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    root = tmp_path / "release"
    root.mkdir()
    table(
        root / f"mimic-cxr-2.0.0-split.{request.param}",
        ["dicom_id", "study_id", "subject_id", "split"],
        [[dicom, study, subject, split] for dicom, study, subject, split, _ in IMAGES],
    )
    table(
        root / f"mimic-cxr-2.0.0-metadata.{request.param}",
        ["dicom_id", "subject_id", "study_id", "ViewPosition", "Rows"],
        [[dicom, subject, study, view, "2544"] for dicom, study, subject, _, view in IMAGES],
    )
    for name, text in REPORTS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_mimic_studies_get_all_views_frontal_first_and_the_official_split(release: Path, tmp_path: Path) -> None:
    done = prepare_mimic_cxr(release, tmp_path / "a.json")
    assert done.studies == {"train": 1, "val": 1, "test": 1}
    assert done.skipped == {"no findings": 1, "no report file": 1}
    splits = stored(tmp_path / "a.json")
    folder = "files/p10/p10000001/s501"
    assert splits["train"] == [
        {
            "id": "s501",
            "report": "Small effusion.",
            "image_path": [f"{folder}/c-pa.jpg", f"{folder}/b-lat.jpg", f"{folder}/d-odd.jpg"],
            "split": "train",
            "indication": "Cough.",
            "findings": "Small effusion.",
            "impression": "Wet.",
            "patient": "10000001",
            "views": ["PA", "LATERAL", ""],
        }
    ]
    assert [s["id"] for s in splits["val"] + splits["test"]] == ["s601", "s701"]
    study = read_annotation(tmp_path / "a.json", release)["train"][0]
    assert (study.views, study.patient) == (("PA", "LATERAL", ""), "10000001")


@pytest.mark.parametrize(
    "text",
    [
        "FINDNGS: Small effusion.\n IMPRESSON: Wet.",
        "FINDING(S)\uff1a Small effusion.\n IMPRESSION(S)\u00a0: Wet.",
        "FINDINGS -  Small effusion.\n IMPRESSION -  Wet.",
        "FINDINGS: Small effusion.\n DICTATED BY: ___\n IMPRESSION: Wet.\n ADDENDUM: side.\n IMPRESSION: Dry.",
        "FINDINGS: Dry.\n IMPRESSION: Dry.\n FINDINGS: Small effusion.\n IMPRESSION: Wet.",
        f"FINDINGS: Dry.\n{'_' * 70}\n FINAL REPORT\n FINDINGS: Small effusion.\n IMPRESSION: Wet.",
    ],
)
def test_mimic_sections_are_those_of_the_final_report_however_they_are_spelt(
    release: Path, tmp_path: Path, text: str
) -> None:
    (release / "files/p10/p10000001/s501.txt").write_text(f"WET READ: now\n FINDINGS: Dry.\n FINAL REPORT\n {text}")
    prepare_mimic_cxr(release, tmp_path / "a.json")
    (study,) = stored(tmp_path / "a.json")["train"]
    assert (study["report"], study["impression"]) == ("Small effusion.", "Wet.")


def test_mimic_studies_get_the_patients_latest_earlier_one_by_date_and_time(tmp_path: Path) -> None:
    taken = {"1": ("21800501", "93014"), "2": ("21800503", "213014.531"), "3": ("21800503", "93014"), "4": ("", "")}
    rows = [[f"d{study}", study, "10000001", "train"] for study in taken]
    table(tmp_path / "mimic-cxr-2.0.0-split.csv", ["dicom_id", "study_id", "subject_id", "split"], rows)
    named = ["dicom_id", "ViewPosition", "StudyDate", "StudyTime"]
    table(
        tmp_path / "mimic-cxr-2.0.0-metadata.csv", named, [[f"d{study}", "PA", *when] for study, when in taken.items()]
    )
    for study in taken:
        path = tmp_path / f"files/p10/p10000001/s{study}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"TECHNIQUE: Erect.\nCOMPARISON: None.\nFINDINGS: Clear {study}.")
    for one_image, prefix in ((False, "s"), (True, "d")):
        prepare_mimic_cxr(tmp_path, tmp_path / "a.json", one_image=one_image)
        found = {
            study["id"]: (study.get("prior"), study.get("prior_days")) for study in stored(tmp_path / "a.json")["train"]
        }
        assert found == {
            f"{prefix}1": (None, None),
            f"{prefix}2": (f"{prefix}3", 0.5),
            f"{prefix}3": (f"{prefix}1", 2.0),
            f"{prefix}4": (None, None),
        }
    first = read_annotation(tmp_path / "a.json", tmp_path)["train"][0]
    assert (first.technique, first.comparison) == ("Erect.", "None.")


def test_one_image_each_gives_an_example_an_image_as_in_r2gen(release: Path, tmp_path: Path) -> None:
    done = prepare_mimic_cxr(release, tmp_path / "a.json", one_image=True)
    assert done.studies == {"train": 3, "val": 1, "test": 1}
    train = stored(tmp_path / "a.json")["train"]
    assert [s["id"] for s in train] == ["c-pa", "b-lat", "d-odd"]
    assert {s["report"] for s in train} == {"Small effusion."}
    assert train[1]["image_path"] == ["files/p10/p10000001/s501/b-lat.jpg"]
    assert train[1]["views"] == ["LATERAL"]


@pytest.mark.parametrize(
    ("section", "train", "skipped"),
    [
        ("impression", ["Wet.", "No change."], {"no impression": 1, "no report file": 1}),
        ("both", ["Small effusion. Wet.", "No change."], {"no report file": 1}),
    ],
)
def test_the_section_that_becomes_the_report(
    release: Path, tmp_path: Path, section: Any, train: list[str], skipped: dict[str, int]
) -> None:
    done = prepare_mimic_cxr(release, tmp_path / "a.json", section=section)
    assert [s["report"] for s in stored(tmp_path / "a.json")["train"]] == train
    assert done.skipped == skipped


def test_mimic_images_that_are_missing_are_left_out(release: Path, tmp_path: Path) -> None:
    folder = tmp_path / "jpg" / "files/p10/p10000001/s501"
    folder.mkdir(parents=True)
    (folder / "b-lat.jpg").touch()
    done = prepare_mimic_cxr(release, tmp_path / "a.json", images_dir=tmp_path / "jpg")
    assert done.studies == {"train": 1, "val": 0, "test": 0}
    assert done.skipped == {"no findings": 1, "no report file": 1, "no image file": 2}
    assert stored(tmp_path / "a.json")["train"][0]["views"] == ["LATERAL"]


def test_a_table_is_read_by_its_bytes_whatever_its_ending(release: Path, tmp_path: Path) -> None:
    for path in list(release.glob("*.csv*")):
        if path.suffix == ".gz":
            path.write_bytes(gzip.decompress(path.read_bytes()))
        else:
            path.write_bytes(gzip.compress(path.read_bytes()))
    assert prepare_mimic_cxr(release, tmp_path / "a.json").studies == {"train": 1, "val": 1, "test": 1}


@pytest.mark.parametrize("name", ["split", "metadata"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda row: [*row, "z-more"], "line 2: has more fields than the header"),
        (lambda row: row[:-1], "line 2 is cut off"),
    ],
)
def test_a_row_with_more_or_fewer_cells_is_refused_by_its_line(
    release: Path, tmp_path: Path, name: str, change: Any, words: str
) -> None:
    (path,) = release.glob(f"mimic-cxr-2.0.0-{name}.*")
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="") as file:
        header, first, *rest = csv.reader(file)
    table(path, header, [change(first), *rest])
    with pytest.raises(InputError, match=f"{path.name}: {words}|{path.name}.*{words}"):
        prepare_mimic_cxr(release, tmp_path / "a.json")


def test_an_image_that_stands_twice_in_a_table_is_refused(release: Path, tmp_path: Path) -> None:
    (path,) = release.glob("mimic-cxr-2.0.0-split.*")
    table(path, ["dicom_id", "study_id", "subject_id", "split"], [["x-1", "501", "10000001", "train"]] * 2)
    with pytest.raises(InputError, match="line 3: dicom_id x-1 is given twice"):
        prepare_mimic_cxr(release, tmp_path / "a.json")


def test_images_without_a_split_are_named(release: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (path,) = release.glob("mimic-cxr-2.0.0-split.*")
    rows = [[dicom, study, subject, split] for dicom, study, subject, split, _ in IMAGES if dicom != "c-pa"]
    table(path, ["dicom_id", "study_id", "subject_id", "split"], rows)
    prepare_mimic_cxr(release, tmp_path / "a.json")
    assert "1 images of" in caplog.text
    assert "are in no split, first c-pa" in caplog.text


def test_mimic_images_of_another_ending_are_found_by_their_bytes(
    release: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "jpg" / "files/p10/p10000001/s501"
    folder.mkdir(parents=True)
    noise_image(1).save(folder / "b-lat.jfif", "JPEG")
    noise_image(2).save(folder / "c-pa", "JPEG")
    (folder / "d-odd.txt").write_text("no image")
    done = prepare_mimic_cxr(release, tmp_path / "a.json", images_dir=tmp_path / "jpg")
    (study,) = stored(tmp_path / "a.json")["train"]
    assert [Path(path).name for path in study["image_path"]] == ["c-pa", "b-lat.jfif"]
    assert study["views"] == ["PA", "LATERAL"]
    assert done.notes == (f"3 image files missing in {tmp_path / 'jpg'}",)
    assert "files/p10/p10000001/s501/d-odd.jpg" in caplog.text


def test_reports_are_read_from_the_zip_file_as_well(release: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "reports.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in REPORTS.items():
            file.writestr(name, text)
    prepare_mimic_cxr(release, tmp_path / "1.json")
    prepare_mimic_cxr(release, tmp_path / "2.json", reports=tmp_path / "reports.zip")
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (["x-1", "501", "10000001", "holdout"], "line 2: split is 'holdout': must be one of train, validate, test"),
        (["../x", "501", "10000001", "train"], "line 2: dicom_id is '../x', which is no id"),
        (["x-1", "../../501", "10000001", "train"], "line 2: study_id is '../../501'"),
        (["x-1", "501", "", "train"], "line 2: subject_id is ''"),
        (["x-1", "501"], "line 2 is cut off"),
    ],
)
def test_a_wrong_row_is_refused_by_file_and_line(release: Path, tmp_path: Path, row: list[str], words: str) -> None:
    (path,) = release.glob("mimic-cxr-2.0.0-split.*")
    table(path, ["dicom_id", "study_id", "subject_id", "split"], [row])
    with pytest.raises(InputError) as caught:
        prepare_mimic_cxr(release, tmp_path / "a.json")
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert not (tmp_path / "a.json").exists()


def test_wrong_tables_are_refused(release: Path, tmp_path: Path) -> None:
    (path,) = release.glob("mimic-cxr-2.0.0-split.*")
    table(path, ["dicom_id", "study_id", "subject_id"], [])
    with pytest.raises(InputError, match="has no column split"):
        prepare_mimic_cxr(release, tmp_path / "a.json")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        prepare_mimic_cxr(release, tmp_path / "a.json")
    path.unlink()
    with pytest.raises(InputError, match=r"has no mimic-cxr-2\.0\.0-split\.csv or"):
        prepare_mimic_cxr(release, tmp_path / "a.json")


@pytest.mark.parametrize(
    ("change", "words"), [({8: 9}, "compression method is not supported"), ({6: 1}, "is encrypted, password required")]
)
def test_a_zip_file_of_another_packing_or_with_a_password_is_refused_in_one_line(
    release: Path, tmp_path: Path, change: dict[int, int], words: str
) -> None:
    path = tmp_path / "reports.zip"
    with zipfile.ZipFile(path, "w") as file:
        for report in sorted((release / "files").rglob("*.txt"))[:1]:
            file.write(report, report.relative_to(release).as_posix())
    data = bytearray(path.read_bytes())
    for at, value in change.items():  # the same field stands in the entry and in the directory at the end
        data[at] = data[data.index(b"PK\x01\x02") + at + 2] = value
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"reports\.zip: files/.*\.txt cannot be read: .*{words}"):
        prepare_mimic_cxr(release, tmp_path / "a.json", reports=path)


def test_wrong_report_sources_are_refused(release: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        prepare_mimic_cxr(release, tmp_path / "a.json", reports=tmp_path / "none.zip")
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(InputError, match="neither a directory nor a zip file"):
        prepare_mimic_cxr(release, tmp_path / "a.json", reports=tmp_path / "text.zip")
    with pytest.raises(InputError, match=r"no study is left of 7 images: \{'no report file': 5\}"):
        prepare_mimic_cxr(release, tmp_path / "a.json", reports=tmp_path)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [["--min_views", "2"], ["--min-views=2"]])
def test_the_command_prepares_iu_xray_and_prints_counts_and_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    reports = archive(tmp_path / "r.tgz", xml(1), xml(2, findings=""))
    main(["iu-xray", "--reports", str(reports), "--output", str(tmp_path / "a.json"), *flags])
    assert capsys.readouterr().out == f"1 train, 0 val, 0 test; left out: 1 no findings: {tmp_path / 'a.json'}\n"


def test_the_command_prepares_mimic_cxr(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "a.json"
    main(["mimic_cxr", "--release", str(release), "--output", str(output), "--one-image", "--section", "both"])
    assert capsys.readouterr().out == f"4 train, 1 val, 1 test; left out: 1 no report file: {output}\n"


def test_the_command_draws_a_synthetic_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "set"
    main(["synthetic", "--output", str(output), "--train", "2", "--val", "1", "--test", "1", "--size", "32"])
    assert capsys.readouterr().out == f"2 train, 1 val, 1 test: {output / 'annotation.json'}\n"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "Choose from iu_xray, mimic_cxr, rexrank, chexpert_plus, rexgradient, padchest, films"),
        (["iu_xry"], "unknown data set iu_xry (did you mean iu_xray?)"),
        (["iu_xray", "--output", "a"], "reports is missing"),
        (["iu_xray", "--report", "a"], "unknown flag --report (did you mean --reports?)"),
        (["mimic_cxr", "--section", "history"], "invalid choice: 'history'"),
        (["synthetic", "--train", "many", "--output", "a"], "invalid int value: 'many'"),
    ],
)
def test_wrong_commands_are_refused(argv: list[str], words: str) -> None:
    with pytest.raises(InputError) as caught:
        main(argv)
    assert words in str(caught.value)


@pytest.mark.parametrize("argv", [["--help"], ["iu_xray", "--help"], ["mimic-cxr", "--help"], ["synthetic", "-h"]])
def test_help_names_the_command(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if len(argv) == 1:
        main(argv)
    else:
        with pytest.raises(SystemExit) as caught:
            main(argv)
        assert caught.value.code == 0
    assert "usage: r2gengpt prepare" in capsys.readouterr().out


# --- What a release cannot be -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (xml(1, "Other."), "study CXR1_IM-0001 is given twice"),
        (xml(2).replace(b"CXR2_IM-0002-1002", b"CXR1_IM-0001-1001"), "film CXR1_IM-0001-1001.png is given twice"),
    ],
)
def test_a_study_or_film_of_two_iu_xray_reports_is_refused(tmp_path: Path, second: bytes, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        prepare_iu_xray(archive(tmp_path / "r.tgz", xml(1), second), tmp_path / "a.json")
    assert not (tmp_path / "a.json").exists()


def mimic(root: Path, *images: tuple[str, str, str, str], times: dict[str, tuple[str, str]] | None = None) -> Path:
    """A release of films (film, study, patient, split), each study with a report."""
    table(
        root / "mimic-cxr-2.0.0-split.csv",
        ["dicom_id", "study_id", "subject_id", "split"],
        [list(image) for image in images],
    )
    rows = [[film, "PA", *when] for film, when in (times or {image[0]: ("", "") for image in images}).items()]
    table(root / "mimic-cxr-2.0.0-metadata.csv", ["dicom_id", "ViewPosition", "StudyDate", "StudyTime"], rows)
    for _, study, patient, _ in images:
        path = root / f"files/p{patient[:2]}/p{patient}/s{study}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"FINDINGS: Clear {study}.")
    return root


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (("b", "501", "10000001", "test"), "study s501 is given twice, in s501 of train and s501 of test"),
        (("b", "501", "10000002", "train"), "study s501 is given twice"),
        (("b", "502", "10000001", "test"), "patient 10000001 is in two splits, train (s501) and test (s502)"),
    ],
)
@pytest.mark.parametrize("one_image", [False, True])
def test_a_study_or_patient_of_mimic_in_two_places_is_refused(
    tmp_path: Path, second: tuple[str, str, str, str], words: str, one_image: bool
) -> None:
    release = mimic(tmp_path, ("a", "501", "10000001", "train"), second)
    with pytest.raises(InputError, match=re.escape(words)):
        prepare_mimic_cxr(release, tmp_path / "a.json", one_image=one_image)
    assert not (tmp_path / "a.json").exists()


def test_a_film_is_never_the_prior_of_another_of_its_study(tmp_path: Path) -> None:
    films = [(name, study, "10000001", "train") for name, study in (("a", "501"), ("b", "501"), ("c", "502"))]
    times = {"a": ("21800501", "1000"), "b": ("21800501", "3000"), "c": ("21800503", "1000")}
    for one_image, found in ((True, {"a": None, "b": None, "c": 2.0}), (False, {"s501": None, "s502": 2.0})):
        prepare_mimic_cxr(mimic(tmp_path, *films, times=times), tmp_path / "a.json", one_image=one_image)
        assert {one["id"]: one.get("prior_days") for one in stored(tmp_path / "a.json")["train"]} == found


def test_what_a_mimic_release_does_not_tell_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    films = [(name, f"50{place}", "10000001", "train") for place, name in enumerate("abc")]
    release = mimic(tmp_path, *films, times={"a": ("2180-05-01", ""), "b": ("21800501", "")})
    (release / "files/p10/p10000001/s500.txt").write_bytes("FINDINGS: Ödem.".encode("latin-1"))
    prepare_mimic_cxr(release, tmp_path / "a.json")
    table_of = release / "mimic-cxr-2.0.0-metadata.csv"
    assert caplog.messages == [
        f"of unknown view and date: 1 images that {table_of} lacks, first c",
        f"of unknown date: 1 images of {table_of}, first StudyDate '2180-05-01'",
        "not UTF-8: 1 reports have \ufffd for some bytes, first files/p10/p10000001/s500.txt",
    ]


@pytest.mark.parametrize("prepare", [prepare_iu_xray, prepare_mimic_cxr])
def test_a_directory_of_images_that_is_none_is_refused_before_the_release_is_read(tmp_path: Path, prepare: Any) -> None:
    with pytest.raises(InputError, match=r"^images_dir .*nowhere: is no directory$"):
        prepare(tmp_path / "gone", tmp_path / "a.json", images_dir=tmp_path / "nowhere")


@pytest.mark.parametrize(
    "words",
    [
        ["iu_xray", "--reports", "IN"],
        ["iu_xray", "--reports", "r.tgz", "--split_from", "IN"],
        ["rexrank", "--test", "IN"],
        ["rexrank", "--test", "t.json", "--val", "IN"],
        ["chexpert_plus", "--table", "IN"],
        ["chexpert_plus", "--table", "t.csv", "--labels", "IN"],
        ["padchest", "--table", "IN"],
        ["films", "IN", "--images", "."],
        ["films", "t.csv", "--images", ".", "--rules", "IN"],
        ["verdicts", "--verdicts", "IN", "--films", ".", "--salt_file", "salt"],
        ["guard", "--model", "m", "--annotation", "IN", "--base_dir", "."],
    ],
)
def test_an_output_that_is_an_input_too_is_refused_and_stays(
    tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").write_text("released")
    Path("link").symlink_to("in")
    with pytest.raises(InputError, match=r"names: it would be written over$"):
        main([{"IN": "in"}.get(word, word) for word in words] + ["--output", "link"])
    assert Path("link").is_symlink()
    assert Path("in").read_text() == "released"


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "windows-1252", "UTF-8", "utf8"])
def test_an_iu_xray_report_is_read_by_the_encoding_that_it_declares(encoding: str) -> None:
    text = xml(7, "Ménière.").decode().replace('encoding="utf-8"', f"encoding='{encoding}'")
    assert parse_report(text.encode(encoding), "7.xml").findings == "Ménière."


@pytest.mark.parametrize("encoding", ["klingon", "hex", "utf-16", "undefined"])
def test_an_encoding_that_a_report_is_not_in_is_refused_by_its_name(encoding: str) -> None:
    with pytest.raises(InputError, match=r"7\.xml: not an XML report: "):
        parse_report(xml(7).replace(b"utf-8", encoding.encode()), "7.xml")


def test_an_image_that_a_report_names_twice_counts_once(tmp_path: Path) -> None:
    data = xml(1).replace(b"-1001", b"-1002")
    assert parse_report(data, "1.xml").images == ("CXR1_IM-0001-1002",)
    reports = archive(tmp_path / "r.tgz", data, xml(2))
    assert prepare_iu_xray(reports, tmp_path / "a.json", min_views=2).skipped == {"too few images": 1}


@pytest.mark.parametrize(("section", "left"), [("findings", "no findings"), ("both", "no text")])
def test_a_report_of_nothing_but_blanks_for_names_has_no_text(tmp_path: Path, section: Any, left: str) -> None:
    root = mimic(tmp_path, ("a", "1", "10000001", "train"), ("b", "2", "10000002", "train"))
    (root / "files/p10/p10000002/s2.txt").write_text("FINDINGS: ___\n\nIMPRESSION: ___.\n")
    done = prepare_mimic_cxr(root, tmp_path / "a.json", section=section)
    assert (done.studies["train"], done.skipped) == (1, {left: 1})


@pytest.mark.parametrize("name", ["mimic-cxr-2.0.0-split.csv", "files/p10/p10000001/s1.txt"])
def test_an_output_that_lies_among_what_is_read_is_refused_and_stays(tmp_path: Path, name: str) -> None:
    root = mimic(tmp_path, ("a", "1", "10000001", "train"))
    before = (root / name).read_bytes()
    argv = ["mimic_cxr", "--release", str(root), "--output"]
    with pytest.raises(InputError, match="is no annotation file, and lies in what release names"):
        main([*argv, str(root / name)])
    assert (root / name).read_bytes() == before
    for _ in range(2):  # what an earlier run wrote there may be written again
        main([*argv, str(root / "annotation.json")])
    assert stored(root / "annotation.json")["train"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seed", "7"], "--seed 7: no effect with --split_from"),
        (["--layout", "r2gen", "--image_ext", "jpg"], "--image_ext jpg: no effect with --layout r2gen"),
    ],
)
def test_flags_of_iu_xray_that_another_makes_void_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    reports = archive(tmp_path / "r.tgz", xml(1))
    argv = ["iu_xray", "--reports", str(reports), "--split_from", str(official(tmp_path / "o.json")), "--output"]
    main([*argv, str(tmp_path / "a.json"), *more])
    assert said in capsys.readouterr().err
