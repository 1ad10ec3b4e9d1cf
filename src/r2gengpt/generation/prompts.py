"""Batches as prompts that an engine takes one by one, and what a prompt has room for. Decodes nothing."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from r2gengpt.config import NO_OPENING, DecodeConfig
from r2gengpt.data.batches import Batch
from r2gengpt.errors import InputError
from r2gengpt.generation.engine import Prompt
from r2gengpt.model import R2GenGPTForConditionalGeneration


@dataclass(frozen=True)
class Turn:
    """Which report is written: its place among all, and its study's id and reference."""

    number: int
    study: str
    reference: str


@torch.no_grad()
def prompts_of(
    model: R2GenGPTForConditionalGeneration, batches: Iterable[Batch], decode: DecodeConfig
) -> Iterator[Prompt]:
    """The prompts of the batches one by one, tagged with their `Turn`; the encoder reads a batch's images together."""
    number = 0
    for batch in batches:
        check_fits(model, batch.input_ids.shape[1], decode.max_new_tokens or 0)
        moved = batch.to(model.device)
        embeds = model.embed_inputs(moved.input_ids, moved.pixel_values, moved.view_mask, moved.features, moved.marks)
        for row, mask in enumerate(moved.attention_mask.bool()):
            turn = Turn(number, batch.ids[row], batch.references[row])
            yield Prompt(turn, embeds[row][mask], decode.decode_seed + number, opening_in(batch, row, decode))
            number += 1


def opening_in(batch: Batch, row: int, decode: DecodeConfig) -> tuple[int, ...]:
    """The tokens that a study's report opens with; none where the settings want none, or all would not fit."""
    if decode.opening == NO_OPENING or not batch.openings:
        return ()
    return batch.openings[row][: decode.max_new_tokens]


def check_fits(model: R2GenGPTForConditionalGeneration, prompt_tokens: int, new_tokens: int) -> None:
    """Refuse lengths that the language model has no positions for.

    Raises:
        InputError: prompt and new tokens together exceed the context.
    """
    limit = getattr(model.config.text_config, "max_position_embeddings", None)
    if limit is not None and prompt_tokens + new_tokens > limit:
        raise InputError(
            f"with {prompt_tokens} prompt tokens that is more than the language model's {limit} positions",
            field="max_new_tokens",
            value=new_tokens,
        )


def image_features(model: R2GenGPTForConditionalGeneration, batch: Batch) -> Tensor:
    """The features of the batch's views, (K, N, E): those it brings, or what the encoder makes of its pixels."""
    if batch.features is not None:
        return batch.features
    assert batch.pixel_values is not None  # a batch has one or the other
    return model.encode_views(batch.pixel_values, batch.view_mask)
