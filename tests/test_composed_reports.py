"""Reports composed from labels: what they state, what the rule labeller reads in them, how they vary."""

import itertools
import random
import re

import pytest

from r2gengpt.data.prepare import wordings
from r2gengpt.data.prepare.composing import SENTENCES, compose_report, is_normal, stated
from r2gengpt.data.prepare.places import Place
from r2gengpt.data.prepare.sources import NIH14
from r2gengpt.metrics.labels.reading import Label, has_finding, label_report
from r2gengpt.text.observations import ALL_OBSERVATIONS, AP_VIEW, CHILD, FURTHER, LATERAL_VIEW, NO_FINDING, OBSERVATIONS
from r2gengpt.text.sentences import sentence_spans

NIH_NORMAL = {name: float(name == NO_FINDING) for name in NIH14}
KERMANY_NORMAL = {NO_FINDING: 1.0, "Pneumonia": 0.0, CHILD: 1.0}
KERMANY_PNEUMONIA = {NO_FINDING: 0.0, "Pneumonia": 1.0, CHILD: 1.0}
INFECTION = {NO_FINDING: 0.1, "Pneumonia": 0.9, AP_VIEW: 1.0, LATERAL_VIEW: 0.0}
ARDS = {NO_FINDING: 0.0, "Lung Opacity": 1.0}
FREQUENT = (
    "Pneumonia",
    "Lung Opacity",
    "Atelectasis",
    "Edema",
    "Pleural Effusion",
    "Consolidation",
    "Cardiomegaly",
    "Lung Lesion",
)


def nih(*present: str) -> dict[str, float]:
    return {name: float(name in present) for name in NIH14}


def read_back(labels: dict[str, float], key: str, places: dict[str, Place] | None = None) -> None:
    """The labeller reads a composed report as what it states, and as nothing else."""
    text = compose_report(labels, key, places)
    found = dict(label_report(text))
    no_finding = found.pop(NO_FINDING)
    said = stated(labels)
    assert found == {name: said.get(name, Label.BLANK) for name in OBSERVATIONS if name != NO_FINDING}, text
    seen = {name: label for name, label in said.items() if name in OBSERVATIONS}
    assert no_finding == (Label.BLANK if has_finding(seen) else Label.POSITIVE)
    assert len(sentence_spans(text)) <= SENTENCES, text


@pytest.mark.parametrize("labels", [KERMANY_NORMAL, KERMANY_PNEUMONIA, INFECTION, ARDS, NIH_NORMAL])
def test_the_labeller_reads_back_each_sources_labels_in_all_wordings(labels: dict[str, float]) -> None:
    for key in range(60):
        read_back(labels, str(key))


def test_the_labeller_reads_back_every_pair_of_findings_beside_known_absences() -> None:
    findings = [name for name in NIH14 if name != NO_FINDING]
    for few in (*((name,) for name in findings), *itertools.combinations(findings, 2)):
        read_back(nih(*few), " ".join(few))
    for several in itertools.combinations(findings[:8], 4):
        read_back(nih(*several), " ".join(several))


def drawn(number: int, rng: random.Random) -> tuple[dict[str, float], dict[str, Place]]:
    """Labels as any source may have them, and places of some."""
    names = rng.sample(ALL_OBSERVATIONS, rng.choice((1, 2, 4, 8, 16, len(ALL_OBSERVATIONS))))
    values = (0, 0, 0, 0, 1) if number % 2 else (0, 0, 0, 1, 1, 0.9, 0.5, 0.02)
    place = (Place(side, zone) for side in ("right", "left", "both") for zone in ("", "upper", "mid", "lower"))
    places = dict(zip(rng.sample(ALL_OBSERVATIONS, 6), rng.sample(list(place), 6), strict=True))
    return {name: float(rng.choice(values)) for name in names}, places


def test_the_labeller_reads_back_2000_drawn_sets_of_labels_with_and_without_places() -> None:
    rng = random.Random(0)
    for number in range(2000):
        labels, places = drawn(number, rng)
        read_back(labels, str(number), places)


def test_nothing_unknown_is_mentioned() -> None:
    words = "effusion|cardiomegaly|edema|pneumothorax|atelecta|nodule|mass|fracture|emphysema|hernia"
    for key, labels in itertools.product(range(50), (KERMANY_NORMAL, KERMANY_PNEUMONIA, INFECTION)):
        assert not re.search(words, compose_report(labels, str(key)), re.IGNORECASE)


