"""Clinical labels as a family of metrics: what it keeps of each study, and its scores' names. Labels no text itself."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from r2gengpt.metrics.families import MetricFamily, Texts, remembered
from r2gengpt.metrics.labels import agreement
from r2gengpt.metrics.labels.agreement import AVERAGES, COLUMNS, MEASURES, POLICIES, SETS
from r2gengpt.metrics.labels.reading import VERSION, label_report
from r2gengpt.metrics.ngrams import Floats
from r2gengpt.text.observations import OBSERVATIONS

LABELER = "rule-based, not CheXbert"
NOT_ASKED = "not asked for (`labels` True)"


def average_name(average: str, measure: str, size: str, policy: str) -> str:
    """The name of a score: clinical_micro_f1_14_uncertain_as_positive."""
    return f"clinical_{average}_{measure}_{size}_{policy}"


LABEL_F1 = average_name("micro", "f1", "14", "uncertain_as_positive")
"""The score that stands for the labels where one is wanted: verdicts rest on it, and checkpoints are chosen by it."""


def observation_name(observation: str, policy: str) -> str:
    """The name of one observation's F1: clinical_f1_pleural_effusion_uncertain_as_positive."""
    return f"clinical_f1_{observation.lower().replace(' ', '_')}_{policy}"


AVERAGE_NAMES = tuple(
    average_name(average, measure, size, policy)
    for policy in POLICIES
    for size in SETS
    for average in AVERAGES
    for measure in MEASURES
)
TITLES: Mapping[str, str] = {
    average_name(average, "f1", size, policy): f"labels by rules: {average} F1 of {size}, {policy.replace('_', ' ')}"
    for policy in POLICIES
    for size in SETS
    for average in AVERAGES
}
"""Name of each F1 that tables show → what a page calls it."""
OBSERVATION_NAMES = tuple(observation_name(name, policy) for policy in POLICIES for name in OBSERVATIONS)


def statistics(texts: Texts) -> Floats:
    """`agreement.COLUMNS` of each study under either policy, (S, 96). Texts are read as they were before any cleaning.

    Several references of a study are read as one report.
    """
    found = [_labels(text) for text in texts.written]
    wanted = [_labels("\n".join(several)) for several in texts.wanted]
    return np.concatenate(
        [agreement.statistics(agreement.is_there(found, p), agreement.is_there(wanted, p)) for p in POLICIES], axis=-1
    )


_labels = remembered(label_report)


def scores(sums: Floats, studies: Floats) -> Floats:
    """The averages and then each observation's F1, in the order of the names, (…, 64)."""
    parts = _by_policy(sums)
    means = [agreement.averages(part, studies) for part in parts]
    each = [agreement.of_observations(part)[..., -1] for part in parts]
    return np.concatenate([*(mean.reshape(*mean.shape[:-3], -1) for mean in means), *each], axis=-1)


def details(sums: Floats) -> Mapping[str, Any]:
    """Who labelled, and of each observation how many studies have it on either side and how the two agree."""
    return {
        "labeler": LABELER,
        "version": VERSION,
        **{policy: _observations(part) for policy, part in zip(POLICIES, _by_policy(sums), strict=True)},
    }


def _observations(sums: Floats) -> dict[str, Any]:
    predicted, reference = agreement.positives(sums)
    measures = agreement.of_observations(sums)
    return {
        name: {"predicted": int(predicted[i]), "reference": int(reference[i])}
        | {measure: float(measures[i, k]) for k, measure in enumerate(MEASURES)}
        for i, name in enumerate(OBSERVATIONS)
    }


def _by_policy(sums: Floats) -> tuple[Floats, ...]:
    return tuple(sums[..., i * COLUMNS : (i + 1) * COLUMNS] for i in range(len(POLICIES)))


LABELS = MetricFamily(
    "clinical",
    (*AVERAGE_NAMES, *OBSERVATION_NAMES),
    len(POLICIES) * COLUMNS,
    statistics,
    scores,
    note=f"clinical labels are {LABELER}",
    shown=tuple(TITLES),
    details=details,
)
