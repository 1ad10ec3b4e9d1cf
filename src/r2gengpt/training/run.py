"""A whole training run: data, model, trainer, files. Each of them lives elsewhere; this joins them."""

import contextlib
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.utilities import rank_zero_only

from r2gengpt.checkpoint import add_decoding, load_delta, save_checkpoint, trained_tensors
from r2gengpt.checkpoint_files import find_checkpoint, is_original
from r2gengpt.config import RunConfig
from r2gengpt.data.features.filling import Features
from r2gengpt.data.loading import StudyDataset
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError, Stopped
from r2gengpt.files import check_model_directory, whole_file
from r2gengpt.generation.decoding import ChosenDecoding
from r2gengpt.generation.speculate import reports_index
from r2gengpt.original.convert import put_original
from r2gengpt.parts.assemble import HERE, Built, build_model, native_precision
from r2gengpt.parts.loading import settled
from r2gengpt.settings import PlacementConfig
from r2gengpt.training.auxiliary import AuxiliaryHead, check_measurable
from r2gengpt.training.averaging import MovingAverage
from r2gengpt.training.begin import (
    check_cacheable,
    check_on_one_device,
    check_same_data,
    check_shares,
    fingerprint,
    open_run,
    start_run,
)
from r2gengpt.training.callbacks import BestCheckpoint, ResumeState, card_of
from r2gengpt.training.choosing import DecodeChooser, choose_decoding, spread
from r2gengpt.training.data import make_loaders, read_splits, run_features
from r2gengpt.training.distributed.processes import (
    check_sharded,
    check_strategy,
    is_sharded,
    told_if_another_process_ends,
)
from r2gengpt.training.findings import FindingsModule, check_findings_only, finding_labels, freeze_seeing
from r2gengpt.training.keeping import check_keeps, keep_sentences
from r2gengpt.training.live import LiveLogs
from r2gengpt.training.loggers import check_loggers, make_loggers
from r2gengpt.training.module import R2GenGPTModule
from r2gengpt.training.record import SUMMARY
from r2gengpt.training.reinforcement.begin import (
    check_alone,
    check_references,
    check_reinforced,
    is_reinforced,
    policy_of,
)
from r2gengpt.training.reinforcement.policy import PolicyGradient
from r2gengpt.training.reinforcement.result import StageResult
from r2gengpt.training.standing import Attempt, rule, shortfall, why_best
from r2gengpt.training.states import BEFORE, NEWEST, EndedBySignals, RunEnded, ended_by_signals, locked, remove_states
from r2gengpt.training.statistics import set_feature_statistics
from r2gengpt.training.trainer import EXPECTED_WARNINGS, make_trainer, total_steps
from r2gengpt.training.validation import check_scores
from r2gengpt.training.watching import ProgressBar

log = logging.getLogger("r2gengpt.training")


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    directory: Path
    best: Mapping[str, float]
    steps: int
    chosen_by: str = ""
    below_floors: str = ""
    """The floors that the best checkpoint is below, as none reached them all."""
    validations: tuple[Attempt, ...] = ()
    """What was compared, in its order."""
    is_first: bool = True
    """False in all but one of a run's processes: that one writes files and speaks."""
    result: StageResult | None = None
    """Of `stage` reinforce: the supervised model beside the reinforced one."""

    @property
    def checkpoint(self) -> Path:
        """The best checkpoint, or the last where nothing was validated."""
        return self.directory / ("best" if self.best else "last")

    def to_json(self) -> dict[str, Any]:
        """As it stands in summary.json, which also marks the run as finished."""
        content = {"finished": True, "steps": self.steps, "best": dict(self.best), "chosen_by": self.chosen_by}
        found = [{"epoch": one.epoch, "step": one.step, "val_score": one.score} for one in self.validations]
        below = {"below_floors": self.below_floors} if self.below_floors else {}
        return {**content, **below, "validations": found}


