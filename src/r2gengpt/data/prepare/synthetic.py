"""Drawn chest films whose report follows from the picture, for demos and tests. Not data to learn medicine from.

A bright opacity lies at the base of the left lung, the right lung, both or neither, and the heart is normal or wide;
the words say so. A model that ignores the image cannot do better than chance on these reports.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from r2gengpt.data.annotation import SPLITS, write_annotation
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.files import check_writable, whole_directory

LABELS = ("left", "right", "both", "neither")
"""The patient's lungs with an opacity. As on any film, the patient's left is on the image's right."""
SENTENCES = {
    "left": ("There is an opacity in the left lower lung.", "An opacity is seen at the left lung base."),
    "right": ("There is an opacity in the right lower lung.", "An opacity is seen at the right lung base."),
    "both": ("There are opacities in both lower lungs.", "Opacities are seen at both lung bases."),
    "neither": ("The lungs are clear.", "There is no opacity in either lung."),
}
HEARTS = {False: "The heart is normal in size.", True: "The heart is enlarged."}
MAX_STUDIES = 100_000

Pixels = npt.NDArray[np.float64]


def read_label(text: str) -> str | None:
    """Which of `LABELS` a report states, by the sentences above; None where it states none or two that differ.

    Case, punctuation and white space make no difference, so cleaned and generated reports can be read.

    >>> read_label("the heart is enlarged . there are opacities in both lower lungs .")
    'both'
    """
    words = _words(text)
    found = {label for label, sentences in SENTENCES.items() if any(_words(s) in words for s in sentences)}
    return found.pop() if len(found) == 1 else None


def _words(text: str) -> str:
    return f" {' '.join(re.findall(r'[a-z]+', text.lower()))} "


def write_report(label: str, wide_heart: bool, rng: np.random.Generator) -> str:
    """Three sentences, the one on the lungs in one of two wordings; their content is fixed by the arguments."""
    lungs = SENTENCES[label][rng.integers(len(SENTENCES[label]))]
    return " ".join([HEARTS[wide_heart], lungs, "No pneumothorax is seen."])


def draw_film(label: str, wide_heart: bool, size: int, rng: np.random.Generator) -> Image.Image:
    """Draw a frontal film of a random patient: body, lungs, ribs, heart, diaphragm, opacities, grain.

    Args:
        label: one of `LABELS`.
        wide_heart: whether the heart is enlarged.
        size: side in pixels.
        rng: where the patient's build, position and exposure come from.

    Returns:
        Mode L, square.
    """
    scale, dx, dy = rng.uniform(0.88, 1.02), rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03)
    rows, columns = np.mgrid[0:size, 0:size] / (size - 1) * 2 - 1  # the film is -1 to 1, rows downwards
    x, y = (columns - dx) / scale, (rows - dy) / scale
    width = rng.uniform(0.93, 1.07)
    lungs = np.maximum(_lung(x, y, -1, width, rng), _lung(x, y, 1, width, rng))
    heart_width = rng.uniform(0.44, 0.50) if wide_heart else rng.uniform(0.26, 0.31)
    film = 0.58 * _body(x, y, width)
    film += lungs * (0.03 * _ribs(x, y, rng) + 0.012 * _clouds(size, 20, rng) - 0.42)
    film += 0.36 * lungs * _mediastinum(x, y, heart_width) + 0.05 * _ellipse(x, y, 0.0, 0.0, 0.09, 1.2, 0.06)
    for side in (-1, 1):
        film += 0.06 * _clavicle(x, y, side)
        opacity = _opacity(x, y, side, width, rng) * lungs  # drawn always: the label moves no other chance
        if label in ("both", "right" if side < 0 else "left"):  # the patient's right is at negative x
            film += opacity
    film = 0.04 + film * rng.uniform(0.95, 1.2) + rng.normal(0, 0.025, x.shape)
    pixels = np.clip(film * 255, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(size / 448))


def _soft(depth: Pixels, edge: float) -> Pixels:
    """0 to 1 across an edge of about this width, where depth is the distance inside."""
    result: Pixels = 1 / (1 + np.exp(np.clip(-4 * depth / edge, -60, 60)))
    return result


def _ellipse(x: Pixels, y: Pixels, cx: float, cy: float, rx: float, ry: float, edge: float) -> Pixels:
    """1 inside, 0 outside."""
    return _soft((1 - np.hypot((x - cx) / rx, (y - cy) / ry)) * min(rx, ry), edge)


def _body(x: Pixels, y: Pixels, width: float) -> Pixels:
    """Neck, shoulders and trunk."""
    trunk = _soft(1 - np.abs(x / (0.98 * width)) ** 4 - np.abs((y - 0.5) / 1.32) ** 4, 0.15)
    shoulders = _soft(y + 0.92 - 0.28 * np.abs(x) ** 1.6, 0.12)
    return np.maximum(trunk * shoulders, _ellipse(x, y, 0.0, -1.0, 0.26, 0.5, 0.08))


