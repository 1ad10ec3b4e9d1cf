"""What head and text of a model tell of the tested films, held against what is known of them. Runs no model.

Class and source go together in many sets (all children from one hospital), so a figure over all sources says less than
those within each.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from r2gengpt.data.study import Study, known_labels
from r2gengpt.metrics import detection
from r2gengpt.metrics.bootstrap import patient_numbers
from r2gengpt.metrics.calibration import bin_columns, calibration_error, reliability
from r2gengpt.metrics.detection import Bools, Measure, decided, enough, numbered, resampled
from r2gengpt.metrics.labels.family import LABELER
from r2gengpt.metrics.labels.reading import Label, label_report
from r2gengpt.metrics.ngrams import Floats, Ints
from r2gengpt.metrics.records import Score
from r2gengpt.report import Report
from r2gengpt.text.observations import LIKELY, NO_FINDING, NOT_ASSESSED, OF_THE_FILM, POSSIBLE

RESAMPLES, SEED = 1000, 0
AGES = (("child < 16", 0.0, 16.0), ("16-39", 16.0, 40.0), ("40-64", 40.0, 65.0), ("65+", 65.0, 1000.0))
"""Group of patients, the age it begins with, the age it ends before."""
UNNAMED = "not named"
"""What a source is called that the annotation does not name."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Detections:
    """What a head told of S studies, O observations each, and what is known of them.

    Attributes:
        names: (O,), the observations'.
        labels: (S, O), 0 to 1, NaN where unknown.
        probabilities: (S, O).
        verdicts: (S, O), words.
        groups: (S,), whose study each is, numbered; drawn together.
    """

    names: tuple[str, ...]
    labels: Floats
    probabilities: Floats
    verdicts: np.ndarray[Any, np.dtype[np.str_]]
    groups: Ints

    def assessed(self, at: int) -> bool:
        """Whether the head tells an observation from chance."""
        return bool((self.verdicts[:, at] != NOT_ASSESSED).all())

    @property
    def judged(self) -> list[int]:
        """The places of the assessed observations of the patient; those of the film itself are left out."""
        return [at for at, name in enumerate(self.names) if self.assessed(at) and name not in OF_THE_FILM]


def measured_findings(predictions: Sequence[Report], studies: Sequence[Study]) -> Json | None:
    """What scores.json says of findings.

    None where the model has no head, and the annotation does not know of any film whether it is normal.

    Args:
        predictions: one for each study.
        studies: in the same order.
    """
    has_head = bool(predictions) and all(report.findings for report in predictions)
    if not has_head and not any(NO_FINDING in study.labels for study in studies):
        return None
    parts: Json = {}
    if text := measured_text(predictions, studies):
        parts["text"] = text
    if has_head:
        parts["head"] = measured_head(predictions, studies)
    return parts or None


def measured_text(predictions: Sequence[Report], studies: Sequence[Study]) -> Json:
    """Normal told from abnormal by the text, where the annotation knows which a film is; empty where of none."""
    normal = np.array([label_report(report.text)[NO_FINDING] == Label.POSITIVE for report in predictions])
    known = np.array([study.labels.get(NO_FINDING, math.nan) for study in studies])
    if not decided(known).any():
        return {}
    return {"truth": "labels of the annotation", **normal_or_abnormal(normal, known, studies)}


def measured_head(predictions: Sequence[Report], studies: Sequence[Study]) -> Json:
    """How well the head tells findings: by observation, source, age, sex and view, its calibration, normal films."""
    names = tuple(finding.name for finding in predictions[0].findings)
    known = [known_labels(study) for study in studies]
    detected = Detections(
        names,
        np.array([[labels.get(name, math.nan) for name in names] for labels in known]),
        np.array([[finding.probability for finding in report.findings] for report in predictions]),
        np.array([[finding.verdict for finding in report.findings] for report in predictions]),
        group_numbers(studies),
    )
    at = names.index(NO_FINDING)
    found: Json = {
        "truth": truth_of(studies),
        "not_assessed": [name for place, name in enumerate(names) if not detected.assessed(place)],
        "all": group_scores(detected, np.ones(len(studies), dtype=bool)),
        "by_source": {name: group_scores(detected, kept) for name, kept in sources_of(studies)},
        "by_age": {name: group_scores(detected, kept) for name, kept in ages_of(studies)},
        "by_sex": {name: group_scores(detected, kept) for name, kept in sexes_of(studies)},
        "by_view": {name: group_scores(detected, kept) for name, kept in views_of(studies)},
        "calibration": calibrated(detected),
    }
    if detected.assessed(at):
        normal = detected.verdicts[:, at] == LIKELY
        found["normal_or_abnormal"] = normal_or_abnormal(normal, detected.labels[:, at], studies)
    return found


def group_scores(detected: Detections, members: Bools) -> Json:
    """Each observation within a group of studies, and the mean area of the assessed ones that have one there."""
    observations, whole = {}, []
    for at, name in enumerate(detected.names):
        kept = members & decided(detected.labels[:, at])
        truth, values = detected.labels[kept, at] > 0.5, detected.probabilities[kept, at]
        row: Json = {"positive": int(truth.sum()), "negative": int((~truth).sum())}
        if enough(detected.labels[kept, at]):
            measures = {
                "auc": detection.areas(truth, values),
                "average_precision": detection.precisions(truth, values),
            }
            if detected.assessed(at):
                measures |= called_measures(detected.verdicts[kept, at], truth)
            row |= scored(measures, detected.groups[kept])
            if at in detected.judged:
                whole.append((name, kept[members], measures["auc"]))
        observations[name] = row
    mean = {"over": [name for name, _, _ in whole]}
    if whole:
        measure = detection.mean_of([(kept, area) for _, kept, area in whole])
        mean |= scored({"auc": measure}, detected.groups[members])["auc"]
    return {"n": int(members.sum()), "mean_auc": mean, "observations": observations}