def chosen_decoding(
    built: Built,
    studies: Sequence[Study],
    config: RunConfig,
    where: PlacementConfig,
    *,
    scores: Mapping[str, float],
    device: torch.device,
    features: Features | None,
) -> ChosenDecoding | None:
    """The penalties that decode validation studies best, by the best checkpoint if `scores` has one; None: not asked.

    Studies with labels alone have no text to compare with. Weights that lie in parts on several processes can't write
    reports here: their penalties stay open.
    """
    options = config.train
    if options.findings_only or not options.choose_decode or options.limit_val_batches == 0 or is_sharded(options):
        return None
    if not all(study.report.strip() for study in studies):
        return None
    best = Path(options.savedmodel_path) / "best" if scores else None
    chooser = DecodeChooser(built, spread(studies, options.choose_decode), config.data, config.decode, features)
    return choose_decoding(chooser, best, device, quantization=where.quantization, precision=options.precision)


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
    data, options = config.data, config.train
    if rank_zero_only.rank:
        logging.getLogger("r2gengpt").setLevel(logging.WARNING)
    check_strategy(options)
    options = replace(options, precision=native_precision(options.precision))
    check_on_one_device(where)
    if where.quantization == "w8a8":
        raise InputError(
            "writes reports, carries no gradients; train with none, int8 or nf4", field="quantization", value="w8a8"
        )
    check_cacheable(config.model, data, stays=options.freeze_seeing or is_reinforced(config))
    check_findings_only(config)
    check_scores(config)
    check_loggers(options.loggers)
    check_reinforced(config)
    reinforced = is_reinforced(config)
    learns = not options.findings_only and not reinforced
    splits = read_splits(data, reports=learns, earlier=config.model.prior_study)
    if reinforced:
        check_references(config, splits["val"])
    check_keeps(config, splits["train"])
    where = settled(config.model.lm_model, where)  # may ask a hub: what lies here has been looked at
    check_sharded(options, where)
    config = replace(config, decode=config.decode.for_dataset(data.dataset), train=options)
    directory = Path(options.savedmodel_path)
    resume = open_run(config, where)
    data_found = fingerprint(splits)
    if resume is not None:
        check_same_data(directory, data_found, data.annotation)
    torch.manual_seed(options.seed)
    built = build_model(config.model, where, precision=options.precision, findings_only=options.findings_only)
    start = None
    if options.start_from is not None and is_original(options.start_from):
        put_original(built.model, Path(options.start_from))
    elif options.start_from is not None:
        start = find_checkpoint(options.start_from, "ckpt_file")
        load_delta(built.model, start, "ckpt_file")
    if options.freeze_seeing or reinforced:
        freeze_seeing(built.model)
    features = run_features(built, splits, config)
    if resume is None and not reinforced:  # a policy begins as the supervised model is
        training = StudyDataset(splits["train"], built.processor, data.dataset, features=features)
        set_feature_statistics(built, training, new_head=options.start_from is None)
    if resume is None:
        start_run(config, where, data_found)
    best = BestCheckpoint(directory / "best", config, where)
    averaging = [MovingAverage(options.ema)] if options.ema else []
    seen = [LearningRateMonitor("step"), ProgressBar(), LiveLogs()]
    callbacks = [best, *averaging, *seen, EndedBySignals(), state]
    labels = {split: finding_labels(studies) for split, studies in splits.items()} if config.model.findings_head else {}
    if labels:
        check_measurable(labels["val"], splits["val"], config)
    with warnings.catch_warnings():
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        trainer = make_trainer(options, built, callbacks, make_loggers(config))
        count = sum(parameter.numel() for parameter in built.model.parameters() if parameter.requires_grad)
        log.info("%d trained parameters, %d training studies", count, len(splits["train"]))
        if resume is not None:
            log.info("resuming from %s", resume)
        check_shares(splits, trainer.world_size)
        loaders = make_loaders(built, splits, config, trainer.global_rank, trainer.world_size, features, labels)
        reports = [study.report for study in splits["train"]]
        index = reports_index(reports, built.processor, data.dataset) if config.decode.speculate else None
        steps = total_steps(len(loaders[0]), options)
        module: FindingsModule | R2GenGPTModule
        policy: PolicyGradient | None = None
        if options.findings_only:
            module = FindingsModule(built, config, steps, labels=labels["train"], studies=splits["val"])
        else:
            head = AuxiliaryHead(built, config, labels["train"], splits["val"], start) if labels else None
            if reinforced:
                check_alone(trainer.world_size)
                policy = policy_of(built, config, splits, head)
            module = R2GenGPTModule(built, config, steps, index, head, policy)
            if policy is not None and resume is None and options.limit_val_batches:
                trainer.validate(module, loaders[1], verbose=False)
        then = "the same command again goes on from the last saved state"
        with told_if_another_process_ends(trainer.global_rank, trainer.world_size, then):
            trainer.fit(module, *loaders, ckpt_path=resume, weights_only=True)
            tensors = trained_tensors(built.model)  # by all processes: each may hold a part
    below = shortfall(best.scores, options) if best.scores else ""
    result = policy.result(best.scores, data.dataset) if policy is not None and best.scores else None
    attempts = tuple(best.attempts)
    summary = Summary(
        directory, best.scores, trainer.global_step, rule(options), below, attempts, trainer.is_global_zero, result
    )
    if trainer.is_global_zero:
        card = card_of(config, where, built, module.latest)
        save_checkpoint(directory / "last", built, config.stored, card, index, tensors, module.write_beside)
        device = trainer.strategy.root_device
        chosen = chosen_decoding(
            built, splits["val"], config, where, scores=best.scores, device=device, features=features
        )
        for path in (directory / "last", directory / "best"):
            if chosen is not None and path.is_dir():
                add_decoding(path, built, config.stored, chosen)
        if options.keep_sentences:
            keep_sentences(built, splits["train"], config, summary.checkpoint, device=device, features=features)
        if best.scores:
            log.info(why_best(best.attempts, options))
        if result is not None:
            result.write(directory)
        with whole_file(directory / SUMMARY) as path:
            path.write_text(json.dumps(summary.to_json(), indent=1) + "\n", encoding="utf-8")
        remove_states(directory)
    return summary
