"""What the rules read in a sentence: each observation there, denied, doubted; and how statements become labels.

All sentences were written for these tests.
"""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2gengpt.metrics.labels.places import located
from r2gengpt.metrics.labels.reading import FIVE, Label, combine, label_report, named_in, sentences, statements
from r2gengpt.text.observations import NO_FINDING, OBSERVATIONS, SUPPORT_DEVICES
from timed import grows_linearly

POSITIVE, UNCERTAIN, NEGATIVE, BLANK = Label

PRESENT = {
    "Enlarged Cardiomediastinum": ("The upper mediastinum is widened.", "Prominent mediastinal contour."),
    "Cardiomegaly": (
        "Moderate cardiomegaly.",
        "The heart is again enlarged.",
        "Enlargement of the cardiac silhouette.",
    ),
    "Lung Opacity": (
        "Patchy opacity at the right base.",
        "Left lower lobe infiltrate.",
        "Coarse interstitial markings.",
    ),
    "Lung Lesion": ("A 9 mm nodule in the left apex.", "Large hilar mass.", "Known pulmonary metastases."),
    "Edema": ("Mild interstitial edema.", "Pulmonary vascular congestion.", "Findings of congestive heart failure."),
    "Consolidation": ("Dense consolidation of the lingula.", "The right lower lobe is consolidated."),
    "Pneumonia": ("Right middle lobe pneumonia.", "This is an infectious process."),
    "Atelectasis": ("Linear atelectasis at both bases.", "Collapse of the left lower lobe."),
    "Pneumothorax": ("Small apical pneumothorax.", "Bilateral pneumothoraces are present."),
    "Pleural Effusion": ("Layering left pleural effusion.", "Fluid in the right minor fissure.", "Loculated empyema."),
    "Pleural Other": ("Calcified pleural plaques.", "Apical pleural thickening on the left."),
    "Fracture": ("Displaced fracture of the seventh rib.", "The clavicle is fractured."),
    SUPPORT_DEVICES: ("Endotracheal tube above the carina.", "Right PICC ends in the SVC.", "Dual chamber pacemaker."),
}
WORD = {
    "Enlarged Cardiomediastinum": "widening of the mediastinum",
    "Cardiomegaly": "cardiomegaly",
    "Lung Opacity": "airspace opacity",
    "Lung Lesion": "nodule",
    "Edema": "edema",
    "Consolidation": "consolidation",
    "Pneumonia": "pneumonia",
    "Atelectasis": "atelectasis",
    "Pneumothorax": "pneumothorax",
    "Pleural Effusion": "effusion",
    "Pleural Other": "pleural thickening",
    "Fracture": "fracture",
    SUPPORT_DEVICES: "chest tube",
}
DENIED = (
    "No {}.",
    "There is no evidence of {}.",
    "The lungs are expanded without {}.",
    "The {} has resolved.",
    "The {} has cleared.",
    "Negative for {}.",
    "The {} is no longer seen.",
    "Interval resolution of the {}.",
    "Neither haze nor {} is seen.",
    "{} is unlikely.",
    "{}: none.",
    "{}: no.",
    "{}: no; left lower lobe: clear.",
    "{}: absent.",
    "{}: negative.",
    "{}: not seen.",
    "There isn\u2019t any {}.",
    "{} isn't clearly visualised.",
    "{} has been excluded.",
    "{} gone.",
    "{} no longer appreciable.",
    "{} is not confirmed.",
    "Nothing to suggest {}.",
    "Unlikely to represent {}.",
    "Low suspicion for {}.",
    "Low likelihood of {}.",
    "No haemorrhage; {}; or foreign body.",
    "No haemorrhage; emphysema; or {}.",
    "{}: no, trachea central.",
)
DOUBTED = (
    "Rule out {}.",
    "{} cannot be excluded.",
    "{} is not excluded.",
    "Cannot exclude {}.",
    "This may represent {}.",
    "This may be due to {}.",
    "Questionable {}.",
    "Possible small {}.",
    "Findings suspicious for {}.",
    "{} versus artefact.",
    "Can't exclude {}.",
    "{} couldn\u2019t be ruled out.",
    "{} cannot be entirely ruled out.",
    "{} has not been excluded.",
    "{} would be hard to exclude.",
    "{}: possible.",
    "{} is likely.",
    "{} is probably present.",
    "{} is doubtful.",
    "Trace {}, if any.",
    "Findings favor {}.",
    "This is favored to be {}.",
    "Compatible with mild {}.",
    "Compatible with residual {}.",
    "?{}.",
    "?{} ?haemorrhage.",
    "Chest pain ? {}.",
    "Query {}.",
    "Suggestion of {}.",
    "Please correlate clinically for {}.",
    "{} is a possibility.",
    "{} is in the differential.",
    "{} should be excluded.",
    "{} cannot definitely be excluded.",
    "{} more likely than haemorrhage.",
    "{}: possible, on the right.",
)
STILL_THERE = (
    "No change in the {}.",
    "No significant interval change in {}.",
    "Unchanged {}.",
    "No haemorrhage, but {} is present.",
    "No haemorrhage; {} is present.",
    "The {} has improved but has not resolved.",
    "No haemorrhage, with persistent {}.",
    "{} without haemorrhage.",
    "The {} has almost completely resolved.",
    "Partial clearing of the {}.",
    "No significant worsening of the {}.",
    "{} on the left, not seen on the prior study.",
    "{} that was not present on the earlier film.",
    "{}, not previously visualized.",
    "{}, not identified on the lateral view.",
    "{} on the left, none on the right.",
    "{} at the left base, not seen at the right base.",
    "Interval removal of the wires with new {}.",
    "Resolution of the haemorrhage and new {}.",
    "No relevant change in the {}.",
    "Without any haemorrhage; no obvious change of the {}.",
    "There has been no appreciable interval change in the {}.",
    "No resolution of the {}.",
    "No interval clearing of the {}.",
    "{} is no longer massive.",
    "No haemorrhage since the {}.",
    "No haemorrhage, trace {}.",
    "No haemorrhage, {} unchanged.",
    "No haemorrhage, the {} is stable.",
    "No haemorrhage, wires and {} unchanged.",
)
OF_THE_NEAREST = (
    ("{}, {} has resolved.", POSITIVE, NEGATIVE),
    ("{}, {} unlikely.", POSITIVE, NEGATIVE),
    ("{} on the right, {} no longer seen.", POSITIVE, NEGATIVE),
    ("{}, superimposed {} not excluded.", POSITIVE, UNCERTAIN),
    ("{} at the left base, {} versus haemorrhage.", POSITIVE, UNCERTAIN),
    ("{} is unlikely to be {}.", POSITIVE, NEGATIVE),
    ("{} and {} have resolved.", NEGATIVE, NEGATIVE),
    ("{}, {}, or haemorrhage cannot be excluded.", UNCERTAIN, UNCERTAIN),
    ("{}, {}, haemorrhage: none.", NEGATIVE, NEGATIVE),
    ("{}, {}, edema difficult to exclude.", UNCERTAIN, UNCERTAIN),
    ("No {}; {} or haemorrhage.", NEGATIVE, POSITIVE),
)
"""Template of two observations, and what it says of either."""


