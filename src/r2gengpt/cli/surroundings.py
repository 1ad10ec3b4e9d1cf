"""What of the program is installed here, and what it finds: packages, extras, devices, caches. Judges nothing."""

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2gengpt.parts.machine import Machine, cores, main_memory, processor
from r2gengpt.version import __version__

NVIDIA = (Path("/dev/nvidia0"), Path("/proc/driver/nvidia/version"))
"""What is there where the kernel has an NVIDIA GPU."""
SHARED = Path("/dev/shm")
OURS = "r2gengpt"
NOT_EXTRAS = ("dev",)


@dataclass(frozen=True)
class Torch:
    """PyTorch as it is installed.

    Attributes:
        fault: why it cannot be imported; empty: it can.
        cuda: the CUDA version that it was built for; None: it runs on CPUs alone.
        threads: those that it computes with.
    """

    fault: str = ""
    cuda: str | None = None
    threads: int = 1


@dataclass(frozen=True)
class Surroundings:
    """What the program finds around itself.

    Attributes:
        versions: of the program, of Python, and of the system.
        packages: package that every command needs → its version, or what is wrong.
        wrong: those of `packages` that are missing or too old.
        extras: extra → its packages that are missing or too old.
        machine: processors, memory, GPUs.
        torch: PyTorch.
        nvidia: whether the kernel has an NVIDIA GPU.
        shared_bytes: size of the memory that processes share; None: unknown.
        cache: directory of the embedded model, its fault (empty: none), bytes free there.
        hub: directory of the hub's models, their names, whether the hub is asked.
    """

    versions: tuple[str, str, str]
    packages: Mapping[str, str]
    wrong: tuple[str, ...]
    extras: Mapping[str, tuple[str, ...]]
    machine: Machine
    torch: Torch
    nvidia: bool
    shared_bytes: int | None
    cache: "Cache"
    hub: "Hub"


@dataclass(frozen=True)
class Cache:
    """Where the embedded model lies; `graphs`: those for OpenVINO too."""

    directory: str
    fault: str
    free: int
    graphs: bool = True


@dataclass(frozen=True)
class Hub:
    """Where models of the hub lie."""

    directory: str
    models: tuple[str, ...]
    offline: bool


def look_around() -> Surroundings:
    """All of it; imports PyTorch."""
    packages, wrong, extras = installed()
    torch = torch_here()
    return Surroundings(
        versions=(__version__, platform.python_version(), platform.platform()),
        packages=packages,
        wrong=wrong,
        extras=extras,
        machine=machine_of(torch),
        torch=torch,
        nvidia=any(path.exists() for path in NVIDIA),
        shared_bytes=shutil.disk_usage(SHARED).total if SHARED.is_dir() else None,
        cache=cache_here(),
        hub=hub_here(),
    )


def torch_here() -> Torch:
    """PyTorch, or why it cannot be imported."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Torch(fault=str(error).splitlines()[0])
    return Torch(cuda=torch.version.cuda, threads=torch.get_num_threads())


def machine_of(torch: Torch) -> Machine:
    """The machine, without GPUs where PyTorch cannot be imported."""
    if not torch.fault:
        from r2gengpt.parts.machine import this_machine

        return this_machine()
    memory, free = main_memory()
    return Machine(memory, free, cores(), processor(), bfloat16=False)


def installed() -> tuple[dict[str, str], tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Packages with their versions, the wrong ones, and what each extra lacks, by the program's own metadata."""
    from packaging.requirements import Requirement

    try:
        asked = [Requirement(line) for line in importlib.metadata.requires(OURS) or ()]
        names = importlib.metadata.metadata(OURS).get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        return {}, (), {}
    core = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    packages = {one.name: state_of(one) for one in core}
    wrong = tuple(one.name for one in core if lacks(one))
    extras = {}
    for name in sorted(set(names) - set(NOT_EXTRAS)):
        own = [
            one for one in asked if one not in core and one.marker is not None and one.marker.evaluate({"extra": name})
        ]
        extras[name] = tuple(one.name for one in own if one.name != OURS and lacks(one))
    return packages, wrong, extras


def state_of(asked: Any) -> str:
    """The version of a package, or what is wrong with it."""
    try:
        version = importlib.metadata.version(asked.name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
    return version if asked.specifier.contains(version, prereleases=True) else f"{version}, must be {asked.specifier}"


def lacks(asked: Any) -> bool:
    """Whether a package is missing, or of a version that is not asked for."""
    state = state_of(asked)
    return state == "missing" or ", must be " in state


def cache_here() -> Cache:
    """The embedded model's directory and its fault."""
    from r2gengpt.edge.record import RECORD
    from r2gengpt.files import cache_dir
    from r2gengpt.opening import graphs_dir
    from r2gengpt.parts.embedded.cache import find_fault, part_dir
    from r2gengpt.parts.embedded.catalogue import PARTS

    directory = cache_dir()
    faults = [find_fault(part_dir(part), hashes=False) for part in PARTS]
    there = next((path for path in (directory, *directory.parents) if path.is_dir()), Path.cwd())
    missing = not any(part_dir(part).is_dir() for part in PARTS)
    fault = "not here" if missing else next(filter(None, faults), "")
    graphs = (graphs_dir() / RECORD).is_file()
    return Cache(str(directory), fault, shutil.disk_usage(there).free, graphs)


def hub_here() -> Hub:
    """The hub's cache, as the library finds it."""
    home = os.environ.get("HF_HOME") or str(Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface")
    directory = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
    models = sorted(path.name.removeprefix("models--").replace("--", "/") for path in directory.glob("models--*"))
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    return Hub(str(directory), tuple(models), offline)
