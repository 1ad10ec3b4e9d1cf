"""The one decode path: prompts in, predictions out, in batches or as a stream. No metrics, no files.

Tokens come from the engine (`engine.py`), or from the library's `generate`, its reference, which also serves the
language models that the engine cannot.
"""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from transformers import GenerationConfig, TextStreamer

from r2gengpt.config import DecodeConfig
from r2gengpt.data.loading import Batch
from r2gengpt.errors import InputError
from r2gengpt.generation.engine import Engine, EngineRules, Prompt, Written, unserved
from r2gengpt.generation.prediction import Prediction
from r2gengpt.generation.scores import Rules
from r2gengpt.generation.sentences import report_sentences, report_text
from r2gengpt.generation.settings import early_stopping, generation_config
from r2gengpt.generation.speculate import Drafter
from r2gengpt.model import R2GenGPTForConditionalGeneration, R2GenGPTProcessor
from r2gengpt.text.prompt import ROLE_WORDS, tidy_report

log = logging.getLogger("r2gengpt.generation")


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


def check_fits(model: R2GenGPTForConditionalGeneration, prompt_tokens: int, new_tokens: int) -> None:
    """Refuse lengths that the language model has no positions for.

    Raises:
        InputError: prompt and new tokens together exceed the context.
    """
    limit = getattr(model.config.text_config, "max_position_embeddings", None)
    if limit is not None and prompt_tokens + new_tokens > limit:
        raise InputError(
            f"--max_new_tokens {new_tokens}: with {prompt_tokens} prompt tokens that is more than the language "
            f"model's {limit} positions"
        )


def image_features(model: R2GenGPTForConditionalGeneration, batch: Batch) -> Tensor:
    """The features of the batch's views, (K, N, E): those it brings, or what the encoder makes of its pixels."""
    if batch.features is not None:
        return batch.features
    assert batch.pixel_values is not None  # a batch has one or the other
    return model.encode_views(batch.pixel_values, batch.view_mask)


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
    prompt = model.embed_inputs(batch.input_ids, None, batch.view_mask, features)
    embeds = torch.cat([prompt, model.get_input_embeddings()(new)], dim=1)
    mask = torch.cat([batch.attention_mask, kept.to(batch.attention_mask.dtype)], dim=1)
    output = model(
        inputs_embeds=embeds,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp_min(0),
        logits_to_keep=new.shape[1] + 1,
    )
    logits: Tensor = output.logits[:, :-1].float()
    chosen = logits.gather(2, new.unsqueeze(2)).squeeze(2) - logits.logsumexp(2)
    return chosen.masked_fill(~kept, 0.0)


def counted_tokens(new: Tensor, end: int) -> Tensor:
    """True up to and including the first end token of each row; (…, T) → (…, T), bool."""
    ended = (new == end).int()
    return (ended.cumsum(-1) - ended) == 0


@torch.no_grad()
def decode_batch(
    model: R2GenGPTForConditionalGeneration,
    processor: R2GenGPTProcessor,
    batch: Batch,
    settings: GenerationConfig,
    streamer: TextStreamer | None = None,
) -> list[Prediction]:
    """Reports of one batch of prompts, in the batch's order."""
    check_fits(model, batch.input_ids.shape[1], settings.max_new_tokens)
    features = image_features(model, batch)
    beams = settings.num_beams or 1
    found = model.generate(
        batch.input_ids,
        view_mask=batch.view_mask,
        features=features,
        attention_mask=batch.attention_mask,
        generation_config=settings,
        streamer=streamer,
        num_return_sequences=beams,
        synced_gpus=False,  # under fsdp the library would wait for processes that have no report left to write
    )
    found = found.view(len(batch.ids), beams, -1)  # a study's reports, best first
    counted = counted_tokens(found, processor.end_token_id)
    logprobs = token_logprobs(model, batch, features, found[:, 0], counted[:, 0])
    lengths = counted.sum(2).tolist()
    written = [
        Written(
            row,
            rows[0][: lengths[row][0]],
            logprobs[row, : lengths[row][0]].tolist(),
            tuple(ids[:length] for ids, length in zip(rows, lengths[row], strict=True)) if beams > 1 else (),
        )
        for row, rows in enumerate(found.tolist())
    ]
    studies = list(zip(batch.ids, batch.references, strict=True))
    return [prediction_of(processor, study, one) for study, one in zip(studies, written, strict=True)]


def engine_rules(decode: DecodeConfig, end: int) -> EngineRules:
    """Our settings as the engine takes them; the lengths must be resolved (`DecodeConfig.for_dataset`)."""
    assert decode.max_new_tokens is not None
    assert decode.min_new_tokens is not None
    scores = Rules(
        end=end,
        min_new_tokens=decode.min_new_tokens,
        repetition_penalty=decode.repetition_penalty or 1.0,
        no_repeat_ngram_size=decode.no_repeat_ngram_size or 0,
        do_sample=decode.do_sample,
        temperature=decode.temperature or 1.0,
        top_k=decode.top_k,
        top_p=decode.top_p,
        beams=decode.beam_size,
    )
    return EngineRules(scores, decode.max_new_tokens, decode.beam_size, decode.length_penalty, early_stopping(decode))


