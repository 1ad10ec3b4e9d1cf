"""Tables of labelled films, NIH's own and general ones, as rows of one form. Knows no observation and opens no film."""

import json
import logging
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from r2gengpt.data.labels import MAX_AGE, is_number
from r2gengpt.data.strict import by_plain_name, column_of, nearly, open_text, read_table
from r2gengpt.data.study import PATIENT_NAMES, patient_key
from r2gengpt.errors import InputError
from r2gengpt.films.context import IN_YEARS
from r2gengpt.options import nearest

log = logging.getLogger("r2gengpt.prepare")
NIH_SOURCE = "nih14"
GIVEN = {"": "", "train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test"}
"""What a row has for its split → our split, or nothing."""
HELD = ("val", "test")
"""Splits that a row with them stays in; of other rows it is drawn."""
VIEWS = {"PA": "PA", "AP": "AP", "L": "LATERAL", "LL": "LATERAL", "LAT": "LATERAL", "LATERAL": "LATERAL"}
_SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}
_AGE = re.compile(r"(\d{1,3}(?:\.\d+)?) ?([YMWD]?)", re.IGNORECASE)
_NIH_COLUMNS = ("image_index", "finding_labels", "patient_id")
_COLUMNS = ("image", "labels")
_OPTIONAL = (*("source", *PATIENT_NAMES, "group", "split", "view", "age", "sex", "text", "boxes", "width", "height"),)
_FACTS = (
    *(("view", "view"), ("view", "view_position"), ("age", "age"), ("age", "patient_age"), ("sex", "sex")),
    *(("sex", "patient_sex"), ("sex", "patient_gender"), ("size", "width"), ("size", "height")),
)
"""What is known of a film, and columns that tell it."""


@dataclass(frozen=True)
class Box:
    """A finding's place as its source marked it: left, top, width and height in pixels of the film."""

    label: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class FilmRow:
    """One film of a table. `where` names its line; `size` is width and height, where the table has them."""

    where: str
    image: str
    words: tuple[str, ...]
    source: str = ""
    patient: str = ""
    group: str = ""
    split: str = ""
    view: str = ""
    age: float | None = None
    sex: str = ""
    note: str = ""
    boxes: tuple[Box, ...] = ()
    size: tuple[float, float] | None = None

    @property
    def study_id(self) -> str:
        """The film's path without its ending, as one word; a first folder called images is left out."""
        parts = PurePosixPath(self.image).with_suffix("").parts
        return "_".join(parts[1:] if parts[0] == "images" and len(parts) > 1 else parts)


def read_films(path: Path) -> list[FilmRow]:
    """The films of a table: ChestX-ray14's Data_Entry_2017.csv, or one with the columns image and labels.

    Raises:
        InputError: it cannot be read, lacks a column, or a cell is wrong; two rows are of one film.
    """
    source = f"`table` {path}"
    try:
        rows = list(_rows(path, source))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"{source}: cannot be read: {reason}") from None
    seen: dict[str, FilmRow] = {}
    for row in rows:
        if row.study_id in seen:
            raise InputError(f"{row.where}: {row.image} stands there twice, as {seen[row.study_id].image} too")
        seen[row.study_id] = row
    return rows


def _rows(path: Path, source: str) -> Iterator[FilmRow]:
    with open_text(path) as file:
        table = read_table(file, source)
        columns = by_plain_name(dict.fromkeys(filter(None, table.columns)), source)
        is_nih = set(_NIH_COLUMNS) <= columns.keys()
        if not is_nih and (lacking := next((name for name in _COLUMNS if name not in columns), None)):
            raise InputError(
                f"{source}: has no column {lacking}{nearest(lacking, columns)}: needs {' and '.join(_COLUMNS)}, or "
                f"ChestX-ray14's Image Index, Finding Labels and Patient ID"
            )
        if not is_nih:
            for name, meant in nearly(columns, (*_COLUMNS, *_OPTIONAL)).items():
                log.warning("%s: column %s is not read (did you mean %s?)", source, name, meant)
        unread: dict[str, list[str]] = {}
        for row in table.rows:
            where = f"{source}: line {row.line}"
            cells = {name: cell.strip() for name, cell in by_plain_name(row.cells, where).items()}
            film = _nih_row(cells, where) if is_nih else _row(cells, where)
            for fact, column in _FACTS:
                note_unread(unread, column, cells.get(column, ""), getattr(film, fact), f"line {row.line}")
            yield film
        tell_unread(source, unread, "films")


