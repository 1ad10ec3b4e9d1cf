"""Whether a film is of the kind that the head has learnt from: an upright, whole chest. Runs no model.

Films of chests as they should be lie near a flat subspace of the encoder's features; what lies far from it is strange.
A film that stands out as inverted or turned, or is strange, is looked at once more as it would be put right: where it
is less strange then, that is what is wrong with it.

Sources: for the subspace, Wang et al. 2022, "ViM: out-of-distribution with virtual-logit matching" (arXiv
2203.10807); for kinds, Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples" (arXiv
1807.03888).
"""

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from r2gengpt.errors import InputError
from r2gengpt.files import whole_file
from r2gengpt.report import Doubt

UPRIGHT = "upright"
"""As a film should be."""
INVERTED, LEFT, OVER, RIGHT, TILTED, CUT_OFF = (
    "inverted", "turned_left", "upside_down", "turned_right", "tilted", "cut_off",
)  # fmt: skip
ODD = (INVERTED, LEFT, OVER, RIGHT, TILTED, CUT_OFF)
"""What a film may be instead; the first four can be put right."""
NO_CHEST, LATERAL, AGE, WRITING = "no_chest", "lateral", "age", "writing"
"""What else may speak against a film."""
WORDS = {
    NO_CHEST: "looks like no whole chest film",
    INVERTED: "looks inverted: air bright, bone dark",
    LEFT: "looks turned to the left by a quarter",
    OVER: "looks upside down",
    RIGHT: "looks turned to the right by a quarter",
    TILTED: "looks tilted",
    CUT_OFF: "looks cut off: a part of the chest is not on it",
}
"""How a doubt goes on after the film's name."""
GUARD = "film_guard.npz"
"""The file of a guard, beside a model's weights."""
HALF = ("subspace.basis", "kinds.basis", "kinds.whitening")
"""Arrays kept at half precision."""
GRID = 2
"""A film's features are means over so many by so many parts of it."""
REFUSED = 1.3
"""A film this many limits away is refused, where films that show no chest are."""
RIGHT_AGAIN = 0.65
"""A strange film that was put right lies within so many limits, as 98 of 100 usual ones do; few turned skulls do."""

Floats = npt.NDArray[np.float32]
Relook = Callable[[int, str], Floats]
"""The features (D,) of a film, by its place, as it would be put right were it of a kind."""


@dataclass(frozen=True, eq=False)
class Subspace:
    """The flat space near which films as they should be lie.

    Attributes:
        mean: (E,), of the features of whole films.
        deviation: (E,).
        basis: (K, E), principal components of standardised features.
        limit: the mean squared rest outside of them that few validation films are beyond.
    """

    mean: Floats
    deviation: Floats
    basis: Floats
    limit: float

    def strangeness(self, means: Floats) -> Floats:
        """How far films' features (n, E) are from it, in limits, (n,)."""
        values = (means - self.mean) / self.deviation
        rest: Floats = np.square(values - values @ self.basis.T @ self.basis).mean(-1) / self.limit
        return rest


@dataclass(frozen=True, eq=False)
class Kinds:
    """What tells films of `ODD` kinds from films as they should be, by distances from their means.

    Attributes:
        mean: (D,), of the features of films' parts.
        deviation: (D,).
        basis: (K, D), principal components of standardised features.
        centres: (C, K), the mean of each kind; the first is that of films as they should be.
        whitening: (K, K), right factor by which a difference has unit covariance within kinds.
        margins: (C - 1,), how much nearer to another mean a film must be than to the first.
    """

    mean: Floats
    deviation: Floats
    basis: Floats
    centres: Floats
    whitening: Floats
    margins: Floats

    def distances(self, features: Floats) -> Floats:
        """Mean squared distances of films' features (n, D) from each kind's mean, (n, C)."""
        points = ((features - self.mean) / self.deviation) @ self.basis.T
        found: Floats = np.square((points[:, None] - self.centres) @ self.whitening).mean(-1)
        return found

    def nearer(self, features: Floats) -> Floats:
        """How much nearer films (n, D) are to each odd kind than its margin asks, (n, C - 1); above 0 they seem so."""
        apart = self.distances(features)
        found: Floats = apart[:, :1] - apart[:, 1:] - self.margins
        return found


