"""Every setting of the program as frozen dataclasses, checked when made. No torch, no files.

A field is a flag of the same name (`cli.bridge`); its help text and allowed values stand in the field's metadata.
Defaults are the original's (configs/config.py) where it has the flag; a differing default says why in its help text.
"""

import math
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from operator import ge, gt, le
from typing import Any

from r2gengpt.errors import InputError

DEFAULT_INSTRUCTION = "Generate a comprehensive and detailed diagnosis report for this chest xray image."
ALIGNMENTS = {"shallow": (True, False), "delta": (True, True), "deep": (False, False)}
"""Alignment → (freeze_vm, vis_use_lora), as the original's paper names them (arXiv 2309.09812, section 2.3)."""

MEMORY_LIMIT = re.compile(r"([0-9]{1,3}|cpu)=([0-9]{1,6}(?:GiB|MiB|KiB|GB|MB|KB))")
"""A device, and a size in the words that accelerate reads."""
TEMPLATES = ("auto", "plain", "chat")


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] | None = None,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    here: bool = False,
) -> Any:
    """A dataclass field with its help text, its allowed words, or its range (`low`/`high` inclusive, `above` not).

    `here` marks what belongs to this machine or its user: a checkpoint never holds it (`kept_names`).
    """
    limits = {"choices": choices, "low": low, "above": above, "high": high}
    return field(default=default, metadata={"help": help, "here": here, **limits})


def _is_of(value: Any, hint: Any) -> bool:
    """True where a value has the type of a field's annotation; a whole number is a float too, True is no number."""
    if isinstance(hint, types.UnionType):
        return any(_is_of(value, part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is_of(item, typing.get_args(hint)[0]) for item in value)
    wanted = (int, float) if hint is float else hint
    return isinstance(value, wanted) and (hint is bool or not isinstance(value, bool))


def check_fields(config: Any) -> None:
    """Check each field of a dataclass instance against its type and its metadata.

    Raises:
        InputError: the first value of another type or out of its range or words, with the flag's name and the limit.
    """
    hints = typing.get_type_hints(type(config))
    for f in fields(config):
        value, meta, hint = getattr(config, f.name), f.metadata, hints[f.name]
        if not _is_of(value, hint):
            kind = hint if typing.get_args(hint) else hint.__name__
            raise InputError(f"--{f.name} {value!r}: must be of type {kind}", field=f.name)
        if value is None:
            continue
        if meta.get("choices") and value not in meta["choices"]:
            raise InputError(f"--{f.name} {value}: choose from {', '.join(meta['choices'])}", field=f.name)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, float) and not math.isfinite(one):
                raise InputError(f"--{f.name} {one}: must be a finite number", field=f.name)
            if isinstance(one, str) and "\0" in one:
                raise InputError(f"--{f.name} {one!r}: holds a zero byte, which no path or text may", field=f.name)
        for bound, compare, words in (("low", ge, "at least"), ("above", gt, "above"), ("high", le, "at most")):
            if meta.get(bound) is not None and not compare(value, meta[bound]):
                raise InputError(f"--{f.name} {value}: must be {words} {meta[bound]}", field=f.name)


