"""R2Gen's annotation file to studies and back, checked on the way in. Opens no image."""

import functools
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from r2gengpt.config import DataConfig
from r2gengpt.data.boxes import read_boxes
from r2gengpt.data.labels import read_age, read_days, read_labels, read_sex
from r2gengpt.data.strict import misspelt, read_json_object
from r2gengpt.data.study import PATIENT_NAMES, Study, patient_key, study_id
from r2gengpt.errors import InputError
from r2gengpt.files import whole_file
from r2gengpt.films.containers import DicomChoice
from r2gengpt.films.reader import PLAIN

log = logging.getLogger("r2gengpt.data")
SPLITS = ("train", "val", "test")
_TEXTS = ("indication", "technique", "comparison", "findings", "impression")
_READ = (
    *("id", "report", "image_path", "split", "views", "labels", "source", "age", "sex", "boxes", "prior_days"),
    *(*_TEXTS, *PATIENT_NAMES),
)
_HALF = re.compile("[\ud800-\udfff]")
_WORDS: dict[type, str] = {str: "a text", list: "a list", dict: "an object"}


@dataclass(frozen=True)
class Preparation:
    """What a data-set preparation wrote: studies of each split, how many were left out for which reason, remarks."""

    path: Path
    studies: Mapping[str, int]
    skipped: Mapping[str, int]
    notes: tuple[str, ...] = ()


class BaseDirectory:
    """A base directory that image paths may not leave, by `..`, as absolute paths, or through symbolic links."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.real = os.path.realpath(directory)
        self._seen: dict[tuple[str, ...], str] = {(): self.real}

    def _directory(self, parts: tuple[str, ...]) -> str:
        """The real path of a directory below the base; the file system is asked about each only once."""
        known = next(count for count in range(len(parts), -1, -1) if parts[:count] in self._seen)
        real = self._seen[parts[:known]]
        for count in range(known, len(parts)):
            real = self._seen[parts[: count + 1]] = _follow(os.path.join(real, parts[count]))  # noqa: PTH118
        return real

    def resolve(self, text: str, where: str) -> Path:
        """The path below the base directory that `text` names; the file need not exist."""
        parts = tuple(part for part in text.split("/") if part not in ("", "."))
        if not parts or "\0" in text:
            raise InputError(f"{where}: image path {text!r} names no file")
        if text[0] in "/\\" or os.path.isabs(text):  # noqa: PTH117 (hot path: 270,000 of them in MIMIC-CXR)
            raise InputError(f"{where}: image path {text} is absolute: must be relative to `base_dir` {self.directory}")
        if ".." in parts or ".." in text.split("\\"):
            raise InputError(f"{where}: image path {text} holds '..': must stay inside `base_dir` {self.directory}")
        real = _follow(os.path.join(self._directory(parts[:-1]), parts[-1]))  # noqa: PTH118
        if not real.startswith(os.path.join(self.real, "")):  # noqa: PTH118
            raise InputError(
                f"{where}: image path {text} leads through a symbolic link outside `base_dir` {self.directory}"
            )
        return Path(real)


def _follow(path: str) -> str:
    """The path itself, or what it leads to if it is a symbolic link."""
    return os.path.realpath(path) if os.path.islink(path) else path  # noqa: PTH114


def _field(record: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    """A field of a study's record, which must be there and of the type."""
    if key not in record:
        raise InputError(f"{where} has no {key}")
    value = record[key]
    if not isinstance(value, kind):
        raise InputError(f"{where}: {key} is {json.dumps(value)[:60]}, must be {_WORDS[kind]}")
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InputError(f"{where}: {key} holds half a surrogate pair, which is no character") from None
    return value


def _texts(record: Mapping[str, Any], key: str, where: str) -> list[str]:
    """A field that is a list of texts."""
    item = f"{key} item"
    return [_field({item: value}, item, str, where) for value in _field(record, key, list, where)]


