"""What is looked at before a run: its directory and its data's fingerprint. Builds and trains nothing."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from r2gengpt.checkpoint_files import RUN
from r2gengpt.config import RunConfig
from r2gengpt.data.labels import NO_LABELS
from r2gengpt.data.strict import read_json_object
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.files import check_writable, recover_directory, remove, write_whole
from r2gengpt.settings import PlacementConfig
from r2gengpt.training.distributed.processes import ZERO
from r2gengpt.training.record import SUMMARY, first_change
from r2gengpt.training.reinforcement.result import RESULT
from r2gengpt.training.states import BEFORE, NEWEST, find_state, recover_states, remove_states

DATA = "data.json"
SAMPLE = 2**16
"""Bytes read of each end of an image; its size counts too. A PNG's last bytes are a checksum of all its pixels."""

_OTHERWISE = ("image_paths", "dicom", "boxes", "earlier")
"""What is looked at in another way (an earlier study by its id), and boxes, which nothing is trained on."""
_LATER = ("labels", "source", "age", "sex", "comparison", "prior", "technique", "prior_days")
"""What older runs' studies had not: it counts where there is some, so that a run of before goes on."""

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
    texts = {key: value for key, value in vars(study).items() if key not in (*_OTHERWISE, *_LATER)}
    texts |= {key: value for key in _LATER if (value := getattr(study, key)) not in (None, "", NO_LABELS)}
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


def check_same_data(directory: Path, found: Fingerprint, annotation: str) -> None:
    """Refuse to go on with other data than the run began with. A run of an older version kept none: it goes on.

    Raises:
        InputError: names how many studies differ, and the first of them.
    """
    path = directory / DATA
    if not path.exists():
        return
    begun: Fingerprint = _kept(path)
    changes = [change for split in found for change in _changes(split, begun.get(split, {}), found[split])]
    if changes:
        more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
        raise InputError(
            f"the unfinished run in {directory} began with other data: {changes[0]}{more}; "
            "name another `savedmodel_path`, or `overwrite` True",
            field="annotation",
            value=annotation,
        )


def _kept(path: Path) -> dict[str, Any]:
    """What an unfinished run has kept of itself.

    Raises:
        InputError: the file is missing, or cannot be read.
    """
    try:
        return read_json_object(path, path.name)
    except InputError as error:
        words = f"holds an unfinished run whose {path.name} cannot be read ({error})"
        raise InputError(
            f"{words}: name another directory, or `overwrite` True", field="savedmodel_path", value=path.parent
        ) from None


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


def open_run(config: RunConfig, where: PlacementConfig) -> Path | None:
    """Look at the run's directory; gives the state to resume from, or None where a run starts anew.

    Raises:
        InputError: the directory holds a finished run, or an unfinished one of other settings, or of which no state
            is whole.
    """
    train = config.train
    directory = Path(train.savedmodel_path)
    wanted = json.loads(json.dumps({**config.flat(), **asdict(where)}))
    check_writable(directory, "savedmodel_path")
    if rank_zero_only.rank == 0:
        for name in ("best", "last"):
            recover_directory(directory / name)
        recover_states(directory)
    if (directory / SUMMARY).exists() and not train.overwrite:
        raise InputError(
            "holds a finished run; name another directory or `overwrite` True", field="savedmodel_path", value=directory
        )
    resume = None if train.overwrite else find_state(directory)
    if resume is None:
        return None
    if not train.resume:
        raise InputError(
            f"{directory} holds an unfinished run; add `overwrite` True to lose it", field="resume", value=False
        )
    stored = _kept(directory / RUN)
    if changed := first_change(stored, wanted):
        raise InputError(
            f"the unfinished run in {directory} has {stored.get(changed)}; go on with that, name another "
            "`savedmodel_path`, or `overwrite` True",
            field=changed,
            value=wanted[changed],
        )
    if resume.is_dir() != (train.strategy in ZERO):
        raise InputError(
            f"{resume.name} there is no state of `strategy` {train.strategy}; add `overwrite` True",
            field="savedmodel_path",
            value=directory,
        )
    if resume.name == BEFORE and rank_zero_only.rank == 0:
        remove(directory / NEWEST)  # it was skipped: the next one would push it into this one's place
    return resume


@rank_zero_only  # type: ignore[untyped-decorator]
def start_run(config: RunConfig, where: PlacementConfig, data: Fingerprint) -> None:
    """Clear what an earlier run left in the directory and write down the settings and the data of the new one."""
    directory = Path(config.train.savedmodel_path)
    remove_states(directory)
    for name in (SUMMARY, RESULT, "best", "last"):
        remove(directory / name)
    write_whole(directory / DATA, json.dumps(data) + "\n")
    write_whole(directory / RUN, json.dumps({**config.flat(), **asdict(where)}, indent=1) + "\n")


def check_shares(splits: Mapping[str, Sequence[Study]], world: int) -> None:
    """Every process needs a study of each split.

    Raises:
        InputError: there are more processes than studies.
    """
    for split, studies in splits.items():
        if len(studies) < world:
            raise InputError(f"`devices`: {world} processes, but split {split} has only {len(studies)} studies")
