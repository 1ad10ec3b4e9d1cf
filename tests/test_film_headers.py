"""What the headers of films tell of a study and of the one before, and whether the films belong together."""

from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from r2gengpt.errors import InputError
from r2gengpt.films.containers import DicomChoice
from r2gengpt.films.context import age_of, check_prior, context_of, date_in, days_between, since
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.films.film import Film, FilmStudy, check_study, check_together, contradiction, note_of
from r2gengpt.text.context import Context


def header(**more: Any) -> DicomHeader:
    return DicomHeader(**{**dict.fromkeys(("study_uid", "series_uid", "instance_uid", "class_uid"), ""),
                          "modality": "DX", **more})  # fmt: skip


NOTHING = header()
NAMED = header(patient_id="P-1", study_uid="1.2", name="Doe^Ann", sex="F", accession="A-1")

# ------------------------------------------------------------------ what is known of the study


def test_each_field_is_the_first_films_that_has_one() -> None:
    first = header(reason=" ", study_description=" ", sex="O", view="PA")
    second = header(reason="Cough", study_description="CHEST", sex="F", age="063Y", view="LL")
    third = header(reason="Fever", study_description="THORAX", sex="M", age="064Y", view="PA")
    assert context_of([first, None, second, third]) == Context("Cough", "CHEST", "", 63.0, "F", "PA, LL")
    assert context_of([third, second]) == Context("Fever", "THORAX", "", 64.0, "M", "PA, LL")
    assert context_of([None, NOTHING]) == Context()


@pytest.mark.parametrize(
    ("age", "years"),
    [("000Y", 0), ("001Y", 1), ("130Y", 130), ("131Y", None), ("001M", 1 / 12), ("120M", 10), ("001W", 7 / 365.25),
     ("365D", 365 / 365.25), ("63Y", None), ("0063Y", None), ("063", None), ("063y", None), ("063YX", None)],
)  # fmt: skip
def test_an_age_is_three_digits_and_a_unit(age: str, years: float | None) -> None:
    assert age_of(header(age=age)) == (None if years is None else pytest.approx(years))


@pytest.mark.parametrize(
    ("born", "taken", "days"),
    [("20200101", "20200101", 0), ("20200101", "20200102", 1), ("20200101", "20210101", 366),
     ("20200102", "20200101", None), ("18960101", "20260101", 47482), ("18960101", "20260102", None),
     ("", "20260101", None), ("19500101", "", None)],
)  # fmt: skip
def test_without_an_age_it_is_the_time_since_birth_up_to_130_years(born: str, taken: str, days: int | None) -> None:
    years = None if days is None else pytest.approx(days / 365.25)  # 130 years are 47,482.5 days
    assert age_of(header(birth_date=born, study_date=taken)) == years


@pytest.mark.parametrize("text", ["2024010", "202401011", "20241301", "20240100", "00000101", "2024-1-1", " 2024010"])
def test_what_is_no_day_is_no_date(text: str) -> None:
    assert date_in(text) is None


# ------------------------------------------------------------------ the study before

NOW = replace(NAMED, study_date="20260110", birth_date="19500102")
BEFORE = replace(NOW, study_uid="1.3", study_date="20260101")


def test_the_days_since_the_study_before_are_those_between_the_first_dates() -> None:
    undated = replace(NOW, study_date="")
    assert days_between([None, undated, NOW, replace(NOW, study_date="20270101")], [undated, BEFORE, NOW]) == 9
    assert days_between([NOW], [undated]) is None
    assert days_between([undated], [BEFORE]) is None
    assert days_between([NOW], [None]) is None
    assert days_between([], []) is None


@pytest.mark.parametrize(("given", "days"), [(None, 9.0), (0.0, 0.0), (30.0, 30.0)])
def test_the_days_that_a_caller_tells_are_kept(given: float | None, days: float) -> None:
    found = since(Context("Cough", prior_days=given), [NOW], [BEFORE])
    assert (found.indication, found.prior_days) == ("Cough", days)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"patient_id": "P-2"}, "are of two patients (their Patient IDs differ)"),
        ({"birth_date": "19500103"}, "are of two patients (their birth dates differ)"),
        ({"study_uid": "1.2"}, "are one study"),
    ],
)
def test_a_prior_of_another_patient_or_of_the_same_study_is_refused(more: dict[str, Any], words: str) -> None:
    for context in (Context(), Context(prior_days=3.0)):
        with pytest.raises(InputError) as caught:
            since(context, [None, NOW], [None, BEFORE, replace(BEFORE, **more)])
        assert (caught.value.field, str(caught.value)) == ("prior", f"study and prior {words}")


def test_a_prior_whose_names_or_issuers_differ_is_of_another_patient() -> None:
    one, other = header(name="Doe^Ann"), header(name="Roe^Ann")
    with pytest.raises(InputError, match="their names differ"):
        check_prior([one], [other])
    with pytest.raises(InputError, match="have two issuers"):
        check_prior([replace(NOW, issuer="A")], [replace(BEFORE, issuer="B")])
    check_prior([one], [replace(one, name="DOE^ANN^^Dr.")])


def test_a_prior_that_says_nothing_contradicts_nothing() -> None:
    check_prior([NOW], [NOTHING, None])
    check_prior([NOTHING, None], [BEFORE])
    check_prior([NOTHING], [NOTHING])


def test_a_prior_may_be_of_the_same_day_and_of_no_later_one() -> None:
    check_prior([NOW], [replace(BEFORE, study_date="20260110")])
    with pytest.raises(InputError, match=r"is later than the study$") as caught:
        check_prior([NOW], [replace(BEFORE, study_date="20260111")])
    assert caught.value.field == "prior"


# ------------------------------------------------------------------ films that belong together


