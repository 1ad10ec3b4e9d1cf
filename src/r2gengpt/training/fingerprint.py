"""What a run's data were when it began, study by study, so that a resumed run reads the same. No image is decoded."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from r2gengpt.data.files import whole_file
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError

DATA = "data.json"
SAMPLE = 2**16
"""Bytes read of each end of an image; its size counts too. A PNG's last bytes are a checksum of all its pixels."""

Fingerprint = dict[str, dict[str, list[str]]]
"""Split → study's id → digest of its texts, digest of its images; in the order of the file."""


def fingerprint(splits: Mapping[str, Sequence[Study]]) -> Fingerprint:
    """The fingerprint of the studies of a run.

    Raises:
        InputError: an image cannot be read.
    """
    with ThreadPoolExecutor(4) as pool:  # reading lets go of the interpreter
        return {
            split: dict(zip([study.id for study in studies], pool.map(_digests, studies), strict=True))
            for split, studies in splits.items()
        }


def _digests(study: Study) -> list[str]:
    texts = {key: value for key, value in vars(study).items() if key not in ("image_paths", "dicom")}
    images = hashlib.sha256()
    for path in study.image_paths:
        images.update(_sample(path))
    text = json.dumps(texts | {"dicom": dataclasses.astuple(study.dicom)}, sort_keys=True, default=str)
    return [hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16], images.hexdigest()[:16]]


def _sample(path: Path) -> bytes:
    """A digest of an image's size and both its ends."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            digest = hashlib.sha256(size.to_bytes(8, "big") + file.read(SAMPLE))
            file.seek(max(0, size - SAMPLE))
            digest.update(file.read(SAMPLE))
    except OSError as error:
        raise InputError(f"image {path}: {error.strerror or error}") from None
    return digest.digest()


def write_fingerprint(directory: Path, found: Fingerprint) -> None:
    """Keep it with the run."""
    with whole_file(directory / DATA) as path:
        path.write_text(json.dumps(found) + "\n", encoding="utf-8")


def check_same_data(directory: Path, found: Fingerprint, annotation: str) -> None:
    """Refuse to go on with other data than the run began with. A run of an older version kept none: it goes on.

    Raises:
        InputError: names how many studies differ, and the first of them.
    """
    path = directory / DATA
    if not path.exists():
        return
    begun: Fingerprint = json.loads(path.read_text(encoding="utf-8"))
    changes = [change for split in found for change in _changes(split, begun.get(split, {}), found[split])]
    if changes:
        more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
        raise InputError(
            f"--annotation {annotation}: the unfinished run in {directory} began with other data: {changes[0]}{more}; "
            "name another --savedmodel_path, or --overwrite True"
        )


def _changes(split: str, begun: Mapping[str, list[str]], now: Mapping[str, list[str]]) -> list[str]:
    """What differs between the studies of a split, in words."""
    found = [f"study {name} of split {split} is gone" for name in begun if name not in now]
    for name, digests in now.items():
        if name not in begun:
            found.append(f"study {name} of split {split} is new")
        elif digests != begun[name]:
            parts = [
                what for what, old, new in zip(("texts", "images"), begun[name], digests, strict=True) if old != new
            ]
            found.append(f"study {name} of split {split} has other {' and '.join(parts)}")
    if not found and list(begun) != list(now):
        found.append(f"the studies of split {split} stand in another order")
    return found
