"""Whether a film that came in can be reported, why not, and where it stands in its study. Keeps nothing."""

import re
from pathlib import Path

from r2gengpt.clinical.archive.ledger import key_of
from r2gengpt.clinical.documents.draft import images_to_send
from r2gengpt.errors import InputError, RunError, one_line, place_of, spelt
from r2gengpt.films.cell.pool import the_cell
from r2gengpt.films.cell.process import Request
from r2gengpt.films.containers import DicomChoice
from r2gengpt.films.dicom.header import DicomHeader, read_header
from r2gengpt.films.reader import MIN_SIDE

NAME = "film"
TWO_PATIENTS = "its films name different patients"
"""Why a study has no report: numbers, their issuers or birth dates contradict each other."""


def checked_film(data: bytes) -> DicomHeader:
    """The header of a film of the chest whose pixels can be decoded. Whoever reports it warns of it, by its name.

    Raises:
        InputError: it is none (see `reason_of`).
    """
    header = the_cell().film(Request(NAME, DicomChoice(), MIN_SIDE, header=True), data, is_told=False).header
    if header is None:
        raise InputError(f"image {NAME}: is not DICOM")
    return header


def identified(data: bytes) -> DicomHeader:
    """The header of a film that names its study, series, instance and class.

    Raises:
        InputError: it does not.
    """
    header = read_header(data, NAME)
    images_to_send([Path(NAME)], [header], field="image", value=NAME)
    return header


def keys_of(header: DicomHeader) -> tuple[str, str]:
    """The keys of a film's study and of the film."""
    return key_of(header.study_uid), key_of(f"{header.study_uid} {header.instance_uid}")


def reason_of(error: InputError) -> str:
    """An image's error without the names and flags that mean nothing to who sent the film."""
    words = str(error).replace(" (force reads it all the same)", "")
    return one_line(re.sub(f"^(image:? ({NAME}:? )?)+", "", words))


def words_for_log(error: InputError | RunError) -> str:
    """A failed request's error in one line, without the UID of the study that it is of, which no log has."""
    is_of_study = isinstance(error, InputError) and error.field == "study"
    return one_line(spelt(str(error.args[0])) if is_of_study else str(error))


def why_unwritten(error: Exception) -> str:
    """Why there is no report, without what may name somebody: why its films are refused, or where the fault is."""
    if isinstance(error, InputError) and error.field == "force":
        return one_line(error.args[0].partition(": ")[2].partition(" (`force`")[0])
    return place_of(error)


def order_of(header: DicomHeader) -> tuple[int, int, str]:
    """Series and number within it; the UID where they are equal."""
    return int(header.series_number or 0), int(header.instance_number or 0), header.instance_uid
