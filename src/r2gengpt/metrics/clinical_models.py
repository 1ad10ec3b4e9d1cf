"""Metrics by trained models, through the package RadEval where it is installed. No model and no weights of our own.

RadEval loads its weights from a hub at the first text; nothing of it is imported before. Texts are read as they were
written, before any protocol's cleaning. Source: RadEval 2.2 (MIT), `radeval/radeval.py` and `radeval/metrics`.
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from r2gengpt.errors import InputError, RunError, installing
from r2gengpt.metrics.families import MetricFamily, Texts, mean
from r2gengpt.metrics.ngrams import Floats

MEANS = {
    "bertscore": ("bertscore",),
    "radeval_bertscore": ("radeval_bertscore",),
    "radgraph": ("radgraph_simple", "radgraph_partial", "radgraph_complete"),
    "green": ("green",),
    "ratescore": ("ratescore",),
    "crimson": ("crimson",),
}
"""RadEval's metric → its scores of each study, whose means are the scores of all."""
RADCLIQ = "radcliq"
RADCLIQ_SCORES = ("radcliq_v1",)
CHEXBERT = "f1chexbert"
CHEXBERT_SCORES = tuple(
    f"f1chexbert_{labels}_{how}" for labels in ("14", "5") for how in ("micro", "macro", "weighted")
)
SRRBERT = "srrbert"
SRRBERT_SCORES = tuple(f"srrbert_weighted_{measure}" for measure in ("f1", "precision", "recall"))
NAMES = (*MEANS, CHEXBERT, RADCLIQ, SRRBERT)
LABELS = 14
"""CheXbert's."""
LEAVES = 163
"""SRR-BERT's, each a finding with its status."""
NOTES = {
    CHEXBERT: "uncertain counts as positive, as in RadEval",
    RADCLIQ: "1 over the mean, so more is better, as RadEval and ReXrank give it",
}


def clinical_family(name: str) -> MetricFamily | str:
    """The family of one of `NAMES`, or in words what is missing."""
    if importlib.util.find_spec("radeval") is None:
        return f"the package RadEval is missing: {installing('clinical')}"
    note = f"{name}: {NOTES[name]}" if name in NOTES else ""
    if name == CHEXBERT:
        return MetricFamily(name, CHEXBERT_SCORES, 4 * LABELS, _chexbert_counts, _chexbert_f1, note)
    if name == SRRBERT:
        return MetricFamily(name, SRRBERT_SCORES, 3 * LEAVES, _srrbert_counts, _srrbert_scores, note)
    if name == RADCLIQ:
        return MetricFamily(name, RADCLIQ_SCORES, 1, _radcliq, _inverse_mean, note)
    return MetricFamily(name, MEANS[name], len(MEANS[name]), functools.partial(_per_study, name), mean, note)


@functools.cache
def _evaluator(name: str) -> Any:
    """RadEval with one metric, giving scores of each study.

    Raises:
        RunError: a package or weights that it needs cannot be loaded; names the first line of why.
    """
    try:
        return importlib.import_module("radeval").RadEval(metrics=[name], per_sample=True, show_progress=False)
    except (ImportError, OSError, RuntimeError, AssertionError) as error:  # by hubs, files, devices
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RunError(f"`clinical` {name}: RadEval cannot load it: {why}") from error


def _pairs(texts: Texts, name: str) -> tuple[list[str], list[str]]:
    """Outputs and references, each pair once."""
    if several := next((references for references in texts.wanted if len(references) > 1), None):
        raise InputError(f"takes one reference a study, one has {len(several)}", field="clinical", value=name)
    return list(texts.written), [references[0] for references in texts.wanted]


def _once(texts: Texts, name: str, compute: Callable[[list[str], list[str]], Floats], columns: int) -> Floats:
    """The statistics of each study, (S, columns); `compute` sees each pair of texts once."""
    pairs = list(zip(*_pairs(texts, name), strict=True))
    distinct = list(dict.fromkeys(pairs))
    place = {pair: i for i, pair in enumerate(distinct)}
    found = compute([pair[0] for pair in distinct], [pair[1] for pair in distinct])
    return _checked(found, name, len(distinct), columns)[[place[pair] for pair in pairs]]


def _checked(found: Floats, name: str, studies: int, columns: int) -> Floats:
    """What RadEval gave, (studies, columns).

    Raises:
        RunError: it is of another shape, or not finite.
    """
    if found.shape != (studies, columns):
        raise RunError(f"`clinical` {name}: RadEval gave {found.shape} numbers for {studies} studies")
    if wrong := int((~np.isfinite(found)).any(axis=1).sum()):
        raise RunError(f"`clinical` {name}: RadEval gave no number for {wrong} of {studies} pairs of texts")
    return found


