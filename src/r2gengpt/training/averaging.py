"""A moving average of the trained weights, which validations and checkpoints see. Trains nothing."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

WARM_UP = 10
"""Steps after which half of the decay's memory is used: the first weights are forgotten soon."""


class MovingAverage(Callback):  # type: ignore[misc]  # the library is untyped
    """Keeps the average, and puts it in place of the weights while they are validated and saved.

    It is listed after what saves the best checkpoint and before what saves the state to resume from: at the end of a
    validation it takes the average out again.

    Source: Polyak averaging; Tarvainen and Valpola, arXiv 1703.01780, for the decay that rises.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: dict[str, Tensor] = {}
        self.own: dict[str, Tensor] = {}
        self.steps = 0

    def state_dict(self) -> dict[str, Any]:
        """Kept with the state to resume from."""
        return {"average": self.average, "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.average, self.steps = state_dict["average"], state_dict["steps"]

    @staticmethod
    def _trained(module: L.LightningModule) -> dict[str, Tensor]:
        return {name: value.data for name, value in module.named_parameters() if value.requires_grad}

    @torch.no_grad()
    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Follow the weights where an optimizer step was made."""
        if trainer.global_step == self.steps:
            return
        self.steps = trainer.global_step
        decay = min(self.decay, self.steps / (self.steps + WARM_UP))
        for name, value in self._trained(pl_module).items():
            if name in self.average:
                self.average[name] = self.average[name].to(value.device).lerp_(value, 1 - decay)  # a state's is on CPUs
            else:
                self.average[name] = value.clone()

    @torch.no_grad()
    def _put(self, pl_module: Any, values: dict[str, Tensor]) -> None:
        for name, value in self._trained(pl_module).items():
            if name in values:
                value.copy_(values[name])

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """The average in."""
        if self.average:
            self.own = {name: value.clone() for name, value in self._trained(pl_module).items()}
            self._put(pl_module, self.average)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """The weights back."""
        self._put(pl_module, self.own)
        self.own = {}

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """What is saved last is the average, of a run too that was resumed after its last step."""
        self._put(pl_module, self.average)
