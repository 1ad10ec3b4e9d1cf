"""The feature cache: the same losses and reports, each image read once, and nothing that is damaged ever used."""

import argparse
import csv
import dataclasses
import json
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import Outcome, TinySet
from dicom_files import data_of as bytes_of
from dicom_files import film, ramp
from processes import ENTRY, flags, largest_difference, run
from r2gengpt.cli.bridge import Parsed
from r2gengpt.cli.evaluating import data_of
from r2gengpt.config import ModelConfig, RunConfig, Stored
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.batches import prompt_batch
from r2gengpt.data.features import cache as feature_cache
from r2gengpt.data.features import filling as feature_filling
from r2gengpt.data.features.cache import FeatureStore, pack, record_type, unpack
from r2gengpt.data.features.filling import Features, cached_features, encoding
from r2gengpt.data.loading import StudyDataset, StudyLoader
from r2gengpt.data.ordering import sequential_batches
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError, RunError
from r2gengpt.films import reader as images
from r2gengpt.films.containers import DicomChoice
from r2gengpt.films.reader import load_image
from r2gengpt.locate import Located, ModelChoice
from r2gengpt.parts.assemble import Built, build_model
from r2gengpt.testing import noise_image
from r2gengpt.training.module import R2GenGPTModule
from r2gengpt.training.run import train
from test_resume import Killed, assert_same_end, run_until
from training_settings import small_run

CPU = torch.device("cpu")
COUNT = 12
FILLING = """
import sys
from pathlib import Path
import torch
from r2gengpt.parts.assemble import build_model
from r2gengpt.config import ModelConfig
from r2gengpt.data.features import cache as feature_cache
from r2gengpt.data.features import filling as feature_filling
from r2gengpt.data.study import Study
feature_filling.SHARD_BYTES = 2 * 1024
parts, folder, cache, kill_at = sys.argv[1:]
if int(kill_at):
    import os, signal
    save, saved = feature_cache.np.save, []
    def cut(file, records, **options):
        saved.append(1)
        if len(saved) == int(kill_at):
            file.write(b"half a shard")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        save(file, records, **options)
    feature_cache.np.save = cut
built = build_model(ModelConfig(vision_model=parts + "/vision-swin", lm_model=parts + "/lm-stablelm"))
studies = [Study(path.name, (path,)) for path in sorted(Path(folder).iterdir())]
print("ready", flush=True)
sys.stdin.readline()
found = feature_filling.cached_features(
    cache, "float32", built.model, built.processor, studies, device=torch.device("cpu"))
torch.save(torch.cat([found.of(study) for study in studies]), sys.stdin.readline().strip())
"""
"""Fill a cache with shards of one or two images; kill this process in the middle of writing shard number kill_at."""


class Encoded(NamedTuple):
    """What one call of `cached_features` did."""

    features: Features
    images: int


@pytest.fixture
def built(tiny_parts: Path) -> Built:
    return build_model(
        ModelConfig(vision_model=str(tiny_parts / "vision-swin"), lm_model=str(tiny_parts / "lm-stablelm"))
    )


@pytest.fixture
def studies(tmp_path: Path) -> list[Study]:
    """Twelve studies of one image each."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(COUNT):
        noise_image(number).save(folder / f"{number:02}.png")
    return [Study(path.name, (path,)) for path in sorted(folder.iterdir())]


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of two images: N=16, E=16, float32 is 1 KiB of features and 32 bytes."""
    monkeypatch.setattr(feature_filling, "SHARD_BYTES", 3 * 1024)


def cached(built: Built, studies: list[Study], cache: Path, storage: str = "float32", **rest: Any) -> Encoded:
    """Fill a cache and count the images that were decoded for it."""
    count = 0
    decode = feature_filling.decode_image

    def counted(*args: Any) -> Any:
        nonlocal count
        count += 1
        return decode(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_filling, "decode_image", counted)
        found = cached_features(str(cache), storage, built.model, built.processor, studies, device=CPU, **rest)
    return Encoded(found, count)


@torch.no_grad()
def plain(built: Built, studies: list[Study]) -> Tensor:
    """Features without a cache, all studies in one batch."""
    pixels = [built.processor.pixels([load_image(study.image_paths[0], size=32)]) for study in studies]
    return built.model.eval().encode_views(torch.stack(pixels))


