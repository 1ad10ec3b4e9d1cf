"""Films changed on purpose, picture in, picture out. Opens no file and knows no model."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from r2gengpt.data.boxes import Marked

RING = 0.15
"""How far around a box its surroundings reach, as a share of the box's sides."""


def blank(picture: Image.Image) -> Image.Image:
    """A picture of the same size, all of it the film's mean grey."""
    pixels = np.asarray(picture.convert("RGB"))
    return filled(pixels, pixels.reshape(-1, 3).mean(axis=0))


def filled(pixels: np.ndarray, colour: np.ndarray) -> Image.Image:
    """A picture of one colour, (3,), of the size of pixels (H, W, 3)."""
    return Image.fromarray(np.broadcast_to(np.rint(colour), pixels.shape).astype(np.uint8))


def noise(picture: Image.Image, generator: np.random.Generator) -> Image.Image:
    """The film's own pixels in any order: each grey is as frequent as it was, and nothing else is left."""
    pixels = np.asarray(picture.convert("RGB"))
    return Image.fromarray(generator.permutation(pixels.reshape(-1, 3), axis=0).reshape(pixels.shape))


def mirrored(picture: Image.Image) -> Image.Image:
    """The film with its sides exchanged."""
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def covered(picture: Image.Image, boxes: Sequence[Marked]) -> Image.Image:
    """The film with each box filled with the mean of what surrounds it, or of the film where nothing does."""
    pixels = np.array(picture.convert("RGB"))
    inside = np.zeros(pixels.shape[:2], dtype=bool)
    for box in boxes:
        inside[region(box, inside.shape)] = True
    for box in boxes:
        around = np.zeros_like(inside)
        around[region(box, inside.shape, RING)] = True
        around &= ~inside
        pixels[region(box, inside.shape)] = np.rint(pixels[around if around.any() else ...].reshape(-1, 3).mean(axis=0))
    return Image.fromarray(pixels)


def region(box: Marked, shape: tuple[int, ...], wider: float = 0.0) -> tuple[slice, slice]:
    """The rows and columns of a box on a film of a shape (H, W), at least one pixel, made wider on all sides."""
    height, width = shape
    tall, wide = wider * box.height, wider * box.width
    return (
        _pixels(box.top - tall, box.top + box.height + tall, height),
        _pixels(box.left - wide, box.left + box.width + wide, width),
    )


def _pixels(low: float, high: float, length: int) -> slice:
    start = min(max(0, round(low * length)), length - 1)
    return slice(start, max(start + 1, min(length, round(high * length))))


def opposite(box: Marked) -> Marked:
    """The same box on the other side of the film."""
    return replace(box, left=max(0.0, 1 - box.left - box.width))


def overlap(one: Marked, other: Marked) -> bool:
    """Whether two boxes share a part of the film."""
    across = one.left < other.left + other.width and other.left < one.left + one.width
    return across and one.top < other.top + other.height and other.top < one.top + one.height
