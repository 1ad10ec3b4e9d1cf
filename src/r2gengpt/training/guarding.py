"""Fits a film guard to a model's training films, as they are and made odd. Trains no weight."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps

from r2gengpt.confidence.film_guard import (
    CUT_OFF,
    GRID,
    INVERTED,
    LEFT,
    ODD,
    OVER,
    RIGHT,
    TILTED,
    UPRIGHT,
    FilmGuard,
    Floats,
    Kinds,
    Subspace,
    whole_means,
)
from r2gengpt.confidence.looking import fast_arithmetic
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
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
COMPONENTS = 128
"""Of the subspace of films as they should be, and of the space that kinds are told apart in; at most."""
SHRINKAGE = 0.05
"""Of the covariance to a multiple of the identity: few films then bend it little."""
USUAL, TYPICAL = 0.995, 0.05
"""Share of validation films as they should be within a limit; share of odd ones that may be missed for a wider one."""


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


def fit_guard(features: Floats, kinds: Sequence[str], held: Floats, held_kinds: Sequence[str]) -> FilmGuard:
    """The guard of a model.

    Args:
        features: (n, D), of training films as they are and changed into each of `ODD`.
        kinds: of each, `UPRIGHT` or of `ODD`.
        held: (m, D), of validation films likewise, which set the limits.
        held_kinds: of each.

    Raises:
        InputError: a kind has no film.
    """
    for name in (UPRIGHT, *ODD):
        if name not in kinds or name not in held_kinds:
            raise InputError(f"no film is {name}: the training and the validation split need some", field="annotation")
    of, held_of = np.array(kinds), np.array(held_kinds)
    subspace = _subspace(whole_means(features[of == UPRIGHT]), whole_means(held[held_of == UPRIGHT]))
    return FilmGuard(subspace, _kinds(features, of, held, held_of))


def _standard(features: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean and deviation (D,), the principal components (K, D), and the films by them (n, K)."""
    mean, deviation = features.mean(0), features.std(0) + np.float32(1e-6)
    values = (features - mean) / deviation
    components = min(COMPONENTS, len(values) // 2, values.shape[1] // 2)
    basis = np.linalg.svd(values, full_matrices=False)[2][: max(1, components)]
    return mean, deviation, basis, values @ basis.T


def _subspace(means: Floats, held: Floats) -> Subspace:
    mean, deviation, basis, _ = _standard(means)
    rest = Subspace(mean, deviation, basis, 1.0).strangeness(held)
    return Subspace(mean, deviation, basis, max(float(np.quantile(rest, USUAL)), 1e-6))


def _kinds(features: Floats, of: "npt.NDArray[np.str_]", held: Floats, held_of: "npt.NDArray[np.str_]") -> Kinds:
    mean, deviation, basis, points = _standard(features)
    names = (UPRIGHT, *ODD)
    centres = np.stack([points[of == name].mean(0) for name in names])
    within = points - centres[[names.index(name) for name in of]]
    covariance = within.T @ within / len(within)
    size = len(basis)
    covariance += SHRINKAGE * np.trace(covariance) / size * np.eye(size, dtype=np.float32)
    whitening: Floats = np.linalg.cholesky(np.linalg.inv(covariance)).astype(np.float32)
    start = Kinds(mean, deviation, basis, centres, whitening, np.zeros(len(ODD), np.float32))
    apart = start.nearer(held)
    margins = []
    for kind, name in enumerate(ODD):
        usual = float(np.quantile(apart[held_of == UPRIGHT, kind], USUAL))
        typical = float(np.quantile(apart[held_of == name, kind], TYPICAL))
        margins.append(max(usual, (usual + typical) / 2, 0.0))
    return Kinds(mean, deviation, basis, centres, whitening, np.array(margins, np.float32))
