"""Predictions and references as files: our JSON lines, the original's and ReXrank's JSON, CSV, R2Gen's. No scoring."""

import io
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from r2gengpt.data.strict import by_plain_name, column_of, misspelt, parsed_json, plain, read_table, read_text
from r2gengpt.data.study import PATIENT_NAMES, patient_key, study_id
from r2gengpt.errors import InputError
from r2gengpt.files import write_whole
from r2gengpt.report import Report
from r2gengpt.text.written import json_text, shown

log = logging.getLogger("r2gengpt.score")
SPLITS = ("train", "val", "test")
Columns = tuple[tuple[str, ...], ...]
_ANY_TEXT = ("report", "text", "caption")
ID_COLUMNS: Columns = (("id", "study_id", "uid"), ("image_id", "dicom_id"))
PREDICTION_COLUMNS: Columns = (
    ("prediction", "hypothesis", "generated", "generated_report", "model_prediction"),
    _ANY_TEXT,
)
REFERENCE_COLUMNS: Columns = (("reference", "ground_truth"), _ANY_TEXT, ("findings",))
"""Column names by meaning, in the order they are looked for; two of one meaning are refused (`data.tables`)."""

_OF_PATIENTS = ("patient_age", "patient_sex", "patient_gender", "patient_name")
"""What files tell of a patient and nothing reads here."""

Texts = dict[str, tuple[str, ...]]


class Entry(NamedTuple):
    """One study of a file: where it stands (for messages), its id, its text or texts, its patient, its record's keys.

    A study without a record has no keys.
    """

    place: str
    study: str
    value: Any
    patient: Any = None
    keys: tuple[Any, ...] = ()


@dataclass(frozen=True)
class References:
    """Study id → its reference texts, and study id → patient for those whose patient the file names."""

    texts: Texts
    patients: dict[str, str]


def write_predictions(path: Path, predictions: Iterable[Report]) -> None:
    """Write one JSON object a line, whole or not at all.

    Raises:
        InputError: the file can't be written.
        ValueError: an id occurs twice, or a number is not finite; nothing is written.
    """
    lines: dict[str, str] = {}
    for report in predictions:
        if report.id in lines:
            raise ValueError(f"two predictions of study {report.id}")
        lines[report.id] = json_text(report.to_prediction()) + "\n"
    write_whole(path, "".join(lines.values()), "output")


def read_predictions(path: Path, field: str = "predictions") -> dict[str, str]:
    """Study id → generated text, of JSON lines, a JSON object of `{"id": ["text"]}`, or CSV.

    Raises:
        InputError: the file can't be read, or an id or text is missing, given twice or not a text.
    """
    source = f"`{field}` {path}"
    return _predictions(_content(path, source), source)


def _predictions(content: Any, source: str) -> dict[str, str]:
    if isinstance(content, dict) and _is_annotation(content):
        raise InputError(f"{source}: is an annotation file (train, val, test), not predictions")
    found = _collect(_entries(content, PREDICTION_COLUMNS, source), source)
    for study, texts in found.items():
        if len(texts) != 1:
            raise InputError(f"{source}: study {study} has {len(texts)} predictions, must have one")
    return {study: texts[0] for study, texts in found.items()}


def read_references(path: Path, split: str | None = None, field: str = "references") -> Texts:
    """Study id → its reference texts, as `read_reference_file` reads them."""
    return read_reference_file(path, split, field).texts


def read_reference_file(path: Path, split: str | None = None, field: str = "references") -> References:
    """Reference texts and patients, of an R2Gen annotation file or the formats of predictions.

    Args:
        path: the file.
        split: which split of an annotation file, None: test. Other formats have no splits.
        field: named in error messages.

    Raises:
        InputError: as `read_predictions`, or the file has no such split, or no splits where one is asked for.
    """
    source = f"`{field}` {path}"
    return _references(_content(path, source), split, source)