def called_measures(verdicts: np.ndarray[Any, np.dtype[np.str_]], truth: Bools) -> dict[str, Measure]:
    """Sensitivity and specificity where "likely" counts as called, and where "possible" does too."""
    likely = verdicts == LIKELY
    found = {}
    for name, called in (("likely", likely), ("possible", likely | (verdicts == POSSIBLE))):
        found[f"sensitivity_{name}"] = detection.shares(called, truth)
        found[f"specificity_{name}"] = detection.shares(~called, ~truth)
    return found


def calibrated(detected: Detections) -> Json | None:
    """Probabilities of all assessed observations against what is known; None where nothing is."""
    labels, probabilities = detected.labels[:, detected.judged], detected.probabilities[:, detected.judged]
    known = decided(labels)
    if not known.any():
        return None
    truth, found = (labels[known] > 0.5).astype(float), probabilities[known]
    groups = np.broadcast_to(detected.groups[:, None], labels.shape)[known]
    count = int(detected.groups.max()) + 1
    bins = bin_columns(found, truth, groups, count)
    errors, pairs = np.bincount(groups, (found - truth) ** 2, count), np.bincount(groups, minlength=count)
    measures: dict[str, Measure] = {
        "ece": lambda times: calibration_error(times @ bins),
        "brier": lambda times: (times @ errors) / np.maximum(times @ pairs, 1),
    }
    return {"n": len(truth), **scored(measures, np.arange(count)), "reliability": reliability(found, truth)}


def normal_or_abnormal(normal: Bools, known: Floats, studies: Sequence[Study]) -> Json:
    """Balanced accuracy of calling films normal, over all that are known and within each source.

    Args:
        normal: (S,), whether called so.
        known: (S,), 1 where normal, 0 where not, NaN where unknown.
        studies: S of them.
    """
    groups, whose = group_numbers(studies), np.array([study.source for study in studies])

    def of(members: Bools) -> Json:
        kept = members & decided(known)
        truth, called = known[kept] > 0.5, normal[kept]
        found: Json = {
            "normal": {"n": int(truth.sum()), "called_so": int((called & truth).sum())},
            "abnormal": {"n": int((~truth).sum()), "called_so": int((~called & ~truth).sum())},
        }
        if enough(known[kept]):
            found |= scored({"balanced_accuracy": detection.balanced(called, truth)}, groups[kept])
            found["moved"] = detection.moved(called, truth, whose[kept].tolist(), RESAMPLES, SEED).to_json()
        return found

    everyone = np.ones(len(studies), dtype=bool)
    return {"all": of(everyone), "by_source": {name: of(kept) for name, kept in sources_of(studies)}}


def scored(measures: Mapping[str, Measure], groups: Ints) -> dict[str, Json]:
    """Measures with their intervals, as they stand in scores.json."""
    found: dict[str, Score] = resampled(measures, numbered(groups.tolist()), RESAMPLES, SEED)
    return {name: score.to_json() for name, score in found.items()}


def sources_of(studies: Sequence[Study]) -> list[tuple[str, Bools]]:
    """Each source by name and which studies are of it."""
    whose = [study.source or UNNAMED for study in studies]
    return [(name, np.array([source == name for source in whose])) for name in sorted(set(whose))]


def ages_of(studies: Sequence[Study]) -> list[tuple[str, Bools]]:
    """Each group of ages that has studies, and which."""
    ages = np.array([math.nan if study.age is None else study.age for study in studies])
    return _present((name, (ages >= low) & (ages < high)) for name, low, high in AGES)


def sexes_of(studies: Sequence[Study]) -> list[tuple[str, Bools]]:
    """Each sex that has studies, and which."""
    return _present((sex, np.array([study.sex == sex for study in studies])) for sex in ("F", "M"))


def views_of(studies: Sequence[Study]) -> list[tuple[str, Bools]]:
    """Each view that first films are named as, and which studies have it."""
    first = [study.views[0].strip().upper() if study.views else "" for study in studies]
    return [(name, np.array([view == name for view in first])) for name in sorted(set(filter(None, first)))]


def _present(groups: Iterable[tuple[str, Bools]]) -> list[tuple[str, Bools]]:
    return [(name, kept) for name, kept in groups if kept.any()]


def group_numbers(studies: Sequence[Study]) -> Ints:
    """What is drawn together: a patient's studies where every patient is known, else each study by itself."""
    numbers = patient_numbers([study.id for study in studies], {study.id: study.patient for study in studies})
    return np.arange(len(studies)) if numbers is None else numbers


def truth_of(studies: Sequence[Study]) -> str:
    """Where the labels of studies came from, in words."""
    labelled = sum(bool(study.labels) for study in studies)
    parts = [(labelled, "labels of the annotation"), (len(studies) - labelled, f"labels of the report, {LABELER}")]
    return "; ".join(f"{count} studies: {words}" for count, words in parts if count)
