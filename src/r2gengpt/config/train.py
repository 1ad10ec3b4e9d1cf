"""How a model is trained, and what chooses its checkpoint. Trains nothing."""

import math
from dataclasses import dataclass

from r2gengpt.errors import InputError
from r2gengpt.options import check_fields, option

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
        if min(self.weights) < 0 or not any(self.weights):
            weights = " ".join(map(str, self.weights))
            raise InputError("must be at least 0, and one of them above it", field="weights", value=weights)
        for name in self.scorer_types:
            if name not in SCORES:
                raise InputError(f"choose from {', '.join(SCORES)}", field="scorer_types", value=name)
        for name in self.loggers:
            if name not in LOGGERS or self.loggers.count(name) > 1:
                limit = f"choose from {', '.join(LOGGERS)}, each once"
                raise InputError(limit, field="loggers", value=" ".join(self.loggers), limit=limit)
        for name in ("limit_train_batches", "limit_val_batches", "limit_test_batches", "val_check_interval"):
            if (value := getattr(self, name)) > 1 and value % 1:
                raise InputError("is above 1, a number of batches: must be whole", field=name, value=value)
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
