"""Predictions and references as files: our JSON lines, the original's JSON, CSV, R2Gen annotations. No scoring."""

import csv
import functools
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from r2gengpt.data.files import whole_file
from r2gengpt.errors import InputError
from r2gengpt.generation.prediction import Prediction

SPLITS = ("train", "val", "test")
ID_COLUMNS = ("id", "study_id", "uid", "image_id", "dicom_id")
PREDICTION_COLUMNS = ("prediction", "hypothesis", "generated", "generated_report", "report", "text", "caption")
REFERENCE_COLUMNS = ("reference", "ground_truth", "report", "text", "caption", "findings")
"""Column names in the order they are looked for; case, spaces and hyphens don't matter."""

Texts = dict[str, tuple[str, ...]]
Entry = tuple[str, str, Any]
"""Where it stands (for messages), study id, text or texts."""


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write one JSON object a line, whole or not at all.

    Raises:
        InputError: the file can't be written.
        ValueError: an id occurs twice, or a number is not finite; nothing is written.
    """
    lines: dict[str, str] = {}
    for prediction in predictions:
        if prediction.id in lines:
            raise ValueError(f"two predictions of study {prediction.id}")
        lines[prediction.id] = json.dumps(prediction.to_json(), ensure_ascii=False, allow_nan=False) + "\n"
    try:
        with whole_file(path) as temporary:
            temporary.write_text("".join(lines.values()), encoding="utf-8", newline="\n")
    except OSError as error:
        raise InputError(f"output {path}: {error.strerror or error}") from None


def read_predictions(path: Path, flag: str = "--predictions") -> dict[str, str]:
    """Study id → generated text, of JSON lines, a JSON object of `{"id": ["text"]}`, or CSV.

    Raises:
        InputError: the file can't be read, or an id or text is missing, given twice or not a text.
    """
    source = f"{flag} {path}"
    content = _content(path, source)
    if isinstance(content, dict) and _is_annotation(content):
        raise InputError(f"{source}: is an annotation file (train, val, test), not predictions")
    found = _collect(_entries(content, PREDICTION_COLUMNS, source), source)
    for study, texts in found.items():
        if len(texts) != 1:
            raise InputError(f"{source}: study {study} has {len(texts)} predictions, must have one")
    return {study: texts[0] for study, texts in found.items()}


def read_references(path: Path, split: str = "test", flag: str = "--references") -> Texts:
    """Study id → its reference texts, of an R2Gen annotation file or the formats of predictions.

    Args:
        path: the file.
        split: which split of an annotation file; other formats have no splits.
        flag: named in error messages.

    Raises:
        InputError: as `read_predictions`, or the annotation has no such split.
    """
    source = f"{flag} {path}"
    content = _content(path, source)
    if isinstance(content, dict) and _is_annotation(content):
        return _collect(_split(content, split, source), source)
    return _collect(_entries(content, REFERENCE_COLUMNS, source), source)


def read_train_reports(path: Path, flag: str = "--train") -> list[str]:
    """The reports of an annotation file's train split.

    Raises:
        InputError: not an annotation file, or its train split is empty.
    """
    source = f"{flag} {path}"
    content = _content(path, source)
    if not isinstance(content, dict) or not _is_annotation(content):
        raise InputError(f"{source}: must be an annotation file with a train split")
    return [texts[0] for texts in _collect(_split(content, "train", source), source).values()]


def _content(path: Path, source: str) -> Any:
    """A JSON value, a list of (place, record) of JSON lines, or of CSV rows.

    A file that starts like JSON is JSON; whatever else is CSV with a header.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{source}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: not UTF-8 text (byte {error.start})") from None
    if not text.strip():
        raise InputError(f"{source}: is empty")
    if text.lstrip()[0] not in "{[":
        return list(_csv_rows(text, source))
    try:
        value = json.loads(text, object_pairs_hook=functools.partial(_object, source=source))
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        if not str(error).startswith("Extra data"):
            raise InputError(f"{source}: not JSON: {' '.join(str(error).split())}") from None
        return list(_json_lines(text, source))
    return [(source, value)] if isinstance(value, dict) and _id_of(value) is not None else value


