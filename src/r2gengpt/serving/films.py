"""A study's images as they were sent, to pixels: PNG, JPEG and DICOM, within limits. No request is read here."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from PIL import Image

from r2gengpt.config import PRIOR
from r2gengpt.errors import InputError
from r2gengpt.films.cell.pool import decode_image, read_header
from r2gengpt.films.containers import ContainerError, DicomChoice, is_dicom, open_container
from r2gengpt.films.context import since
from r2gengpt.films.dicom.header import check_is_chest_film
from r2gengpt.films.facts import FilmFacts, facts_of
from r2gengpt.films.film import Pixels, check_study, note_of
from r2gengpt.provenance import Source
from r2gengpt.serving.failures import INVALID, ApiError, refused
from r2gengpt.serving.served import ServedModel
from r2gengpt.settings import ServeConfig
from r2gengpt.text.context import Context

FRAME = "frame_needed"
"""The code of a refusal that another `frame` would undo."""
SIDEWAYS = range(5, 9)
"""EXIF orientations that exchange width and height."""


@dataclass(frozen=True)
class Upload:
    """An image as it was sent: what errors call it, and its bytes."""

    name: str
    data: bytes


def source_of(film: Upload, choice: DicomChoice, settings: ServeConfig) -> Source:
    """What a film is, from its headers alone.

    Raises:
        ApiError: not an image, more than one frame, or more pixels than allowed.
    """
    if is_dicom(film.data):
        return dicom_source(film, choice, settings)
    try:
        container = open_container(film.data)
    except ContainerError as error:
        raise ApiError(400, f"image {film.name}: {error}", INVALID, param=film.name) from None
    check_size(film, container.size, settings)
    upright = container.size[::-1] if container.orientation in SIDEWAYS else container.size
    return Source(hashlib.sha256(film.data).hexdigest(), container.format, container.size, upright)


def check_size(film: Upload, size: tuple[int, int], settings: ServeConfig) -> None:
    """Refuse a film that is larger than the server takes.

    Raises:
        ApiError: 413.
    """
    width, height = size
    if width * height > settings.max_megapixels * 1_000_000:
        limit = f"at most {settings.max_megapixels} million"
        raise ApiError(413, f"image {film.name}: {width}x{height} is {width * height} pixels: {limit}", param=film.name)


def dicom_source(film: Upload, choice: DicomChoice, settings: ServeConfig) -> Source:
    """What a DICOM film is.

    Raises:
        ApiError: 415 where this server reads no DICOM; too large, damaged, no chest film, or of several frames.
    """
    if find_spec("pydicom") is None:
        raise ApiError(415, f"image {film.name}: is DICOM, which this server cannot read (it lacks the extra dicom)")
    try:
        header = read_header(film.data, film.name)
    except InputError as error:
        raise refused(error, param=film.name) from None
    check_size(film, header.size, settings)
    if not choice.force:
        try:
            check_is_chest_film(header, film.name)
        except InputError as error:
            raise refused(error) from None
    if header.frames > 1 and choice.frame is None:
        words = f"image {film.name}: has {header.frames} frames: name one with frame, 1 to {header.frames}"
        raise ApiError(400, words, FRAME, {"X-Frames": str(header.frames)}, param="frame")
    return Source(hashlib.sha256(film.data).hexdigest(), "DICOM", header.size, header.size, header)


def sources_of(films: Sequence[Upload], choice: DicomChoice, settings: ServeConfig) -> list[Source]:
    """What the films of one study are; headers of all before pixels of any.

    Raises:
        ApiError: a film is refused or comes twice, or they are not of one study.
    """
    for place, film in enumerate(films):
        same = [one.name for one in films[:place] if one.data == film.data]
        if same:
            words = f"image {film.name}: is the same film as {same[0]}: give each once"
            raise ApiError(400, words, INVALID, param=film.name)
    sources = [source_of(film, choice, settings) for film in films]
    try:
        check_study([film.name for film in films], [source.header for source in sources], choice)
    except InputError as error:
        raise refused(error) from None
    return sources


def note_on(sources: Sequence[Source]) -> str:
    """What is doubtful about whose images these are; or ""."""
    return note_of([source.header for source in sources])


def picture_of(film: Upload, choice: DicomChoice, size: int | None = None) -> Image.Image:
    """A film whose source was looked at, decoded.

    Raises:
        ApiError: its pixels cannot be decoded.
    """
    try:
        return decode_image(film.data, film.name, size, choice if is_dicom(film.data) else DicomChoice())
    except InputError as error:
        raise refused(error, param=film.name) from None


@dataclass(frozen=True)
class ReadPrior:
    """An earlier study as the model takes it: pixels (V, 3, H, W), float32, what its films were, and the context.

    `pixels` is None, and `sources` are empty, where there is no such study or the model reads none.
    """

    pixels: Pixels | None
    sources: tuple[Source, ...]
    context: Context


def read_prior(
    films: Sequence[Upload],
    sources: Sequence[Source],
    choice: DicomChoice,
    model: ServedModel,
    settings: ServeConfig,
    context: Context,
) -> ReadPrior:
    """The films of an earlier study, decoded, and the context with the days since.

    Raises:
        ApiError: a film that is refused, or one of another patient, of the same study or of a later one.
    """
    if not films:
        return ReadPrior(None, (), context)
    before = sources_of(films, choice, settings)
    try:
        full_context = since(context, [one.header for one in sources], [one.header for one in before])
    except InputError as error:
        raise refused(error) from None
    if PRIOR not in model.context_fields:
        return ReadPrior(None, (), full_context)
    pixels = model.pixels([picture_of(film, choice, model.side) for film in films])
    return ReadPrior(pixels, tuple(before), full_context)


@dataclass(frozen=True)
class ReadStudy:
    """A study's films as the model takes them, (V, 3, H, W), float32; what they were, and what is told of them."""

    pixels: Pixels
    sources: list[Source]
    facts: Sequence[FilmFacts]


def read_films(films: Sequence[Upload], choice: DicomChoice, model: ServedModel, settings: ServeConfig) -> ReadStudy:
    """The films of a study, decoded.

    Raises:
        ApiError: a film that is refused.
    """
    sources = sources_of(films, choice, settings)
    pictures = [picture_of(film, choice, model.side) for film in films]
    facts = [
        facts_of(film.name, picture, source.header)
        for film, picture, source in zip(films, pictures, sources, strict=True)
    ]
    return ReadStudy(model.pixels(pictures), sources, facts)
