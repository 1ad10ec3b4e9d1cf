"""Whether a planned model fits the machine, and the settings that would make it fit."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Outcome
from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, TrainConfig
from r2gengpt.parts import machine as machines
from r2gengpt.parts.assemble import HERE
from r2gengpt.parts.fitting import GENERATION, TRAINING, Settings, bytes_of, fit
from r2gengpt.parts.machine import Gpu, Machine, main_memory
from r2gengpt.settings import PlacementConfig
from r2gengpt.testing import tiny_language_model, tiny_vision_model

Run = Callable[[list[str]], Outcome]
BIG = Machine(64 * 10**9, 60 * 10**9, 8, "a processor", bfloat16=True)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory = tmp_path_factory.mktemp("parts")
    model, vision = tiny_language_model(directory), tiny_vision_model(directory)
    return ["--lm_model", str(model), "--vision_model", str(vision), "--dataset", "plain"]


@pytest.fixture(scope="module")
def settings(parts: list[str]) -> Settings:
    model = ModelConfig(lm_model=parts[1], vision_model=parts[3], llm_use_lora=True)
    data = DataConfig(dataset="plain", batch_size=8, test_batch_size=8)
    return Settings(model, data, DecodeConfig(), TrainConfig(), HERE)


@pytest.fixture(autouse=True)
def no_memory_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the sizes of the tiny model count."""
    monkeypatch.setattr("r2gengpt.parts.plan.process_bytes", lambda: 0)


def with_free(size: int, *, gpu: bool = False) -> Machine:
    return replace(BIG, gpus=(Gpu("a GPU", size, size),)) if gpu else replace(BIG, free=size)


@pytest.mark.parametrize("use", [TRAINING, GENERATION])
def test_a_large_machine_needs_no_remedy(use: str, settings: Settings) -> None:
    found = fit(settings, use, BIG)
    assert found.fits
    assert found.can_fit
    assert found.remedies == ()


@pytest.mark.parametrize("gpu", [False, True], ids=["main memory", "GPU"])
@pytest.mark.parametrize("share", [0.9, 0.7, 0.5, 0.3, 0.2])
@pytest.mark.parametrize("use", [TRAINING, GENERATION])
def test_the_settings_that_are_named_make_it_fit(
    use: str, share: float, gpu: bool, parts: list[str], run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "this_machine", lambda: BIG)
    words = ["plan", *parts, "--format", "json", "--batch_size", "8", "--test_batch_size", "8"]
    needs = json.loads(run_cli(words).stdout)["fits"][use]["needs"]
    monkeypatch.setattr(machines, "this_machine", lambda: with_free(int(needs * share), gpu=gpu))
    found = json.loads(run_cli(words).stdout)["fits"][use]
    assert not found["fits"]
    assert found["remedies"]
    flags = " ".join(found["remedies"]).split()
    again = json.loads(run_cli([*words, *flags]).stdout)["fits"][use]
    assert again["needs"] == found["then"]
    assert again["fits"] == found["can_fit"]


def test_few_and_mild_settings_are_named_before_others(settings: Settings) -> None:
    _, needs = bytes_of(settings, TRAINING, BIG)
    assert fit(settings, TRAINING, with_free(needs - 1)).remedies == ("`batch_size` 1 `accumulate_grad_batches` 8",)
    one = replace(settings, data=replace(settings.data, batch_size=1))
    _, needs = bytes_of(one, TRAINING, BIG)
    assert fit(one, TRAINING, with_free(needs - 1)).remedies == ("`gradient_checkpointing` True",)
    small = replace(one, train=replace(one.train, gradient_checkpointing=True))
    assert fit(small, TRAINING, with_free(1)).remedies == ("`quantization` nf4",)


def test_what_is_set_already_is_not_named(settings: Settings) -> None:
    least = replace(
        settings,
        data=replace(settings.data, batch_size=1, test_batch_size=1),
        decode=DecodeConfig(beam_size=1),
        train=TrainConfig(gradient_checkpointing=True),
        where=PlacementConfig(quantization="nf4"),
    )
    for use in (TRAINING, GENERATION):
        found = fit(least, use, with_free(1))
        assert (found.fits, found.can_fit, found.remedies) == (False, False, ())


def test_weights_that_lie_quantized_are_not_to_be_quantized_otherwise(settings: Settings) -> None:
    small = replace(settings, where=PlacementConfig(quantization="int8"))
    assert "`quantization` nf4" in fit(small, TRAINING, with_free(1)).remedies
    assert "`quantization` nf4" not in fit(replace(small, stored=True), TRAINING, with_free(1)).remedies


def test_a_head_alone_is_made_to_fit_by_smaller_batches_only(settings: Settings) -> None:
    model = replace(settings.model, findings_head=True)
    alone = replace(settings, model=model, train=TrainConfig(findings_only=True))
    assert alone.uses == (TRAINING,)
    assert fit(alone, TRAINING, with_free(1)).remedies == ("`batch_size` 1 `accumulate_grad_batches` 8",)


def test_a_processor_without_bfloat16_trains_and_writes_in_float32(settings: Settings) -> None:
    plain = replace(BIG, bfloat16=False)
    assert bytes_of(settings, TRAINING, plain)[0] == bytes_of(settings, GENERATION, plain)[0] == "float32"
    assert bytes_of(settings, TRAINING, BIG)[0] == "bfloat16"
    forced = replace(settings, train=TrainConfig(precision="bf16-mixed"))
    assert bytes_of(forced, TRAINING, plain)[0] == "bfloat16"


def test_a_run_on_the_cpu_is_not_measured_by_the_gpu(settings: Settings) -> None:
    machine = replace(with_free(1, gpu=True), free=BIG.free)
    assert not fit(settings, TRAINING, machine).fits
    assert fit(replace(settings, train=TrainConfig(accelerator="cpu")), TRAINING, machine).fits


def test_the_command_ends_with_a_verdict_in_words(
    parts: list[str], run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "this_machine", lambda: BIG)
    *_, machine, training, generation = run_cli(["plan", *parts]).stdout.splitlines()
    assert machine == "This machine has 8 cores; 64.0 GB of main memory, 60.0 free; no GPU."
    assert training.startswith("training    bfloat16 needs 0.")
    assert training.endswith("60.00 are free: large enough.")
    monkeypatch.setattr(machines, "this_machine", lambda: with_free(1, gpu=True))
    *_, machine, training, generation = run_cli(["plan", *parts]).stdout.splitlines()
    assert machine.endswith("; a GPU with 0.0 GB, 0.0 free.")
    assert "too small. The least is 0." in training
    assert " GB, with --batch_size 1 --accumulate_grad_batches 6 --gradient_checkpointing True" in training
    assert training.endswith("Take a smaller language model.")
    assert "--device_map auto" in generation


@pytest.mark.parametrize(
    ("limit", "used", "found"),
    [("max\n", "5\n", (8192, 4096)), ("6000\n", "1000\n", (6000, 4096)), ("3000\n", "1000\n", (3000, 2000))],
)
def test_a_containers_limit_counts(
    limit: str, used: str, found: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("meminfo", "MemTotal: 8 kB\nMemAvailable: 4 kB\n"), ("max", limit), ("current", used)):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(machines, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machines, "CGROUPS", ((tmp_path / "max", tmp_path / "current"),))
    assert main_memory() == found
