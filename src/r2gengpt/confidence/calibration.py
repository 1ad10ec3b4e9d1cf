"""Confidence of a report's sentences by the calibration beside the weights, and marks for review. Fits nothing."""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from r2gengpt.config import DecodeConfig
from r2gengpt.errors import InputError
from r2gengpt.files import write_whole
from r2gengpt.report import Report, film_lines
from r2gengpt.text.opening import opening_sentences
from r2gengpt.text.sentences import sentence_spans

log = logging.getLogger("r2gengpt.generation")
CALIBRATION = "calibration.json"
FORMAT = "r2gengpt-calibration-1"
MARK = "[needs review] "
NOT_THE_TEXT = ("decode_seed", "engine", "speculate")
"""Decode settings that leave what is said, and how likely it is, as it is."""


@dataclass(frozen=True)
class Calibration:
    """What turns a sentence's mean log-probability into the probability that a reference supports it.

    `n_sentences` of `n_studies` of a `split` were fitted on, a share `supported` of them supported; `decoding` is how
    they were written, `definition` what supported means.
    """

    temperature: float
    bias: float
    n_sentences: int
    n_studies: int
    split: str
    supported: float
    decoding: Mapping[str, Any]
    definition: str

    def confidence(self, logprob: float) -> float:
        """The probability for a mean log-probability."""
        scaled = min(max(self.temperature * logprob + self.bias, -700.0), 700.0)  # beyond that exp overflows
        return 1.0 / (1.0 + math.exp(-scaled))


def decoding_of(decode: DecodeConfig) -> dict[str, Any]:
    """The settings that a calibration depends on."""
    return {name: value for name, value in asdict(decode).items() if name not in NOT_THE_TEXT}


def write_calibration(directory: Path, calibration: Calibration) -> None:
    """Write calibration.json into a checkpoint directory, whole.

    Raises:
        InputError: it cannot be written.
    """
    path = directory / CALIBRATION
    content = json.dumps({"format": FORMAT, **asdict(calibration)}, indent=1, allow_nan=False) + "\n"
    try:
        write_whole(path, content)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror or error}", field="calibrate", value=True
        ) from None


def read_calibration(directory: Path) -> Calibration | None:
    """The calibration in a checkpoint directory; None where there is none (an original file has none).

    Raises:
        InputError: the file is damaged.
    """
    path = directory / CALIBRATION
    hint = "remove it, or write it anew with r2gengpt test `calibrate` True"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, must be {FORMAT}")
        found = Calibration(**{f.name: content[f.name] for f in fields(Calibration)})
        for number in (found.temperature, found.bias):
            if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
                raise ValueError(f"{number!r} is no finite number")
        if not isinstance(found.decoding, dict):
            raise ValueError("decoding is no object")
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}: {error}): {hint}") from None
    return found


def calibration_beside(directory: Path, decode: DecodeConfig, threshold: float | None) -> Calibration | None:
    """The model's calibration, and a log line on what a reader of confidences must know of it.

    Args:
        directory: of the checkpoint, or an original file.
        decode: how reports are written now; lengths as given, not as a data set has them.
        threshold: `abstain_below`.

    Raises:
        InputError: the file is damaged.
    """
    found = read_calibration(directory)
    if found is None:
        if threshold is not None:
            missing = "the model is not calibrated (r2gengpt test `calibrate` True), so confidence is exp(mean logprob)"
            log.info("`abstain_below` %s: %s", threshold, missing)
        return None
    now = decoding_of(decode)
    other = [f"{name} {found.decoding[name]}" for name in now if found.decoding.get(name) not in (None, now[name])]
    if other:
        log.info("%s: fitted on reports written with %s; confidence may be off", CALIBRATION, ", ".join(other))
    return found


def with_confidence(report: Report, calibration: Calibration | None, threshold: float | None = None) -> Report:
    """The report with confidence in each sentence, and marks on those below a limit; earlier marks are dropped.

    Without a calibration confidence stays None, and exp(mean logprob) is held against the limit. A sentence that the
    report opens with for the finding head has the head's probability.
    """
    sentences, led = [], opening_sentences(report.findings)
    for sentence in report.sentences:
        known = None if calibration is None else calibration.confidence(sentence.logprob)
        known = led.get(sentence.text, known)
        held = math.exp(sentence.logprob) if known is None else known
        marked = threshold is not None and held < threshold
        sentences.append(replace(sentence, confidence=known, needs_review=marked, reason=""))
    return replace(report, sentences=tuple(sentences))


def marked_text(report: Report) -> str:
    """The report with a mark before each sentence that needs review, else as it is.

    >>> from r2gengpt.report import Sentence
    >>> both = (Sentence("Clear lungs.", 3, -0.1), Sentence("Large heart.", 3, -2.0, needs_review=True))
    >>> marked_text(Report("1", "Clear lungs. Large heart.", sentences=both))
    'Clear lungs. [needs review] Large heart.'
    """
    if not report.sentences:
        return report.text
    text, parts, done = report.text, [], 0
    for (first, _), sentence in zip(sentence_spans(text), report.sentences, strict=True):
        parts += [text[done:first], MARK if sentence.needs_review else ""]
        done = first
    return "".join([*parts, text[done:]])


def text_of(report: Report) -> str:
    """The report with its marks, and below it what the films show and why it needs review, where there is anything."""
    lines = film_lines(report)
    return "\n\n".join([marked_text(report), "\n".join(lines)]) if lines else marked_text(report)
