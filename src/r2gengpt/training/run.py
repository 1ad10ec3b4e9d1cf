"""A whole training run: data, model, trainer, files. Each of them lives elsewhere; this joins them."""

import contextlib
import functools
import json
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from r2gengpt.build import HERE, Built, build_model, native_precision, settled
from r2gengpt.build.families import family_of
from r2gengpt.build.parts import own_device
from r2gengpt.checkpoint import (
    add_decoding,
    find_checkpoint,
    flat_settings,
    load_delta,
    save_checkpoint,
    trained_tensors,
)
from r2gengpt.config import DataConfig, PlacementConfig, TrainConfig
from r2gengpt.data.annotation import check_images, read_annotation
from r2gengpt.data.bucketing import bucketed_batches, row_lengths
from r2gengpt.data.containers import DicomChoice
from r2gengpt.data.feature_filling import Features, cached_features
from r2gengpt.data.files import check_model_directory, whole_file
from r2gengpt.data.loading import (
    Batch,
    Example,
    StudyDataset,
    StudyLoader,
    prompt_batch,
    sequential_batches,
    shuffled_batches,
    training_batch,
)
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError, Stopped
from r2gengpt.generation.decoding import ChosenDecoding
from r2gengpt.generation.speculate import reports_index
from r2gengpt.original.convert import is_original, put_original
from r2gengpt.training.begin import (
    SUMMARY,
    Settings,
    check_cacheable,
    check_on_one_device,
    check_shares,
    open_run,
    start_run,
)
from r2gengpt.training.callbacks import BestCheckpoint, Progress, ResumeState
from r2gengpt.training.card import model_card
from r2gengpt.training.choosing import DecodeChooser, choose_decoding, spread
from r2gengpt.training.fingerprint import check_same_data, fingerprint
from r2gengpt.training.interrupt import EndedBySignals, RunEnded, ended_by_signals
from r2gengpt.training.module import R2GenGPTModule, ValidationBatch
from r2gengpt.training.processes import (
    ZERO,
    check_launch,
    check_sharded,
    check_strategy,
    device_count,
    flags,
    gets_no_gradient,
    is_sharded,
    quiet_lightning,
    told_if_another_process_ends,
)
from r2gengpt.training.sharding import ShardedStrategy
from r2gengpt.training.states import BEFORE, NEWEST, locked, remove_states

log = logging.getLogger("r2gengpt.training")
STATISTICS_IMAGES = 2048
"""Most training images that feature statistics are taken from; more change the mean by less than noise."""
EXPECTED_WARNINGS = (
    ".*torch.distributed.* is deprecated",  # by DeepSpeed
    ".*each worker will save a shard of the checkpoint.*",
    ".*does not have many workers.*",  # reading is not the bottleneck where the user asks for none
    ".*module.* in eval mode at the start of training.*",  # frozen parts are meant to be
    ".*The number of training batches.*is smaller than the logging interval.*",
    ".*GPU available but not used.*",
    ".*Starting from v1.9.0.*",
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
    ".*Found [0-9]+ module\\(s\\) in eval mode.*",
)


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    directory: Path
    best: Mapping[str, float]
    steps: int
    is_first: bool = True
    """False in all but one of a run's processes: that one writes files and speaks."""

    @property
    def checkpoint(self) -> Path:
        """The best checkpoint, or the last where nothing was validated."""
        return self.directory / ("best" if self.best else "last")

    def to_json(self) -> dict[str, Any]:
        """As it stands in summary.json, which also marks the run as finished."""
        return {"finished": True, "steps": self.steps, "best": dict(self.best)}


def as_limit(value: float) -> float | int:
    """Lightning's form of a share (at most 1.0) or a number of batches."""
    return value if value <= 1.0 else int(value)


