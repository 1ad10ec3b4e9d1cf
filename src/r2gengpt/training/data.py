"""The studies of a run as batches: split, cached, counted out to processes. Trains nothing."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from r2gengpt.config import DataConfig, RunConfig
from r2gengpt.data.annotation import check_images, check_reports, read_studies
from r2gengpt.data.batches import Batch, Example, prompt_batch, training_batch
from r2gengpt.data.features.filling import Features, cached_features
from r2gengpt.data.loading import FieldDropout, StudyDataset, StudyLoader
from r2gengpt.data.ordering import bucketed_batches, capped, row_lengths, sequential_batches, shuffled_batches
from r2gengpt.data.study import Study, with_earlier
from r2gengpt.errors import InputError
from r2gengpt.parts.assemble import Built
from r2gengpt.parts.loading import own_device
from r2gengpt.training.validation import ValidationBatch

NO_LABELS: Mapping[str, Tensor] = MappingProxyType({})


def read_splits(data: DataConfig, *, reports: bool = True, earlier: bool = False) -> dict[str, tuple[Study, ...]]:
    """The studies to train and validate on, whose images are there, and whose reports are where those are learnt.

    With `earlier` the images of earlier studies must be there too.

    Raises:
        InputError: the annotation is refused, a split of it is empty, or a report or an image is missing.
    """
    splits = read_studies(data, ("train", "val"))
    for split, studies in splits.items():
        if not studies:
            raise InputError(f"split {split} has no studies", field="annotation", value=data.annotation)
        if reports:
            check_reports(studies)
        check_images(dict.fromkeys(with_earlier(studies)) if earlier else studies)
    there = sorted({study.source for study in splits["train"]} - {""})
    if strange := next((source for source in data.caps if source not in there), None):
        limit = ", ".join(there) or "none"
        raise InputError(f"split train has no such source; it has {limit}", field="source_caps", value=strange)
    splits["val"] = within_caps(splits["val"], data.caps)
    return splits


def within_caps(studies: Sequence[Study], caps: Mapping[str, int]) -> tuple[Study, ...]:
    """The validation studies that count: of a source in `caps` so many, the same ones in every run, by their ids."""
    by_chance = sorted(range(len(studies)), key=lambda place: hashlib.sha256(studies[place].id.encode()).digest())
    kept = set(capped(by_chance, [study.source for study in studies], caps))
    return tuple(study for place, study in enumerate(studies) if place in kept)


def run_features(built: Built, splits: Mapping[str, Sequence[Study]], config: RunConfig) -> Features | None:
    """The features of all the run's images, where a cache is asked for; processes started together share the work."""
    data, options = config.data, config.train
    if data.feature_cache is None:
        return None
    every = [study for studies in splits.values() for study in studies]
    on_gpu = torch.cuda.is_available() and options.accelerator != "cpu"
    return cached_features(
        data.feature_cache,
        data.feature_cache_dtype,
        built.model,
        built.processor,
        list(dict.fromkeys(with_earlier(every) if built.processor.reads_prior else every)),
        device=torch.device("cuda", own_device()) if on_gpu else torch.device("cpu"),
        precision=options.precision,
        threads=max(1, data.num_workers),
    )


def make_loaders(
    built: Built,
    splits: Mapping[str, Sequence[Study]],
    config: RunConfig,
    rank: int,
    world: int,
    features: Features | None = None,
    labels: Mapping[str, Tensor] = NO_LABELS,
) -> tuple[StudyLoader[Batch], StudyLoader[ValidationBatch]]:
    """The training loader and the validation loader of one rank; `labels` are each split's (n, O), for a head."""
    data, train = config.data, config.train
    processor, studies = built.processor, splits["train"]
    learn = functools.partial(training_batch, processor=processor, max_length=data.report_tokens)
    weighed = functools.partial(learn, finding_weight=train.finding_weight) if train.weigh_findings else learn
    reading: dict[str, int] = {"num_workers": data.num_workers, "prefetch_factor": data.prefetch_factor}

    def both(examples: list[Example]) -> ValidationBatch:
        return ValidationBatch(learn(examples), prompt_batch(examples, processor))

    share: dict[str, Any] = {"seed": train.seed, "rank": rank, "world": world}
    if data.bucket_by_length:
        lengths = row_lengths(studies, processor, data.dataset, data.report_tokens)
        order = functools.partial(bucketed_batches, lengths, data.batch_size, **share)
    else:
        caps: dict[str, Any] = {"sources": [study.source for study in studies], "caps": data.caps}
        order = functools.partial(shuffled_batches, len(studies), data.batch_size, **caps, **share)
    seed = train.seed if data.augment else None
    training = StudyLoader(
        StudyDataset(
            studies,
            processor,
            data.dataset,
            seed=seed,
            features=features,
            findings=labels.get("train"),
            mirror=train.mirror,
            left_out=FieldDropout(train.context_dropout, train.seed),
        ),
        lambda epoch: order(epoch=epoch),
        weighed,
        **reading,
    )
    count = len(splits["val"])
    size = min(data.val_batch_size, max(1, count // world))  # a batch for every process
    validation = StudyLoader(
        StudyDataset(splits["val"], processor, data.dataset, features=features, findings=labels.get("val")),
        lambda _: sequential_batches(count, size, rank=rank, world=world),
        both,
        **reading,
    )
    return training, validation