Study = tuple[str, str]
"""Id and reference of a study that is being decoded."""
_told: set[str] = set()


def use_engine(model: R2GenGPTForConditionalGeneration, decode: DecodeConfig) -> bool:
    """Whether the engine decodes: where it can, unless `--engine hf`; where it cannot, that is said once a kind.

    Raises:
        InputError: `--engine fast` or `--speculate` of a language model that the engine cannot serve.
    """
    if decode.engine == "hf":
        return False
    reason = unserved(model.language_model)
    if reason is None:
        return True
    if decode.engine == "fast" or decode.speculate:
        flag = "--speculate True" if decode.speculate else "--engine fast"
        raise InputError(f"{flag}: {reason} are decoded by hf only")
    if reason not in _told:
        _told.add(reason)
        log.info("%s are decoded by transformers' generate", reason)
    return False


@torch.no_grad()
def prompts_of(
    model: R2GenGPTForConditionalGeneration, batches: Iterable[Batch], decode: DecodeConfig, studies: list[Study]
) -> Iterator[Prompt]:
    """The prompts of the batches one by one, each batch's images read by the encoder together; `studies` is filled."""
    for batch in batches:
        check_fits(model, batch.input_ids.shape[1], decode.max_new_tokens or 0)
        moved = batch.to(model.device)
        features = image_features(model, moved)
        embeds = model.embed_inputs(moved.input_ids, None, moved.view_mask, features)
        for row, mask in enumerate(moved.attention_mask.bool()):
            number = len(studies)
            studies.append((batch.ids[row], batch.references[row]))
            yield Prompt(number, embeds[row][mask], decode.decode_seed + number)


def prediction_of(processor: R2GenGPTProcessor, study: Study, written: Written) -> Prediction:
    """A finished report as a record."""
    return Prediction(
        id=study[0],
        prediction=report_text(processor, written.ids),
        reference=study[1],
        tokens=len(written.ids),
        logprob=sum(written.logprobs) / len(written.logprobs),
        finish="stop" if written.ids[-1] == processor.end_token_id else "length",
        sentences=report_sentences(processor, written.ids, written.logprobs, written.beams),
    )


def _predict_fast(
    model: R2GenGPTForConditionalGeneration,
    processor: R2GenGPTProcessor,
    batches: Iterable[Batch],
    decode: DecodeConfig,
    drafter: Drafter | None,
) -> Iterator[Prediction]:
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        return
    rules = engine_rules(decode, processor.end_token_id)
    engine = Engine(model.language_model, rules, slots=len(first.ids), drafter=drafter)
    studies: list[Study] = []
    waiting: dict[int, Written] = {}
    given = 0
    for written in engine.run(prompts_of(model, itertools.chain([first], batches), decode, studies)):
        waiting[written.tag] = written
        while given in waiting:
            yield prediction_of(processor, studies[given], waiting.pop(given))
            given += 1


def predict(
    model: R2GenGPTForConditionalGeneration,
    processor: R2GenGPTProcessor,
    batches: Iterable[Batch],
    decode: DecodeConfig,
    drafter: Drafter | None = None,
) -> Iterator[Prediction]:
    """Reports of many studies, one by one, in order; the model must be in eval mode.

    The engine seeds the sampling of each study by its number, so that no study's text depends on its neighbours; the
    library draws for a whole batch. With a `drafter` (`--speculate`) the engine writes the same in fewer passes.
    """
    settings = generation_config(decode, processor)
    if use_engine(model, decode):
        yield from _predict_fast(model, processor, batches, decode, drafter)
        return
    for number, batch in enumerate(batches):
        if decode.do_sample:
            torch.manual_seed(decode.decode_seed + number)
        yield from decode_batch(model, processor, batch.to(model.device), settings)


def stream(
    model: R2GenGPTForConditionalGeneration,
    processor: R2GenGPTProcessor,
    batch: Batch,
    decode: DecodeConfig,
    on_text: Callable[[str], None],
    drafter: Drafter | None = None,
) -> Prediction:
    """The report of one study, its text handed out as it is written.

    Raises:
        InputError: more than one study, or beam search (no word is final before all beams have ended).
    """
    if decode.beam_size != 1:
        raise InputError(f"--beam_size {decode.beam_size}: a stream needs --beam_size 1")
    if len(batch.ids) != 1:
        raise InputError(f"a stream needs one study, got {len(batch.ids)}")
    streamer = CallbackStreamer(processor, on_text)
    settings = generation_config(decode, processor)
    if use_engine(model, decode):
        rules = engine_rules(decode, processor.end_token_id)
        streamer.next_tokens_are_prompt = False  # the engine hands out new tokens only
        show: Callable[[int, int], None] = lambda tag, token: streamer.put(torch.tensor([token]))  # noqa: E731
        engine = Engine(model.language_model, rules, 1, show, drafter)
        studies: list[Study] = []
        (written,) = engine.run(prompts_of(model, [batch], decode, studies))
        streamer.end()
        return prediction_of(processor, studies[0], written)
    if decode.do_sample:
        torch.manual_seed(decode.decode_seed)
    (prediction,) = decode_batch(model, processor, batch.to(model.device), settings, streamer)
    return prediction
