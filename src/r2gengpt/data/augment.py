"""Small random changes to a training film: position, angle, size, exposure. Mirrored only where no text names sides."""

import math

import numpy as np
from PIL import Image, ImageOps

MAX_SHIFT = 0.05
"""Largest shift, as a share of the width and of the height."""
MAX_TURN = 6.0
"""Largest rotation in degrees."""
MAX_ZOOM = 0.08
"""Largest relative change of size."""
MAX_BRIGHTNESS = 0.08
"""Largest brightness offset, as a share of the grey range."""
MAX_CONTRAST = 0.2
"""Largest relative change of contrast about mid-grey."""
MAX_GAMMA = 0.2
"""Largest exponent of exposure, as a natural logarithm: gamma lies between exp(-0.2) and exp(0.2)."""

STRONGER = 1.5
"""How many times the changes are so large where only labels are learnt."""


def augment(image: Image.Image, rng: np.random.Generator, *, mirror: bool = False) -> Image.Image:
    """Change an RGB image a little, as another exposure of the same patient might look.

    Every call takes the same number of draws from `rng`, so a seed fixes the result whatever the images are.

    Args:
        image: mode RGB.
        rng: where all chance comes from.
        mirror: where only labels are learnt: half of the images are mirrored, and changes are `STRONGER`.

    Returns:
        Mode RGB, of the same size; what moved in from outside is black.
    """
    draws = rng.uniform(-1.0, 1.0, 7)
    if mirror:
        draws = STRONGER * draws
        image = ImageOps.mirror(image) if rng.random() < 0.5 else image
    shift_x, shift_y, turn, zoom, brightness, contrast, gamma = draws
    matrix = _affine(image.size, MAX_SHIFT * shift_x, MAX_SHIFT * shift_y, MAX_TURN * turn, 1.0 + MAX_ZOOM * zoom)
    moved = image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    table = _exposure(MAX_BRIGHTNESS * brightness, 1.0 + MAX_CONTRAST * contrast, math.exp(MAX_GAMMA * gamma))
    return moved.point(table * 3)


def _affine(size: tuple[int, int], shift_x: float, shift_y: float, turn: float, zoom: float) -> tuple[float, ...]:
    """Output → input pixel positions, as Pillow wants them: turn and zoom about the centre, then shift."""
    centre_x, centre_y = size[0] / 2, size[1] / 2
    cos, sin = math.cos(math.radians(turn)) / zoom, math.sin(math.radians(turn)) / zoom
    to_x, to_y = centre_x + shift_x * size[0], centre_y + shift_y * size[1]
    return (cos, sin, centre_x - cos * to_x - sin * to_y, -sin, cos, centre_y + sin * to_x - cos * to_y)


def _exposure(brightness: float, contrast: float, gamma: float) -> list[int]:
    """The 256 grey values that 0 to 255 become."""
    grey = (np.arange(256) / 255.0) ** gamma
    changed = (grey - 0.5) * contrast + 0.5 + brightness
    return [int(value) for value in np.clip(changed * 255.0 + 0.5, 0, 255)]
