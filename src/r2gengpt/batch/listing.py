"""What a bulk run is to read: studies and their image files, from a file or a folder. Decodes no image.

A listing is in a fixed order, and every file in it has its size and time of change, so that a later start of the same
run sees what has become of its input.
"""

import json
import logging
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2gengpt.batch.folders import LeftOut, studies_below
from r2gengpt.data.annotation import SPLITS, BaseDirectory, read_annotation
from r2gengpt.data.strict import by_plain_name, column_of, open_text, plain, read_json, read_table
from r2gengpt.data.study import study_id
from r2gengpt.errors import InputError
from r2gengpt.text.written import in_short, shown

log = logging.getLogger("r2gengpt.batch")
ID_COLUMNS = ("id", "study_id")
IMAGE_COLUMNS = ("image_path", "images", "image")
BETWEEN = ";"
"""Stands between the views of a study in a CSV file."""
_FURTHER = re.compile(r"images?(_paths?)?_?\d+")


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
        return json.dumps({"id": self.id, "images": files}) + "\n"

    @classmethod
    def of(cls, line: str) -> "StudyFiles":
        """The study in a line of listing.jsonl."""
        record = json.loads(line)
        return cls(record["id"], tuple(ImageFile(*image) for image in record["images"]))


@dataclass(frozen=True)
class Listing:
    """All of a run's studies in order, and what of a folder is part of none; paths are relative to `root`."""

    root: Path
    studies: Sequence[StudyFiles]
    left_out: Sequence[LeftOut] = ()


def read_listing(source: Path, base_dir: str | None, split: str) -> Listing:
    """The studies of an annotation file, a CSV file, or a folder of images or DICOM files.

    Args:
        source: `input`.
        base_dir: what paths in a file are relative to; None: for an annotation `images` beside it where there is such
            a folder, else the folder of the file.
        split: of an annotation file, or all.

    Raises:
        InputError: nothing there, nothing in it, what cannot be read, an id twice.
    """
    try:
        if source.is_dir():
            if base_dir is not None or split != "all":
                setting = f"`base_dir` {base_dir}" if base_dir is not None else f"`split` {split}"
                raise InputError(f"{setting}: `input` {source} is a folder: that belongs to annotation files")
            left_out: list[LeftOut] = []
            return Listing(source.resolve(), checked(_of_folder(source, left_out), source), left_out)
        if not source.exists():
            raise InputError("no such file or folder", field="input", value=source)
        beside = source.parent / "images"
        base = Path(base_dir) if base_dir is not None else beside if beside.is_dir() else source.parent
        if not base.is_dir():
            raise InputError("no such folder", field="base_dir", value=base)
        rows = _of_annotation(source, base, split) if _is_json(source) else _of_csv(source, base, split)
        return Listing(base.resolve(), checked(rows, source))
    except OSError as error:
        raise InputError(f"{error.strerror or error}", field="input", value=error.filename or source) from None
    except (EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read as text: {error}", field="input", value=source) from None


def checked(studies: Iterable[StudyFiles], source: Path) -> list[StudyFiles]:
    """The studies, if there are any and no id stands twice.

    Raises:
        InputError: there are none, or two have one id.
    """
    found = list(studies)
    if not found:
        raise InputError("holds no study", field="input", value=source)
    seen: dict[str, StudyFiles] = {}
    for study in found:
        if study.id in seen:
            first = seen[study.id].images[0].path
            raise InputError(
                f"id {study.id} occurs twice ({first} and {study.images[0].path}): must be unique",
                field="input",
                value=source,
            )
        seen[study.id] = study
    twice = [study.id for study in found if len(set(study.images)) < len(study.images)]
    if twice:
        log.warning(
            "%s: %d studies name an image twice (%s): each counts as a view", source, len(twice), in_short(twice)
        )
    return found


def image_file(root: Path, path: str) -> ImageFile:
    """What is known of a file without opening it."""
    try:
        status = (root / path).stat()
    except OSError:
        return ImageFile(path, -1, 0)
    return ImageFile(path, status.st_size, status.st_mtime_ns)


def _of_folder(source: Path, left_out: list[LeftOut]) -> Iterator[StudyFiles]:
    found = studies_below(source, left_out)
    left_out[:] = [LeftOut(shown(one.path), one.why) for one in left_out]
    if left_out:
        log.info("%s: left out: %s", source, by_kind(left_out))
    for (name, _), paths in found.items():
        yield StudyFiles(shown(name), tuple(image_file(source, path) for path in paths))


def by_kind(left_out: Sequence[LeftOut]) -> str:
    """What is left out: each kind with its number and the first names, the most frequent kind first.

    >>> by_kind([LeftOut("a", "no image"), LeftOut("b", "no image"), LeftOut(".c", "hidden")])
    'no image 2 (a, b), hidden 1 (.c)'
    """
    kinds: dict[str, list[str]] = {}
    for one in left_out:
        kinds.setdefault(one.why, []).append(one.path)
    ordered = sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0]))
    return ", ".join(f"{kind} {len(paths)} ({in_short(paths)})" for kind, paths in ordered)


