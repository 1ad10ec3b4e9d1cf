"""Training augmentation: small, repeatable, and never a mirror."""

import numpy as np
import pytest
from PIL import Image

from r2gengpt.data.augment import augment


def marked(width: int = 120, height: int = 90) -> Image.Image:
    """Grey with a bright square in the upper left quarter."""
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[15:30, 20:35] = 220
    return Image.fromarray(pixels)


def test_a_seed_fixes_the_result() -> None:
    one, two = (augment(marked(), np.random.default_rng(7)) for _ in range(2))
    other = augment(marked(), np.random.default_rng(8))
    assert one.tobytes() == two.tobytes()
    assert one.tobytes() != other.tobytes()


def test_the_random_stream_goes_on_alike_whatever_the_image() -> None:
    first, second = np.random.default_rng(0), np.random.default_rng(0)
    augment(marked(120, 90), first)
    augment(marked(64, 64), second)
    assert first.random() == second.random()


def test_size_and_mode_stay_and_the_input_is_untouched() -> None:
    image = marked()
    before = image.tobytes()
    result = augment(image, np.random.default_rng(0))
    assert (result.size, result.mode) == ((120, 90), "RGB")
    assert image.tobytes() == before


@pytest.mark.parametrize("seed", range(20))
def test_the_mark_stays_in_its_quarter(seed: int) -> None:
    grey = np.asarray(augment(marked(), np.random.default_rng(seed)).convert("L"), dtype=float)
    bright = grey > grey[:45, :60].max() - 20
    rows, columns = np.nonzero(bright)
    assert rows.mean() < 45
    assert columns.mean() < 60


def test_grey_images_stay_grey() -> None:
    pixels = np.asarray(augment(marked(), np.random.default_rng(3)))
    assert np.array_equal(pixels[..., 0], pixels[..., 1])
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_no_chance_at_all_changes_nothing_but_rounding() -> None:
    class Still:
        def uniform(self, low: float, high: float, count: int) -> np.ndarray:
            return np.zeros(count)

    result = augment(marked(), Still())  # type: ignore[arg-type]
    assert result.tobytes() == marked().tobytes()
