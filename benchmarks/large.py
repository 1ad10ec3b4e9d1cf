"""Seconds a report of a language model of real size, by kind of weights: the engine against `generate` and the limit.

The default is StableLM-3B-4E1T's architecture with random weights. Each kind runs in a process of its own, on the
same prompts; only what is named in --generate is run by transformers' `generate` too. The limit of a token is the time
to read all weights once, at the rate at which this process sums a gigabyte with the same threads. `w8a8` and `float32`
are made of the bfloat16 checkpoint. Times of a report are from its prompt to its last token. Prints JSON.
`openvino` kinds are graphs of `r2gengpt export`: form of the weights, and of the inputs of their products.
Run: python benchmarks/large.py > large.json
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checkpoints import FORMS, add_size_flags, prepare, run_python
from generation import PROMPT, by_engine, by_generate, prompts_for, rules_of
from torch import Tensor
from training import versions

from r2gengpt.config import ModelConfig
from r2gengpt.parts.assemble import build_model
from r2gengpt.parts.int8 import Int8Linear
from r2gengpt.parts.placement import device_of, place
from r2gengpt.settings import PlacementConfig

GRAPHS = ("openvino int8 float32", "openvino int8 int8", "openvino int4 float32", "openvino int4 int8")
KINDS = {**{form: form for form in FORMS}, **dict.fromkeys(("float32", "w8a8", *GRAPHS), "bfloat16")}
"""Kind of weights → the checkpoint that it is made of."""


def load(options: argparse.Namespace, kind: str, *, on_the_fly: bool = False) -> Any:
    """The language model alone, loaded and placed as the program does it.

    Args:
        options: `directory` holds the checkpoints.
        kind: of weights.
        on_the_fly: made of the bfloat16 checkpoint while it is loaded, arithmetic in bfloat16.
    """
    stored = "bfloat16" if on_the_fly else KINDS[kind]
    config = ModelConfig(
        lm_model=str(options.directory / stored.replace(" ", "-")),
        vision_model=str(options.directory / "vision"),
    )
    form, _, double = kind.partition(" ")
    made = kind == "w8a8" or (on_the_fly and kind != "bfloat16")
    where = PlacementConfig(
        dtype="bfloat16" if on_the_fly or kind == "bfloat16" else "float32",
        quantization=form if made else "auto",
        double_quant=on_the_fly and bool(double),
    )
    model = build_model(config, where, precision="32-true").model.eval()
    place(model, device_of("auto") if on_the_fly else "cpu", where.quantization)
    return model.language_model


def export(options: argparse.Namespace, weights: str) -> None:
    """The language model's graph and its table of embeddings below `options.directory`."""
    from r2gengpt.edge.export import embedding_table, write_language

    target = options.directory / f"openvino-{weights}"
    model = load(options, "float32")
    target.mkdir()
    np.save(target / "table.npy", embedding_table(model, half=True))
    write_language(model, target / "language.xml", weights)


class Graph:
    """A language model as a graph, with what the other side needs of it."""

    dtype = torch.float32

    def __init__(self, directory: Path, activations: str) -> None:
        from r2gengpt.edge.runtime import arithmetic, core

        path = directory / "language.xml"
        self.bytes = path.with_suffix(".bin").stat().st_size
        self.table = np.load(directory / "table.npy", mmap_mode="r")
        self.config = argparse.Namespace(hidden_size=self.table.shape[1])
        self.request = core().compile_model(path, "CPU", arithmetic(activations)).create_infer_request()

    def embeddings(self, ids: Sequence[int]) -> Any:
        return np.asarray(self.table[np.asarray(ids)], dtype=np.float32)


def by_graph(graph: Graph, prompts: Tensor, beams: int, tokens: int) -> list[list[int]]:
    """As `by_engine`, one study after the other."""
    from r2gengpt.edge.runtime import Passes, choose

    found = []
    for prompt in prompts.numpy():
        passes = Passes(graph.request, graph.embeddings, len(prompt))
        found.append(choose(passes.begin(prompt), passes.step, rules_of(beams, tokens)).ids)
    return found


