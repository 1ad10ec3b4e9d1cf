"""`--ckpt_file FILE.pth`: the original's files used as they are, in training, testing and generating."""

import builtins
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import Outcome, TinySet
from original_model import KINDS, OriginalModel, original_flags, save_original
from placements import FLOAT32
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.checkpoint_files import read_settings
from r2gengpt.config import ModelConfig
from r2gengpt.errors import InputError
from r2gengpt.options import Override
from r2gengpt.original.convert import load_original
from r2gengpt.original.read import our_name, read_original, unpickle
from r2gengpt.settings import PlacementConfig

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT's own wrapper

Cli = Callable[[list[str]], Outcome]
Parts = tuple[str, str]


@pytest.fixture(scope="module")
def parts(tiny_parts: Path) -> Parts:
    return str(tiny_parts / "vision-swin"), str(tiny_parts / "lm-llama")


def asked(**values: str) -> Override[ModelConfig]:
    return Override(ModelConfig, values)


def flags_of(data: TinySet) -> list[str]:
    return ["--annotation", str(data.annotation), "--base_dir", str(data.base_dir)]


SHORT = ["--min_new_tokens", "0", "--max_new_tokens", "12", "--dtype", "float32", "--accelerator", "cpu"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_used_directly_is_the_model_that_it_converts_to(
    kind: str, parts: Parts, tmp_path: Path, run_cli: Cli
) -> None:
    torch.manual_seed(2)
    source = save_original(tmp_path / "o.pth", OriginalModel(original_flags(parts, **KINDS[kind])))
    assert run_cli(["convert", str(source), "--output", str(tmp_path / "ours")]).code == 0
    converted, stored = load_checkpoint(tmp_path / "ours", where=FLOAT32)
    direct, settings, _ = load_original(source, asked(), FLOAT32)
    for (name, one), (other_name, other) in zip(
        converted.model.state_dict().items(), direct.model.state_dict().items(), strict=True
    ):
        assert name == other_name
        assert torch.equal(one, other)
    for group in ("model", "data", "decode", "train"):
        assert getattr(settings, group).settled() == getattr(stored, group).settled(), group


def test_test_and_generate_take_a_file_and_write_as_with_the_converted_checkpoint(
    parts: Parts, tmp_path: Path, tiny_set: TinySet, run_cli: Cli
) -> None:
    torch.manual_seed(3)
    (tmp_path / "theirs").mkdir()
    source = save_original(tmp_path / "theirs" / "o.pth", OriginalModel(original_flags(parts, vis_use_lora=True)))
    assert run_cli(["convert", str(source), "--output", str(tmp_path / "ours")]).code == 0
    texts, images = [], [str(tiny_set.base_dir / f"test0_{view}.png") for view in range(1)]
    for model in (source, tmp_path / "ours"):
        outcome = run_cli(["test", "--delta_file", str(model), *flags_of(tiny_set), *SHORT])
        assert outcome.code == 0, outcome.stderr
        where = source.parent if model == source else model
        rows = (where / "results-test" / "predictions.jsonl").read_text().splitlines()
        outcome = run_cli(["generate", *images, "--model", str(model), *SHORT])
        assert outcome.code == 0, outcome.stderr
        texts.append([*(json.loads(row)["prediction"] for row in rows), outcome.stdout])
    assert texts[0] == texts[1]
    assert texts[0][-1].strip()
    assert sorted(path.name for path in source.parent.iterdir()) == ["o.pth", "results-test"]


def test_training_starts_from_a_file_with_the_parts_it_was_trained_with(
    parts: Parts, tmp_path: Path, tiny_set: TinySet, run_cli: Cli
) -> None:
    torch.manual_seed(4)
    model = OriginalModel(original_flags(parts, vis_use_lora=True, llm_use_lora=True))
    source = save_original(tmp_path / "o.pth", model)
    argv = ["train", "--ckpt_file", str(source), *flags_of(tiny_set), *SHORT, "--savedmodel_path", str(tmp_path / "r")]
    argv += [
        "--scorer_types",
        "val_loss",
        "--weights",
        "1",
        "--batch_size",
        "4",
        "--max_steps",
        "1",
        "--beam_size",
        "1",
    ]
    argv += ["--learning_rate", "1e-9", "--min_learning_rate", "1e-10", "--precision", "32-true", "--dataset", "plain"]
    outcome = run_cli([*argv, "--vis_use_lora", "False"])
    assert (outcome.code, outcome.stderr.count("\n")) == (2, 1)
    assert f"--vis_use_lora False: {source} was trained with True" in outcome.stderr
    outcome = run_cli(argv)
    assert outcome.code == 0, outcome.stderr
    settings = read_settings(tmp_path / "r" / "last", "model")
    wanted = {"vis_r": 4, "vis_alpha": 8, "llm_r": 6, "llm_lora_targets": ("q", "v"), "lm_model": parts[1]}
    assert {name: settings.flat()[name] for name in wanted} == wanted
    assert (settings.flat()["template"], settings.flat()["end_sym"], settings.flat()["dataset"]) == (
        "plain",
        None,
        "plain",
    )
    trained, _ = load_checkpoint(tmp_path / "r" / "last", where=FLOAT32)
    state = trained.model.state_dict()
    for name, tensor in read_original(source).tensors.items():
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=1e-7)  # one step of 1e-9


