"""The report cleaners against hand-worked cases, and against the originals' output on all IU X-ray reports."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2gengpt.text.cleaning import CLEANERS, clean_r2gengpt

IU_DIGEST = "14882b7bda2e0031447311b87700ba971fe57a52a7ce417c7d0a8485a0996eb8"
MIMIC_DIGEST = "6898f66a07056163d54902e8e993d9d3f28278fbac63c58669f5535a5bf2fe4b"
R2GENGPT_MIMIC_DIGEST = "3156d7e28a7ed10538c00fbf216e9df4605a4df4925cbcefb3021ec651fa2a32"
"""SHA-256 of the 2,955 cleaned IU X-ray reports (train, val, test; joined by newlines, UTF-8), made by running the two
repositories' own functions: R2Gen modules/tokenizers.py and R2GenGPT dataset/data_helper.py."""


@pytest.mark.parametrize(
    ("report", "cleaned"),
    [
        ("The lungs are clear. Heart is normal.", "the lungs are clear . heart is normal ."),
        ("", " ."),
        ("No effusion", "no effusion ."),
        ("1. Clear. 2. Normal heart. 3. None.", "clear . normal heart . none ."),
        ("6. Old rib fracture.", "6 . old rib fracture ."),
        ("Fracture of T1. The rest is well.", "fracture of tthe rest is well ."),
        ("Item 2. more", "item . more ."),
        ("Wait.... done", "wait . done ."),
        ("Wait......... done", "wait . done ."),
        ("A. . B.", "a .  . b ."),
        ("Range: 5<6=6>4@x[y]", "range 5664xy ."),
        ("well-known | ~tilde #1 $5", "well-known | ~tilde #1 $5 ."),
        ('the "so-called" and/or it\'s \\ gone', "the so-called andor its  gone ."),
        ("two  blanks\nand a line", "two  blanks\nand a line ."),
        ("( leading", " leading ."),
    ],
)
def test_iu_xray_reports_are_cleaned_as_in_r2gen(report: str, cleaned: str) -> None:
    assert CLEANERS["iu_xray"](report) == cleaned


@pytest.mark.parametrize(
    ("report", "cleaned"),
    [
        ("two  blanks\nand a line", "two blanks and a line ."),
        ("seen by ______ at ___", "seen by  at  ."),
        ("x" + "_" * 200 + "y", "xy ."),
        ("a" + " " * 64 + "b", "a b ."),
        ("a" + " " * 65 + "b", "a  b ."),
        ("Size: 3 cm", "size 3 cm ."),
        (".........end", "end ."),
    ],
)
def test_mimic_cxr_reports_are_cleaned_as_in_r2gen(report: str, cleaned: str) -> None:
    assert CLEANERS["mimic_cxr"](report) == cleaned


@pytest.mark.parametrize("number", [2, 3, 4, 5])
@pytest.mark.parametrize("dataset", ["iu_xray", "mimic_cxr"])
def test_numbers_of_lists_vanish_up_to_five(dataset: str, number: int) -> None:
    clean = CLEANERS[dataset]
    assert clean(f"Clear. {number}. Normal.") == "clear . normal ."
    assert clean(f"Item {number}. more") == "item . more ."
    assert clean(f"Clear. {number}. {number}. Normal.") == "clear . normal .", "each of its two rules takes one"


@pytest.mark.parametrize(("dataset", "halvings"), [("iu_xray", 3), ("mimic_cxr", 8)])
def test_dots_are_halved_so_often_that_a_number_before_them_is_one_of_a_list(dataset: str, halvings: int) -> None:
    most = 2**halvings
    assert CLEANERS[dataset]("1" + "." * most + " Clear.") == "clear ."
    assert CLEANERS[dataset]("1" + "." * (most + 1) + " Clear.") == "1 . clear .", "two dots are left"


@pytest.mark.parametrize(
    ("report", "cleaned"),
    [
        ("Size: 3 cm", "size : 3 cm ."),
        ("Size : 3 cm", "size  : 3 cm ."),
        ("a <b> = @c; [d]?", "a <b> = @c d ."),
        ("two  blanks\nand a line", "two blanks and a line ."),
    ],
)
def test_the_original_r2gengpt_keeps_colons_of_mimic_cxr(report: str, cleaned: str) -> None:
    assert clean_r2gengpt(report, "mimic_cxr") == cleaned


@given(st.text())
def test_the_original_r2gengpt_equals_r2gen_on_iu_xray(report: str) -> None:
    assert clean_r2gengpt(report, "iu_xray") == CLEANERS["iu_xray"](report)


@given(st.text())
def test_plain_is_idempotent_and_keeps_every_word(report: str) -> None:
    cleaned = CLEANERS["plain"](report)
    assert cleaned.split() == report.split()
    assert CLEANERS["plain"](cleaned) == cleaned


def test_an_unknown_data_set_has_no_cleaner() -> None:
    with pytest.raises(KeyError):
        clean_r2gengpt("Clear.", "padchest")


@pytest.mark.skipif("R2GENGPT_SHARED" not in os.environ, reason="needs the IU X-ray annotation (CC BY-NC-ND)")
def test_all_iu_xray_reports_come_out_as_from_the_originals() -> None:
    path = Path(os.environ["R2GENGPT_SHARED"], "iu_xray", "annotation.json")
    splits = json.loads(path.read_text(encoding="utf-8"))
    reports = [study["report"] for split in ("train", "val", "test") for study in splits[split]]
    assert len(reports) == 2955

    def digest(cleaned: list[str]) -> str:
        return hashlib.sha256("\n".join(cleaned).encode()).hexdigest()

    assert digest([CLEANERS["iu_xray"](report) for report in reports]) == IU_DIGEST
    assert digest([clean_r2gengpt(report, "iu_xray") for report in reports]) == IU_DIGEST
    assert digest([CLEANERS["mimic_cxr"](report) for report in reports]) == MIMIC_DIGEST
    assert digest([clean_r2gengpt(report, "mimic_cxr") for report in reports]) == R2GENGPT_MIMIC_DIGEST
