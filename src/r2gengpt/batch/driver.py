"""The one process that plans, hands out and writes: Ray Data's stages in, whole shards on disk out.

Ray Data streams: as many shards are decoded ahead as its object store has room for, and the model's actors take them
as they become free. Shards come back in any order; each is written by this process alone, whole.

Ray prints to both streams, takes signals over, keeps the command line, and ends the process that it runs in when its
head does not answer. So it has a process of its own, which is started here, talked to by a pipe, and ended here.
"""

import contextlib
import importlib.util
import json
import multiprocessing
import os
import pickle
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from r2gengpt.batch.cluster import ClusterJob, ShardRows, Workers, no_cluster
from r2gengpt.batch.listing import Listing
from r2gengpt.batch.plan import BulkPlan, check_origin, locked, settled_plan
from r2gengpt.batch.shards import (
    MANIFEST,
    ShardSummary,
    Totals,
    encoded,
    missing_shards,
    read_origin,
    shard_path,
    sweep,
    write_manifest,
    write_whole,
)
from r2gengpt.batch.summary import Progress, write_summary
from r2gengpt.batch.workers import PixelMaker, ShardWriter
from r2gengpt.errors import InputError, RunError, installing
from r2gengpt.text.written import shown

PREFIX, LOG = "r2g-", "log"
PATIENCE = 10.0
"""Seconds for a cluster to answer."""
ONE_MACHINE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's setting for systems on which it serves one machine: at 0 all its processes listen on loopback, here too."""


@dataclass(frozen=True)
class BulkWork:
    """What is done to each study, and by whom: makers of pixels and of the model's writer, both sent to workers."""

    make_pixels: PixelMaker
    make_writer: Callable[[], ShardWriter]
    workers: Workers
    address: str | None = None


def check_installed() -> None:
    """Refuse to begin without Ray and what its data sets need.

    Raises:
        InputError: one is not installed.
    """
    if not all(map(importlib.util.find_spec, ("ray", "pyarrow", "pandas"))):
        raise InputError(f"batch needs Ray and Arrow ({installing('batch')})")


def run_batch(
    output: Path, read: Callable[[], Listing], settings: Mapping[str, Any], prepare: Callable[[], BulkWork]
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
        if before.rows:
            read_origin(output)
        progress = Progress(plan.studies, before)
        if missing:
            progress.begin()
            work = prepare()
            first = len(plan.shard(missing[0]).studies)
            for made in results(plan, missing, root, work, lambda: progress.joined(work.workers.actors, first)):
                check_origin(output, json.loads(made.origin))
                write_whole(shard_path(output, made.shard, form), [encoded(made.lines, form)])
                summary = ShardSummary.of(json.loads(line) for line in made.lines.split(b"\n")[:-1])
                progress.add(summary, made.seconds)
        totals = write_manifest(output, form, len(plan))
        write_summary(output, totals, progress)
        progress.end()
    return output / MANIFEST


def results(
    plan: BulkPlan, missing: Sequence[int], root: Path, work: BulkWork, on_joined: Callable[[], None]
) -> Iterator[ShardRows]:
    """The missing shards' rows as they are finished; `on_joined` is called when Ray is there.

    Raises:
        InputError: no cluster at the address, or it is too small; what a worker refuses.
        RunError: Ray does not start, or has lost what it needs; a worker cannot go on.
    """
    shards = [plan.shard(number).row() for number in missing]
    makers = pickle.dumps(work.make_pixels), pickle.dumps(work.make_writer)
    job = ClusterJob(shards, root, *makers, work.workers, work.address)
    if job.address is not None:
        check_address(job.address)
    with process_beside(job) as (link, log):
        received(link, log)  # Ray is loaded
        if job.address is not None and not link.poll(PATIENCE):
            raise no_cluster(job.address)
        received(link, log)  # and there
        on_joined()
        while (rows := received(link, log)) is not None:
            yield rows


def check_address(address: str) -> None:
    """Refuse an address at which nothing answers.

    Raises:
        InputError: not HOST:PORT, or nobody takes a connection there.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise InputError(
            "must be HOST:PORT of the cluster's head, as `ray start` prints it", field="address", value=address
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"does not answer: {why}", field="address", value=address) from None


@contextlib.contextmanager
def process_beside(job: ClusterJob) -> Iterator[tuple[Connection, Path]]:
    """The process that holds Ray, with its job, and what it prints; it and all of its group end with the block."""
    sweep_dead()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    here = Path.cwd()
    link, other = multiprocessing.Pipe()
    code = f"from r2gengpt.batch.cluster import main; main({other.fileno()}, {str(folder)!r})"
    with other, (folder / LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=here if shown(str(here)) == str(here) else folder,  # Ray keeps its name, and takes UTF-8 only
            env=environment(local=job.address is None),
            pass_fds=[other.fileno()],
            start_new_session=True,
        )
    try:
        link.send(job)
        yield link, folder / LOG
    finally:
        link.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def environment(*, local: bool) -> dict[str, str]:
    """What Ray reads when it is loaded: it reports to nobody, and prints only what ends it.

    A local one stays on loopback, and asks for a token that nobody else knows, unless RAY_AUTH_MODE is set.
    """
    quiet = {
        "RAY_BACKEND_LOG_LEVEL": "fatal",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        **os.environ,
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    alone = {ONE_MACHINE: "0", **({} if "RAY_AUTH_MODE" in os.environ else own)}
    return {**quiet, **(alone if local else {})}


def received(link: Connection, log: Path) -> ShardRows | None:
    """What the process beside has to say next: rows, or None at a step and at the end. Its errors are raised here.

    Raises:
        InputError: it has met one.
        RunError: likewise, or it has ended; then with its last words.
    """
    try:
        message: ShardRows | Exception | None = link.recv()
    except (EOFError, ConnectionError):
        words = log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(words) if line.strip()), "it said nothing")
        raise RunError(f"Ray has ended ({last[:300]}); start the same command again to go on") from None
    if isinstance(message, Exception):
        raise message
    return message


def sweep_dead() -> None:
    """Remove what local Rays of programs that were killed left in the folder for temporary files."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        number = folder.name.removeprefix(PREFIX).split("-")[0]
        with contextlib.suppress(OSError):  # another run has just removed it
            if number.isdecimal() and folder.lstat().st_uid == os.getuid() and not Path(f"/proc/{number}").exists():
                shutil.rmtree(folder, ignore_errors=True)
