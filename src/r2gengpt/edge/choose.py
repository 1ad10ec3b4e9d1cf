"""Which tokens a report is made of: greedy and beam search for one study, in numpy. No model and no text here.

The rules are those of `generation.scores` and `generation.beams`, which need PyTorch; tests hold both equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
LOW = np.float32(-1.0e9)
"""Stands for minus infinity where beams are compared."""


class Model(Protocol):
    """What tells the scores of next tokens."""

    def step(self, ids: Ints, origin: Ints) -> Floats:
        """Logits (K, vocabulary) after one token more: row k continues row `origin[k]` of the last pass by `ids[k]`."""


@dataclass(frozen=True)
class Choice:
    """How tokens are chosen; names as in `DecodeConfig`, lengths resolved; `end` is the token that ends a report."""

    end: int
    min_new_tokens: int
    max_new_tokens: int
    beam_size: int = 1
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    length_penalty: float = 1.0
    early_stopping: str = "False"


@dataclass(frozen=True)
class Chosen:
    """New token ids, the end token included if it came, their log-probabilities under the model alone, all beams."""

    ids: list[int]
    logprobs: list[float]
    beams: tuple[list[int], ...] = ()


def log_softmax(logits: Floats) -> Floats:
    """Natural-log probabilities along the last axis, float32."""
    shifted = logits - logits.max(-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def ruled(scores: Floats, written: Sequence[int], choice: Choice) -> Floats:
    """Scores (vocabulary,) of the token after `written`, with what may not come taken out."""
    scores = scores.copy()
    if len(written) < choice.min_new_tokens:
        scores[choice.end] = -np.inf
    if written and choice.repetition_penalty != 1.0:
        ids, penalty = np.unique(written), np.float32(choice.repetition_penalty)
        found = scores[ids]
        scores[ids] = np.where(found < 0, found * penalty, found / penalty)
    scores[repeated(written, choice.no_repeat_ngram_size)] = -np.inf
    return scores


def repeated(written: Sequence[int], size: int) -> list[int]:
    """The tokens that would end an n-gram of `written` a second time; none where `size` is 0.

    >>> repeated([5, 6, 7, 5, 6], 3)
    [7]
    """
    if size == 0 or len(written) < size:
        return []
    last = list(written[len(written) - size + 1 :])
    starts = range(len(written) - size + 1)
    return [written[at + size - 1] for at in starts if list(written[at : at + size - 1]) == last]


def choose(first: Floats, model: Model, choice: Choice) -> Chosen:
    """One report.

    Args:
        first: (vocabulary,), logits after the prompt, which is row 0 of the model's last pass.
        model: gives the logits of the following tokens.
        choice: how.
    """
    return _greedy(first, model, choice) if choice.beam_size == 1 else _beams(first, model, choice)


def _greedy(logits: Floats, model: Model, choice: Choice) -> Chosen:
    ids: list[int] = []
    logprobs: list[float] = []
    while True:
        token = int(ruled(logits, ids, choice).argmax())
        logprobs.append(float(log_softmax(logits)[token]))
        ids.append(token)
        if token == choice.end or len(ids) == choice.max_new_tokens:
            return Chosen(ids, logprobs)
        logits = model.step(np.array([token]), np.array([0]))[0]


@dataclass(frozen=True)
class _Beam:
    """A text so far: its score (summed while it runs, by length once it has ended) and its own log-probabilities."""

    ids: list[int]
    score: np.float32
    logprobs: list[float]
    real: bool = True


def _top(scores: Floats, count: int) -> Ints:
    """Places of the `count` largest, largest first, the earlier first among equals."""
    places = np.argpartition(-scores, count - 1)[:count]
    return places[np.lexsort((places, -scores[places]))]


def _beams(first: Floats, model: Model, choice: Choice) -> Chosen:
    """Beam search as transformers' (5.23): 2 K candidates a step, the K best open and the K best ended are kept."""
    count = choice.beam_size
    running = [_Beam([], np.float32(0), []), *[_Beam([], LOW, [])] * (count - 1)]
    done = [_Beam([], LOW, [], real=False)] * count
    logits = np.broadcast_to(first, (count, len(first)))
    may_improve = True
    while True:
        own = log_softmax(logits)
        scores = np.stack([ruled(row, beam.ids, choice) + beam.score for row, beam in zip(own, running, strict=True)])
        candidates, origins = _candidates(scores, own, running, 2 * count)
        length = np.float32(len(candidates[0].ids))
        ends = [beam.ids[-1] == choice.end or len(beam.ids) == choice.max_new_tokens for beam in candidates]
        done = _ended(done, candidates[:count], ends[:count], length, choice, may_improve)
        open_scores = np.array([beam.score + end * LOW for beam, end in zip(candidates, ends, strict=True)], np.float32)
        best = _top(open_scores, count)
        running = [_Beam(candidates[place].ids, open_scores[place], candidates[place].logprobs) for place in best]
        far = choice.early_stopping == "never" and choice.length_penalty > 0
        hope = running[0].score / np.float32(choice.max_new_tokens if far else length) ** choice.length_penalty
        worst = min(beam.score for beam in done)
        may_improve = may_improve and any(hope > (worst if beam.real else LOW) for beam in done)
        early = choice.early_stopping == "True" and all(beam.real for beam in done)
        if not may_improve or all(ends) or early:
            return Chosen(done[0].ids, done[0].logprobs, tuple(beam.ids for beam in done if beam.real))
        last = np.array([beam.ids[-1] for beam in running])
        logits = model.step(last, np.array([origins[place] for place in best]))


def _candidates(scores: Floats, own: Floats, running: list[_Beam], count: int) -> tuple[list[_Beam], list[int]]:
    """The best continuations of all running beams, and which each continues."""
    vocabulary = scores.shape[1]
    places = [(int(place) // vocabulary, int(place) % vocabulary) for place in _top(scores.reshape(-1), count)]
    found = [
        _Beam([*running[beam].ids, token], scores[beam, token], [*running[beam].logprobs, float(own[beam, token])])
        for beam, token in places
    ]
    return found, [beam for beam, _ in places]


def _ended(
    done: list[_Beam], candidates: list[_Beam], ends: list[bool], length: np.float32, choice: Choice, may_improve: bool
) -> list[_Beam]:
    """The K best of what had ended before and what ends now."""
    full = choice.early_stopping == "True" and all(beam.real for beam in done)
    now = []
    for beam, end in zip(candidates, ends, strict=True):
        score = beam.score / length**choice.length_penalty
        score = np.float32(score + full * LOW + (not may_improve) * LOW + (not end) * LOW)
        now.append(_Beam(beam.ids, score, beam.logprobs, real=end))
    merged = [*done, *now]
    return [merged[place] for place in _top(np.array([beam.score for beam in merged], np.float32), len(done))]
