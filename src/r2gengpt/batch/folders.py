"""The studies in a folder: PNG and JPEG by directory, DICOM by the study each file names. Decodes no image.

What a file is shows in its bytes. A name is asked only so that nothing is lost: a file that is called an image and is
none stays a view, and its study fails by name.
"""

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from r2gengpt.errors import InputError
from r2gengpt.files import open_regular
from r2gengpt.films.containers import is_dicom, is_film
from r2gengpt.films.dicom.header import DicomHeader, is_deflated, read_header
from r2gengpt.films.reader import read_file

FILM_NAMES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp")
DICOM_NAMES = (".dcm", ".dicom", ".dic", ".ima")
HEAD = 1 << 16
"""Bytes read of a DICOM file at first; few headers are longer."""
PIXELS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")
"""The tag of pixel data in both byte orders: after it nothing is read."""


@dataclass(frozen=True)
class LeftOut:
    """A file, or a folder with all in it, that is part of no study: path with `/`, and its kind in words."""

    path: str
    why: str


@dataclass(frozen=True)
class Seen:
    """What a file is: a PNG or JPEG film, a DICOM file (its header, where that can be read), or why it is no image."""

    film: bool = False
    header: DicomHeader | None = None
    why: str = ""


def files_below(folder: Path, left_out: list[LeftOut]) -> Iterator[str]:
    """All files of a folder and those in it, by path with `/`, sorted within each.

    Links to folders are not followed, so that no loop of links is walked; they and hidden names go to `left_out`.

    Raises:
        OSError: a folder cannot be read: what is in it would be lost without a word.
    """

    def stop(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=stop):
        relative = Path(place).relative_to(folder)
        hidden = sorted(name for name in (*folders, *names) if name.startswith("."))
        left_out += [LeftOut((relative / name).as_posix(), "hidden") for name in hidden]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        left_out += [LeftOut((relative / name).as_posix(), "link to a folder") for name in links]
        yield from ((relative / name).as_posix() for name in sorted(names) if not name.startswith("."))


def studies_below(folder: Path, left_out: list[LeftOut]) -> dict[tuple[str, str], list[str]]:
    """The studies of a folder: paths by id, and by what keeps equal ids of different studies apart.

    PNG and JPEG files in one subfolder are the views of one study, whose id is the subfolder's path; those in the
    folder itself are a study each, by their names. DICOM files are the views of the study that they name (its UID is
    the id); one whose header cannot be read is a study by itself, to be reported as failed. What is neither goes to
    `left_out`.
    """
    views, instances = dict[tuple[str, str], list[str]](), set[tuple[str, str]]()
    for path in files_below(folder, left_out):
        seen = look(folder / path)
        header = seen.header
        if seen.why:
            left_out.append(LeftOut(path, seen.why))
        elif seen.film:
            views.setdefault(_study_of_film(path), []).append(path)
        elif header is None or not header.study_uid:
            views.setdefault((path, path), []).append(path)
        elif header.instance_uid and (header.study_uid, header.instance_uid) in instances:
            left_out.append(LeftOut(path, "repeated DICOM instance"))
        else:
            instances.add((header.study_uid, header.instance_uid))
            views.setdefault((header.study_uid, "DICOM"), []).append(path)
    return views


def _study_of_film(path: str) -> tuple[str, str]:
    """The id of a PNG or JPEG file's study, and what keeps equal ids of different studies apart."""
    place = PurePosixPath(path)
    if len(place.parts) > 1:
        return str(place.parent), ""
    return (place.stem if place.suffix.lower() in (*FILM_NAMES, *DICOM_NAMES) else place.name), path


def look(path: Path) -> Seen:
    """What a file is. One that cannot be read is taken for what its name says, and fails when it is to be decoded."""
    name = path.name.lower()
    called_film, called_dicom = name.endswith(FILM_NAMES), name.endswith(DICOM_NAMES)
    try:
        with open_regular(path) as file:
            data = file.read(HEAD)
            if is_film(data):
                return Seen(film=True)
            if is_dicom(data):
                if head := _up_to_pixels(file, data):
                    return Seen(header=_header(path, head))
                return Seen() if is_deflated(data) else Seen(why="DICOM without pixels")
    except OSError:
        if path.is_file() or path.is_symlink():  # there is something, and nobody knows what
            return Seen(film=called_film)
        return Seen(film=called_film, why="" if called_film or called_dicom else "no regular file")
    return Seen(film=called_film, why="" if called_film or called_dicom else "no image")


def _up_to_pixels(file: BinaryIO, data: bytes) -> bytes:
    """A DICOM file's bytes up to its pixels and a little more; none where it has no pixels."""
    if len(data) == HEAD and not any(tag in data for tag in PIXELS):
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            ends = [at for tag in PIXELS if (at := whole.find(tag)) >= 0]
            return whole[: min(ends) + HEAD] if ends else b""
    return data if any(tag in data for tag in PIXELS) else b""


def _header(path: Path, data: bytes) -> DicomHeader | None:
    """The header in the beginning of a file, or, as the pixels' tag may stand in a value by chance, in all of it."""
    for part in (data, None):
        try:
            return read_header(read_file(path) if part is None else part, path.name)
        except InputError as error:
            if "needs pydicom" in str(error):
                raise
    return None
