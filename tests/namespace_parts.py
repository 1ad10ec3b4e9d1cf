"""Programs in a root and a network of their own, as containers have them, by Linux's namespaces. No test stands here.

The root is this machine's with a layer above it that takes all changes and goes with the test. The network has loopback
alone, and names of services lead there. It needs root and `unshare`.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from serving_parts import LONG

T = TypeVar("T")
NETWORK = 0x40000000
"""CLONE_NEWNET: the one kind of namespace that a thread may enter alone."""
SETUP = """
set -eu
mount -t tmpfs none "$LAYER"
mkdir "$LAYER/changes" "$LAYER/work" "$LAYER/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$LAYER/changes,workdir=$LAYER/work" "$LAYER/root"
for place in proc sys dev; do mount --rbind "/$place" "$LAYER/root/$place"; done
mount -t tmpfs none "$LAYER/root/tmp"
while IFS=' ' read -r from to; do
	mkdir -p "$LAYER/root$to"
	mount --bind "$from" "$LAYER/root$to"
done
ip link set lo up
printf '127.0.0.1 localhost %s\\n' "$NAMES" > "$LAYER/root/etc/hosts"
echo up
exec chroot "$LAYER/root" sleep infinity
"""


def may_make() -> bool:
    """Whether a namespace can be made here."""
    words = ["unshare", "--net", "--mount", "true"]
    tools = all(shutil.which(word) for word in ("unshare", "nsenter", "ip"))
    return os.geteuid() == 0 and tools and subprocess.run(words, capture_output=True, check=False).returncode == 0


class Namespace:
    """A root and a network.

    Args:
        directory: empty; the layer lies above it.
        mounted: places there → directories of this machine.
        names: of hosts that are this one.
    """

    def __init__(self, directory: Path, mounted: Mapping[str, Path], names: Sequence[str]) -> None:
        self.started: list[subprocess.Popen[bytes]] = []
        directory.mkdir()
        self.logs = directory.parent
        words = ["unshare", "--net", "--mount", "--propagation", "private", "bash", "-c", SETUP]
        environment = {**os.environ, "LAYER": str(directory), "NAMES": " ".join(names)}
        self.holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        assert self.holder.stdin is not None
        assert self.holder.stdout is not None
        self.holder.stdin.write("".join(f"{source} {place}\n" for place, source in mounted.items()).encode())
        self.holder.stdin.close()
        assert self.holder.stdout.readline() == b"up\n"

    def words(self, words: Sequence[str]) -> list[str]:
        """What runs these words there."""
        return ["nsenter", f"--target={self.holder.pid}", "--net", "--mount", "--root", "--wd", *words]

    def start(self, name: str, words: Sequence[str], **more: Any) -> subprocess.Popen[bytes]:
        """A program that runs until the end; its output is in the file of its name."""
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(self.words(words), stdout=log, stderr=log, **more)
        self.started.append(process)
        return process

    def run(self, *words: str, **more: Any) -> str:
        """What a program prints that ends well."""
        done = subprocess.run(self.words(words), capture_output=True, text=True, check=False, timeout=LONG, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def within(self, ask: Callable[[], T]) -> T:
        """What a function gives, or raises, whose connections are made there."""

        def entered() -> T:
            with open(f"/proc/{self.holder.pid}/ns/net", "rb") as network:
                assert ctypes.CDLL(None, use_errno=True).setns(network.fileno(), NETWORK) == 0
            return ask()

        with ThreadPoolExecutor(1) as threads:  # a thread of its own: one that has entered does not come back
            return threads.submit(entered).result()

    def close(self) -> None:
        """End all programs."""
        for process in reversed(self.started):
            process.terminate()
            process.wait(LONG)
        self.holder.kill()
        self.holder.wait(LONG)
        assert self.holder.stdout is not None
        self.holder.stdout.close()


@contextmanager
def namespace(directory: Path, mounted: Mapping[str, Path], names: Sequence[str]) -> Iterator[Namespace]:
    one = Namespace(directory, mounted, names)
    try:
        yield one
    finally:
        one.close()
