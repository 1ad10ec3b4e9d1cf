"""A trained model writes what the image shows, and stops being right when the images are shuffled."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import TinySet
from placements import FLOAT32
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.config import RunConfig
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.prepare.synthetic import read_label, write_synthetic
from r2gengpt.data.study import Study
from r2gengpt.evaluation.run import Evaluation, predict_studies
from r2gengpt.testing import tiny_language_model, tiny_vision_model
from r2gengpt.training.run import train
from reporters import reporter_of
from training_settings import small_run

REPORTS = {
    (False, False): "The lungs are clear.",
    (True, False): "There is an opacity in the right lower lung.",
    (False, True): "There is an opacity in the left lower lung.",
    (True, True): "There are opacities in both lower lungs.",
}
"""(bright on the image's lower left, on its lower right) → words; the patient's right is on the image's left."""


def draw_squares(directory: Path, sizes: dict[str, int]) -> TinySet:
    """Noise with a bright square in the lower left, lower right, both or neither, in equal shares."""
    rng = np.random.default_rng(0)
    images = directory / "images"
    images.mkdir(parents=True)
    splits: dict[str, list[dict[str, Any]]] = {}
    for split, size in sizes.items():
        splits[split] = []
        for index in range(size):
            shown = list(REPORTS)[index % 4]
            pixels = rng.integers(0, 90, (32, 32))
            for bright, column in zip(shown, (4, 20), strict=True):
                row, shift = rng.integers(18, 23), rng.integers(-3, 4)
                if bright:
                    pixels[row : row + 8, column + shift : column + shift + 8] += 140
            name = f"{split}{index}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(images / name)
            splits[split].append({"id": f"{split}{index}", "report": REPORTS[shown], "image_path": [name]})
    annotation = directory / "annotation.json"
    annotation.write_text(json.dumps(splits), encoding="utf-8")
    return TinySet(annotation, images)


def tiny_pair(directory: Path, width: int) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tiny_language_model(directory, "stablelm", width=width)
        tiny_vision_model(directory, "vit")
    return directory


def trained_on(data: TinySet, directory: Path, *, epochs: int, rate: float) -> RunConfig:
    parts = tiny_pair(directory / "parts", 64)
    model = {"alignment": "deep", "llm_r": 16, "llm_alpha": 32, "lora_dropout": 0.0,
             "vision_model": str(parts / "vision-vit")}  # fmt: skip
    settings = small_run(
        parts, data, directory / "run", model=model, read={"batch_size": 16}, learning_rate=rate, max_epochs=epochs,
        gradient_clip_val=1.0, limit_val_batches=0.0,
    )  # fmt: skip
    train(settings, FLOAT32)
    return settings


def share_right(directory: Path, studies: tuple[Study, ...]) -> float:
    built, settings = load_checkpoint(directory / "run" / "last", where=FLOAT32)
    assert settings.flat()["dataset"] == "plain"
    decode = small_run(Path(), TinySet(Path(), Path()), Path("run")).decode
    decode = replace(decode, repetition_penalty=1.0, max_new_tokens=60)
    predictions = predict_studies(reporter_of(built, decode), Evaluation(studies, (), "plain", batch_size=40))
    return sum(read_label(p.text) == read_label(p.reference) for p in predictions) / len(predictions)


def with_shuffled_images(studies: tuple[Study, ...]) -> tuple[Study, ...]:
    images = [study.image_paths for study in studies]
    random.Random(1).shuffle(images)
    return tuple(replace(study, image_paths=paths) for study, paths in zip(studies, images, strict=True))


def test_words_follow_the_image_on_unseen_studies_and_not_when_images_are_shuffled(trained_squares: Path) -> None:
    studies = read_annotation(
        trained_squares / "set" / "annotation.json", trained_squares / "set" / "images", ("test",)
    )
    assert all(read_label(study.report) for study in studies["test"])
    assert share_right(trained_squares, studies["test"]) > 0.95
    assert (
        share_right(trained_squares, with_shuffled_images(studies["test"])) < 0.45
    )  # four classes: chance is .25, deviation .05


@pytest.mark.drill
def test_words_follow_drawn_films_too(tmp_path: Path) -> None:
    annotation = write_synthetic(tmp_path / "set", train=1200, val=4, test=80, seed=1, size=64)
    data = TinySet(annotation, annotation.parent / "images")
    trained_on(data, tmp_path, epochs=30, rate=3e-3)
    studies = read_annotation(data.annotation, data.base_dir, ("test",))["test"]
    assert share_right(tmp_path, studies) > 0.95
    assert share_right(tmp_path, with_shuffled_images(studies)) < 0.45
