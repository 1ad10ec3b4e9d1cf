"""A whole training run: data, model, trainer, files. Each of them lives elsewhere; this joins them."""

import contextlib
import logging
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.utilities import rank_zero_only

from r2gengpt.checkpoint import load_delta, trained_tensors
from r2gengpt.checkpoint_files import find_checkpoint, is_original
from r2gengpt.config import RunConfig
from r2gengpt.data.loading import StudyDataset
from r2gengpt.errors import Stopped
from r2gengpt.files import check_model_directory
from r2gengpt.generation.speculate import reports_index
from r2gengpt.original.convert import put_original
from r2gengpt.parts.assemble import HERE, Built, build_model, freeze_seeing
from r2gengpt.settings import PlacementConfig
from r2gengpt.training.auxiliary import AuxiliaryHead
from r2gengpt.training.averaging import MovingAverage
from r2gengpt.training.begin import check_same_data, check_shares, fingerprint, open_run, start_run
from r2gengpt.training.callbacks import BestCheckpoint, ResumeState
from r2gengpt.training.checked import CheckedRun, checked
from r2gengpt.training.data import make_loaders, run_features
from r2gengpt.training.distributed.processes import told_if_another_process_ends
from r2gengpt.training.ended import Summary, summary_of, write_end
from r2gengpt.training.findings import FindingsModule, check_takes_some
from r2gengpt.training.loggers import LiveLogs, make_loggers
from r2gengpt.training.module import R2GenGPTModule
from r2gengpt.training.reinforcement.begin import check_alone, is_reinforced, policy_of
from r2gengpt.training.reinforcement.module import ReinforcedModule
from r2gengpt.training.standing import why_best
from r2gengpt.training.states import BEFORE, NEWEST, EndedBySignals, RunEnded, ended_by_signals, locked
from r2gengpt.training.statistics import set_feature_statistics
from r2gengpt.training.trainer import check_limits, expected_warnings, make_trainer, total_steps
from r2gengpt.training.watching import ProgressBar

log = logging.getLogger("r2gengpt.training")
THEN = "the same command again goes on from the last saved state"
"""What to do where another process of a run ends."""


def train(config: RunConfig, where: PlacementConfig = HERE) -> Summary:
    """Run training to its end, going on where an unfinished run in the same directory stopped.

    Args:
        config: its settings.
        where: how the frozen weights are held; the run's own record keeps that, its checkpoints do not.

    Raises:
        InputError: settings, annotation, images or parts do not fit; or another run is at work in the directory.
        RunError: the loss is not finite.
        Stopped: by SIGINT or SIGTERM.
    """
    options = config.train
    directory = Path(options.savedmodel_path)
    state = ResumeState(directory, options.every_n_train_steps)
    check_model_directory(directory, "savedmodel_path")
    alone = locked(directory) if rank_zero_only.rank == 0 else contextlib.nullcontext()
    try:
        with ended_by_signals(), alone:
            return _train(config, where, state)
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
    return "stopped before a state was saved (`every_n_train_steps` N saves more often): the same command begins anew"


