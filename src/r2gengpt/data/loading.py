"""Studies to batches of tensors, in an order that depends on seed, epoch and nothing else. No Lightning, no model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from r2gengpt.config import CONTEXT_FIELDS, PRIOR
from r2gengpt.data.ahead import read_ahead
from r2gengpt.data.augment import augment
from r2gengpt.data.features.filling import Features
from r2gengpt.data.identity import check_files
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError, RunError
from r2gengpt.films.cell import pool as cell
from r2gengpt.films.reader import load_image
from r2gengpt.model.earlier import NOW, span_of
from r2gengpt.model.processing import R2GenGPTProcessor, decoded_size, pad_views
from r2gengpt.text.alignment import IGNORE, TokenRow, pad_rows, training_row
from r2gengpt.text.cleaning import CLEANERS
from r2gengpt.text.context import Context

Key = tuple[int, int]
"""Which sample: (epoch, index). The epoch seeds the augmentation, so a sample depends on its key alone."""
GREY = (128, 128, 128)
"""Of a film that shows nothing."""
OF_CONTEXT = 1
"""Keeps what is drawn for prompts apart from what is drawn for images."""
NO_CAPS: Mapping[str, int] = MappingProxyType({})
Collated = TypeVar("Collated")
"""What a loader makes of the examples of a batch."""


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
    def views(self) -> list[tuple[int, int]]:
        """Of each study, how many views it has and how many an earlier one has."""
        there = self.view_mask.sum(1).tolist()
        if self.marks is None:
            return [(count, 0) for count in there]
        now = (self.view_mask & (self.marks == NOW)).sum(1).tolist()
        return [(count, every - count) for every, count in zip(there, now, strict=True)]

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


@dataclass(frozen=True)
class FieldDropout:
    """Which fields of a training study's context are left out of its prompt: each by itself, by the sample's key.

    Attributes:
        chance: of each field.
        seed: of the run.
    """

    chance: float
    seed: int

    def of(self, context: Context, key: Key) -> Context:
        """What is left of a context; the time of an earlier study stays with its report."""
        fields = (*CONTEXT_FIELDS, PRIOR)
        return context.only([name for name, kept in zip(fields, self._kept(key), strict=False) if kept])

    def keeps_films(self, key: Key) -> bool:
        """Whether the films of an earlier study are left."""
        return self._kept(key)[-1]

    def _kept(self, key: Key) -> list[bool]:
        """Of each field, of the earlier study's report and of its films, whether it is left."""
        drawn = np.random.default_rng((self.seed, *key, OF_CONTEXT)).random(len(CONTEXT_FIELDS) + 2)
        return [bool(number >= self.chance) for number in drawn]


class StudyDataset(Dataset[Example]):
    """Studies of one split, read when asked for by their key.

    Args:
        studies: in the annotation's order.
        processor: makes pixels.
        dataset: whose report cleaner to use.
        seed: of the augmentation; None for none.
        features: of all the studies' images, from the feature cache; no image is opened then.
        in_cell: images come from strangers, and are decoded in the cell.
        findings: (n, O), the labels of the studies' observations.
        mirror: mirror half of the augmented images.
        blank: every view is of one grey, and no image is opened.
        left_out: which fields of a study's context its prompt goes without; None: none.
    """

    def __init__(
        self,
        studies: Sequence[Study],
        processor: R2GenGPTProcessor,
        dataset: str,
        *,
        seed: int | None = None,
        features: Features | None = None,
        in_cell: bool = False,
        findings: Tensor | None = None,
        mirror: bool = False,
        left_out: FieldDropout | None = None,
        blank: bool = False,
    ) -> None:
        self.studies = studies
        self.processor = processor
        self.clean = CLEANERS[dataset]
        self.seed = seed
        self.features = features
        self.in_cell = in_cell
        self.findings = findings
        self.mirror = mirror
        self.left_out = left_out
        self.blank = blank
        self.size = decoded_size(processor)

    def __len__(self) -> int:
        return len(self.studies)

    def __getitem__(self, key: Key) -> Example:
        index = key[1]
        study = self.studies[index]
        report, findings = self.clean(study.report), None if self.findings is None else self.findings[index]
        before = self._earlier(study, key)
        films = [study] if before is None else [study, before]
        pixels, features = None, None
        if self.features is not None and not self.blank:
            features = torch.cat([self.features.of(one) for one in films])
        else:
            pixels = self.processor.pixels(self._pictures(films, key))
        context = self._context(study, key, films=before is not None)
        return Example(
            study.id,
            pixels,
            report,
            study.report,
            features,
            findings,
            self.processor.instruction_for(context) if self.processor.context_fields else None,
            earlier=0 if before is None else len(before.image_paths),
            mark=span_of(context.prior_days),
            compared=self.processor.reads_prior and (before is not None or bool(context.prior)),
        )

    def _pictures(self, films: Sequence[Study], key: Key) -> list[Image.Image]:
        """The views of a study and of an earlier one, as they are learnt from."""
        if self.blank:
            return [Image.new("RGB", (self.size, self.size), GREY)] * sum(len(one.image_paths) for one in films)
        for one in films:
            check_files(one)
        load = cell.load_image if self.in_cell else load_image
        images = [load(path, size=self.size, dicom=one.dicom) for one in films for path in one.image_paths]
        if self.seed is None:
            return images
        rng = np.random.default_rng((self.seed, *key))
        return [augment(image, rng, mirror=self.mirror) for image in images]

    def _earlier(self, study: Study, key: Key) -> Study | None:
        """The earlier study whose films stand beside a study's; None where there is none, or they are left out."""
        if not self.processor.reads_prior or (self.left_out is not None and not self.left_out.keeps_films(key)):
            return None
        return study.earlier

    def _context(self, study: Study, key: Key, *, films: bool) -> Context:
        """What the prompt tells of a study; `films`: those of an earlier one are there, and so is their time."""
        if self.left_out is None:
            return study.context
        left = self.left_out.of(study.context, key)
        return replace(left, prior_days=study.context.prior_days) if films else left


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
    from r2gengpt.data.weighting import token_weights

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


