"""The likeliest tokens at each place of a report, by one forward pass over prompt and report. Writes none."""

from collections.abc import Sequence

import torch

from r2gengpt.data.batches import Batch
from r2gengpt.generation.library import forced_logits
from r2gengpt.generation.prompts import image_features
from r2gengpt.generation.sentences import PlaceInText
from r2gengpt.model import R2GenGPTForConditionalGeneration


@torch.no_grad()
def likeliest_tokens(
    model: R2GenGPTForConditionalGeneration, batch: Batch, ids: Sequence[int], count: int
) -> tuple[PlaceInText, ...]:
    """Each place of a report, under the model's own distribution.

    Args:
        model: in eval mode.
        batch: the prompt of one study.
        ids: the report's tokens.
        count: how many of the likeliest.
    """
    moved = batch.to(model.device)
    new = torch.tensor([list(ids)], device=model.device)
    kept = torch.ones_like(new, dtype=torch.bool)
    logprobs = forced_logits(model, moved, image_features(model, moved), new, kept)[0].log_softmax(-1)
    chosen = logprobs.gather(1, new[0, :, None])[:, 0].tolist()
    values, tokens = (found.tolist() for found in logprobs.topk(min(count, logprobs.shape[1])))
    return tuple(
        PlaceInText(own, dict(zip(names, numbers, strict=True)))
        for own, names, numbers in zip(chosen, tokens, values, strict=True)
    )
