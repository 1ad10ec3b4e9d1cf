"""One command on a CUDA device, within 8 minutes: first whether everything is right there, then how fast it is.

Right: the decoder against transformers' `generate`, with its passes recorded as CUDA graphs and without; each form of
quantized weights; the kernels of attention; a QLoRA step; DDP of one process; a run that was stopped and went on. Fast:
StableLM-3B-4E1T's shape with random weights, reports beside `generate` in the same process, training steps beside the
original's method. A report's time is whole, its prompt included. A share of the limit is its tokens a second against
reading all weights once a token at the rate of this card's own copy; a share of the peak is against its own matrix
product. Prints JSON, a table on standard error, and ends with 1 where a check failed. `--tiny` runs all of it on small
shapes, on a CPU too, where nothing is recorded.
Run: python benchmarks/gpu.py > gpu.json
"""

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import torch
from checkpoints import prepare
from generation import Texts, by_engine, by_generate, prompts_for, random_language_model
from large import load, weight_bytes
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from training import measure as measure_training
from training import versions

from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, RunConfig, TrainConfig
from r2gengpt.generation import recorded
from r2gengpt.parts.lora import add_lora
from r2gengpt.testing import noise_image, tiny_language_model, tiny_vision_model
from r2gengpt.training.module import R2GenGPTModule
from r2gengpt.training.optimizer import checkpoint_layers
from r2gengpt.training.run import train

LAYERS = ("q", "k", "v", "o", "gate", "up", "down")
STEP = "training_step"
Found = dict[str, Any]


def wait(device: str) -> None:
    """Until the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()


def timed(device: str, run: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Fastest seconds of some runs, and what the last gave."""
    best, given = float("inf"), None
    for _ in range(repeats):
        wait(device)
        start = time.perf_counter()
        given = run()
        wait(device)
        best = min(best, time.perf_counter() - start)
    return best, given


@contextmanager
def unrecorded() -> Iterator[None]:
    """The decoder without CUDA graphs."""
    kept, recorded.recordable = recorded.recordable, lambda language_model: False
    try:
        yield
    finally:
        recorded.recordable = kept


def shares_equal(one: Texts, other: Texts) -> float:
    """Share of tokens that are equal at their places."""
    pairs = [(a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True)]
    return round(sum(a == b for a, b in pairs) / len(pairs), 4)


# 1. Right


def check_decoder(options: argparse.Namespace) -> Found:
    """float32, small model: the same tokens by `generate`, by recorded passes and by passes that are not."""
    model = random_language_model("tiny").to(options.device)
    found: Found = {"passed": True}
    for studies, beams in ((1, 1), (1, 3), (5, 1), (5, 3)):
        prompts = prompts_for(model, studies).to(options.device)
        wanted = by_generate(model, prompts, beams, 30)
        with unrecorded():
            plain = by_engine(model, prompts, beams, 30)
        again = [by_engine(model, prompts, beams, 30) for _ in range(2)]
        same = wanted == plain == again[0] == again[1]
        found[f"studies_{studies}_beams_{beams}"] = same
        if studies == 1 and options.device == "cuda":  # other sums in the last bits, so near ties may fall otherwise
            found[f"compiled_beams_{beams}"] = shares_equal(wanted, by_engine(model, prompts, beams, 30, compiled=True))
        found["passed"] &= same
    found["passes_recorded"] = options.device == "cuda" and len(recorded._kept) == 1
    found["passed"] &= found["passes_recorded"] or options.device == "cpu"
    return found