def _per_study(name: str, texts: Texts) -> Floats:
    def compute(hypotheses: list[str], references: list[str]) -> Floats:
        scores = _evaluator(name)(refs=references, hyps=hypotheses)
        return np.array([scores[key] for key in MEANS[name]], dtype=np.float64).T

    return _once(texts, name, compute, len(MEANS[name]))


def _radcliq(texts: Texts) -> Floats:
    """RadCliQ-v1 of each study, (S, 1). Its BERTScore weighs words by how many references have them: all are given."""
    hypotheses, references = _pairs(texts, RADCLIQ)
    found = np.array([_evaluator(RADCLIQ)(refs=references, hyps=hypotheses)[RADCLIQ_SCORES[0]]], dtype=np.float64).T
    return _checked(found, RADCLIQ, len(hypotheses), 1)


def _inverse_mean(sums: Floats, studies: Floats) -> Floats:
    return _ratio(np.broadcast_to(studies, sums.shape), sums)


def chexbert_labels(reports: Sequence[str]) -> list[dict[str, int]]:
    """What CheXbert reads in each report: observation → 1 positive, -1 uncertain, 0 negative or not mentioned.

    Raises:
        RunError: RadEval or its weights cannot be loaded.
    """
    scorer = _evaluator(CHEXBERT).f1chexbert_scorer
    rows = scorer.get_labels(list(reports), mode="classification")
    return [dict(zip(scorer.TARGET_NAMES, row, strict=True)) for row in rows]


def _chexbert_counts(texts: Texts) -> Floats:
    """True and false positives and false negatives of 14 labels, and which of them are among the five, (S, 56)."""
    scorer = _evaluator(CHEXBERT).f1chexbert_scorer
    five = [float(label in scorer.TOP5) for label in scorer.TARGET_NAMES]

    def compute(hypotheses: list[str], references: list[str]) -> Floats:
        ours, theirs = (np.array(scorer.get_labels(some)) == 1 for some in (hypotheses, references))
        return np.concatenate([_counts(ours, theirs), np.tile(five, (len(hypotheses), 1))], axis=1)

    return _once(texts, CHEXBERT, compute, 4 * LABELS)


def _chexbert_f1(sums: Floats, studies: Floats) -> Floats:
    """Micro, macro and weighted F1 over all labels, then over the five."""
    *counts, five = np.split(sums, 4, axis=-1)
    scores = []
    for chosen in (np.ones_like(five), (five > 0).astype(np.float64)):
        hit, false, missed = (some * chosen for some in counts)
        f1, support = _ratio(2 * hit, 2 * hit + false + missed), hit + missed
        scores += [
            _ratio(2 * hit.sum(axis=-1), (2 * hit + false + missed).sum(axis=-1)),
            f1.sum(axis=-1) / chosen.sum(axis=-1),
            _ratio((f1 * support).sum(axis=-1), support.sum(axis=-1)),
        ]
    return np.stack(scores, axis=-1)


def _srrbert_counts(texts: Texts) -> Floats:
    """True and false positives and false negatives of the leaves, (S, 489). A report has what any sentence has."""
    scorer = _evaluator(SRRBERT).srrbert_scorer
    split = importlib.import_module("radeval.metrics.SRRBert.srr_bert").srr_bert_parse_sentences

    def labels(reports: list[str]) -> npt.NDArray[np.bool_]:
        parts = [split(report) for report in reports]
        found, _ = scorer(sentences=[sentence for part in parts for sentence in part])
        ends = np.cumsum([len(part) for part in parts])[:-1]
        return np.stack([some.any(axis=0) for some in np.split(np.asarray(found) == 1, ends)])

    def compute(hypotheses: list[str], references: list[str]) -> Floats:
        return _counts(labels(hypotheses), labels(references))

    return _once(texts, SRRBERT, compute, 3 * LEAVES)


def _srrbert_scores(sums: Floats, studies: Floats) -> Floats:
    """F1, precision and recall, each the mean of the leaves' by how often the references have them."""
    hit, false, missed = np.split(sums, 3, axis=-1)
    support = hit + missed
    each = (_ratio(2 * hit, 2 * hit + false + missed), _ratio(hit, hit + false), _ratio(hit, support))
    return np.stack([_ratio((one * support).sum(axis=-1), support.sum(axis=-1)) for one in each], axis=-1)


def _counts(ours: npt.NDArray[np.bool_], theirs: npt.NDArray[np.bool_]) -> Floats:
    """True positives, false positives and false negatives of L labels in S studies, (S, 3 L), of (S, L) twice."""
    return np.concatenate([ours & theirs, ours & ~theirs, ~ours & theirs], axis=1).astype(np.float64)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """0 where there is nothing to divide by, as in scikit-learn."""
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole != 0)
