"""Every setting of the program as frozen dataclasses, checked when made. No torch, no files.

A field is a flag of the same name (`cli.bridge`); its help text and allowed values stand in the field's metadata.
Defaults are the original's (configs/config.py) where it has the flag; a differing default says why in its help text.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from r2gengpt.errors import InputError
from r2gengpt.options import Override, check_fields, option

DEFAULT_INSTRUCTION = "Generate a comprehensive and detailed diagnosis report for this chest xray image."
ALIGNMENTS = {"shallow": (True, False), "delta": (True, True), "deep": (False, False)}
"""Alignment → (freeze_vm, vis_use_lora), as the original's paper names them (arXiv 2309.09812, section 2.3)."""

TEMPLATES = ("auto", "plain", "chat")
PRIOR = "prior"
"""Beside `CONTEXT_FIELDS` in a prompt: an earlier study of the patient."""
CONTEXT_FIELDS = ("age", "sex", "view", "indication", "technique", "comparison")
"""What a prompt can have of what is known of a study beside its films, in its order."""
NO_OPENING = "none"
"""Of `DecodeConfig.opening`: the language model chooses all words."""


@dataclass(frozen=True)
class ModelConfig:
    """What the model is made of and which of its parts are trained. Stored with the weights."""

    vision_model: str = option(
        "microsoft/swin-base-patch4-window7-224", "vision encoder: hub name or directory", unit="NAME|DIR"
    )
    lm_model: str = option("stabilityai/stablelm-3b-4e1t", "language model: hub name or directory", unit="NAME|DIR")
    alignment: str | None = option(
        None, "shallow, delta or deep: sets `freeze_vm` and `vis_use_lora` together", choices=tuple(ALIGNMENTS)
    )
    freeze_vm: bool = option(True, "freeze the vision encoder (False is deep alignment)")
    vis_use_lora: bool = option(False, "LoRA on the vision encoder (delta alignment)")
    vis_r: int = option(16, "rank of the vision encoder's LoRA", low=1, unit="RANK")
    vis_alpha: int = option(16, "scale of the vision encoder's LoRA", low=1, unit="SCALE")
    vis_lora_targets: tuple[str, ...] = option(
        ("q", "v"), "vision layers that get LoRA, by role or module name", unit="LAYER"
    )
    llm_use_lora: bool = option(False, "LoRA on the language model")
    llm_r: int = option(16, "rank of the language model's LoRA", low=1, unit="RANK")
    llm_alpha: int = option(16, "scale of the language model's LoRA", low=1, unit="SCALE")
    llm_lora_targets: tuple[str, ...] = option(
        ("q", "k", "v", "o", "gate", "up", "down"),
        "language-model layers that get LoRA, by role or module name",
        unit="LAYER",
    )
    lora_dropout: float = option(0.1, "dropout before every LoRA layer", low=0.0, high=0.95, unit="SHARE")
    use_rslora: bool = option(False, "scale LoRA by alpha / sqrt(rank) instead of alpha / rank")
    use_dora: bool = option(False, "learn the length of each adapted weight row apart from its direction (DoRA)")
    global_only: bool = option(False, "one pooled image token instead of all patches")
    fusion: str = option("mean", "several views: mean of their features, or concat", choices=("mean", "concat"))
    image_tokens: int | None = option(
        None, "pool the patch grid of a view to this many tokens (a square)", low=1, unit="TOKENS"
    )
    feature_norm: str = option(
        "none",
        "standardize: centre and scale the encoder's features by statistics of the training images, and start the "
        "finding head so",
        choices=("none", "standardize"),
    )
    image_size: int | None = option(
        None,
        "side in pixels that a view is resized to (DINOv2 takes any); None: the encoder's own",
        low=14,
        high=1024,
        unit="PIXELS",
    )
    findings_head: bool = option(
        False, "a head that tells 14 observations (and a few more) of the film; off: the original's model"
    )
    findings_hint: bool = option(False, "the head's verdicts as words in the prompt (needs `findings_head` True)")
    context: bool = option(
        False, "what is known of a study beside its films stands in the prompt, as far as the annotation has it"
    )
    context_fields: tuple[str, ...] = option(
        CONTEXT_FIELDS, "`context`: which of age, sex, view, indication, technique and comparison", unit="FIELD"
    )
    prior_study: bool = option(
        False, "an earlier study of the patient beside the study: its films with a learnt mark of time, and its report"
    )
    template: str = option(
        "auto",
        "prompt: plain (the original's), chat (the language model's own), auto (chat where it was tuned with one), or "
        "a text with <ImageHere> and {instruction}",
        unit="TEMPLATE",
    )
    add_bos: bool | None = option(None, "open the prompt with the beginning-of-text token; None: as the family does")
    end_sym: str | None = option(
        None, "end symbol: one token; None is the tokenizer's or the chat template's own", unit="TOKEN"
    )
    instruction: str = option(DEFAULT_INSTRUCTION, "what the prompt asks for", unit="TEXT")

    def __post_init__(self) -> None:
        check_fields(self)
        if self.alignment is not None:
            freeze, lora = ALIGNMENTS[self.alignment]
            for name, wanted in (("freeze_vm", freeze), ("vis_use_lora", lora)):
                value, default = getattr(self, name), type(self).__dataclass_fields__[name].default
                if value != wanted and value != default:
                    raise InputError(f"`alignment` {self.alignment} sets `{name}` {wanted}, but `{name}` is {value}")
                object.__setattr__(self, name, wanted)
        if not self.freeze_vm and self.vis_use_lora:
            raise InputError(
                "`freeze_vm` False trains the whole vision encoder: `vis_use_lora` True has nothing to add"
            )
        if self.image_tokens is not None and math.isqrt(self.image_tokens) ** 2 != self.image_tokens:
            raise InputError("must be a square number (1, 4, 9, 16, …)", field="image_tokens", value=self.image_tokens)
        if self.global_only and self.image_tokens is not None:
            raise InputError("`global_only` True leaves one token a view: `image_tokens` has nothing to pool")
        if self.findings_hint and not self.findings_head:
            raise InputError("`findings_hint` True tells what the head sees: it needs `findings_head` True")
        check_context(self.context_fields)
        if self.template not in TEMPLATES and self.template.count("<ImageHere>") != 1:
            raise InputError(
                f"must be {', '.join(TEMPLATES)} or a text that holds <ImageHere> once",
                field="template",
                value=self.template,
            )
        if not self.instruction.strip():
            raise InputError("`instruction` is empty: the prompt needs at least one word")

    @property
    def prompt_fields(self) -> tuple[str, ...]:
        """What stands in the prompt of a study beside its films, in the order of the prompt; by default nothing."""
        fields = tuple(name for name in CONTEXT_FIELDS if self.context and name in self.context_fields)
        return (*fields, PRIOR) if self.prior_study else fields

    @property
    def vision_is_frozen(self) -> bool:
        """True where no gradient reaches the vision encoder (shallow alignment)."""
        return self.freeze_vm and not self.vis_use_lora


