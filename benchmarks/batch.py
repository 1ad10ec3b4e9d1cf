"""How a bulk run grows: studies a second and peak memory at 1e2 to 1e4 small studies, and two actors against one.

Prints the rows of docs/scaling.md, and with --output also JSON. A tiny random model and drawn films of 48 pixels: what
is measured is the machinery, not a model. Each run is a process of its own with a Ray of its own; time is counted from
the first shard on: the start of Ray and the loading of the model are told apart. Run it where nothing else runs.
Run: python benchmarks/batch.py --output batch.json
"""

import argparse
import csv
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import transformers

from r2gengpt import __version__
from r2gengpt.testing import noise_image, tiny_language_model, tiny_vision_model

FILMS = 100
"""Different drawn films; a larger archive has links to them."""


def prepare(folder: Path, studies: int) -> None:
    """A tiny checkpoint and an archive of two-view studies, with a CSV file for any number of them."""
    from r2gengpt.checkpoint import save_checkpoint
    from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig
    from r2gengpt.parts.assemble import build_model
    from r2gengpt.settings import PlacementConfig
    from reporters import stored_of

    torch.manual_seed(0)
    model = ModelConfig(
        lm_model=str(tiny_language_model(folder, "stablelm")),
        vision_model=str(tiny_vision_model(folder, "vit")),
    )
    settings = stored_of(model, DataConfig(dataset="plain"), DecodeConfig())
    save_checkpoint(folder / "checkpoint", build_model(model, PlacementConfig(dtype="float32")), settings, "tiny")
    films = folder / "films"
    films.mkdir()
    for seed in range(FILMS):
        noise_image(seed).save(films / f"film{seed}.png")
    for number in range(studies):
        place = films / f"{number // 1000:04d}" / f"{number:07d}"
        place.mkdir(parents=True)
        for view in range(2):
            os.link(films / f"film{(2 * number + view) % FILMS}.png", place / f"{view}.png")


def listed(folder: Path, studies: int) -> Path:
    """A CSV file of the first so many studies."""
    path = folder / f"{studies}.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "image_path"])
        for number in range(studies):
            place = f"{number // 1000:04d}/{number:07d}"
            rows.writerow([f"{number:07d}", f"{place}/0.png;{place}/1.png"])
    return path


