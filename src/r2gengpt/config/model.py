"""What is trained: parts, adapters, prompt. Loads nothing."""

import math
from dataclasses import dataclass

from r2gengpt.errors import InputError
from r2gengpt.options import check_fields, option

DEFAULT_INSTRUCTION = "Generate a comprehensive and detailed diagnosis report for this chest xray image."
ALIGNMENTS = {"shallow": (True, False), "delta": (True, True), "deep": (False, False)}
"""Alignment → (freeze_vm, vis_use_lora), as the original's paper names them (arXiv 2309.09812, section 2.3)."""
TEMPLATES = ("auto", "plain", "chat")
PRIOR = "prior"
"""Beside `CONTEXT_FIELDS` in a prompt: an earlier study of the patient."""
CONTEXT_FIELDS = ("age", "sex", "view", "indication", "technique", "comparison")
"""What a prompt can have of what is known of a study beside its films, in its order."""


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
        "finding head so; position: the same, with a mean of its own for each patch",
        choices=("none", "standardize", "position"),
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
