"""What is refused before a run builds anything: settings and data that do not fit. Trains nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from r2gengpt.config import DataConfig, ModelConfig, RunConfig
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.files import check_writable
from r2gengpt.parts.assemble import native_precision
from r2gengpt.parts.loading import settled
from r2gengpt.settings import PlacementConfig
from r2gengpt.training.auxiliary import check_measurable
from r2gengpt.training.data import read_splits
from r2gengpt.training.distributed.processes import check_sharded, check_strategy
from r2gengpt.training.findings import check_findings_only, finding_labels
from r2gengpt.training.keeping import check_keeps
from r2gengpt.training.loggers import check_loggers
from r2gengpt.training.reinforcement.begin import check_references, check_reinforced, is_reinforced
from r2gengpt.training.validation import check_scores


@dataclass(frozen=True)
class CheckedRun:
    """A run that nothing is known to speak against.

    Attributes:
        config: its settings, precision and lengths resolved.
        where: how the frozen weights are held, resolved.
        splits: the studies of train and val.
        labels: of each split, (n, O), NaN where unknown; empty without a finding head.
    """

    config: RunConfig
    where: PlacementConfig
    splits: Mapping[str, Sequence[Study]]
    labels: Mapping[str, Tensor]


def checked(config: RunConfig, where: PlacementConfig) -> CheckedRun:
    """The run, its settings resolved and its studies read. What is quickly told comes first; a hub is asked last.

    Raises:
        InputError: settings that contradict each other or this machine, or data that they cannot be trained on.
    """
    options = replace(config.train, precision=native_precision(config.train.precision))
    _check_settings(config, where)
    reinforced = is_reinforced(config)
    reports = not options.findings_only and not reinforced
    splits = read_splits(config.data, reports=reports, earlier=config.model.prior_study)
    if reinforced:
        check_references(config, splits["val"])
    check_keeps(config, splits["train"])
    labels = {split: finding_labels(studies) for split, studies in splits.items()} if config.model.findings_head else {}
    if labels:
        check_measurable(labels["val"], splits["val"], config)
    where = settled(config.model.lm_model, where)
    check_sharded(options, where)
    return CheckedRun(
        replace(config, decode=config.decode.for_dataset(config.data.dataset), train=options), where, splits, labels
    )


def _check_settings(config: RunConfig, where: PlacementConfig) -> None:
    """Refuse what settings alone tell."""
    check_strategy(config.train)
    check_on_one_device(where)
    if where.quantization == "w8a8":
        raise InputError(
            "writes reports, carries no gradients; train with none, int8 or nf4", field="quantization", value="w8a8"
        )
    check_cacheable(config.model, config.data, stays=config.train.freeze_seeing or is_reinforced(config))
    check_findings_only(config)
    check_scores(config)
    check_loggers(config.train.loggers)
    check_reinforced(config)


def check_on_one_device(config: PlacementConfig) -> None:
    """Training needs each process's whole model on its own device: the backward pass would bring all layers back there.

    Raises:
        InputError: the layers are to be spread.
    """
    if config.device_map != "none":
        raise InputError(
            "not in training, whose backward pass needs every layer on the device; "
            "to save memory take `quantization` nf4 `gradient_checkpointing` True",
            field="device_map",
            value=config.device_map,
        )


def check_cacheable(config: ModelConfig, data: DataConfig, *, stays: bool = False) -> None:
    """A cache of features needs an encoder that stays as it is, and a directory.

    Args:
        config: of the model.
        data: with the directory.
        stays: an encoder that was trained before is not trained on.

    Raises:
        InputError: the vision encoder is trained, or the directory cannot be written to.
    """
    if data.feature_cache is None:
        return
    if not config.vision_is_frozen and not stays:
        why = "`freeze_vm` False" if not config.freeze_vm else "`vis_use_lora` True"
        raise InputError(
            f"{why} trains the vision encoder, so its features change with each step; `alignment` shallow freezes it",
            field="feature_cache",
            value=data.feature_cache,
        )
    check_writable(Path(data.feature_cache), "feature_cache")
