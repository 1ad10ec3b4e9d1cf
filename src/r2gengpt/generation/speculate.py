"""Drafts for greedy decoding: how many tokens to try, and which of them stand. No model.

A pass over several tokens costs less than so many passes: `generation.suffixes` guesses what comes next, from what was
written for earlier studies, else from the training reports; the engine
lets the language model read the guesses in one pass, and what it would have written itself stays. In float32 that is
the text of the plain loop; where longer passes round visibly otherwise (bfloat16, 8 bits), a near tie may differ.

Source: the verification is greedy speculative decoding (Leviathan et al., arXiv 2211.17192, with temperature 0); the
drafts are looked up, as in prompt lookup and REST (He et al., arXiv 2311.08252).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import mul
from typing import Any

import torch
from torch import Tensor

from r2gengpt.generation.beams import Rules
from r2gengpt.generation.scores import next_tokens
from r2gengpt.generation.suffixes import START, Earlier, SuffixIndex, continued
from r2gengpt.model.processing import R2GenGPTProcessor
from r2gengpt.parts.int8 import Int8Linear
from r2gengpt.text.cleaning import CLEANERS

log = logging.getLogger("r2gengpt.generation")
MOST = 12
"""Longest draft in tokens: 16 add 0.02 to 3.3 tokens a pass on IU X-ray's test reports."""
FORGET = 0.95
"""What an earlier pass counts for trust, against the next one."""


@dataclass(frozen=True)
class PassTime:
    """What a pass costs by its rows (tokens of all studies), where one row costs 1: a step at two rows, then a line."""

    step: float
    row: float

    def __call__(self, rows: int) -> float:
        """The cost of so many rows."""
        return 1.0 if rows == 1 else 1.0 + self.step + self.row * (rows - 1)


PASS_TIMES = {
    "cpu float32": PassTime(0.65, 0.045),  # measured, SmolLM2-135M, AVX2: 1.5 for 2 rows, 1.8 for 3, 2.0 for 9
    "cpu w8a8": PassTime(0.0, 0.1),  # measured likewise: 1.1 for 2 rows, 1.2 for 3, 1.8 for 9
    "cpu": PassTime(0.0, 0.06),  # not measured in bfloat16; float32 by oneDNN's packed weights: 1.4 for 9
    "other": PassTime(0.0, 0.02),  # not measured: reading the weights takes the time
}


def pass_time(language_model: Any) -> PassTime:
    """The line for the device and the arithmetic of a language model."""
    weight = language_model.get_input_embeddings().weight
    if weight.device.type != "cpu":
        return PASS_TIMES["other"]
    if any(isinstance(module, Int8Linear) for module in language_model.modules()):
        return PASS_TIMES["cpu w8a8"]
    return PASS_TIMES["cpu float32" if weight.dtype == torch.float32 else "cpu"]


