"""Images a second of our decoding and of the plain way, on 2000-pixel PNG and JPEG films. Prints JSON; asserts nothing.

`plain` is Pillow's open().convert("RGB") and transformers' Pillow image processor at full resolution; `ours` is
`load_image(path, size=224)` and the same processor. Run: python benchmarks/images.py > images.json
"""

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import transformers
from PIL import Image

from r2gengpt.data.images import load_image
from r2gengpt.data.synthetic import draw_film

SIDE, SIZE, FILMS, SECONDS = 2000, 224, 2, 2.0


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


def main() -> None:
    processor = transformers.ViTImageProcessorPil(size={"height": SIZE, "width": SIZE})
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for kind, files in write_films(Path(name)).items():
            rates = {}
            for label, load in (("plain", plain), ("ours", ours)):
                rates[f"{label}_decode"] = rate(files, load, lambda image: image)
                rates[f"{label}_decode_and_process"] = rate(
                    files, load, lambda image: processor(image, return_tensors="np")["pixel_values"]
                )
            rates["speedup"] = rates["ours_decode_and_process"] / rates["plain_decode_and_process"]
            results[kind] = {key: round(value, 2) for key, value in rates.items()}
            print(kind, results[kind], file=sys.stderr)
    versions = {"python": platform.python_version(), "pillow": PIL.__version__, "numpy": np.__version__}
    versions["transformers"] = transformers.__version__
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
