"""Writing in a film's picture is found by the shapes of its characters, and side markers and textures are none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from r2gengpt.films.facts import STROKE, _lines, _opened, _shapes, written_characters

LINES = "MUSTER ANNA 1948-03-12", "ID 7712345"


def drawn_film(size: int, seed: int = 0) -> Image.Image:
    """Blurred noise: the greys of a film without its anatomy."""
    noise = np.random.default_rng(seed).integers(30, 226, (24, 24), dtype=np.uint8)
    return Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(4))


def with_words(film: Image.Image, height: int, *lines: str, fill: int = 255) -> Image.Image:
    film = film.copy()
    pen = ImageDraw.Draw(film)
    for at, line in enumerate(lines):
        pen.text((12, 12 + 1.4 * height * at), line, fill=fill, font=ImageFont.load_default(height))
    return film


@pytest.mark.parametrize("height", [12, 16, 24, 40])
@pytest.mark.parametrize("size", [400, 900, 1500])
def test_a_name_and_a_number_are_found_at_any_size(size: int, height: int) -> None:
    assert written_characters(with_words(drawn_film(size), height, *LINES)) >= 10


def test_dark_writing_on_a_bright_film_is_found() -> None:
    bright = drawn_film(600).point(lambda value: 150 + value // 3)
    assert written_characters(with_words(bright, 18, *LINES, fill=0)) >= 10


def test_a_film_without_writing_has_none() -> None:
    assert [written_characters(drawn_film(700, seed)) for seed in range(5)] == [0] * 5


def test_letters_that_mark_a_side_are_no_writing() -> None:
    film = with_words(drawn_film(700), 40, "L")
    ImageDraw.Draw(film).text((600, 500), "AP", fill=255, font=ImageFont.load_default(30))
    assert written_characters(film) == 0


def test_a_texture_is_no_writing_and_takes_no_time() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1024, 1024), dtype=np.uint8)
    assert written_characters(Image.fromarray(noise)) == 0


def test_a_page_of_text_has_much() -> None:
    page = Image.new("L", (800, 800), 255)
    assert written_characters(with_words(page, 16, *["The patient was seen in the clinic today."] * 20, fill=0)) > 300


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)))
def test_an_opening_is_the_greatest_of_the_least_of_each_window(values: np.ndarray) -> None:
    half = STROKE // 2

    def slid(grid: np.ndarray, end: "np.ufunc") -> np.ndarray:
        wide = np.pad(grid, half, mode="edge")
        rows, columns = grid.shape
        cells = [[end.reduce(wide[y : y + STROKE, x : x + STROKE], None) for x in range(columns)] for y in range(rows)]
        return np.array(cells)

    assert np.array_equal(_opened(values), slid(slid(values, np.minimum), np.maximum))


@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_shapes_are_those_of_a_flood(mask: np.ndarray) -> None:
    left, wanted = {(int(y), int(x)) for y, x in np.argwhere(mask)}, []
    while left:
        stack, shape = [left.pop()], []
        while stack:
            y, x = stack.pop()
            shape.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            stack += near
        ys, xs = [y for y, _ in shape], [x for _, x in shape]
        wanted.append((min(xs), min(ys), max(xs) + 1, max(ys) + 1, len(shape)))
    boxes, pixels = _shapes(mask)
    assert sorted(wanted) == sorted((*map(int, box), int(count)) for box, count in zip(boxes, pixels, strict=True))


def test_a_character_counts_in_one_line_only() -> None:
    line = np.array([(10 * at, 0, 10 * at + 8, 12) for at in range(9)])
    assert list(_lines(line)) == [9]
    assert sorted(_lines(np.concatenate([line, line[:7] + np.array([0, 40, 0, 40])]))) == [7, 9]
