"""Training tokens a second and peak memory: our step against a plain one. Random weights; prints JSON; asserts nothing.

`plain` is the original's step: reports padded to --max_length, logits and loss over the whole sequence. `ours` pads to
the longest report and computes logits from the first learnt position on. Both train the same parameters with AdamW and
see the same studies; each runs in a process of its own, so that its peak is its own.
Run: python benchmarks/training.py > training.json
"""

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM, StableLmConfig, SwinConfig

from r2gengpt.build.lora import add_lora
from r2gengpt.model import R2GenGPTConfig, R2GenGPTForConditionalGeneration
from r2gengpt.text.alignment import IGNORE, pad_rows, training_row

IMAGE, PROMPT = 50_000, 30
"""An id that stands for the image, and the length of the prompt's text in tokens."""


def add_size_flags(parser: argparse.ArgumentParser) -> None:
    """The sizes of the random model; the default is about 110 million parameters, of StableLM's and Swin's kinds."""
    for name, value, what in (
        ("hidden_size", 640, "D, width of the language model"),
        ("layers", 10, "its layers"),
        ("heads", 10, "its attention heads"),
        ("intermediate_size", 1728, "width of its feed-forward layers"),
        ("vision_width", 64, "width of Swin's first stage (128 is Swin-B; E is eight times it)"),
        ("vision_depth", 2, "blocks of Swin's third stage (18 in Swin-B)"),
    ):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"{what} ({value})")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of the language model")


