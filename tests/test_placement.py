"""Layers spread over memory and disk on a CPU: the same text, weights that really lie there, and what is refused."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Outcome, TinySet
from placements import built_of
from r2gengpt.errors import InputError
from r2gengpt.model import R2GenGPTForConditionalGeneration
from r2gengpt.parts.assemble import Built
from r2gengpt.parts.placement import place, placement
from r2gengpt.settings import PlacementConfig
from r2gengpt.testing import noise_image
from training_settings import small_run


@pytest.fixture(scope="module")
def pickled(tiny_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny StableLM with its weights in a pickle: the library cannot read single layers of it in place."""
    source, target = tiny_parts / "lm-stablelm", tmp_path_factory.mktemp("pickled")
    weights = built_from(tiny_parts).model.language_model.state_dict()
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save(weights, target / "pytorch_model.bin")
    return target


def built_from(parts: Path, **values: Any) -> Built:
    names = {"lm_model": str(parts / "lm-stablelm"), "vision_model": str(parts / "vision-swin")}
    return built_of(**{**names, **values})


def on_disk(model: torch.nn.Module) -> int:
    return sum(parameter.device.type == "meta" for parameter in model.parameters())


def report(words: list[str], image: Path, run_cli: Callable[[list[str]], Outcome]) -> Outcome:
    return run_cli(["generate", str(image), "--dtype", "float32", *words])


@pytest.mark.parametrize("limit", ["150KB", "60KB"])
def test_a_report_is_the_same_with_layers_on_disk(
    limit: str, tiny_checkpoint: Path, tiny_set: TinySet, tmp_path: Path, run_cli: Callable[[list[str]], Outcome]
) -> None:
    image = next(tiny_set.base_dir.iterdir())
    words = ["--model", str(tiny_checkpoint)]
    spread = ["--device_map", "auto", "--max_memory", f"cpu={limit}", "--offload_folder", str(tmp_path / "off")]
    whole, split = report(words, image, run_cli), report([*words, *spread], image, run_cli)
    assert (whole.code, split.code) == (0, 0), split.stderr
    assert whole.stdout == split.stdout
    assert "on disk, read anew for each token" in split.stderr


def test_layers_of_safetensors_stay_in_the_checkpoints_own_file(tiny_parts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "off"
    values = {"device_map": "auto", "max_memory": ("cpu=150KB",), "offload_folder": str(folder)}
    language = built_from(tiny_parts, **values).model.language_model
    assert 0 < on_disk(language) < len(list(language.parameters()))
    assert language.get_input_embeddings().weight.device.type == "cpu"
    assert list(folder.iterdir()) == []


def test_layers_of_a_pickle_are_written_to_the_folder(pickled: Path, tiny_parts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "off"
    values = {"device_map": "auto", "max_memory": ("cpu=150KB",), "offload_folder": str(folder)}
    split = built_from(tiny_parts, lm_model=str(pickled), **values).model.language_model
    whole = built_from(tiny_parts).model.language_model
    assert len(list(folder.iterdir())) == on_disk(split) > 0
    ids = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        assert torch.equal(split(ids).logits, whole(ids).logits)


def test_a_map_without_limits_that_fits_loads_as_ever(tiny_parts: Path) -> None:
    model = built_from(tiny_parts, device_map="auto").model
    assert on_disk(model) == 0


def test_only_the_vision_encoder_and_the_projector_move_beside_a_spread_language_model(
    tiny_parts: Path, tmp_path: Path
) -> None:
    values = {"device_map": "auto", "max_memory": ("cpu=60KB",), "offload_folder": str(tmp_path)}
    model = built_from(tiny_parts, **values).model
    before = on_disk(model)
    place(model, "cpu")
    assert on_disk(model) == before == len(list(model.language_model.parameters()))
    assert {p.device.type for p in (*model.vision_tower.parameters(), *model.projector.parameters())} == {"cpu"}


def test_every_part_but_the_language_model_goes_to_where_that_begins(tiny_parts: Path) -> None:
    model = built_from(tiny_parts, prior_study=True, findings_head=True).model
    model.language_model.hf_device_map = {"": "meta"}
    model.get_input_embeddings().to("meta")
    place(model, "cpu")
    rest = [p for name, p in model.named_parameters() if not name.startswith("language_model.")]
    assert {p.device.type for p in rest} == {"meta"}


def test_image_tokens_go_to_the_embeddings_device(tiny_parts: Path) -> None:
    built = built_from(tiny_parts)
    built.model.get_input_embeddings().to("meta")
    ids = torch.tensor([built.processor.prompt_row(1)])
    tokens = torch.zeros(int((ids == built.model.config.image_token_id).sum()), 32)

    def embedding(model: R2GenGPTForConditionalGeneration) -> torch.Tensor:
        model.get_input_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0].to("meta"),))
        return model.embed(ids, tokens)

    assert embedding(built.model).device.type == "meta"


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"max_memory": ("cpu=4GiB",)}, "max_memory belongs to device_map auto"),
        ({"offload_folder": "off"}, "offload_folder belongs to device_map auto"),
        ({"device_map": "auto", "max_memory": ("cpu",)}, "max_memory cpu: must be like 0=20GiB"),
        ({"device_map": "auto", "max_memory": ("cpu=lots",)}, "max_memory cpu=lots: must be like"),
        ({"device_map": "auto", "max_memory": ("gpu=4GiB",)}, "max_memory gpu=4GiB: must be like"),
        ({"device_map": "auto", "max_memory": ("cpu=1GB", "cpu=2GB")}, "names a device twice"),
        ({"device_map": "balanced"}, "device_map balanced: choose from none, auto"),
        (
            {"device_map": "auto", "offload_folder": "off", "quantization": "nf4"},
            "nf4 weights cannot be read from disk",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError) as error:
        PlacementConfig(**values)
    assert part in str(error.value)


