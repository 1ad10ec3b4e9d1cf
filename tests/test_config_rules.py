"""Rules between settings: what goes together, what is refused, and where the border lies."""

from dataclasses import fields
from typing import Any

import pytest

from r2gengpt.config.data import DataConfig
from r2gengpt.config.decode import DECODE_PRESETS, DecodeConfig
from r2gengpt.config.model import CONTEXT_FIELDS, ModelConfig
from r2gengpt.config.reinforce import ReinforceConfig
from r2gengpt.config.run import KEPT
from r2gengpt.config.train import TrainConfig
from r2gengpt.errors import InputError

GOING_ON = {"stage": "reinforce", "ckpt_file": "a"}
TAKEN: list[tuple[type, dict[str, Any]]] = [
    (DataConfig, {"augment": True}),
    (DataConfig, {"feature_cache": "a"}),
    (DataConfig, {"feature_cache": "a", "feature_cache_dtype": "int8"}),
    (DataConfig, {"source_caps": ("a=1",)}),
    (DataConfig, {"bucket_by_length": True}),
    (DecodeConfig, {"min_new_tokens": 8, "max_new_tokens": 8}),
    (DecodeConfig, {"min_new_tokens": 8}),
    (DecodeConfig, {"max_new_tokens": 8}),
    (DecodeConfig, {"do_sample": True, "engine": "hf"}),
    *[(DecodeConfig, {"speculate": True, "beam_size": 1, "engine": engine}) for engine in ("auto", "fast", "compiled")],
    *[(ModelConfig, {"image_tokens": tokens}) for tokens in (1, 4, 9, 49)],
    (ModelConfig, {"global_only": True}),
    (ModelConfig, {"findings_head": True}),
    (ModelConfig, {"findings_head": True, "findings_hint": True}),
    (ModelConfig, {"freeze_vm": False}),
    (ModelConfig, {"vis_use_lora": True}),
    (ModelConfig, {"alignment": "delta", "vis_use_lora": True}),
    (ModelConfig, {"context_fields": ("sex", "age")}),
    *[(ModelConfig, {"template": template}) for template in ("auto", "plain", "chat", "a <ImageHere> b")],
    (ReinforceConfig, {"samples_per_study": 2}),
    (ReinforceConfig, {"samples_per_study": 1, "policy_gradient": "scst"}),
    (ReinforceConfig, {"reward_labels": 0.0}),
    (ReinforceConfig, {"reward_sides": 0.0}),
    (TrainConfig, {"weights": (1.0, 0.0)}),
    *[(TrainConfig, {"loggers": loggers}) for loggers in (("wandb",), ("mlflow", "wandb"))],
    *[(TrainConfig, {"limit_train_batches": batches}) for batches in (0.5, 1.0, 2.0, 3.0)],
    *[(TrainConfig, {"max_steps": steps}) for steps in (-1, 1)],
    *[(TrainConfig, {"devices": devices}) for devices in ("auto", "1", "2")],
    (TrainConfig, {"learning_rate": 1e-4, "min_learning_rate": 1e-4}),
    (TrainConfig, {"test": True}),
    (TrainConfig, {"validate": True}),
    (TrainConfig, {"ckpt_file": "a"}),
    (TrainConfig, {"delta_file": "a"}),
    (TrainConfig, {"freeze_seeing": True, "ckpt_file": "a"}),
    (TrainConfig, {"freeze_seeing": True, "delta_file": "a"}),
    (TrainConfig, {"findings_only": True, "patch_dropout": 0.5, "mirror": True, "score_floors": ("findings_auc=0.7",)}),
    (TrainConfig, {"score_floors": ("Bleu_4=0.05", "distinct=1", "CIDEr=10", "findings_auc=0.7")}),
    (TrainConfig, {"weigh_findings": True}),
    (TrainConfig, {**GOING_ON, "scorer_types": ("reward", "CIDEr")}),
    (TrainConfig, {"stage": "reinforce", "delta_file": "a"}),
]
REFUSED: list[tuple[type, dict[str, Any], str]] = [
    (DataConfig, {"augment": True, "feature_cache": "a"}, "feature_cache a: keeps one form of each image"),
    (DataConfig, {"feature_cache": " "}, "feature_cache is empty"),
    (DataConfig, {"feature_cache_dtype": "int8"}, "feature_cache_dtype int8 belongs to feature_cache"),
    (DataConfig, {"source_caps": ("a=1",), "bucket_by_length": True}, "source_caps draws studies anew"),
    *[
        (DataConfig, {"source_caps": ("b=2", cap)}, f"source_caps {cap}: must be like kermany=300")
        for cap in ("a", "=1", "a=", "a=0", "a=-1", "a=1.5", "a=٣", "a=²")
    ],
    (DataConfig, {"source_caps": ("a=1", "a=2")}, "source_caps a=1 a=2: names a twice"),
    (DecodeConfig, {"min_new_tokens": 9, "max_new_tokens": 8}, "min_new_tokens 9 is more than max_new_tokens 8"),
    *[
        (DecodeConfig, {"speculate": True, "beam_size": 1, **more}, "speculate True: needs beam_size 1 do_sample False")
        for more in ({"beam_size": 2}, {"do_sample": True}, {"engine": "hf"})
    ],
    *[(ModelConfig, {"image_tokens": tokens}, f"image_tokens {tokens}: must be a square") for tokens in (2, 8, 10)],
    (ModelConfig, {"findings_hint": True}, "findings_hint True tells what the head sees"),
    *[
        (ModelConfig, {"context_fields": names}, "context_fields .*: choose from age, sex, view, .*, each once")
        for names in ((), ("age", "name"), ("age", "sex", "age"))
    ],
    *[
        (ModelConfig, {"template": template}, "template .*: must be auto, plain, chat or a text that holds <ImageHere>")
        for template in ("", "a", "<ImageHere><ImageHere>")
    ],
    (ReinforceConfig, {"samples_per_study": 1}, "samples_per_study 1: .* needs at least 2"),
    (ReinforceConfig, {"reward_labels": 0.0, "reward_sides": 0.0}, "leave nothing to learn"),
    *[
        (TrainConfig, {"loggers": loggers}, f"loggers {' '.join(loggers)}: choose from wandb, mlflow, each once")
        for loggers in (("wandb", "wandb"), ("mlflow", "csv"))
    ],
    *[
        (TrainConfig, {name: 1.5}, f"{name} 1.5: is above 1, a number of batches: must be whole")
        for name in ("limit_train_batches", "limit_val_batches", "limit_test_batches", "val_check_interval")
    ],
    *[(TrainConfig, {"devices": devices}, f"devices {devices}: must be auto") for devices in ("-1", "1.5", "auto2")],
    (TrainConfig, {"savedmodel_path": " "}, "savedmodel_path is empty"),
    (TrainConfig, {"freeze_seeing": True}, "freeze_seeing True: trains reports on what ckpt_file sees"),
    (TrainConfig, {"freeze_seeing": True, "ckpt_file": "a", "findings_only": True}, "freeze_seeing True: trains"),
    (TrainConfig, {"patch_dropout": 0.5}, "patch_dropout 0.5: belongs to findings_only True"),
    (TrainConfig, {"mirror": True}, "mirror True: belongs to findings_only True"),
    (TrainConfig, {"findings_only": True, "score_floors": ("CIDEr=0.1", "findings_auc=0.7")}, "and CIDEr is of texts"),
    (TrainConfig, {"scorer_types": ("reward", "CIDEr")}, "scorer_types reward: belongs to stage reinforce"),
    (TrainConfig, {"stage": "reinforce"}, "stage reinforce: goes on from a supervised model"),
    (TrainConfig, {**GOING_ON, "findings_only": True}, "findings_only True: belongs to stage supervised"),
    (TrainConfig, {**GOING_ON, "weigh_findings": True}, "weigh_findings True: belongs to stage supervised"),
    *[
        (
            TrainConfig,
            {"score_floors": ("ROUGE_L=0.1", floor)},
            f"score_floors {floor}: must be like .*=0.05, .* {top}$",
        )
        for floor, top in (
            *((f"Bleu_4{number}", 1) for number in ("", "=", "=x", "=nan", "=-1", "=0", "=1.01")),
            *((f"CIDEr{number}", 10) for number in ("", "=0", "=10.1", "=inf")),
        )
    ],
    (TrainConfig, {"score_floors": ("val_loss=0.1",)}, "score_floors val_loss=0.1: choose from Bleu_1, .*distinct"),
    (TrainConfig, {"score_floors": ("CIDEr=1", "CIDEr=2")}, "score_floors CIDEr=1 CIDEr=2: names CIDEr twice"),
]


