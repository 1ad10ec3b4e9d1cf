"""What a vision encoder gives: one row of features for each view that is there. No weights, no language model."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from r2gengpt.errors import InputError
from r2gengpt.model.configuration import patch_grid


def encoder_width(vision_config: Any) -> int:
    """E: width of the encoder's last layer (Swin's `hidden_size` is that of its last stage)."""
    sizes = getattr(vision_config, "hidden_sizes", None)
    return int(sizes[-1] if sizes else vision_config.hidden_size)


def full_mask(pixel_values: Tensor) -> Tensor:
    """All views are there: (B, V), bool."""
    return torch.ones(pixel_values.shape[:2], dtype=torch.bool, device=pixel_values.device)


def present_views(pixel_values: Tensor, view_mask: Tensor | None) -> Tensor:
    """The views that are there, (K, 3, H, W), study by study.

    Args:
        pixel_values: (B, V, 3, H, W), float.
        view_mask: (B, V), True where a view is there; None where all are.

    Raises:
        ValueError: shapes that do not fit, with both shapes; a study without any view.
    """
    if pixel_values.ndim != 5:
        raise ValueError(f"pixel_values has shape {tuple(pixel_values.shape)}, must be (studies, views, 3, H, W)")
    view_mask = full_mask(pixel_values) if view_mask is None else view_mask
    if view_mask.shape != pixel_values.shape[:2]:
        raise ValueError(
            f"view_mask has shape {tuple(view_mask.shape)}, pixel_values {tuple(pixel_values.shape)}: studies and "
            "views must agree"
        )
    if not bool(view_mask.any(1).all()):
        raise ValueError(f"study {int((~view_mask.any(1)).nonzero()[0])} of the batch has no view")
    return pixel_values[view_mask]


def view_features(output: Any, vision_config: Any, pixels: Tensor, *, global_only: bool) -> Tensor:
    """The features of views (K, 3, H, W) in an encoder's output, (K, N, E); with `global_only` the pooled ones, N 1.

    Raises:
        InputError: the encoder has no pooled feature, or its features are not those of the image's patches.
    """
    if not global_only:
        return patch_features(output, vision_config, pixels)
    pooled: Tensor | None = getattr(output, "pooler_output", None)
    if pooled is None:
        raise InputError(f"{vision_config.model_type} gives no pooled feature", field="global_only", value=True)
    return pooled.flatten(1).unsqueeze(1)


def patch_features(output: Any, vision_config: Any, pixels: Tensor) -> Tensor:
    """The patches of the encoder's last layer, (K, N, E): class and register tokens in front are left out.

    Raises:
        InputError: fewer features than the image has patches, or a map of features of another size.
    """
    features: Tensor = output.last_hidden_state
    is_map = features.ndim == 4
    if is_map:
        features = features.flatten(2).transpose(1, 2)
    expected = patch_grid(vision_config, pixels.shape[-2]) * patch_grid(vision_config, pixels.shape[-1])
    found = features.shape[1]
    if found < expected or (is_map and found > expected):
        words = f"vision encoder gave {found} features for {expected} patches of a {pixels.shape[-1]}-pixel image"
        raise InputError(words, field="vision_model")
    return features[:, found - expected :]


def regional_means(features: Tensor, parts: int) -> Tensor:
    """Means over parts x parts regions of each view, (K, E · parts²), float32; of patches in no square, over all.

    Args:
        features: (K, N, E).
        parts: regions along a side.
    """
    views, count, width = features.shape
    side = math.isqrt(count)
    if side * side != count:
        features, side = features.mean(1, keepdim=True), 1
    grid = features.float().transpose(1, 2).reshape(views, width, side, side)
    return functional.adaptive_avg_pool2d(grid, parts).flatten(1)
