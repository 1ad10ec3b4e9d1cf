"""How far a training is: a bar on a terminal, a line an epoch elsewhere. Changes nothing of the run."""

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from r2gengpt.progress import EVERY, FIRST_AFTER, clock
from r2gengpt.text.alignment import IGNORE


class ProgressBar(TQDMProgressBar):  # type: ignore[misc]  # the library is untyped
    """On stderr: loss, validation's scores, report tokens per second and the time that is left of the whole run.

    A bar on a terminal. Elsewhere a line after each epoch, and each half minute of a long one.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=1, leave=False)
        self.lines = not sys.stderr.isatty()
        self.tokens = 0
        self.began = self.started = time.monotonic()
        self.due = self.began + FIRST_AFTER
        self.begun_at: int | None = None
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
        disable = self.is_disabled or self.lines
        return Tqdm(desc=description, disable=disable, leave=False, dynamic_ncols=True, file=sys.stderr, smoothing=0)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Begin the time of the run, at the batch where a resumed one goes on."""
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if self.begun_at is None:
            self.began, self.begun_at = time.monotonic(), self._batches(trainer, batch_idx)

    def on_train_epoch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Begin counting tokens and name the epoch."""
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(_epoch(trainer))
        self.tokens, self.started = 0, time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the batch's learnt tokens, or those that were sampled."""
        self.tokens += getattr(pl_module, "sampled", 0) or int((batch.labels != IGNORE).sum())
        self.speed = self.tokens / (time.monotonic() - self.started)
        pl_module.log("tokens_per_s", self.speed, batch_size=len(batch.ids))
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self.lines and time.monotonic() >= self.due and batch_idx + 1 < self.total_train_batches:
            place = f"{_epoch(trainer)}, step {batch_idx + 1} of {self.total_train_batches}"
            self._line(trainer, pl_module, place, batch_idx + 1)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Write the epoch's line where there is no bar."""
        super().on_train_epoch_end(trainer, pl_module)
        if self.lines:
            self._line(trainer, pl_module, _epoch(trainer), int(self.total_train_batches))

    def get_metrics(self, trainer: L.Trainer, pl_module: Any) -> dict[str, Any]:
        """Loss and speed, beside tqdm's own elapsed and remaining time."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return {**metrics, "tokens/s": f"{self.speed:.0f}"} if self.speed else metrics

    def _line(self, trainer: L.Trainer, pl_module: Any, place: str, batch: int) -> None:
        """One line: the place in the run, what the bar would show, and the time left."""
        if self.is_disabled:
            return
        now = time.monotonic()
        self.due = now + EVERY
        shown = [f"{name} {_short(value)}" for name, value in self.get_metrics(trainer, pl_module).items()]
        done = self._batches(trainer, batch)
        left = self._batches(trainer, batch, whole=True) - done
        shown.append(f"{clock(now - self.began)} gone")
        if left > 0:
            shown.append(f"{clock((now - self.began) / max(1, done - (self.begun_at or 0)) * left)} left")
        print(f"{place}: {', '.join(shown)}", file=sys.stderr, flush=True)

    def _batches(self, trainer: L.Trainer, batch: int, *, whole: bool = False) -> int:
        """Batches of the run up to one of this epoch; `whole`: up to the last epoch's end, as far as it is known."""
        an_epoch = trainer.num_training_batches
        if not isinstance(an_epoch, int):  # infinite: no epoch ends
            return batch
        last = (trainer.max_epochs or 0) * an_epoch
        return max(last, batch) if whole else trainer.current_epoch * an_epoch + batch


def _epoch(trainer: L.Trainer) -> str:
    return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
