"""An original `.pth` becomes a checkpoint of ours that computes the same; a hostile or damaged one becomes nothing."""

import json
import os
import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import AutoModel

from original_model import KINDS, OriginalModel, original_flags, save_original
from placements import FLOAT32
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.checkpoint_files import read_settings
from r2gengpt.cli.main import run
from r2gengpt.errors import InputError
from r2gengpt.original.read import our_name, read_original, unpickle
from r2gengpt.testing import tiny_language_model, tiny_vision_model

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT's own wrapper


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("parts")
    return str(tiny_vision_model(directory)), str(tiny_language_model(directory, "llama"))


@pytest.mark.parametrize("kind", KINDS)
def test_converted_checkpoint_computes_what_the_original_computes(
    kind: str, parts: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(1)
    model = OriginalModel(original_flags(parts, **KINDS[kind])).eval()
    source = save_original(tmp_path / "original.pth", model)
    assert run("convert", [str(source), "--output", str(tmp_path / "ours")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'ours'}\n"
    built, _ = load_checkpoint(tmp_path / "ours", where=FLOAT32)
    pixels, ids = torch.randn(2, 3, 32, 32), torch.tensor([[5, 6, 7], [9, 8, 300]])
    image = torch.full((2, built.model.config.tokens_per_view), built.processor.image_token_id)
    with torch.no_grad():
        features, logits = model.logits(pixels, ids)
        ours = built.model(input_ids=torch.cat([image, ids], 1), pixel_values=pixels[:, None])
        our_features = built.model.encode_views(pixels[:, None])
    # The same float32 operations on the same weights: only their order within a batch may differ.
    torch.testing.assert_close(our_features, features, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.logits, logits, rtol=0, atol=1e-6)


def test_settings_are_the_originals_and_what_never_acted_there_is_left_out(
    parts: tuple[str, str], tmp_path: Path
) -> None:
    model = OriginalModel(original_flags(parts, vis_use_lora=True, llm_use_lora=True))
    save_original(tmp_path / "original.pth", model)
    assert run("convert", [str(tmp_path / "original.pth"), "--output", str(tmp_path / "ours"), "--beam_size", "1"]) == 0
    settings = read_settings(tmp_path / "ours", "model")
    wanted = {
        "vision_model": parts[0],
        "lm_model": parts[1],
        "vis_r": 4,
        "vis_alpha": 8,
        "llm_r": 6,
        "llm_alpha": 3,
        "vis_lora_targets": ("q", "v"),
        "llm_lora_targets": ("q", "v"),
        "end_sym": None,
        "dataset": "iu_xray",
        "max_length": 60,
        "beam_size": 1,
        "min_new_tokens": 40,
        "length_penalty": 2.0,
        "no_repeat_ngram_size": None,
    }
    assert {name: settings.flat()[name] for name in wanted} == wanted
    files = {path.name for path in (tmp_path / "ours").iterdir()}
    assert files >= {"config.json", "delta.safetensors", "processor_config.json", "generation_config.json", "README.md"}
    assert "original.pth" in (tmp_path / "ours" / "README.md").read_text()


def test_older_lora_names_without_the_adapter_name_are_read(parts: tuple[str, str], tmp_path: Path) -> None:
    model = OriginalModel(original_flags(parts, vis_use_lora=True))
    old = {name.replace(".default.weight", ".weight"): value for name, value in model.trained().items()}
    assert any(name.endswith("lora_A.weight") for name in old)
    save_original(tmp_path / "old.pth", model, old)
    save_original(tmp_path / "new.pth", model)
    assert read_original(tmp_path / "old.pth").tensors.keys() == read_original(tmp_path / "new.pth").tensors.keys()


def test_an_end_symbol_of_several_tokens_becomes_the_tokenizers_own_with_one_warning_line(
    parts: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stablelm = str(tiny_language_model(tmp_path, "stablelm"))
    save_original(tmp_path / "o.pth", OriginalModel(original_flags((parts[0], stablelm))))
    assert run("convert", [str(tmp_path / "o.pth"), "--output", str(tmp_path / "ours")]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert "</s>" in line
    assert read_settings(tmp_path / "ours", "model").flat()["end_sym"] is None


def test_an_end_symbol_of_one_token_that_is_not_the_tokenizers_own_is_kept(
    parts: tuple[str, str], tmp_path: Path
) -> None:
    save_original(tmp_path / "o.pth", OriginalModel(original_flags(parts, end_sym="<unk>")))
    assert run("convert", [str(tmp_path / "o.pth"), "--output", str(tmp_path / "ours")]) == 0
    assert load_checkpoint(tmp_path / "ours")[0].processor.end_token_id == 0


def test_without_the_parts_check_false_writes_a_checkpoint_that_loads_where_they_are(
    parts: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = OriginalModel(original_flags(parts, vis_use_lora=True))
    model.flags.llama_model = str(tmp_path / "elsewhere")
    source = str(save_original(tmp_path / "o.pth", model))
    assert run("convert", [source, "--output", str(tmp_path / "ours")]) == 2
    assert "--check False" in capsys.readouterr().err
    assert not (tmp_path / "ours").exists()
    assert run("convert", [source, "--output", str(tmp_path / "ours"), "--check", "False"]) == 0
    assert "not checked" in capsys.readouterr().err
    built, _ = load_checkpoint(tmp_path / "ours", lm_model=parts[1])
    assert torch.equal(built.model.projector.linear.weight, model.llama_proj.weight)


class Touch:
    """Unpickled without care, this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_runs_nothing_and_is_named(
    zipped: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touched, source = tmp_path / "touched", tmp_path / "evil.pth"
    torch.save({"model": {}, "config": Touch(touched)}, source, _use_new_zipfile_serialization=zipped)
    assert run("convert", [str(source), "--output", str(tmp_path / "ours")]) == 2
    error = capsys.readouterr().err
    assert "system" in error
    assert error.count("\n") == 1
    assert not touched.exists()
    assert not (tmp_path / "ours").exists()
    pickle.loads(pickle.dumps(Touch(touched)))  # the same object does harm in a careless reader
    assert touched.exists()


@pytest.mark.parametrize(
    "name",
    [
        "lightning.pytorch.utilities.parsing",  # Lightning 2.0
        "lightning.fabric.utilities.data",  # Lightning 2.1 and later
        "pytorch_lightning.utilities.parsing",
        "lightning_fabric.utilities.data",
    ],
)
def test_lightnings_dict_of_flags_is_read_without_lightning(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = name.split(".")
    modules = {key: ModuleType(key) for key in (".".join(words[: end + 1]) for end in range(len(words)))}
    attribute_dict = type("AttributeDict", (dict,), {"__module__": name})
    modules[name].AttributeDict = attribute_dict  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        for key, module in modules.items():
            patch.setitem(sys.modules, key, module)
        torch.save({"model": {"a": torch.ones(1)}, "config": attribute_dict(r=4)}, tmp_path / "o.pth")
    config = unpickle(tmp_path / "o.pth")["config"]
    assert (type(config), config["r"]) == (OrderedDict, 4)


def test_flags_may_be_missing_when_the_user_gives_the_models(parts: tuple[str, str], tmp_path: Path) -> None:
    model = OriginalModel(original_flags(parts, vis_use_lora=True, vis_r=2))
    torch.save({"model": model.trained()}, tmp_path / "o.pth")
    arguments = [str(tmp_path / "o.pth"), "--output", str(tmp_path / "ours"), "--vision_model", parts[0]]
    with pytest.raises(InputError, match="lm_model"):
        _convert(arguments)
    _convert([*arguments, "--llama_model", parts[1]])
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["vis_r"] == 2


def _convert(arguments: list[str]) -> None:
    from r2gengpt.cli.commands.convert import main

    main(arguments)


def test_bad_input_is_one_line_and_leaves_nothing(parts: tuple[str, str], tmp_path: Path) -> None:
    model = OriginalModel(original_flags(parts))
    whole = save_original(tmp_path / "whole.pth", model).read_bytes()
    good = model.trained()
    lines = {
        "no such file": ("nothing.pth", None, "No such file"),
        "a directory": (".", None, "directory"),
        "empty": ("empty.pth", b"", "not a PyTorch checkpoint"),
        "text": ("text.pth", b"The lungs are clear.\n", "not a PyTorch checkpoint"),
        "cut": ("cut.pth", whole[: len(whole) // 2], "not a PyTorch checkpoint"),
        "a list": ("list.pth", [1], "no tensors under 'model'"),
        "a Lightning file": ("last.ckpt", {"state_dict": {}, "epoch": 1}, "state_dict, epoch"),
        "unknown tensors": ("unknown.pth", {"model": {**good, "cls.head": torch.ones(1)}}, "unknown tensors: cls.head"),
        "no projector": ("half.pth", {"model": {"layer_norm.weight": torch.ones(32)}}, "projector.linear.weight"),
        "no tensor": ("odd.pth", {"model": {**good, "llama_proj.bias": "x"}}, "llama_proj.bias is no tensor"),
        "wrong setting": ("type.pth", {"model": good, "config": {"max_length": "60"}}, "max_length is '60'"),
        "wrong flags": ("flags.pth", {"model": good, "config": 3}, "must be a set of flags"),
    }
    for name, content, message in lines.values():
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            torch.save(content, path)
        with pytest.raises(InputError) as caught:
            _convert([str(path), "--output", str(tmp_path / "ours"), "--lm_model", parts[1]])
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "ours").exists()
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="exists already"):
        _convert([str(tmp_path / "whole.pth"), "--output", str(tmp_path / "there")])


def test_a_file_cut_anywhere_is_refused_in_one_line(parts: tuple[str, str], tmp_path: Path) -> None:
    model = OriginalModel(original_flags(parts))
    for legacy in (True, False):
        content = {"model": model.trained(), "config": vars(model.flags)}
        torch.save(content, tmp_path / "o.pth", _use_new_zipfile_serialization=not legacy)
        whole = (tmp_path / "o.pth").read_bytes()
        for at in range(0, len(whole) - 1, len(whole) // 25):
            (tmp_path / "cut.pth").write_bytes(whole[:at])
            with pytest.raises(InputError, match=r"cut\.pth"):
                unpickle(tmp_path / "cut.pth")


def test_tensors_of_another_model_are_refused_with_the_first_name(parts: tuple[str, str], tmp_path: Path) -> None:
    wide = str(tiny_language_model(tmp_path, "llama", width=48))
    model = OriginalModel(original_flags(parts, freeze_vm=False))
    whole = model.trained()
    short = {name: value for name, value in whole.items() if not name.endswith("layernorm.bias")}
    more = {**whole, "llama_model.model.norm.weight": torch.ones(32)}
    for name, tensors, flags, message in (
        ("short", short, [], "misses 1 tensors, first vision_tower.layernorm.bias"),
        ("more", more, [], "has unexpected 1 tensors, first language_model.model.norm.weight"),
        ("wide", whole, ["--lm_model", wide], "projector.linear.weight has shape (32, 16), this model needs (48, 16)"),
        ("flag", whole, ["--vis_use_lora", "True", "--freeze_vm", "True"], "freeze_vm True"),
    ):
        source = save_original(tmp_path / f"{name}.pth", model, tensors)
        with pytest.raises(InputError) as caught:
            _convert([str(source), "--output", str(tmp_path / "ours"), *flags])
        assert message in str(caught.value)


def test_every_old_swin_name_becomes_todays(parts: tuple[str, str]) -> None:
    today = {f"vision_tower.{name}" for name, _ in AutoModel.from_pretrained(parts[0]).named_parameters()}
    model = OriginalModel(original_flags(parts, freeze_vm=False))
    old = [name for name in model.trained() if name.startswith("visual_encoder.")]
    assert any(".attention.self.query." in name for name in old)
    assert {our_name(name) for name in old} == today


LAYER = "llama_model.base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ({"llama_proj.bias": torch.full((32,), torch.nan)}, "llama_proj.bias holds values that are no finite numbers"),
        ({"llama_proj.bias": torch.full((32,), 1e300, dtype=torch.float64)}, "no finite numbers"),
        ({"llama_proj.bias": torch.zeros(32, device="meta")}, "llama_proj.bias has a shape and no values"),
        ({"llama_proj.bias": torch.zeros(32).to_sparse()}, "llama_proj.bias is no tensor"),
        ({"llama_proj.weight": torch.tensor(1.0)}, r"its projector's tensors .* are \[\[\], \[32\]"),
        ({"layer_norm.bias": torch.zeros(16)}, "its projector's tensors"),
        ({f"{LAYER}.lora_A.weight": torch.zeros(2, 32)}, r"is no LoRA: A and B are \[\[2, 32\], \[\]\]"),
        ({f"{LAYER}.lora_B.weight": torch.zeros(2, 32)}, r"is no LoRA: A and B are \[\[\], \[2, 32\]\]"),
        ({f"{LAYER}.lora_A.weight": torch.tensor(1.0), f"{LAYER}.lora_B.weight": torch.zeros(32, 2)}, "is no LoRA"),
        ({f"{LAYER}.lora_A.weight": torch.zeros(2, 32), f"{LAYER}.lora_B.weight": torch.zeros(32, 3)}, "is no LoRA"),
        (
            {
                f"{LAYER.replace('q_', name)}.lora_{part}.weight": torch.zeros(shape)
                for name, rank in (("q_", 2), ("v_", 4))
                for part, shape in (("A", (rank, 32)), ("B", (32, rank)))
            },
            "is no LoRA: .* one r",
        ),
    ],
)
def test_tensors_that_can_be_no_trained_ones_are_refused_by_name(
    tmp_path: Path, odd: dict[str, torch.Tensor], words: str
) -> None:
    projector = {"llama_proj.weight": torch.zeros(32, 8), "llama_proj.bias": torch.zeros(32)}
    norm = {"layer_norm.weight": torch.ones(32), "layer_norm.bias": torch.zeros(32)}
    torch.save({"model": {**projector, **norm, **odd}}, tmp_path / "o.pth")
    with pytest.raises(InputError, match=rf"o\.pth: .*{words}"):
        read_original(tmp_path / "o.pth")
