"""The model under Lightning: steps, validation, optimizer. The mathematics are the model's and the metrics' own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from r2gengpt.checkpoint import trained_names
from r2gengpt.config import RunConfig
from r2gengpt.data.batches import Batch
from r2gengpt.errors import RunError
from r2gengpt.generation.decode import predict
from r2gengpt.generation.speculate import Drafter, drafter_for
from r2gengpt.generation.suffixes import SuffixIndex
from r2gengpt.parts.assemble import Built
from r2gengpt.parts.quantization import keep_layout
from r2gengpt.processes import gathered, in_batch_order
from r2gengpt.report import Report
from r2gengpt.text.alignment import IGNORE
from r2gengpt.training.auxiliary import AuxiliaryHead
from r2gengpt.training.choosing import spread
from r2gengpt.training.distributed.processes import is_sharded, over_processes
from r2gengpt.training.optimizer import checkpoint_layers, optimizer_and_schedule
from r2gengpt.training.validation import Validated, ValidationBatch, check_measured, needs_text, scores_of


def step_seed(seed: int, epoch: int, batch: int, rank: int) -> int:
    """A seed of its own for each training batch: dropout then depends on where the run is, not on how it got there."""
    return ((seed * 1_000_003 + epoch) * 1_000_003 + batch) * 1_009 + rank & 0x7FFF_FFFF_FFFF_FFFF


class R2GenGPTModule(L.LightningModule):  # type: ignore[misc]  # the library is untyped
    """Training and validation of one model.

    Args:
        built: the model, its trained parameters marked, and its processor.
        config: of the run.
        steps: optimizer steps of the whole run. (Lightning's own estimate makes the loader before a resumed run's
            state is loaded, and the loader would then start at its first batch.)
        index: of the training reports, with `speculate`.
        head: the finding head beside the report; None: the model has none.
    """

    def __init__(
        self,
        built: Built,
        config: RunConfig,
        steps: int,
        index: SuffixIndex | None = None,
        head: AuxiliaryHead | None = None,
    ) -> None:
        super().__init__()
        self.built = built
        self.model = built.model
        self.config = config
        self.steps = steps
        self.index = index
        self.head = head
        self.drafter: Drafter | None = None
        keep_layout(self.model.language_model)
        layers = self.config.train.gradient_checkpointing
        self.checkpointed = checkpoint_layers(self.model.language_model) if layers else []
        self.strict_loading = False  # checkpoints hold trained tensors only
        self.validated: list[Validated] = []
        self.latest: dict[str, float] = {}
        self.samples: Sequence[Report] = ()
        """Some reports of the last validation, of the same studies each time."""
        self.rounds = 0
        self.last_batch: ValidationBatch | None = None
        self.needs_text = needs_text(config.train)

    def train(self, mode: bool = True) -> "R2GenGPTModule":
        """Training mode for the parts that are trained; frozen parts always run without dropout."""
        super().train(mode)
        if self.config.model.vision_is_frozen or self.config.train.freeze_seeing:
            self.model.vision_tower.eval()
        if self.config.train.freeze_seeing and self.model.finding_head is not None:
            self.model.finding_head.eval()
        if not self.config.model.llm_use_lora:
            self.model.language_model.eval()
        for module in self.checkpointed:  # the library looks at this mark; dropout layers inside have their own
            module.training = mode
        return self

    def on_train_start(self) -> None:
        """Loaded parts come in eval mode, and Lightning leaves modes as they are: dropout would never act."""
        self.train()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch, (), float32; over several processes its gradients average to the common batch's.

        Raises:
            RunError: the loss is not finite, here or in another process; the studies of the batch are named.
        """
        self.seeded(batch_idx)
        beside: Tensor | float = 0.0
        if self.head is not None:
            batch, beside = self.head.learn(batch, self.global_step / self.steps)
            self.log("findings_loss", beside.detach(), batch_size=len(batch.ids))
        own = self._loss(batch)
        loss, mean = over_processes(own, batch.learnt, self.trainer.world_size)
        if not bool(torch.isfinite(mean)):
            where = "" if self.trainer.world_size == 1 else f" (process {self.global_rank}: {own.item()})"
            raise RunError(
                f"loss is {mean.item()}{where} at epoch {self.current_epoch}, batch {batch_idx}, studies "
                f"{', '.join(batch.ids)}: lower `learning_rate`, set `gradient_clip_val`, or look at these studies"
            )
        self.log("loss", mean, prog_bar=True, batch_size=len(batch.ids))
        return loss if self.head is None else loss + beside

    def seeded(self, batch_idx: int) -> int:
        """The seed of a training batch, by which PyTorch draws from here on."""
        seed = step_seed(self.config.train.seed, self.current_epoch, batch_idx, self.global_rank)
        torch.manual_seed(seed)
        return seed

    def _loss(self, batch: Batch) -> Tensor:
        """The batch's loss; under autocast adapters take their input as it comes, as each product casts it anyway.

        The numbers are the same, bit for bit. Dropout would draw others, and a layer that is computed again in the
        backward pass must cast both times.
        """
        from peft.helpers import disable_input_dtype_casting

        alike = not self.config.model.lora_dropout and not self.checkpointed
        with disable_input_dtype_casting(self.model, alike and torch.is_autocast_enabled(self.device.type)):
            loss: Tensor = self.model.loss(**batch.inputs(), use_cache=False)
        return loss

    def validation_step(self, batch: ValidationBatch, batch_idx: int) -> None:
        """Keep the summed loss with its token count, and the predictions where scores need them."""
        seen = None
        if self.head is not None:
            batch, seen = self.head.look(batch)
        labels = batch.learn.labels
        assert labels is not None
        tokens = int((labels != IGNORE).sum())
        loss = float(self.model.loss(**batch.learn.inputs(), use_cache=False)) * tokens
        prompts = [batch.prompt] if self.needs_text else []
        self.drafter = self.drafter or drafter_for(self.model.language_model, self.index)
        predictions = list(predict(self.model, self.built.processor, prompts, self.config.decode, self.drafter))
        self.validated.append(Validated(loss, tokens, predictions, seen))
        self.last_batch = batch

    @property
    def in_step(self) -> bool:
        """True where processes must do each pass of a validation together: weights are in parts, and no text is needed.

        Where reports are written, the strategy keeps whole weights, and each process goes its own way.
        """
        return is_sharded(self.config.train) and not self.needs_text

    def on_validation_epoch_start(self) -> None:
        """Ask, while all are here, how many batches the process with the most has."""
        planned = self.trainer.num_sanity_val_batches if self.trainer.sanity_checking else self.trainer.num_val_batches
        self.rounds = max(gathered(int(planned[0]))) if self.in_step else 0

    def _idle_passes(self) -> None:
        """A process with fewer batches than another repeats its last one, uncounted, so that none waits for it."""
        last, self.last_batch = self.last_batch, None
        for _ in range(self.rounds - len(self.validated)):
            self.trainer.strategy.validation_step(last, 0)
            self.validated.pop()

    def on_validation_epoch_end(self) -> None:
        """Scores over all ranks, each study once, and the sum that chooses the best checkpoint."""
        self._idle_passes()
        if self.drafter is not None:
            self.drafter.log()
            self.drafter = None
        batches, self.validated = in_batch_order(gathered(self.validated)), []
        seen = [batch.seen for batch in batches if batch.seen is not None]
        beside = {} if self.head is None else self.head.validation.ended(seen)
        reports = [report for batch in batches for report in batch.predictions]
        self.latest = self.scores(batches, reports, beside)
        self.samples = spread(reports, self.config.train.log_samples)
        if self.trainer.sanity_checking:  # some batches of a model that has learnt nothing: no scores of this run
            self.latest, self.samples = {}, ()
            if self.head is not None:
                self.head.validation.forget()
            return
        check_measured(self.latest, self.config.train)
        self.log_dict(self.latest, prog_bar=False, sync_dist=True, reduce_fx="max")  # the same in every process

    def scores(
        self, batches: Sequence[Validated], reports: Sequence[Report], beside: dict[str, float]
    ) -> dict[str, float]:
        """What a validation scores.

        Args:
            batches: of all ranks, each study once.
            reports: theirs; none where no score needs text.
            beside: scores of the finding head.
        """
        return scores_of(batches, self.config, beside)

    def write_beside(self, directory: Path) -> None:
        """Put what belongs to the last validation beside weights."""
        if self.head is not None:
            self.head.write(directory)

    def configure_optimizers(self) -> Any:
        """AdamW with its schedule by step."""
        return optimizer_and_schedule(self.model, self.config.train, self.steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the frozen weights out: they come from where they came from. Keep what the last validation gave."""
        kept = {f"model.{name}" for name in trained_names(self.model)}
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in kept}
        checkpoint["latest"] = self.latest
        if self.head is not None:
            checkpoint["seen"] = self.head.validation.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back what the last validation gave; states of older versions have nothing of it."""
        self.latest = checkpoint.get("latest", {})
        if self.head is not None and "seen" in checkpoint:
            self.head.validation.load_state(checkpoint["seen"])
