"""What Ray's workers do with a shard: films read and decoded on CPUs, then rows by an actor that holds the model.

Reading and decoding are one task: Ray would run them in one process anyway, and a shard's files, ten times the size of
what the encoder takes, then never lie in memory together. Makers come pickled: Ray's own process loads no model code.
"""

import hashlib
import logging
import pickle
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from r2gengpt.batch.listing import StudyFiles
from r2gengpt.batch.shards import BatchRow, Failure, Input, json_lines
from r2gengpt.errors import InputError, RunError
from r2gengpt.films.cell.pool import cell_with, decode_image
from r2gengpt.films.containers import DicomChoice
from r2gengpt.films.film import Pixels, check_together, header_in, note_of
from r2gengpt.films.reader import read_file
from r2gengpt.report import Report
from r2gengpt.settings import CellConfig
from r2gengpt.text.written import json_text

log = logging.getLogger("r2gengpt.batch")
PixelMaker = Callable[[list[bytes], list[str]], Pixels]
"""Contents and names of a study's files → (V, 3, H, W), float32.

Raises:
    InputError: a file is no film that can be decoded.
"""


@dataclass(frozen=True)
class Decoded:
    """A study as the model's actor gets it: `pixels` (V, 3, H, W), float32, or why there are none."""

    id: str
    inputs: tuple[Input, ...]
    pixels: Pixels | None
    failure: Failure | None = None
    note: str = ""
    """What is doubtful about whose images these are."""


class Views(Protocol):
    """What makes a model's pixels of films; a stand-in in tests."""

    @property
    def side(self) -> int:
        """What films are reduced for, in pixels."""
        ...

    def pixels(self, pictures: Sequence[Image.Image]) -> Pixels:
        """The views of one study."""
        ...


@dataclass(frozen=True)
class FilmPixels:
    """Makes pixels as training and testing do: the film reduced while it is decoded, then the image processor."""

    views: Views
    dicom: DicomChoice
    limits: CellConfig = field(default_factory=CellConfig)

    def __call__(self, contents: list[bytes], names: list[str]) -> Pixels:
        """Decode the views of one study and prepare them for the encoder."""
        check_together(names, list(map(header_in, contents, names)), self.dicom)
        cell_with(self.limits)
        side = self.views.side
        return self.views.pixels(
            [decode_image(data, name, side, self.dicom) for data, name in zip(contents, names, strict=True)]
        )


class ShardWriter(Protocol):
    """What writes reports; a stand-in in tests."""

    @property
    def origin(self) -> Mapping[str, Any]:
        """What all its rows were made with."""
        ...

    def write(self, studies: Sequence[Decoded], first: int) -> list[Report]:
        """Reports of studies that have pixels, in their order; `first` is the shard's place in the listing."""
        ...


def decode_study(root: Path, study: StudyFiles, make: PixelMaker) -> Decoded:
    """Read, hash and decode a study's images; whatever fails becomes its failure, by name."""
    contents: list[bytes] = []
    names = [image.path for image in study.images]
    kind, note = "file", ""
    try:
        for name in names:
            contents.append(read_below(root, name))
        kind = "image"
        pixels, failure = make(contents, names), None
        note = note_of(list(map(header_in, contents, names)))
    except RunError:
        raise
    except Exception as error:  # decoders over files of strangers; the row tells it, and the run goes on
        pixels, failure = None, Failure.of(kind, error)
    hashes = [hashlib.sha256(data).hexdigest() for data in contents]
    padded: list[str | None] = [*hashes, *([None] * (len(names) - len(hashes)))]
    inputs = tuple(Input(name, digest) for name, digest in zip(names, padded, strict=True))
    return Decoded(study.id, inputs, pixels, failure, note)


def read_below(root: Path, name: str) -> bytes:
    """A file's bytes; errors call it by its name below the root.

    Raises:
        InputError: as `read_file`.
    """
    try:
        return read_file(root / name)
    except InputError as error:
        raise InputError(error.line.replace(str(root / name), name)) from None


def decode_shard(row: Mapping[str, Any], root: str, make: bytes) -> dict[str, Any]:
    """Ray's task: a shard's number and studies in, the same with decoded studies out, pickled as one value.

    `stop` is an error of ours, pickled, where this machine does not see the input at all or cannot decode, so that no
    study is to blame: what Ray makes of an exception has lost its type.
    """
    answer = {"shard": row["shard"], "first": row["first"], "decoded": b"", "stop": b""}
    try:
        if not Path(root).is_dir():
            raise RunError(
                f"{socket.gethostname()} has no folder {root}: the input must be at one path on all machines"
            )
        maker: PixelMaker = pickle.loads(make)
        studies = [decode_study(Path(root), StudyFiles.of(line), maker) for line in row["studies"].split("\n")[:-1]]
    except (InputError, RunError) as error:
        return {**answer, "stop": pickle.dumps(error)}
    return {**answer, "decoded": pickle.dumps(studies, protocol=5)}


class ShardActor:
    """Ray's actor: holds a writer for its life.

    Args:
        make: makes the writer, pickled; called once.
    """

    def __init__(self, make: bytes) -> None:
        self.writer: ShardWriter | None = None
        self.stop = b""
        try:
            self.writer = pickle.loads(make)()
        except (InputError, RunError) as error:
            self.stop = pickle.dumps(error)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The rows of one shard as JSON lines, and how long they took; or, in `stop`, why the run cannot go on."""
        stop, began = row["stop"] or self.stop, time.monotonic()
        answer = {"shard": row["shard"], "lines": b"", "origin": "", "stop": stop, "seconds": 0.0}
        if answer["stop"] or self.writer is None:
            return answer
        try:
            lines = json_lines(shard_rows(self.writer, pickle.loads(row["decoded"]), int(row["first"])))
        except (InputError, RunError) as error:
            return {**answer, "stop": pickle.dumps(error)}
        took = time.monotonic() - began
        return {**answer, "lines": lines, "origin": json_text(dict(self.writer.origin)), "seconds": took}


def shard_rows(writer: ShardWriter, studies: Sequence[Decoded], first: int) -> list[BatchRow]:
    """The rows of a shard, in its order; a study that has no report has its failure.

    Raises:
        RunError: no study of several gets a report by this model, so that no study is to blame.
    """
    good = [study for study in studies if study.failure is None]
    found = iter(reports_of(writer, good, first))
    rows = []
    for study in studies:
        one = study.failure or next(found)
        report, failure = (None, one) if isinstance(one, Failure) else (one, None)
        rows.append(BatchRow(study.id, report, study.inputs, writer.origin, failure, study.note))
    return rows


def reports_of(writer: ShardWriter, studies: Sequence[Decoded], first: int) -> list[Report | Failure]:
    """Reports, together where that works; else each by itself, so that one study's failure is its own.

    Raises:
        RunError: it works for none of several.
    """
    if not studies:
        return []
    try:
        return list(writer.write(studies, first))
    except Exception as error:  # any: what a model raises over a study is told in the study's row
        log.warning("a shard failed together and is written study by study: %s", type(error).__name__)
    found: list[Report | Failure] = []
    for place, study in enumerate(studies):
        try:
            found += writer.write([study], first + place)
        except Exception as error:
            found.append(Failure.of("report", error))
    lost = [one for one in found if isinstance(one, Failure)]
    if len(lost) == len(found) > 1:
        raise RunError(f"the model writes no report of any of {len(found)} studies, first: {lost[0].message}")
    return found
