"""MIMIC-CXR's csv and report files, as PhysioNet releases them, to an annotation file. Opens no image.

Read are `mimic-cxr-2.0.0-split.csv` and `mimic-cxr-2.0.0-metadata.csv` (also as `.csv.gz`) of MIMIC-CXR-JPG, and the
reports of MIMIC-CXR, as the directory `files/p10/p10000032/s50414267.txt` or as `mimic-cxr-reports.zip` unopened.
"""

import logging
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from r2gengpt.data.annotation import Preparation, write_prepared
from r2gengpt.data.prepare.images import check_directory, check_ending
from r2gengpt.data.prepare.release import Section, check_studies, has_words, on_disk, table_rows, text_of, with_priors
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.files import check_writable_file
from r2gengpt.films.context import date_in
from r2gengpt.text.sections import ReportSections, parse_sections

log = logging.getLogger("r2gengpt.prepare")

OFFICIAL = {"train": "train", "validate": "val", "test": "test"}
"""The release's name of a split → ours."""
FRONTAL_FIRST = ("PA", "AP", "LATERAL", "LL")
"""Order of a study's views; others come last."""
MAX_REPORT_BYTES = 2**20
NO_UTF8 = "\ufffd"
"""What stands for bytes of a report that are not UTF-8."""

TIMES = ("StudyDate", "StudyTime")
"""Columns of the metadata that tell when a study was taken; a table without them tells of no earlier study."""
_NUMBER = re.compile(r"\d{1,12}")
_DICOM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")

ReportReader = Callable[[str], str | None]
"""Name as `files/p10/p10000032/s50414267.txt` → text, or None where there is no such file."""


@dataclass(frozen=True)
class ImageRow:
    """One image of the release: a row of the split file, its view position from the metadata.

    `moment` is when its study was taken, in days, by the release's own shifted dates; None where it is not told.
    """

    dicom_id: str
    study_id: str
    subject_id: str
    split: str
    view: str = ""
    moment: float | None = None

    @property
    def folder(self) -> str:
        """The study's folder of images; its report lies beside it, with the ending .txt."""
        return f"files/p{self.subject_id[:2]}/p{self.subject_id}/s{self.study_id}"


def _find_table(release: Path, name: str) -> Path:
    """The csv file of this name, packed or not."""
    for path in (release / f"{name}.csv.gz", release / f"{name}.csv"):
        if path.is_file():
            return path
    raise InputError(f"has no {name}.csv or {name}.csv.gz", field="release", value=release)


def read_images(release: str | Path) -> list[ImageRow]:
    """The images of the release in the split file's order, with the view position from the metadata file.

    Raises:
        InputError: a file is missing, cut off, lacks a column, or a row holds what is no id or split.
    """
    metadata = _find_table(Path(release), "mimic-cxr-2.0.0-metadata")
    described = table_rows(metadata, ("dicom_id", "ViewPosition"), "dicom_id", field="release", optional=TIMES)
    rows = {row["dicom_id"]: row for row, _ in described}
    table = _find_table(Path(release), "mimic-cxr-2.0.0-split")
    columns = ("dicom_id", "study_id", "subject_id", "split")
    images = [_image_row(*row, rows) for row in table_rows(table, columns, "dicom_id", field="release")]
    placed = {image.dicom_id for image in images}
    if unplaced := rows.keys() - placed:
        log.warning("left out: %d images of %s are in no split, first %s", len(unplaced), metadata, min(unplaced))
    if untold := placed - rows.keys():
        log.warning("of unknown view and date: %d images that %s lacks, first %s", len(untold), metadata, min(untold))
    days = [row[TIMES[0]] for row in rows.values() if row[TIMES[0]]]
    if undated := [day for day in days if date_in(day) is None]:
        log.warning("of unknown date: %d images of %s, first StudyDate %r", len(undated), metadata, undated[0])
    return images


