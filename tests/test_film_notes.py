"""Case notes: which sentences describe the film, and which are the patient's affair."""

import pytest

from r2gengpt.data.prepare.notes import film_sentences
from timed import grows_linearly


@pytest.mark.parametrize(
    ("note", "kept"),
    [
        ("Fever for two days. Patchy opacities in both lungs.", "Patchy opacities in both lungs."),
        ("A 50-year-old man with cough. Chest X-ray shows a right pleural effusion.", "Right pleural effusion."),
        ("AP chest X-ray on the second day showed diffuse opacities (Fig. 2).", "Diffuse opacities."),
        (
            "Chest radiograph demonstrating consolidation in the left lower lobe (red arrow)",
            "Consolidation in the left lower lobe.",
        ),
        ("Chest X-ray: infiltrates on both sides", "Infiltrates on both sides."),
        (
            "Presentation: Cough. Imaging Notes: Heart size normal.. Lungs clear.. Discussion: She had pneumonia.",
            "Heart size normal. Lungs clear.",
        ),
        (
            "Presentation: Known nodules. Imaging notes: Opacity in the left base. Case Discussion: Lung biopsy.",
            "Opacity in the left base.",
        ),
        (
            "Consolidation in the right lung. CT shows nodules in the left lung. The lungs hold cysts and nodules.",
            "Consolidation in the right lung.",
        ),
        ("CT shows a nodule. Chest radiograph: opacity in the right lung.", "Opacity in the right lung."),
        ("Multiple opacities considered typical for COVID-19. No effusion.", "Multiple opacities. No effusion."),
        (
            "Progressive consolidation in the left lung. Endotracheal tube in situ.",
            "Consolidation in the left lung. Endotracheal tube in situ.",
        ),
        ("Radiological worsening with bilateral opacities.", "Bilateral opacities."),
        ("Opacities in both lungs. Opacities in both lungs.", "Opacities in both lungs."),
        ("Elevated CRP (14 mg/dL, cardiac troponin 1 ng/L). Opacities in both lungs.", "Opacities in both lungs."),
        ("The ?ground-glass? opacities are peripheral,mostly.", "The ground-glass opacities are peripheral, mostly."),
        ("No significant findings. Lungs clear.", "No significant findings. Lungs clear."),
        ("Normal appearances.", "Normal appearances."),
        ("Air-space shadowing in the left base.", "Air-space opacity in the left base."),
        ("A heterogeneous condensation in the RUL.", "A heterogeneous consolidation in the RUL."),
    ],
)
def test_sentences_on_the_film_are_kept_in_their_own_words(note: str, kept: str) -> None:
    assert film_sentences(note) == kept


@pytest.mark.parametrize(
    "note",
    [
        "",
        "Fever and cough for three days. Discharged home.",
        "The patient was treated with antibiotics and the lung recovered.",
        "CT shows consolidation in both lungs.",
        "Postmortem radiography showed opacities in both lungs.",
        "The opacity has resolved since the prior radiograph.",
        "Minor regression of the opacities compared with the earlier film.",
        "Biopsy of the lung mass was done. RT-PCR positive.",
        "Typical appearance of COVID-19 pneumonia in both lungs.",
        "Interval increase in size of the opacities.",
    ],
)
def test_history_treatment_other_examinations_and_earlier_films_are_left_out(note: str) -> None:
    assert film_sentences(note) == ""


@pytest.mark.parametrize(
    "note",
    [
        "Further progression of the opacities since yesterday. No pleural effusion.",
        "Endotracheal tube in situ. The lungs have improved.",
        "No pneumothorax.",
    ],
)
def test_a_note_that_only_tells_of_devices_and_of_what_is_absent_is_no_report(note: str) -> None:
    assert film_sentences(note) == ""


def test_a_long_note_is_cut_to_five_sentences() -> None:
    note = " ".join(f"Opacity number {word} in the lung." for word in ("one", "two", "three", "four", "five", "six"))
    assert film_sentences(note).count(".") == 5


def test_blanks_in_a_row_are_read_in_linear_time() -> None:
    assert film_sentences("Chest X-ray shows opacity at the left base.")

    def read(blanks: int) -> None:
        assert film_sentences(f"Chest X-ray shows opacity{' ' * blanks}at the left base.")

    assert grows_linearly(read, 4000, 32000)