@dataclass(frozen=True)
class ModelConfig:
    """What the model is made of and which of its parts are trained. Stored with the weights."""

    vision_model: str = option("microsoft/swin-base-patch4-window7-224", "vision encoder: hub name or directory")
    lm_model: str = option("stabilityai/stablelm-3b-4e1t", "language model: hub name or directory")
    alignment: str | None = option(
        None, "shallow, delta or deep: sets --freeze_vm and --vis_use_lora together", choices=tuple(ALIGNMENTS)
    )
    freeze_vm: bool = option(True, "freeze the vision encoder (False is deep alignment)")
    vis_use_lora: bool = option(False, "LoRA on the vision encoder (delta alignment)")
    vis_r: int = option(16, "rank of the vision encoder's LoRA", low=1)
    vis_alpha: int = option(16, "scale of the vision encoder's LoRA", low=1)
    vis_lora_targets: tuple[str, ...] = option(("q", "v"), "vision layers that get LoRA, by role or module name")
    llm_use_lora: bool = option(False, "LoRA on the language model")
    llm_r: int = option(16, "rank of the language model's LoRA", low=1)
    llm_alpha: int = option(16, "scale of the language model's LoRA", low=1)
    llm_lora_targets: tuple[str, ...] = option(
        ("q", "k", "v", "o", "gate", "up", "down"), "language-model layers that get LoRA, by role or module name"
    )
    lora_dropout: float = option(0.1, "dropout before every LoRA layer", low=0.0, high=0.95)
    use_rslora: bool = option(False, "scale LoRA by alpha / sqrt(rank) instead of alpha / rank")
    use_dora: bool = option(False, "learn the length of each adapted weight row apart from its direction (DoRA)")
    global_only: bool = option(False, "one pooled image token instead of all patches")
    fusion: str = option("mean", "several views: mean of their features, or concat", choices=("mean", "concat"))
    image_tokens: int | None = option(None, "pool the patch grid of a view to this many tokens (a square)", low=1)
    feature_norm: str = option(
        "none",
        "standardize: centre and scale the encoder's features by statistics of the training images",
        choices=("none", "standardize"),
    )
    template: str = option(
        "auto",
        "prompt: plain (the original's), chat (the language model's own), auto (chat where it was tuned with one), or "
        "a text with <ImageHere> and {instruction}",
    )
    add_bos: bool | None = option(None, "open the prompt with the beginning-of-text token; None: as the family does")
    end_sym: str | None = option(None, "end symbol: one token; None is the tokenizer's or the chat template's own")
    instruction: str = option(DEFAULT_INSTRUCTION, "what the prompt asks for")

    def __post_init__(self) -> None:
        check_fields(self)
        if self.alignment is not None:
            freeze, lora = ALIGNMENTS[self.alignment]
            for name, wanted in (("freeze_vm", freeze), ("vis_use_lora", lora)):
                value, default = getattr(self, name), type(self).__dataclass_fields__[name].default
                if value != wanted and value != default:
                    raise InputError(f"--alignment {self.alignment} sets --{name} {wanted}, but --{name} is {value}")
                object.__setattr__(self, name, wanted)
        if not self.freeze_vm and self.vis_use_lora:
            raise InputError(
                "--freeze_vm False trains the whole vision encoder: --vis_use_lora True has nothing to add"
            )
        if self.image_tokens is not None and math.isqrt(self.image_tokens) ** 2 != self.image_tokens:
            raise InputError(f"--image_tokens {self.image_tokens}: must be a square number (1, 4, 9, 16, …)")
        if self.global_only and self.image_tokens is not None:
            raise InputError("--global_only True leaves one token a view: --image_tokens has nothing to pool")
        if self.template not in TEMPLATES and self.template.count("<ImageHere>") != 1:
            raise InputError(
                f"--template {self.template}: must be {', '.join(TEMPLATES)} or a text that holds <ImageHere> once"
            )
        if not self.instruction.strip():
            raise InputError("--instruction is empty: the prompt needs at least one word")

    @property
    def vision_is_frozen(self) -> bool:
        """True where no gradient reaches the vision encoder (shallow alignment)."""
        return self.freeze_vm and not self.vis_use_lora


