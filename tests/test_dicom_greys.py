"""Stored values to greys, table by table and window by window: numbers from the standard's formulas, worked by hand."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from r2gengpt.films.containers import ContainerError
from r2gengpt.films.dicom.greys import (
    Chain,
    Counts,
    Curve,
    Greys,
    Values,
    Window,
    grey_pixels,
    is_usable,
    quantiles,
    spread,
    stretched,
)

SIXTEENTH = 16 / 255
"""Of the 255 steps that a picture can show, as a share of all."""
JUST_LESS = 15.97 / 255


def film_of(*groups: tuple[int, int]) -> "np.ndarray[tuple[int, int], np.dtype[np.uint16]]":
    """A picture of one row that holds each value as often as its second number says."""
    return np.repeat([value for value, _ in groups], [count for _, count in groups]).astype(np.uint16)[None]


def shown(greys: Greys, *groups: tuple[int, int]) -> tuple[list[int], tuple[str, ...]]:
    """The grey of each group of a film's values, and what is said of it."""
    found, notes = grey_pixels(film_of(*groups), greys)
    ends = np.cumsum([count for _, count in groups]) - 1
    return found[0, ends].tolist(), notes


# ------------------------------------------------------------------ tables


@pytest.mark.parametrize(("value", "entry"), [(9, 7), (10, 7), (10.4, 7), (10.6, 8), (11, 8), (12, 9), (13, 9)])
def test_a_value_has_the_entry_of_its_place_and_beyond_the_table_that_of_its_end(value: float, entry: int) -> None:
    assert Curve(10, (7, 8, 9), 8).at(np.array([value])).tolist() == [entry]


@pytest.mark.parametrize(
    ("entries", "bits", "top"),
    [
        ((0, 255), 8, 255),
        ((0, 255), 16, 255),
        ((0, 256), 16, 1023),
        ((0, 4095), 16, 4095),
        ((0, 4096), 16, 16383),
        ((0, 40), 6, 63),
        ((0, 4095), 10, 4095),  # more than its bits hold
        ((0, 1), 1, 1),
        ((0, 0), 1, 1),
    ],
)
def test_a_tables_white_is_that_of_the_smallest_depth_that_holds_its_entries(
    entries: tuple[int, ...], bits: int, top: int
) -> None:
    curve = Curve(0, entries, bits)
    assert curve.top == top
    assert curve.levels(np.array([1.0])).tolist() == [entries[1] / top]


def test_no_entry_is_blacker_than_black() -> None:
    assert Curve(0, (-5, 255), 8).levels(np.array([0.0, 1.0])).tolist() == [0, 1]


@pytest.mark.parametrize("first", [0, 100, 32767])
def test_a_first_value_that_reads_the_same_with_a_sign_and_without_is_not_moved(first: int) -> None:
    counts = np.ones(4, int)
    for away in (-65536, -1, 1, 65536):
        values = np.arange(first + away, first + away + 4).astype(float)
        assert Curve(first, (0, 1, 2, 3), 8).meeting(values, counts).first == first


def test_a_table_that_meets_the_pixels_as_well_either_way_stays_as_it_is_written() -> None:
    assert Curve(-1, (0, 1), 8).meeting(np.array([-1.0, 65535.0]), np.ones(2, int)).first == -1


# ------------------------------------------------------------------ windows


