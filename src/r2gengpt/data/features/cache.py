"""Features of images on disk, in shards that many processes may write and read at once. No model, no decoding.

A space is a directory for one encoder, one way of reading and one form of storage. A shard in it is a `.npy` file of
records (`record_type`), memory-mapped; it is written under another name and renamed, and never changed afterwards. Each
record carries the digest of the image's bytes and a checksum of itself, which is compared whenever it is read.
"""

import io
import logging
import time
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from r2gengpt.errors import RunError
from r2gengpt.files import whole_file

log = logging.getLogger("r2gengpt.data")
STORAGE = {"float32": "<f4", "float16": "<f2", "bfloat16": "<i2", "int8": "i1"}
"""Form of storage → numpy's type (bfloat16, which numpy lacks, by its bits)."""
DIGEST = 16
"""Bytes of a digest: two of 10⁹ images have the same one with a probability below 10⁻²⁰."""
ABANDONED = 86_400
"""Seconds after which a file that was never renamed was left by a killed writer."""
Records = npt.NDArray[np.void]


def digest(*parts: Any) -> bytes:
    """BLAKE2b over bytes, or whatever holds bytes, one after the other."""
    state = blake2b(digest_size=DIGEST)
    for part in parts:
        state.update(part)
    return state.digest()


def record_type(tokens: int, width: int, storage: str) -> np.dtype[np.void]:
    """One image in a shard: its digest, the checksum, (int8) a scale for each of N tokens, and (N, E) features."""
    scale: list[Any] = [("scale", "<f4", (tokens,))] if storage == "int8" else []
    return np.dtype(
        [
            ("image", "u1", (DIGEST,)),
            ("checksum", "u1", (DIGEST,)),
            *scale,
            ("features", STORAGE[storage], (tokens, width)),
        ]
    )


def _checksum(record: Any) -> bytes:
    names = [name for name in record.dtype.names if name != "checksum"]
    return digest(*(np.ascontiguousarray(record[name]) for name in names))


def pack(images: Sequence[bytes], features: Tensor, storage: str) -> Records:
    """Features as records.

    What storage changes: float32 nothing; float16 and bfloat16 round to nearest, by at most 2⁻¹¹ and 2⁻⁸ of a number
    (float16 of numbers of at least 6·10⁻⁵); int8 by at most half a step, a step being 1/127 of the token's largest.

    Args:
        images: a digest for each image.
        features: (K, N, E), float32, finite.
        storage: one of `STORAGE`.

    Raises:
        RunError: a feature is too large for float16.
    """
    records = np.zeros(len(images), record_type(features.shape[1], features.shape[2], storage))
    records["image"] = np.frombuffer(b"".join(images), np.uint8).reshape(-1, DIGEST)
    if storage == "bfloat16":
        records["features"] = features.to(torch.bfloat16).view(torch.int16).numpy()
    elif storage == "int8":
        step = (features.abs().amax(2) / 127).clamp_min(torch.finfo(torch.float32).tiny)
        records["scale"] = step.numpy()
        records["features"] = (features / step.unsqueeze(2)).round().clamp(-127, 127).to(torch.int8).numpy()
    else:
        largest = float(features.abs().max()) if storage == "float16" else 0.0
        if largest > torch.finfo(torch.float16).max:
            raise RunError(f"`feature_cache_dtype` float16: a feature of {largest:g} is above 65504; take bfloat16")
        records["features"] = features.numpy()
    for record in records:
        record["checksum"] = np.frombuffer(_checksum(record), np.uint8)
    return records


def unpack(record: Any) -> Tensor:
    """The features of a record, (N, E), float32, memory of their own."""
    stored = np.array(record["features"])
    if "scale" in (record.dtype.names or ()):
        return torch.from_numpy(stored).float() * torch.from_numpy(np.array(record["scale"])).unsqueeze(1)
    values = torch.from_numpy(stored)
    return values.view(torch.bfloat16).float() if stored.dtype == np.int16 else values.float()


