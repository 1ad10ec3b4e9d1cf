"""Runs of `stage` reinforce: they start at the supervised model, go on bit for bit, and learn what is rewarded."""

import csv
import json
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from conftest import Outcome, TinySet
from r2gengpt.checkpoint import load_checkpoint, load_delta
from r2gengpt.config import ReinforceConfig, RunConfig, TrainConfig
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.batches import Batch
from r2gengpt.errors import InputError
from r2gengpt.parts.assemble import build_model
from r2gengpt.report import Report
from r2gengpt.training.data import make_loaders
from r2gengpt.training.optimizer import checkpoint_layers
from r2gengpt.training.reinforcement.begin import policy_of
from r2gengpt.training.reinforcement.module import ReinforcedModule
from r2gengpt.training.reinforcement.policy import PolicyGradient
from r2gengpt.training.reinforcement.rewards import Reward
from r2gengpt.training.reinforcement.sampling import learnt_batch, repeated
from r2gengpt.training.reinforcement.surrogate import surrogate
from r2gengpt.training.reinforcement.tokens import token_scores
from r2gengpt.training.run import train
from reinforcement_parts import reinforced_run
from test_resume import assert_same_end, run_until
from training_settings import small_run


@pytest.fixture(scope="module")
def supervised(tiny_parts: Path, tiny_set: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best checkpoint of a supervised run."""
    directory = tmp_path_factory.mktemp("supervised")
    return train(small_run(tiny_parts, tiny_set, directory, max_epochs=1, choose_decode=0)).checkpoint


def policy_and_batch(config: RunConfig, data: TinySet) -> tuple[PolicyGradient, Batch]:
    """The policy of a run before its first step, and its first batch."""
    torch.manual_seed(0)
    built = build_model(config.model, precision="32-true")
    load_delta(built.model, Path(str(config.train.start_from)), "ckpt_file")
    splits = read_annotation(str(data.annotation), str(data.base_dir), ("train", "val"))
    config = replace(config, decode=config.decode.for_dataset("plain"))
    policy = policy_of(built, config, splits, None)
    built.model.eval()
    return policy, next(iter(make_loaders(built, splits, config, 0, 1)[0]))


def rows(directory: Path) -> list[dict[str, str]]:
    """The lines of a run's CSV log."""
    (path,) = directory.glob("logs/csv/*/metrics.csv")
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("method", ["grpo", "scst"])
def test_the_divergence_is_0_before_the_first_step(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, supervised: Path, method: str
) -> None:
    config = reinforced_run(tiny_parts, tiny_set, tmp_path, supervised, how={"policy_gradient": method})
    policy, batch = policy_and_batch(config, tiny_set)
    step = policy.step(batch, seed=1)
    assert step.figures["kl"] == 0.0
    assert step.figures["entropy"] > 0.0
    assert step.tokens == pytest.approx(step.figures["sample_tokens"] * 4)


def test_the_loss_sees_the_probabilities_that_the_engine_drew_by(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, supervised: Path
) -> None:
    policy, batch = policy_and_batch(reinforced_run(tiny_parts, tiny_set, tmp_path, supervised), tiny_set)
    many = repeated(policy.sampler.prompts(batch), 3)
    reports = policy.sampler.drawn(many, 1.0, seed=5)
    learnt = learnt_batch(many, reports, policy.built.processor.pad_token_id)
    found = token_scores(policy.built.model, learnt, 1.0, head_last=True).logprobs
    drawn = torch.tensor([value for report in reports for value in report.token_logprobs])
    torch.testing.assert_close(found.detach(), drawn, rtol=1e-4, atol=1e-5)  # float32 sums in another order


def gradients(policy: PolicyGradient, batch: Batch, **more: Any) -> dict[str, torch.Tensor]:
    """Of each trained parameter after one step's backward pass."""
    policy._reward = lambda report: Reward(0.0, 0.0, 0.0, float(sum(report.token_ids)))  # type: ignore[method-assign]
    policy.step(batch, seed=3, **more).loss.backward()  # type: ignore[no-untyped-call]
    found = {name: one for name, one in policy.built.model.named_parameters() if one.requires_grad}
    return {name: one.grad for name, one in found.items() if one.grad is not None}


def test_layers_that_are_computed_twice_give_the_same_gradients(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, supervised: Path
) -> None:
    config = reinforced_run(tiny_parts, tiny_set, tmp_path, supervised)
    wanted = gradients(*policy_and_batch(config, tiny_set))
    policy, batch = policy_and_batch(config, tiny_set)
    layers = checkpoint_layers(policy.built.model.language_model)
    policy.built.model.eval()
    found = gradients(policy, batch, checkpointed=layers)
    assert layers
    assert not any(layer.training for layer in layers)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient)