@pytest.mark.parametrize(
    ("names", "one"),
    [(("Doe^Ann", "ANN^DOE"), True), (("Doe^Ann", "Doe Ann"), True), (("Doe^Ann", "Doe^Ann^Mary^Dr.^jr."), True),
     (("Doe^Ann=X^Y", "Doe^Ann=V^W"), True), (("Doe^Ann", ""), True), (("Doe^Ann", "^^Mary"), True),
     (("Doe^Ann", "Doe"), False), (("Doe^Ann", "Doe^Anne"), False), (("Doe^Ann", "Doe^Ann Mary"), False)],
)  # fmt: skip
def test_names_are_the_same_words_of_family_and_given_name_in_any_order(names: tuple[str, str], one: bool) -> None:
    found = contradiction([header(name=name) for name in names])
    assert (found is None) == one
    assert contradiction([header(name=name, patient_id="P-1") for name in names]) is None


def test_an_issuer_alone_names_no_patient() -> None:
    one, other = (header(issuer=issuer) for issuer in "AB")
    assert contradiction([one, other]) is None
    found = contradiction([None, *(replace(header, patient_id="P-1") for header in (one, one, other))])
    assert found is not None
    assert (found.first, found.second) == (1, 3)


def test_patients_are_compared_before_studies() -> None:
    found = contradiction([NAMED, replace(NAMED, study_uid="1.9"), replace(NAMED, patient_id="P-2")])
    assert found is not None
    assert (found.first, found.second, "two patients" in found.why) == (0, 2, True)


def test_films_that_contradict_each_other_are_named_and_may_be_asked_for() -> None:
    headers = [NAMED, None, replace(NAMED, study_uid="1.9")]
    for check in (check_study, check_together):
        with pytest.raises(
            InputError, match=r"^images a and c are of two studies .*: give the views of ONE study"
        ) as at:
            check("abc", headers, DicomChoice())
        assert at.value.field == "mixed_patients"
        check("abc", headers, DicomChoice(mixed_patients=True))
        check("ab", headers[:2], DicomChoice())


@pytest.mark.parametrize(
    ("choice", "field", "words"),
    [
        (DicomChoice(frame=1), "frame", "frame 1"),
        (DicomChoice(frame=2, mixed_patients=True), "frame", "frame 2"),
        (DicomChoice(mixed_patients=True), "mixed_patients", "mixed_patients True"),
    ],
)
def test_a_choice_for_dicom_needs_a_dicom_film(choice: DicomChoice, field: str, words: str) -> None:
    with pytest.raises(InputError, match=f"^{words}: belongs to DICOM, and none of the images is$") as caught:
        check_study("ab", [None, None], choice)
    assert caught.value.field == field
    check_study("ab", [None, NAMED], choice)
    check_study("ab", [None, None], DicomChoice(force=True))


CHECK = "CHECK WHOSE IMAGES THESE ARE: "
OTHER = replace(NAMED, instance_uid="1.5")


@pytest.mark.parametrize(
    ("headers", "note"),
    [
        ([NAMED] * 3, ""),
        ([NAMED, replace(OTHER, sex="", name="", accession="")], ""),
        ([NAMED, None, None], "2 of 3 name no patient, whether all are of one patient is not known"),
        ([NAMED, NAMED, None], "1 of 3 names no patient, whether all are of one patient is not known"),
        ([NOTHING, None], "2 of 2 name no patient, whether all are of one patient is not known"),
        ([NOTHING, NOTHING], ""),
        ([None, None], ""),
        (
            [NAMED, replace(NAMED, patient_id="")],
            "1 of 2 names no patient, whether all are of one patient is not known",
        ),
        ([NAMED, replace(NAMED, study_uid="")], "1 of 2 names no study, whether all are of one study is not known"),
        (
            [NAMED, *[replace(NAMED, study_uid="")] * 2],
            "2 of 3 name no study, whether all are of one study is not known",
        ),
        ([replace(NAMED, study_uid="")] * 2, ""),
        ([NAMED, replace(NAMED, sex="M")], "films of one study differ in the patient's sex"),
        ([NAMED, replace(NAMED, name="Roe^Eve")], "films of one study differ in the patient's name"),
        ([NAMED, replace(NAMED, name="Roe^Ann")], ""),
        ([NAMED, replace(NAMED, name="Roe^Eve", sex="M")], "films of one study differ in the patient's name and sex"),
        ([OTHER, replace(OTHER, view="LL")], "several films that differ have one SOP Instance UID"),
        ([OTHER, OTHER], ""),
        ([OTHER, replace(OTHER, accession="A-2", instance_uid="1.6")], "films of one study have two accession numbers"),
    ],
)
def test_the_note_is_what_is_doubtful_first(headers: list[DicomHeader | None], note: str) -> None:
    assert note_of(headers) == (CHECK + note if note else "")
    films = tuple(Film(str(place), None, one) for place, one in enumerate(headers))
    assert FilmStudy(films).note == note_of(headers)


def test_the_views_of_a_study_are_those_that_its_films_name() -> None:
    def views(*headers: DicomHeader | None) -> tuple[str, ...]:
        return FilmStudy(tuple(Film("x", None, one) for one in headers)).views

    side = header(view="LATERAL", laterality="L")
    assert views(header(view="PA"), None, side, NOTHING) == ("PA", "", "LATERAL L", "")
    assert views(None, NOTHING) == ()


def test_the_pictures_of_a_study_are_those_of_its_films() -> None:
    pictures = [Image.new("RGB", (2, side)) for side in (3, 4)]
    assert FilmStudy(tuple(Film("x", one) for one in pictures)).pictures == pictures
    with pytest.raises(AssertionError):
        _ = Film("header alone", None).shown
