"""Where findings lie is read from reports and scored apart from whether they are there."""

import json
import re

import pytest

from r2gengpt.metrics.labels.family import LABEL_F1
from r2gengpt.metrics.labels.location import KINDS, LOCATION_NAMES, LOCATION_TITLES
from r2gengpt.metrics.labels.places import located
from r2gengpt.metrics.measure import choose
from r2gengpt.metrics.protocols import PROTOCOLS
from r2gengpt.metrics.records import Scores
from r2gengpt.metrics.score import score
from r2gengpt.metrics.summary import short_table

READ = {
    "Small left pleural effusion and right lower lobe consolidation.": {
        "Pleural Effusion": "left",
        "Consolidation": "right lower",
    },
    "Bilateral effusions, right greater than left.": {"Pleural Effusion": "left, right"},
    "Small left and moderate right effusions, with left basilar atelectasis.": {
        "Pleural Effusion": "left, right",
        "Atelectasis": "left lower",
    },
    "Left lower lobe atelectasis and effusion.": {"Atelectasis": "left lower", "Pleural Effusion": "left lower"},
    "Atelectasis and effusion at the left base.": {"Atelectasis": "left lower", "Pleural Effusion": "left lower"},
    "There is edema and a left effusion.": {"Edema": "", "Pleural Effusion": "left"},
    "Opacities in the right upper and left lower lobes.": {"Lung Opacity": "left lower, right upper"},
    "Opacity at the base of the left lung and at the apex of the right lung.": {
        "Lung Opacity": "left lower, right upper"
    },
    "Left upper and lower lobe opacity.": {"Lung Opacity": "left lower, left upper"},
    "Opacity in the left lower lobe may represent atelectasis or pneumonia.": {
        "Lung Opacity": "left lower",
        "Atelectasis": "left lower",
        "Pneumonia": "left lower",
    },
    "Bibasilar atelectasis.": {"Atelectasis": "left lower, right lower"},
    "Biapical scarring.": {"Lung Opacity": "left upper, right upper"},
    "RLL consolidation. LUL nodule.": {"Consolidation": "right lower", "Lung Lesion": "left upper"},
    "Right middle lobe consolidation.": {"Consolidation": "right middle"},
    "Opacity in the lingula.": {"Lung Opacity": "left middle"},
    "Left-sided effusion. The right lung is clear.": {"Pleural Effusion": "left"},
    "Left effusion without right pneumothorax.": {"Pleural Effusion": "left"},
    "Right IJ catheter. Fracture of the left fifth rib.": {"Support Devices": "right", "Fracture": "left"},
    "Rt effusion. Lt basal consolidation.": {"Pleural Effusion": "right", "Consolidation": "left lower"},
    "R effusion w/o L pneumothorax. R/O pneumonia.": {"Pleural Effusion": "right", "Pneumonia": ""},
    "Effusions b/l.": {"Pleural Effusion": "left, right"},
    "RMZ consolidation, left UZ nodule.": {"Consolidation": "right middle", "Lung Lesion": "left upper"},
    "Left pneumothorax with mediastinal shift to the right.": {"Pneumothorax": "left"},
    "Opacity, trachea deviated to the left.": {"Lung Opacity": ""},
    "The left heart is enlarged. No left effusion.": {},
    "Opacities in the right base consistent with atelectasis.": {
        "Lung Opacity": "right lower",
        "Atelectasis": "right lower",
    },
    "Right pneumothorax on the left lateral decubitus film.": {"Pneumothorax": "right"},
    "A right catheter ends in the left atrium.": {"Support Devices": "right"},
    "Perihilar opacity. Upper limits of normal.": {"Lung Opacity": "hilar"},
    "Effusion with edema and consolidation on the left.": {
        "Pleural Effusion": "",
        "Edema": "left",
        "Consolidation": "left",
    },
    "The right lung is clear, left effusion.": {"Pleural Effusion": "left"},
    "Left effusion, the right base is unremarkable.": {"Pleural Effusion": "left"},
    "The patient is rotated to the right, with a left effusion.": {"Pleural Effusion": "left"},
    "Effusion on the right but not on the left.": {"Pleural Effusion": "right"},
    "Effusion on the right, none at the left base.": {"Pleural Effusion": "right"},
    "Clear right lung, left effusion.": {"Pleural Effusion": "left"},
    "Effusion on the left below a right nodule.": {"Pleural Effusion": "left", "Lung Lesion": "right"},
    "A nodule with effusion, right greater than left.": {"Lung Lesion": "", "Pleural Effusion": "left, right"},
    "Effusion on the left with a nodule.": {"Pleural Effusion": "left", "Lung Lesion": ""},
    "Left lower lobe atelectasis, consolidation and effusion.": {
        "Atelectasis": "left lower",
        "Consolidation": "left lower",
        "Pleural Effusion": "left lower",
    },
    "Atelectasis, consolidation and effusion at the left base.": {
        "Atelectasis": "left lower",
        "Consolidation": "left lower",
        "Pleural Effusion": "left lower",
    },
    "Apical capping and effusion.": {"Pleural Other": "upper", "Pleural Effusion": ""},
    "Bilateral opacities at the apex of the right lung.": {"Lung Opacity": "left, right upper"},
    "Retrocardiac and apical opacities.": {"Lung Opacity": "left lower, upper"},
    "No acute disease.": {},
    "": {},
}