def stored(features: Features, studies: list[Study]) -> Tensor:
    return torch.cat([features.of(study) for study in studies])


def shards(cache: Path) -> list[Path]:
    return sorted(cache.glob("*/*.npy"))


@pytest.mark.parametrize("kind", ["swin", "vit", "dinov2"])
def test_features_of_a_study_do_not_depend_on_those_read_with_it(tiny_parts: Path, kind: str) -> None:
    built = build_model(
        ModelConfig(vision_model=str(tiny_parts / f"vision-{kind}"), lm_model=str(tiny_parts / "lm-stablelm"))
    )
    encode = encoding(built.model.eval(), CPU, None)
    pixels = torch.randn(12, 3, 32, 32)
    for size in (1, 5, 8):
        assert torch.equal(torch.cat([encode(part) for part in pixels.split(size)]), encode(pixels))


@pytest.mark.usefixtures("small_shards")
def test_the_first_call_builds_each_image_once_and_the_second_none(
    built: Built, studies: list[Study], tmp_path: Path
) -> None:
    again = [*studies, Study("twin", (Path(shutil.copy(studies[0].image_paths[0], tmp_path / "twin.png")),))]
    first = cached(built, again, tmp_path / "cache")
    assert first.images == COUNT
    assert torch.equal(stored(first.features, studies), plain(built, studies))
    assert len(shards(tmp_path / "cache")) == COUNT // 2
    second = cached(built, again, tmp_path / "cache")
    assert second.images == 0
    assert torch.equal(stored(second.features, again), stored(first.features, again))


def test_a_changed_image_rebuilds_that_one_only(built: Built, studies: list[Study], tmp_path: Path) -> None:
    cached(built, studies, tmp_path / "cache")
    noise_image(99).save(studies[3].image_paths[0])
    changed = cached(built, studies, tmp_path / "cache")
    assert changed.images == 1
    assert torch.equal(stored(changed.features, studies), plain(built, studies))


@pytest.mark.parametrize(
    ("changes", "asked", "field"),
    [({"Modality": "RF"}, DicomChoice(force=True), "force"), ({"frames": 2}, DicomChoice(2), "frame")],
)
def test_what_was_asked_for_once_is_refused_as_ever_where_it_is_not_asked_for(
    built: Built, changes: dict[str, Any], asked: DicomChoice, field: str, tmp_path: Path
) -> None:
    frames = np.stack([ramp()] * changes.pop("frames", 1))
    path = tmp_path / "a.dcm"
    path.write_bytes(bytes_of(film(frames, **changes)))
    assert cached(built, [Study("a", (path,), dicom=asked)], tmp_path / "cache").images == 1
    assert cached(built, [Study("a", (path,), dicom=asked)], tmp_path / "cache").images == 0
    with pytest.raises(InputError) as caught:
        cached(built, [Study("a", (path,))], tmp_path / "cache")
    assert field in str(caught.value)


def test_a_moved_or_renamed_image_is_found_by_its_content(built: Built, studies: list[Study], tmp_path: Path) -> None:
    cached(built, studies, tmp_path / "cache")
    moved = [Study(s.id, (Path(shutil.move(s.image_paths[0], tmp_path / f"moved-{s.id}")),)) for s in studies]
    assert cached(built, moved, tmp_path / "cache").images == 0


def one_weight(built: Built) -> None:
    list(built.model.vision_tower.parameters())[-1].data.view(-1)[0] += 1e-6


def processor_mean(built: Built) -> None:
    built.processor.image_processor.image_mean = [0.5, 0.5, 0.49]


def processor_size(built: Built) -> None:
    built.processor.image_processor.do_normalize = False


@pytest.mark.parametrize("change", [one_weight, processor_mean, processor_size])
def test_a_changed_weight_or_processor_rebuilds_all_and_keeps_the_others(
    built: Built, studies: list[Study], tmp_path: Path, change: Callable[[Built], None]
) -> None:
    cached(built, studies, tmp_path / "cache")
    before = shards(tmp_path / "cache")
    change(built)
    changed = cached(built, studies, tmp_path / "cache")
    assert changed.images == COUNT
    assert torch.equal(stored(changed.features, studies), plain(built, studies))
    assert set(before) < set(shards(tmp_path / "cache"))
    assert cached(built, studies, tmp_path / "cache").images == 0


