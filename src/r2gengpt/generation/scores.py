"""Which tokens may come next, and which come: the rules on a language model's logits, by PyTorch. Keeps no texts.

The rules are the library's (`transformers.generation.logits_process`), for rows that stand at different steps.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from r2gengpt.errors import RunError
from r2gengpt.generation.beams import NO_NUMBERS, Candidates, Rules

Generators = Sequence[torch.Generator]
"""One a study; used where tokens are drawn."""
Settled = Sequence[int | None]
"""The next token of each row, where it is no choice; empty: it always is one."""


def next_tokens(
    rules: Rules, logits: Tensor, texts: Sequence[list[int]], generators: Generators, settled: Settled = ()
) -> tuple[list[int], list[float]]:
    """The likeliest or a drawn token of each row (S, vocabulary), and its log-probability under the model alone.

    Raises:
        RunError: tokens are to be drawn, and a row's logits are no numbers.
    """
    scores = settle(ruled(rules, logits.clone(), *histories(texts, logits.device)), settled)
    if rules.do_sample:
        shares = scores.softmax(-1)
        if bool(shares.isnan().any()):
            raise RunError(NO_NUMBERS)
        ids = torch.cat([torch.multinomial(s, 1, generator=g) for s, g in zip(shares, generators, strict=True)])
    else:
        ids = scores.argmax(-1)
    logprobs = logits.gather(1, ids[:, None])[:, 0] - logits.logsumexp(-1)
    return ids.tolist(), logprobs.tolist()


def settle(scores: Tensor, settled: Settled) -> Tensor:
    """The scores (R, vocabulary) with nothing but the settled token in rows that have one; may be overwritten.

    A settled token that a rule forbids comes all the same, and counts 0: a beam must stay above minus infinity.
    """
    for row, token in enumerate(settled):
        if token is not None:
            kept = scores[row, token].nan_to_num(neginf=0.0)
            scores[row] = -torch.inf
            scores[row, token] = kept
    return scores


def candidates(
    rules: Rules,
    logits: Tensor,
    texts: Sequence[list[int]],
    totals: Tensor,
    generators: Generators,
    settled: Settled = (),
) -> list[Candidates]:
    """The 2 K best continuations of each study's K beams, or 2 K drawn ones.

    Args:
        rules: how they are chosen.
        logits: (S, K, vocabulary), float32, after each beam.
        texts: the new tokens of each beam, study after study.
        totals: (S, K), float32, the summed score of each.
        generators: one a study.
        settled: of each beam, study after study.
    """
    own, vocabulary = logits.log_softmax(-1), logits.shape[2]
    scores = settle(ruled(rules, own.flatten(0, 1).clone(), *histories(texts, logits.device)), settled).view(own.shape)
    sums = (scores + totals[:, :, None]).flatten(1)
    if rules.do_sample:
        drawn = [
            draw(own_sums, 2 * rules.beam_size, generator) for own_sums, generator in zip(sums, generators, strict=True)
        ]
        places = torch.stack(drawn)
        values = sums.gather(1, places)
    else:
        values, places = sums.topk(2 * rules.beam_size)
    found = values, places // vocabulary, places % vocabulary, own.flatten(1).gather(1, places)
    studies = zip(*(tensor.cpu().numpy() for tensor in found), strict=True)
    return [Candidates(sums=s, origins=o, tokens=t, logprobs=p) for s, o, t, p in studies]


def draw(sums: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Places of so many continuations (K · vocabulary,) by chance; the best where fewer than that can come."""
    if int((sums > -torch.inf).sum()) < count:
        return sums.topk(count).indices
    return torch.multinomial(sums.softmax(-1), count, generator=generator)


def histories(texts: Sequence[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Texts of new tokens as (R, T), int64, filled up with 0, and how many each has, (R,)."""
    steps = [len(text) for text in texts]
    rows = [text + [0] * (max(steps) - len(text)) for text in texts]
    return torch.tensor(rows, dtype=torch.long, device=device), torch.tensor(steps, device=device)


def ruled(rules: Rules, scores: Tensor, history: Tensor, steps: Tensor) -> Tensor:
    """The scores with what may not come taken out; `scores` may be overwritten.

    Args:
        rules: what changes them.
        scores: (R, vocabulary), float32: logits, or log-probabilities in beam search.
        history: (R, T), int64: the new tokens of each row; what lies beyond its step is ignored.
        steps: (R,), int64: how many new tokens each row has.
    """
    if rules.min_new_tokens:
        scores[:, rules.end].masked_fill_(steps < rules.min_new_tokens, -torch.inf)
    if history.shape[1]:
        if rules.repetition_penalty != 1.0:
            scores = repetition_penalised(scores, history, steps, rules.repetition_penalty)
        if rules.no_repeat_ngram_size:
            scores = without_repeated_ngrams(scores, history, steps, rules.no_repeat_ngram_size)
    for warper in warpers(rules) if rules.do_sample else ():
        scores = warper(history, scores)
    return scores


def warpers(rules: Rules) -> Iterable[Callable[[Tensor, Tensor], Tensor]]:
    """The library's changes of scores before a token is drawn."""
    keep = 2 if rules.beam_size > 1 else 1  # an end token and another one
    if rules.temperature != 1.0:
        yield TemperatureLogitsWarper(rules.temperature)
    if rules.top_k:
        yield TopKLogitsWarper(rules.top_k, min_tokens_to_keep=keep)
    if rules.top_p < 1.0:
        yield TopPLogitsWarper(rules.top_p, min_tokens_to_keep=keep)


def repetition_penalised(scores: Tensor, history: Tensor, steps: Tensor, penalty: float) -> Tensor:
    """Scores of tokens already written divided by the penalty, or multiplied where they are negative.

    Source: Keskar et al., arXiv 1909.05858. Arguments as in `ruled`.
    """
    places = torch.arange(history.shape[1], device=history.device)
    # beyond a row's step its first token stands again: the same change twice is one change
    ids = torch.where(places < steps[:, None], history, history[:, :1])
    found = scores.gather(1, ids)
    changed = torch.where(found < 0, found * penalty, found / penalty)
    return scores.scatter(1, ids, torch.where(steps[:, None] > 0, changed, found))


def without_repeated_ngrams(scores: Tensor, history: Tensor, steps: Tensor, size: int) -> Tensor:
    """Minus infinity for tokens that would end an n-gram of the row a second time. Arguments as in `ruled`."""
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
