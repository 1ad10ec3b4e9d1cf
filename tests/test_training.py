"""Training: what moves, what stays, what is written, what stops it. Resuming has a file of its own."""

import contextlib
import csv
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file

from conftest import TinySet
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.loading import StudyDataset
from r2gengpt.data.ordering import shuffled_batches
from r2gengpt.errors import InputError, RunError
from r2gengpt.parts.assemble import build_model
from r2gengpt.text.alignment import IGNORE
from r2gengpt.training import module as module_room
from r2gengpt.training import run as run_room
from r2gengpt.training import statistics
from r2gengpt.training.data import make_loaders
from r2gengpt.training.module import R2GenGPTModule
from r2gengpt.training.optimizer import learning_rate_factor, parameter_groups
from r2gengpt.training.run import train
from r2gengpt.training.trainer import as_limit, total_steps
from training_settings import small_run


@pytest.fixture
def built_parts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, dict[str, torch.Tensor]]]:
    """Every model that a run builds, with a copy of its weights from before training."""
    seen: list[tuple[object, dict[str, torch.Tensor]]] = []
    original = run_room.build_model

    def remember(*args: object, **kwargs: object) -> object:
        built = original(*args, **kwargs)  # type: ignore[arg-type]
        seen.append((built, {name: tensor.clone() for name, tensor in built.model.state_dict().items()}))
        return built

    monkeypatch.setattr(run_room, "build_model", remember)
    return seen


@pytest.mark.parametrize(
    ("model", "moved"),
    [
        ({"alignment": "shallow", "llm_use_lora": False}, ("projector.",)),
        ({"alignment": "delta", "llm_use_lora": False}, ("projector.", "vision_tower.*lora_")),
        ({"alignment": "deep", "llm_use_lora": False}, ("projector.", "vision_tower.")),
        ({"alignment": "shallow", "llm_use_lora": True}, ("projector.", "language_model.*lora_")),
    ],
    ids=["shallow", "delta", "deep", "language-model LoRA"],
)
def test_training_moves_what_the_alignment_trains_and_leaves_the_rest_bit_equal(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, model: dict[str, Any], moved: tuple[str, ...],
    built_parts: list[tuple[object, dict[str, torch.Tensor]]],
) -> None:  # fmt: skip
    train(small_run(tiny_parts, tiny_set, tmp_path / "run", model=model))
    ((built, before),) = built_parts
    after = built.model.state_dict()  # type: ignore[attr-defined]

    def is_trained(name: str) -> bool:
        return any(all(part in name for part in pattern.split("*")) for pattern in moved)

    unused = ("mask_token", "pooler")  # the patch features that training sees do not come through these
    for name, tensor in before.items():
        if not is_trained(name):
            assert torch.equal(after[name], tensor), f"{name} is frozen and changed"
        elif not any(word in name for word in unused) and tensor.is_floating_point():
            assert not torch.equal(after[name], tensor), f"{name} is trained and did not move"


