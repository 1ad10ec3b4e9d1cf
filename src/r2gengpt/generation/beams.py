"""How a report's tokens are chosen: penalties, rules and beams, for the engine and the runtime without PyTorch.

Penalties are chosen when training ends, for several beams and for the one of a stream, and kept beside the weights.
numpy only, no model. Source: the rules of `transformers.generation.utils._beam_search` (5.23), for one study alone.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from r2gengpt.config import DECODE_PRESETS, DecodeConfig
from r2gengpt.errors import InputError
from r2gengpt.files import write_whole
from r2gengpt.options import Override

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
DECODING = "decoding.json"
NOTHING = Override(DecodeConfig)
OLD_PENALTY = 2.0
"""The repetition penalty that checkpoints hold from when it was the default; with one beam it ruins every text."""


@dataclass(frozen=True)
class Penalties:
    """What keeps a text from repeating itself."""

    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0

    def __str__(self) -> str:
        return f"repetition_penalty {self.repetition_penalty}, no_repeat_ngram_size {self.no_repeat_ngram_size}"


@dataclass(frozen=True)
class ChosenDecoding:
    """The penalties that scored best on the validation split; `trials` has the score of each that was tried."""

    beams: Penalties
    one_beam: Penalties
    studies: int
    trials: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True)
class Decodings:
    """The settings of one model, lengths and penalties resolved: of a whole report, and of one that is streamed."""

    whole: DecodeConfig
    streamed: DecodeConfig


def read_chosen(directory: Path) -> ChosenDecoding | None:
    """What training chose, or None where it chose nothing (an older checkpoint, an original file).

    Raises:
        InputError: the file is damaged.
    """
    path = directory / DECODING
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        parts = {name: Penalties(**content[name]) for name in ("beams", "one_beam")}
        for part in parts.values():
            DecodeConfig(**asdict(part))  # in range
        return ChosenDecoding(**parts, studies=int(content["studies"]), trials=tuple(content["trials"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}: {error}): train again, or remove it") from None


def write_chosen(directory: Path, chosen: ChosenDecoding) -> None:
    """Write decoding.json, whole."""
    write_whole(directory / DECODING, json.dumps(asdict(chosen), indent=1) + "\n")


def carry_chosen(source: Path, target: Path, streamed: DecodeConfig) -> None:
    """Write what training chose beside an export; of one beam with the export's own penalties, so that its flags stand.

    Args:
        source: directory of the checkpoint; without decoding.json nothing is written.
        target: the export's directory.
        streamed: how the export's model streams, with all resolved.

    Raises:
        InputError: the file is damaged.
    """
    if (chosen := read_chosen(source)) is not None:
        own = Penalties(**{f.name: getattr(streamed, f.name) for f in fields(Penalties)})
        write_chosen(target, replace(chosen, one_beam=own))


def decodings(
    stored: Override[DecodeConfig], asked: Override[DecodeConfig], preset: str | None, *, dataset: str, directory: Path
) -> Decodings:
    """The decode settings of a model: the user's, over what training chose, over what it was trained with.

    Args:
        stored: with the model.
        asked: by the user.
        preset: one of `DECODE_PRESETS`, which the user's own values overrule.
        dataset: whose lengths stand where they were left open.
        directory: of the checkpoint, or an original file.

    Raises:
        InputError: a value is refused, or decoding.json is damaged.
    """
    chosen = read_chosen(directory)
    wanted = stored.under(Override(DecodeConfig, DECODE_PRESETS[preset]) if preset else NOTHING).under(asked)
    several = {} if chosen is None else asdict(chosen.beams)
    own, off = wanted.values, asdict(Penalties())
    one = _one_beam(chosen, stored, asked)
    streamed = DecodeConfig(**{**own, **off, **one, "beam_size": 1}).for_dataset(dataset)
    whole = DecodeConfig(**{**own, **off, **several, **_penalties(wanted)}).for_dataset(dataset)
    return Decodings(streamed if whole.beam_size == 1 else whole, streamed)


def _penalties(override: Override[DecodeConfig]) -> dict[str, Any]:
    """Those that are set."""
    return {f.name: value for f in fields(Penalties) if (value := override.values.get(f.name)) is not None}


def _one_beam(
    chosen: ChosenDecoding | None, stored: Override[DecodeConfig], asked: Override[DecodeConfig]
) -> dict[str, Any]:
    """The penalties of one beam: never those that a checkpoint holds for several, but the user's own stand."""
    penalties = _penalties(stored.under(asked))
    if chosen is not None:
        penalties = asdict(chosen.one_beam)
    elif (
        stored.under(asked).values.get("beam_size", 3) != 1
        or "beam_size" in asked
        or penalties.get("repetition_penalty") == OLD_PENALTY
    ):
        penalties["repetition_penalty"] = 1.0
    return {**penalties, **_penalties(asked)}


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