def _id(record: Mapping[str, Any], where: str) -> str:
    """The study's id, a text or a whole number."""
    name = study_id(_name(record, "id", where))
    if name is None:
        raise InputError(f"{where}: id is empty")
    return name


def _name(record: Mapping[str, Any], key: str, where: str) -> str:
    """A field that names something: a text or a whole number."""
    value = record.get(key)
    if type(value) is int:
        return str(value)
    if isinstance(value, float | bool):
        raise InputError(f"{where}: {key} is {json.dumps(value)[:60]}, must be a text or a whole number")
    return str(_field(record, key, str, where))


def _patient(record: Mapping[str, Any], where: str) -> str:
    """Whose study it is: a text or whole number under the first of the names that is there."""
    key = patient_key(record, where)
    return "" if key is None else _name(record, key, where).strip()


def _study(record: Any, split: str, index: int, base: BaseDirectory, file: str) -> Study:
    """One record of the file as a study."""
    where = f"{file}: {split} study {index}"
    if not isinstance(record, dict):
        raise InputError(f"{where} is {json.dumps(record)[:60]}, must be an object")
    name = _id(record, where)
    where = f"{where} ({name})"
    labels = read_labels(record.get("labels"), where)
    report = "" if labels and record.get("report") is None else _field(record, "report", str, where)
    if split != "test" and not report.strip() and not labels:
        raise InputError(f"{where}: report is empty: only test studies and studies with labels may have none")
    paths = _texts(record, "image_path", where)
    if not paths:
        raise InputError(f"{where}: image_path is an empty list: a study needs at least one image")
    views = _texts(record, "views", where) if "views" in record else []
    if views and len(views) != len(paths):
        raise InputError(f"{where}: views has {len(views)} items, must have one for each image ({len(paths)}) or none")
    return Study(
        id=name,
        image_paths=tuple(base.resolve(path, where) for path in paths),
        report=report,
        split=split,
        views=tuple(views),
        patient=_patient(record, where),
        labels=labels,
        source=_field(record, "source", str, where).strip() if record.get("source") is not None else "",
        age=read_age(record.get("age"), where),
        sex=read_sex(record.get("sex"), where),
        boxes=read_boxes(record.get("boxes"), where),
        prior=_name(record, "prior", where).strip() if record.get("prior") is not None else "",
        prior_days=read_days(record.get("prior_days"), where),
        **{key: _field(record, key, str, where) for key in _TEXTS if key in record},
    )


def read_studies(data: DataConfig, splits: Sequence[str]) -> dict[str, tuple[Study, ...]]:
    """`read_annotation` by the settings of a run."""
    dicom = DicomChoice(data.frame, data.force, data.mixed_patients)
    return read_annotation(data.annotation, data.base_dir, splits, dicom=dicom)


def read_annotation(
    path: str | Path,
    base_dir: str | Path,
    splits: Sequence[str] = SPLITS,
    *,
    field: str = "annotation",
    dicom: DicomChoice = PLAIN,
) -> dict[str, tuple[Study, ...]]:
    """Read an annotation file in R2Gen's format: `{"train": [{"id", "report", "image_path": [..]}, ..], ..}`.

    A study whose `prior` is the id of another one in the file, whatever its split, gets that one as `earlier`.
    A study with `labels` may lack its report; `check_reports` refuses it where reports are learnt.
    A study's split is the list that it stands in; its own "split" entry and unknown entries are not read. A log line
    names entries that look misspelt, priors that the file has not, and patients and films in two splits. Images are
    not opened and need not exist (`check_images`). Ids must be unique over all splits of the file, also those not asked
    for, since a study in two splits spoils every score.

    Args:
        path: the file, JSON in UTF-8.
        base_dir: the directory that image paths are relative to and may not leave.
        splits: the splits to return, all of which the file must have.
        field: the setting that errors name.
        dicom: what is asked of DICOM files.

    Raises:
        InputError: anything wrong, by file, split, index and id.
    """
    base, where = BaseDirectory(Path(base_dir)), f"`{field}` {path}"
    content = read_json_object(Path(path), where)
    for split in splits:
        if split not in content:
            raise InputError(f"{where}: has no split {split}, only {', '.join(map(str, content)) or 'nothing'}")
        _field(content, split, list, where)
    studies = {
        split: tuple(
            replace(_study(record, split, i, base, where), dicom=dicom) for i, record in enumerate(content[split])
        )
        for split in splits
    }
    records = _records_by_id(content, dict.fromkeys((*splits, *SPLITS)), where)
    _tell_odd(records, where)
    known = {study.id: study for several in studies.values() for study in several}

    def earlier(name: str) -> Study | None:
        if name not in known and name in records:
            record, split, index = records[name]
            known[name] = replace(_study(record, split, index, base, f"{where}: prior {name}"), dicom=dicom)
        return known.get(name)

    return {split: tuple(_beside(study, earlier, where) for study in several) for split, several in studies.items()}


