"""Differences of two systems: against texts drawn and swapped one by one, and patients laid out by hand."""

import itertools

import numpy as np
import pytest

from metrics_corpus import HYPOTHESES, REFERENCES
from r2gengpt.errors import InputError
from r2gengpt.metrics.bootstrap import patient_numbers, resampled_sums
from r2gengpt.metrics.compare import Comparison, compare
from r2gengpt.metrics.families import MetricFamily, mean
from r2gengpt.metrics.measure import FAMILIES, METRICS, measure, scores_of
from r2gengpt.metrics.paired import Resampling, differences
from r2gengpt.metrics.protocols import PROTOCOLS, bind
from r2gengpt.metrics.score import score

IDS = [f"s{i}" for i in range(len(REFERENCES))]
WANTED = dict(zip(IDS, REFERENCES, strict=True))
RULES = bind(PROTOCOLS["raw"], "plain")
VALUE = (MetricFamily("value", ("value",), 1, lambda texts: np.zeros((len(texts.hypotheses), 1)), mean),)
"""A metric whose statistics tests write down themselves."""
BLEU_AND_ROUGE = [METRICS.index(name) for name in METRICS if name != "cider"]


def texts(name: str) -> dict[str, str]:
    return dict(zip(IDS, HYPOTHESES[name], strict=True))


def compared(first: str, second: str, **given: object) -> Comparison:
    return compare(texts(first), texts(second), WANTED, RULES, **given)  # type: ignore[arg-type]


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)[:, None]


def test_the_paired_bootstrap_is_that_of_scoring_the_drawn_studies_of_both_systems_anew() -> None:
    first, second = HYPOTHESES["rotated"], HYPOTHESES["repeated"]
    draws = np.random.default_rng(7).integers(0, 8, size=(40, 8))

    def anew(system: list[str], places: np.ndarray) -> np.ndarray:
        columns = measure([system[i] for i in places], [REFERENCES[i] for i in places])
        return scores_of(columns.sum(axis=0), 8)

    drawn = np.array([anew(second, places) - anew(first, places) for places in draws])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    rarer = np.minimum((drawn <= 0).sum(axis=0), (drawn >= 0).sum(axis=0))
    found = list(compared("rotated", "repeated", resamples=40, seed=7).differences.values())
    for i in BLEU_AND_ROUGE:  # CIDEr-D's document frequencies stay those of all studies
        np.testing.assert_allclose(found[i].ci95, (low[i], high[i]), rtol=1e-9)
        assert found[i].p_bootstrap == pytest.approx(min(1, 2 * (rarer[i] + 1) / 41))


def test_approximate_randomisation_is_that_of_swapping_the_texts_themselves() -> None:
    first, second = HYPOTHESES["constant"], HYPOTHESES["repeated"]
    sides = np.random.default_rng(3).integers(0, 2, size=(60, 8))

    def gap(one: list[str], other: list[str]) -> np.ndarray:
        ours, theirs = (scores_of(measure(system, REFERENCES).sum(axis=0), 8) for system in (one, other))
        return np.abs(theirs - ours)

    swapped = []
    for places in sides:
        pairs = [(b, a) if side else (a, b) for a, b, side in zip(first, second, places, strict=True)]
        swapped.append(gap([pair[0] for pair in pairs], [pair[1] for pair in pairs]))
    expected = ((np.array(swapped) >= gap(first, second) - 1e-10).sum(axis=0) + 1) / 61
    found = compared("constant", "repeated", resamples=0, swaps=60, seed=3).differences
    np.testing.assert_allclose([found[name].p_randomisation for name in METRICS], expected)


def test_enough_random_swaps_come_near_all_possible_ones() -> None:
    first, second = column(0, 0, 1, 2, 0, 5), column(1, 2, 1, 3, 1, 4)
    signs = np.array(list(itertools.product((-1, 1), repeat=6)))
    apart = (second - first)[:, 0]
    exact = (np.abs(signs @ apart) >= abs(apart.sum())).mean()
    found = differences(first, second, VALUE, Resampling(0, 20_000, 0))["value"].p_randomisation
    assert found == pytest.approx(exact, abs=0.015)  # four standard errors of 20,000 swaps


