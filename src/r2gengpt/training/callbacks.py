"""What a run writes and shows: best checkpoint, state to resume from, progress. No step of the training itself."""

import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from r2gengpt.build.families import family_of
from r2gengpt.checkpoint import save_checkpoint, trained_tensors
from r2gengpt.text.alignment import IGNORE
from r2gengpt.training.card import model_card
from r2gengpt.training.module import R2GenGPTModule
from r2gengpt.training.states import NEWEST, keep_state


class BestCheckpoint(Callback):  # type: ignore[misc]  # the library is untyped
    """Writes the checkpoint directory whenever the validation score is the best so far, and stops a stale run.

    Args:
        directory: where the best checkpoint goes.
        settings: flat settings to store with it.
        patience: validations without a better score before the run stops; None never stops it.
    """

    def __init__(self, directory: Path, settings: Mapping[str, Any], patience: int | None) -> None:
        self.directory = directory
        self.settings = settings
        self.patience = patience
        self.best = -math.inf
        self.stale = 0
        self.scores: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """Kept with the state to resume from."""
        return {"best": self.best, "stale": self.stale, "scores": self.scores}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.best, self.stale, self.scores = state_dict["best"], state_dict["stale"], state_dict["scores"]

    def on_validation_end(self, trainer: L.Trainer, pl_module: R2GenGPTModule) -> None:
        """Compare and save."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        found = pl_module.latest["val_score"]
        if found > self.best:
            self.best, self.stale = found, 0
            self.scores = {**pl_module.latest, "epoch": trainer.current_epoch, "step": trainer.global_step}
            built = pl_module.built
            tensors = trained_tensors(built.model)  # by all processes: each may hold a part
            if trainer.is_global_zero:
                card = model_card(self.settings, self.scores, family_of(built.model.language_model).licence)
                save_checkpoint(self.directory, built, self.settings, card, pl_module.index, tensors)
        else:
            self.stale += 1
        if self.patience is not None and self.stale >= self.patience:
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

    def _save(self, trainer: L.Trainer) -> None:
        temporary = self.directory / f".{NEWEST}.writing"
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            keep_state(temporary, self.directory)
        self.saved = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save in the middle of an epoch; where a validation comes next, after that."""
        due = self.every and trainer.global_step > self.saved and trainer.global_step % self.every == 0
        if due and not trainer.fit_loop.epoch_loop._should_check_val_fx(trainer.fit_loop._data_fetcher):
            self._save(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Save after a validation."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._save(trainer)


class Progress(TQDMProgressBar):  # type: ignore[misc]  # the library is untyped
    """One bar on stderr with loss, report tokens per second and the time that is left."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=1, leave=False)
        self.tokens = 0
        self.started = time.monotonic()
        self.speed = 0.0

    def init_train_tqdm(self) -> Tqdm:
        """The bar of the whole run, not of one epoch."""
        return self._bar("training")

    def init_validation_tqdm(self) -> Tqdm:
        """The bar of one validation."""
        return self._bar("validation")

    def init_sanity_tqdm(self) -> Tqdm:
        """The bar of the validation before the first step."""
        return self._bar("checking validation")

    def _bar(self, description: str) -> Tqdm:
        return Tqdm(
            desc=description, disable=self.is_disabled, leave=False, dynamic_ncols=True, file=sys.stderr, smoothing=0
        )

    def on_train_epoch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Begin counting tokens and name the epoch."""
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")
        self.tokens, self.started = 0, time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the batch's learnt tokens."""
        self.tokens += int((batch.labels != IGNORE).sum())
        self.speed = self.tokens / (time.monotonic() - self.started)
        pl_module.log("tokens_per_s", self.speed, batch_size=len(batch.ids))
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(self, trainer: L.Trainer, pl_module: Any) -> dict[str, Any]:
        """Loss and speed, beside tqdm's own elapsed and remaining time."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return {**metrics, "tokens/s": f"{self.speed:.0f}"} if self.speed else metrics
