"""Flags and the `--config` file to settings and back, and what of them is refused."""

import functools
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from r2gengpt.cli import bridge
from r2gengpt.cli.choice import ModelFlags
from r2gengpt.cli.main import COMMANDS
from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, TrainConfig
from r2gengpt.errors import InputError
from r2gengpt.options import Override
from r2gengpt.settings import PlacementConfig

CONFIGS = (ModelConfig, PlacementConfig, DataConfig, DecodeConfig, TrainConfig)
FIELDS = [(config, f.name) for config in CONFIGS for f in fields(config)]

ORIGINAL_FLAGS = [
    "test", "validate", "dataset", "annotation", "base_dir", "batch_size", "val_batch_size", "test_batch_size",
    "prefetch_factor", "num_workers", "vision_model", "llama_model", "freeze_vm", "llm_use_lora", "llm_r",
    "llm_alpha", "vis_use_lora", "vis_r", "vis_alpha", "lora_dropout", "global_only", "low_resource", "end_sym",
    "savedmodel_path", "ckpt_file", "delta_file", "weights", "scorer_types", "learning_rate",
    "gradient_clip_val", "beam_size", "do_sample", "no_repeat_ngram_size", "num_beam_groups", "min_new_tokens",
    "max_new_tokens", "max_length", "repetition_penalty", "length_penalty", "diversity_penalty", "temperature",
    "devices", "num_nodes", "accelerator", "strategy", "precision", "limit_val_batches", "limit_test_batches",
    "limit_train_batches", "max_epochs", "every_n_train_steps", "val_check_interval", "accumulate_grad_batches",
    "num_sanity_val_steps",
]  # fmt: skip
"""Source: wang-zhanyu/R2GenGPT, configs/config.py."""


def given(*argv: str, configs: Sequence[type] = CONFIGS) -> dict[str, Any]:
    parser = bridge.Parser(prog="r2gengpt train")
    bridge.add_flags(parser, configs)
    return bridge.given_values(bridge.parse(parser, argv), configs)


def sample(default: Any) -> tuple[list[str], Any]:
    """Words for a flag whose default is this, and the value they must become."""
    if isinstance(default, bool):
        return [str(not default)], not default
    if isinstance(default, tuple):
        words = ["0.25", "0.75"] if default and isinstance(default[0], float) else ["one", "two"]
        return words, (0.25, 0.75) if words[0] == "0.25" else ("one", "two")
    if isinstance(default, int | float):
        return ["3"], type(default)(3)
    return ["3"], None  # a text or a number, by the field's type


@pytest.mark.parametrize("dashes", [False, True], ids=["under_scores", "dashes"])
@pytest.mark.parametrize(("config", "name"), FIELDS)
def test_every_setting_is_a_flag_in_both_spellings(config: Any, name: str, dashes: bool) -> None:
    is_switch = config.__dataclass_fields__[name].type == bool | None  # whose default says neither
    words, value = (["True"], True) if is_switch else sample(config.__dataclass_fields__[name].default)
    found = given(f"--{name.replace('_', '-') if dashes else name}", *words)
    assert list(found) == [name]
    assert found[name] == value if value is not None else found[name] in ("3", 3, 3.0)


@pytest.mark.parametrize("name", ORIGINAL_FLAGS)
def test_every_flag_of_the_original_is_accepted(name: str) -> None:
    today = bridge.ALIASES.get(name, name)
    (config,) = [config for config in CONFIGS if today in config.__dataclass_fields__]
    words, _ = sample(config.__dataclass_fields__[today].default)
    assert list(given(f"--{name}", *words)) == [today]


@pytest.mark.parametrize(("old", "new"), bridge.ALIASES.items())
def test_old_names_mean_todays_flags(old: str, new: str, tmp_path: Path) -> None:
    every = functools.partial(given, configs=(ModelConfig, DecodeConfig, ModelFlags))
    value: Any = 3 if new == "beam_size" else "3"
    assert every(f"--{old}", "3") == every(f"--{old.replace('_', '-')}", "3") == {new: value}
    for spelt in (old, old.replace("_", "-")):
        file = tmp_path / "run.json"
        file.write_text(json.dumps({spelt: value}))
        assert every("--config", str(file)) == {new: value}


@pytest.mark.parametrize("word", ["True", "true", "TRUE", "yes", "1"])
def test_booleans_take_true_in_any_case(word: str) -> None:
    assert given("--llm_use_lora", word) == {"llm_use_lora": True}


@pytest.mark.parametrize("word", ["False", "false", "no", "0"])
def test_booleans_take_false_in_any_case(word: str) -> None:
    assert given("--freeze_vm", word) == {"freeze_vm": False}


def test_a_boolean_flag_without_a_word_is_true_as_the_originals_test_flag_is() -> None:
    assert given("--test") == {"test": True}


@pytest.mark.parametrize("word", ["None", "none"])
def test_optionals_take_none(word: str) -> None:
    assert given("--gradient_clip_val", word, "--max_length", word, "--end_sym", word) == {
        "gradient_clip_val": None,
        "max_length": None,
        "end_sym": None,
    }


def test_lists_take_several_words() -> None:
    assert given("--scorer_types", "Bleu_4", "CIDEr", "--weights", "0.5", "1") == {
        "scorer_types": ("Bleu_4", "CIDEr"),
        "weights": (0.5, 1.0),
    }


def test_negative_numbers_are_values_not_flags() -> None:
    assert given("--length_penalty", "-1.5", "--max_steps", "-1") == {"length_penalty": -1.5, "max_steps": -1}


