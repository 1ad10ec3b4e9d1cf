"""Which tokens are learnt: input ids and labels as aligned rows. Pure functions on ids; no tensors.

The end token is masked by nothing but its position, so it is learnt exactly once although many language models pad
with the same id (StableLM: pad = eos = 0, which the original masked, and so never learnt to stop).
"""

from collections.abc import Sequence
from dataclasses import dataclass

IGNORE = -100
"""Label of a position that is not learnt, as PyTorch's cross-entropy expects it."""


@dataclass(frozen=True)
class TokenRow:
    """One study's tokens; `labels[i]` is the token at position i where it is learnt, else IGNORE (not shifted)."""

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]


def training_row(prompt: Sequence[int], report: Sequence[int], end: int, max_length: int) -> TokenRow:
    """The prompt, the report and the end token, of which only the last two are learnt.

    `max_length` bounds the learnt tokens, end token included. A report that does not fit is cut and carries no end
    token: the model must not learn to stop in the middle of a sentence.

    With prompt = <bos> Human: I I </Img>, report = clear lungs and max_length 3, then 2::

        position     0     1       2  3  4       5      6      7
        input_ids    bos   Human:  I  I  </Img>  clear  lungs  eos
        labels       -     -       -  -  -       clear  lungs  eos

        input_ids    bos   Human:  I  I  </Img>  clear  lungs
        labels       -     -       -  -  -       clear  lungs

    >>> training_row([1, 5, 9, 9, 6], [7, 8], 0, 3)
    TokenRow(input_ids=(1, 5, 9, 9, 6, 7, 8, 0), labels=(-100, -100, -100, -100, -100, 7, 8, 0))
    >>> training_row([1, 5, 9, 9, 6], [7, 8], 0, 2).labels[-2:]
    (7, 8)

    Differs from the original: it masks labels by value (`== 0`), which also masks the end token where pad = eos.
    """
    learnt = (*report, end)[:max_length]
    return TokenRow((*prompt, *learnt), (*([IGNORE] * len(prompt)), *learnt))


def pad_rows(
    rows: Sequence[Sequence[int]], fill: int, *, left: bool = False
) -> tuple[list[list[int]], list[list[int]]]:
    """Rows of equal length and their mask (1 where a token is).

    >>> pad_rows([(1, 2), (3,)], 0, left=True)
    ([[1, 2], [0, 3]], [[1, 1], [0, 1]])
    """
    longest = max(map(len, rows))
    padded, mask = [], []
    for row in rows:
        gap = [fill] * (longest - len(row))
        ones, zeros = [1] * len(row), [0] * len(gap)
        padded.append([*gap, *row] if left else [*row, *gap])
        mask.append([*zeros, *ones] if left else [*ones, *zeros])
    return padded, mask
