"""Studies of a release on their way to an annotation file: films found, splits held apart, priors. Reads no table."""

import hashlib
import logging
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from r2gengpt.data.annotation import Preparation, write_prepared
from r2gengpt.data.prepare.images import check_directory, check_ending, find_image, name_missing
from r2gengpt.data.strict import misspelt, open_text, read_table
from r2gengpt.data.study import Study, study_id
from r2gengpt.errors import InputError
from r2gengpt.files import check_writable_file, open_regular

log = logging.getLogger("r2gengpt.prepare")
Section = Literal["findings", "impression", "both"]
SECTIONS: tuple[Section, ...] = ("findings", "impression", "both")
FRONTAL, LATERAL = "FRONTAL", "LATERAL"
"""Views of which a release tells no more."""
FRONTAL_FIRST = ("PA", "AP", FRONTAL, LATERAL)
"""Order of a study's views; others come last."""
SHARED_WORDS = 12
"""Words from which a text that two splits share counts: shorter ones are set phrases of normal reports."""
CHUNK = 2**20
"""Bytes read at once."""
HELD_OUT_FIRST = ("test", "val", "train")
"""The split that keeps what two splits share, first."""


@dataclass(frozen=True)
class Output:
    """Where an annotation goes and what is asked of its films and texts.

    Attributes:
        path: the annotation file to write.
        images_dir: where the films are. Given, those that are not there are left out, and the same film in two splits
            is found by its bytes. None leaves them unchecked.
        image_ext: the ending that films get in place of the release's; None: as the release has it.
        keep_shared_texts: whether a training study may have the text of a held-out one.
    """

    path: str | Path
    images_dir: str | Path | None = None
    image_ext: str | None = None
    keep_shared_texts: bool = False

    def check(self) -> None:
        """Refuse what cannot be written or read, before a release is read.

        Raises:
            InputError: so it is.
        """
        check_writable_file(Path(self.path), "output")
        if self.image_ext is not None:
            check_ending(self.image_ext)
        check_directory(self.images_dir, "images_dir")

    def film(self, path: Path) -> Path:
        """A film's path with the ending that is asked for."""
        return path if self.image_ext is None else path.with_suffix(f".{self.image_ext}")


def text_of(section: Section, findings: str, impression: str) -> str:
    """What becomes the report; both sections are joined by a blank, or one stands alone.

    >>> text_of("both", "Clear.", "Normal."), text_of("both", "", "Normal."), text_of("findings", "", "Normal.")
    ('Clear. Normal.', 'Normal.', '')
    """
    return " ".join(
        filter(None, {"findings": [findings], "impression": [impression]}.get(section, [findings, impression]))
    )


def section_text(value: object) -> str:
    """A section's text on one line; empty where a release writes that it has none.

    >>> section_text(" Clear\\nlungs. "), section_text("nan"), section_text(float("nan")), section_text(None)
    ('Clear lungs.', '', '', '')
    """
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return text if has_words(text) and text.lower() not in ("nan", "none") else ""


def has_words(text: str) -> bool:
    """Whether a text holds more than signs and what stands for words that were taken out, `___` or XXXX.

    >>> has_words("Clear."), has_words("___ ."), has_words("XXXX. XXXX"), has_words("X")
    (True, False, False, True)
    """
    return re.search(r"[^\W_]", re.sub(r"\bX{2,}\b", "", text)) is not None


def tell_differing(source: str, studies: Mapping[str, Sequence[Mapping[str, str]]], columns: Sequence[str]) -> None:
    """A log line for each column in which rows of one study differ, as the first row counts.

    Args:
        source: begins the lines.
        studies: the cells of each row, by the study's name.
        columns: those that a study has one value of.
    """
    for column in columns:
        differing = [name for name, rows in studies.items() if len({row[column] for row in rows}) > 1]
        if differing:
            log.warning(
                "%s: rows of one study differ in %s, and the first one counts: %d studies, first %s",
                *(source, column, len(differing), differing[0]),
            )


def tell_misspelt(source: str, records: Iterable[Mapping[str, object]], known: Sequence[str]) -> None:
    """A log line for each key of records that is not read and looks like one that is."""
    for (key, meant), count in misspelt(records, known).items():
        log.warning("%s: %s of %d studies is not read (did you mean %s?)", source, key, count, meant)


