"""What `test` measures of head and text against what is known of films: areas, calls, calibration, normal films."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from r2gengpt.data.study import Study
from r2gengpt.evaluation.findings import measured_findings
from r2gengpt.metrics.detection import (
    area,
    areas,
    areas_by_source,
    balanced,
    decided,
    enough,
    mean,
    mean_of,
    moved,
    numbered,
    precisions,
    resampled,
    shares,
)
from r2gengpt.metrics.records import Score
from r2gengpt.metrics.table import score_table
from r2gengpt.report import Finding, Report
from r2gengpt.text.observations import ALL_OBSERVATIONS, LIKELY, NO_FINDING, NOT_ASSESSED, POSSIBLE, UNLIKELY
from report_pages import PREDICTIONS, Page, scores_of, written

FILMS = (Path("a.png"),)


def study(number: int, **labels: float) -> Study:
    """Films of two sources; the first is of children, of whom little is known."""
    child = number % 3 == 0
    known = {NO_FINDING: labels["normal"]} | ({} if child else {"Edema": labels["edema"]})
    return Study(
        f"s{number}", FILMS, labels=known, source="children" if child else "adults", patient=f"p{number // 2}",
        age=5.0 if child else 20.0 + number % 60, sex="FM"[number % 2],
    )  # fmt: skip


def told(normal: float, edema: float, assessed: bool = True) -> tuple[Finding, ...]:
    verdict = LIKELY if normal >= 0.5 else UNLIKELY
    return (
        Finding(NO_FINDING, normal, (0.0, 1.0), verdict),
        Finding("Edema", edema, (0.0, 1.0), POSSIBLE if assessed else NOT_ASSESSED),
        Finding("Fracture", 0.1, (0.0, 1.0), NOT_ASSESSED),
    )


def drawn(count: int = 120, **more: Any) -> tuple[list[Report], list[Study]]:
    rng = np.random.default_rng(0)
    reports, studies = [], []
    for number in range(count):
        edema = float(rng.random() < 0.4)
        studies.append(study(number, normal=1.0 - edema, edema=edema))
        seen = 1 / (1 + math.exp(-rng.normal(2 * edema - 1, 1.5)))
        words = "Mild edema." if seen > 0.5 else "The lungs are clear."
        reports.append(Report(f"s{number}", words, findings=told(1 - seen, seen, **more)))
    return reports, studies


def found_of(reports: list[Report], studies: list[Study]) -> dict[str, Any]:
    found = measured_findings(reports, studies)
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return found_of(*drawn())


def test_an_area_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(1)
    truth, values = rng.random(40) < 0.4, np.round(rng.random(40), 1)
    pairs = [(a > b) + (a == b) / 2 for a in values[truth] for b in values[~truth]]
    assert area(truth.astype(float), values) == pytest.approx(np.mean(pairs))


def test_an_average_precision_is_that_at_each_value_weighted_by_its_positives() -> None:
    rng = np.random.default_rng(3)
    truth, values = rng.random(40) < 0.4, np.round(rng.random(40), 1)
    by_hand = [truth[values >= value].mean() for value in values[truth]]
    assert precisions(truth, values)(np.ones((1, 40)))[0] == pytest.approx(np.mean(by_hand))


@pytest.mark.parametrize("measure", [areas, precisions])
def test_a_draws_value_is_that_of_the_films_that_it_holds(measure: Any) -> None:
    rng = np.random.default_rng(2)
    truth, values = rng.random(30) < 0.5, np.round(rng.random(30), 1)
    places = rng.integers(0, 30, 30)
    times = np.bincount(places, minlength=30).astype(float)
    once = measure(truth[places], values[places])(np.ones((1, 30)))
    assert measure(truth, values)(times[None]) == pytest.approx(once)
    assert np.isnan(areas(truth, values)(truth[None].astype(float))[0]), "positives only"


def test_the_first_film_that_is_called_counts_for_the_average_precision() -> None:
    truth, values = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.1])
    assert precisions(truth, values)(np.ones((1, 4)))[0] == pytest.approx((1 + 2 / 3) / 2)


def test_films_that_no_draw_holds_are_divided_by_nothing() -> None:
    truth, values = np.array([True, True, False]), np.array([0.9, 0.5, 0.1])
    with np.errstate(all="raise"):
        assert precisions(truth, values)(np.array([[0.0, 1.0, 1.0]]))[0] == 1.0
        assert np.isnan(shares(truth, truth)(np.array([[0.0, 0.0, 1.0]]))[0])


def test_a_mean_counts_each_value_as_often_as_it_is_drawn() -> None:
    assert mean(np.array([1.0, 2.0, 6.0]))(np.array([[1.0, 1.0, 1.0], [2.0, 0.0, 1.0]])) == pytest.approx([3, 8 / 3])


def test_a_label_above_a_half_is_positive() -> None:
    assert area(np.array([1.0, 0.5, 0.0]), np.array([0.9, 0.1, 0.5])) == 1.0
    assert not enough(np.array([0.5] * 5 + [0.0] * 5))


def test_each_draw_holds_as_many_films_as_there_are() -> None:
    found = resampled({"drawn": lambda times: times.sum(axis=1)}, np.arange(7), 50)["drawn"]
    assert found == Score(7.0, (7.0, 7.0))


def test_each_source_has_an_area_of_its_own_where_it_has_films_enough() -> None:
    """Sources: one that is in order, one in the wrong order, one with four positives; in all of them edema alone."""
    truth, values = np.tile([1.0, 0.0], 15), np.tile([0.9, 0.1, 0.1, 0.9, 0.9, 0.1], 5)
    truth[4] = 0.5
    labels = np.full((30, len(ALL_OBSERVATIONS)), math.nan)
    labels[:, ALL_OBSERVATIONS.index("Edema")] = truth
    found = areas_by_source(labels, np.repeat(values[:, None], len(ALL_OBSERVATIONS), axis=1), list("aabbcc") * 5)
    assert found == {("a", "Edema"): 1.0, ("b", "Edema"): 0.0}


def test_films_of_one_patient_are_drawn_together() -> None:
    truth, values = np.array([True, False] * 20), np.tile([0.7, 0.3, 0.2, 0.6], 10)
    alone = resampled({"auc": areas(truth, values)}, np.arange(40), 400)["auc"]
    pairs = resampled({"auc": areas(truth, values)}, np.arange(40) // 20, 400)["auc"]
    assert alone.value == pairs.value == 0.5
    assert pairs.ci95 == (0.5, 0.5), "both patients have the same films"
    assert alone.ci95 is not None
    assert alone.ci95[0] < 0.4 < 0.6 < alone.ci95[1]
    assert resampled({"auc": areas(truth, values)}, np.arange(40), 0)["auc"].ci95 is None


def test_a_mean_is_of_each_measure_on_what_is_known_of_it() -> None:
    first = np.array([True, True, False, False]), areas(np.array([True, False]), np.array([0.9, 0.1]))
    second = np.array([False, False, True, True]), areas(np.array([True, False]), np.array([0.1, 0.9]))
    assert mean_of([first, second])(np.ones((1, 4))) == pytest.approx(0.5)
    assert np.isnan(mean_of([first, second])(np.array([[1.0, 1.0, 2.0, 0.0]])))


def test_balanced_accuracy_counts_both_kinds_alike() -> None:
    truth = np.array([True] * 5 + [False] * 20)
    called = np.array([True] * 4 + [False] * 16 + [True] * 5)
    once = np.ones((1, 25))
    assert shares(called, truth)(once)[0] == pytest.approx(4 / 5)
    assert shares(~called, ~truth)(once)[0] == pytest.approx(15 / 20)
    assert balanced(called, truth)(once)[0] == pytest.approx((4 / 5 + 15 / 20) / 2)


def test_calls_that_know_only_the_source_are_no_better_than_moved_within_it() -> None:
    truth = np.array([True] * 90 + [False] * 10 + [True] * 10 + [False] * 90)
    sources = ["children"] * 100 + ["adults"] * 100
    knows = moved(truth, truth, sources, 200)
    of_source = np.array([True] * 100 + [False] * 100)
    assert moved(of_source, truth, sources, 200).value == pytest.approx(0.9)
    assert knows.ci95 is not None
    assert knows.ci95[1] < 0.9 < float(balanced(truth, truth)(np.ones((1, 200)))[0])


def test_groups_are_numbered_in_order_of_appearance() -> None:
    assert numbered(["b", "a", "b"]).tolist() == [0, 1, 0]


def test_each_observation_has_its_measures_and_counts_of_what_is_known(measured: dict[str, Any]) -> None:
    reports, studies = drawn()
    adults = [n for n, one in enumerate(studies) if one.source == "adults"]
    truth = np.array([studies[n].labels["Edema"] for n in adults])
    values = np.array([reports[n].findings[1].probability for n in adults])
    found = measured["head"]["all"]["observations"]["Edema"]
    assert found["auc"]["value"] == area(truth, values)
    assert (found["positive"], found["negative"]) == (truth.sum(), len(truth) - truth.sum())
    low, high = found["auc"]["ci95"]
    assert low < found["auc"]["value"] < high
    once = np.ones((1, len(truth)))
    assert found["average_precision"]["value"] == pytest.approx(precisions(truth > 0.5, values)(once)[0])


def test_sensitivity_and_specificity_are_of_both_verdicts(measured: dict[str, Any]) -> None:
    edema = measured["head"]["all"]["observations"]["Edema"]
    assert (edema["sensitivity_likely"]["value"], edema["specificity_likely"]["value"]) == (0, 1), "always possible"
    assert (edema["sensitivity_possible"]["value"], edema["specificity_possible"]["value"]) == (1, 0)
    less = found_of(*drawn(assessed=False))["head"]["all"]["observations"]["Edema"]
    assert "auc" in less
    assert "sensitivity_likely" not in less, "what is not assessed is not called"


def test_what_a_source_does_not_label_has_no_figure_there(measured: dict[str, Any]) -> None:
    sources = measured["head"]["by_source"]
    assert sources["children"]["observations"]["Edema"] == {"positive": 0, "negative": 0}
    assert sources["children"]["mean_auc"]["over"] == [NO_FINDING]
    assert sources["adults"]["mean_auc"]["over"] == [NO_FINDING, "Edema"]
    assert measured["head"]["not_assessed"] == ["Fracture"]


def test_groups_of_age_and_sex_hold_whom_they_name(measured: dict[str, Any]) -> None:
    _, studies = drawn()
    ages = [one.age or 0 for one in studies]
    assert {name: group["n"] for name, group in measured["head"]["by_age"].items()} == {
        "child < 16": sum(age < 16 for age in ages),
        "16-39": sum(16 <= age < 40 for age in ages),
        "40-64": sum(40 <= age < 65 for age in ages),
        "65+": sum(age >= 65 for age in ages),
    }
    assert {name: group["n"] for name, group in measured["head"]["by_sex"].items()} == {"F": 60, "M": 60}


def test_a_normal_film_is_one_whose_no_finding_is_likely(measured: dict[str, Any]) -> None:
    reports, studies = drawn()
    pairs = [
        (one.labels[NO_FINDING] == 1, report.findings[0].verdict == LIKELY)
        for one, report in zip(studies, reports, strict=True)
        if one.source == "children"
    ]
    found = measured["head"]["normal_or_abnormal"]["by_source"]["children"]
    assert found["normal"] == {"n": sum(truth for truth, _ in pairs), "called_so": sum(a and b for a, b in pairs)}
    assert found["abnormal"]["called_so"] == sum(not truth and not called for truth, called in pairs)
    shares_of = [found[kind]["called_so"] / found[kind]["n"] for kind in ("normal", "abnormal")]
    assert found["balanced_accuracy"]["value"] == pytest.approx(sum(shares_of) / 2)


def test_calibration_is_of_all_assessed_observations_that_are_known(measured: dict[str, Any]) -> None:
    found = measured["head"]["calibration"]
    assert found["n"] == 120 + 80, "No Finding of all, edema of adults"
    assert found_of(*drawn(assessed=False))["head"]["calibration"]["n"] == 120
    gaps = sum(one["count"] * abs(one["accuracy"] - one["confidence"]) for one in found["reliability"] if one["count"])
    assert found["ece"]["value"] == pytest.approx(gaps / 200)
    reports, studies = drawn()
    errors = [
        (finding.probability - one.labels[finding.name]) ** 2
        for report, one in zip(reports, studies, strict=True)
        for finding in report.findings
        if finding.name in one.labels
    ]
    assert found["brier"]["value"] == pytest.approx(np.mean(errors))


def test_perfect_probabilities_are_calibrated() -> None:
    reports, studies = drawn()
    right = [
        replace(report, findings=told(one.labels[NO_FINDING], one.labels.get("Edema", 0.0)))
        for report, one in zip(reports, studies, strict=True)
    ]
    found = found_of(right, studies)["head"]
    assert (found["calibration"]["ece"]["value"], found["calibration"]["brier"]["value"]) == (0, 0)
    assert found["all"]["mean_auc"]["value"] == 1.0


def test_without_head_and_labels_scores_have_no_findings() -> None:
    _, studies = drawn(4)
    unknown = [replace(one, labels={"Edema": 1.0}) for one in studies]
    assert measured_findings([Report(one.id, "t") for one in studies], unknown) is None
    assert "findings" not in scores_of(PREDICTIONS).to_json()


def test_labels_that_are_none_leave_figures_out_and_break_nothing() -> None:
    reports, studies = drawn(6)
    found = found_of(reports, [replace(one, labels={"Hernia": 0.0}, age=None, sex="") for one in studies])
    assert found["head"]["all"]["mean_auc"] == {"over": []}
    assert found["head"]["calibration"] is None
    assert (found["head"]["by_age"], found["head"]["by_sex"]) == ({}, {})
    assert "text" not in found
    assert "too few" in score_table(replace(scores_of(PREDICTIONS), findings=found))


def test_a_text_is_normal_where_the_rules_find_nothing_in_it() -> None:
    reports, studies = drawn()
    plain = [replace(report, findings=()) for report in reports]
    found = found_of(plain, studies)
    assert found.keys() == {"text"}, "no head"
    normal = np.array([report.text.startswith("The lungs") for report in reports])
    truth = np.array([one.labels[NO_FINDING] == 1 for one in studies])
    every = found["text"]["all"]
    assert every["normal"] == {"n": truth.sum(), "called_so": (normal & truth).sum()}
    assert every["balanced_accuracy"]["value"] == pytest.approx((normal[truth].mean() + (~normal[~truth]).mean()) / 2)
    assert every["moved"]["value"] == pytest.approx(0.5, abs=0.02)
    assert every["moved"]["ci95"][1] < every["balanced_accuracy"]["value"]
    assert found["text"]["by_source"].keys() == {"adults", "children"}
    lines = score_table(replace(scores_of(PREDICTIONS), findings=found)).splitlines()
    assert [line.split()[2] for line in lines if line.startswith("text, ")] == ["120", "80", "40"]


def test_a_report_is_the_truth_where_there_are_no_labels() -> None:
    reports, studies = drawn(40)
    without = [
        replace(one, labels={}, report="Mild edema." if one.labels[NO_FINDING] == 0 else "The lungs are clear.")
        for one in studies
    ]
    found = found_of(reports, [*without[:20], *studies[20:]])
    normal = found["head"]["all"]["observations"][NO_FINDING]["positive"]
    assert normal == sum(one.labels[NO_FINDING] == 1 for one in studies)
    assert found["head"]["truth"].startswith("20 studies: labels of the annotation; 20 studies: labels of the report")
    counts = [found["text"]["all"][kind]["n"] for kind in ("normal", "abnormal")]
    assert sum(counts) == 20, "a text is held against labels only; what it shares with a report stands elsewhere"


def test_one_source_has_no_column_beside_that_of_all() -> None:
    reports, studies = drawn(40)
    found = found_of(reports, [replace(one, source="adults") for one in studies])
    table = score_table(replace(scores_of(PREDICTIONS), findings=found))
    (heads,) = (line for line in table.splitlines() if line.startswith("area under ROC"))
    assert heads.split()[-1] == "all"


def test_the_terminal_has_a_row_for_each_observation_and_source(measured: dict[str, Any]) -> None:
    table = score_table(replace(scores_of(PREDICTIONS), findings=measured))
    (heads,) = (line for line in table.splitlines() if line.startswith("area under ROC"))
    assert heads.split()[-3:] == ["all", "adults", "children"]
    (edema,) = (line for line in table.splitlines() if line.startswith("Edema"))
    assert edema.startswith("Edema")
    assert edema.endswith("too few")
    assert "not assessed: Fracture" in table
    assert "calibration error 0." in table


def test_the_page_shows_every_figure_and_the_calibration(measured: dict[str, Any], tmp_path: Path) -> None:
    content = replace(scores_of(PREDICTIONS), findings=measured).to_json()
    json.dumps(content, allow_nan=False)
    page = Page(written(tmp_path, content=content))
    rows = {row[0]: row for row in page.tables["Each observation, all studies"]}
    absent = {row[0]: row for row in page.tables["Observations of no film, all studies"]}
    assert absent["Fracture (not assessed)"][1:4] == ["0", "0", "too few"]
    assert not rows.keys() & absent.keys() - {""}
    assert all(row[1] != "0" for row in rows.values())
    found = measured["head"]["all"]["observations"]["Edema"]
    assert rows["Edema"][3].startswith(f"{found['auc']['value']:.3f}|")
    assert rows["Edema"][6].startswith("1.000|")
    children = {row[0]: row for row in page.tables["Observations of no film, source children"]}
    assert children["Edema"][3] == "too few"
    groups = [row[0] for row in page.tables["Area under the ROC curve by source, age, sex and view"]]
    assert groups[1:] == [
        "all studies", "source adults", "source children", "age child < 16", "age 16-39", "age 40-64", "age 65+",
        "sex F", "sex M",
    ]  # fmt: skip
    normal = [row[0] for row in page.tables["Normal or abnormal"]]
    assert "head, children" in normal
    assert "text, children" in normal
    assert "Reliability: share with it over probability" in str([one.get("aria-label") for one in page.every("svg")])


@pytest.mark.parametrize("part", ["text", "head"])
def test_page_and_terminal_show_what_there_is_alone(part: str, measured: dict[str, Any], tmp_path: Path) -> None:
    scores = replace(scores_of(PREDICTIONS), findings={part: measured[part]})
    page = Page(written(tmp_path, content=scores.to_json()))
    assert {row[0].split(",")[0] for row in page.tables["Normal or abnormal"][1:]} == {part}
    assert f"{part}, children" in score_table(scores)
    less = {name: value for name, value in measured["head"].items() if name != "normal_or_abnormal"}
    page = Page(written(tmp_path, content=replace(scores, findings={"head": less | {"calibration": None}}).to_json()))
    assert "Normal or abnormal" not in page.tables


def test_a_label_is_decided_from_the_quarters_on() -> None:
    labels = np.array([0.0, 0.25, 0.26, 0.5, 0.74, 0.75, 1.0, math.nan])
    assert decided(labels).tolist() == [True, True, False, False, False, True, True, False]


@pytest.mark.parametrize(("positives", "negatives", "are"), [(5, 5, True), (4, 9, False), (9, 4, False), (0, 9, False)])
def test_a_measure_needs_five_positives_and_five_negatives(positives: int, negatives: int, are: bool) -> None:
    assert enough(np.array([1.0] * positives + [0.0] * negatives)) is are


@pytest.mark.parametrize("resamples", [2, 3])
def test_the_interval_is_that_of_the_draws_alone(resamples: int) -> None:
    found = resampled({"one": lambda times: np.full(len(times), 0.75)}, np.arange(4), resamples)["one"]
    assert (found.value, found.ci95) == (0.75, (0.75, 0.75))


def test_an_interval_is_of_the_draws_alone() -> None:
    def known(times: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where((times == 1).all(axis=1), 100.0, 7.0)

    found = resampled({"known": known}, np.arange(40), 3)["known"]
    assert found == Score(100.0, (7.0, 7.0))