class Watch(threading.Thread):
    """Peak resident memory of Ray's workers, by what they are, in MiB; read while they live.

    `all` is the most that all processes, Ray's own among them, had together at one of the readings, each shared page
    once (PSS): the object store counts in it.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peaks: dict[str, float] = {}
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.5):
            together = 0.0
            for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
                try:
                    name, status = process.name(), Path(f"/proc/{process.pid}/status").read_text()
                    together += process.memory_full_info().pss / 2**20
                except (psutil.Error, OSError):
                    continue
                kind = "actor" if "ShardActor" in name or "MapWorker" in name else "decoder" if "decode" in name else ""
                if kind and "VmHWM" in status:
                    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
                    self.peaks[kind] = max(self.peaks.get(kind, 0.0), peak)
            self.peaks["all"] = max(self.peaks.get("all", 0.0), together)


def one(folder: Path, studies: int, actors: int, tokens: int, beams: int) -> dict[str, Any]:
    """One run, measured in this process."""
    from r2gengpt.batch import driver
    from r2gengpt.batch.listing import read_listing
    from r2gengpt.batch.model import BulkModel
    from r2gengpt.config import DecodeConfig
    from r2gengpt.locate import ModelChoice, locate
    from r2gengpt.options import Override
    from r2gengpt.settings import BatchConfig

    source, output = listed(folder, studies), folder / f"out-{studies}-{actors}-{tokens}"
    here: dict[str, Any] = {"input": str(source), "output": str(output), "base_dir": str(folder / "films")}
    batch = BatchConfig(**here, actors=actors, threads=1, decode_workers=1)
    given = {"beam_size": beams, "min_new_tokens": tokens, "max_new_tokens": tokens}
    choice = ModelChoice(str(folder / "checkpoint"), decode=Override(DecodeConfig, given), accelerator="cpu")
    located = BulkModel(locate(choice), batch)
    shards: list[tuple[float, int, float]] = []
    add = driver.Progress.add

    def noted(self: Any, shard: Any, seconds: float) -> None:
        add(self, shard, seconds)
        shards.append((time.monotonic(), self.totals.rows, time.process_time()))

    driver.Progress.add = noted  # type: ignore[method-assign]
    watch, start = Watch(), time.monotonic()
    watch.start()
    listing_seconds = timed(partial(read_listing, source, batch.base_dir, "all"))
    driver.run_batch(output, lambda: read_listing(source, batch.base_dir, "all"), located.settings, located.work)
    ended = time.monotonic()
    watch.ended.set()
    (first, early, spent), (last, late, spent_at_end) = shards[0], shards[-1]
    middle, half, _ = shards[len(shards) // 2]
    size = sum(path.stat().st_size for path in (output / "shards").iterdir())
    return {
        "studies": studies,
        "actors": actors,
        "seconds": last - first,
        "counted": late - early,
        "rate": (late - early) / (last - first) if last > first else None,
        "first_half_rate": (half - early) / (middle - first) if middle > first else None,
        "second_half_rate": (late - half) / (last - middle) if last > middle else None,
        "until_first_shard_s": first - start,
        "after_last_shard_s": ended - last,
        "driver_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "actor_peak_mib": watch.peaks.get("actor"),
        "decoder_peak_mib": watch.peaks.get("decoder"),
        "all_peak_mib": watch.peaks.get("all"),
        "driver_cpu_ms_a_study": 1000 * (spent_at_end - spent) / max(1, late - early),
        "listing_ms_a_study": 1000 * listing_seconds / studies,
        "bytes_a_row": size / studies,
    }


def timed(work: Any) -> float:
    """Seconds that it takes."""
    start = time.monotonic()
    work()
    return time.monotonic() - start


def apart(folder: Path, *words: object) -> dict[str, Any]:
    """`one` in a process of its own."""
    command = [sys.executable, __file__, "--one", str(folder), *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found), file=sys.stderr)  # so that a long series shows where it is
    return found


def straightness(runs: list[dict[str, Any]]) -> tuple[float, float]:
    """Seconds a study, and R² of seconds from the first shard to the last against the studies between them."""
    x, y = (np.array([run[name] for run in runs], dtype=float) for name in ("counted", "seconds"))
    slope, intercept = np.polyfit(x, y, 1)
    rest = ((y - slope * x - intercept) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    return float(slope), float(1 - rest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 3000, 10000], help="studies of each run")
    parser.add_argument("--tokens", type=int, default=8, help="tokens of a report, in the runs of --sizes")
    parser.add_argument("--two", type=int, default=400, help="studies of the run with two actors against one; 0: none")
    parser.add_argument("--two_tokens", type=int, default=60, help="tokens of a report there (3 beams)")
    parser.add_argument("--output", help="JSON file")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    space = parser.parse_args()
    if space.one:
        print(json.dumps(one(Path(space.one[0]), *map(int, space.one[1:]))))
        return
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, max([*space.sizes, space.two]))
        runs = [apart(folder, studies, 1, space.tokens, 1) for studies in space.sizes]
        pair = [apart(folder, space.two, actors, space.two_tokens, 3) for actors in (1, 2)] if space.two else []
    slope, square = straightness(runs) if len(runs) > 1 else (None, None)
    found = {
        "runs": runs,
        "seconds_a_study": slope,
        "r_squared": square,
        "two_actors": pair,
        "speedup": pair[1]["rate"] / pair[0]["rate"] if pair else None,
        "load_before": load,
        "load_after": os.getloadavg(),
        "cpus": os.cpu_count(),
        "versions": {"r2gengpt": __version__, "torch": torch.__version__, "transformers": transformers.__version__,
                     "python": platform.python_version()},
    }  # fmt: skip
    if space.output:
        Path(space.output).write_text(json.dumps(found, indent=1) + "\n")
    show(found)


def show(found: dict[str, Any]) -> None:
    """The rows of docs/scaling.md."""
    print("| studies | seconds | studies/s | first half, second half | MiB: driver | actor | decoder | all |")
    print("|---|---|---|---|---|---|---|---|")
    for run in found["runs"]:
        halves = ", ".join(f"{run[name] or 0:.1f}" for name in ("first_half_rate", "second_half_rate"))
        peaks = " | ".join(
            f"{run[name] or 0:.0f}"
            for name in ("driver_peak_mib", "actor_peak_mib", "decoder_peak_mib", "all_peak_mib")
        )
        print(f"| {run['studies']} | {run['seconds']:.1f} | {run['rate'] or 0:.1f} | {halves} | {peaks} |")
    if found["r_squared"] is not None:
        print(f"\nlinear fit: {1000 * found['seconds_a_study']:.2f} ms a study, R² {found['r_squared']:.5f}")
    last = found["runs"][-1]
    for name in ("driver_cpu_ms_a_study", "listing_ms_a_study", "bytes_a_row"):
        print(f"{name} (largest run): {last[name]:.3f}")
    for name in ("until_first_shard_s", "after_last_shard_s"):
        print(f"{name}: " + ", ".join(f"{run[name]:.2f}" for run in found["runs"]))
    if found["speedup"]:
        rates = " and ".join(f"{run['rate']:.2f}" for run in found["two_actors"])
        print(f"1 and 2 actors, one thread each: {rates} studies/s, {found['speedup']:.2f}x")
    print(f"load before and after: {found['load_before'][0]:.1f}, {found['load_after'][0]:.1f} on {found['cpus']} CPUs")


if __name__ == "__main__":
    main()
