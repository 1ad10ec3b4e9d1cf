"""Films to the encoder's pixels with Pillow and numpy, as the model's image processor makes them. Opens no file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image


@dataclass(frozen=True)
class FilmSettings:
    """What an image processor does, in this order; None leaves a step out.

    `size` (height, width) or `shortest` (the shorter side) with `resample` (Pillow's number), the middle `crop`
    (height, width), times `factor`, less `mean`, over `std` (a value a channel). `decoded` is the side in pixels that
    films are reduced for when they are read.
    """

    decoded: int
    size: tuple[int, int] | None = None
    shortest: int | None = None
    resample: int = 2
    crop: tuple[int, int] | None = None
    factor: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "FilmSettings":
        """The settings from JSON, whose lists become tuples.

        Raises:
            ValueError: it has an unknown key.
        """
        if unknown := set(values) - {f.name for f in fields(cls)}:
            raise ValueError(f"film has unknown {sorted(unknown)[0]}")
        settled: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**settled)


def film_pixels(film: Image.Image, settings: FilmSettings) -> npt.NDArray[np.float32]:
    """One film, mode RGB, as the encoder takes it: (3, H, W), float32."""
    values = np.moveaxis(np.asarray(_resized(film, settings)), -1, 0)
    if settings.crop is not None:
        top, left = ((side - kept) // 2 for side, kept in zip(values.shape[1:], settings.crop, strict=True))
        values = values[:, top : top + settings.crop[0], left : left + settings.crop[1]]
    pixels = values.astype(np.float32)
    if settings.factor is not None:
        pixels = (values.astype(np.float64) * settings.factor).astype(np.float32)
    if settings.mean is not None and settings.std is not None:
        mean, std = np.array(settings.mean, np.float32), np.array(settings.std, np.float32)
        pixels = (pixels - mean[:, None, None]) / std[:, None, None]
    return np.ascontiguousarray(pixels)


def view_pixels(films: Sequence[Image.Image], settings: FilmSettings) -> npt.NDArray[np.float32]:
    """The views of one study, (V, 3, H, W), float32."""
    return np.stack([film_pixels(film, settings) for film in films])


def _resized(film: Image.Image, settings: FilmSettings) -> Image.Image:
    if settings.size is not None:
        height, width = settings.size
    elif settings.shortest is not None:
        short, long = min(film.size), max(film.size)
        other = int(settings.shortest * long / short)
        width, height = (settings.shortest, other) if film.width <= film.height else (other, settings.shortest)
    else:
        return film
    return film.resize((width, height), Image.Resampling(settings.resample))
