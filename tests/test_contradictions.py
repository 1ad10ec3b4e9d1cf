"""Where a report's text and its films disagree: which sentences and which reports are marked, and in which words."""

from dataclasses import replace

import pytest

from film_parts import EFFUSION, HEART, OPACITY
from r2gengpt.confidence.review import reviewed, with_confidence
from r2gengpt.report import Finding, Report, Sentence
from r2gengpt.text.observations import LIKELY, NOT_ASSESSED, OBSERVATIONS, POSSIBLE, UNLIKELY

NORMAL = "the text names nothing abnormal, and the film shows: "


def seen(name: str, verdict: str, probability: float = 0.5) -> Finding:
    return Finding(name, probability, (0.0, 1.0), verdict)


def report(*texts: str, findings: tuple[Finding, ...] = ()) -> Report:
    return Report("1", " ".join(texts), sentences=tuple(Sentence(t, 3, -0.1) for t in texts), findings=findings)


def reasons(made: Report) -> list[str]:
    """Of each sentence; a mark and a reason go together."""
    assert all(sentence.needs_review == bool(sentence.reason) for sentence in made.sentences)
    return [sentence.reason for sentence in made.sentences]


def test_a_report_without_findings_is_as_it_was() -> None:
    plain = report("Large right pleural effusion.")
    assert reviewed(plain) is plain


def test_a_sentence_that_asserts_what_is_unlikely_needs_review_and_says_why() -> None:
    made = reviewed(report("The lungs are clear.", "Cardiomegaly.", findings=(HEART,)))
    assert reasons(made) == ["", "the film shows no cardiomegaly: unlikely (.03)"]
    assert made.review == ()


def test_a_sentence_that_denies_what_is_likely_needs_review_and_says_why() -> None:
    made = reviewed(report("Cardiomegaly.", "No pleural effusion.", findings=(EFFUSION,)))
    assert reasons(made) == ["", "the film shows pleural effusion: likely (.91)"]
    assert made.review == (), "it is denied, not left out"


@pytest.mark.parametrize(
    "text",
    [
        "No assessment was made of the heart and the pleura.",
        "Heart size and the pleural spaces were not assessed.",
        "Not assessed: the pleura.",
        "The pleura could not be evaluated.",
    ],
)
def test_a_sentence_that_calls_the_place_of_a_likely_finding_not_assessed_needs_review(text: str) -> None:
    made = reviewed(report("Pleural effusion is possible.", text, findings=(EFFUSION, HEART)))
    assert reasons(made) == ["", "the film shows pleural effusion: likely (.91)"]


def test_what_is_not_assessed_is_no_contradiction_where_nothing_is_likely_there() -> None:
    made = reviewed(report("Not assessed: heart size and the pleura.", findings=(HEART,)))
    assert reasons(made) == [""]


def test_one_sentence_may_have_two_reasons() -> None:
    findings = (seen("Pneumothorax", LIKELY, 0.8), seen("Pleural Effusion", LIKELY, 0.7))
    (reason,) = reasons(reviewed(report("No pneumothorax or pleural effusion.", findings=findings)))
    assert set(reason.split("; ")) == {
        "the film shows pneumothorax: likely (.80)",
        "the film shows pleural effusion: likely (.70)",
    }


@pytest.mark.parametrize("verdict", [POSSIBLE, NOT_ASSESSED])
@pytest.mark.parametrize("text", ["Cardiomegaly.", "No cardiomegaly.", "The lungs are clear."])
def test_what_the_film_leaves_open_contradicts_nothing(text: str, verdict: str) -> None:
    made = reviewed(report(text, findings=(seen("Cardiomegaly", verdict),)))
    assert (reasons(made), made.review) == ([""], ())


@pytest.mark.parametrize("verdict", [LIKELY, UNLIKELY])
def test_a_doubt_contradicts_nothing(verdict: str) -> None:
    made = reviewed(report("Possible pneumonia.", findings=(seen("Pneumonia", verdict),)))
    assert (reasons(made), made.review) == ([""], ())


def test_what_is_likely_and_not_in_the_text_is_left_out() -> None:
    made = reviewed(report("Cardiomegaly.", findings=(EFFUSION,)))
    assert made.review == ("left out: pleural effusion, likely (.91) on the film",)


@pytest.mark.parametrize("name", [name for name in OBSERVATIONS if name not in ("No Finding", "Support Devices")])
def test_each_observation_that_is_likely_is_asked_for(name: str) -> None:
    made = reviewed(report("Stable appearance.", findings=(seen(name, LIKELY, 0.9),)))
    assert made.review == (
        f"left out: {name.lower()}, likely (.90) on the film",
        f"{NORMAL}{name.lower()} likely (.90)",
    )


