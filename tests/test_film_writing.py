"""Writing in a film's picture is found by the shapes of its characters, and side markers and textures are none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from dicom_files import data_of, film
from r2gengpt.films.dicom.header import read_header
from r2gengpt.films.facts import STROKE, FilmFacts, _characters, _lines, _opened, _shapes, facts_of, written_characters

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


INK = 200
"""Of shapes below, on black."""


def shapes_on(shape: tuple[int, int], *boxes: tuple[int, int, int, int], ink: int = INK, ground: int = 0) -> np.ndarray:
    """Rectangles (left, top, width, height) on one grey, (H, W)."""
    picture = np.full(shape, ground, np.uint8)
    for left, top, width, height in boxes:
        picture[top : top + height, left : left + width] = ink
    return picture


def of_bars(*bars: tuple[int, int, int, int], ink: int = INK, ground: int = 0) -> int:
    return written_characters(Image.fromarray(shapes_on((200, 400), *bars, ink=ink, ground=ground)))


def row(count: int, height: int, gap: float, top: int = 50) -> list[tuple[int, int, int, int]]:
    """Bars, three pixels wide, so many of their heights apart."""
    return [(20 + at * (3 + round(gap * height)), top, 3, height) for at in range(count)]


@pytest.mark.parametrize(("ink", "found"), [(171, 4), (170, 0), (29, 4), (30, 0)])
def test_a_stroke_stands_out_by_more_than_seventy_greys_brighter_or_darker(ink: int, found: int) -> None:
    assert of_bars(*row(4, 10, 1.2), ink=ink, ground=100) == found


@pytest.mark.parametrize(("height", "found"), [(4, 0), (5, 4), (60, 4), (61, 0)])
def test_a_character_is_from_5_to_60_pixels_high(height: int, found: int) -> None:
    bars = [(20 + at * (1 + round(1.2 * height)), 50, 1, height) for at in range(4)]
    assert of_bars(*bars) == found


@pytest.mark.parametrize(("count", "found"), [(3, 0), (4, 4), (5, 5)])
def test_four_characters_make_a_line(count: int, found: int) -> None:
    assert of_bars(*row(count, 10, 1.2)) == found


def test_a_larger_gap_than_a_height_and_a_fifth_ends_a_line() -> None:
    assert of_bars(*row(4, 10, 1.2)) == 4
    assert of_bars(*row(4, 10, 1.3)) == 0


@pytest.mark.parametrize(("width", "found"), [(16, 4), (17, 0)])
def test_a_character_is_at_most_as_wide_as_its_height_and_three_fifths(width: int, found: int) -> None:
    feet = [(20 + at * (width + 11), 59, width, 1) for at in range(4)]
    assert of_bars(*[(left, 50, 1, 10) for left, *_ in feet], *feet) == found


@pytest.mark.parametrize(("dots", "found"), [(0, 0), (1, 4)])
def test_a_character_fills_fifteen_hundredths_of_its_box(dots: int, found: int) -> None:
    parts = []
    for at in range(4):
        left = 20 + at * 30
        parts += [(left, 50, 1, 20), (left, 69, 10, 1), (left + 1, 60, dots, 1)]  # 29 of 200 pixels, and the dot
    assert of_bars(*parts) == found


def boxes_of(*sides: tuple[int, int]) -> np.ndarray:
    """Boxes of 4 columns, side by side, by their tops and bottoms."""
    return np.array([(10 * at, top, 10 * at + 4, bottom) for at, (top, bottom) in enumerate(sides)])


@pytest.mark.parametrize(("other", "found"), [(20, [4]), (21, [])])
def test_heights_of_a_line_differ_by_a_third_and_one_pixel_at_most(other: int, found: list[int]) -> None:
    assert list(_lines(boxes_of(*[(0, 12), (0, other)] * 2))) == found  # 0.35 · 20 + 1 = 8


@pytest.mark.parametrize(("shift", "found"), [(4, [4]), (5, []), (-4, [4]), (-5, [])])
def test_characters_of_a_line_share_their_upper_or_lower_edge_to_a_quarter_and_one_pixel(
    shift: int, found: list[int]
) -> None:
    assert list(_lines(boxes_of(*[(20, 32), (20 + shift, 32 + shift)] * 2))) == found  # 0.25 · 12 + 1 = 4
    for sides in ([(20, 32), (20, 32 + 6)], [(20, 32), (20 - 6, 32)]):
        assert list(_lines(boxes_of(*sides * 2))) == [4]


def test_a_film_of_twice_the_pixels_that_are_looked_at_has_the_writing_of_its_half() -> None:
    half = shapes_on((100, 1024), *[(20 + 15 * at, 20, 1, 40) for at in range(40)], ink=171, ground=100)
    assert written_characters(Image.fromarray(half)) == 40
    assert written_characters(Image.fromarray(half.repeat(2, 0).repeat(2, 1))) == 40


def test_as_many_runs_as_any_writing_has_are_looked_at_and_more_are_a_texture() -> None:
    mask = np.zeros((200, 1200), bool)
    mask[::2, ::2] = True
    assert len(_shapes(mask)[0]) == 60_000
    mask[1, 1199] = True
    assert len(_shapes(mask)[0]) == 0


def test_no_more_characters_are_looked_at_than_the_most() -> None:
    page = shapes_on((17 * 41, 1000), *[(10 * (at % 100), 17 * (at // 100), 1, 8) for at in range(4100)])
    assert len(_characters(page)) == 4000


def test_a_film_without_a_header_tells_no_age() -> None:
    picture = Image.fromarray(shapes_on((200, 400), *row(4, 10, 1.2)))
    assert facts_of("a", picture, None) == FilmFacts("a", 4, None)
    header = read_header(data_of(film(PatientAge="064Y")), "b")
    assert facts_of("b", picture, header) == FilmFacts("b", 4, 64.0)
