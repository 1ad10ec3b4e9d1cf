"""Seconds from the start of `r2gengpt generate` to the report of one study, and where they go; prints JSON.

The embedded model and one of the program's own films, by the graphs that `r2gengpt pull embedded` makes and by PyTorch.
`command_s` is the wall time of the command as a user starts it, the median of --repeats after one that fills the file
cache. The stages are taken in a process of its own, from Python: `import` of the program, `load` of the model, `first`
from the film to the first word, and `rest` from there to the last. `tokens_per_second` are those of `rest`, streamed.
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

START = time.perf_counter()
PACKAGE = Path(__file__).parents[1] / "src" / "r2gengpt"
FILM = str(PACKAGE / "examples" / "effusion.jpg")
PROGRAM = [sys.executable, "-c", "from r2gengpt.cli.main import main; main()", "generate", FILM]
RUNTIMES = ("openvino", "torch")


def command(runtime: str) -> float:
    start = time.perf_counter()
    words = [*PROGRAM, "--runtime", runtime]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def stages(runtime: str, start: float) -> dict[str, Any]:
    """The steps from Python, timed; run in a fresh process that began at `start`."""
    import r2gengpt

    load = r2gengpt.load
    clock = [start, time.perf_counter()]
    reporter = load("embedded", runtime=runtime)
    clock.append(time.perf_counter())
    words: list[float] = []
    report = reporter.report([FILM], on_text=lambda _: words.append(time.perf_counter()))
    clock += [words[0], words[-1]]
    names = ("import", "load", "first", "rest")
    found = {name: round(after - before, 2) for name, before, after in zip(names, clock, clock[1:], strict=False)}
    return {"stages_s": found, "tokens_per_second": round(report.tokens / (words[-1] - words[0]), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of the command, of which the median counts (3)")
    parser.add_argument("--stages", choices=RUNTIMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stages:
        print(json.dumps(stages(options.stages, START)))
        return
    from r2gengpt import __version__

    results: dict[str, dict[str, Any]] = {}
    for runtime in RUNTIMES:
        command(runtime)
        seconds = statistics.median(command(runtime) for _ in range(options.repeats))
        own = [sys.executable, __file__, "--stages", runtime]
        done = subprocess.run(own, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        results[runtime] = {"command_s": round(seconds, 2), **json.loads(done.stdout)}
        print(runtime, results[runtime], file=sys.stderr)
    setting = {"repeats": options.repeats, "cpus": os.cpu_count(), "film": Path(FILM).name}
    versions = {"r2gengpt": __version__, "python": sys.version.split()[0]}
    print(json.dumps({"benchmark": "latency", "setting": setting, "versions": versions, "results": results}, indent=1))


if __name__ == "__main__":
    main()
