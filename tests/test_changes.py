"""Sentences of change: read by rules, scored against the reference, marked where no earlier study was given."""

import dataclasses

import pytest

import r2gengpt
from r2gengpt.confidence.review import NO_PRIOR, without_prior
from r2gengpt.metrics.labels.changes import Change, changes, tells_of_change
from r2gengpt.metrics.measure import choose
from r2gengpt.metrics.protocols import PROTOCOLS
from r2gengpt.metrics.records import Scores
from r2gengpt.metrics.score import score
from r2gengpt.report import Report, Sentence

EFFUSION, ATELECTASIS = "Pleural Effusion", "Atelectasis"


@pytest.mark.parametrize(
    ("sentence", "observation", "change"),
    [
        ("The right pleural effusion has increased.", EFFUSION, Change.WORSENED),
        ("Pleural effusions have slightly decreased.", EFFUSION, Change.IMPROVED),
        ("Unchanged bibasilar atelectasis.", ATELECTASIS, Change.UNCHANGED),
        ("No significant interval change in the left pleural effusion.", EFFUSION, Change.UNCHANGED),
        ("Interval resolution of the pneumothorax.", "Pneumothorax", Change.RESOLVED),
        ("The pneumothorax is no longer seen.", "Pneumothorax", Change.RESOLVED),
        ("New right lower lobe consolidation.", "Consolidation", Change.NEW),
        ("No new consolidation.", "Consolidation", Change.UNCHANGED),
        ("Worsening pulmonary edema.", "Edema", Change.WORSENED),
        ("Improving pulmonary edema.", "Edema", Change.IMPROVED),
        ("The pleural effusion is smaller than on the prior study.", EFFUSION, Change.IMPROVED),
        ("Pleural effusion is larger since the prior radiograph.", EFFUSION, Change.WORSENED),
        ("Without worsening of the edema.", "Edema", Change.UNCHANGED),
        ("Persistent left pleural effusion.", EFFUSION, Change.UNCHANGED),
        ("There is interval development of a pleural effusion.", EFFUSION, Change.NEW),
        ("The pleural effusion has not increased.", EFFUSION, Change.UNCHANGED),
        ("The pleural effusion has not significantly increased.", EFFUSION, Change.UNCHANGED),
        ("The pneumothorax hasn\u2019t cleared.", "Pneumothorax", Change.UNCHANGED),
        ("The edema has never resolved.", "Edema", Change.UNCHANGED),
        ("Near-complete resolution of the edema.", "Edema", Change.IMPROVED),
        ("The pleural effusion has partially cleared.", EFFUSION, Change.IMPROVED),
        ("The edema has almost entirely resolved.", "Edema", Change.IMPROVED),
        ("The pleural effusion is smaller.", EFFUSION, Change.IMPROVED),
        ("Pleural effusions are slightly larger, on the left.", EFFUSION, Change.WORSENED),
        ("Atelectasis is now more extensive.", ATELECTASIS, Change.WORSENED),
        ("Atelectasis is less conspicuous.", ATELECTASIS, Change.IMPROVED),
        ("The pneumothorax is no larger.", "Pneumothorax", Change.UNCHANGED),
    ],
)
def test_a_sentence_tells_what_has_become_of_what(sentence: str, observation: str, change: Change) -> None:
    assert changes(sentence) == {(observation, change)}
    assert tells_of_change(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "Increased interstitial markings.",
        "Decreased lung volumes.",
        "The right effusion is larger than the left.",
        "The heart is enlarged.",
        "No pleural effusion or pneumothorax is seen.",
        "Follow-up is recommended to ensure resolution of the consolidation.",
        "Chronic deformity of the clavicle.",
        "The lungs are clear.",
        "Renewed attention to the unstable gait.",
    ],
)
def test_what_describes_one_film_or_a_plan_is_no_change(sentence: str) -> None:
    assert changes(sentence) == frozenset()
    assert not tells_of_change(sentence)