def _train(config: RunConfig, where: PlacementConfig, state: ResumeState) -> Summary:
    """`train`, within the directory's lock."""
    if rank_zero_only.rank:
        logging.getLogger("r2gengpt").setLevel(logging.WARNING)
    run = checked(config, where)
    config, where, options = run.config, run.where, run.config.train
    directory = Path(options.savedmodel_path)
    resume = open_run(config, where)
    found = fingerprint(run.splits)
    if resume is not None:
        check_same_data(directory, found, config.data.annotation)
    torch.manual_seed(options.seed)
    built, start = starting_model(config, where)
    features = run_features(built, run.splits, config)
    if resume is None:
        if not is_reinforced(config):  # a policy begins as the supervised model is
            training = StudyDataset(run.splits["train"], built.processor, config.data.dataset, features=features)
            set_feature_statistics(built, training, new_head=options.start_from is None)
        start_run(config, where, found)
    best = BestCheckpoint(directory / "best", config, where)
    with expected_warnings():
        trainer = make_trainer(options, built, callbacks_of(config, best, state), make_loggers(config))
        count = sum(parameter.numel() for parameter in built.model.parameters() if parameter.requires_grad)
        log.info("%d trained parameters, %d training studies", count, len(run.splits["train"]))
        if resume is not None:
            log.info("resuming from %s", resume)
        check_shares(run.splits, trainer.world_size)
        loaders = make_loaders(built, run.splits, config, trainer.global_rank, trainer.world_size, features, run.labels)
        check_limits(options, len(loaders[0]), len(loaders[1]))
        module = learner(run, built, start, total_steps(len(loaders[0]), options), trainer.world_size)
        if is_reinforced(config) and resume is None and options.limit_val_batches:
            trainer.validate(module, loaders[1], verbose=False)  # how the supervised model stands
        with told_if_another_process_ends(trainer.global_rank, trainer.world_size, THEN):
            trainer.fit(module, *loaders, ckpt_path=resume, weights_only=True)
            tensors = trained_tensors(built.model)  # by all processes: each may hold a part
    result = None
    if isinstance(module, ReinforcedModule) and best.scores:
        result = module.policy.result(best.scores, config.data.dataset)
    summary = summary_of(run, best, trainer, result)
    if summary.is_first:
        write_end(run, module, summary, tensors, features, trainer.strategy.root_device)
        if best.scores:
            log.info(why_best(best.attempts, options))
    return summary


def starting_model(config: RunConfig, where: PlacementConfig) -> tuple[Built, Path | None]:
    """The model with the weights that it starts from, and the checkpoint directory that they are of.

    Raises:
        InputError: parts or weights that cannot be loaded, or do not fit the settings.
    """
    options = config.train
    built = build_model(config.model, where, precision=options.precision, findings_only=options.findings_only)
    check_takes_some(built.model.vision_tower, options.patch_dropout)
    start = None
    if options.start_from is not None and is_original(options.start_from):
        put_original(built.model, Path(options.start_from))
    elif options.start_from is not None:
        start = find_checkpoint(options.start_from, "ckpt_file")
        load_delta(built.model, start, "ckpt_file", config.model)
    if options.freeze_seeing or is_reinforced(config):
        freeze_seeing(built.model)
    return built, start


def learner(
    run: CheckedRun, built: Built, start: Path | None, steps: int, processes: int
) -> FindingsModule | R2GenGPTModule:
    """What Lightning trains: a head alone, or what writes reports, with its head, from reports or by a policy.

    Args:
        run: the run.
        built: its model.
        start: the checkpoint that its weights are of.
        steps: optimizer steps of the whole run.
        processes: how many train.

    Raises:
        InputError: a policy on several devices.
    """
    config, splits, labels = run.config, run.splits, run.labels
    if config.train.findings_only:
        return FindingsModule(built, config, steps, labels=labels["train"], studies=splits["val"])
    reports = [study.report for study in splits["train"]]
    index = reports_index(reports, built.processor, config.data.dataset) if config.decode.speculate else None
    head = AuxiliaryHead(built, config, labels["train"], splits["val"], start) if labels else None
    if is_reinforced(config):
        check_alone(processes)
        return ReinforcedModule(built, config, steps, policy_of(built, config, splits, head), index=index, head=head)
    return R2GenGPTModule(built, config, steps, index, head)


def callbacks_of(config: RunConfig, best: BestCheckpoint, state: ResumeState) -> list[Callback]:
    """What Lightning calls between steps, in this order: the state to resume from is saved last."""
    averaging = [MovingAverage(config.train.ema)] if config.train.ema else []
    return [best, *averaging, LearningRateMonitor("step"), ProgressBar(), LiveLogs(), EndedBySignals(), state]
