"""Beam search over studies that stand at different steps: which beams go on, which are done. No model.

Source: the rules of `transformers.generation.utils._beam_search` (5.23), a study at a time independent of the others.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

LOW = -1.0e9
"""What the library takes for minus infinity."""


def take(tensor: Tensor, beams: Tensor) -> Tensor:
    """Rows (S, n, …) of the named beams (S, m) → (S, m, …)."""
    index = beams.reshape(*beams.shape, *([1] * (tensor.ndim - 2)))
    return tensor.take_along_dim(index, dim=1)


@dataclass
class Beams:
    """The state of S studies with K beams each; T is the longest report.

    `tokens` (S, K, T) and `total` (S, K) are the running beams and their summed scores, `logprobs` (S, K, T) the
    log-probability of each token under the model alone; `done_*` are the best ended ones so far, scored by length;
    `ended` (S, K) tells which of those are real; `open` (S,) whether a better one may still come.
    """

    tokens: Tensor
    total: Tensor
    logprobs: Tensor
    done_tokens: Tensor
    done_total: Tensor
    done_logprobs: Tensor
    done_length: Tensor
    ended: Tensor
    open: Tensor

    @classmethod
    def start(cls, studies: int, beams: int, longest: int, device: torch.device) -> "Beams":
        """Studies without a token; only the first beam counts, so that all beams do not begin alike."""
        total = torch.full((studies, beams), LOW, dtype=torch.float32, device=device)
        total[:, 0] = 0.0
        tokens = torch.zeros(studies, beams, longest, dtype=torch.long, device=device)
        return cls(
            tokens=tokens,
            total=total,
            logprobs=torch.zeros(studies, beams, longest, dtype=torch.float32, device=device),
            done_tokens=tokens.clone(),
            done_total=torch.full((studies, beams), LOW, dtype=torch.float32, device=device),
            done_logprobs=torch.zeros(studies, beams, longest, dtype=torch.float32, device=device),
            done_length=torch.zeros(studies, beams, dtype=torch.long, device=device),
            ended=torch.zeros(studies, beams, dtype=torch.bool, device=device),
            open=torch.ones(studies, dtype=torch.bool, device=device),
        )

    def rows(self, index: Tensor) -> "Beams":
        """The state of some of the studies."""
        return Beams(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def join(self, other: "Beams") -> "Beams":
        """This state with other studies after it."""
        return Beams(**{f.name: torch.cat([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)})


@dataclass(frozen=True)
class BeamRules:
    """When a beam ends and how ended ones are compared."""

    end: int
    longest: int
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    """True: as soon as K have ended; False: when the best running one cannot win at its length; "never": at any."""
    beams: int = 1

    def choose(self, scores: Tensor, generators: list[torch.Generator] | None) -> tuple[Tensor, Tensor]:
        """The 2 K best continuations of each study, or 2 K drawn ones: sums (S, 2K) and their places (S, 2K).

        Args:
            scores: (S, K · vocabulary), summed scores.
            generators: one a study where they are drawn.
        """
        beams = 2 * self.beams
        if generators is None:
            values, places = scores.topk(beams)
            return values, places
        shares = scores.softmax(-1)
        drawn = [torch.multinomial(s, beams, generator=g) for s, g in zip(shares, generators, strict=True)]
        places = torch.stack(drawn)
        return scores.gather(1, places), places

    def step(
        self,
        state: Beams,
        scores: Tensor,
        logprobs: Tensor,
        steps: Tensor,
        generators: list[torch.Generator] | None = None,
    ) -> tuple[Beams, Tensor, Tensor]:
        """One token more.

        Args:
            state: before it.
            scores: (S, K, vocabulary), the rules applied.
            logprobs: (S, K, vocabulary), the model's own.
            steps: (S,), tokens before it.
            generators: one a study where tokens are drawn.

        Returns:
            The state after it; (S, K) which beam each running one continues; (S,) which studies are through.
        """
        beams, vocabulary = scores.shape[1:]
        sums, places = self.choose((scores + state.total[:, :, None]).flatten(1), generators)
        origin, ids = places // vocabulary, places % vocabulary
        here = steps[:, None, None].expand(-1, 2 * beams, 1)
        tokens = take(state.tokens, origin).scatter_(2, here, ids[:, :, None])
        own = take(state.logprobs, origin).scatter_(2, here, logprobs.flatten(1).gather(1, places)[:, :, None])
        hits = (ids == self.end) | (steps + 1 >= self.longest)[:, None]

        running = sums + hits * LOW
        best = running.topk(beams)[1]
        after = self._update_ended(state, tokens, sums, own, hits, steps)
        after.tokens, after.total, after.logprobs = take(tokens, best), running.gather(1, best), take(own, best)
        lengths = (steps + 1).float() if not self._looks_ahead else torch.full_like(after.total[:, 0], self.longest)
        hope = after.total[:, 0] / lengths**self.length_penalty
        worst = torch.where(after.ended, after.done_total.min(1, keepdim=True)[0], LOW)
        after.open = state.open & (hope[:, None] > worst).any(1)
        through = ~after.open | hits.all(1)
        if self.early_stopping is True:
            through = through | after.ended.all(1)
        return after, origin.gather(1, best), through

    @property
    def _looks_ahead(self) -> bool:
        return self.early_stopping == "never" and self.length_penalty > 0.0

    def _update_ended(
        self, state: Beams, tokens: Tensor, sums: Tensor, own: Tensor, hits: Tensor, steps: Tensor
    ) -> Beams:
        """The state with the K best of what had ended before and what ends now (only the first K candidates count)."""
        beams = state.total.shape[1]
        now = hits.clone()
        now[:, beams:] = False
        scored = sums / ((steps + 1).float() ** self.length_penalty)[:, None]
        full = state.ended.all(1, keepdim=True) & (self.early_stopping is True)
        scored = scored + full * LOW + ~state.open[:, None] * LOW + ~now * LOW
        merged = torch.cat([state.done_total, scored], 1)
        best = merged.topk(beams)[1]

        def keep(old: Tensor, new: Tensor) -> Tensor:
            return take(torch.cat([old, new], 1), best)

        lengths = (steps + 1)[:, None].expand_as(sums)
        return Beams(
            tokens=state.tokens,
            total=state.total,
            logprobs=state.logprobs,
            done_tokens=keep(state.done_tokens, tokens),
            done_total=merged.gather(1, best),
            done_logprobs=keep(state.done_logprobs, own),
            done_length=keep(state.done_length, lengths),
            ended=keep(state.ended, now),
            open=state.open,
        )
