"""A film that was read, the films of one study, and whether they belong together. Opens no file."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from r2gengpt.errors import InputError
from r2gengpt.films.containers import DicomChoice, is_dicom
from r2gengpt.films.dicom.header import DicomHeader, read_header

Pixels = npt.NDArray[np.float32]
"""The views of one study as a model takes them, (V, 3, H, W)."""


@dataclass(frozen=True)
class Film:
    """One image of a study.

    Attributes:
        name: what errors call it.
        picture: upright, mode RGB; None where only its header was asked for.
        header: what DICOM says of it; None of other files.
    """

    name: str
    picture: Image.Image | None = field(repr=False)
    header: DicomHeader | None = field(default=None, repr=False)

    @property
    def shown(self) -> Image.Image:
        """The picture of a film that was read whole."""
        assert self.picture is not None
        return self.picture


@dataclass(frozen=True)
class FilmStudy:
    """The views of one study, at least one."""

    films: tuple[Film, ...]
    id: str = "study"
    choice: DicomChoice = DicomChoice()
    """What was asked of DICOM files."""

    @property
    def headers(self) -> tuple[DicomHeader | None, ...]:
        """Of each film."""
        return tuple(film.header for film in self.films)

    @property
    def pictures(self) -> Sequence[Image.Image]:
        """Of each film."""
        return [film.shown for film in self.films]

    @property
    def views(self) -> tuple[str, ...]:
        """The view that each film names, as PA; empty where none does."""
        names = tuple("" if header is None else header.view_name for header in self.headers)
        return names if any(names) else ()

    @property
    def note(self) -> str:
        """What is doubtful about whose images these are; empty where nothing is."""
        return note_of(self.headers)


MIXED = "mixed_patients"
MIXED_ASKED = f"`{MIXED}` True"
MIXED_WORDS = f" ({MIXED_ASKED} reads them all the same)"


def _named(header: DicomHeader) -> list[str]:
    """The words of family and given name in letters, in a fixed order."""
    named = " ".join(header.name.partition("=")[0].split("^")[:2])
    return sorted(re.findall(r"\w+", named.casefold()))


def _called(header: DicomHeader) -> str:
    """The words of a name; "" of a patient whom a Patient ID names."""
    return "" if header.patient_id else " ".join(_named(header))


IDENTITY: tuple[tuple[str, Callable[[DicomHeader], str]], ...] = (
    ("are of two patients (their Patient IDs differ)", lambda header: header.patient_id),
    ("are of two patients (their Patient IDs have two issuers)", lambda header: header.patient_id and header.issuer),
    ("are of two patients (their birth dates differ)", lambda header: header.birth_date),
    ("are of two patients (their names differ, and they have no Patient ID)", _called),
    ("are of two studies (their Study Instance UIDs differ)", lambda header: header.study_uid),
)
"""How images contradict each other, and the value that tells it; an empty one contradicts nothing. Studies are last."""


@dataclass(frozen=True)
class Contradiction:
    """Two images that cannot belong together, by their places, and why in words that follow them."""

    first: int
    second: int
    why: str


def check_study(names: Sequence[str], headers: Sequence[DicomHeader | None], choice: DicomChoice) -> None:
    """Refuse images that are not of one study, by their headers, and a choice that none of them is meant by.

    Raises:
        InputError: images contradict each other and that was not asked for, or the choice is for DICOM and none is.
    """
    of_dicom = choice.mixed_patients or choice.frame is not None
    if of_dicom and not any(header is not None for header in headers):
        field = MIXED if choice.frame is None else "frame"
        words = {"frame": f"`frame` {choice.frame}", MIXED: MIXED_ASKED}[field]
        raise InputError(f"{words}: belongs to DICOM, and none of the images is", field=field)
    check_together(names, headers, choice)


def check_together(names: Sequence[str], headers: Sequence[DicomHeader | None], choice: DicomChoice) -> None:
    """Refuse images of two patients or of two studies, unless the choice asks for such a mixture.

    Raises:
        InputError: names two images that contradict each other, and in what; no value of theirs.
    """
    found = contradiction(headers)
    if found is not None and not choice.mixed_patients:
        pair = f"images {names[found.first]} and {names[found.second]}"
        raise InputError(f"{pair} {found.why}: give the views of ONE study{MIXED_WORDS}", field=MIXED)


def contradiction(headers: Sequence[DicomHeader | None]) -> Contradiction | None:
    """The first two images that contradict each other in one of `IDENTITY`."""
    for why, value_of in IDENTITY:
        values = [(place, value_of(header)) for place, header in enumerate(headers) if header is not None]
        named = [(place, value) for place, value in values if value]
        for place, value in named[1:]:
            if value != named[0][1]:
                return Contradiction(named[0][0], place, why)
    return None


def note_of(headers: Sequence[DicomHeader | None]) -> str:
    """What a reader must know of whose images these are, in a sentence that names nobody.

    "" where nothing is doubtful: all name one patient and study, or there is no DICOM header to compare with.
    """
    found = contradiction(headers)
    if found is not None:
        return f"CHECK WHOSE IMAGES THESE ARE: they {found.why}, and one draft of all was asked for"
    known = [header for header in headers if header is not None]
    sexes = {header.sex for header in known if header.sex}
    names = [set(words) for header in known if (words := _named(header))]
    differing = ["name"] * any(not names[0] & words for words in names[1:]) + ["sex"] * (len(sexes) > 1)
    if differing:
        return f"CHECK WHOSE IMAGES THESE ARE: films of one study differ in the patient's {' and '.join(differing)}"
    nobody = len(headers) - sum(bool(header.patient_id) for header in known)
    nowhere = len(headers) - sum(bool(header.study_uid) for header in known)
    foreign = 0 < len(known) < len(headers)
    if foreign or 0 < nobody < len(headers):
        return _doubt(nobody, len(headers), "patient")
    if 0 < nowhere < len(headers):
        return _doubt(nowhere, len(headers), "study")
    uids = [header.instance_uid for header in set(known) if header.instance_uid]
    if len(set(uids)) < len(uids):
        return "CHECK WHOSE IMAGES THESE ARE: several films that differ have one SOP Instance UID"
    numbers = {header.accession for header in known if header.accession}
    return "CHECK WHOSE IMAGES THESE ARE: films of one study have two accession numbers" if len(numbers) > 1 else ""


def _doubt(count: int, of: int, what: str) -> str:
    names = "names" if count == 1 else "name"
    unknown = f"whether all are of one {what} is not known"
    return f"CHECK WHOSE IMAGES THESE ARE: {count} of {of} {names} no {what}, {unknown}"


def header_in(data: bytes, name: str) -> DicomHeader | None:
    """The header of a file that is DICOM; None of another.

    Raises:
        InputError: it cannot be read.
    """
    return read_header(data, name) if is_dicom(data) else None
