"""The feature cache of a run: which images it needs, which are there, and the pass that builds the rest. No training.

Processes that fill one cache at the same time need no lock: each takes one of the missing shards at random, looks for
what others have written meanwhile, and goes on until nothing is missing. A race costs a shard written twice.
"""

import json
import logging
import random
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from r2gengpt.data.ahead import read_ahead
from r2gengpt.data.features.cache import FeatureStore, digest, pack, record_type
from r2gengpt.data.identity import check_files
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError, RunError
from r2gengpt.files import check_writable, write_whole
from r2gengpt.films.containers import DicomChoice, is_dicom
from r2gengpt.films.reader import decode_image, read_file
from r2gengpt.model import R2GenGPTForConditionalGeneration, R2GenGPTProcessor
from r2gengpt.model.processing import decoded_size
from r2gengpt.progress import Bar

log = logging.getLogger("r2gengpt.data")
READING = 2
"""Raised whenever `load_image` reads an image otherwise than before: older features are then built anew."""
SHARD_BYTES = 32 * 2**20
"""Most bytes of a shard: what a killed process loses, and what a flipped bit costs."""
IMAGES_AT_ONCE = 8
"""Images that the encoder reads together; on a CPU in float32 the features do not depend on it (tested)."""
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""`precision` → the arithmetic that autocast gives the encoder; float32 for all others."""


class Features:
    """The features of a run's images, by path."""

    def __init__(self, store: FeatureStore, images: Mapping[Path, bytes]) -> None:
        self.store = store
        self.images = images

    def of(self, study: Study) -> Tensor:
        """The study's views, (V, N, E), float32.

        Raises:
            RunError: the cache was damaged since the run began.
        """
        return torch.stack([self.store.read(self.images[path]) for path in study.image_paths])


def weights_digest(module: torch.nn.Module) -> str:
    """A digest of all weights and buffers: names, types, shapes and bits."""

    def parts() -> Iterable[Any]:
        for name, tensor in sorted(module.state_dict().items()):
            yield f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode()
            yield tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()

    return digest(*parts()).hex()


def describe_space(
    model: R2GenGPTForConditionalGeneration, processor: R2GenGPTProcessor, storage: str, arithmetic: str
) -> dict[str, Any]:
    """All that features depend on besides the image, and how they are stored; its digest names the space."""
    encoder = {
        name: value
        for name, value in model.config.vision_config.to_dict().items()
        if name not in ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")
    }
    return {
        "encoder": encoder,
        "encoder_class": type(model.vision_tower).__name__,
        "encoder_weights": weights_digest(model.vision_tower),
        "global_only": bool(model.config.global_only),
        "image_processor": processor.image_processor.to_dict(),
        "image_processor_class": type(processor.image_processor).__name__,
        "reading": READING,
        "arithmetic": arithmetic,
        "storage": storage,
    }


def choices_of(studies: Iterable[Study]) -> dict[Path, DicomChoice]:
    """Path → what is asked of it as DICOM, for every image of the studies, in order."""
    return {path: study.dicom for study in studies for path in study.image_paths}


def image_digest(data: bytes, choice: DicomChoice) -> bytes:
    """What names the features of a file: its bytes, of several frames which, and whether it had to be a chest film."""
    if not is_dicom(data):
        return digest(data)
    frame = b"" if choice.frame is None else f"frame {choice.frame}".encode()
    return digest(data, frame, b"" if choice.force else b"chest film")


def hash_images(choices: Mapping[Path, DicomChoice]) -> dict[Path, bytes]:
    """Path → `image_digest`, for every image.

    Raises:
        InputError: a file cannot be read.
    """
    with ThreadPoolExecutor(4) as pool:  # hashing and reading let go of the interpreter
        found = pool.map(lambda path: image_digest(read_file(path), choices[path]), choices)
        return dict(zip(choices, found, strict=True))


def check_space(directory: Path, missing: int, record_bytes: int) -> None:
    """Count what will be written and refuse it before it is.

    Raises:
        InputError: the disk has less room.
    """
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    needed, free = missing * record_bytes, shutil.disk_usage(there).free
    if needed > free:
        raise InputError(
            f"{missing} images need {needed / 2**30:.2f} GiB, {free / 2**30:.2f} GiB are "
            "free; name another disk, or `feature_cache_dtype` float16 (half) or int8 (a quarter of float32)",
            field="feature_cache",
            value=directory,
        )


