"""The processes of a run: started or joined by Lightning, and what is said when one is lost. No training step."""

import contextlib
import importlib.util
import logging
import os
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from r2gengpt.config import TrainConfig
from r2gengpt.errors import InputError, RunError, installing
from r2gengpt.parts.assemble import Built
from r2gengpt.processes import Share
from r2gengpt.settings import PlacementConfig

ZERO = ("deepspeed_stage_1", "deepspeed_stage_2", "deepspeed_stage_3")
"""DeepSpeed's ZeRO: each process keeps a part of the optimizer's state, of gradients too (2), of weights too (3)."""
DDP = ("ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")
STRATEGIES = ("auto", "single_device", *DDP, "fsdp", *ZERO)
"""What `strategy` takes, by Lightning's names."""
OTHER_PARTS = ("fsdp_", "deepspeed")
"""Further strategies of these kinds, by the start of their names: refused, since nobody has tried them here."""
ONE_START = ("ddp_spawn", "ddp_fork", "ddp_notebook")
"""Strategies that copy a process which has made its loaders already: each copy would train on the first one's share."""
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo", "NCCL")
"""Words of an error that a collective operation raises when another process is gone."""


def flags(options: TrainConfig) -> str:
    """The flags that say where a run takes place, for errors."""
    return f"`strategy` {options.strategy} `accelerator` {options.accelerator} `devices` {options.devices}"


def check_strategy(options: TrainConfig) -> None:
    """Refuse, before anything is loaded, strategies that are none, lack their library or cannot work here.

    Raises:
        InputError: with what to install or to choose.
    """
    name = options.strategy
    if name.startswith(OTHER_PARTS) and name not in STRATEGIES:
        raise InputError(
            f"not tried here: choose fsdp, {', '.join(ZERO)}, or ddp with `quantization` nf4 where memory is short",
            field="strategy",
            value=name,
        )
    if name.startswith(ONE_START):
        raise InputError("processes must start with the command itself: choose ddp", field="strategy", value=name)
    if name not in STRATEGIES:
        raise InputError(f"choose from {', '.join(STRATEGIES)}", field="strategy", value=name)
    if name in ZERO and importlib.util.find_spec("deepspeed") is None:
        raise InputError(f"needs DeepSpeed: {installing('deepspeed')}, or choose fsdp", field="strategy", value=name)


def is_sharded(options: TrainConfig) -> bool:
    """Whether each process keeps a part of every weight."""
    return options.strategy in ("fsdp", "deepspeed_stage_3")


def check_sharded(options: TrainConfig, where: PlacementConfig) -> None:
    """Refuse what cannot be trained in parts (packed weights) or was not tried (other arithmetic).

    Args:
        options: with the precision that `native_precision` gives.
        where: how the weights will be held, settled.

    Raises:
        InputError: with what to choose.
    """
    name = options.strategy
    if is_sharded(options) and where.quantization != "none":
        raise InputError(
            f"not with `quantization` {where.quantization}, whose weights are packed: choose ddp",
            field="strategy",
            value=name,
        )
    untried = {"fsdp": ("16-mixed",)}.get(name, ("16-mixed", "bf16-true") if name in ZERO else ())
    if options.precision in untried:
        raise InputError(
            f"not with `precision` {options.precision} (not tried): choose bf16-mixed or 32-true",
            field="strategy",
            value=name,
        )


def device_count(options: TrainConfig) -> str | int:
    """`devices` in Lightning's form; a finding head alone trains on one."""
    if options.findings_only:
        return 1
    return options.devices if options.devices == "auto" else int(options.devices)


