"""Cross-entropy of the learnt tokens from hidden states, chunk by chunk. Not the model, and no labels are made here."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from r2gengpt.text.alignment import IGNORE

CHUNK = 256
"""Most rows whose logits exist at the same time, 51 MB in float32 at a vocabulary of 50,304: fewer take longer."""


def learnt_tail(labels: Tensor) -> Tensor:
    """The labels (B, K) of (B, T) from the position that predicts the first learnt token of any row on.

    Raises:
        ValueError: nothing is learnt.
    """
    learnt = (labels != IGNORE).any(0).nonzero()
    if not len(learnt):
        raise ValueError("labels hold no learnt token")
    return labels[:, max(int(learnt[0]) - 1, 0) :]


def report_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of the learnt tokens.

    Args:
        logits: (B, K, vocabulary), position i predicts the token at i + 1.
        labels: (B, K), int64, not shifted, IGNORE where nothing is learnt.
        weights: (B, K), how much each token counts; None: all alike.

    Returns:
        (), float32.
    """
    if weights is not None:
        flat = logits[:, :-1].flatten(0, 1).float()
        losses = functional.cross_entropy(flat, labels[:, 1:].flatten(), ignore_index=IGNORE, reduction="none")
        counts = weights[:, 1:].flatten() * (labels[:, 1:].flatten() != IGNORE)
        return (losses * counts).sum() / counts.sum()
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORE)


def learnt_rows(hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The hidden states that predict learnt tokens, and those tokens.

    Args:
        hidden: (B, T, D), position i predicts the token at i + 1.
        labels: (B, T), int64, not shifted, IGNORE where nothing is learnt.

    Returns:
        (n, D) and (n,), int64.

    Raises:
        ValueError: nothing is learnt.
    """
    following = labels[:, 1:]
    learnt = following != IGNORE
    if not bool(learnt.any()):
        raise ValueError("labels hold no learnt token")
    return hidden[:, :-1][learnt], following[learnt]


def _log_probabilities(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Of all tokens (n, vocabulary) and of the targets (n, 1), float32."""
    everything = torch.log_softmax(logits, -1, dtype=torch.float32)
    return everything, everything.gather(1, targets[:, None])


class _ChunkedLoss(torch.autograd.Function):
    """Summed cross-entropy; its gradients are taken while a chunk's logits are there, and no logits are kept.

    The sum's gradient is all that is needed: what comes in the backward pass is one factor. Source for the idea: Hsu
    et al., Liger Kernel, arXiv 2410.10989, section 3.2.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, targets: Tensor, weights: Tensor | None, head: Any, chunk: int, *trained: Tensor
    ) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        gradients = [torch.empty_like(hidden), *map(torch.zeros_like, trained)]
        for start in range(0, len(hidden), chunk):
            part, wanted = hidden[start : start + chunk].detach().requires_grad_(), targets[start : start + chunk]
            with torch.enable_grad():
                logits = head(part)
            slope, chosen = _log_probabilities(logits.detach(), wanted)
            part_weights = None if weights is None else weights[start : start + chunk, None]
            total -= chosen.sum() if part_weights is None else (chosen * part_weights).sum()
            slope.exp_().scatter_add_(1, wanted[:, None], slope.new_full((len(wanted), 1), -1.0))
            if part_weights is not None:
                slope *= part_weights
            found = torch.autograd.grad(logits, (part, *trained), slope.to(logits.dtype))
            gradients[0][start : start + chunk] = found[0]
            for kept, new in zip(gradients[1:], found[1:], strict=True):
                kept += new
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [tensor * factor.to(tensor.dtype) for tensor in ctx.saved_tensors]
        return (gradients[0], None, None, None, None, *gradients[1:])


def chunked_loss(
    hidden: Tensor,
    targets: Tensor,
    head: nn.Module | Callable[[Tensor], Tensor],
    most: int = CHUNK,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy of a head's logits, which never exist for more than `most` rows.

    Args:
        hidden: (n, D), in front of the head.
        targets: (n,), int64.
        head: (n, D) → (n, vocabulary), row by row; whole, quantized, with LoRA or trained itself.
        most: rows at a time; they are shared out evenly.
        weights: (n,), how much each row counts in the mean; None: all alike.

    Returns:
        (), float32.
    """
    chunk = math.ceil(len(hidden) / math.ceil(len(hidden) / most))
    trained = [p for p in head.parameters() if p.requires_grad] if isinstance(head, nn.Module) else []
    if torch.is_grad_enabled() and (hidden.requires_grad or trained):
        total: Tensor = _ChunkedLoss.apply(hidden, targets, weights, head, chunk, *trained)  # type: ignore[no-untyped-call]
    else:
        pairs = zip(torch.split(hidden, chunk), torch.split(targets, chunk), strict=True)
        chosen = [_log_probabilities(head(part), wanted)[1] for part, wanted in pairs]
        if weights is not None:
            chosen = [part * own[:, None] for part, own in zip(chosen, torch.split(weights, chunk), strict=True)]
        total = -torch.stack([part.sum() for part in chosen]).sum()
    return total / (len(targets) if weights is None else weights.sum())


@torch.no_grad()
def head_is_last(language_model: Any) -> bool:
    """Whether a language model's logits are its head on its inner model's last hidden state and nothing else; by trial.

    Some families scale or bound logits after the head; what they do is theirs, so their own forward must be taken.
    """
    inner, head = language_model.base_model, language_model.get_output_embeddings()
    if inner is language_model or head is None:
        return False
    inputs = language_model.get_input_embeddings().weight[:2].unsqueeze(0)
    modes = {module: module.training for module in language_model.modules()}
    language_model.eval()
    kind = inputs.device.type
    dtype, enabled = torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
    with torch.autocast(kind, dtype, enabled, cache_enabled=False):  # kept copies of weights would have no gradients
        found = head(inner(inputs_embeds=inputs, use_cache=False).last_hidden_state)
        wanted = language_model(inputs_embeds=inputs, use_cache=False).logits
    for module, mode in modes.items():
        module.training = mode
    return torch.equal(found, wanted)