def random_model(options: argparse.Namespace) -> R2GenGPTForConditionalGeneration:
    """A model of the wanted size with random weights, its projector trained, the rest frozen."""
    torch.manual_seed(0)
    vision = SwinConfig(
        embed_dim=options.vision_width,
        depths=[2, 2, options.vision_depth, 2],
        num_heads=[options.vision_width // 32 * 2**stage for stage in range(4)],
        image_size=224,
        window_size=7,
    )
    text = StableLmConfig(
        vocab_size=50304,
        hidden_size=options.hidden_size,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.heads,
        intermediate_size=options.intermediate_size,
    )
    with torch.device(options.device):
        tower = AutoModel.from_config(vision)
        language_model = AutoModelForCausalLM.from_config(text, dtype=getattr(torch, options.dtype))
        tower.requires_grad_(False)
        language_model.requires_grad_(False)
        config = R2GenGPTConfig(vision_config=tower.config, text_config=language_model.config, image_token_id=IMAGE)
        return R2GenGPTForConditionalGeneration(config, tower, language_model).eval()


def random_rows(options: argparse.Namespace, image_tokens: int) -> list[tuple[list[int], list[int]]]:
    """Prompts with image placeholders and reports of 20 tokens to the longest allowed, as ids."""
    rng = np.random.default_rng(0)
    rows = []
    for length in rng.integers(20, options.max_length, options.batch_size):
        text = rng.integers(5, 49_000, PROMPT).tolist()
        report = rng.integers(5, 49_000, int(length)).tolist()
        rows.append(([0, *text[:8], *[IMAGE] * image_tokens, *text[8:]], report))
    return rows


def our_step(model: R2GenGPTForConditionalGeneration, options: argparse.Namespace) -> Callable[[Tensor], Tensor]:
    """Loss of the program's own forward."""
    rows = random_rows(options, model.config.tokens_per_view)
    made = [training_row(prompt, report, 0, options.max_length) for prompt, report in rows]
    ids, mask = pad_rows([row.input_ids for row in made], 0)
    labels = pad_rows([row.labels for row in made], IGNORE)[0]
    inputs = [torch.tensor(part, device=options.device) for part in (ids, mask, labels)]

    def loss(pixels: Tensor) -> Tensor:
        output = model(input_ids=inputs[0], attention_mask=inputs[1], labels=inputs[2], pixel_values=pixels)
        return output.loss

    return loss


def plain_step(model: R2GenGPTForConditionalGeneration, options: argparse.Namespace) -> Callable[[Tensor], Tensor]:
    """Loss by full-length rows and all logits."""
    rows = random_rows(options, model.config.tokens_per_view)
    reports = [[*report, 0][: options.max_length] for _, report in rows]
    fill = [options.max_length - len(report) for report in reports]
    ids = [[*prompt, *report, *[0] * gap] for (prompt, _), report, gap in zip(rows, reports, fill, strict=True)]
    labels = [
        [*[IGNORE] * len(prompt), *report, *[IGNORE] * gap]
        for (prompt, _), report, gap in zip(rows, reports, fill, strict=True)
    ]
    mask = [[1] * (len(row) - gap) + [0] * gap for row, gap in zip(ids, fill, strict=True)]
    inputs = [torch.tensor(part, device=options.device) for part in (ids, mask, labels)]

    def loss(pixels: Tensor) -> Tensor:
        embeds = model.embed_inputs(inputs[0], pixels, None, None)
        output = model.language_model(inputs_embeds=embeds, attention_mask=inputs[1], labels=inputs[2])
        return output.loss

    return loss


def peak_bytes(device: str) -> int:
    """The most memory this process (or, on a GPU, this device's allocator) has held."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Run one kind of step and say how fast and how large it was."""
    model = random_model(options)
    if options.llm_use_lora:
        targets = ("q", "k", "v", "o", "gate", "up", "down")
        add_lora(model.language_model, targets, rank=16, alpha=16, dropout=0.0, flag="llm_lora_targets")
        model.to(options.device)
    step = {"ours": our_step, "plain": plain_step}[options.only](model, options)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    pixels = torch.randn(options.batch_size, options.views, 3, 224, 224, device=options.device)
    before = peak_bytes(options.device)
    times, processor_times, losses = [], [], []
    for _ in range(options.steps + 1):  # the first warms up
        start, processor_start = time.perf_counter(), time.process_time()
        loss = step(pixels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())  # waits for the device
        times.append(time.perf_counter() - start)
        processor_times.append(time.process_time() - processor_start)
    rows = random_rows(options, 1)
    learnt = sum(min(len(report) + 1, options.max_length) for _, report in rows)
    seconds = min(times[1:])
    return {
        "report_tokens_per_second": round(learnt / seconds, 1),
        "seconds_per_step": round(seconds, 3),
        "processor_seconds_per_step": round(min(processor_times[1:]), 3),
        "peak_mb": round(peak_bytes(options.device) / 2**20, 1),
        "peak_above_weights_mb": round((peak_bytes(options.device) - before) / 2**20, 1),
        "trained_parameters": sum(parameter.numel() for parameter in trained),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "first_loss": round(losses[0], 5),
    }


def versions() -> dict[str, str]:
    """What the numbers were measured with."""
    names = ("r2gengpt", "torch", "transformers", "peft")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def setting(options: argparse.Namespace) -> dict[str, object]:
    """The flags and the machine."""
    device = torch.cuda.get_device_name() if options.device == "cuda" else platform.machine()
    return {**vars(options), "hardware": device, "cpus": os.cpu_count(), "threads": torch.get_num_threads()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_size_flags(parser)
    parser.add_argument("--batch_size", type=int, default=4, help="studies a step (4)")
    parser.add_argument("--views", type=int, default=1, help="views a study (1)")
    parser.add_argument("--max_length", type=int, default=100, help="longest report in tokens (100)")
    parser.add_argument("--steps", type=int, default=3, help="timed steps, of which the fastest counts (3)")
    parser.add_argument("--llm_use_lora", action="store_true", help="LoRA r=16 on every layer of the language model")
    parser.add_argument("--only", choices=("ours", "plain"), help="one kind of step, in this process")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options)))
        return
    results = {}
    for kind in ("plain", "ours"):
        command = [sys.executable, __file__, *sys.argv[1:], "--only", kind]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results[kind] = json.loads(done.stdout)
        print(kind, results[kind], file=sys.stderr)
    shown = {"benchmark": "training", "setting": setting(options), "versions": versions(), "results": results}
    print(json.dumps(shown, indent=1))


if __name__ == "__main__":
    main()
