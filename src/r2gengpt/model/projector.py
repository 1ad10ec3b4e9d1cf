"""From patch features to image tokens: fuse views, pool, project, normalise. Plain modules; no encoder, no text."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class FeatureNorm(nn.Module):
    """Centre and scale features per channel by stored statistics (identity until they are set).

    Encoders such as DINOv2 give features that share a strong common component, which hides what differs between images.
    Most of what is left tells of the place alone, as chests lie alike: with `patches`, each patch has its own mean.

    Args:
        width: E.
        patches: N, where each patch has its own mean; None: one for all.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, patches: int | None = None) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width if patches is None else (patches, width)))
        self.register_buffer("scale", torch.ones(width))

    @torch.no_grad()
    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Take the training features' mean, (E,) or (N, E), and their deviation from it, (E,); both float32."""
        self.mean.copy_(mean)
        self.scale.copy_(1.0 / std.clamp_min(1e-6))

    def forward(self, features: Tensor) -> Tensor:
        """(…, N, E) → (…, N, E), float32."""
        return (features.float() - self.mean) * self.scale


def pool_grid(features: Tensor, side: int) -> Tensor:
    """Average a square grid of patches (K, n², E) down to (K, side², E).

    Raises:
        ValueError: the patches form no square, or fewer than `side` × `side`.
    """
    count, tokens, width = features.shape
    grid = int(tokens**0.5)
    if grid * grid != tokens or grid < side:
        raise ValueError(f"{tokens} patches cannot be pooled to {side} × {side} tokens")
    maps = features.transpose(1, 2).reshape(count, width, grid, grid)
    return functional.adaptive_avg_pool2d(maps, side).flatten(2).transpose(1, 2)


class Projector(nn.Module):
    """Linear E→D, then LayerNorm D, on features that may be standardised and pooled first."""

    def __init__(
        self, vision_width: int, language_width: int, *, norm_in: FeatureNorm | None, pooled_side: int | None
    ) -> None:
        super().__init__()
        self.norm_in = norm_in
        self.pooled_side = pooled_side
        self.linear = nn.Linear(vision_width, language_width)
        self.norm = nn.LayerNorm(language_width)

    def forward(self, features: Tensor) -> Tensor:
        """(K, N_patches, E) → (K, N, D)."""
        if self.norm_in is not None:
            features = self.norm_in(features)
        if self.pooled_side is not None:
            features = pool_grid(features, self.pooled_side)
        projected: Tensor = self.norm(self.linear(features.to(self.linear.weight.dtype)))
        return projected


def mean_over_views(features: Tensor, view_mask: Tensor) -> Tensor:
    """Mean over the views that are there.

    Args:
        features: (K, N, E), the present views only, study by study.
        view_mask: (B, V), True where a view is there; K = its sum.

    Returns:
        (B, N, E). Source: R2GenGPT, models/R2GenGPT.py, encode_img.
        Differs from the original: studies of one batch may have different numbers of views.
    """
    counts = view_mask.sum(1)
    if bool((counts == 1).all()):
        return features
    study = torch.arange(len(counts), device=features.device).repeat_interleave(counts)
    total = features.new_zeros(len(counts), *features.shape[1:]).index_add(0, study, features)
    return total / counts.to(features.dtype)[:, None, None]
