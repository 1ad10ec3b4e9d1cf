"""Where a release's images lie: by the names that it gives them, or under another ending. Decodes no image."""

import functools
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from r2gengpt.errors import InputError
from r2gengpt.files import open_regular
from r2gengpt.films.containers import is_dicom, is_film
from r2gengpt.text.written import in_short, shown

log = logging.getLogger("r2gengpt.prepare")
HEAD = 1024
"""Bytes that tell what a file is."""


def check_ending(ending: str) -> None:
    """Refuse what is no ending of image files.

    Raises:
        InputError: it is something else than a few letters and digits.
    """
    if not re.fullmatch(r"[A-Za-z0-9]{1,16}", ending):
        raise InputError("must be 1 to 16 letters and digits, as png or dcm", field="image_ext", value=ending)


def check_directory(directory: str | Path | None, field: str) -> None:
    """Refuse a directory of images that is none, before a release is read; None is left unchecked.

    Raises:
        InputError: so it is; `field` is the setting.
    """
    if directory is not None and not Path(directory).is_dir():
        raise InputError("is no directory", field=field, value=directory)


def find_image(directory: Path, path: Path) -> Path | None:
    """The path of an image below a directory: as it is named, else the file of that name with another ending.

    The other ending, or none, is taken where the bytes are those of an image. None where there is neither.
    """
    if (directory / path).is_file():
        return path
    folder = directory / path.parent
    if not folder.is_dir():
        return None
    others = _by_stem(folder, folder.stat().st_mtime_ns).get(path.stem, ())
    return next((path.with_name(name) for name in others if _is_image(folder / name)), None)


def name_missing(missing: Sequence[Path], directory: Path) -> None:
    """A log line with the first names of the views that are left out."""
    if missing:
        names = [path.as_posix() for path in missing]
        log.warning("left out, as %s has no such image: %s", directory, in_short(names))


@functools.lru_cache(maxsize=64)  # a release is read folder by folder, or is a few folders (ChestX-ray14: 12)
def _by_stem(folder: Path, _changed: int) -> dict[str, list[str]]:
    """The names in a folder as it was last changed, sorted, by what stands before their ending."""
    found: dict[str, list[str]] = {}
    for name in sorted(path.name for path in folder.iterdir()):
        if shown(name) == name:  # an annotation is UTF-8
            found.setdefault(Path(name).stem, []).append(name)
    return found


def _is_image(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            data = file.read(HEAD)
    except OSError:
        return False
    return is_film(data) or is_dicom(data)
