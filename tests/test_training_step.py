"""The training step's loss: the plain one's value and gradients, without the logits of all positions."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from conftest import TinySet
from placements import OF_PLACE, built_of
from processes import logged
from r2gengpt.config import RunConfig, TrainConfig
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.batches import Batch
from r2gengpt.errors import InputError
from r2gengpt.model.loss import chunked_loss, head_is_last, learnt_rows
from r2gengpt.parts.assemble import Built, build_model, native_precision
from r2gengpt.settings import PlacementConfig
from r2gengpt.testing import LANGUAGE_MODELS, tiny_language_model
from r2gengpt.text.alignment import IGNORE
from r2gengpt.training.data import make_loaders
from r2gengpt.training.module import R2GenGPTModule
from r2gengpt.training.optimizer import has_fused_adamw
from r2gengpt.training.run import train
from training_settings import small_run

WIDTH, WORDS = 16, 40
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}  # float32 sums in another order


def rows(count: int = 11) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(count, WIDTH, generator=generator, requires_grad=True)
    return hidden, torch.randint(WORDS, (count,), generator=generator)


@pytest.mark.parametrize("most", [1, 4, 11, 100])
@pytest.mark.parametrize("trained", [False, True], ids=["frozen head", "trained head"])
def test_the_chunked_loss_and_its_gradients_are_the_whole_ones(most: int, trained: bool) -> None:
    hidden, targets = rows()
    head = torch.nn.Linear(WIDTH, WORDS).requires_grad_(trained)
    wanted = [hidden, *(head.parameters() if trained else ())]
    whole = functional.cross_entropy(head(hidden), targets)
    chunked = chunked_loss(hidden, targets, head, most)
    torch.testing.assert_close(chunked, whole, **CLOSE)
    pairs = zip(torch.autograd.grad(3 * chunked, wanted), torch.autograd.grad(3 * whole, wanted), strict=True)
    for found, right in pairs:
        torch.testing.assert_close(found, right, **CLOSE)
    with torch.no_grad():
        torch.testing.assert_close(chunked_loss(hidden, targets, head, most), whole, **CLOSE)


def test_logits_of_more_rows_than_the_limit_never_exist() -> None:
    hidden, targets = rows(11)
    seen: list[int] = []

    def head(part: torch.Tensor) -> torch.Tensor:
        seen.append(len(part))
        return functional.pad(part, (0, WORDS - WIDTH))

    chunked_loss(hidden, targets, head, 4).backward()
    assert sorted(seen) == [3, 4, 4]


def test_only_hidden_states_that_predict_a_learnt_token_reach_the_head() -> None:
    hidden = torch.arange(8.0).reshape(2, 4, 1)
    labels = torch.tensor([[IGNORE, IGNORE, 5, 6], [IGNORE, 7, IGNORE, IGNORE]])
    found, targets = learnt_rows(hidden, labels)
    assert found.flatten().tolist() == [1, 2, 4]
    assert targets.tolist() == [5, 6, 7]
    with pytest.raises(ValueError, match="no learnt token"):
        learnt_rows(hidden, torch.full((2, 4), IGNORE))


def built_with(parts: Path, language: Path, **options: Any) -> Built:
    torch.manual_seed(0)
    model: dict[str, Any] = {
        "vision_model": str(parts / "vision-swin"),
        "lm_model": str(language),
        **options,
    }
    built = built_of(**model)
    for name, parameter in built.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    built.model.eval()  # no dropout
    return built


def first_batch(built: Built, data: TinySet, settings: RunConfig) -> Batch:
    splits = read_annotation(data.annotation, data.base_dir, ("train", "val"))
    return next(iter(make_loaders(built, splits, settings, 0, 1)[0]))


def assert_same_step(built: Built, data: TinySet, settings: RunConfig) -> None:
    batch = first_batch(built, data, settings)
    trained = {name: p for name, p in built.model.named_parameters() if p.requires_grad}
    losses = [built.model(**batch.inputs()).loss, built.model.loss(**batch.inputs(), use_cache=False)]
    torch.testing.assert_close(losses[1], losses[0], **CLOSE)
    right, found = (torch.autograd.grad(loss, list(trained.values()), allow_unused=True) for loss in losses)
    torch.testing.assert_close(
        dict(zip(trained, found, strict=True)), dict(zip(trained, right, strict=True)), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("kind", list(LANGUAGE_MODELS))
def test_each_family_takes_the_same_step_as_by_its_own_forward(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, kind: str
) -> None:
    built = built_with(tiny_parts, tiny_language_model(tmp_path, kind), llm_use_lora=True)
    assert head_is_last(built.model.language_model)
    assert_same_step(built, tiny_set, small_run(tiny_parts, tiny_set, tmp_path))


def test_a_head_with_lora_gets_the_same_gradients(tiny_parts: Path, tiny_set: TinySet, tmp_path: Path) -> None:
    targets = {"llm_use_lora": True, "llm_lora_targets": ("q", "lm_head")}
    built = built_with(tiny_parts, tiny_parts / "lm-stablelm", **targets)
    assert any("lm_head" in name and p.requires_grad for name, p in built.model.named_parameters())
    assert_same_step(built, tiny_set, small_run(tiny_parts, tiny_set, tmp_path))


@pytest.mark.parametrize(
    ("kind", "options"), [("gemma3_text", {"final_logit_softcapping": 2.0}), ("granite", {"logits_scaling": 4.0})]
)
def test_a_family_that_changes_its_logits_after_the_head_takes_its_own_forward(
    kind: str, options: dict[str, float]
) -> None:
    sizes = {"vocab_size": WORDS, "hidden_size": 32, **LANGUAGE_MODELS.get(kind, LANGUAGE_MODELS["llama"]), **options}
    language = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](pad_token_id=0, bos_token_id=1, **sizes))
    assert not head_is_last(language)


def test_the_step_of_a_model_with_bounded_logits_is_its_own(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    built = built_with(tiny_parts, tiny_language_model(tmp_path, "gemma3_text"), llm_use_lora=True)
    built.model.language_model.config.final_logit_softcapping = 2.0
    assert not head_is_last(built.model.language_model)
    assert_same_step(built, tiny_set, small_run(tiny_parts, tiny_set, tmp_path))


def test_looking_for_the_head_leaves_modes_and_gradients_as_they_were(tiny_parts: Path) -> None:
    language = built_with(tiny_parts, tiny_parts / "lm-llama", llm_use_lora=True).model.language_model
    language.train()
    language.lm_head.eval()
    modes = [module.training for module in language.modules()]
    with torch.autocast("cpu", torch.bfloat16):
        assert head_is_last(language)
        language(input_ids=torch.arange(4)[None], labels=torch.arange(4)[None]).loss.backward()
    assert [module.training for module in language.modules()] == modes
    assert all(p.grad is not None and p.grad.any() for p in language.parameters() if p.requires_grad)


def test_the_chunked_step_in_bfloat16_is_the_plain_one_within_its_rounding(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    built = built_with(tiny_parts, tiny_parts / "lm-stablelm", llm_use_lora=True)
    batch = first_batch(built, tiny_set, small_run(tiny_parts, tiny_set, tmp_path))
    trained = [p for p in built.model.parameters() if p.requires_grad]
    with torch.autocast("cpu", torch.bfloat16):
        losses = [built.model(**batch.inputs()).loss, built.model.loss(**batch.inputs(), use_cache=False)]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-2, atol=0)  # 8 bits of mantissa
    for right, found in zip(*(torch.autograd.grad(loss, trained) for loss in losses), strict=True):
        assert functional.cosine_similarity(right.flatten(), found.flatten(), dim=0) > 0.99


def test_a_frozen_encoder_runs_in_eval_mode_and_keeps_no_graph(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    settings = small_run(tiny_parts, tiny_set, tmp_path)
    built = build_model(settings.model, precision="32-true")
    module = R2GenGPTModule(built, settings, steps=1).train()
    assert not any(part.training for part in module.model.vision_tower.modules())
    batch = first_batch(built, tiny_set, settings)
    with torch.enable_grad():
        assert built.model.encode_views(batch.pixel_values, batch.view_mask).grad_fn is None


def test_the_optimizer_is_one_kernel_where_there_is_one(tiny_parts: Path, tiny_set: TinySet, tmp_path: Path) -> None:
    settings = small_run(tiny_parts, tiny_set, tmp_path)
    built = build_model(settings.model, precision="32-true")
    optimizer = R2GenGPTModule(built, settings, steps=1).configure_optimizers()["optimizer"]
    assert all(group["fused"] for group in optimizer.param_groups)
    assert not has_fused_adamw(built.model, "16-mixed")  # clipping needs gradients whose scale is known
    assert not has_fused_adamw(built.model.to("meta"), "32-true")


@pytest.mark.parametrize(("native", "chosen"), [(True, "bf16-mixed"), (False, "32-true")])
def test_training_is_in_bfloat16_by_default_where_the_hardware_has_it(
    monkeypatch: pytest.MonkeyPatch, native: bool, chosen: str
) -> None:
    monkeypatch.setattr("r2gengpt.parts.assemble.device_has_bfloat16", lambda: native)
    assert native_precision(TrainConfig().precision) == chosen


@pytest.mark.filterwarnings("ignore:--precision bf16")  # where it is emulated
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
@pytest.mark.parametrize(
    ("model", "run"),
    [
        ({}, {"gradient_clip_val": 0.5, "gradient_checkpointing": True}),
        ({"alignment": "shallow", "llm_use_lora": False, "feature_norm": "standardize"}, {}),
        ({"alignment": "delta", "lm_model": "lm-llama", "vision_model": "vision-vit"}, {"accumulate_grad_batches": 2}),
        ({"quantization": "int8"}, {}),
        ({"quantization": "nf4", "double_quant": True}, {"gradient_clip_val": 1.0}),
        ({"use_dora": True, "lm_model": "lm-gpt2"}, {"scorer_types": ("CIDEr",)}),
    ],
    ids=str,
)
def test_a_run_in_bfloat16_is_the_one_in_float32_but_for_its_rounding(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, precision: str, model: dict[str, Any], run: dict[str, Any]
) -> None:
    model = model | {
        name: str(tiny_parts / part) for name, part in model.items() if name in ("lm_model", "vision_model")
    }
    for name in ("32-true", precision):
        own = {key: value for key, value in model.items() if key not in OF_PLACE}
        settings = small_run(tiny_parts, tiny_set, tmp_path / name, model=own, precision=name, **run)
        train(settings, PlacementConfig(**{key: value for key, value in model.items() if key in OF_PLACE}))
    wanted, found = (logged(tmp_path / name, "loss") for name in ("32-true", precision))
    assert found == pytest.approx(wanted, rel=0.02)
    assert found != wanted
    assert (tmp_path / precision / "last" / "delta.safetensors").exists()


@pytest.mark.parametrize(("given", "taken"), [("bf16", "bf16-mixed"), ("32", "32-true")])
def test_the_old_names_of_a_precision_are_the_new_ones(monkeypatch: pytest.MonkeyPatch, given: str, taken: str) -> None:
    monkeypatch.setattr("r2gengpt.parts.assemble.device_has_bfloat16", lambda: True)
    assert native_precision(given) == taken


@pytest.mark.parametrize("given", ["16", "16-mixed"])
def test_float16_on_a_cpu_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="precision 16-mixed needs a GPU: on a CPU use bf16-mixed or 32-true"):
        native_precision(given)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert native_precision(given) == "16-mixed"


def test_training_never_makes_logits_of_the_prompt(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, int]] = []
    step = R2GenGPTModule.training_step

    def watched(self: R2GenGPTModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        assert batch.labels is not None
        self.model.loss(**batch.inputs(), use_cache=False)  # the first one looks for the head
        rows: list[int] = []
        hook = self.model.get_output_embeddings().register_forward_hook(
            lambda _, __, logits: rows.append(logits.numel() // logits.shape[-1])
        )
        loss = step(self, batch, batch_idx)
        hook.remove()
        made.append((sum(rows), int((batch.labels != IGNORE).sum())))
        return loss

    monkeypatch.setattr(R2GenGPTModule, "training_step", watched)
    train(small_run(tiny_parts, tiny_set, tmp_path, max_epochs=1))
    assert len(made) == 4
    assert all(rows == learnt for rows, learnt in made)
