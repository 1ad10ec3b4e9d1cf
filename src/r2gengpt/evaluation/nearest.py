"""The nearest-image baseline. Scores nothing.

A model that copies reports of similar films reaches this without writing a word; it needs no training.
"""

import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from r2gengpt.config import DataConfig
from r2gengpt.data.ahead import read_ahead
from r2gengpt.data.annotation import missing_images, read_studies
from r2gengpt.data.features.filling import IMAGES_AT_ONCE, Features, choices_of
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.films.reader import load_image
from r2gengpt.metrics.baselines import Baseline
from r2gengpt.progress import Bar
from r2gengpt.reporter import Reporter

log = logging.getLogger("r2gengpt.evaluation")
NAME = "nearest_image"
READ_UNASKED = 5_000
"""Training images that are read without a feature cache unless asked to: those of IU X-ray, not those of MIMIC-CXR."""
ROWS = 256
"""Studies compared with all training studies at once (a float32 table of 270 MB for MIMIC-CXR)."""


def training_studies(data: DataConfig, split: str, wanted: str) -> tuple[Study, ...]:
    """The training studies to look among.

    Args:
        data: how studies are read.
        split: what is being scored.
        wanted: `nearest_image`: True, False, or auto (with a feature cache, or where the images are few).

    Raises:
        LookupError: there are none to look among, or they are not wanted; says why.
        InputError: the train split is wrong, or there is nothing to look among although it is wanted.
    """
    if wanted == "False":
        raise LookupError("`nearest_image` False")
    try:
        return _studies(data, split, unasked=wanted == "auto" and data.feature_cache is None)
    except LookupError as reason:
        if wanted == "True":
            raise InputError(f"{reason}", field="nearest_image", value=True) from None
        raise


def reported_studies(data: DataConfig, split: str) -> tuple[Study, ...]:
    """The training studies that have a report to lend, whether or not their images are there.

    Raises:
        LookupError: there are none, or they are what is scored; says why.
        InputError: the train split is wrong.
    """
    if split == "train":
        raise LookupError("the train split itself is scored")
    records = json.loads(Path(data.annotation).read_text(encoding="utf-8-sig")).get("train")
    if not records:
        raise LookupError("the annotation file has no train split")
    if not all(isinstance(record, dict) and record.get("image_path") for record in records):
        raise LookupError("studies of the train split name no image")
    every = read_studies(data, ("train",))["train"]
    studies = tuple(study for study in every if study.report.strip())  # those with labels only have none to lend
    if not studies:
        raise LookupError("no study of the train split has a report")
    return studies


def _studies(data: DataConfig, split: str, *, unasked: bool) -> tuple[Study, ...]:
    studies = reported_studies(data, split)
    images = sum(len(study.image_paths) for study in studies)
    if missing := missing_images(studies):
        raise LookupError(f"{len(missing)} of {images} training images are not there")
    if unasked and images > READ_UNASKED:
        raise LookupError(f"{images} training images are to be read for it: `nearest_image` True, or `feature_cache`")
    return studies


def nearest_image(
    reporter: Reporter,
    train: Sequence[Study],
    studies: Sequence[Study],
    *,
    features: Features | None = None,
    threads: int = 1,
) -> Baseline:
    """For each study the report of the training study whose image features are nearest.

    A study's features are the vision encoder's, averaged over image tokens and views; the training studies' mean is
    taken off (raw features share a strong common part), and the cosine compares.

    Args:
        reporter: the model.
        train: studies with reports.
        studies: those being scored.
        features: of all images of both, from the cache; None: the images are read.
        threads: that read images.

    Raises:
        InputError: an image cannot be read.
    """
    of = features.of if features is not None else _reader(reporter, (*train, *studies), threads)
    places = nearest_places(pooled(train, of), pooled(studies, of))
    about = (
        f"the report of the training study, of {len(train)}, whose images are nearest: features of the vision encoder, "
        "averaged over tokens and views, centred, by cosine"
    )
    found = {study.id: train[place].report for study, place in zip(studies, places, strict=True)}
    return Baseline(about, found, human=True)


def pooled(studies: Sequence[Study], of: Callable[[Study], Tensor]) -> Tensor:
    """One vector a study, (S, E), of its features (V, N, E)."""
    return torch.stack([of(study).mean(dim=(0, 1)) for study in studies])


def nearest_places(train: Tensor, studies: Tensor) -> list[int]:
    """For each row of `studies` (S, E) the row of `train` (T, E) with the largest cosine, both centred on `train`."""
    centre = train.mean(dim=0)
    known = torch.nn.functional.normalize(train - centre, dim=1)
    wanted = torch.nn.functional.normalize(studies - centre, dim=1)
    return [int(place) for part in torch.split(wanted, ROWS) for place in (part @ known.T).argmax(dim=1)]


def _reader(reporter: Reporter, studies: Sequence[Study], threads: int) -> Callable[[Study], Tensor]:
    """A function like `Features.of`, from images that are read here; it keeps their means over tokens, (V, 1, E)."""
    choices = choices_of(studies)
    paths = list(choices)
    log.info("nearest image: reading %d images; `nearest_image` False leaves it out", len(paths))

    def pixels(path: Path) -> Tensor:
        return reporter.words.pixels([load_image(path, size=reporter.side, dicom=choices[path])])

    parts = [paths[at : at + IMAGES_AT_ONCE] for at in range(0, len(paths), IMAGES_AT_ONCE)]
    means: list[Tensor] = []
    with ThreadPoolExecutor(threads) as pool, Bar(desc="nearest image", total=len(paths), unit="image") as bar:
        for batch in read_ahead(torch.cat(list(pool.map(pixels, part))) for part in parts):
            means += reporter.encode(batch).mean(dim=1, keepdim=True)
            bar.update(len(batch))
    vectors = dict(zip(paths, means, strict=True))
    return lambda study: torch.stack([vectors[path] for path in study.image_paths])
