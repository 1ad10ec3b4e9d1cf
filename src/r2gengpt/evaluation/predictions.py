"""Predictions and references as files: our JSON lines, the original's JSON, CSV, R2Gen annotations. No scoring."""

import csv
import functools
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from r2gengpt.data.files import whole_file
from r2gengpt.data.study import PATIENT_NAMES
from r2gengpt.errors import InputError
from r2gengpt.generation.prediction import Prediction

SPLITS = ("train", "val", "test")
ID_COLUMNS = ("id", "study_id", "uid", "image_id", "dicom_id")
PREDICTION_COLUMNS = ("prediction", "hypothesis", "generated", "generated_report", "report", "text", "caption")
REFERENCE_COLUMNS = ("reference", "ground_truth", "report", "text", "caption", "findings")
"""Column names in the order they are looked for; case, spaces and hyphens don't matter."""

Texts = dict[str, tuple[str, ...]]


class Entry(NamedTuple):
    """One study of a file: where it stands (for messages), its id, its text or texts, its patient."""

    place: str
    study: str
    value: Any
    patient: Any = None


@dataclass(frozen=True)
class References:
    """Study id → its reference texts, and study id → patient for those whose patient the file names."""

    texts: Texts
    patients: dict[str, str]


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
    """Study id → its reference texts, as `read_reference_file` reads them."""
    return read_reference_file(path, split, flag).texts


def read_reference_file(path: Path, split: str = "test", flag: str = "--references") -> References:
    """Reference texts and patients, of an R2Gen annotation file or the formats of predictions.

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
        entries = list(_split(content, split, source))
    else:
        entries = list(_entries(content, REFERENCE_COLUMNS, source))
    return References(_collect(entries, source), _patients(entries))


def patients_by_rule(studies: Iterable[str], pattern: str, flag: str = "--patient_of") -> dict[str, str]:
    """Study id → the part of it that a regular expression finds: its first group, or all that it matches.

    Raises:
        InputError: not a regular expression, or an id in which it finds nothing.
    """
    try:
        rule = re.compile(pattern)
    except (re.error, RecursionError) as error:
        raise InputError(f"{flag} {pattern}: not a regular expression: {error}") from None
    found = {}
    for study in studies:
        match = rule.search(study)
        patient = match[min(1, rule.groups)] if match is not None else None
        if not patient:
            raise InputError(f"{flag} {pattern}: finds nothing in the study id {study}")
        found[study] = patient
    return found


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
    limit = csv.field_size_limit(max(len(text), 1))  # the library's own limit would refuse a long text
    try:
        for row in rows:
            if None in row:
                raise InputError(
                    f"{source} line {rows.line_num}: has more fields than the header (quote texts with commas)"
                )
            yield f"{source} line {rows.line_num}", row
    except csv.Error as error:
        raise InputError(f"{source}: not CSV after line {rows.line_num}: {error}") from None
    finally:
        csv.field_size_limit(limit)


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
        yield Entry(place, str(record["id"]), record["report"], _patient_of(record))


def _entries(content: Any, columns: Sequence[str], source: str) -> Iterator[Entry]:
    """The studies of any format but an annotation."""
    if isinstance(content, dict):
        yield from (Entry(f"{source}: {study}", study, value) for study, value in content.items())
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
        yield Entry(place, str(study), named[str(column)], _patient_of(record))


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


def _patient_of(record: Mapping[Any, Any]) -> Any:
    """The record's patient under one of the names, None where there is none or nothing in it."""
    named = {_plain(name): value for name, value in record.items() if isinstance(name, str)}
    given = (named[name] for name in PATIENT_NAMES if named.get(name) is not None)
    return next((value for value in given if str(value).strip()), None)


def _patients(entries: Iterable[Entry]) -> dict[str, str]:
    """Study id → patient, for studies that name one."""
    found = {}
    for place, study, _, patient in entries:
        if patient is None:
            continue
        if not isinstance(patient, str | int) or isinstance(patient, bool):
            raise InputError(f"{place}: study {study}: patient must be a text, is {json.dumps(patient)[:60]}")
        found[study] = str(patient).strip()
    return found


def _collect(entries: Iterable[Entry], source: str) -> Texts:
    """Entries by id, each checked to be one text or a list of texts."""
    found: Texts = {}
    for place, study, value, _ in entries:
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
