"""The one decode path: prompts in, reports out, in batches or as a stream. No metrics, no files.

Tokens come from the engine (`engine.py`), or from the library's `generate` (`library.py`), its reference, which also
serves the language models that the engine cannot, or from another program (`served.py`).
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import torch

from r2gengpt.config import DecodeConfig
from r2gengpt.data.batches import Batch
from r2gengpt.errors import InputError
from r2gengpt.generation.beams import Rules, Written
from r2gengpt.generation.engine import COMPILED, Engine, use_engine
from r2gengpt.generation.library import CallbackStreamer, generation_config, written_by_generate
from r2gengpt.generation.prompts import check_fits, image_features, opening_in, prompts_of
from r2gengpt.generation.sentences import report_of
from r2gengpt.generation.served import engine_of
from r2gengpt.generation.speculate import Drafter
from r2gengpt.model import R2GenGPTForConditionalGeneration, R2GenGPTProcessor
from r2gengpt.model.served import ServedLanguageModel
from r2gengpt.report import Report


def predict(
    model: R2GenGPTForConditionalGeneration,
    processor: R2GenGPTProcessor,
    batches: Iterable[Batch],
    decode: DecodeConfig,
    drafter: Drafter | None = None,
    streamer: CallbackStreamer | None = None,
) -> Iterator[Report]:
    """Reports of many studies, one by one, in order.

    The engine seeds the sampling of each study by its number, so that no study's text depends on its neighbours; the
    library draws for a whole batch.

    Args:
        model: in eval mode.
        processor: of the model.
        batches: the prompts, padded on the left.
        decode: how, with lengths resolved.
        drafter: lets the engine write the same in fewer passes (`speculate`).
        streamer: gets the tokens of the only study.
    """
    if use_engine(model.language_model, decode):
        return _by_engine(model, processor, batches, decode, drafter, streamer)
    if isinstance(model.language_model, ServedLanguageModel):
        return _by_other(model, processor, batches, decode, streamer)
    return _by_library(model, processor, batches, decode, streamer)


def stream(
    model: R2GenGPTForConditionalGeneration,
    processor: R2GenGPTProcessor,
    batch: Batch,
    decode: DecodeConfig,
    on_text: Callable[[str], None],
    drafter: Drafter | None = None,
) -> Report:
    """The report of one study, its text handed out as it is written.

    Raises:
        InputError: more than one study, or beam search (no word is final before all beams have ended).
    """
    if decode.beam_size != 1:
        raise InputError("a stream needs `beam_size` 1", field="beam_size", value=decode.beam_size)
    if len(batch.ids) != 1:
        raise InputError(f"a stream needs one study, got {len(batch.ids)}")
    (report,) = predict(model, processor, [batch], decode, drafter, CallbackStreamer(processor, on_text))
    return report


def _by_engine(
    model: R2GenGPTForConditionalGeneration,
    processor: R2GenGPTProcessor,
    batches: Iterable[Batch],
    decode: DecodeConfig,
    drafter: Drafter | None,
    streamer: CallbackStreamer | None,
) -> Iterator[Report]:
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        return
    rules = Rules.of(decode, processor.end_token_id)
    show = None if streamer is None else lambda turn, token: streamer.show(token)
    compiled = decode.engine == COMPILED
    engine = Engine(model.language_model, rules, len(first.ids), show, drafter, compiled=compiled)
    waiting: dict[int, Written] = {}
    number = 0
    for written in engine.run(prompts_of(model, chain([first], batches), decode)):
        waiting[written.tag.number] = written
        while number in waiting:
            one = waiting.pop(number)
            yield report_of(processor, one, study=one.tag.study, reference=one.tag.reference)
            number += 1
    if streamer is not None:
        streamer.end()


def _by_library(
    model: R2GenGPTForConditionalGeneration,
    processor: R2GenGPTProcessor,
    batches: Iterable[Batch],
    decode: DecodeConfig,
    streamer: CallbackStreamer | None,
) -> Iterator[Report]:
    settings = generation_config(decode, processor)
    for number, batch in enumerate(batches):
        if decode.do_sample:
            torch.manual_seed(decode.decode_seed + number)
        check_fits(model, batch.input_ids.shape[1], settings.max_new_tokens)
        moved = batch.to(model.device)
        with torch.no_grad():
            features = image_features(model, moved)
        openings = [opening_in(batch, row, decode) for row in range(len(batch.ids))]
        written = written_by_generate(model, moved, features, settings, streamer, openings)
        for study, reference, one in zip(batch.ids, batch.references, written, strict=True):
            yield report_of(processor, one, study=study, reference=reference)


def _by_other(
    model: R2GenGPTForConditionalGeneration,
    processor: R2GenGPTProcessor,
    batches: Iterable[Batch],
    decode: DecodeConfig,
    streamer: CallbackStreamer | None,
) -> Iterator[Report]:
    writer, rules = engine_of(model.language_model), Rules.of(decode, processor.end_token_id)
    writer.check(rules)
    for prompt in prompts_of(model, batches, decode):
        written = writer.write(prompt, rules, None if streamer is None else streamer.show)
        yield report_of(processor, written, study=prompt.tag.study, reference=prompt.tag.reference)
    if streamer is not None:
        streamer.end()
