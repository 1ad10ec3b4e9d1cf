"""What a run leaves when it has ended: last checkpoint, decoding, sentences, and the summary. Trains nothing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from r2gengpt.checkpoint import add_decoding, save_checkpoint
from r2gengpt.confidence.findings import read_scales
from r2gengpt.confidence.looking import Looker
from r2gengpt.config import NO_OPENING
from r2gengpt.data.features.filling import Features
from r2gengpt.files import write_whole
from r2gengpt.generation.beams import ChosenDecoding
from r2gengpt.parts.assemble import Built
from r2gengpt.training.callbacks import BestCheckpoint, card_of
from r2gengpt.training.checked import CheckedRun
from r2gengpt.training.choosing import DecodeChooser, choose_decoding, spread
from r2gengpt.training.distributed.processes import is_sharded
from r2gengpt.training.findings import FindingsModule
from r2gengpt.training.keeping import keep_sentences
from r2gengpt.training.module import R2GenGPTModule
from r2gengpt.training.record import SUMMARY
from r2gengpt.training.reinforcement.result import StageResult
from r2gengpt.training.standing import Attempt, rule, shortfall
from r2gengpt.training.states import remove_states


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
        floors = {"below_floors": self.below_floors} if self.below_floors else {}
        return {**content, **floors, "validations": found}


def summary_of(run: CheckedRun, best: BestCheckpoint, trainer: L.Trainer, result: StageResult | None) -> Summary:
    """How the run that `trainer` took to its end has ended."""
    options = run.config.train
    return Summary(
        directory=Path(options.savedmodel_path),
        best=best.scores,
        steps=trainer.global_step,
        chosen_by=rule(options, best.scores.get("val_score", 0.0)),
        below_floors=shortfall(best.scores, options) if best.scores else "",
        validations=tuple(best.attempts),
        is_first=trainer.is_global_zero,
        result=result,
    )


def write_end(
    run: CheckedRun,
    module: R2GenGPTModule | FindingsModule,
    summary: Summary,
    tensors: Mapping[str, Tensor],
    features: Features | None,
    device: torch.device,
) -> None:
    """Write what a finished run leaves, the summary last; its states to resume from go.

    Args:
        run: the run.
        module: what was trained.
        summary: how the run ended.
        tensors: the trained ones, whole.
        features: of the images, where they are kept.
        device: of the model.
    """
    config, built, directory = run.config, module.built, summary.directory
    card = card_of(config, run.where, built, module.latest)
    save_checkpoint(directory / "last", built, config.stored, card, module.index, tensors, module.write_beside)
    chosen = chosen_decoding(run, built, best=bool(summary.best), device=device, features=features)
    for path in (directory / "last", directory / "best"):
        if chosen is not None and path.is_dir():
            add_decoding(path, built, config.stored, chosen)
    if config.train.keep_sentences:
        keep_sentences(built, run.splits["train"], config, summary.checkpoint, device=device, features=features)
    if summary.result is not None:
        summary.result.write(directory)
    write_whole(directory / SUMMARY, json.dumps(summary.to_json(), indent=1) + "\n")
    remove_states(directory)


def chosen_decoding(
    run: CheckedRun, built: Built, *, best: bool, device: torch.device, features: Features | None
) -> ChosenDecoding | None:
    """The penalties that decode validation studies best, by the best checkpoint if there is one; None: not asked.

    Studies with labels alone have no text to compare with. Weights that lie in parts on several processes can't write
    reports here: their penalties stay open.
    """
    config, studies = run.config, run.splits["val"]
    options = config.train
    if options.findings_only or not options.choose_decode or options.limit_val_batches == 0 or is_sharded(options):
        return None
    if not all(study.report.strip() for study in studies):
        return None
    directory, looker = Path(options.savedmodel_path), None
    if config.model.findings_hint or (config.model.findings_head and config.decode.opening != NO_OPENING):
        scales = read_scales(directory / ("best" if best else "last"), "savedmodel_path")
        looker = Looker(built.model, built.processor, scales, hints=config.model.findings_hint)
    chosen = spread(studies, options.choose_decode)
    chooser = DecodeChooser(built, chosen, config.data, config.decode, features, looker)
    return choose_decoding(
        chooser,
        directory / "best" if best else None,
        device,
        quantization=run.where.quantization,
        precision=options.precision,
    )
