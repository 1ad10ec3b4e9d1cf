"""Fits a film guard to a model's training films, as they are and made odd. Trains no weight."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps

from r2gengpt.confidence.film_guard import GRID, FilmGuard, Floats, fit_guard
from r2gengpt.confidence.film_kinds import CUT_OFF, INVERTED, LEFT, OVER, RIGHT, TILTED, UPRIGHT
from r2gengpt.confidence.looking import fast_arithmetic
from r2gengpt.data.study import Study
from r2gengpt.films.reader import load_image
from r2gengpt.model.processing import decoded_size
from r2gengpt.model.vision import regional_means
from r2gengpt.parts.assemble import Built
from r2gengpt.progress import Bar

BATCH = 16
"""Films that the encoder sees at once."""
TILTS = 15.0, 35.0
"""Degrees of a tilted film, to either side."""
CUTS = 0.25, 0.5
"""Share of a film that is cut off at one of its sides."""
PIECES = 0.35, 0.6
"""Share of each side that a piece from somewhere in the film has."""


@dataclass(frozen=True)
class Sample:
    """How many films a guard is fitted to.

    Attributes:
        films: of each split, at most; drawn by their studies' ids, of each source in turn.
        changed: of these, which are made odd too, in each way.
        seed: of how they are made odd.
    """

    films: int = 600
    changed: int = 160
    seed: int = 0


def changed(picture: Image.Image, rng: np.random.Generator) -> Iterator[tuple[str, Image.Image]]:
    """A film made odd in each way; cut off in two, at a side and to a piece.

    Args:
        picture: mode RGB, a film as it should be.
        rng: where all chance comes from.
    """
    yield INVERTED, ImageOps.invert(picture)
    for kind, degrees in ((LEFT, 90), (OVER, 180), (RIGHT, 270)):
        yield kind, picture.rotate(degrees, expand=True)
    tilt = rng.uniform(*TILTS) * rng.choice((-1, 1))
    yield TILTED, picture.rotate(tilt, resample=Image.Resampling.BICUBIC)
    width, height = picture.size
    share = rng.uniform(*CUTS)
    boxes = ((share, 0, 1, 1), (0, share, 1, 1), (0, 0, 1 - share, 1), (0, 0, 1, 1 - share))
    left, top, right, bottom = boxes[rng.integers(4)]
    yield (
        CUT_OFF,
        picture.crop((round(left * width), round(top * height), round(right * width), round(bottom * height))),
    )
    piece = rng.uniform(*PIECES)
    x, y = rng.uniform(0, 1 - piece, 2)
    wide, high = math.ceil(piece * width), math.ceil(piece * height)
    yield (
        CUT_OFF,
        picture.crop((round(x * width), round(y * height), round(x * width) + wide, round(y * height) + high)),
    )


def drawn(studies: Sequence[Study], count: int) -> list[Study]:
    """So many studies, the same ones each time, of each source in turn."""
    by_chance = sorted(studies, key=lambda study: hashlib.sha256(study.id.encode()).digest())
    before: Counter[str] = Counter()
    turns = []
    for study in by_chance:
        turns.append(before[study.source])
        before[study.source] += 1
    order = sorted(range(len(turns)), key=turns.__getitem__)
    return [by_chance[at] for at in order[:count]]


@torch.no_grad()
def features_of(built: Built, studies: Sequence[Study], sample: Sample) -> tuple[Floats, list[str]]:
    """Features (n, D) of the first film of each study and of the films that are made of it, and the kind of each."""
    rng, size = np.random.default_rng(sample.seed), decoded_size(built.processor)
    found: list[Floats] = []
    kinds: list[str] = []
    waiting: list[Image.Image] = []

    def look() -> None:
        pixels = torch.stack([built.processor.pixels([picture]) for picture in waiting]).to(built.model.device)
        with fast_arithmetic(pixels.device):
            features = built.model.encode_views(pixels, torch.ones(len(pixels), 1, dtype=torch.bool))
        found.append(regional_means(features.float(), GRID).cpu().numpy())
        waiting.clear()

    for place, study in enumerate(Bar(studies, desc="film guard")):
        picture = load_image(study.image_paths[0], size=size, dicom=study.dicom)
        made = [(UPRIGHT, picture), *(changed(picture, rng) if place < sample.changed else ())]
        for kind, film in made:
            kinds.append(kind)
            waiting.append(film)
            if len(waiting) == BATCH:
                look()
    if waiting:
        look()
    return np.concatenate(found), kinds


def guard_of(built: Built, splits: Mapping[str, Sequence[Study]], sample: Sample) -> FilmGuard:
    """The film guard of a model.

    Args:
        built: the model in eval mode, on its device.
        splits: its training and validation studies.
        sample: how many films of each.

    Raises:
        InputError: a film cannot be read, or there are too few.
    """
    train, val = (features_of(built, drawn(splits[split], sample.films), sample) for split in ("train", "val"))
    return fit_guard(*train, *val)
