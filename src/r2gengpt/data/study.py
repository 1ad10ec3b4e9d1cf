"""A study and its parts as records, and what is known of its films. No files are opened here."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from r2gengpt.data.boxes import Marked
from r2gengpt.data.labels import NO_LABELS, Labels
from r2gengpt.errors import InputError
from r2gengpt.films.containers import DicomChoice
from r2gengpt.metrics.labels.reading import Label, label_report
from r2gengpt.text.context import Context
from r2gengpt.text.observations import ALL_OBSERVATIONS

PATIENT_NAMES = ("patient", "patient_id", "subject_id")
"""What files call the patient of a study, in the order they are looked for (subject_id: MIMIC-CXR's, and R2Gen's)."""
OF_REPORTS = {Label.POSITIVE: 1.0, Label.NEGATIVE: 0.0, Label.BLANK: 0.0}
"""A report's word on an observation, as a label; a doubt is neither. What it does not mention is absent (CheXpert)."""


def patient_key(record: Mapping[str, Any], place: str) -> str | None:
    """The name under which a record holds its patient, None where it holds none.

    Raises:
        InputError: two names hold different patients.
    """
    present = [name for name in PATIENT_NAMES if record.get(name) is not None and str(record[name]).strip()]
    if len({str(record[name]).strip() for name in present}) > 1:
        raise InputError(f"{place}: {' and '.join(present)} name different patients: leave all but one out")
    return next(iter(present), None)


def study_id(value: object) -> str | None:
    """A study's id as any file gives it, a text or a whole number, as text without spaces around it; None: it is none.

    >>> study_id(7), study_id(" a "), study_id(7.0), study_id(True), study_id(" ")
    ('7', 'a', None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).strip() or None


def with_earlier(studies: Iterable["Study"]) -> Iterator["Study"]:
    """Studies, and the earlier ones that they name."""
    for study in studies:
        yield study
        if study.earlier is not None:
            yield study.earlier


@dataclass(frozen=True)
class Study:
    """One examination: its views and what was written of them.

    `report` is the text as the annotation holds it (cleaning is the reader's choice); empty where none is known.
    `patient` is whose study it is, empty where the annotation names none.
    `technique` is how it was taken, `comparison` what the report says it was compared with, and `prior` the id of the
    patient's study before, `prior_days` days earlier (None: unknown). `earlier` is that study where its file has it.
    `labels` are the observations that are known of its films (`Labels`), and `source` says whose labels they are.
    `age` is the patient's in years, None where it is unknown; `sex` is M, F or empty.
    `boxes` are where its first film shows what, as its annotation marks it.
    `dicom` is what is asked of its DICOM files.
    `image_paths` are resolved below the base directory, at least one, in the annotation's order.
    """

    id: str
    image_paths: tuple[Path, ...]
    report: str = ""
    split: str = ""
    indication: str = ""
    findings: str = ""
    impression: str = ""
    views: tuple[str, ...] = ()
    patient: str = ""
    dicom: DicomChoice = field(default_factory=DicomChoice)
    labels: Mapping[str, float] = NO_LABELS
    source: str = ""
    age: float | None = None
    sex: str = ""
    boxes: tuple[Marked, ...] = ()
    comparison: str = ""
    prior: str = ""
    technique: str = ""
    prior_days: float | None = None
    earlier: "Study | None" = None

    @property
    def context(self) -> Context:
        """What is known of it beside its films."""
        views = ", ".join(dict.fromkeys(view.strip() for view in self.views if view.strip()))
        context = Context(self.indication, self.technique, self.comparison, self.age, self.sex, views)
        before = self.earlier
        return context if before is None else replace(context, prior=before.report, prior_days=self.prior_days)

    def __post_init__(self) -> None:
        if not isinstance(self.labels, Labels):
            object.__setattr__(self, "labels", Labels(self.labels))


def known_labels(study: Study) -> Labels:
    """Observation → how likely the films show it, of those that are known.

    In a report positive is 1, negative 0 and uncertain unknown. An observation that it does not mention counts as
    absent, as in CheXpert; of a study without labels and report nothing is known.
    """
    if study.labels or not study.report.strip():
        return Labels(study.labels)
    said = label_report(study.report)
    return Labels({name: OF_REPORTS[label] for name, label in said.items() if label in OF_REPORTS})


def known_rows(studies: Sequence[Study]) -> npt.NDArray[np.float64]:
    """`known_labels` of studies as rows, (n, O), in the order of the observations; not a number where unknown."""
    known = (known_labels(study) for study in studies)
    rows = [[labels.get(name, np.nan) for name in ALL_OBSERVATIONS] for labels in known]
    return np.array(rows, dtype=np.float64).reshape(-1, len(ALL_OBSERVATIONS))
