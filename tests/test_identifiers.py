"""What in a report may name a person: each kind is found however it is written, and measures and levels are none."""

import pytest

from r2gengpt.text.identifiers import Sign, folded, signs_in

NAMES, NUMBERS = ("Müller^Jean-Luc", "Ärztin^Ada"), ("P-77", "A 4711 B")
FOUND = {
    Sign.DATE: [
        "Compared with 03/14/2024.",
        "compared with 14.3.2024",
        "since 2024-03-14",
        "film of March 14, 2024",
        "on 14 march",
        "on 3/14",
        "at 14:35",
        "at 2 pm",
        "study of 20240314",
        "on tuesday",
        "in december 2023",
        "of 2024-03",
        "of 03-2024",
        "of 3.2024",
        "on 14 03 2024",
    ],
    Sign.PHONE: ["call 555-1234", "pager 4512", "tel. 030 1234567", "+49 30 1234567", "(555) 123-4567", "ext: 77"],
    Sign.NUMBER: [
        "MRN 12",
        "accession no. 5",
        "patient id 7",
        "number 12345",
        "ssn is known",
        "123-45-6789",
        "x-44321",
        "1.2.840.10008.5",
        "12 345 678",
    ],
    Sign.NAME: [
        "seen by dr. x",
        "dr miller was informed",
        "mrs jones",
        "Smith, MD",
        "signed by js",
        "findings were discussed by telephone with the ward",
        "patient: miller",
        "the lungs of Miller",
        "Miller has clear lungs",
        "MILLER",
        "Jean-Pierre",
        "O’Brien",
        "unlike Kerley",
        "unlike Wu",
        "山田",
        "иванов",
    ],
    Sign.ADDRESS: ["a@b.example", "see www.example.org", "https://example.org", "12 oak street", "10.0.0.12"],
    Sign.AGE: [
        *("a 93-year-old woman", "aged 101", "92 yo man", "92 y.o. man", "95 y. o.", "94 y/o", "98-yr-old", "91 yrs"),
        *("91 years of age", "95F", "102 m", "in her 90s", "in her nineties", "ninety-two years old", "a nonagenarian"),
        "a hundred-year-old",
    ],
    Sign.OWN: [
        "muller",
        "MÜLLER is worse",
        "jean has a nodule",
        "reported for ada",
        "p77",
        "P 77",
        "case a-4711-b",
        "luc’s lungs",
    ],
}


@pytest.mark.parametrize(("sign", "text"), [(sign, text) for sign, texts in FOUND.items() for text in texts])
def test_each_way_to_name_somebody_is_found(sign: Sign, text: str) -> None:
    for whole in (text, f"The lungs are clear, {text}, no effusion.", f"Clear lungs.\n{text}\nNo effusion."):
        assert sign in signs_in(whole, NAMES, NUMBERS)


@pytest.mark.parametrize(
    "text",
    [
        "Nodule of 12 x 14 mm in the right 7th rib. L4/5 and T12 are normal.",
        "Kerley B lines. The tip of the Swan-Ganz catheter is 8.5 cm above the carina.",
        "ETT, NGT and PICC are unchanged. PA and lateral views.",
        "COVID-19 pneumonia. Angle of 45 degrees, 5 µm. Change since 1998.",
        "LUNGS ARE CLEAR. HEART SIZE IS NORMAL.",
        "Hodgkin lymphoma. Harrington rods. A 64-year-old man.",
        "",
    ],
)
def test_measures_levels_devices_and_signs_named_after_people_are_none(text: str) -> None:
    assert signs_in(text, NAMES, NUMBERS) == ()


def test_words_that_are_known_are_no_names() -> None:
    assert signs_in("Sternoclavicular joints are normal.") == (Sign.NAME,)
    assert signs_in("Sternoclavicular joints are normal.", known={"sternoclavicular"}) == ()
    assert signs_in("Normal. sternoclavicular joints") == ()


def test_the_patients_own_name_is_found_though_it_is_a_known_word() -> None:
    assert signs_in("A long line.", ["Long^Ann"], known={"long"}) == (Sign.OWN,)
    assert signs_in("A line of 2 cm.", [], ["2"]) == (Sign.OWN,)
    assert signs_in("A line.", ["", "^", "A^B"], ["", "-"]) == (), "single letters and nothing are no names"


def test_accents_and_case_are_no_difference() -> None:
    assert folded("MÜLLER Élodie Straße") == "muller elodie strasse"
