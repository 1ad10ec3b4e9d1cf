"""Ray found or started, and left again: a local one on loopback only, or a cluster by its address. Runs no task."""

import contextlib
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from r2gengpt.errors import InputError, RunError
from r2gengpt.text.written import shown

PREFIX = "r2g-"
STORE = 1 << 30
"""Bytes of a local Ray's object store at most: decoded shards on their way from the CPU workers to the model."""
PATIENCE = 30.0
"""Seconds for a cluster to answer."""


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


def quiet_ray() -> Any:
    """Ray, imported so that it reports to nobody and says only what is wrong.

    Raises:
        InputError: it is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise InputError("batch needs Ray and Arrow (pip install 'r2gengpt[batch]')") from None
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    ray._private.worker.print_to_stdstream = lambda *_, **__: None  # errors of workers, which it prints to stdout
    ray._private.utils.get_entrypoint_name = lambda: "r2gengpt batch"  # the command line, which need not be UTF-8
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return ray


@contextlib.contextmanager
def cluster(address: str | None, workers: Workers) -> Iterator[tuple[Any, Workers]]:
    """Ray inside the block, and the workers as they fit it: the cluster at an address, or one that starts here.

    A Ray that this process has joined already is used where no address is given, and left as it is.

    Raises:
        InputError: nobody answers at the address, or the cluster is too small.
        RunError: a local Ray does not start.
    """
    ray = quiet_ray()
    with contextlib.ExitStack() as stack:
        if address is not None:
            stack.callback(ray.shutdown)
            join(ray, address)
        elif not ray.is_initialized():
            stack.enter_context(local_ray(ray, workers))
        resources = ray.cluster_resources()
        workers = replace(workers, gpu=resources.get("GPU", 0) >= workers.actors) if workers.gpu is None else workers
        check_size(resources, workers, f"the cluster at {address}" if address else "this machine")
        yield ray, workers


@contextlib.contextmanager
def local_ray(ray: Any, workers: Workers) -> Iterator[None]:
    """A Ray of this process's own, which listens on loopback only; its files go when the block ends."""
    sweep_dead()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    try:
        try:
            with on_loopback(), hushed(), own_token(), readable_place():
                ray.init(
                    num_cpus=workers.cpus,
                    include_dashboard=False,
                    log_to_driver=False,
                    configure_logging=False,
                    logging_level=logging.CRITICAL,
                    object_store_memory=store_size(),
                    _node_ip_address="127.0.0.1",
                    _temp_dir=str(folder),
                )
        except Exception as error:  # Ray raises no class of its own here
            why = " ".join(str(error).split())[:200]
            raise RunError(f"Ray does not start here ({type(error).__name__}: {why})") from error
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def on_loopback() -> Iterator[None]:
    """Let Ray take 127.0.0.1 at its word: it would put this machine's outer address in its place, and listen there."""
    from ray._private import services

    kept = services.resolve_ip_for_localhost
    services.resolve_ip_for_localhost = lambda host: host
    try:
        yield
    finally:
        services.resolve_ip_for_localhost = kept


@contextlib.contextmanager
def readable_place() -> Iterator[None]:
    """Be in a directory whose name is UTF-8: Ray keeps the name of the one that it is started in."""
    here = Path.cwd()
    if shown(str(here)) == str(here):
        yield
        return
    os.chdir(here.anchor)
    try:
        yield
    finally:
        os.chdir(here)


@contextlib.contextmanager
def own_token() -> Iterator[None]:
    """Let the Ray that starts within ask for a token that this process and its workers alone know.

    Ray would make one of its own in the home directory, for all Rays of the user, and leave it there. Who has set
    RAY_AUTH_MODE has chosen already. The token stays set: Ray reads it later too.
    """
    if "RAY_AUTH_MODE" not in os.environ:  # Ray then sets it by itself
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    yield


@contextlib.contextmanager
def hushed() -> Iterator[int]:
    """Keep what Ray's C++ parts print at their start off stderr; gives a handle of stderr itself."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield kept
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def store_size() -> int:
    """Bytes for the object store: `STORE`, or a quarter of this machine's memory where that is less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(max(100 << 20, min(STORE, memory // 4)))


def sweep_dead() -> None:
    """Remove what local Rays of programs that were killed left in the folder for temporary files."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        number = folder.name.removeprefix(PREFIX).split("-")[0]
        if number.isdecimal() and folder.stat().st_uid == os.getuid() and not alive(int(number)):
            shutil.rmtree(folder, ignore_errors=True)


def alive(process: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def join(ray: Any, address: str) -> None:
    """Connect to a cluster.

    Raises:
        InputError: not HOST:PORT, or no Ray answers there within `PATIENCE` seconds.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise InputError(f"--address {address}: must be HOST:PORT of the cluster's head, as `ray start` prints it")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE / 3).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--address {address}: does not answer: {getattr(error, 'strerror', None) or error}") from None
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(int(PATIENCE)))
    with hushed() as stderr, readable_place():
        stop = threading.Timer(PATIENCE, give_up, (address, stderr))
        stop.daemon = True
        stop.start()
        try:
            ray.init(address=address, log_to_driver=False, configure_logging=False, logging_level=logging.CRITICAL)
        except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError, RpcError
            raise InputError(
                f"--address {address}: no Ray cluster there that this program's Ray can join (of its version; "
                "with token authentication, set RAY_AUTH_MODE and RAY_AUTH_TOKEN)"
            ) from error
        finally:
            stop.cancel()


def give_up(address: str, stderr: int) -> None:
    """End the program: Ray's wait for a head that takes connections and says nothing cannot be stopped otherwise."""
    line = f"r2gengpt batch: --address {address}: no Ray cluster answers within {PATIENCE:.0f} s\n"
    os.write(stderr, line.encode())
    os._exit(2)


def check_size(resources: dict[str, float], workers: Workers, where: str) -> None:
    """Refuse a cluster in which the actors would wait for ever.

    Raises:
        InputError: too few CPUs or GPUs.
    """
    cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    needed = workers.actors * workers.threads + 1
    if cpus < needed:
        raise InputError(
            f"--actors {workers.actors} --threads {workers.threads}: need {needed} CPUs with one for decoding, but "
            f"{where} has {cpus:g}"
        )
    if workers.gpu and gpus < workers.actors:
        raise InputError(f"--actors {workers.actors}: need a GPU each, but {where} has {gpus:g}")