def check_context(names: tuple[str, ...]) -> None:
    """Refuse fields of a study that no prompt has.

    Raises:
        InputError: none, an unknown one, or one twice.
    """
    if not names or set(names) - set(CONTEXT_FIELDS) or len(set(names)) < len(names):
        limit = f"choose from {', '.join(CONTEXT_FIELDS)}, each once"
        raise InputError(limit, field="context_fields", value=" ".join(names), limit=limit)


LENGTHS = {"iu_xray": (60, 40, 100), "mimic_cxr": (100, 80, 120), "plain": (100, 0, 120)}
"""Data set → default (max_length, min_new_tokens, max_new_tokens): the original's scripts for its two data sets."""


@dataclass(frozen=True)
class DataConfig:
    """Where the studies are and how they are read."""

    dataset: str = option("mimic_cxr", "whose report cleaner to use; plain: text as it is", choices=tuple(LENGTHS))
    annotation: str = option(
        "./data/mimic_cxr/annotation.json", "annotation file in R2Gen's format", here=True, unit="FILE"
    )
    base_dir: str = option(
        "./data/mimic_cxr/images", "directory that image paths are relative to", here=True, unit="DIR"
    )
    max_length: int | None = option(
        None, "report tokens learnt, end token included; None: by `dataset`", low=2, unit="TOKENS"
    )
    batch_size: int = option(6, "studies a step (per device)", low=1, unit="STUDIES")
    val_batch_size: int = option(16, "studies a validation batch", low=1, here=True, unit="STUDIES")
    test_batch_size: int = option(16, "studies a test batch", low=1, here=True, unit="STUDIES")
    num_workers: int = option(
        0, "processes that read images (the original's 8 suits a large machine)", low=0, here=True, unit="PROCESSES"
    )
    prefetch_factor: int = option(4, "batches each worker reads ahead", low=1, here=True, unit="BATCHES")
    bucket_by_length: bool = option(
        False, "training batches of studies whose reports are about as long: less padding, but less mixed batches"
    )
    augment: bool = option(False, "training images: small random shifts, turns and contrast changes (never a mirror)")
    source_caps: tuple[str, ...] = option(
        (),
        "most studies of a `source` of the annotation in an epoch, as kermany=300: others each time, in val the same",
        unit="SOURCE=STUDIES",
    )
    frame: int | None = option(
        None, "DICOM of several frames: this one of each file, from 1", low=1, here=True, unit="FRAME"
    )
    force: bool = option(False, "read DICOM that is not a CR, DX or DR image of the chest", here=True)
    mixed_patients: bool = option(
        False, "take DICOM of two patients or two studies for the views of one study", here=True
    )
    feature_cache: str | None = option(
        None,
        "directory that keeps a frozen encoder's features: each image is read once, in this run and later ones",
        here=True,
        unit="DIR",
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
                "keeps one form of each image, `augment` True asks for many",
                field="feature_cache",
                value=self.feature_cache,
            )
        if self.feature_cache is not None and not self.feature_cache.strip():
            raise InputError("`feature_cache` is empty: must be a directory, or None")
        if self.feature_cache is None and self.feature_cache_dtype != "float32":
            raise InputError(f"`feature_cache_dtype` {self.feature_cache_dtype} belongs to `feature_cache`: name that")

        if self.caps and self.bucket_by_length:
            raise InputError("`source_caps` draws studies anew each epoch: `bucket_by_length` True cannot sort them")

    @property
    def caps(self) -> dict[str, int]:
        """`source_caps` by source.

        Raises:
            InputError: an entry is not of the form SOURCE=NUMBER, or two name one source.
        """
        caps: dict[str, int] = {}
        for entry in self.source_caps:
            source, _, number = entry.rpartition("=")
            if not source or not (number.isascii() and number.isdigit() and int(number)):
                raise InputError("must be like kermany=300", field="source_caps", value=entry)
            if source in caps:
                raise InputError(f"names {source} twice", field="source_caps", value=" ".join(self.source_caps))
            caps[source] = int(number)
        return caps

    @property
    def report_tokens(self) -> int:
        """`max_length`, or the data set's own."""
        return self.max_length if self.max_length is not None else LENGTHS[self.dataset][0]


