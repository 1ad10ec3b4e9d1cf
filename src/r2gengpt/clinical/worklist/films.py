"""The films of a work item from the archive, judged against what the item names. Asks the archive, keeps nothing."""

from collections.abc import Callable, Sequence

from r2gengpt.clinical.archive.films import TWO_PATIENTS, words_for_log
from r2gengpt.clinical.archive.loop import NotNow
from r2gengpt.clinical.archive.receive import CLASSES
from r2gengpt.clinical.archive.server import Server
from r2gengpt.clinical.archive.web import chest_films, pull
from r2gengpt.clinical.worklist.changes import (
    MISSING_OBJECTS,
    WRONG_ENTRY,
    WRONG_KINDS,
    WRONG_OBJECTS,
    Discontinuation,
)
from r2gengpt.clinical.worklist.workitem import WorkItem
from r2gengpt.errors import InputError, RunError
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.films.film import contradiction

Film = tuple[bytes, DicomHeader]
Fetch = Callable[[WorkItem], list[Film]]
"""An item → its films. Raises `Unusable` or `NotNow`."""


class Unusable(Exception):
    """Nothing can be drafted from the item's input, now or later: one line why, and its code."""

    def __init__(self, reason: str, code: Discontinuation) -> None:
        super().__init__(reason)
        self.code = code


def fetcher(server: Server, most: int, *, mixed: bool = False) -> Fetch:
    """What fetches films from this DICOMweb server.

    Args:
        server: its address and our login. A Retrieve URL that an item names is not followed.
        most: films of an item.
        mixed: films that name two patients are taken too.
    """

    def fetch(item: WorkItem) -> list[Film]:
        if item.problem:
            raise Unusable(item.problem, MISSING_OBJECTS)
        (study,) = item.studies
        try:
            found = chest_films(pull(server, study), study, 10**6, mixed=True)
        except InputError as error:
            if error.field == "url":  # it refuses us: that is no fault of the item
                raise NotNow(str(error)) from None
            raise Unusable(_reason(error), MISSING_OBJECTS if "no such study" in str(error) else WRONG_KINDS) from None
        except RunError as error:
            raise NotNow(str(error)) from None
        return _judged(item, _named(item, found), most, mixed=mixed)

    return fetch


def _reason(error: InputError) -> str:
    """Why, without the study's UID and flags that mean nothing to who reads a worklist."""
    return f"the study {words_for_log(error)}"


def _named(item: WorkItem, found: Sequence[Film]) -> list[Film]:
    """The films that the item names; all of the study where it names none. What it names without a class is a film.

    Raises:
        Unusable: one that it names is not among them.
    """
    if not item.instances:
        return list(found)
    wanted = {one.uid for one in item.instances}
    here = {header.instance_uid for _, header in found}
    missing = [one for one in item.instances if one.class_uid in (*CLASSES, "") and one.uid not in here]
    if missing:
        words = f"{len(missing)} of the {len(wanted)} instances that it names are no chest films of the archive"
        raise Unusable(words, MISSING_OBJECTS)
    return [film for film in found if film[1].instance_uid in wanted]


def _judged(item: WorkItem, films: list[Film], most: int, *, mixed: bool) -> list[Film]:
    """The films, if a draft can be made of them.

    Raises:
        Unusable: there is none, there are too many, or they are of another patient.
    """
    if not films:
        raise Unusable("none of the instances that it names is a chest film", WRONG_KINDS)
    if len(films) > most:
        raise Unusable(f"has {len(films)} films: at most {most} (max_images)", WRONG_OBJECTS)
    headers = [header for _, header in films]
    if not mixed and contradiction(headers) is not None:
        raise Unusable(TWO_PATIENTS, WRONG_OBJECTS)
    if not mixed and contradiction([item.patient, *headers]) is not None:
        raise Unusable("its films name another patient than the work item", WRONG_ENTRY)
    return films
