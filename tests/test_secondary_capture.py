"""A draft as a picture: what the picture shows, that its warning is on it, and whose the object says it is."""

import dataclasses
import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import Dataset, dcmread

from dicom_files import ROOT, data_of, film
from r2gengpt.clinical.documents.draft import Draft
from r2gengpt.clinical.documents.forms import FORMS, bytes_of
from r2gengpt.clinical.documents.picture_page import (
    BAR,
    BODY,
    LIKE,
    MARGIN,
    SHORTEST,
    WIDTH,
    _wrapped,
    in_ascii,
    report_picture,
)
from r2gengpt.clinical.documents.secondary_capture import LONGEST
from r2gengpt.errors import InputError
from r2gengpt.films.dicom.header import check_is_chest_film, read_header
from r2gengpt.text.written import NOTICE
from test_clinical_forms import draft, header, with_film

FORM = "secondary-capture"


def read(one: Draft) -> Dataset:
    return dcmread(io.BytesIO(bytes_of(one, FORM)))


def test_the_object_says_that_text_is_burned_in_and_whose_it_is() -> None:
    made = read(with_film())
    assert (made.BurnedInAnnotation, made.Modality, made.ConversionType) == ("YES", "OT", "WSD")
    assert (made.PatientID, made.PatientName, made.AccessionNumber) == ("P-1", "Muster^Erika", "A 77")
    assert (made.StudyInstanceUID, made.BodyPartExamined) == (f"{ROOT}1", "CHEST")
    assert {one.ReferencedSOPInstanceUID for one in made.SourceImageSequence} == {f"{ROOT}3", f"{ROOT}4"}
    assert NOTICE in made.DerivationDescription


def test_the_picture_is_light_on_black_under_and_over_the_warning() -> None:
    pixels = read(with_film()).pixel_array
    assert pixels.shape == (SHORTEST, WIDTH)
    for bar in (pixels[:BAR], pixels[-BAR:]):
        assert np.median(bar) == 255
        assert (bar == 0).sum() > 1000, "the warning's letters"
    page = pixels[BAR:-BAR]
    assert np.median(page) == 0
    assert page[:, :MARGIN].max() == page[:, -MARGIN // 2 :].max() == 0, "nothing is cut at the sides"
    assert (page > 200).sum() > 5000


def rows_of_letters(pixels: np.ndarray[Any, Any]) -> int:
    """How many lines of letters there are between the bars."""
    lit = (pixels[BAR:-BAR] > 100).any(axis=1).astype(int)
    return int((np.diff(lit, prepend=0) == 1).sum())


def test_every_line_of_a_draft_is_drawn() -> None:
    plain, more = (report_picture("", [("Findings", "\n".join(["HHHH"] * count))]) for count in (3, 7))
    assert (rows_of_letters(plain), rows_of_letters(more)) == (4, 8)


def test_a_long_draft_makes_the_picture_taller_and_not_its_letters_smaller() -> None:
    text = "The lungs are clear. " * 190
    made = read(draft(text))
    assert made.Rows > SHORTEST
    assert made.Columns == WIDTH
    assert rows_of_letters(made.pixel_array) > 45


@settings(deadline=None, max_examples=30)
@given(st.text(max_size=300))
def test_no_line_is_wider_than_the_page_and_no_word_is_lost(text: str) -> None:
    plain = in_ascii(text)
    lines = list(_wrapped(plain, BODY))
    assert "".join("".join(lines).split()) == "".join(plain.split())
    pixels = report_picture("", [("F", plain)])
    assert pixels[BAR:-BAR, WIDTH - MARGIN // 2 :].max() == 0


@given(st.text(max_size=50))
def test_every_letter_is_drawn_as_one_that_the_font_has(text: str) -> None:
    assert all(" " <= letter <= "~" for letter in in_ascii(text))


def test_letters_with_a_like_are_not_question_marks() -> None:
    assert "?" not in in_ascii("Größe, élevé, Łódź, 3 cm², ½, 37 °C, 5 µm, „so“ – ≥ ≤ ±" + "".join(LIKE))
    assert in_ascii("心") == "?"


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("2½ cm", "2 1/2 cm"), ("½ cm", "1/2 cm"), ("2 ½", "2 1/2"), ("10³/mm³", "10^3/mm3"), ("10¹²", "10^12"),
        ("10⁻³", "10^-3"), ("−5", "-5"), ("CO₂, T₁₂", "CO2, T12"),
    ],
)  # fmt: skip
def test_no_number_is_drawn_as_another_one(text: str, drawn: str) -> None:
    assert in_ascii(text) == drawn


def test_the_text_stands_in_the_comments_too_with_all_its_letters() -> None:
    made = read(draft("FINDINGS: Größe 心. IMPRESSION: Clear."))
    assert "Größe 心." in made.ImageComments
    assert made.ImageComments.index("FINDINGS") < made.ImageComments.index("IMPRESSION")
    long = dataclasses.replace(draft(), review=("x" * 9000, "y" * 9000))
    assert len(read(long).ImageComments) == LONGEST


def test_a_picture_that_no_image_can_hold_is_refused() -> None:
    with pytest.raises(InputError, match="rows: at most 65535"):
        report_picture("", [("F", "x\n" * 2000)])


@pytest.mark.parametrize("text", ["word " * 40_000, "w" * 200_000, "x\n" * 100_000], ids=["words", "word", "lines"])
@pytest.mark.parametrize("form", list(FORMS))
def test_a_text_that_is_far_too_long_is_whole_in_a_form_or_refused_in_one_line(form: str, text: str) -> None:
    long = draft(text)
    if form == "secondary-capture":
        with pytest.raises(
            InputError, match=r"^the text is too long for a picture, which would have \d+ rows: at most"
        ):
            bytes_of(long, form)
    else:
        assert bytes_of(long, form).count(text[:1].encode()) >= text.count(text[0])


def test_the_program_takes_its_own_picture_for_no_film() -> None:
    made = read_header(bytes_of(draft(), FORM), "x")
    with pytest.raises(InputError, match="modality is OT"):
        check_is_chest_film(made, "x")


def test_a_body_part_that_is_no_code_is_the_chest() -> None:
    odd = dataclasses.replace(header(), body_part="ANOTHER REGION, TOO LONG FOR A CODE")
    assert read(dataclasses.replace(draft(), images=(odd,))).BodyPartExamined == "CHEST"
    assert read_header(data_of(film()), "x").body_part == "CHEST"


@pytest.mark.skipif(shutil.which("dcm2pnm") is None, reason="needs dcmtk")
def test_dcmtk_draws_the_same_pixels(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(bytes_of(with_film(), FORM))
    command = ["dcm2pnm", "+on", "+Wi", "1", str(tmp_path / "x.dcm"), str(tmp_path / "x.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = np.asarray(Image.open(tmp_path / "x.png").convert("L")).astype(int)
    assert np.abs(shown - read(with_film()).pixel_array.astype(int)).max() <= 1