def _records_by_id(content: Mapping[str, Any], splits: Iterable[str], where: str) -> dict[str, tuple[Any, str, int]]:
    """The records of these splits, their split and their place in it, by id.

    What has no id is not told of: nobody asked for its split.

    Raises:
        InputError: an id occurs twice.
    """
    found: dict[str, tuple[Any, str, int]] = {}
    for split in splits:
        records = content.get(split, [])
        for index, record in enumerate(records if isinstance(records, list) else []):
            name = study_id(record.get("id")) if isinstance(record, dict) else None
            if name is None:
                continue
            if name in found:
                raise InputError(
                    f"{where}: id {name} occurs twice (in {found[name][1]} and {split}): ids must be unique"
                )
            found[name] = record, split, index
    return found


def _tell_odd(records: Mapping[str, tuple[Mapping[str, Any], str, int]], where: str) -> None:
    """Log lines of what is read as it stands and is hardly meant: one of a kind, with its first study."""
    splits: dict[tuple[str, str], str] = {}
    shared: dict[tuple[str, str], str] = {}
    lost = []
    for name, (record, split, _) in sorted(
        records.items(), key=lambda item: item[1][1]
    ):  # whichever is asked for first
        if (prior := study_id(record.get("prior"))) and prior not in records:
            lost.append(f"{prior} of {name}")
        paths = record.get("image_path")
        things = [("patient", record.get(key)) for key in PATIENT_NAMES]
        things += [("film", path) for path in (paths if isinstance(paths, list) else [])]
        for kind, value in things:
            thing = kind, str(value).strip()
            if value is not None and thing[1] and splits.setdefault(thing, split) != split:
                shared.setdefault(thing, f"{splits[thing]} and {split}")
    for (key, meant), count in misspelt((record for record, *_ in records.values()), _READ).items():
        _warn(f"{where}: {key} of {count} studies is not read (did you mean {meant}?)")
    if lost:
        _warn(f"{where}: without effect, as the file has no such study: prior of {len(lost)} studies, first {lost[0]}")
    if shared:
        (kind, name), places = next(iter(shared.items()))
        _warn(
            f"{where}: {len(shared)} patients or films are in two splits, which makes scores too good: first {kind} "
            f"{name} in {places}"
        )


@functools.lru_cache(maxsize=64)
def _warn(line: str) -> None:
    """A log line, once: commands read a file once for each of its splits."""
    log.warning("%s", line)


def _beside(study: Study, earlier: Callable[[str], Study | None], where: str) -> Study:
    """A study with the earlier one that it names, where the file has that.

    Raises:
        InputError: it names itself, or a study of another patient.
    """
    before = earlier(study.prior) if study.prior else None
    if before is None:
        return study
    if before.id == study.id or (study.patient and before.patient and study.patient != before.patient):
        why = "the study itself" if before.id == study.id else "of another patient"
        raise InputError(f"{where}: {study.split} study {study.id}: prior {study.prior} is {why}")
    return replace(study, earlier=before)


