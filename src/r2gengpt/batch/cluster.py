"""The process beside the driver: it starts a Ray on loopback or joins a cluster, and sends finished shards back."""

import contextlib
import os
import pickle
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import ip_address
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from r2gengpt.batch.workers import ShardActor, decode_shard
from r2gengpt.errors import InputError, RunError

STORE = 1 << 30
"""Bytes of a local Ray's object store at most: decoded shards on their way from the CPU workers to the model."""
TASK_MEMORY = 64 << 20
"""Bytes that Ray sets apart for a decoding task."""


@dataclass(frozen=True)
class Workers:
    """Who does the work: actors with a model each, CPU threads of each, whether each has a GPU, decoding processes.

    `gpu` None: where there is a GPU for each.
    """

    actors: int
    threads: int
    gpu: bool | None
    decoders: int

    @property
    def cpus(self) -> int:
        """CPUs as Ray counts them."""
        return self.actors * self.threads + self.decoders


@dataclass(frozen=True)
class ClusterJob:
    """Shards as Ray gets them, what is done to them, and by whom; makers are pickled, as only workers unpack them."""

    shards: Sequence[Mapping[str, Any]] = field(repr=False)
    root: Path
    make_pixels: bytes = field(repr=False)
    make_writer: bytes = field(repr=False)
    workers: Workers
    address: str | None = None


@dataclass(frozen=True)
class ShardRows:
    """A finished shard: its rows as JSON lines, what they were made with, as JSON, and the seconds of its writing."""

    shard: int
    lines: bytes
    origin: str
    seconds: float


def main(handle: int, folder: str) -> None:
    """The process beside: one job, whose rows it sends. It ends at once when the process that began it does.

    Args:
        handle: of the pipe to that process.
        folder: for Ray's files.
    """
    os.set_inheritable(handle, False)
    link = Connection(handle)
    job: ClusterJob = link.recv()
    threading.Thread(target=end_with, args=[link], daemon=True).start()
    import ray.data

    link.send(None)
    try:
        with joined(job, folder) as workers:
            link.send(None)
            for row in finished(stages(job, workers)):
                if row["stop"]:
                    raise pickle.loads(row["stop"])
                link.send(ShardRows(row["shard"], row["lines"], row["origin"], row["seconds"]))
    except (InputError, RunError) as error:
        link.send(error)
    except (ray.exceptions.RayError, ray.data.exceptions.RayDataUserCodeException) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = f"{type(error).__name__}: {lines[-1][:300]}" if lines else type(error).__name__
        link.send(RunError(f"Ray failed ({why}); start the same command again to go on"))
    else:
        link.send(None)


def end_with(link: Connection) -> None:
    """Wait for the end of the process at the other side of the pipe, and end this one with all of its group.

    Ray's workers are no part of it: each ends by itself when its raylet has.
    """
    with contextlib.suppress(EOFError, ConnectionError):
        link.recv()
    os.killpg(0, signal.SIGKILL)


@contextlib.contextmanager
def joined(job: ClusterJob, folder: str) -> Iterator[Workers]:
    """Ray inside the block, and the workers as they fit it.

    Raises:
        InputError: no cluster that can be joined, or it is too small.
        RunError: a local Ray does not start, or would listen beyond loopback.
    """
    import ray

    workers = job.workers
    try:
        if job.address is not None:
            ray.init(job.address, log_to_driver=False)
        elif not ip_address(ray.util.get_node_ip_address()).is_loopback:
            raise RunError("would listen beyond loopback")
        else:
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            ray.init(
                "local",
                num_cpus=workers.cpus,
                include_dashboard=False,
                log_to_driver=False,
                object_store_memory=max(100 << 20, min(STORE, memory // 4)),
                _temp_dir=folder,
            )
    except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError, RpcError
        why = " ".join(str(error).split())[:200]
        local = RunError(f"Ray does not start here ({type(error).__name__}: {why})")
        raise (no_cluster(job.address) if job.address else local) from error
    try:
        resources = ray.cluster_resources()
        workers = replace(workers, gpu=resources.get("GPU", 0) >= workers.actors) if workers.gpu is None else workers
        check_size(resources, workers, f"the cluster at {job.address}" if job.address else "this machine")
        yield workers
    finally:
        ray.shutdown()


def no_cluster(address: str) -> InputError:
    """The refusal of an address at which something else than a cluster for us answers, or nothing does."""
    return InputError(
        "no Ray cluster there that this program's Ray can join (of its version; "
        "with token authentication, set RAY_AUTH_MODE and RAY_AUTH_TOKEN)",
        field="address",
        value=address,
    )


def check_size(resources: Mapping[str, float], workers: Workers, where: str) -> None:
    """Refuse a cluster in which the actors would wait for ever.

    Raises:
        InputError: too few CPUs or GPUs.
    """
    cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    needed = workers.actors * workers.threads + 1
    if cpus < needed:
        raise InputError(
            f"`actors` {workers.actors} `threads` {workers.threads}: need {needed} CPUs with one for decoding, but "
            f"{where} has {cpus:g}"
        )
    if workers.gpu and gpus < workers.actors:
        raise InputError(f"need a GPU each, but {where} has {gpus:g}", field="actors", value=workers.actors)


def finished(shards: Any) -> Iterator[dict[str, Any]]:
    """The shards as each is finished. By default Ray holds one back until the next is there too."""
    for block in shards.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from block.to_pylist()


def stages(job: ClusterJob, workers: Workers) -> Any:
    """Shards → decoded on CPU workers → rows by the model's actors; a block is a shard throughout.

    The two ask for other resources, which keeps Ray from running them in one process, where a GPU would wait for JPEG.
    """
    import ray

    ray.data.DataContext.get_current().enable_progress_bars = False
    source = ray.data.from_items(list(job.shards), override_num_blocks=len(job.shards))
    decode = partial(decode_shard, root=str(job.root), make=job.make_pixels)
    return source.map(decode, num_cpus=1, memory=TASK_MEMORY).map(
        ShardActor,
        fn_constructor_kwargs={"make": job.make_writer},
        compute=ray.data.ActorPoolStrategy(size=workers.actors, max_tasks_in_flight_per_actor=2),
        num_cpus=workers.threads,
        **({"num_gpus": 1} if workers.gpu else {}),
    )
