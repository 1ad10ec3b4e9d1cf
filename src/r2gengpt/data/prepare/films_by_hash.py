"""Films in a directory by the SHA-256 of their files, and whom a DICOM film names. Decodes no picture."""

import hashlib
import logging
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from r2gengpt.errors import InputError
from r2gengpt.films.film import header_in
from r2gengpt.films.reader import read_file
from r2gengpt.text.written import in_short, shown

log = logging.getLogger("r2gengpt.prepare")


@dataclass(frozen=True)
class FoundFilm:
    """A film that was looked for.

    Attributes:
        path: relative to the directory.
        names: of people that its header has, as DICOM writes them.
        numbers: the patient's id and the accession number.
        burned_in: whether the header says that the picture itself may name somebody.
    """

    path: Path
    names: tuple[str, ...] = field(default=(), repr=False)
    numbers: tuple[str, ...] = field(default=(), repr=False)
    burned_in: bool = False


def films_by_hash(directory: Path, wanted: Collection[str]) -> dict[str, FoundFilm]:
    """SHA-256 → the first file of a directory that has it, of those that are wanted.

    Links are not followed: an annotation may not lead out of its directory. Files that cannot be read are named in the
    log.

    Raises:
        InputError: the header of a film that was found cannot be read, so whom it names is not known.
    """
    found: dict[str, FoundFilm] = {}
    unread = []
    for path in _files(directory):
        if len(found) == len(wanted):
            break
        try:
            data = read_file(directory / path)
        except InputError:
            unread.append(path.as_posix())
            continue
        digest = hashlib.sha256(data).hexdigest()
        if digest in wanted and digest not in found:
            found[digest] = _film(data, path)
    if unread:
        log.warning("not read in %s: %s", directory, in_short(unread))
    return found


def _film(data: bytes, path: Path) -> FoundFilm:
    header = header_in(data, str(path))
    if header is None:
        return FoundFilm(path)
    return FoundFilm(path, (header.name, header.referring), (header.patient_id, header.accession), header.burned_in)


def _files(directory: Path) -> Iterator[Path]:
    """Regular files below a directory in the order of their names, whose names an annotation can hold."""
    for folder, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if not path.is_symlink() and shown(str(path)) == str(path):
                yield path.relative_to(directory)
