"""A model that is reinforced, under Lightning: steps and validations of a policy. What it learns by is the policy's."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from r2gengpt.config import RunConfig
from r2gengpt.data.batches import Batch
from r2gengpt.errors import RunError
from r2gengpt.generation.suffixes import SuffixIndex
from r2gengpt.parts.assemble import Built
from r2gengpt.report import Report
from r2gengpt.training.auxiliary import AuxiliaryHead
from r2gengpt.training.module import R2GenGPTModule
from r2gengpt.training.reinforcement.policy import PolicyGradient
from r2gengpt.training.validation import Validated


class ReinforcedModule(R2GenGPTModule):
    """Training and validation of one model by rewards of what it samples.

    Args:
        built: as `R2GenGPTModule`.
        config: as there.
        steps: as there.
        policy: rewards and samples.
        index: as there.
        head: as there; it stays as it is.
    """

    def __init__(
        self,
        built: Built,
        config: RunConfig,
        steps: int,
        policy: PolicyGradient,
        *,
        index: SuffixIndex | None = None,
        head: AuxiliaryHead | None = None,
    ) -> None:
        super().__init__(built, config, steps, index, head)
        self.policy = policy
        self.needs_text = True
        self.sampled = 0
        """Tokens that the last step sampled."""

    def train(self, mode: bool = True) -> "ReinforcedModule":
        """No dropout anywhere: a policy learns as it samples."""
        super(R2GenGPTModule, self).train(False)
        return self

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The surrogate of the batch's samples, (), float32.

        Raises:
            RunError: it is not finite; the studies of the batch are named.
        """
        step = self.policy.step(batch, self.seeded(batch_idx), self.checkpointed)
        if not bool(torch.isfinite(step.loss)):
            raise RunError(
                f"surrogate is {step.loss.item()} at epoch {self.current_epoch}, batch {batch_idx}, studies "
                f"{', '.join(batch.ids)}: lower `learning_rate`, or raise `kl_weight`"
            )
        self.sampled = step.tokens
        self.log("loss", step.loss.detach(), batch_size=len(batch.ids))
        for name, value in step.figures.items():
            self.log(name, value, prog_bar=name == "sample_reward", batch_size=len(batch.ids))
        return step.loss

    def scores(
        self, batches: Sequence[Validated], reports: Sequence[Report], beside: dict[str, float]
    ) -> dict[str, float]:
        """Also how the reports are rewarded; their texts are kept."""
        beside = beside | self.policy.measured(reports, self.config.data.dataset)
        found = super().scores(batches, reports, beside)
        if "bleu_4" not in beside:
            del found["val_loss"]  # of studies with labels alone it is that of the end token
        if not self.trainer.sanity_checking:
            self.policy.keep(self.trainer.global_step, reports, found)
        return found

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the policy is compared with, too."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["policy"] = self.policy.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back what the policy is compared with, too."""
        super().on_load_checkpoint(checkpoint)
        self.policy.load_state(checkpoint["policy"])