def _of_annotation(source: Path, base: Path, split: str) -> Iterator[StudyFiles]:
    content = read_json(source, f"`input` {source}")
    there = [name for name in SPLITS if isinstance(content, dict) and name in content]
    wanted = there if split == "all" else [split]
    unread = [name for name in content if name not in SPLITS] if isinstance(content, dict) else []
    if unread and split == "all":
        log.info("%s: splits that are not read: %s", source, in_short(unread))
    del content
    root = base.resolve()
    for studies in read_annotation(source, base, wanted, field="input").values():
        for study in studies:
            paths = [path.relative_to(root).as_posix() for path in study.image_paths]
            yield StudyFiles(study.id, tuple(image_file(root, path) for path in paths))


def _name_unread(columns: Sequence[str], source: Path, place: str) -> None:
    """A log line with the columns that are not read.

    Raises:
        InputError: one is called a further image: its views would be lost.
    """
    more = next((name for name in columns if _FURTHER.fullmatch(plain(name))), None)
    if more is not None:
        raise InputError(f"{place}: {more} is not read: a study's images stand in one column, with {BETWEEN} between")
    if columns:
        log.info("%s: columns that are not read: %s", source, in_short(columns))


def _is_json(source: Path) -> bool:
    """Whether a file begins as JSON does; what else it is, is CSV with a header."""
    with open_text(source) as file:
        return file.read(1 << 16).lstrip()[:1] in ("{", "[")


def _of_csv(source: Path, base: Path, split: str) -> Iterator[StudyFiles]:
    if split != "all":
        raise InputError(f"`input` {source} is CSV: that belongs to annotation files", field="split", value=split)
    directory, root = BaseDirectory(base), base.resolve()
    with open_text(source) as file:
        table = read_table(file, f"`input` {source}")
        place = f"`input` {source}: line {table.line}"
        there = by_plain_name(dict.fromkeys(filter(None, table.columns)), place)
        key, images = (column_of(there, (names,), place) for names in (ID_COLUMNS, IMAGE_COLUMNS))
        if key is None or images is None:
            names = f"{' or '.join(ID_COLUMNS)}, and {' or '.join(IMAGE_COLUMNS)}"
            raise InputError(f"its columns are {list(table.columns)}, must hold {names}", field="input", value=source)
        _name_unread([name for name in table.columns if name and plain(name) not in (key, images)], source, place)
        for row in table.rows:
            where = f"`input` {source}: line {row.line}"
            cells = by_plain_name(row.cells, where)
            parts = [part.strip() for part in cells[images].split(BETWEEN) if part.strip()]
            study = study_id(cells[key])
            if study is None or not parts:
                raise InputError(f"{where}: needs an id and at least one image")
            paths = [directory.resolve(part, where).relative_to(root).as_posix() for part in parts]
            yield StudyFiles(study, tuple(image_file(root, path) for path in paths))
