"""The one process that plans, hands out and writes: Ray Data's stages in, whole shards on disk out.

Ray Data streams: as many shards are decoded ahead as its object store has room for, and the model's actors take them
as they become free. Shards come back in any order; each is written by this process alone, whole.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from r2gengpt.batch.cluster import Workers, cluster
from r2gengpt.batch.decode import PixelMaker, decode_shard
from r2gengpt.batch.listing import Listing
from r2gengpt.batch.plan import Plan, check_origin, locked, settled_plan
from r2gengpt.batch.progress import Progress
from r2gengpt.batch.rows import encoded, raised, told_by
from r2gengpt.batch.shards import (
    MANIFEST,
    Totals,
    missing_shards,
    shard_path,
    sweep,
    write_manifest,
    write_whole,
)
from r2gengpt.batch.summary import write_summary
from r2gengpt.batch.writer import ShardActor, Writer
from r2gengpt.errors import RunError

log = logging.getLogger("r2gengpt.batch")
TASK_MEMORY = 64 << 20
"""Bytes that Ray sets apart for a decoding task."""


@dataclass(frozen=True)
class Work:
    """What is done to each study, and by whom: makers of pixels and of the model's writer, both sent to workers."""

    make_pixels: PixelMaker
    make_writer: Callable[[], Writer]
    workers: Workers
    address: str | None = None


def run_batch(
    output: Path, read: Callable[[], Listing], settings: Mapping[str, Any], prepare: Callable[[], Work]
) -> Path:
    """Write the reports of a listing, or those that are missing; gives the path of the manifest.

    Args:
        output: the run's directory.
        read: reads the listing, when nobody else is writing.
        settings: all that rows depend on, by flag; `format` and `shard_size` among them.
        prepare: says how; called only if there is something to do.

    Raises:
        InputError: what the user gave is refused, in one line.
        RunError: the run cannot go on; what is written stays.
    """
    form = str(settings["format"])
    with locked(output):
        listing = read()
        plan = settled_plan(output, listing, settings)
        root = listing.root
        del listing  # in memory stays where each shard begins
        sweep(output, form, len(plan))
        before = Totals()
        wanted = ([study.id for study in plan.shard(number).studies] for number in range(len(plan)))
        missing = list(missing_shards(output, form, wanted, before))
        progress = Progress(plan.studies, before)
        if missing:
            work = prepare()
            progress.begin()
            for number, row in results(plan, missing, root, work):
                raised(row["stop"])
                check_origin(output, json.loads(row["origin"]))
                write_whole(shard_path(output, number, form), [encoded(row["lines"], form)])
                progress.add(told_by(json.loads(line) for line in row["lines"].split(b"\n")[:-1]))
        totals = write_manifest(output, form, len(plan))
        write_summary(output, totals, progress)
        progress.end()
    return output / MANIFEST


def results(plan: Plan, missing: Sequence[int], root: Path, work: Work) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The missing shards' rows as they are finished.

    Raises:
        RunError: Ray has lost what it needs, or a worker has a fault of ours.
    """
    with cluster(work.address, work.workers) as (ray, workers):
        try:
            for row in stages(ray, plan, missing, root, replace(work, workers=workers)).iter_rows():
                yield int(row["shard"]), row
        except (ray.exceptions.RayError, ray.data.exceptions.RayDataUserCodeException) as error:
            again = "start the same command again to go on"
            raise RunError(f"Ray failed ({in_one_line(error)}); {again}") from error


def stages(ray: Any, plan: Plan, missing: Sequence[int], root: Path, work: Work) -> Any:
    """Shards → decoded on CPU workers → rows by the model's actors; a block is a shard throughout.

    The two ask for other resources, which keeps Ray from running them in one process, where a GPU would wait for JPEG.
    """
    workers = work.workers
    items = [item(plan, number) for number in missing]
    source = ray.data.from_items(items, override_num_blocks=len(items))
    decoded = source.map(partial(decode_shard, root=str(root), make=work.make_pixels), num_cpus=1, memory=TASK_MEMORY)
    return decoded.map(
        ShardActor,
        fn_constructor_kwargs={"make": work.make_writer},
        compute=ray.data.ActorPoolStrategy(size=workers.actors, max_tasks_in_flight_per_actor=2),
        num_cpus=workers.threads,
        **({"num_gpus": 1} if workers.gpu else {}),
    )


def item(plan: Plan, number: int) -> dict[str, Any]:
    """A shard as Ray gets it: its number, its place, its studies as lines of the listing."""
    shard = plan.shard(number)
    return {"shard": number, "first": shard.first, "studies": "".join(study.line() for study in shard.studies)}


def in_one_line(error: BaseException) -> str:
    """What Ray raises, by its name and its last words."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:300]}" if lines else type(error).__name__
