"""A trained model as an edge directory: graphs, embedding table, tokenizer, record. Writes no report."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from tokenizers import Tokenizer

from r2gengpt.confidence.film_guard import GUARD
from r2gengpt.confidence.findings import FINDINGS
from r2gengpt.confidence.review import CALIBRATION
from r2gengpt.edge.graphs import (
    ASKED,
    constants_named,
    constants_shaped,
    halve_weights,
    keep_cache,
    pack_weights,
)
from r2gengpt.edge.record import (
    LANGUAGE,
    RECORD,
    TABLE,
    TOKENIZER,
    VISION,
    EdgeRecord,
    FilmSettings,
    HintPrompt,
    files_of,
    view_pixels,
    write_record,
)
from r2gengpt.edge.runtime import EdgeTokenizer, openvino
from r2gengpt.edge.trace import cache_sizes, language_graph, packable_names, vision_graph
from r2gengpt.errors import InputError
from r2gengpt.files import whole_directory
from r2gengpt.generation.beams import Decodings, carry_chosen
from r2gengpt.generation.engine import unserved
from r2gengpt.model import R2GenGPTProcessor
from r2gengpt.model.processing import decoded_size
from r2gengpt.parts.assemble import Built
from r2gengpt.parts.lora import merge_lora
from r2gengpt.text.observations import ALL_OBSERVATIONS, LIKELY, POSSIBLE, UNLIKELY, hint_of, hinted
from r2gengpt.text.written import NOTICE

SAMPLE = "The heart is normal in size. No effusion, it's clear ."
HINT = hint_of(dict(zip(ALL_OBSERVATIONS, itertools.cycle((LIKELY, POSSIBLE, UNLIKELY)), strict=False)))
HEAD = "int8"
"""The head's form beside packed layers; beside nf4 it has 16 bits, for the logits that PyTorch gives."""
CARD = "README.md"
READ_ME = "# An edge model of r2gengpt\n"
"""Stands for a card where the checkpoint has none."""
NOTE = f"""
**{NOTICE}.** Not a medical device.

Written by `r2gengpt export`; `r2gengpt generate` runs it without PyTorch.
`{RECORD}` says what it was made from and what each file must be.
"""
"""Stands below the card."""


def check_exportable(built: Built, source: str) -> None:
    """Refuse, before minutes of work, a model that has no edge form.

    Raises:
        InputError: its language model, tokenizer or image processor is none that the edge runtime can stand for.
    """
    if (reason := unserved(built.model.language_model)) is not None:
        raise InputError(f"{source}: {reason} cannot be exported", **ASKED)
    tokenizer = built.processor.tokenizer
    own = getattr(tokenizer, "backend_tokenizer", None)
    hints = built.model.config.findings_hint
    if own is None or not reads_alike(built.processor, Tokenizer.from_str(own.to_str()), hints=hints):
        raise InputError(
            f"{source}: its tokenizer {type(tokenizer).__name__} is not that of tokenizer.json alone", **ASKED
        )
    settings = film_settings(built.processor)
    shapes = ((300, 260), (70, 90), (64, 64))
    films = [Image.effect_noise(shape, 80).convert("RGB") for shape in shapes]
    wanted = built.processor.pixels(films).numpy()
    if not np.array_equal(view_pixels(films, settings), wanted):
        kind = type(built.processor.image_processor).__name__
        raise InputError(f"{source}: its image processor {kind} makes pixels that the edge runtime does not", **ASKED)


def reads_alike(processor: R2GenGPTProcessor, own: Any, *, hints: bool) -> bool:
    """Whether tokenizer.json alone decodes a text, and with `hints` encodes a prompt, as the processor does."""
    ids = processor.encode_text(SAMPLE)
    wanted = processor.prompt_ids(hinted(processor.instruction, HINT))
    alike = bool(own.decode(ids) == processor.tokenizer.decode(ids, skip_special_tokens=True))
    return alike and (not hints or hint_prompt(processor).ids(EdgeTokenizer(own, 0).encode, HINT) == wanted)


def film_settings(processor: R2GenGPTProcessor) -> FilmSettings:
    """The image processor's steps in the edge runtime's words."""
    own = processor.image_processor
    size, crop = dict(own.size), dict(getattr(own, "crop_size", None) or {})
    square = (size["height"], size["width"]) if size.get("height") else None
    return FilmSettings(
        decoded=decoded_size(processor),
        size=square if own.do_resize else None,
        shortest=size.get("shortest_edge") if own.do_resize and square is None else None,
        resample=int(own.resample),
        crop=(crop["height"], crop["width"]) if getattr(own, "do_center_crop", False) else None,
        factor=float(own.rescale_factor) if own.do_rescale else None,
        mean=tuple(map(float, own.image_mean)) if own.do_normalize else None,
        std=tuple(map(float, own.image_std)) if own.do_normalize else None,
    )


