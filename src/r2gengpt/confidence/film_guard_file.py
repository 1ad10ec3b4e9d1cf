"""A film guard as a file beside a model's weights: written whole, read and checked. Judges no film."""

import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np

from r2gengpt.confidence.film_guard import GRID, FilmGuard, Floats, Kinds, Subspace
from r2gengpt.confidence.film_kinds import ODD
from r2gengpt.errors import InputError
from r2gengpt.files import whole_file

GUARD = "film_guard.npz"
HALF = ("subspace.basis", "kinds.basis", "kinds.whitening")
"""Arrays kept at half precision."""


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