def quiet_lightning() -> None:
    """Lightning says only what is wrong, and which process ended the others."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script").setLevel(logging.INFO)


def started_outside() -> tuple[int, str] | None:
    """How many processes torchrun or SLURM has started, and which of them did; None where neither has."""
    if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        return int(os.environ["WORLD_SIZE"]), "torchrun"
    if "SLURM_NTASKS" in os.environ and SLURMEnvironment.job_name() not in ("bash", "interactive"):
        return int(os.environ["SLURM_NTASKS"]), "SLURM"
    return None


def check_launch(options: TrainConfig, strategy: Any, world: int) -> None:
    """Refuse what would wait for processes that nobody starts, or run as many single ones over the same files.

    Raises:
        InputError: several machines but no word of the first one's address; another number than was started outside.
    """
    outside = started_outside()
    if outside is not None and outside[0] != world:
        raise InputError(
            f"`devices` {options.devices} `num_nodes` {options.num_nodes} are {world} processes, but {outside[1]} has "
            f"started {outside[0]}: `devices` is the number on each machine"
        )
    own = isinstance(getattr(strategy, "cluster_environment", None), LightningEnvironment)
    absent = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name not in os.environ]
    if options.num_nodes > 1 and own and absent:
        raise InputError(
            f"{', '.join(absent)} not set; start the command on every machine with "
            "the first one's MASTER_ADDR and MASTER_PORT and its own NODE_RANK (0, 1, …), or by torchrun or srun",
            field="num_nodes",
            value=options.num_nodes,
        )


@contextlib.contextmanager
def told_if_another_process_ends(rank: int, world: int, then: str) -> Iterator[None]:
    """Turn what the collective operations raise when a process is gone into one line that says what to do `then`.

    Raises:
        RunError: another process of the run ended.
    """
    try:
        yield
    except RuntimeError as error:
        if world == 1 or isinstance(error, RunError) or not any(word in str(error) for word in LOST):
            raise
        raise RunError(
            f"process {rank} of {world} lost another one: what that one wrote says why (nothing, if it was killed); "
            f"{then}"
        ) from error


@contextlib.contextmanager
def joined(options: TrainConfig) -> Iterator[Share]:
    """The processes of an evaluation: each runs the block with its own share; all errors of the input are `agreed`.

    Lightning runs this same command again for each further device of this machine, or finds what torchrun or SLURM
    has started. Every process holds the whole model, whatever `strategy` is.

    Raises:
        InputError: there are no such devices; or what the block raises, in the first process only.
        RunError: another process ended.
    """
    quiet_lightning()
    several = options.devices != "1" or options.num_nodes > 1
    try:
        fabric = L.Fabric(
            accelerator=options.accelerator,
            devices=device_count(options),
            num_nodes=options.num_nodes,
            strategy="ddp" if several else "auto",
        )
        check_launch(options, fabric.strategy, fabric.world_size)
        fabric.launch()
    except (MisconfigurationException, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{flags(options)}: {error}") from None
    share = Share(fabric.global_rank, fabric.world_size, fabric.device)
    try:
        with told_if_another_process_ends(share.rank, share.world, "the same command begins the evaluation anew"):
            yield share
    except InputError:
        if share.rank:
            raise SystemExit(0) from None  # the first process says it; another code would have it killed before
        raise


def gets_no_gradient(built: Built) -> list[str]:
    """Names of vision parameters that are trained but that no gradient reaches, such as a ViT's pooler; by trial.

    DDP must be told: it waits for every gradient. Looking for them in each step costs time, so it is not always on.
    """
    tower = built.model.vision_tower
    trained = {name: parameter for name, parameter in tower.named_parameters() if parameter.requires_grad}
    if not trained:
        return []
    side = built.model.config.image_size
    features = built.model.encode_views(torch.zeros(1, 1, 3, side, side, device=tower.device))
    gradients = torch.autograd.grad(features.sum(), list(trained.values()), allow_unused=True)
    return [name for name, gradient in zip(trained, gradients, strict=True) if gradient is None]


def over_processes(loss: Tensor, tokens: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """What to differentiate in this process, and the mean over the tokens of all processes.

    Gradients are averaged over processes, and the mean of means is not the mean where reports differ in length.
    So each process's loss is weighted by its share of the tokens: n processes equal one with n times the batch.

    Args:
        loss: mean over this process's tokens, (), float32.
        tokens: how many they are, or the sum of their weights, ().
        count: how many processes there are.
    """
    if count == 1:
        return loss, loss.detach()
    tokens = tokens.float()
    sums = torch.stack([loss.detach() * tokens, tokens])
    torch.distributed.all_reduce(sums)
    return loss * (tokens * count / sums[1]), sums[0] / sums[1]