def test_limits_are_given_by_device() -> None:
    config = PlacementConfig(device_map="auto", max_memory=("0=6GiB", "cpu=500MB"))
    assert config.memory_limits == {0: "6GiB", "cpu": "500MB"}


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--max_memory", "cpu=60KB"], "do not fit into memory within --max_memory cpu=60KB: name an --offload_folder"),
        (["--max_memory", "cpu=60KB", "--offload_folder", "FILE/off"], "--offload_folder"),
        (["--max_memory", "700=60KB"], "--max_memory 700=60KB: this machine has "),
    ],
)
def test_what_cannot_be_placed_is_one_line(
    words: list[str],
    part: str,
    tiny_checkpoint: Path,
    tiny_set: TinySet,
    tmp_path: Path,
    run_cli: Callable[[list[str]], Outcome],
) -> None:
    (tmp_path / "file").write_text("")
    given = [word.replace("FILE", str(tmp_path / "file")) for word in words]
    image = next(tiny_set.base_dir.iterdir())
    done = report(["--model", str(tiny_checkpoint), "--device_map", "auto", *given], image, run_cli)
    assert (done.code, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert part in done.stderr


def test_training_refuses_a_spread_model_in_one_line(tiny_parts: Path, tiny_set: TinySet, tmp_path: Path) -> None:
    from r2gengpt.training.run import train

    run = small_run(tiny_parts, tiny_set, tmp_path / "run")
    with pytest.raises(InputError, match="device_map auto: not in training"):
        train(run, PlacementConfig(device_map="auto"))
    assert not (tmp_path / "run").exists()


def test_dora_beside_layers_on_disk_is_refused(tiny_parts: Path, tmp_path: Path) -> None:
    values = {"device_map": "auto", "max_memory": ("cpu=60KB",), "offload_folder": str(tmp_path)}
    with pytest.raises(InputError, match=r"use_dora True: .*q_proj lies on disk"):
        built_from(tiny_parts, llm_use_lora=True, use_dora=True, **values)


def test_several_processes_refuse_it(monkeypatch: pytest.MonkeyPatch, run_cli: Callable[[list[str]], Outcome]) -> None:
    done = run_cli(["test", "--ckpt_file", "any", "--device_map", "auto", "--devices", "2"])
    assert (done.code, done.stderr.count("\n")) == (2, 1)
    assert "--device_map auto: needs one process" in done.stderr
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    with pytest.raises(InputError, match="device_map auto: needs one process, this run has 2"):
        placement(PlacementConfig(device_map="auto"))


def test_the_vision_encoder_reads_pixels_beside_a_spread_model(tiny_parts: Path, tmp_path: Path) -> None:
    values = {"device_map": "auto", "max_memory": ("cpu=60KB",), "offload_folder": str(tmp_path)}
    built = built_from(tiny_parts, **values)
    place(built.model, "cpu")
    pixels = built.processor.pixels([noise_image(1)]).unsqueeze(0)
    assert built.model.encode_views(pixels).device.type == "cpu"