def note_unread(unread: dict[str, list[str]], column: str, cell: str, found: object, place: str) -> None:
    """Keep a cell that holds something of which nothing was found, by its column."""
    if cell and found in ("", None):
        unread.setdefault(column, []).append(f"{cell[:60]!r} in {place}")


def tell_unread(source: str, unread: Mapping[str, Sequence[str]], what: str = "studies") -> None:
    """A log line for each column with cells that were kept by `note_unread`."""
    for column, cells in unread.items():
        log.warning("%s: unknown: %s of %d %s, first %s", source, column, len(cells), what, cells[0])


def _nih_row(cells: Mapping[str, str], where: str) -> FilmRow:
    """A row of ChestX-ray14's table; films of one patient stay together."""
    sex = column_of(cells, (("patient_sex", "patient_gender"),), where)
    return FilmRow(
        where,
        _image(cells["image_index"], where),
        _words(cells["finding_labels"]),
        source=NIH_SOURCE,
        patient=cells["patient_id"],
        group=cells["patient_id"],
        view=view_named(cells.get("view_position", "")),
        age=age_in(cells.get("patient_age", "")),
        sex=sex_in(cells[sex]) if sex else "",
    )


def _row(cells: Mapping[str, str], where: str) -> FilmRow:
    split = cells.get("split", "").lower()
    if split not in GIVEN:
        raise InputError(f"{where}: split is {split[:60]!r}: must be train, val, test or empty")
    image = _image(cells["image"], where)
    key = patient_key(cells, where)
    source, patient = cells.get("source", ""), "" if key is None else cells[key]
    return FilmRow(
        where,
        image,
        _words(cells["labels"]),
        source=source,
        patient=patient,
        group=cells.get("group") or (f"{source} {patient}".strip() if patient else image),
        split=GIVEN[split],
        view=view_named(cells.get("view", "")),
        age=age_in(cells.get("age", "")),
        sex=sex_in(cells.get("sex", "")),
        note=cells.get("text", ""),
        boxes=_boxes(cells.get("boxes", ""), where),
        size=_size(cells.get("width", ""), cells.get("height", "")),
    )


def _words(cell: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in cell.split("|") if word.strip())


def _image(cell: str, where: str) -> str:
    """A film's path as the table has it, which stays below its directory."""
    path = PurePosixPath(cell)
    if not path.name or path.is_absolute() or ".." in path.parts or "\\" in cell or "\0" in cell:
        raise InputError(f"{where}: image is {cell[:60]!r}: must be a path below `images`")
    return path.as_posix()


def view_named(cell: str) -> str:
    """PA, AP (supine or not) or LATERAL; empty where it is none of them.

    >>> view_named("AP Supine"), view_named("l"), view_named("?")
    ('AP', 'LATERAL', '')
    """
    words = cell.upper().split()
    return VIEWS.get(words[0], "") if words else ""


def sex_in(cell: str) -> str:
    """M or F; empty where it is neither.

    >>> sex_in("Female"), sex_in("m"), sex_in("O")
    ('F', 'M', '')
    """
    return _SEXES.get(cell.strip().lower(), "")


def age_in(cell: str) -> float | None:
    """An age in years; None where there is none, or none that people reach.

    >>> age_in("058Y"), age_in("006M"), age_in("411"), age_in("1-5 y")
    (58.0, 0.5, None, None)
    """
    match = _AGE.fullmatch(cell)
    if match is None:
        return None
    years = round(float(match[1]) * IN_YEARS[match[2].upper() or "Y"], 2)
    return years if years <= MAX_AGE else None


def _size(width: str, height: str) -> tuple[float, float] | None:
    """Whole numbers of pixels above 0, also as tables write them where a cell of the column is empty (1024.0)."""
    if not all(re.fullmatch(r"\d{1,6}(?:\.0)?", cell) and float(cell) for cell in (width, height)):
        return None
    return float(width), float(height)


def _boxes(cell: str, where: str) -> tuple[Box, ...]:
    """The boxes of a cell, `[["Pneumonia", left, top, width, height], ..]`."""
    if not cell:
        return ()
    try:
        found: Any = json.loads(cell)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(map(_is_box, found)):
        raise InputError(f"{where}: boxes is {cell[:60]}: must be a list of [label, left, top, width, height]")
    return tuple(Box(label, *map(float, numbers)) for label, *numbers in found)


def _is_box(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 5 and isinstance(item[0], str) and all(map(is_number, item[1:]))
