"""The model's configuration in Hugging Face's form. No weights, no run settings (those are `r2gengpt.config`)."""

import math
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from r2gengpt.errors import InputError


def patch_grid(vision_config: PreTrainedConfig, image_size: int) -> int:
    """Side of the square grid of patch features that the encoder gives for a square image of `image_size` pixels.

    Hierarchical encoders (Swin, ConvNeXt) halve the grid at every stage after the first.

    Raises:
        InputError: the configuration names no patch size, or the image is smaller than one patch.
    """
    patch = getattr(vision_config, "patch_size", None)
    if isinstance(patch, list | tuple):
        patch = patch[0]
    if not isinstance(patch, int):
        raise InputError(f"`vision_model`: {vision_config.model_type} has no patch_size, so no known patch features")
    stages = len(getattr(vision_config, "depths", None) or [0])
    side = image_size // patch
    for _ in range(stages - 1):
        side = math.ceil(side / 2)
    if side < 1:
        raise InputError(f"`vision_model`: images of {image_size} pixels hold no patch of {patch} pixels")
    return side


class R2GenGPTConfig(PreTrainedConfig):  # type: ignore[misc]  # the library is untyped
    """Vision encoder, projector and language model.

    `image_token_id` marks the positions of image tokens in `input_ids`; it needs no row in the language model's
    embedding. `pooled_side` is the side of the pooled patch grid of one view (None: no pooling). `feature_norm` is
    "none", "standardize" or "position". `fusion` is "mean" or "concat". `observations` is how many the finding head
    tells (0: no head), `findings_hint` whether prompts hold what it tells. `served` is whether another
    program runs the language model, so that only its embedding table is here. `prior_study` is whether it has marks of
    time for the films of an earlier study.
    """

    model_type = "r2gengpt"
    sub_configs = {"vision_config": AutoConfig, "text_config": AutoConfig}  # noqa: RUF012 - the library's form

    vision_config: Any = None
    text_config: Any = None
    image_token_id: int | None = None
    image_size: int = 224
    global_only: bool = False
    fusion: str = "mean"
    pooled_side: int | None = None
    feature_norm: str = "none"
    observations: int = 0
    findings_hint: bool = False
    served: bool = False
    prior_study: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        for name in ("vision_config", "text_config"):
            value = getattr(self, name)
            if isinstance(value, dict):
                setattr(self, name, CONFIG_MAPPING[value["model_type"]](**value))
        if self.text_config is not None:
            self.tie_word_embeddings = bool(getattr(self.text_config, "tie_word_embeddings", False))
        parts = [part for part in (self.vision_config, self.text_config) if part is not None]
        chosen = [part._attn_implementation for part in parts]
        super().__post_init__(**kwargs)
        for part, attention in zip(parts, chosen, strict=True):  # the library resets what loaded parts have chosen
            part._attn_implementation = attention

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON has it; nothing is said of a head, another program or marks that are not there."""
        found: dict[str, Any] = super().to_dict()
        if not self.served:
            found.pop("served", None)
        if not self.observations:
            for name in ("observations", "findings_hint"):
                found.pop(name, None)
        if not self.prior_study:
            found.pop("prior_study", None)
        return found

    @property
    def patches(self) -> int:
        """Features of one view: one where it is the pooled one only."""
        return 1 if self.global_only else patch_grid(self.vision_config, self.image_size) ** 2

    @property
    def tokens_per_view(self) -> int:
        """N: image tokens of one view."""
        return self.patches if self.pooled_side is None or self.global_only else self.pooled_side**2

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Any:
        """The language model's own configuration: what `generate` reads cache shapes from."""
        return self.text_config if self.text_config is not None else self
