"""Files of a bulk run that are there whole or not at all, what they hold, and the manifest of them. Makes no rows."""

import errno
import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from r2gengpt.batch.rows import MOST_EXAMPLES, Told, decoded, told_by
from r2gengpt.errors import RunError
from r2gengpt.text.written import json_text

log = logging.getLogger("r2gengpt.batch")
FOLDER, MANIFEST = "shards", "manifest.json"


def shard_path(output: Path, number: int, form: str) -> Path:
    """Where a shard lies, or will."""
    return output / FOLDER / f"part-{number:06d}.{form}"


def write_whole(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file that survives the machine's end: temporary name, fsync, rename, fsync of the directory.

    Raises:
        RunError: it cannot be written (a full disk); nothing is left of it then.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(exist_ok=True)
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        hint = ": free some space, then start the same command again" if error.errno == errno.ENOSPC else ""
        raise RunError(f"--output {path}: {error.strerror or error}{hint}") from None


@dataclass
class Totals:
    """What the shards hold so far: rows, failures by kind, some failed studies with their messages."""

    rows: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, str]] = field(default_factory=list)

    def add(self, told: Told) -> None:
        """Count a shard."""
        self.rows += len(told.ids)
        self.failed.update(told.failed)
        self.examples += told.examples[: MOST_EXAMPLES - len(self.examples)]


@dataclass(frozen=True)
class ShardRecord:
    """A shard as the manifest has it."""

    file: str
    sha256: str
    rows: int
    failed: dict[str, int]


def read_shard(path: Path, form: str) -> tuple[Told, ShardRecord]:
    """What a shard's file holds.

    Raises:
        ValueError: it is damaged.
    """
    data = path.read_bytes()
    try:
        told = told_by(decoded(data, form))
    except (ValueError, OSError, LookupError, TypeError) as error:
        raise ValueError(f"{path.name}: {type(error).__name__}") from None
    failed = dict(sorted(Counter(told.failed).items()))
    return told, ShardRecord(f"{FOLDER}/{path.name}", hashlib.sha256(data).hexdigest(), len(told.ids), failed)


def missing_shards(output: Path, form: str, wanted: Iterable[Sequence[str]], totals: Totals) -> Iterator[int]:
    """The numbers of shards that are not there, or are not whole; the others are counted into `totals`.

    Args:
        output: the run's directory.
        form: of its shards.
        wanted: the ids of each shard's studies in order.
        totals: changed.
    """
    for number, ids in enumerate(wanted):
        path = shard_path(output, number, form)
        if path.exists():
            try:
                told, _ = read_shard(path, form)
            except ValueError as error:
                log.info("%s is damaged and is written anew", error)
            else:
                if told.ids == tuple(ids):
                    totals.add(told)
                    continue
                log.info("%s holds other studies and is written anew", path.name)
        yield number


def sweep(output: Path, form: str, shards: int) -> None:
    """Remove what killed writers left, and shards that the plan has not."""
    for path in (*output.glob(".*.part"), *(output / FOLDER).glob(".*.part")):
        path.unlink(missing_ok=True)
    keep = {shard_path(output, number, form).name for number in range(shards)}
    for path in (output / FOLDER).glob("part-*"):
        if path.name not in keep:
            path.unlink()


def write_manifest(output: Path, form: str, shards: int) -> Totals:
    """Write manifest.json over all shards, which says that the run is complete; gives what they hold.

    It has the plan (settings, hash of the listing) and each shard's hash and counts, and no time of day.
    """
    plan = json.loads((output / "plan.json").read_text(encoding="utf-8"))
    totals, records = Totals(), []
    for number in range(shards):
        told, record = read_shard(shard_path(output, number, form), form)
        totals.add(told)
        records.append(vars(record))
    origin = json.loads((output / "origin.json").read_text(encoding="utf-8"))
    counts = {"rows": totals.rows, "failed": dict(sorted(totals.failed.items()))}
    content = {**plan, "origin": origin, **counts, "shards": records}
    write_whole(output / MANIFEST, [json_text(content, indent=1, ascii_only=True).encode() + b"\n"])
    return totals
