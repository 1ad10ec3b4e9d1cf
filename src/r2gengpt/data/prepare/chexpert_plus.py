"""CheXpert Plus (its table of films and reports, and files of labels) to an annotation file. Opens no image.

Source: Chambon et al. 2024, "CheXpert Plus" (arXiv 2405.19538); github.com/Stanford-AIMI/chexpert-plus.
"""

import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path, PurePosixPath

from r2gengpt.data.annotation import Preparation
from r2gengpt.data.labels import NO_LABELS, Labels, read_labels
from r2gengpt.data.prepare.film_table import age_in, note_unread, sex_in, tell_unread
from r2gengpt.data.prepare.release import (
    FRONTAL,
    LATERAL,
    Output,
    Section,
    frontal_first,
    section_text,
    table_rows,
    tell_differing,
    text_of,
    write_release,
)
from r2gengpt.data.strict import open_text, parsed_json
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError

ORDER = "patient_report_date_order"
SHARED = (
    *(ORDER, "section_findings", "section_impression", "section_clinical_history", "section_history"),
    *("section_comparison", "age", "sex"),
)
"""Columns of which a study has one value."""
COLUMNS = ("path_to_image", "frontal_lateral", "ap_pa", "deid_patient_id", "split", *SHARED)
SOURCE = "chexpert_plus"
VAL_PERCENT = 2
"""Of the patients of `train`, by the hash of their names: the release has no third split."""
_PATH = re.compile(
    r"(?:.*/)?(?P<split>train|valid)/(?P<patient>patient\d{1,9})/(?P<study>study\d{1,9})/[^/]+\.\w{1,16}"
)
_EXACT = {"PA": "PA", "AP": "AP", "LL": LATERAL, "RL": LATERAL}
_KINDS = {"frontal": FRONTAL, "lateral": LATERAL, "": ""}


@dataclass(frozen=True)
class CheXpertFilm:
    """A row: the film's path, its study and view, and the cells that its study takes."""

    path: str
    study: str
    patient: str
    split: str
    view: str
    cells: Mapping[str, str]


def _film(cells: Mapping[str, str], where: str) -> CheXpertFilm:
    path = cells["path_to_image"]
    found = _PATH.fullmatch(path)
    if found is None or ".." in PurePosixPath(path).parts or path.startswith("/"):
        raise InputError(f"{where}: path_to_image is {path[:60]!r}: must be train|valid/patientN/studyN/FILE")
    patient, split = found["patient"], found["split"]
    for column, value in (("deid_patient_id", patient), ("split", split)):
        if cells[column] != value:
            raise InputError(f"{where}: {column} is {cells[column][:60]!r}, and path_to_image says {value}")
    kind, exact = cells["frontal_lateral"].lower(), cells["ap_pa"].upper()
    if kind not in _KINDS:
        raise InputError(f"{where}: frontal_lateral is {cells['frontal_lateral'][:60]!r}: must be Frontal or Lateral")
    view = _EXACT.get(exact, _KINDS[kind])
    return CheXpertFilm(path, f"{patient}_{found['study']}", patient, split, view, cells)


def read_label_lines(path: Path) -> dict[str, Labels]:
    """Film's path without its ending → its labels, of a file of JSON lines as `impression_fixed.json`.

    1 is present, 0 absent; -1 (uncertain) and null (not mentioned) are unknown.

    Raises:
        InputError: it cannot be read, or a line is no such object; names the line.
    """
    source = f"`labels` {path}"
    found: dict[str, Labels] = {}
    try:
        with open_text(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    name, labels = _label_line(line, f"{source}: line {number}")
                    if name in found:
                        raise InputError(f"{source}: line {number}: path_to_image {name} is given twice")
                    found[name] = labels
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{source}: cannot be read: {error}") from None
    return found


def _label_line(line: str, where: str) -> tuple[str, Labels]:
    record = parsed_json(line, where)
    path = record.get("path_to_image") if isinstance(record, dict) else None
    if not isinstance(path, str) or not PurePosixPath(path).name:
        raise InputError(f"{where}: must be an object with path_to_image")
    return _stem(path), read_labels({key: value for key, value in record.items() if key != "path_to_image"}, where)


def _stem(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))


