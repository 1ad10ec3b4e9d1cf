"""What came next after these tokens: in the training reports, and in what was written just now. No model.

The reports are a suffix array: all places that go on with the same tokens are neighbours, and are found by halving.
8 bytes a token. What was written just now is a table of its short runs of tokens.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from r2gengpt.errors import InputError
from r2gengpt.files import whole_file

SPECULATION = "speculation.safetensors"
START = -1
"""Stands before each report; no token has this id."""
SUFFIX = 6
"""Most tokens of the text so far that are looked up."""
SEEN = 128
"""Most places that are counted for one token; where there are more, evenly spaced ones stand for all."""
LEAST = 0.05
"""A draft ends where its hope is less than this: no row of a pass is as cheap."""
REMEMBERED = 1 << 16
"""Most answers that are kept of each kind; reports repeat themselves."""

SHORTEST = 3
"""Fewest tokens that are looked up in what was written before."""
KEPT = 0.4
"""What stays of a share when another text went on otherwise, or of its doubt when it went on the same way."""

Ids = npt.NDArray[np.int32]
Next = Callable[[tuple[int, ...]], tuple[int, float]]
"""Last tokens of a text, START before its first → the next token and how surely; START where nothing is known."""


def continued(next_token: Next, written: Sequence[int], most: int) -> tuple[list[int], list[float]]:
    """How a report goes on by such a table, while it is likely that it does.

    Args:
        next_token: the table; it is given at most SUFFIX tokens.
        written: a report so far.
        most: tokens to give.

    Returns:
        Tokens, and how surely each one follows on those before it.
    """
    context = (START, *written)[-SUFFIX:]
    tokens: list[int] = []
    shares: list[float] = []
    hope = 1.0
    while len(tokens) < most:
        token, share = next_token(context)
        hope *= share
        if token == START or hope < LEAST:
            break
        tokens.append(token)
        shares.append(share)
        context = (*context, token)[-SUFFIX:]
    return tokens, shares


@dataclass
class Earlier:
    """What a model wrote for earlier studies; it repeats itself more than it repeats the reports.

    After each run of SHORTEST to SUFFIX tokens the last one that followed, and how often it did of late.
    """

    _after: dict[tuple[int, ...], tuple[int, float]] = field(default_factory=dict, repr=False)

    def next(self, context: tuple[int, ...]) -> tuple[int, float]:
        """What followed last after the longest run known."""
        for length in range(len(context), SHORTEST - 1, -1):
            if found := self._after.get(context[-length:]):
                return found
        return START, 0.0

    def add(self, report: Sequence[int]) -> None:
        """Learn from a whole report, its end token included."""
        text = (START, *report)
        for place in range(SHORTEST, len(text)):
            for length in range(SHORTEST, min(SUFFIX, place) + 1):
                run, token = text[place - length : place], text[place]
                before, share = self._after.pop(run, (token, 0.0))  # the run just seen goes to the table's end
                self._after[run] = (token, 1 - KEPT * (1 - share) if before == token else 1 - KEPT)
        while len(self._after) > REMEMBERED:
            del self._after[next(iter(self._after))]


@dataclass(frozen=True)
class SuffixIndex:
    """`text` (T,): reports one after another, START before each; `order` (T,): its places, sorted by their tokens."""

    text: Ids
    order: Ids
    _known: dict[tuple[int, ...], tuple[int, float]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def _first(self) -> Ids:
        """The token at each place of `order`, rising."""
        return self.text[self.order]

    @classmethod
    def of(cls, reports: Sequence[Sequence[int]]) -> "SuffixIndex":
        """The index of reports in token ids, end tokens included where reports have them."""
        text = np.fromiter((token for report in reports for token in (START, *report)), dtype=np.int32)
        return cls(text, sorted_places(text))

    def next(self, context: tuple[int, ...]) -> tuple[int, float]:
        """What followed most often after the longest suffix of the context that the index has; START where reports end.

        Its share is of one place more than were found: where something new may follow.
        """
        if context not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[context] = self._looked_up(context)
        return self._known[context]

    def _looked_up(self, context: tuple[int, ...]) -> tuple[int, float]:
        for start in range(len(context)):
            low, high = self.find(context[start:])
            if low < high:
                break
        else:
            return START, 0.0
        places = self.order[low : high : max(1, (high - low) // SEEN)].astype(np.int64) + (len(context) - start)
        tokens = self.text[places[places < len(self.text)]].tolist()
        ((token, count),) = Counter(tokens).most_common(1) or ((START, 0),)
        return token, count / (len(places) + 1)

    def find(self, tokens: Sequence[int]) -> tuple[int, int]:
        """The places (a range of `order`) where these tokens stand; empty where they stand nowhere."""
        text, order, end = self.text.data, self.order.data, len(self.text)  # items of `data` are plain numbers at once
        low, high = map(int, np.searchsorted(self._first, (tokens[0], tokens[0] + 1)))
        for depth, token in enumerate(tokens[1:], start=1):

            def at(index: int, depth: int = depth) -> int:
                place: int = order[index] + depth
                return text[place] if place < end else START - 1

            if low == high:
                break
            low = bisect_left(range(high), token, low, high, key=at)
            high = bisect_right(range(high), token, low, high, key=at)
        return low, high


def sorted_places(text: Ids) -> Ids:
    """All places of a text, sorted by the tokens from there on; those equal in more than SUFFIX tokens in any order.

    Source: prefix doubling, Manber and Myers, SIAM J. Comput. 22 (1993).
    """
    count, length = len(text), 1
    rank = np.unique(text, return_inverse=True)[1].astype(np.int64) + 1
    order = np.argsort(rank, kind="stable")
    while length <= SUFFIX and count:
        after = np.zeros(count, dtype=np.int64)
        after[: max(0, count - length)] = rank[length:]
        pairs = rank * (count + 2) + after
        order = np.argsort(pairs, kind="stable")
        ordered = pairs[order]
        rank[order] = 1 + np.cumsum(np.concatenate([[False], ordered[1:] != ordered[:-1]]))
        length *= 2
    return order.astype(np.int32)


def save_index(index: SuffixIndex, path: Path) -> None:
    """Write an index whole. The file holds the reports: it may be passed on where they may."""
    with whole_file(path) as target:
        safetensors.numpy.save_file({"text": index.text, "order": index.order}, target)


def load_index(path: Path, vocabulary: int) -> SuffixIndex:
    """The index in a file, for a language model of so many token ids.

    Raises:
        InputError: no file, a damaged one, or one of another language model.
    """
    try:
        arrays = safetensors.numpy.load_file(path)
        text, order = arrays["text"], arrays["order"]
    except FileNotFoundError:
        hint = "train or test with `speculate` True to make it"
        raise InputError(f"{path} is not there; {hint}", field="speculate", value=True) from None
    except (SafetensorError, OSError, KeyError) as error:
        raise InputError(f"{path} is damaged: {error}", field="speculate", value=True) from None
    if text.dtype != np.int32 or order.dtype != np.int32 or text.shape != order.shape or text.ndim != 1:
        raise InputError(
            f"{path} is damaged: two rows of whole numbers of one length are needed", field="speculate", value=True
        )
    if len(text) and not (order.min() >= 0 and order.max() < len(text)):
        raise InputError(f"{path} is damaged: places beyond the text", field="speculate", value=True)
    if len(text) and not (text.min() >= START and text.max() < vocabulary):
        raise InputError(
            f"{path} has token {text.max()}, but the language model {vocabulary} tokens", field="speculate", value=True
        )
    return SuffixIndex(text, order)
