"""Decoding by the library's `generate`: the engine's reference, also for language models that the engine cannot serve.

Our settings in its form, its streamer on our text, its outputs as `Written`. No batches are put together here.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, TextStreamer

from r2gengpt.config import NO_OPENING, DecodeConfig
from r2gengpt.data.batches import Batch
from r2gengpt.generation.beams import Rules, Written
from r2gengpt.generation.scores import settle
from r2gengpt.model import R2GenGPTForConditionalGeneration, R2GenGPTProcessor
from r2gengpt.text.sentences import ROLE_WORDS, tidy_report


def generation_config(decode: DecodeConfig, processor: R2GenGPTProcessor) -> GenerationConfig:
    """The library's settings for ours; the lengths must be resolved (`DecodeConfig.for_dataset`)."""
    rules = Rules.of(decode, processor.end_token_id)
    beams = {"length_penalty": rules.length_penalty, "early_stopping": rules.early_stopping}
    # the library keeps what it does not know, and does not use it
    ours = {"opening": decode.opening} if decode.opening != NO_OPENING else {}
    drawn = {"temperature": rules.temperature, "top_p": rules.top_p, "top_k": rules.top_k}
    return GenerationConfig(
        num_beams=rules.beam_size,
        do_sample=rules.do_sample,
        min_new_tokens=rules.min_new_tokens,
        max_new_tokens=rules.max_new_tokens,
        repetition_penalty=rules.repetition_penalty,
        no_repeat_ngram_size=rules.no_repeat_ngram_size,
        eos_token_id=rules.end,
        pad_token_id=processor.pad_token_id,
        **(beams if rules.beam_size > 1 else {}),
        **(drawn if rules.do_sample else {}),
        **ours,
    )


@torch.no_grad()
def written_by_generate(
    model: R2GenGPTForConditionalGeneration,
    batch: Batch,
    features: Tensor,
    settings: GenerationConfig,
    streamer: TextStreamer | None = None,
    openings: Sequence[Sequence[int]] = (),
) -> list[Written]:
    """The reports of one batch of prompts, in the batch's order.

    Args:
        model: in eval mode.
        batch: the prompts, padded on the left.
        features: (K, N, E), of `encode_views` on the batch.
        settings: of `generation_config`.
        streamer: is given the tokens of the only study.
        openings: the tokens that each report begins with; empty: none.
    """
    beams, end = settings.num_beams or 1, settings.eos_token_id
    found = model.generate(
        batch.input_ids,
        view_mask=batch.view_mask,
        features=features,
        marks=batch.marks,
        attention_mask=batch.attention_mask,
        generation_config=settings,
        streamer=streamer,
        logits_processor=LogitsProcessorList([Opened(openings, beams)] if any(openings) else []),
        num_return_sequences=beams,
        synced_gpus=False,  # under fsdp the library would wait for processes that have no report left to write
    )
    found = found.view(len(batch.ids), beams, -1)  # a study's reports, best first
    counted = counted_tokens(found, end)
    logprobs = token_logprobs(model, batch, features, found[:, 0], counted[:, 0]).tolist()
    written = []
    for rows, lengths, own in zip(found.tolist(), counted.sum(2).tolist(), logprobs, strict=True):
        texts = [ids[:length] for ids, length in zip(rows, lengths, strict=True)]
        written.append(Written(texts[0], own[: lengths[0]], tuple(texts) if beams > 1 else ()))
    return written


class Opened(LogitsProcessor):  # type: ignore[misc]  # the library is untyped
    """Leaves each report no token but the next one of its opening; the library asks it behind the rules on repetition.

    Args:
        openings: the tokens that each report begins with.
        beams: rows of each report.
    """

    def __init__(self, openings: Sequence[Sequence[int]], beams: int) -> None:
        self.openings, self.beams = openings, beams

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores (B · beams, vocabulary) after new tokens (B · beams, T)."""
        step = input_ids.shape[1]
        following = [opening[step] if step < len(opening) else None for opening in self.openings]
        return settle(scores.clone(), [token for token in following for _ in range(self.beams)])


@torch.no_grad()
def token_logprobs(
    model: R2GenGPTForConditionalGeneration, batch: Batch, features: Tensor, new: Tensor, kept: Tensor
) -> Tensor:
    """Natural-log probability of every new token under the model's own distribution, by one more forward pass.

    Args:
        model: in eval mode.
        batch: the prompts, padded on the left.
        features: (K, N, E), of `encode_views` on the batch.
        new: (B, T_new), int64.
        kept: (B, T_new), bool: tokens that count.

    Returns:
        (B, T_new), float32, zero where a token does not count.
    """
    logits = forced_logits(model, batch, features, new, kept)
    chosen = logits.gather(2, new.unsqueeze(2)).squeeze(2) - logits.logsumexp(2)
    return chosen.masked_fill(~kept, 0.0)


@torch.no_grad()
def forced_logits(
    model: R2GenGPTForConditionalGeneration, batch: Batch, features: Tensor, new: Tensor, kept: Tensor
) -> Tensor:
    """The logits (B, T_new, vocabulary), float32, that each new token was chosen from; arguments as above."""
    prompt = model.embed_inputs(batch.input_ids, None, batch.view_mask, features, batch.marks)
    embeds = torch.cat([prompt, model.get_input_embeddings()(new)], dim=1)
    mask = torch.cat([batch.attention_mask, kept.to(batch.attention_mask.dtype)], dim=1)
    output = model(
        inputs_embeds=embeds,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp_min(0),
        logits_to_keep=new.shape[1] + 1,
    )
    logits: Tensor = output.logits[:, :-1].float()
    return logits


def counted_tokens(new: Tensor, end: int) -> Tensor:
    """True up to and including the first end token of each row; (…, T) → (…, T), bool."""
    ended = (new == end).int()
    return (ended.cumsum(-1) - ended) == 0


class CallbackStreamer(TextStreamer):  # type: ignore[misc]  # the library is untyped
    """Hands each finished piece of text to a function; the pieces together are what `tidy_report` makes of the whole.

    White space at the end and what may become a role word at the start are held back until more text has come.
    """

    def __init__(self, processor: R2GenGPTProcessor, on_text: Callable[[str], None]) -> None:
        super().__init__(processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.end_token_id = processor.end_token_id
        self.on_text = on_text
        self.held = ""
        self.begun = False

    def put(self, value: Tensor) -> None:
        """Called by the library with each new token; the end token is none of the text."""
        if value.numel() != 1 or int(value) != self.end_token_id:
            super().put(value)

    def show(self, token: int) -> None:
        """One new token of the engine, which hands out no prompt."""
        self.next_tokens_are_prompt = False
        self.put(torch.tensor([token]))

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Called by the library with text that no later token changes."""
        self.held += text
        end = self.held[len(self.held.rstrip()) :]
        if not self.begun:
            start = self.held.strip()
            if not stream_end and any(word.startswith(start) for word in ROLE_WORDS):
                return
            self.held = tidy_report(self.held) + end
        shown = self.held.rstrip()
        self.held = end
        if shown:
            self.begun = True
            self.on_text(shown)
