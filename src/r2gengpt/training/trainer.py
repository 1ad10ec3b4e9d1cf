"""Lightning's trainer by the settings of a run. No data, no model, no step."""

import contextlib
import functools
import math
import warnings
from collections.abc import Iterator
from typing import Any

import lightning as L
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from r2gengpt.config import TrainConfig
from r2gengpt.errors import InputError
from r2gengpt.parts.assemble import Built
from r2gengpt.training.distributed.processes import (
    ZERO,
    check_launch,
    device_count,
    flags,
    gets_no_gradient,
    is_sharded,
    quiet_lightning,
)
from r2gengpt.training.distributed.sharding import ShardedStrategy

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


@contextlib.contextmanager
def expected_warnings() -> Iterator[None]:
    """Leave out the libraries' warnings that a run is known to cause."""
    with warnings.catch_warnings():
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        yield


def as_limit(value: float) -> float | int:
    """Lightning's form of a share (at most 1.0) or a number of batches."""
    return value if value <= 1.0 else int(value)


def within(batches: int, value: float) -> int:
    """How many of so many batches a share or number of them is."""
    limit = as_limit(value)
    return int(batches * limit) if isinstance(limit, float) else min(batches, limit)


def check_limits(options: TrainConfig, training: int, validation: int) -> None:
    """Refuse shares of batches that are none, and a validation after more batches than an epoch has.

    Args:
        options: of the run.
        training: batches of an epoch.
        validation: batches of a validation.

    Raises:
        InputError: names the setting.
    """
    for name, batches in (("limit_train_batches", training), ("limit_val_batches", validation)):
        if (share := getattr(options, name)) and not within(batches, share):
            raise InputError(f"is less than one of {batches} batches", field=name, value=share, limit=1 / batches)
    interval, used = options.val_check_interval, within(training, options.limit_train_batches)
    if interval > max(1, used):
        raise InputError(f"an epoch has {used} batches", field="val_check_interval", value=interval, limit=used)


def total_steps(batches: int, options: TrainConfig) -> int:
    """Optimizer steps of a run whose epochs have so many batches; the last step of an epoch may be a short one."""
    used = within(batches, options.limit_train_batches)
    steps = math.ceil(used / options.accumulate_grad_batches) * options.max_epochs
    return steps if options.max_steps < 0 else min(steps, options.max_steps)


def make_strategy(train: TrainConfig) -> Any:
    """The run's strategy: our own, or Lightning's by its name."""
    if train.strategy == "fsdp":
        return ShardedStrategy()
    if train.strategy in ZERO:
        from r2gengpt.training.distributed.zero import ZeroStrategy

        return ZeroStrategy(train)
    return train.strategy


def make_trainer(train: TrainConfig, built: Built, callbacks: list[Any], loggers: list[Logger]) -> L.Trainer:
    """Lightning's trainer by the run's settings.

    Raises:
        InputError: Lightning refuses the strategy or the devices, or `check_launch` does.
    """
    quiet_lightning()
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
        logger=loggers,
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