def test_identical_systems_differ_by_nothing_and_both_p_are_one() -> None:
    comparison = compared("rotated", "rotated")
    for difference in comparison.differences.values():
        assert (difference.value, difference.ci95) == (0.0, (0.0, 0.0))
        assert (difference.p_bootstrap, difference.p_randomisation) == (1.0, 1.0)
    assert "both systems wrote the same texts" in comparison.notes


def test_the_difference_is_second_minus_first_and_turns_with_the_order() -> None:
    forth, back = compared("constant", "identical"), compared("identical", "constant")
    assert forth.first == back.second
    for name in METRICS:
        assert forth.differences[name].value == forth.second[name] - forth.first[name] > 0
        assert back.differences[name].value == -forth.differences[name].value
        assert forth.differences[name].p_randomisation == back.differences[name].p_randomisation


def test_a_difference_that_no_resample_turns_has_the_smallest_p() -> None:
    difference = differences(column(*[0] * 30), column(*[1] * 30), VALUE, Resampling(99, 99, 0))["value"]
    assert (difference.p_bootstrap, difference.p_randomisation) == (2 / 100, 1 / 100)


def test_differences_no_further_apart_than_rounding_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r2gengpt.metrics.paired.ROUNDING", 0.5)
    for sign in (1, -1):
        near = differences(column(0, 0), sign * column(0.5, 0.5), VALUE, Resampling(50, 0, 0))["value"]
        assert near.p_bootstrap == 1.0
        far = differences(column(0, 0), sign * column(0.75, 0.75), VALUE, Resampling(49, 0, 0))["value"]
        assert far.p_bootstrap == 2 / 50
    # after a swap the systems differ by 1 or, half a unit less, by 0.5
    swapped = differences(column(0, 0), column(1.5, 0.5), VALUE, Resampling(0, 50, 0))["value"]
    assert swapped.p_randomisation == 1.0


def test_as_many_swaps_are_drawn_in_parts_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r2gengpt.metrics.paired.BLOCK", 8)
    found = differences(column(1, 2, 3), column(1, 2, 3), VALUE, Resampling(0, 9, 0))["value"]
    assert found.p_randomisation == 1.0


def test_scores_are_those_of_score_under_the_same_protocol() -> None:
    comparison = compared("rotated", "unicode", resamples=0, swaps=0)
    scores = score(texts("unicode"), WANTED, PROTOCOLS["raw"], resamples=0)
    assert comparison.second == {name: value.value for name, value in scores.metrics.items()}
    assert all(difference.to_json().keys() == {"value"} for difference in comparison.differences.values())


def test_one_study_has_a_difference_without_interval_or_p() -> None:
    comparison = compare({"a": "x y"}, {"a": "x z"}, {"a": ["x y"]}, RULES)
    assert comparison.differences["bleu_1"].to_json().keys() == {"value"}
    assert any(note.startswith("one study") for note in comparison.notes)


def test_studies_of_a_patient_are_drawn_together() -> None:
    columns = np.column_stack([np.ones(5), [1.0, 2.0, 4.0, 8.0, 16.0]])
    patients = np.array([0, 0, 1, 2, 2])
    sums = resampled_sums(columns, 200, seed=0, patients=patients)
    of_patient = [(2.0, 3.0), (1.0, 4.0), (2.0, 24.0)]
    possible = {
        tuple(map(sum, zip(*(of_patient[i] for i in drawn), strict=True)))
        for drawn in itertools.product(range(3), repeat=3)
    }
    assert {tuple(row) for row in sums} == possible


def test_studies_of_one_patient_have_a_difference_without_interval_and_without_p() -> None:
    first, second = np.array([[0.0], [0.0], [0.0]]), np.array([[1.0], [2.0], [3.0]])
    patients = np.zeros(3, np.int64)
    found = differences(first, second, VALUE, Resampling(50, 50, 0, patients))["value"]
    assert (found.value, found.ci95, found.p_bootstrap, found.p_randomisation) == (2.0, None, None, None)


def test_a_score_of_drawn_patients_is_the_mean_over_as_many_studies_as_they_have() -> None:
    first, second = column(0, 0, 0, 0), column(3, 1, 1, 1)
    patients = np.array([0, 1, 1, 1])
    difference = differences(first, second, VALUE, Resampling(400, 400, 0, patients))["value"]
    # two patients drawn: 3, 1, or (3 + 1 + 1 + 1) / 4; swapping leaves 6 / 4, 0 or their negatives
    assert difference.ci95 == (1.0, 3.0)
    assert difference.value == 1.5
    assert difference.p_randomisation == pytest.approx(0.5, abs=0.1)