@pytest.mark.parametrize(("config", "values"), TAKEN)
def test_settings_that_go_together_are_taken_as_they_are(config: type, values: dict[str, Any]) -> None:
    made = config(**values)
    assert {name: getattr(made, name) for name in values} == values


@pytest.mark.parametrize(("config", "values", "words"), REFUSED)
def test_settings_that_contradict_each_other_are_refused_by_name(
    config: type, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        config(**values)


def test_floors_and_caps_are_numbers_by_their_names() -> None:
    assert TrainConfig(score_floors=("Bleu_4=0.05", "CIDEr=1e1")).floors == {"Bleu_4": 0.05, "CIDEr": 10.0}
    assert DataConfig(source_caps=("a=b=3", "c=10")).caps == {"a=b": 3, "c": 10}


def test_weights_to_start_from_have_one_name_or_none() -> None:
    assert [TrainConfig(ckpt_file="a").start_from, TrainConfig(delta_file="b").start_from] == ["a", "b"]
    assert TrainConfig().start_from is None


@pytest.mark.parametrize(
    ("given", "lengths"),
    [
        ({"min_new_tokens": 90}, (90, 100)),
        ({"min_new_tokens": 0}, (0, 100)),
        ({"max_new_tokens": 41}, (40, 41)),
        ({"max_new_tokens": 1}, (1, 1)),
        ({"min_new_tokens": 3, "max_new_tokens": 5}, (3, 5)),
    ],
)
def test_a_length_that_is_left_open_is_the_data_sets_as_far_as_the_other_allows(
    given: dict[str, int], lengths: tuple[int, int]
) -> None:
    decode = DecodeConfig(**given).for_dataset("iu_xray")  # type: ignore[arg-type]  # two lengths
    assert (decode.min_new_tokens, decode.max_new_tokens) == lengths


def test_texts_as_they_are_have_the_report_length_of_the_larger_data_set() -> None:
    assert DataConfig(dataset="plain").report_tokens == DataConfig(dataset="mimic_cxr").report_tokens == 100


def test_penalties_are_those_that_were_given() -> None:
    assert DecodeConfig().penalties == {}
    assert DecodeConfig(no_repeat_ngram_size=0).penalties == {"no_repeat_ngram_size": 0}
    both = DecodeConfig(repetition_penalty=1.5, no_repeat_ngram_size=4)
    assert both.penalties == {"repetition_penalty": 1.5, "no_repeat_ngram_size": 4}


def test_the_originals_preset_has_its_three_beams_and_penalties_and_no_ban_of_repeated_words() -> None:
    decode = DecodeConfig(**DECODE_PRESETS["original"])
    assert (decode.beam_size, decode.repetition_penalty, decode.length_penalty) == (3, 2.0, 2.0)
    assert decode.no_repeat_ngram_size == 0


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({}, ()),
        ({"context": True}, CONTEXT_FIELDS),
        ({"context": True, "context_fields": ("view", "age")}, ("age", "view")),
        ({"prior_study": True}, ("prior",)),
        ({"context": True, "context_fields": ("sex",), "prior_study": True}, ("sex", "prior")),
    ],
)
def test_a_prompt_has_the_chosen_fields_in_its_own_order_and_the_earlier_study_last(
    values: dict[str, Any], fields: tuple[str, ...]
) -> None:
    assert ModelConfig(**values).prompt_fields == fields


def test_a_checkpoint_holds_how_it_was_made_and_nothing_of_the_machine_or_its_user() -> None:
    kinds = (ModelConfig, DataConfig, DecodeConfig, TrainConfig, ReinforceConfig)
    of_the_machine = {f.name for kind in kinds for f in fields(kind)} - KEPT
    files = {"annotation", "base_dir", "savedmodel_path", "ckpt_file", "delta_file", "feature_cache"}
    films = {"frame", "force", "mixed_patients"}
    speed = {"val_batch_size", "test_batch_size", "num_workers", "prefetch_factor", "feature_cache_dtype"}
    devices = {"devices", "num_nodes", "accelerator", "strategy", "gradient_checkpointing"}
    work = {"resume", "overwrite", "test", "validate", "keep_sentences", "choose_decode", "limit_test_batches"}
    shown = {"num_sanity_val_steps", "loggers", "log_samples", "every_n_train_steps"}
    assert of_the_machine == files | films | speed | devices | work | shown
