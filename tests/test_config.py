"""The settings: what they refuse, how they depend on each other, and that each of them is read."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import r2gengpt
import settings_read
from r2gengpt.cli.evaluating import in_one_process
from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, TrainConfig
from r2gengpt.config.run import KEPT
from r2gengpt.errors import InputError
from r2gengpt.settings import PlacementConfig, ServeConfig
from r2gengpt.training.distributed.processes import flags

SOURCE = Path(r2gengpt.__file__).parent
CONFIGS = (ModelConfig, PlacementConfig, DataConfig, DecodeConfig, TrainConfig, ServeConfig)


def test_a_setting_that_only_its_own_checks_look_at_counts_as_unread() -> None:
    field = "TrainConfig.num_nodes"
    before = field in settings_read.read
    settings_read.read.discard(field)
    config = TrainConfig(num_nodes=2)
    assert config.num_nodes == 2, "a test's own reading"
    assert field in settings_read.unread()
    flags(config)
    assert field in settings_read.unread(), "that function has no use for it"
    in_one_process(TrainConfig())
    assert field not in settings_read.unread()
    if not before:
        settings_read.read.discard(field)


@pytest.mark.parametrize("config", CONFIGS)
def test_each_setting_has_a_help_text_and_a_default_that_passes_its_own_checks(config: type) -> None:
    config()
    assert all(f.metadata["help"].strip() for f in fields(config))


def test_no_setting_stands_in_two_groups() -> None:
    names = [f.name for config in CONFIGS for f in fields(config)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("config", "values", "parts"),
    [
        (ModelConfig, {"llm_r": "16"}, ("llm_r '16'", "type int")),
        (ModelConfig, {"llm_r": True}, ("llm_r True", "type int")),
        (ModelConfig, {"freeze_vm": "False"}, ("freeze_vm 'False'", "type bool")),
        (ModelConfig, {"lm_model": None}, ("lm_model None", "type str")),
        (ModelConfig, {"end_sym": 2}, ("end_sym 2", "str | None")),
        (ModelConfig, {"vis_lora_targets": ["q"]}, ("vis_lora_targets ['q']", "tuple")),
        (TrainConfig, {"weights": (0.5, "1")}, ("weights (0.5, '1')", "tuple[float, ...]")),
        (ModelConfig, {"llm_r": 0}, ("llm_r 0", "at least 1")),
        (ModelConfig, {"lora_dropout": 1.5}, ("lora_dropout 1.5", "at most 0.95")),
        (ModelConfig, {"lora_dropout": math.nan}, ("lora_dropout nan", "finite")),
        (ModelConfig, {"fusion": "max"}, ("fusion max", "mean, concat")),
        (PlacementConfig, {"dtype": "int8"}, ("dtype int8", "float32")),
        (ModelConfig, {"image_tokens": 5}, ("image_tokens 5", "square")),
        (ModelConfig, {"image_tokens": 4, "global_only": True}, ("global_only True", "image_tokens")),
        (ModelConfig, {"instruction": "  "}, ("instruction", "empty")),
        (ModelConfig, {"freeze_vm": False, "vis_use_lora": True}, ("freeze_vm False", "vis_use_lora True")),
        (DataConfig, {"dataset": "iu-xray"}, ("dataset iu-xray", "iu_xray, mimic_cxr, plain")),
        (DataConfig, {"batch_size": 0}, ("batch_size 0", "at least 1")),
        (DataConfig, {"num_workers": -1}, ("num_workers -1", "at least 0")),
        (DataConfig, {"num_workers": 513}, ("num_workers 513", "at most 512")),
        (DecodeConfig, {"beam_size": 2**63}, (f"beam_size {2**63}", f"at most {2**63 - 1}")),
        (TrainConfig, {"seed": 10**20}, (f"seed {10**20}", f"at most {2**63 - 1}")),
        (DataConfig, {"max_length": 1}, ("max_length 1", "at least 2")),
        (DecodeConfig, {"beam_size": 0}, ("beam_size 0", "at least 1")),
        (DecodeConfig, {"top_p": 0.0}, ("top_p 0.0", "above 0")),
        (DecodeConfig, {"top_p": 1.01}, ("top_p 1.01", "at most 1")),
        (DecodeConfig, {"repetition_penalty": 0.0}, ("repetition_penalty 0.0", "above 0")),
        (DecodeConfig, {"length_penalty": math.inf}, ("length_penalty inf", "finite")),
        (DecodeConfig, {"min_new_tokens": 9, "max_new_tokens": 8}, ("min_new_tokens 9", "max_new_tokens 8")),
        (DecodeConfig, {"num_beam_groups": 2}, ("num_beam_groups 2", "removed from transformers 5")),
        (DecodeConfig, {"diversity_penalty": 0.5}, ("diversity_penalty 0.5", "removed from transformers 5")),
        (TrainConfig, {"learning_rate": 0.0}, ("learning_rate 0.0", "above 0")),
        (TrainConfig, {"learning_rate": 1e-7}, ("min_learning_rate 1e-06", "learning_rate 1e-07")),
        (TrainConfig, {"max_steps": 0}, ("max_steps 0", "at least 1")),
        (TrainConfig, {"limit_val_batches": 2.5}, ("limit_val_batches 2.5", "must be whole")),
        (TrainConfig, {"val_check_interval": 1.5}, ("val_check_interval 1.5", "must be whole")),
        (TrainConfig, {"devices": "0"}, ("devices 0", "at least 1")),
        (TrainConfig, {"devices": "two"}, ("devices two", "auto or a number")),
        (TrainConfig, {"precision": "8"}, ("precision 8", "bf16-mixed")),
        (TrainConfig, {"accelerator": "tpu"}, ("accelerator tpu", "cpu")),
        (TrainConfig, {"scorer_types": ("Bleu_4",)}, ("weights has 2 numbers", "1 scorer_types")),
        (TrainConfig, {"scorer_types": ("bleu", "CIDEr")}, ("scorer_types bleu", "Bleu_4")),
        (TrainConfig, {"weights": (1.0, -0.5)}, ("weights 1.0 -0.5", "at least 0")),
        (TrainConfig, {"weights": (0.0, 0.0)}, ("weights 0.0 0.0", "one of them above")),
        (TrainConfig, {"weights": (0.5, math.nan)}, ("weights nan", "finite")),
        (TrainConfig, {"scorer_types": (), "weights": ()}, ("weights", "scorer_types")),
        (TrainConfig, {"ckpt_file": "a", "delta_file": "b"}, ("ckpt_file", "delta_file")),
        (ServeConfig, {"port": 65536}, ("port 65536", "at most 65535")),
        (ServeConfig, {"slots": 0}, ("slots 0", "at least 1")),
        (ServeConfig, {"request_timeout": 0.0}, ("request_timeout 0.0", "above 0")),
        (ServeConfig, {"max_megapixels": 81}, ("max_megapixels 81", "at most 80")),
        (ServeConfig, {"host": " "}, ("host", "empty")),
        (ServeConfig, {"cors_origin": ("*",)}, ("cors_origin *", "https://host")),
        (TrainConfig, {"test": True, "validate": True}, ("test", "validate")),
    ],
)
def test_a_wrong_setting_is_refused_naming_the_flag_the_value_and_the_limit(
    config: type, values: dict[str, Any], parts: tuple[str, ...]
) -> None:
    with pytest.raises(InputError) as refusal:
        config(**values)
    message = str(refusal.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("alignment", "freeze_vm", "vis_use_lora"),
    [("shallow", True, False), ("delta", True, True), ("deep", False, False)],
)
def test_alignment_sets_what_is_frozen_and_what_gets_lora(alignment: str, freeze_vm: bool, vis_use_lora: bool) -> None:
    config = ModelConfig(alignment=alignment)
    assert (config.freeze_vm, config.vis_use_lora) == (freeze_vm, vis_use_lora)
    assert config.vision_is_frozen == (alignment == "shallow")


def test_alignment_against_a_flag_of_its_own_is_refused_naming_both() -> None:
    with pytest.raises(InputError, match="alignment shallow sets vis_use_lora False, but vis_use_lora is True"):
        ModelConfig(alignment="shallow", vis_use_lora=True)


def test_alignment_with_the_flag_it_sets_anyway_is_accepted() -> None:
    assert ModelConfig(alignment="deep", freeze_vm=False) == ModelConfig(alignment="deep")


@pytest.mark.parametrize(
    ("dataset", "lengths"), [("iu_xray", (40, 100)), ("mimic_cxr", (80, 120)), ("plain", (0, 120))]
)
def test_open_decode_lengths_come_from_the_data_set(dataset: str, lengths: tuple[int, int]) -> None:
    decode = DecodeConfig().for_dataset(dataset)
    assert (decode.min_new_tokens, decode.max_new_tokens) == lengths


def test_a_given_decode_length_wins_and_pulls_the_open_one_along() -> None:
    short = DecodeConfig(max_new_tokens=20).for_dataset("mimic_cxr")
    assert (short.min_new_tokens, short.max_new_tokens) == (20, 20)
    long = DecodeConfig(min_new_tokens=200).for_dataset("mimic_cxr")
    assert (long.min_new_tokens, long.max_new_tokens) == (200, 200)


def test_report_length_comes_from_the_data_set_unless_it_is_given() -> None:
    assert DataConfig(dataset="iu_xray").report_tokens == 60
    assert DataConfig(dataset="mimic_cxr").report_tokens == 100
    assert DataConfig(dataset="iu_xray", max_length=7).report_tokens == 7


@pytest.mark.parametrize("name", ["ckpt_file", "delta_file"])
def test_weights_to_start_from_go_by_either_name(name: str) -> None:
    assert TrainConfig(**{name: "there"})  # type: ignore[arg-type]  # name is one of texts.start_from == "there"


def test_a_checkpoint_holds_how_its_model_was_made_and_nothing_of_the_machine() -> None:
    here = {f.name for kind in (ModelConfig, DataConfig, DecodeConfig, TrainConfig) for f in fields(kind)} - set(KEPT)
    assert here == {
        *("annotation", "base_dir", "frame", "force", "mixed_patients", "feature_cache", "feature_cache_dtype"),
        *("val_batch_size", "test_batch_size", "num_workers", "prefetch_factor", "savedmodel_path", "ckpt_file"),
        *("delta_file", "resume", "overwrite", "test", "validate", "keep_sentences", "gradient_checkpointing"),
        *("devices", "num_nodes", "accelerator", "strategy", "limit_test_batches", "choose_decode", "log_samples"),
        *("num_sanity_val_steps", "loggers", "every_n_train_steps"),
    }


def test_what_belongs_to_the_machine_is_kept_in_no_checkpoint() -> None:
    here = {kind: {one.name for one in fields(kind) if one.metadata["here"]} for kind in (TrainConfig, DataConfig)}
    assert here[DataConfig] == {
        *("annotation", "base_dir", "feature_cache", "feature_cache_dtype", "force", "frame", "mixed_patients"),
        *("num_workers", "prefetch_factor", "test_batch_size", "val_batch_size"),
    }
    assert here[TrainConfig] == {
        *("accelerator", "choose_decode", "ckpt_file", "delta_file", "devices", "every_n_train_steps"),
        *("gradient_checkpointing", "keep_sentences", "limit_test_batches", "log_samples", "loggers", "num_nodes"),
        *("num_sanity_val_steps", "overwrite", "resume", "savedmodel_path", "strategy", "test", "validate"),
    }
    assert not any(one.metadata["here"] for kind in (ModelConfig, DecodeConfig) for one in fields(kind))
