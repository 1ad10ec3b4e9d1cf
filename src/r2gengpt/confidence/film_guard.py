"""Whether a film is of the kind that the head has learnt from: an upright, whole chest. Opens no film, no model.

Films of chests as they should be lie near a flat subspace of the encoder's features; what lies far from it is strange.
A film that stands out as inverted or turned, or is strange, is looked at once more as it would be put right: where it
is less strange then, that is what is wrong with it.

Sources: for the subspace, Wang et al. 2022, "ViM: out-of-distribution with virtual-logit matching" (arXiv
2203.10807); for kinds, Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples" (arXiv
1807.03888).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from r2gengpt.confidence.film_kinds import CUT_OFF, INVERTED, NO_CHEST, ODD, TILTED, UPRIGHT, WORDS
from r2gengpt.errors import InputError
from r2gengpt.report import Doubt

GRID = 2
"""A film's features are means over so many by so many parts of it."""
REFUSED = 1.3
"""A film this many limits away is refused, where films that show no chest are."""
RIGHT_AGAIN = 0.65
"""A strange film that was put right lies within so many limits, as 98 of 100 usual ones do; few turned skulls do."""
COMPONENTS = 128
"""Of the subspace of films as they should be, and of the space that kinds are told apart in; at most."""
SHRINKAGE = 0.05
"""Of the covariance to a multiple of the identity: few films then bend it little."""
USUAL, TYPICAL = 0.995, 0.05
"""Share of validation films as they should be within a limit; share of odd ones that may be missed for a wider one."""

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
