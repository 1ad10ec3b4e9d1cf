"""Peak memory of a language model of real size: a report and a training step, by kind of weights, beside the plan.

The default is StableLM-3B-4E1T's architecture and a Swin-B with random weights. The bfloat16 checkpoint is written
once, layer by layer; `r2gengpt quantize` makes the others of it. Each figure is the peak resident set (VmHWM, mapped
files included) of a fresh process, MB are 10^6 bytes. Training is batch 1, LoRA of rank 16 on every layer, optimizer
state there. Linux only; prints JSON; asserts nothing. Needs 12 GB of disk below --directory and, where bfloat16 is
emulated, most of an hour.
Run: python benchmarks/memory.py > memory.json
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from checkpoints import FORMS, add_size_flags, prepare, run_python
from training import versions

from r2gengpt.cli.console import return_large_blocks
from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, TrainConfig
from r2gengpt.data.batches import Example, prompt_batch, training_batch
from r2gengpt.generation.decode import predict
from r2gengpt.parts.assemble import build_model
from r2gengpt.parts.plan import plan
from r2gengpt.settings import PlacementConfig
from r2gengpt.testing import noise_image
from r2gengpt.training.optimizer import checkpoint_layers

TASKS = ("report", "step", "step, checkpointing")
REPORT = "The heart is normal in size. The lungs are clear. No pleural effusion or pneumothorax is seen. " * 8


def peak_mb() -> float:
    """The most memory that this process has held; `ru_maxrss` would count what its parent held."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) * 1024 / 1e6, 1)


def settings_of(options: argparse.Namespace, form: str, task: str) -> tuple[Any, ...]:
    """The program's settings of a task: what it runs with, and what is planned."""
    model = ModelConfig(
        lm_model=str(options.directory / form.replace(" ", "-")),
        vision_model=str(options.directory / "vision"),
        llm_use_lora=task != "report",
    )
    data = DataConfig(dataset="plain", max_length=options.max_length, batch_size=1, test_batch_size=1)
    decode = DecodeConfig(beam_size=3, min_new_tokens=options.tokens, max_new_tokens=options.tokens)
    return model, data, decode, TrainConfig(gradient_checkpointing="checkpointing" in task)


def write_report(built: Any, decode: DecodeConfig) -> None:
    """Beam search of one study, as `r2gengpt generate` does it."""
    return_large_blocks()
    example = Example("a", built.processor.pixels([noise_image(1, 256)]), REPORT, REPORT)
    list(predict(built.model.eval(), built.processor, [prompt_batch([example], built.processor)], decode))


def training_step(built: Any, data: DataConfig, train: TrainConfig) -> None:
    """One step whose gradients and moments are all there, as from the second step of a run on."""
    model = built.model
    model.language_model.train()
    if train.gradient_checkpointing:  # as `r2gengpt train` does
        return_large_blocks()
        checkpoint_layers(model.language_model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    example = Example("a", built.processor.pixels([noise_image(1, 256)]), REPORT, REPORT)
    batch = training_batch([example], built.processor, data.report_tokens)
    model(**batch.inputs(), use_cache=False).loss.backward()
    optimizer.step()


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Run one task in this process."""
    model, data, decode, train = settings_of(options, options.form, options.task)
    start, imported = time.perf_counter(), peak_mb()
    built = build_model(model, PlacementConfig(dtype=options.dtype), precision="32-true")
    loaded = peak_mb()
    if options.task == "report":
        write_report(built, decode)
    else:
        training_step(built, data, train)
    seconds = round(time.perf_counter() - start, 1)
    return {"imported_mb": imported, "built_mb": loaded, "peak_mb": peak_mb(), "seconds": seconds}


def planned_mb(options: argparse.Namespace, form: str, task: str) -> float:
    """What `r2gengpt plan` says, Python and libraries included."""
    model, data, decode, train = settings_of(options, "bfloat16", task)
    planned = plan(model, data, decode, train, PlacementConfig(dtype=options.dtype))
    (mode,) = [mode for mode in planned.modes if mode.name == form]
    return round((planned.process + (mode.generation if task == "report" else mode.training)) / 1e6, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_size_flags(parser)
    parser.add_argument("--tokens", type=int, default=100, help="tokens of the report (100)")
    parser.add_argument("--max_length", type=int, default=60, help="report tokens learnt in a training step (60)")
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS), help="kinds of weights (all)")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS, help="what is done (all)")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"), help="arithmetic (bfloat16)")
    parser.add_argument("--form", help=argparse.SUPPRESS)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(measure(options)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        options.directory = options.directory or Path(scratch)
        prepare(options, options.forms)
        results = {}
        for form, task in ((form, task) for task in options.tasks for form in options.forms):
            words = [*sys.argv[1:], "--directory", str(options.directory), "--form", form, "--task", task]
            result = json.loads(run_python([__file__, *words]))
            result["planned_mb"] = planned_mb(options, form, task)
            results[f"{task}, {form}"] = result
            print(f"{task}, {form}", result, file=sys.stderr)
    shown = {**vars(options), "directory": None, "cpus": os.cpu_count(), "threads": torch.get_num_threads()}
    print(json.dumps({"benchmark": "memory", "setting": shown, "versions": versions(), "results": results}, indent=1))


if __name__ == "__main__":
    main()
