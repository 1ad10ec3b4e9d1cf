"""What is to be told of a report as it was written: confidence, doubts about its films, marks for review and why.

Marks are on sentences that the model's findings speak against, by the rule labeller, and on sentences of change in a
draft without an earlier study: they cannot be known. Changes no word, runs no model.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from r2gengpt.confidence.calibration import Calibration, with_confidence
from r2gengpt.confidence.film_doubts import all_doubts
from r2gengpt.films.facts import FilmFacts
from r2gengpt.metrics.labels.changes import tells_of_change
from r2gengpt.metrics.labels.observations import THERE, Label
from r2gengpt.metrics.labels.reading import claims, label_report
from r2gengpt.report import Finding, Report, Sentence, chance, plain_name
from r2gengpt.text.observations import ABNORMAL, CHILDREN, LIKELY, NO_FINDING, UNLIKELY
from r2gengpt.text.sentences import sentence_spans

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
    stay. A second time changes nothing.
    """
    if report.doubts:
        lines = [doubt.line for doubt in report.doubts]
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
