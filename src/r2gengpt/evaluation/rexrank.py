"""Predictions in the layout that ReXrank's evaluation reads: its own records, each with the model's text. Scores none.

Source: github.com/rajpurkarlab/ReXrank, example_files/prediction.json and example_files/evaluation_script.md.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from r2gengpt.data.prepare.rexrank import read_rexrank
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.files import write_whole
from r2gengpt.report import Report
from r2gengpt.text.written import in_short

NAME = "rexrank.json"
PREDICTION = "model_prediction"
"""Under this name ReXrank's evaluation looks for a model's text."""

Records = Mapping[str, Mapping[str, Any]]
"""Study id → its record, as ReXrank's file has it."""


def records_of(path: Path, studies: Sequence[Study]) -> Records:
    """The records of ReXrank's file, which must be of just the studies that are written.

    Raises:
        InputError: it cannot be read, or its studies are others; names the first ones.
    """
    records, ids = read_rexrank(path, "rexrank"), {study.id for study in studies}
    for what, names in (
        ("studies of the split are not in it", [study.id for study in studies if study.id not in records]),
        ("of its studies are not in the split", [name for name in records if name not in ids]),
    ):
        if names:
            total = len(ids) if what.startswith("studies") else len(records)
            raise InputError(f"{len(names)} of {total} {what}: {in_short(names)}", field="rexrank", value=path)
    return records


def write_rexrank(path: Path, records: Records, reports: Iterable[Report]) -> None:
    """Write each record with its study's text, in the order of the records; NaN becomes null, which reads the same.

    Raises:
        InputError: the file can't be written.
    """
    texts = {report.id: report.text for report in reports}
    content = {name: _known(record) | {PREDICTION: texts[name]} for name, record in records.items()}
    write_whole(path, json.dumps(content, indent=4, allow_nan=False) + "\n", "output")


def _known(value: Any) -> Any:
    """A value of JSON with null for what is no number."""
    if isinstance(value, dict):
        return {key: _known(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_known(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
