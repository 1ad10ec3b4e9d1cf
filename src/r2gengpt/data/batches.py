"""Studies that were read, as batches of tensors. Reads no file, no Lightning, no model."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from r2gengpt.metrics.labels.reading import Label, label_report
from r2gengpt.model.earlier import NOW
from r2gengpt.model.processing import R2GenGPTProcessor, pad_views
from r2gengpt.text.alignment import IGNORE, TokenRow, pad_rows, training_row
from r2gengpt.text.observations import NO_FINDING
from r2gengpt.text.sentences import sentence_spans, tokens_of

SENTENCES_KEPT = 1 << 16


@dataclass(frozen=True)
class Example:
    """One study ready to be batched; `report` is cleaned, `reference` untouched.

    It brings its `pixels` (V, 3, H, W) or, from the feature cache, its `features` (V, N, E); float32. `findings` (O,),
    float32, are the labels of its observations, NaN where unknown. `instruction` is what its prompt asks for (None: the
    model's own). The last `earlier` views are of an earlier study, whose time has the number `mark`; `compared`: its
    films or its report are there.
    """

    id: str
    pixels: Tensor | None
    report: str
    reference: str
    features: Tensor | None = None
    findings: Tensor | None = None
    instruction: str | None = None
    earlier: int = 0
    mark: int = 0
    compared: bool = False

    @property
    def views(self) -> int:
        """How many views the study itself has."""
        images = self.pixels if self.features is None else self.features
        assert images is not None
        return len(images) - self.earlier


@dataclass
class Batch:
    """Studies as the model takes them.

    `input_ids`, `attention_mask` and `labels` are (B, T), int64; `view_mask` (B, V), bool. Images come as
    `pixel_values` (B, V, 3, H, W) or as `features` of the K present views (K, N, E), float32. Training batches are
    padded on the right and have labels; prompt batches are padded on the left. `findings` (B, O), float32, are the
    labels of the observations, NaN where unknown. `token_weights` (B, T), float32, is how much each label counts (None:
    all alike). `openings` are the tokens that each report may open with (empty: none are known). `instructions` are
    what each prompt asks for (None: the model's own; empty: that of all). `marks` (B, V), int64, tells views of an
    earlier study (`model.earlier`; None: there are none), `compared` which studies have one beside them.
    """

    ids: tuple[str, ...]
    references: tuple[str, ...]
    input_ids: Tensor
    attention_mask: Tensor
    pixel_values: Tensor | None
    view_mask: Tensor
    labels: Tensor | None = None
    features: Tensor | None = None
    findings: Tensor | None = None
    token_weights: Tensor | None = None
    openings: tuple[tuple[int, ...], ...] = ()
    instructions: tuple[str | None, ...] = ()
    marks: Tensor | None = None
    compared: tuple[bool, ...] = ()

    @property
    def own_views(self) -> Tensor:
        """Which views are there and of the study itself, not of an earlier one, (B, V), bool."""
        return self.view_mask if self.marks is None else self.view_mask & (self.marks == NOW)

    @property
    def views(self) -> list[tuple[int, int]]:
        """Of each study, how many views it has and how many an earlier one has."""
        counts = zip(self.view_mask.sum(1).tolist(), self.own_views.sum(1).tolist(), strict=True)
        return [(own, every - own) for every, own in counts]

    def instruction(self, row: int) -> str | None:
        """What a study's prompt asks for; None: the model's own instruction."""
        return self.instructions[row] if self.instructions else None

    def to(self, device: torch.device | str, **kwargs: Any) -> "Batch":
        """The batch on another device (Lightning calls this)."""
        moved: dict[str, Any] = {
            name: value.to(device, **kwargs) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    @property
    def learnt(self) -> Tensor:
        """How many tokens are learnt, or the sum of their weights, ()."""
        assert self.labels is not None
        return (self.labels != IGNORE).sum() if self.token_weights is None else self.token_weights.sum()

    def inputs(self) -> dict[str, Tensor]:
        """The model's keyword arguments."""
        names = (
            "input_ids",
            "attention_mask",
            "pixel_values",
            "view_mask",
            "labels",
            "features",
            "token_weights",
            "marks",
        )
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def training_batch(
    examples: Sequence[Example], processor: R2GenGPTProcessor, max_length: int, finding_weight: float | None = None
) -> Batch:
    """A batch with labels; reports longer than `max_length` tokens are cut (see `training_row`).

    Args:
        examples: of the batch.
        processor: of the model.
        max_length: most tokens that are learnt of a report.
        finding_weight: how much tokens of sentences with a positive finding count; None: all tokens alike.
    """
    rows = [
        training_row(
            processor.prompt_row(example.views, example.instruction, example.earlier),
            processor.encode_text(example.report),
            processor.end_token_id,
            max_length,
        )
        for example in examples
    ]
    batch = _batch(examples, processor, rows, left=False)
    if finding_weight is None:
        return batch

    assert batch.labels is not None
    weights = torch.zeros(batch.labels.shape)
    for row, example in enumerate(examples):
        learnt = batch.labels[row] != IGNORE
        count = int(learnt.sum())
        weights[row][learnt] = torch.tensor(token_weights(example.report, processor, count, finding_weight))
    return replace(batch, token_weights=weights)


def prompt_batch(examples: Sequence[Example], processor: R2GenGPTProcessor) -> Batch:
    """A batch of prompts, to be continued by the model."""
    rows = [
        TokenRow(processor.prompt_row(example.views, example.instruction, example.earlier), ()) for example in examples
    ]
    return _batch(examples, processor, rows, left=True)


def _batch(examples: Sequence[Example], processor: R2GenGPTProcessor, rows: Sequence[TokenRow], *, left: bool) -> Batch:
    ids, mask = pad_rows([row.input_ids for row in rows], processor.pad_token_id, left=left)
    labels = None if left else torch.tensor(pad_rows([row.labels for row in rows], IGNORE)[0])
    pixels = [example.pixels for example in examples if example.pixels is not None]
    features = [example.features for example in examples if example.features is not None]
    pixel_values, view_mask = (None, view_counts(features)) if features else pad_views(pixels)
    return Batch(
        tuple(example.id for example in examples),
        tuple(example.reference for example in examples),
        torch.tensor(ids),
        torch.tensor(mask),
        pixel_values,
        view_mask,
        labels,
        torch.cat(features) if features else None,
        None if examples[0].findings is None else torch.stack([one.findings for one in examples]),  # type: ignore[misc]
        instructions=tuple(one.instruction for one in examples) if any(one.instruction for one in examples) else (),
        marks=_marks(examples, view_mask),
        compared=tuple(one.compared for one in examples),
    )


def _marks(examples: Sequence[Example], view_mask: Tensor) -> Tensor | None:
    """Which views are of an earlier study, (B, V), int64; None where there are none."""
    if not any(one.earlier for one in examples):
        return None
    marks = torch.full(view_mask.shape, NOW)
    for row, one in enumerate(examples):
        marks[row, one.views : one.views + one.earlier] = one.mark
    return marks


def view_counts(studies: Sequence[Tensor]) -> Tensor:
    """Which views are there, of studies of (V_i, …): (B, V), bool, as `pad_views` gives it."""
    counts = torch.tensor([len(study) for study in studies])
    return torch.arange(int(counts.max())) < counts.unsqueeze(1)


@functools.lru_cache(SENTENCES_KEPT)
def has_positive(sentence: str) -> bool:
    """Whether a sentence says of an observation, No Finding left out, that it is there."""
    return any(label == Label.POSITIVE for name, label in label_report(sentence).items() if name != NO_FINDING)


def token_weights(report: str, processor: R2GenGPTProcessor, learnt: int, weight: float) -> list[float]:
    """The weights of a report's learnt tokens: `weight` in sentences with a positive finding, else 1.

    Args:
        report: as it is learnt.
        processor: whose tokens they are.
        learnt: how many tokens are learnt, the end token included where it is.
        weight: of tokens that count more.
    """
    weights = [1.0] * learnt
    spans = sentence_spans(report)
    for span, tokens in zip(spans, tokens_of(spans, processor.token_ends(report)), strict=True):
        if has_positive(report[slice(*span)]):
            for place in tokens:
                if place < learnt:
                    weights[place] = weight
    return weights
