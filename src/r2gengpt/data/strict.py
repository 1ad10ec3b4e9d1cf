"""JSON and CSV read strictly: no key or column stands twice, each row has the header's fields. Knows no format."""

import csv
import difflib
import functools
import gzip
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from r2gengpt.errors import InputError
from r2gengpt.files import open_regular


def read_text(path: Path, source: str) -> str:
    """The text of a file in UTF-8, a byte order mark allowed; `source` is what errors call it.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{source}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: not UTF-8 text (byte {error.start})") from None


def read_json(path: Path, source: str) -> Any:
    """The JSON value of a file as `read_text` reads it.

    Raises:
        InputError: as there, or as `parsed_json`.
    """
    return parsed_json(read_text(path, source), source)


def read_json_object(path: Path, source: str) -> dict[str, Any]:
    """As `read_json`, an object.

    Raises:
        InputError: as there, or it is none.
    """
    value = read_json(path, source)
    if not isinstance(value, dict):
        raise InputError(f"{source}: must hold a JSON object, holds a {type(value).__name__}")
    return value


def parsed_json(text: str, source: str) -> Any:
    """The JSON value of a text.

    Raises:
        InputError: it is no JSON, or an object gives a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=functools.partial(_object, source=source))
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: not JSON: {' '.join(str(error).split())}") from None


def _object(pairs: Sequence[tuple[str, Any]], source: str) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{source}: {twice} is given twice")
    return value


LONGEST_CELL = 1 << 30
"""Characters; the library's own limit refuses long reports."""
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
"""What else programs write between cells, in words."""
ALIKE = 0.75
"""From which likeness a name is a known one misspelt."""
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class TableRow:
    """A row: the line of the file that it begins in, from 1, and its cells by column."""

    line: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A header's columns, those without a name too, the line it stands in, and the rows under it, read one by one."""

    columns: tuple[str, ...]
    line: int
    rows: Iterator[TableRow]


def read_table(lines: Iterable[str], source: str, *, numbered: bool = False) -> Table:
    """A table; empty lines are passed over.

    Args:
        lines: of the file, with their ends.
        source: what errors call it.
        numbered: whether a first column without a name may number the rows, as pandas writes it.

    Raises:
        InputError: no CSV, no header, other separators than commas, or a column twice; while rows are read, a row with
            more or fewer cells than the header, or a cell in a column without a name.
    """
    records = _records(lines, source)
    line, names = next(records, (0, []))
    if not names:
        raise InputError(f"{source}: is empty")
    header = _header(names, f"{source}: line {line}")
    unread = int(numbered and not header[0])
    rows = (TableRow(at, _named(cells, header, f"{source}: line {at}", unread)) for at, cells in records)
    return Table(tuple(header), line, rows)


def _records(lines: Iterable[str], source: str) -> Iterator[tuple[int, list[str]]]:
    """The line that each record begins in, and its cells."""
    rows, limit, line = csv.reader(lines, strict=True), csv.field_size_limit(LONGEST_CELL), 1
    try:
        for cells in rows:
            if cells:
                yield line, cells
            line = rows.line_num + 1
    except csv.Error as error:
        raise InputError(f"{source}: not CSV after line {line - 1}: {error}") from None
    finally:
        csv.field_size_limit(limit)


def _header(names: list[str], place: str) -> list[str]:
    other = next((sign for sign in OTHER_SEPARATORS if sign in names[0]), None) if len(names) == 1 else None
    if other is not None:
        raise InputError(f"{place}: its columns are separated by {OTHER_SEPARATORS[other]}, must be by commas")
    plain = [name.strip() for name in names]
    twice = [name for name in plain if name and plain.count(name) > 1]
    if twice:
        raise InputError(f"{place}: column {twice[0]} is given twice")
    return plain


def _named(cells: list[str], header: list[str], place: str, unread: int) -> dict[str, str]:
    if len(cells) > len(header):
        more = f"{len(cells)}, not {len(header)}: quote a cell that holds commas"
        raise InputError(f"{place}: has more fields than the header ({more})")
    if len(cells) < len(header):
        raise InputError(f"{place} is cut off: has {len(cells)} of {len(header)} fields")
    for name, cell in list(zip(header, cells, strict=True))[unread:]:
        if not name and cell.strip():
            raise InputError(f"{place}: a field that holds something stands under no column's name")
    return {name: cell for name, cell in zip(header, cells, strict=True) if name}


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """A file of UTF-8 text, packed with gzip or not, as its bytes say; a byte order mark is passed over.

    Raises:
        OSError: it cannot be opened; reading raises that, EOFError, zlib.error or UnicodeDecodeError.
    """
    with open_regular(path) as raw:
        packed = raw.read(len(GZIP)) == GZIP
        raw.seek(0)
        data = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if packed else raw
        with io.TextIOWrapper(data, encoding="utf-8-sig", newline="") as file:
            yield file


def plain(name: str) -> str:
    """A column's or key's name, in which case, spaces and hyphens don't matter.

    >>> plain(" Study-ID")
    'study_id'
    """
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def nearly(names: Iterable[Any], known: Sequence[str]) -> dict[str, str]:
    """Names that are not known and look like a known one that is not there, with that one.

    >>> nearly(["id", "lables", "study"], ("id", "labels"))
    {'lables': 'labels'}
    """
    present = {name for name in names if isinstance(name, str)}
    missing = {plain(name): name for name in known if name not in present}
    close = {
        name: difflib.get_close_matches(plain(name), missing, 1, ALIKE) for name in sorted(present.difference(known))
    }
    return {name: missing[found[0]] for name, found in close.items() if found}


def misspelt(records: Iterable[Iterable[Any]], known: Sequence[str]) -> Counter[tuple[str, str]]:
    """How many records have a key that looks like a known one that they lack: by the key and the one meant."""
    found: Counter[tuple[str, str]] = Counter()
    for keys, count in Counter(map(tuple, records)).items():
        found.update(dict.fromkeys(nearly(keys, known).items(), count))
    return found


def by_plain_name(record: Mapping[Any, Any], place: str) -> dict[str, Any]:
    """The values of a row or record by plain name.

    Raises:
        InputError: two of its names are one.
    """
    found: dict[str, Any] = {}
    for name, value in record.items():
        if not isinstance(name, str):
            continue
        if plain(name) in found:
            raise InputError(f"{place}: {plain(name)} is given twice (as {name.strip()} too): leave one out")
        found[plain(name)] = value
    return found


def column_of(names: Iterable[str], groups: Sequence[Sequence[str]], place: str) -> str | None:
    """The name that is there, of the first group of which one is; None where none is.

    Args:
        names: that a record has, plain.
        groups: names of one meaning each; an earlier group is asked first.
        place: where the record stands.

    Raises:
        InputError: two names of one group are there: which of them is meant?
    """
    for group in groups:
        there = [name for name in group if name in names]
        if len(there) > 1:
            raise InputError(f"{place}: {there[0]} and {there[1]} mean the same: leave one out")
        if there:
            return there[0]
    return None