def _mediastinum(x: Pixels, y: Pixels, heart_width: float) -> Pixels:
    """Great vessels and heart, which lies to the patient's left."""
    heart = _ellipse(x + 0.25 * (y - 0.36), y, 0.1 + 0.3 * (heart_width - 0.28), 0.36, heart_width, 0.34, 0.06)
    knob = _ellipse(x, y, 0.1, -0.22, 0.13, 0.14, 0.05)
    return np.maximum(np.maximum(heart, knob), _ellipse(x, y, 0.0, -0.2, 0.15, 1.0, 0.06))


def _lung(x: Pixels, y: Pixels, side: int, width: float, rng: np.random.Generator) -> Pixels:
    """A lung field: narrower at its top, cut off below by the dome of the diaphragm."""
    centre = side * (0.43 + 0.07 * y) * width
    field = _ellipse(x - centre, y, 0.0, 0.0, 0.36 * width, 0.82, 0.05)
    height = rng.uniform(0.50, 0.56) - (0.05 if side < 0 else 0.0)  # the right dome stands higher
    dome = _ellipse(x, y, side * 0.45 * width, height + 0.6, 0.62 * width, 0.6, 0.05)
    return field * (1 - dome)


def _ribs(x: Pixels, y: Pixels, rng: np.random.Generator) -> Pixels:
    """Bright bands that fall outwards."""
    waves = np.sin(2 * np.pi * (3.4 * (y - 0.5 * np.abs(x) ** 1.5) + rng.uniform(0, 1)))
    result: Pixels = np.clip(waves * 2 - 0.4, 0, 1.2)
    return result


def _clavicle(x: Pixels, y: Pixels, side: int) -> Pixels:
    """A thin bright bar over the top of a lung."""
    outwards = side * x
    bar = _soft(0.035 - np.abs(y + 0.62 + 0.16 * outwards - 0.1 * outwards**2), 0.03)
    return bar * _soft(outwards - 0.1, 0.05) * _soft(0.8 - outwards, 0.1)


def _opacity(x: Pixels, y: Pixels, side: int, width: float, rng: np.random.Generator) -> Pixels:
    """A cloudy spot at a lung's base."""
    cx, cy = side * rng.uniform(0.50, 0.60) * width, rng.uniform(0.26, 0.36)
    rx, ry = rng.uniform(0.16, 0.22), rng.uniform(0.14, 0.20)
    spot = np.exp(-(((x - cx) / rx) ** 2) - ((y - cy) / ry) ** 2)
    clouds = 1 + 0.2 * np.clip(_clouds(len(x), 20, rng), -1, 1)
    result: Pixels = rng.uniform(0.36, 0.46) * spot * clouds
    return result


def _clouds(size: int, cells: int, rng: np.random.Generator) -> Pixels:
    """Smooth noise of about unit deviation, (size, size), with this many cells a side."""
    coarse = Image.fromarray(rng.normal(0, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64)


def write_synthetic(directory: str | Path, *, train: int, val: int, test: int, seed: int, size: int = 224) -> Path:
    """Draw studies of one frontal film each, with equally many of each label, and write their annotation file.

    Args:
        directory: where to, with the images in `images/` as grey PNG files: a new or empty directory.
        train: training studies.
        val: validation studies.
        test: test studies.
        seed: fixes every pixel and word.
        size: side of the films in pixels.

    Returns:
        The annotation file, `annotation.json`; its `base_dir` is `images` beside it.

    Raises:
        InputError: a count or size out of range, or the directory holds something already.
    """
    target = Path(directory)
    counts = dict(zip(SPLITS, (train, val, test), strict=True))
    for split, count in counts.items():
        if not 0 <= count <= MAX_STUDIES:
            raise InputError(f"must be from 0 to {MAX_STUDIES}", field=split, value=count, limit=MAX_STUDIES)
    if not 32 <= size <= 4096:
        raise InputError("must be from 32 to 4096 pixels", field="size", value=size)
    if seed < 0:
        raise InputError("must be at least 0", field="seed", value=seed)
    check_writable(target, "output")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError("exists already: must be a new or empty directory", field="output", value=target)
    try:
        with whole_directory(target) as temporary:
            studies = {
                split: [
                    _write_study(temporary / "images", split, i, label, size, rng) for i, label in enumerate(labels)
                ]
                for (split, count), rng in zip(counts.items(), np.random.default_rng(seed).spawn(3), strict=True)
                for labels in [_labels(count, rng)]
            }
            write_annotation(temporary / "annotation.json", studies)
    except OSError as error:
        raise InputError(f"{error.strerror or error}", field="output", value=target) from None
    return target / "annotation.json"


def _labels(count: int, rng: np.random.Generator) -> Sequence[str]:
    """Equally many of each label, as far as the count allows, in random order."""
    return [LABELS[i % len(LABELS)] for i in rng.permutation(count)]


def _write_study(images: Path, split: str, index: int, label: str, size: int, rng: np.random.Generator) -> Study:
    """Draw one film and write its report."""
    wide_heart = bool(rng.integers(2))
    name = f"{split}{index:05d}"
    path = Path(name, "0.png")
    (images / path).parent.mkdir(parents=True)
    draw_film(label, wide_heart, size, rng).save(images / path)
    return Study(name, (path,), write_report(label, wide_heart, rng), split, views=("PA",))