@dataclass(frozen=True)
class DecodeConfig:
    """How text is generated."""

    beam_size: int = option(3, "beams; 1 is greedy (or plain sampling)", low=1, unit="BEAMS")
    do_sample: bool = option(False, "sample instead of taking the most likely token")
    temperature: float = option(
        0.0, "sampling temperature; 0: the model's own distribution", low=0.0, unit="TEMPERATURE"
    )
    top_p: float = option(
        1.0, "sampling: smallest set of tokens with this probability", above=0.0, high=1.0, unit="PROBABILITY"
    )
    top_k: int = option(0, "sampling: this many likeliest tokens; 0: all", low=0, unit="TOKENS")
    min_new_tokens: int | None = option(None, "shortest report in tokens; None: by `dataset`", low=0, unit="TOKENS")
    max_new_tokens: int | None = option(None, "longest report in tokens; None: by `dataset`", low=1, unit="TOKENS")
    repetition_penalty: float | None = option(
        None,
        "divides the score of tokens already generated; 1: off; None: as training chose it for so many beams, else 1",
        above=0.0,
        unit="FACTOR",
    )
    length_penalty: float = option(2.0, "beam scores are divided by length to this power", unit="POWER")
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
        unit="TOKENS",
    )
    num_beam_groups: int = option(
        1, "only 1: diverse beam search is no longer part of transformers", low=1, unit="GROUPS"
    )
    diversity_penalty: float = option(0.0, "only 0: belongs to diverse beam search", low=0.0, unit="PENALTY")
    decode_seed: int = option(42, "seed of sampling", low=0, unit="SEED")
    engine: str = option(
        "auto",
        "who decodes: fast (ours), hf (transformers' generate, the reference), auto: fast where it can; compiled: fast "
        "with compiled layers, on CUDA (ten seconds at the start, then faster)",
        choices=("auto", "fast", "compiled", "hf"),
    )
    opening: str = option(
        NO_OPENING,
        "how a report opens; findings: with what the finding head calls likely (`findings_head`), in words by its "
        "probability, and the language model goes on from there",
        choices=(NO_OPENING, "findings"),
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
                f"`num_beam_groups` {self.num_beam_groups} `diversity_penalty` {self.diversity_penalty}: diverse beam "
                "search was removed from transformers 5; use 1 and 0, or `do_sample` True"
            )
        if self.speculate and (self.beam_size != 1 or self.do_sample or self.engine == "hf"):
            flags = f"`beam_size` {self.beam_size} `do_sample` {self.do_sample} `engine` {self.engine}"
            raise InputError(
                f"needs `beam_size` 1 `do_sample` False and our engine, not {flags}", field="speculate", value=True
            )
        low, high = self.min_new_tokens, self.max_new_tokens
        if low is not None and high is not None and low > high:
            raise InputError(f"`min_new_tokens` {low} is more than `max_new_tokens` {high}")

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
"""Decode settings under one name, for `decode_preset`; the original's are those of its scripts."""


