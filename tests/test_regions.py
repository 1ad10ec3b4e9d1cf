"""Areas of films: what of a map becomes one, and its outline in the film's pixels."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from r2gengpt.confidence.maps import EVIDENCE, NO_EVIDENCE, Evidence, SentenceEvidence
from r2gengpt.confidence.regions import regions_of
from r2gengpt.films.regions import Box, Region, areas, corners, outline_of

Cells = npt.NDArray[np.bool_]
WHOLE: Box = (0, 0, 200, 100)
"""Of a film of 200 columns and 100 rows."""


def cells(*rows: str) -> Cells:
    return np.array([[sign == "#" for sign in row] for row in rows])


def test_cells_that_touch_at_a_corner_are_two_areas_and_the_larger_is_first() -> None:
    found = areas(cells("#..", ".##", "..."))
    assert [one.tolist() for one in found] == [cells("...", ".##", "...").tolist(), cells("#..", "...", "...").tolist()]


def test_an_outline_goes_around_clockwise_and_ends_where_it_began() -> None:
    assert corners(cells(".#.", "###")) == [(1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (0, 2), (0, 1), (1, 1), (1, 0)]


def test_a_hole_is_no_part_of_an_outline() -> None:
    assert corners(cells("###", "#.#", "###")) == [(0, 0), (3, 0), (3, 3), (0, 3), (0, 0)]


def drawn(outline: list[tuple[int, int]], shape: tuple[int, int], scale: int = 4) -> Cells:
    """The cells whose centres an outline surrounds, by Pillow."""
    picture = Image.new("1", (shape[1] * scale, shape[0] * scale))
    ImageDraw.Draw(picture).polygon([(x * scale, y * scale) for x, y in outline], fill=1)
    return np.asarray(picture)[scale // 2 :: scale, scale // 2 :: scale]


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=6))
def test_every_outline_surrounds_its_cells_and_no_cell_that_can_be_reached_from_outside(rows: list[list[bool]]) -> None:
    marked = np.array(rows)
    found = areas(marked)
    assert (np.sum(found, axis=0) == marked).all() if found else not marked.any()
    for area in found:
        padded = np.pad(area, 1)
        outside = next(one for one in areas(~padded) if one[0, 0])
        assert (drawn(corners(area), area.shape) == ~outside[1:-1, 1:-1]).all()


def test_an_outline_lies_over_the_part_of_the_film_that_the_model_saw() -> None:
    assert outline_of(cells("#.", ".."), (50, 0, 150, 100)) == ((50, 0), (100, 0), (100, 50), (50, 50), (50, 0))


def test_an_outline_begins_where_the_part_of_the_film_begins() -> None:
    assert outline_of(cells("#", "."), (10, 20, 110, 120)) == ((10, 20), (110, 20), (110, 70), (10, 70), (10, 20))


def evidence(*sentences: SentenceEvidence, side: int = 10) -> Evidence:
    return Evidence("study", "findings", (side, side), sentences)


def sentence(map_: npt.NDArray[Any], verdict: str = EVIDENCE, finding: str = "Edema") -> SentenceEvidence:
    return SentenceEvidence("There is edema.", tuple(map_.ravel().tolist()), 1.0, 0.0, verdict, finding)


BLOCK = np.zeros((10, 10))
BLOCK[2:4, 3:8] = 1.0
"""Its tenth is two rows of five cells."""


def test_an_area_is_the_tenth_of_the_cells_that_the_verdict_was_measured_on() -> None:
    (found,) = regions_of(evidence(sentence(BLOCK)), [WHOLE])
    assert found == Region("There is edema.", "Edema", 0, ((60, 20), (160, 20), (160, 40), (60, 40), (60, 20)))


def test_a_map_without_evidence_has_no_area() -> None:
    assert regions_of(evidence(sentence(BLOCK, NO_EVIDENCE)), [WHOLE]) == ()


def test_maps_of_each_film_have_areas_on_the_film_where_they_lie() -> None:
    found = regions_of(evidence(sentence(np.stack([np.zeros((10, 10)), BLOCK]))), [WHOLE, WHOLE], [None, 7])
    assert [(one.view, one.frame) for one in found] == [(1, 7)]


def test_a_map_of_several_films_at_once_has_no_area() -> None:
    assert regions_of(evidence(sentence(BLOCK)), [WHOLE, WHOLE]) == ()


def test_cells_that_speak_against_a_sentence_and_specks_are_left_out() -> None:
    map_ = -np.ones((20, 20))
    map_[2:4, 3:18] = 1.0  # 30 of 400; the tenth is 40
    map_[15, 15] = 0.5
    (found,) = regions_of(evidence(sentence(map_), side=20), [WHOLE])
    assert found.outline == ((30, 10), (180, 10), (180, 20), (30, 20), (30, 10))


def test_a_map_of_zeros_has_no_area() -> None:
    assert regions_of(evidence(sentence(np.zeros((10, 10)))), [WHOLE]) == ()


@pytest.mark.parametrize("finding", ["", "Edema"])
def test_an_area_names_its_sentence_and_the_finding_that_was_mapped(finding: str) -> None:
    (found,) = regions_of(evidence(sentence(BLOCK, finding=finding)), [WHOLE])
    assert found.to_json()["finding"] == finding
    assert found.to_json()["sentence"] == "There is edema."


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_where_two_cells_touch_at_a_corner_what_they_enclose_is_no_edge(turns: int, mirrored: bool) -> None:
    area = np.rot90(cells("##.", "#.#", "###"), turns)
    area = area[:, ::-1] if mirrored else area
    found = corners(area)
    assert (drawn(found, area.shape) == (area | cells("...", ".#.", "..."))).all()
    assert len(found) == 7
