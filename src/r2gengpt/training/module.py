"""The model under Lightning: steps, validation, optimizer. The mathematics are the model's and the metrics' own."""

import math
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor, nn

from r2gengpt.build import Built
from r2gengpt.build.quantization import keep_layout
from r2gengpt.checkpoint import trained_names
from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, TrainConfig
from r2gengpt.data.loading import Batch
from r2gengpt.errors import InputError, RunError
from r2gengpt.generation.decode import predict
from r2gengpt.generation.gather import gathered, in_batch_order
from r2gengpt.generation.prediction import Prediction
from r2gengpt.generation.speculate import Drafter, drafter_for
from r2gengpt.generation.suffixes import SuffixIndex
from r2gengpt.metrics.choice import Choice
from r2gengpt.metrics.measure import FAMILIES
from r2gengpt.metrics.protocols import PROTOCOLS
from r2gengpt.metrics.score import score
from r2gengpt.text.alignment import IGNORE
from r2gengpt.training.processes import is_sharded


class ValidationBatch(NamedTuple):
    """The same studies twice: with labels for the loss, and as prompts for the scores."""

    learn: Batch
    prompt: Batch


class Validated(NamedTuple):
    """What a validation batch gave: the sum of its token losses, how many tokens they are, and its predictions."""

    loss: float
    tokens: int
    predictions: list[Prediction]


def step_seed(seed: int, epoch: int, batch: int, rank: int) -> int:
    """A seed of its own for each training batch: dropout then depends on where the run is, not on how it got there."""
    return ((seed * 1_000_003 + epoch) * 1_000_003 + batch) * 1_009 + rank & 0x7FFF_FFFF_FFFF_FFFF


