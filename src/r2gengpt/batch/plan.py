"""A bulk run fixed in advance: settings, listing, and which studies go into which shard. Writes no report.

What a row says then depends on the listing and the settings, never on timing: a run that was ended at any moment is
started again with the same command and makes only the shards that are missing.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from r2gengpt.batch.listing import Listing, StudyFiles
from r2gengpt.batch.shards import FOLDER, ORIGIN, read_origin, write_whole
from r2gengpt.errors import InputError, RunError
from r2gengpt.files import check_writable
from r2gengpt.text.written import as_written, json_text

PLAN, LISTING, LEFT_OUT, LOCK = "plan.json", "listing.jsonl", "left_out.jsonl", ".lock"
FORMAT = "r2gengpt-batch-1"


@dataclass(frozen=True)
class Shard:
    """Slice `number` of a plan: its studies, the first of which is study `first` of the listing."""

    number: int
    first: int
    studies: tuple[StudyFiles, ...]

    def row(self) -> dict[str, Any]:
        """The shard as Ray Data takes it: its number, its place, its studies as lines of the listing."""
        lines = "".join(study.line() for study in self.studies)
        return {"shard": self.number, "first": self.first, "studies": lines}


class BulkPlan:
    """The plan in an output directory; studies stay on disk, in memory is where each shard begins."""

    def __init__(self, output: Path, shard_size: int) -> None:
        self.output = output
        self.shard_size = shard_size
        self.starts = array("q")
        self.studies = 0
        position = 0
        digest = hashlib.sha256()
        with (output / LISTING).open("rb") as file:
            for line in file:
                if self.studies % shard_size == 0:
                    self.starts.append(position)
                self.studies += 1
                position += len(line)
                digest.update(line)
        self.sha256 = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.starts)

    def shard(self, number: int) -> Shard:
        """The slice of the listing that shard `number` is made of."""
        first = number * self.shard_size
        with (self.output / LISTING).open("rb") as file:
            file.seek(self.starts[number])
            lines = [next(file).decode() for _ in range(min(self.shard_size, self.studies - first))]
        return Shard(number, first, tuple(StudyFiles.of(line) for line in lines))


@contextlib.contextmanager
def locked(output: Path) -> Iterator[None]:
    """The output directory, made where it is missing, for this process alone until the block ends or the process does.

    Raises:
        InputError: it cannot be made or written to, holds other things, or another run is writing there.
    """
    check_writable(output, "output")
    others = sorted(path.name for path in output.iterdir()) if output.is_dir() else []
    if others and LOCK not in others and PLAN not in others:
        raise InputError(
            f"holds {others[0]} and no bulk run: name an empty or new directory", field="output", value=output
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
        handle = os.open(output / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"{error.strerror or error}", field="output", value=output) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError("another run is writing there", field="output", value=output) from None
        yield
    finally:
        os.close(handle)


def settled_plan(output: Path, listing: Listing, settings: Mapping[str, Any]) -> BulkPlan:
    """The plan of a new run, written; or that of the run which was begun there, if nothing has changed since.

    Args:
        output: its lock is held.
        listing: what the input holds now.
        settings: all that rows depend on, by flag.

    Raises:
        InputError: settings or input differ from those the run began with; the first difference is named.
        RunError: the plan cannot be written.
    """
    settings = as_written({**settings, "root": str(listing.root)})
    path = output / PLAN
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            begun, sha256 = dict(before["settings"]), before["listing_sha256"]
            plan = BulkPlan(output, int(settings["shard_size"]))
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise InputError(
                f"{PLAN} or {LISTING} cannot be read ({error}): start anew elsewhere", field="output", value=output
            ) from None
        check_settings(begun, settings, output)
        if plan.sha256 != sha256:
            raise InputError(f"{LISTING} is not what {PLAN} says: start anew elsewhere", field="output", value=output)
        check_input(output / LISTING, listing.studies)
        return plan
    if (output / FOLDER).exists():
        raise InputError(f"holds {FOLDER} and no {PLAN}: start anew elsewhere", field="output", value=output)
    if listing.left_out:
        write_whole(output / LEFT_OUT, (f"{json_text(asdict(one))}\n".encode() for one in listing.left_out))
    write_whole(output / LISTING, (study.line().encode() for study in listing.studies))
    plan = BulkPlan(output, int(settings["shard_size"]))
    content = {"format": FORMAT, "settings": settings, "studies": plan.studies, "listing_sha256": plan.sha256}
    write_whole(path, [json_text(content, indent=1, ascii_only=True).encode() + b"\n"])
    return plan


def check_settings(begun: Mapping[str, Any], now: Mapping[str, Any], output: Path) -> None:
    """Refuse to go on with other settings than a run began with.

    Raises:
        InputError: names the setting and both values.
    """
    for name in dict.fromkeys((*begun, *now)):
        was, is_now = begun.get(name), now.get(name)
        if was != is_now:
            raise InputError(
                f"the run in `output` {output} began with {was}; go on with that, or name another `output`",
                field="base_dir" if name == "root" else name,
                value=str(is_now),
            )


def check_input(listing: Path, studies: Sequence[StudyFiles]) -> None:
    """Refuse to go on with another input than a run began with.

    Raises:
        InputError: names the first study that differs, and how.
    """
    with listing.open(encoding="utf-8") as file:
        for line, study in zip_longest(file, studies):
            was = None if line is None else StudyFiles.of(line)
            if was != study:
                before = {StudyFiles.of(other).id for other in listing.read_text(encoding="utf-8").splitlines()}
                what = difference(was, study, before, {other.id for other in studies})
                raise InputError(f"`input` has changed since the run began: {what}; name another `output`")


def difference(was: StudyFiles | None, now: StudyFiles | None, before: Set[str], after: Set[str]) -> str:
    """How a place of the listing differs, in words; `before` and `after` are all ids then and now."""
    if now is not None and now.id not in before:
        return f"study {now.id} is new"
    if was is not None and was.id not in after:
        return f"study {was.id} is gone"
    if was is None or now is None or was.id != now.id:
        return f"its order is another from study {(now or was or StudyFiles('', ())).id} on"
    paths = [image.path for image in was.images], [image.path for image in now.images]
    if paths[0] != paths[1]:
        return f"study {now.id} has images {', '.join(paths[1])}, had {', '.join(paths[0])}"
    for old, new in zip(was.images, now.images, strict=True):
        if old != new:
            if new.size < 0 or old.size < 0:
                return f"image {new.path} of study {now.id} is {'gone' if new.size < 0 else 'there now'}"
            sizes = f"{old.size} bytes then, {new.size} now" if old.size != new.size else "written anew"
            return f"image {new.path} of study {now.id} is another file ({sizes})"
    raise AssertionError("no difference")


def check_origin(output: Path, origin: Mapping[str, Any]) -> None:
    """Hold what a shard was made with, as it is written, against the first shard's, which is kept in origin.json.

    Raises:
        RunError: another model or other versions, by name.
    """
    path = output / ORIGIN
    if not path.exists():
        write_whole(path, [json_text(origin, indent=1, ascii_only=True, sort_keys=True).encode() + b"\n"])
        return
    first = flat(read_origin(output))
    for name, value in flat(origin).items():
        if first.get(name) != value:
            raise RunError(
                f"{name} is {value}, but the first shards in `output` {output} were made with {first.get(name)}: all "
                "machines and starts of a run need the same model and versions"
            )


def flat(record: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested values by dotted names.

    >>> flat({"a": 1, "b": {"c": 2}})
    {'a': 1, 'b.c': 2}
    """
    found: dict[str, Any] = {}
    for name, value in record.items():
        found |= flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {before + name: value}
    return found
