"""What a run writes and shows: best checkpoint and its card, state to resume from, progress. Trains nothing."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from r2gengpt.checkpoint import save_checkpoint, trained_tensors
from r2gengpt.config import ModelConfig, RunConfig
from r2gengpt.parts.assemble import Built
from r2gengpt.parts.families import family_of
from r2gengpt.settings import PlacementConfig
from r2gengpt.training.module import R2GenGPTModule
from r2gengpt.training.reinforcement.begin import stage_line
from r2gengpt.training.standing import Attempt, Standing, rule, shortfall
from r2gengpt.training.states import NEWEST, keep_state

log = logging.getLogger("r2gengpt.training")

TRAINED = (
    ("freeze_vm", False, "the vision encoder (deep alignment)"),
    ("vis_use_lora", True, "LoRA on the vision encoder (delta alignment)"),
    ("llm_use_lora", True, "LoRA on the language model"),
    ("findings_head", True, "the finding head"),
)


KEPT_SENTENCES = (
    "`sentences.safetensors`, if it is here, holds sentences of the training reports and their studies' ids: pass it "
    "on only where the terms of that data allow it."
)


def model_card(
    model: ModelConfig,
    dataset: str,
    scores: Mapping[str, float],
    *,
    annotation: str = "",
    quantization: str = "none",
    licence: str | None = None,
    chosen: str = "",
    sentences: bool = False,
    stage: str = "",
) -> str:
    """The card of a model.

    Args:
        model: its parts, and what of them was trained.
        dataset: what it was trained on.
        scores: its validation scores.
        annotation: the file that it was trained with, where that is known.
        quantization: of the frozen weights in training.
        licence: what is known of the language model's.
        chosen: by what the best checkpoint of its run is chosen, where that is known.
        sentences: whether sentences of the training reports lie beside the weights.
        stage: by what the weights were made after supervised training; empty: by that alone.
    """
    note = "" if licence is None else f" (language model: {licence})"
    parts = ["the projector", *(words for name, value, words in TRAINED if getattr(model, name) == value)]
    source = f", annotation `{annotation.rsplit('/', 1)[-1]}`" if annotation else ""
    lines = [
        "# R2GenGPT checkpoint",
        "",
        "Writes drafts of chest X-ray reports. For research only: not a medical device, not verified, no diagnosis.",
        "",
        f"- vision encoder: `{model.vision_model}`",
        f"- language model: `{model.lm_model}`",
        f"- trained: {', '.join(parts)}",
        *([] if quantization == "none" else [f"- frozen weights of the language model in training: {quantization}"]),
        *([f"- stage: {stage}"] if stage else []),
        f"- data set: `{dataset}`{source}",
        f"- licence: that of the two models and of the training data, whichever allows less{note}",
        "",
        "`delta.safetensors` holds the trained tensors only; the two models are loaded from where they are named.",
        *([KEPT_SENTENCES] if sentences else []),
        "",
        "Validation scores of these weights (protocol `clean`):",
        "",
        *(f"- {name}: {value:.4g}" for name, value in scores.items()),
        *([f"\nThe best checkpoint of a run is chosen by {chosen}."] if chosen else []),
    ]
    return "\n".join(lines) + "\n"


def card_of(config: RunConfig, where: PlacementConfig, built: Built, scores: Mapping[str, float]) -> str:
    """The card of a run's model."""
    missed = shortfall(scores, config.train)
    return model_card(
        config.model,
        config.data.dataset,
        scores,
        annotation=config.data.annotation,
        quantization=where.quantization,
        licence=family_of(built.model.language_model).licence,
        chosen=rule(config.train, scores.get("val_score", 0.0)) + (f" (this one is below: {missed})" if missed else ""),
        sentences=config.train.keep_sentences,
        stage=stage_line(config),
    )


class BestCheckpoint(Callback):  # type: ignore[misc]  # the library is untyped
    """Writes the checkpoint directory whenever the validation score is the best so far, and stops a stale run.

    Args:
        directory: where the best checkpoint goes.
        config: of the run.
        where: how the frozen weights are held.
    """

    def __init__(self, directory: Path, config: RunConfig, where: PlacementConfig) -> None:
        self.directory = directory
        self.config = config
        self.where = where
        self.best = Standing()
        self.stale = 0
        self.scores: dict[str, float] = {}
        self.attempts: list[Attempt] = []

    def state_dict(self) -> dict[str, Any]:
        """Kept with the state to resume from."""
        attempts = [(one.epoch, one.step, one.standing.reach, one.score) for one in self.attempts]
        best = {"best": self.best.score, "reach": self.best.reach}
        return {**best, "stale": self.stale, "scores": self.scores, "attempts": attempts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.best = Standing(state_dict.get("reach", 0.0), state_dict["best"])
        self.stale, self.scores = state_dict["stale"], state_dict["scores"]
        attempts = state_dict.get("attempts", ())
        self.attempts = [Attempt(epoch, step, Standing(reach, score)) for epoch, step, reach, score in attempts]

    def on_validation_end(self, trainer: L.Trainer, pl_module: R2GenGPTModule) -> None:
        """Compare and save."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        found = Standing.of(pl_module.latest, self.config.train)
        self.attempts.append(Attempt(trainer.current_epoch, trainer.global_step, found))
        if found > self.best:
            self.best, self.stale = found, 0
            self.scores = {**pl_module.latest, "epoch": trainer.current_epoch, "step": trainer.global_step}
            if missed := shortfall(self.scores, self.config.train):
                log.warning("no checkpoint has reached its floors yet, the nearest one is kept: %s", missed)
            built = pl_module.built
            tensors = trained_tensors(built.model)  # by all processes: each may hold a part
            if trainer.is_global_zero:
                card = card_of(self.config, self.where, built, self.scores)
                save_checkpoint(
                    self.directory, built, self.config.stored, card, pl_module.index, tensors, pl_module.write_beside
                )
        else:
            self.stale += 1
        self._stop_if_stale(trainer)

    def on_fit_start(self, trainer: L.Trainer, pl_module: R2GenGPTModule) -> None:
        """A run that had stopped when its state was saved does not go on."""
        self._stop_if_stale(trainer)

    def _stop_if_stale(self, trainer: L.Trainer) -> None:
        patience = self.config.train.patience
        if patience is not None and self.stale >= patience:
            trainer.should_stop = True


class ResumeState(Callback):  # type: ignore[misc]  # the library is untyped
    """Saves all that a killed run needs to go on: every n optimizer steps, and after each validation.

    Listed last, so that what the other callbacks have just learnt is in it.
    """

    def __init__(self, directory: Path, every: int) -> None:
        self.directory = directory
        self.every = every
        self.saved = 0
        """The optimizer step of the last state that this process has saved."""
        self.waits = False
        """A validation came between two batches of one step: its state is saved after that step."""

    def _save(self, trainer: L.Trainer) -> None:
        temporary = self.directory / f".{NEWEST}.writing"
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            keep_state(temporary, self.directory)
        self.saved, self.waits = trainer.global_step, False

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save in the middle of an epoch; where a validation comes next, after that."""
        due = self.waits or (self.every and trainer.global_step % self.every == 0)
        loop = trainer.fit_loop.epoch_loop
        if due and not loop._should_accumulate() and not loop._should_check_val_fx(trainer.fit_loop._data_fetcher):
            self._save(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Save after a validation; gradients that wait for their step's other batches are in no state."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self.waits = trainer.fit_loop.epoch_loop._should_accumulate()
            if not self.waits:
                self._save(trainer)
