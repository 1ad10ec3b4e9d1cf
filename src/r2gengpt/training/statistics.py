"""Statistics of the encoder's features, which standardise them before the first step. Trains nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from r2gengpt.data.loading import StudyDataset
from r2gengpt.parts.assemble import Built

STATISTICS_STUDIES = 256
"""Most training studies that feature statistics are taken from; more change them by less than noise."""


@dataclass
class Moments:
    """Mean of vectors, or of matrices, that come in parts, and the deviation from it; sums are float64."""

    count: int = 0
    total: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    squares: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))

    def add(self, vectors: Tensor) -> None:
        """Count some more, (N, E) or (K, N, E)."""
        self.count += len(vectors)
        self.total = self.total + vectors.sum(0, dtype=torch.float64)
        self.squares = self.squares + vectors.double().square().sum(0)

    def found(self) -> tuple[Tensor, Tensor]:
        """Mean, (E,) or (N, E), and standard deviation per channel, (E,); both float32."""
        mean = self.total / self.count
        variance = self.squares / self.count - mean.square()
        per_channel = variance if variance.ndim == 1 else variance.mean(0)
        return mean.float(), per_channel.clamp_min(0).sqrt().float()


@torch.no_grad()
def set_feature_statistics(built: Built, dataset: StudyDataset, *, new_head: bool = False) -> None:
    """Standardise the encoder's features, per channel, by their statistics over a sample of the training studies.

    Nothing where `feature_norm` is none; with a mean for each patch where it is position.

    Args:
        built: the model.
        dataset: the training studies.
        new_head: the finding head is not trained yet; its first step starts from standardised features too.
    """
    model, norm = built.model, built.model.projector.norm_in
    if norm is None:
        return
    head = model.finding_head if new_head else None
    plain, normed = Moments(), Moments()
    for views in sampled_features(built, dataset):
        features = views.flatten(0, 1)
        plain.add(features if norm.mean.ndim == 1 else views)
        if head is not None:
            normed.add(functional.layer_norm(features, features.shape[-1:]))
    norm.set_statistics(*plain.found())
    if head is not None:
        head.start_at(*normed.found())


def sampled_features(built: Built, dataset: StudyDataset) -> Iterator[Tensor]:
    """Some studies' features, (K, N, E) each, on the CPU, spread evenly over a set whose order may be its sources'."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    built.model.vision_tower.to(device).eval()
    size = min(len(dataset), STATISTICS_STUDIES)
    for place in range(size):
        example = dataset[(0, place * len(dataset) // size)]
        features = example.features
        if features is None:
            assert example.pixels is not None
            features = built.model.encode_views(example.pixels.unsqueeze(0).to(device))
        yield features.float().cpu()