def view_order(view: str) -> int:
    """The place of a view in its study, frontal ones first."""
    return FRONTAL_FIRST.index(view) if view in FRONTAL_FIRST else len(FRONTAL_FIRST)


def frontal_first(films: Iterable[tuple[Path, str]]) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Films and their views, the frontal ones first."""
    ordered = sorted(films, key=lambda film: view_order(film[1]))
    return tuple(path for path, _ in ordered), tuple(view for _, view in ordered)


def write_release(
    listed: Sequence[Study],
    output: Output,
    *,
    source: str,
    skipped: Counter[str],
    moments: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
) -> Preparation:
    """Write the studies of a release, each patient, film and long text in one split.

    Args:
        listed: the studies; image paths relative to `images_dir`.
        output: where to, and what is asked.
        source: begins errors: setting and file.
        skipped: how many were left out so far, by reason; grows here.
        moments: study id → when it was, of those for which it is known, in any unit. Studies of a patient get their
            priors by it.
        notes: remarks for the summary.

    Raises:
        InputError: a patient or a film is in two splits, an id is given twice, or no study is left.
    """
    total = len(listed) + skipped.total()
    kept = list(listed)
    if output.images_dir is not None:
        found, of_films = on_disk(listed, output.images_dir)
        kept = [study for study in found if study.image_paths]
        skipped["no image file"] += len(listed) - len(kept)
        notes = (*notes, *of_films)
    check_studies(kept, source)
    if not output.keep_shared_texts:
        kept = _apart(kept, _long_text, skipped, "text of a held-out study")
    if output.images_dir is not None:
        kept = _apart(kept, _film_bytes(kept, Path(output.images_dir)), skipped, "film of a held-out study")
    if not kept:
        raise InputError(f"{source}: no study is left of {total}: {dict(+skipped)}")
    return write_prepared(output.path, with_priors(kept, moments or {}), skipped, notes)


def check_studies(studies: Sequence[Study], source: str) -> None:
    """Refuse studies of a release that an annotation file cannot hold.

    Raises:
        InputError: an id is empty, an id or a film is given twice, or a patient is in two splits.
    """
    if nameless := next((study for study in studies if study_id(study.id) is None), None):
        raise InputError(f"{source}: the id of the study of {nameless.image_paths[0].as_posix()} is empty")
    _check_once([(study.id.strip(), study) for study in studies], "study", source)
    _check_patients(studies, source)
    _check_once([(path.as_posix(), study) for study in studies for path in study.image_paths], "film", source)


def _check_once(named: Iterable[tuple[str, Study]], what: str, source: str) -> None:
    seen: dict[str, Study] = {}
    for name, study in named:
        other = seen.setdefault(name, study)
        if other is not study:
            places = f"{other.id} of {other.split} and {study.id} of {study.split}"
            raise InputError(f"{source}: {what} {name} is given twice, in {places}")


def _check_patients(studies: Iterable[Study], source: str) -> None:
    seen: dict[str, Study] = {}
    for study in studies:
        other = seen.setdefault(study.patient, study)
        if study.patient and other.split != study.split:
            raise InputError(
                f"{source}: patient {study.patient} is in two splits, {other.split} ({other.id}) and "
                f"{study.split} ({study.id})"
            )


def on_disk(studies: Sequence[Study], images_dir: str | Path | None) -> tuple[list[Study], list[str]]:
    """The studies as far as their films are in a directory, and a note of the others; None: as they are, unnoted."""
    if images_dir is None:
        return list(studies), []
    missing: list[Path] = []
    found = [_existing(study, Path(images_dir), missing) for study in studies]
    name_missing(missing, Path(images_dir))
    return found, [f"{len(missing)} image files missing in {images_dir}"]


def _existing(study: Study, directory: Path, missing: list[Path]) -> Study:
    """The study as far as its films are there; the others go to `missing`."""
    found = [find_image(directory, path) for path in study.image_paths]
    missing += [path for path, there in zip(study.image_paths, found, strict=True) if there is None]
    views = study.views or ("",) * len(found)
    return replace(
        study,
        image_paths=tuple(path for path in found if path is not None),
        views=tuple(view for view, path in zip(views, found, strict=True) if path is not None) if study.views else (),
    )


def _apart(
    studies: list[Study], keys: Callable[[Study], Collection[Hashable]], skipped: Counter[str], reason: str
) -> list[Study]:
    """The studies none of whose keys belongs to another split; test keeps what it shares, then val."""
    owner: dict[Hashable, str] = {}
    for split in HELD_OUT_FIRST:
        for study in studies:
            if study.split == split:
                for key in keys(study):
                    owner.setdefault(key, split)
    kept = [study for study in studies if all(owner[key] == study.split for key in keys(study))]
    skipped[reason] += len(studies) - len(kept)
    return kept


def _long_text(study: Study) -> tuple[str, ...]:
    """A study's words, where there are enough of them that two studies do not share them by chance."""
    words = study.report.lower().split()
    return (" ".join(words),) if len(words) >= SHARED_WORDS else ()


