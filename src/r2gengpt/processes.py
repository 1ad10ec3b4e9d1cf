"""Results of several processes brought together, in the order of one. Starts no process; no model, no files."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed

from r2gengpt.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """Which of a command's processes this is, of how many, and the device that is its own."""

    rank: int
    world: int
    device: torch.device


def gathered(mine: T) -> list[T]:
    """What each process hands in, by rank, in every process; what this one hands in where it is alone."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [mine]
    everyone: list[T] = [mine] * distributed.get_world_size()
    distributed.all_gather_object(everyone, mine)
    return everyone


def in_batch_order(shards: Sequence[Sequence[T]]) -> list[T]:
    """The processes' results, one a batch, as one process would have made them (see `sequential_batches`).

    >>> in_batch_order([["batch 0", "batch 2"], ["batch 1"]])
    ['batch 0', 'batch 1', 'batch 2']
    """
    absent = object()
    rows = itertools.zip_longest(*shards, fillvalue=absent)
    return [result for row in rows for result in row if result is not absent]  # type: ignore[misc]  # all are of T


def agreed(work: Callable[[], T]) -> T:
    """Do work that every process has a part of; where one fails by the user's input, all fail, and none waits for it.

    Raises:
        InputError: that of the first process that has one, in every process.
    """
    error: InputError | None = None
    try:
        result = work()
    except InputError as caught:
        error = caught
    for found in gathered(error):
        if found is not None:
            raise found
    return result
