"""What verdicts say together: shares, corrections, alarms that are neither missed nor raised by chance."""

import json
import math
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest

from r2gengpt.errors import InputError
from r2gengpt.settings import VerdictsConfig
from r2gengpt.text.written import json_text
from r2gengpt.verdicts.record import KeptVerdict, ReaderVerdict
from r2gengpt.verdicts.review import samples
from r2gengpt.verdicts.review.drift import Alarm
from r2gengpt.verdicts.review.review import Review, review
from r2gengpt.verdicts.review.shares import Proportion
from verdict_parts import MONDAY, NORMAL, TEXTS, Clinic, Desk, kept, kept_of

CONFIG = VerdictsConfig(verdicts="verdicts.db")
STILL = Clinic()


def reviewed(*parts: tuple[int, Clinic], seed: int = 0, config: VerdictsConfig = CONFIG) -> Review:
    return review(kept(*parts, seed=seed), config)


def alarms(found: Review) -> dict[str, Alarm]:
    return {one.name: one.alarm for one in found.drifts.compared}


def one(number: int, verdict: str, text: str = "", draft: str = NORMAL, day: int = 0, reason: str = "") -> KeptVerdict:
    """A verdict on a draft of that number."""
    facts, _, _ = next(Desk(number, count=number).drawn(1))
    given = ReaderVerdict(verdict, f"key-{number:016}-{verdict}", text, reason)
    return kept_of(replace(facts, text=draft), given, MONDAY + timedelta(days=day), number)


# ------------------------------------------------------------------ shares


@pytest.mark.parametrize(
    ("count", "of", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0)]
)
def test_an_interval_is_wilsons(count: int, of: int, low: float, high: float) -> None:
    assert Proportion(count, of).ends == pytest.approx((low, high), abs=1e-4)


def test_the_first_sentence_has_the_share_its_interval_and_the_drift() -> None:
    found = review(
        [one(1, "accept"), one(2, "accept"), one(3, "edit", "The lungs are clear."), one(4, "reject")], CONFIG
    )
    drift = "drift: too few to tell (0 drafts after the reference, 30 needed)"
    assert found.headline == f"Readers accepted 50 % of 4 drafts unchanged [15, 85]; {drift}."
    assert reviewed().headline == "No verdict is kept yet."


def test_the_newest_verdict_of_a_draft_counts_and_one_that_was_taken_back_does_not() -> None:
    history = [one(1, "accept"), one(2, "accept"), one(1, "reject", day=1), one(2, "withdraw"), one(3, "accept")]
    found = review(history, CONFIG)
    assert [draft.verdict for draft in found.judged.drafts] == ["reject", "accept"]
    assert (found.judged.withdrawn, found.judged.verdicts) == (1, 5)


def test_weeks_begin_on_monday_and_those_without_a_verdict_are_there() -> None:
    found = review([one(1, "accept", day=6), one(2, "reject", day=7), one(3, "accept", day=21)], CONFIG)
    days = [(span.first, span.outcomes.drafts) for span in found.spans]
    assert days == [(date(2026, 1, 5) + timedelta(days=7 * at), count) for at, count in enumerate((1, 1, 0, 1))]
    assert found.unit == "week"


def test_more_than_a_year_is_counted_in_months() -> None:
    found = review([one(1, "accept"), one(2, "accept", day=400)], CONFIG)
    assert found.unit == "month"
    assert [span.first for span in found.spans][:2] == [date(2026, 1, 1), date(2026, 2, 1)]
    assert found.spans[-1].first == date(2027, 2, 1)


# ------------------------------------------------------------------ corrections


def test_findings_that_were_added_removed_or_doubted_are_counted_by_name() -> None:
    large, doubted = "The heart is enlarged.", "The heart is possibly enlarged."
    found = review(
        [
            one(1, "edit", f"{NORMAL} There is a right pneumothorax."),
            one(2, "edit", NORMAL, draft=large),
            one(3, "edit", doubted, draft=large),
            one(4, "accept", draft=large),
            one(5, "reject", draft=large, reason="invented"),
        ],
        CONFIG,
    )
    rows = {row.name: (row.added, row.removed, row.certainty, row.share) for row in found.corrections}
    assert rows == {"Cardiomegaly": (0, 1, 1, Proportion(2, 3)), "Pneumothorax": (1, 0, 0, Proportion(1, 1))}
    assert next(iter(rows)) == "Cardiomegaly", "the most often corrected first"
    assert found.reasons == (("a finding is not there", 1), ("no reason given", 3))
    assert found.sentences == {"kept": 4, "changed": 2, "added": 3, "removed": 0}


