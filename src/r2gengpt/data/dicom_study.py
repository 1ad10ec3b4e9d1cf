"""The images of one study looked at before a model is loaded: can they be read, do they belong together? No text."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from r2gengpt.data.containers import DicomChoice, is_dicom
from r2gengpt.data.dicom_header import DicomHeader, read_header
from r2gengpt.data.images import MIN_SIDE, decode_image, read_file
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError


def look_at(paths: Sequence[Path], choice: DicomChoice) -> tuple[DicomHeader | None, ...]:
    """Decode each image once; gives the header of each that is DICOM.

    Raises:
        InputError: an image cannot be read, DICOM files are of two studies, or the choice is for DICOM and none is.
    """
    headers = tuple(_look(path, choice) for path in paths)
    check_study([str(path) for path in paths], headers, choice)
    return headers


def check_study(names: Sequence[str], headers: Sequence[DicomHeader | None], choice: DicomChoice) -> None:
    """Refuse images that are not of one study, by their headers, and a choice that none of them is meant by.

    Raises:
        InputError: DICOM files are of two studies, or the choice is for DICOM and none is.
    """
    dicom = [(name, header) for name, header in zip(names, headers, strict=True) if header is not None]
    if not dicom and choice != DicomChoice():
        field, value = ("force", "") if choice.force else ("frame", f" {choice.frame}")
        raise InputError(f"--{field}{value}: belongs to DICOM, and none of the images is", field=field)
    for name, header in dicom[1:]:
        first_name, first = dicom[0]
        if (header.study_uid, header.patient_id) != (first.study_uid, first.patient_id):
            raise InputError(f"images {first_name} and {name} are of two studies: give the views of ONE study")


def _look(path: Path, choice: DicomChoice) -> DicomHeader | None:
    data = read_file(path)
    decode_image(data, str(path), MIN_SIDE, choice)
    return read_header(data, str(path)) if is_dicom(data) else None


def with_views(study: Study, headers: Sequence[DicomHeader | None]) -> Study:
    """The study with the views that its DICOM files name; as it was where none does."""
    names = tuple(header.view_name if header is not None else "" for header in headers)
    return replace(study, views=names) if any(names) else study
