"""What a caller has of a film (a path, bytes, an image, an array, a data set) to the films of one study."""

import io
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from r2gengpt.errors import InputError
from r2gengpt.films.cell.pool import read_film
from r2gengpt.films.containers import ContainerError, DicomChoice
from r2gengpt.films.depth import check_picture, grey8
from r2gengpt.films.film import Film, FilmStudy, check_study
from r2gengpt.films.reader import BROKEN, MAX_PIXELS, MIN_SIDE, PLAIN, read_file, reduced, to_rgb
from r2gengpt.options import check_fields

log = logging.getLogger("r2gengpt.data")
AS_JPEG = ("JPEG", "MPO")
"""Pillow's names of a JPEG file: what stands behind its first picture is a preview."""


def study_of(
    images: Iterable[object], choice: DicomChoice = PLAIN, side: int | None = None, *, field: str = "images"
) -> FilmStudy:
    """The films of one study; one that is given twice counts once, with a line in the log.

    Args:
        images: its views: paths, bytes, Pillow images, numpy arrays (H, W) or (H, W, 3), or pydicom data sets.
        choice: what is asked of DICOM.
        side: the side in pixels that they will be resized to; a larger film is decoded at a reduced scale.
        field: what errors call the images.

    Raises:
        InputError: no image, one that cannot be read, or images that are not of one study.
    """
    _check_choice(choice)
    views = enumerate(listed(images, field))
    films = once(_view(one, f"{field}[{place}]", choice, side) for place, one in views)
    if not films:
        raise InputError(f"{field}: is empty, must hold the views of one study", field=field)
    check_study([film.name for film in films], [film.header for film in films], choice)
    return FilmStudy(films, choice=choice)


def _view(image: object, name: str, choice: DicomChoice, side: int | None) -> Film:
    """One view; what is wrong with it and no other field is wrong with the argument of that name."""
    try:
        return film_of(image, name, choice, side)
    except InputError as error:
        raise InputError(error.line, field=error.field or name) from None


def once(films: Iterable[Film]) -> tuple[Film, ...]:
    """The films without those whose header and picture another one before has too."""
    found: list[Film] = []
    for film in films:
        same = [one.name for one in found if one.header == film.header and one.picture == film.picture]
        if same:
            log.warning("image %s is the same film as %s: it counts once", film.name, same[0])
        else:
            found.append(film)
    return tuple(found)


def _check_choice(choice: object) -> None:
    """Refuse what is no choice, or one of wrong types, before another process is asked for it."""
    if not isinstance(choice, DicomChoice):
        words = f"choice: is of type {type(choice).__name__}, must be a DicomChoice, as DicomChoice(frame=2)"
        raise InputError(words, field="choice")
    check_fields(choice)


def prior_of(images: Iterable[object], choice: DicomChoice = PLAIN, side: int | None = None) -> FilmStudy | None:
    """The films of the patient's study before, None where there are none. Raises as `study_of`."""
    views = list(listed(images, "prior"))
    return study_of(views, choice, side, field="prior") if views else None


def listed(images: Iterable[object], field: str) -> Iterable[object]:
    """Views as they came.

    Raises:
        InputError: a view by itself, or nothing that holds views.
    """
    alone = isinstance(images, str | bytes | bytearray | memoryview | Path | np.ndarray | Image.Image | Mapping)
    if alone or hasattr(images, "save_as") or hasattr(images, "read") or not isinstance(images, Iterable):
        raise InputError(f"{field}: must be a list, the views of ONE study", field=field)
    return images