def read_scored(path: Path, split: str | None, field: str = "predictions") -> tuple[dict[str, str], References]:
    """Predictions and the references that the same file holds. It is read once, so it may be a pipe.

    Raises:
        InputError: as `read_reference_file` and `read_predictions`.
    """
    source = f"`{field}` {path}"
    content = _content(path, source)
    references = _references(content, split, source)
    return _predictions(content, source), references


def _references(content: Any, split: str | None, source: str) -> References:
    if isinstance(content, dict) and _is_annotation(content):
        entries = list(_split(content, split or "test", source))
    elif split is not None:
        raise InputError(
            f"has no effect: {source} is no annotation file, and has no splits", field="split", value=split
        )
    else:
        entries = list(_entries(content, REFERENCE_COLUMNS, source))
    _tell_misspelt(entries, source)
    return References(_collect(entries, source), _patients(entries))


def _tell_misspelt(entries: Iterable[Entry], source: str) -> None:
    """A log line for each key that is hardly meant to be none of the patient's, of records that name no patient."""
    nameless = [entry.keys for entry in entries if not set(PATIENT_NAMES) & set(entry.keys)]
    for (key, meant), count in misspelt(nameless, (*PATIENT_NAMES, *_OF_PATIENTS)).items():
        if meant in PATIENT_NAMES:
            log.warning("%s: %s of %d studies is not read (did you mean %s?)", source, key, count, meant)


def patients_by_rule(studies: Iterable[str], pattern: str) -> dict[str, str]:
    """Study id → the part of it that a regular expression finds: its first group, or all that it matches.

    Raises:
        InputError: not a regular expression, or an id in which it finds nothing.
    """
    try:
        rule = re.compile(pattern)
    except (re.error, RecursionError) as error:
        raise InputError(f"not a regular expression: {error}", field="patient_of", value=pattern) from None
    found = {}
    for study in studies:
        match = rule.search(study)
        patient = match[min(1, rule.groups)] if match is not None else None
        if not patient:
            raise InputError(f"finds nothing in the study id {study}", field="patient_of", value=pattern)
        found[study] = patient
    return found


def read_train_reports(path: Path, field: str = "train") -> list[str]:
    """The reports of an annotation file's train split; studies with labels only have none to give.

    Raises:
        InputError: not an annotation file, or its train split is empty.
    """
    source = f"`{field}` {path}"
    content = _content(path, source)
    if not isinstance(content, dict) or not _is_annotation(content):
        raise InputError(f"{source}: must be an annotation file with a train split")
    written = {**content, "train": [record for record in content.get("train") or () if not is_label_only(record)]}
    return [texts[0] for texts in _collect(_split(written, "train", source), source).values()]


def is_label_only(record: Mapping[str, Any]) -> bool:
    """Whether a study's record in an annotation file has labels and no report."""
    report = record.get("report")
    return bool(record.get("labels")) and (report is None or (isinstance(report, str) and not report.strip()))


def _content(path: Path, source: str) -> Any:
    """A JSON value, a list of (place, record) of JSON lines, or of CSV rows.

    A file that starts like JSON is JSON; whatever else is CSV with a header.
    """
    text = read_text(path, source)
    if not text.strip():
        raise InputError(f"{source}: is empty")
    if text.lstrip()[0] not in "{[":
        return list(_csv_rows(text, source))
    try:
        value = parsed_json(text, source)
    except InputError as error:
        if "not JSON: Extra data" not in str(error):
            raise
        return list(_json_lines(text, source))
    return [(source, value)] if isinstance(value, dict) and _is_record(value) else value


def _is_record(value: Mapping[str, Any]) -> bool:
    """Whether a JSON object is the record of one study (a file of one JSON line), not texts by study id."""
    names = {name for group in ID_COLUMNS for name in group}
    return any(plain(key) in names and not isinstance(item, list) for key, item in value.items())


