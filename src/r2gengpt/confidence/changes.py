"""Sentences of change in a draft without an earlier study: they cannot be known, and are marked. Runs no model."""

from dataclasses import replace

from r2gengpt.confidence.contradictions import BETWEEN, reasons_of
from r2gengpt.metrics.labels.changes import tells_of_change
from r2gengpt.report import Report, Sentence
from r2gengpt.text.sentences import sentence_spans

NO_PRIOR = "tells of a change, and no earlier study was given"
"""Why such a sentence needs review."""


def without_prior(report: Report) -> Report:
    """The report with marks on sentences of change where it was written without an earlier study; else as it is.

    Marks that are there stay. A second time changes nothing. A report without sentences gets a line in `review`.
    """
    if report.compared:
        return report
    sentences = tuple(_marked(one) if tells_of_change(one.text) else one for one in report.sentences)
    texts = [] if sentences else [report.text[first:last] for first, last in sentence_spans(report.text)]
    lines = [f'"{text}" {NO_PRIOR}' for text in texts if tells_of_change(text)]
    return replace(report, sentences=sentences, review=tuple(dict.fromkeys([*report.review, *lines])))


def _marked(sentence: Sentence) -> Sentence:
    reasons = dict.fromkeys([*reasons_of(sentence), NO_PRIOR])
    return replace(sentence, needs_review=True, reason=BETWEEN.join(reasons))
