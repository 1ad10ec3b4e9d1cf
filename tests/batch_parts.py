"""Stand-ins for bulk runs: a little archive, a maker of pixels and a writer without torch, and how they are killed.

As a program, `batch_parts.py INPUT OUTPUT ADDRESS` is a driver over them; KILL says what ends when. No test is here.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from r2gengpt.batch import driver as driver_room
from r2gengpt.batch.cluster import Workers
from r2gengpt.batch.driver import BulkWork, run_batch
from r2gengpt.batch.listing import read_listing
from r2gengpt.batch.workers import Decoded
from r2gengpt.errors import InputError, RunError
from r2gengpt.films.film import Pixels
from r2gengpt.report import Report, Sentence

ORIGIN = {"model": "stand-in", "model_sha256": "0" * 64, "versions": {"r2gengpt": "test"}, "decode": {"beam_size": 1}}
BAD = b"not a film"


def archive(folder: Path, studies: int, bad: Sequence[int] = ()) -> Path:
    """A folder of studies of one to three "images" of a few bytes; those in `bad` cannot be decoded."""
    for number in range(studies):
        place = folder / f"study{number:05d}"
        place.mkdir(parents=True)
        for view in range(1 + number % 3):
            content = BAD if number in bad else f"{number}.{view}".encode()
            (place / f"{view}.png").write_bytes(content)
    return folder


@dataclass(frozen=True)
class NoViews:
    """Makes pixels of films without an image processor."""

    side: int = 16

    def pixels(self, pictures: Sequence[Image.Image]) -> Pixels:
        return np.zeros((len(pictures), 3, 4, 4), np.float32)


@dataclass(frozen=True)
class Killed:
    """What ends when: KIND:NUMBER, and a file that says that it has. Kinds of workers: decoder, actor."""

    kind: str = ""
    number: int = 0
    mark: str = ""

    def here(self, kind: str, study: str) -> None:
        """End this worker if it is its turn, once."""
        if self.kind != kind or study != f"study{self.number:05d}":
            return
        try:
            os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class BytePixels:
    """Pixels that are the files' bytes."""

    killed: Killed = Killed()

    def __call__(self, contents: list[bytes], names: list[str]) -> Pixels:
        if BAD in contents:
            raise InputError(f"image {names[contents.index(BAD)]}: is no film")
        self.killed.here("decoder", names[0].split("/")[0])
        rows = [np.frombuffer(data.ljust(16), dtype=np.uint8).astype(np.float32) for data in contents]
        return np.stack(rows).reshape(len(rows), 1, 4, 4)


@dataclass
class StandIn:
    """Writes what it sees; `broken` ids raise."""

    killed: Killed = Killed()
    broken: tuple[str, ...] = ()
    origin: Mapping[str, Any] = ()  # type: ignore[assignment]  # set below

    def __post_init__(self) -> None:
        self.origin = dict(ORIGIN)

    def write(self, studies: Sequence[Decoded], first: int) -> list[Report]:
        for study in studies:
            if study.id in self.broken:
                raise ValueError(f"cannot write {study.id}")
            self.killed.here("actor", study.id)
        return [self._one(study) for study in studies]

    def _one(self, study: Decoded) -> Report:
        assert study.pixels is not None
        text = f"{len(study.pixels)} views, sum {study.pixels.sum():.0f}."
        return Report(study.id, text, tokens=3, logprob=-0.5, sentences=(Sentence(text, 3, -0.5, None, 0.25),))


def make_stand_in(killed: Killed = Killed(), broken: tuple[str, ...] = ()) -> StandIn:  # frozen
    return StandIn(killed, broken)


@dataclass
class InStep:
    """Writes a shard when all before it lie on disk, in the folder `shards`; else it refuses to go on."""

    shards: Path
    done: int = 0

    @property
    def origin(self) -> Mapping[str, Any]:
        return ORIGIN

    def write(self, studies: Sequence[Decoded], first: int) -> list[Report]:
        pause = threading.Event()
        for _ in range(3000):
            if self.done == 0 or len(list(self.shards.glob("*.jsonl"))) >= self.done:
                break
            pause.wait(0.01)
        else:
            raise RunError(f"a shard before the one at {first} is finished and not written")
        self.done += 1
        return StandIn().write(studies, first)