# ------------------------------------------------------------------ drift


def test_a_change_of_each_thing_is_an_alarm_and_of_nothing_else() -> None:
    changes = {
        "view": replace(STILL, lateral=0.7),
        "device": replace(STILL, devices=("Maker Three",)),
        "brightness": replace(STILL, brightness=1.5),
        "drafts that need review": replace(STILL, marked=0.7),
        "accepted unchanged": replace(STILL, accepted=0.1),
    }
    for name, clinic in changes.items():
        found = [shown for shown, alarm in alarms(reviewed((150, STILL), (150, clinic))).items() if alarm == "alarm"]
        assert name in found
        assert set(found) <= {name, *(["words changed"] if name == "accepted unchanged" else [])}


def test_a_model_that_writes_one_normal_text_for_all_raises_alarms() -> None:
    found = alarms(reviewed((150, STILL), (150, replace(STILL, texts=TEXTS[:1]))))
    assert {name for name in ("normal drafts", "drafts with edema", "words") if found[name] == Alarm.ALARM} == {
        "normal drafts",
        "drafts with edema",
        "words",
    }
    texts = tuple(f"{text} Line {number}." for text in TEXTS for number in range(20))
    many = alarms(reviewed((150, replace(STILL, texts=texts)), (150, STILL)))
    assert many["distinct texts"] == Alarm.ALARM


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_an_alarm_where_nothing_has_changed(seed: int) -> None:
    found = reviewed((260, STILL), seed=seed)
    assert len(found.compared) > 10
    assert found.alarms == []
    assert found.headline.endswith("; no drift alarm.")


def test_few_drafts_are_too_few_to_tell_however_much_they_differ() -> None:
    found = reviewed((100, STILL), (29, replace(STILL, lateral=1.0)))
    assert {one.alarm for one in found.drifts.compared} == {Alarm.TOO_FEW}
    assert "too few to tell (29 drafts after the reference, 30 needed)" in found.headline


def test_what_no_draft_has_is_named_and_not_compared() -> None:
    found = reviewed((150, replace(STILL, named=False)))
    assert found.unknown == ("view", "device", "age", "sex")
    assert not {"view", "device"} & set(alarms(found))
    assert [grouping.name for grouping in found.groupings] == ["model"]
    assert "films" in found.drifts.constant


@pytest.mark.parametrize("lost", ["reference", "recent"])
def test_what_one_period_alone_has_is_not_called_the_same_throughout(lost: str) -> None:
    parts = (
        (100, replace(STILL, devices=("Maker One",), named=lost != "reference")),
        (50, replace(STILL, devices=("Maker One",), named=lost != "recent")),
    )
    found = reviewed(*parts)
    assert "device" not in found.drifts.constant
    sizes = next(one.sizes for one in found.drifts.compared if one.name == "device")
    assert sizes == ((0, 50) if lost == "reference" else (100, 0))
    assert "device" in reviewed((150, replace(STILL, devices=("Maker One",)))).drifts.constant


def test_a_reference_of_days_is_compared_with_the_latest_drafts_after_it() -> None:
    config = replace(CONFIG, reference=("2026-01-05", "2026-01-08"), recent_drafts=40)
    found = reviewed((200, STILL), config=config)
    assert found.reference.days == (date(2026, 1, 5), date(2026, 1, 8))
    assert len(found.recent.drafts) == 40
    assert found.recent.drafts[-1] == found.judged.drafts[-1]


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (("2026-01-05",), "reference 2026-01-05: must be two days, the first and the last"),
        (("2026-01-05", "soon"), "reference soon: must be a day, as 2026-01-31"),
        (("2026-01-08", "2026-01-05"), "reference 2026-01-08 2026-01-05: ends before it begins"),
        (("2025-01-05", "2025-01-08"), "reference 2025-01-05 2025-01-08: has no verdict: the store has those of 2026-"),
    ],
)
def test_a_reference_that_is_none_is_refused(days: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError) as refusal:
        reviewed((3, STILL), config=replace(CONFIG, reference=days))
    assert str(refusal.value).startswith(words)


