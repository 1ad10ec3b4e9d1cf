"""A model's calibration: the one beside its weights, or a new one from its val predictions. Scores nothing."""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from r2gengpt.checkpoint_files import EMBEDDED
from r2gengpt.confidence.review import Calibration, decoding_of, write_calibration
from r2gengpt.config import DecodeConfig
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.evaluation.confidence import CALIBRATED, judged_sentences
from r2gengpt.evaluation.run import Evaluation, predict_studies
from r2gengpt.metrics.calibration import fit as fit_logistic
from r2gengpt.metrics.labels.reading import DEFINITION
from r2gengpt.processes import Share, agreed
from r2gengpt.report import Report
from r2gengpt.reporter import Reporter

log = logging.getLogger("r2gengpt.evaluation")
SPLIT = "val"
LEAST = 10
"""Fewest sentences that a calibration is fitted on."""


def check_calibratable(directory: Path, *, retrieves: bool = False) -> None:
    """Refuse, before anything is predicted, to calibrate where the result could not be made or kept.

    Args:
        directory: of the checkpoint.
        retrieves: sentences are taken from reports.

    Raises:
        InputError: no probabilities, or a place beside the weights that cannot be written to.
    """
    if retrieves:
        words = "sentences that `writer` retrieve takes from reports have no probability"
        raise InputError(words, field="calibrate", value=True)
    if not directory.is_dir():
        words = f"{directory} is an original file, nothing can be kept beside it: `r2gengpt convert` it"
        raise InputError(words, field="calibrate", value=True)
    if directory == EMBEDDED or not os.access(directory, os.W_OK):
        raise InputError(f"{directory} may not be written to: copy it and name the copy", field="calibrate", value=True)


def settled_calibration(
    reporter: Reporter,
    plan: Evaluation,
    studies: Sequence[Study],
    predictions: Sequence[Report],
    directory: Path,
    share: Share,
) -> Calibration | None:
    """The calibration of a test, in the first process; None in the others, which only help to write.

    Args:
        reporter: of the test.
        plan: of the test.
        studies: to fit on; none: what lies beside the weights is taken.
        predictions: of the test, which are not written again where they are those of `studies`.
        directory: of the checkpoint.
        share: which process this is.

    Raises:
        InputError: too little to fit on, or the stored one is damaged; in every process.
    """
    if studies and tuple(studies) != tuple(plan.studies):
        fitted_on = replace(plan, studies=studies)
        predictions = predict_studies(reporter, fitted_on, share.rank, share.world, title=f"calibration, split {SPLIT}")

    def work() -> Calibration | None:
        if share.rank:
            return None
        if not studies:
            return reporter.calibration
        found = calibrate(predictions, studies, SPLIT, reporter.decode)
        write_calibration(directory, found)
        return found

    return agreed(work)


def calibrate(predictions: Sequence[Report], studies: Sequence[Study], split: str, decode: DecodeConfig) -> Calibration:
    """Fit a calibration on the predictions of a split, those sentences left out that the finding head opens it with.

    Raises:
        InputError: too few of their sentences assert anything.
    """
    every, by_head = judged_sentences(predictions, studies)
    judged = every.only(np.isnan(by_head))
    if len(judged) < LEAST:
        what = f"{len(judged)} sentences written for its {len(studies)} studies assert an observation"
        raise InputError(f"split {split} is too small: {what}, must be at least {LEAST}", field="calibrate", value=True)
    temperature, bias = fit_logistic(judged.logprobs, judged.correct)
    supported = float(judged.correct.mean())
    log.info(
        "`calibrate` True: temperature %.3f, bias %.3f; %d sentences of split %s, %.1f %% supported",
        *(temperature, bias, len(judged), split, 100 * supported),
    )
    if temperature == 0:
        log.info("`calibrate` True: likelier sentences were not more often supported: all get the same confidence")
    about = f"{DEFINITION} {CALIBRATED}."
    settings = decoding_of(decode)
    return Calibration(temperature, bias, len(judged), len(studies), split, supported, settings, about)