def learning_rate_factor(step: int, total: int, warmup: int, floor: float) -> float:
    """Linear warm-up to 1 and cosine down to `floor`, by optimizer step.

    Source: Loshchilov and Hutter, arXiv 1608.03983, without restarts.
    Differs from the original: it stepped the cosine once an epoch, so three epochs saw three rates.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    share = min(1.0, (step - warmup) / max(1, total - warmup))
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * share))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trained parameters only; matrices decay, biases and norms do not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def has_fused_adamw(model: nn.Module, precision: str) -> bool:
    """Whether AdamW's update can be one kernel, 3 to 9 times as fast on a CPU (docs/log.md).

    Not with scaled float16 gradients: the kernel would undo the scale by itself, which Lightning's clipping forbids.
    """
    devices = {parameter.device.type for parameter in model.parameters() if parameter.requires_grad}
    return devices <= {"cpu", "cuda", "mps"} and precision != "16-mixed"


def checkpoint_layers(language_model: Any) -> list[nn.Module]:
    """Let each layer keep only its input and compute the rest again in the backward pass; gives those modules.

    Random state is kept, so dropout drops the same values twice. The library makes embeddings ask for a gradient, which
    `use_reentrant=False` does not need, so that is taken back. Source: Chen et al., arXiv 1604.06174.

    Raises:
        InputError: the architecture has no layers of this kind.
    """
    enable = getattr(language_model, "activation_checkpointing_enable", None)  # the name since transformers 5.2x
    try:
        (enable or language_model.gradient_checkpointing_enable)({"use_reentrant": False})
        language_model.disable_input_require_grads()
    except ValueError as error:
        raise InputError(f"--gradient_checkpointing True: {error}") from None
    return [module for module in language_model.modules() if getattr(module, "gradient_checkpointing", False)]


class R2GenGPTModule(L.LightningModule):  # type: ignore[misc]  # the library is untyped
    """Training and validation of one model.

    Args:
        built: the model, its trained parameters marked, and its processor.
        settings: the four groups of settings of the run.
        steps: optimizer steps of the whole run. (Lightning's own estimate makes the loader before a resumed run's
            state is loaded, and the loader would then start at its first batch.)
        index: of the training reports, with `--speculate`.
    """

    def __init__(
        self,
        built: Built,
        settings: tuple[ModelConfig, DataConfig, DecodeConfig, TrainConfig],
        steps: int,
        index: SuffixIndex | None = None,
    ) -> None:
        super().__init__()
        self.built = built
        self.model = built.model
        self.model_settings, self.data_settings, self.decode_settings, self.train_settings = settings
        self.steps = steps
        self.index = index
        self.drafter: Drafter | None = None
        keep_layout(self.model.language_model)
        layers = self.train_settings.gradient_checkpointing
        self.checkpointed = checkpoint_layers(self.model.language_model) if layers else []
        self.strict_loading = False  # checkpoints hold trained tensors only
        self.validated: list[Validated] = []
        self.latest: dict[str, float] = {}
        self.rounds = 0
        self.last_batch: ValidationBatch | None = None

    @property
    def needs_text(self) -> bool:
        """True where a score of the generated text chooses the best checkpoint."""
        return any(name != "val_loss" for name in self.train_settings.scorer_types)

    def train(self, mode: bool = True) -> "R2GenGPTModule":
        """Training mode for the parts that are trained; frozen parts always run without dropout."""
        super().train(mode)
        if self.model_settings.vision_is_frozen:
            self.model.vision_tower.eval()
        if not self.model_settings.llm_use_lora:
            self.model.language_model.eval()
        for module in self.checkpointed:  # the library looks at this mark; dropout layers inside have their own
            module.training = mode
        return self

    def on_train_start(self) -> None:
        """Loaded parts come in eval mode, and Lightning leaves modes as they are: dropout would never act."""
        self.train()

    def _over_ranks(self, loss: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What to differentiate in this process, and the mean over the tokens of all processes; both (), float32.

        Gradients are averaged over processes, and the mean of means is not the mean where reports differ in length.
        So each process's loss is weighted by its share of the tokens: n processes equal one with n times the batch.
        """
        if self.trainer.world_size == 1:
            return loss, loss.detach()
        tokens = (labels != IGNORE).sum().float()
        sums = torch.stack([loss.detach() * tokens, tokens])
        torch.distributed.all_reduce(sums)
        return loss * (tokens * self.trainer.world_size / sums[1]), sums[0] / sums[1]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch, (), float32; over several processes its gradients average to the common batch's.

        Raises:
            RunError: the loss is not finite, here or in another process; the studies of the batch are named.
        """
        assert batch.labels is not None
        torch.manual_seed(step_seed(self.train_settings.seed, self.current_epoch, batch_idx, self.global_rank))
        own: Tensor = self.model.loss(**batch.inputs(), use_cache=False)
        loss, mean = self._over_ranks(own, batch.labels)
        if not bool(torch.isfinite(mean)):
            where = "" if self.trainer.world_size == 1 else f" (process {self.global_rank}: {own.item()})"
            raise RunError(
                f"loss is {mean.item()}{where} at epoch {self.current_epoch}, batch {batch_idx}, studies "
                f"{', '.join(batch.ids)}: lower --learning_rate, set --gradient_clip_val, or look at these studies"
            )
        self.log("loss", mean, prog_bar=True, batch_size=len(batch.ids))
        return loss

    def validation_step(self, batch: ValidationBatch, batch_idx: int) -> None:
        """Keep the summed loss with its token count, and the predictions where scores need them."""
        labels = batch.learn.labels
        assert labels is not None
        tokens = int((labels != IGNORE).sum())
        loss = float(self.model.loss(**batch.learn.inputs(), use_cache=False)) * tokens
        prompts = [batch.prompt] if self.needs_text else []
        self.drafter = self.drafter or drafter_for(self.model.language_model, self.index)
        predictions = list(predict(self.model, self.built.processor, prompts, self.decode_settings, self.drafter))
        self.validated.append(Validated(loss, tokens, predictions))
        self.last_batch = batch

    @property
    def in_step(self) -> bool:
        """True where processes must do each pass of a validation together: weights are in parts, and no text is needed.

        Where reports are written, the strategy keeps whole weights, and each process goes its own way.
        """
        return is_sharded(self.train_settings) and not self.needs_text

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
        self.latest = {"val_loss": sum(batch.loss for batch in batches) / sum(batch.tokens for batch in batches)}
        if self.needs_text:
            predictions = [prediction for batch in batches for prediction in batch.predictions]
            self.latest |= validation_scores(predictions, self.data_settings.dataset)
        names, weights = self.train_settings.scorer_types, self.train_settings.weights
        keys = {name: name.lower() for name in names}
        signs = {name: -1.0 if name == "val_loss" else 1.0 for name in names}
        self.latest["val_score"] = sum(
            weight * signs[name] * self.latest[keys[name]] for name, weight in zip(names, weights, strict=True)
        )
        if not self.trainer.sanity_checking:
            self.log_dict(self.latest, prog_bar=False, sync_dist=True, reduce_fx="max")  # the same in every process

    def configure_optimizers(self) -> Any:
        """AdamW over trained parameters, its rate set anew each optimizer step."""
        settings = self.train_settings
        optimizer = torch.optim.AdamW(
            parameter_groups(self.model, settings.weight_decay),
            lr=settings.learning_rate,
            fused=has_fused_adamw(self.model, settings.precision),
        )
        optimizer._step_supports_amp_scaling = False  # where fused, nothing is scaled; Lightning refuses to clip else
        total = self.steps
        warmup = round(settings.warmup_ratio * total)
        floor = settings.min_learning_rate / settings.learning_rate
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, total, warmup, floor)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the frozen weights out: they come from where they came from."""
        kept = {f"model.{name}" for name in trained_names(self.model)}
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in kept}


def validation_scores(predictions: list[Prediction], dataset: str) -> dict[str, float]:
    """Scores by the default protocol, without intervals."""
    scores = score(
        {p.id: p.prediction for p in predictions},
        {p.id: [p.reference] for p in predictions},
        PROTOCOLS["clean"],
        dataset=dataset,
        choice=Choice(FAMILIES, {}),
        resamples=0,
    )
    return {name: value.value for name, value in scores.metrics.items()}
