"""Same weights, same studies: our loss is the original's, but for the end token that the original forgets to teach.

The original's formula (arXiv 2309.09812, section 2; wang-zhanyu/R2GenGPT, models/R2GenGPT.py, forward) is written out
here as plain functions. It masks labels wherever the token id is 0, meaning the padding. Llama's id 0 is `<unk>`, so
no harm is done there; in the GPT-NeoX vocabulary, which StableLM uses, id 0 is the end token itself, and a model
trained so never learns to stop. `mask_zero` switches that masking on for our labels too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from placements import FLOAT32
from r2gengpt.config import DEFAULT_INSTRUCTION, ModelConfig
from r2gengpt.data.batches import Batch, Example, training_batch
from r2gengpt.parts.assemble import Built, build_model
from r2gengpt.testing import noise_image, tiny_language_model, tiny_vision_model
from r2gengpt.text.alignment import IGNORE

REPORTS = (
    "The heart is normal in size. The lungs are clear.",
    "Mild cardiomegaly with small bilateral effusions.",
    "Patchy opacity at the left base. " * 4,
)
MAX_LENGTH = 24
"""The third report is longer, so it is cut; the first two leave room for padding."""
TOLERANCE = 1e-5
"""Losses are near 6 and means of some 50 float32 terms; the original pads to MAX_LENGTH and we to the longest row, so
matrix products have other shapes and add in another order: a few units of float32's 5e-7 at 6."""


@dataclass(frozen=True)
class Result:
    """The original's loss and the labels that went into it, (B, T)."""

    loss: Tensor
    labels: Tensor


def mean_features(tower: Any, views: Sequence[Tensor], *, global_only: bool) -> Tensor:
    """Features of views, each (B, 3, H, W), averaged over the views: (B, N, E), or (B, 1, E) where pooled."""
    each = []
    for view in views:
        output = tower(view)
        each.append(output.pooler_output[:, None] if global_only else output.last_hidden_state)
    return torch.stack(each).mean(dim=0)


def wrapped(image: Tensor, embed: Any, tokenizer: Any) -> Tensor:
    """Image tokens (B, N, D) between the halves of the prompt, BOS in front: (B, T, D)."""

    def ids(text: str) -> Tensor:
        return torch.tensor(tokenizer(text, add_special_tokens=False).input_ids)

    before, after = f"Human: <Img>|</Img> {DEFAULT_INSTRUCTION} \nAssistant:".split("|")
    bos = torch.tensor([tokenizer.bos_token_id])
    front, back = (embed(part).expand(len(image), -1, -1) for part in (torch.cat([bos, ids(before)]), ids(after)))
    return torch.cat([front, image, back], dim=1)


