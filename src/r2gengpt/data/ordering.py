"""In which order studies are learnt and tested: of seed, epoch, rank and perhaps the rows' lengths. Reads nothing."""

import functools
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.model.processing import R2GenGPTProcessor
from r2gengpt.text.cleaning import CLEANERS
from r2gengpt.text.context import Context

Key = tuple[int, int]
"""Which sample: (epoch, index). The epoch seeds the augmentation, so a sample depends on its key alone."""
NO_CAPS: Mapping[str, int] = MappingProxyType({})
MOST_BATCHES, LEAST_BUCKETS = 32, 8
"""Batches (over all processes) that are sorted together: the most, and into how many such buckets an epoch falls at
least. Few batches a bucket leave chance who is in a batch with whom; 32 leave 1 % padding (docs/log.md)."""


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


def instruction_of(study: Study, context: Context, processor: R2GenGPTProcessor) -> str | None:
    """What a study's prompt asks for with this context; None where the model was not trained with any, or it has none.

    Raises:
        InputError: names the study; see `R2GenGPTProcessor.instruction_for`.
    """
    if not processor.context_fields:
        return None
    try:
        return processor.instruction_for(context)
    except InputError as error:
        raise InputError(f"study {study.id}: {error.line}", field=error.field) from None


def row_lengths(studies: Sequence[Study], processor: R2GenGPTProcessor, dataset: str, max_length: int) -> list[int]:
    """Tokens of each study's training row: prompt with image tokens, report as `training_row` cuts it, end token.

    Of a study with context the prompt is the one with all of its fields, and with an earlier study where such are read.
    """
    clean = CLEANERS[dataset]
    row = functools.cache(lambda *prompt: len(processor.prompt_row(*prompt)))
    before = [study.earlier.image_paths if processor.reads_prior and study.earlier else () for study in studies]
    asked = [instruction_of(study, study.context, processor) for study in studies]
    return [
        row(len(study.image_paths), instruction, len(earlier))
        + min(len(processor.encode_text(clean(study.report))) + 1, max_length)
        for study, instruction, earlier in zip(studies, asked, before, strict=True)
    ]


def bucketed_batches(
    lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int, rank: int = 0, world: int = 1
) -> list[list[Key]]:
    """The keys of one epoch's batches for one rank, as `shuffled_batches`, but batches of about one length.

    A seeded permutation is cut into buckets, each is sorted by length and cut into steps, and the steps are shuffled.
    Ranks share out each step one by one, so that theirs are about as long, and wait for each other little.

    >>> batches = bucketed_batches([3, 1, 2, 3, 1], 2, seed=0, epoch=1)
    >>> sorted(index for batch in batches for _, index in batch)
    [0, 1, 2, 3, 4]
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(lengths))
    order = np.concatenate([order, order[: -len(order) % world]])
    step = batch_size * world
    steps = math.ceil(len(order) / step)
    bucket = step * min(MOST_BATCHES, max(1, steps // LEAST_BUCKETS))
    length = np.asarray(lengths)
    groups: list[list[int]] = []
    for start in range(0, len(order), bucket):
        part = order[start : start + bucket]
        part = part[np.argsort(length[part], kind="stable")]
        groups += [part[at : at + step].tolist() for at in range(0, len(part), step)]
    return [[(epoch, index) for index in groups[at][rank::world]] for at in rng.permutation(steps).tolist()]
