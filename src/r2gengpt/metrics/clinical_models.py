"""Metrics by trained models, through the package RadEval where it is installed. No model and no weights of our own.

RadEval loads its weights from a hub at the first text; nothing of it is imported before. Texts are read as they were
written, before any protocol's cleaning. Source: RadEval 2.2 (MIT), `radeval/radeval.py` and `radeval/metrics`.
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from r2gengpt.errors import InputError, RunError, installing
from r2gengpt.metrics.families import MetricFamily, Texts, mean
from r2gengpt.metrics.ngrams import Floats

MEANS = {
    "bertscore": ("bertscore",),
    "radeval_bertscore": ("radeval_bertscore",),
    "radgraph": ("radgraph_simple", "radgraph_partial", "radgraph_complete"),
    "green": ("green",),
    "ratescore": ("ratescore",),
}
"""RadEval's metric → its scores of each study, whose means are the scores of all."""
CHEXBERT = "f1chexbert"
CHEXBERT_SCORES = tuple(f"f1chexbert_{labels}_{how}" for labels in ("14", "5") for how in ("micro", "macro"))
NAMES = (*MEANS, CHEXBERT)
LABELS = 14
_NOTE = f"{CHEXBERT}: uncertain counts as positive, as in RadEval"


def clinical_family(name: str) -> MetricFamily | str:
    """The family of one of `NAMES`, or in words what is missing."""
    if importlib.util.find_spec("radeval") is None:
        return f"the package RadEval is missing: {installing('clinical')}"
    if name == CHEXBERT:
        return MetricFamily(name, CHEXBERT_SCORES, 4 * LABELS, _chexbert_counts, _chexbert_f1, _NOTE)
    return MetricFamily(name, MEANS[name], len(MEANS[name]), functools.partial(_per_study, name), mean)


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
    if found.shape != (len(distinct), columns):
        raise RunError(f"`clinical` {name}: RadEval gave {found.shape} numbers for {len(distinct)} studies")
    return found[[place[pair] for pair in pairs]]


def _per_study(name: str, texts: Texts) -> Floats:
    def compute(hypotheses: list[str], references: list[str]) -> Floats:
        scores = _evaluator(name)(refs=references, hyps=hypotheses)
        return np.array([scores[key] for key in MEANS[name]], dtype=np.float64).T

    return _once(texts, name, compute, len(MEANS[name]))


def _chexbert_counts(texts: Texts) -> Floats:
    """True and false positives and false negatives of 14 labels, and which of them are among the five, (S, 56)."""
    scorer = _evaluator(CHEXBERT).f1chexbert_scorer
    five = [float(label in scorer.TOP5) for label in scorer.TARGET_NAMES]

    def compute(hypotheses: list[str], references: list[str]) -> Floats:
        ours, theirs = (np.array(scorer.get_labels(some)) == 1 for some in (hypotheses, references))
        counts = np.concatenate([ours & theirs, ours & ~theirs, ~ours & theirs], axis=1)
        return np.concatenate([counts, np.tile(five, (len(hypotheses), 1))], axis=1)

    return _once(texts, CHEXBERT, compute, 4 * LABELS)


def _chexbert_f1(sums: Floats, studies: Floats) -> Floats:
    """Micro and macro F1 over all labels, then over the five; a label that nobody has counts 0, as in scikit-learn."""
    hits, false, missed, five = np.split(sums, 4, axis=-1)
    scores = []
    for chosen in (np.ones_like(five), (five > 0).astype(np.float64)):
        hit, wrong = hits * chosen, (false + missed) * chosen
        scores += [_f1(hit.sum(axis=-1), wrong.sum(axis=-1)), _f1(hit, wrong).sum(axis=-1) / chosen.sum(axis=-1)]
    return np.stack(scores, axis=-1)


def _f1(hits: Floats, wrong: Floats) -> Floats:
    whole = 2 * hits + wrong
    return np.divide(2 * hits, whole, out=np.zeros_like(whole), where=whole > 0)