def test_storage_and_arithmetic_have_spaces_of_their_own(built: Built, studies: list[Study], tmp_path: Path) -> None:
    ways = [("float32", "32-true"), ("float16", "32-true"), ("int8", "32-true"), ("float32", "bf16-mixed")]
    for storage, precision in ways:
        assert cached(built, studies, tmp_path / "cache", storage, precision=precision).images == COUNT
    described = [json.loads(path.read_text()) for path in (tmp_path / "cache").glob("*/space.json")]
    assert {(space["storage"], space["arithmetic"]) for space in described} == {
        ("float32", "float32"), ("float16", "float32"), ("int8", "float32"), ("float32", "bfloat16"),
    }  # fmt: skip


def cut_short(shard: Path, chance: random.Random) -> None:
    shard.write_bytes(shard.read_bytes()[: chance.randrange(shard.stat().st_size)])


def flip_a_bit(shard: Path, chance: random.Random) -> None:
    data = bytearray(shard.read_bytes())
    data[chance.randrange(128, len(data))] ^= 1 << chance.randrange(8)  # numpy pads its header to 128 bytes or more
    shard.write_bytes(data)


def empty(shard: Path, chance: random.Random) -> None:
    shard.write_bytes(b"")


def overwrite_the_header(shard: Path, chance: random.Random) -> None:
    data = bytearray(shard.read_bytes())
    data[chance.randrange(128)] ^= 1 << chance.randrange(8)
    shard.write_bytes(data)


def other_records(shard: Path, chance: random.Random) -> None:
    np.save(shard, np.zeros(5), allow_pickle=False)


DAMAGES = [cut_short, flip_a_bit, empty, overwrite_the_header, other_records]


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_shard_is_built_again_and_never_used(
    built: Built, studies: list[Study], tmp_path: Path, damage: Any, seed: int
) -> None:
    cached(built, studies, tmp_path / "cache")
    chance = random.Random(f"{damage.__name__} {seed}")
    damage(chance.choice(shards(tmp_path / "cache")), chance)
    repaired = cached(built, studies, tmp_path / "cache")
    assert repaired.images == 2
    assert torch.equal(stored(repaired.features, studies), plain(built, studies))
    assert cached(built, studies, tmp_path / "cache").images == 0


