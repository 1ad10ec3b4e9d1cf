"""Studies read when they are asked for; loaders that can start in the middle of an epoch. No Lightning, no model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from r2gengpt.config import CONTEXT_FIELDS, PRIOR
from r2gengpt.data.ahead import read_ahead
from r2gengpt.data.augment import augment
from r2gengpt.data.batches import Example
from r2gengpt.data.features.filling import Features
from r2gengpt.data.identity import check_files
from r2gengpt.data.ordering import Key, instruction_of
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError, RunError
from r2gengpt.films.reader import load_image
from r2gengpt.model.earlier import span_of
from r2gengpt.model.processing import R2GenGPTProcessor, decoded_size
from r2gengpt.text.cleaning import CLEANERS
from r2gengpt.text.context import Context

GREY = (128, 128, 128)
"""Of a film that shows nothing."""
OF_CONTEXT = 1
"""Keeps what is drawn for prompts apart from what is drawn for images."""
Collated = TypeVar("Collated")
"""What a loader makes of the examples of a batch."""


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
            instruction_of(study, context, self.processor),
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
        images = [load_image(path, size=self.size, dicom=one.dicom) for one in films for path in one.image_paths]
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
            _Batches(self.dataset, self.collate),
            batch_size=None,
            sampler=batches,
            collate_fn=_as_it_is,
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch_factor,
            pin_memory=torch.cuda.is_available(),
        )
        for batch in loader:
            if isinstance(batch, InputError | RunError):
                raise batch
            yield batch


def _as_it_is(batch: Collated) -> Collated:
    return batch


@dataclass(frozen=True)
class _Batches(Dataset["Collated | InputError | RunError"], Generic[Collated]):
    """What a reading process is asked for: whole batches. Errors come back whole: raised, they would lose fields."""

    dataset: StudyDataset
    collate: Callable[[list[Example]], Collated]

    def __getitem__(self, keys: list[Key]) -> "Collated | InputError | RunError":
        try:
            return self.collate([self.dataset[key] for key in keys])
        except (InputError, RunError) as error:
            return error