def encoding(
    model: R2GenGPTForConditionalGeneration, device: torch.device, autocast: torch.dtype | None
) -> Callable[[Tensor], Tensor]:
    """The function from pixels (K, 3, H, W) to features (K, N, E), float32 on the CPU, as training computes them."""

    @torch.no_grad()
    def encode(pixels: Tensor) -> Tensor:
        context: AbstractContextManager[Any] = nullcontext()
        if autocast is not None:
            context = torch.autocast(device.type, autocast)
        with context:
            return model.encode_views(pixels.unsqueeze(1).to(device)).float().cpu()

    return encode


def check_finite(features: Sequence[Tensor], paths: Sequence[Path]) -> None:
    """Keep numbers out of the cache that training could not use.

    Raises:
        RunError: names the first image whose features are not finite.
    """
    finite = [bool(torch.isfinite(image).all()) for batch in features for image in batch]
    if not all(finite):
        raise RunError(f"`feature_cache`: the encoder's features of image {paths[finite.index(False)]} are not finite")


def fill(
    store: FeatureStore,
    missing: Mapping[bytes, Path],
    encode: Callable[[Tensor], Tensor],
    processor: R2GenGPTProcessor,
    storage: str,
    choices: Mapping[Path, DicomChoice],
    threads: int = 1,
) -> tuple[int, int]:
    """Build what is missing, shard by shard; gives the number of images and of bytes that this process wrote.

    Raises:
        InputError: an image cannot be read, or changes meanwhile.
        RunError: features that cannot be stored, or no room on the disk.
    """
    rows = max(1, SHARD_BYTES // store.record.itemsize)
    keys, chance = sorted(missing), random.Random()
    shards = [keys[at : at + rows] for at in range(0, len(keys), rows)]
    chance.shuffle(shards)
    size = decoded_size(processor)

    def pixels(image: bytes) -> Tensor:
        data = read_file(missing[image])
        path, choice = missing[image], choices[missing[image]]
        if image_digest(data, choice) != image:
            raise InputError(f"image {path}: is being changed while the feature cache reads it")
        return processor.pixels([decode_image(data, str(path), size, choice)])

    built = written = 0
    with ThreadPoolExecutor(threads) as pool, Bar(desc="features", total=len(keys), unit="image") as bar:
        for shard in shards:
            store.scan(shard)
            todo = [image for image in shard if image not in store.places]
            parts = [todo[at : at + IMAGES_AT_ONCE] for at in range(0, len(todo), IMAGES_AT_ONCE)]
            bar.update(len(shard) - len(todo))
            features = []
            for batch in read_ahead(torch.cat(list(pool.map(pixels, part))) for part in parts):
                features.append(encode(batch))
                bar.update(len(batch))
            check_finite(features, [missing[image] for image in todo])
            if todo:
                written += store.write(pack(todo, torch.cat(features), storage))
                built += len(todo)
    return built, written


def cached_features(
    directory: str,
    storage: str,
    model: R2GenGPTForConditionalGeneration,
    processor: R2GenGPTProcessor,
    studies: Sequence[Study],
    *,
    device: torch.device,
    precision: str = "32-true",
    threads: int = 1,
) -> Features:
    """The features of all images of the studies, those that are missing built first. No image is opened afterwards.

    The model's encoder is moved to the device and put in eval mode.

    Raises:
        InputError: the directory cannot be written to or has no room, or an image cannot be read.
        RunError: features that cannot be stored.
    """
    root = Path(directory)
    check_writable(root, "feature_cache")
    begin = time.perf_counter()
    model.vision_tower.to(device).eval()
    autocast = AUTOCAST.get(precision)
    arithmetic = str(autocast or model.vision_tower.dtype).removeprefix("torch.")
    encode = encoding(model, device, autocast)
    side = decoded_size(processor)
    _, tokens, width = encode(processor.pixels([Image.new("RGB", (side, side))])).shape
    space = json.dumps(describe_space(model, processor, storage, arithmetic), sort_keys=True, indent=1, default=str)
    store = FeatureStore(root / digest(space.encode()).hex(), record_type(tokens, width, storage))
    choices = choices_of(studies)
    images = hash_images(choices)
    for study in studies:
        check_files(study)
    wanted = set(images.values())
    store.sweep()
    store.scan(wanted)
    missing = {image: path for path, image in images.items() if image not in store.places}
    found, built, written = len(wanted) - len(missing), 0, 0
    if missing:
        check_space(root, len(missing), store.record.itemsize)
        write_whole(store.directory / "space.json", space + "\n")
        built, written = fill(store, missing, encode, processor, storage, choices, threads)
    seconds = time.perf_counter() - begin
    log.info(
        "feature cache %s: %d of %d images found, %d built (%.1f MiB written, %.1f images/s)",
        store.directory, found, len(wanted), built, written / 2**20, len(wanted) / seconds,
    )  # fmt: skip
    return Features(store, images)
