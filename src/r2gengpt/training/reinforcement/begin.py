"""What stands before a reinforcement run: its checks, its policy, and the line on the model's card. Trains nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from r2gengpt.checkpoint_files import DELTA, check_writes, find_checkpoint, is_original, read_settings
from r2gengpt.confidence.looking import Looker
from r2gengpt.config import RunConfig
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.parts.assemble import Built
from r2gengpt.provenance import file_sha256
from r2gengpt.training.auxiliary import AuxiliaryHead
from r2gengpt.training.reinforcement.policy import PolicyGradient
from r2gengpt.training.reinforcement.rewards import target_of

BY_LABELS = ("reward", "findings_auc")
"""Scores that need no reference text."""
ONE_DEVICE = "trains on one device: take `devices` 1 and leave out `strategy` and `num_nodes`"


def is_reinforced(config: RunConfig) -> bool:
    """Whether a run learns by reinforcement."""
    return config.train.stage == "reinforce"


def check_reinforced(config: RunConfig) -> None:
    """Refuse, before anything is loaded, what the stage cannot do.

    Raises:
        InputError: a trained vision encoder, several devices, nothing to train from, or a checkpoint that writes none.
    """
    if not is_reinforced(config):
        return
    model, train = config.model, config.train
    if not model.freeze_vm:
        raise InputError(
            "trains the whole vision encoder, which `stage` reinforce leaves as it is: choose shallow or delta",
            field="freeze_vm",
            value=False,
        )
    if train.strategy != "auto" or train.devices not in ("auto", "1") or train.num_nodes != 1:
        raise InputError(ONE_DEVICE, field="stage", value="reinforce")
    assert train.start_from is not None
    if not is_original(train.start_from):
        directory = find_checkpoint(train.start_from, "ckpt_file")
        check_writes(read_settings(directory, "ckpt_file"), train.start_from, "ckpt_file")


def check_alone(world: int) -> None:
    """Refuse several processes, which `devices` auto takes where there are several GPUs.

    Raises:
        InputError: there are so many.
    """
    if world > 1:
        raise InputError(f"{ONE_DEVICE} (there are {world})", field="stage", value="reinforce")


def check_references(config: RunConfig, studies: Sequence[Study]) -> None:
    """Refuse to choose by scores of texts where validation studies have labels and no text.

    Raises:
        InputError: so it is; names the score.
    """
    if all(study.report.strip() for study in studies):
        return
    named = {"scorer_types": config.train.scorer_types, "score_floors": tuple(config.train.floors)}
    for field, names in named.items():
        if others := [name for name in names if name not in BY_LABELS]:
            raise InputError(
                f"compares texts, and split val has studies with labels alone: choose by {' or '.join(BY_LABELS)}",
                field=field,
                value=others[0],
            )


def policy_of(
    built: Built, config: RunConfig, splits: Mapping[str, Sequence[Study]], head: AuxiliaryHead | None
) -> PolicyGradient:
    """The policy of a run whose model holds the supervised weights."""
    looker = None
    if head is not None:
        looker = Looker(built.model, built.processor, head.scales, hints=config.model.findings_hint)
    targets = {study.id: target_of(study) for studies in splits.values() for study in studies}
    return PolicyGradient(built, config.reinforce, config.decode, targets, looker)


def stage_line(config: RunConfig) -> str:
    """What a model's card tells of the stage; empty of a supervised run."""
    if not is_reinforced(config):
        return ""
    how, name = config.reinforce, str(config.train.start_from)
    sha256 = file_sha256(Path(name) if is_original(name) else find_checkpoint(name, "ckpt_file") / DELTA)
    return (
        f"reinforcement by {how.policy_gradient} ({how.samples_per_study} samples a study; reward: "
        f"{how.reward_labels:g} label F1 + {how.reward_sides:g} side F1 - {how.reward_repetition:g} repetition; "
        f"KL weight {how.kl_weight:g}) from supervised weights with SHA-256 {sha256}"
    )
