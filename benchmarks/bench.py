"""All benchmarks in turn: one table on stdout, and one JSON file with all figures, versions and flags. Times nothing.

Each file of this folder runs in a process of its own and is told sizes by `PLANS`: `--quick` small ones, to see that
nothing has become slow (under 3 minutes on 2 quiet cores); else those that the README's figures are from (an hour or
more, and 12 GB of disk for the weights of StableLM-3B's size). Run it where nothing else runs.
Run: python benchmarks/bench.py [--quick] --output build/bench
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
ORIGINAL_SIZE = (
    "--hidden_size 1024 --layers 12 --heads 16 --intermediate_size 2736 --vision_width 128 --vision_depth 18 "
    "--batch_size 6 --threads 2"
)
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
    "large": Plan(f"{SMALL_3B} --kinds bfloat16 nf4 w8a8 --generate bfloat16", ""),
    "memory": Plan("", "--dtype float32"),
}
"""Benchmark → its flags; `memory` is not among the quick ones."""


class Line(NamedTuple):
    """A line of the table: what, ours, the other side's, and how many times better; None where there is none."""

    what: str
    ours: str
    other: str = ""
    ratio: float | None = None


def startup(found: dict[str, Any]) -> Iterator[Line]:
    for name, one in found["results"].items():
        yield Line(name, f"{one['median_s']:.2f} s")


def latency(found: dict[str, Any]) -> Iterator[Line]:
    for name, one in found["results"].items():
        stages = ", ".join(f"{stage} {value}" for stage, value in one["stages_s"].items())
        yield Line(f"`r2gengpt generate`, embedded, {name} ({stages})", f"{one['command_s']:.2f} s")


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
        what = f"decoding, {name.replace('_', ' ')}, against `generate` ({same})"
        yield Line(what, f"{one['fast_tokens_per_second']} tokens/s", f"{one['hf_tokens_per_second']}", one["ratio"])
        if "w8a8_tokens_per_second" in one:
            ratio = one["w8a8_tokens_per_second"] / one["hf_tokens_per_second"]
            first = f", first token after {one['w8a8_seconds_to_first_token']} s"
            ours = f"{one['w8a8_tokens_per_second']} tokens/s"
            yield Line(f"the same in w8a8{first}", ours, f"{one['hf_tokens_per_second']}", round(ratio, 2))


def serving(found: dict[str, Any]) -> Iterator[Line]:
    many, single = found["results"]["many"], found["results"]["single"]
    clients, lost = found["setting"]["clients"], many["lost_or_mixed"]
    ours, other = (f"{one['studies_per_second']} studies/s" for one in (many, single))
    what = (
        f"{many['studies']} studies served to {clients} clients, {lost} lost or mixed up, against one after the other"
    )
    yield Line(what, ours, other, found["times_as_many"])
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
            what = f"{size}, {kind}, {name.replace('_', ' ')}: share of the limit of {limit} passes/s"
            yield Line(what, f"{one['fast_seconds']} s, {one['fast_share_of_limit']}")
            if "hf_seconds" in one:
                same = "same tokens" if one["identical"] else "other tokens"
                yield Line(
                    f"… against `generate` ({same})", f"{one['fast_seconds']} s", f"{one['hf_seconds']} s", one["ratio"]
                )


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
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def table(lines: list[Line]) -> str:
    """Lines as a Markdown table."""
    rows = ["| what | ours | other side | ratio |", "|---|---|---|---|"]
    for line in lines:
        ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
        rows.append(f"| {line.what} | {line.ours} | {line.other} | {ratio} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, under 3 minutes")
    parser.add_argument("--only", nargs="+", choices=list(PLANS), help="these benchmarks (all)")
    parser.add_argument("--output", type=Path, default=Path("build/bench"), help="folder of bench.json (build/bench)")
    options = parser.parse_args()
    names = options.only or [name for name in PLANS if not (options.quick and name == "memory")]
    options.output.mkdir(parents=True, exist_ok=True)
    found, lines = {}, []
    for name in names:
        words = (PLANS[name].quick if options.quick else PLANS[name].whole).split()
        start = time.perf_counter()
        found[name] = {**run(name, words), "flags": words}
        found[name]["wall_seconds"] = round(time.perf_counter() - start, 1)
        print(f"{name}: {found[name]['wall_seconds']} s", file=sys.stderr)
        lines += LINES[name](found[name])
        (options.output / "bench.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(lines))


if __name__ == "__main__":
    main()
