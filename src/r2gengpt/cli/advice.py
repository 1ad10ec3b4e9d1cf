"""What will be slow or will not work on a machine, why, and what mends it. Looks at nothing itself."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from r2gengpt.cli.surroundings import Surroundings
from r2gengpt.errors import installing

ROOM = 5 * 10**9
"""Bytes of disk that a model of 3 billion parameters needs at the least."""
SHARED = 10**9
"""Bytes of shared memory below which processes that read images may fail."""


@dataclass(frozen=True)
class Advice:
    """What will be slow or will not work, why, and the command or setting that mends it."""

    what: str
    why: str
    mend: str


def advice(here: Surroundings) -> list[Advice]:
    """All that a user of this machine should know, the gravest first."""
    return [one for check in CHECKS for one in check(here)]


def broken(here: Surroundings) -> Iterator[Advice]:
    """What every command needs."""
    for name in here.wrong:
        yield Advice("no command works", f"{name} is {here.packages[name]}", "make setup, or pip install .")
    if here.torch.fault:
        yield Advice("no model runs", f"PyTorch cannot be imported: {here.torch.fault}", "pip install torch")


def no_gpu(here: Surroundings) -> Iterator[Advice]:
    """GPUs that PyTorch does not use, or none."""
    if here.machine.gpus or here.torch.fault:
        return
    slow = "training, and large language models"
    if here.nvidia and here.torch.cuda is None:
        why = "there is an NVIDIA GPU, but this PyTorch is built for CPUs"
        yield Advice(slow, why, "pip install --force-reinstall torch, of a build for CUDA (pytorch.org lists them)")
    elif here.nvidia:
        yield Advice(slow, f"PyTorch (CUDA {here.torch.cuda}) cannot use the NVIDIA GPU", "nvidia-smi names the driver")
    else:
        mend = "r2gengpt plan names what fits; --quantization w8a8 writes faster with large models"
        yield Advice(slow, "no GPU", mend)


def no_bfloat16(here: Surroundings) -> Iterator[Advice]:
    """Processors that emulate bfloat16."""
    if not here.machine.gpus and not here.machine.bfloat16 and not here.torch.fault:
        why = "this processor has no bfloat16 arithmetic, so float32 is taken: twice the memory"
        yield Advice("large language models", why, "leave --precision and --dtype at auto; bfloat16 is slower here")


def few_threads(here: Surroundings) -> Iterator[Advice]:
    """Fewer threads than processors, or few processors."""
    threads, cores = here.torch.threads, here.machine.cores
    if not here.torch.fault and threads * 2 <= cores:
        why = f"PyTorch computes with {threads} of {cores} processors"
        yield Advice("everything on the CPU", why, "unset OMP_NUM_THREADS")


def no_start_without_torch(here: Surroundings) -> Iterator[Advice]:
    """The runtime that starts soonest."""
    why = "a process that writes one report takes most of its time to import PyTorch"
    if here.extras.get("openvino"):
        mend = f"{installing('openvino')}; r2gengpt pull embedded"
        yield Advice("the first report", f"{why}, and OpenVINO is missing", mend)
    elif not here.cache.fault and not here.cache.graphs:
        words = f"{why}, and the embedded model's graphs for OpenVINO are not made"
        yield Advice("the first report", words, "r2gengpt pull embedded")


def no_embedded(here: Surroundings) -> Iterator[Advice]:
    """The embedded model."""
    if here.cache.fault:
        why = f"the embedded model is {here.cache.fault} ({here.cache.directory})"
        yield Advice("generate without --model does not work", why, "r2gengpt pull embedded")


def little_room(here: Surroundings) -> Iterator[Advice]:
    """Disks that are full."""
    if here.cache.free < ROOM:
        why = f"{here.cache.free / 1e9:.1f} GB are free at {here.cache.directory}"
        yield Advice("models of the hub may not fit", why, "HF_HOME and R2GENGPT_CACHE name other directories")


def offline(here: Surroundings) -> Iterator[Advice]:
    """A hub that is not asked."""
    if here.hub.offline:
        why = f"HF_HUB_OFFLINE is set, and {here.hub.directory} holds {len(here.hub.models)} models"
        yield Advice("models of the hub are not fetched", why, "unset HF_HUB_OFFLINE, or name a directory")


def little_shared(here: Surroundings) -> Iterator[Advice]:
    """Containers whose processes can share little."""
    if here.shared_bytes is not None and here.shared_bytes < SHARED:
        why = f"/dev/shm has {here.shared_bytes / 1e6:.0f} MB, and --num_workers passes images by it"
        yield Advice("train with --num_workers may fail", why, "docker run --shm-size 2g, or --num_workers 0")


def no_train(here: Surroundings) -> Iterator[Advice]:
    """What commands miss without an extra."""
    for extra, what in LOST.items():
        if missing := here.extras.get(extra):
            yield Advice(what, f"{', '.join(missing)} missing", installing(extra))


LOST = {
    "train": "train does not work",
    "serve": "serve does not work",
    "dicom": "no DICOM is read",
    "pacs": "listen and dicomweb do not work",
    "fhir": "no FHIR and no HL7",
    "batch": "batch does not work",
    "metrics": "no METEOR",
    "quantization": "no --quantization int8, nf4 and fp4",
}
"""Extra → what its users lose without it."""
CHECKS: tuple[Callable[[Surroundings], Iterator[Advice]], ...] = (
    *(broken, no_embedded, no_gpu, no_bfloat16, few_threads, no_start_without_torch),
    *(little_room, little_shared, offline, no_train),
)
