"""Observations read off the encoder's patches: attention pooling over the patches of all views. Writes no text."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

SHARPNESS = 8.0
"""Scale of a query's products with normalised patches, beside 1 / sqrt(E): the softmax can then single out patches."""


class FindingHead(nn.Module):
    """One learnt query an observation looks over the patches; what it sees, and their mean, are read linearly.

    Source: attention pooling as in Ilse et al., arXiv 1802.04712, with a query an observation.

    Args:
        width: E, of the encoder's features.
        observations: O, how many there are.
        dropout: of the pooled features, in training.
    """

    def __init__(self, width: int, observations: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.randn(observations, width) * 0.02)
        self.reading = nn.Parameter(torch.zeros(observations, width))
        self.mean_reading = nn.Parameter(torch.zeros(observations, width))
        self.bias = nn.Parameter(torch.zeros(observations))
        self.dropout = nn.Dropout(dropout)

    @torch.no_grad()
    def start_at(self, mean: Tensor, deviation: Tensor) -> None:
        """Let the normalisation give channels of mean 0 and deviation 1 before the first step.

        The mean over the patches hardly differs between films beside what it differs between channels.

        Args:
            mean: of the normalised features without gain and bias, (E,).
            deviation: likewise.
        """
        gain = 1 / deviation.clamp_min(1e-6)
        self.norm.weight.copy_(gain)
        self.norm.bias.copy_(-mean * gain)

    def forward(self, features: Tensor, view_mask: Tensor) -> Tensor:
        """Logits of the observations, (B, O), float32.

        Args:
            features: (K, N, E), of the present views, study by study.
            view_mask: (B, V), True where a view is there; K of them are.
        """
        with torch.autocast(features.device.type, enabled=False):
            return self.read(*by_study(self.norm(features.float()), view_mask))

    def read(self, studies: Tensor, mask: Tensor) -> Tensor:
        """Logits of studies whose patches stand side by side, (B, O), float32.

        Args:
            studies: (B, M, E), float32, normalised.
            mask: (B, M), True where a patch is there.
        """
        looks = studies @ self.queries.T * (SHARPNESS / math.sqrt(studies.shape[-1]))
        weights = looks.masked_fill(~mask.unsqueeze(-1), -math.inf).softmax(1)
        seen = weights.transpose(1, 2) @ studies
        mean = (studies * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        logits: Tensor = (self.dropout(seen) * self.reading).sum(-1) + self.dropout(mean) @ self.mean_reading.T
        return logits + self.bias

    def worth(self, studies: Tensor) -> Tensor:
        """What each patch adds to each logit by the mean of all, (B, M, O); arguments as in `read`, all patches there.

        The pooled patches are left out: on films with boxes their share points beside the box.
        Source: class activation maps, Zhou et al., arXiv 1512.04150.
        """
        worth: Tensor = studies @ self.mean_reading.T / studies.shape[1]
        return worth


def by_study(patches: Tensor, view_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Patches of present views (K, N, E) to those of studies (B, V·N, E), and where there are any (B, V·N)."""
    studies, views = view_mask.shape
    spread = patches.new_zeros(studies, views, *patches.shape[1:])
    spread[view_mask] = patches
    mask = view_mask.unsqueeze(-1).expand(-1, -1, patches.shape[1])
    return spread.flatten(1, 2), mask.flatten(1)


def findings_loss(logits: Tensor, labels: Tensor, positive_weights: Tensor) -> Tensor:
    """Binary cross-entropy over the labels that are known, (), float32; 0 where none is.

    Args:
        logits: (B, O).
        labels: (B, O), 0 to 1, NaN where unknown.
        positive_weights: (O,), how many times a positive counts.
    """
    known = ~labels.isnan()
    targets = labels.nan_to_num(0.0)
    losses = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=positive_weights, reduction="none")
    return (losses * known).sum() / known.sum().clamp_min(1)


def positive_weights(labels: Tensor, power: float = 0.5, most: float = 10.0) -> Tensor:
    """How many times a positive of each observation counts, (O,): (negatives / positives) ** power, at most `most`.

    Args:
        labels: (B, O) of the training split, NaN where unknown.
        power: 1 balances the classes, 0 leaves them as they are; the square root lies between.
        most: the largest weight.
    """
    positives = labels.nan_to_num(0.0).sum(0)
    known = (~labels.isnan()).sum(0)
    ratio = (known - positives).clamp_min(1.0) / positives.clamp_min(1.0)
    return torch.where(positives > 0, ratio**power, torch.ones_like(ratio)).clamp(1.0 / most, most)
