"""Films with labels to an annotation file: what is known of each, whose it is, its split, its report if one is asked.

A film of ChestX-ray14 has 14 labels and no report. Opens no film.
"""

import hashlib
import itertools
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from r2gengpt.data.annotation import Preparation, write_prepared
from r2gengpt.data.prepare.composing import compose_report
from r2gengpt.data.prepare.film_table import HELD, NIH_SOURCE, FilmRow, read_films
from r2gengpt.data.prepare.images import check_directory, find_image, name_missing
from r2gengpt.data.prepare.notes import film_sentences
from r2gengpt.data.prepare.places import marked_in, places_in
from r2gengpt.data.prepare.release import with_priors
from r2gengpt.data.prepare.sources import KNOWN_SOURCES, SourceRule, film_labels, read_rules, rule_of
from r2gengpt.data.strict import nearly
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.files import check_writable_file

log = logging.getLogger("r2gengpt.prepare")
TEST_BELOW, VAL_BELOW = 20, 30
"""Of 100 groups that no split is given for, by the hash of their names."""
OFFICIAL = {"train_val_list.txt": "train", "test_list.txt": "test"}
"""ChestX-ray14's lists of films → the split."""
_FOLLOW_UP = re.compile(r"\d+_(\d+)", re.ASCII)
"""A film of ChestX-ray14: its patient, and how many were taken of the patient before."""


def drawn_split(group: str, *, test: bool = True) -> str:
    """The split of a group of films, by the hash of its name: 20 % test, 10 % val; the same in every run.

    Without `test`, the groups of test are train's: the test films are others.

    >>> drawn_split("g00000"), drawn_split("g00002"), drawn_split("g00006")
    ('train', 'train', 'train')
    """
    number = int(hashlib.sha256(group.encode()).hexdigest(), 16) % 100
    if number < TEST_BELOW:
        return "test" if test else "train"
    return "val" if number < VAL_BELOW else "train"


def splits_of(rows: Sequence[FilmRow], *, draw_test: bool = True) -> dict[str, str]:
    """Group → split: val or test where a row of it has that, else the drawn one. A group is never in two splits.

    Raises:
        InputError: rows of one group were given different ones, or a patient is in two groups.
    """
    firsts: dict[str, FilmRow] = {}
    groups: dict[tuple[str, str], FilmRow] = {}
    for row in rows:
        first = groups.setdefault((row.source, row.patient), row)
        if row.patient and first.group != row.group:
            raise InputError(f"{row.where}: a patient's films are in two groups, {first.group} and {row.group}")
        if row.split in HELD and firsts.setdefault(row.group, row).split != row.split:
            raise InputError(
                f"{row.where}: group {row.group} is in two splits, {firsts[row.group].split} and {row.split}"
            )
    return {
        row.group: firsts[row.group].split if row.group in firsts else drawn_split(row.group, test=draw_test)
        for row in rows
    }


def with_own_patients(rows: Sequence[FilmRow]) -> list[FilmRow]:
    """The rows, with the source before a patient's name that is in several groups: sources may number alike.

    An annotation knows patients by their names alone.
    """
    groups: dict[str, set[str]] = {}
    for row in rows:
        groups.setdefault(row.patient, set()).add(row.group)
    return [
        replace(row, patient=f"{row.source} {row.patient}".strip())
        if row.patient and len(groups[row.patient]) > 1
        else row
        for row in rows
    ]


def read_official(directory: Path) -> dict[str, str]:
    """Film → train or test, from ChestX-ray14's two lists.

    Raises:
        InputError: a list is not there, or a film is in both.
    """
    found: dict[str, str] = {}
    for name, split in OFFICIAL.items():
        try:
            films = (directory / name).read_text(encoding="utf-8-sig").split()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise InputError(f"`splits` {directory / name}: {reason}") from None
        if twice := next((film for film in films if found.get(film, split) != split), None):
            raise InputError(f"`splits` {directory}: {twice} is in both lists")
        found |= dict.fromkeys(films, split)
    return found


def _with_official(rows: Sequence[FilmRow], lists: Mapping[str, str], skipped: Counter[str]) -> list[FilmRow]:
    """The rows that a list names, those of the test list held to it; the others are drawn from train and val."""
    there = [row for row in rows if Path(row.image).name in lists]
    skipped["in no list of `splits`"] = len(rows) - len(there)
    return [replace(row, split="test" if lists[Path(row.image).name] == "test" else row.split) for row in there]


def _to_study(row: FilmRow, rule: SourceRule, split: str, seed: int | None) -> Study:
    """A film as a study; with a seed it has a report: its note's sentences, else some composed from its labels."""
    labels = film_labels(row.words, rule, row.where, note=row.note, view=row.view, age=row.age)
    report = ""
    if seed is not None:
        key = f"{seed} {row.study_id}"
        report = film_sentences(row.note) or compose_report(labels, key, places_in(row, rule.box_size))
    return Study(
        id=row.study_id,
        image_paths=(Path(row.image),),
        report=report,
        split=split,
        views=(row.view,) if row.view else (),
        patient=row.patient,
        labels=labels,
        source=row.source,
        age=row.age,
        sex=row.sex,
        boxes=marked_in(row, rule.box_size),
    )


