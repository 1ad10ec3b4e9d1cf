"""The studies in a folder: PNG and JPEG by directory, DICOM by the study each file names. Decodes no image."""

import mmap
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from r2gengpt.data.containers import is_dicom
from r2gengpt.data.dicom_header import DicomHeader, read_header
from r2gengpt.data.images import read_file
from r2gengpt.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg")
HEAD = 1 << 16
"""Bytes read of a DICOM file at first; few headers are longer."""
PIXELS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")
"""The tag of pixel data in both byte orders: after it nothing is read."""


@dataclass
class Found:
    """Studies as (id, paths), in order, and how many files were left out, by kind."""

    studies: list[tuple[str, list[str]]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def files_below(folder: Path) -> Iterator[str]:
    """All files of a folder and those in it, by path with `/`, sorted within each; links to folders are not followed.

    Raises:
        OSError: a folder cannot be read: what is in it would be lost without a word.
    """

    def stop(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=stop):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(place).relative_to(folder)
        yield from ((below / name).as_posix() for name in sorted(names) if not name.startswith("."))


def studies_below(folder: Path) -> Found:
    """The studies of a folder.

    PNG and JPEG files in one subfolder are the views of one study, whose id is the subfolder's path; those in the
    folder itself are a study each, by their names. DICOM files are the views of the study that they name (its UID is
    the id); one whose header cannot be read is a study by itself, to be reported as failed. What is neither is counted.
    """
    found, views, instances = Found(), dict[tuple[str, str], list[str]](), set[tuple[str, str]]()
    for path in files_below(folder):
        if path.lower().endswith(SUFFIXES):
            place = PurePosixPath(path)
            key = (str(place.parent), "") if len(place.parts) > 1 else (place.stem, path)
            views.setdefault(key, []).append(path)
            continue
        header = look(folder / path)
        if isinstance(header, str):
            found.skipped[header] += 1
        elif header is None or not header.study_uid:
            views.setdefault((path, path), []).append(path)
        elif header.instance_uid and (header.study_uid, header.instance_uid) in instances:
            found.skipped["repeated DICOM instance"] += 1
        else:
            instances.add((header.study_uid, header.instance_uid))
            views.setdefault((header.study_uid, "DICOM"), []).append(path)
    found.studies = [(name, paths) for (name, _), paths in views.items()]
    return found


def look(path: Path) -> DicomHeader | str | None:
    """A DICOM image's header; None where it cannot be read; or why the file is no image, in words."""
    with path.open("rb") as file:
        data = file.read(HEAD)
        if not is_dicom(data):
            return "no image"
        if len(data) == HEAD and not any(tag in data for tag in PIXELS):
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
                ends = [at for tag in PIXELS if (at := whole.find(tag)) >= 0]
                data = whole[: min(ends) + HEAD] if ends else b""
    if not any(tag in data for tag in PIXELS):
        return "DICOM without pixels"
    for part in (data, None):  # the tag's bytes may stand in a value by chance: then all of the file is read
        try:
            return read_header(read_file(path) if part is None else part, path.name)
        except InputError as error:
            if "needs pydicom" in str(error):
                raise
    return None