def _image_row(row: dict[str, str], where: str, rows: Mapping[str, Mapping[str, str]]) -> ImageRow:
    for column, pattern in (("dicom_id", _DICOM_ID), ("study_id", _NUMBER), ("subject_id", _NUMBER)):
        if not pattern.fullmatch(row[column]):
            raise InputError(f"{where}: {column} is {row[column][:60]!r}, which is no id")
    if row["split"] not in OFFICIAL:
        raise InputError(f"{where}: split is {row['split'][:60]!r}: must be one of {', '.join(OFFICIAL)}")
    about = rows.get(row["dicom_id"], {})
    moment = moment_of(*(about.get(name, "") for name in TIMES))
    return ImageRow(**{**row, "split": OFFICIAL[row["split"]]}, view=about.get("ViewPosition", ""), moment=moment)


def moment_of(day: str, time: str) -> float | None:
    """When a study was taken, in days, by the metadata's StudyDate and StudyTime (HHMMSS.fff, zeros in front left out).

    >>> moment_of("21800506", "213014.531") - moment_of("21800506", "93014")
    0.5

    None where it is no date; without a time it is the day's begin.
    """
    found = date_in(day)
    if found is None:
        return None
    digits = time.partition(".")[0].zfill(6)
    clock = re.fullmatch("([01][0-9]|2[0-3])([0-5][0-9])([0-5][0-9])", digits)
    seconds = 0 if clock is None else 3600 * int(clock[1]) + 60 * int(clock[2]) + int(clock[3])
    return found.toordinal() + seconds / 86400


def _read_from_directory(reports: Path, name: str) -> str | None:
    path = reports / name
    try:
        if not path.is_file():
            return None
        size = path.stat().st_size
        if size > MAX_REPORT_BYTES:
            raise InputError(f"is {size} bytes large: at most {MAX_REPORT_BYTES}", field="reports", value=path)
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{error.strerror or error}", field="reports", value=path) from None


def _read_from_zip(archive: zipfile.ZipFile, name: str) -> str | None:
    try:
        size = archive.getinfo(name).file_size
        if size > MAX_REPORT_BYTES:
            raise InputError(
                f"{name} is {size} bytes large: at most {MAX_REPORT_BYTES}", field="reports", value=archive.filename
            )
        return archive.read(name).decode("utf-8", errors="replace")
    except KeyError:
        return None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # a password, a form of packing
        raise InputError(f"{name} cannot be read: {error}", field="reports", value=archive.filename) from None


@contextmanager
def open_reports(reports: str | Path) -> Iterator[ReportReader]:
    """A reader of reports from the directory that holds `files/`, or from the release's zip file.

    Bytes that are not UTF-8 become replacement characters.

    Raises:
        InputError: neither a directory nor a zip file.
    """
    path = Path(reports)
    if path.is_dir():
        yield partial(_read_from_directory, path)
        return
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise InputError(f"{error.strerror or error}", field="reports", value=path) from None
    except zipfile.BadZipFile as error:
        raise InputError(f"neither a directory nor a zip file: {error}", field="reports", value=path) from None
    with archive:
        yield partial(_read_from_zip, archive)


def _text(sections: ReportSections, section: Section) -> str:
    """What becomes the report."""
    findings, impression = (text if has_words(text) else "" for text in (sections.findings, sections.impression))
    return text_of(section, findings, impression)


def _view_order(image: ImageRow) -> tuple[int, str]:
    known = FRONTAL_FIRST.index(image.view) if image.view in FRONTAL_FIRST else len(FRONTAL_FIRST)
    return known, image.dicom_id


def _to_study(images: Sequence[ImageRow], sections: ReportSections, section: Section, image_ext: str) -> Study:
    """One study of the release with all its views."""
    ordered = sorted(images, key=_view_order)
    return Study(
        id=f"s{ordered[0].study_id}",
        image_paths=tuple(Path(image.folder, f"{image.dicom_id}.{image_ext}") for image in ordered),
        report=_text(sections, section),
        split=ordered[0].split,
        indication=sections.indication,
        technique=sections.technique,
        comparison=sections.comparison,
        findings=sections.findings,
        impression=sections.impression,
        views=tuple(image.view for image in ordered),
        patient=ordered[0].subject_id,
    )