OF_TEXTS = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr", "clinical_f1")
SCORES = (*OF_TEXTS, "val_loss", "findings_auc", "reward")
LOGGERS = ("wandb", "mlflow")
WITH_FLOORS = (*OF_TEXTS, "findings_auc", "distinct")
"""What `score_floors` can name; distinct is the share of distinct texts among those of the validation studies."""


def _number(text: str) -> float:
    """The number that a text is; NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


@dataclass(frozen=True)
class TrainConfig:
    """How long, how fast, on what, and where the results go."""

    savedmodel_path: str = option("save/mimic/v1", "directory of the run", here=True, unit="DIR")
    ckpt_file: str | None = option(
        None, "checkpoint directory, or the original's .pth, to start from (weights only)", here=True, unit="DIR|FILE"
    )
    delta_file: str | None = option(
        None, "as `ckpt_file`: the original's name for trained weights", here=True, unit="DIR|FILE"
    )
    resume: bool = option(True, "go on where an unfinished run in `savedmodel_path` stopped", here=True)
    overwrite: bool = option(False, "start anew in a directory that holds a run", here=True)
    test: bool = option(False, "no training: score the test split", here=True)
    validate: bool = option(False, "no training: score the validation split", here=True)
    stage: str = option(
        "supervised",
        "supervised: on reports; reinforce: by policy gradient on sampled reports, from the weights of `ckpt_file`, "
        "which also gives the model's settings",
        choices=("supervised", "reinforce"),
    )
    findings_only: bool = option(
        False,
        "train the head (and, with `vis_use_lora`, the encoder) alone, on labels; then reports by `ckpt_file`",
    )
    freeze_seeing: bool = option(
        False, "the finding head and the encoder's LoRA stay as `ckpt_file` has them: reports train faster"
    )
    findings_loss: float = option(0.5, "weight of the head's loss beside the report's", low=0.0, unit="WEIGHT")
    patch_dropout: float = option(
        0.0, "`findings_only`: share of a film's patches left out in each training step: faster, and it regularises",
        low=0.0, high=0.9, unit="SHARE",
    )  # fmt: skip
    mirror: bool = option(False, "`findings_only`: mirror half of the training films (reports name sides: not there)")
    ema: float = option(
        0.0, "the weights kept are a moving average of this decay; 0: as they are", low=0.0, high=0.9999, unit="DECAY"
    )
    hint_dropout: float = option(
        0.3, "share of training studies whose prompt gets no hint", low=0.0, high=1.0, unit="SHARE"
    )
    hint_predicted: float = option(
        0.8, "share of hints that are the head's own at the end of training; it rises from 0, the others are true ones",
        low=0.0, high=1.0, unit="SHARE",
    )  # fmt: skip
    context_dropout: float = option(
        0.3,
        "`context`, `prior_study`: chance of each field of a training study, and of the films and the report of the "
        "earlier one, to be left out, anew in each epoch",
        low=0.0, high=1.0, unit="PROBABILITY",
    )  # fmt: skip
    keep_sentences: bool = option(
        False,
        "keep the sentences of the training reports beside the weights (sentences.safetensors), for `writer` retrieve; "
        "needs `findings_head` True. It holds texts of the training set: pass it on only where they may be",
        here=True,
    )
    weigh_findings: bool = option(False, "tokens of sentences with a positive finding count `finding_weight` times")
    finding_weight: float = option(3.0, "see `weigh_findings`", low=1.0, unit="FACTOR")
    learning_rate: float = option(1e-4, "peak learning rate", above=0.0, unit="RATE")
    min_learning_rate: float = option(1e-6, "learning rate at the end of the cosine", low=0.0, unit="RATE")
    warmup_ratio: float = option(0.03, "share of all steps in which the rate rises", low=0.0, high=1.0, unit="SHARE")
    weight_decay: float = option(0.01, "AdamW's weight decay", low=0.0, unit="DECAY")
    gradient_clip_val: float | None = option(None, "largest gradient norm", above=0.0, unit="NORM")
    accumulate_grad_batches: int = option(1, "batches an optimizer step", low=1, unit="BATCHES")
    gradient_checkpointing: bool = option(
        False,
        "compute the language model's layers a second time in the backward pass: less memory, more time",
        here=True,
    )
    max_epochs: int = option(3, "passes over the training split", low=1, unit="EPOCHS")
    max_steps: int = option(-1, "optimizer steps; -1: by `max_epochs`", low=-1, unit="STEPS")
    patience: int | None = option(
        None, "stop after this many validations without a better score", low=1, unit="VALIDATIONS"
    )
    scorer_types: tuple[str, ...] = option(("Bleu_4", "CIDEr"), "scores that choose the best checkpoint", unit="SCORE")
    weights: tuple[float, ...] = option((0.5, 0.5), "weight of each of `scorer_types`", unit="WEIGHT")
    score_floors: tuple[str, ...] = option(
        (),
        "a checkpoint below one of these is never the best while another is not, as Bleu_4=0.05 distinct=0.1",
        unit="SCORE=FLOOR",
    )
    seed: int = option(42, "seed of order, dropout and new weights", low=0, unit="SEED")
    devices: str = option("auto", "how many devices (the original's 2 needs two GPUs)", here=True, unit="DEVICES")
    num_nodes: int = option(1, "machines", low=1, here=True, unit="MACHINES")
    accelerator: str = option("auto", "device kind", choices=("auto", "cpu", "gpu", "cuda", "mps"), here=True)
    strategy: str = option("auto", "Lightning strategy, as ddp", here=True, unit="STRATEGY")
    precision: str = option(
        "auto",
        "arithmetic; auto: the original's bf16-mixed where the hardware has bfloat16, else 32-true",
        choices=("auto", "bf16-mixed", "16-mixed", "32-true", "bf16-true", "32", "16", "bf16"),
    )
    limit_train_batches: float = option(
        1.0, "share (float ≤ 1) or number of training batches", low=0.0, unit="SHARE|BATCHES"
    )
    limit_val_batches: float = option(1.0, "share or number of validation batches", low=0.0, unit="SHARE|BATCHES")
    limit_test_batches: float = option(1.0, "share or number of test batches", low=0.0, here=True, unit="SHARE|BATCHES")
    val_check_interval: float = option(
        1.0, "validate after this share of an epoch (or number of batches)", above=0.0, unit="SHARE|BATCHES"
    )
    choose_decode: int = option(
        32,
        "validation studies by which penalties are chosen when training has ended, for beams and for streams (mean of "
        "BLEU-4 and CIDEr); 0: none",
        low=0,
        here=True,
        unit="STUDIES",
    )
    num_sanity_val_steps: int = option(2, "validation batches before training", low=0, here=True, unit="BATCHES")
    loggers: tuple[str, ...] = option(
        (),
        "wandb, mlflow: curves go there too, beside CSV and TensorBoard (extras of the same names); they get numbers "
        "and settings, no path and no report",
        here=True,
        unit="LOGGER",
    )
    log_samples: int = option(
        4,
        "validation studies whose reports stand in TensorBoard after each validation that writes some; 0: none",
        low=0,
        here=True,
        unit="STUDIES",
    )
    every_n_train_steps: int = option(
        0, "save the state for `resume` every n steps; 0: once an epoch", low=0, here=True, unit="STEPS"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if len(self.scorer_types) != len(self.weights) or not self.weights:
            raise InputError(f"`weights` has {len(self.weights)} numbers for {len(self.scorer_types)} `scorer_types`")
        for name in self.scorer_types:
            if name not in SCORES:
                raise InputError(f"choose from {', '.join(SCORES)}", field="scorer_types", value=name)
        for name in self.loggers:
            if name not in LOGGERS or self.loggers.count(name) > 1:
                limit = f"choose from {', '.join(LOGGERS)}, each once"
                raise InputError(limit, field="loggers", value=" ".join(self.loggers), limit=limit)
        others = self.floors.keys() - {"findings_auc"}
        if self.findings_only and others:
            raise InputError(
                f"`findings_only` True writes no texts, and {' '.join(sorted(others))} is of texts",
                field="score_floors",
                value=" ".join(self.score_floors),
            )
        if not self.savedmodel_path.strip():
            raise InputError("`savedmodel_path` is empty: must name a directory")
        if self.max_steps == 0:
            raise InputError("must be at least 1, or -1 for `max_epochs`", field="max_steps", value=0)
        if self.devices != "auto" and not (self.devices.isdecimal() and int(self.devices) > 0):
            raise InputError("must be auto or a number of at least 1", field="devices", value=self.devices)
        if self.ckpt_file is not None and self.delta_file is not None:
            raise InputError("`ckpt_file` and `delta_file` both name weights to start from: give one")
        if self.min_learning_rate > self.learning_rate:
            raise InputError(
                f"`min_learning_rate` {self.min_learning_rate} is above `learning_rate` {self.learning_rate}"
            )
        if self.test and self.validate:
            raise InputError("`test` and `validate`: give one")
        if self.freeze_seeing and (self.findings_only or self.start_from is None):
            raise InputError("trains reports on what `ckpt_file` sees: name that, and no `findings_only`",
                             field="freeze_seeing", value=True)  # fmt: skip
        for name in ("patch_dropout", "mirror"):
            if getattr(self, name) and not self.findings_only:
                raise InputError("belongs to `findings_only` True", field=name, value=getattr(self, name))
        self._check_stage()

    def _check_stage(self) -> None:
        """Refuse what contradicts the stage."""
        if self.stage != "reinforce":
            if "reward" in self.scorer_types:
                raise InputError("belongs to `stage` reinforce", field="scorer_types", value="reward")
            return
        if self.start_from is None:
            raise InputError("goes on from a supervised model: name it by `ckpt_file`", field="stage", value=self.stage)
        for name in ("findings_only", "weigh_findings"):
            if getattr(self, name):
                raise InputError("belongs to `stage` supervised", field=name, value=True)

    @property
    def floors(self) -> dict[str, float]:
        """`score_floors` by score.

        Raises:
            InputError: an entry is not of the form SCORE=NUMBER, or two name one score.
        """
        floors: dict[str, float] = {}
        for entry in self.score_floors:
            name, _, number = entry.partition("=")
            if name not in WITH_FLOORS:
                raise InputError(f"choose from {', '.join(WITH_FLOORS)}", field="score_floors", value=entry)
            top = 10.0 if name == "CIDEr" else 1.0
            if not 0 < (floor := _number(number)) <= top:
                limit = f"must be like {name}=0.05, above 0 and at most {top:g}"
                raise InputError(limit, field="score_floors", value=entry)
            if name in floors:
                raise InputError(f"names {name} twice", field="score_floors", value=" ".join(self.score_floors))
            floors[name] = floor
        return floors

    @property
    def start_from(self) -> str | None:
        """The checkpoint directory whose weights the run starts from, under either name."""
        return self.ckpt_file if self.ckpt_file is not None else self.delta_file


@dataclass(frozen=True)
class ReinforceConfig:
    """How `stage` reinforce samples reports, rewards them and compares them."""

    policy_gradient: str = option(
        "grpo",
        "what a sample's reward is compared with; grpo: the other samples of its study, by their mean and standard "
        "deviation; scst: the greedy report of its study",
        choices=("grpo", "scst"),
    )
    samples_per_study: int = option(
        4, "reports sampled of each study of a batch; grpo needs 2", low=1, high=256, unit="SAMPLES"
    )
    sample_temperature: float = option(1.0, "temperature of the samples", above=0.0, high=10.0, unit="TEMPERATURE")
    kl_weight: float = option(0.04, "weight of the divergence from the supervised model", low=0.0, unit="WEIGHT")
    reward_labels: float = option(
        1.0, "weight of the F1 of a sample's labels by the rule labeller against its study's", low=0.0, unit="WEIGHT"
    )
    reward_sides: float = option(
        0.2, "weight of the F1 of left and right of the findings whose side the reference names", low=0.0, unit="WEIGHT"
    )
    reward_repetition: float = option(
        0.5,
        "weight of the share of a sample's 4-grams that stood in it before; it is taken off",
        low=0.0,
        unit="WEIGHT",
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.policy_gradient == "grpo" and self.samples_per_study < 2:
            raise InputError(
                "compares the samples of a study: needs at least 2, or `policy_gradient` scst",
                field="samples_per_study",
                value=self.samples_per_study,
            )
        if not self.reward_labels and not self.reward_sides:
            raise InputError("`reward_labels` 0 and `reward_sides` 0 leave nothing to learn: give one a weight")


@dataclass(frozen=True)
class RunConfig:
    """All settings of a training run. Where its model lies on a machine is none of them (`PlacementConfig`)."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    reinforce: ReinforceConfig = field(default_factory=ReinforceConfig)

    @property
    def stored(self) -> "Stored":
        """What a checkpoint of the run says of it."""
        return Stored.of(self.flat())

    def flat(self) -> dict[str, Any]:
        """Each setting by its name, ready for JSON; those of reinforcement only where that is the stage."""
        parts: tuple[Any, ...] = (self.model, self.data, self.decode, self.train)
        if self.train.stage == "reinforce":
            parts = (*parts, self.reinforce)
        return {name: value for part in parts for name, value in asdict(part).items()}


