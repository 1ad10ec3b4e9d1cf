"""Training tokens a second and peak memory: our step against a plain one. Random weights; prints JSON; asserts nothing.

`plain` is the original's method: the encoder runs in each step, reports are padded to --max_length, logits and loss are
those of all positions at once, all parameters are in the optimizer. `ours` gets the encoder's features as the feature
cache gives them, pads to the longest report of a batch by length (as --bucket_by_length True makes it), and makes
logits of report tokens only, in chunks; `ours_without_cache` runs the encoder. All train the same parameters on the
same studies; each runs in a process of its own, so that its peak is its own. With one thread times are the processor's,
which other programs disturb little.
Run: python benchmarks/training.py > training.json
The original's sizes (Swin-B, 2 views, batch 6, 254 M parameters): add
--hidden_size 1024 --layers 12 --heads 16 --intermediate_size 2736 --vision_width 128 --vision_depth 18 --batch_size 6
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
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, AutoModelForCausalLM, StableLmConfig, SwinConfig

from r2gengpt.model import R2GenGPTConfig, R2GenGPTForConditionalGeneration
from r2gengpt.parts.lora import add_lora
from r2gengpt.text.alignment import IGNORE, pad_rows, training_row

Step = Callable[[], Tensor]
KINDS = ("plain", "ours", "ours_without_cache")
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
    words = ("32-true", "bf16-mixed")
    parser.add_argument("--precision", default="32-true", choices=words, help="of both sides, as `train` has it")


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
    """Prompts with image placeholders and reports of about the wanted length, as ids, as a bucketed batch has them."""
    rng = np.random.default_rng(0)
    middle = options.report_tokens - 1  # and the end token
    rows = []
    for length in rng.integers(middle - 1, middle + 2, options.batch_size):
        text = rng.integers(5, 49_000, PROMPT).tolist()
        report = rng.integers(5, 49_000, int(length)).tolist()
        rows.append(([0, *text[:8], *[IMAGE] * image_tokens, *text[8:]], report))
    return rows


def our_step(model: R2GenGPTForConditionalGeneration, options: argparse.Namespace, views: Tensor) -> Step:
    """Loss of the program's own training step, from cached features or from the images."""
    rows = random_rows(options, model.config.tokens_per_view)
    made = [training_row(prompt, report, 0, options.max_length) for prompt, report in rows]
    ids, mask = pad_rows([row.input_ids for row in made], 0)
    labels = pad_rows([row.labels for row in made], IGNORE)[0]
    inputs = [torch.tensor(part, device=options.device) for part in (ids, mask, labels)]
    there = torch.ones(views.shape[:2], dtype=torch.bool, device=options.device)
    images: dict[str, Tensor] = {"pixel_values": views}
    if options.only == "ours":
        with torch.no_grad():
            images = {"features": model.encode_views(views, there)}

    def loss() -> Tensor:
        return model.loss(inputs[0], inputs[2], inputs[1], view_mask=there, use_cache=False, **images)

    return loss


def plain_step(model: R2GenGPTForConditionalGeneration, options: argparse.Namespace, views: Tensor) -> Step:
    """Loss by the encoder's forward, full-length rows, and all logits at once."""
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

    def loss() -> Tensor:
        embeds = model.embed_inputs(inputs[0], views, None, None)
        output = model.language_model(inputs_embeds=embeds, attention_mask=inputs[1], labels=inputs[2])
        return output.loss

    return loss


def matmul_peak(options: argparse.Namespace) -> float:
    """Floating-point operations a second of a large square matrix product in the language model's type."""
    side, best = 1024 if options.device == "cpu" else 8192, 0.0
    left, right = (torch.randn(side, side, device=options.device).to(getattr(torch, options.dtype)) for _ in range(2))
    for _ in range(8):
        start = seconds(options.device)
        for _ in range(8):
            product = left @ right
        float(product[0, 0])  # waits for the device
        best = max(best, 8 * 2 * side**3 / (seconds(options.device) - start))
    return best


def seconds(device: str) -> float:
    """A clock: this process's on one thread of a CPU, which other programs do not slow down, else the wall's."""
    alone = device == "cpu" and torch.get_num_threads() == 1
    return time.process_time() if alone else time.perf_counter()


