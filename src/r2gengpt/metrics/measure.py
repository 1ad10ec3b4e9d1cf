"""Families of metrics: which a score has, and their statistics side by side. No protocol: texts come ready to split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from r2gengpt.errors import InputError
from r2gengpt.metrics.bleu import bleu, bleu_statistics
from r2gengpt.metrics.cider import cider_d
from r2gengpt.metrics.families import MetricFamily, Texts, mean
from r2gengpt.metrics.labels.family import LABEL_F1, LABELS, NOT_ASKED
from r2gengpt.metrics.labels.location import LOCATION
from r2gengpt.metrics.labels.temporal import TEMPORAL
from r2gengpt.metrics.ngrams import Floats
from r2gengpt.metrics.rouge import rouge_l

HEADLINES: Mapping[str, str] = {LABEL_F1: "label F1 (micro of 14)", "cider": "CIDEr-D", "rouge_l": "ROUGE-L"}
"""The metrics that a verdict rests on where none is named, the first that was measured, in words."""
METRIC_WORDS: Mapping[str, str] = {
    **HEADLINES,
    "side_f1": "F1 of sides",
    "place_f1": "F1 of places",
    "side_and_place_f1": "F1 of sides and places",
    "temporal_f1": "F1 of changes",
}
"""What a verdict calls the metric that it rests on; others have their own names."""


@dataclass(frozen=True)
class MetricChoice:
    """Families to measure, name → reason for each metric that cannot be measured here, and the verdict's metric.

    Where that is None, it is the first of `HEADLINES` that is measured.
    """

    families: tuple[MetricFamily, ...]
    not_available: Mapping[str, str]
    headline: str | None = None


def choose(
    *, labels: bool = False, meteor: str = "none", clinical: Sequence[str] = (), headline: str | None = None
) -> MetricChoice:
    """What can be measured here. One that needs something more is added here, or named with why not.

    Args:
        labels: clinical labels too, the side and place of findings, and what has changed.
        meteor: one of `settings.METEOR_NAMES`: `python` is METEOR 1.5 as pycocoevalcap runs it, `jar` the same by
            pycocoevalcap's jar, which needs Java and some seconds to start.
        clinical: of `clinical_models.NAMES`, each of which loads a model at the first text.
        headline: the metric that a verdict rests on; None: label F1, CIDEr-D or ROUGE-L, the first that is measured.

    Raises:
        InputError: the headline is not measured here.
    """
    added, missing = _meteor(meteor)
    families = [*FAMILIES, *added]
    for name in clinical:
        from r2gengpt.metrics.clinical_models import clinical_family

        if isinstance(family := clinical_family(name), str):
            missing[name] = family
        else:
            families.append(family)
    if labels:
        families += [LABELS, LOCATION, TEMPORAL]
    else:
        missing |= dict.fromkeys((LABELS.name, LOCATION.name, TEMPORAL.name), NOT_ASKED)
    headline_of(metric_names(families), headline)  # refused before anything is measured
    return MetricChoice(tuple(families), missing, headline)


def headline_of(metrics: Sequence[str], named: str | None = None) -> str:
    """The metric that a verdict rests on: the one that is named, or the first of `HEADLINES` that was measured.

    Raises:
        InputError: the one that is named was not measured.
    """
    if named is not None and named not in metrics:
        raise InputError(f"is not measured here: choose from {', '.join(metrics)}", field="headline", value=named)
    return named or next((name for name in HEADLINES if name in metrics), metrics[0])


def _meteor(kind: str) -> tuple[tuple[MetricFamily, ...], dict[str, str]]:
    """The family of METEOR, or why there is none."""
    if kind == "none":
        return (), {"meteor": "not asked for (`meteor` python)"}
    from r2gengpt.metrics.meteor.statistics import meteor_family

    if kind == "jar":
        from r2gengpt.metrics.meteor import jar

        jar_place = jar.find()
        if isinstance(jar_place, str):
            return (), {"meteor": jar_place}
        return (meteor_family(partial(jar.rows_of, jar_place)),), {}
    from r2gengpt.metrics.meteor import python

    place = python.find()
    if isinstance(place, str):
        return (), {"meteor": place}
    return (meteor_family(partial(python.rows_of, place)),), {}


def _bleu_statistics(texts: Texts) -> Floats:
    return bleu_statistics(texts.counted).columns()


def _bleu(sums: Floats, studies: Floats) -> Floats:
    return bleu(sums)


def _rouge_l(texts: Texts) -> Floats:
    return rouge_l(texts.hypotheses, texts.references)[:, None]


def _cider(texts: Texts) -> Floats:
    return cider_d(texts.counted)[:, None]


FAMILIES = (
    MetricFamily("bleu", ("bleu_1", "bleu_2", "bleu_3", "bleu_4"), 10, _bleu_statistics, _bleu),
    MetricFamily("rouge_l", ("rouge_l",), 1, _rouge_l, mean),
    MetricFamily("cider", ("cider",), 1, _cider, mean),
)
"""Those that need nothing but the texts; `choose` knows of others."""


def metric_names(families: Sequence[MetricFamily]) -> tuple[str, ...]:
    """The names of all scores, in the order of `scores_of`."""
    return tuple(name for family in families for name in family.metrics)


METRICS = metric_names(FAMILIES)


def measure(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    families: Sequence[MetricFamily] = FAMILIES,
    *,
    written: Sequence[str] | None = None,
    wanted: Sequence[Sequence[str]] | None = None,
) -> Floats:
    """The statistics of each study, (S, C), C being the columns of all families, as `scores_of` reads them.

    CIDEr-D's document frequencies are those of all references given here, also when studies are resampled later.

    Args:
        hypotheses: S texts in the protocol's form.
        references: for each one text or more.
        families: what is measured.
        written: the hypotheses before the protocol's cleaning; None: the same.
        wanted: the references before it; None: the same.

    Raises:
        ValueError: different numbers of texts, or a family whose statistics are not those it promises.
    """
    texts = Texts(
        hypotheses,
        references,
        hypotheses if written is None else written,
        references if wanted is None else wanted,
    )
    parts = [family.statistics(texts) for family in families]
    for family, part in zip(families, parts, strict=True):
        if part.shape != (len(hypotheses), family.columns) or not np.isfinite(part).all():
            raise ValueError(f"{family.name}: statistics of shape {part.shape}, or not all of them finite")
    return np.concatenate(parts, axis=1)


def scores_of(sums: Floats, studies: int | Floats, families: Sequence[MetricFamily] = FAMILIES) -> Floats:
    """The scores in `metric_names`' order, (…, M), of sums of statistics, (…, C).

    With `studies` 1 and the statistics themselves these are the scores of each study: BLEU is then sentence BLEU as
    coco-caption gives it (not smoothed: 0 to eight digits where no 4-gram matches).

    Args:
        sums: of `measure`'s rows.
        studies: how many were summed; one number, or (…) where the sums differ in it.
        families: those measured.
    """
    counts = np.asarray(studies, dtype=np.float64)[..., None]
    ends = np.cumsum([family.columns for family in families])
    parts = np.split(sums, ends[:-1], axis=-1)
    return np.concatenate([f.scores(part, counts) for f, part in zip(families, parts, strict=True)], axis=-1)
