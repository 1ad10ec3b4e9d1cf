"""Pixels of more than 8 bits to 8 bits, by the bits in use, and pictures that show nothing. Reads no file.

Files store 10-, 12- or 14-bit films in 16-bit pixels without a word about it; scaled by 16 bits they would come out
black. The depth is the smallest of `DEPTHS` that holds the brightest pixel, so white is 255 at that depth. Scaling is
linear and never by the brightest pixel itself, which would make exposure depend on one marker.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from r2gengpt.data.containers import ContainerError

DEPTHS = (8, 10, 12, 14, 16)
"""Bits that X-ray detectors store a pixel in."""
ONE_GREY = 0.995
"""A picture is of one grey where more than this share of its pixels has it: a marker does not make a film."""
TWO_GREYS = 0.95
"""The same of a picture of two greys, as a marker or words on nothing are."""


def depth_of(top: int) -> int:
    """The smallest of `DEPTHS` that holds a value; its own bits where it needs more."""
    return next((depth for depth in DEPTHS if top < 2**depth), top.bit_length())


def scaled(levels: npt.NDArray[np.integer], bits: int) -> npt.NDArray[np.uint8]:
    """Levels of a depth of at most 16 bits, none below 0, any shape, as 8-bit ones."""
    table = (np.arange(2**bits) * (255 / (2**bits - 1)) + 0.5).astype(np.uint8)
    return np.take(table, levels)  # three times as fast as arithmetic on the pixels


def grey8(pixels: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Deep greys (H, W) as 8-bit ones; negative ones are black."""
    bits = depth_of(max(int(pixels.max()), 0))
    levels = pixels if pixels.dtype.kind == "u" else np.maximum(pixels, 0)
    if bits > DEPTHS[-1]:
        levels, bits = levels >> (bits - DEPTHS[-1]), DEPTHS[-1]
    return scaled(levels, bits)


def is_one_grey(counts: npt.NDArray[np.integer]) -> bool:
    """Whether a picture shows nothing, by the number of pixels of each grey (256,): its neighbours look like a grey."""
    common, total = int(counts.argmax()), max(1, int(counts.sum()))
    near = int(counts[max(0, common - 1) : common + 2].sum()) / total
    two = int(counts[common]) / total >= TWO_GREYS and int(np.count_nonzero(counts)) <= 2
    return near > ONE_GREY or not counts.any() or two


def check_shows_something(channels: npt.NDArray[np.integer]) -> None:
    """Refuse a picture of one grey, or of one colour.

    Args:
        channels: the number of pixels of each level of each channel, (1 or 3, 256).

    Raises:
        ContainerError: so it is.
    """
    if all(is_one_grey(counts) for counts in channels):
        share = min(int(counts.max()) / max(1, int(counts.sum())) for counts in channels)
        raise ContainerError(f"shows nothing: {share:.1%} of its pixels are of one grey")


def check_picture(picture: Image.Image) -> None:
    """As `check_shows_something`, of a picture of mode L or RGB."""
    check_shows_something(np.asarray(picture.histogram()).reshape(-1, 256))