def padded_reports(tokenizer: Any, end_sym: str) -> tuple[Tensor, Tensor]:
    """Reports with their end symbol, cut or filled with id 0 to MAX_LENGTH, and the mask of what is no filling."""
    rows = [tokenizer(text + end_sym, add_special_tokens=False).input_ids[:MAX_LENGTH] for text in REPORTS]
    ids = torch.tensor([row + [0] * (MAX_LENGTH - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (MAX_LENGTH - len(row)) for row in rows])
    return ids, mask


def original_loss(built: Built, views: Sequence[Tensor]) -> Result:
    """The original's forward, on our modules."""
    model, tokenizer = built.model, built.processor.tokenizer
    features = mean_features(model.vision_tower, views, global_only=model.config.global_only)
    image = model.projector.norm(model.projector.linear(features))
    embed = model.language_model.get_input_embeddings()
    prompt = wrapped(image, embed, tokenizer)
    ids, mask = padded_reports(tokenizer, tokenizer.eos_token)
    nothing = torch.full(prompt.shape[:2], IGNORE)
    labels = torch.cat([nothing, ids.masked_fill(ids == 0, IGNORE)], dim=1)
    output = model.language_model(
        inputs_embeds=torch.cat([prompt, embed(ids)], dim=1),
        attention_mask=torch.cat([torch.ones_like(nothing), mask], dim=1),
        labels=labels,
    )
    return Result(output.loss, labels)


def built_of(directory: Path, language: str, **changes: Any) -> Built:
    torch.manual_seed(0)
    lm_model, vision_model = tiny_language_model(directory, language), tiny_vision_model(directory)
    config = ModelConfig(lm_model=str(lm_model), vision_model=str(vision_model), **changes)
    built = build_model(config, FLOAT32)
    built.model.eval()
    return built


def batch_of(built: Built, views: int) -> Batch:
    examples = []
    for number, report in enumerate(REPORTS):
        pixels = built.processor.pixels([noise_image(10 * number + view) for view in range(views)])
        examples.append(Example(str(number), pixels, report, report))
    return training_batch(examples, built.processor, MAX_LENGTH)


def our_loss(built: Built, batch: Batch, *, mask_zero: bool) -> Tensor:
    """Our forward; `mask_zero` gives our labels the original's masking."""
    inputs = batch.inputs()
    if mask_zero:
        inputs["labels"] = inputs["labels"].masked_fill(batch.input_ids == 0, IGNORE)
    loss = built.model(**inputs).loss
    assert isinstance(loss, Tensor)
    return loss


def views_of(batch: Batch) -> list[Tensor]:
    return list(batch.pixel_values.unbind(1))


@pytest.mark.parametrize("views", [1, 2, 3])
@pytest.mark.parametrize("global_only", [False, True])
def test_features_are_the_mean_over_the_views(views: int, global_only: bool, tmp_path: Path) -> None:
    built = built_of(tmp_path, "llama", global_only=global_only)
    batch = batch_of(built, views)
    with torch.no_grad():
        ours = built.model.encode_views(batch.pixel_values, batch.view_mask)
        ours = ours.unflatten(0, (len(REPORTS), views)).mean(1)
        theirs = mean_features(built.model.vision_tower, views_of(batch), global_only=global_only)
        tokens = built.model.image_tokens(built.model.encode_views(batch.pixel_values), batch.view_mask)
        projected = built.model.projector.norm(built.model.projector.linear(theirs))
    # Features and tokens are of size 1: a few float32 roundings of 1e-7 between one batch of views and several.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    torch.testing.assert_close(tokens, projected.flatten(0, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("language", ["llama", "stablelm", "gpt_neox"])
def test_loss_is_the_originals_with_its_masking_switched_on(language: str, views: int, tmp_path: Path) -> None:
    built = built_of(tmp_path, language)
    batch = batch_of(built, views)
    theirs, ours = original_loss(built, views_of(batch)).loss, our_loss(built, batch, mask_zero=True)
    assert abs(theirs.item() - ours.item()) < TOLERANCE


def test_on_llama_the_masking_does_no_harm_and_the_loss_is_the_same_without_it(tmp_path: Path) -> None:
    built = built_of(tmp_path, "llama")
    assert built.processor.tokenizer.unk_token_id == 0
    batch = batch_of(built, 2)
    theirs = original_loss(built, views_of(batch))
    assert abs(theirs.loss.item() - our_loss(built, batch, mask_zero=False).item()) < TOLERANCE
    assert (theirs.labels == built.processor.end_token_id).sum(1).tolist() == [1, 1, 0]


def test_on_the_gpt_neox_vocabulary_the_original_never_learns_to_stop_and_we_do(tmp_path: Path) -> None:
    built = built_of(tmp_path, "stablelm")
    end = built.processor.end_token_id
    assert built.processor.tokenizer.eos_token_id == end == 0
    batch = batch_of(built, 2)
    theirs, ours = original_loss(built, views_of(batch)), our_loss(built, batch, mask_zero=False)
    assert batch.labels is not None
    assert int((theirs.labels == end).sum()) == 0
    assert (batch.labels == end).sum(1).tolist() == [1, 1, 0]
    assert abs(theirs.loss.item() - ours.item()) > 100 * TOLERANCE


def test_the_two_end_tokens_are_all_that_the_losses_differ_by(tmp_path: Path) -> None:
    built = built_of(tmp_path, "stablelm")
    batch = batch_of(built, 1)
    theirs, ours = original_loss(built, views_of(batch)), our_loss(built, batch, mask_zero=False)
    assert batch.labels is not None
    only_ends = {**batch.inputs(), "labels": batch.labels.masked_fill(batch.labels != 0, IGNORE)}
    ends = built.model(**only_ends).loss
    learnt = int((batch.labels != IGNORE).sum())
    expected = (theirs.loss * (learnt - 2) + ends * 2) / learnt
    assert abs(expected.item() - ours.item()) < TOLERANCE


def test_gradients_of_the_projector_are_the_originals(tmp_path: Path) -> None:
    built = built_of(tmp_path, "llama")
    batch = batch_of(built, 2)
    weights = list(built.model.projector.parameters())
    theirs = torch.autograd.grad(original_loss(built, views_of(batch)).loss, weights)
    ours = torch.autograd.grad(our_loss(built, batch, mask_zero=False), weights)
    for one, other in zip(theirs, ours, strict=True):
        assert one.abs().max() > 1e-4
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-6)  # sums over 3 studies of 16 image tokens