def refuse(message: str) -> StandIn:
    """A maker of writers that finds its input wrong."""
    raise InputError(message)


def run_stand_in(
    source: Path,
    output: Path,
    address: str | None = None,
    killed: Killed = Killed(),  # frozen
    make: Any = None,
    shard_size: int = 10,
    form: str = "jsonl",
    actors: int = 1,
) -> Path:
    work = BulkWork(BytePixels(killed), make or partial(make_stand_in, killed), Workers(actors, 1, False, 1), address)
    settings = {"format": form, "shard_size": shard_size, "beam_size": 1}
    return run_batch(output, lambda: read_listing(source, None, "all"), settings, lambda: work)


def contents(output: Path) -> dict[str, bytes]:
    """All that a run leaves but the page, which tells of time; by name."""
    left = {path.relative_to(output).as_posix(): path for path in sorted(output.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in left.items() if name != "summary.html"}


HEAD = """
import sys, tempfile, ray
from r2gengpt.batch.cluster import ClusterJob, Workers, joined
job = ClusterJob([], None, b"", b"", Workers(1, 1, False, int(sys.argv[1]) - 1))
with tempfile.TemporaryDirectory() as folder, joined(job, folder):
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
"""


@contextmanager
def session_ray(cpus: int = 4) -> Iterator[str]:
    """A Ray beside this process, as bulk runs start theirs; gives its address. Its settings stay set for who joins."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    os.environ |= {driver_room.ONE_MACHINE: "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "7" * 64}
    command = [sys.executable, "-c", HEAD, str(cpus)]
    streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, env=driver_room.environment(local=True), **streams) as head:
        assert head.stdout is not None
        yield head.stdout.readline().strip()
        assert head.stdin is not None
        head.stdin.close()


def plan_kill(kind: str, number: int) -> None:
    """In a driver: let it, or the node, be killed at the `number`-th shard that it writes.

    driver: before it is written; write: half of it is; rename: it is written, and nothing is told of it; end: by
    SIGTERM, before. Of the first and the last, a file beside the output tells what there was.
    """
    write, count = driver_room.write_whole, iter(range(1_000_000))

    def written(path: Path, parts: Any) -> None:
        due = next(count) == number
        if due and kind == "node":
            import psutil

            for process in psutil.Process().children(recursive=True):
                if process.name() == "raylet":
                    process.kill()
        if due and kind in ("driver", "end"):
            note_processes()
            os.kill(os.getpid(), signal.SIGKILL if kind == "driver" else signal.SIGTERM)
        if due and kind == "write":
            data = b"".join(parts)
            path.parent.mkdir(exist_ok=True)
            path.with_name(f".{path.name}.part").write_bytes(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, parts)
        if due and kind == "rename":
            os.kill(os.getpid(), signal.SIGKILL)

    driver_room.write_whole = written


def note_processes() -> None:
    """Write which processes this one began, and where they listen."""
    import psutil

    own = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening: set[str] = set()
    for process in own:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile, as some of Ray's do
            found = process.net_connections(kind="inet")
            listening |= {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN}
    told = {"processes": [process.pid for process in own], "listening": sorted(listening)}
    Path(f"{sys.argv[2]}.processes").write_text(json.dumps(told))


def seeded_kill(seed: int, kinds: Sequence[str], studies: int, shards: int) -> str:
    """Which part ends at which study or shard, as KIND:NUMBER."""
    draw = random.Random(seed)
    kind = kinds[seed % len(kinds)]
    return f"{kind}:{draw.randrange(studies if kind in ('actor', 'decoder') else shards - 2)}"


def main() -> None:
    source, output, address = sys.argv[1:4]
    kind, _, number = os.environ.get("KILL", "").partition(":")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the program does
    if kind in ("driver", "write", "rename", "node", "end"):
        plan_kill(kind, int(number))
    killed = Killed(kind, int(number or 0), f"{output}.killed") if kind in ("actor", "decoder") else Killed()
    try:
        run_stand_in(Path(source), Path(output), None if address == "local" else address, killed)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    import batch_parts  # so that workers find its classes by a name that they can import

    batch_parts.main()