def in_words(text: str) -> dict[str, str]:
    """Observation → its sides with their heights, sides without one, heights without a side."""
    found = {}
    for name, place in located(text).items():
        pairs = {f"{side} {height}" for side, height in place.both}
        alone = place.sides - {side for side, _ in place.both}
        loose = place.heights - {height for _, height in place.both}
        found[name] = ", ".join(sorted(pairs | alone | loose))
    return found


@pytest.mark.parametrize("text", READ)
def test_a_word_of_place_belongs_to_the_finding_beside_it(text: str) -> None:
    assert in_words(text) == READ[text]


def scored(predictions: list[str], references: list[str]) -> Scores:
    def named(texts: list[str]) -> list[tuple[str, str]]:
        return [(str(i), text) for i, text in enumerate(texts)]

    wanted = {study: [text] for study, text in named(references)}
    return score(dict(named(predictions)), wanted, PROTOCOLS["clean"], choice=choose(labels=True), resamples=0)


REFERENCES = [
    "Left pleural effusion. Consolidation in the right lower lobe.",
    "Nodule in the left upper lobe and atelectasis at the right base.",
    "The lungs are clear.",
    "Right apical pneumothorax with a right chest tube.",
]
SWAPS = {
    "side": {"left": "right", "right": "left"},
    "place": {"upper": "lower", "lower": "upper", "base": "apex", "apical": "basal"},
}


def swapped(text: str, words: dict[str, str]) -> str:
    return re.sub(r"\w+", lambda match: words.get(match[0].lower(), match[0]), text)


@pytest.mark.parametrize("kind", SWAPS)
def test_swapped_sides_and_places_have_all_labels_and_none_of_the_places(kind: str) -> None:
    scores = scored([swapped(text, SWAPS[kind]) for text in REFERENCES], REFERENCES)
    (other,) = set(SWAPS) - {kind}
    assert scores.metrics[LABEL_F1].value == 1.0
    assert scores.metrics[f"{kind}_f1"].value == 0.0
    assert scores.metrics[f"{other}_f1"].value == 1.0
    assert scores.metrics["side_and_place_f1"].value == 0.0


def test_equal_reports_agree_in_every_kind() -> None:
    scores = scored(REFERENCES, REFERENCES)
    assert {scores.metrics[name].value for name in LOCATION_NAMES} == {1.0}
    assert scores.to_json()["location"] == {
        "compared": 6,
        "side": {"agreed": 6, "predicted": 6, "reference": 6},
        "place": {"agreed": 4, "predicted": 4, "reference": 4},
        "side_and_place": {"agreed": 4, "predicted": 4, "reference": 4},
    }


def test_a_finding_on_either_side_with_its_places_crossed_is_seen_by_both_at_once() -> None:
    scores = scored(
        ["Nodules in the left upper and right lower lobes."], ["Nodules in the right upper and left lower lobes."]
    )
    assert [scores.metrics[f"{kind}_f1"].value for kind in KINDS] == [1.0, 1.0, 0.0]


def test_half_of_the_sides_is_half_of_the_recall() -> None:
    scores = scored(["Left effusion."], ["Bilateral effusions."])
    assert [scores.metrics[f"side_{name}"].value for name in ("precision", "recall")] == [1.0, 0.5]
    assert scores.metrics["side_f1"].value == pytest.approx(2 / 3)


def test_only_findings_of_both_count_and_only_what_the_reference_places() -> None:
    scores = scored(
        ["Left effusion. Right nodule. Right lower lobe atelectasis."], ["Effusion. Left fracture. Atelectasis, right."]
    )
    told = scores.to_json()["location"]
    assert told["compared"] == 2
    assert told["side"] == {"agreed": 1, "predicted": 1, "reference": 1}
    assert told["place"] == {"agreed": 0, "predicted": 0, "reference": 0}


def test_several_references_are_read_as_one() -> None:
    scores = score(
        {"a": "Left effusion."},
        {"a": ["Effusion.", "Left effusion."]},
        PROTOCOLS["clean"],
        choice=choose(labels=True),
    )
    assert scores.metrics["side_f1"].value == 1.0


def test_a_terminal_and_scores_json_show_them_and_without_labels_they_are_named_as_missing() -> None:
    scores = scored(REFERENCES, REFERENCES)
    shown = {line.split()[0] for line in short_table(scores).splitlines() if line}
    assert set(LOCATION_TITLES) <= shown
    assert set(LOCATION_NAMES) <= set(json.loads(json.dumps(scores.to_json()))["metrics"])
    assert choose().not_available["location"] == choose().not_available["clinical"]