def pairs(templates: tuple[str, ...]) -> list[tuple[str, str]]:
    """Each observation with each sentence made of its word."""
    return [(name, template.format(word)) for name, word in WORD.items() for template in templates]


def test_the_observations_are_chexperts_14_and_its_5_of_them() -> None:
    assert (len(OBSERVATIONS), len(set(OBSERVATIONS)), len(FIVE)) == (14, 14, 5)
    assert set(FIVE) < set(OBSERVATIONS) == {*PRESENT, NO_FINDING}


@pytest.mark.parametrize(("observation", "text"), [(name, text) for name, texts in PRESENT.items() for text in texts])
def test_a_mention_is_positive(observation: str, text: str) -> None:
    assert label_report(text)[observation] == POSITIVE


@pytest.mark.parametrize(("observation", "text"), pairs(DENIED))
def test_a_denied_mention_is_negative(observation: str, text: str) -> None:
    assert label_report(text)[observation] == NEGATIVE


@pytest.mark.parametrize(("observation", "text"), pairs(DOUBTED))
def test_a_doubted_mention_is_uncertain(observation: str, text: str) -> None:
    assert label_report(text)[observation] == UNCERTAIN


@pytest.mark.parametrize(("observation", "text"), pairs(STILL_THERE))
def test_what_only_looks_like_a_denial_or_has_ended_leaves_a_mention_positive(observation: str, text: str) -> None:
    assert label_report(text)[observation] == POSITIVE


