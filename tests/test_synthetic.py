"""The drawn data set: repeatable, balanced, and its words follow from its pictures."""

import os
from pathlib import Path

import numpy as np
import pytest

from r2gengpt.data.annotation import check_images, read_annotation
from r2gengpt.data.prepare.synthetic import LABELS, SENTENCES, draw_film, read_label, write_report, write_synthetic
from r2gengpt.errors import InputError
from r2gengpt.films.reader import load_image
from r2gengpt.text.cleaning import CLEANERS


@pytest.mark.parametrize("cleaner", sorted(CLEANERS))
@pytest.mark.parametrize("label", LABELS)
def test_the_label_is_read_back_from_every_wording_raw_and_cleaned(label: str, cleaner: str) -> None:
    reports = {write_report(label, bool(seed % 2), np.random.default_rng(seed)) for seed in range(30)}
    assert len(reports) == 2 * len(SENTENCES[label])
    for report in reports:
        assert read_label(report) == label
        assert read_label(CLEANERS[cleaner](report)) == label


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The heart is normal in size.",
        "There is an opacity in the left lower lobe.",
        "The lungs are clear. There is an opacity in the left lower lung.",
    ],
)
def test_a_text_without_one_clear_statement_has_no_label(text: str) -> None:
    assert read_label(text) is None


@pytest.mark.parametrize("seed", range(5))
def test_the_opacity_is_bright_at_the_base_of_the_named_lung_and_nowhere_else(seed: int) -> None:
    def bases(label: str) -> tuple[float, float]:
        film = np.asarray(draw_film(label, False, 128, np.random.default_rng(seed)), dtype=float)
        base = film[70:92]
        return base[:, 24:44].mean(), base[:, 84:104].mean()  # the patient's right lung is on the image's left

    clear_right, clear_left = bases("neither")
    for label, right, left in (("right", True, False), ("left", False, True), ("both", True, True)):
        seen_right, seen_left = bases(label)
        assert (seen_right > clear_right + 15) == right
        assert (seen_left > clear_left + 15) == left


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_heart_is_wider(seed: int) -> None:
    wide, normal = (
        np.asarray(draw_film("neither", wide, 128, np.random.default_rng(seed)), dtype=float) for wide in (True, False)
    )
    assert (wide - normal)[75:95, 80:96].mean() > 10


def test_a_written_set_is_balanced_whole_and_readable(tmp_path: Path) -> None:
    path = write_synthetic(tmp_path / "set", train=8, val=4, test=5, seed=1, size=64)
    studies = read_annotation(path, path.parent / "images")
    assert {split: len(of) for split, of in studies.items()} == {"train": 8, "val": 4, "test": 5}
    for split in studies.values():
        check_images(split)
    labels = [read_label(study.report) for study in studies["train"]]
    assert sorted(map(str, labels)) == sorted(LABELS * 2)
    assert load_image(studies["test"][0].image_paths[0]).size == (64, 64)
    assert os.listdir(tmp_path) == ["set"]


def test_a_seed_fixes_every_byte_and_splits_do_not_depend_on_each_other(tmp_path: Path) -> None:
    one = write_synthetic(tmp_path / "one", train=4, val=2, test=2, seed=3, size=48)
    two = write_synthetic(tmp_path / "two", train=4, val=2, test=2, seed=3, size=48)
    fewer = write_synthetic(tmp_path / "fewer", train=1, val=0, test=2, seed=3, size=48)
    other = write_synthetic(tmp_path / "other", train=4, val=2, test=2, seed=4, size=48)
    image = Path("images", "test00001", "0.png")
    assert one.read_bytes() == two.read_bytes()
    assert (one.parent / image).read_bytes() == (two.parent / image).read_bytes()
    assert (one.parent / image).read_bytes() == (fewer.parent / image).read_bytes()
    assert (one.parent / image).read_bytes() != (other.parent / image).read_bytes()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": -1}, "train -1: must be from 0 to 100000"),
        ({"test": 100_001}, "test 100001"),
        ({"size": 31}, "size 31: must be from 32 to 4096 pixels"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_values_out_of_range_are_refused(tmp_path: Path, changes: dict[str, int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        write_synthetic(tmp_path / "set", **{"train": 1, "val": 1, "test": 1, "seed": 0, **changes})
    assert not list(tmp_path.iterdir())


def test_a_directory_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="must be a new or empty directory"):
        write_synthetic(tmp_path, train=1, val=1, test=1, seed=0)
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    assert write_synthetic(tmp_path / "set", train=1, val=0, test=0, seed=0, size=32).is_file()
