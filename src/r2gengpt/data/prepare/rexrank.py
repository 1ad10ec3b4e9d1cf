"""ReXrank's test sets (JSON, one study a key) to an annotation file. Opens no image, and computes no score.

Source: github.com/rajpurkarlab/ReXrank, data/READMD.md and the files below data/.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2gengpt.data.annotation import Preparation
from r2gengpt.data.labels import is_number
from r2gengpt.data.prepare.film_table import age_in, note_unread, sex_in, tell_unread
from r2gengpt.data.prepare.release import (
    FRONTAL,
    LATERAL,
    Output,
    Section,
    frontal_first,
    section_text,
    tell_misspelt,
    text_of,
    write_release,
)
from r2gengpt.data.strict import read_json_object
from r2gengpt.data.study import Study, study_id
from r2gengpt.errors import InputError

VIEWS: Mapping[str, str] = {
    "frontal": FRONTAL,
    "antero-posterior": "AP",
    "postero-anterior": "PA",
    "lateral": LATERAL,
    "left lateral": LATERAL,
    "ap": "AP",
    "pa": "PA",
}
"""What the files call a view → ours; others ("Erect", NaN) are none."""
KEYS = (
    *("image_path", "section_findings", "section_impression", "context", "subject_id", "key_image_path", "split"),
    *("frontal_lateral", "ap_pa", "age", "sex", "section_clinical_history"),
)
"""What is read of a record."""
_CONTEXT = re.compile(
    r"(?:Age:(?P<age>.*?)\.)?\s*(?:Gender:\s*(?P<sex>\w*)\.?)?\s*(?:Indication:(?P<indication>.*?))?"
    r"\s*(?:Comparison:(?P<comparison>.*))?",
    re.DOTALL,
)
_PATIENTS = (re.compile(r"(?:^|/)(patient\d+)/"), re.compile(r"(?:^|/)p(\d{8})/"), re.compile(r"^(CXR\d+)_"))
"""Where paths of CheXpert Plus, MIMIC-CXR and IU X-ray name the patient."""


@dataclass(frozen=True)
class RexrankContext:
    """What a study's `context` says: age in years (None: none, or a range), sex, the two sections."""

    age: float | None
    sex: str
    indication: str
    comparison: str


def read_context(text: str) -> RexrankContext:
    """The parts of a context, each empty where it is not there.

    >>> read_context("Age:77.0.Gender:F.Indication: Cough. Comparison: None.")
    RexrankContext(age=77.0, sex='F', indication='Cough.', comparison='None.')
    """
    found = _CONTEXT.fullmatch(text.strip())
    parts = {} if found is None else found.groupdict(default="")
    return RexrankContext(
        age_in(parts.get("age", "").strip()),
        sex_in(parts.get("sex", "")),
        section_text(parts.get("indication", "")),
        section_text(parts.get("comparison", "")),
    )


def read_rexrank(path: str | Path, field: str) -> dict[str, dict[str, Any]]:
    """Study id → its record, as the file has it; what is used of it is checked.

    Raises:
        InputError: no JSON object of records, or a record without its films or its two sections.
    """
    where = f"`{field}` {path}"
    records = read_json_object(Path(path), where)
    for name, record in records.items():
        _check(record, f"{where}: study {name}")
    if not records:
        raise InputError(f"{where}: holds no studies")
    return records


def _check(record: Any, where: str) -> None:
    if not isinstance(record, dict):
        raise InputError(f"{where}: must be an object, is a {type(record).__name__}")
    paths = record.get("image_path")
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) for path in paths):
        raise InputError(f"{where}: image_path is {str(paths)[:60]}: must be a list of at least one path")
    for key in ("section_findings", "section_impression"):
        if key not in record:
            raise InputError(f"{where}: has no {key}")
        if not (record[key] is None or isinstance(record[key], str) or _is_nan(record[key])):
            raise InputError(f"{where}: {key} is {str(record[key])[:60]}: must be a text, NaN or null")
    if not isinstance(record.get("context", ""), str):
        raise InputError(f"{where}: context is {str(record['context'])[:60]}: must be a text")
    subject = record.get("subject_id", "")
    if study_id(_whole(subject)) is None and subject not in (None, "") and not _is_nan(subject):
        raise InputError(f"{where}: subject_id is {str(subject)[:60]}: must be a text or a whole number")
    key_image = record.get("key_image_path", paths[0])
    if key_image not in paths:
        raise InputError(f"{where}: key_image_path {str(key_image)[:60]} is none of image_path")