def check_attention(options: argparse.Namespace) -> Found:
    """The forward pass of a bfloat16 model by each kernel of attention that PyTorch has here, against float32."""
    model = random_language_model("tiny").to(options.device)
    prompts = prompts_for(model, 2).to(options.device)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        wanted = model(inputs_embeds=prompts).logits
    found: Found = {"passed": True}
    model.bfloat16()
    for kernel in (SDPBackend.MATH, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
        try:
            with torch.no_grad(), sdpa_kernel(kernel):
                logits = model(inputs_embeds=prompts.bfloat16()).logits.float()
        except RuntimeError:
            found[kernel.name.lower()] = "not available"
            continue
        error = float((logits - wanted).norm() / wanted.norm())
        found[kernel.name.lower()] = round(error, 5)
        found["passed"] &= error < 0.02
    return found


def check_quantized(options: argparse.Namespace) -> Found:
    """8- and 4-bit weights by the program's own loader: logits near the whole weights', and texts as `generate`'s."""
    found: Found = {"passed": True}
    sizes = {"hidden_size": 256, "intermediate_size": 512, "layers": 4, "heads": 8}
    with tempfile.TemporaryDirectory() as scratch:
        small = small_options(options, directory=Path(scratch), **sizes)
        prepare(small, ["bfloat16"])
        whole = load(small, "bfloat16", on_the_fly=True)
        prompts = prompts_for(whole, 3).to(options.device, whole.dtype)
        with torch.no_grad():
            wanted = whole(inputs_embeds=prompts).logits.float()
        for kind, most in (("int8", 0.1), ("nf4", 0.4), ("fp4", 0.5), ("nf4 double", 0.4)):
            model = load(small, kind, on_the_fly=True)
            given = prompts.to(model.dtype)
            with torch.no_grad():
                error = float((model(inputs_embeds=given).logits.float() - wanted).norm() / wanted.norm())
            ours = by_engine(model, given, 1, 20)
            with unrecorded():
                same = shares_equal(ours, by_engine(model, given, 1, 20))
            # products of 8 and 4 bits are rounded by the number of rows, so that texts of random weights part
            equal = shares_equal(ours, by_generate(model, given, 1, 20))
            found[kind] = {"error": round(error, 4), "equal_unrecorded": same, "equal_generate": equal}
            found["passed"] &= error < most
    return found


def qlora(options: argparse.Namespace, directory: Path, **sizes: int) -> Found:
    """Three QLoRA steps: nf4 with double quantization, LoRA of rank 16 on every layer, gradient checkpointing."""
    small = small_options(options, directory=directory, **sizes)
    prepare(small, ["bfloat16"])
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    model = load(small, "nf4 double", on_the_fly=True)
    add_lora(model, LAYERS, rank=16, alpha=16, dropout=0.0, field="llm_lora_targets")
    model.train()
    checkpoint_layers(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    prompts = prompts_for(model, options.batch).to(options.device, torch.bfloat16)
    ids = torch.randint(5, 4000, (options.batch, 60), generator=torch.Generator().manual_seed(0)).to(options.device)
    embeds = torch.cat([prompts, model.get_input_embeddings()(ids).to(prompts.dtype)], 1)
    labels = torch.cat([torch.full(prompts.shape[:2], -100, device=options.device), ids], 1)
    losses = []
    for _ in range(3):
        loss = model(inputs_embeds=embeds, labels=labels, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(round(float(loss), 4))
    found: Found = {"passed": losses[2] < losses[0], "losses": losses, "batch": options.batch}
    if options.device == "cuda":
        found["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return found


def check_qlora(options: argparse.Namespace) -> Found:
    with tempfile.TemporaryDirectory() as scratch:
        return qlora(options, Path(scratch), hidden_size=256, intermediate_size=512, layers=4, heads=8)


def small_run(directory: Path, run: str, options: argparse.Namespace, **others: Any) -> RunConfig:
    """Two epochs of four batches of noise, LoRA on both parts."""
    images = directory / "images"
    if not images.is_dir():
        images.mkdir(parents=True)
        tiny_language_model(directory, "stablelm")
        tiny_vision_model(directory, "swin")
        studies = []
        for number in range(10):
            noise_image(number).save(images / f"{number}.png")
            text = f"The heart is normal. There are {number} small nodules. No pleural effusion."
            split = "train" if number < 8 else "val"
            studies.append({"id": str(number), "report": text, "image_path": [f"{number}.png"], "split": split})
        splits = {split: [s for s in studies if s["split"] == split] for split in ("train", "val", "test")}
        (directory / "annotation.json").write_text(json.dumps(splits), encoding="utf-8")
    return RunConfig(
        ModelConfig(lm_model=str(directory / "lm-stablelm"), vision_model=str(directory / "vision-swin"),
                    llm_use_lora=True, llm_r=4, vis_use_lora=True, vis_r=4),
        DataConfig(annotation=str(directory / "annotation.json"), base_dir=str(images), dataset="plain", batch_size=2),
        DecodeConfig(beam_size=1, min_new_tokens=0, max_new_tokens=8),
        TrainConfig(savedmodel_path=str(directory / run), learning_rate=1e-2, max_epochs=2, scorer_types=("val_loss",),
                    weights=(1.0,), num_sanity_val_steps=0, choose_decode=0, every_n_train_steps=1,
                    accelerator="gpu" if options.device == "cuda" else "cpu", devices="1", **others),
    )  # fmt: skip


class Stopped(BaseException):
    """Ends a run in the middle of a step; nothing of ours or Lightning's catches it."""


def weights_of(directory: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(directory / "last" / "delta.safetensors")


def furthest(one: Path, other: Path) -> float:
    """The largest difference of any trained weight of two runs."""
    left, right = weights_of(one), weights_of(other)
    assert left.keys() == right.keys()
    return max(float((left[name].float() - right[name].float()).abs().max()) for name in left)


def check_resume(options: argparse.Namespace) -> Found:
    """A run that is stopped in its sixth step and started again, and one by DDP of one process, against a whole run."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        train(small_run(directory, "whole", options))
        step, count = R2GenGPTModule.training_step, 0

        def counted(self: R2GenGPTModule, *words: Any) -> Tensor:
            nonlocal count
            count += 1
            if count == 6:
                raise Stopped
            return step(self, *words)

        setattr(R2GenGPTModule, STEP, counted)
        try:
            train(small_run(directory, "stopped", options))
        except Stopped:
            pass
        finally:
            setattr(R2GenGPTModule, STEP, step)
        train(small_run(directory, "stopped", options))
        train(small_run(directory, "again", options))
        train(small_run(directory, "ddp", options, strategy="ddp"))
        names = ("stopped", "again", "ddp")
        found: Found = {name: furthest(directory / "whole", directory / name) for name in names}
    found["passed"] = found["stopped"] <= found["again"] and found["ddp"] <= max(found["again"], 1e-6)
    return found


# 2. Fast


def ceilings(options: argparse.Namespace) -> Found:
    """What this device reaches: bytes a second of a copy (read and written), operations a second of a product."""
    size = 1 << (31 if options.device == "cuda" else 24)
    block = torch.empty(size, dtype=torch.uint8, device=options.device).random_()
    other = torch.empty_like(block)
    copied, _ = timed(options.device, lambda: other.copy_(block), 10)
    side = 8192 if options.device == "cuda" else 512
    left, right = (torch.randn(side, side, device=options.device, dtype=torch.bfloat16) for _ in range(2))
    product, _ = timed(options.device, lambda: [left @ right for _ in range(10)], 5)
    return {
        "copy_gb_per_second": round(2 * size / copied / 1e9, 1),
        "product_tflops": round(10 * 2 * side**3 / product / 1e12, 2),
    }


def reports(options: argparse.Namespace, kind: str, cases: Sequence[tuple[int, int]], *, beside: bool) -> Found:
    """Tokens a second of one kind of weights, by the decoder as it runs.

    `beside` it, `generate`; and for one study the decoder with compiled layers and without recorded passes.
    """
    model = load(options, kind, on_the_fly=True)
    limit = options.read / weight_bytes(model)
    found: Found = {"weights_gb": round(weight_bytes(model) / 1e9, 2), "limit_passes_per_second": round(limit, 1)}
    compiled = partial(by_engine, compiled=options.device == "cuda")
    for studies, beams in cases:
        prompts = prompts_for(model, studies).to(options.device, model.dtype)
        sides: dict[str, Callable[..., Texts]] = {"fast": by_engine}
        if beside:
            sides |= {"compiled": compiled, "unrecorded": by_engine} if studies == 1 else {}
            sides |= {"generate": by_generate}
        one: Found = {}
        wrote: dict[str, Texts] = {}
        for side, run in sides.items():
            with unrecorded() if side == "unrecorded" else nullcontext():
                write = partial(run, model, prompts, beams, options.tokens)
                first, _ = timed(options.device, write)
                seconds, wrote[side] = timed(options.device, write)
            passes = options.tokens / seconds
            one[side] = {
                "tokens_per_second": round(studies * passes, 1),
                "share_of_limit": round(passes / limit, 3),
                "first_run_seconds": round(first, 2),
            }
            if side != "fast":
                one[side]["equal_tokens"] = shares_equal(wrote["fast"], wrote[side])
        found[f"studies_{studies}_beams_{beams}"] = one
        print(kind, studies, beams, json.dumps(one), file=sys.stderr, flush=True)
    return found


def training_steps(options: argparse.Namespace) -> Found:
    """A LoRA step with cached features (ours), with the encoder, and by the original's method; bfloat16."""
    found: Found = {}
    for kind in ("ours", "ours_without_cache", "plain"):
        words = argparse.Namespace(
            **{name: getattr(options, name) for name in ("hidden_size", "layers", "heads", "intermediate_size")},
            vision_width=options.vision_width, vision_depth=options.vision_depth, device=options.device,
            dtype="bfloat16", batch_size=options.train_batch, views=2, report_tokens=options.tokens, max_length=110,
            steps=3, llm_use_lora=True, only=kind,
        )  # fmt: skip
        if options.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        found[kind] = measure_training(words)
        print("training", kind, found[kind], file=sys.stderr)
    return found


CHECKS: dict[str, Callable[[argparse.Namespace], Found]] = {
    "decoder": check_decoder,
    "attention": check_attention,
    "quantized": check_quantized,
    "qlora": check_qlora,
    "resume": check_resume,
}


def small_options(options: argparse.Namespace, **others: Any) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(options), "vision_width": 32, "vision_depth": 2, **others})


def speeds(options: argparse.Namespace) -> dict[str, Callable[[], Found]]:
    """Name → what is timed, in turn."""
    cases = [(1, 1), (1, 3), (16, 1), (64, 1)]
    return {
        "bfloat16": lambda: reports(options, "bfloat16", cases, beside=True),
        "nf4": lambda: reports(options, "nf4", cases[:2], beside=False),
        "int8": lambda: reports(options, "int8", cases[:1], beside=False),
        "training": lambda: training_steps(options),
        "qlora_3b": lambda: qlora(options, options.directory, **{
            name: getattr(options, name) for name in ("hidden_size", "layers", "heads", "intermediate_size")}),
    }  # fmt: skip


def run_all(options: argparse.Namespace) -> Found:
    """Each part, whose failure is told and does not end the others; none is begun after `--seconds`."""
    start = time.perf_counter()
    found: Found = {"ceilings": ceilings(options)}
    options.read = found["ceilings"]["copy_gb_per_second"] * 1e9
    print(found["ceilings"], file=sys.stderr)
    parts: dict[str, Callable[[], Found]] = {name: partial(check, options) for name, check in CHECKS.items()}
    with tempfile.TemporaryDirectory() as scratch:
        options.directory = Path(scratch)
        if not options.only or set(options.only) & set(speeds(options)):
            prepare(options, ["bfloat16"])
        for name, part in (parts | speeds(options)).items():
            if options.only and name not in options.only:
                continue
            if time.perf_counter() - start > options.seconds:
                found[name] = {"passed": False, "error": f"not begun within {options.seconds} s"}
                continue
            begun = time.perf_counter()
            try:
                found[name] = part()
            except Exception as error:
                traceback.print_exc()
                found[name] = {"passed": False, "error": f"{type(error).__name__}: {str(error).splitlines()[:1]}"}
            found[name]["wall_seconds"] = round(time.perf_counter() - begun, 1)
            if options.device == "cuda":
                torch.cuda.empty_cache()
            print(name, json.dumps(found[name]), file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small shapes, to try this file anywhere")
    parser.add_argument("--only", nargs="+", help="these parts (all)")
    parser.add_argument("--seconds", type=float, default=420, help="no part is begun later than this (420)")
    parser.add_argument("--output", type=Path, help="write the JSON here too")
    options = parser.parse_args()
    options.device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.device == "cpu" and not options.tiny:
        parser.error("no CUDA device here: --tiny tries this file on a CPU")
    shape = {"hidden_size": 2560, "intermediate_size": 6912, "layers": 32, "heads": 32, "vision_width": 128,
             "vision_depth": 18, "tokens": 100, "batch": 1, "train_batch": 16}  # fmt: skip
    if options.tiny:
        shape = {"hidden_size": 128, "intermediate_size": 256, "layers": 2, "heads": 4, "vision_width": 32,
                 "vision_depth": 2, "tokens": 8, "batch": 1, "train_batch": 2}  # fmt: skip
    options.__dict__.update(shape)
    with redirect_stdout(sys.stderr):  # what libraries print
        found = run_all(options)
    name = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    whole = {"benchmark": "gpu", "device": name, "setting": shape, "versions": versions(), "results": found}
    text = json.dumps(whole, indent=1)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")
    print(text)
    failed = [part for part, one in found.items() if not one.get("passed", True)]
    if failed:
        raise SystemExit(f"failed: {' '.join(failed)}")


if __name__ == "__main__":
    main()