def _header(record: np.dtype[np.void], count: int) -> bytes:
    """How a `.npy` file of so many records begins; its length does not depend on how many."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, np.lib.format.header_data_from_array_1_0(np.empty(count, record)))
    return buffer.getvalue()


def map_records(shard: Path, record: np.dtype[np.void]) -> Records:
    """A shard's records, memory-mapped. Its header must be the one expected, byte for byte, so that none is parsed.

    Raises:
        OSError: there is no such file.
        ValueError: it is cut, or begins otherwise.
    """
    size, length = shard.stat().st_size, len(_header(record, 0))
    count, rest = divmod(size - length, record.itemsize)
    with shard.open("rb") as file:
        if count < 1 or rest or file.read(length) != _header(record, count):
            raise ValueError(f"{shard} is no shard of {count} records")
    return np.memmap(shard, record, "r", offset=length, shape=(count,))


@dataclass(frozen=True)
class FeaturePlace:
    """Where an image's features are: a shard, and the record's number in it."""

    shard: Path
    row: int


class FeatureStore:
    """The shards of one space.

    Args:
        directory: the space; made when the first shard is written.
        record: what its shards are made of (`record_type`).
    """

    def __init__(self, directory: Path, record: np.dtype[np.void]) -> None:
        self.directory = directory
        self.record = record
        self.places: dict[bytes, FeaturePlace] = {}
        self._seen: set[Path] = set()

    def scan(self, wanted: Collection[bytes]) -> None:
        """Look for images in the shards that were not looked at yet; every record that is taken is checked first.

        A damaged shard is removed with all its records, so that what it held is built anew.

        Raises:
            RunError: a shard cannot be opened; it stays.
        """
        wanted = set(wanted)
        for shard in sorted(self.directory.glob("*.npy")):
            if shard in self._seen:
                continue
            self._seen.add(shard)
            found = self._whole_records(shard, wanted)
            if found is None:
                log.warning("feature cache: %s is damaged; it is removed, and its features are built again", shard)
                shard.unlink(missing_ok=True)
            else:
                self.places = {**found, **self.places}

    def _whole_records(self, shard: Path, wanted: set[bytes]) -> dict[bytes, FeaturePlace] | None:
        """Places of the wanted images; None where the file or one of their records is damaged."""
        try:
            records = self._map(shard)
        except FileNotFoundError:  # another process found it damaged
            return {}
        except ValueError:
            return None
        found = {}
        for row, image in enumerate(np.array(records["image"])):
            if (key := image.tobytes()) in wanted:
                if _checksum(records[row]) != records[row]["checksum"].tobytes():
                    return None
                found[key] = FeaturePlace(shard, row)
        return found

    def _map(self, shard: Path) -> Records:
        """Mapped anew each time: a map holds its file open, and systems let a process open fewer than there are shards.

        Raises:
            FileNotFoundError: it is gone.
            ValueError: it is cut or overwritten.
            RunError: it cannot be opened.
        """
        try:
            return map_records(shard, self.record)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise RunError(f"`feature_cache` {shard}: {error.strerror or error}") from None

    def write(self, records: Records) -> int:
        """Add a shard; gives its size in bytes.

        Raises:
            RunError: the disk is full, or the directory cannot be written to.
        """
        shard = self.directory / f"{uuid.uuid4().hex}.npy"
        try:
            with whole_file(shard) as path, path.open("wb") as file:
                np.save(file, records, allow_pickle=False)
            size = shard.stat().st_size
        except OSError as error:
            raise RunError(f"`feature_cache` {self.directory.parent}: {error.strerror or error}") from None
        self._seen.add(shard)
        places = {record["image"].tobytes(): FeaturePlace(shard, row) for row, record in enumerate(records)}
        self.places = {**places, **self.places}
        return size

    def read(self, image: bytes) -> Tensor:
        """The features of an image that is there, (N, E), float32.

        Raises:
            RunError: the record has changed since the run began, or cannot be read.
        """
        place = self.places[image]
        try:
            record = self._map(place.shard)[place.row]
            whole = record["image"].tobytes() == image and _checksum(record) == record["checksum"].tobytes()
        except (FileNotFoundError, ValueError):
            whole = False
        if not whole:
            raise RunError(
                f"`feature_cache`: {place.shard} was damaged while in use; the same command again builds it anew"
            )
        return unpack(record)

    def sweep(self) -> None:
        """Remove what killed writers left; what is being written now is younger."""
        for left in self.directory.glob(".*.npy.*"):
            try:
                if time.time() - left.stat().st_mtime > ABANDONED:
                    left.unlink()
            except FileNotFoundError:
                pass  # its writer has renamed it, or another process has removed it
