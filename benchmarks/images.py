"""Images a second of our decoding and of the plain way, on 2500-pixel PNG and JPEG films. Prints JSON; asserts nothing.

`plain` is Pillow's open().convert("RGB") and transformers' Pillow image processor at full resolution; `ours` is
`load_image(path, size=224)` and the same processor. `difference` is between the pixels that the two ways give the
encoder, in grey levels of 255. `overlap` is the time of a batch of JPEGs read by `plain` and used by work of the same
length (matrix products in one thread; `waiting` stands for work on another device): one after the other, and with
`read_ahead`. Run: python benchmarks/images.py > images.json
"""

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
import transformers
from PIL import Image

from r2gengpt.data.ahead import read_ahead
from r2gengpt.data.prepare.synthetic import draw_film
from r2gengpt.films.reader import load_image

SIDE, SIZE, FILMS, SECONDS, BATCHES = 2500, 224, 2, 2.0, 5


def write_films(directory: Path) -> dict[str, list[Path]]:
    """Drawn films with grain, as 8-bit grey PNG and JPEG, and as 16-bit PNG holding 12 bits."""
    files: dict[str, list[Path]] = {"png": [], "jpeg": [], "png16": []}
    for number in range(FILMS):
        rng = np.random.default_rng(number)
        film = draw_film("both", False, SIDE, rng)
        deep = np.asarray(film).astype(np.uint16) * 16 + rng.integers(0, 16, (SIDE, SIDE), dtype=np.uint16)
        for kind, image, options in (
            ("png", film, {}),
            ("jpeg", film, {"quality": 92}),
            ("png16", Image.fromarray(deep), {}),
        ):
            path = directory / f"{number}.{kind}"
            image.save(path, "JPEG" if kind == "jpeg" else "PNG", **options)
            files[kind].append(path)
    return files


def plain(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def ours(path: Path) -> Image.Image:
    return load_image(path, size=SIZE)


def rate(files: list[Path], load: Callable[[Path], Image.Image], process: Callable[[Image.Image], Any]) -> float:
    """Images a second on one core: by the processor time of the fastest run, which other load disturbs least."""
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < SECONDS:
        for path in files:
            start = time.process_time()
            process(load(path))
            best = min(best, time.process_time() - start)
    return 1 / best


def difference(files: list[Path], process: Callable[[Image.Image], Any]) -> dict[str, float]:
    """Mean and largest difference of the processed pixels; the processor's mean and deviation are one half."""
    gaps = [np.abs(process(plain(path)) - process(ours(path))) * 127.5 for path in files]
    return {"mean": float(np.mean(gaps)), "largest": float(np.max(gaps))}


def overlap(files: list[Path], process: Callable[[Image.Image], Any]) -> dict[str, float]:
    """Wall seconds of a batch: reading alone, then with work of about the same length, in turn and ahead."""
    torch.set_num_threads(1)
    matrix = torch.randn(512, 512)

    def batches() -> Iterator[Any]:
        for _ in range(BATCHES):
            yield [process(plain(path)) for path in files]

    def seconds(items: Iterable[Any], use: Callable[[], object]) -> float:
        start = time.perf_counter()
        for _ in items:
            use()
        return (time.perf_counter() - start) / BATCHES

    reading = min(seconds(batches(), lambda: None) for _ in range(2))
    once = min(seconds(range(BATCHES), lambda: matrix @ matrix) for _ in range(2))
    times = max(1, round(reading / once))

    def work() -> None:
        for _ in range(times):
            torch.mm(matrix, matrix)

    found = {"reading": reading}
    for name, use in (("work", work), ("waiting", lambda: time.sleep(reading))):
        found[f"{name}_in_turn"] = min(seconds(batches(), use) for _ in range(2))
        found[f"{name}_ahead"] = min(seconds(read_ahead(batches()), use) for _ in range(2))
    return found


def main() -> None:
    processor = transformers.ViTImageProcessorPil(size={"height": SIZE, "width": SIZE})
    results: dict[str, Any] = {}

    def process(image: Image.Image) -> Any:
        return processor(image, return_tensors="np")["pixel_values"]

    with tempfile.TemporaryDirectory() as name:
        for kind, files in write_films(Path(name)).items():
            rates: dict[str, Any] = {}
            for label, load in (("plain", plain), ("ours", ours)):
                rates[f"{label}_decode"] = rate(files, load, lambda image: image)
                rates[f"{label}_decode_and_process"] = rate(files, load, process)
            rates["speedup"] = rates["ours_decode_and_process"] / rates["plain_decode_and_process"]
            results[kind] = {key: round(value, 2) for key, value in rates.items()}
            if kind != "png16":  # plain Pillow clips these at 255: white films
                results[kind]["difference"] = {
                    key: round(value, 3) for key, value in difference(files, process).items()
                }
            if kind == "jpeg":
                results["overlap"] = {key: round(value, 3) for key, value in overlap(files, process).items()}
            print(kind, results[kind], file=sys.stderr)
    versions = {"python": platform.python_version(), "pillow": PIL.__version__, "numpy": np.__version__}
    versions |= {"transformers": transformers.__version__, "torch": torch.__version__}
    setting = {
        "side": SIDE,
        "size": SIZE,
        "unit": "images per second of one core",
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
    }
    print(json.dumps({"benchmark": "images", "setting": setting, "versions": versions, "results": results}, indent=1))


if __name__ == "__main__":
    main()