def test_every_trained_parameter_gets_a_gradient_in_mixed_arithmetic(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, supervised: Path
) -> None:
    """Casts of weights that sampling made without gradients must not serve the loss."""
    policy, batch = policy_and_batch(reinforced_run(tiny_parts, tiny_set, tmp_path, supervised), tiny_set)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(policy, batch)
    assert found.keys() == policy.reference.keys()
    assert all(bool(gradient.any()) for name, gradient in found.items() if "lora_B" in name)


def test_a_language_model_that_the_engine_cannot_serve_is_sampled_by_the_library(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    model: dict[str, Any] = {"lm_model": str(tiny_parts / "lm-gpt2")}
    start = train(small_run(tiny_parts, tiny_set, tmp_path / "supervised", model=model, max_epochs=1, choose_decode=0))
    run = reinforced_run(tiny_parts, tiny_set, tmp_path / "run", start.checkpoint)
    policy, batch = policy_and_batch(replace(run, model=replace(run.model, **model)), tiny_set)
    step = policy.step(batch, seed=1)
    assert step.figures["kl"] == 0.0
    assert step.figures["sample_distinct"] > 0.5


def test_an_image_placeholder_outside_the_vocabulary_is_never_looked_up(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, supervised: Path
) -> None:
    policy, batch = policy_and_batch(reinforced_run(tiny_parts, tiny_set, tmp_path, supervised), tiny_set)
    model = policy.built.model
    prompts = policy.sampler.prompts(batch)
    learnt = learnt_batch(prompts, policy.sampler.greedy(prompts), policy.built.processor.pad_token_id)
    wanted = token_scores(model, learnt, 1.0, head_last=True).logprobs
    inside, outside = model.config.image_token_id, len(model.get_input_embeddings().weight)
    assert learnt.labels is not None
    places = (learnt.input_ids == inside) & (learnt.labels < 0)
    model.config.image_token_id = outside
    moved = replace(learnt, input_ids=learnt.input_ids.masked_fill(places, outside))
    assert torch.equal(token_scores(model, moved, 1.0, head_last=True).logprobs, wanted)


def test_samples_depend_on_the_seed_and_differ_within_a_study(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, supervised: Path
) -> None:
    policy, batch = policy_and_batch(reinforced_run(tiny_parts, tiny_set, tmp_path, supervised), tiny_set)
    many = repeated(policy.sampler.prompts(batch), 4)
    first, again, other = ([one.token_ids for one in policy.sampler.drawn(many, 1.0, seed=seed)] for seed in (3, 3, 4))
    assert first == again != other
    assert len(set(first[:4])) > 1


def test_a_run_trains_the_language_models_lora_and_the_projector_and_leaves_the_rest(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    model: dict[str, Any] = {"vis_use_lora": True, "vis_r": 4, "feature_norm": "standardize"}
    start = train(small_run(tiny_parts, tiny_set, tmp_path / "supervised", model=model, max_epochs=1, choose_decode=0))
    run = reinforced_run(tiny_parts, tiny_set, tmp_path / "run", start.checkpoint, how={"kl_weight": 1.0}, max_epochs=1)
    run = replace(run, model=replace(run.model, **model))
    summary = train(run)
    before, after = (load_file(one / "delta.safetensors") for one in (start.checkpoint, tmp_path / "run" / "last"))
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert before.keys() == after.keys()
    assert all("lora_" in name if name.startswith("language_model") else name.startswith("projector") for name in moved)
    assert any(name.startswith("language_model") for name in moved)
    assert any("projector" in name for name in moved)
    assert not any("norm_in" in name for name in moved)
    load_checkpoint(summary.checkpoint)


def test_a_run_logs_its_samples_and_stores_the_table_and_the_card_names_the_stage(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, supervised: Path
) -> None:
    summary = train(reinforced_run(tiny_parts, tiny_set, tmp_path, supervised))
    assert summary.result is not None
    stored = json.loads((tmp_path / "reinforcement.json").read_text(encoding="utf-8"))
    assert stored["studies"] == 3
    names = {"clinical_f1", "bleu_4", "reward", "omission", "hedging", "words", "repetition", "distinct"}
    assert stored["supervised"].keys() == stored["reinforced"].keys() == names
    assert stored["references"]["omission"] == 0.0
    assert stored["differences"].keys() == {"clinical_f1", "bleu_4"}
    for name, found in stored["differences"].items():
        assert found["value"] == pytest.approx(stored["reinforced"][name] - stored["supervised"][name], abs=1e-9)
        assert found["ci95"][0] <= found["value"] <= found["ci95"][1]
    logged = [row for row in rows(tmp_path) if row["sample_reward"]]
    assert len(logged) == summary.steps == 8
    figures = ("kl", "entropy", "sample_tokens", "sample_distinct", "sample_unfinished", "alike_groups")
    assert all(row[name] for row in logged for name in figures)
    card = (summary.checkpoint / "README.md").read_text(encoding="utf-8")
    assert re.search(r"- stage: reinforcement by grpo \(2 samples a study; .*SHA-256 [0-9a-f]{64}", card)
    settings = json.loads((summary.checkpoint / "config.json").read_text(encoding="utf-8"))
    assert settings["stage"] == "reinforce"
    assert settings["samples_per_study"] == 2


def test_the_command_takes_the_model_from_the_checkpoint_and_ends_with_the_table_and_the_path(
    tiny_set: TinySet, tmp_path: Path, supervised: Path, run_cli: Callable[[list[str]], Outcome]
) -> None:
    source = ["--annotation", str(tiny_set.annotation), "--base_dir", str(tiny_set.base_dir)]
    once = ["--max_epochs", "1", "--samples_per_study", "2", "--num_sanity_val_steps", "0", "--choose_decode", "0"]
    done = run_cli(["train", "--stage", "reinforce", "--ckpt_file", str(supervised.parent), *source, *once,
                    "--savedmodel_path", str(tmp_path / "run")])  # fmt: skip
    assert done.code == 0, done.stderr
    *table, path = done.stdout.splitlines()
    assert table[0].startswith("3 validation studies")
    assert "difference [95 %]" in table[0]
    assert any(line.startswith("hedging") for line in table)
    kept, begun = (json.loads((one / "config.json").read_text(encoding="utf-8")) for one in (Path(path), supervised))
    for name in ("lm_model", "llm_r", "dataset", "max_new_tokens", "beam_size"):
        assert kept[name] == begun[name]


def test_a_checkpoint_of_findings_alone_is_refused_as_a_start(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, supervised: Path
) -> None:
    copied = Path(shutil.copytree(supervised, tmp_path / "head"))
    settings = json.loads((copied / "config.json").read_text(encoding="utf-8"))
    (copied / "config.json").write_text(json.dumps({**settings, "findings_only": True}), encoding="utf-8")
    with pytest.raises(InputError, match="writes no report"):
        train(reinforced_run(tiny_parts, tiny_set, tmp_path / "run", copied))


def test_a_supervised_run_stores_no_setting_of_reinforcement(supervised: Path) -> None:
    settings = json.loads((supervised / "config.json").read_text(encoding="utf-8"))
    assert settings["stage"] == "supervised"
    assert not {"kl_weight", "samples_per_study", "reward_labels"} & settings.keys()
    assert "stage" not in (supervised / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "schedule",
    [{"every_n_train_steps": 1}, {"every_n_train_steps": 1, "accumulate_grad_batches": 2, "val_check_interval": 0.5}],
    ids=str,
)
@pytest.mark.parametrize("method", ["grpo", "scst"])
def test_a_run_ended_at_a_random_step_and_started_again_has_the_same_weights(
    tiny_parts: Path,
    tiny_set: TinySet,
    tmp_path: Path,
    supervised: Path,
    schedule: dict[str, Any],
    method: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def settings(name: str) -> RunConfig:
        how = {"policy_gradient": method, "kl_weight": 0.5}
        return reinforced_run(tiny_parts, tiny_set, tmp_path / name, supervised, how=how, **schedule)

    batches = run_until(settings("whole"), None, monkeypatch, ReinforcedModule)
    run_until(
        settings("run"), random.Random(f"{method}{schedule}").randrange(2, batches), monkeypatch, ReinforcedModule
    )
    run_until(settings("run"), None, monkeypatch, ReinforcedModule)
    assert_same_end(tmp_path / "run", tmp_path / "whole")
    tables = [(tmp_path / name / "reinforcement.json").read_text(encoding="utf-8") for name in ("run", "whole")]
    assert tables[0] == tables[1]


def test_the_supervised_weights_of_a_continued_run_are_those_it_began_with(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, supervised: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint that a run starts from may be written anew in the meantime."""
    config = reinforced_run(tiny_parts, tiny_set, tmp_path, supervised, how={"kl_weight": 0.5})
    policy, _ = policy_and_batch(config, tiny_set)
    kept = {name: tensor.clone() for name, tensor in policy.reference.items()}
    state = policy.state()
    other, _ = policy_and_batch(config, tiny_set)
    other.reference = {name: tensor + 1 for name, tensor in other.reference.items()}
    other.load_state(state)
    assert all(torch.equal(other.reference[name], tensor) for name, tensor in kept.items())


def test_accumulated_batches_give_the_gradient_of_the_whole_batch(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, supervised: Path
) -> None:
    """Two samples a study of two studies: the loss of both is the mean of each one's."""
    policy, batch = policy_and_batch(reinforced_run(tiny_parts, tiny_set, tmp_path, supervised), tiny_set)
    many = repeated(policy.sampler.prompts(batch), 2)
    reports = policy.sampler.drawn(many, 1.0, seed=2)
    learnt = learnt_batch(many, reports, policy.built.processor.pad_token_id)
    logprobs = token_scores(policy.built.model, learnt, 1.0, head_last=True).logprobs
    counts = [report.tokens for report in reports]
    advantages = torch.tensor([1.0, -1.0, 0.5, -0.5]).repeat_interleave(torch.tensor(counts))
    whole = surrogate(logprobs, logprobs.detach(), advantages, kl_weight=0.0, samples=4, longest=8).loss
    first = sum(counts[:2])
    halves = [
        surrogate(part, part.detach(), own, kl_weight=0.0, samples=2, longest=8).loss
        for part, own in zip(
            (logprobs[:first], logprobs[first:]), (advantages[:first], advantages[first:]), strict=True
        )
    ]
    torch.testing.assert_close(whole, torch.stack(halves).mean())


@pytest.mark.parametrize("method", ["grpo", "scst"])
def test_a_policy_learns_what_is_rewarded(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, supervised: Path, method: str
) -> None:
    """The toy reward is the share of a sample's tokens with an even number; the supervised model has about a half."""
    how = {"policy_gradient": method, "samples_per_study": 12, "kl_weight": 0.0, "sample_temperature": 0.4}
    policy, batch = policy_and_batch(reinforced_run(tiny_parts, tiny_set, tmp_path, supervised, how=how), tiny_set)

    def even(report: Report) -> Reward:
        share = sum(token % 2 == 0 for token in report.token_ids) / report.tokens
        return Reward(share, 0.0, 0.0, share)

    policy._reward = even  # type: ignore[method-assign]
    trained = [parameter for parameter in policy.built.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-2)
    found = []
    for seed in range(15):
        step = policy.step(batch, seed=seed)
        optimizer.zero_grad()
        step.loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        found.append(step.figures["sample_reward"])
    assert found[0] < 0.65
    assert sum(found[-3:]) / 3 > 0.85


def test_a_heavy_divergence_holds_the_policy_back(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, supervised: Path
) -> None:
    ends = []
    for kl_weight in (0.0, 50.0):
        directory = tmp_path / str(kl_weight)
        how = {"kl_weight": kl_weight, "samples_per_study": 4}
        run = reinforced_run(tiny_parts, tiny_set, directory, supervised, how=how, learning_rate=5e-3)
        train(run)
        ends.append([float(row["kl"]) for row in rows(directory) if row["kl"]][-1])
    assert ends[1] < ends[0]


def labels_only(data: TinySet, directory: Path) -> TinySet:
    """The tiny set with labels in place of reports."""
    splits = json.loads(data.annotation.read_text(encoding="utf-8"))
    for studies in splits.values():
        for number, one in enumerate(studies):
            one["report"] = ""
            one["labels"] = {"No Finding": number % 2, "Cardiomegaly": 1 - number % 2, "Edema": 0}
    path = directory / "labels.json"
    path.write_text(json.dumps(splits), encoding="utf-8")
    return TinySet(path, data.base_dir)


def test_studies_with_labels_alone_are_rewarded_by_these(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, supervised: Path
) -> None:
    data = labels_only(tiny_set, tmp_path)
    summary = train(reinforced_run(tiny_parts, data, tmp_path / "run", supervised, max_epochs=1, choose_decode=2))
    assert summary.result is not None
    assert "bleu_4" not in summary.result.reinforced
    assert summary.result.references == {}
    assert summary.best["reward"] == summary.best["val_score"]
    assert "val_loss" not in summary.best
    refused = reinforced_run(tiny_parts, data, tmp_path / "b", supervised, scorer_types=("clinical_f1",))
    with pytest.raises(InputError, match=r"scorer_types clinical_f1: compares texts, and split val has studies with"):
        train(refused)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stage": "reinforce"}, r"stage reinforce: goes on from a supervised model: name it by ckpt_file"),
        ({"stage": "ppo"}, r"stage ppo: choose from supervised, reinforce"),
        ({"stage": "reinforce", "ckpt_file": "a", "findings_only": True}, r"findings_only True: belongs to stage"),
        ({"stage": "reinforce", "ckpt_file": "a", "weigh_findings": True}, r"weigh_findings True: belongs to"),
        ({"scorer_types": ("reward",), "weights": (1.0,)}, r"scorer_types reward: belongs to stage reinforce"),
    ],
)
def test_settings_that_contradict_the_stage_are_refused_in_a_line(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        TrainConfig(**settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"samples_per_study": 1}, r"samples_per_study 1: compares the samples of a study: needs at least 2"),
        ({"samples_per_study": 0, "policy_gradient": "scst"}, r"samples_per_study 0: must be at least 1"),
        ({"policy_gradient": "ppo"}, r"policy_gradient ppo: choose from grpo, scst"),
        ({"kl_weight": -0.1}, r"kl_weight -0\.1: must be at least 0"),
        ({"sample_temperature": 0.0}, r"sample_temperature 0\.0: must be above 0"),
        ({"reward_labels": 0.0, "reward_sides": 0.0}, r"leave nothing to learn"),
    ],
)
def test_bad_settings_of_reinforcement_are_refused_in_a_line(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        ReinforceConfig(**settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "train_settings", "words"),
    [
        ({"alignment": "deep", "llm_use_lora": False}, {}, r"freeze_vm False: trains the whole vision encoder"),
        ({}, {"devices": "2"}, r"stage reinforce: trains on one device"),
        ({}, {"strategy": "ddp"}, r"stage reinforce: trains on one device"),
    ],
)
def test_what_the_stage_cannot_do_is_refused_before_anything_is_loaded(
    tiny_parts: Path,
    tiny_set: TinySet,
    tmp_path: Path,
    supervised: Path,
    model: dict[str, Any],
    train_settings: dict[str, Any],
    words: str,
) -> None:
    run = reinforced_run(tiny_parts, tiny_set, tmp_path / "run", supervised, **train_settings)
    run = replace(run, model=replace(run.model, **model))
    with pytest.raises(InputError, match=words):
        train(run)
    assert not (tmp_path / "run").exists()
