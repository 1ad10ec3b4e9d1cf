"""Next-token scores under the decoding rules, for studies that stand at different steps. No model, no choice of tokens.

The rules are the library's (`transformers.generation.logits_process`), with the step of each row told apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper


@dataclass(frozen=True)
class Rules:
    """What changes scores before a token is chosen; names as in `DecodeConfig`, the defaults change nothing."""

    end: int
    min_new_tokens: int = 0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    beams: int = 1

    def apply(self, scores: Tensor, history: Tensor, steps: Tensor) -> Tensor:
        """The changed scores; `scores` may be overwritten.

        Args:
            scores: (R, vocabulary), float32: logits, or log-probabilities in beam search.
            history: (R, T), int64: the new tokens of each row; what lies beyond its step is ignored.
            steps: (R,), int64: how many new tokens each row has.
        """
        if self.min_new_tokens:
            scores[steps < self.min_new_tokens, self.end] = -torch.inf
        if history.shape[1]:
            if self.repetition_penalty != 1.0:
                scores = repetition_penalised(scores, history, steps, self.repetition_penalty)
            if self.no_repeat_ngram_size:
                scores = without_repeated_ngrams(scores, history, steps, self.no_repeat_ngram_size)
        for warper in self._warpers():
            scores = warper(history, scores)
        return scores

    def _warpers(self) -> Sequence[TemperatureLogitsWarper | TopKLogitsWarper | TopPLogitsWarper]:
        if not self.do_sample:
            return ()
        keep = 2 if self.beams > 1 else 1  # an end token and another one
        warpers: list[TemperatureLogitsWarper | TopKLogitsWarper | TopPLogitsWarper] = []
        if self.temperature != 1.0:
            warpers.append(TemperatureLogitsWarper(self.temperature))
        if self.top_k:
            warpers.append(TopKLogitsWarper(self.top_k, min_tokens_to_keep=keep))
        if self.top_p < 1.0:
            warpers.append(TopPLogitsWarper(self.top_p, min_tokens_to_keep=keep))
        return warpers


def repetition_penalised(scores: Tensor, history: Tensor, steps: Tensor, penalty: float) -> Tensor:
    """Scores of tokens already written divided by the penalty, or multiplied where they are negative.

    Source: Keskar et al., arXiv 1909.05858. Arguments as in `Rules.apply`.
    """
    places = torch.arange(history.shape[1], device=history.device)
    # beyond a row's step its first token stands again: the same change twice is one change
    ids = torch.where(places < steps[:, None], history, history[:, :1])
    found = scores.gather(1, ids)
    changed = torch.where(found < 0, found * penalty, found / penalty)
    return scores.scatter(1, ids, torch.where(steps[:, None] > 0, changed, found))


def without_repeated_ngrams(scores: Tensor, history: Tensor, steps: Tensor, size: int) -> Tensor:
    """Minus infinity for tokens that would end an n-gram of the row a second time. Arguments as in `Rules.apply`."""
    if history.shape[1] < size:
        return scores
    windows = history.unfold(1, size, 1)  # (R, T - size + 1, size)
    last = steps[:, None] - size + 1 + torch.arange(size - 1, device=steps.device)
    current = history.gather(1, last.clamp_min(0))  # (R, size - 1)
    inside = torch.arange(windows.shape[1], device=steps.device) + size <= steps[:, None]
    repeated = (windows[:, :, :-1] == current[:, None]).all(-1) & inside
    banned = torch.zeros_like(scores, dtype=torch.int32)
    banned.scatter_add_(1, windows[:, :, -1], repeated.int())
    return scores.masked_fill(banned > 0, -torch.inf)
