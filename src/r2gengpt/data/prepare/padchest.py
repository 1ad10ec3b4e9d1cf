"""PadChest's table of films, Spanish reports and labels to an annotation file. Translates nothing, opens no image.

A report of the release is one line of stemmed words, sentences apart by points; it stays as it is.
"""

import ast
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path

from r2gengpt.data.annotation import Preparation
from r2gengpt.data.labels import MAX_AGE, NO_LABELS, Labels
from r2gengpt.data.prepare.film_table import note_unread, sex_in, tell_unread
from r2gengpt.data.prepare.films import drawn_split
from r2gengpt.data.prepare.images import find_image
from r2gengpt.data.prepare.padchest_labels import EXCLUDE, labels_of
from r2gengpt.data.prepare.release import (
    LATERAL,
    Output,
    frontal_first,
    section_text,
    table_rows,
    tell_differing,
    write_release,
)
from r2gengpt.data.prepare.sources import film_facts
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError

DATE, BIRTH, SEX = "StudyDate_DICOM", "PatientBirth", "PatientSex_DICOM"
SHARED = (DATE, BIRTH, SEX, "Report", "MethodLabel", "Labels")
"""Columns of which a study has one value."""
COLUMNS = ("ImageID", "ImageDir", "StudyID", "PatientID", "Projection", *SHARED)
SOURCE = "padchest"
VIEWS: Mapping[str, str] = {"PA": "PA", "AP": "AP", "AP_HORIZONTAL": "AP", "L": LATERAL}
"""The release's projection → our view; films of another one are left out, as they show ribs or no chest."""
BY_PHYSICIANS = "physician"
MAX_LABELS = 10_000
"""Characters of a cell of labels."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]*")


@dataclass(frozen=True)
class PadChestFilm:
    """A row: where it stands, the film's name and folder, its view (empty: none of ours), and all its cells."""

    where: str
    image: str
    folder: str
    view: str
    cells: Mapping[str, str]


def _film(cells: Mapping[str, str], where: str) -> PadChestFilm:
    for column in ("ImageID", "StudyID", "PatientID"):
        if not _NAME.fullmatch(cells[column]):
            raise InputError(f"{where}: {column} is {cells[column][:60]!r}, which is no id")
    folder = cells["ImageDir"].removesuffix(".0")
    if not re.fullmatch(r"\d{0,4}", folder):
        raise InputError(f"{where}: ImageDir is {cells['ImageDir'][:60]!r}: must be the number of a folder")
    return PadChestFilm(where, cells["ImageID"], folder, VIEWS.get(cells["Projection"].upper(), ""), cells)


def words_in(cell: str, where: str) -> tuple[str, ...]:
    """The labels of a cell, which holds a list as Python writes it; none where it is empty.

    >>> words_in("['pacemaker', ' nodule']", "line 2")
    ('pacemaker', 'nodule')

    Raises:
        InputError: it holds something else.
    """
    if cell in ("", "nan"):
        return ()
    try:
        found = ast.literal_eval(cell) if len(cell) <= MAX_LABELS else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        found = None
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise InputError(f"{where}: Labels is {cell[:60]}: must be a list of texts")
    return tuple(word.strip() for word in found if word.strip())


def age_at(date: str, birth: str) -> float | None:
    """Full years between the years of birth and study; None where one is not known.

    >>> age_at("20140327", "1950.0"), age_at("", "1950")
    (64.0, None)
    """
    study, born = re.match(r"(\d{4})\d{4}$", date.removesuffix(".0")), re.match(r"(\d{4})$", birth.removesuffix(".0"))
    years = None if study is None or born is None else int(study[1]) - int(born[1])
    return float(years) if years is not None and 0 <= years <= MAX_AGE else None


