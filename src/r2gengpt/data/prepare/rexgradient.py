"""ReXGradient-160K's metadata (JSON, one study a key, a file a split) to an annotation file. Opens no image.

Source: Zhang et al. 2025, "ReXGradient-160K" (arXiv 2505.00228).
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r2gengpt.data.annotation import Preparation
from r2gengpt.data.prepare.film_table import age_in, note_unread, sex_in, tell_unread
from r2gengpt.data.prepare.release import (
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

FILES = {"train": "train", "valid": "val", "test": "test"}
"""How a file's name begins → our split."""
VIEWS: Mapping[str, str] = {
    **dict.fromkeys(("PA", "POSTERO_ANTERIOR"), "PA"),
    **dict.fromkeys(("AP", "AP AXIAL", "ANTERO_POSTERIOR"), "AP"),
    **dict.fromkeys(("LATERAL", "LAT", "LL"), LATERAL),
}
"""What the release calls a view → ours; others (UNKNOWN, OBLIQUE, DECUBITUS, …) are none."""
_SECTIONS = ("Indication", "Comparison", "Findings", "Impression")
KEYS = ("PatientID", "ImagePath", "ImageViewPosition", "PatientAge", "PatientSex", "StudyDate", *_SECTIONS)
"""What is read of a record."""
_DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})(?:[ T].*)?")


def metadata_files(release: Path) -> dict[str, Path]:
    """Split → its file, in the directory or in its folder `metadata`; splits without a file are not there.

    Raises:
        InputError: no directory, or none of the files is there.
    """
    if not release.is_dir():
        raise InputError("is no directory", field="release", value=release)
    found = {}
    for name, split in FILES.items():
        file = f"{name}_metadata_view_position.json"
        if path := next((path for path in (release / "metadata" / file, release / file) if path.is_file()), None):
            found[split] = path
    if not found:
        raise InputError(
            "has no train_, valid_ or test_metadata_view_position.json, nor has its folder metadata",
            field="release",
            value=release,
        )
    return found


def _text(record: Mapping[str, Any], key: str, where: str) -> str:
    value = record.get(key)
    if value is not None and not isinstance(value, str | float):
        raise InputError(f"{where}: {key} is {str(value)[:60]}: must be a text, NaN or null")
    return section_text(value)


def _film(text: Any, where: str) -> Path:
    """A film's path below the directory that holds `deid_png`: the release has it relative to its metadata."""
    path = Path(text.removeprefix("../")) if isinstance(text, str) else Path()
    if not path.name or path.is_absolute() or ".." in path.parts or "\\" in str(text) or "\0" in str(text):
        raise InputError(f"{where}: ImagePath {str(text)[:60]!r}: must be a path below deid_png")
    return path


def _views(value: Any, count: int, where: str) -> list[str]:
    """Our names of the views; all unknown where the record has none."""
    if value is None:
        return [""] * count
    if not isinstance(value, list) or len(value) != count:
        found = f"a list of {len(value)}" if isinstance(value, list) else str(value)[:60]
        raise InputError(f"{where}: ImageViewPosition is {found}: must name a view for each of {count} images")
    return [VIEWS.get(str(view).strip().upper(), "") for view in value]


def _study(record: Any, name: str, split: str, section: Section, output: Output, where: str) -> Study:
    if not isinstance(record, dict):
        raise InputError(f"{where}: must be an object, is a {type(record).__name__}")
    listed = record.get("ImagePath")
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{where}: ImagePath is {str(listed)[:60]}: must be a list of at least one path")
    patient = study_id(record.get("PatientID"))
    if patient is None:
        raise InputError(
            f"{where}: PatientID is {str(record.get('PatientID'))[:60]!r}: must be a text or a whole number"
        )
    films = [output.film(_film(text, where)) for text in listed]
    paths, views = frontal_first(zip(films, _views(record.get("ImageViewPosition"), len(films), where), strict=True))
    indication, comparison, findings, impression = (_text(record, key, where) for key in _SECTIONS)
    return Study(
        id=name,
        image_paths=paths,
        report=text_of(section, findings, impression),
        split=split,
        indication=indication,
        findings=findings,
        impression=impression,
        views=views if any(views) else (),
        patient=patient,
        age=age_in(str(record.get("PatientAge", "")).strip()),
        sex=sex_in(str(record.get("PatientSex", ""))),
        comparison=comparison,
    )


def moment_of(record: Mapping[str, Any]) -> float | None:
    """When a study was, as a number that grows with its date; None where the release has no date of it.

    >>> moment_of({"StudyDate": "20190704"}), moment_of({"StudyDate": "2019-07-04"}), moment_of({})
    (20190704.0, 20190704.0, None)
    """
    found = _DATE.fullmatch(str(record.get("StudyDate", "")).strip())
    return float("".join(found.groups())) if found else None


def prepare_rexgradient(release: str | Path, output: Output, *, section: Section = "findings") -> Preparation:
    """Write an annotation file of ReXGradient-160K with its own splits.

    Args:
        release: the directory with the metadata files, or the one above it.
        output: the annotation file, and what is asked of the films.
        section: what becomes the report; studies without it are left out.

    Raises:
        InputError: a wrong input file, or no study left.
    """
    output.check()
    skipped: Counter[str] = Counter()
    moments: dict[str, float] = {}
    studies = []
    for split, path in metadata_files(Path(release)).items():
        source = f"`release` {path}"
        records, unread = read_json_object(path, source), dict[str, list[str]]()
        for name, record in records.items():
            study = _study(record, name, split, section, output, f"{source}: study {name}")
            if not study.report:
                skipped[f"no {'text' if section == 'both' else section}"] += 1
                continue
            studies.append(study)
            if (moment := moment_of(record)) is not None:
                moments[name] = moment
            for key, found in (("PatientAge", study.age), ("PatientSex", study.sex), ("StudyDate", moment)):
                cell = record.get(key)
                note_unread(unread, key, "" if cell is None else section_text(str(cell)), found, f"study {name}")
        tell_unread(source, unread)
        tell_misspelt(source, records.values(), KEYS)
    return write_release(studies, output, source=f"`release` {release}", skipped=skipped, moments=moments)
