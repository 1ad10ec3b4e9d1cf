"""Seconds from the start of `r2gengpt generate` to the report of one study, and where they go; prints JSON.

The embedded model and one of the program's own films. `command` is the wall time of the command as a user starts it,
the median of --repeats after one that fills the file cache. The stages are taken in processes of their own that do the
same steps: `import` of PyTorch, transformers and the program, `weights` read and placed, `image` decoded and resized,
`report` from pixels to the last token. `greedy w8a8` is the same without beams and in 8 bits.
Run: python benchmarks/latency.py > latency.json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import r2gengpt

FILM = str(Path(r2gengpt.__file__).parent / "examples" / "effusion.jpg")
PROGRAM = [sys.executable, "-c", "from r2gengpt.cli.main import main; main()", "generate", FILM]
WAYS: dict[str, dict[str, Any]] = {
    "default": {},
    "w8a8": {"quantization": "w8a8"},
    "greedy w8a8": {"quantization": "w8a8", "beam_size": 1},
}
"""Name → flags of the command."""


def command(given: dict[str, Any]) -> float:
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    start = time.perf_counter()
    subprocess.run([*PROGRAM, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def stages(given: dict[str, Any]) -> dict[str, Any]:
    """The steps of `r2gengpt generate`, timed; run in a fresh process."""
    clock = [time.perf_counter()]

    from r2gengpt.config import DecodeConfig
    from r2gengpt.films.sources import study_of
    from r2gengpt.locate import ModelChoice
    from r2gengpt.options import Override
    from r2gengpt.reporter import Reporter
    from r2gengpt.settings import PlacementConfig

    clock.append(time.perf_counter())
    placement, decode = Override.of(PlacementConfig, given), Override.of(DecodeConfig, given)
    reporter = Reporter.load(ModelChoice(placement=placement, decode=decode, accelerator="cpu"))
    clock.append(time.perf_counter())
    study = study_of([Path(FILM)], side=reporter.side)
    clock.append(time.perf_counter())
    (prediction,) = reporter.write([study])
    clock.append(time.perf_counter())
    names = ("import", "weights", "image", "report")
    found = {name: round(after - before, 2) for name, before, after in zip(names, clock, clock[1:], strict=False)}
    return {**found, "tokens": prediction.tokens}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of the command, of which the median counts (3)")
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(stages(WAYS[options.way])))
        return
    results = {}
    for way, given in WAYS.items():
        command(given)
        seconds = statistics.median(command(given) for _ in range(options.repeats))
        own = [sys.executable, __file__, "--way", way]
        done = subprocess.run(own, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        results[way] = {"command_s": round(seconds, 2), "stages_s": json.loads(done.stdout)}
        print(way, results[way], file=sys.stderr)
    setting = {"repeats": options.repeats, "cpus": os.cpu_count(), "film": Path(FILM).name}
    versions = {"r2gengpt": r2gengpt.__version__, "python": sys.version.split()[0]}
    print(json.dumps({"benchmark": "latency", "setting": setting, "versions": versions, "results": results}, indent=1))


if __name__ == "__main__":
    main()