def total_steps(batches: int, options: TrainConfig) -> int:
    """Optimizer steps of a run whose epochs have so many batches; the last step of an epoch may be a short one."""
    limit = as_limit(options.limit_train_batches)
    used = int(batches * limit) if isinstance(limit, float) else min(batches, limit)
    steps = math.ceil(used / options.accumulate_grad_batches) * options.max_epochs
    return steps if options.max_steps < 0 else min(steps, options.max_steps)


def make_loaders(
    built: Built,
    splits: Mapping[str, Sequence[Study]],
    settings: Settings,
    rank: int,
    world: int,
    features: Features | None = None,
) -> tuple[StudyLoader[Batch], StudyLoader[ValidationBatch]]:
    """The training loader and the validation loader of one rank."""
    _, data, _, train = settings
    processor, studies = built.processor, splits["train"]
    learn = functools.partial(training_batch, processor=processor, max_length=data.report_tokens)
    reading: dict[str, int] = {"num_workers": data.num_workers, "prefetch_factor": data.prefetch_factor}

    def both(examples: list[Example]) -> ValidationBatch:
        return ValidationBatch(learn(examples), prompt_batch(examples, processor))

    share = {"seed": train.seed, "rank": rank, "world": world}
    if data.bucket_by_length:
        lengths = row_lengths(studies, processor, data.dataset, data.report_tokens)
        order = functools.partial(bucketed_batches, lengths, data.batch_size, **share)
    else:
        order = functools.partial(shuffled_batches, len(studies), data.batch_size, **share)
    seed = train.seed if data.augment else None
    training = StudyLoader(
        StudyDataset(studies, processor, data.dataset, seed=seed, features=features),
        lambda epoch: order(epoch=epoch),
        learn,
        **reading,
    )
    count = len(splits["val"])
    size = min(data.val_batch_size, max(1, count // world))  # a batch for every process
    validation = StudyLoader(
        StudyDataset(splits["val"], processor, data.dataset, features=features),
        lambda _: sequential_batches(count, size, rank=rank, world=world),
        both,
        **reading,
    )
    return training, validation


@torch.no_grad()
def set_feature_statistics(built: Built, dataset: StudyDataset) -> None:
    """Take mean and standard deviation of the encoder's features, per channel, over training images, float64 sums."""
    model, norm = built.model, built.model.projector.norm_in
    if norm is None:
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.vision_tower.to(device).eval()
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for index in range(len(dataset)):
        example = dataset[(0, index)]
        features = example.features
        if features is None:
            assert example.pixels is not None
            features = model.encode_views(example.pixels.unsqueeze(0).to(device))
        features = features.double().flatten(0, 1).cpu()
        count += len(features)
        total, squares = total + features.sum(0), squares + features.square().sum(0)
        if (index + 1) >= STATISTICS_IMAGES:
            break
    mean = total / count
    norm.set_statistics(mean.float(), (squares / count - mean.square()).clamp_min(0).sqrt().float())


def make_strategy(train: TrainConfig) -> Any:
    """The run's strategy: our own, or Lightning's by its name."""
    if train.strategy == "fsdp":
        return ShardedStrategy()
    if train.strategy in ZERO:
        from r2gengpt.training.zero import ZeroStrategy

        return ZeroStrategy(train)
    return train.strategy


def make_trainer(settings: Settings, built: Built, callbacks: list[Any]) -> L.Trainer:
    """Lightning's trainer by the run's settings.

    Raises:
        InputError: Lightning refuses the strategy or the devices, or `check_launch` does.
    """
    quiet_lightning()
    train = settings[3]
    logs = Path(train.savedmodel_path) / "logs"
    make = functools.partial(
        L.Trainer,
        accelerator=train.accelerator,
        strategy=make_strategy(train),
        inference_mode=not is_sharded(train),  # what validation gathers is used again in training
        devices=device_count(train),
        num_nodes=train.num_nodes,
        precision=train.precision,
        max_epochs=train.max_epochs,
        max_steps=train.max_steps,
        limit_train_batches=as_limit(train.limit_train_batches),
        limit_val_batches=as_limit(train.limit_val_batches),
        val_check_interval=as_limit(train.val_check_interval),
        num_sanity_val_steps=train.num_sanity_val_steps,
        accumulate_grad_batches=train.accumulate_grad_batches,
        gradient_clip_val=train.gradient_clip_val,
        callbacks=callbacks,
        logger=[CSVLogger(logs, name="csv"), TensorBoardLogger(logs, name="tensorboard")],
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    try:
        trainer = make()
    except (MisconfigurationException, ValueError) as error:
        raise InputError(f"{flags(train)}: {error}") from None
    check_launch(train, trainer.strategy, trainer.world_size)
    if isinstance(trainer.strategy, DDPStrategy) and gets_no_gradient(built):
        trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)
    return trainer


def run_features(built: Built, splits: Mapping[str, Sequence[Study]], settings: Settings) -> Features | None:
    """The features of all the run's images, where a cache is asked for; processes started together share the work."""
    _, data, _, options = settings
    if data.feature_cache is None:
        return None
    on_gpu = torch.cuda.is_available() and options.accelerator != "cpu"
    return cached_features(
        data.feature_cache,
        data.feature_cache_dtype,
        built.model,
        built.processor,
        [study for studies in splits.values() for study in studies],
        device=torch.device("cuda", own_device()) if on_gpu else torch.device("cpu"),
        precision=options.precision,
        threads=max(1, data.num_workers),
    )


def chosen_decoding(
    built: Built,
    studies: Sequence[Study],
    settings: Settings,
    where: PlacementConfig,
    *,
    scores: Mapping[str, float],
    device: torch.device,
    features: Features | None,
) -> ChosenDecoding | None:
    """The penalties that decode validation studies best, by the best checkpoint if `scores` has one; None: not asked.

    Weights that lie in parts on several processes can't write reports here: their penalties stay open.
    """
    _, data, decode, options = settings
    if not options.choose_decode or options.limit_val_batches == 0 or is_sharded(options):
        return None
    best = Path(options.savedmodel_path) / "best" if scores else None
    chooser = DecodeChooser(built, spread(studies, options.choose_decode), data, decode, features)
    return choose_decoding(chooser, best, device, quantization=where.quantization, precision=options.precision)


def train(settings: Settings, where: PlacementConfig = HERE) -> Summary:
    """Run training to its end, going on where an unfinished run in the same directory stopped.

    Args:
        settings: of model, data, decoding and training.
        where: how the frozen weights are held; the run's own record keeps that, its checkpoints do not.

    Raises:
        InputError: settings, annotation, images or parts do not fit; or another run is at work in the directory.
        RunError: the loss is not finite.
        Stopped: by SIGINT or SIGTERM.
    """
    directory, options = Path(settings[3].savedmodel_path), settings[3]
    state = ResumeState(directory, options.every_n_train_steps)
    check_model_directory(directory, "--savedmodel_path")
    alone = locked(directory) if rank_zero_only.rank == 0 else contextlib.nullcontext()
    try:
        with ended_by_signals(), alone:
            return _train(settings, where, state)
    except RunEnded:
        if rank_zero_only.rank:
            raise SystemExit(0) from None  # the first process says it; another code would have it killed before
        raise Stopped(what_is_saved(directory, state)) from None


def what_is_saved(directory: Path, state: ResumeState) -> str:
    """The one line of a run that a signal ended."""
    if state.saved:
        return f"stopped: {directory} holds the state after step {state.saved}; the same command goes on from there"
    if any((directory / name).exists() for name in (NEWEST, BEFORE)):
        return f"stopped: {directory} holds the state that this run went on from; the same command does so again"
    return "stopped before a state was saved (--every_n_train_steps N saves more often): the same command begins anew"


def read_splits(data: DataConfig) -> dict[str, tuple[Study, ...]]:
    """The studies to train and validate on, whose images are there.

    Raises:
        InputError: the annotation is refused, a split of it is empty, or an image is missing.
    """
    dicom = DicomChoice(data.frame, data.force, data.mixed_patients)
    splits = read_annotation(data.annotation, data.base_dir, ("train", "val"), dicom=dicom)
    for split, studies in splits.items():
        if not studies:
            raise InputError(f"--annotation {data.annotation}: split {split} has no studies")
        check_images(studies)
    return splits


def _train(settings: Settings, where: PlacementConfig, state: ResumeState) -> Summary:
    """`train`, within the directory's lock."""
    model_settings, data, decode, options = settings
    if rank_zero_only.rank:
        logging.getLogger("r2gengpt").setLevel(logging.WARNING)
    check_strategy(options)
    options = replace(options, precision=native_precision(options.precision))
    check_on_one_device(where)
    if where.quantization == "w8a8":
        raise InputError("--quantization w8a8: writes reports, carries no gradients; train with none, int8 or nf4")
    check_cacheable(model_settings, data)
    splits = read_splits(data)
    where = settled(model_settings.lm_model, where)  # may ask a hub: what lies here has been looked at
    check_sharded(options, where)
    settings = (model_settings, data, decode.for_dataset(data.dataset), options)
    directory = Path(options.savedmodel_path)
    resume = open_run(settings, where)
    data_found = fingerprint(splits)
    if resume is not None:
        check_same_data(directory, data_found, data.annotation)
    torch.manual_seed(options.seed)
    built = build_model(model_settings, where, precision=options.precision)
    if options.start_from is not None and is_original(options.start_from):
        put_original(built.model, Path(options.start_from))
    elif options.start_from is not None:
        load_delta(built.model, find_checkpoint(options.start_from, "--ckpt_file"), "--ckpt_file")
    features = run_features(built, splits, settings)
    if resume is None:
        set_feature_statistics(built, StudyDataset(splits["train"], built.processor, data.dataset, features=features))
        start_run(settings, where, data_found)
    stored = flat_settings(*settings, where)  # of which a checkpoint keeps what belongs to it
    best = BestCheckpoint(directory / "best", stored, options.patience)
    callbacks = [
        best,
        LearningRateMonitor("step"),
        Progress(),
        EndedBySignals(),
        state,
    ]
    with warnings.catch_warnings():
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        trainer = make_trainer(settings, built, callbacks)
        count = sum(parameter.numel() for parameter in built.model.parameters() if parameter.requires_grad)
        log.info("%d trained parameters, %d training studies", count, len(splits["train"]))
        if resume is not None:
            log.info("resuming from %s", resume)
        check_shares(splits, trainer.world_size)
        loaders = make_loaders(built, splits, settings, trainer.global_rank, trainer.world_size, features)
        reports = [study.report for study in splits["train"]]
        index = reports_index(reports, built.processor, data.dataset) if decode.speculate else None
        module = R2GenGPTModule(built, settings, total_steps(len(loaders[0]), options), index)
        then = "the same command again goes on from the last saved state"
        with told_if_another_process_ends(trainer.global_rank, trainer.world_size, then):
            trainer.fit(module, *loaders, ckpt_path=resume, weights_only=True)
            tensors = trained_tensors(built.model)  # by all processes: each may hold a part
    summary = Summary(directory, best.scores, trainer.global_step, trainer.is_global_zero)
    if trainer.is_global_zero:
        card = model_card(stored, module.latest, family_of(built.model.language_model).licence)
        save_checkpoint(directory / "last", built, stored, card, index, tensors)
        device = trainer.strategy.root_device
        chosen = chosen_decoding(
            built, splits["val"], settings, where, scores=best.scores, device=device, features=features
        )
        for path in (directory / "last", directory / "best"):
            if chosen is not None and path.is_dir():
                add_decoding(path, built, stored, chosen)
        with whole_file(directory / SUMMARY) as path:
            path.write_text(json.dumps(summary.to_json(), indent=1) + "\n", encoding="utf-8")
        remove_states(directory)
    return summary