def test_the_config_file_gives_the_same_keys_and_flags_win_over_it(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(
        json.dumps({"lm_model": "a", "batch-size": 2, "learning_rate": 1, "weights": [1, 0], "ckpt_file": None})
    )
    assert given("--config", str(file), "--lm_model", "b") == {
        "lm_model": "b",
        "batch_size": 2,
        "learning_rate": 1.0,
        "weights": (1.0, 0.0),
        "ckpt_file": None,
    }


def test_all_settings_of_a_run_go_through_json_and_come_back_equal(tmp_path: Path) -> None:
    from dataclasses import asdict

    made: list[Any] = [
        ModelConfig(alignment="delta"),
        PlacementConfig(device_map="auto", max_memory=("cpu=4GiB",)),
        DataConfig(max_length=9),
        DecodeConfig(top_p=0.5),
        TrainConfig(patience=2),
    ]
    file = tmp_path / "run.json"
    file.write_text(json.dumps({name: value for config in made for name, value in asdict(config).items()}))
    values = given("--config", str(file))
    assert [Override.of(config, values).settled() for config in CONFIGS] == made


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--lm_modle", "x"], ("unknown flag --lm_modle", "did you mean --lm_model?")),
        (["--lm_modle=x"], ("unknown flag --lm_modle ", "did you mean --lm_model?")),
        (["--batch-sise", "4"], ("unknown flag --batch-sise", "did you mean --batch-size?")),
        (["--lm_mode", "x"], ("unknown flag --lm_mode", "did you mean --lm_model?")),
        (["--zzzzqq"], ("unknown flag --zzzzqq",)),
        (["stray"], ("unexpected argument stray",)),
        (["--batch_size", "six"], ("--batch_size", "six", "must be a whole number")),
        (["--batch_size", "6.5"], ("--batch_size", "6.5", "must be a whole number")),
        (["--learning_rate", "fast"], ("--learning_rate", "fast", "must be a number")),
        (["--freeze_vm", "maybe"], ("--freeze_vm", "maybe", "True or False")),
        (["--lm_model"], ("--lm_model", "expected one argument")),
        (["--batch_size", "None"], ("--batch_size", "None", "must be a whole number")),
    ],
)
def test_a_wrong_flag_is_refused_in_one_line_with_the_nearest_name(argv: list[str], parts: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as refusal:
        given(*argv)
    message = str(refusal.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_flags_are_never_abbreviated() -> None:
    with pytest.raises(InputError, match="unknown flag --learning_r "):
        given("--learning_r", "1")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({"lm_modle": "x"}, ("unknown key lm_modle", "did you mean lm_model?")),
        ({"batch_size": "6"}, ("batch_size", '"6"', "a whole number")),
        ({"batch_size": 6.0}, ("batch_size", "6.0", "a whole number")),
        ({"batch_size": True}, ("batch_size", "true", "a whole number")),
        ({"batch_size": None}, ("batch_size", "null", "a whole number")),
        ({"learning_rate": "1e-4"}, ("learning_rate", "a number")),
        ({"learning_rate": False}, ("learning_rate", "false", "a number")),
        ({"freeze_vm": 1}, ("freeze_vm", "1", "True or False")),
        ({"freeze_vm": "True"}, ("freeze_vm", "True or False")),
        ({"lm_model": 3}, ("lm_model", "3", "a text")),
        ({"weights": 0.5}, ("weights", "0.5", "a list of float")),
        ({"weights": ["a"]}, ("weights", '"a"', "a number")),
        ([1], ("must hold a JSON object", "list")),
    ],
)
def test_a_wrong_config_file_is_refused_naming_the_key_and_its_type(
    content: Any, parts: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError) as refusal:
        given("--config", str(file))
    for part in ("--config", *parts):
        assert part in str(refusal.value)


def test_a_whole_number_that_no_float_holds_is_refused_by_its_limit(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"learning_rate": 10**310}))
    with pytest.raises(InputError, match=r"^learning_rate 1000.*: must be at most 9223372036854775807$"):
        TrainConfig(**given("--config", str(file), configs=(TrainConfig,)))


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file"), (b"{", "not JSON"), (b"\xff\xfe\x00", "not UTF-8 text")]
)
def test_a_config_file_that_cannot_be_read_is_named(content: bytes | None, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError) as refusal:
        given("--config", str(file))
    assert f"--config {file}: {reason}" in str(refusal.value)


def test_a_flag_that_another_flag_overrules_is_refused_even_where_it_repeats_the_default() -> None:
    with pytest.raises(InputError, match="freeze_vm True: another setting makes it False"):
        Override.of(ModelConfig, given("--alignment", "deep", "--freeze_vm", "True")).settled()


@pytest.mark.parametrize("command", ["train", "test", "generate"])
def test_every_flag_is_explained_in_the_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    from r2gengpt.cli import main as cli

    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help", "all"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    configs = (ModelConfig, PlacementConfig, DecodeConfig) if command == "generate" else CONFIGS
    assert not [f.name for config in configs for f in fields(config) if f"--{f.name}" not in shown]


def test_the_program_lists_its_commands_and_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    from r2gengpt.cli import main as cli

    for argv, code in (([], 2), (["--help"], 0), (["--version"], 0), (["trian"], 2)):
        with pytest.raises(SystemExit) as end:
            cli.main(argv)
        assert end.value.code == code
    shown = capsys.readouterr()
    assert all(f"  {command} " in shown.out for command in COMMANDS)
    assert shown.err == "r2gengpt: unknown command trian (did you mean train?)\n"
