"""The images of one study looked at before a model is loaded: can they be read, do they belong together? No text."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from r2gengpt.data.cell import the_cell
from r2gengpt.data.cell_wire import Request
from r2gengpt.data.containers import DicomChoice, is_dicom
from r2gengpt.data.dicom_header import DicomHeader, read_header
from r2gengpt.data.images import MIN_SIDE, read_file
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError

HEAD = 256
"""Bytes by which DICOM files are told from others."""
MIXED = "mixed_patients"
MIXED_FLAG = f"--{MIXED} True"
MIXED_WORDS = f" ({MIXED_FLAG} reads them all the same)"
IDENTITY: tuple[tuple[str, Callable[[DicomHeader], str]], ...] = (
    ("are of two patients (their Patient IDs differ)", lambda header: header.patient_id),
    ("are of two patients (their Patient IDs have two issuers)", lambda header: header.patient_id and header.issuer),
    ("are of two patients (their birth dates differ)", lambda header: header.birth_date),
    ("are of two studies (their Study Instance UIDs differ)", lambda header: header.study_uid),
)
"""How images contradict each other, and the value that tells it; an empty one contradicts nothing."""


@dataclass(frozen=True)
class Contradiction:
    """Two images that cannot belong together, by their places, and why in words that follow them."""

    first: int
    second: int
    why: str


def look_at(paths: Sequence[Path], choice: DicomChoice) -> tuple[DicomHeader | None, ...]:
    """Decode each image once; gives the header of each that is DICOM.

    Raises:
        InputError: an image cannot be read, images contradict each other, or the choice is for DICOM and none is.
    """
    headers = tuple(_look(path, choice) for path in paths)
    check_study([str(path) for path in paths], headers, choice)
    return headers


def check_study(names: Sequence[str], headers: Sequence[DicomHeader | None], choice: DicomChoice) -> None:
    """Refuse images that are not of one study, by their headers, and a choice that none of them is meant by.

    Raises:
        InputError: images contradict each other and that was not asked for, or the choice is for DICOM and none is.
    """
    if choice != DicomChoice() and not any(header is not None for header in headers):
        flags = {"force": "--force", "frame": f"--frame {choice.frame}", MIXED: MIXED_FLAG}
        field = "force" if choice.force else MIXED if choice.frame is None else "frame"
        raise InputError(f"{flags[field]}: belongs to DICOM, and none of the images is", field=field)
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
    """The first two images that name two studies, patients, issuers of their numbers, or birth dates."""
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
    nobody = len(headers) - sum(bool(header.patient_id) for header in known)
    nowhere = len(headers) - sum(bool(header.study_uid) for header in known)
    foreign = 0 < len(known) < len(headers)
    if foreign or 0 < nobody < len(headers):
        return _doubt(nobody, len(headers), "patient")
    return _doubt(nowhere, len(headers), "study") if 0 < nowhere < len(headers) else ""


def _doubt(count: int, of: int, what: str) -> str:
    names = "names" if count == 1 else "name"
    unknown = f"whether all are of one {what} is not known"
    return f"CHECK WHOSE IMAGES THESE ARE: {count} of {of} {names} no {what}, {unknown}"


def _look(path: Path, choice: DicomChoice) -> DicomHeader | None:
    return the_cell().film(Request(str(path), choice, MIN_SIDE, header=True), read_file(path)).header


def header_in(data: bytes, name: str) -> DicomHeader | None:
    """The header of a file that is DICOM; None of another.

    Raises:
        InputError: it cannot be read.
    """
    return read_header(data, name) if is_dicom(data) else None


def check_files(study: Study) -> None:
    """Refuse a study whose DICOM files contradict each other, without a look at their pixels.

    Raises:
        InputError: so it is, or a file cannot be read.
    """
    if len(study.image_paths) > 1:
        names = [str(path) for path in study.image_paths]
        check_together(names, list(map(_header_at, study.image_paths)), study.dicom)


def _header_at(path: Path) -> DicomHeader | None:
    if path.is_file():
        with suppress(OSError), path.open("rb") as file:  # which `read_file` puts in words
            if not is_dicom(file.read(HEAD)):
                return None
    return header_in(read_file(path), str(path))


def with_views(study: Study, headers: Sequence[DicomHeader | None]) -> Study:
    """The study with the views that its DICOM files name; as it was where none does."""
    names = tuple(header.view_name if header is not None else "" for header in headers)
    return replace(study, views=names) if any(names) else study
