"""`r2gengpt export`: a trained model as one directory for other programs, LoRA included. No training."""

from dataclasses import dataclass, replace
from pathlib import Path

from r2gengpt.cli import bridge
from r2gengpt.cli.choice import choice_of_model
from r2gengpt.cli.console import start_logging
from r2gengpt.config import DecodeConfig, ModelConfig
from r2gengpt.errors import InputError
from r2gengpt.files import check_new_model
from r2gengpt.locate import locate_writer
from r2gengpt.options import Override, check_fields, option
from r2gengpt.settings import PlacementConfig

WEIGHTS = ("int4", "nf4", "int8", "float32")
ACTIVATIONS = ("float32", "int8")
"""These are `edge.graphs.FORMS` and `edge.record.ACTIVATIONS`, which need numpy; a test holds them equal."""
PROGRAMS = {"gguf": "llama.cpp", "vllm": "vllm"}
"""Who runs the language model of a target."""


@dataclass(frozen=True)
class ExportFlags:
    """What is written."""

    target: str = option(
        "huggingface",
        "a plain Hugging Face directory; OpenVINO graphs that `r2gengpt generate` runs without PyTorch; the language "
        "model for llama.cpp (gguf) or vLLM, the rest beside it for `r2gengpt generate`",
        choices=("huggingface", "openvino", *PROGRAMS),
    )
    weights: str | None = option(
        None, "`target` openvino: form of the language model's linear layers; None: int4", choices=WEIGHTS
    )
    activations: str | None = option(
        None,
        "`target` openvino: form of these layers' inputs; int8 is faster where a model has billions of weights, and "
        "other words come of it; None: float32",
        choices=ACTIVATIONS,
    )
    merge: bool | None = option(
        None,
        "fold LoRA into the layers it stands beside; None: True, but False where `weights` has 4 bits: there it stays "
        "whole beside them, as it was trained; the other targets have no other place for it",
    )

    def __post_init__(self) -> None:
        check_fields(self)
        for name, value in (("weights", self.weights), ("activations", self.activations)):
            if value is not None and self.target != "openvino":
                raise InputError("belongs to `target` openvino: name that", field=name, value=value)
        if self.activations == "int8" and self.weights == "float32":
            raise InputError("are for packed weights; name another form", field="activations", value=self.activations)
        if self.merge is False and self.target in PROGRAMS:
            raise InputError(f"`target` {self.target} has no place for LoRA: leave it out", field="merge", value=False)


FLAGS = (ExportFlags, ModelConfig, PlacementConfig, DecodeConfig)
COMMON = ("model", "output", "target", "weights", "merge")
"""The flags that most calls need."""


def parser() -> bridge.Parser:
    """Flags of the command."""
    made = bridge.Parser(
        "r2gengpt export",
        "A trained model as one directory, for transformers, OpenVINO, llama.cpp or vLLM.",
        common=COMMON,
        example="r2gengpt export --model save/mimic/v1 --output whole",
    )
    made.add_argument("--model", required=True, metavar="DIR", help="trained model (a checkpoint or embedded)")
    made.add_argument("--output", required=True, metavar="DIR", help="directory to write; must not exist")
    bridge.add_flags(made, FLAGS)
    return made


def main(argv: list[str]) -> None:
    """Parse and run; prints the directory."""
    parsed = bridge.parsed(parser(), argv, FLAGS)
    flags, output = parsed.settled(ExportFlags), Path(parsed.space.output)
    choice = choice_of_model(parsed, parsed.space.model)
    where = placed(parsed.override(PlacementConfig), edge=flags.target == "openvino")
    choice = replace(choice, placement=where, accelerator="cpu")  # files are made of tensors in main memory
    check_new_model(output)
    located = locate_writer(choice)  # before anything large is loaded
    start_logging()
    from r2gengpt.edge.runtime import openvino
    from r2gengpt.exporting import check_servable, check_whole_weights, export, export_edge, export_served
    from r2gengpt.reporter import Reporter

    if flags.target == "openvino":
        openvino(field="target", value="openvino")
    check_whole_weights(located)
    program = PROGRAMS.get(flags.target, "")
    check_servable(located, program)
    reporter = Reporter.of(located)
    if flags.target == "openvino":
        weights, activations = flags.weights or "int4", flags.activations or "float32"
        export_edge(reporter, output, weights=weights, merge=flags.merge, activations=activations)
    elif program:
        export_served(reporter, output, program=program)
    else:
        export(reporter, output, merge=flags.merge is not False)
    print(output)


def placed(asked: Override[PlacementConfig], *, edge: bool) -> Override[PlacementConfig]:
    """Where the weights lie for an export: whole, in memory.

    Raises:
        InputError: they are to be quantized or spread.
    """
    values = dict(asked.values)
    if values.get("low_resource") or values.get("quantization", "none") not in ("auto", "none"):
        name = "low_resource" if values.get("low_resource") else "quantization"
        raise InputError("quantized weights cannot be exported; leave the flag out", field=name, value=values[name])
    if values.get("device_map", "none") != "none":
        words = "an export needs all weights in memory; leave it out"
        raise InputError(words, field="device_map", value=values["device_map"])
    if edge and values.setdefault("dtype", "float32") != "float32":
        words = "`target` openvino is made of float32 weights; leave it out"
        raise InputError(words, field="dtype", value=values["dtype"])
    return Override(PlacementConfig, values)
