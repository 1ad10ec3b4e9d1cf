"""Films of a shard read and decoded on CPU workers, study by study. No model, no weights.

Reading and decoding are one task: Ray would run them in one process anyway, and a shard's files, ten times the size of
what the encoder takes, then never lie in memory together.
"""

import hashlib
import pickle
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from r2gengpt.batch.listing import StudyFiles
from r2gengpt.batch.rows import Failure, Input, stopped
from r2gengpt.config import CellConfig
from r2gengpt.data.cell import cell_with, decode_image
from r2gengpt.data.containers import DicomChoice
from r2gengpt.data.dicom_study import check_together, header_in, note_of
from r2gengpt.data.images import read_file
from r2gengpt.errors import InputError, RunError

Pixels = npt.NDArray[np.float32]
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


@dataclass(frozen=True)
class FilmPixels:
    """Makes pixels as training and testing do: the film reduced while it is decoded, then the image processor."""

    image_processor: Any
    side: int
    dicom: DicomChoice
    limits: CellConfig = field(default_factory=CellConfig)

    def __call__(self, contents: list[bytes], names: list[str]) -> Pixels:
        """Decode the views of one study and prepare them for the encoder."""
        from r2gengpt.model.processing import pixels_of

        check_together(names, list(map(header_in, contents, names)), self.dicom)
        cell_with(self.limits)
        films = [decode_image(data, name, self.side, self.dicom) for data, name in zip(contents, names, strict=True)]
        made: Pixels = np.ascontiguousarray(pixels_of(self.image_processor, films).numpy(), dtype=np.float32)
        return made


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
        raise InputError(str(error).replace(str(root / name), name)) from None


def decode_shard(row: Mapping[str, Any], root: str, make: PixelMaker) -> dict[str, Any]:
    """Ray's task: a shard's number and studies in, the same with decoded studies out, pickled as one value.

    In `stop` it says that this machine does not see the input at all or cannot decode, so that no study is to blame.
    """
    answer = {"shard": row["shard"], "first": row["first"], "decoded": b"", "stop": ""}
    if not Path(root).is_dir():
        why = f"{socket.gethostname()} has no folder {root}: the input must be at one path on all machines"
        return {**answer, "stop": stopped(RunError(why))}
    try:
        studies = [decode_study(Path(root), StudyFiles.of(line), make) for line in row["studies"].split("\n")[:-1]]
    except RunError as error:  # nothing can be decoded here
        return {**answer, "stop": stopped(error)}
    return {**answer, "decoded": pickle.dumps(studies, protocol=5)}
