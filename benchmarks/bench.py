"""All benchmarks in turn: one table on stdout, and one JSON file with all figures, versions and flags. Times nothing.

Each file of this folder runs in a process of its own and is told sizes by `PLANS`: `--quick` small ones, to see that
nothing has become slow (about 3 minutes on 2 quiet cores); else those that the README's figures are from (an hour or
more, and 12 GB of disk for the weights of StableLM-3B's size). Run it where nothing else runs.

`--quick` also compares each ratio with the one of benchmarks/kept.json. A ratio is of two sides of one run, so it holds
on another machine of the same kind. A benchmark with a ratio that is lower by more than a tenth runs once more, and the
better of both counts. What is still lower is named. `--keep` writes the ratios of this run into the file instead.
Run: python benchmarks/bench.py [--quick [--keep]] --output build/bench
"""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
KEPT = HERE / "kept.json"
"""The machine and the ratios of an earlier quick run, by benchmark and line of the table."""
SLOWER = 0.1
"""How much lower a ratio must be to be named, as a share of the kept one."""
ORIGINAL_SIZE = (
    "--hidden_size 1024 --layers 12 --heads 16 --intermediate_size 2736 --vision_width 128 --vision_depth 18 "
    "--batch_size 6 --threads 2"
)
GRAPH = "'openvino int8 int8'"
SMALL_3B = "--layers 2 --vision_width 32 --vision_depth 2 --tokens 6 --studies 1 --beams 3"


class Plan(NamedTuple):
    """A benchmark's flags, short and whole."""

    quick: str
    whole: str


PLANS = {
    "startup": Plan("--repeats 3", ""),
    "latency": Plan("--repeats 1", ""),
    "metrics": Plan("--repeats 1", ""),
    "images": Plan("", ""),
    "features": Plan("--images 6", "--images 48"),
    "training": Plan("--hidden_size 256 --layers 4 --heads 4 --intermediate_size 688 --steps 2", ORIGINAL_SIZE),
    "generation": Plan("--sizes tiny --new_tokens 20 --repeats 1", ""),
    "serving": Plan("--studies 12 --single 4 --clients 6 --new_tokens 12", ""),
    "large": Plan(f"{SMALL_3B} --kinds bfloat16 w8a8 {GRAPH} --generate bfloat16", ""),
    "memory": Plan("", "--dtype float32"),
}
"""Benchmark → its flags."""
LONG = ("images", "memory")
"""What is not among the quick ones."""


class Line(NamedTuple):
    """A line of the table.

    Attributes:
        what: the same words in every run of the same plan.
        ours: figure and unit.
        other: the other side's; empty where there is none.
        ratio: how many times better ours is, in this run; None where there is no other side.
    """

    what: str
    ours: str
    other: str = ""
    ratio: float | None = None


def startup(found: dict[str, Any]) -> Iterator[Line]:
    results = dict(found["results"])
    bare = results.pop("python -c pass")["fastest_s"]
    for name, one in results.items():
        fastest = one["fastest_s"]
        yield Line(f"{name}, against `python -c pass`", f"{fastest:.3f} s", f"{bare:.3f} s", round(bare / fastest, 3))


def latency(found: dict[str, Any]) -> Iterator[Line]:
    graphs, torch = (found["results"][runtime] for runtime in ("openvino", "torch"))
    for name, one in (("graphs", graphs), ("PyTorch", torch)):
        yield Line(f"{name}: seconds to {', '.join(one['stages_s'])}", ", ".join(map(str, one["stages_s"].values())))
    for key, what, unit, sign in (
        ("command_s", "`r2gengpt generate`, embedded, graphs against PyTorch", "s", -1),
        ("tokens_per_second", "its streamed text, graphs against PyTorch", "tokens/s", 1),
    ):
        ratio = round((graphs[key] / torch[key]) ** sign, 2)
        yield Line(what, f"{graphs[key]} {unit}", f"{torch[key]} {unit}", ratio)


def metrics(found: dict[str, Any]) -> Iterator[Line]:
    for one in found["results"]:
        other = f"{one['pycocoevalcap_s']:.2f} s" if "pycocoevalcap_s" in one else "not installed"
        what = f"BLEU, ROUGE-L and CIDEr of {one['studies']} studies, against pycocoevalcap"
        yield Line(what, f"{one['metrics_s']:.3f} s", other, one.get("times_faster"))


