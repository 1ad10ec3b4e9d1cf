"""Whether a planned model fits this machine, and which settings would make it fit. Loads no weights."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, TrainConfig
from r2gengpt.parts.machine import Machine
from r2gengpt.parts.plan import MemoryPlan, plan
from r2gengpt.settings import PlacementConfig

TRAINING, GENERATION = "training", "generation"
SMALL = ("nf4", "fp4")
OPEN = ("auto", "none")
"""Quantizations that quantize nothing here."""


@dataclass(frozen=True)
class Settings:
    """What is planned."""

    model: ModelConfig
    data: DataConfig
    decode: DecodeConfig
    train: TrainConfig
    where: PlacementConfig
    views: int = 1
    stored: bool = False
    """The language model lies there in the form that `where` names: it takes no other."""

    @property
    def uses(self) -> tuple[str, ...]:
        """What the model is for: a head that is trained alone writes nothing."""
        return (TRAINING,) if self.train.findings_only else (TRAINING, GENERATION)

    @property
    def plan(self) -> MemoryPlan:
        """Their bytes."""
        return planned(self)


@cache
def planned(settings: Settings) -> MemoryPlan:
    """The plan of settings, made once."""
    s = settings
    return plan(s.model, s.data, s.decode, s.train, s.where, views=s.views)


@dataclass(frozen=True)
class Fit:
    """Whether one use of a model fits.

    Attributes:
        use: training or generation.
        form: of the language model's weights, a row of the plan.
        needs: bytes, with what Python and the libraries hold where models run in main memory.
        free: bytes that are free where models run.
        remedies: the mildest settings that make it fit, or those that need least where none do, between backticks.
        then: bytes with them.
    """

    use: str
    form: str
    needs: int
    free: int
    remedies: tuple[str, ...] = ()
    then: int = 0

    @property
    def fits(self) -> bool:
        """As the settings are."""
        return self.needs <= self.free

    @property
    def can_fit(self) -> bool:
        """With the remedies."""
        return self.fits or (bool(self.remedies) and self.then <= self.free)


@dataclass(frozen=True)
class Saving:
    """A setting that saves memory: in words, what it changes, and whether that changes anything."""

    words: Callable[[Settings], str]
    change: Callable[[Settings], Settings]
    helps: Callable[[Settings], bool]


def _train(settings: Settings, **changes: object) -> Settings:
    return replace(settings, train=replace(settings.train, **changes))  # type: ignore[arg-type]  # fields of it


def _same_step(settings: Settings) -> Settings:
    batches = settings.data.batch_size * settings.train.accumulate_grad_batches
    return _train(replace(settings, data=replace(settings.data, batch_size=1)), accumulate_grad_batches=batches)


def _placed(settings: Settings, **changes: object) -> Settings:
    return replace(settings, where=replace(settings.where, **changes))  # type: ignore[arg-type]  # fields of it


BATCH = Saving(
    lambda s: f"`batch_size` 1 `accumulate_grad_batches` {s.data.batch_size * s.train.accumulate_grad_batches}",
    _same_step,
    lambda s: s.data.batch_size > 1,
)
CHECKPOINTING = Saving(
    lambda s: "`gradient_checkpointing` True",
    lambda s: _train(s, gradient_checkpointing=True),
    lambda s: not s.train.gradient_checkpointing,
)
BEAM = Saving(
    lambda s: "`beam_size` 1",
    lambda s: replace(s, decode=replace(s.decode, beam_size=1)),
    lambda s: s.decode.beam_size > 1,
)
ONE_STUDY = Saving(
    lambda s: "`test_batch_size` 1",
    lambda s: replace(s, data=replace(s.data, test_batch_size=1)),
    lambda s: s.data.test_batch_size > 1,
)
HALF = Saving(
    lambda s: "`dtype` bfloat16", lambda s: _placed(s, dtype="bfloat16"), lambda s: s.where.quantization in OPEN
)
FOUR_BITS = Saving(
    lambda s: "`quantization` nf4",
    lambda s: _placed(s, quantization="nf4"),
    lambda s: s.where.quantization not in SMALL and not s.stored,
)
REMEDIES = {TRAINING: (BATCH, CHECKPOINTING, HALF, FOUR_BITS), GENERATION: (ONE_STUDY, BEAM, HALF, FOUR_BITS)}
"""The mildest first."""


def form_of(where: PlacementConfig, *, half: bool) -> str:
    """The plan's row of settings; where they leave the type open, `half` says whether it is bfloat16."""
    if where.quantization in SMALL:  # fp4 has nf4's size
        return "nf4 double" if where.double_quant else "nf4"
    if where.quantization in ("int8", "w8a8"):
        return "int8"
    named = {"float32": "float32", "bfloat16": "bfloat16", "float16": "bfloat16"}
    return named.get(where.dtype, "bfloat16" if half else "float32")


def bytes_of(settings: Settings, use: str, machine: Machine) -> tuple[str, int]:
    """The form of the weights, and the bytes that a use needs where models run."""
    precision = settings.train.precision
    half = machine.bfloat16 if use == GENERATION or precision == "auto" else precision.startswith("bf16")
    form = "float32" if settings.train.findings_only else form_of(settings.where, half=half)
    (mode,) = [mode for mode in settings.plan.modes if mode.name == form]
    beside = 0 if on_gpu(settings, machine) else settings.plan.process
    return form, beside + (mode.training if use == TRAINING else mode.generation)


def on_gpu(settings: Settings, machine: Machine) -> bool:
    """Whether the model goes to a GPU."""
    return bool(machine.gpus) and settings.train.accelerator != "cpu"


def fit(settings: Settings, use: str, machine: Machine) -> Fit:
    """Whether a use fits, and else what makes it so."""
    free = min(gpu.free for gpu in machine.gpus) if on_gpu(settings, machine) else machine.free
    form, needs = bytes_of(settings, use, machine)
    if needs <= free:
        return Fit(use, form, needs, free)
    tried = []
    for changed, words in changes(settings, use, form):
        then = bytes_of(changed, use, machine)[1]
        tried.append(Fit(use, form, needs, free, words, then))
        if then <= free:
            return tried[-1]
    return min(tried, key=lambda fit: fit.then) if tried else Fit(use, form, needs, free)


def changes(settings: Settings, use: str, form: str) -> Iterator[tuple[Settings, tuple[str, ...]]]:
    """Settings that need less, with what they change: few changes before many, mild ones before others."""
    remedies = (BATCH,) if settings.train.findings_only else REMEDIES[use]
    known = [one for one in remedies if one.helps(settings) and not (one is HALF and form != "float32")]
    for count in range(1, len(known) + 1):
        for some in combinations(known, count):
            if HALF in some and FOUR_BITS in some:
                continue
            changed = settings
            for one in some:
                changed = one.change(changed)
            yield changed, tuple(one.words(settings) for one in some)