def _one_image_each(study: Study) -> list[Study]:
    """The study once for each of its images, under the image's id, as R2Gen's MIMIC-CXR annotation has it."""
    return [
        replace(study, id=path.stem, image_paths=(path,), views=(view,))
        for path, view in zip(study.image_paths, study.views, strict=True)
    ]


def _read_studies(
    images: Sequence[ImageRow], read: ReportReader, section: Section, image_ext: str, skipped: Counter[str]
) -> list[Study]:
    """The studies whose reports have the section; the others are counted in `skipped`."""
    groups: dict[tuple[str, str], list[ImageRow]] = {}
    for image in images:
        groups.setdefault((image.folder, image.split), []).append(image)
    studies, garbled = [], list[str]()
    for done, ((folder, _), group) in enumerate(groups.items(), 1):
        if done % 20_000 == 0:
            log.info("%d of %d reports read", done, len(groups))
        report = read(f"{folder}.txt")
        if report is None:
            skipped["no report file"] += 1
            continue
        if NO_UTF8 in report:
            garbled.append(folder)
        study = _to_study(group, parse_sections(report), section, image_ext)
        if not study.report:
            skipped[f"no {'text' if section == 'both' else section}"] += 1
            continue
        studies.append(study)
    if garbled:
        log.warning("not UTF-8: %d reports have %s for some bytes, first %s.txt", len(garbled), NO_UTF8, garbled[0])
    return studies


def _moments(images: Sequence[ImageRow], *, one_image: bool) -> dict[str, float]:
    """When each study was taken, by its earliest image; the films of one study are at one moment, none before another.

    The keys are ids of studies, or with `one_image` those of films.
    """
    first: dict[str, float] = {}
    for image in images:
        if image.moment is not None:
            first[image.study_id] = min(image.moment, first.get(image.study_id, image.moment))
    return {
        image.dicom_id if one_image else f"s{image.study_id}": first[image.study_id]
        for image in images
        if image.study_id in first
    }


def prepare_mimic_cxr(
    release: str | Path,
    output: str | Path,
    *,
    reports: str | Path | None = None,
    section: Section = "findings",
    one_image: bool = False,
    images_dir: str | Path | None = None,
    image_ext: str = "jpg",
) -> Preparation:
    """Write an annotation file of MIMIC-CXR with its official split.

    Args:
        release: the directory with the csv files.
        output: the annotation file to write.
        reports: the directory that holds the reports' `files/`, or the release's zip file; None: `release`.
        section: what becomes the report: "findings" (as in R2Gen), "impression", or "both" joined (what there is of
            them). Studies whose report lacks it are left out and counted.
        one_image: one example an image instead of one a study, as in R2Gen.
        images_dir: where the images' `files/` is. Given, views whose files do not exist are left out, and so are
            studies without any left. None leaves the files unchecked.
        image_ext: the ending of image files; a file of another one is taken by its bytes where `images_dir` is given.

    Raises:
        InputError: a wrong input file, a study or patient in two splits, or no study left.
    """
    check_ending(image_ext)
    check_writable_file(Path(output), "output")
    check_directory(images_dir, "images_dir")
    images = read_images(release)
    skipped: Counter[str] = Counter()
    with open_reports(reports or release) as read:
        listed = _read_studies(images, read, section, image_ext, skipped)
    found, notes = on_disk(listed, images_dir)
    kept = [study for study in found if study.image_paths]
    skipped["no image file"] = len(found) - len(kept)
    if not kept:
        raise InputError(f"no study is left of {len(images)} images: {dict(+skipped)}", field="release", value=release)
    check_studies(kept, f"`release` {release}")
    examples = [example for study in kept for example in (_one_image_each(study) if one_image else [study])]
    examples = with_priors(examples, _moments(images, one_image=one_image), in_days=True)
    return write_prepared(output, examples, skipped, notes)
