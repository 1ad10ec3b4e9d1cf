"""What a film's picture and header say of it besides what it shows: writing, the patient's age. Judges nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from r2gengpt.films.context import age_of
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.films.film import FilmStudy
from r2gengpt.films.writing import written_characters


@dataclass(frozen=True)
class FilmFacts:
    """Of one film.

    Attributes:
        name: what errors call it.
        characters: of writing in its picture, about.
        years: the patient's age by its header; None where there is none.
    """

    name: str
    characters: int = 0
    years: float | None = None


def facts_of(name: str, picture: Image.Image, header: DicomHeader | None) -> FilmFacts:
    """The facts of a film that was read."""
    return FilmFacts(name, written_characters(picture), None if header is None else age_of(header))


def facts_in(study: FilmStudy) -> Sequence[FilmFacts]:
    """The facts of each film of a study."""
    return [facts_of(film.name, film.shown, film.header) for film in study.films]