def test_the_validation_score_chooses_the_best_checkpoint_and_both_logs_are_written(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    settings = small_run(tiny_parts, tiny_set, tmp_path, scorer_types=("Bleu_1", "ROUGE_L"), weights=(0.5, 0.5))
    summary = train(settings)
    assert math.isclose(summary.best["val_score"], 0.5 * summary.best["bleu_1"] + 0.5 * summary.best["rouge_l"])
    (metrics,) = (tmp_path / "logs" / "csv").glob("*/metrics.csv")
    rows = list(csv.DictReader(metrics.read_text().splitlines()))
    scores = [float(row["val_score"]) for row in rows if row["val_score"]]
    assert len(scores) == 2
    assert max(scores) == pytest.approx(summary.best["val_score"], rel=1e-6)  # logged as float32
    assert {"loss", "lr-AdamW/pg1", "tokens_per_s", "val_loss", "cider"} <= rows[0].keys()
    assert list((tmp_path / "logs" / "tensorboard").glob("*/events*"))
    assert {path.name for path in (tmp_path / "best").iterdir()} == {
        "config.json", "delta.safetensors", "processor_config.json", "generation_config.json", "README.md",
        "decoding.json", "language_adapter",
    }  # fmt: skip
    stored = json.loads((tmp_path / "best" / "config.json").read_text())
    assert stored["lm_model"] == settings.model.lm_model
    built, _ = load_checkpoint(tmp_path / "best")
    assert not built.model.training


def test_patience_stops_a_run_whose_score_no_longer_rises(tiny_parts: Path, tiny_set: TinySet, tmp_path: Path) -> None:
    settings = small_run(tiny_parts, tiny_set, tmp_path, learning_rate=1e-12, min_learning_rate=0.0, max_epochs=9,
                         patience=2, weight_decay=0.0, scorer_types=("Bleu_4",))  # fmt: skip
    assert train(settings).steps == 3 * 4  # the first validation is the best, two more show no gain


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_studies(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = module_room.R2GenGPTModule.training_step

    def poisoned(self: R2GenGPTModule, batch: object, batch_idx: int) -> torch.Tensor:
        if batch_idx == 1:
            with torch.no_grad():
                self.model.projector.linear.weight[0, 0] = float("nan")
        return forward(self, batch, batch_idx)  # type: ignore[arg-type]

    monkeypatch.setattr(module_room.R2GenGPTModule, "training_step", poisoned)
    settings = small_run(tiny_parts, tiny_set, tmp_path / "run")
    second = shuffled_batches(8, 2, seed=settings.train.seed, epoch=0)[1]
    with pytest.raises(RunError) as caught:
        train(settings)
    message = str(caught.value)
    assert "loss is nan at epoch 0, batch 1" in message
    for _, index in second:
        assert f"train{index}" in message
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_finished_run_is_not_overwritten_unless_asked(tiny_parts: Path, tiny_set: TinySet, tmp_path: Path) -> None:
    settings = small_run(tiny_parts, tiny_set, tmp_path, max_epochs=1)
    train(settings)
    before = (tmp_path / "last" / "delta.safetensors").read_bytes()
    with pytest.raises(InputError, match="holds a finished run"):
        train(settings)
    assert (tmp_path / "last" / "delta.safetensors").read_bytes() == before
    (tmp_path / "reinforcement.json").write_text("{}")
    again = small_run(tiny_parts, tiny_set, tmp_path, max_epochs=1, overwrite=True)
    train(again)
    assert not (tmp_path / "reinforcement.json").exists(), "it was of the run before"
    assert load_file(tmp_path / "last" / "delta.safetensors").keys()


def test_a_run_without_validation_ends_with_its_last_weights(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    summary = train(small_run(tiny_parts, tiny_set, tmp_path, max_steps=1))
    assert summary.checkpoint == tmp_path / "last"
    assert not (tmp_path / "best").exists()
    load_checkpoint(summary.checkpoint)


def test_a_run_whose_model_is_refused_leaves_nothing_behind(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="end_sym"):
        train(small_run(tiny_parts, tiny_set, tmp_path / "run", model={"end_sym": "the end of it"}))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("limit_train_batches", 0.2, "is less than one of 4 batches"),
        ("limit_val_batches", 0.2, "is less than one of 1 batches"),
        ("val_check_interval", 5.0, "an epoch has 4 batches"),
    ],
)
def test_limits_that_leave_no_batch_are_refused_in_one_line(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, name: str, value: float, words: str
) -> None:
    with pytest.raises(InputError, match=rf"^{name} {value}: {words}$"):
        train(small_run(tiny_parts, tiny_set, tmp_path, model=None, read=None, **{name: value}))


def test_training_can_start_from_the_weights_of_a_checkpoint(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    train(small_run(tiny_parts, tiny_set, tmp_path / "first", max_epochs=1))
    run: dict[str, Any] = {"max_epochs": 1, "learning_rate": 1e-12, "min_learning_rate": 0.0, "weight_decay": 0.0}
    train(small_run(tiny_parts, tiny_set, tmp_path / "second", ckpt_file=str(tmp_path / "first"), **run))
    first = load_file(tmp_path / "first" / "best" / "delta.safetensors")
    second = load_file(tmp_path / "second" / "last" / "delta.safetensors")
    for name, tensor in first.items():  # a learning rate of 1e-12 moves float32 weights by less than this
        assert torch.allclose(tensor, second[name], atol=1e-9), name


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_clipping_and_accumulation_act(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setattr("r2gengpt.parts.assemble.device_has_bfloat16", lambda: True)
    norms: list[float] = []

    def measure(self: R2GenGPTModule, optimizer: torch.optim.Optimizer) -> None:
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.nn.utils.get_total_norm(grads)))

    monkeypatch.setattr(R2GenGPTModule, "on_before_zero_grad", measure, raising=False)
    settings = small_run(
        tiny_parts, tiny_set, tmp_path, gradient_clip_val=0.01, accumulate_grad_batches=2, precision=precision
    )
    assert train(settings).steps == 4  # two epochs of four batches, two batches a step
    norms = [norm for norm in norms if norm]
    assert norms
    assert max(norms) <= 0.01 * (1 + 1e-4)  # clipping divides by the norm plus 1e-6


@pytest.mark.parametrize(
    ("dropout", "checkpointing"), [(0.0, False), (0.0, True), (0.1, False)], ids=["plain", "computed again", "dropout"]
)
def test_adapters_that_do_not_cast_under_autocast_learn_the_same_bits(
    tiny_parts: Path,
    tiny_set: TinySet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dropout: float,
    checkpointing: bool,
) -> None:
    monkeypatch.setattr("r2gengpt.parts.assemble.device_has_bfloat16", lambda: True)
    casts: list[str] = []
    original = BaseTunerLayer._cast_input_dtype

    def cast(layer: Any, x: torch.Tensor, dtype: torch.dtype) -> Any:
        casts.append("casts" if layer.cast_input_dtype_enabled else "none")
        return original(layer, x, dtype)

    monkeypatch.setattr(BaseTunerLayer, "_cast_input_dtype", cast)
    learnt = {}
    for name, always in (("skipped", False), ("cast", True)):
        if always:
            monkeypatch.setattr("peft.helpers.disable_input_dtype_casting", lambda *_: contextlib.nullcontext())
        run = small_run(tiny_parts, tiny_set, tmp_path / name, max_epochs=1, precision="bf16-mixed",
                        gradient_checkpointing=checkpointing)  # fmt: skip
        model = replace(run.model, alignment="delta", llm_use_lora=True, lora_dropout=dropout)
        casts.clear()
        train(replace(run, model=model))
        assert ("none" in casts) == (not always and not checkpointing and not dropout)
        learnt[name] = load_file(tmp_path / name / "last" / "delta.safetensors")
    assert all(torch.equal(learnt["cast"][name], tensor) for name, tensor in learnt["skipped"].items())


def test_the_learning_rate_rises_linearly_then_falls_as_a_cosine_to_its_floor() -> None:
    factors = [learning_rate_factor(step, 100, 10, 0.01) for step in range(101)]
    assert factors[:10] == sorted(factors[:10])
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.01 + 0.99 * 0.5)
    assert factors[100] == pytest.approx(0.01)
    assert all(later < earlier for earlier, later in itertools.pairwise(factors[10:]))


