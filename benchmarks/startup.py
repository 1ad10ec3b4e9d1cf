"""Wall time of the program's help texts and of the interpreter alone. Prints JSON; asserts nothing.

Run: python benchmarks/startup.py > startup.json
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

from r2gengpt import __version__

PROGRAM = [sys.executable, "-c", "from r2gengpt.cli import main; main()"]
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "r2gengpt --help": [*PROGRAM, "--help"],
    "r2gengpt train --help": [*PROGRAM, "train", "--help"],
    "r2gengpt score --help": [*PROGRAM, "score", "--help"],
}


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10, help="runs, of which the median counts (10)")
    repeats = parser.parse_args().repeats
    results = {}
    for name, command in COMMANDS.items():
        seconds(command)  # the first run fills the file cache
        times = [seconds(command) for _ in range(repeats)]
        results[name] = {"median_s": round(statistics.median(times), 4), "fastest_s": round(min(times), 4)}
        print(name, results[name], file=sys.stderr)
    versions = {"python": platform.python_version(), "r2gengpt": __version__}
    machine = {"repeats": repeats, "cpus": os.cpu_count(), "machine": platform.machine()}
    print(json.dumps({"benchmark": "startup", "setting": machine, "versions": versions, "results": results}, indent=1))


if __name__ == "__main__":
    main()
