"""Images a second through a frozen encoder into the feature cache, and studies a second out of it; prints JSON.

The encoder is the embedded DINOv2-S where `r2gengpt pull embedded` has
fetched it, and a Swin-B of random weights. Films are drawn, of --side pixels, PNG. `plain` is Pillow, transformers'
image processor and the encoder, one film after the other.
Run: python benchmarks/features.py > features.json
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from training import versions
from transformers import AutoModel, SwinConfig, ViTImageProcessorPil

from r2gengpt.config import ModelConfig
from r2gengpt.data.features.filling import cached_features
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.parts.assemble import Built, build_model
from r2gengpt.parts.embedded.cache import PREFIX, resolve
from r2gengpt.testing import noise_image, tiny_language_model


def write_swin_b(directory: Path) -> str:
    """Swin-B at 224 pixels with random weights."""
    config = SwinConfig(embed_dim=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32], image_size=224, window_size=7)
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(directory)
    ViTImageProcessorPil(size={"height": 224, "width": 224}).save_pretrained(directory)
    return str(directory)


def encoders(scratch: Path) -> dict[str, Built]:
    """Name → a model with that encoder; its language model is a tiny one that does nothing here."""
    words = str(tiny_language_model(scratch / "language"))
    found = {"swin_b": write_swin_b(scratch / "swin_b")}
    try:
        found["dinov2_s_embedded"] = str(resolve(f"{PREFIX}dinov2-s"))
    except InputError as error:
        print(f"dinov2_s_embedded: left out: {error}", file=sys.stderr)
    return {name: build_model(ModelConfig(vision_model=path, lm_model=words)) for name, path in found.items()}


def write_films(directory: Path, count: int, side: int) -> list[Study]:
    studies = []
    for number in range(count):
        path = directory / f"{number}.png"
        noise_image(number, side).save(path)
        studies.append(Study(path.stem, (path,)))
    return studies


def plain(built: Built, studies: list[Study]) -> None:
    """Each film by the library alone."""
    processor, tower = built.processor.image_processor, built.model.vision_tower
    with torch.no_grad():
        for study in studies:
            with Image.open(study.image_paths[0]) as film:
                tower(processor(film.convert("RGB"), return_tensors="pt")["pixel_values"])


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(built: Built, studies: list[Study], cache: Path) -> dict[str, float]:
    """One encoder."""

    def fill() -> Any:
        return cached_features(str(cache), "float32", built.model, built.processor, studies, device=torch.device("cpu"))

    built.model.eval()
    plain(built, studies[:1])
    count = len(studies)
    one_by_one, filling, again = seconds(lambda: plain(built, studies)), seconds(fill), seconds(fill)
    features = fill()
    reading = seconds(lambda: [features.of(study).sum() for study in studies])
    return {
        "plain_images_per_second": round(count / one_by_one, 2),
        "fill_images_per_second": round(count / filling, 2),
        "fill_ratio": round(one_by_one / filling, 2),
        "open_filled_cache_seconds": round(again, 3),
        "read_studies_per_second": round(count / reading, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32, help="films (32)")
    parser.add_argument("--side", type=int, default=512, help="their pixels (512)")
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "films").mkdir()
        studies = write_films(scratch / "films", options.images, options.side)
        for encoder, built in encoders(scratch).items():
            results[encoder] = measure(built, studies, scratch / f"cache-{encoder}")
            print(encoder, results[encoder], file=sys.stderr)
    setting = {**vars(options), "cpus": os.cpu_count(), "threads": torch.get_num_threads()}
    shown = {"benchmark": "features", "setting": setting, "versions": versions(), "results": results}
    print(json.dumps(shown, indent=1))


if __name__ == "__main__":
    main()
