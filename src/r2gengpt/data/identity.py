"""A study's files held against each other before pixels are read: one patient, one study. Decodes nothing."""

from contextlib import suppress
from pathlib import Path

from r2gengpt.data.study import Study
from r2gengpt.films.containers import is_dicom
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.films.film import check_together, header_in
from r2gengpt.films.reader import read_file

HEAD = 256
"""Bytes by which DICOM files are told from others."""


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
