"""A trained model as one directory that others load: Hugging Face's, or OpenVINO's. Trains nothing, prints nothing."""

from dataclasses import asdict
from pathlib import Path

from r2gengpt.confidence.findings import FINDINGS
from r2gengpt.edge.export import check_exportable, write_edge
from r2gengpt.errors import InputError
from r2gengpt.files import whole_directory
from r2gengpt.generation.decoding import DECODING
from r2gengpt.generation.library import generation_config
from r2gengpt.locate import Located
from r2gengpt.parts.loading import settled
from r2gengpt.parts.lora import merge_lora
from r2gengpt.reporter import Reporter

NOTE = (
    "\nExported by `r2gengpt export`: this directory holds the whole model; trained tensors are merged into it.\n"
    "`AutoModelForImageTextToText` and `AutoProcessor` load it once `r2gengpt.model` is imported.\n"
)


def check_whole_weights(located: Located) -> None:
    """Refuse a language model that lies there in 8 or 4 bits: LoRA cannot be folded into it without loss.

    Raises:
        InputError: it does.
    """
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
    built, source = reporter.built, reporter.directory
    if merge:
        merge_lora(built.model)
    elif any(".lora_" in name for name, _ in built.model.named_parameters()):
        words = "this model has LoRA, which a plain Hugging Face directory has no place for"
        raise InputError(words, field="merge", value=False)
    built.model.generation_config = generation_config(reporter.decode, built.processor)
    with whole_directory(output) as target:
        built.model.save_pretrained(target)
        built.processor.save_pretrained(target)
        for name in (DECODING, *((FINDINGS,) if reporter.looker is not None else ())):
            if (source / name).is_file():
                (target / name).write_bytes((source / name).read_bytes())
        card = source / "README.md"
        if card.is_file():
            (target / card.name).write_text(card.read_text(encoding="utf-8") + NOTE, encoding="utf-8")


def export_edge(reporter: Reporter, output: Path, *, weights: str, merge: bool | None) -> None:
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
        reporter.built, output, weights=weights, merge=folded, decode=reporter.decode, source=origin, beside=source
    )