def _whole(value: object) -> object:
    """A number that tables have made a float, as the whole one that it was."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _film(text: str, where: str) -> Path:
    """A film's path below the image directory; MIMIC-CXR's begin with a slash there."""
    path = Path(text.lstrip("/"))
    if not path.name or ".." in path.parts or "\\" in text or "\0" in text:
        raise InputError(f"{where}: image_path {text[:60]!r}: must be a path below the image directory")
    return path


def _views(record: Mapping[str, Any]) -> list[str]:
    """The view of each film; all unknown where the file lists another number of views than of films."""
    kinds, exact = record.get("frontal_lateral"), record.get("ap_pa")
    count = len(record["image_path"])
    if not isinstance(kinds, list) or len(kinds) != count:
        return [""] * count
    known = exact if isinstance(exact, list) and len(exact) == count else [None] * count
    return [
        VIEWS.get(str(one).lower(), "") or VIEWS.get(str(kind).lower(), "")
        for one, kind in zip(known, kinds, strict=True)
    ]


def _patient(name: str, record: Mapping[str, Any]) -> str:
    """Whose study it is: its subject_id, else what its paths or its id name; empty where neither does."""
    if subject := study_id(_whole(record.get("subject_id"))):
        return subject
    texts = (record["image_path"][0], name)
    return next((found[1] for rule in _PATIENTS for text in texts if (found := rule.search(text))), "")


def _study(name: str, record: Mapping[str, Any], split: str, section: Section, output: Output, where: str) -> Study:
    named = record.get("split")
    if named not in (None, split, {"val": "valid"}.get(split)):
        raise InputError(f"{where}: split is {str(named)[:60]!r}: must be {split}, as the file was given as `{split}`")
    films = [output.film(_film(text, where)) for text in record["image_path"]]
    paths, views = frontal_first(zip(films, _views(record), strict=True))
    context = read_context(record.get("context", ""))
    findings, impression = section_text(record["section_findings"]), section_text(record["section_impression"])
    age, sex = record.get("age"), record.get("sex")
    return Study(
        id=name,
        image_paths=paths,
        report=text_of(section, findings, impression),
        split=split,
        indication=context.indication or section_text(record.get("section_clinical_history")),
        findings=findings,
        impression=impression,
        views=views if any(views) else (),
        patient=_patient(name, record),
        age=age_in(str(age)) if is_number(age) else context.age,
        sex=sex_in(sex) if isinstance(sex, str) else context.sex,
        comparison=context.comparison,
    )


def prepare_rexrank(
    test: str | Path, output: Output, *, val: str | Path | None = None, section: Section = "both"
) -> Preparation:
    """Write an annotation file of ReXrank's studies, whose train split is empty.

    Args:
        test: ReXrank's JSON of the studies to test on, as ReXRank_MIMICCXR_test.json.
        output: the annotation file, and what is asked of the films.
        val: another such file, whose studies become the validation split.
        section: what becomes the report; studies without it are left out.

    Raises:
        InputError: a wrong input file, or no study left.
    """
    output.check()
    skipped: Counter[str] = Counter()
    studies: list[Study] = []
    files: Sequence[tuple[str, str | Path | None]] = (("val", val), ("test", test))
    for split, path in files:
        records, unread = {} if path is None else read_rexrank(path, split), dict[str, list[str]]()
        for name, record in records.items():
            study = _study(name, record, split, section, output, f"`{split}` {path}: study {name}")
            if study.report:
                studies.append(study)
            else:
                skipped[f"no {'text' if section == 'both' else section}"] += 1
            parts = _CONTEXT.fullmatch(record.get("context", "").strip())
            for key, found in (("age", study.age), ("sex", study.sex), ("context", parts)):
                cell = record.get(key)
                note_unread(unread, key, "" if cell is None else section_text(str(cell)), found, f"study {name}")
        tell_unread(f"`{split}` {path}", unread)
        tell_misspelt(f"`{split}` {path}", records.values(), KEYS)
    return write_release(studies, output, source=f"`test` {test}", skipped=skipped)
