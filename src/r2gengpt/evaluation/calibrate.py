"""A model's calibration: the one beside its weights, or a new one from its val predictions. Scores nothing."""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from r2gengpt.build import Built
from r2gengpt.checkpoint import EMBEDDED
from r2gengpt.config import DecodeConfig
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.evaluation.confidence import CALIBRATED, judged_sentences
from r2gengpt.evaluation.run import Evaluation, predict_studies
from r2gengpt.generation.confidence import Calibration, calibration_beside, decoding_of, write_calibration
from r2gengpt.generation.gather import Share, agreed
from r2gengpt.generation.prediction import Prediction
from r2gengpt.metrics.calibration import fit as fit_logistic
from r2gengpt.metrics.labels import is_available
from r2gengpt.metrics.labels.family import NOT_INSTALLED
from r2gengpt.metrics.labels.support import DEFINITION

log = logging.getLogger("r2gengpt.evaluation")
SPLIT = "val"
LEAST = 10
"""Fewest sentences that a calibration is fitted on."""


def check_calibratable(directory: Path) -> None:
    """Refuse, before anything is predicted, to calibrate where the result could not be made or kept.

    Raises:
        InputError: no labels here, or a place beside the weights that cannot be written to.
    """
    flag = "--calibrate True"
    if not is_available():
        raise InputError(f"{flag}: {NOT_INSTALLED}")
    if not directory.is_dir():
        raise InputError(
            f"{flag}: {directory} is an original file, nothing can be kept beside it: `r2gengpt convert` it"
        )
    if directory == EMBEDDED or not os.access(directory, os.W_OK):
        raise InputError(f"{flag}: {directory} may not be written to: copy it and name the copy")


def settled_calibration(
    built: Built,
    plan: Evaluation,
    studies: Sequence[Study],
    predictions: Sequence[Prediction],
    directory: Path,
    share: Share,
    below: float | None,
) -> Calibration | None:
    """The calibration of a test, in the first process; None in the others, which only help to write.

    Args:
        built: the model.
        plan: of the test.
        studies: to fit on; none: what lies beside the weights is taken.
        predictions: of the test, which are not written again where they are those of `studies`.
        directory: of the checkpoint.
        share: which process this is.
        below: --abstain_below.

    Raises:
        InputError: too little to fit on, or the stored one is damaged; in every process.
    """
    if studies and tuple(studies) != tuple(plan.studies):
        fitted_on = replace(plan, studies=studies)
        predictions = predict_studies(built, fitted_on, share.rank, share.world, title=f"calibration, split {SPLIT}")

    def work() -> Calibration | None:
        if share.rank:
            return None
        if not studies:
            return calibration_beside(directory, plan.decode, below)
        found = calibrate(predictions, studies, SPLIT, plan.decode)
        write_calibration(directory, found)
        return found

    return agreed(work)


def calibrate(
    predictions: Sequence[Prediction], studies: Sequence[Study], split: str, decode: DecodeConfig
) -> Calibration:
    """Fit a calibration on the predictions of a split.

    Raises:
        InputError: too few of their sentences assert anything.
    """
    judged = judged_sentences(predictions, studies)
    if len(judged) < LEAST:
        what = f"{len(judged)} sentences written for its {len(studies)} studies assert an observation"
        raise InputError(f"--calibrate True: split {split} is too small: {what}, must be at least {LEAST}")
    temperature, bias = fit_logistic(judged.logprobs, judged.correct)
    supported = float(judged.correct.mean())
    log.info(
        "--calibrate True: temperature %.3f, bias %.3f; %d sentences of split %s, %.1f %% supported",
        *(temperature, bias, len(judged), split, 100 * supported),
    )
    if temperature == 0:
        log.info("--calibrate True: likelier sentences were not more often supported: all get the same confidence")
    about = f"{DEFINITION} {CALIBRATED}."
    settings = decoding_of(decode)
    return Calibration(temperature, bias, len(judged), len(studies), split, supported, settings, about)
