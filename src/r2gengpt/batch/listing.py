"""What a bulk run is to read: studies and their image files, from a file or a folder. Decodes no image.

A listing is in a fixed order, and every file in it has its size and time of change, so that a later start of the same
run sees what has become of its input.
"""

import csv
import io
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2gengpt.batch.folders import Found, studies_below
from r2gengpt.data.annotation import SPLITS, BaseDirectory, read_annotation
from r2gengpt.errors import InputError

log = logging.getLogger("r2gengpt.batch")
ID_COLUMNS = ("id", "study_id")
IMAGE_COLUMNS = ("image_path", "images", "image")
BETWEEN = ";"
"""Stands between the views of a study in a CSV file."""


@dataclass(frozen=True)
class ImageFile:
    """An image below the root: path with `/`, bytes, time of change in ns; -1 and 0 where there is no such file."""

    path: str
    size: int
    changed: int


@dataclass(frozen=True)
class StudyFiles:
    """A study of a listing: its id, unique in it, and its images in order, at least one."""

    id: str
    images: tuple[ImageFile, ...]

    def line(self) -> str:
        """The study as a line of listing.jsonl."""
        files = [[image.path, image.size, image.changed] for image in self.images]
        return json.dumps({"id": self.id, "images": files}, ensure_ascii=False) + "\n"

    @classmethod
    def of(cls, line: str) -> "StudyFiles":
        """The study in a line of listing.jsonl."""
        record = json.loads(line)
        return cls(record["id"], tuple(ImageFile(*image) for image in record["images"]))


@dataclass(frozen=True)
class Listing:
    """All of a run's studies in order; paths are relative to `root`."""

    root: Path
    studies: Sequence[StudyFiles]


def read_listing(source: Path, base_dir: str | None, split: str) -> Listing:
    """The studies of an annotation file, a CSV file, or a folder of images or DICOM files.

    Args:
        source: --input.
        base_dir: what paths in a file are relative to; None: for an annotation `images` beside it where there is such
            a folder, else the folder of the file.
        split: of an annotation file, or all.

    Raises:
        InputError: nothing there, nothing in it, what cannot be read, an id twice.
    """
    try:
        if source.is_dir():
            if base_dir is not None or split != "all":
                given = f"--base_dir {base_dir}" if base_dir is not None else f"--split {split}"
                raise InputError(f"{given}: --input {source} is a folder: that belongs to annotation files")
            return Listing(source.resolve(), checked(_of_folder(source), source))
        if not source.exists():
            raise InputError(f"--input {source}: no such file or folder")
        beside = source.parent / "images"
        base = Path(base_dir) if base_dir is not None else beside if beside.is_dir() else source.parent
        if not base.is_dir():
            raise InputError(f"--base_dir {base}: no such folder")
        rows = _of_csv(source, base, split) if source.suffix.lower() == ".csv" else _of_annotation(source, base, split)
        return Listing(base.resolve(), checked(rows, source))
    except OSError as error:
        raise InputError(f"--input {error.filename or source}: {error.strerror or error}") from None


def checked(studies: Iterable[StudyFiles], source: Path) -> list[StudyFiles]:
    """The studies, if there are any and no id stands twice.

    Raises:
        InputError: there are none, or two have one id.
    """
    found = list(studies)
    if not found:
        raise InputError(f"--input {source}: holds no study")
    seen: dict[str, StudyFiles] = {}
    for study in found:
        if study.id in seen:
            first = seen[study.id].images[0].path
            raise InputError(
                f"--input {source}: id {study.id} occurs twice ({first} and {study.images[0].path}): must be unique"
            )
        seen[study.id] = study
    return found


def image_file(root: Path, path: str) -> ImageFile:
    """What is known of a file without opening it."""
    try:
        status = (root / path).stat()
    except OSError:
        return ImageFile(path, -1, 0)
    return ImageFile(path, status.st_size, status.st_mtime_ns)


def _of_folder(source: Path) -> Iterator[StudyFiles]:
    found: Found = studies_below(source)
    if found.skipped:
        log.info("%s: left out, by kind: %s", source, in_words(found.skipped))
    for name, paths in found.studies:
        yield StudyFiles(name, tuple(image_file(source, path) for path in paths))


def in_words(counts: Counter[str]) -> str:
    """Counts by kind, the most frequent first.

    >>> in_words(Counter({"image": 2, "file": 3}))
    'file 3, image 2'
    """
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _of_annotation(source: Path, base: Path, split: str) -> Iterator[StudyFiles]:
    try:
        content = json.loads(source.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"--input {source}: not JSON: {error}; must be annotation.json, CSV or a folder") from None
    there = [name for name in SPLITS if isinstance(content, dict) and name in content]
    wanted = there if split == "all" else [split]
    del content
    root = base.resolve()
    for studies in read_annotation(source, base, wanted, flag="--input").values():
        for study in studies:
            paths = [path.relative_to(root).as_posix() for path in study.image_paths]
            yield StudyFiles(study.id, tuple(image_file(root, path) for path in paths))


def _of_csv(source: Path, base: Path, split: str) -> Iterator[StudyFiles]:
    if split != "all":
        raise InputError(f"--split {split}: --input {source} is CSV: that belongs to annotation files")
    try:
        text = source.read_text(encoding="utf-8-sig")
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        there = rows.fieldnames or ()
        key, images = (next((n for n in names if n in there), None) for names in (ID_COLUMNS, IMAGE_COLUMNS))
        if key is None or images is None:
            names = f"{' or '.join(ID_COLUMNS)}, and {' or '.join(IMAGE_COLUMNS)}"
            raise InputError(f"--input {source}: its columns are {rows.fieldnames}, must hold {names}")
        below, root = BaseDirectory(base), base.resolve()
        for row in rows:
            where = f"--input {source}: line {rows.line_num}"
            parts = [part.strip() for part in (row[images] or "").split(BETWEEN) if part.strip()]
            if not (row[key] or "").strip() or not parts:
                raise InputError(f"{where}: needs an id and at least one image")
            paths = [below.resolve(part, where).relative_to(root).as_posix() for part in parts]
            yield StudyFiles(row[key].strip(), tuple(image_file(root, path) for path in paths))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"--input {source}: not CSV: {error}") from None
