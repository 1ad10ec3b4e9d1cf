"""Reading ahead: the next batch is read while the last one is used, in the same order, with the same errors."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import TinySet
from r2gengpt.config import ModelConfig
from r2gengpt.data import loading
from r2gengpt.data.ahead import read_ahead
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.batches import Batch, prompt_batch
from r2gengpt.data.loading import StudyDataset, StudyLoader
from r2gengpt.data.ordering import shuffled_batches
from r2gengpt.errors import InputError
from r2gengpt.parts.assemble import Built, build_model

SECONDS = 30
"""Longest wait for a thread that has nothing to wait for itself."""


def test_the_next_item_is_made_while_the_last_one_is_used() -> None:
    begun = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for number, event in enumerate(begun):
            event.set()
            yield number

    reading = read_ahead(items())
    assert next(reading) == 0
    assert begun[1].wait(SECONDS)
    assert next(reading) == 1
    assert begun[2].wait(SECONDS)
    assert list(reading) == [2]


def test_no_more_than_one_item_is_made_ahead() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(9):
            made.append(number)
            yield number

    reading = read_ahead(items())
    next(reading)
    reading.close()  # type: ignore[attr-defined]  # a generator; waits for the item that is being made
    assert made == [0, 1]


def test_an_error_comes_where_its_item_would_have() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise InputError("image x: cut off")

    reading = read_ahead(items())
    assert next(reading) == 1
    with pytest.raises(InputError, match=r"^image x: cut off$"):
        next(reading)


@pytest.fixture
def built(tiny_parts: Path) -> Built:
    return build_model(
        ModelConfig(vision_model=str(tiny_parts / "vision-vit"), lm_model=str(tiny_parts / "lm-stablelm"))
    )


def loader(built: Built, data: TinySet, workers: int = 0) -> StudyLoader[Batch]:
    (studies,) = read_annotation(str(data.annotation), str(data.base_dir), ("train",)).values()
    return StudyLoader(
        StudyDataset(studies, built.processor, "plain", seed=3),
        lambda epoch: shuffled_batches(len(studies), 3, seed=0, epoch=epoch),
        lambda examples: prompt_batch(examples, built.processor),
        num_workers=workers,
    )


def test_batches_read_in_a_thread_are_those_of_reading_processes(built: Built, tiny_set: TinySet) -> None:
    here, there = (list(loader(built, tiny_set, workers)) for workers in (0, 1))
    assert [batch.ids for batch in here] == [batch.ids for batch in there]
    for one, other in zip(here, there, strict=True):
        assert one.inputs().keys() == other.inputs().keys()
        assert all(torch.equal(one.inputs()[name], other.inputs()[name]) for name in one.inputs())


def test_the_loader_counts_the_batches_it_gave_not_those_it_read(built: Built, tiny_set: TinySet) -> None:
    reading = loader(built, tiny_set)
    batches = iter(reading)
    first = next(batches)
    assert reading.state_dict()["position"] == 1
    second = next(batches)
    assert reading.state_dict()["position"] == 2
    resumed = loader(built, tiny_set)
    resumed.load_state_dict({"epoch": 0, "position": 1})
    again = next(iter(resumed))
    assert again.ids == second.ids != first.ids
    assert torch.equal(again.inputs()["pixel_values"], second.inputs()["pixel_values"])


def test_images_are_read_in_the_thread_and_text_is_encoded_here(
    built: Built, tiny_set: TinySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    where: dict[str, set[str]] = {"image": set(), "text": set()}
    load, rows = loading.load_image, built.processor.prompt_row

    def load_noted(*args: object, **kwargs: object) -> object:
        where["image"].add(threading.current_thread().name)
        return load(*args, **kwargs)  # type: ignore[arg-type]

    def rows_noted(*args: Any) -> object:
        where["text"].add(threading.current_thread().name)
        return rows(*args)

    monkeypatch.setattr(loading, "load_image", load_noted)
    monkeypatch.setattr(built.processor, "prompt_row", rows_noted, raising=False)
    list(loader(built, tiny_set))
    assert where["image"] == {"read_ahead_0"}
    assert where["text"] == {threading.current_thread().name}