def _tell_ruleless(rows: Sequence[FilmRow], known: Mapping[str, SourceRule], where: str) -> None:
    """A log line for each source that has no rule and looks like one that has."""
    for source, count in Counter(row.source for row in rows).items():
        for meant in nearly([source], tuple(known)).values():
            log.warning("%s: source %s of %d films has no rule (did you mean %s?)", where, source, count, meant)


def _tell_drawn(rows: Sequence[FilmRow], assigned: Mapping[str, str], where: str) -> None:
    """A log line of the films that are marked train and are not in it: a mark of val or test alone is kept."""
    drawn = [row for row in rows if row.split == "train" and assigned[row.group] != "train"]
    if drawn:
        log.warning(
            "%s: marked train, and in val or test by their group: %d films, first %s", where, len(drawn), drawn[0].image
        )


def _tell_unplaced(rows: Sequence[FilmRow], studies: Sequence[Study], where: str) -> None:
    """A log line of the films some of whose boxes the annotation does not get."""
    lost = [row for row, study in zip(rows, studies, strict=True) if len(study.boxes) < len(row.boxes)]
    if lost:
        log.warning(
            "%s: left out: boxes of %d films, which reach off the film or whose film's size is unknown, first of %s",
            *(where, len(lost), lost[0].image),
        )


def _follow_ups(studies: Sequence[Study]) -> dict[str, float]:
    """Study → its place among its patient's films; of ChestX-ray14 alone, whose names tell it."""
    names = {study.id: study.image_paths[0].stem for study in studies if study.source == NIH_SOURCE}
    return {name: float(found[1]) for name, stem in names.items() if (found := _FOLLOW_UP.fullmatch(stem))}


def _kept(studies: Sequence[Study], *, compose: bool, skipped: Counter[str]) -> list[Study]:
    """The studies of which something is known, and of which a report says it where one is asked for."""
    labelled = [study for study in studies if study.labels]
    skipped["no known label"] = len(studies) - len(labelled)
    with_report = [study for study in labelled if study.report or not compose]
    skipped["nothing to report"] = len(labelled) - len(with_report)
    return with_report


def _existing(studies: Sequence[Study], images: Path, skipped: Counter[str]) -> list[Study]:
    """The studies whose films are in the directory, or in a folder `images` of its folders, as ChestX-ray14 unpacks."""
    folders = [Path(), *(path.relative_to(images) for path in sorted(images.glob("images*/images")) if path.is_dir())]
    if (images / "images").is_dir():
        folders.append(Path("images"))
    kept, missing = [], []
    for study in studies:
        path = study.image_paths[0]
        named = (folder / path for folder in folders if (images / folder / path).is_file())
        others = (there for folder in folders if (there := find_image(images, folder / path)))
        found = next(itertools.chain(named, others), None)
        if found is None:
            missing.append(path)
        else:
            kept.append(replace(study, image_paths=(found,)))
    name_missing(missing, images)
    skipped["no image file"] = len(missing)
    return kept


def prepare_films(
    table: str | Path,
    output: str | Path,
    *,
    images: str | Path | None = None,
    splits: str | Path | None = None,
    rules: str | Path | None = None,
    compose: bool = False,
    seed: int = 0,
) -> Preparation:
    """Write an annotation file of films with labels.

    Args:
        table: ChestX-ray14's Data_Entry_2017.csv (or _v2020), or a CSV file with the columns image and labels (joined
            by |), and where there are source, patient, group, split, view, age, sex, text and boxes.
        output: the annotation file to write.
        images: where the films are. Given, those that are not there are left out. None leaves them unchecked.
        splits: the directory of ChestX-ray14's train_val_list.txt and test_list.txt; 10 % of the first one become val.
        rules: a JSON file of what the labels of further sources say (`sources.SourceRule`).
        compose: give each film a report: what its note says of it, else sentences composed from its labels.
        seed: of the wordings.

    Raises:
        InputError: a wrong input file, or no film left.
    """
    check_writable_file(Path(output), "output")
    check_directory(images, "images")
    known = KNOWN_SOURCES if rules is None else read_rules(Path(rules))
    skipped: Counter[str] = Counter()
    rows = listed = read_films(Path(table))
    if splits is not None:
        rows = _with_official(listed, read_official(Path(splits)), skipped)
    _tell_ruleless(rows, known, f"`table` {table}")
    assigned = splits_of(rows, draw_test=splits is None)
    _tell_drawn(rows, assigned, f"`table` {table}")
    rows, wording = with_own_patients(rows), seed if compose else None
    studies = [_to_study(row, rule_of(row.source, known), assigned[row.group], wording) for row in rows]
    _tell_unplaced(rows, studies, f"`table` {table}")
    studies = _kept(studies, compose=compose, skipped=skipped)
    if images is not None:
        studies = _existing(studies, Path(images), skipped)
    if not studies:
        raise InputError(f"`table` {table}: no study is left of {len(listed)} films: {dict(+skipped)}")
    studies = with_priors(studies, _follow_ups(studies))
    sources = Counter(study.source or "no source" for study in studies)
    note = ", ".join(f"{name} {count}" for name, count in sources.items())
    return write_prepared(output, studies, skipped, [note])