# ------------------------------------------------------------------ subgroups


def test_acceptance_that_depends_on_the_device_is_found_and_on_the_sex_is_not() -> None:
    bad, good = replace(STILL, devices=("Old",), accepted=0.2), replace(STILL, devices=("New",), accepted=0.8)
    found = {grouping.name: grouping for grouping in reviewed((80, bad), (80, good)).groupings}
    assert float(found["device"].p_holm or 1) < 0.01
    assert float(found["sex"].p_holm or 0) > 0.05
    shares = {group.value: group.outcomes.accepted.value for group in found["device"].groups}
    assert shares["Old"] < 0.4 < 0.6 < shares["New"]
    distances = {group.value: group.distance for group in found["device"].groups}
    assert float(distances["Old"] or 0) > float(distances["New"] or 0)


def test_every_number_is_json() -> None:
    told = json.loads(json_text(reviewed((150, STILL)).to_json()))
    assert told["all"]["accepted"]["of"] == told["drafts"] == 150
    assert {row["alarm"] for row in told["drift"]} == {"no change"}
    assert json.loads(json_text(reviewed().to_json()))["all"]["accepted"]["share"] is None


# ------------------------------------------------------------------ tests of samples


def test_the_p_of_kolmogorov_and_smirnov_is_that_of_their_limit() -> None:
    ours = np.arange(1000, dtype=np.float64)
    # D = .06, so that the argument of the limit is (sqrt(500) + .12 + .11 / sqrt(500)) * .06
    reach = (math.sqrt(500) + 0.12 + 0.11 / math.sqrt(500)) * 0.06
    assert samples.kolmogorov_smirnov(ours, ours + 60) == pytest.approx(2 * math.exp(-2 * reach**2), rel=1e-3)
    assert samples.kolmogorov_smirnov(ours, ours) == 1
    assert samples.kolmogorov_smirnov(ours, ours + 1000) < 1e-100


def test_the_p_of_a_table_by_permutation_is_fishers() -> None:
    # of 70 tables with these totals, 2 have (4, 0) or (0, 4) and 32 have (3, 1) or (1, 3)
    assert samples.chi_square_by_draws([3, 1], [1, 3]) == pytest.approx(34 / 70, abs=0.015)  # 3 standard errors
    assert samples.chi_square_by_draws([4, 0], [0, 4]) == pytest.approx(2 / 70, abs=0.005)
    assert samples.chi_square_by_draws([5, 0], [9, 0]) == 1


def test_numbers_that_are_all_alike_have_a_bin_and_no_change() -> None:
    ours = np.ones(50)
    assert samples.stability_index(*samples.binned(ours, ours)) == 0
    assert samples.stability_index(*samples.binned(ours, ours * 2)) > 1


@pytest.mark.parametrize("size", [30, 100, 300])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [((12, 12, 12), (8, 8, 8)), ((0, 10, 20), (0, 5, 20)), ((0, 10, 20), (0, 15, 20))],
    ids=["all below", "below in the middle", "above in the middle"],
)
def test_numbers_that_move_from_a_common_value_are_a_change_either_way(
    ours: tuple[float, ...], theirs: tuple[float, ...], size: int
) -> None:
    first, second = (np.repeat(np.asarray(some, dtype=np.float64), [size // 10, size - 2 * (size // 10), size // 10])
                     for some in (ours, theirs))  # fmt: skip
    assert samples.stability_index(*samples.binned(first, second)) > 0.25
    assert samples.stability_index(*samples.binned(second, first)) > 0.25
    assert samples.stability_index(*samples.binned(first, first)) == 0


def test_distinct_texts_are_counted_as_of_fewer_drafts() -> None:
    counts = np.asarray([1] * 10)
    assert samples.distinct_of(counts, 4) == pytest.approx(4)
    assert samples.distinct_of(np.asarray([10]), 4) == 1
    # two of three, one pair equal: of 3 pairs 1 has one kind and 2 have two
    assert samples.distinct_of(np.asarray([2, 1]), 2) == pytest.approx(5 / 3)


def test_holms_p_never_falls_and_never_exceeds_one() -> None:
    assert samples.holm([0.6, 0.001, 0.5]) == pytest.approx([1.0, 0.003, 1.0])
    assert samples.holm([]) == []
