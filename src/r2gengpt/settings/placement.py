"""Where a model runs, where films are decoded, and how reports are written, marked and explained. Loads nothing."""

import re
from dataclasses import dataclass

from r2gengpt.errors import InputError
from r2gengpt.options import Checked, check_fields, option

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
"""Lightning's words for a kind of device."""
RUNTIMES = ("auto", "torch", "openvino")
MEMORY_LIMIT = re.compile(r"([0-9]{1,3}|cpu)=([0-9]{1,6}(?:GiB|MiB|KiB|GB|MB|KB))")
"""A device, and a size in the words that accelerate reads."""

NO_HASH = "needs all weights in memory, as identifiers are made from them: leave out `offload_folder`"
"""Why no document is made of a report whose model has no hash."""


@dataclass(frozen=True)
class PlacementConfig:
    """How a model is held on this machine, and whose code may run. Never stored with weights, never read from them."""

    quantization: str = option(
        "auto",
        "frozen weights of the language model in 8 or 4 bits (needs bitsandbytes); auto: as `lm_model` holds them; "
        "w8a8: weights and products in 8 bits, for writing reports on a CPU (not for training)",
        choices=("auto", "none", "int8", "nf4", "fp4", "w8a8"),
    )
    double_quant: bool = option(False, "4 bits: quantize the quantization's constants too")
    low_resource: bool = option(False, "the original's name for `quantization` int8")
    dtype: str = option(
        "auto",
        "frozen weights in memory; auto: bfloat16 where `precision` or the device has it, else float32",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    device_map: str = option(
        "none",
        "layers of the language model: none, on one device; auto, spread over all devices, then memory, then "
        "`offload_folder` (not in training)",
        choices=("none", "auto"),
    )
    offload_folder: str | None = option(
        None, "`device_map` auto: layers that fit nowhere else are read from disk", unit="DIR"
    )
    max_memory: tuple[str, ...] = option(
        (),
        "`device_map` auto: most to take, as 0=20GiB cpu=8GiB (a number is a GPU); none: what is free",
        unit="DEVICE=SIZE",
    )
    trust_remote_code: bool = option(
        False, "run Python code that comes with `vision_model` or `lm_model`; a checkpoint cannot ask for it"
    )
    lm_endpoint: str | None = option(
        None,
        "where vLLM serves the language model of a directory of `export` with `target` vllm, as http://host:8000/v1",
        unit="URL",
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.low_resource:
            if self.quantization not in ("auto", "int8"):
                raise InputError(f"`low_resource` True means int8, but `quantization` is {self.quantization}: give one")
            object.__setattr__(self, "quantization", "int8")
        if self.double_quant and self.quantization not in ("nf4", "fp4"):
            raise InputError(f"`double_quant` True belongs to nf4 and fp4, but `quantization` is {self.quantization}")
        if self.device_map == "none" and (self.max_memory or self.offload_folder is not None):
            name = "max_memory" if self.max_memory else "offload_folder"
            raise InputError(f"`{name}` belongs to `device_map` auto, but `device_map` is none")
        if self.offload_folder is not None and self.quantization in ("int8", "nf4", "fp4", "w8a8"):
            raise InputError(f"`offload_folder`: {self.quantization} weights cannot be read from disk layer by layer")
        if len(self.memory_limits) != len(self.max_memory):
            raise InputError("names a device twice", field="max_memory", value=" ".join(self.max_memory))

    @property
    def memory_limits(self) -> dict[int | str, str]:
        """`max_memory` by device: a GPU's number, or cpu.

        Raises:
            InputError: an entry is not of the form DEVICE=SIZE.
        """
        limits: dict[int | str, str] = {}
        for entry in self.max_memory:
            found = MEMORY_LIMIT.fullmatch(entry)
            if found is None:
                raise InputError("must be like 0=20GiB, 1=500MB or cpu=8GiB", field="max_memory", value=entry)
            limits[int(found[1]) if found[1].isdecimal() else found[1]] = found[2]
        return limits


@dataclass(frozen=True)
class CellConfig(Checked):
    """What decoding one image may take; it is done in a process of its own, which is ended beyond that."""

    decode_seconds: float = option(
        30.0,
        "processor seconds for decoding one image, four times as many by the clock; then it is refused",
        above=0.0,
        high=3600.0,
        unit="SECONDS",
    )
    decode_memory_mb: int = option(
        2048,
        "MiB of memory for decoding one image, 80 megapixels included; then it is refused",
        low=256,
        high=65536,
        unit="MIB",
    )


@dataclass(frozen=True)
class ReviewConfig(Checked):
    """Which sentences are marked for review."""

    abstain_below: float | None = option(
        None,
        "mark sentences whose confidence is below this as needing review; without a calibration beside the model "
        "confidence is exp(mean log-probability)",
        low=0.0,
        high=1.0,
        unit="PROBABILITY",
    )


WARN, REFUSE = "warn", "refuse"


@dataclass(frozen=True)
class GuardConfig(Checked):
    """What becomes of a film that shows no chest."""

    film_guard: str = option(
        WARN,
        "a film that looks like none of a chest, to a model with a film guard: warn, the report needs review and says "
        "why; refuse, there is none without `force`",
        choices=(WARN, REFUSE),
    )


GENERATE, RETRIEVE = "generate", "retrieve"
WRITERS = (GENERATE, RETRIEVE)


@dataclass(frozen=True)
class WriterConfig(Checked):
    """Who writes the reports."""

    writer: str = option(
        GENERATE,
        "generate: the language model; retrieve: sentences of training reports that fit what the finding head sees, "
        "each with its source (train with `keep_sentences` True)",
        choices=WRITERS,
    )


METHODS = ("findings", "occlusion", "gradient")


@dataclass(frozen=True)
class EvidenceConfig(Checked):
    """Which parts of the images a test's texts rest on."""

    evidence: bool = option(
        False, "maps of the image tokens that each sentence rests on, with a faithfulness number: evidence.jsonl"
    )
    evidence_studies: int = option(
        20, "how many studies get maps: the best, median and worst by CIDEr", low=1, unit="STUDIES"
    )
    evidence_method: str | None = option(
        None,
        "findings: the patches that the finding head read a sentence's finding from; occlusion: the drop of a "
        "sentence's log-probability when image tokens are masked; gradient: faster, less faithful; None: findings "
        "where there is a head, else occlusion",
        choices=METHODS,
    )