@dataclass(frozen=True, eq=False)
class FilmGuard:
    """Where the films that a model learnt from lie among its features, and where odd ones do."""

    subspace: Subspace
    kinds: Kinds

    def doubts(self, features: Floats, relook: Relook | None = None) -> tuple[Doubt, ...]:
        """What speaks against each film of a study, at most one doubt a film.

        Args:
            features: (V, D), of its films.
            relook: looks at a film once more; None: no film is looked at again, and kinds are taken as they seem.
        """
        features = np.asarray(features, dtype=np.float32)
        strange = self.strangeness(features)
        found = (
            self._doubt(place, float(far), row, relook)
            for place, (far, row) in enumerate(zip(strange, self.kinds.nearer(features), strict=True))
        )
        return tuple(doubt for doubt in found if doubt is not None)

    def strangeness(self, features: Floats) -> Floats:
        """How far films (n, D) are from all that are as they should be, in limits, (n,)."""
        return self.subspace.strangeness(whole_means(features))

    def _doubt(self, place: int, far: float, nearer: Floats, relook: Relook | None) -> Doubt | None:
        """What speaks against one film."""
        best = int(nearer.argmax())
        seems = ODD[best] if nearer[best] > 0 else UPRIGHT
        if far <= 1 and seems == UPRIGHT:
            return None
        if relook is not None and seems not in (TILTED, CUT_OFF):
            tried = ODD[: ODD.index(TILTED)] if far > 1 else (seems,)
            after = {kind: float(self.strangeness(relook(place, kind)[None])[0]) for kind in tried}
            kind = min(after, key=after.__getitem__)
            if after[kind] < (RIGHT_AGAIN if far > 1 else far):
                return Doubt(place + 1, kind, WORDS[kind])
            seems = UPRIGHT
        if far > 1:
            words = f"{WORDS[NO_CHEST]} ({far:.1f} times as strange as the strangest usual films)"
            return Doubt(place + 1, NO_CHEST, words, refused=far > REFUSED)
        return None if seems == UPRIGHT else Doubt(place + 1, seems, WORDS[seems])


def whole_means(features: Floats) -> Floats:
    """Means over whole films (n, E) from those of their parts (n, E · parts²)."""
    found: Floats = features.reshape(len(features), -1, GRID * GRID).mean(-1)
    return found


def put_right(pixels: Floats, kind: str, mean: Sequence[float] | None, deviation: Sequence[float] | None) -> Floats:
    """A view as it would be were it of an odd kind and were put right, of the same shape.

    Args:
        pixels: (3, H, W), as the image processor makes them. What is not square cannot be turned by a quarter, and
            stays as it is.
        kind: inverted, or turned.
        mean: of each channel, which the processor took off; None: it took off none.
        deviation: which it divided by; None likewise.
    """
    if kind == INVERTED:
        centre = np.reshape(0.0 if mean is None else mean, (-1, 1, 1))
        scale = np.reshape(1.0 if deviation is None else deviation, (-1, 1, 1))
        negative: Floats = ((1 - 2 * centre) / scale - pixels).astype(np.float32)
        return negative
    quarters = ODD.index(kind)  # 1 to 3, to the left; so many more make four
    if quarters != 2 and pixels.shape[1] != pixels.shape[2]:
        return pixels
    found: Floats = np.ascontiguousarray(np.rot90(pixels, 4 - quarters, axes=(1, 2)))
    return found


def write_guard(path: Path, guard: FilmGuard) -> None:
    """Write a guard whole."""
    arrays = {}
    for part in ("subspace", "kinds"):
        held = getattr(guard, part)
        for one in fields(held):
            name = f"{part}.{one.name}"
            arrays[name] = np.asarray(getattr(held, one.name), dtype=np.float16 if name in HALF else np.float32)
    with whole_file(path) as target, target.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_guard(directory: Path, field: str) -> FilmGuard | None:
    """The guard beside a model's weights; None where there is none.

    Raises:
        InputError: the file is damaged.
    """
    path = directory / GUARD
    if not path.is_file():
        return None
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            found = {name: file[name].astype(np.float32) for name in file.files}
        limit = float(found.pop("subspace.limit"))
        guard = FilmGuard(Subspace(**_part(found, "subspace"), limit=limit), Kinds(**_part(found, "kinds")))
        if fault := _fault(guard):
            raise ValueError(fault)
    except (zipfile.BadZipFile, OSError, EOFError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{GUARD} is damaged: {error}", field=field, value=directory) from None
    return guard


def _part(found: dict[str, Floats], part: str) -> dict[str, Floats]:
    return {name.removeprefix(f"{part}."): values for name, values in found.items() if name.startswith(f"{part}.")}


def _fault(guard: FilmGuard) -> str:
    """What is wrong with a guard that was read; empty where nothing is."""
    subspace, kinds = guard.subspace, guard.kinds
    (width,), size, count = subspace.mean.shape, len(kinds.basis), len(ODD) + 1
    parts = width * GRID * GRID
    shapes = {
        "subspace.mean": (subspace.mean, (width,)),
        "subspace.deviation": (subspace.deviation, (width,)),
        "subspace.basis": (subspace.basis, (len(subspace.basis), width)),
        "kinds.mean": (kinds.mean, (parts,)),
        "kinds.deviation": (kinds.deviation, (parts,)),
        "kinds.basis": (kinds.basis, (size, parts)),
        "kinds.centres": (kinds.centres, (count, size)),
        "kinds.whitening": (kinds.whitening, (size, size)),
        "kinds.margins": (kinds.margins, (count - 1,)),
    }
    for name, (values, shape) in shapes.items():
        if values.shape != shape or not np.isfinite(values).all():
            return f"{name} must be {' x '.join(map(str, shape))} finite numbers"
    least = min(subspace.limit, *(float(some.min()) for some in (subspace.deviation, kinds.deviation)))
    return "" if least > 0 else "the limit and deviations must be above 0"
