"""`r2gengpt export`: a trained model as one directory, Hugging Face's or OpenVINO's, LoRA included. No training."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2gengpt.cli import bridge
from r2gengpt.config import DecodeConfig, ModelConfig, PlacementConfig
from r2gengpt.errors import InputError

if TYPE_CHECKING:
    from r2gengpt.build import Built

CONFIGS = (ModelConfig, PlacementConfig, DecodeConfig)
WEIGHTS = ("nf4", "int4", "int8", "float32")
"""`edge.weights.FORMS`, which need numpy; a test holds both equal."""
NOTE = (
    "\nExported by `r2gengpt export`: this directory holds the whole model; trained tensors are merged into it.\n"
    "`AutoModelForImageTextToText` and `AutoProcessor` load it once `r2gengpt.model` is imported.\n"
)


def main(argv: list[str]) -> None:
    """Parse and run; prints the directory."""
    parser = bridge.Parser(prog="r2gengpt export", allow_abbrev=False, description=__doc__)
    parser.add_argument("--model", required=True, metavar="DIR", help="trained model (a checkpoint or embedded)")
    parser.add_argument("--output", required=True, metavar="DIR", help="directory to write; must not exist")
    parser.add_argument("--target", default="huggingface", choices=("huggingface", "openvino"),
                        help="a plain Hugging Face directory, or OpenVINO graphs that `r2gengpt generate` runs without "
                        "PyTorch (default: huggingface)")  # fmt: skip
    parser.add_argument("--weights", choices=WEIGHTS, default=argparse.SUPPRESS,
                        help="--target openvino: form of the language model's linear layers (nf4)")  # fmt: skip
    parser.add_argument("--merge", nargs="?", const=True, type=bridge.parse_bool, metavar="BOOL",
                        help="fold LoRA into the layers it stands beside (default: True, but False where --weights has "
                        "4 bits: there it stays whole beside them, as it was trained; a plain Hugging Face directory "
                        "has no other place for it)")  # fmt: skip
    bridge.add_flags(parser, CONFIGS)
    space = bridge.parse(parser, argv)
    given = bridge.with_preset(bridge.given_values(space, CONFIGS))
    if given.get("low_resource") or given.get("quantization", "none") not in ("auto", "none"):
        flag = "--low_resource True" if given.get("low_resource") else f"--quantization {given['quantization']}"
        raise InputError(f"{flag}: quantized weights cannot be exported; leave the flag out")
    if given.get("device_map", "none") != "none":
        raise InputError(f"--device_map {given['device_map']}: an export needs all weights in memory; leave it out")
    edge = space.target == "openvino"
    weights = getattr(space, "weights", None)
    if weights is not None and not edge:
        raise InputError(f"--weights {weights} belongs to --target openvino: name that")
    if edge and given.setdefault("dtype", "float32") != "float32":
        raise InputError(f"--dtype {given['dtype']}: --target openvino is made of float32 weights; leave it out")
    output = Path(space.output)
    from r2gengpt.cli.console import start_logging
    from r2gengpt.data.files import check_new_model

    check_new_model(output, "--output")

    start_logging()
    from r2gengpt.checkpoint import EMBEDDED, find_checkpoint, is_whole_model, read_settings
    from r2gengpt.cli.models import load_model

    if edge:
        from r2gengpt.edge.library import openvino

        openvino("--target openvino")
    directory = EMBEDDED if space.model == "embedded" else find_checkpoint(space.model, "--model")
    if not is_whole_model(directory, "--model"):
        check_whole_weights({**read_settings(directory, "--model"), **given})
    built, settings, source = load_model(space.model, "--model", given)
    if edge:
        export_edge(built, settings, source, output, weights or "nf4", space.merge)
    else:
        export(built, settings, source, output, merge=space.merge is not False)
    print(output)


def check_whole_weights(settings: Mapping[str, Any]) -> None:
    """Refuse a language model that lies there in 8 or 4 bits: LoRA cannot be folded into it without loss.

    Raises:
        InputError: it does.
    """
    from r2gengpt.build import settled

    config, where = bridge.make(ModelConfig, settings), bridge.make(PlacementConfig, settings)
    if (form := settled(config.lm_model, where).quantization) != "none":
        raise InputError(
            f"--lm_model {config.lm_model}: holds {form} weights, which LoRA cannot be merged into; name the full ones"
        )


def export(built: "Built", settings: Mapping[str, Any], source: Path, output: Path, *, merge: bool = True) -> None:
    """Write model, processor, decoding settings and the model card to one directory, whole or not at all.

    LoRA is merged in place, in the type the weights are loaded in: exact to rounding in float32, coarser in bfloat16.

    Raises:
        InputError: LoRA is there and must not be merged.
    """
    from r2gengpt.build.lora import merge_lora
    from r2gengpt.data.files import whole_directory
    from r2gengpt.generation.decoding import DECODING, decodings
    from r2gengpt.generation.settings import generation_config

    if merge:
        merge_lora(built.model)
    elif any(".lora_" in name for name, _ in built.model.named_parameters()):
        raise InputError("--merge False: this model has LoRA, which a plain Hugging Face directory has no place for")
    built.model.generation_config = generation_config(decodings(settings, {}, source).whole, built.processor)
    with whole_directory(output) as target:
        built.model.save_pretrained(target)
        built.processor.save_pretrained(target)
        if (source / DECODING).is_file():
            (target / DECODING).write_bytes((source / DECODING).read_bytes())
        card = source / "README.md"
        if card.is_file():
            (target / card.name).write_text(card.read_text(encoding="utf-8") + NOTE, encoding="utf-8")


def export_edge(
    built: "Built", settings: Mapping[str, Any], source: Path, output: Path, weights: str, merge: bool | None
) -> None:
    """Write an edge directory; see `edge.export`.

    Raises:
        InputError: the model has no edge form, or LoRA that cannot stand beside packed weights.
    """
    from r2gengpt.edge.export import check_exportable, write_edge
    from r2gengpt.generation.decoding import decodings
    from r2gengpt.serving.provenance import origin_of

    if settings.get("use_dora") and merge is False:
        raise InputError("--merge False: DoRA cannot stand beside packed weights; leave it out")
    folded = merge if merge is not None else weights not in ("nf4", "int4") or bool(settings.get("use_dora"))
    check_exportable(built, f"--model {source.name}")
    decode = decodings(settings, {}, source).whole
    origin = {"model": source.name, **origin_of(built.model, dict(settings), source)}
    write_edge(built, output, weights=weights, merge=folded, decode=decode, source=origin, beside=source)