@pytest.mark.parametrize(
    ("function", "width", "places"),
    [
        # PS3.3, C.11.2.1.2.1: from c - 0.5 - (w - 1) / 2 to c - 0.5 + (w - 1) / 2
        ("LINEAR", 101, {49.5: 0.0, 49: 0.0, 74.5: 0.25, 99.5: 0.5, 149.5: 1.0, 150: 1.0}),
        ("LINEAR", 2, {99: 0.0, 99.5: 0.5, 100: 1.0}),
        ("LINEAR", 1, {99: 0.0, 99.5: 0.0, 99.6: 1.0, 100: 1.0}),
        # C.11.2.1.3.2: from c - w / 2 to c + w / 2
        ("LINEAR_EXACT", 100, {49: 0.0, 50: 0.0, 75: 0.25, 100: 0.5, 150: 1.0, 151: 1.0}),
        ("LINEAR_EXACT", 1, {99.5: 0.0, 99.75: 0.25, 100: 0.5, 100.5: 1.0}),
        # C.11.2.1.3.1: 1 / (1 + exp(-4 (x - c) / w))
        ("SIGMOID", 100, {100: 0.5, 125: 1 / (1 + math.exp(-1)), 50: 1 / (1 + math.exp(2))}),
        ("SIGMOID", 0.001, {-1e6: 0.0, 1e6: 1.0}),
    ],
)
def test_a_window_is_that_of_its_function(function: str, width: float, places: dict[float, float]) -> None:
    found = Window(100.0, width, function).levels(np.array(list(places)))
    assert found.tolist() == pytest.approx(list(places.values()), abs=1e-12)


@pytest.mark.parametrize(
    ("function", "width", "is_one"),
    [
        *(("LINEAR", 1, True), ("LINEAR", 0.99, False), ("LINEAR", 0, False), ("LINEAR", -5, False)),
        *(("LINEAR_EXACT", 0.5, True), ("LINEAR_EXACT", 0, False), ("LINEAR_EXACT", -1, False)),
        *(("SIGMOID", 0.5, True), ("SIGMOID", 1, True), ("SIGMOID", 0, False)),
    ],
)
def test_a_window_has_a_width_that_its_function_allows(function: str, width: float, is_one: bool) -> None:
    assert Window(100.0, width, function).is_one is is_one


# ------------------------------------------------------------------ stored values and padding


@pytest.mark.parametrize(
    ("bits", "signed", "values"),
    [
        (1, False, [0, 1]),
        (2, False, [0, 1, 2, 3]),
        (1, True, [0, -1]),
        (2, True, [0, 1, -2, -1]),
        (3, True, [0, 1, 2, 3, -4, -3, -2, -1]),
    ],
)
def test_patterns_of_bits_stand_for_values_in_twos_complement_where_they_are_signed(
    bits: int, signed: bool, values: list[int]
) -> None:
    assert Greys(bits, signed).stored().tolist() == values


def test_what_a_file_does_not_say_changes_no_value() -> None:
    assert Greys(2).stored().tolist() == [0, 1, 2, 3]
    greys, notes = shown(Greys(8), (0, 10), (128, 10), (255, 10))
    assert (greys, notes) == ([0, 128, 255], ())


@pytest.mark.parametrize(
    ("counts", "seen"),
    [
        ([1, 2, 3, 4], [1, 0, 0, 4]),
        ([1, 49, 49, 1], [1, 0, 0, 1]),  # a fiftieth is enough for a picture
        ([1, 50, 50, 1], [1, 50, 50, 1]),
        ([0, 9, 9, 0], [0, 9, 9, 0]),
    ],
)
def test_padding_with_both_its_ends_is_not_seen_unless_it_leaves_less_than_a_fiftieth(
    counts: list[int], seen: list[int]
) -> None:
    assert Greys(2, padding=(1, 2)).seen(np.array(counts)).tolist() == seen


def test_padding_is_told_by_the_values_and_not_by_their_bits() -> None:
    assert Greys(2, signed=True, padding=(-2, -1)).seen(np.ones(4, int)).tolist() == [1, 1, 0, 0]


def test_a_film_of_next_to_nothing_but_padding_is_shown_whole_and_says_so() -> None:
    greys = Greys(8, padding=(100, 120), choices=(Window(128, 257),))
    found, notes = shown(greys, (0, 1), (100, 200), (110, 200), (120, 200))
    assert found[1] < found[2] < found[3]
    assert notes == ("has a padding value that takes nearly all of its pixels: it is left out",)


def test_padding_is_black_and_what_stands_beside_it_is_as_without() -> None:
    greys = Greys(8, padding=(100, 120), choices=(Window(128, 256),))
    found, notes = shown(greys, (0, 40), (99, 40), (100, 10), (120, 10), (121, 40), (255, 40))
    assert found == [0, 99, 0, 0, 121, 255]
    assert notes == ()