@pytest.mark.parametrize(("template", "first", "second"), OF_THE_NEAREST)
@pytest.mark.parametrize(("one", "other"), [("Consolidation", "Pneumothorax"), ("Fracture", "Pleural Effusion")])
def test_a_cue_behind_two_mentions_is_of_the_nearest_unless_they_are_a_list(
    template: str, first: Label, second: Label, one: str, other: str
) -> None:
    labels = label_report(template.format(WORD[one], WORD[other]))
    assert (labels[one], labels[other]) == (first, second)


@pytest.mark.parametrize(
    ("observation", "wording"),
    [
        ("Pneumothorax", "ptx"),
        ("Atelectasis", "atx"),
        ("Atelectasis", "collapse"),
        ("Fracture", "rib fx"),
        ("Edema", "CCF"),
        ("Edema", "upper lobe blood diversion"),
        ("Pneumonia", "infective process"),
        ("Lung Opacity", "airspace shadowing"),
        ("Lung Opacity", "peribronchial cuffing"),
        (SUPPORT_DEVICES, "ETT"),
        (SUPPORT_DEVICES, "NGT"),
        (SUPPORT_DEVICES, "UVC"),
        (SUPPORT_DEVICES, "CVC"),
        (SUPPORT_DEVICES, "left IJ line"),
        (SUPPORT_DEVICES, "RIJ"),
        (SUPPORT_DEVICES, "ECMO cannula"),
        (SUPPORT_DEVICES, "PPM"),
        (SUPPORT_DEVICES, "TAVI"),
    ],
)
def test_short_and_british_wordings_are_mentions(observation: str, wording: str) -> None:
    labels = [label_report(f"{start}{wording}.")[observation] for start in ("", "Possible ", "No ")]
    assert labels == [POSITIVE, UNCERTAIN, NEGATIVE]


@pytest.mark.parametrize("mark", [":", " -", " size:", " silhouette -"])
@pytest.mark.parametrize(
    ("says", "expected"), [("normal", NEGATIVE), ("mildly enlarged", POSITIVE), ("not enlarged", NEGATIVE)]
)
def test_a_heading_and_what_it_says_are_read_as_one(mark: str, says: str, expected: Label) -> None:
    assert label_report(f"Heart{mark} {says}.")["Cardiomegaly"] == expected
    assert label_report("Lungs: clear.")["Lung Opacity"] == NEGATIVE
    assert label_report("Bones: intact.")["Fracture"] == NEGATIVE


@pytest.mark.parametrize(
    "text",
    [
        "NG tube tip is not visualised.",
        "The tip of the left PICC is not well seen.",
        "The feeding tube is not seen beyond the diaphragm.",
        "The tube ends high, its side port not seen.",
    ],
)
def test_a_device_is_there_where_only_its_end_is_not_seen(text: str) -> None:
    assert label_report(text)[SUPPORT_DEVICES] == POSITIVE


@pytest.mark.parametrize("text", ["No pneumothorax after chest tube removal.", "Effusion since drain removal."])
def test_the_removal_of_a_device_is_no_mention_of_it(text: str) -> None:
    assert label_report(text)[SUPPORT_DEVICES] == BLANK


