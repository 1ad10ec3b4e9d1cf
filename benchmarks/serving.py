"""Reports a second from `r2gengpt serve`: many clients at once against one after the other; prints JSON.

The server is a process of its own on this machine, with the embedded model (`r2gengpt pull embedded`) or --model. Films
are drawn, each another one, and an answer counts only if it carries its film's hash; the first ones must say the same
both ways. Run: python benchmarks/serving.py > serving.json
"""

import argparse
import asyncio
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx2
import psutil
import torch
from training import versions

from r2gengpt.testing import noise_image

PATIENCE = 600.0


def film(seed: int, side: int) -> bytes:
    held = io.BytesIO()
    noise_image(seed, side).save(held, "PNG")
    return held.getvalue()


@contextmanager
def server(flags: list[str]) -> Iterator[tuple[str, psutil.Process]]:
    """Address and process of a server that is ready; it must end with 0."""
    command = [sys.executable, "-c", "from r2gengpt.cli.main import main; main()", "serve", "--port", "0", *flags]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert started.stdout is not None
        found = re.findall(r"http://\S+", started.stdout.readline())
        if not found:
            raise SystemExit("the server did not start")
        while httpx2.get(f"{found[0]}/ready").status_code != 200:
            time.sleep(0.2)
        yield found[0], psutil.Process(started.pid)
        started.send_signal(signal.SIGTERM)
        if started.wait(30):
            raise SystemExit(f"the server ended with {started.returncode}")
    finally:
        started.kill()


class Load(NamedTuple):
    """What a run of requests gave."""

    seconds: float
    latencies: list[float]
    answers: dict[int, str]
    wrong: int
    resident_mb: list[int]


async def ask_all(address: str, process: psutil.Process, films: list[bytes], clients: int) -> Load:
    """Every film once, from so many clients; memory is noted before, and at each tenth."""
    waiting = iter(range(len(films)))
    latencies: list[float] = []
    answers: dict[int, str] = {}
    resident = [process.memory_info().rss // 2**20]
    wrong = 0
    step = max(1, len(films) // 10)

    async def client() -> None:
        nonlocal wrong
        async with httpx2.AsyncClient(timeout=PATIENCE) as http:
            for number in waiting:
                start = time.perf_counter()
                given = await http.post(f"{address}/v1/reports", files={"images": ("film.png", films[number])})
                latencies.append(time.perf_counter() - start)
                answer = given.json()
                digest = hashlib.sha256(films[number]).hexdigest()
                if given.status_code != 200 or answer["provenance"]["inputs"][0]["sha256"] != digest:
                    wrong += 1
                    continue
                answers[number] = answer["findings"]
                if len(answers) % step == 0:
                    resident.append(process.memory_info().rss // 2**20)

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return Load(time.perf_counter() - start, latencies, answers, wrong, resident)


def share(values: list[float], part: float) -> float:
    """The value that this part of all values is at most."""
    return round(sorted(values)[max(0, int(part * len(values) + 0.999) - 1)], 3)


def measured(load: Load, studies: int) -> dict[str, Any]:
    return {
        "studies": studies,
        "answered_right": len(load.answers),
        "lost_or_mixed": studies - len(load.answers),
        "seconds": round(load.seconds, 2),
        "studies_per_second": round(studies / load.seconds, 3),
        "p50_seconds": share(load.latencies, 0.5),
        "p95_seconds": share(load.latencies, 0.95),
        "resident_mb": load.resident_mb,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded", help="as r2gengpt serve takes it (embedded)")
    parser.add_argument("--studies", type=int, default=200, help="studies at once (200)")
    parser.add_argument("--single", type=int, default=20, help="studies one after the other (20)")
    parser.add_argument("--clients", type=int, default=16, help="clients at once (16)")
    parser.add_argument("--slots", type=int, default=8, help="studies written at once (8)")
    parser.add_argument("--side", type=int, default=512, help="pixels of a film (512)")
    parser.add_argument("--new_tokens", type=int, help="longest report (the model's own)")
    options = parser.parse_args()
    flags = ["--model", options.model, "--slots", str(options.slots), "--request_timeout", str(PATIENCE)]
    flags += ["--queue_size", str(options.clients)]
    if options.new_tokens is not None:
        flags += ["--max_new_tokens", str(options.new_tokens)]
    films = [film(seed, options.side) for seed in range(options.studies)]
    with server(flags) as (address, process):
        asyncio.run(ask_all(address, process, [film(options.studies, options.side)], 1))  # the first is slower
        single = asyncio.run(ask_all(address, process, films[: options.single], 1))
        print("one after the other", measured(single, options.single), file=sys.stderr)
        many = asyncio.run(ask_all(address, process, films, options.clients))
    results = {"single": measured(single, options.single), "many": measured(many, options.studies)}
    same = sum(many.answers.get(number) == text for number, text in single.answers.items())
    ratio = results["many"]["studies_per_second"] / results["single"]["studies_per_second"]
    shown = {
        "benchmark": "serving",
        "setting": {**vars(options), "cpus": os.cpu_count(), "threads": torch.get_num_threads()},
        "versions": versions(),
        "results": results,
        "times_as_many": round(ratio, 2),
        "same_text_both_ways": f"{same} of {options.single}",
    }
    print(json.dumps(shown, indent=1))


if __name__ == "__main__":
    main()
