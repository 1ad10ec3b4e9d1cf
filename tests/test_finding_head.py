"""The finding head: what it learns from labels alone, how it is kept, read and used, and that off nothing changes."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray

import r2gengpt
from conftest import TinySet
from placements import FLOAT32
from r2gengpt.confidence.finding_maps import body, off_body_is_none
from r2gengpt.confidence.findings import FINDINGS, UNFITTED, Scale, findings_of, read_scales, write_scales
from r2gengpt.confidence.maps import EVIDENCE, NO_EVIDENCE, Evidence, SentenceEvidence
from r2gengpt.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.batches import prompt_batch
from r2gengpt.data.loading import StudyDataset
from r2gengpt.data.ordering import capped, shuffled_batches
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError, RunError
from r2gengpt.films.sources import study_of
from r2gengpt.metrics.detection import area
from r2gengpt.model.findings import FindingHead, findings_loss, positive_weights
from r2gengpt.reporter import Reporter
from r2gengpt.text.observations import (
    ALL_OBSERVATIONS,
    CHILD,
    LIKELY,
    NO_FINDING,
    NOT_ASSESSED,
    POSSIBLE,
    SUPPORT_DEVICES,
    UNLIKELY,
    hint_of,
)
from r2gengpt.training.auxiliary import Validation
from r2gengpt.training.data import within_caps
from r2gengpt.training.distributed.processes import device_count
from r2gengpt.training.findings import FindingsModule, check_findings_only, finding_labels, some_patches
from r2gengpt.training.run import train
from r2gengpt.training.scales import fit_scale, fit_scales, logistic
from test_looks_at_the_image import REPORTS, draw_squares
from test_resume import assert_same_end, killed_at_its_end
from training_settings import small_run

ANY, BOTH = "Consolidation", "Pleural Effusion"
"""What a bright square anywhere, and one on either side, are called here: a head knows no sides."""
COUNT = len(ALL_OBSERVATIONS)


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> TinySet:
    """Films with labels: squares, and no report in half of the studies."""
    data = draw_squares(tmp_path_factory.mktemp("squares"), {"train": 96, "val": 48, "test": 16})
    shown = {words: marks for marks, words in REPORTS.items()}
    splits = json.loads(data.annotation.read_text())
    for studies in splits.values():
        for number, study in enumerate(studies):
            right, left = shown[study["report"]]
            study["labels"] = {
                ANY: int(right or left),
                BOTH: int(right and left),
                NO_FINDING: int(not right and not left),
            }
            study["source"] = "drawn"
            if number % 2:
                study["report"] = ""
    data.annotation.write_text(json.dumps(splits))
    return data


def head_run(parts: Path, data: TinySet, directory: Path, **train_settings: Any) -> RunConfig:
    model = {
        "findings_head": True, "vision_model": str(parts / "vision-dinov2"), "vis_use_lora": True, "vis_r": 8,
        "vis_lora_targets": ("q", "v", "up"), "lora_dropout": 0.0,
    }  # fmt: skip
    settings = {"findings_only": True, "learning_rate": 1e-2, "max_epochs": 12, **train_settings}
    return small_run(parts, data, directory, model=model, read={"batch_size": 16, "val_batch_size": 16}, **settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_parts: Path, squares: TinySet) -> Path:
    directory = tmp_path_factory.mktemp("head")
    train(head_run(tiny_parts, squares, directory / "run", ema=0.8), FLOAT32)
    return directory / "run"


def loaded(directory: Path) -> Reporter:
    reporter = r2gengpt.load(directory, accelerator="cpu")
    assert isinstance(reporter, Reporter)
    return reporter


def film(data: TinySet, number: int) -> Path:
    return data.base_dir / f"test{number}.png"


def test_a_head_trained_on_labels_alone_tells_what_a_film_shows(trained: Path, squares: TinySet) -> None:
    reporter = loaded(trained / "best")
    found = [{one.name: one for one in reporter.findings([film(squares, number)])} for number in range(16)]
    shown = list(REPORTS)
    truth = [any(shown[number % 4]) for number in range(16)]
    called = [one[ANY].verdict == LIKELY for one in found]
    assert sum(a == b for a, b in zip(truth, called, strict=True)) >= 14
    assert all(one["Fracture"].verdict == NOT_ASSESSED for one in found), "nothing was known of it"
    assert all(one[ANY].interval[0] <= one[ANY].probability <= one[ANY].interval[1] for one in found)


def test_it_keeps_only_the_head_and_what_was_tuned_below_it(trained: Path) -> None:
    tensors = safetensors.torch.load_file(trained / "best" / "delta.safetensors")
    assert {name.split(".")[0] for name in tensors} == {"finding_head", "vision_tower"}
    assert all("lora_" in name for name in tensors if name.startswith("vision_tower"))
    assert [scale.name for scale in read_scales(trained / "best", "model")] == list(ALL_OBSERVATIONS)


def test_it_writes_no_report_and_says_why(trained: Path, squares: TinySet) -> None:
    reporter = loaded(trained / "best")
    with pytest.raises(InputError, match="findings alone"):
        reporter.report([film(squares, 0)])


def test_a_run_on_reports_starts_from_it(trained: Path, tiny_parts: Path, tmp_path: Path) -> None:
    data = draw_squares(tmp_path / "set", {"train": 8, "val": 4, "test": 4})
    settings = head_run(tiny_parts, data, tmp_path / "run", findings_only=False, ckpt_file=str(trained / "best"),
                        max_epochs=1, learning_rate=1e-6)  # fmt: skip
    settings = replace(settings, model=replace(settings.model, findings_hint=True))
    train(settings, FLOAT32)
    before = safetensors.torch.load_file(trained / "best" / "delta.safetensors")
    after = safetensors.torch.load_file(tmp_path / "run" / "last" / "delta.safetensors")
    assert before.keys() < after.keys()
    assert all(torch.allclose(after[name], tensor, atol=1e-4) for name, tensor in before.items())
    report = loaded(tmp_path / "run" / "last").report([data.base_dir / "test0.png"])
    assert report.text
    assert len(report.findings) == COUNT


def test_what_sees_can_stay_as_it_is_while_reports_are_learnt(trained: Path, tiny_parts: Path, tmp_path: Path) -> None:
    data = draw_squares(tmp_path / "set", {"train": 8, "val": 4, "test": 4})
    settings = head_run(tiny_parts, data, tmp_path / "run", findings_only=False, freeze_seeing=True, max_epochs=1,
                        ckpt_file=str(trained / "best"))  # fmt: skip
    train(settings, FLOAT32)
    before = safetensors.torch.load_file(trained / "best" / "delta.safetensors")
    after = safetensors.torch.load_file(tmp_path / "run" / "last" / "delta.safetensors")
    assert before.keys() < after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert loaded(tmp_path / "run" / "last").report([data.base_dir / "test0.png"]).text
    kept = [(tmp_path / "run" / place / "findings.json").read_bytes() for place in ("best", "last")]
    assert kept == [(trained / "best" / "findings.json").read_bytes()] * 2, "its calibration is of its own validation"


def test_an_encoder_that_stays_as_it_is_may_be_read_from_a_cache(
    trained: Path, tiny_parts: Path, tmp_path: Path
) -> None:
    data = draw_squares(tmp_path / "set", {"train": 8, "val": 4, "test": 4})
    learnt = []
    for cache in (None, str(tmp_path / "cache")):
        place = tmp_path / ("plain" if cache is None else "cached")
        run = head_run(tiny_parts, data, place, findings_only=False, freeze_seeing=True, max_epochs=1,
                       ckpt_file=str(trained / "best"))  # fmt: skip
        train(replace(run, data=replace(run.data, feature_cache=cache)), FLOAT32)
        learnt.append(safetensors.torch.load_file(place / "last" / "delta.safetensors"))
    assert any((tmp_path / "cache").rglob("*"))
    assert all(torch.allclose(learnt[1][name], tensor, atol=1e-5) for name, tensor in learnt[0].items())


def test_a_resumed_head_ends_as_one_that_was_never_stopped(
    tiny_parts: Path, squares: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = head_run(tiny_parts, squares, tmp_path / "whole", max_epochs=2, ema=0.9, patch_dropout=0.5, mirror=True)
    whole = replace(whole, data=replace(whole.data, augment=True))
    train(whole, FLOAT32)
    halves = replace(whole, train=replace(whole.train, savedmodel_path=str(tmp_path / "halves")))
    step = FindingsModule.training_step

    def stopped(module: FindingsModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if module.current_epoch == 1:
            raise RuntimeError("power is out")
        return step(module, batch, batch_idx)

    monkeypatch.setattr(FindingsModule, "training_step", stopped)
    with pytest.raises(RuntimeError, match="power is out"):
        train(halves, FLOAT32)
    monkeypatch.undo()
    train(halves, FLOAT32)
    one, other = (
        safetensors.torch.load_file(tmp_path / name / "last" / "delta.safetensors") for name in ("whole", "halves")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_head_ended_after_its_last_step_keeps_its_scales_and_the_statistics_below_it(
    tiny_parts: Path, squares: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [head_run(tiny_parts, squares, tmp_path / name, max_epochs=1) for name in ("whole", "run")]
    whole, run = (replace(one, model=replace(one.model, feature_norm="standardize")) for one in runs)
    train(whole, FLOAT32)
    killed_at_its_end(run, FLOAT32, monkeypatch)
    for name in ("findings.json", "README.md"):
        assert (tmp_path / "run/last" / name).read_bytes() == (tmp_path / "whole/last" / name).read_bytes(), name
    assert_same_end(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize(
    ("model", "read", "settings", "words"),
    [
        (
            {"vis_use_lora": False, "freeze_vm": False},
            {},
            {"findings_only": False, "freeze_seeing": True, "ckpt_file": "head"},
            "^freeze_vm False: trains the whole encoder, which freeze_seeing True leaves",
        ),
        ({}, {}, {"mirror": True}, "^mirror True: .*augment True"),
        (
            {"vis_use_lora": False},
            {"feature_cache": "cache"},
            {"patch_dropout": 0.5},
            r"^patch_dropout 0\.5: .*feature_cache",
        ),
    ],
)
def test_settings_of_a_head_that_undo_each_other_are_refused(
    model: dict[str, Any], read: dict[str, Any], settings: dict[str, Any], words: str, tiny_parts: Path,
    squares: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    run = head_run(tiny_parts, squares, tmp_path / "run", **settings)
    with pytest.raises(InputError, match=words):
        train(replace(run, model=replace(run.model, **model), data=replace(run.data, **read)), FLOAT32)
    assert not (tmp_path / "run").exists()


def test_a_head_alone_takes_one_device_of_several_and_one_machine() -> None:
    assert device_count(TrainConfig(findings_only=True)) == 1
    assert device_count(TrainConfig()) == "auto"
    several = RunConfig(ModelConfig(findings_head=True), train=TrainConfig(findings_only=True, num_nodes=2))
    with pytest.raises(InputError, match=r"^findings_only True: trains on one device: leave out .* num_nodes"):
        check_findings_only(several)


@pytest.mark.parametrize("logits", [[0.0, math.nan], [math.nan, 1.0]])
def test_logits_that_are_no_numbers_have_no_verdict(logits: list[float]) -> None:
    with pytest.raises(RunError, match=r"^the finding head's logits are no numbers"):
        findings_of([*logits, *[0.0] * (len(UNFITTED) - 2)], UNFITTED)


def test_patches_are_left_out_only_of_encoders_that_take_any_number_of_them(
    tiny_parts: Path, squares: TinySet, tmp_path: Path
) -> None:
    run = head_run(tiny_parts, squares, tmp_path / "run", patch_dropout=0.5)
    swin = replace(run.model, vision_model=str(tiny_parts / "vision-swin"), vis_lora_targets=("q", "v"))
    with pytest.raises(InputError, match=r"^patch_dropout 0\.5: needs an encoder of type vit, .*; this one is swin$"):
        train(replace(run, model=swin), FLOAT32)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("norm", ["none", "position"])
def test_a_checkpoint_of_other_settings_is_refused_by_the_setting(
    tiny_parts: Path, trained: Path, squares: TinySet, tmp_path: Path, norm: str
) -> None:
    first = head_run(tiny_parts, squares, tmp_path / "first", max_steps=1)
    train(replace(first, model=replace(first.model, feature_norm="standardize")), FLOAT32)
    run = head_run(tiny_parts, squares, tmp_path / "run", ckpt_file=str(tmp_path / "first"))
    with pytest.raises(InputError, match=rf"^ckpt_file .*: it was trained with feature_norm standardize, not {norm}$"):
        train(replace(run, model=replace(run.model, feature_norm=norm)), FLOAT32)
    run = head_run(tiny_parts, squares, tmp_path / "run", ckpt_file=str(trained))
    with pytest.raises(InputError, match=r"^ckpt_file .*: it was trained with vis_r 8, not 4$"):
        train(replace(run, model=replace(run.model, vis_r=4)), FLOAT32)


@pytest.mark.parametrize("patch_dropout", [0.0, 0.5])
def test_a_head_for_the_pooled_feature_is_trained_on_what_it_reads_in_use(
    patch_dropout: float, tiny_parts: Path, squares: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validated: dict[str, list[float]] = {}
    ended = Validation.ended

    def watched(self: Validation, batches: Any) -> dict[str, float]:
        found = ended(self, batches)
        validated.update(zip(self.ids, self.logits.tolist(), strict=True))
        return found

    monkeypatch.setattr(Validation, "ended", watched)
    run = head_run(tiny_parts, squares, tmp_path / "run", max_epochs=1, patch_dropout=patch_dropout)
    train(replace(run, model=replace(run.model, global_only=True)), FLOAT32)
    reporter = loaded(tmp_path / "run")
    assert reporter.looker is not None
    studies = read_annotation(squares.annotation, squares.base_dir, ("val",))["val"][:4]
    films = StudyDataset(studies, reporter.built.processor, "plain")
    batch = prompt_batch([films[0, place] for place in range(4)], reporter.built.processor)
    seen = reporter.looker.seen(batch)[1].tolist()
    assert seen == [pytest.approx(validated[study.id], abs=0.02) for study in studies]


@pytest.mark.parametrize("alone", [False, True])
def test_what_the_check_before_training_saw_stands_in_no_checkpoint(
    alone: bool, tiny_parts: Path, tmp_path: Path
) -> None:
    data, run = draw_squares(tmp_path / "data", {"train": 8, "val": 32}), tmp_path / "run"
    settings: dict[str, Any] = {"max_steps": 1, "num_sanity_val_steps": 2, "findings_only": alone}
    train(
        small_run(tiny_parts, data, run, model={"findings_head": True}, read={"val_batch_size": 16}, **settings),
        FLOAT32,
    )
    assert read_scales(run / "last", "model") == UNFITTED
    assert "findings_loss" not in (run / "last" / "README.md").read_text()
    assert "val_score" not in (run / "last" / "README.md").read_text()


def test_a_head_whose_films_are_too_few_for_an_area_says_that_its_loss_chose(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="r2gengpt.training")
    run = small_run(tiny_parts, tiny_set, tmp_path, model={"findings_head": True}, findings_only=True)
    summary = train(run, FLOAT32)
    assert "findings_auc" not in summary.best
    assert summary.chosen_by == "-1 findings_loss"
    assert f"findings_loss is {summary.best['findings_loss']:.4g}, the lowest of 2 validations" in caplog.text
    assert "is chosen by -1 findings_loss." in (tmp_path / "best" / "README.md").read_text()


def test_a_head_alone_that_is_to_weigh_reports_says_that_there_are_none(
    tiny_parts: Path, squares: TinySet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="r2gengpt.training")
    for weigh, said in ((False, False), (True, True)):
        check_findings_only(head_run(tiny_parts, squares, tmp_path, weigh_findings=weigh))
        assert ("weigh_findings" in caplog.text) is said


def test_a_model_without_a_head_has_no_findings(tiny_checkpoint: Path) -> None:
    reporter = loaded(tiny_checkpoint)
    with pytest.raises(InputError, match="no finding head"):
        reporter.findings([np.zeros((32, 32), np.uint8)])


# ── the head ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def head() -> FindingHead:
    torch.manual_seed(0)
    made = FindingHead(8, 3)
    torch.nn.init.normal_(made.reading)
    torch.nn.init.normal_(made.mean_reading)
    return made.eval()


def test_a_view_that_is_not_there_changes_nothing() -> None:
    features = torch.randn(3, 5, 8)
    mask = torch.tensor([[True, True], [True, False]])
    alone = head()(features[2:], torch.tensor([[True]]))
    assert torch.allclose(head()(features, mask)[1], alone[0], atol=1e-6)


def test_two_views_are_looked_over_together() -> None:
    features = torch.randn(2, 5, 8)
    together = head()(features, torch.tensor([[True, True]]))
    joined = head()(features.reshape(1, 10, 8), torch.tensor([[True]]))
    assert torch.allclose(together, joined, atol=1e-6)


def test_unknown_labels_carry_no_gradient() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    labels = torch.tensor([[1.0, math.nan, 0.0], [math.nan, math.nan, 0.5]])
    findings_loss(logits, labels, torch.ones(3)).backward()
    assert logits.grad is not None
    assert (logits.grad != 0).tolist() == [[True, False, True], [False, False, False]]


def test_positives_count_by_the_root_of_how_rare_they_are() -> None:
    labels = torch.cat([torch.tensor([[1.0, math.nan]]), torch.zeros(9, 2)])
    weights = positive_weights(labels)
    assert weights.tolist() == pytest.approx([3.0, 1.0])


def test_a_part_of_the_patches_is_seen_and_never_the_class_token_lost(tiny_parts: Path) -> None:
    from transformers import AutoModel

    tower = AutoModel.from_pretrained(tiny_parts / "vision-dinov2").eval()
    size = tower.config.image_size
    pixels = torch.randn(2, 3, size, size)
    whole = tower(pixels).last_hidden_state
    with some_patches(tower, 0.5):
        part = tower(pixels).last_hidden_state
    assert part.shape[1] == 1 + round((whole.shape[1] - 1) / 2)
    assert torch.equal(tower(pixels).last_hidden_state, whole)


# ── labels, order ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_labels_are_the_annotations_or_else_the_reports() -> None:
    films = (Path("a.png"),)
    rows = finding_labels([
        Study("a", films, labels={"Edema": 1, "Pneumonia": 0.9}),
        Study("b", films, report="There is edema. No pneumothorax. Possible pneumonia."),
        Study("c", films),
    ])  # fmt: skip
    found = [
        {name: round(value, 2) for name, value in zip(ALL_OBSERVATIONS, row.tolist(), strict=True) if value == value}
        for row in rows
    ]
    assert found[0] == {"Edema": 1.0, "Pneumonia": 0.9}
    assert (found[1]["Edema"], found[1]["Pneumothorax"], found[1]["Fracture"]) == (1.0, 0.0, 0.0)
    assert "Pneumonia" not in found[1], "a doubt is neither"
    assert found[2] == {}


def test_of_a_capped_source_other_studies_come_each_epoch() -> None:
    sources = ["many"] * 20 + ["few"] * 4
    seen = []
    for epoch in range(3):
        keys = shuffled_batches(24, 4, seed=1, epoch=epoch, sources=sources, caps={"many": 4})
        places = [place for batch in keys for _, place in batch]
        assert len(places) == 8
        assert sum(place >= 20 for place in places) == 4
        seen.append({place for place in places if place < 20})
    assert seen[0] != seen[1]
    assert capped([1, 0], ["a", "a"], {}) == [1, 0]


def test_of_a_capped_source_the_same_studies_are_validated_in_every_run() -> None:
    studies = [Study(f"s{n}", (Path("a.png"),), source="many" if n < 20 else "few") for n in range(24)]
    kept = within_caps(studies, {"many": 4})
    assert [study.source for study in kept].count("many") == 4
    assert len(kept) == 8
    assert within_caps(studies[::-1], {"many": 4}) == kept[::-1]
    assert within_caps(studies, {}) == tuple(studies)


@pytest.mark.parametrize("caps", [("kermany",), ("a=0",), ("a=1", "a=2"), ("=3",), ("a=x",)])
def test_caps_that_are_none_are_refused(caps: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="source_caps"):
        DataConfig(source_caps=caps)


@pytest.mark.parametrize(
    ("kind", "values", "word"),
    [
        (ModelConfig, {"findings_hint": True}, "findings_head"),
        (TrainConfig, {"mirror": True}, "findings_only"),
        (TrainConfig, {"patch_dropout": 0.5}, "findings_only"),
        (TrainConfig, {"freeze_seeing": True}, "ckpt_file"),
    ],
)
def test_settings_that_need_another_are_refused_without_it(kind: type, values: dict[str, Any], word: str) -> None:
    ((name, value),) = values.items()
    with pytest.raises(InputError, match=rf"^{name} {value}(:| ).*{word}"):
        kind(**values)


# ── maps ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def evidence(reporter: Reporter, image: Path, text: str, method: str | None = None) -> Evidence:
    batch = reporter.batch(reporter.built.processor.pixels(study_of([image], side=reporter.side).pictures), name="s")
    return reporter.maps.of(batch, text, method)


def test_the_map_of_a_finding_peaks_where_it_is(trained: Path, squares: TinySet) -> None:
    reporter, inside, verdicts = loaded(trained / "best"), 0, []
    alone = [number for number in range(16) if sum(list(REPORTS)[number % 4]) == 1]
    for number in alone:
        found = evidence(reporter, film(squares, number), "There is consolidation. No pneumothorax.")
        shown, other = found.sentences
        row, column = divmod(int(np.argmax(shown.map)), found.grid[1])
        right = list(REPORTS)[number % 4][0]
        inside += row >= found.grid[0] // 2 and (column < found.grid[1] // 2) == right
        verdicts.append(shown.verdict)
        assert (other.verdict, set(other.map)) == (NO_EVIDENCE, {0.0}), "it denies"
        assert found.method == "findings"
    assert inside >= len(alone) - 1
    assert verdicts.count(EVIDENCE) >= len(alone) - 2


def test_a_finding_that_the_head_denies_has_no_map(trained: Path, squares: TinySet) -> None:
    reporter = loaded(trained / "best")
    (clear, *_) = [n for n in range(16) if not any(list(REPORTS)[n % 4])]
    (sentence,) = evidence(reporter, film(squares, clear), "There is a fracture.").sentences
    assert sentence.verdict == NO_EVIDENCE


def test_maps_of_findings_need_a_head(tiny_checkpoint: Path, tiny_set: TinySet) -> None:
    with pytest.raises(InputError, match="no finding head"):
        evidence(loaded(tiny_checkpoint), tiny_set.base_dir / "test0_0.png", "Consolidation.", "findings")


def patient() -> NDArray[np.float32]:
    """A bright trunk with dark lungs on black, and a letter in a corner, (320, 320)."""
    film = np.zeros((320, 320), dtype=np.float32)
    film[40:, 60:260] = 0.8
    film[90:250, 80:150] = film[90:250, 170:240] = 0.05
    film[5:20, 300:312] = 1.0
    return film


def test_the_body_is_what_is_bright_and_what_lies_between() -> None:
    found = body(patient())
    assert found[3:, 4:12].all(), "lungs too"
    assert not found[:, :2].any()
    assert not found[:, 14:].any(), "a letter is none of the patient"


@pytest.mark.parametrize(("cell", "verdict"), [((3, 1), EVIDENCE), ((0, 3), NO_EVIDENCE), ((2, 0), NO_EVIDENCE)])
def test_a_map_whose_peak_lies_beside_the_patient_is_no_evidence(cell: tuple[int, int], verdict: str) -> None:
    values = [1.0 if place == cell[0] * 4 + cell[1] else 0.0 for place in range(16)]
    sentence = SentenceEvidence("Consolidation.", tuple(values), 1.0, 0.0, EVIDENCE)
    pixels = torch.from_numpy(patient()).expand(1, 3, -1, -1) * 4 - 2
    (judged,) = off_body_is_none(Evidence("s", "findings", (4, 4), (sentence,)), pixels).sentences
    assert judged.verdict == verdict


# ── scales ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def drawn(positives: int, negatives: int, apart: float, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any], list[str]]:
    rng = np.random.default_rng(seed)
    truth = np.array([1.0] * positives + [0.0] * negatives)
    return truth, rng.normal(apart * truth, 1.0), [str(place) for place in range(len(truth))]


def test_probabilities_are_those_of_the_validation_films() -> None:
    truth, logits, groups = drawn(200, 800, 2.0)
    scale = fit_scale("Edema", truth, 3 * logits - 5, groups)
    probabilities = np.array([scale.finding(float(z)).probability for z in 3 * logits - 5])
    assert probabilities.mean() == pytest.approx(0.2, abs=0.01)
    top = probabilities > 0.8
    assert truth[top].mean() == pytest.approx(probabilities[top].mean(), abs=0.08)


@pytest.mark.parametrize("offset", [-200.0, -14.0, 0.0, 40.0])
@pytest.mark.parametrize("gap", [0.1, 1.0, 8.0, 50.0])
def test_logits_that_tell_films_apart_keep_telling_them_apart_wherever_they_lie(offset: float, gap: float) -> None:
    logits = np.concatenate([offset + np.linspace(-1, 0, 6), offset + gap + np.linspace(0, 1, 18)])
    truth = np.repeat([0.0, 1.0], [6, 18])
    slope, intercept, _ = logistic(logits, truth)
    chances = 1 / (1 + np.exp(-(slope * logits + intercept)))
    assert chances[:6].max() < chances[6:].min()
    prior = np.array([slope - 1, 1e-3 * intercept])
    np.testing.assert_allclose([(truth - chances) @ logits, (truth - chances).sum()], prior, atol=1e-6)
    if gap >= 8:
        scale = fit_scale(ANY, truth, logits, [str(number) for number in range(24)])
        assert [scale.finding(one).verdict for one in logits] == [UNLIKELY] * 6 + [LIKELY] * 18


def test_verdicts_follow_the_thresholds() -> None:
    scale = Scale("Edema", likely=1.0, unlikely=-1.0, assessed=True)
    assert [scale.finding(z).verdict for z in (1.0, 0.0, -1.1)] == [LIKELY, POSSIBLE, UNLIKELY]
    assert replace(scale, assessed=False).finding(5.0).verdict == NOT_ASSESSED


def test_few_positives_or_chance_leave_an_observation_unassessed() -> None:
    assert not fit_scale("Edema", *drawn(4, 90, 3.0)).assessed
    assert not fit_scale("Edema", *drawn(50, 50, 0.0)).assessed
    assert fit_scale("Edema", *drawn(50, 50, 2.0)).assessed


def test_at_most_a_tenth_of_the_positives_is_unlikely() -> None:
    truth, logits, groups = drawn(100, 300, 1.5)
    scale = fit_scale("Edema", truth, logits, groups)
    missed = [scale.finding(float(z)).verdict == UNLIKELY for z in logits[truth == 1]]
    assert 0 < sum(missed) <= 10


def test_fewer_positives_make_a_wider_interval() -> None:
    widths = []
    for count in (20, 500):
        found = fit_scale("Edema", *drawn(count, count, 2.0)).finding(2.0)
        widths.append(found.interval[1] - found.interval[0])
    assert widths[0] > 2 * widths[1]


def f1(truth: NDArray[np.bool_], called: NDArray[np.bool_]) -> float:
    return float(2 * (called & truth).sum() / (called.sum() + truth.sum()))


def accuracy(truth: NDArray[np.bool_], called: NDArray[np.bool_]) -> float:
    """Balanced."""
    return float((called[truth].mean() + (~called[~truth]).mean()) / 2)


@pytest.mark.parametrize(("name", "score"), [("Edema", f1), (NO_FINDING, accuracy)])
def test_thresholds_from_few_films_hold_on_others(name: str, score: Callable[..., float]) -> None:
    truth, logits, _ = drawn(5000, 45000, 1.5, seed=99)
    ours, searched, tried = [], [], np.linspace(-3, 4, 141)
    for seed in range(40):
        few, seen, groups = drawn(7, 63, 1.5, seed)
        ours.append(score(truth > 0.5, logits >= fit_scale(name, few, seen, groups, resamples=2).likely))
        best = max(tried, key=lambda one, few=few, seen=seen: score(few > 0.5, seen >= one))  # type: ignore[misc]
        searched.append(score(truth > 0.5, logits >= best))
    most = max(score(truth > 0.5, logits >= one) for one in tried)
    assert most - np.mean(ours) < 0.75 * (most - np.mean(searched)), "less is lost than by the best of the few"


def test_the_area_counts_ties_half() -> None:
    assert area(np.array([1.0, 0.0]), np.array([0.5, 0.5])) == 0.5
    assert area(np.array([1.0, 0.0, 0.0]), np.array([2.0, 1.0, 3.0])) == 0.5


def seen_of_children(children: float) -> tuple[Scale, ...]:
    """Scales of 60 films of a child each and 60 of adults; an effusion shows on half of these."""
    rng = np.random.default_rng(5)
    labels = np.full((120, len(ALL_OBSERVATIONS)), np.nan)
    child = np.repeat([1.0, 0.0], 60)
    labels[:, ALL_OBSERVATIONS.index(CHILD)] = child
    shown = rng.random(120) < np.where(child > 0.5, children, 0.5)
    labels[:, ALL_OBSERVATIONS.index("Pleural Effusion")] = shown
    logits = 6 * np.nan_to_num(labels) - 3 + rng.normal(size=labels.shape)
    return fit_scales(labels, logits, [str(n) for n in range(120)])


@pytest.mark.parametrize(
    ("children", "child", "verdict"),
    [(0.0, 4.0, NOT_ASSESSED), (0.5, 4.0, LIKELY), (0.0, -4.0, LIKELY)],
    ids=["seen-of-adults-only", "seen-of-children", "an-adult"],
)
def test_a_childs_film_is_not_assessed_for_what_was_seen_of_adults_only(
    children: float, child: float, verdict: str
) -> None:
    logits = np.full(len(ALL_OBSERVATIONS), -4.0)
    logits[ALL_OBSERVATIONS.index(CHILD)], logits[ALL_OBSERVATIONS.index("Pleural Effusion")] = child, 4.0
    findings = {finding.name: finding.verdict for finding in findings_of(logits.tolist(), seen_of_children(children))}
    assert findings["Pleural Effusion"] == verdict


def test_scales_from_before_children_were_counted_assess_all() -> None:
    logits = [-4.0 if name == NO_FINDING else 4.0 for name in ALL_OBSERVATIONS]
    scales = [replace(scale, assessed=True, children=None) for scale in seen_of_children(0.0)]
    assert {finding.verdict for finding in findings_of(logits, scales)[1:]} == {LIKELY}


@pytest.mark.parametrize(
    ("logits", "likely"),
    [
        ({NO_FINDING: 1.0, "Pneumonia": 2.0}, {"Pneumonia"}),
        ({NO_FINDING: 2.0, "Pneumonia": 1.0, "Hernia": 1.5}, {NO_FINDING}),
        ({NO_FINDING: 1.0, "Pneumonia": 2.0, "Edema": 0.5}, {"Pneumonia", "Edema"}),
        ({NO_FINDING: 1.0, SUPPORT_DEVICES: 2.0, CHILD: 3.0}, {NO_FINDING, SUPPORT_DEVICES, CHILD}),
        ({NO_FINDING: 1.0, "Pneumonia": -1.0}, {NO_FINDING}),
    ],
    ids=["abnormal", "normal", "two-findings", "normal-with-a-device", "no-conflict"],
)
def test_no_film_is_likely_normal_and_likely_abnormal_at_once(logits: dict[str, float], likely: set[str]) -> None:
    found = findings_of([logits.get(name, -4.0) for name in ALL_OBSERVATIONS], UNFITTED)
    assert {finding.name for finding in found if finding.verdict == LIKELY} == likely
    above = {name for name, logit in logits.items() if logit >= 0}
    assert {finding.name for finding in found if finding.verdict == POSSIBLE} == above - likely


def test_scales_come_back_as_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((60, COUNT)) < 0.4).astype(float)
    scales = fit_scales(labels, labels + rng.normal(size=labels.shape), [str(n) for n in range(60)])
    write_scales(tmp_path, scales)
    assert read_scales(tmp_path, "model") == scales


@pytest.mark.parametrize(
    "content",
    ["", "{}", '{"scales": []}', '{"scales": [{"name": "Edema"}]}', '{"scales": [1]}',
     f'{{"scales": [{{"name": "Edema", "slope": {10**310}}}]}}'],
)  # fmt: skip
def test_a_damaged_file_of_scales_is_refused_in_a_line(tmp_path: Path, content: str) -> None:
    (tmp_path / FINDINGS).write_text(content)
    with pytest.raises(InputError, match=FINDINGS) as refusal:
        read_scales(tmp_path, "model")
    assert "\n" not in str(refusal.value)


def test_a_head_without_scales_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no findings\.json"):
        read_scales(tmp_path, "model")


# ── hints ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_hint_names_verdicts_in_one_order_and_nothing_else() -> None:
    verdicts = {"Hernia": UNLIKELY, "Edema": LIKELY, "Child": LIKELY, "Fracture": NOT_ASSESSED, "Pneumonia": POSSIBLE}
    assert hint_of(verdicts) == "Findings: edema likely; pneumonia possible; hernia unlikely."
    assert hint_of({}) == ""


def test_before_anything_is_fitted_likely_begins_at_a_half() -> None:
    found = findings_of([0.1, -0.1, *[0.0] * (COUNT - 2)], UNFITTED)
    assert [one.verdict for one in found[:2]] == [LIKELY, UNLIKELY]
