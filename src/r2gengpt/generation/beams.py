"""How a report's tokens are kept and its beams chosen: one bookkeeping for the engine and the runtime without PyTorch.

numpy only, no model. Source: the rules of `transformers.generation.utils._beam_search` (5.23), for one study alone.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from r2gengpt.config import DecodeConfig

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
LOW = np.float32(-1.0e9)
"""What the library takes for minus infinity."""
COLDEST = 1e-30
"""The least temperature that scores are divided by: below it a quotient is not finite in float32."""
NO_NUMBERS = (
    "the language model's scores are no numbers, so it writes no report: its weights are damaged, or too large for "
    "`dtype` float16 (take bfloat16 or float32)"
)


@dataclass(frozen=True)
class Rules:
    """How tokens are chosen; names as in `DecodeConfig`, the defaults change nothing. `end` is the end token.

    `early_stopping` True ends as soon as K beams have ended; False when the best running one cannot win at its length;
    "never" when it can at no length.
    """

    end: int
    max_new_tokens: int
    min_new_tokens: int = 0
    beam_size: int = 1
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    @property
    def is_greedy(self) -> bool:
        """Whether each token is the likeliest one, of one text a study."""
        return self.beam_size == 1 and not self.do_sample

    @classmethod
    def of(cls, decode: DecodeConfig, end: int) -> "Rules":
        """Our settings; the lengths must be resolved (`DecodeConfig.for_dataset`).

        A temperature without sampling has no effect, and a warning says so; the original passed both on.
        """
        if decode.max_new_tokens is None or decode.min_new_tokens is None:
            raise ValueError("decode lengths are open: call for_dataset first")
        if decode.temperature and not decode.do_sample:
            warnings.warn(f"`temperature` {decode.temperature} has no effect without `do_sample` True", stacklevel=2)
        return cls(
            end=end,
            max_new_tokens=decode.max_new_tokens,
            min_new_tokens=decode.min_new_tokens,
            beam_size=decode.beam_size,
            repetition_penalty=decode.repetition_penalty or 1.0,
            no_repeat_ngram_size=decode.no_repeat_ngram_size or 0,
            length_penalty=decode.length_penalty,
            early_stopping="never" if decode.early_stopping == "never" else decode.early_stopping == "True",
            do_sample=decode.do_sample,
            temperature=max(decode.temperature, COLDEST) if decode.temperature else 1.0,
            top_k=decode.top_k,
            top_p=decode.top_p,
        )


@dataclass(frozen=True)
class Written:
    """A finished report: new token ids, the end token included if it was written, and their log-probabilities.

    `beams` are the ids of all reports that beam search ended with, this one first; empty without beams. `tag` says
    whose report it is.
    """

    ids: list[int]
    logprobs: list[float]
    beams: tuple[list[int], ...] = ()
    tag: Any = None


@dataclass(frozen=True)
class Candidates:
    """The 2 K best continuations of a study's beams, best first, or 2 K drawn ones; (2K,) each.

    `sums` are the scores of whole texts, the rules applied; `origins` the beams that are continued; `logprobs` the
    new tokens' log-probabilities under the model alone.
    """

    sums: Floats
    origins: Ints
    tokens: Ints
    logprobs: Floats


@dataclass(frozen=True)
class Beam:
    """A text so far; its `score` is summed while it runs, and divided by its length once it has ended."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    score: np.float32 = LOW
    ended: bool = False


class Row:
    """The text of one study while it is written: `beam_size` running beams, and the best ended ones, best first.

    It begins with the tokens of `opening`.
    """

    def __init__(self, rules: Rules, opening: Sequence[int] = ()) -> None:
        self.rules, self.opening = rules, opening
        # only the first beam counts, so that all beams do not begin alike
        self.running = [Beam(score=np.float32(0)), *(Beam() for _ in range(rules.beam_size - 1))]
        self.done = [Beam()] * rules.beam_size
        self.through = False

    @property
    def settled(self) -> int | None:
        """The next token, where the opening settles it."""
        return self.opening[self.step] if self.step < len(self.opening) else None

    @property
    def step(self) -> int:
        """How many new tokens there are."""
        return len(self.running[0].ids)

    def add(self, token: int, logprob: float) -> None:
        """One token more of the only beam."""
        (beam,) = self.running
        beam.ids.append(token)
        beam.logprobs.append(logprob)
        self.through = token == self.rules.end or self.step >= self.rules.max_new_tokens

    def advance(self, found: Candidates) -> list[int]:
        """One token more of each beam; returns which beam each running one continues."""
        rules, length = self.rules, self.step + 1
        ends = (found.tokens == rules.end) | (length >= rules.max_new_tokens)
        if ends[: rules.beam_size].any():  # only the first K candidates count
            self._end(found, ends[: rules.beam_size], length)
        scores = found.sums + ends * LOW
        best = largest(scores, rules.beam_size)
        self.running = [replace(self._longer(found, place), score=scores[place]) for place in best.tolist()]
        ahead = rules.early_stopping == "never" and rules.length_penalty > 0
        hope = self._by_length(self.running[0].score, rules.max_new_tokens if ahead else length)
        enough = rules.early_stopping is True and self.done[-1].ended
        self.through = enough or bool(ends.all()) or not hope > self.done[-1].score
        origins: list[int] = found.origins[best].tolist()
        return origins

    def _end(self, found: Candidates, ends: npt.NDArray[np.bool_], length: int) -> None:
        """Keep the K best of what had ended before and what ends now."""
        scores = self._by_length(found.sums, length)
        now = [replace(self._longer(found, at), score=scores[at], ended=True) for at in np.flatnonzero(ends).tolist()]
        best = largest(np.array([beam.score for beam in (*self.done, *now)]), len(self.done))
        self.done = [(*self.done, *now)[place] for place in best]

    def _by_length(self, sums: Any, length: int) -> Any:
        """Sums divided by the length to the power of `length_penalty`, in float32, which may overflow to infinity."""
        with np.errstate(all="ignore"):
            return sums / np.power(np.float32(length), np.float32(self.rules.length_penalty))

    def _longer(self, found: Candidates, place: int) -> Beam:
        """A beam with the token of a candidate."""
        old = self.running[found.origins[place]]
        return Beam([*old.ids, int(found.tokens[place])], [*old.logprobs, float(found.logprobs[place])])

    def written(self, tag: Any = None) -> Written:
        """The report, once it is through."""
        if self.rules.beam_size == 1:
            return Written(self.running[0].ids, self.running[0].logprobs, tag=tag)
        beams = tuple(beam.ids for beam in self.done if beam.ended)
        return Written(self.done[0].ids, self.done[0].logprobs, beams, tag)


def largest(scores: Floats, count: int) -> Ints:
    """Places of the `count` largest, largest first, the earlier first among equals."""
    return np.argsort(-scores, kind="stable")[:count]
