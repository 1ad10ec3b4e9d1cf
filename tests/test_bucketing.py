"""Batches by length: the same studies each epoch, the same losses, less padding."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import TinySet
from r2gengpt.config import RunConfig
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.ordering import Key, bucketed_batches, row_lengths, shuffled_batches
from r2gengpt.parts.assemble import Built, build_model
from r2gengpt.text.alignment import IGNORE
from r2gengpt.training.data import make_loaders
from training_settings import small_run

LENGTHS = np.random.default_rng(1).integers(20, 100, 397).tolist()
Batches = list[list[Key]]


def padding(batches: Batches) -> float:
    """Share of a batch's positions that are padding, over all batches."""
    rows = [[LENGTHS[index] for _, index in batch] for batch in batches]
    return 1 - sum(map(sum, rows)) / sum(len(row) * max(row) for row in rows)


def studies_of(batches: Batches) -> list[int]:
    return sorted(index for batch in batches for _, index in batch)


@pytest.mark.parametrize("size", [1, 6, 16])
def test_every_study_comes_once_an_epoch_whatever_the_batch_size(size: int) -> None:
    epochs = [bucketed_batches(LENGTHS, size, seed=3, epoch=epoch) for epoch in range(3)]
    assert all(studies_of(batches) == list(range(397)) for batches in epochs)
    assert {len(batches) for batches in epochs} == {len(shuffled_batches(397, size, seed=3, epoch=0))}
    assert epochs[0] != epochs[1]
    assert epochs[0] == bucketed_batches(LENGTHS, size, seed=3, epoch=0)


def test_an_epochs_batches_are_made_anew_and_come_in_no_order_of_length() -> None:
    first, second = (
        {tuple(sorted(index for _, index in batch)) for batch in bucketed_batches(LENGTHS, 6, seed=0, epoch=epoch)}
        for epoch in (0, 1)
    )
    assert len(first & second) < 3
    means = [np.mean([LENGTHS[i] for _, i in batch]) for batch in bucketed_batches(LENGTHS, 6, seed=0, epoch=0)]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.3  # by chance up to 2 / √67 = .25


def test_batches_by_length_are_padded_less_than_a_quarter_as_much() -> None:
    whole = padding(shuffled_batches(397, 6, seed=0, epoch=0))
    assert padding(bucketed_batches(LENGTHS, 6, seed=0, epoch=0)) < 0.25 * whole


def test_ranks_share_the_steps_of_one_process_and_wait_for_each_other_little() -> None:
    one = bucketed_batches(LENGTHS[:396], 12, seed=0, epoch=0)
    two = [bucketed_batches(LENGTHS[:396], 6, seed=0, epoch=0, rank=rank, world=2) for rank in (0, 1)]
    for whole, left, right in zip(one, *two, strict=True):
        assert sorted(whole) == sorted(left + right)
    longest = [[max(LENGTHS[i] for _, i in batch) for batch in batches] for batches in two]
    chance = [shuffled_batches(396, 6, seed=0, epoch=0, rank=rank, world=2) for rank in (0, 1)]
    random = [[max(LENGTHS[i] for _, i in batch) for batch in batches] for batches in chance]
    assert np.abs(np.diff(longest, axis=0)).mean() < 0.25 * np.abs(np.diff(random, axis=0)).mean()


@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_make_the_same_number_of_steps_and_leave_no_study_out(world: int) -> None:
    ranks = [bucketed_batches(LENGTHS, 4, seed=0, epoch=0, rank=rank, world=world) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    seen = [index for batches in ranks for index in studies_of(batches)]
    assert set(seen) == set(range(397))
    assert len(seen) == 397 + -397 % world


def small_model(parts: Path, data: TinySet, fusion: str, size: int = 3) -> tuple[Built, RunConfig]:
    settings = small_run(parts, data, Path("run"), model={"fusion": fusion, "llm_use_lora": False},
                         read={"batch_size": size, "max_length": 9})  # fmt: skip
    built = build_model(settings.model, precision="32-true")
    built.model.eval()
    return built, settings


@pytest.mark.parametrize("fusion", ["mean", "concat"])
def test_the_lengths_are_those_of_the_rows_that_are_trained(tiny_parts: Path, tiny_set: TinySet, fusion: str) -> None:
    built, settings = small_model(tiny_parts, tiny_set, fusion, size=1)
    splits = read_annotation(tiny_set.annotation, tiny_set.base_dir, ("train", "val"))
    lengths = row_lengths(splits["train"], built.processor, "plain", 9)
    rows = {batch.ids[0]: batch.input_ids.shape[1] for batch in make_loaders(built, splits, settings, 0, 1)[0]}
    assert lengths == [rows[study.id] for study in splits["train"]]
    assert len(set(lengths)) > 1


def test_bucketed_and_plain_batches_have_the_same_loss_over_an_epoch(tiny_parts: Path, tiny_set: TinySet) -> None:
    built, settings = small_model(tiny_parts, tiny_set, "mean")
    splits = read_annotation(tiny_set.annotation, tiny_set.base_dir, ("train", "val"))
    sums = []
    with torch.no_grad():
        for bucketed in (True, False):
            read = replace(settings.data, bucket_by_length=bucketed)
            loader = make_loaders(built, splits, replace(settings, data=read), 0, 1)[0]
            sums.append(sum(float(built.model.loss(**b.inputs())) * int((b.labels != IGNORE).sum()) for b in loader))
        whole = make_loaders(built, splits, settings, 0, 1)[0]
        plain = sum(float(built.model(**b.inputs()).loss) * int((b.labels != IGNORE).sum()) for b in whole)
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)
    assert sums[0] == pytest.approx(plain, rel=1e-5)
