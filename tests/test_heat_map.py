"""Heat maps over films: sizes, places, colours."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from transformers import ConvNextImageProcessorPil

from r2gengpt.confidence.maps import ANCHORS, colour_table, draw_heat_map, kept_box, lightness, smooth_levels
from r2gengpt.testing import noise_image


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", [(64, 64), (50, 81)])
def test_a_drawing_has_the_size_of_its_film(mode: str, size: tuple[int, int]) -> None:
    drawn = draw_heat_map([0.0, 1.0, 2.0, -1.0, 0.5, 0.0], (2, 3), Image.new(mode, size), None)
    assert (drawn.size, drawn.mode) == (size, "RGB")


def test_a_map_without_anything_above_0_leaves_the_film_as_it_is() -> None:
    film = noise_image(1).convert("L")
    drawn = draw_heat_map([-1.0, 0.0, -3.0, 0.0], (2, 2), film)
    assert np.array_equal(np.asarray(drawn), np.asarray(film.convert("RGB")))


def test_the_largest_value_lies_where_its_token_is_and_the_film_shows_elsewhere() -> None:
    values = [0.0] * 16
    values[2 * 4 + 3] = 5.0  # third row, last column
    levels = smooth_levels(values, (4, 4), (80, 40))
    row, column = np.unravel_index(levels.argmax(), levels.shape)
    assert (20 <= row < 30, 60 <= column < 80) == (True, True)
    assert levels.max() > 0.98  # a pixel's centre need not be a token's
    drawn = np.asarray(draw_heat_map(values, (4, 4), Image.new("L", (80, 40), 100)))
    assert drawn[:8].tolist() == [[[100] * 3] * 80] * 8
    red, _, blue = drawn[row, column].tolist()
    assert red > blue + 60


def test_levels_change_smoothly_between_tokens() -> None:
    levels = smooth_levels([0.0, 1.0], (1, 2), (200, 20))
    assert np.abs(np.diff(levels, axis=1)).max() < 0.02
    assert np.all(np.diff(levels[10]) >= 0)


def test_a_scale_of_its_own_keeps_a_weak_map_faint() -> None:
    assert smooth_levels([0.01, 0.0], (1, 2), (8, 4), largest=0.1).max() == pytest.approx(0.1)


def test_lightness_rises_in_equal_steps() -> None:
    table = colour_table()
    assert table.shape == (256, 3)
    assert (tuple(table[0]), tuple(table[-1])) == (ANCHORS[0], ANCHORS[-1])
    light = lightness(table)
    even = np.linspace(light[0], light[-1], 256)
    assert np.abs(light - even).max() < 0.5  # colours are whole numbers
    assert lightness([[0, 0, 0], [255, 255, 255]]).tolist() == pytest.approx([0.0, 100.0], abs=1e-6)


@pytest.mark.parametrize("values", [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0, float("nan")]])
def test_values_that_are_no_map_of_the_grid_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="for a grid of"):
        smooth_levels(values, (2, 2), (8, 8))


def processor(size: dict[str, int], crop: dict[str, int] | None = None) -> SimpleNamespace:
    return SimpleNamespace(size=size, crop_size=crop, do_center_crop=crop is not None)


def test_the_encoder_sees_the_whole_film_unless_its_processor_crops() -> None:
    square = {"height": 224, "width": 224}
    assert kept_box(processor(square), (500, 300)) == (0, 0, 500, 300)
    assert kept_box(processor({"shortest_edge": 256}, square), (512, 1024)) == (32, 288, 480, 736)
    assert kept_box(processor({"height": 448, "width": 448}, square), (448, 896)) == (112, 224, 336, 672)


@pytest.mark.parametrize(("edge", "box"), [(224, (100, 25, 450, 375)), (384, (0, 0, 550, 400))])
def test_a_share_of_the_shorter_side_is_kept_where_the_processor_says_so(
    edge: int, box: tuple[int, int, int, int]
) -> None:
    steps = ConvNextImageProcessorPil(size={"shortest_edge": edge}, do_normalize=False)
    assert kept_box(steps, (550, 400)) == box
    ramp = np.linspace(0, 255, 550)[None].repeat(400, 0).astype(np.uint8)
    seen = steps([Image.fromarray(ramp).convert("RGB")], return_tensors="np").pixel_values[0] * 550
    assert (seen.min(), seen.max()) == (pytest.approx(box[0], abs=4), pytest.approx(box[2], abs=4))


def test_a_map_lies_over_what_the_encoder_sees() -> None:
    drawn = np.asarray(draw_heat_map([1.0], (1, 1), Image.new("L", (40, 20), 100), box=(10, 5, 30, 15)))
    coloured = (drawn != 100).any(2)
    assert coloured[5:15, 10:30].all()
    assert coloured.sum() == 200