def test_a_film_without_padding_says_nothing_of_one() -> None:
    assert shown(Greys(8, choices=(Window(128, 256),)), (0, 40), (255, 40)) == ([0, 255], ())


# ------------------------------------------------------------------ the chain


def test_the_rescale_comes_before_the_window_and_inversion_last() -> None:
    greys = Greys(8, slope=2.0, intercept=20.0, choices=(Window(265, 511),))
    film = (0, 40), (100, 40), (255, 40)  # (2 v + 20 - 264.5) / 510 + 0.5: 5.25, 105.25 and more than 255 of 255
    assert shown(greys, *film)[0] == [5, 105, 255]
    assert shown(replace(greys, inverted=True), *film)[0] == [250, 150, 0]


def test_the_first_table_or_window_that_shows_the_film_is_used_and_the_ones_before_it_are_named() -> None:
    bad = Curve(0, (0,), 8)
    narrow, none = Window(1000, 10), Window(128, 0.5)
    good, other = Window(128, 256), Window(0, 2)
    found, notes = shown(Greys(8, choices=(bad, narrow, none, good, other)), (0, 40), (99, 40), (255, 40))
    assert found == [0, 99, 255]
    assert notes == (
        "has a VOI table and a window of center 1000 and width 10 and a window of center 128 and width 0.5 that leaves "
        "nearly one grey: its window of center 128 and width 256 is used",
    )


def test_where_no_window_shows_the_film_its_own_range_does() -> None:
    found, notes = shown(Greys(8, choices=(Window(1000, 10),)), (50, 40), (60, 40), (70, 40))
    assert found == [0, 128, 255]
    assert notes == (
        "has a window of center 1000 and width 10 that leaves nearly one grey: "
        "the 0.5 and 99.5 % points of its pixels are used",
    )


def test_a_film_of_one_grey_is_refused() -> None:
    with pytest.raises(ContainerError, match=r"shows nothing: 100\.0% of its pixels are of one grey"):
        grey_pixels(film_of((7, 400)), Greys(8))


def test_a_modality_table_that_leaves_one_value_is_left_out_with_the_window_after_it() -> None:
    greys = Greys(8, modality=Curve(0, (5,), 8), choices=(Window(5, 2),))
    found, notes = shown(greys, (50, 40), (60, 40), (70, 40))
    assert found == [0, 128, 255]
    assert notes == (
        "has a modality table that leaves nearly one value: the 0.5 and 99.5 % points of its pixels are used",
    )


def test_a_modality_table_that_leaves_two_values_is_used() -> None:
    assert shown(Greys(8, modality=Curve(0, (1, 0), 8)), (0, 40), (1, 40)) == ([255, 0], ())


def test_a_modality_table_that_shows_little_of_a_film_with_little_in_it_is_kept() -> None:
    """Nine of ten pixels are of one value with the table and without it."""
    falling = Curve(0, tuple(range(255, -1, -1)), 8)
    found, notes = shown(Greys(8, modality=falling), (0, 10), (100, 980), (200, 10))
    assert found == [255, round(255 * 100 / 200), 0]
    assert notes == ()


def test_a_modality_table_is_met_with_a_sign_or_without() -> None:
    falling = Curve(65534, (30, 20, 10, 0), 8)  # -2 as an unsigned number
    greys = Greys(8, signed=True, modality=falling, choices=(Window(15, 30, "LINEAR_EXACT"),))
    assert shown(greys, (254, 40), (255, 40), (0, 40), (1, 40))[0] == [255, 170, 85, 0]