def images(found: dict[str, Any]) -> Iterator[Line]:
    for name in ("png", "jpeg", "png16"):
        one = found["results"][name]
        ours, plain = one["ours_decode_and_process"], one["plain_decode_and_process"]
        yield Line(f"{name} film to model input, against Pillow", f"{ours} a second", f"{plain}", one["speedup"])


def features(found: dict[str, Any]) -> Iterator[Line]:
    for name, one in found["results"].items():
        ours, plain = one["fill_images_per_second"], one["plain_images_per_second"]
        yield Line(f"features of {name}, against one by one", f"{ours} a second", f"{plain}", one["fill_ratio"])


def training(found: dict[str, Any]) -> Iterator[Line]:
    results, ratios = found["results"], found["ratios"]
    plain = results["plain"]
    for kind, what in (("ours", "cached features"), ("ours_without_cache", "encoder in each step")):
        step, other = results[kind]["seconds_per_step"], plain["seconds_per_step"]
        label = f"training step, {what}, against the original's method"
        yield Line(label, f"{step:.2f} s", f"{other:.2f} s", ratios[f"{kind}_times_as_fast"])
        peaks = f"{results[kind]['peak_mb']:.0f} MB", f"{plain['peak_mb']:.0f} MB"
        yield Line(f"its peak memory, {what}", *peaks, round(1 / ratios[f"{kind}_share_of_peak_mb"], 2))
    yield Line(
        "share of the matrix-product peak beside it, cached features", f"{results['ours']['share_of_matmul_peak']}"
    )


def generation(found: dict[str, Any]) -> Iterator[Line]:
    for name, one in found["results"].items():
        same = "same tokens" if one["identical"] else "OTHER TOKENS"
        what = f"decoding, {name.replace('_', ' ')}, against `generate`"
        ours = f"{one['fast_tokens_per_second']} tokens/s, {same}"
        yield Line(what, ours, f"{one['hf_tokens_per_second']}", one["ratio"])
        if "w8a8_tokens_per_second" in one:
            ratio = one["w8a8_tokens_per_second"] / one["hf_tokens_per_second"]
            first = f"first after {one['w8a8_seconds_to_first_token']} s"
            ours = f"{one['w8a8_tokens_per_second']} tokens/s, {first}"
            yield Line(f"{what}, in w8a8", ours, f"{one['hf_tokens_per_second']}", round(ratio, 2))


def serving(found: dict[str, Any]) -> Iterator[Line]:
    many, single = found["results"]["many"], found["results"]["single"]
    clients, lost = found["setting"]["clients"], many["lost_or_mixed"]
    ours, other = (f"{one['studies_per_second']} studies/s" for one in (many, single))
    what = f"{many['studies']} studies served to {clients} clients, against one after the other"
    yield Line(what, f"{ours}, {lost} lost or mixed up", other, found["times_as_many"])
    yield Line("their time, 95th percentile", f"{many['p95_seconds']} s", f"{single['p95_seconds']} s")
    memory = many["resident_mb"]
    yield Line("the server's memory after a tenth, and at the end", f"{memory[0]} MB", f"{memory[-1]} MB")


def large(found: dict[str, Any]) -> Iterator[Line]:
    setting = found["setting"]
    size = f"{setting['layers']} layers of width {setting['hidden_size']}, {setting['tokens']} tokens"
    for kind, results in found["results"].items():
        limit = results["limit_passes_per_second"]
        for name, one in results.items():
            if not isinstance(one, dict):
                continue
            what, ours = f"{size}, {kind}, {name.replace('_', ' ')}", f"{one['fast_seconds']} s"
            yield Line(f"{what}: share of the limit", ours, f"{limit} passes/s", one["fast_share_of_limit"])
            if "hf_seconds" in one:
                same = "same tokens" if one["identical"] else "other tokens"
                yield Line(f"{what}: against `generate`", f"{ours}, {same}", f"{one['hf_seconds']} s", one["ratio"])


def memory(found: dict[str, Any]) -> Iterator[Line]:
    for name, one in found["results"].items():
        ratio = round(one["planned_mb"] / one["peak_mb"], 2)
        yield Line(
            f"peak memory of a {name}, against the plan",
            f"{one['peak_mb']:.0f} MB",
            f"{one['planned_mb']:.0f} MB",
            ratio,
        )


LINES: dict[str, Callable[[dict[str, Any]], Iterator[Line]]] = {
    "startup": startup,
    "latency": latency,
    "metrics": metrics,
    "images": images,
    "features": features,
    "training": training,
    "generation": generation,
    "serving": serving,
    "large": large,
    "memory": memory,
}


