"""Pixels of more than 8 bits to 8 bits, PNG forms that Pillow does not take whole, and pictures that show nothing.

Files store 10-, 12- or 14-bit films in 16-bit pixels without a word about it; scaled by 16 bits they would come out
black. The depth is the smallest of `DEPTHS` that holds the brightest pixel, so white is 255 at that depth. Scaling is
linear and never by the brightest pixel itself, which would make exposure depend on one marker.

Pillow keeps only the high byte of each channel. It unfilters and undoes interlacing of whole pixels all the same, so
its decoder runs once for the high bytes and once for the low ones.
"""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from r2gengpt.films.containers import ContainerError

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
    table = np.rint(np.linspace(0, 255, 2**bits)).astype(np.uint8)
    return np.take(table, levels)  # three times as fast as arithmetic on the pixels


def grey8(pixels: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Deep greys (H, W) as 8-bit ones; negative ones are black."""
    bits = depth_of(int(pixels.max()))
    levels = pixels if pixels.dtype.kind == "u" else np.maximum(pixels, 0)
    if (beyond := bits - DEPTHS[-1]) > 0:
        levels, bits = levels >> beyond, DEPTHS[-1]
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


HIGH_LOW = {"RGB;16B": ("RGB;16B", "RGB;16L"), "RGBA;16B": ("RGBA;16B", "RGBA;16L"), "LA;16B": ("RGBA", "RGBA")}
"""Pillow's name of a file's pixels → its names for taking their high bytes, and their low ones.

Grey with transparency, of four bytes a pixel, is taken as four channels: grey high and low, transparency high and low.
"""
Levels = npt.NDArray[np.uint16]


STEPS = {"L": 1, "L;2": 85, "L;4": 17, "RGB": 1}
"""Pillow's name of a file's pixels → by how much it multiplies them; the transparent level it leaves as it was."""


def png_picture(opened: Image.Image, data: bytes) -> Image.Image | None:
    """The picture, in mode L or RGB, of a PNG that was opened and not loaded; None where Pillow's own way is right."""
    tiles = getattr(opened, "tile", [])
    mode = tiles[0].args if tiles else None
    key = opened.info.get("transparency")
    if mode in HIGH_LOW:
        return deep_colours(data, mode, key)
    if mode == "I;16B" and key is not None:
        levels = np.array(opened)
        levels[levels == key] = 0
        return Image.fromarray(grey8(levels))
    if mode in STEPS and key is not None:
        _set_key(opened, [level * STEPS[mode] for level in (key if isinstance(key, tuple) else (key,))])
    return None


def _set_key(opened: Image.Image, levels: list[int]) -> None:
    """Make a colour of 8-bit levels the transparent one; a colour that no pixel can have is dropped."""
    if max(levels) > 255:
        del opened.info["transparency"]
    else:
        opened.info["transparency"] = tuple(levels) if len(levels) > 1 else levels[0]


def deep_colours(data: bytes, mode: str, key: object) -> Image.Image:
    """The picture, in mode L or RGB, with transparency over black.

    Args:
        data: a PNG file.
        mode: of its pixels, one of `HIGH_LOW`.
        key: the colour that is transparent, as 16-bit levels; None where there is none.
    """
    high = _channels(data, HIGH_LOW[mode][0])
    if mode == "LA;16B":
        planes = [(high[0], high[1]), (high[2], high[3])]
    else:
        planes = list(zip(high, _channels(data, HIGH_LOW[mode][1]), strict=True))
    opacity = _opacity(_levels(planes.pop())) if mode in ("LA;16B", "RGBA;16B") else None
    if isinstance(key, tuple):
        there = [_levels(plane) != level for plane, level in zip(planes, key, strict=True)]
        opacity = np.logical_or.reduce(there) * np.uint8(255)
    seen = None if opacity is None else opacity > 0
    bits = depth_of(max(_top(_levels(plane), seen) for plane in planes))
    bands = [
        Image.fromarray(_over_black(scaled(np.minimum(_levels(plane), 2**bits - 1), bits), opacity)) for plane in planes
    ]
    return bands[0] if len(bands) == 1 else Image.merge("RGB", bands)


def _channels(data: bytes, mode: str) -> tuple[Image.Image, ...]:
    with Image.open(io.BytesIO(data), formats=("PNG",)) as opened:
        opened.tile = [tile._replace(args=mode) for tile in opened.tile]
        return opened.split()


def _levels(plane: tuple[Image.Image, Image.Image]) -> Levels:
    """High and low bytes put together, (H, W)."""
    levels = np.asarray(plane[0]).astype(np.uint16)
    levels <<= 8
    levels |= np.asarray(plane[1])
    return levels


def _top(levels: Levels, seen: npt.NDArray[np.bool_] | None) -> int:
    """The brightest level that is seen."""
    return int(levels.max() if seen is None else levels.max(where=seen, initial=0))


def _opacity(alpha: Levels) -> npt.NDArray[np.uint8]:
    """Transparency of any depth in use as 8 bits, 255 for what covers all."""
    return scaled(alpha, depth_of(int(alpha.max())))


def _over_black(levels: npt.NDArray[np.uint8], opacity: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.uint8]:
    if opacity is None:
        return levels
    product = levels.astype(np.uint16) * opacity + np.uint16(127)
    return (product // np.uint16(255)).astype(np.uint8)
