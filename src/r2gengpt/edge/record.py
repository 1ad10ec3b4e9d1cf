"""What an edge directory holds and how it was made: `edge.json`, read, checked and written. Runs no graph.

Films become the encoder's pixels here too, with Pillow and numpy, as the record says that the image processor does it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from r2gengpt.confidence.findings import FINDINGS
from r2gengpt.config import DecodeConfig
from r2gengpt.errors import InputError
from r2gengpt.files import sha256_of
from r2gengpt.text.observations import hinted
from r2gengpt.text.prompt import PromptIds, encode_prompt, fill_template
from r2gengpt.text.written import NOTICE

RECORD = "edge.json"
FORMAT = "r2gengpt-edge-1"
LANGUAGE, VISION, TABLE, TOKENIZER = "language.xml", "vision.xml", "embeddings.npy", "tokenizer.json"
NEEDED = (LANGUAGE, VISION, TABLE, TOKENIZER)
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading a damaged record raises."""
COMPILED = "compiled"
"""A directory in an edge directory: where it is, OpenVINO keeps the compiled graphs in it for the next process."""
ACTIVATIONS = ("float32", "int8")
"""What the inputs of products with packed weights may be."""
AGAIN = "export it anew (`target` openvino); what lies in the cache, `r2gengpt pull embedded` makes anew"


@dataclass(frozen=True)
class FilmSettings:
    """What an image processor does, in this order; None leaves a step out.

    `size` (height, width) or `shortest` (the shorter side) with `resample` (Pillow's number), the middle `crop`
    (height, width), times `factor`, less `mean`, over `std` (a value a channel). `decoded` is the side in pixels that
    films are reduced for when they are read.
    """

    decoded: int
    size: tuple[int, int] | None = None
    shortest: int | None = None
    resample: int = 2
    crop: tuple[int, int] | None = None
    factor: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "FilmSettings":
        """The settings from JSON, whose lists become tuples.

        Raises:
            ValueError: it has an unknown key.
        """
        if unknown := set(values) - {f.name for f in fields(cls)}:
            raise ValueError(f"film has unknown {sorted(unknown)[0]}")
        settled: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**settled)