def test_each_observation_gets_the_nearest_cue_in_its_part_of_the_sentence() -> None:
    text = "The pleural effusion has increased, while atelectasis is unchanged; there is no pneumothorax."
    assert changes(text) == {(EFFUSION, Change.WORSENED), (ATELECTASIS, Change.UNCHANGED)}
    assert changes("The heart size is stable.") == {("", Change.UNCHANGED)}


@pytest.mark.parametrize(
    ("sentence", "change"),
    [
        ("On this film of the chest there is today improved edema that is worse below.", Change.IMPROVED),
        ("The improved film of the chest of today shows edema worse than before.", Change.WORSENED),
    ],
)
def test_the_nearest_cue_may_stand_before_a_finding_or_behind_it(sentence: str, change: Change) -> None:
    assert changes(sentence) == {("Edema", change)}


def test_words_of_an_earlier_study_cannot_be_known_from_one_film() -> None:
    assert tells_of_change("Compared to the prior study, the lungs are clear.")
    assert changes("Compared to the prior study, the lungs are clear.") == frozenset()


def scored(hypotheses: list[str], references: list[str]) -> Scores:
    ids = [str(number) for number in range(len(references))]
    return score(
        dict(zip(ids, hypotheses, strict=True)),
        {name: [text] for name, text in zip(ids, references, strict=True)},
        PROTOCOLS["clean"],
        dataset="plain",
        choice=choose(labels=True),
        resamples=0,
    )


def test_temporal_f1_counts_pairs_of_observation_and_change_over_all_studies() -> None:
    references = ["The pleural effusion has increased.", "Unchanged atelectasis. New consolidation.", "Clear lungs."]
    written = ["The pleural effusion has decreased.", "Unchanged atelectasis.", "The lungs are clear. No change."]
    found = scored(written, references)
    assert found.metrics["temporal_precision"].value == pytest.approx(1 / 3)
    assert found.metrics["temporal_recall"].value == pytest.approx(1 / 3)
    assert found.metrics["temporal_f1"].value == pytest.approx(1 / 3)
    told = found.to_json()["temporal"]
    assert told["references_with_change"] == 2
    assert told["new"] == {"agreed": 0, "predicted": 0, "reference": 1}
    assert told["unchanged"] == {"agreed": 1, "predicted": 2, "reference": 1}


def test_reports_that_tell_of_the_same_changes_in_other_words_score_one() -> None:
    found = scored(["Worsening edema."], ["Pulmonary edema has progressed."])
    assert found.metrics["temporal_f1"].value == 1.0
    scores = r2gengpt.score(["Worsening edema."], ["Edema has progressed."], labels=True, resamples=0)
    assert scores.metrics["temporal_f1"].value == 1.0


DRAFT = Report(
    "1",
    "The heart is normal. Unchanged effusion.",
    sentences=(Sentence("The heart is normal.", 4, -0.1), Sentence("Unchanged effusion.", 3, -0.1)),
)


def test_a_sentence_of_change_is_marked_where_no_earlier_study_was_given() -> None:
    normal, change = without_prior(DRAFT).sentences
    assert (normal.needs_review, normal.reason) == (False, "")
    assert (change.needs_review, change.reason) == (True, NO_PRIOR)
    assert without_prior(without_prior(DRAFT)) == without_prior(DRAFT)


def test_a_draft_beside_an_earlier_study_is_left_as_it_is() -> None:
    compared = dataclasses.replace(DRAFT, compared=True)
    assert without_prior(compared) is compared


def test_other_reasons_stay_and_a_text_without_sentences_gets_a_line() -> None:
    unsure = dataclasses.replace(DRAFT.sentences[1], needs_review=True, confidence=0.2)
    (marked,) = without_prior(dataclasses.replace(DRAFT, sentences=(unsure,))).sentences
    assert marked.reason == f"the model is not sure of it (.20); {NO_PRIOR}"
    assert without_prior(Report("1", "Clear. Unchanged effusion.")).review == (f'"Unchanged effusion." {NO_PRIOR}',)