def operations(model: R2GenGPTForConditionalGeneration, step: Step, views: Tensor, encodes: bool) -> float:
    """Matrix products of a step, in floating-point operations: the forward twice, the frozen encoder's once.

    The backward pass of frozen weights costs what the forward does; gradients of the few trained ones are not counted.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as whole:
        step()
    if not encodes:
        return 2.0 * whole.get_total_flops()
    with torch.no_grad(), FlopCounterMode(display=False) as encoder:
        model.encode_views(views)
    return 2.0 * whole.get_total_flops() - encoder.get_total_flops()


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
        add_lora(model.language_model, targets, rank=16, alpha=16, dropout=0.0, field="llm_lora_targets")
        model.to(options.device)
    views = torch.randn(options.batch_size, options.views, 3, 224, 224, device=options.device)
    plain = options.only == "plain"
    step = (plain_step if plain else our_step)(model, options, views)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(model.parameters() if plain else trained, lr=1e-4, fused=not plain)
    before = peak_bytes(options.device)
    times, losses = [], []
    for _ in range(options.steps + 1):  # the first warms up
        start = seconds(options.device)
        with torch.autocast(options.device, torch.bfloat16, enabled=options.precision == "bf16-mixed"):
            loss = step()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())  # waits for the device
        times.append(seconds(options.device) - start)
    fastest, peak = min(times[1:]), peak_bytes(options.device)
    learnt = sum(min(len(report) + 1, options.max_length) for _, report in random_rows(options, 1))
    work, best = operations(model, step, views, options.only != "ours"), matmul_peak(options)
    return {
        "report_tokens_per_second": round(learnt / fastest, 1),
        "seconds_per_step": round(fastest, 3),
        "peak_mb": round(peak / 2**20, 1),
        "peak_above_weights_mb": round((peak - before) / 2**20, 1),
        "gflop_per_step": round(work / 1e9, 1),
        "matmul_peak_gflops": round(best / 1e9, 1),
        "share_of_matmul_peak": round(work / fastest / best, 3),
        "trained_parameters": sum(parameter.numel() for parameter in trained),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "first_loss": round(losses[0], 5),
    }


def ratios(results: dict[str, dict[str, float]]) -> dict[str, float]:
    """Ours against plain: how many times as fast, and the share of its peak memory."""
    plain = results["plain"]
    found = {}
    for kind in KINDS[1:]:
        found[f"{kind}_times_as_fast"] = round(plain["seconds_per_step"] / results[kind]["seconds_per_step"], 2)
        for name in ("peak_mb", "peak_above_weights_mb"):
            found[f"{kind}_share_of_{name}"] = round(results[kind][name] / plain[name], 2)
    return found


def versions() -> dict[str, str]:
    """What the numbers were measured with."""
    names = ("r2gengpt", "torch", "transformers", "peft")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def setting(options: argparse.Namespace) -> dict[str, Any]:
    """The flags and the machine."""
    device = torch.cuda.get_device_name() if options.device == "cuda" else platform.machine()
    return {**vars(options), "hardware": device, "cpus": os.cpu_count(), "threads": torch.get_num_threads()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_size_flags(parser)
    parser.add_argument("--batch_size", type=int, default=4, help="studies a step (4)")
    parser.add_argument("--views", type=int, default=2, help="views a study (2)")
    parser.add_argument("--report_tokens", type=int, default=45, help="tokens of a report, give or take one (45)")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU (1)")
    parser.add_argument("--max_length", type=int, default=100, help="plain pads to it (100)")
    parser.add_argument("--steps", type=int, default=3, help="timed steps, of which the fastest counts (3)")
    parser.add_argument("--llm_use_lora", action="store_true", help="LoRA r=16 on every layer of the language model")
    parser.add_argument("--only", choices=KINDS, help="one kind of step, in this process")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.only:
        print(json.dumps(measure(options)))
        return
    results = {}
    for kind in KINDS:
        command = [sys.executable, __file__, *sys.argv[1:], "--only", kind]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results[kind] = json.loads(done.stdout)
        print(kind, results[kind], file=sys.stderr)
    shown = {"benchmark": "training", "setting": setting(options), "versions": versions(), "results": results}
    shown["ratios"] = ratios(results)
    print(json.dumps(shown, indent=1))


if __name__ == "__main__":
    main()