def read_rate() -> float:
    """Bytes a second at which a gigabyte is summed."""
    block = torch.ones(1 << 28)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        block.sum()
        best = min(best, time.perf_counter() - start)
    return block.nbytes / best


def weight_bytes(model: Any) -> int:
    """Bytes that a token reads: all weights but the embedding table, of which it takes a row."""
    if isinstance(model, Graph):
        return model.bytes
    table = model.get_input_embeddings().weight
    packed = [module for module in model.modules() if isinstance(module, Int8Linear)]
    return sum(part.nbytes for part in model.parameters() if part is not table) + sum(
        layer.in_features * layer.out_features for layer in packed
    )


def seconds(run: Any, *words: Any) -> tuple[float, list[list[int]]]:
    start = time.perf_counter()
    wrote = run(*words)
    return time.perf_counter() - start, wrote


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One kind of weights in this process."""
    torch.set_num_threads(options.threads)
    rate = read_rate()
    if options.kind in GRAPHS:
        _, weights, activations = options.kind.split()
        model = Graph(options.directory / f"openvino-{weights}", activations)
    else:
        model = load(options, options.kind)
    limit = rate / weight_bytes(model)
    results: dict[str, Any] = {
        "read_gb_per_second": round(rate / 1e9, 1),
        "weights_gb": round(weight_bytes(model) / 1e9, 2),
        "limit_passes_per_second": round(limit, 2),
    }
    sides = {
        "fast": by_graph if options.kind in GRAPHS else by_engine,
        **({"hf": by_generate} if options.kind in options.generate else {}),
    }
    for studies, beams in ((studies, beams) for studies in options.studies for beams in options.beams):
        prompts = prompts_for(model, studies).to(model.dtype)
        found: dict[str, Any] = {}
        wrote = {}
        for side, run in sides.items():
            seconds(run, model, prompts, beams, 2)
            first, _ = seconds(run, model, prompts, beams, 1)
            whole, wrote[side] = seconds(run, model, prompts, beams, options.tokens)
            passes = (options.tokens - 1) / (whole - first)
            found[f"{side}_seconds"] = round(whole, 2)
            found[f"{side}_passes_per_second"] = round(passes, 2)
            found[f"{side}_share_of_limit"] = round(passes / limit, 3)
        if "hf" in wrote:
            found["ratio"] = round(found["hf_seconds"] / found["fast_seconds"], 2)
            found["identical"] = wrote["hf"] == wrote["fast"]
        results[f"studies_{studies}_beams_{beams}"] = found
        print(options.kind, studies, beams, found, file=sys.stderr)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_size_flags(parser)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS), help="of weights (all)")
    parser.add_argument("--generate", nargs="*", default=["bfloat16", "int8"], choices=list(KINDS), help="also by it")
    parser.add_argument("--tokens", type=int, default=100, help="tokens of a report (100)")
    parser.add_argument("--studies", type=int, nargs="+", default=[1, 8], help="studies at once (1 8)")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 3], help="beams (1 3)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the processor (all)")
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    parser.add_argument("--export", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.export:
        export(options, options.export)
        return
    if options.kind:
        print(json.dumps(measure(options)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        options.directory = options.directory or Path(scratch)
        prepare(options, [form for form in FORMS if form in {KINDS[kind] for kind in options.kinds}])
        words = [*sys.argv[1:], "--directory", str(options.directory)]
        for weights in sorted({kind.split()[1] for kind in options.kinds if kind in GRAPHS}):
            if not (options.directory / f"openvino-{weights}").is_dir():
                run_python([__file__, *words, "--export", weights])
        results = {kind: json.loads(run_python([__file__, *words, "--kind", kind])) for kind in options.kinds}
    shown = {**vars(options), "directory": None, "prompt_tokens": PROMPT, "cpus": os.cpu_count()}
    print(json.dumps({"benchmark": "large", "setting": shown, "versions": versions(), "results": results}, indent=1))


if __name__ == "__main__":
    main()