def test_a_file_is_exported_as_the_checkpoint_that_it_converts_to(parts: Parts, tmp_path: Path, run_cli: Cli) -> None:
    source = save_original(tmp_path / "o.pth", OriginalModel(original_flags(parts, vis_use_lora=True)))
    assert run_cli(["convert", str(source), "--output", str(tmp_path / "ours")]).code == 0
    for name, model in (("a", source), ("b", tmp_path / "ours")):
        done = run_cli(["export", "--model", str(model), "--output", str(tmp_path / name)])
        assert done.code == 0, done.stderr
    weights = "model.safetensors"
    assert (tmp_path / "a" / weights).read_bytes() == (tmp_path / "b" / weights).read_bytes()


def test_what_contradicts_a_file_is_one_line(parts: Parts, tmp_path: Path, tiny_parts: Path, run_cli: Cli) -> None:
    source = save_original(tmp_path / "o.pth", OriginalModel(original_flags(parts, vis_use_lora=True)))
    (tmp_path / "text.pth").write_text("The lungs are clear.\n")
    for argv, message in (
        (["test", "--ckpt_file", str(source), "--vis_r", "8"], f"--vis_r 8: {source} was trained with 4"),
        (["test", "--ckpt_file", str(source), "--alignment", "shallow"], "--alignment shallow sets --vis_use_lora"),
        (["test", "--ckpt_file", str(tmp_path / "no.pth")], "no.pth: No such file"),
        (["train", "--delta_file", str(tmp_path / "text.pth")], "text.pth: not a PyTorch checkpoint"),
    ):
        outcome = run_cli(argv)
        assert (outcome.code, outcome.stderr.count("\n")) == (2, 1), (argv, outcome.stderr)
        assert message in outcome.stderr
    with pytest.raises(InputError, match=r"misses \d+ tensors.*lm_model and vision_model"):
        load_original(source, asked(vision_model=str(tiny_parts / "vision-vit")), FLOAT32)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.pth", "text.pth"]


def test_a_file_whose_parts_moved_is_read_with_their_new_places(parts: Parts, tmp_path: Path) -> None:
    model = OriginalModel(original_flags(parts))
    model.flags.llama_model = model.flags.vision_model = str(tmp_path / "elsewhere")
    source = save_original(tmp_path / "o.pth", model)
    with pytest.raises(InputError, match="elsewhere: no such directory"):
        load_original(source, asked())
    built, settings, _ = load_original(source, asked(vision_model=parts[0], lm_model=parts[1]))
    assert settings.flat()["lm_model"] == parts[1]
    assert torch.equal(built.model.projector.linear.weight, model.llama_proj.weight)


def renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of the original carried over to another language model."""
    return {name.replace("llama_", "lm_"): value for name, value in tensors.items()}


def test_names_with_lm_instead_of_llama_are_the_same_tensors(parts: Parts, tmp_path: Path) -> None:
    model = OriginalModel(original_flags(parts, llm_use_lora=True, vis_use_lora=True))
    one = read_original(save_original(tmp_path / "llama.pth", model))
    model.flags.lm_model = model.flags.llama_model
    del model.flags.llama_model
    other = read_original(save_original(tmp_path / "lm.pth", model, renamed(model.trained())))
    assert any(name.startswith("lm_model.base_model") for name in renamed(model.trained()))
    assert one.tensors.keys() == other.tensors.keys()
    assert (one.stored, one.parts) == (other.stored, other.parts)
    assert our_name("lm_proj.bias") == "projector.linear.bias"


def test_a_file_trained_on_8_bit_weights_is_read_in_full_precision_or_in_8_bit(parts: Parts, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model = OriginalModel(original_flags(parts, low_resource=True, llm_use_lora=True))
    source = save_original(tmp_path / "o.pth", model)
    forms: list[tuple[dict[str, Any], str]]
    forms = [({}, "none"), ({"quantization": "int8"}, "int8"), ({"low_resource": True}, "int8")]
    for given, form in forms:
        built, _, _ = load_original(source, asked(), PlacementConfig(**given, dtype="float32"))
        kinds = {type(module).__name__ for module in built.model.language_model.modules()}
        assert ("Linear8bitLt" in kinds) == (form == "int8")
        name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"
        ours = built.model.language_model.get_parameter(name.removeprefix("base_model.model."))
        assert torch.equal(ours, model.llama_model.get_parameter(name))


class Calls:
    """Unpickled without care, this calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.called = function, arguments

    def __reduce__(self) -> Any:
        return self.called


@pytest.mark.parametrize("where", ["model", "config", "epoch", "extra"])
@pytest.mark.parametrize("name", ["eval", "system", "getattr", "Linear", "import_module"])
def test_any_other_global_is_refused_by_name_and_nothing_runs(
    name: str, where: str, tmp_path: Path, run_cli: Cli
) -> None:
    import importlib

    touched = tmp_path / "touched"
    code = f"open({str(touched)!r}, 'w')"
    hostile = {
        "eval": Calls(builtins.eval, code),
        "system": Calls(os.system, f"touch {touched}"),
        "getattr": Calls(getattr, touched, "touch"),
        "Linear": torch.nn.Linear(1, 1),
        "import_module": Calls(importlib.import_module, "antigravity"),
    }[name]
    content: dict[str, Any] = {"model": {"llama_proj.weight": torch.ones(1)}, "config": {}, where: hostile}
    torch.save(content, tmp_path / "o.pth")
    for argv in (["generate", "x.png", "--model"], ["test", "--delta_file"], ["train", "--ckpt_file"]):
        if argv[0] == "generate":
            from r2gengpt.testing import noise_image

            noise_image(0).save(tmp_path / "x.png")
            argv[1] = str(tmp_path / "x.png")
        outcome = run_cli([*argv, str(tmp_path / "o.pth")])
        assert (outcome.code, outcome.stderr.count("\n")) == (2, 1), outcome.stderr
        assert "refused: it names code to run" in outcome.stderr
        assert f"{name})" in outcome.stderr
        assert not touched.exists()


@pytest.mark.parametrize("model", [None, [], {}, 3, "text", torch.ones(2), {1: torch.ones(1)}, {"a": None}], ids=str)
def test_a_wrong_model_entry_is_one_line(model: Any, tmp_path: Path) -> None:
    torch.save({"model": model, "config": {}}, tmp_path / "o.pth")
    with pytest.raises(InputError, match=r"o\.pth: (not an original checkpoint: no tensors|1 unknown tensors: )") as at:
        read_original(tmp_path / "o.pth")
    assert "\n" not in str(at.value)


def test_a_file_cut_anywhere_is_refused_when_used_directly(parts: Parts, tmp_path: Path) -> None:
    whole = save_original(tmp_path / "o.pth", OriginalModel(original_flags(parts, freeze_vm=False))).read_bytes()
    for at in range(0, len(whole) - 1, len(whole) // 20):
        (tmp_path / "cut.pth").write_bytes(whole[:at])
        with pytest.raises(InputError, match=r"cut\.pth: not a PyTorch checkpoint, or damaged"):
            unpickle(tmp_path / "cut.pth")
