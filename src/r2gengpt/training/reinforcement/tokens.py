"""Log-probability and entropy of the tokens of sampled reports under a model. Draws none.

Logits exist for a chunk of rows at a time: the backward pass computes them again.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from r2gengpt.data.batches import Batch
from r2gengpt.model import R2GenGPTForConditionalGeneration
from r2gengpt.model.loss import CHUNK, learnt_rows
from r2gengpt.text.alignment import IGNORE


@dataclass(frozen=True)
class TokenScores:
    """Of the learnt tokens, row after row: log-probabilities (n,), with a gradient, and entropies (n,), without."""

    logprobs: Tensor
    entropies: Tensor


def token_scores(
    model: R2GenGPTForConditionalGeneration, batch: Batch, temperature: float, *, head_last: bool
) -> TokenScores:
    """Scores of a batch's learnt tokens under the distribution that a temperature makes of the logits.

    Args:
        model: in eval mode, as it samples.
        batch: with labels and features.
        temperature: of the samples.
        head_last: whether logits are the head on the last hidden state (`head_is_last`).
    """
    assert batch.labels is not None
    embeds = _embedded(model, batch, batch.labels != IGNORE)
    asked = {"inputs_embeds": embeds, "attention_mask": batch.attention_mask, "use_cache": False}
    language_model = model.language_model
    if head_last:
        rows, targets = learnt_rows(language_model.base_model(**asked).last_hidden_state, batch.labels)
        return _scores(rows, targets, model.get_output_embeddings(), temperature)
    rows, targets = learnt_rows(language_model(**asked).logits, batch.labels)
    return _scores(rows, targets, nn.Identity(), temperature)


def _embedded(model: R2GenGPTForConditionalGeneration, batch: Batch, sampled: Tensor) -> Tensor:
    """Embeddings of prompts and samples, (B, T, D).

    The image placeholder of prompts may have no embedding; in a sample it is a token like any other.
    """
    other = int(model.config.image_token_id == 0)
    prompts = batch.input_ids.masked_fill(sampled, other)
    embeds = model.embed_inputs(prompts, None, batch.view_mask, batch.features, batch.marks)
    words = model.get_input_embeddings()(batch.input_ids.masked_fill(~sampled, other))
    return torch.where(sampled[..., None], words, embeds)


def _scores(rows: Tensor, targets: Tensor, head: Callable[[Tensor], Tensor], temperature: float) -> TokenScores:
    def scored(part: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        everything = torch.log_softmax(head(part).float() / temperature, -1)
        with torch.no_grad():
            entropies = -(everything.exp() * everything).nansum(-1)
        return everything.gather(1, wanted[:, None])[:, 0], entropies

    pairs = zip(torch.split(rows, CHUNK), torch.split(targets, CHUNK), strict=True)
    found = [checkpoint(scored, part, wanted, use_reentrant=False) for part, wanted in pairs]
    logprobs, entropies = zip(*found, strict=True)
    return TokenScores(torch.cat(logprobs), torch.cat(entropies).detach())


def frozen_copy(model: nn.Module) -> dict[str, Tensor]:
    """The trained parameters as they are now, by name."""
    return {name: one.detach().clone() for name, one in model.named_parameters() if one.requires_grad}


@contextmanager
def in_place_of(model: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """While this is open, a model computes with other values of some parameters, which change places with its own."""
    parameters = dict(model.named_parameters())
    own = {name: parameters[name].data for name in values}
    try:
        for name, value in values.items():
            parameters[name].data = value.to(own[name].device)
        yield
    finally:
        for name, value in own.items():
            parameters[name].data = value
