"""A finding head under Lightning, by itself: films and labels in, no report. Its mathematics are the model's."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from r2gengpt.checkpoint import trained_names
from r2gengpt.config import RunConfig
from r2gengpt.data.batches import Batch
from r2gengpt.data.study import Study, known_rows
from r2gengpt.errors import InputError, RunError
from r2gengpt.model.findings import findings_loss, positive_weights
from r2gengpt.model.vision import full_mask, present_views, view_features
from r2gengpt.parts.assemble import Built
from r2gengpt.parts.loading import ANY_SIZE
from r2gengpt.processes import gathered, in_batch_order
from r2gengpt.report import Report
from r2gengpt.training.auxiliary import Validation
from r2gengpt.training.module import step_seed
from r2gengpt.training.optimizer import optimizer_and_schedule
from r2gengpt.training.validation import SeenFilms, ValidationBatch

log = logging.getLogger("r2gengpt.training")
PATCHWISE = ("vit", *ANY_SIZE)
"""Kinds of encoders whose layers take any number of patches behind a class token."""
HEAD_RATE = 4.0
"""The head's learning rate, in those of the encoder's LoRA: it starts from nothing."""


def finding_labels(studies: Sequence[Study]) -> Tensor:
    """What is known of each study (`known_rows`), (n, O), float32, NaN where unknown."""
    return torch.from_numpy(known_rows(studies)).float()


@contextmanager
def some_patches(tower: Any, share: float) -> Iterator[None]:
    """While this is open, the encoder works on a random part of each view's patches: faster, and it regularises.

    Source: Liu et al., "PatchDropout", arXiv 2208.07220.

    Args:
        tower: an encoder whose embeddings are (K, front + N, E) and whose layers take any number of patches.
        share: of the patches left out.
    """
    if not share:
        yield
        return
    front = 1 + getattr(tower.config, "num_register_tokens", 0)

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        patches = output.shape[1] - front
        chance = torch.rand(len(output), patches, device=output.device)
        kept = chance.argsort(1)[:, : max(1, round(patches * (1 - share)))] + front
        rows = output.gather(1, kept.unsqueeze(-1).expand(-1, -1, output.shape[-1]))
        return torch.cat([output[:, :front], rows], 1)

    hook = tower.embeddings.register_forward_hook(keep)
    try:
        yield
    finally:
        hook.remove()


def check_findings_only(config: RunConfig) -> None:
    """Refuse what training a head alone has no use for.

    Raises:
        InputError: no head, an encoder that is trained and stays at once, settings of reports, or some without effect.
    """
    model, train = config.model, config.train
    if train.freeze_seeing and not model.findings_head:
        raise InputError("leaves a finding head as it is: it needs `findings_head` True",
                         field="freeze_seeing", value=True)  # fmt: skip
    if train.freeze_seeing and not model.freeze_vm:
        raise InputError(
            "trains the whole encoder, which `freeze_seeing` True leaves as it is: choose shallow or delta",
            field="freeze_vm",
            value=False,
        )
    if not train.findings_only:
        return
    if not model.findings_head:
        raise InputError("trains the finding head: it needs `findings_head` True", field="findings_only", value=True)
    if model.prior_study:
        raise InputError(
            "is read by what writes reports: leave it out of `findings_only`", field="prior_study", value=True
        )
    if train.strategy != "auto" or train.devices not in ("auto", "1") or train.num_nodes > 1:
        words = "trains on one device: leave out `strategy`, `devices` and `num_nodes`"
        raise InputError(words, field="findings_only", value=True)
    if train.mirror and not config.data.augment:
        raise InputError("is one of the changes of `augment` True: it needs that", field="mirror", value=True)
    if train.patch_dropout and config.data.feature_cache is not None:
        words = "leaves out patches that `feature_cache` has kept already: give one"
        raise InputError(words, field="patch_dropout", value=train.patch_dropout)
    if train.weigh_findings:
        log.info("`weigh_findings` True has no effect: `findings_only` True learns no report")


def check_takes_some(tower: Any, share: float) -> None:
    """Refuse to leave out patches of an encoder that must see all.

    Args:
        tower: the encoder.
        share: of the patches left out.

    Raises:
        InputError: so it is.
    """
    kind = tower.config.model_type
    if share and kind not in PATCHWISE:
        limit = f"needs an encoder of type {', '.join(PATCHWISE)}; this one is {kind}"
        raise InputError(limit, field="patch_dropout", value=share, limit=limit)


class FindingsModule(L.LightningModule):  # type: ignore[misc]  # the library is untyped
    """Training and validation of a finding head, and of the encoder's LoRA below it.

    Args:
        built: the model; its language model may be without weights.
        config: of the run.
        steps: optimizer steps of the whole run.
        labels: (n, O) of the training studies, by which positives are weighted.
        studies: of the validation split.
    """

    def __init__(
        self,
        built: Built,
        config: RunConfig,
        steps: int,
        *,
        labels: Tensor,
        studies: Sequence[Study],
    ) -> None:
        super().__init__()
        self.built = built
        self.tower = built.model.vision_tower
        self.head: Any = built.model.finding_head
        self.norm_in = built.model.projector.norm_in  # not trained, but a resumed run needs its statistics
        self.config = config
        self.steps = steps
        self.register_buffer("weights", positive_weights(labels), persistent=False)
        self.validation = Validation(studies, positive_weights(labels))
        self.strict_loading = False  # checkpoints hold trained tensors only
        self.index = None
        self.latest: dict[str, float] = {}
        self.samples: Sequence[Report] = ()  # it writes none
        self.validated: list[SeenFilms] = []

    def train(self, mode: bool = True) -> "FindingsModule":
        """Training mode for the parts that are trained."""
        super().train(mode)
        if self.config.model.vision_is_frozen:
            self.tower.eval()
        return self

    def on_train_start(self) -> None:
        """Loaded parts come in eval mode, and Lightning leaves modes as they are."""
        self.train()

    def logits(self, batch: Batch, *, share: float = 0.0, mirror: bool = False) -> Tensor:
        """The head's logits, (B, O), float32; of the mirrored films with `mirror`.

        Args:
            batch: films, or features of a frozen encoder.
            share: of the patches left out.
            mirror: flip the films left to right.
        """
        if batch.features is not None:
            logits: Tensor = self.head(batch.features, batch.view_mask)
            return logits
        assert batch.pixel_values is not None
        mask = full_mask(batch.pixel_values) if batch.view_mask is None else batch.view_mask
        pixels = present_views(batch.pixel_values, mask)
        with some_patches(self.tower, share), torch.set_grad_enabled(self.training and not self._frozen):
            output = self.tower(pixels.flip(-1) if mirror else pixels)
        pooled = self.config.model.global_only
        if share and not pooled:
            features = output.last_hidden_state[:, 1 + getattr(self.tower.config, "num_register_tokens", 0) :]
        else:
            features = view_features(output, self.tower.config, pixels, global_only=pooled)
        found: Tensor = self.head(features, mask)
        return found

    @property
    def _frozen(self) -> bool:
        return self.config.model.vision_is_frozen

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch, (), float32.

        Raises:
            RunError: the loss is not finite; the studies of the batch are named.
        """
        assert batch.findings is not None
        train = self.config.train
        torch.manual_seed(step_seed(train.seed, self.current_epoch, batch_idx, self.global_rank))
        loss = findings_loss(self.logits(batch, share=train.patch_dropout), batch.findings, self.weights)
        if not bool(torch.isfinite(loss)):
            raise RunError(
                f"loss is {loss.item()} at epoch {self.current_epoch}, batch {batch_idx}, studies "
                f"{', '.join(batch.ids)}: lower `learning_rate`, set `gradient_clip_val`, or look at these studies"
            )
        self.log("loss", loss.detach(), prog_bar=True, batch_size=len(batch.ids))
        return loss

    def validation_step(self, batch: ValidationBatch, batch_idx: int) -> None:
        """Keep the logits, the mean of film and mirrored film, beside the labels."""
        films = batch.learn
        assert films.findings is not None
        logits = self.logits(films)
        if films.features is None:
            logits = (logits + self.logits(films, mirror=True)) / 2
        self.validated.append(SeenFilms(films.ids, logits.cpu(), films.findings.cpu()))

    def on_validation_epoch_end(self) -> None:
        """The mean area under the curve over sources and observations, which chooses the best checkpoint."""
        batches, self.validated = in_batch_order(gathered(self.validated)), []
        self.latest = self.validation.ended(batches)
        self.latest["val_score"] = self.latest.get("findings_auc", -self.latest["findings_loss"])
        if self.trainer.sanity_checking:  # some batches of a head that has learnt nothing: no scores of this run
            self.latest = {}
            self.validation.forget()
            return
        self.log_dict(self.latest, prog_bar=False)

    def write_beside(self, directory: Path) -> None:
        """Put the scales of the last validation beside weights."""
        self.validation.write(directory)

    def configure_optimizers(self) -> Any:
        """AdamW with its schedule by step, the head at its own rate."""
        return optimizer_and_schedule(self, self.config.train, self.steps, faster={"head.": HEAD_RATE})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the frozen weights out: they come from where they came from. Keep what the last validation gave."""
        kept = set(trained_names(self))
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in kept}
        checkpoint |= {"latest": self.latest, "seen": self.validation.state()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back what the last validation gave; states of older versions have nothing of it."""
        self.latest = checkpoint.get("latest", {})
        if "seen" in checkpoint:
            self.validation.load_state(checkpoint["seen"])