def _json_lines(text: str, source: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            place = f"{source} line {number}"
            yield place, parsed_json(line, place)


def _csv_rows(text: str, source: str) -> Iterator[tuple[str, Any]]:
    for row in read_table(io.StringIO(text, newline=""), source).rows:
        yield f"{source} line {row.line}", row.cells


def _is_annotation(content: Mapping[str, Any]) -> bool:
    """Whether a JSON object has R2Gen's splits: lists of objects under at least one of their names."""
    splits = [content[name] for name in SPLITS if content.get(name) is not None]
    return bool(splits) and all(isinstance(s, list) and all(isinstance(r, dict) for r in s) for s in splits)


def _split(content: Mapping[str, Any], split: str, source: str) -> Iterator[Entry]:
    if not content.get(split):
        have = ", ".join(f"{name} ({len(content[name])})" for name in SPLITS if content.get(name) is not None)
        raise InputError(f"{source}: no studies in split {split}; it has {have}")
    for number, record in enumerate(content[split]):
        place = f"{source}: {split}[{number}]"
        if "id" not in record or "report" not in record:
            raise InputError(f"{place} has no {'report' if 'id' in record else 'id'}")
        yield Entry(place, _checked_id(record["id"], place), record["report"], _patient_of(record, place), (*record,))


def _entries(content: Any, columns: Columns, source: str) -> Iterator[Entry]:
    """The studies of any format but an annotation."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield _keyed(key, value, columns, source)
        return
    if not isinstance(content, list):
        raise InputError(f"{source}: must hold a JSON object, JSON lines or CSV")
    for number, item in enumerate(content):
        place, record = item if isinstance(item, tuple) else (f"{source}: [{number}]", item)
        if not isinstance(record, dict):
            raise InputError(f"{place}: must be an object, is {json.dumps(record)[:60]}")
        named = by_plain_name(record, place)
        column = _column(named, ID_COLUMNS, place)
        study = _checked_id(named[column], place, column)
        yield Entry(place, study, named[_column(named, columns, place)], _patient_of(named, place), (*named,))


def _keyed(key: str, value: Any, columns: Columns, source: str) -> Entry:
    """A study of an object by id: its text or texts, or a record that holds them, as ReXrank has it."""
    place, study = f"{source}: {key}", _checked_id(key, source)
    if not isinstance(value, dict):
        return Entry(place, study, value)
    named = by_plain_name(value, place)
    return Entry(place, study, named[_column(named, columns, place)], _patient_of(named, place), (*named,))


def _column(named: Mapping[str, Any], columns: Columns, place: str) -> str:
    """The column of a record that is one of these.

    Raises:
        InputError: there is none, or two columns hold something.
    """
    column = column_of(named, columns, place)
    if column is None:
        names = ", ".join(name for group in columns for name in group)
        raise InputError(f"{place}: needs one of {names}; it has {', '.join(named) or 'nothing'}")
    return column


def _checked_id(value: Any, place: str, name: str = "id") -> str:
    study = study_id(value)
    if study is None:
        raise InputError(f"{place}: {name} is {json.dumps(value)[:60]}, must be a text or a whole number, not empty")
    return study


def _patient_of(named: Mapping[str, Any], place: str) -> Any:
    """The record's patient under one of the names, None where there is none or nothing in it."""
    key = patient_key(named, place)
    return None if key is None else named[key]


def _patients(entries: Iterable[Entry]) -> dict[str, str]:
    """Study id → patient, for studies that name one."""
    found = {}
    for place, study, _, patient, _ in entries:
        if patient is None:
            continue
        if not isinstance(patient, str | int) or isinstance(patient, bool):
            raise InputError(f"{place}: study {study}: patient must be a text, is {json.dumps(patient)[:60]}")
        found[study] = str(patient).strip()
    return found


def _collect(entries: Iterable[Entry], source: str) -> Texts:
    """Entries by id, each checked to be one text or a list of texts."""
    found: Texts = {}
    for place, study, value, *_ in entries:
        texts = value if isinstance(value, list) else [value]
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"{place}: study {study}: must be a text, is {json.dumps(text)[:60]}")
        if any(shown(text) != text for text in (study, *texts)):
            raise InputError(f"{place}: study {study}: holds half a surrogate pair, which is no character")
        if study in found:
            raise InputError(f"{place}: study {study} is given twice")
        found[study] = tuple(texts)
    if not found:
        raise InputError(f"{source}: holds no studies")
    return found