def film_pixels(film: Image.Image, settings: FilmSettings) -> npt.NDArray[np.float32]:
    """One film, mode RGB, as the encoder takes it: (3, H, W), float32."""
    values = np.moveaxis(np.asarray(_resized(film, settings)), -1, 0)
    if settings.crop is not None:
        top, left = ((side - kept) // 2 for side, kept in zip(values.shape[1:], settings.crop, strict=True))
        values = values[:, top : top + settings.crop[0], left : left + settings.crop[1]]
    pixels = values.astype(np.float32)
    if settings.factor is not None:
        pixels = (values.astype(np.float64) * settings.factor).astype(np.float32)
    if settings.mean is not None and settings.std is not None:
        mean, std = np.array(settings.mean, np.float32), np.array(settings.std, np.float32)
        pixels = (pixels - mean[:, None, None]) / std[:, None, None]
    return np.ascontiguousarray(pixels)


def view_pixels(films: Sequence[Image.Image], settings: FilmSettings) -> npt.NDArray[np.float32]:
    """The views of one study, (V, 3, H, W), float32."""
    return np.stack([film_pixels(film, settings) for film in films])


def _resized(film: Image.Image, settings: FilmSettings) -> Image.Image:
    if settings.size is not None:
        height, width = settings.size
    elif settings.shortest is not None:
        short, long = min(film.size), max(film.size)
        other = int(settings.shortest * long / short)
        width, height = (settings.shortest, other) if film.width <= film.height else (other, settings.shortest)
    else:
        return film
    return film.resize((width, height), Image.Resampling(settings.resample))


@dataclass(frozen=True)
class HintPrompt:
    """What a prompt with a hint is made of.

    `instruction` is what it asks for and `template` what stands around it. `symbols` is whether control tokens that are
    written out in the template are tokens. `opening` are the ids that every prompt begins with.
    """

    instruction: str
    template: str
    symbols: bool
    opening: tuple[int, ...]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "HintPrompt":
        """The settings from JSON, whose lists become tuples.

        Raises:
            ValueError: an unknown key, no text, or a template without the image's place.
        """
        prompt = cls(**{**values, "opening": tuple(int(token) for token in values["opening"])})
        if not isinstance(prompt.instruction, str) or not isinstance(prompt.symbols, bool):
            raise ValueError("its hint has no instruction")
        fill_template("", prompt.template)
        return prompt

    def ids(self, encode: Callable[[str, bool], list[int]], hint: str) -> PromptIds:
        """The prompt with a hint.

        Args:
            encode: text to ids; whether special tokens that are written out in it are tokens.
            hint: words.
        """
        prompt = fill_template(hinted(self.instruction, hint), self.template)
        return encode_prompt(lambda text: encode(text, self.symbols), prompt, self.opening)


@dataclass(frozen=True)
class EdgeRecord:
    """The settings of an edge directory.

    `source` is what it was made from (names of the parts, hashes of weights and delta, versions). `weights` is the form
    of the language model's linear layers, `activations` that of their inputs, `merged` whether LoRA is folded into
    them. `before` and `after` are the prompt's token ids around the image, `end` the token that ends a report, `limit`
    the language model's number of positions. `files` has bytes and SHA-256 of every other file. `hint` is what prompts
    with hints are made of; None: they have none. The vision graph has a finding head where findings.json is among the
    files.
    """

    source: Mapping[str, Any]
    weights: str
    merged: bool
    before: tuple[int, ...]
    after: tuple[int, ...]
    end: int
    limit: int | None
    film: FilmSettings
    decode: DecodeConfig
    files: Mapping[str, Mapping[str, Any]]
    hint: HintPrompt | None = None
    activations: str = "float32"


def film_side(directory: Path) -> int:
    """The side in pixels that films are reduced for, by the record alone; whether it is whole shows when it is loaded.

    Raises:
        InputError: no edge directory, or a damaged one.
    """
    path = directory / RECORD
    if not path.is_file():
        words = f"no {RECORD} there, so no model for `runtime` openvino; {AGAIN}"
        raise InputError(words, field="model", value=directory)
    try:
        return FilmSettings.of(json.loads(path.read_text(encoding="utf-8"))["film"]).decoded
    except DAMAGE as error:
        words = f"{RECORD} is damaged ({type(error).__name__}: {error}); {AGAIN}"
        raise InputError(words, field="model", value=directory) from None


def files_of(directory: Path) -> dict[str, dict[str, Any]]:
    """Bytes and SHA-256 of each file but the record itself, by name."""
    found = {}
    for path in sorted(directory.iterdir()):
        if path.name != RECORD:
            found[path.name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    return found


def write_record(directory: Path, record: EdgeRecord) -> None:
    """Write `edge.json` into a directory whose other files are there already."""
    content = {"format": FORMAT, "notice": NOTICE, **asdict(record)}
    if record.hint is None:
        del content["hint"]
    (directory / RECORD).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_record(directory: Path, field: str) -> EdgeRecord:
    """The record of an edge directory whose files are all as they were written.

    Raises:
        InputError: no edge directory, or a file is missing or has changed.
    """
    path, where = directory / RECORD, f"`{field}` {directory}"
    if not path.is_file():
        raise InputError(f"{where}: no {RECORD} there, so no model for `runtime` openvino; {AGAIN}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, must be {FORMAT}")
        values = {f.name: content[f.name] for f in fields(EdgeRecord) if f.name not in ("hint", "activations")}
        values["activations"] = ACTIVATIONS[ACTIVATIONS.index(content.get("activations", "float32"))]
        values["hint"] = HintPrompt.of(content["hint"]) if "hint" in content else None
        values["film"] = FilmSettings.of(values["film"])
        values["decode"] = DecodeConfig(**values["decode"])
        for name in ("before", "after"):
            values[name] = tuple(int(token) for token in values[name])
        record = EdgeRecord(**values)
        fault = _fault(directory, record.files, (*NEEDED, FINDINGS) if record.hint else NEEDED)
    except DAMAGE as error:
        raise InputError(f"{where}: {RECORD} is damaged ({type(error).__name__}: {error}); {AGAIN}") from None
    if fault:
        raise InputError(f"{where}: {fault}; {AGAIN}")
    return record


def _fault(directory: Path, files: Mapping[str, Mapping[str, Any]], needed: Sequence[str]) -> str:
    """What is wrong with the files against their record, or "" where nothing is."""
    for name in needed:
        if name not in files:
            raise ValueError(f"it lists no {name}")
    for name, known in files.items():
        path = directory / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != known["bytes"]:
            return f"{name} has {path.stat().st_size} bytes, must be {known['bytes']}"
        if sha256_of(path) != known["sha256"]:
            return f"{name} has changed since it was written"
    return ""