def hint_prompt(processor: R2GenGPTProcessor) -> HintPrompt:
    """What the processor's prompts with hints are made of."""
    return HintPrompt(
        instruction=processor.instruction,
        template=processor.template,
        symbols=processor.has_control_tokens(processor.template),
        opening=processor.prompt_ids().bos,
    )


def positions_of(language_model: Any) -> int | None:
    """How many positions a report may reach: those that the rotary embedding keeps one form for."""
    config = language_model.config
    rope = getattr(config, "rope_parameters", None) or {}
    known = [getattr(config, "max_position_embeddings", None)]
    if rope.get("rope_type") in ("dynamic", "longrope"):
        known.append(rope.get("original_max_position_embeddings"))
        known.append(getattr(config, "original_max_position_embeddings", None))
    return min((int(limit) for limit in known if limit is not None), default=None)


def write_edge(
    built: Built,
    output: Path,
    *,
    weights: str,
    activations: str,
    merge: bool,
    decode: Decodings,
    source: Mapping[str, Any],
    beside: Path,
) -> None:
    """Write an edge directory, whole or not at all. LoRA is folded in place, the encoder's in any case.

    Args:
        built: a model in float32, `check_exportable`.
        output: must not exist.
        weights: form of the language model's linear layers, of `edge.graphs.FORMS`.
        activations: form of their inputs, of `edge.record.ACTIVATIONS`.
        merge: fold the language model's LoRA into them first; else it stays beside them, whole, as it was trained.
        decode: with all resolved.
        source: what the model was made from, for the record.
        beside: directory of the checkpoint, whose card, calibration and choice of decoding go along.
    """
    ov = openvino(**ASKED)
    model, processor = built.model, built.processor
    merge_lora(model if merge else model.vision_tower)
    half = weights != "float32"
    prompt = processor.prompt_ids()
    with whole_directory(output) as target:
        write_language(model.language_model, target / LANGUAGE, weights)
        ov.save_model(vision_graph(model), target / VISION, compress_to_fp16=half)
        np.save(target / TABLE, embedding_table(model.language_model, half))
        processor.tokenizer.backend_tokenizer.save(str(target / TOKENIZER))
        for name in (CALIBRATION, *((FINDINGS, GUARD) if model.finding_head is not None else ())):
            if (beside / name).is_file():
                (target / name).write_bytes((beside / name).read_bytes())
        carry_chosen(beside, target, decode.streamed)
        card = beside / CARD
        own = card.read_bytes() if card.is_file() else READ_ME.encode()
        (target / CARD).write_bytes(own + NOTE.encode())
        record = EdgeRecord(
            source={**source, "openvino": ov.__version__},
            weights=weights,
            activations=activations,
            merged=merge,
            before=(*prompt.bos, *prompt.before),
            after=prompt.after,
            end=processor.end_token_id,
            limit=positions_of(model.language_model),
            film=film_settings(processor),
            decode=replace(decode.whole, engine="auto", speculate=False),
            files=files_of(target),
            hint=hint_prompt(processor) if model.config.findings_hint else None,
        )
        write_record(target, record)


def write_language(language_model: Any, path: Path, weights: str) -> None:
    """Write the language model's graph, its weights in their form and its head as `HEAD`, in 16 bits beside nf4."""
    sizes = cache_sizes(language_model)
    graph = language_graph(language_model, sizes)
    if weights != "float32":
        names = packable_names(language_model)
        layers = constants_named(graph, names)
        if len(layers) != len(names):
            raise RuntimeError(f"{len(names)} linear layers, but {len(layers)} weights in the graph")
        head = constants_shaped(graph, tuple(language_model.get_output_embeddings().weight.shape))
        pack_weights(layers, weights)
        if weights == "nf4":
            halve_weights(head)
        else:
            pack_weights(head, HEAD)
    keep_cache(graph, sizes)
    openvino(**ASKED).save_model(graph, path, compress_to_fp16=False)


@torch.no_grad()
def embedding_table(language_model: Any, half: bool) -> npt.NDArray[Any]:
    """What each token id becomes, (vocabulary, D); float16 where `half`."""
    embed = language_model.get_input_embeddings()
    table: npt.NDArray[Any] = embed(torch.arange(embed.weight.shape[0])).float().numpy()
    return table.astype(np.float16) if half else table
