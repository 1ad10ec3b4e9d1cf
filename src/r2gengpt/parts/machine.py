"""What this machine has: main memory, processors, GPUs. Runs no model, and importing it loads no library."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CPUINFO = Path("/proc/cpuinfo")
CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
"""Where a container's limit and use stand, by the kernel's two ways."""
GB = 1e9


@dataclass(frozen=True)
class Gpu:
    """One GPU, its memory in bytes."""

    name: str
    memory: int
    free: int


@dataclass(frozen=True)
class Machine:
    """What a model may take here.

    Attributes:
        memory: bytes of main memory, those of the container where it has fewer.
        free: bytes of it that nobody holds.
        cores: processors that this process may use.
        processor: its name.
        bfloat16: whether bfloat16 products are native where models run.
        gpus: those that PyTorch can use.
    """

    memory: int
    free: int
    cores: int
    processor: str
    bfloat16: bool
    gpus: tuple[Gpu, ...] = ()

    @property
    def words(self) -> str:
        """One line for people."""
        gpus = [f"{gpu.name} with {gpu.memory / GB:.1f} GB, {gpu.free / GB:.1f} free" for gpu in self.gpus]
        main = f"{self.memory / GB:.1f} GB of main memory, {self.free / GB:.1f} free"
        return "; ".join([f"{self.cores} cores", main, *(gpus or ["no GPU"])])


def this_machine() -> Machine:
    """The machine that this process runs on, as PyTorch and the system tell it."""
    from r2gengpt.parts.assemble import device_has_bfloat16

    memory, free = main_memory()
    return Machine(memory, free, cores(), processor(), device_has_bfloat16(), tuple(usable_gpus()))


def usable_gpus() -> Iterator[Gpu]:
    """The GPUs that PyTorch can use."""
    import torch

    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, memory = torch.cuda.mem_get_info(index)
        yield Gpu(torch.cuda.get_device_name(index), memory, free)


def main_memory() -> tuple[int, int]:
    """Bytes of main memory, and of it those that nobody holds (all, where the system does not tell)."""
    if MEMINFO.is_file():
        rows = dict(line.split(":", 1) for line in MEMINFO.read_text(encoding="ascii").splitlines())
        memory, free = (int(rows[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    else:
        memory = free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit, used in CGROUPS:
        if limit.is_file() and limit.read_text().strip().isdigit() and int(limit.read_text()) < memory:
            memory = int(limit.read_text())
            free = min(free, max(0, memory - int(used.read_text())))
    return memory, free


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name."""
    if CPUINFO.is_file():
        for line in CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