def test_damage_done_while_a_run_reads_is_told_in_one_line(built: Built, studies: list[Study], tmp_path: Path) -> None:
    features = cached(built, studies, tmp_path / "cache").features
    (shard,) = shards(tmp_path / "cache")
    with shard.open("r+b") as file:
        file.seek(-7, 2)
        file.write(b"\x55")
    with pytest.raises(RunError, match=r"was damaged while in use; the same command again builds it anew$"):
        stored(features, studies)
    assert cached(built, studies, tmp_path / "cache").images == COUNT


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    built: Built, studies: list[Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = COUNT * record_type(16, 16, "float32").itemsize
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(feature_filling.shutil, "disk_usage", lambda _: usage(size, 0, size - 1))
    with pytest.raises(InputError, match=rf"feature_cache .*: {COUNT} images need 0\.00 GiB, .*feature_cache_dtype"):
        cached(built, studies, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(feature_filling.shutil, "disk_usage", lambda _: usage(size, 0, size))
    assert cached(built, studies, tmp_path / "cache").images == COUNT


def test_a_disk_that_fills_up_meanwhile_is_told_and_leaves_whole_shards_only(
    built: Built, studies: list[Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("r2gengpt.data.features.cache.np.save", full)
        with pytest.raises(RunError, match=r"^feature_cache .*: No space left on device$"):
            cached(built, studies, tmp_path / "cache")
    assert {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()} == {"space.json"}
    assert cached(built, studies, tmp_path / "cache").images == COUNT


def test_features_that_are_not_finite_are_refused_by_the_images_name(
    built: Built, studies: list[Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> Any:
        return lambda pixels: torch.full((len(pixels), 4, 4), float("nan"))

    monkeypatch.setattr(feature_filling, "encoding", broken)
    with pytest.raises(RunError, match=r"features of image .*[01][0-9]\.png are not finite$"):
        cached(built, studies, tmp_path / "cache")
    assert not shards(tmp_path / "cache")


def test_each_form_of_storage_keeps_its_stated_bound() -> None:
    features = torch.randn(6, 16, 64) * torch.logspace(-3, 3, 6)[:, None, None]
    features[0, 0] = 0.0
    images_ = [bytes([number]) * 16 for number in range(6)]
    back = {
        storage: torch.stack([unpack(record) for record in pack(images_, features, storage)])
        for storage in ("float32", "float16", "bfloat16", "int8")
    }
    assert torch.equal(back["float32"], features)
    error = {storage: (values - features).abs() for storage, values in back.items()}
    assert bool((error["float16"] <= features.abs() * 2**-11 + 2**-25).all())  # below 6e-5 steps are 2⁻²⁴ wide
    assert bool((error["bfloat16"] <= features.abs() * 2**-8).all())
    half_a_step = features.abs().amax(2, keepdim=True) / 127 / 2
    assert bool((error["int8"] <= half_a_step * (1 + 1e-4)).all())  # the division rounds
    assert float(error["int8"].max()) > 0


def test_numbers_too_large_for_float16_are_refused() -> None:
    with pytest.raises(RunError, match=r"feature_cache_dtype float16: a feature of 70000 is above 65504"):
        pack([bytes(16)], torch.full((1, 1, 1), 7e4), "float16")


def test_a_smaller_form_takes_its_share_of_the_disk() -> None:
    sizes = {storage: record_type(49, 1024, storage).itemsize for storage in ("float32", "float16", "int8")}
    assert sizes["float16"] / sizes["float32"] == pytest.approx(0.5, abs=0.001)
    assert sizes["int8"] / sizes["float32"] == pytest.approx(0.25, abs=0.002)


def start(parts: Path, studies: list[Study], cache: Path, kill_at: int = 0) -> "subprocess.Popen[str]":
    words = [str(parts), str(studies[0].image_paths[0].parent), str(cache), str(kill_at)]
    process = subprocess.Popen(
        [sys.executable, "-c", FILLING, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def left_over(cache: Path) -> list[str]:
    return [path.name for path in cache.rglob(".*") if path.is_file()]


@pytest.mark.usefixtures("small_shards")
def test_two_processes_fill_one_cache_at_once(
    tiny_parts: Path, built: Built, studies: list[Study], tmp_path: Path
) -> None:
    processes = [start(tiny_parts, studies, tmp_path / "cache") for _ in range(2)]
    for number, process in enumerate(processes):
        assert process.stdin is not None
        process.stdin.write(f"go\n{tmp_path / str(number)}\n")
        process.stdin.flush()
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    for number in range(2):
        assert torch.equal(torch.load(tmp_path / str(number)), plain(built, studies))
    assert cached(built, studies, tmp_path / "cache").images == 0
    assert not left_over(tmp_path / "cache")


def killed(parts: Path, studies: list[Study], cache: Path, kill_at: int) -> None:
    process = start(parts, studies, cache, kill_at)
    process.communicate("go\n/dev/null\n", timeout=120)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.usefixtures("small_shards")
def test_a_process_killed_while_it_writes_leaves_whole_shards_that_the_next_goes_on_from(
    tiny_parts: Path, built: Built, studies: list[Study], tmp_path: Path
) -> None:
    killed(tiny_parts, studies, tmp_path / "cache", kill_at=4)
    assert len(shards(tmp_path / "cache")) == 3
    (half,) = [path for path in (tmp_path / "cache").rglob(".*") if path.is_file()]
    os.utime(half, (0, 0))  # as if a day had passed
    finished = cached(built, studies, tmp_path / "cache")
    assert finished.images < COUNT
    assert torch.equal(stored(finished.features, studies), plain(built, studies))
    assert not left_over(tmp_path / "cache")


@pytest.mark.drill
@pytest.mark.usefixtures("small_shards")
def test_killed_at_every_shard_in_turn_the_cache_is_whole_in_the_end(
    tiny_parts: Path, built: Built, studies: list[Study], tmp_path: Path
) -> None:
    for kill_at in (1, 2, 3, 2, 1):
        if len(shards(tmp_path / "cache")) + kill_at <= COUNT:
            killed(tiny_parts, studies, tmp_path / "cache", kill_at)
        found = cached_rows(tmp_path / "cache")
        assert all(torch.equal(row, wanted) for row, wanted in zip(*matched(found, built, studies), strict=True))
    assert torch.equal(stored(cached(built, studies, tmp_path / "cache").features, studies), plain(built, studies))


def cached_rows(cache: Path) -> dict[bytes, Tensor]:
    """What lies in a cache's shards, by image."""
    records = [record for shard in shards(cache) for record in np.load(shard)]
    return {record["image"].tobytes(): unpack(record) for record in records}


def matched(found: dict[bytes, Tensor], built: Built, studies: list[Study]) -> tuple[list[Tensor], list[Tensor]]:
    digests = feature_filling.hash_images(feature_filling.choices_of(studies))
    wanted = {digests[s.image_paths[0]]: row for s, row in zip(studies, plain(built, studies), strict=True)}
    return list(found.values()), [wanted[image] for image in found]


# Training and testing


def losses(directory: Path) -> list[str]:
    (metrics,) = (directory / "logs" / "csv").glob("*/metrics.csv")
    rows = csv.DictReader(metrics.read_text().splitlines())
    return [row[name] for row in rows for name in ("loss", "val_loss") if row.get(name)]


def with_cache(settings: RunConfig, directory: Path, cache: Path, **read: Any) -> RunConfig:
    """The same run elsewhere, from a cache."""
    return dataclasses.replace(
        settings,
        data=dataclasses.replace(settings.data, feature_cache=str(cache), **read),
        train=dataclasses.replace(settings.train, savedmodel_path=str(directory)),
    )


@pytest.mark.parametrize(
    ("model", "read"),
    [
        ({}, {}),
        ({"feature_norm": "standardize", "fusion": "concat"}, {}),
        ({"global_only": True, "feature_norm": "position"}, {}),
        ({"image_tokens": 4}, {"num_workers": 2}),
    ],
    ids=str,
)
def test_losses_and_weights_are_those_without_a_cache_bit_for_bit(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, model: dict[str, Any], read: dict[str, Any]
) -> None:
    settings = small_run(tiny_parts, tiny_set, tmp_path / "plain", model=model)
    train(settings)
    train(with_cache(settings, tmp_path / "run", tmp_path / "cache", **read))
    assert losses(tmp_path / "run") == losses(tmp_path / "plain")
    assert len(losses(tmp_path / "run")) == 10  # two epochs of four steps and a validation
    assert_same_end(tmp_path / "run", tmp_path / "plain")


def test_no_image_is_opened_after_the_first_pass(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(tiny_set.base_dir, tmp_path / "images")
    data = TinySet(tiny_set.annotation, folder)
    scores: dict[str, Any] = {"scorer_types": ("CIDEr", "val_loss"), "weights": (1.0, 1.0)}
    settings = small_run(tiny_parts, data, tmp_path / "plain", **scores)
    train(settings)
    step = R2GenGPTModule.training_step

    def step_without_images(self: R2GenGPTModule, batch: Any, batch_idx: int) -> Tensor:
        shutil.rmtree(folder, ignore_errors=True)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(R2GenGPTModule, "training_step", step_without_images)
    monkeypatch.setattr(images, "decode_image", None)  # what `load_image` decodes with
    train(with_cache(settings, tmp_path / "run", tmp_path / "cache"))
    assert not folder.exists()
    assert_same_end(tmp_path / "run", tmp_path / "plain")


def test_a_run_with_a_cache_ended_at_a_step_and_started_again_has_the_same_weights(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"lora_dropout": 0.3, "feature_norm": "standardize"}
    whole = small_run(tiny_parts, tiny_set, tmp_path / "whole", model=model, every_n_train_steps=1)
    run_until(whole, None, monkeypatch)
    settings = with_cache(whole, tmp_path / "run", tmp_path / "cache")
    run_until(settings, 5, monkeypatch)
    moved = with_cache(settings, tmp_path / "run", tmp_path / "another cache")
    assert run_until(moved, None, monkeypatch) == 3
    assert_same_end(tmp_path / "run", tmp_path / "whole")
    assert issubclass(Killed, BaseException)


@pytest.mark.parametrize("storage", ["float16", "bfloat16", "int8"])
def test_rounded_features_train_to_nearly_the_same_losses(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, storage: str
) -> None:
    settings = small_run(tiny_parts, tiny_set, tmp_path / "plain", learning_rate=1e-3)
    train(settings)
    train(with_cache(settings, tmp_path / "run", tmp_path / "cache", feature_cache_dtype=storage))
    found, wanted = (np.array(losses(tmp_path / name), float) for name in ("run", "plain"))
    assert not np.array_equal(found, wanted)
    np.testing.assert_allclose(found, wanted, rtol=1e-2)  # int8 moves the features by up to 0.4 % of the largest


SHALLOW = {"alignment": "shallow", "max_epochs": 1, "scorer_types": "val_loss", "weights": "1.0"}


def test_two_training_processes_share_a_cache(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, run_cli: Callable[[list[str]], Outcome]
) -> None:
    alone = run_cli(["train", *flags(tiny_parts, tiny_set, tmp_path / "one", 1, **SHALLOW)])
    assert alone.code == 0, alone.stderr
    two = flags(tiny_parts, tiny_set, tmp_path / "two", 2, feature_cache=tmp_path / "cache", **SHALLOW)
    outcome = run(ENTRY, two)
    assert outcome.code == 0, outcome.stderr
    difference = largest_difference(tmp_path / "one", tmp_path / "two")
    assert difference < 1e-5  # float32 sums in another order, and AdamW's first steps are as large for small gradients
    assert len(shards(tmp_path / "cache")) == 1


@pytest.mark.drill
def test_two_training_processes_with_a_cache_end_with_the_weights_of_two_without_one_bit_for_bit(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    for name, more in (("plain", {}), ("run", {"feature_cache": tmp_path / "cache"})):
        argv = flags(tiny_parts, tiny_set, tmp_path / name, 2, **{**SHALLOW, "max_epochs": 2}, **more)
        outcome = run(ENTRY, argv)
        assert outcome.code == 0, outcome.stderr
    assert largest_difference(tmp_path / "plain", tmp_path / "run") == 0.0


def test_test_writes_the_same_predictions_from_a_cache(
    tiny_checkpoint: Path, tiny_set: TinySet, tmp_path: Path, run_cli: Callable[[list[str]], Outcome],
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def test(name: str, *more: str) -> str:
        argv = [
            "test",
            "--model",
            str(tiny_checkpoint),
            "--output",
            str(tmp_path / name),
            "--accelerator",
            "cpu",
            "--dtype",
            "float32",  # two engines draw level in bfloat16
            *more,
        ]
        outcome = run_cli(argv)
        assert outcome.code == 0, outcome.stderr
        return (tmp_path / name / "predictions.jsonl").read_text() + outcome.stderr * bool(more)

    plain = test("plain")
    cache = ["--feature_cache", str(tmp_path / "cache")]
    first = test("first", *cache)
    monkeypatch.setattr("r2gengpt.data.loading.load_image", None)  # the report page shows images all the same
    monkeypatch.setattr(feature_filling, "decode_image", None)
    second = test("second", *cache)
    assert first.startswith(plain)
    assert second.startswith(plain)
    assert ": 0 of 17 images found, 17 built (" in first  # 5 of test, 12 of train for the nearest-image row
    assert ": 17 of 17 images found, 0 built (0.0 MiB written, " in second
    hf = test("hf", *cache, "--engine", "hf")
    assert [json.loads(line)["prediction"] for line in hf.splitlines()[:3]] == [
        json.loads(line)["prediction"] for line in plain.splitlines()
    ]


def test_reading_processes_tell_of_damage_in_one_line(built: Built, studies: list[Study], tmp_path: Path) -> None:
    features = cached(built, studies, tmp_path / "cache").features
    (shard,) = shards(tmp_path / "cache")
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x55")
    loader = StudyLoader(
        StudyDataset(studies, built.processor, "plain", features=features),
        lambda _: sequential_batches(COUNT, COUNT),
        lambda examples: prompt_batch(examples, built.processor),
        num_workers=1,
    )
    with pytest.raises(RunError, match=r"^feature_cache: .*npy was damaged while in use; the same .* anew$"):
        list(loader)


def test_more_shards_than_a_process_may_open_files_are_all_read(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, record_type(1, 2, "float32"))
    keys = [feature_cache.digest(bytes([number])) for number in range(200)]
    for number, key in enumerate(keys):
        store.write(pack([key], torch.full((1, 1, 2), float(number)), "float32"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, limits[1]))
    try:
        fresh = FeatureStore(tmp_path, store.record)
        fresh.scan(keys)
        assert [float(fresh.read(key)[0, 0]) for key in keys] == list(range(200))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(list(tmp_path.glob("*.npy"))) == 200


def test_a_shard_that_cannot_be_opened_is_told_and_stays(
    built: Built, studies: list[Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = cached(built, studies, tmp_path / "cache").features

    def refused(*_: Any) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(feature_cache, "map_records", refused)
    for look in (lambda: cached(built, studies, tmp_path / "cache"), lambda: stored(features, studies)):
        with pytest.raises(RunError, match=r"^feature_cache .*npy: Too many open files$"):
            look()
    assert len(shards(tmp_path / "cache")) == 1


TRAIN = ["train", "--precision", "32-true"]


def there(data: TinySet, parts: Path) -> list[str]:
    """Flags that name an annotation and parts that are there."""
    models = ["--vision_model", str(parts / "vision-swin"), "--lm_model", str(parts / "lm-stablelm")]
    return ["--annotation", str(data.annotation), *models]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--feature_cache", "CACHE", "--augment", "True"], "keeps one form of each image, --augment True asks for"),
        (["--feature_cache", "CACHE", "--alignment", "delta"], "--vis_use_lora True trains the vision encoder"),
        (["--feature_cache", "CACHE", "--freeze_vm", "False"], "--freeze_vm False trains the vision encoder"),
        (["--feature_cache", "FILE"], "is no directory"),
        (["--feature_cache", "FILE/below"], "is no directory"),
        (["--feature_cache", " "], "--feature_cache is empty"),
        (["--feature_cache_dtype", "int8"], "--feature_cache_dtype int8 belongs to --feature_cache"),
        (["--feature_cache", "CACHE", "--feature_cache_dtype", "int4"], "choose from float32, float16, bfloat16, int8"),
    ],
)  # fmt: skip
def test_what_cannot_be_cached_is_refused_in_one_line(
    words: list[str], said: str, tmp_path: Path, run_cli: Callable[[list[str]], Outcome], tiny_set: TinySet,
    tiny_parts: Path,
) -> None:  # fmt: skip
    (tmp_path / "file").write_text("no directory")
    places = {"CACHE": str(tmp_path / "cache"), "FILE": str(tmp_path / "file"), "FILE/below": str(tmp_path / "file/x")}
    outcome = run_cli([*TRAIN, *there(tiny_set, tiny_parts), *(places.get(word, word) for word in words)])
    assert outcome.code == 2
    assert said in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert "--feature_cache" in outcome.stderr
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("command", ["train", "test"])
def test_a_directory_that_may_not_be_written_to_is_refused_before_a_model_is_loaded(
    command: str, tmp_path: Path, tiny_checkpoint: Path, run_cli: Callable[[list[str]], Outcome],
    monkeypatch: pytest.MonkeyPatch, tiny_set: TinySet, tiny_parts: Path,
) -> None:  # fmt: skip
    (tmp_path / "closed").mkdir()
    access = os.access
    monkeypatch.setattr("os.access", lambda path, mode: "closed" not in str(path) and access(path, mode))
    more = ["--model", str(tiny_checkpoint), "--output", str(tmp_path / "out")] if command == "test" else []
    more = more or there(tiny_set, tiny_parts)
    outcome = run_cli([command, "--feature_cache", str(tmp_path / "closed"), *more])
    assert outcome.code == 2
    assert "closed may not be written to" in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_a_delta_models_test_may_use_a_cache_although_its_training_may_not(tmp_path: Path) -> None:
    stored = Stored.of({"augment": True, "dataset": "plain"})
    for asked, cache in (({}, None), ({"feature_cache": str(tmp_path / "there")}, str(tmp_path / "there"))):
        data = data_of(Located(ModelChoice(), tmp_path, stored), Parsed(argparse.Namespace(), asked))
        assert (data.feature_cache, data.augment, data.dataset) == (cache, False, "plain")


def test_the_log_names_what_was_found_and_built(
    built: Built, studies: list[Study], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "r2gengpt"):
        cached(built, studies, tmp_path / "cache")
    assert f": 0 of {COUNT} images found, {COUNT} built (0.0 MiB written, " in caplog.text
    assert caplog.text.rstrip().endswith("images/s)")


def test_every_split_shares_the_cache(built: Built, tiny_set: TinySet, tmp_path: Path) -> None:
    splits = read_annotation(str(tiny_set.annotation), str(tiny_set.base_dir), ("train", "val", "test"))
    everything = [study for studies in splits.values() for study in studies]
    total = sum(len(study.image_paths) for study in everything)
    assert cached(built, everything, tmp_path / "cache").images == total
    assert all(cached(built, list(studies), tmp_path / "cache").images == 0 for studies in splits.values())