def film_of(image: object, name: str, choice: DicomChoice = PLAIN, side: int | None = None) -> Film:
    """One film; `name` is what errors call what has no name of its own. Raises as `study_of`."""
    if isinstance(image, str | Path):
        if not str(image) or "://" in str(image):
            found = "an address of the network" if str(image) else "empty"
            raise InputError(f"image {image or name}: is {found}, must be the path of a PNG, JPEG or DICOM file")
        return read_film(read_file(Path(image)), str(image), side, choice)
    if isinstance(image, bytes | bytearray | memoryview):
        return read_film(bytes(image), name, side, choice)
    if isinstance(image, Image.Image):
        return Film(name, checked(image, name, side))
    if isinstance(image, np.ndarray):
        return Film(name, checked(picture_of(image, name), name, side))
    if hasattr(image, "save_as"):
        return read_film(written(image, name), name, side, choice)
    kinds = "a path, bytes, a Pillow image, a numpy array or a pydicom data set"
    raise InputError(f"image {name}: is of type {type(image).__name__}, must be {kinds}")


def picture_of(pixels: np.ndarray, name: str) -> Image.Image:
    """An array as a picture: whole numbers of 8 or 16 bits by the bits in use, (H, W) or (H, W, 3); masked is black.

    Raises:
        InputError: another shape or type, or values below 0.
    """
    grey, colours = pixels.ndim == 2, pixels.ndim == 3 and pixels.shape[2] == 3
    if not (grey or colours) or pixels.dtype.kind not in "iu" or (colours and pixels.dtype != np.uint8):
        found = f"{pixels.dtype} of shape {pixels.shape}"
        raise InputError(f"image {name}: is {found}, must be whole numbers (H, W), or uint8 (H, W, 3)")
    pixels = np.ma.filled(pixels, 0)
    try:
        _check_least(pixels)
    except ContainerError as error:
        raise InputError(f"image {name}: {error}") from None
    shown = grey8(pixels) if pixels.dtype != np.uint8 and pixels.size else pixels
    return Image.fromarray(np.ascontiguousarray(shown, np.uint8))


def _check_least(pixels: np.ndarray) -> None:
    """Refuse greys below 0, which would all be black: those of CT and of signed DICOM pixels lie there.

    Raises:
        ContainerError: there are some.
    """
    if (least := int(pixels.min(initial=0))) < 0:
        raise ContainerError(f"has values from {least}, must be from 0: give the DICOM data set, or subtract it")


def checked(image: Image.Image, name: str, side: int | None) -> Image.Image:
    """A picture within the limits of films, upright by its EXIF, RGB, at a reduced scale.

    Raises:
        InputError: too small, too large, of several frames, of one grey, of values below 0, or without pixels.
    """
    if min(image.size) < MIN_SIDE or image.size[0] * image.size[1] > MAX_PIXELS:
        size = f"{image.size[0]}x{image.size[1]}"
        raise InputError(
            f"image {name}: is {size} pixels: at least {MIN_SIDE} on each side, at most {MAX_PIXELS} in all"
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in AS_JPEG:
        raise InputError(f"image {name}: has {frames} frames: give one of them, as `image.copy()` makes it")
    try:
        if image.mode == "I":
            _check_least(np.asarray(image))
        picture = to_rgb(ImageOps.exif_transpose(image))
        check_picture(picture)
    except ContainerError as error:
        raise InputError(f"image {name}: {error}") from None
    except BROKEN as error:
        raise InputError(f"image {name}: its {image.mode} pixels cannot be decoded: {error}") from None
    return reduced(picture, side)


def written(dataset: object, name: str) -> bytes:
    """A pydicom data set as the bytes of a file.

    Raises:
        InputError: it cannot be written, as one without a transfer syntax. The reason names no value of it.
    """
    out = io.BytesIO()
    try:
        dataset.save_as(out, enforce_file_format=False)  # type: ignore[attr-defined]  # of pydicom, which is optional
    except MemoryError:
        raise
    except Exception as error:  # pydicom writes what a caller has put into it: anything may come
        reason = type(error).__name__ if _has_syntax(dataset) else "its file_meta names no TransferSyntaxUID"
        raise InputError(f"image {name}: its data set cannot be written as a file: {reason}") from None
    return out.getvalue()


def _has_syntax(dataset: object) -> bool:
    return bool(getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", ""))