def _labels(films: Sequence[PadChestFilm], words: Sequence[str], age: float | None, *, physicians_only: bool) -> Labels:
    """What the report's labels say, and what view and age say of a study of one film."""
    first = films[0]
    is_trusted = not physicians_only or first.cells["MethodLabel"].lower() == BY_PHYSICIANS
    said = labels_of(words) if is_trusted else NO_LABELS
    facts = film_facts(first.view if len(films) == 1 else "", age)
    return Labels({**said, **facts}) if said else NO_LABELS


def _study(films: Sequence[PadChestFilm], words: Sequence[str], output: Output, *, physicians_only: bool) -> Study:
    first = films[0]
    patient = first.cells["PatientID"]
    age = age_at(first.cells[DATE], first.cells[BIRTH])
    paths, views = frontal_first((output.film(_path(film, output)), film.view) for film in films)
    return Study(
        id=first.cells["StudyID"],
        image_paths=paths,
        report=section_text(first.cells["Report"]),
        split=drawn_split(f"{SOURCE} {patient}"),
        views=views,
        patient=patient,
        labels=_labels(films, words, age, physicians_only=physicians_only),
        source=SOURCE,
        age=age,
        sex=sex_in(first.cells[SEX]),
    )


def _path(film: PadChestFilm, output: Output) -> Path:
    """The film below its numbered folder, or beside all others where it lies so."""
    nested = Path(film.folder, film.image)
    if output.images_dir is not None and find_image(Path(output.images_dir), nested) is None:
        return Path(film.image)
    return nested


def prepare_padchest(table: str | Path, output: Output, *, physicians_only: bool = False) -> Preparation:
    """Write an annotation file of PadChest, split by patient: 20 % test, 10 % val, the same in every run.

    Args:
        table: PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.
        output: the annotation file, and what is asked of the films.
        physicians_only: leave labels away that a program gave.

    Raises:
        InputError: a wrong input file, or no study left.
    """
    output.check()
    groups: dict[str, list[PadChestFilm]] = {}
    others = 0
    for film in starmap(_film, table_rows(Path(table), COLUMNS, "ImageID")):
        group = groups.setdefault(film.cells["StudyID"], [])
        if group and group[0].cells["PatientID"] != film.cells["PatientID"]:
            raise InputError(f"{film.where}: study {film.cells['StudyID']} is of two patients")
        others += not film.view
        group.append(film)
    skipped: Counter[str] = Counter()
    studies, moments, unread = [], dict[str, float](), dict[str, list[str]]()
    for name, listed in groups.items():
        films = [film for film in listed if film.view]
        words = words_in(listed[0].cells["Labels"], listed[0].where)
        reason = _left_out(films, words, section_text(listed[0].cells["Report"]))
        if reason:
            skipped[reason] += 1
            continue
        study = _study(films, words, output, physicians_only=physicians_only)
        studies.append(study)
        cells = films[0].cells
        if re.fullmatch(r"\d{8}", date := cells[DATE].removesuffix(".0")):
            moments[name] = float(date)
            note_unread(unread, BIRTH, section_text(cells[BIRTH]), study.age, f"study {name}")
        note_unread(unread, DATE, section_text(cells[DATE]), moments.get(name), f"study {name}")
        note_unread(unread, SEX, section_text(cells[SEX]), study.sex, f"study {name}")
    tell_unread(f"`table` {table}", unread)
    tell_differing(f"`table` {table}", {name: [film.cells for film in films] for name, films in groups.items()}, SHARED)
    labelled = sum(bool(study.labels) for study in studies)
    notes = [f"{others} films of other projections left out", f"{labelled} of {len(studies)} studies with labels"]
    return write_release(studies, output, source=f"`table` {table}", skipped=skipped, moments=moments, notes=notes)


def _left_out(films: Sequence[PadChestFilm], words: Sequence[str], report: str) -> str:
    """Why a study is left out; empty where it is not."""
    if EXCLUDE in words:
        return "labelled exclude"
    if not films:
        return "no frontal or lateral film"
    return "" if report else "no report"