def _object(pairs: Sequence[tuple[str, Any]], source: str) -> dict[str, Any]:
    """A JSON object without silently dropped keys."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{source}: {twice} is given twice")
    return value


def _json_lines(text: str, source: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            place = f"{source} line {number}"
            try:
                record = json.loads(line, object_pairs_hook=functools.partial(_object, source=place))
            except InputError:
                raise
            except (ValueError, RecursionError) as error:
                raise InputError(f"{place}: not JSON: {error}") from None
            yield place, record


def _csv_rows(text: str, source: str) -> Iterator[tuple[str, Any]]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in rows:
            if None in row:
                raise InputError(
                    f"{source} line {rows.line_num}: has more fields than the header (quote texts with commas)"
                )
            yield f"{source} line {rows.line_num}", row
    except csv.Error as error:
        raise InputError(f"{source}: not CSV after line {rows.line_num}: {error}") from None


def _is_annotation(content: Mapping[str, Any]) -> bool:
    """Whether a JSON object has R2Gen's splits: lists of objects under at least one of their names."""
    splits = [content[name] for name in SPLITS if name in content]
    return bool(splits) and all(isinstance(s, list) and all(isinstance(r, dict) for r in s) for s in splits)


def _split(content: Mapping[str, Any], split: str, source: str) -> Iterator[Entry]:
    if not content.get(split):
        have = ", ".join(f"{name} ({len(content[name])})" for name in SPLITS if name in content)
        raise InputError(f"{source}: no studies in split {split}; it has {have}")
    for number, record in enumerate(content[split]):
        place = f"{source}: {split}[{number}]"
        if "id" not in record or "report" not in record:
            raise InputError(f"{place} has no {'report' if 'id' in record else 'id'}")
        yield place, str(record["id"]), record["report"]


def _entries(content: Any, columns: Sequence[str], source: str) -> Iterator[Entry]:
    """The studies of any format but an annotation."""
    if isinstance(content, dict):
        yield from ((f"{source}: {study}", study, value) for study, value in content.items())
        return
    if not isinstance(content, list):
        raise InputError(f"{source}: must hold a JSON object, JSON lines or CSV")
    for number, item in enumerate(content):
        place, record = item if isinstance(item, tuple) else (f"{source}: [{number}]", item)
        if not isinstance(record, dict):
            raise InputError(f"{place}: must be an object, is {json.dumps(record)[:60]}")
        named = {_plain(name): value for name, value in record.items() if isinstance(name, str)}
        study, column = _id_of(record), next((name for name in columns if name in named), None)
        for value, wanted in ((study, ID_COLUMNS), (column, columns)):
            if value is None:
                raise InputError(f"{place}: needs one of {', '.join(wanted)}; it has {', '.join(named) or 'nothing'}")
        yield place, str(study), named[str(column)]


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _id_of(record: Mapping[Any, Any]) -> str | None:
    """The study id of a record: a text or a whole number under one of the names."""
    named = {_plain(name): value for name, value in record.items() if isinstance(name, str)}
    for name in ID_COLUMNS:
        value = named.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value)
    return None


def _collect(entries: Iterable[Entry], source: str) -> Texts:
    """Entries by id, each checked to be one text or a list of texts."""
    found: Texts = {}
    for place, study, value in entries:
        texts = value if isinstance(value, list) else [value]
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"{place}: study {study}: must be a text, is {json.dumps(text)[:60]}")
            if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
                raise InputError(f"{place}: study {study}: holds half a surrogate pair, which is no character")
        if study in found:
            raise InputError(f"{place}: study {study} is given twice")
        found[study] = tuple(texts)
    if not found:
        raise InputError(f"{source}: holds no studies")
    return found