def split_of(split: str, patient: str) -> str:
    """The release's `valid` is test, as ReXrank uses it; of its `train` two patients in a hundred are val.

    >>> split_of("valid", "patient1"), split_of("train", "patient1")
    ('test', 'train')
    """
    if split == "valid":
        return "test"
    number = int(hashlib.sha256(patient.encode()).hexdigest(), 16) % 100
    return "val" if number < VAL_PERCENT else "train"


def _study(films: Sequence[CheXpertFilm], labels: Labels, section: Section, output: Output) -> Study:
    """The study of its films; its texts stand in each of their rows."""
    first = films[0]
    paths, views = frontal_first((output.film(Path(film.path)), film.view) for film in films)
    findings, impression = (
        section_text(first.cells["section_findings"]),
        section_text(first.cells["section_impression"]),
    )
    return Study(
        id=first.study,
        image_paths=paths,
        report=text_of(section, findings, impression),
        split=split_of(first.split, first.patient),
        indication=section_text(first.cells["section_clinical_history"])
        or section_text(first.cells["section_history"]),
        findings=findings,
        impression=impression,
        views=views if any(views) else (),
        patient=first.patient,
        labels=labels,
        source=SOURCE,
        age=age_in(first.cells["age"]),
        sex=sex_in(first.cells["sex"]),
        comparison=section_text(first.cells["section_comparison"]),
    )


def _moments(studies: Mapping[str, Sequence[CheXpertFilm]]) -> dict[str, float]:
    """Study → its place among its patient's reports, where the table has a number."""
    orders = {name: films[0].cells[ORDER] for name, films in studies.items()}
    return {name: float(order) for name, order in orders.items() if re.fullmatch(r"\d{1,6}(?:\.0)?", order)}


def prepare_chexpert_plus(
    table: str | Path, output: Output, *, labels: str | Path | None = None, section: Section = "findings"
) -> Preparation:
    """Write an annotation file of CheXpert Plus.

    Args:
        table: df_chexpert_plus_240401.csv.
        output: the annotation file, and what is asked of the films.
        labels: a file of labels of the release, as impression_fixed.json; None: no labels.
        section: what becomes the report; studies without it are left out.

    Raises:
        InputError: a wrong input file, or no study left.
    """
    output.check()
    groups: dict[str, list[CheXpertFilm]] = {}
    for film in starmap(_film, table_rows(Path(table), COLUMNS, "path_to_image")):
        groups.setdefault(film.study, []).append(film)
    of_films = {} if labels is None else read_label_lines(Path(labels))
    skipped: Counter[str] = Counter()
    studies, labelled = [], 0
    unread: dict[str, list[str]] = {}
    moments = _moments(groups)
    for name, films in groups.items():
        of_study = next((found for film in films if (found := of_films.get(_stem(film.path)))), NO_LABELS)
        study = _study(films, of_study, section, output)
        for column, value in (("age", study.age), ("sex", study.sex), (ORDER, moments.get(name))):
            note_unread(unread, column, section_text(films[0].cells[column]), value, f"study {name}")
        if study.report:
            studies.append(study)
            labelled += bool(of_study)
        else:
            skipped[f"no {'text' if section == 'both' else section}"] += 1
    tell_unread(f"`table` {table}", unread)
    tell_differing(f"`table` {table}", {name: [film.cells for film in films] for name, films in groups.items()}, SHARED)
    notes = [] if labels is None else [f"{labelled} of {len(studies)} studies with labels"]
    return write_release(studies, output, source=f"`table` {table}", skipped=skipped, moments=moments, notes=notes)