@dataclass(frozen=True)
class Stored:
    """What a checkpoint says of how it was made: settings of its run, but none of the machine or its user."""

    model: Override[ModelConfig]
    data: Override[DataConfig]
    decode: Override[DecodeConfig]
    train: Override[TrainConfig]
    reinforce: Override[ReinforceConfig] = field(default_factory=lambda: Override(ReinforceConfig))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Stored":
        """The settings among values of any names, as they lie in a file."""
        kept = {name: value for name, value in values.items() if name in KEPT}
        return cls(
            Override.of(ModelConfig, kept),
            Override.of(DataConfig, kept),
            Override.of(DecodeConfig, kept),
            Override.of(TrainConfig, kept),
            Override.of(ReinforceConfig, kept),
        )

    def flat(self) -> dict[str, Any]:
        """Each setting by its name, ready for JSON."""
        parts = (self.model, self.data, self.decode, self.train, self.reinforce)
        return {name: value for part in parts for name, value in part.values.items()}

    @property
    def dataset(self) -> str:
        """Whose report cleaner and lengths the model was trained with; plain where nothing says so.

        Raises:
            InputError: a data setting is refused.
        """
        return Override(DataConfig, {"dataset": "plain"}).under(self.data).settled().dataset


KEPT = frozenset(
    f.name
    for kind in (ModelConfig, DataConfig, DecodeConfig, TrainConfig, ReinforceConfig)
    for f in fields(kind)
    if not f.metadata["here"]
)
"""Names of the settings that a checkpoint holds: how the model was made, not where it runs or who runs it."""