@dataclass(frozen=True)
class PlacementConfig:
    """How a model is held on this machine, and whose code may run. Never stored with weights, never read from them."""

    quantization: str = option(
        "auto",
        "frozen weights of the language model in 8 or 4 bits (needs bitsandbytes); auto: as --lm_model holds them; "
        "w8a8: weights and products in 8 bits, for writing reports on a CPU (not for training)",
        choices=("auto", "none", "int8", "nf4", "fp4", "w8a8"),
    )
    double_quant: bool = option(False, "4 bits: quantize the quantization's constants too")
    low_resource: bool = option(False, "the original's name for --quantization int8")
    dtype: str = option(
        "auto",
        "frozen weights in memory; auto: bfloat16 where --precision or the device has it, else float32",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    device_map: str = option(
        "none",
        "layers of the language model: none, on one device; auto, spread over all devices, then memory, then "
        "--offload_folder (not in training)",
        choices=("none", "auto"),
    )
    offload_folder: str | None = option(None, "--device_map auto: layers that fit nowhere else are read from disk")
    max_memory: tuple[str, ...] = option(
        (), "--device_map auto: most to take, as 0=20GiB cpu=8GiB (a number is a GPU); none: what is free"
    )
    trust_remote_code: bool = option(
        False, "run Python code that comes with --vision_model or --lm_model; a checkpoint cannot ask for it"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.low_resource:
            if self.quantization not in ("auto", "int8"):
                raise InputError(f"--low_resource True means int8, but --quantization is {self.quantization}: give one")
            object.__setattr__(self, "quantization", "int8")
        if self.double_quant and self.quantization not in ("nf4", "fp4"):
            raise InputError(f"--double_quant True belongs to nf4 and fp4, but --quantization is {self.quantization}")
        if self.device_map == "none" and (self.max_memory or self.offload_folder is not None):
            name = "max_memory" if self.max_memory else "offload_folder"
            raise InputError(f"--{name} belongs to --device_map auto, but --device_map is none")
        if self.offload_folder is not None and self.quantization in ("int8", "nf4", "fp4", "w8a8"):
            raise InputError(f"--offload_folder: {self.quantization} weights cannot be read from disk layer by layer")
        if len(self.memory_limits) != len(self.max_memory):
            raise InputError(f"--max_memory {' '.join(self.max_memory)}: names a device twice")

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
                raise InputError(f"--max_memory {entry}: must be like 0=20GiB, 1=500MB or cpu=8GiB")
            limits[int(found[1]) if found[1].isdecimal() else found[1]] = found[2]
        return limits


LENGTHS = {"iu_xray": (60, 40, 100), "mimic_cxr": (100, 80, 120), "plain": (100, 0, 120)}
"""Data set → default (max_length, min_new_tokens, max_new_tokens): the original's scripts for its two data sets."""


@dataclass(frozen=True)
class DataConfig:
    """Where the studies are and how they are read."""

    dataset: str = option("mimic_cxr", "whose report cleaner to use; plain: text as it is", choices=tuple(LENGTHS))
    annotation: str = option("./data/mimic_cxr/annotation.json", "annotation file in R2Gen's format", here=True)
    base_dir: str = option("./data/mimic_cxr/images", "directory that image paths are relative to", here=True)
    max_length: int | None = option(None, "report tokens learnt, end token included; None: by --dataset", low=2)
    batch_size: int = option(6, "studies a training step (per device)", low=1)
    val_batch_size: int = option(16, "studies a validation batch", low=1, here=True)
    test_batch_size: int = option(16, "studies a test batch", low=1, here=True)
    num_workers: int = option(
        0, "processes that read images (the original's 8 suits a large machine)", low=0, here=True
    )
    prefetch_factor: int = option(4, "batches each worker reads ahead", low=1, here=True)
    bucket_by_length: bool = option(
        False, "training batches of studies whose reports are about as long: less padding, but less mixed batches"
    )
    augment: bool = option(False, "training images: small random shifts, turns and contrast changes (never a mirror)")
    frame: int | None = option(None, "DICOM of several frames: this one of each file, from 1", low=1, here=True)
    force: bool = option(False, "read DICOM that is not a CR, DX or DR image of the chest", here=True)
    mixed_patients: bool = option(
        False, "take DICOM of two patients or two studies for the views of one study", here=True
    )
    feature_cache: str | None = option(
        None,
        "directory that keeps a frozen encoder's features: each image is read once, in this run and later ones",
        here=True,
    )
    feature_cache_dtype: str = option(
        "float32",
        "how they are stored; float32: the loss without a cache, bit for bit on a CPU; half the size, or a quarter",
        choices=("float32", "float16", "bfloat16", "int8"),
        here=True,
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.feature_cache is not None and self.augment:
            raise InputError(
                f"--feature_cache {self.feature_cache}: keeps one form of each image, --augment True asks for many"
            )
        if self.feature_cache is not None and not self.feature_cache.strip():
            raise InputError("--feature_cache is empty: must be a directory, or None")
        if self.feature_cache is None and self.feature_cache_dtype != "float32":
            raise InputError(f"--feature_cache_dtype {self.feature_cache_dtype} belongs to --feature_cache: name that")

    @property
    def report_tokens(self) -> int:
        """`max_length`, or the data set's own."""
        return self.max_length if self.max_length is not None else LENGTHS[self.dataset][0]


@dataclass(frozen=True)
class DecodeConfig:
    """How text is generated."""

    beam_size: int = option(3, "beams; 1 is greedy (or plain sampling)", low=1)
    do_sample: bool = option(False, "sample instead of taking the most likely token")
    temperature: float = option(0.0, "sampling temperature; 0: the model's own distribution", low=0.0)
    top_p: float = option(1.0, "sampling: smallest set of tokens with this probability", above=0.0, high=1.0)
    top_k: int = option(0, "sampling: this many likeliest tokens; 0: all", low=0)
    min_new_tokens: int | None = option(None, "shortest report in tokens; None: by --dataset", low=0)
    max_new_tokens: int | None = option(None, "longest report in tokens; None: by --dataset", low=1)
    repetition_penalty: float | None = option(
        None,
        "divides the score of tokens already generated; 1: off; None: as training chose it for so many beams, else 1",
        above=0.0,
    )
    length_penalty: float = option(2.0, "beam scores are divided by length to this power")
    early_stopping: str = option(
        "False",
        "beam search ends: True: when as many reports as beams have ended; False: when the best open beam would lose "
        "at its length; never: when it would lose at any length",
        choices=("True", "False", "never"),
    )
    no_repeat_ngram_size: int | None = option(
        None,
        "no n-gram of this size twice; 0: off (the original's 2 was never passed on, so its results had it off); None: "
        "as training chose it, else 0",
        low=0,
    )
    num_beam_groups: int = option(1, "only 1: diverse beam search is no longer part of transformers", low=1)
    diversity_penalty: float = option(0.0, "only 0: belongs to diverse beam search", low=0.0)
    decode_seed: int = option(42, "seed of sampling", low=0)
    engine: str = option(
        "auto",
        "who decodes: fast (ours), hf (transformers' generate, the reference), auto: fast where it can",
        choices=("auto", "fast", "hf"),
    )
    speculate: bool = option(
        False,
        "greedy text in fewer passes, by drafts from the training reports; in float32 the same text. train and test "
        "keep those reports beside the weights, in speculation.safetensors",
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.num_beam_groups != 1 or self.diversity_penalty != 0.0:
            raise InputError(
                f"--num_beam_groups {self.num_beam_groups} --diversity_penalty {self.diversity_penalty}: diverse beam "
                "search was removed from transformers 5; use 1 and 0, or --do_sample True"
            )
        if self.speculate and (self.beam_size != 1 or self.do_sample or self.engine == "hf"):
            flags = f"--beam_size {self.beam_size} --do_sample {self.do_sample} --engine {self.engine}"
            raise InputError(f"--speculate True: needs --beam_size 1 --do_sample False and our engine, not {flags}")
        low, high = self.min_new_tokens, self.max_new_tokens
        if low is not None and high is not None and low > high:
            raise InputError(f"--min_new_tokens {low} is more than --max_new_tokens {high}")

    @property
    def penalties(self) -> dict[str, Any]:
        """The penalties that are not left open, by name; open ones are off."""
        values = {name: getattr(self, name) for name in ("repetition_penalty", "no_repeat_ngram_size")}
        return {name: value for name, value in values.items() if value is not None}

    def for_dataset(self, dataset: str) -> "DecodeConfig":
        """The same settings with the lengths that were left open taken from the data set's row in `LENGTHS`."""
        _, low, high = LENGTHS[dataset]
        maximum = self.max_new_tokens if self.max_new_tokens is not None else max(high, self.min_new_tokens or 0)
        minimum = self.min_new_tokens if self.min_new_tokens is not None else min(low, maximum)
        return replace(self, min_new_tokens=minimum, max_new_tokens=maximum)


DECODE_PRESETS: dict[str, dict[str, Any]] = {
    "original": {"beam_size": 3, "repetition_penalty": 2.0, "length_penalty": 2.0, "no_repeat_ngram_size": 0}
}
"""Decode settings under one name, for `--decode_preset`; the original's are those of its scripts."""


METEOR_NAMES = ("jar", "exact_stem", "none")


@dataclass(frozen=True)
class HonestyConfig:
    """What a test measures beside the model."""

    shuffle_images: bool = option(
        False, "write a second time, with images shuffled between studies: the difference is the grounding gap"
    )
    nearest_image: str = option(
        "auto",
        "baseline: the training report whose images are nearest; auto: with --feature_cache, or where there are at "
        "most 5,000 training images to read",
        choices=("auto", "True", "False"),
    )
    meteor: str = option(
        "jar",
        "jar: METEOR 1.5 by Java, which takes seconds to start; exact_stem: a part of it without Java (extra metrics)",
        choices=METEOR_NAMES,
    )
    calibrate: bool = option(
        False,
        "fit the confidence of sentences on the val split first, and keep it beside the weights, in calibration.json",
    )
    patient_of: str | None = option(
        None,
        "regular expression that finds the patient in a study's id (its first group, or all of it): patients are "
        "resampled then; None: the patient or subject_id that the annotation names, if any",
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class ReviewConfig:
    """Which sentences are marked for review."""

    abstain_below: float | None = option(
        None,
        "mark sentences whose confidence is below this as needing review; without a calibration beside the model "
        "confidence is exp(mean log-probability)",
        low=0.0,
        high=1.0,
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class CellConfig:
    """What decoding one image may take; it is done in a process of its own, which is ended beyond that."""

    decode_seconds: float = option(
        30.0,
        "processor seconds for decoding one image, four times as many by the clock; then it is refused",
        above=0.0,
        high=3600.0,
    )
    decode_memory_mb: int = option(
        2048, "MiB of memory for decoding one image, 80 megapixels included; then it is refused", low=256, high=65536
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class EvidenceConfig:
    """Which parts of the images a test's texts rest on."""

    evidence: bool = option(
        False, "maps of the image tokens that each sentence rests on, with a faithfulness number: evidence.jsonl"
    )
    evidence_studies: int = option(20, "how many studies get maps: the best, median and worst by CIDEr", low=1)
    evidence_method: str = option(
        "occlusion",
        "occlusion: the drop of a sentence's log-probability when image tokens are masked; gradient: faster, less "
        "faithful",
        choices=("occlusion", "gradient"),
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class ServeConfig:
    """Who may ask the server, and for how much."""

    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0 is every one that this machine has")
    port: int = option(8000, "port; 0: a free one, which is printed", low=0, high=65535)
    slots: int = option(8, "studies written at once", low=1)
    queue_size: int = option(32, "requests that may wait besides; one more is answered with 429", low=0)
    request_timeout: float = option(300.0, "seconds for one request, waiting included; then 504", above=0.0)
    drain_timeout: float = option(25.0, "SIGTERM: seconds that running requests have to finish", above=0.0)
    max_body_mb: int = option(32, "largest request in MiB", low=1, high=1024)
    max_megapixels: int = option(40, "largest image in megapixels, looked at before it is decoded", low=1, high=80)
    max_images: int = option(8, "most images of a study", low=1, high=64)
    max_connections: int = option(
        512, "open connections; beyond, the one that has kept the server waiting longest is closed", low=8
    )
    max_connections_each: int = option(
        128, "the same of one address; behind a reverse proxy all have the proxy's", low=4
    )
    api_key_file: str | None = option(
        None, "file of API keys, one a line; without it R2GENGPT_API_KEYS; without both no key is asked for"
    )
    cors_origin: tuple[str, ...] = option((), "web origins that may read answers, as https://host:port")

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.host.strip():
            raise InputError("--host is empty: must be an address, as 127.0.0.1")
        for origin in self.cors_origin:
            if not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+", origin):
                raise InputError(f"--cors_origin {origin}: must be like https://host or http://host:port")

    @property
    def places(self) -> int:
        """Requests that are in work or wait, at most."""
        return self.slots + self.queue_size


BATCH_FORMATS = ("jsonl", "parquet")


@dataclass(frozen=True)
class BatchConfig:
    """What a bulk run reads, how it is cut, and who works on it."""

    input: str = option("", "annotation.json, CSV (id, image_path; views by ;), a folder of images, or a DICOM tree")
    output: str = option("", "directory of the run: shards, manifest.json, summary.html; started again, it goes on")
    base_dir: str | None = option(None, "what paths in a file are relative to; None: images beside it, or its folder")
    split: str = option("all", "annotation file: which split", choices=("all", "train", "val", "test"))
    format: str = option("jsonl", "of the shards", choices=BATCH_FORMATS)
    batch_size: int = option(8, "studies that a model writes at once", low=1, high=1024)
    shard_size: int | None = option(
        None, "studies of a shard, which is written whole; None: four times --batch_size", low=1, high=100_000
    )
    force: bool = option(False, "read DICOM that is not a CR, DX or DR image of the chest")
    mixed_patients: bool = option(False, "take DICOM of two patients or two studies for the views of one study")
    address: str | None = option(None, "HOST:PORT of a Ray cluster's head; None: a Ray of this program's own, here")
    actors: int = option(1, "models loaded, each in a process", low=1)
    threads: int | None = option(
        None, "CPU threads of each; None: this machine's shared out, or 1 with GPUs and on a cluster", low=1
    )
    decode_workers: int | None = option(
        None, "without --address: processes that read and decode; None: as many as CPUs are left, at least 1", low=1
    )

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("input", "output"):
            if not getattr(self, name).strip():
                raise InputError(f"--{name} is missing: name {'what to read' if name == 'input' else 'a directory'}")
        if self.address is not None and self.decode_workers is not None:
            raise InputError(f"--decode_workers {self.decode_workers}: on a cluster (--address) Ray settles that")

    @property
    def studies_a_shard(self) -> int:
        """`shard_size`, or its default."""
        return self.shard_size if self.shard_size is not None else 4 * self.batch_size


SCORES = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr", "val_loss")


@dataclass(frozen=True)
class TrainConfig:
    """How long, how fast, on what, and where the results go."""

    savedmodel_path: str = option("save/mimic/v1", "directory of the run", here=True)
    ckpt_file: str | None = option(
        None, "checkpoint directory, or the original's .pth, to start from (weights only)", here=True
    )
    delta_file: str | None = option(None, "as --ckpt_file: the original's name for trained weights", here=True)
    resume: bool = option(True, "go on where an unfinished run in --savedmodel_path stopped", here=True)
    overwrite: bool = option(False, "start anew in a directory that holds a run", here=True)
    test: bool = option(False, "no training: score the test split", here=True)
    validate: bool = option(False, "no training: score the validation split", here=True)
    learning_rate: float = option(1e-4, "peak learning rate", above=0.0)
    min_learning_rate: float = option(1e-6, "learning rate at the end of the cosine", low=0.0)
    warmup_ratio: float = option(0.03, "share of all steps in which the rate rises", low=0.0, high=1.0)
    weight_decay: float = option(0.01, "AdamW's weight decay", low=0.0)
    gradient_clip_val: float | None = option(None, "largest gradient norm", above=0.0)
    accumulate_grad_batches: int = option(1, "batches an optimizer step", low=1)
    gradient_checkpointing: bool = option(
        False,
        "compute the language model's layers a second time in the backward pass: less memory, more time",
        here=True,
    )
    max_epochs: int = option(3, "passes over the training split", low=1)
    max_steps: int = option(-1, "optimizer steps; -1: by --max_epochs", low=-1)
    patience: int | None = option(None, "stop after this many validations without a better score", low=1)
    scorer_types: tuple[str, ...] = option(("Bleu_4", "CIDEr"), "scores that choose the best checkpoint")
    weights: tuple[float, ...] = option((0.5, 0.5), "weight of each of --scorer_types")
    seed: int = option(42, "seed of order, dropout and new weights", low=0)
    devices: str = option("auto", "how many devices (the original's 2 needs two GPUs)", here=True)
    num_nodes: int = option(1, "machines", low=1, here=True)
    accelerator: str = option("auto", "device kind", choices=("auto", "cpu", "gpu", "cuda", "mps"), here=True)
    strategy: str = option("auto", "Lightning strategy, as ddp", here=True)
    precision: str = option(
        "auto",
        "arithmetic; auto: the original's bf16-mixed where the hardware has bfloat16, else 32-true",
        choices=("auto", "bf16-mixed", "16-mixed", "32-true", "bf16-true", "32", "16", "bf16"),
    )
    limit_train_batches: float = option(1.0, "share (float ≤ 1) or number of training batches", low=0.0)
    limit_val_batches: float = option(1.0, "share or number of validation batches", low=0.0)
    limit_test_batches: float = option(1.0, "share or number of test batches", low=0.0, here=True)
    val_check_interval: float = option(1.0, "validate after this share of an epoch (or number of batches)", above=0.0)
    choose_decode: int = option(
        32,
        "validation studies by which penalties are chosen when training has ended, for beams and for streams (mean of "
        "BLEU-4 and CIDEr); 0: none",
        low=0,
        here=True,
    )
    num_sanity_val_steps: int = option(2, "validation batches before training", low=0, here=True)
    every_n_train_steps: int = option(
        0, "save the state for --resume every n steps; 0: once an epoch", low=0, here=True
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if len(self.scorer_types) != len(self.weights) or not self.weights:
            raise InputError(f"--weights has {len(self.weights)} numbers for {len(self.scorer_types)} --scorer_types")
        for name in self.scorer_types:
            if name not in SCORES:
                raise InputError(f"--scorer_types {name}: choose from {', '.join(SCORES)}")
        if not self.savedmodel_path.strip():
            raise InputError("--savedmodel_path is empty: must name a directory")
        if self.max_steps == 0:
            raise InputError("--max_steps 0: must be at least 1, or -1 for --max_epochs")
        if self.devices != "auto" and not (self.devices.isdecimal() and int(self.devices) > 0):
            raise InputError(f"--devices {self.devices}: must be auto or a number of at least 1")
        if self.ckpt_file is not None and self.delta_file is not None:
            raise InputError("--ckpt_file and --delta_file both name weights to start from: give one")
        if self.min_learning_rate > self.learning_rate:
            raise InputError(
                f"--min_learning_rate {self.min_learning_rate} is above --learning_rate {self.learning_rate}"
            )
        if self.test and self.validate:
            raise InputError("--test and --validate: give one")

    @property
    def start_from(self) -> str | None:
        """The checkpoint directory whose weights the run starts from, under either name."""
        return self.ckpt_file if self.ckpt_file is not None else self.delta_file


STORED = (ModelConfig, DataConfig, DecodeConfig, TrainConfig)
"""What a checkpoint's config.json may hold settings of; `PlacementConfig` is none of them."""


def kept_names(*configs: type) -> frozenset[str]:
    """Names of the settings that a checkpoint holds: how the model was made, not where it runs or who runs it."""
    return frozenset(f.name for config in configs or STORED for f in fields(config) if not f.metadata["here"])
