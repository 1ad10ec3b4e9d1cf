"""The films of an earlier study among those of a study: which are which, their means, their marks of time. No text."""

import torch
from torch import Tensor, nn

NOW = -1
"""The mark of a view of the study itself; those of an earlier one have the number of a span from 0 on."""
SPANS = (1.0, 7.0, 30.0, 90.0, 365.0, 1095.0)
"""Days up to which each span reaches, from the second on; the first is of an unknown time, the last of a longer one."""


def span_of(days: float | None) -> int:
    """The number of the span that so many days fall into.

    >>> span_of(None), span_of(0.5), span_of(41), span_of(5000)
    (0, 1, 4, 7)
    """
    return 0 if days is None else 1 + sum(days > limit for limit in SPANS)


class TimeMarks(nn.Module):
    """A learnt vector for each span of time, added to the image tokens of an earlier study; zeros before training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(len(SPANS) + 2, width))

    def forward(self, tokens: Tensor, marks: Tensor) -> Tensor:
        """Image tokens (G, N, D) of studies with marks (G,), the marks of earlier ones added."""
        added = self.weight[marks.clamp_min(0)].to(tokens.dtype)
        return tokens + torch.where((marks != NOW)[:, None], added, torch.zeros_like(added))[:, None]


def mean_of_studies(features: Tensor, view_mask: Tensor, marks: Tensor) -> tuple[Tensor, Tensor]:
    """Means over the views of each study and of its earlier one, these next to each other.

    Args:
        features: (K, N, E), the present views only, study by study.
        view_mask: (B, V), bool.
        marks: (B, V), int64.

    Returns:
        (G, N, E), and the mark of each, (G,).
    """
    rows = torch.arange(len(view_mask), device=features.device).unsqueeze(1).expand_as(view_mask)[view_mask]
    since = marks[view_mask]
    _, group, counts = torch.unique(2 * rows + (since != NOW), return_inverse=True, return_counts=True)
    total = features.new_zeros(len(counts), *features.shape[1:]).index_add(0, group, features)
    of_group = since.new_full((len(counts),), NOW).index_copy(0, group, since)
    return total / counts.to(features.dtype)[:, None, None], of_group
