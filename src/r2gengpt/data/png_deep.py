"""PNG pixels that Pillow does not take whole: 16 bits in colours or with transparency, and transparent greys.

Pillow keeps only the high byte of each channel. It unfilters and undoes interlacing of whole pixels all the same, so
its decoder runs once for the high bytes and once for the low ones.
"""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from r2gengpt.data.depth import depth_of, grey8, scaled

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
    if opacity is None or bool((opacity == 255).all()):
        return levels
    product = levels.astype(np.uint16) * opacity + np.uint16(127)
    return (product // np.uint16(255)).astype(np.uint8)