def run(name: str, words: list[str]) -> dict[str, Any]:
    """One benchmark's JSON."""
    command = [sys.executable, str(HERE / f"{name}.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise SystemExit(f"benchmarks/{name}.py {' '.join(words)} ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])  # a library may warn before it
    return found


def timed(name: str, *, quick: bool) -> dict[str, Any]:
    """One benchmark's JSON, with its flags and how long it took."""
    words = shlex.split(PLANS[name].quick if quick else PLANS[name].whole)
    start = time.perf_counter()
    found = {**run(name, words), "flags": words}
    found["wall_seconds"] = round(time.perf_counter() - start, 1)
    print(f"{name}: {found['wall_seconds']} s", file=sys.stderr)
    return found


def ratios(lines: Iterable[Line]) -> dict[str, float]:
    """Of the lines that have one, by what they tell."""
    return {line.what: line.ratio for line in lines if line.ratio is not None}


def slower(found: Mapping[str, float], kept: Mapping[str, float]) -> list[str]:
    """What of `found` is lower than in `kept` by more than `SLOWER`; a line that is not kept is not compared."""
    return [what for what, ratio in found.items() if what in kept and ratio < (1 - SLOWER) * kept[what]]


def better(first: Iterable[Line], second: Iterable[Line]) -> list[Line]:
    """Of two runs of a benchmark, each line with the higher ratio."""
    again = {line.what: line for line in second}
    return [max(line, again.get(line.what, line), key=lambda one: one.ratio or 0) for line in first]


def machine() -> dict[str, str | int | None]:
    """What ratios depend on: the kind of processor and its cores."""
    info = Path("/proc/cpuinfo")
    wide = info.is_file() and "avx512_bf16" in info.read_text(encoding="utf-8")
    return {"machine": platform.machine(), "arithmetic": "bfloat16" if wide else "float32", "cores": os.cpu_count()}


def table(lines: Iterable[Line]) -> str:
    """Lines as a Markdown table."""
    rows = ["| what | ours | other side | ratio |", "|---|---|---|---|"]
    for line in lines:
        ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
        rows.append(f"| {line.what} | {line.ours} | {line.other} | {ratio} |")
    return "\n".join(rows)


def verdict(found: Mapping[str, Mapping[str, float]], kept: Mapping[str, Any]) -> str:
    """What the ratios of a run, by benchmark, tell beside the kept ones."""
    words, low, compared = [], 0, 0
    for name, own in found.items():
        before = kept["ratios"].get(name, {})
        words += [f"slower: {what}: {own[what]:.2f}, kept {before[what]:.2f}" for what in slower(own, before)]
        words += [f"not in this run: {what}" for what in before if what not in own]
        low, compared = low + len(slower(own, before)), compared + sum(what in before for what in own)
    if kept["machine"] != machine():
        words.append(f"kept on another machine: {kept['machine']}")
    return "\n".join([*words, f"{low} of {compared} ratios are lower than the kept ones by more than a tenth"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, about 3 minutes; compares with kept.json")
    parser.add_argument("--keep", action="store_true", help="--quick: write this run's ratios into kept.json")
    parser.add_argument("--only", nargs="+", choices=list(PLANS), help="these benchmarks (all)")
    parser.add_argument("--output", type=Path, default=Path("build/bench"), help="folder of bench.json (build/bench)")
    options = parser.parse_args()
    if options.keep and (options.only or not options.quick):
        parser.error("--keep keeps a whole run of --quick")
    names = options.only or [name for name in PLANS if not (options.quick and name in LONG)]
    options.output.mkdir(parents=True, exist_ok=True)
    compares = options.quick and not options.keep and KEPT.is_file()
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if compares else {"ratios": {}}
    found: dict[str, Any] = {}
    lines: dict[str, Sequence[Line]] = {}
    for name in names:
        found[name] = timed(name, quick=options.quick)
        lines[name] = list(LINES[name](found[name]))
        if slower(ratios(lines[name]), kept["ratios"].get(name, {})):
            lines[name] = better(lines[name], LINES[name](timed(name, quick=True)))
        (options.output / "bench.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(line for name in names for line in lines[name]))
    own = {name: ratios(lines[name]) for name in names}
    if options.keep:
        KEPT.write_text(json.dumps({"machine": machine(), "ratios": own}, indent=1) + "\n", encoding="utf-8")
    if compares:
        print(verdict(own, kept))


if __name__ == "__main__":
    main()
