"""What is to be told of a report as it was written: confidence, doubts about its films, marks for review and why.

Confidence is by the calibration beside the weights. Marks are on sentences that the model's findings speak against, by
the rule labeller, and on sentences of change in a draft without an earlier study: they cannot be known. Changes no
word, runs no model, fits nothing.
"""

import json
import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from r2gengpt.confidence.findings import all_doubts
from r2gengpt.config import DecodeConfig
from r2gengpt.errors import InputError
from r2gengpt.files import write_whole
from r2gengpt.films.facts import FilmFacts
from r2gengpt.metrics.labels.changes import tells_of_change
from r2gengpt.metrics.labels.reading import THERE, Label, claims, label_report
from r2gengpt.report import Finding, Report, Sentence, chance, film_lines, plain_name
from r2gengpt.text.observations import ABNORMAL, CHILDREN, LIKELY, NO_FINDING, UNLIKELY, opening_sentences
from r2gengpt.text.sentences import has_words, sentence_spans

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


NO_WORDS = "the draft has no words"
NO_PRIOR = "tells of a change, and no earlier study was given"
"""Why a sentence of change needs review."""
BETWEEN = "; "
"""Stands between two reasons of a sentence."""

UNASSESSED = re.compile(r"\b(?:not (?:be |been )?(?:assess|evaluat)ed|no assessment)\b", re.IGNORECASE)
"""A sentence that tells of nothing looked at."""
PLACES = {
    "Cardiomegaly": re.compile(r"\b(?:heart|cardiac)\b", re.IGNORECASE),
    "Pleural Effusion": re.compile(r"\bpleura(?:l|e)?\b", re.IGNORECASE),
}
"""Observations and the words for where they are looked for."""

Labels = Mapping[str, Label]
Film = Mapping[str, Finding]


def judged(
    report: Report, calibration: Calibration | None, abstain_below: float | None, facts: Sequence[FilmFacts] = ()
) -> Report:
    """A report with confidence in its sentences, marks on those that need review, and doubts about its films.

    What was told of it before is told anew: a doubt that the facts of the films replace leaves no line behind.

    Args:
        report: as it was written.
        calibration: of the model that wrote it; None: there is none.
        abstain_below: sentences less sure than this are marked.
        facts: of its films, where they are known.
    """
    doubted = replace(report, doubts=all_doubts(report.findings, report.doubts, facts), review=())
    return without_prior(reviewed(with_confidence(doubted, calibration, abstain_below)))


def without_prior(report: Report) -> Report:
    """The report with marks on sentences of change where it was written without an earlier study; else as it is.

    Marks that are there stay. A second time changes nothing. A report without sentences gets a line in `review`.
    """
    if report.compared:
        return report
    sentences = tuple(_marked(one, [NO_PRIOR]) if tells_of_change(one.text) else one for one in report.sentences)
    texts = [] if sentences else [report.text[first:last] for first, last in sentence_spans(report.text)]
    lines = [f'"{text}" {NO_PRIOR}' for text in texts if tells_of_change(text)]
    return replace(report, sentences=sentences, review=tuple(dict.fromkeys([*report.review, *lines])))


def reviewed(report: Report) -> Report:
    """The report with marks where its text and its findings disagree, and doubts about its films among its reasons.

    A sentence that asserts what is unlikely on the film, denies what is likely, or calls its place not assessed,
    needs review and says why. What is likely on the film and not in the text stands in `review`. Marks that are there
    stay. A report without words says so. A second time changes nothing.
    """
    lines = [doubt.line for doubt in report.doubts] + ([] if has_words(report.text) else [NO_WORDS])
    if lines:
        report = replace(report, review=tuple(dict.fromkeys([*lines, *report.review])))
    if not report.findings:
        return report
    film = {finding.name: finding for finding in report.findings}
    sentences = tuple(_marked(one, list(_contradictions(one.text, film))) for one in report.sentences)
    return replace(report, sentences=sentences, review=tuple(dict.fromkeys([*report.review, *_lines(report, film)])))


def _marked(sentence: Sentence, found: Sequence[str]) -> Sentence:
    """The sentence with reasons beside those that it had.

    One that was marked without a reason says that the model is not sure of it.
    """
    reasons = sentence.reason.split(BETWEEN) if sentence.reason else []
    if sentence.needs_review and not reasons:
        sure = math.exp(sentence.logprob) if sentence.confidence is None else sentence.confidence
        reasons.append(f"the model is not sure of it ({chance(sure)})")
    reason = BETWEEN.join(dict.fromkeys([*reasons, *found]))
    return replace(sentence, needs_review=sentence.needs_review or bool(found), reason=reason)


def _contradictions(text: str, film: Film) -> Iterator[str]:
    """What the films show against each observation that a text asserts, denies, or has not looked for."""
    for name, label in claims(text).items():
        if (finding := film.get(name)) is None:
            continue
        if (label, finding.verdict) == (Label.POSITIVE, UNLIKELY):
            yield f"the film shows no {plain_name(name)}: {_verdict(finding)}"
        if (label, finding.verdict) == (Label.NEGATIVE, LIKELY):
            yield f"the film shows {plain_name(name)}: {_verdict(finding)}"
    if UNASSESSED.search(text):
        for name, place in PLACES.items():
            if place.search(text) and (finding := film.get(name)) is not None and finding.verdict == LIKELY:
                yield f"the film shows {plain_name(name)}: {_verdict(finding)}"


def _lines(report: Report, film: Film) -> Iterator[str]:
    """What is wrong with the report as a whole."""
    labels = label_report(report.text)
    if not report.sentences:
        yield from _contradictions(report.text, film)
    likely = [film[name] for name in ABNORMAL if name in film and film[name].verdict == LIKELY]
    for finding in likely:
        if not _is_named(finding.name, labels):
            yield f"left out: {plain_name(finding.name)}, {_verdict(finding)} on the film"
    yield from _normal(labels, film, likely)


def _is_named(name: str, labels: Labels) -> bool:
    """Whether a text says anything of an observation, or names a kind of it."""
    return labels[name] != Label.BLANK or any(labels[child] in THERE for child in CHILDREN.get(name, ()))


def _normal(labels: Labels, film: Film, likely: Iterable[Finding]) -> Iterator[str]:
    """Where one of text and film is normal and the other is not."""
    normal = film.get(NO_FINDING)
    if labels[NO_FINDING] == Label.POSITIVE:
        shown = [finding.in_short for finding in likely]
        if normal is not None and normal.verdict == UNLIKELY:
            shown.append(normal.in_short)
        if shown:
            yield f"the text names nothing abnormal, and the film shows: {', '.join(shown)}"
    elif normal is not None and normal.verdict == LIKELY:
        named = [plain_name(name) for name in ABNORMAL if labels[name] == Label.POSITIVE]
        if named:
            yield f"the text names {', '.join(named)}, and the film shows: {normal.in_short}"


def _verdict(finding: Finding) -> str:
    return f"{finding.word} ({chance(finding.probability)})"
