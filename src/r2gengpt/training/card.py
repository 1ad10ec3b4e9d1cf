"""The model card that lies beside trained weights. Plain text; nothing is measured here."""

from collections.abc import Mapping
from typing import Any

TRAINED = (
    ("freeze_vm", False, "the vision encoder (deep alignment)"),
    ("vis_use_lora", True, "LoRA on the vision encoder (delta alignment)"),
    ("llm_use_lora", True, "LoRA on the language model"),
)


def model_card(settings: Mapping[str, Any], scores: Mapping[str, float], language_licence: str | None = None) -> str:
    """A card from the run's settings, its best validation scores and what is known of the language model's licence."""
    held, given = settings.get("quantization", "none"), settings.get("annotation")
    note = "" if language_licence is None else f" (language model: {language_licence})"
    parts = ["the projector", *(words for name, value, words in TRAINED if settings[name] == value)]
    lines = [
        "# R2GenGPT checkpoint",
        "",
        "Writes drafts of chest X-ray reports. For research only: not a medical device, not verified, no diagnosis.",
        "",
        f"- vision encoder: `{settings['vision_model']}`",
        f"- language model: `{settings['lm_model']}`",
        f"- trained: {', '.join(parts)}",
        *([] if held == "none" else [f"- frozen weights of the language model in training: {held}"]),
        f"- data set: `{settings['dataset']}`" + (f", annotation `{given.rsplit('/', 1)[-1]}`" if given else ""),
        f"- licence: that of the two models and of the training data, whichever allows less{note}",
        "",
        "`delta.safetensors` holds the trained tensors only; the two models are loaded from where they are named.",
        "",
        "Best validation scores (protocol `clean`):",
        "",
        *(f"- {name}: {value:.4g}" for name, value in scores.items()),
    ]
    return "\n".join(lines) + "\n"
