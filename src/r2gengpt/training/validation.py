"""What validation batches give, and the scores of them all that choose the best checkpoint. Decodes nothing."""

import math
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor

from r2gengpt.config import RunConfig, TrainConfig
from r2gengpt.data.batches import Batch
from r2gengpt.errors import InputError, RunError
from r2gengpt.metrics.labels.family import LABEL_F1, LABELS
from r2gengpt.metrics.measure import FAMILIES, METRICS, MetricChoice
from r2gengpt.metrics.protocols import PROTOCOLS
from r2gengpt.metrics.score import score
from r2gengpt.report import Report


class ValidationBatch(NamedTuple):
    """The same studies twice: with labels for the loss, and as prompts for the scores."""

    learn: Batch
    prompt: Batch


class SeenFilms(NamedTuple):
    """What a finding head made of a validation batch: logits (B, O) beside labels (B, O), float32."""

    ids: tuple[str, ...]
    logits: Tensor
    labels: Tensor


class Validated(NamedTuple):
    """What a validation batch gave: the sum of its token losses, how many tokens they are, and its predictions.

    `seen` is what the finding head saw, where the model has one.
    """

    loss: float
    tokens: int
    predictions: list[Report]
    seen: SeenFilms | None = None


def validation_scores(predictions: list[Report], dataset: str, names: Collection[str] = ()) -> dict[str, float]:
    """Scores by the default protocol, without intervals.

    Args:
        predictions: of all validation studies.
        dataset: whose cleaner.
        names: those of `clinical_f1` and `distinct` that are wanted too.
    """
    clinical = (LABELS,) if "clinical_f1" in names else ()
    scores = score(
        {p.id: p.text for p in predictions},
        {p.id: [p.reference] for p in predictions},
        PROTOCOLS["clean"],
        dataset=dataset,
        choice=MetricChoice((*FAMILIES, *clinical), {}),
        resamples=0,
    )
    found = {name: scores.metrics[name].value for name in METRICS}
    if clinical:
        found["clinical_f1"] = scores.metrics[LABEL_F1].value
    if "distinct" in names:
        found["distinct"] = scores.distinct / len(scores.ids)
    return found


NONE_SEEN: Mapping[str, float] = MappingProxyType({})


def scores_of(
    batches: Sequence[Validated], config: RunConfig, seen: Mapping[str, float] = NONE_SEEN
) -> dict[str, float]:
    """The validation loss, the scores of the texts where there are any, and the sum that chooses, as `val_score`.

    Args:
        batches: of the whole split.
        config: of the run.
        seen: the scores of a finding head. Without its `findings_auc` a sum that needs it is NaN.
    """
    train = config.train
    scores = {"val_loss": sum(batch.loss for batch in batches) / sum(batch.tokens for batch in batches)}
    if needs_text(train):
        reports = [report for batch in batches for report in batch.predictions]
        scores |= validation_scores(reports, config.data.dataset, {*train.scorer_types, *train.floors})
    known = {"findings_auc": math.nan, **scores, **seen}
    parts = zip(train.scorer_types, train.weights, strict=True)
    scores["val_score"] = sum(
        weight * (-scores["val_loss"] if name == "val_loss" else known[name.lower()]) for name, weight in parts
    )
    return {**scores, **seen}


def needs_text(train: TrainConfig) -> bool:
    """Whether one of the scores that choose compares generated text with references."""
    return any(name not in ("val_loss", "findings_auc", "reward") for name in (*train.scorer_types, *train.floors))


def check_scores(config: RunConfig) -> None:
    """Refuse scores that this run cannot measure.

    Raises:
        InputError: `findings_auc` without a head.
    """
    train = config.train
    for field in ("scorer_types", "score_floors"):
        names = train.scorer_types if field == "scorer_types" else tuple(train.floors)
        if "findings_auc" in names and not config.model.findings_head:
            raise InputError("is of a finding head: it needs `findings_head` True", field=field, value="findings_auc")


def check_measured(scores: Mapping[str, float], train: TrainConfig) -> None:
    """End a run whose validation has not what chooses its best checkpoint.

    Raises:
        RunError: too few films were looked at for `findings_auc`.
    """
    if "findings_auc" in train.scorer_types and "findings_auc" not in scores:
        raise RunError(
            "the validated studies have too few positives or negatives of each observation for the findings_auc of "
            "`scorer_types`: raise `limit_val_batches`"
        )
