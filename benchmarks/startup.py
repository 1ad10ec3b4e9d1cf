"""Wall time of help texts, of scoring and comparing ten studies, and of the interpreter alone. JSON; asserts nothing.

With --servers also of `r2gengpt serve` until it is ready, with the embedded model (`r2gengpt pull embedded`).
Run: python benchmarks/startup.py > startup.json
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from r2gengpt import __version__

PROGRAM = [sys.executable, "-c", "from r2gengpt.cli.main import main; main()"]
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "r2gengpt --help": [*PROGRAM, "--help"],
    "r2gengpt train --help": [*PROGRAM, "train", "--help"],
    "r2gengpt score --help": [*PROGRAM, "score", "--help"],
    "r2gengpt score, 10 studies": [*PROGRAM, "score", "--predictions", "FILE", "--meteor", "none"],
    "r2gengpt score with METEOR, 10 studies": [*PROGRAM, "score", "--predictions", "FILE"],
    "r2gengpt compare, 10 studies": [*PROGRAM, "compare", "FILE", "FILE", "--meteor", "none"],
}
"""Name → command; FILE stands for predictions that are made here."""

SERVERS = {"r2gengpt serve until ready": [], "r2gengpt serve --runtime torch until ready": ["--runtime", "torch"]}
"""Name → flags of `serve`."""


def predictions(directory: str) -> str:
    """A file of ten made-up predictions with their references."""
    path = Path(directory, "predictions.jsonl")
    texts = [(f"the lungs are clear , level {i} .", f"lungs clear , level {i} of {i + 1} .") for i in range(10)]
    lines = [{"id": str(i), "prediction": one, "reference": other} for i, (one, other) in enumerate(texts)]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return str(path)


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def summary(name: str, times: list[float]) -> dict[str, float]:
    """The median and the fastest, which are also printed."""
    found = {"median_s": round(statistics.median(times), 4), "fastest_s": round(min(times), 4)}
    print(name, found, file=sys.stderr)
    return found


def until_ready(flags: list[str]) -> float:
    """Seconds until a server says that it can write a report; it is ended then."""
    start = time.perf_counter()
    command = [*PROGRAM, "serve", "--port", "0", *flags]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        ready = "ready\n" in server.stderr
        took = time.perf_counter() - start
        server.terminate()
    if not ready:
        raise SystemExit("the server did not start")
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10, help="runs, of which the median counts (10)")
    parser.add_argument("--servers", action="store_true", help="measure servers too")
    options = parser.parse_args()
    repeats, results = options.repeats, {}
    with tempfile.TemporaryDirectory() as directory:
        file = predictions(directory)
        for name, words in COMMANDS.items():
            command = [file if word == "FILE" else word for word in words]
            seconds(command)  # the first run fills the file cache
            times = [seconds(command) for _ in range(repeats)]
            results[name] = summary(name, times)
    for name, flags in SERVERS.items() if options.servers else ():
        results[name] = summary(name, [until_ready(flags) for _ in range(repeats)])
    versions = {"python": platform.python_version(), "r2gengpt": __version__}
    machine = {"repeats": repeats, "cpus": os.cpu_count(), "machine": platform.machine()}
    print(json.dumps({"benchmark": "startup", "setting": machine, "versions": versions, "results": results}, indent=1))


if __name__ == "__main__":
    main()
