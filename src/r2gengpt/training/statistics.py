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
    """Mean and standard deviation of vectors that come in parts; sums are float64."""

    count: int = 0
    total: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    squares: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))

    def add(self, vectors: Tensor) -> None:
        """Count some more, (N, E)."""
        self.count += len(vectors)
        self.total = self.total + vectors.sum(0, dtype=torch.float64)
        self.squares = self.squares + vectors.double().square().sum(0)

    def found(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, (E,) each, float32."""
        mean = self.total / self.count
        return mean.float(), (self.squares / self.count - mean.square()).clamp_min(0).sqrt().float()


@torch.no_grad()
def set_feature_statistics(built: Built, dataset: StudyDataset, *, new_head: bool = False) -> None:
    """Standardise the encoder's features, per channel, by their statistics over a sample of the training studies.

    Nothing where `feature_norm` is none.

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
    for features in sampled_features(built, dataset):
        plain.add(features)
        if head is not None:
            normed.add(functional.layer_norm(features, features.shape[-1:]))
    norm.set_statistics(*plain.found())
    if head is not None:
        head.start_at(*normed.found())


def sampled_features(built: Built, dataset: StudyDataset) -> Iterator[Tensor]:
    """Features of some studies, (N, E) each, on the CPU, spread evenly over a set whose order may be its sources'."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    built.model.vision_tower.to(device).eval()
    size = min(len(dataset), STATISTICS_STUDIES)
    for place in range(size):
        example = dataset[(0, place * len(dataset) // size)]
        features = example.features
        if features is None:
            assert example.pixels is not None
            features = built.model.encode_views(example.pixels.unsqueeze(0).to(device))
        yield features.flatten(0, 1).float().cpu()