def test_a_normal_film_has_a_normal_report() -> None:
    text = compose_report(NIH_NORMAL, "7")
    assert is_normal(NIH_NORMAL)
    assert re.search(r"lungs (are |appear )?clear|clear lungs", text, re.IGNORECASE)
    assert re.search("heart|cardiac silhouette", text)
    assert "effusion" in text or "pleural fluid" in text


def test_a_childs_film_is_called_one_and_an_adults_is_not() -> None:
    for key in range(20):
        assert re.search("child|Pediatric", compose_report(KERMANY_NORMAL, str(key)))
        assert not re.search("child|Pediatric", compose_report(NIH_NORMAL | {CHILD: 0.0}, str(key)))


def test_a_lateral_film_is_called_one() -> None:
    assert compose_report(ARDS | {LATERAL_VIEW: 1.0}, "a").startswith("Lateral ")


def test_a_likely_pneumonia_is_suspected_and_never_stated() -> None:
    assert stated(INFECTION) == {"Pneumonia": Label.UNCERTAIN}


def test_opacity_is_not_denied_beside_a_finding_that_is_one() -> None:
    assert "Lung Opacity" not in stated(nih("Pneumonia"))
    assert stated(nih("Pleural Effusion"))["Lung Opacity"] == Label.NEGATIVE
    assert stated(KERMANY_PNEUMONIA)["Lung Opacity"] == Label.POSITIVE


def test_what_was_not_assessed_is_named_where_the_source_says_nothing_of_it() -> None:
    assert all("assess" in compose_report(KERMANY_NORMAL, str(key)) for key in range(20))
    assert not any("assess" in compose_report(NIH_NORMAL, str(key)) for key in range(20))


@pytest.mark.parametrize(
    ("name", "place", "words"),
    [
        ("Consolidation", Place("right", "lower"), " in the right lower lung"),
        ("Consolidation", Place("both", "upper"), " in both upper lungs"),
        ("Pneumonia", Place("left"), " in the left lung"),
        ("Pleural Effusion", Place("right", "lower"), " on the right"),
        ("Pneumothorax", Place("both"), " on both sides"),
    ],
)
def test_a_place_that_is_known_is_told(name: str, place: Place, words: str) -> None:
    for key in range(10):
        text = compose_report(nih(name), str(key), {name: place})
        assert words in text
        assert len(re.findall("right|left|both sides|both lungs|both upper", text)) == 1


def test_no_side_is_told_without_a_place() -> None:
    for key, name in itertools.product(range(10), FREQUENT):
        text = compose_report(nih(name), str(key)).replace("Both lungs are clear.", "")
        assert not re.search(r"\b(right|left|bilateral|upper|lower|both)\b", text, re.IGNORECASE)


def test_the_same_film_has_the_same_words_and_others_have_others() -> None:
    assert compose_report(NIH_NORMAL, "0 a") == compose_report(dict(NIH_NORMAL), "0 a")
    assert len({compose_report(NIH_NORMAL, f"0 {key}") for key in range(100)}) > 90
    assert len({compose_report(KERMANY_PNEUMONIA, f"0 {key}") for key in range(200)}) > 60


def test_frequent_findings_have_five_wordings_and_more() -> None:
    assert set(FREQUENT) <= wordings.PRESENT.keys()
    assert all(len(set(wordings.PRESENT[name])) >= 5 for name in FREQUENT)
    assert wordings.BARE.keys() == wordings.PRESENT.keys()
    assert set(ALL_OBSERVATIONS) - wordings.PRESENT.keys() == {NO_FINDING, LATERAL_VIEW, AP_VIEW, CHILD}


@pytest.mark.parametrize("name", FURTHER[:3])
def test_findings_beyond_the_labellers_are_told_in_their_own_word(name: str) -> None:
    word = {"Emphysema": "emphysema", "Fibrosis": "fibrotic", "Hernia": "hernia"}[name]
    for key in range(10):
        there, absent = (compose_report({name: value}, str(key)).lower() for value in (1.0, 0.0))
        assert word in there
        assert re.search(rf"\bno\b[^.]* \w*{word}", absent)
        assert not re.search(r"\bno\b [^.]*" + word, there)


@pytest.mark.parametrize("labels", [{}, {CHILD: 1.0}, {LATERAL_VIEW: 1.0, AP_VIEW: 0.0}, {"Pneumonia": 0.5}])
def test_where_nothing_is_known_there_is_no_report(labels: dict[str, float]) -> None:
    assert compose_report(labels, "a") == ""


def test_an_abnormal_film_of_which_no_more_is_known_is_called_abnormal() -> None:
    assert "bnormal" in compose_report({NO_FINDING: 0.0}, "a")