@pytest.mark.parametrize("name", ["Support Devices", "Emphysema", "Hernia", "Frontal view", "Child"])
def test_devices_and_further_observations_are_never_left_out(name: str) -> None:
    assert reviewed(report("Cardiomegaly.", findings=(seen(name, LIKELY, 0.99),))).review == ()


@pytest.mark.parametrize("child", ["Pulmonary edema", "Consolidation", "Pneumonia", "Atelectasis", "A lung mass"])
def test_a_lung_opacity_is_met_by_what_is_a_kind_of_it(child: str) -> None:
    assert reviewed(report(f"{child} on the left.", findings=(OPACITY,))).review == ()


@pytest.mark.parametrize(
    ("parent", "text", "met"),
    [
        ("Enlarged Cardiomediastinum", "Cardiomegaly.", True),
        ("Enlarged Cardiomediastinum", "No cardiomegaly. Pneumonia.", False),
        ("Consolidation", "Pneumonia.", True),
        ("Lung Opacity", "Large pleural effusion.", False),
        ("Lung Opacity", "No pulmonary edema. Cardiomegaly.", False),
        ("Cardiomegaly", "The mediastinum is widened.", False),
        ("Pneumonia", "Consolidation on the left.", False),
    ],
)
def test_a_kind_meets_what_it_is_a_kind_of_and_nothing_else(parent: str, text: str, met: bool) -> None:
    made = reviewed(report(*text.split("  "), findings=(seen(parent, LIKELY, 0.9),)))
    assert made.review == (() if met else (f"left out: {parent.lower()}, likely (.90) on the film",))


def test_a_normal_text_beside_a_film_that_is_not_needs_review() -> None:
    film = (seen("No Finding", UNLIKELY, 0.02), EFFUSION)
    made = reviewed(report("The lungs are clear.", "No pleural effusion.", findings=film))
    assert reasons(made)[1] == "the film shows pleural effusion: likely (.91)"
    assert made.review == (f"{NORMAL}pleural effusion likely (.91), normal film unlikely (.02)",)
    alone = reviewed(report("The lungs are clear.", findings=film[:1]))
    assert alone.review == (f"{NORMAL}normal film unlikely (.02)",)


def test_an_abnormal_text_beside_a_normal_film_needs_review() -> None:
    made = reviewed(report("Cardiomegaly.", "Pneumonia.", findings=(seen("No Finding", LIKELY, 0.96),)))
    assert made.review == ("the text names cardiomegaly, pneumonia, and the film shows: normal film likely (.96)",)
    assert reviewed(report("The lungs are clear.", findings=(seen("No Finding", LIKELY, 0.96),))).review == ()


def test_marks_of_little_confidence_stay_and_say_so() -> None:
    plain = report("The heart is normal.", "No pleural effusion.", findings=(EFFUSION, seen("No Finding", POSSIBLE)))
    marked = tuple(replace(one, needs_review=True, confidence=0.42) for one in plain.sentences)
    made = reviewed(replace(plain, sentences=marked))
    unsure = "the model is not sure of it (.42)"
    assert reasons(made) == [unsure, f"{unsure}; the film shows pleural effusion: likely (.91)"]


def test_a_second_judgement_keeps_no_reason_of_the_first() -> None:
    plain = report("The heart is normal.", "No pleural effusion.", findings=(EFFUSION,))
    first = reviewed(with_confidence(plain, None, threshold=0.95))
    second = reviewed(with_confidence(first, None, threshold=0.5))
    assert reasons(first)[0] == "the model is not sure of it (.90)"
    assert reasons(second) == ["", "the film shows pleural effusion: likely (.91)"]
    assert second == reviewed(with_confidence(plain, None, threshold=0.5))


def test_a_second_review_changes_nothing() -> None:
    film = (EFFUSION, OPACITY, HEART)
    once = reviewed(report("Cardiomegaly and no pleural effusion.", "The aorta is tortuous.", findings=film))
    assert once.review
    assert reviewed(once) == once


def test_a_report_without_sentences_is_reviewed_as_a_whole() -> None:
    made = reviewed(Report("1", "Cardiomegaly. No pleural effusion.", findings=(EFFUSION, HEART)))
    assert set(made.review) == {
        "the film shows no cardiomegaly: unlikely (.03)",
        "the film shows pleural effusion: likely (.91)",
    }


@pytest.mark.parametrize("text", ["", " \n", " . "])
def test_a_draft_without_words_says_so_leaves_everything_out_and_asserts_nothing(text: str) -> None:
    made = reviewed(Report("1", text, findings=(EFFUSION,)))
    assert made.review[:2] == ("the draft has no words", "left out: pleural effusion, likely (.91) on the film")
    assert reviewed(Report("1", text)).review == made.review[:1]
    assert made.asserted == {}