def test_the_rate_changes_with_each_step_where_the_original_changed_it_once_an_epoch(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    train(small_run(tiny_parts, tiny_set, tmp_path, max_epochs=1))
    (metrics,) = (tmp_path / "logs" / "csv").glob("*/metrics.csv")
    rates = [
        float(row["lr-AdamW/pg1"]) for row in csv.DictReader(metrics.read_text().splitlines()) if row["lr-AdamW/pg1"]
    ]
    assert len(set(rates)) == 4


def test_only_trained_parameters_are_in_the_optimizer_and_only_matrices_decay(tiny_parts: Path) -> None:
    model = small_run(tiny_parts, TinySet(Path(), Path()), Path("run")).model
    built = build_model(model)
    groups = parameter_groups(built.model, 0.1)
    listed = [parameter for group in groups for parameter in group["params"]]
    assert {id(p) for p in listed} == {id(p) for p in built.model.parameters() if p.requires_grad}
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert all(parameter.ndim >= 2 for parameter in groups[0]["params"])


def test_frozen_parts_run_without_dropout_and_trained_parts_with_it(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[tuple[bool, bool]] = []
    step = R2GenGPTModule.training_step

    def look(self: R2GenGPTModule, batch: object, batch_idx: int) -> torch.Tensor:
        lora = [m for name, m in self.model.language_model.named_modules() if name.endswith("lora_dropout.default")]
        modes.append((self.model.vision_tower.training, all(layer.training for layer in lora) and bool(lora)))
        return step(self, batch, batch_idx)  # type: ignore[arg-type]

    monkeypatch.setattr(R2GenGPTModule, "training_step", look)
    train(small_run(tiny_parts, tiny_set, tmp_path, max_epochs=1))
    assert set(modes) == {(False, True)}


def test_every_study_comes_once_an_epoch_in_another_order_and_ranks_share_them() -> None:
    first, second = (shuffled_batches(11, 4, seed=3, epoch=epoch) for epoch in (0, 1))
    assert first == shuffled_batches(11, 4, seed=3, epoch=0)
    orders = [[index for batch in batches for _, index in batch] for batches in (first, second)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(11))
    assert orders[0] != orders[1]
    ranks = [shuffled_batches(11, 4, seed=3, epoch=0, rank=rank, world=2) for rank in (0, 1)]
    seen = [index for batches in ranks for batch in batches for _, index in batch]
    assert set(seen) == set(range(11))
    assert len(seen) == 12  # one study twice, so that both ranks make the same number of steps


def test_steps_are_counted_as_the_trainer_counts_them(tiny_parts: Path, tiny_set: TinySet, tmp_path: Path) -> None:
    settings = small_run(tiny_parts, tiny_set, tmp_path, accumulate_grad_batches=3, limit_train_batches=0.99)
    summary = train(settings)
    assert summary.steps == total_steps(4, settings.train) == 2
    assert as_limit(1.0) == 1.0
    assert as_limit(2.0) == 2


def test_feature_statistics_are_those_of_the_training_images(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, built_parts: list[tuple[object, dict[str, torch.Tensor]]]
) -> None:
    train(small_run(tiny_parts, tiny_set, tmp_path, model={"feature_norm": "standardize"}, max_epochs=1))
    built, _ = load_checkpoint(tmp_path / "best")
    loaders = make_loaders(
        built,
        read_annotation(tiny_set.annotation, tiny_set.base_dir, ("train", "val")),
        small_run(tiny_parts, tiny_set, tmp_path),
        0,
        1,
    )
    with torch.no_grad():
        features = torch.cat([built.model.encode_views(b.pixel_values, b.view_mask) for b in loaders[0]])
        normed = built.model.projector.norm_in(features).flatten(0, 1)
    assert torch.allclose(normed.mean(0), torch.zeros(()), atol=1e-3)  # float32 sums of a few hundred patches
    assert torch.allclose(normed.std(0), torch.ones(()), atol=1e-2)


def test_features_by_position_have_a_mean_for_each_patch_and_one_deviation_per_channel(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    built = build_model(small_run(tiny_parts, tiny_set, tmp_path, model={"feature_norm": "position"}).model)
    studies = read_annotation(tiny_set.annotation, tiny_set.base_dir, ("train",))["train"]
    dataset = StudyDataset(studies, built.processor, "plain")
    statistics.set_feature_statistics(built, dataset)
    norm = built.model.projector.norm_in
    assert norm is not None
    with torch.no_grad():
        normed = norm(torch.cat(list(statistics.sampled_features(built, dataset))))
    assert norm.mean.shape == (built.model.config.patches, built.model.projector.linear.in_features)
    assert torch.allclose(normed.mean(0), torch.zeros(()), atol=1e-3)  # float32 sums of a few films
    assert torch.allclose(normed.flatten(0, 1).square().mean(0), torch.ones(()), atol=1e-2)


def test_feature_statistics_are_taken_from_a_sample_spread_over_the_training_studies(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build_model(small_run(tiny_parts, tiny_set, tmp_path, model={"feature_norm": "standardize"}).model)
    studies = read_annotation(tiny_set.annotation, tiny_set.base_dir, ("train",))["train"]
    read = []

    class Noting(StudyDataset):
        def __getitem__(self, key: tuple[int, int]) -> Any:
            read.append(key[1])
            return super().__getitem__(key)

    monkeypatch.setattr(statistics, "STATISTICS_STUDIES", 3)
    statistics.set_feature_statistics(built, Noting(studies, built.processor, "plain"))
    assert read == [0, len(studies) // 3, 2 * len(studies) // 3]


def test_a_new_finding_head_starts_from_standardised_features_and_a_trained_one_stays(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    model = {"feature_norm": "standardize", "findings_head": True}
    built = build_model(small_run(tiny_parts, tiny_set, tmp_path, model=model).model)
    head = built.model.finding_head
    assert head is not None
    studies = read_annotation(tiny_set.annotation, tiny_set.base_dir, ("train",))["train"]
    before = head.norm.weight.clone()
    statistics.set_feature_statistics(built, StudyDataset(studies, built.processor, "plain"))
    assert torch.equal(head.norm.weight, before)
    dataset = StudyDataset(studies, built.processor, "plain")
    statistics.set_feature_statistics(built, dataset, new_head=True)
    with torch.no_grad():
        seen = head.norm(torch.cat(list(statistics.sampled_features(built, dataset))).flatten(0, 1))
    assert torch.allclose(seen.mean(0), torch.zeros(()), atol=1e-3)  # float32 sums of a few hundred patches
    assert torch.allclose(seen.std(0), torch.ones(()), atol=1e-2)


def test_validation_loss_is_the_mean_over_tokens_of_all_studies(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    losses = []
    for size in (1, 3):
        settings = small_run(tiny_parts, tiny_set, tmp_path / str(size), read={"val_batch_size": size}, max_epochs=1)
        losses.append(train(settings).best["val_loss"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)  # float32 sums in another order


def test_labels_of_a_training_batch_hold_each_report_and_one_end_token(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    settings = small_run(tiny_parts, tiny_set, tmp_path)
    built = build_model(settings.model)
    splits = read_annotation(tiny_set.annotation, tiny_set.base_dir, ("train", "val"))
    reports = {study.id: study.report for study in splits["train"]}
    training, _ = make_loaders(built, splits, settings, 0, 1)
    end = built.processor.end_token_id
    for batch in training:
        for study, row in zip(batch.ids, batch.labels, strict=True):
            learnt = row[row != IGNORE].tolist()
            assert learnt.count(end) == 1
            assert learnt[-1] == end
            assert built.processor.tokenizer.decode(learnt[:-1]) == reports[study]
