"""In which order studies are learnt and tested: of seed, epoch and rank alone. Reads nothing."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

Key = tuple[int, int]
"""Which sample: (epoch, index). The epoch seeds the augmentation, so a sample depends on its key alone."""
NO_CAPS: Mapping[str, int] = MappingProxyType({})


def shuffled_batches(
    count: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    rank: int = 0,
    world: int = 1,
    sources: Sequence[str] = (),
    caps: Mapping[str, int] = NO_CAPS,
) -> list[list[Key]]:
    """The keys of one epoch's batches for one rank: a seeded permutation, every study once.

    With several ranks the order is wrapped so that each has the same number of samples. Of a source in `caps` only so
    many studies are in an epoch, others in the next one; `sources` are those of the studies.

    >>> shuffled_batches(5, 2, seed=0, epoch=0) == shuffled_batches(5, 2, seed=0, epoch=0)
    True
    >>> sorted(index for batch in shuffled_batches(5, 2, seed=0, epoch=1) for _, index in batch)
    [0, 1, 2, 3, 4]
    """
    order = np.random.default_rng((seed, epoch)).permutation(count).tolist()
    if caps:
        order = capped(order, sources, caps)
    short = -len(order) % world
    mine = [*order, *order[:short]][rank::world]
    return [[(epoch, index) for index in mine[at : at + batch_size]] for at in range(0, len(mine), batch_size)]


def capped(order: Sequence[int], sources: Sequence[str], caps: Mapping[str, int]) -> list[int]:
    """The places of an order without those of a source that has had as many as it may.

    >>> capped([2, 0, 1, 3], ["a", "a", "a", "b"], {"a": 2})
    [2, 0, 3]
    """
    left = dict(caps)
    kept = []
    for place in order:
        source = sources[place]
        if left.get(source, 1) > 0:
            kept.append(place)
            if source in left:
                left[source] -= 1
    return kept


def sequential_batches(count: int, batch_size: int, *, rank: int = 0, world: int = 1) -> list[list[Key]]:
    """The keys of an evaluation's batches for one rank: in order, every study once over all ranks.

    Ranks take whole batches of the one order in turn, so that no study is padded otherwise than in one process.

    >>> sequential_batches(5, 2, rank=0, world=2)
    [[(0, 0), (0, 1)], [(0, 4)]]
    """
    starts = range(0, count, batch_size)[rank::world]
    return [[(0, index) for index in range(at, min(at + batch_size, count))] for at in starts]