@pytest.mark.parametrize(
    "line",
    [
        "no effusion, possible edema and left basal opacity unchanged but ",
        "? ",
        "; a b",
        "normal a b c ",
        "opacity, left lower ",
        "no new ",
    ],
)
def test_a_long_line_is_read_in_linear_time(line: str) -> None:
    for read in (label_report, located):
        assert grows_linearly(lambda count: read(line * count), 500, 4000)  # noqa: B023


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Normal heart size and mediastinal contours.", {"Enlarged Cardiomediastinum": NEGATIVE}),
        ("Normal heart, mediastinum and lungs.", {"Enlarged Cardiomediastinum": NEGATIVE}),
        ("Normal heart with a mediastinal mass.", {"Enlarged Cardiomediastinum": BLANK}),
        ("Normal cardiothymic silhouette.", {"Enlarged Cardiomediastinum": NEGATIVE, "Cardiomegaly": NEGATIVE}),
        ("The cardiothoracic ratio is increased.", {"Cardiomegaly": POSITIVE}),
        ("The cardiothoracic ratio is normal.", {"Cardiomegaly": NEGATIVE}),
        ("Both CP angles are sharp.", {"Pleural Effusion": NEGATIVE}),
        ("Vertebral body collapse.", {"Atelectasis": BLANK}),
        ("Nipple shadowing.", {"Lung Opacity": BLANK}),
        ("The heart is not enlarged.", {"Cardiomegaly": NEGATIVE}),
        ("Heart size is normal.", {"Cardiomegaly": NEGATIVE}),
        ("Heart size is at the upper limits of normal.", {"Cardiomegaly": NEGATIVE}),
        ("Borderline heart size.", {"Cardiomegaly": UNCERTAIN}),
        ("The heart is normal and the aorta is enlarged.", {"Cardiomegaly": NEGATIVE}),
        ("Possible effusion without pneumothorax.", {"Pleural Effusion": UNCERTAIN, "Pneumothorax": NEGATIVE}),
        ("No effusion, possible pneumonia.", {"Pleural Effusion": NEGATIVE, "Pneumonia": UNCERTAIN}),
        ("No consolidation to suggest pneumonia.", {"Consolidation": NEGATIVE, "Pneumonia": NEGATIVE}),
        ("Opacity may represent pneumonia.", {"Lung Opacity": POSITIVE, "Pneumonia": UNCERTAIN}),
        ("Effusion versus pleural thickening.", {"Pleural Effusion": UNCERTAIN, "Pleural Other": UNCERTAIN}),
        ("No effusion, pneumothorax or fracture.", dict.fromkeys(("Pleural Effusion", "Pneumothorax"), NEGATIVE)),
        ("No effusion and there is mild edema.", {"Pleural Effusion": NEGATIVE, "Edema": POSITIVE}),
        ("The lungs are not clear.", {"Lung Opacity": BLANK}),
        ("Heart size is not normal.", {"Cardiomegaly": BLANK}),
        ("The heart is normal to mildly enlarged.", {"Cardiomegaly": UNCERTAIN}),
        ("Non-enlarged heart.", {"Cardiomegaly": BLANK}),
        ("Enlargement in the cardiac silhouette.", {"Cardiomegaly": POSITIVE}),
        ("Pleural e\ufb00usion.", {"Pleural Effusion": POSITIVE}),
        ("Effusion: small on the left, no pneumothorax.", {"Pleural Effusion": POSITIVE, "Pneumothorax": NEGATIVE}),
        ("Opacity is likely atelectasis.", {"Lung Opacity": POSITIVE, "Atelectasis": UNCERTAIN}),
        ("The mass seen before is not seen on this film.", {"Lung Lesion": NEGATIVE}),
        ("Small effusion, repeat the film if any concern remains.", {"Pleural Effusion": POSITIVE}),
        ("Little if any change in the effusion.", {"Pleural Effusion": POSITIVE}),
        ("Pericardial effusion.", {"Pleural Effusion": BLANK}),
        ("Hydropneumothorax.", {"Pleural Effusion": POSITIVE, "Pneumothorax": POSITIVE}),
        ("The central line has been removed.", {SUPPORT_DEVICES: NEGATIVE}),
        ("Portable view. Mastectomy.", {SUPPORT_DEVICES: BLANK, "Lung Lesion": BLANK}),
        ("Aortic valve calcification.", {SUPPORT_DEVICES: BLANK}),
        ("Prosthetic mitral valve.", {SUPPORT_DEVICES: POSITIVE}),
        ("Soft tissue edema of the neck.", {"Edema": BLANK}),
        ("Old granulomatous infection.", {"Pneumonia": BLANK}),
        ("Lungs clear. Pleural spaces are clear.", {"Lung Opacity": NEGATIVE, "Pleural Effusion": NEGATIVE}),
    ],
)
def test_the_reach_of_a_cue_ends_where_it_should(text: str, expected: dict[str, Label]) -> None:
    labels = label_report(text)
    assert {name: labels[name] for name in expected} == expected


