"""AdamW over what is trained, its learning rate by step, and layers computed twice to save memory. No training step."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from r2gengpt.config import TrainConfig
from r2gengpt.errors import InputError


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
    return _groups([parameter for parameter in model.parameters() if parameter.requires_grad], weight_decay)


def _groups(trained: Sequence[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def groups_at_rates(model: nn.Module, train: TrainConfig, faster: Mapping[str, float]) -> list[dict[str, Any]]:
    """`parameter_groups`, and apart those whose names begin as in `faster`, with so many times the learning rate."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    groups = _groups([p for name, p in trained.items() if not name.startswith(tuple(faster))], train.weight_decay)
    for beginning, rate in faster.items():
        own = [parameter for name, parameter in trained.items() if name.startswith(beginning)]
        groups += [{**group, "lr": rate * train.learning_rate} for group in _groups(own, train.weight_decay)]
    return [group for group in groups if group["params"]]


def has_fused_adamw(model: nn.Module, precision: str) -> bool:
    """Whether AdamW's update can be one kernel, 3 to 9 times as fast on a CPU (docs/log.md).

    Not with scaled float16 gradients: the kernel would undo the scale by itself, which Lightning's clipping forbids.
    """
    devices = {parameter.device.type for parameter in model.parameters() if parameter.requires_grad}
    return devices <= {"cpu", "cuda", "mps"} and precision != "16-mixed"


def optimizer_and_schedule(
    model: nn.Module, train: TrainConfig, steps: int, faster: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """AdamW over trained parameters, its rate set anew each optimizer step, in Lightning's form.

    Args:
        model: with its trained parameters marked.
        train: its rates, decay and warm-up.
        steps: optimizer steps of the whole run.
        faster: how names of parameters begin → how many times the learning rate they have.
    """
    groups = groups_at_rates(model, train, faster) if faster else parameter_groups(model, train.weight_decay)
    optimizer = torch.optim.AdamW(
        groups,
        lr=train.learning_rate,
        fused=has_fused_adamw(model, train.precision),
    )
    optimizer._step_supports_amp_scaling = False  # where fused, nothing is scaled; Lightning refuses to clip else
    warmup, floor = round(train.warmup_ratio * steps), train.min_learning_rate / train.learning_rate
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, steps, warmup, floor)
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


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
        raise InputError(f"{error}", field="gradient_checkpointing", value=True) from None
    return [module for module in language_model.modules() if getattr(module, "gradient_checkpointing", False)]
