"""Confidence of sentences held against the labels of their references. Fits nothing and writes no file."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from r2gengpt.confidence.review import Calibration
from r2gengpt.data.study import Study
from r2gengpt.evaluation.findings import group_numbers
from r2gengpt.metrics import calibration as metric
from r2gengpt.metrics.calibration import Judged
from r2gengpt.metrics.labels.reading import DEFINITION, is_supported, label_report
from r2gengpt.metrics.ngrams import Floats
from r2gengpt.report import Report
from r2gengpt.text.observations import opening_sentences

RESAMPLES, SEED = 1000, 0
UNCALIBRATED = "Confidence is exp(mean log-probability): not calibrated."
CALIBRATED = "Confidence is 1 / (1 + exp(-(temperature · mean log-probability + bias)))"


def judged_sentences(predictions: Sequence[Report], studies: Sequence[Study]) -> tuple[Judged, Floats]:
    """The sentences that assert something, judged by the labels of their study's reference, and who is sure of them.

    Args:
        predictions: one for each study; sentences that were taken from reports have no probability and do not count.
        studies: in the same order; where every patient is known, sentences are grouped by patient, else by study.

    Returns:
        The sentences, and (n,) the finding head's probability of those that it opens a report with; NaN of all others.
    """
    groups = group_numbers(studies)
    rows: list[tuple[float, bool, int, float]] = []
    for report, study, group in zip(predictions, studies, groups.tolist(), strict=True):
        reference, led = label_report(study.report), opening_sentences(report.findings)
        for sentence in (one for one in report.sentences if not one.source):
            supported = is_supported(sentence.text, reference)
            if supported is not None:
                rows.append((sentence.logprob, supported, group, led.get(sentence.text, math.nan)))
    logprobs, correct, of, by_head = np.array(rows, dtype=float).reshape(-1, 4).T
    return Judged(logprobs, correct, of.astype(np.int64), int(groups.max()) + 1), by_head


def measured_confidence(
    predictions: Sequence[Report], studies: Sequence[Study], calibration: Calibration | None
) -> Mapping[str, Any] | str:
    """What scores.json says of confidence, or why it cannot be measured.

    `ece` is that of the confidence that is used: without a calibration the same as `ece_uncalibrated`. Sentences that
    the finding head opens a report with have its probability in both.
    """
    judged, by_head = judged_sentences(predictions, studies)
    if not len(judged) and any(sentence.source for report in predictions for sentence in report.sentences):
        return "sentences that were taken from reports have no probability"
    if not len(judged):
        return "no sentence asserts one of the 14 observations (or the predictions have no sentences)"
    written = np.isnan(by_head)
    plain = np.where(written, np.exp(judged.logprobs), by_head)
    used, about = plain, UNCALIBRATED
    if calibration is not None:
        fitted = metric.probability(judged.logprobs, calibration.temperature, calibration.bias)
        used = np.where(written, fitted, by_head)
        about = f"{CALIBRATED}, fitted on {calibration.n_sentences} sentences of split {calibration.split}."
    return {
        "n_sentences": len(judged),
        "supported": float(judged.correct.mean()),
        "ece": metric.calibration_score(used, judged, RESAMPLES, SEED).to_json(),
        "ece_uncalibrated": metric.calibration_score(plain, judged, RESAMPLES, SEED).to_json(),
        "reliability": metric.reliability(used, judged.correct),
        "risk_coverage": metric.risk_coverage(used, judged.correct),
        "aurc": metric.area_under_risk(used, judged.correct),
        "temperature": None if calibration is None else calibration.temperature,
        "bias": None if calibration is None else calibration.bias,
        "definition": f"{DEFINITION} {about}",
    }
