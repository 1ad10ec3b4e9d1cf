"""A trained model as one directory for others: transformers, OpenVINO, llama.cpp or vLLM. Trains and prints nothing."""

import copy
from dataclasses import asdict
from pathlib import Path

import torch

from r2gengpt.confidence.film_guard import GUARD
from r2gengpt.confidence.findings import FINDINGS
from r2gengpt.edge.export import check_exportable, write_edge
from r2gengpt.engines.attach import ENGINES, LANGUAGE_MODEL, RECORD, record_of, write_record
from r2gengpt.engines.gguf import check_gguf, write_gguf
from r2gengpt.errors import InputError
from r2gengpt.files import whole_directory
from r2gengpt.generation.beams import Decodings, Rules, carry_chosen
from r2gengpt.generation.library import generation_config
from r2gengpt.locate import Located
from r2gengpt.model import R2GenGPTForConditionalGeneration
from r2gengpt.model.served import ServedLanguageModel
from r2gengpt.parts.embedded.cache import resolve
from r2gengpt.parts.loading import language_config, settled
from r2gengpt.parts.lora import merge_lora
from r2gengpt.reporter import Reporter

NOTE = (
    "\nExported by `r2gengpt export`: this directory holds the whole model; trained tensors are merged into it.\n"
    "`AutoModelForImageTextToText` and `AutoProcessor` load it once `r2gengpt.model` is imported.\n"
)
SERVED_NOTE = (
    "\nExported by `r2gengpt export` for {program}, which runs the language model. It lies in this directory, trained\n"
    "tensors merged into it. `r2gengpt generate` takes the directory; transformers alone cannot write with it.\n"
)


def check_whole_weights(located: Located) -> None:
    """Refuse a language model that lies there in 8 or 4 bits: LoRA cannot be folded into it without loss.

    Raises:
        InputError: it does, or another program runs it.
    """
    if (located.directory / RECORD).is_file():
        words = "was exported for another program: export what it was made from"
        raise InputError(words, field="model", value=located.directory)
    if located.whole:
        return
    name = located.stored.model.settled().lm_model
    if (form := settled(name, located.choice.where).quantization) != "none":
        words = f"holds {form} weights, which LoRA cannot be merged into; name the full ones"
        raise InputError(words, field="lm_model", value=name)


def export(reporter: Reporter, output: Path, *, merge: bool = True) -> None:
    """Write model, processor, decoding settings and the model card to one directory, whole or not at all.

    LoRA is merged in place, in the type the weights are loaded in: exact to rounding in float32, coarser in bfloat16.

    Raises:
        InputError: LoRA is there and must not be merged.
    """
    built = reporter.built
    if merge:
        merge_lora(built.model)
    elif any(".lora_" in name for name, _ in built.model.named_parameters()):
        words = "this model has LoRA, which a plain Hugging Face directory has no place for"
        raise InputError(words, field="merge", value=False)
    with whole_directory(output) as target:
        write_whole(reporter, built.model, target, NOTE)


def write_whole(reporter: Reporter, model: R2GenGPTForConditionalGeneration, target: Path, note: str) -> None:
    """Write a model in Hugging Face's form, and what lies beside its checkpoint, into a directory that is there.

    Args:
        reporter: whose processor and settings it gets.
        model: the reporter's, or our part of it.
        target: the directory.
        note: stands below the model card.
    """
    built, source = reporter.built, reporter.directory
    model.generation_config = generation_config(reporter.decode, built.processor)
    model.save_pretrained(target)
    built.processor.save_pretrained(target)
    carry_chosen(source, target, reporter.streamed)
    for name in (FINDINGS, GUARD) if reporter.looker is not None else ():
        if (source / name).is_file():
            (target / name).write_bytes((source / name).read_bytes())
    card = source / "README.md"
    if card.is_file():
        (target / card.name).write_text(card.read_text(encoding="utf-8") + note, encoding="utf-8")


def check_servable(located: Located, program: str) -> None:
    """Refuse, before weights are loaded, a language model that llama.cpp cannot be given.

    Raises:
        InputError: so it is.
    """
    if program == "llama.cpp" and not located.whole:
        name = str(located.stored.model.values["lm_model"])
        check_gguf(language_config(resolve(name), trust_remote_code=located.choice.where.trust_remote_code))


def export_served(reporter: Reporter, output: Path, *, program: str) -> None:
    """Write a directory whose language model another program runs; LoRA is merged in place.

    Our part is a whole model with an embedding table in place of the language model, which `r2gengpt` loads as any
    other. The language model lies beside it, in the form that the program reads.

    Args:
        reporter: the model.
        output: must not exist.
        program: of `engines.attach.LANGUAGE_MODEL`.

    Raises:
        InputError: llama.cpp's file cannot hold the language model, or the program does not decode as the model does.
    """
    built = reporter.built
    ENGINES[program].check(Rules.of(reporter.decode, built.processor.end_token_id))
    merge_lora(built.model)
    language_model = built.model.language_model
    with whole_directory(output) as target:
        beside = target / LANGUAGE_MODEL[program]
        if program == "llama.cpp":
            write_gguf(language_model, beside)
        else:
            language_model.save_pretrained(beside)
            built.processor.tokenizer.save_pretrained(beside)
        write_whole(reporter, our_part(built.model), target, SERVED_NOTE.format(program=program))
        write_record(target, record_of(target, program))


@torch.no_grad()
def our_part(model: R2GenGPTForConditionalGeneration) -> R2GenGPTForConditionalGeneration:
    """The model with an embedding table in place of its language model; the other parts are the same tensors."""
    config = copy.deepcopy(model.config)
    config.served = True
    config.tie_word_embeddings = False
    table, own = ServedLanguageModel(config.text_config), model.get_input_embeddings()
    table.to(own.weight.dtype).embeddings.weight.copy_(own(torch.arange(config.text_config.vocab_size)))
    part = R2GenGPTForConditionalGeneration(config, model.vision_tower, table)
    for name, own_part in model.named_children():
        if name != "language_model":
            setattr(part, name, own_part)
    part.eval()
    return part


def export_edge(
    reporter: Reporter, output: Path, *, weights: str, merge: bool | None, activations: str = "float32"
) -> None:
    """Write an edge directory; see `edge.export`.

    Raises:
        InputError: the model has no edge form, or LoRA that cannot stand beside packed weights.
    """
    source = reporter.directory
    dora = bool(reporter.stored.model.values.get("use_dora"))
    if dora and merge is False:
        raise InputError("DoRA cannot stand beside packed weights; leave it out", field="merge", value=False)
    folded = merge if merge is not None else weights not in ("nf4", "int4") or dora
    check_exportable(reporter.built, f"`model` {source.name}")
    origin = {"model": source.name, **asdict(reporter.origin)}
    write_edge(
        reporter.built,
        output,
        weights=weights,
        activations=activations,
        merge=folded,
        decode=Decodings(reporter.decode, reporter.streamed),
        source=origin,
        beside=source,
    )