def check_reports(studies: Iterable[Study]) -> None:
    """Refuse studies without a report, which a run that learns reports cannot use, whatever their labels.

    Raises:
        InputError: names the first one and how many there are.
    """
    studies = tuple(studies)
    without = [study for study in studies if not study.report.strip()]
    if without:
        raise InputError(
            f"`annotation`: {without[0].split} study {without[0].id} has labels and no report to learn from "
            f"({len(without)} of {len(studies)} have none)"
        )


def missing_images(studies: Iterable[Study]) -> tuple[Path, ...]:
    """The image files of the studies that do not exist, in order."""
    return tuple(path for study in studies for path in study.image_paths if not path.is_file())


def check_images(studies: Iterable[Study]) -> None:
    """Refuse studies whose image files do not exist.

    Raises:
        InputError: names the first missing file and how many of how many are missing.
    """
    studies = tuple(studies)
    missing = missing_images(studies)
    if missing:
        total = sum(len(study.image_paths) for study in studies)
        raise InputError(f"`base_dir`: no image file {missing[0]} ({len(missing)} of {total} are missing)")


def _record(study: Study, split: str, base_dir: Path | None) -> dict[str, Any]:
    """A study as it stands in the file; optional texts only where there is one."""
    paths = [path.relative_to(base_dir) if base_dir is not None else path for path in study.image_paths]
    record: dict[str, Any] = {
        "id": study.id,
        "report": study.report,
        "image_path": [path.as_posix() for path in paths],
        "split": split,
    }
    record.update({key: value for key in (*_TEXTS, "prior") if (value := getattr(study, key))})
    if study.patient:
        record["patient"] = study.patient
    if study.views:
        record["views"] = list(study.views)
    if study.labels:
        record["labels"] = {name: int(value) if value in (0, 1) else value for name, value in study.labels.items()}
    record.update({key: value for key in ("source", "sex") if (value := getattr(study, key))})
    if study.age is not None:
        record["age"] = int(study.age) if study.age.is_integer() else study.age
    if study.prior_days is not None:
        record["prior_days"] = study.prior_days
    if study.boxes:
        record["boxes"] = [box.to_json() for box in study.boxes]
    return record


def write_prepared(
    path: str | Path, studies: Sequence[Study], skipped: Counter[str], notes: Sequence[str] = ()
) -> Preparation:
    """Write the studies of a preparation, each into its own split; `skipped` and `notes` are told with their counts."""
    splits = {split: [study for study in studies if study.split == split] for split in SPLITS}
    write_annotation(path, splits)
    return Preparation(Path(path), {split: len(some) for split, some in splits.items()}, +skipped, tuple(notes))


def write_annotation(
    path: str | Path, splits: Mapping[str, Iterable[Study]], base_dir: str | Path | None = None
) -> None:
    """Write studies as an annotation file: whole or not at all.

    Args:
        path: where to; its directory is made.
        splits: split name → its studies.
        base_dir: what the image paths are made relative to; None where they are relative already.

    Raises:
        ValueError: an image path is not below `base_dir`, or a text is not UTF-8.
        InputError: the file cannot be written.
    """
    base = None if base_dir is None else Path(base_dir).resolve()
    content = {split: [_record(study, split, base) for study in studies] for split, studies in splits.items()}
    target = Path(path)
    try:
        with whole_file(target) as temporary, temporary.open("w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False, indent=1)
            file.write("\n")
    except OSError as error:
        raise InputError(f"{error.strerror or error}", field="output", value=target) from None
    except UnicodeEncodeError:
        records = ((split, record) for split, listed in content.items() for record in listed)
        split, bad = next(pair for pair in records if _HALF.search(json.dumps(pair[1], ensure_ascii=False)))
        raise InputError(f"{split} study {bad['id']} holds half a surrogate pair, which is no character") from None