def _film_bytes(studies: Sequence[Study], directory: Path) -> Callable[[Study], Collection[Hashable]]:
    """A study's films by SHA-256, of those whose size occurs in another split too; the other files stay unread."""
    sizes = {path: (directory / path).stat().st_size for study in studies for path in study.image_paths}
    splits: dict[int, set[str]] = {}
    for study in studies:
        for path in study.image_paths:
            splits.setdefault(sizes[path], set()).add(study.split)
    digests = {path: _digest(directory / path) for path, size in sizes.items() if len(splits[size]) > 1}
    return lambda study: {digests[path] for path in study.image_paths if path in digests}


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with open_regular(path) as file:
            while block := file.read(CHUNK):
                digest.update(block)
    except OSError as error:
        raise InputError(f"`images_dir`: {path}: {error.strerror or error}") from None
    return digest.hexdigest()


def with_priors(studies: Sequence[Study], moments: Mapping[str, float], *, in_days: bool = False) -> list[Study]:
    """Each study with the id of its patient's latest earlier one, where both moments are known.

    Args:
        studies: of a release.
        moments: when they were, by id.
        in_days: moments are days, and the days between are kept too.
    """
    of_patient: dict[str, list[Study]] = {}
    for study in studies:
        if study.patient and study.id in moments:
            of_patient.setdefault(study.patient, []).append(study)
    priors: dict[str, str] = {}
    for several in of_patient.values():
        ordered = sorted(several, key=lambda study: moments[study.id])
        for place, study in enumerate(ordered):
            earlier = [one for one in ordered[:place] if moments[one.id] < moments[study.id]]
            if earlier:
                priors[study.id] = earlier[-1].id
    found = [replace(study, prior=priors.get(study.id, "")) for study in studies]
    if not in_days:
        return found
    days = {name: round(moments[name] - moments[prior], 3) for name, prior in priors.items()}
    return [replace(study, prior_days=days.get(study.id)) for study in found]


def table_rows(
    table: Path, columns: Sequence[str], once: str, *, field: str = "table", optional: Sequence[str] = ()
) -> Iterator[tuple[dict[str, str], str]]:
    """The cells of these columns of each row of a release's table, without white space around, and where it stands.

    Args:
        table: the file.
        columns: what is read of it.
        once: the column that names a row's film.
        field: the setting that names the file, or the directory that it lies in.
        optional: columns that are empty where the table lacks them.

    Raises:
        InputError: it cannot be read, lacks a column, or has two rows of a film.
    """
    source = f"`{field}` {table}"
    seen: set[str] = set()
    try:
        with open_text(table) as file:
            content = read_table(file, source, numbered=True)
            if lacking := next((name for name in columns if name not in content.columns), None):
                raise InputError(f"{source}: has no column {lacking}")
            for row in content.rows:
                cells = {name: row.cells.get(name, "").strip() for name in (*columns, *optional)}
                if cells[once] in seen:
                    raise InputError(f"{source}: line {row.line}: {once} {cells[once]} is given twice")
                seen.add(cells[once])
                yield cells, f"{source}: line {row.line}"
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{source}: cannot be read: {error}") from None
