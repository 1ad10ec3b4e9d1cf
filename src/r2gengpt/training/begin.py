"""What is looked at before a run, and its directory: refused, resumed or begun anew. Builds and trains nothing."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from r2gengpt.checkpoint import RUN, flat_settings
from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, PlacementConfig, TrainConfig
from r2gengpt.data.files import check_writable, recover_directory, remove, whole_file
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.training.fingerprint import Fingerprint, write_fingerprint
from r2gengpt.training.states import find_state, recover_states, remove_states

Settings = tuple[ModelConfig, DataConfig, DecodeConfig, TrainConfig]
SUMMARY = "summary.json"
SAME_RUN = (
    "resume",
    "overwrite",
    "num_workers",
    "prefetch_factor",
    "gradient_checkpointing",
    "feature_cache",
    "choose_decode",
)
"""Settings that may change between the start of a run and its continuation."""


def open_run(settings: Settings, where: PlacementConfig) -> Path | None:
    """Look at the run's directory; gives the state to resume from, or None where a run starts anew.

    Raises:
        InputError: the directory holds a finished run, or an unfinished one of other settings, or of which no state
            is whole.
    """
    train = settings[3]
    directory = Path(train.savedmodel_path)
    wanted = json.loads(json.dumps(flat_settings(*settings, where)))
    check_writable(directory, "--savedmodel_path")
    if rank_zero_only.rank == 0:
        for name in ("best", "last"):
            recover_directory(directory / name)
        recover_states(directory)
    if (directory / SUMMARY).exists() and not train.overwrite:
        raise InputError(
            f"--savedmodel_path {directory}: holds a finished run; name another directory or --overwrite True"
        )
    resume = None if train.overwrite else find_state(directory)
    if resume is None:
        return None
    if not train.resume:
        raise InputError(f"--resume False: {directory} holds an unfinished run; add --overwrite True to lose it")
    stored = json.loads((directory / RUN).read_text(encoding="utf-8"))
    for name, value in wanted.items():
        if name not in SAME_RUN and stored.get(name) != value:
            raise InputError(
                f"--{name} {value}: the unfinished run in {directory} has {stored.get(name)}; go on with that, name "
                "another --savedmodel_path, or --overwrite True"
            )
    return resume


@rank_zero_only  # type: ignore[untyped-decorator]
def start_run(settings: Settings, where: PlacementConfig, data: Fingerprint) -> None:
    """Clear what an earlier run left in the directory and write down the settings and the data of the new one."""
    directory = Path(settings[3].savedmodel_path)
    remove_states(directory)
    for name in (SUMMARY, "best", "last"):
        remove(directory / name)
    write_fingerprint(directory, data)
    with whole_file(directory / RUN) as path:
        path.write_text(json.dumps(flat_settings(*settings, where), indent=1) + "\n", encoding="utf-8")


def check_shares(splits: Mapping[str, Sequence[Study]], world: int) -> None:
    """Every process needs a study of each split.

    Raises:
        InputError: there are more processes than studies.
    """
    for split, studies in splits.items():
        if len(studies) < world:
            raise InputError(f"--devices: {world} processes, but split {split} has only {len(studies)} studies")


def check_on_one_device(config: PlacementConfig) -> None:
    """Training needs each process's whole model on its own device: the backward pass would bring all layers back there.

    Raises:
        InputError: the layers are to be spread.
    """
    if config.device_map != "none":
        raise InputError(
            f"--device_map {config.device_map}: not in training, whose backward pass needs every layer on the device; "
            "to save memory take --quantization nf4 --gradient_checkpointing True"
        )


def check_cacheable(config: ModelConfig, data: DataConfig) -> None:
    """A cache of features needs an encoder that stays as it is, and a directory.

    Raises:
        InputError: the vision encoder is trained, or the directory cannot be written to.
    """
    if data.feature_cache is None:
        return
    if not config.vision_is_frozen:
        flag = "--freeze_vm False" if not config.freeze_vm else "--vis_use_lora True"
        raise InputError(
            f"--feature_cache {data.feature_cache}: {flag} trains the vision encoder, so its features change with each "
            "step; --alignment shallow freezes it"
        )
    check_writable(Path(data.feature_cache), "--feature_cache")