@pytest.mark.parametrize(
    ("meeting_rescaled", "outside", "plain"),
    [(49, 0, True), (50, 0, False), (0, 5, True), (0, 6, False)],
    ids=["less than half", "half", "all but a twentieth", "fewer than that"],
)
def test_a_voi_table_is_used_of_the_stored_values_where_only_those_meet_it(
    meeting_rescaled: int, outside: int, plain: bool
) -> None:
    """The table has 0 … 99; the rescale adds 50, so values up to 49 meet it after it, and 50 … 99 only before it."""
    table = Curve(0, tuple(range(0, 200, 2)), 8)
    rest = 100 - meeting_rescaled - outside
    near, far = rest // 2, rest - rest // 2
    counts = np.zeros(256, np.int64)
    counts[[10, 60, 90, 200]] = meeting_rescaled, near, far, outside
    chain = Chain(Greys(8, intercept=50.0, choices=(table,)), counts)
    stored = np.arange(256.0)
    ((what, levels),) = chain._choices(stored, stored + 50.0, counts)
    assert what == "VOI table"
    assert levels is not None
    assert levels[10] == pytest.approx((20 if plain else 120) / 255)
    said = "has a VOI table that fits its pixels only without their rescale: so it is used"
    assert chain.notes == ([said] if plain else [])


# ------------------------------------------------------------------ ranges


@pytest.mark.parametrize(
    ("values", "counts", "found"),
    [
        ([0, 1, 2, 3], [1, 1, 1, 1], (1, 3)),
        ([3, 2, 1, 0], [1, 1, 1, 1], (1, 3)),
        ([0, 1, 2, 3], [2, 1, 1, 4], (1, 3)),
        ([0, 1, 2, 3], [3, 1, 3, 1], (0, 2)),
        ([5, 5, 9, 7], [1, 0, 0, 0], (5, 5)),
    ],
)
def test_quantiles_are_the_values_where_more_than_a_share_of_the_pixels_lies_at_or_below(
    values: list[float], counts: list[int], found: tuple[float, float]
) -> None:
    assert quantiles(np.array(values, float), np.array(counts), (0.25, 0.75)) == found


@pytest.mark.parametrize(("low", "high", "wide"), [(24, 24, 0), (26, 24, 100), (24, 26, 100), (26, 26, 200)])
def test_the_spread_leaves_out_a_fortieth_of_the_pixels_at_each_end(low: int, high: int, wide: int) -> None:
    assert spread(np.array([0.0, 100.0, 200.0]), np.array([low, 1000 - low - high, high])) == wide


@pytest.mark.parametrize(
    ("levels", "own", "counts", "usable"),
    [
        ([0, SIXTEENTH], [0, 1], [50, 50], True),
        ([0, JUST_LESS], [0, 1], [50, 50], False),
        ([0, 1], [0, 1], [99, 1], True),  # its few pixels are all that either shows
        ([0, SIXTEENTH], [0, 1], [99, 1], True),
        ([0, JUST_LESS], [0, 1], [99, 1], False),
        ([0, 0, 1], [0, SIXTEENTH, 1], [50, 49, 1], False),  # the film's own range does better
        ([0, 0, 1], [0, JUST_LESS, 1], [50, 49, 1], True),
        ([0, 0, 1], [0, 0, 1], [50, 50, 0], False),  # white is nowhere in it
        ([0.5, 0, 0], [0, 0, 0], [1, 99, 0], True),
        ([0.5, 0.5 + JUST_LESS], [0, 1], [99, 1], False),
    ],
)
def test_a_window_is_usable_where_it_shows_a_sixteenth_of_all_greys_or_what_little_there_is(
    levels: list[float], own: list[float], counts: list[int], usable: bool
) -> None:
    assert is_usable(np.array(levels, float), np.array(own, float), np.array(counts)) is usable


def test_a_films_own_range_leaves_out_half_a_percent_at_each_end() -> None:
    values: Values = np.arange(1000.0)
    counts: Counts = np.ones(1000, np.int64)
    found = stretched(values, counts)
    assert (found[5], found[995]) == (0, 1)
    assert found[4] == found[0] == 0
    assert found[996] == found[999] == 1
    assert all(0 < step < 0.0011 for step in (b - a for a, b in pairwise(found[5:996])))
    assert found[500] == pytest.approx(0.5)


def test_the_deepest_film_is_turned_over_value_by_value() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found, _ = grey_pixels(values, Greys(16, inverted=True, choices=(Window(32768, 65536),)))
    expected = ((1 - values / 65535) * 255 + 0.5).astype(int)  # LINEAR, 0 … 65535
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found[0, 0], found[255, 255]) == (255, 0)
