"""Where a report's text and its films disagree, by the rule labeller and the model's findings. Changes no word."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from r2gengpt.metrics.labels.observations import Label
from r2gengpt.metrics.labels.reading import label_report
from r2gengpt.metrics.labels.support import asserted
from r2gengpt.report import Finding, Report, Sentence, chance, plain_name
from r2gengpt.text.observations import ABNORMAL, CHILDREN, LIKELY, NO_FINDING, UNLIKELY

NAMED = (Label.POSITIVE, Label.UNCERTAIN)
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
    sentences = tuple(_sentence(one, film) for one in report.sentences)
    return replace(report, sentences=sentences, review=tuple(dict.fromkeys([*report.review, *_lines(report, film)])))


def _sentence(sentence: Sentence, film: Film) -> Sentence:
    """The sentence with all its reasons."""
    found = list(_contradictions(sentence.text, film))
    reason = BETWEEN.join(dict.fromkeys([*reasons_of(sentence), *found]))
    return replace(sentence, needs_review=sentence.needs_review or bool(found), reason=reason)


def reasons_of(sentence: Sentence) -> list[str]:
    """Why a sentence was marked before; one that was marked without a reason says that the model is not sure of it."""
    reasons = sentence.reason.split(BETWEEN) if sentence.reason else []
    if sentence.needs_review and not reasons:
        sure = math.exp(sentence.logprob) if sentence.confidence is None else sentence.confidence
        reasons.append(f"the model is not sure of it ({chance(sure)})")
    return reasons


def _contradictions(text: str, film: Film) -> Iterator[str]:
    """What the films show against each observation that a text asserts, denies, or has not looked for."""
    for name, label in asserted(text).items():
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
    return labels[name] != Label.BLANK or any(labels[child] in NAMED for child in CHILDREN.get(name, ()))


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