def test_a_patient_for_each_study_gives_the_numbers_of_drawing_studies() -> None:
    each = compared("constant", "unicode", patients={study: f"patient of {study}" for study in IDS})
    assert each.differences == compared("constant", "unicode").differences
    assert each.patients == 8


def test_patients_are_numbered_in_order_and_only_where_all_are_known() -> None:
    numbers = patient_numbers(["a", "b", "c"], {"a": "x", "b": "y", "c": "x"})
    assert numbers is not None
    assert numbers.tolist() == [0, 1, 0]
    assert patient_numbers(["a", "b"], {"a": "x"}) is None


def test_scores_say_what_they_were_resampled_by() -> None:
    patients = {study: str(i // 2) for i, study in enumerate(IDS)}
    scores = score(texts("rotated"), WANTED, PROTOCOLS["raw"], patients=patients)
    assert scores.to_json()["bootstrap"] == {"resamples": 1000, "seed": 0, "by": "patient", "patients": 4}
    by_study = score(texts("rotated"), WANTED, PROTOCOLS["raw"])
    assert by_study.to_json()["bootstrap"]["by"] == "study"
    assert by_study.metrics["rouge_l"].value == scores.metrics["rouge_l"].value
    assert by_study.metrics["rouge_l"].ci95 != scores.metrics["rouge_l"].ci95


@pytest.mark.parametrize("others", [{}, dict.fromkeys(IDS[2:], "")], ids=["not there", "empty"])
def test_patients_of_a_part_of_the_studies_are_not_used_and_that_is_said(others: dict[str, str]) -> None:
    patients = {"s0": "x", "s1": "x", **others}
    scores = score(texts("rotated"), WANTED, PROTOCOLS["raw"], patients=patients)
    compared = compare(texts("rotated"), texts("rotated"), WANTED, RULES, patients=patients)
    for found in (scores, compared):
        assert found.patients is None
        assert "6 of 8 studies name no patient: resampled by study, not by patient" in found.notes


def test_a_comparison_counts_the_empty_outputs_of_each_system() -> None:
    references = {"a": ["x"], "b": ["y"], "c": ["z"]}
    first, second = {"a": "x", "b": " ", "c": ""}, {"a": "", "b": "y", "c": "z"}
    notes = compare(first, second, references, RULES, names=("A", "B", "R"), resamples=0, swaps=0).notes
    assert notes == ("empty outputs in A, which score 0: 2 of 3", "empty outputs in B, which score 0: 1 of 3")
    assert compare(second, second, {"a": ["x"], "b": ["y"], "c": ["z"]}, RULES, resamples=0, swaps=0).notes[0] == (
        "both systems wrote the same texts"
    )
    assert compared("constant", "identical", resamples=0, swaps=0).notes == ()


def test_a_comparison_says_what_it_drew() -> None:
    by_study = compared("constant", "identical").to_json()
    assert by_study["n"] == 8
    assert by_study["bootstrap"] == {"resamples": 1000, "swaps": 1000, "seed": 0, "by": "study", "patients": None}
    patients = {study: str(i // 2) for i, study in enumerate(IDS)}
    by_patient = compared("constant", "identical", patients=patients, resamples=20, swaps=30, seed=5).to_json()
    assert by_patient["bootstrap"] == {"resamples": 20, "swaps": 30, "seed": 5, "by": "patient", "patients": 4}


def test_systems_of_other_studies_are_refused_with_both_differences() -> None:
    with pytest.raises(InputError) as caught:
        compare({"a": "x", "c": "x"}, {"a": "x", "b": "x"}, {"a": ["x"]}, RULES, names=("A", "B", "R"))
    assert "1 of 2 studies in B have no text in A (b); 1 of 2 studies in A have no text in B (c)" in str(caught.value)


def test_systems_of_more_studies_than_the_references_are_refused() -> None:
    with pytest.raises(InputError, match=r"^1 of 2 studies in A have no text in R \(b\)$"):
        compare({"a": "x", "b": "x"}, {"a": "x", "b": "x"}, {"a": ["x"]}, RULES, names=("A", "B", "R"))


def test_every_family_has_a_difference() -> None:
    assert list(compared("constant", "unicode").differences) == [m for family in FAMILIES for m in family.metrics]