def test_the_form_of_a_text_that_a_cleaner_leaves_is_read_the_same() -> None:
    written = "1. No effusion. 2. Mild cardiomegaly.\n3. Possible edema"
    assert label_report(written) == label_report("no effusion . mild cardiomegaly . possible edema .")
    assert label_report(written) == label_report(written.upper())


@pytest.mark.parametrize(
    ("text", "label"), [("Effusion: no", NEGATIVE), ("Effusion: none", NEGATIVE), ("An effusion is likely", UNCERTAIN)]
)
def test_a_sentence_without_its_mark_is_read_as_with_it(text: str, label: Label) -> None:
    assert label_report(text) == label_report(f"{text}.")
    assert label_report(text)["Pleural Effusion"] == label


def test_positive_goes_over_uncertain_over_negative_over_blank() -> None:
    said = ["No edema.", "Possible edema.", "Mild edema."]
    expected = {1: NEGATIVE, 2: UNCERTAIN, 3: POSITIVE}
    for count, label in expected.items():
        assert {label_report(" ".join(some))["Edema"] for some in itertools.permutations(said[:count])} == {label}
    assert label_report("Clear.")["Edema"] == BLANK


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("", POSITIVE),
        ("No effusion. The heart is normal.", POSITIVE),
        ("Endotracheal tube in place. No pneumothorax.", POSITIVE),
        ("Possible tube in the stomach.", POSITIVE),
        ("Scoliosis.", POSITIVE),
        ("Possible pneumonia.", BLANK),
        ("No effusion. Rib fracture.", BLANK),
        ("Endotracheal tube in place. Small pneumothorax.", BLANK),
    ],
)
def test_no_finding_is_positive_where_nothing_but_devices_is_there_or_in_doubt(text: str, label: Label) -> None:
    assert label_report(text)[NO_FINDING] == label


@given(st.lists(st.sampled_from([text for _, text in pairs((*DENIED, *DOUBTED, *STILL_THERE))]), max_size=5), st.data())
@settings(max_examples=60)
def test_the_order_of_sentences_does_not_matter(texts: list[str], data: st.DataObject) -> None:
    mixed = data.draw(st.permutations(texts))
    assert label_report(" ".join(texts)) == label_report("\n".join(mixed))


@given(st.text(max_size=80))
@settings(max_examples=60)
def test_any_text_gets_a_label_for_each_observation(text: str) -> None:
    labels = label_report(text)
    assert tuple(labels) == OBSERVATIONS
    assert all(isinstance(label, Label) for label in labels.values())


def test_labels_of_a_report_are_those_of_its_sentences_combined() -> None:
    text = "Small effusion. No effusion on the right. Possible nodule."
    parts = [statement for sentence in sentences(text) for statement in statements(sentence)]
    assert label_report(text) == combine(parts)
    assert len(list(sentences(text))) == 3


def test_what_is_there_or_in_doubt_is_named_in_the_order_of_the_observations() -> None:
    assert named_in("Rib fracture. Possible edema. No effusion.") == ["Edema", "Fracture"]
    assert named_in("Clear lungs.") == [NO_FINDING]


def test_a_sentence_that_was_read_before_is_not_read_again() -> None:
    label_report("A sentence about atelectasis that no other test has.")
    before = statements.cache_info()
    label_report(
        "A  sentence about ATELECTASIS that no other test has. A sentence about atelectasis that no other test has."
    )
    assert statements.cache_info().misses == before.misses
    assert statements.cache_info().hits == before.hits + 2


def test_labels_cannot_be_changed_by_who_gets_them() -> None:
    with pytest.raises(TypeError):
        label_report("Edema.")["Edema"] = NEGATIVE  # type: ignore[index]