@dataclass
class Drafter:
    """Drafts for all studies of an engine, as long as pays by what earlier drafts were worth.

    Of a draft the tables tell how often each token was the right one. That `trust` of this hope which came true lately
    scales it. So drafts get rare and short on text that they do not know, and a new one is tried now and then, as
    what was learnt fades.
    """

    index: SuffixIndex
    time: PassTime
    earlier: Earlier = field(default_factory=Earlier)
    """What this model wrote before, which is asked first."""
    passes: int = 0
    """Rows of studies in all passes: how often a study was looked at."""
    tokens: int = 0
    """Tokens that came of them."""
    _hoped: float = field(default=0.0, repr=False)
    _got: float = field(default=0.0, repr=False)
    _hope: float = field(default=0.0, repr=False)

    @property
    def trust(self) -> float:
        """The share of the index's hope that came true; 1 where nothing is known."""
        return (self._got + 1.0) / (self._hoped + 1.0)

    def draft(self, written: Sequence[Sequence[int]], room: Sequence[int]) -> list[list[int]]:
        """What may come next in each study, all drafts cut at the length that makes the most tokens a time.

        Args:
            written: new tokens of each study so far.
            room: the most tokens to draft for each.
        """
        found = [continued(self._next, ids, min(MOST, most)) for ids, most in zip(written, room, strict=True)]
        hopes = [0.0] * (MOST + 1)  # tokens of all drafts that stand, by the length that they are cut at
        for _, shares in found:
            sums = [0.0, *accumulate(accumulate(shares, mul))]
            hopes = [hope + sums[min(length, len(shares))] for length, hope in enumerate(hopes)]
        count = len(written)

        def speed(length: int) -> float:
            return (count + self.trust * hopes[length]) / self.time(count * (length + 1))

        longest = max((len(shares) for _, shares in found), default=0)
        best = max(range(longest + 1), key=speed)
        self._hope = hopes[best] / max(1, count)
        return [tokens[:best] for tokens, _ in found]

    def _next(self, context: tuple[int, ...]) -> tuple[int, float]:
        token, share = self.earlier.next(context)
        return (token, share) if token != START else self.index.next(context)

    def gain(
        self, texts: Sequence[list[int]], rules: Rules, read: Callable[[Sequence[Sequence[int]]], Tensor]
    ) -> list[tuple[list[int], list[float]]]:
        """What each study gains by one pass: the tokens that greedy decoding writes, and their log-probabilities.

        Args:
            texts: new tokens of each study so far.
            rules: without sampling.
            read: the logits (S, Q, vocabulary) after each token of chains (S, Q), each study's last token first.
        """
        drafts = self.draft(texts, [rules.max_new_tokens - len(text) - 1 for text in texts])
        most = max(map(len, drafts))
        padded = [draft + [rules.end] * (most - len(draft)) for draft in drafts]
        logits = read([[text[-1], *draft] for text, draft in zip(texts, padded, strict=True)])
        before = [text + draft[:size] for text, draft in zip(texts, padded, strict=True) for size in range(most + 1)]
        ids, logprobs = next_tokens(rules, logits.flatten(0, 1), before, ())
        found = []
        for study, draft in enumerate(drafts):
            start = study * (most + 1)
            stop = start + accepted(ids[start : start + most + 1], draft, rules.end)
            found.append((ids[start:stop], logprobs[start:stop]))
        self.learn(sum(len(tokens) - 1 for tokens, _ in found), len(found))
        return found

    def log(self) -> None:
        """Say how many tokens a pass gave, if there were any."""
        if self.passes:
            each = self.tokens / self.passes
            log.info("`speculate`: %.2f tokens a pass (%d in %d)", each, self.tokens, self.passes)

    def learn(self, accepted: int, studies: int) -> None:
        """Count what stood of the last drafts of so many studies."""
        self.passes += studies
        self.tokens += studies + accepted
        self._hoped = self._hoped * FORGET + self._hope
        self._got = self._got * FORGET + (accepted / studies if self._hope else 0.0)


def drafter_for(language_model: Any, index: SuffixIndex | None) -> Drafter | None:
    """A drafter with what passes of this language model cost; None without an index."""
    return None if index is None else Drafter(index, pass_time(language_model))


def accepted(choice: Sequence[int], draft: Sequence[int], end: int) -> int:
    """How many tokens a study gains: the part of its draft that was chosen too, and the choice after it, to an end.

    >>> accepted([5, 6, 9], [5, 6], end=0), accepted([7, 1, 1], [8], end=0), accepted([4, 0, 4], [4, 0], end=0)
    (3, 1, 2)
    """
    right = 0
    while right < len(draft) and draft[right] == choice[right] and choice[right] != end:
        right += 1
    return right + 1


def reports_index(reports: Sequence[str], processor: R2GenGPTProcessor, dataset: str) -> SuffixIndex:
    """The index of training reports, cleaned as in training, in the language model's tokens, each with its end token.

    Args:
        reports: as they stand in the annotation file.
        processor: knows the tokens.
        dataset: whose cleaner to use.
    """
    clean, end = CLEANERS[dataset], processor.end_token_id
    return SuffixIndex.of([[*processor.encode_text(clean(report)), end] for report in reports])
