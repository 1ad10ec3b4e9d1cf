"""Whether a film that came in can be reported, why not, and where it stands in its study. Keeps nothing."""

from r2gengpt.data.containers import DicomChoice
from r2gengpt.data.dicom_header import DicomHeader, read_header
from r2gengpt.data.images import MIN_SIDE, decode_image
from r2gengpt.errors import InputError

NAME = "film"
TWO_PATIENTS = "its films name different patients"
"""Why a study has no report: numbers, their issuers or birth dates contradict each other."""


def checked_film(data: bytes) -> DicomHeader:
    """The header of a film of the chest whose pixels can be decoded.

    Raises:
        InputError: it is none (see `reason_of`).
    """
    decode_image(data, NAME, MIN_SIDE, DicomChoice())
    return read_header(data, NAME)


def reason_of(error: InputError) -> str:
    """An image's error without the names and flags that mean nothing to who sent the film."""
    words = str(error).replace(" (--force reads it all the same)", "").removeprefix("image: ")
    return words.removeprefix(f"image {NAME}").removeprefix(":").strip()


def order_of(header: DicomHeader) -> tuple[int, int, str]:
    """Series and number within it; the UID where they are equal."""
    return int(header.series_number or 0), int(header.instance_number or 0), header.instance_uid