def shuffled_batches(
    count: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    rank: int = 0,
    world: int = 1,
    sources: Sequence[str] = (),
    caps: Mapping[str, int] = NO_CAPS,
) -> list[list[Key]]:
    """The keys of one epoch's batches for one rank: a seeded permutation, every study once.

    With several ranks the order is wrapped so that each has the same number of samples. Of a source in `caps` only so
    many studies are in an epoch, others in the next one; `sources` are those of the studies.

    >>> shuffled_batches(5, 2, seed=0, epoch=0) == shuffled_batches(5, 2, seed=0, epoch=0)
    True
    >>> sorted(index for batch in shuffled_batches(5, 2, seed=0, epoch=1) for _, index in batch)
    [0, 1, 2, 3, 4]
    """
    order = np.random.default_rng((seed, epoch)).permutation(count).tolist()
    if caps:
        order = capped(order, sources, caps)
    short = -len(order) % world
    mine = [*order, *order[:short]][rank::world]
    return [[(epoch, index) for index in mine[at : at + batch_size]] for at in range(0, len(mine), batch_size)]


def capped(order: Sequence[int], sources: Sequence[str], caps: Mapping[str, int]) -> list[int]:
    """The places of an order without those of a source that has had as many as it may.

    >>> capped([2, 0, 1, 3], ["a", "a", "a", "b"], {"a": 2})
    [2, 0, 3]
    """
    left = dict(caps)
    kept = []
    for place in order:
        source = sources[place]
        if left.get(source, 1) > 0:
            kept.append(place)
            if source in left:
                left[source] -= 1
    return kept


def sequential_batches(count: int, batch_size: int, *, rank: int = 0, world: int = 1) -> list[list[Key]]:
    """The keys of an evaluation's batches for one rank: in order, every study once over all ranks.

    Ranks take whole batches of the one order in turn, so that no study is padded otherwise than in one process.

    >>> sequential_batches(5, 2, rank=0, world=2)
    [[(0, 0), (0, 1)], [(0, 4)]]
    """
    starts = range(0, count, batch_size)[rank::world]
    return [[(0, index) for index in range(at, min(at + batch_size, count))] for at in starts]


class StudyLoader(Generic[Collated]):
    """Batches of a dataset that can start in the middle of an epoch.

    Lightning sees a sized, stateful iterable: it sets the epoch before each pass and keeps `state_dict` with its own
    checkpoint. As order and augmentation depend on (seed, epoch, index) only, a resumed pass sees the same batches.

    Args:
        dataset: read by key.
        batches: epoch → the keys of its batches; the same number of batches each epoch.
        collate: examples → batch.
        num_workers: reading processes; 0 reads in a thread of this one, a batch ahead.
        prefetch_factor: batches each worker reads ahead.
    """

    def __init__(
        self,
        dataset: StudyDataset,
        batches: Callable[[int], list[list[Key]]],
        collate: Callable[[list[Example]], Collated],
        *,
        num_workers: int = 0,
        prefetch_factor: int = 4,
    ) -> None:
        self.dataset = dataset
        self.batches = batches
        self.collate = collate
        self.num_workers = num_workers
        self.prefetch_factor = prefetch_factor
        self.sampler = self  # where Lightning looks for set_epoch
        self.batch_sampler = None  # looked at too
        self.epoch = 0
        self.start = 0
        self.position = 0

    def __len__(self) -> int:
        return len(self.batches(self.epoch))

    def set_epoch(self, epoch: int) -> None:
        """Name the next pass's epoch; another epoch than the loaded one starts at its first batch."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """How far the pass is: its epoch and the batches handed out."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next pass go on from a state of `state_dict`; a pass that was through starts anew."""
        self.epoch, position = state["epoch"], state["position"]
        self.start = position if position < len(self) else 0

    def __iter__(self) -> Iterator[Collated]:
        self.position, self.start = self.start, 0
        keys = self.batches(self.epoch)[self.position :]
        for batch in self._in_processes(keys) if self.num_workers else self._in_a_thread(keys):
            self.position += 1
            yield batch

    def _in_a_thread(self, batches: list[list[Key]]) -> Iterator[Collated]:
        """Images are read while the caller works; text is encoded here: a tokenizer's modes are no thread's own."""
        for examples in read_ahead([self.dataset[key] for key in keys] for keys in batches):
            yield self.collate(examples)

    def _in_processes(self, batches: list[list[Key]]) -> Iterator[Collated]:
        loader = DataLoader(
            self.dataset,
            batch_sampler=batches,
            collate_fn=self.collate,
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch_factor,
            pin_memory=torch.cuda.is_available(),
        )
        try:
            yield from loader
        except (InputError, RunError) as error:  # it comes with the reading process's traceback as its text
            raise type(error)(str(error).rpartition("Error: ")[2].strip()) from None
